// Rows of features: name, a bar for each target, value. The player of exported runs has this file in itself.

import {h, number, put} from "./elements.js"

/**
 * Draw into an element of the class `bars features`: returns what takes {rows, layers, signed} and shows it. A row has `name`,
 * `value` and `scores` by target, -1…1, null where the map has none of it; a layer has `target`; where scores are `signed` they are drawn from the middle.
 */
export function barsIn(table) {
  let bars = []
  return source => {
    if (bars.length !== source.rows.length) {
      bars = source.rows.map(barOf)
      table.replaceChildren(headOf(), headOf(), ...bars.map(bar => bar.root))  // the second for the second column of many
      table.classList.toggle("many", bars.length > 12)
    }
    table.classList.toggle("signed", Boolean(source.signed))
    table.classList.toggle("both", source.layers.length > 1)
    source.rows.forEach((row, index) => drawBar(bars[index], row, source))
  }
}

function headOf() {
  return h("div", {class: "head", role: "row"}, ...["feature", "score", "value"].map(text => h("span", {role: "columnheader"}, text)))
}

function barOf() {
  const name = h("span", {class: "name", role: "rowheader"}), value = h("span", {class: "value", role: "cell"})
  const actor = h("i", {class: "fill actor"}), critic = h("i", {class: "fill critic"})
  const tracks = h("span", {class: "tracks"}, h("span", {class: "track"}, actor), h("span", {class: "track"}, critic))
  return {root: h("div", {class: "row", role: "row"}, name, tracks, value), name, tracks, value, actor, critic}
}

function drawBar(row, {name, value, scores}, {layers, signed}) {
  put(row.name, name)
  row.name.title = name
  put(row.value, number(value))
  const other = layers.map(layer => layer.target).find(target => target !== "critic")
  row.actor.classList.toggle("part", other !== undefined && other !== "actor")
  drawFill(row.actor, scores[other], signed)
  drawFill(row.critic, scores.critic, signed)
  // a bar of no length would say that nothing depends on it
  const unscored = layers.length > 0 && layers.every(layer => scores[layer.target] === null)
  row.root.classList.toggle("unscored", unscored)
  row.tracks.title = unscored ? "The method has no scores for an entry of this kind" : ""
  const critic = layers.some(layer => layer.target === "critic")
  row.actor.parentElement.hidden = critic && other === undefined  // without a map one empty track is left
  row.critic.parentElement.hidden = !critic
}

/** Draw a share of -1…1: from the left, or, where its sign counts, from the middle. */
function drawFill(fill, given, signed) {
  const share = given ?? 0
  const wide = Math.abs(share) * (signed ? 50 : 100)
  fill.style.width = `${wide}%`
  fill.style.left = signed ? `${share < 0 ? 50 - wide : 50}%` : "0"
  fill.classList.toggle("against", signed && share < 0)
}
