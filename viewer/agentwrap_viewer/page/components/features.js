// A row for each feature of a vector observation: its value, and how much actor and critic depend on it.

import {subscribe} from "./feed.js"
import {card, dress, h, number, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("features", "Observation")
  const table = h("div", {class: "bars features", role: "table"})
  body.append(table)
  let rows = []

  function makeRows(count) {
    rows = Array.from({length: count}, makeRow)
    table.replaceChildren(...rows.map(row => row.root))
    table.classList.toggle("many", count > 12)
  }

  const stop = subscribe("features", source => {
    if (rows.length !== source.rows.length) makeRows(source.rows.length)
    put(caption, source.targets.length ? "what the policy depends on" : "")
    aside.replaceChildren(...source.targets.map(target => h("span", {class: `key ${kind(target)}`}, target)))
    source.rows.forEach((row, index) => drawRow(rows[index], row))
  })
  model.on("remove", stop)
  return root
}

const kind = target => target === "critic" ? "critic" : "actor"

function makeRow() {
  const name = h("span", {class: "name", role: "rowheader"}), value = h("span", {class: "value", role: "cell"})
  const actor = h("i", {class: "fill actor"}), critic = h("i", {class: "fill critic"})
  const tracks = h("span", {class: "tracks"}, h("span", {class: "track"}, actor), h("span", {class: "track"}, critic))
  return {root: h("div", {class: "row", role: "row"}, name, tracks, value), name, value, actor, critic}
}

function drawRow(row, {name, value, scores}) {
  put(row.name, name)
  row.name.title = name
  put(row.value, number(value))
  const others = Object.entries(scores).filter(([target]) => target !== "critic").map(([, score]) => score)
  row.actor.style.width = `${Math.abs(others[0] || 0) * 100}%`
  row.critic.style.width = `${Math.abs(scores.critic || 0) * 100}%`
}
