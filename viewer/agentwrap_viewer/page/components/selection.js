// What the steps chosen with the lasso have in common: their mean frame, under the mean of their maps, and their actions.

import {ask, listen} from "./atlas.js"
import {card, dress, h, integer, number, put} from "./kit.js"
import {keysOf} from "./heat.js"
import {paintFrame, paintHeat} from "./picture.js"

const ACTIONS = 5  // rows at most

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("selection", "Selection")
  const frame = h("canvas", {class: "frame", width: 1, height: 1, role: "img", "aria-label": "mean frame of the steps chosen"})
  const heat = h("canvas", {class: "heat", width: 1, height: 1, "aria-hidden": "true"})
  const picture = h("div", {class: "picture"}, frame, heat), keys = h("p", {class: "keys"})
  const bars = h("div", {class: "bars"}), figures = h("dl", {class: "figures"})
  const clear = h("button", {type: "button", class: "tool", title: "Choose no steps (Escape)"}, "Clear")
  const hint = h("p", {class: "empty"}, "Draw around points with the lasso, or drag with shift: their mean frame, actions and map appear here.")
  const found = h("div", {class: "found", hidden: true}, h("div", {class: "both"}, picture, bars), keys, figures)
  body.append(hint, found)
  aside.append(clear)
  clear.hidden = true
  let columns = []

  function take(section) {
    const some = section.count > 0
    found.hidden = !some
    hint.hidden = some
    clear.hidden = false
    put(hint, "No steps there.")
    put(caption, some ? `${integer(section.count)} steps in ${integer(section.episodes)} episode${section.episodes === 1 ? "" : "s"}` : "")
    root.dataset.count = section.count
    picture.hidden = true
    put(keys, some ? "averaging …" : "")
    if (!some) return ask({do: "mean", steps: []})
    ask({do: "mean", steps: section.sample})
    drawActions(section)
    figures.replaceChildren(...["value", "return_to_go", "entropy"].flatMap(name => figure(section, name)))
  }

  function figure({numbers}, name) {
    const column = columns.find(each => each.name === name)
    if (!column || !numbers[name]) return []
    const [low, middle, high] = numbers[name]
    const cell = h("div", {title: "median; 8 of 10 steps lie between the two others"},
      h("dt", {}, column.title), h("dd", {}, number(middle)), h("dd", {class: "span"}, `${number(low)} … ${number(high)}`))
    return [cell]
  }

  function drawActions({categories, count}) {
    const [name, counts] = Object.entries(categories)[0] || [null, []]
    const labels = (columns.find(column => column.name === name) || {labels: []}).labels
    const order = counts.map((value, index) => [value, index]).filter(([value]) => value).sort((a, b) => b[0] - a[0])
    bars.replaceChildren(...order.slice(0, ACTIONS).map(([value, index]) => {
      const fill = h("i", {class: "fill"})
      fill.style.width = `${value / count * 100}%`
      return h("div", {class: "row"}, h("span", {class: "name", title: labels[index]}, labels[index] || `${index}`),
        h("span", {class: "track"}, fill), h("span", {class: "value"}, `${(value / count * 100).toFixed(0)} %`))
    }))
  }

  function drawMean({frame: mean, frames, steps, maps, heat: layers}) {
    picture.hidden = mean === null
    if (mean !== null) {
      paintFrame(frame, mean)
      picture.style.setProperty("--ratio", mean.shape[1] / mean.shape[0])
      paintHeat(heat, layers)
    }
    root.dataset.frames = frames
    root.dataset.maps = maps
    const about = frames ? `mean of ${integer(frames)} frames` : steps.length ? "these steps have no pictures" : "their frames are no longer kept"
    keys.replaceChildren(h("span", {}, maps ? `${about}, ${integer(maps)} map${maps === 1 ? "" : "s"}` : about),
      ...(layers ? keysOf(layers, layers[0].scale) : []))
  }

  function unselect() {
    found.hidden = true
    hint.hidden = false
    clear.hidden = true
    put(hint, "Draw around points with the lasso, or drag with shift: their mean frame, actions and map appear here.")
    put(caption, "")
    delete root.dataset.count
    ask({do: "mean", steps: []})
  }

  clear.addEventListener("click", () => document.dispatchEvent(new CustomEvent("agentwrap:unselect")))
  document.addEventListener("agentwrap:unselect", unselect)
  const stops = [
    listen("map", state => { columns = state.columns || [] }),
    listen("selection", take),
    listen("mean", drawMean),
    () => document.removeEventListener("agentwrap:unselect", unselect),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}
