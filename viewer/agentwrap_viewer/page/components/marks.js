// What is marked on the timeline: how each kind looks there and in the list, which are drawn as one, which are near a place.

import {colour, h} from "./kit.js"

/** By kind: what it is called, the style sheet's colour, and a shape within -5…5, so that colour is not all that tells. */
const KINDS = {
  bookmark: {label: "bookmark", colour: "strong", shape: "M-3-5h2v10h-2zM0-5h5L3.5-2.5 5 0H0z"},
  terminated: {label: "terminated", colour: "bad", shape: "M-4.5-2.5-2.5-4.5 0-2 2.5-4.5 4.5-2.5 2 0l2.5 2.5-2 2L0 2l-2.5 2.5-2-2L-2 0z"},
  value_drop: {label: "value drop", colour: "value", shape: "M-5-4H5L0 5z"},
  entropy_peak: {label: "entropy peak", colour: "return", shape: "M-5 4H5L0-5z"},
  td_error: {label: "TD error", colour: "reward", shape: "M0-5.5 5 0 0 5.5-5 0z"},
  action_flip: {label: "action flip", colour: "actor", shape: "M-5-1 0-5.5V-2.5H5v2H-5zM5 1 0 5.5V2.5H-5V.5H5z"},
  policy_version: {label: "policy version", colour: "muted", shape: "M-4-4H4V4H-4z"},
  disagreement: {label: "disagreement", colour: "against", shape: "M-5-4h10v3h-10zM-5 1h10v3h-10z"},
}
const UNKNOWN = {colour: "muted", shape: "M0-4A4 4 0 1 1 0 4 4 4 0 1 1 0-4z"}

const paths = new Map()

/** Height of the timeline's strip of marks, in CSS pixels. */
export const STRIP = 14

export const labelOf = kind => (KINDS[kind] || {}).label || kind.replaceAll("_", " ")

function lookOf(kind) {
  const look = KINDS[kind] || UNKNOWN
  if (!paths.has(look)) paths.set(look, new Path2D(look.shape))
  return {colour: colour(look.colour), path: paths.get(look)}
}

/** The kind's shape as a picture beside text. */
export function glyph(kind) {
  const look = KINDS[kind] || UNKNOWN, svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  svg.setAttribute("viewBox", "-6 -6 12 12")
  svg.setAttribute("class", "glyph")
  svg.setAttribute("aria-hidden", "true")
  path.setAttribute("d", look.shape)
  path.setAttribute("style", `fill: var(--aw-${look.colour})`)
  svg.append(path)
  return svg
}

/** Half a shape's width, and the width of each digit of a count beside it, in CSS pixels. */
const HALF = 5.5, DIGIT = 5.5

/**
 * Marks that would lie over each other taken together: {marks, shown, left, right}, from left to right, where none touches
 * the next. `shown` is drawn at its first mark's place: the user's own, else the kind that is rarest in the recording, since
 * what is frequent is seen beside it anyway.
 */
export function grouped(marks, x) {
  const groups = [], often = new Map()
  for (const {kind} of marks) often.set(kind, (often.get(kind) || 0) + 1)
  const rank = mark => mark.kind === "bookmark" ? 0 : often.get(mark.kind)
  for (const mark of marks) {
    const left = Math.round(x(mark.position)) - HALF, last = groups.at(-1)
    if (!last || left >= last.right) {
      groups.push({marks: [mark], shown: mark, left, right: left + 2 * HALF})
      continue
    }
    last.marks.push(mark)
    if (rank(mark) < rank(last.shown)) last.shown = mark
    last.right = last.left + 2 * HALF + 2 + DIGIT * String(last.marks.length).length
  }
  return groups
}

/** Draw groups of marks along a line `at` of the canvas: a shape each, and of how many it is one. */
export function drawMarks(context, groups, at) {
  context.font = colour("font-small").replace("11px", "10px")
  context.textAlign = "left"
  context.textBaseline = "middle"
  for (const {marks, shown, left} of groups) {
    const look = lookOf(shown.kind)
    context.save()
    context.translate(left + HALF + 0.5, at)
    context.scale(0.9, 0.9)
    context.fillStyle = look.colour
    context.fill(look.path)
    context.restore()
    if (marks.length === 1) continue
    context.fillStyle = colour("muted")
    context.fillText(marks.length, left + 2 * HALF + 1, at + 0.5)
  }
}

/** The marks drawn at a place or within some pixels of it, nearest first. */
export function marksNear(groups, x, at, reach = 3) {
  const distance = mark => Math.abs(x(mark.position) - at), beyond = ({left, right}) => Math.max(left - at, at - right)
  const near = groups.filter(group => beyond(group) <= reach).sort((a, b) => beyond(a) - beyond(b))
  return near.length ? [...near[0].marks].sort((a, b) => distance(a) - distance(b)) : []
}

/** The first mark after a position, or the last before it; null where there is none. */
export function neighbouring(marks, position, direction) {
  const further = marks.filter(mark => direction * (mark.position - position) > 0)
  return (direction > 0 ? further[0] : further.at(-1)) || null
}

/** One line for a mark: what it is and what is said of it. */
export const said = mark => mark.text ? `${labelOf(mark.kind)}: ${mark.text}` : labelOf(mark.kind)

/** A line of a list of marks. */
export function line(mark, number, press) {
  return h("button", {type: "button", class: "mark", onclick: press, "data-kind": mark.kind, "data-step": mark.step},
    glyph(mark.kind), h("span", {class: "number"}, number), h("span", {class: "what"}, labelOf(mark.kind)),
    h("span", {class: "said"}, mark.text))
}
