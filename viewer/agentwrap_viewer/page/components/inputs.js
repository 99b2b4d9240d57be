// What the network sees: the newest pictures of the observation, oldest first.

import {subscribe} from "./feed.js"
import {card, dress, h, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, body} = card("inputs", "Network input")
  const strip = h("div", {class: "strip"})
  body.append(strip)
  let cells = []

  function makeCells(count) {
    cells = Array.from({length: count}, (_, index) => {
      const canvas = h("canvas", {width: 1, height: 1})
      const label = index === count - 1 ? "t" : `t−${count - 1 - index}`
      strip.append(h("figure", {}, canvas, h("figcaption", {}, label)))
      return canvas
    })
  }

  const stop = subscribe("inputs", source => {
    put(caption, source.shape ? source.shape.join(" × ") : "")
    if (source.planes === null) return
    const [count, high, wide, channels = 1] = source.planes.shape, data = source.planes.data
    if (cells.length !== count) { strip.replaceChildren(); makeCells(count) }
    const size = high * wide * channels
    cells.forEach((canvas, index) => drawPlane(canvas, data.subarray(index * size, (index + 1) * size), wide, high, channels))
  })
  model.on("remove", stop)
  return root
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
