// A row for each feature of a vector observation: its value, and how much actor and critic depend on it.

import {subscribe} from "./feed.js"
import {keysOf} from "./heat.js"
import {card, dress, h, number, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("features", model.heading)
  const table = h("div", {class: "bars features", role: "table"}), more = h("button", {type: "button", class: "further", hidden: true})
  body.append(table)
  root.append(more)
  root.classList.toggle("difference", model.source.endsWith("difference"))
  let rows = [], drawnKeys = null

  function drawKeys({layers, signed, names}) {
    const scale = names ? "difference" : signed ? "signed" : "magnitude"
    const wanted = `${scale} ${names} ${layers.map(({target, title}) => `${target} ${title}`)}`
    if (wanted === drawnKeys) return
    drawnKeys = wanted
    table.classList.toggle("signed", signed)
    table.classList.toggle("both", layers.length > 1)
    aside.replaceChildren(...layers.length ? keysOf(layers, scale, names) : [])
    aside.title = signed && layers.length > 1 ? "the upper bar is the actor's, the lower one the critic's" : ""
  }

  function makeRows(count) {
    rows = Array.from({length: count}, makeRow)
    table.replaceChildren(makeHead(), makeHead(), ...rows.map(row => row.root))  // the second for the second column of many
    table.classList.toggle("many", count > 12)
  }

  /** Say how many rows are below what is seen of the list. */
  function tellMore() {
    const end = body.getBoundingClientRect().bottom
    const below = rows.filter(row => row.root.getBoundingClientRect().bottom > end + 4).length
    more.hidden = below === 0
    put(more, `${below} more ↓`)
  }
  body.addEventListener("scroll", tellMore, {passive: true})
  more.addEventListener("click", () => body.scrollBy({top: body.clientHeight - 40, behavior: "smooth"}))
  const fit = new ResizeObserver(tellMore)
  fit.observe(body)
  fit.observe(table)

  // where there is no picture, the rows have all the room
  const stopStage = subscribe("stage", source => { if ("frame" in source) root.classList.toggle("alone", source.frame === null) })
  const stop = subscribe(model.source, source => {
    if (rows.length !== source.rows.length) makeRows(source.rows.length)
    put(caption, source.methods.length ? `by ${source.methods.join(" and ").toLowerCase()}` : "")
    caption.title = source.methods.length ? "how much the policy depends on each value" : ""
    source.rows.forEach((row, index) => drawRow(rows[index], row, source))
  })
  // together with the policy's bars and the map's age: drawn at once it would speak of a later step than they
  const stopKeys = subscribe(model.source, (_, source) => drawKeys(source), {calm: true})
  model.on("remove", () => { stop(); stopKeys(); stopStage(); fit.disconnect() })
  return root
}

function makeHead() {
  return h("div", {class: "head", role: "row"}, ...["feature", "score", "value"].map(text => h("span", {role: "columnheader"}, text)))
}

function makeRow() {
  const name = h("span", {class: "name", role: "rowheader"}), value = h("span", {class: "value", role: "cell"})
  const actor = h("i", {class: "fill actor"}), critic = h("i", {class: "fill critic"})
  const tracks = h("span", {class: "tracks"}, h("span", {class: "track"}, actor), h("span", {class: "track"}, critic))
  return {root: h("div", {class: "row", role: "row"}, name, tracks, value), name, value, actor, critic}
}

function drawRow(row, {name, value, scores}, {layers, signed}) {
  put(row.name, name)
  row.name.title = name
  put(row.value, number(value))
  const other = layers.map(layer => layer.target).find(target => target !== "critic")
  row.actor.classList.toggle("part", other !== undefined && other !== "actor")
  drawFill(row.actor, scores[other], signed)
  drawFill(row.critic, scores.critic, signed)
  const critic = layers.some(layer => layer.target === "critic")
  row.actor.parentElement.hidden = critic && other === undefined  // without a map one empty track is left
  row.critic.parentElement.hidden = !critic
}

/** Draw a share of -1…1: from the left, or, where its sign counts, from the middle. */
function drawFill(fill, share = 0, signed) {
  const wide = Math.abs(share) * (signed ? 50 : 100)
  fill.style.width = `${wide}%`
  fill.style.left = signed ? `${share < 0 ? 50 - wide : 50}%` : "0"
  fill.classList.toggle("against", signed && share < 0)
}
