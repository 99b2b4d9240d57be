// The frame on one canvas, the heat on another over it. Each canvas has the resolution of what it shows; the browser
// scales both, so that a frame costs its own pixels only and reads back exactly as it was sent.

import {send, subscribe} from "./feed.js"
import {COLOURS, coloursOf, isSigned, keysOf, kindOf} from "./heat.js"
import {card, dress, h, put} from "./kit.js"

const RECENT = 0.995  // what a recent largest score keeps of itself with each map: about 200 maps until it is halved

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("stage", model.heading)
  if (model.side) root.classList.add(model.side)
  const frame = h("canvas", {class: "frame", width: 1, height: 1, role: "img", "aria-label": "the agent's view"})
  const heat = h("canvas", {class: "heat", width: 1, height: 1, "aria-hidden": "true"})
  const picture = h("div", {class: "picture"}, frame, heat)
  const empty = h("p", {class: "empty"}, "No picture: the environment renders none.")
  const hold = h("div", {class: "hold"}, picture, empty)
  const keys = h("span", {class: "keys"}), age = h("span", {class: "lag", title: "how far the map is behind the frame"})
  const ring = h("i", {class: "ring"}), share = h("span", {class: "share"})
  const refined = h("span", {class: "refined"}, ring, share)
  body.append(hold)
  aside.append(h("span", {class: "legend"}, keys, refined, age))
  for (const [name, colour] of Object.entries(COLOURS)) root.style.setProperty(`--aw-${name}`, `rgb(${colour.join(" ")})`)

  const frameContext = frame.getContext("2d", {alpha: false}), heatContext = heat.getContext("2d")
  let told = null, frameImage = null, heatImage = null, layers = null, lag = null, env = "", awaiting = "", drawnKeys = null
  const recent = {}, kind = ({method, target}) => `${method} ${target}`  // methods differ in the size of their scores

  function drawFrame(described) {
    const shown = described !== null
    picture.hidden = !shown
    empty.hidden = shown
    if (!shown) return put(caption, told ?? env)
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
    put(caption, told ?? `${env}${env ? " · " : ""}${wide} × ${high}`)
  }

  /** The layers to show. A method that tells neither actor nor critic apart is shown for both. */
  function selected() {
    const all = layers || [], wanted = model.targets
    if (wanted === "none") return []
    // two signed maps over each other say nothing: they have the same two colours
    if (wanted === "both") return all.length && isSigned(all[0].scale) ? all.slice(0, 1) : all
    const exact = all.filter(layer => layer.target === wanted)
    return exact.length ? exact : all.filter(layer => kindOf(layer.target) === "part")
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
    const {opacity, scale} = model  // read once: each look at the model is slow
    out.fill(0)
    for (const layer of shown) {
      const [above, below] = coloursOf(layer), data = layer.heat.data
      const full = layer.scale === "difference" ? 1 : scale === "recent" ? recent[kind(layer)] : layer.full * (scale === "most" ? most(data) : 1)
      const gain = full > 0 ? opacity * layer.full / full / 127 : 0
      for (let i = 0, j = 0; i < data.length; i++, j += 4) {
        const alpha = Math.min(opacity, Math.abs(data[i]) * gain)
        if (alpha <= 0) continue
        const [red, green, blue] = data[i] > 0 ? above : below
        const under = out[j + 3] / 255, sum = alpha + under - alpha * under, share = alpha / (alpha + under)
        out[j] += (red - out[j]) * share
        out[j + 1] += (green - out[j + 1]) * share
        out[j + 2] += (blue - out[j + 2]) * share
        out[j + 3] = sum * 255
      }
    }
  }

  /** The share of the largest score that 99 % of the scores are below. */
  function most(data) {
    const counts = new Uint32Array(129)
    for (let i = 0; i < data.length; i++) counts[Math.abs(data[i])]++
    let level = 127
    for (let above = counts[127]; level > 1 && above < data.length / 100; above += counts[--level]);
    return level / 127
  }

  function drawLegend() {
    const shown = selected()
    drawKeys(shown)
    age.hidden = refined.hidden = !shown.length || !lag
    if (age.hidden) return
    put(age, lag.steps === 0 ? "this step" : `${lag.steps} step${lag.steps === 1 ? "" : "s"} back`)
    const done = Math.floor(lag.refined * 100 + 1e-6)
    put(share, `${done} %`)
    if (lag.drawn) put(share, `${lag.drawn.done} of ${lag.drawn.of} ${lag.drawn.what}`)
    heat.classList.toggle("partial", Boolean(lag.drawn))  // else its noise would be taken for what the policy looks at
    refined.classList.toggle("unfinished", lag.refined < 1)
    refined.title = lag.refined < 1 ? `${done} % of the map is computed; the rest is estimated from that` : "the map is complete"
    ring.style.setProperty("--share", lag.refined)
  }

  function drawKeys(shown) {
    const none = layers && model.targets !== "none" ? `this method has no map of the ${model.targets}` : awaiting
    const wanted = shown.length ? shown.map(({target, title, scale, names}) => `${target} ${title} ${scale} ${names}`).join() : none
    if (wanted === drawnKeys) return
    drawnKeys = wanted
    keys.replaceChildren(...(shown.length ? keysOf(shown, shown[0].scale, shown[0].names) : [none]))
    keys.title = shown.some(layer => layer.scale === "relative") ? "only differences count: drawn from the lowest score" : ""
  }

  const stopStatus = subscribe("status", (_, status) => {
    env = status.env || ""
    if (status.awaiting !== awaiting) { awaiting = status.awaiting; drawLegend() }
  })
  const stop = subscribe(model.source, (changes, all) => {
    if ("caption" in changes) { told = changes.caption; put(caption, told) }
    if ("heat" in changes) {
      layers = changes.heat
      for (const layer of layers || []) {
        recent[kind(layer)] = Math.max(layer.full, (recent[kind(layer)] || 0) * RECENT)
      }
    }
    if ("frame" in changes) drawFrame(changes.frame)
    if ("heat" in changes) drawHeat()
    root.dataset.step = changes.frame === undefined ? root.dataset.step : String((Number(root.dataset.step) || 0) + 1)
    if (all.lag) heat.dataset.step = all.lag.step
  })
  const stopLegend = subscribe(model.source, (_, all) => { lag = all.lag; drawLegend() }, {calm: true})
  // with a card of features below it the picture is as high as it has to be, and they get the rest; of two policies the
  // features come first, and pictures have what they leave
  const stopFeatures = subscribe("features", source => root.classList.toggle("fitted", !model.side && source.rows.length > 0))
  const smoothen = () => heat.classList.toggle("smooth", model.smooth)
  smoothen()
  model.on(["targets", "opacity", "scale"], () => { drawHeat(); drawLegend() })
  model.on("smooth", smoothen)
  const follow = () => send({do: "follow", what: model.wait ? "mapped" : "newest"})
  model.on("wait", follow)
  const explainWith = () => send({do: "explain_with", version: model.version || null})
  model.on("version", explainWith)
  const stopLink = subscribe("link", link => { if (!link.connected) return
    follow()
    if (model.version) explainWith()
  })
  model.on("remove", () => { stop(); stopLegend(); stopStatus(); stopFeatures(); stopLink() })
  return root
}
