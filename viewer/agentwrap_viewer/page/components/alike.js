// Frames like this one: the steps whose inner states are nearest to that of the step shown.

import {ask, frameOf, listen} from "./atlas.js"
import {send, subscribe} from "./feed.js"
import {card, dress, h, integer, put} from "./kit.js"
import {paintFrame} from "./picture.js"
import {onView} from "./view.js"

const REST = 250  // milliseconds that a step must be held before it is compared

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("alike", "Frames like this one")
  const grid = h("div", {class: "grid"}), hint = h("p", {class: "empty"})
  const find = h("button", {type: "button", class: "tool", title: "Compare the step shown with all others"}, "Find")
  aside.append(find)
  body.append(hint, grid)
  let step = null, mode = null, compared = null, waiting = null, visible = false, cells = new Map()
  let count = 0, among = 0  // steps in the map, now and when one was compared with them

  function compare() {
    if (step === null || !count) return
    compared = step
    among = count
    ask({do: "like", step})
  }

  /** Held steps are compared by themselves; while steps pass by, when that is asked for. */
  function consider() {
    clearTimeout(waiting)
    find.hidden = mode === "paused"
    put(hint, mode === "paused" ? "" : "Pause, or press Find: the steps appear whose inner states are nearest.")
    hint.hidden = !hint.textContent || grid.childElementCount > 0
    if (visible && mode === "paused" && step !== compared) waiting = setTimeout(compare, REST)
  }

  function draw({step: of, found, problem}) {
    put(caption, problem ? "" : `step ${integer(of)}`)
    put(hint, problem || (found.length ? "" : "No other step is like it."))
    hint.hidden = !hint.textContent
    cells = new Map(found.map(([number, distance]) => [number, cell(number, distance)]))
    grid.replaceChildren(...[...cells.values()].map(({button}) => button))
    for (const number of cells.keys()) drawFrame(frameOf(number))
    root.dataset.step = of
  }

  function cell(number, distance) {
    const canvas = h("canvas", {width: 1, height: 1})
    const button = h("button", {type: "button", title: `Go to step ${integer(number)}; its distance is ${Math.round(distance * 100)} % of the mean`},
      canvas, h("span", {}, integer(number)))
    button.addEventListener("click", () => send({do: "jump", step: number}))
    return {button, canvas}
  }

  function drawFrame(known) {
    const shown = known && cells.get(known.step)
    if (!shown) return
    if (known.frame) paintFrame(shown.canvas, known.frame)
    shown.canvas.hidden = !known.frame
  }

  find.addEventListener("click", compare)
  const stops = [
    onView(shown => { visible = shown === "states"; if (visible) { compared = null; consider() } }),
    listen("map", state => {
      count = state.method ? state.count : 0
      if (count > 1.5 * among || count < among) { compared = null; among = count; consider() }
    }),
    listen("like", draw),
    listen("frame", drawFrame),
    subscribe("status", (_, status) => { if (status.step !== step) { step = status.step; consider() } }, {calm: true}),
    subscribe("transport", (_, transport) => { if (transport.mode !== mode) { mode = transport.mode; consider() } }),
  ]
  model.on("remove", () => { clearTimeout(waiting); stops.forEach(stop => stop()) })
  return root
}
