// What the bars of a running agent and of a recording share: what they ask for, buttons, speed, and the keys for it.

import {send} from "./feed.js"
import {byPointer, isTaken, leftChoice, tendControls} from "./focus.js"
import {h} from "./kit.js"

const ICONS = {
  first: "M6 6h2v12H6zm3.5 6 8.5 6V6z", back: "M15.4 7.4 14 6l-6 6 6 6 1.4-1.4L10.8 12z", play: "M8 5v14l11-7z",
  pause: "M6 19h4V5H6zm8-14v14h4V5z", on: "M10 6 8.6 7.4l4.6 4.6-4.6 4.6L10 18l6-6z", last: "m6 18 8.5-6L6 6zM16 6v12h2V6z",
  pin: "M15 3v6l3 3v2h-5v6l-1 1-1-1v-6H6v-2l3-3V3H8V2h8v1z", close: "m12 10.6 5-5 1.4 1.4-5 5 5 5-1.4 1.4-5-5-5 5L5.6 17l5-5-5-5L7 5.6z",
  bookmark: "M6 3v18h2v-7h11l-3-4 3-4H8V3z",
  loop: "M7 7h10v3l4-4-4-4v3H5v6h2V7zm10 10H7v-3l-4 4 4 4v-3h12v-6h-2v4z",
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  svg.setAttribute("viewBox", "0 0 24 24")
  svg.setAttribute("aria-hidden", "true")
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  path.setAttribute("d", ICONS[name])
  svg.append(path)
  return svg
}

/** A round button that shows an icon. */
export function button(name, label, press) {
  const element = h("button", {type: "button", class: name, title: label, "aria-label": label, onclick: press}, icon(name.split(" ")[0]))
  return element
}

/** Whether nothing moves: the view is held, or follows an agent that has ended. */
export const rests = ({mode, ended}) => mode === "paused" || (mode === "live" && Boolean(ended))

/** What both bars ask for; `now()` is what was shown last, `more` what one of them asks for beside it. */
export function playActions(now, more) {
  return {
    toggle: () => send(rests(now()) ? {do: "play"} : {do: "pause"}),
    back: (count = 1) => send({do: "move", count: -count}),
    on: (count = 1) => send({do: "move", count}),
    live: () => send({do: "live"}),
    ...more,
  }
}

/** The button that plays and pauses; `show(paused, play)` says which of the two it does, and what playing is called. */
export function playButton(label, press) {
  const element = button("pause", label, press)
  return {element, show: (paused, play = "Play (space)") => {
    const title = paused ? play : "Pause (space)"
    if (element.dataset.paused === String(paused) && element.title === title) return
    element.dataset.paused = paused
    element.title = title
    element.setAttribute("aria-label", title)
    element.replaceChildren(icon(paused ? "play" : "pause"))
  }}
}

/** The choice of a speed; `show(speed, speeds)` sets it, unless somebody is choosing. */
export function speedSelect(title) {
  const element = h("select", {class: "speed", title, "aria-label": "Speed"})
  element.addEventListener("change", () => {
    send({do: "speed", speed: Number(element.value)})
    if (byPointer()) element.blur()  // the space bar is to pause or play again
  })
  return {element, show: (speed, speeds) => {
    if (element.options.length !== speeds.length) {
      element.replaceChildren(...speeds.map(value => h("option", {value}, `${value}×`)))
    }
    if (Number(element.value) !== speed && element.getRootNode().activeElement !== element) element.value = String(speed)
  }}
}

/**
 * Call `actions.toggle()`, `back(count)`, `on(count)`, `first()`, `live()` and `episode(count)` for their keys, unless a
 * control wants them; an action that is not there has no key. `more` has further functions by key. Returns what ends that.
 */
export function listenForKeys(actions, more = {}) {
  const keys = {
    " ": () => actions.toggle(), ArrowLeft: event => actions.back(event.shiftKey ? 10 : 1),
    ArrowRight: event => actions.on(event.shiftKey ? 10 : 1), Home: actions.first, End: actions.live,
    ...(actions.episode ? {PageUp: () => actions.episode(-1), PageDown: () => actions.episode(1)} : {}),
    ...more,
  }
  const isOurs = event => event.key in keys && !event.ctrlKey && !event.altKey && !event.metaKey
  const act = event => {
    event.preventDefault()
    keys[event.key](event)
  }
  const listen = event => { if (isOurs(event) && !isTaken(event)) act(event) }
  const seize = event => {
    const control = isOurs(event) && leftChoice(event)
    if (!control) return
    control.blur()
    event.stopPropagation()  // it would open its menu
    act(event)
  }
  document.addEventListener("keydown", listen)
  document.addEventListener("keydown", seize, {capture: true})
  const stop = tendControls()
  return () => {
    document.removeEventListener("keydown", listen)
    document.removeEventListener("keydown", seize, {capture: true})
    stop()
  }
}
