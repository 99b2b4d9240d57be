// What all parts share: elements, cards, the style sheet, canvases that stay crisp, numbers, the theme.

import {h} from "./elements.js"

export * from "./elements.js"

const sheet = new CSSStyleSheet()
const ready = fetch(new URL("page.css", import.meta.url))
  .then(answer => answer.text())
  .then(text => sheet.replace(text))

/** Give the component's shadow root the page's style sheet; call first in `render`. */
export async function dress(el) {
  await ready
  for (const root of [el.getRootNode(), document]) {
    if (root.adoptedStyleSheets && !root.adoptedStyleSheets.includes(sheet)) {
      root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet]
    }
  }
}

/** Return {root, title, caption, aside, body} of a card. */
export function card(name, title) {
  const heading = h("h2", {}, title), caption = h("span", {class: "caption"}), aside = h("span", {class: "aside"})
  const body = h("div", {class: "body"})
  const root = h("section", {class: `card ${name}`, "aria-label": title}, h("header", {}, heading, caption, aside), body)
  return {root, heading, caption, aside, body}
}

/** Call `draw(context, width, height)` when the canvas's box changes size; returns {redraw, stop}. Units: CSS pixels. */
export function crisp(canvas, draw) {
  const context = canvas.getContext("2d")
  let width = 0, height = 0
  const redraw = () => {
    if (width < 2 || height < 2) return
    const ratio = window.devicePixelRatio || 1
    const wide = Math.round(width * ratio), high = Math.round(height * ratio)
    if (canvas.width !== wide) canvas.width = wide
    if (canvas.height !== high) canvas.height = high
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.clearRect(0, 0, width, height)
    draw(context, width, height)
  }
  const observer = new ResizeObserver(entries => {
    const box = entries[0].contentRect
    width = box.width; height = box.height
    redraw()
  })
  observer.observe(canvas)
  return {redraw, stop: () => observer.disconnect()}
}

// ---- theme ----------------------------------------------------------------------------------------------------------

const themed = new Set()
let colours = null

/** Return the value of one of the style sheet's `--aw-…` properties in the present theme. */
export function colour(name) {
  if (colours === null) colours = new Map()
  if (!colours.has(name)) {
    colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--aw-${name}`).trim())
  }
  return colours.get(name)
}

export function onTheme(draw) {
  themed.add(draw)
  return () => themed.delete(draw)
}

export function setTheme(dark) {
  document.documentElement.dataset.awTheme = dark ? "dark" : "light"
  colours = null
  for (const draw of themed) draw()
}
