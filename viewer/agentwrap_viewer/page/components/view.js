// Which view of the page is shown: the agent, or the map of its inner states. The address says so as well.

const VIEWS = ["agent", "states"]
const listeners = new Set()

/** The view that is shown. */
export function view() {
  const named = location.hash.slice(1)
  return VIEWS.includes(named) ? named : "agent"
}

/** Show another view. */
export function show(name) {
  if (name === view()) return
  history.replaceState(null, "", name === "agent" ? location.pathname + location.search : `#${name}`)
  listeners.forEach(listener => listener(name))
}

/** Call `listener(view)` now and whenever another is shown; the function returned ends that. */
export function onView(listener) {
  listeners.add(listener)
  listener(view())
  return () => listeners.delete(listener)
}

window.addEventListener("hashchange", () => listeners.forEach(listener => listener(view())))
