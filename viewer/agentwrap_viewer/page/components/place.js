// Where this tab is in a recording, kept for when it is loaded anew or loses its connection: the server begins there then.

const KEY = "agentwrap-place"

let kept = null

/** Keep the place that the bar shows. */
export function keepPlace({stream, step, speed, mode, loop}) {
  if (!stream || step === null) return
  const place = JSON.stringify({do: "resume", stream, step, speed, playing: mode === "playing", loop})
  if (place === kept) return
  kept = place
  try { sessionStorage.setItem(KEY, place) } catch { /* then it lasts until the page is left */ }
}

/** The command that brings a new connection to the place kept; null where there is none. */
export function placeKept() {
  if (kept !== null) return kept
  try { return sessionStorage.getItem(KEY) } catch { return null }
}
