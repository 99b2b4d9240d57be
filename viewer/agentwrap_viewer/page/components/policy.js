// A row for each action: its probability, its Q-value, or the interval the action is drawn from.

import {subscribe} from "./feed.js"
import {card, dress, h, number, put} from "./kit.js"

export const KINDS = {
  probabilities: ["Policy", "π(a|s), %"],
  q_values: ["Q-values", "Q(s, a)"],
  gaussian: ["Policy", "mean ± deviation"],
  action: ["Action", "outputs of this step not seen"],
  none: ["Policy", ""],
}

export async function render({model, el}) {
  await dress(el)
  const {root, heading, caption, aside, body} = card("policy", "Policy")
  const table = h("div", {class: "bars", role: "table"})
  const empty = h("p", {class: "empty"})
  body.append(table, empty)
  let rows = [], outputs = false, awaiting = ""

  const drawEmpty = () => {
    empty.hidden = outputs || !awaiting
    put(empty, awaiting)
  }

  function makeRows(count) {
    while (rows.length < count) rows.push(makeRow())
    rows.forEach(row => row.root.remove())
    table.append(...rows.slice(0, count).map(row => row.root))
    table.classList.toggle("many", count > 12)
  }

  const stopStatus = subscribe("status", (_, status) => { awaiting = status.awaiting; drawEmpty() })
  const stop = subscribe("policy", source => {
    const [title, text] = KINDS[source.kind]
    put(heading, title)
    put(caption, text)
    put(aside, source.invalid ? "not finite" : source.hidden ? `${source.hidden} more` : "")
    aside.classList.toggle("bad", Boolean(source.invalid))
    root.dataset.kind = source.kind
    outputs = !["none", "action"].includes(source.kind)
    drawEmpty()
    if (table.children.length !== source.rows.length) makeRows(source.rows.length)
    const draw = source.kind === "gaussian" ? drawInterval : drawBar
    const scale = scaleOf(source)
    source.rows.forEach((row, index) => draw(rows[index], row, scale))
  }, {calm: true})
  model.on("remove", () => { stop(); stopStatus() })
  return root
}

function makeRow() {
  const name = h("span", {class: "name", role: "rowheader"}), value = h("span", {class: "value", role: "cell"})
  const fill = h("i", {class: "fill"}), mark = h("i", {class: "mark"})
  const root = h("div", {class: "row", role: "row"}, name, h("span", {class: "track"}, fill, mark), value)
  return {root, name, value, fill, mark}
}

/** The range that bars are drawn in, and where zero is in it. */
export function scaleOf({kind, rows, low, high}) {
  if (kind === "probabilities") return {low: 0, high: 1}
  if (kind === "gaussian") return {low, high}
  const values = rows.map(row => row.value).filter(value => value !== null)
  const lowest = Math.min(0, ...values), highest = Math.max(0, ...values)
  return {low: lowest, high: highest > lowest ? highest : lowest + 1}
}

export const share = (value, {low, high}) => Math.max(0, Math.min(1, (value - low) / (high - low))) * 100

function drawBar(row, {name, value, taken}, scale) {
  put(row.name, name)
  row.root.classList.toggle("taken", Boolean(taken))
  row.root.title = taken ? `${name} (taken)` : name
  row.mark.style.display = "none"
  const percent = scale.low === 0 && scale.high === 1
  put(row.value, value === null ? "–" : percent ? (value * 100).toFixed(1) : number(value))
  const zero = share(0, scale), end = value === null ? zero : share(value, scale)
  row.fill.style.left = `${Math.min(zero, end)}%`
  row.fill.style.width = `${Math.abs(end - zero)}%`
}

function drawInterval(row, {name, value, deviation, action}, scale) {
  put(row.name, name)
  row.root.title = action === null ? name : `${name}: did ${number(action)}`
  row.root.classList.remove("taken")
  put(row.value, deviation === null ? number(value) : `${number(value)} ± ${number(deviation)}`)
  const spread = deviation === null ? 0 : deviation
  const from = value === null ? 0 : share(value - spread, scale), to = value === null ? 0 : share(value + spread, scale)
  row.fill.style.left = `${from}%`
  row.fill.style.width = `${Math.max(to - from, value === null ? 0 : 0.8)}%`
  row.mark.style.display = action === null ? "none" : ""
  row.mark.style.left = `${action === null ? 0 : share(action, scale)}%`
}
