// The frame on one canvas, the heat on another over it. Each canvas has the resolution of what it shows; the browser
// scales both, so that a frame costs its own pixels only and reads back exactly as it was sent.

import {send, subscribe} from "./feed.js"
import {card, dress, h, put} from "./kit.js"

// actor blue and critic red, as in Greydanus et al. 2018; light enough to be seen on a game's dark blue and dark red
const COLOURS = {actor: [92, 176, 255], critic: [255, 72, 72]}
const OTHER = COLOURS.actor
const NAMES = {chosen: "chosen action"}
const RECENT = 0.995  // what a recent largest score keeps of itself with each map: about 200 maps until it is halved

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("stage", "Agent view")
  const frame = h("canvas", {class: "frame", width: 1, height: 1, role: "img", "aria-label": "the agent's view"})
  const heat = h("canvas", {class: "heat", width: 1, height: 1, "aria-hidden": "true"})
  const picture = h("div", {class: "picture"}, frame, heat)
  const empty = h("p", {class: "empty"}, "No picture: the environment renders none.")
  const hold = h("div", {class: "hold"}, picture, empty)
  const legend = h("span", {class: "legend"})
  body.append(hold)
  aside.append(legend)

  const frameContext = frame.getContext("2d", {alpha: false}), heatContext = heat.getContext("2d")
  let frameImage = null, heatImage = null, layers = null, lag = null, env = ""
  const recent = {}

  function drawFrame(described) {
    const shown = described !== null
    picture.hidden = !shown
    empty.hidden = shown
    if (!shown) return put(caption, env)
    const [high, wide] = described.shape, data = described.data, channels = described.shape[2] || 1
    if (frame.width !== wide || frame.height !== high || frameImage === null) {
      frame.width = wide; frame.height = high
      frameImage = frameContext.createImageData(wide, high)
      picture.style.setProperty("--ratio", wide / high)
    }
    const pixels = new Uint32Array(frameImage.data.buffer)
    if (channels === 1) for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | data[i] * 0x010101
    else for (let i = 0, j = 0; i < pixels.length; i++, j += 3) {
      pixels[i] = 0xff000000 | data[j + 2] << 16 | data[j + 1] << 8 | data[j]
    }
    frameContext.putImageData(frameImage, 0, 0)
    put(caption, `${env}${env ? " · " : ""}${wide} × ${high}`)
  }

  /** The layers to show. A method that tells neither actor nor critic apart is shown for both. */
  function selected() {
    const all = layers || [], wanted = model.targets
    if (wanted === "none") return []
    if (wanted === "both") return all
    const exact = all.filter(layer => layer.target === wanted)
    return exact.length ? exact : all.filter(layer => !(layer.target in COLOURS))
  }

  function drawHeat() {
    const shown = selected()
    if (!shown.length) return heatContext.clearRect(0, 0, heat.width, heat.height)
    const [high, wide] = shown[0].heat.shape
    if (heat.width !== wide || heat.height !== high || heatImage === null) {
      heat.width = wide; heat.height = high
      heatImage = heatContext.createImageData(wide, high)
    }
    blend(heatImage.data, shown.filter(layer => layer.heat.data.length === wide * high))
    heatContext.putImageData(heatImage, 0, 0)
  }

  // each target lays its colour on with an opacity that grows with its score; two targets mix where they meet
  function blend(out, shown) {
    const opacity = model.opacity, byRecent = model.scale === "recent"  // read once: each look at the model is slow
    out.fill(0)
    for (const layer of shown) {
      const [red, green, blue] = COLOURS[layer.target] || OTHER, data = layer.heat.data
      const full = byRecent ? recent[layer.target] : layer.scale
      const gain = full > 0 ? opacity * layer.scale / full / 255 : 0
      for (let i = 0, j = 0; i < data.length; i++, j += 4) {
        const alpha = Math.min(opacity, data[i] * gain)
        if (alpha <= 0) continue
        const under = out[j + 3] / 255, sum = alpha + under - alpha * under, share = alpha / (alpha + under)
        out[j] += (red - out[j]) * share
        out[j + 1] += (green - out[j + 1]) * share
        out[j + 2] += (blue - out[j + 2]) * share
        out[j + 3] = sum * 255
      }
    }
  }

  function drawLegend() {
    const parts = selected().map(({target}) =>
      h("span", {class: `key ${target === "critic" ? "critic" : "actor"}`}, NAMES[target] || target))
    if (!parts.length && layers && model.targets !== "none") {
      return legend.replaceChildren(`this method has no map of the ${model.targets}`)
    }
    const age = lag === null || lag === undefined ? "" : lag.steps === 0 ? "this step" : `${lag.steps} step${lag.steps === 1 ? "" : "s"} back`
    legend.replaceChildren(...parts, h("span", {class: "lag", title: "how far the map is behind the frame"}, parts.length ? age : ""))
  }

  const stopStatus = subscribe("status", (_, status) => { env = status.env || "" })
  const stop = subscribe("stage", (changes, all) => {
    if ("heat" in changes) {
      layers = changes.heat
      for (const layer of layers || []) {
        recent[layer.target] = Math.max(layer.scale, (recent[layer.target] || 0) * RECENT)
      }
    }
    if ("frame" in changes) drawFrame(changes.frame)
    if ("heat" in changes) drawHeat()
    root.dataset.step = changes.frame === undefined ? root.dataset.step : String((Number(root.dataset.step) || 0) + 1)
    if (all.lag) heat.dataset.step = all.lag.step
  })
  const stopLegend = subscribe("stage", (_, all) => { lag = all.lag; drawLegend() }, {calm: true})
  const smoothen = () => heat.classList.toggle("smooth", model.smooth)
  smoothen()
  model.on(["targets", "opacity", "scale"], () => { drawHeat(); drawLegend() })
  model.on("smooth", smoothen)
  const follow = () => send({do: "follow", what: model.wait ? "mapped" : "newest"})
  model.on("wait", follow)
  const stopLink = subscribe("link", link => { if (link.connected) follow() })
  model.on("remove", () => { stop(); stopLegend(); stopStatus(); stopLink() })
  return root
}
