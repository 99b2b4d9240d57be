// What the network sees: the newest pictures of the observation, or the frames that a recurrent policy remembers, oldest
// first, and how much each of them matters now.

import {subscribe} from "./feed.js"
import {keysOf} from "./heat.js"
import {card, dress, h, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, heading, caption, aside, body} = card("inputs", "Network input")
  const strip = h("div", {class: "strip"}), note = h("p", {class: "note", hidden: true})
  body.append(strip, note)
  let cells = [], drawnKeys = null

  function makeCells(count, pictures) {
    cells = Array.from({length: count}, (_, index) => {
      const canvas = h("canvas", {width: 1, height: 1}), label = index === count - 1 ? "t" : `t−${count - 1 - index}`
      const actor = h("i", {class: "fill actor"}), critic = h("i", {class: "fill critic"})
      const tracks = h("span", {class: "tracks"}, h("span", {class: "track"}, actor), h("span", {class: "track"}, critic))
      canvas.hidden = !pictures
      return {canvas, tracks, actor, critic, root: h("figure", {}, canvas, h("figcaption", {}, label), tracks)}
    })
    strip.replaceChildren(...cells.map(cell => cell.root))
    strip.classList.toggle("many", count > 4)
    strip.classList.toggle("bare", !pictures)
  }

  function drawKeys(targets) {
    const wanted = targets.join()
    if (wanted === drawnKeys) return
    drawnKeys = wanted
    aside.replaceChildren(...(targets.length ? keysOf(targets, "magnitude") : []))
  }

  /** Make as many cells as there are pictures, or scores where there is no picture. */
  function fit({planes, past}) {
    const scores = past === null ? [] : Object.values(past.weights)
    const count = planes !== null ? planes.shape[0] : scores.length ? scores[0].length : 0
    if (cells.length === count && strip.classList.contains("bare") === (planes === null)) return
    makeCells(count, planes !== null)
    drawScores({past})
  }

  function drawPlanes({planes}) {
    if (planes === null) return
    const [, high, wide, channels = 1] = planes.shape, size = high * wide * channels
    cells.forEach(({canvas}, index) => drawPlane(canvas, planes.data.subarray(index * size, (index + 1) * size), wide, high, channels))
  }

  function drawScores({past}) {
    const weights = past === null ? {} : past.weights, targets = Object.keys(weights)
    root.title = targets.length ? "how much the outputs change when a frame is perturbed as a whole and what follows is computed anew" : ""
    drawKeys(targets)
    note.hidden = past === null || past.problem === null
    put(note, past !== null && past.problem !== null ? past.problem : "")
    cells.forEach((cell, index) => drawWeights(cell, weights, index, cells.length))
  }

  const stops = [
    subscribe("inputs", (changes, all) => {
      fit(all)
      if ("planes" in changes) drawPlanes(all)
    }),
    subscribe("inputs", (_, all) => {
      const remembered = all.past !== null && all.past.kind === "steps"
      put(heading, remembered ? "Remembered frames" : "Network input")
      put(caption, !remembered && all.shape ? all.shape.join(" × ") : "")
      drawScores(all)
    }, {calm: true}),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

/** Draw a frame's share of the largest score, for actor and critic. */
function drawWeights(cell, weights, index, count) {
  cell.tracks.hidden = !Object.keys(weights).length
  for (const target of ["actor", "critic"]) {
    const scores = weights[target], share = scores === undefined ? 0 : scores[index - count + scores.length] ?? 0
    cell[target].parentElement.hidden = scores === undefined
    cell[target].style.width = `${100 * share}%`
  }
}

function drawPlane(canvas, data, wide, high, channels) {
  if (canvas.width !== wide) canvas.width = wide
  if (canvas.height !== high) canvas.height = high
  const context = canvas.getContext("2d", {alpha: false}), image = context.createImageData(wide, high)
  const pixels = new Uint32Array(image.data.buffer)
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = channels === 1 ? 0xff000000 | data[i] * 0x010101
      : 0xff000000 | data[3 * i + 2] << 16 | data[3 * i + 1] << 8 | data[3 * i]
  }
  context.putImageData(image, 0, 0)
}
