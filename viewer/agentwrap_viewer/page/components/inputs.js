// What the network sees: the newest pictures of the observation, or the frames that a recurrent policy remembers, oldest
// first, and how much each of them matters now.

import {send, subscribe} from "./feed.js"
import {byPointer} from "./focus.js"
import {keysOf, kindOf} from "./heat.js"
import {card, dress, h, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, heading, caption, aside, body} = card("inputs", "Network input")
  const strip = h("div", {class: "strip"}), note = h("p", {class: "note", hidden: true})
  const choice = h("select", {class: "choice", "aria-label": "Picture of the observation", title: "which of the observation's pictures is shown, here and as heat", hidden: true})
  choice.addEventListener("change", () => {
    send({do: "show_picture", name: choice.value})
    if (byPointer()) choice.blur()  // the space bar is to pause or play again
  })
  caption.after(choice)
  body.append(strip, note)
  let cells = [], drawnKeys = null

  function makeCells(count, pictures) {
    cells = Array.from({length: count}, (_, index) => {
      const canvas = h("canvas", {width: 1, height: 1}), label = index === count - 1 ? "t" : `t−${count - 1 - index}`
      const fills = [h("i"), h("i")]
      const tracks = h("span", {class: "tracks"}, ...fills.map(fill => h("span", {class: "track"}, fill)))
      canvas.hidden = !pictures
      return {canvas, tracks, fills, root: h("figure", {}, canvas, h("figcaption", {}, label), tracks)}
    })
    strip.replaceChildren(...cells.map(cell => cell.root))
    strip.classList.toggle("many", count > 4)
    strip.classList.toggle("bare", !pictures)
  }

  function drawChoice({pictures, picture}) {
    choice.hidden = !pictures.length
    const names = pictures.map(({name}) => name).join("\n")
    if (choice.dataset.names !== names) {
      choice.dataset.names = names
      choice.replaceChildren(...pictures.map(({name, title}) => h("option", {value: name}, title)))
    }
    if (picture !== null && choice.value !== picture && choice.getRootNode().activeElement !== choice) choice.value = picture
  }

  function drawKeys(layers) {
    const wanted = layers.map(({target, title}) => `${target} ${title}`).join()
    if (wanted === drawnKeys) return
    drawnKeys = wanted
    aside.replaceChildren(...keysOf(layers, "magnitude"))
  }

  /** Make as many cells as there are pictures, or scores where there is no picture. */
  function fit({planes, past}) {
    const layers = past === null ? [] : past.layers
    const count = planes !== null ? planes.shape[0] : layers.length ? layers[0].weights.length : 0
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
    const layers = past === null ? [] : past.layers
    root.title = layers.length ? "how much the outputs change when a frame is perturbed as a whole and what follows is computed anew" : ""
    drawKeys(layers)
    note.hidden = past === null || past.problem === null
    put(note, past !== null && past.problem !== null ? past.problem : "")
    cells.forEach((cell, index) => drawWeights(cell, layers, index, cells.length))
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
      drawChoice(all)
      drawScores(all)
    }, {calm: true}),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

/** Draw a frame's share of the largest score, for each target. */
function drawWeights(cell, layers, index, count) {
  cell.tracks.hidden = !layers.length
  cell.fills.forEach((fill, place) => {
    const layer = layers[place]
    fill.parentElement.hidden = layer === undefined
    if (layer === undefined) return
    fill.className = `fill ${kindOf(layer.target)}`
    fill.style.width = `${100 * (layer.weights[index - count + layer.weights.length] ?? 0)}%`
  })
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
