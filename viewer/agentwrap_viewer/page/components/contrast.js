// Both policies' outputs: for each action the left one's bar above the right one's.

import {subscribe} from "./feed.js"
import {card, dress, h, number, put} from "./kit.js"
import {alignedAtZero, KINDS, markZero, scaleOf, share} from "./policy.js"

const SIDES = ["left", "right"]

export async function render({model, el}) {
  await dress(el)
  const {root, heading, caption, aside, body} = card("contrast", "Policies")
  const table = h("div", {class: "bars pairs", role: "table"})
  const empty = h("p", {class: "empty"}, "computing what both do here")
  body.append(table, empty)
  let rows = [], names = null

  function makeRows(count) {
    rows = Array.from({length: count}, makeRow)
    table.replaceChildren(...rows.map(row => row.root))
    table.classList.toggle("many", count > 5)
  }

  function draw(source) {
    if (names !== source.names.join()) {
      names = source.names.join()
      aside.replaceChildren(...SIDES.map((side, index) => h("span", {class: `key ${side}`}, source.names[index])))
    }
    const both = [source.left, source.right], known = both.every(Boolean)
    table.hidden = !known
    empty.hidden = known
    put(empty, source.problem || "computing what both do here")
    if (!known) return
    const [title, text] = KINDS[both[0].kind]
    put(heading, title)
    const rated = both[0].kind === "q_values"
    put(caption, rated ? `${text}, each policy on its own scale` : text)
    if (rows.length !== both[0].rows.length) makeRows(both[0].rows.length)
    table.classList.toggle("interval", both[0].kind === "gaussian")
    const scales = rated ? alignedAtZero(both.map(scaleOf)) : both.map(() => scaleOf(merged(both)))
    markZero(table, rated ? scales[0] : null)
    rows.forEach((row, index) => {
      put(row.name, both[0].rows[index].name)
      row.name.title = both[0].rows[index].name
      both.forEach((one, side) => drawBar(row.sides[side], one.rows[index], scales[side], one.kind))
    })
  }

  const stop = subscribe("contrast", (_, source) => draw(source), {calm: true})
  model.on("remove", stop)
  return root
}

function makeRow() {
  const name = h("span", {class: "name", role: "rowheader"})
  const sides = SIDES.map(side => {
    const fill = h("i", {class: `fill ${side}`})
    return {fill, track: h("span", {class: "track"}, fill), value: h("span", {class: `value ${side}`, role: "cell"})}
  })
  const root = h("div", {class: "row", role: "row"}, name,
    h("span", {class: "tracks"}, ...sides.map(side => side.track)), h("span", {class: "values"}, ...sides.map(side => side.value)))
  return {root, name, sides}
}

/** Both on one scale, so that their bars can be compared; Q-values of two policies have a scale each, with one zero. */
function merged([one, other]) {
  return {...one, low: Math.min(one.low, other.low), high: Math.max(one.high, other.high), rows: [...one.rows, ...other.rows]}
}

function drawBar({fill, track, value: text}, {value, taken, from: start = 0, to: end = value}, scale, kind) {
  const [from, to] = value === null ? [0, 0] : [share(start, scale), share(end, scale)]
  fill.style.left = `${Math.min(from, to)}%`
  fill.style.width = `${Math.max(Math.abs(to - from), kind === "gaussian" ? 0.8 : 0)}%`
  track.classList.toggle("taken", Boolean(taken))
  text.classList.toggle("taken", Boolean(taken))
  put(text, value === null ? "–" : kind === "probabilities" ? (value * 100).toFixed(1) : number(value))
}
