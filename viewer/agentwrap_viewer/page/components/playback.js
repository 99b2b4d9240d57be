// What the bars of a running agent and of a recording share: buttons, and the keys that do the same.

import {h} from "./kit.js"

const ICONS = {
  first: "M6 6h2v12H6zm3.5 6 8.5 6V6z", back: "M15.4 7.4 14 6l-6 6 6 6 1.4-1.4L10.8 12z", play: "M8 5v14l11-7z",
  pause: "M6 19h4V5H6zm8-14v14h4V5z", on: "M10 6 8.6 7.4l4.6 4.6-4.6 4.6L10 18l6-6z", last: "m6 18 8.5-6L6 6zM16 6v12h2V6z",
  loop: "M7 7h10v3l4-4-4-4v3H5v6h2V7zm10 10H7v-3l-4 4 4 4v-3h12v-6h-2v4z",
}

export function icon(name) {
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
  const element = h("button", {type: "button", class: name, title: label, "aria-label": label, onclick: press}, icon(name))
  return element
}

/**
 * Call `actions.toggle()`, `back(count)`, `on(count)`, `first()`, `live()` and `episode(count)` for their keys, unless a
 * control wants them; an action that is not there has no key. Returns what ends that.
 */
export function listenForKeys(actions) {
  const keys = {
    " ": () => actions.toggle(), ArrowLeft: event => actions.back(event.shiftKey ? 10 : 1),
    ArrowRight: event => actions.on(event.shiftKey ? 10 : 1), Home: actions.first, End: actions.live,
    ...(actions.episode ? {PageUp: () => actions.episode(-1), PageDown: () => actions.episode(1)} : {}),
  }
  const listen = event => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey || isInput(event)) return
    event.preventDefault()
    keys[event.key](event)
  }
  document.addEventListener("keydown", listen)
  document.addEventListener("click", leaveButton)
  return () => {
    document.removeEventListener("keydown", listen)
    document.removeEventListener("click", leaveButton)
  }
}

/** A button that was clicked keeps the focus, and would take the space bar. One that was reached by keys (detail 0) may. */
function leaveButton(event) {
  if (event.detail === 0) return
  // by the event's path: the icon that was hit may be gone from the button by now
  event.composedPath().find(node => node instanceof Element && node.matches("button, [role=button]"))?.blur()
}

/** Whether the key is meant for a control: text, a select, a slider, or a button that has the focus. */
function isInput(event) {
  const target = event.composedPath()[0]
  if (!(target instanceof Element)) return false
  if (target.closest("input, textarea, select, [contenteditable], [role=combobox], [role=listbox], [role=option]")) return true
  return event.key === " " && target.closest("button, [role=button]") !== null
}
