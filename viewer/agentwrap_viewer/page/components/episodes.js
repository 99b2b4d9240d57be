// Returns of the episodes so far.

import {subscribe} from "./feed.js"
import {card, colour, crisp, dress, h, integer, number, onTheme, put} from "./kit.js"
import {boxOf, drawBelow, drawGrid, READABLE, ticks} from "./plot.js"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("episodes", "Episodes")
  const canvas = h("canvas", {class: "plot", role: "img", "aria-label": "Returns of the episodes"})
  const empty = h("p", {class: "empty"}, "None has ended yet.")
  const figures = h("dl", {class: "figures"})
  const [last, best, mean, length] = ["last", "best", "mean", "length"].map(name => {
    const label = h("dt", {}, name), value = h("dd")
    figures.append(h("div", {}, label, value))
    return {label, value}
  })
  body.append(figures, canvas, empty)
  let source = null, hover = null

  const {redraw, stop: stopFit} = crisp(canvas, (context, width, height) => {
    if (source === null || !source.count || height < READABLE) return
    const data = source.bars.data, count = data.length / 3, box = boxOf(width, height)
    let low = 0, high = 0
    for (let k = 0; k < count; k++) { low = Math.min(low, data[3 * k + 1]); high = Math.max(high, data[3 * k + 1]) }
    const axis = ticks(low, high, 2)
    const y = value => box.bottom - (value - axis.low) / (axis.high - axis.low) * (box.bottom - box.top)
    drawGrid(context, box, axis, y)
    const pitch = Math.min(24, (box.right - box.left) / count), wide = Math.max(1, pitch * 0.72)
    const first = count > 1 ? integer(data[0]) : ""
    drawBelow(context, box, [first, "", integer(data[3 * count - 3])], box.left + count * pitch)
    let chosen = null
    for (let k = 0; k < count; k++) {
      const left = box.left + k * pitch, top = y(data[3 * k + 1])
      const inside = hover !== null && hover >= left && hover < left + pitch
      if (inside) chosen = k
      context.fillStyle = colour(inside ? "strong" : "return")
      context.fillRect(left + (pitch - wide) / 2, Math.min(top, y(0)), wide, Math.max(1, Math.abs(y(0) - top)))
    }
    put(aside, chosen === null ? "" :
      `episode ${integer(data[3 * chosen])}: ${number(data[3 * chosen + 1])}, ${integer(data[3 * chosen + 2])} steps`)
  })

  function drawFigures(source) {
    put(last.value, number(source.last.return))
    put(length.value, integer(source.last.length))
    length.label.title = `of the last episode, in steps; mean of ${source.meant}: ${integer(source.mean_length)}`
    put(mean.value, number(source.mean))
    put(mean.label, source.meant > 1 ? `mean of ${source.meant}` : "mean")
    put(best.value, number(source.best))
    const all = source.heard === source.count
    put(best.label, all ? "best" : `best of ${integer(source.heard)}`)
    best.label.title = all ? "of all episodes" : "the agent tells who comes late of its newest 1,000 episodes only"
  }

  canvas.addEventListener("pointermove", event => { hover = event.offsetX; redraw() })
  canvas.addEventListener("pointerleave", () => { hover = null; redraw() })
  const stops = [
    subscribe("episodes", (changes, all) => {
      source = changes
      root.classList.toggle("none", !changes.count)
      put(caption, changes.count ? `${integer(changes.count)} ended` : "")
      empty.hidden = changes.count > 0
      if (changes.count) drawFigures(changes)
      redraw()
    }),
    onTheme(redraw),
    stopFit,
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}
