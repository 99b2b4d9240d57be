// Small pictures: a frame on a canvas, and heat over it.

import {coloursOf} from "./heat.js"

const OPACITY = 0.8  // of the strongest heat

/** Draw a picture, (H, W) or (H, W, 3), on a canvas that takes its size. */
export function paintFrame(canvas, {data, shape: [high, wide, channels = 1]}) {
  if (canvas.width !== wide) canvas.width = wide
  if (canvas.height !== high) canvas.height = high
  const context = canvas.getContext("2d"), image = context.createImageData(wide, high)
  for (let k = 0, j = 0; j < image.data.length; k += channels, j += 4) {
    image.data[j] = data[k]
    image.data[j + 1] = data[channels === 3 ? k + 1 : k]
    image.data[j + 2] = data[channels === 3 ? k + 2 : k]
    image.data[j + 3] = 255
  }
  context.putImageData(image, 0, 0)
}

/**
 * Draw heat as the stage has it, the targets' colours over each other, on a canvas of the heat's size. A layer's `strength`
 * is that of its largest score, 1 where it is not told.
 */
export function paintHeat(canvas, layers) {
  if (!layers || !layers.length) return canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height)
  const [high, wide] = layers[0].heat.shape, context = canvas.getContext("2d")
  if (canvas.width !== wide) canvas.width = wide
  if (canvas.height !== high) canvas.height = high
  context.clearRect(0, 0, wide, high)
  const shown = layers[0].scale === "signed" ? layers.slice(0, 1) : layers, sheet = new OffscreenCanvas(wide, high)
  for (const layer of shown) {
    const image = new ImageData(wide, high), [above, below] = coloursOf(layer), most = OPACITY * 255 * (layer.strength ?? 1)
    layer.heat.data.forEach((score, k) => {
      const colour = score > 0 ? above : below
      for (let c = 0; c < 3; c++) image.data[4 * k + c] = colour[c]
      image.data[4 * k + 3] = Math.abs(score) / 127 * most
    })
    sheet.getContext("2d").putImageData(image, 0, 0)
    context.drawImage(sheet, 0, 0)
  }
}

