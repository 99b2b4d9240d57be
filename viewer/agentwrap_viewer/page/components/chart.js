// One scalar over the last steps, up to the step shown.

import {send, subscribe} from "./feed.js"
import {at, windowUntil} from "./history.js"
import {card, colour, crisp, dress, h, integer, number, onTheme, put} from "./kit.js"
import {boxOf, drawBelow, drawGrid, READABLE, ticks} from "./plot.js"

export async function render({model, el}) {
  await dress(el)
  const {field, heading, caption: about, style, window: count} = model  // read once: each look at the model is slow
  const {root, caption, aside, body} = card(`chart ${field}`, heading)
  const canvas = h("canvas", {class: "plot", role: "img", "aria-label": heading})
  const empty = h("p", {class: "empty"})
  body.append(canvas, empty)
  let position = -1, hover = null, withoutValue = ""

  const {redraw, stop: stopFit} = crisp(canvas, (context, width, height) => {
    const shown = windowUntil(position, count), box = boxOf(width, height), gone = shown.last < shown.from
    put(empty, gone && position >= 0 ? "No longer kept." : field === "value" ? withoutValue : "")
    if (gone) {
      empty.hidden = false
      return put(aside, "")
    }
    put(caption, describe(shown))
    caption.title = caption.textContent.replace("summed", "summed between shown steps")  // a narrow card cuts it off
    const range = rangeOf(shown, field)
    empty.hidden = range !== null || field !== "value"
    if (range === null) return put(aside, "")
    if (height < READABLE) return put(aside, number(at(shown.last, field)))
    const axis = ticks(range.low, range.high)
    const x = p => box.right - (shown.last - p) * (box.right - box.left) / (count - 1)
    const y = value => box.bottom - (value - axis.low) / (axis.high - axis.low) * (box.bottom - box.top)
    drawGrid(context, box, axis, y)
    drawBelow(context, box, [`−${integer(count)}`, `−${integer(count / 2)}`, "shown"])
    const stems = style === "stems" && isSparse(shown, field)
    if (stems) drawStems(context, shown, field, x, y)
    else drawLine(context, shown, field, x, y, box)
    drawReadout(context, box, shown, x, y, stems)
  })

  /** What the samples are: where the agent sends only some of its steps, each stands for those before it as well. */
  function describe({from, last}) {
    const skipped = at(last, "step") - at(from, "step") > last - from
    const summed = skipped && field === "reward" ? "summed" : ""
    if (field === "return") return about
    return [about, summed, `last ${integer(count)} ${skipped ? "shown steps" : "steps"}`].filter(Boolean).join(", ")
  }

  function drawReadout(context, box, shown, x, y, stems) {
    let p = shown.last
    if (hover !== null) {
      p = Math.round(shown.last - (box.right - hover) * (count - 1) / (box.right - box.left))
      p = Math.max(shown.from, Math.min(shown.last, p))
      context.strokeStyle = colour("muted")
      context.beginPath(); context.moveTo(x(p), box.top); context.lineTo(x(p), box.bottom); context.stroke()
    }
    const value = at(p, field)
    put(aside, hover === null ? number(value) : `step ${integer(at(p, "step"))}: ${number(value)}`)
    if (!Number.isFinite(value) || (stems && hover === null)) return
    context.fillStyle = colour(field)
    context.beginPath(); context.arc(x(p), y(value), 3, 0, 2 * Math.PI); context.fill()
  }

  canvas.addEventListener("pointermove", event => { hover = event.offsetX; redraw() })
  canvas.addEventListener("pointerleave", () => { hover = null; redraw() })
  canvas.addEventListener("click", event => {
    const box = boxOf(canvas.clientWidth, canvas.clientHeight), shown = windowUntil(position, count)
    const p = Math.round(shown.last - (box.right - event.offsetX) * (count - 1) / (box.right - box.left))
    if (p >= shown.from && p <= shown.last) send({do: "go", position: p})
  })
  const stops = [
    subscribe("transport", (_, transport) => {
      if (position !== transport.position) { position = transport.position; redraw() }
    }, {calm: true}),
    subscribe("status", (_, status) => {
      const before = withoutValue
      withoutValue = status.gives_value === false ? "The policy gives no value." : status.awaiting || "No value yet."
      if (withoutValue !== before) redraw()
    }),
    onTheme(redraw),
    stopFit,
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

function rangeOf({from, last}, field) {
  let low = Infinity, high = -Infinity
  for (let p = from; p <= last; p++) {
    const value = at(p, field)
    if (value < low) low = value
    if (value > high) high = value
  }
  if (low > high || !Number.isFinite(low) || !Number.isFinite(high)) return null
  if (field !== "value") { low = Math.min(low, 0); high = Math.max(high, 0) }
  return {low, high}
}

function drawLine(context, {from, last}, field, x, y, box) {
  const line = colour(field)
  context.lineWidth = 1.5
  context.lineJoin = "round"
  context.strokeStyle = line
  const ground = Math.max(box.top, Math.min(box.bottom, y(0)))  // from zero, as bars are
  let begin = null, path = null
  const finish = end => {
    context.stroke(path)
    const area = new Path2D(path)
    area.lineTo(x(end), ground); area.lineTo(x(begin), ground); area.closePath()
    context.globalAlpha = 0.12; context.fillStyle = line; context.fill(area); context.globalAlpha = 1
  }
  for (let p = from; p <= last; p++) {
    const value = at(p, field)
    if (!Number.isFinite(value)) {
      if (path !== null) finish(p - 1)
      path = null
    } else if (path === null) {
      path = new Path2D(); path.moveTo(x(p), y(value)); begin = p
    } else path.lineTo(x(p), y(value))
  }
  if (path !== null) finish(last)
  context.lineWidth = 1
}

/** Whether most values are zero. Where they are not, stems would fill the plot. */
function isSparse({from, last}, field) {
  let count = 0
  for (let p = from; p <= last; p++) if (at(p, field) !== 0) count++
  return count <= (last - from + 1) / 2
}

function drawStems(context, {from, last}, field, x, y) {
  const zero = y(0)
  for (const [sign, name] of [[1, "good"], [-1, "bad"]]) {
    context.strokeStyle = colour(name)
    context.lineWidth = 1.5
    context.beginPath()
    for (let p = from; p <= last; p++) {
      const value = at(p, field)
      if (value * sign > 0) { context.moveTo(x(p), zero); context.lineTo(x(p), y(value)) }
    }
    context.stroke()
  }
  context.lineWidth = 1
}
