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
    const unasked = source.kind === "action" && source.probed
    put(caption, source.squashed ? "median and ±1 deviation, squashed" : unasked ? "this step was not probed" : text)
    caption.title = unasked ? "This policy is called to get its outputs, for some milliseconds of each second: not for every step." : ""
    put(aside, source.invalid ? "not finite" : source.hidden ? `${source.hidden} more` : "")
    aside.classList.toggle("bad", Boolean(source.invalid))
    root.dataset.kind = source.kind
    outputs = !["none", "action"].includes(source.kind)
    drawEmpty()
    if (table.children.length !== source.rows.length) makeRows(source.rows.length)
    const draw = source.kind === "gaussian" ? drawInterval : drawBar
    const scale = scaleOf(source)
    markZero(table, source.kind === "q_values" ? scale : null)
    source.rows.forEach((row, index) => {
      const explained = source.explained.includes(index)
      rows[index].root.classList.toggle("explained", explained)
      drawGroup(rows[index], row.group && row.group !== source.rows[index - 1]?.group ? row.group : "")
      draw(rows[index], row, scale)
      if (explained) rows[index].root.title += "; what the map explains"
    })
  }, {calm: true})
  model.on("remove", () => { stop(); stopStatus() })
  return root
}

function makeRow() {
  const name = h("span", {class: "name", role: "rowheader"}), value = h("span", {class: "value", role: "cell"})
  const fill = h("i", {class: "fill"}), middle = h("i", {class: "middle"}), mark = h("i", {class: "mark"})
  const root = h("div", {class: "row", role: "row"}, name, h("span", {class: "track"}, fill, middle, mark), value)
  return {root, name, value, fill, middle, mark}
}

/** Begins a group of rows, those of one of several choices. */
function drawGroup({root}, group) {
  root.classList.toggle("first", Boolean(group))
  if (group) root.dataset.group = group
}

/** The range that bars are drawn in, and where zero is in it. */
export function scaleOf({kind, rows, low, high}) {
  if (kind === "probabilities") return {low: 0, high: 1}
  if (kind === "gaussian") return {low, high}
  const values = rows.map(row => row.value).filter(value => value !== null)
  const lowest = Math.min(0, ...values), highest = Math.max(0, ...values)
  return {low: lowest, high: highest > lowest ? highest : lowest + 1}
}

/** Draw a line where zero is in each track of a table, where bars may go to its left; none without a scale. */
export function markZero(table, scale) {
  table.classList.toggle("zeroed", scale !== null && scale.low < 0)
  if (scale !== null) table.style.setProperty("--zero", `${share(0, scale)}%`)
}

/** Scales as long as before or longer, in all of which zero is at the same place. */
export function alignedAtZero(scales) {
  const sizes = scales.map(({low, high}) => Math.max(-low, high))
  const below = Math.max(...scales.map(({low}, index) => -low / sizes[index])), above = Math.max(...scales.map(({high}, index) => high / sizes[index]))
  return sizes.map(size => ({low: -size * below, high: size * above}))
}

export const share = (value, {low, high}) => Math.max(0, Math.min(1, (value - low) / (high - low))) * 100

function drawBar(row, {name, value, taken, masked}, scale) {
  put(row.name, name)
  row.root.classList.toggle("taken", Boolean(taken))
  row.root.classList.toggle("masked", Boolean(masked))
  row.root.title = masked ? `${name}: masked, could not be chosen` : taken ? `${name} (taken)` : name
  row.mark.style.display = row.middle.style.display = "none"
  const percent = scale.low === 0 && scale.high === 1
  put(row.value, masked ? "masked" : value === null ? "–" : percent ? (value * 100).toFixed(1) : number(value))
  const zero = share(0, scale), end = value === null ? zero : share(value, scale)
  row.fill.style.left = `${Math.min(zero, end)}%`
  row.fill.style.width = `${Math.abs(end - zero)}%`
}

/** An interval on the row's own axis, its middle, and the action that was done. */
function drawInterval(row, {name, value, from, to, deviation, action, low, high}) {
  put(row.name, name)
  row.root.classList.remove("taken", "masked")
  const known = [value, from, to].every(each => each !== null), scale = {low, high}
  const range = known && to > from ? `, ${number(from)} to ${number(to)}` : ""
  row.root.title = `${name}: ${number(value)}${range}${action === null ? "" : `; did ${number(action)}`}; bounds ${number(low)} to ${number(high)}`
  put(row.value, deviation === null ? number(value) : `${number(value)} ± ${number(deviation)}`)
  const start = known ? share(from, scale) : 0, end = known ? share(to, scale) : 0
  row.fill.style.left = `${start}%`
  row.fill.style.width = `${Math.max(end - start, known ? 0.8 : 0)}%`
  place(row.middle, known ? value : null, scale)
  place(row.mark, action, scale)
}

function place({style}, value, scale) {
  style.display = value === null ? "none" : ""
  style.left = `${value === null ? 0 : share(value, scale)}%`
}
