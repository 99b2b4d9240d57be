// Where the parts of the page that compares are: the same frame three times, below it what both policies compute.

import {onNotices} from "./closed.js"
import {subscribe} from "./feed.js"
import {dress, h} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const slot = name => h("div", {class: `slot ${name}`}, model.get_child(name))
  const side = name => h("div", {class: `side ${name}`}, slot(name), slot(`features_${name}`))
  const root = h("div", {class: "deck compare idle"}, slot("notices"),
    h("div", {class: "sides"}, side("left"), side("difference"), side("right")),
    h("div", {class: "below"}, slot("contrast"), slot("agreement")), slot("transport"))

  const stops = [
    onNotices(items => root.classList.toggle("quiet", !items.length)),
    subscribe("status", (_, status) => root.classList.toggle("idle", status.step === null)),
    subscribe("features", source => root.classList.toggle("vector", source.rows.length > 0)),
    subscribe("stage", source => {
      if ("frame" in source) root.classList.toggle("blind", source.frame === null)
    }),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}
