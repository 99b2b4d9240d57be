// Pause, step, speed, live; the ring as a slider with the rewards marked; and the keys for all of it.

import {send, subscribe} from "./feed.js"
import {at, reach} from "./history.js"
import {colour, crisp, dress, h, integer, onTheme, put} from "./kit.js"
import {button, listenForKeys, playActions, playButton, rests, speedSelect} from "./playback.js"
import {pinButton} from "./pinned.js"
import {recordButton} from "./recorder.js"

export async function render({model, el}) {
  await dress(el)
  let now = {mode: "live", speed: 1, speeds: [1], step: null, position: -1, kept: true, first: 0, last: -1, behind: 0, ended: false}
  const actions = playActions(() => now, {first: () => send({do: "go", position: now.first})})
  const toggle = playButton("Pause (space)", actions.toggle)
  const word = h("span"), live = h("button", {type: "button", class: "live", onclick: actions.live}, h("i", {class: "dot"}), word)
  const speed = speedSelect("Speed of the view; the agent is never held up")
  const record = recordButton(), pin = pinButton(() => now.step)
  const canvas = h("canvas", {class: "track", role: "slider", tabIndex: 0, "aria-label": "Position among the steps kept"})
  const place = h("span", {class: "place"}), behind = h("span", {class: "behind"})
  const root = h("div", {class: "transport card", role: "toolbar", "aria-label": "Playback"},
    h("div", {class: "buttons"}, button("first", "Oldest step kept (Home)", actions.first),
      button("back", "One step back (←)", () => actions.back()), toggle.element,
      button("on", "One step on (→)", () => actions.on()), button("last", "Newest step (End)", actions.live), pin.element),
    h("div", {class: "where"}, place, behind), canvas, speed.element, record.element, live)

  const {redraw, stop: stopFit} = crisp(canvas, (context, width, height) => drawTrack(context, width, height, now))

  function draw(transport) {
    now = transport
    root.dataset.mode = now.mode
    root.dataset.follow = now.follow
    toggle.show(rests(now), now.ended && now.mode === "live" ? "Play what is kept (space)" : "Play (space)")
    speed.show(now.speed, now.speeds)
    live.setAttribute("aria-pressed", now.mode === "live")
    live.classList.toggle("ended", now.ended)
    live.title = now.ended ? "The agent has ended: show its last step (End)" : "Show the newest step (End)"
    put(word, now.ended ? "ENDED" : "LIVE")
    put(place, `step ${integer(now.step)}`)
    put(behind, describeLag(now))
    behind.title = now.kept ? "" : "The viewer no longer keeps the steps around this one; stepping goes to the nearest it has."
    canvas.setAttribute("aria-valuemin", now.first)
    canvas.setAttribute("aria-valuemax", now.last)
    canvas.setAttribute("aria-valuenow", now.position)
    redraw()
  }

  // the position under the pointer is fixed while dragging, or the ring would slip away below it
  let held = null
  const go = event => {
    const box = canvas.getBoundingClientRect(), share = (event.clientX - box.left - 8) / (box.width - 16)
    const position = Math.round(held.first + Math.max(0, Math.min(1, share)) * (held.last - held.first))
    send({do: "go", position: Math.max(0, position)})
  }
  canvas.addEventListener("pointerdown", event => { held = now; canvas.setPointerCapture(event.pointerId); go(event) })
  canvas.addEventListener("pointermove", event => { if (held !== null) go(event) })
  canvas.addEventListener("pointerup", () => { held = null })
  canvas.addEventListener("pointercancel", () => { held = null })

  const stopKeys = listenForKeys(actions, {v: pin.toggle})
  const stops = [subscribe("transport", (_, transport) => draw(transport), {calm: true}), onTheme(redraw), stopFit, stopKeys, record.stop, pin.stop]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

function describeLag({step, behind, kept, ended}) {
  if (step === null) return ""
  if (behind <= 0) return ended ? "the last" : "newest"
  const seconds = behind < 10 ? behind.toFixed(1) : integer(behind)
  return `${seconds} s ${ended ? "before the end" : "behind"}${kept ? "" : " · neighbours gone"}`
}

function drawTrack(context, width, height, now) {
  const middle = height / 2, left = 8, right = width - 8, span = Math.max(1, now.last - now.first)
  const x = position => left + (position - now.first) / span * (right - left)
  const here = now.position < 0 ? left : now.mode === "live" ? right : Math.max(left, x(now.position))
  context.lineCap = "round"
  context.lineWidth = 4
  for (const [from, to, name] of [[left, right, "grid"], [left, here, "primary"]]) {
    context.strokeStyle = colour(name)
    context.beginPath(); context.moveTo(from, middle); context.lineTo(to, middle); context.stroke()
  }
  drawRewards(context, now, x, middle)
  context.fillStyle = colour("strong")
  context.beginPath(); context.arc(here, middle, 7, 0, 2 * Math.PI); context.fill()
}

/** One mark for each pixel with a reward: above the track where positive, below where negative; none where most have one. */
function drawRewards(context, now, x, middle) {
  const {first, end} = reach(), marked = {1: -1, [-1]: -1}
  const from = Math.max(first, now.first), to = Math.min(end, now.last + 1)
  let rewarded = 0
  for (let p = from; p < to; p++) if (at(p, "reward")) rewarded++
  if (rewarded > (to - from) / 2) return
  context.lineWidth = 1.5
  context.lineCap = "butt"
  for (let p = from; p < to; p++) {
    const reward = at(p, "reward"), sign = Math.sign(reward), column = Math.round(x(p))
    if (!sign || marked[sign] >= column - 2) continue
    marked[sign] = column
    context.strokeStyle = colour(sign > 0 ? "good" : "bad")
    context.beginPath()
    context.moveTo(column, middle - sign * 8); context.lineTo(column, middle - sign * 13)
    context.stroke()
  }
}
