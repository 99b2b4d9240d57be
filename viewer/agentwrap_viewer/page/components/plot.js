// Axes and marks for the charts: plain drawing on a 2-D context, in CSS pixels.

import {colour, number} from "./kit.js"

/** Pixels below which a plot shows nothing: its axis could not be read. */
export const READABLE = 44

export const MARGIN = {left: 40, right: 10, top: 8, bottom: 18}

/** Round limits and a step for about `count` ticks that include the range. */
export function ticks(low, high, count = 3) {
  if (!(high > low)) { low -= 0.5; high += 0.5 }
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(candidate => candidate >= raw * 0.999)
  const from = Math.floor(low / step + 1e-9) * step, to = Math.ceil(high / step - 1e-9) * step
  const values = []
  for (let k = 0; from + k * step <= to + step / 2; k++) values.push(Math.abs(from + k * step) < step / 1e6 ? 0 : from + k * step)
  return {low: from, high: to, values}
}

/** Horizontal grid lines with their values; the zero line is stronger. */
export function drawGrid(context, box, axis, y) {
  context.font = colour("font-small")
  context.textAlign = "right"
  context.textBaseline = "middle"
  const labels = labelsOf(axis.values)
  for (const [index, value] of axis.values.entries()) {
    const at = Math.round(y(value)) + 0.5
    context.strokeStyle = colour(value === 0 ? "axis" : "grid")
    context.beginPath(); context.moveTo(box.left, at); context.lineTo(box.right, at); context.stroke()
    context.fillStyle = colour("muted")
    context.fillText(labels[index], box.left - 6, at)
  }
}

/** The ticks' values, all with as many digits as tell each of them exactly. */
export function labelsOf(values) {
  const step = values[1] - values[0]
  let digits = 0
  while (digits < 12 && values.some(value => Math.abs(value.toFixed(digits) - value) > step / 100)) digits++
  return values.map(value => minus(value === 0 ? "0" : digits ? value.toFixed(digits) : number(Math.round(value))))
}

/** A number's text with the sign for minus instead of a hyphen. */
export const minus = text => text.replace("-", "\u2212")

/** Texts below the plot: left, middle, and up to `right`. */
export function drawBelow(context, box, texts, right = box.right) {
  context.fillStyle = colour("muted")
  context.font = colour("font-small")
  context.textBaseline = "alphabetic"
  const places = [["left", box.left], ["center", (box.left + box.right) / 2], ["right", right]]
  texts.forEach((text, index) => {
    context.textAlign = places[index][0]
    context.fillText(text, places[index][1], box.bottom + 14)
  })
}

/** The rectangle inside the margins. */
export function boxOf(width, height) {
  return {left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom}
}
