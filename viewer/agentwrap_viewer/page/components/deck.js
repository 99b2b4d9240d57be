// Where the parts are. Which of them are shown follows from what the agent streams.

import {onNotices} from "./closed.js"
import {subscribe} from "./feed.js"
import {dress, h} from "./kit.js"
import {onView} from "./view.js"

const COLUMNS = {
  left: ["states", "stage", "features"],
  middle: ["policy", "value", "reward"],
  right: ["inputs", "returns", "episodes", "explanation", "selection", "alike"],
}

export async function render({model, el}) {
  await dress(el)
  const slots = {}
  const slot = name => slots[name] = h("div", {class: `slot ${name}`}, model.get_child(name))
  const columns = Object.entries(COLUMNS).map(([name, parts]) => h("div", {class: `column ${name}`}, ...parts.map(slot)))
  const root = h("div", {class: "deck idle"}, slot("notices"), h("div", {class: "columns"}, ...columns), slot("pinned"), slot("transport"))

  // charts take what room is left: the return goes to the column that would else have too much of it
  let blind = false, vector = false, valueless = false
  function placeReturns() {
    const before = blind && vector ? slots.features : valueless ? slots.reward : slots.inputs
    if (before.nextElementSibling !== slots.returns) before.after(slots.returns)
  }

  // beside the map there is less room for what it is about: the agent's view goes to the middle
  function arrange(view) {
    const states = view === "states"
    root.classList.toggle("mapped", states)
    if (states) slots.policy.before(slots.stage, slots.features)
    else slots.states.after(slots.stage, slots.features)
    placeReturns()
  }

  const stops = [
    onView(arrange),
    onNotices(items => root.classList.toggle("quiet", !items.length)),
    subscribe("status", (_, status) => {
      root.classList.toggle("idle", status.step === null)
      root.classList.toggle("valueless", valueless = status.gives_value === false)
      placeReturns()
    }),
    subscribe("inputs", (_, all) => root.classList.toggle("pictures", all.planes !== null || all.past !== null)),
    subscribe("features", source => {
      root.classList.toggle("vector", vector = source.rows.length > 0)
      root.style.setProperty("--beside", `${besideOf(source.rows.length)}px`)
      placeReturns()
    }),
    subscribe("stage", source => {
      if (!("frame" in source)) return
      root.classList.toggle("blind", blind = source.frame === null)
      root.classList.toggle("wide", source.frame !== null && source.frame.shape[1] > 1.2 * source.frame.shape[0])
      placeReturns()
    }),
    subscribe("pinned", (_, source) => root.classList.toggle("pinned", Boolean(source.pin))),
    subscribe("episodes", source => root.classList.toggle("first", !source.count)),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

/** Pixels that the left column needs for all but the picture: both cards' edges and headers, and a handful of features. */
function besideOf(features) {
  const rows = features > 12 ? Math.ceil(features / 2) * 19 : features * 24
  return 142 + Math.min(rows, 8 * 24)
}
