// The list of all agents and their environments, with their returns: opened from the header, searched, sorted.

import {send, subscribe} from "./feed.js"
import {byPointer, focused} from "./focus.js"
import {h, integer, number, put} from "./kit.js"

const RULES = {none: "Stay", best: "Best", worst: "Worst", newest: "Newest"}
const HINTS = {
  none: "Stay with the one that is shown",
  best: "Whenever the episode shown ends, turn to the one whose last episode returned most",
  worst: "Whenever the episode shown ends, turn to the one whose last episode returned least",
  newest: "Whenever the episode shown ends, turn to the one that began last",
}
const COLUMNS = [
  {key: "name", label: "Agent", text: row => label(row)},
  {key: "last", label: "Return", hint: "of the last episode", text: row => number(row.last)},
  {key: "running", label: "So far", hint: "return of the episode in progress", text: row => number(row.running)},
  {key: "episodes", label: "Episodes", text: row => integer(row.episodes)},
  {key: "rate", label: "Steps / s", hint: "of the agent, all its environments stepping together", text: row => row.rate !== null && row.rate < 100 ? row.rate.toFixed(1) : integer(row.rate)},
]

const key = row => `${row.endpoint} ${row.environment}`
const label = row => row.of > 1 ? `${row.name} · ${row.environment}` : row.name

/** Returns {button, panel, stop}: `button` opens the list, and holds what the header says of the agent that is shown. */
export function roster(...inside) {
  let section = {open: false}, before = null, sorted = "last", down = true, rows = []
  let lines = new Map()  // by what they stand for: a line that moves stays the same environment's
  const chevron = h("span", {class: "chevron", "aria-hidden": "true"}, "▾")
  const button = h("button", {type: "button", class: "pill", title: "All agents and environments (A)", "aria-expanded": "false",
    onclick: () => open(!section.open)}, ...inside, chevron)
  const search = h("input", {type: "search", placeholder: "Search by name or number", "aria-label": "Search", oninput: () => draw()})
  const rules = Object.entries(RULES).map(([rule, text]) => h("button", {type: "button", title: HINTS[rule], "data-rule": rule,
    onclick: () => send({do: "choose", rule})}, text))
  const heads = COLUMNS.map(column => h("button", {type: "button", title: column.hint || "", "data-key": column.key, onclick: () => {
    down = sorted === column.key ? !down : column.key !== "name"
    sorted = column.key
    draw()
  }}, column.label))
  const list = h("div", {class: "list", role: "listbox", "aria-label": "Agents and environments"}), foot = h("p", {class: "foot"})
  const panel = h("section", {class: "roster", "aria-label": "Agents", hidden: true},
    h("header", {}, search, h("div", {class: "rules", role: "group", "aria-label": "Follow"}, h("span", {}, "Follow"), ...rules)),
    h("div", {class: "heads"}, ...heads), list, foot)

  function open(wanted) {
    section.open = wanted
    panel.hidden = !wanted
    if (wanted) panel.style.left = `${Math.max(8, Math.min(button.getBoundingClientRect().left, innerWidth - 628))}px`
    button.setAttribute("aria-expanded", wanted)
    send({do: "list", open: wanted})
    if (wanted) { before = byPointer() ? null : focused(); search.focus() }
  }

  /** Give the focus back to what had it before the list; of the page's own keys the button would take the space bar. */
  function leave() {
    if (before && before !== document.body) before.focus()
    else focused().blur()
  }

  function take() {
    rows = (section.rows || []).map(values => Object.fromEntries(section.columns.map((name, index) => [name, values[index]])))
    draw({still: list.matches(":hover") || list.querySelector(":focus-visible") !== null})
  }

  function found() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean)
    // a number is one of an agent's or an environment's own, not that of a version of the game
    const text = (row, word) => (/^\d+$/.test(word) ? label(row) : `${label(row)} ${row.env_id}`).toLowerCase()
    return rows.filter(row => words.every(word => text(row, word).includes(word)))
  }

  /** Those without a number come last, whichever way the others go. */
  function compare(one, other) {
    const a = sorted === "name" ? null : one[sorted], b = sorted === "name" ? null : other[sorted]
    if ((a === null) !== (b === null)) return a === null ? 1 : -1
    const names = one.name.localeCompare(other.name, "en", {numeric: true}) || one.environment - other.environment
    if (a === null || a === b) return sorted === "name" && down ? -names : names
    return down ? b - a : a - b
  }

  /** Renew the list; `still` leaves the lines in their order, for who is about to press one. */
  function draw({still = false} = {}) {
    if (panel.hidden) return
    for (const each of rules) each.setAttribute("aria-pressed", each.dataset.rule === section.rule)
    heads.forEach(head => { head.dataset.sorted = head.dataset.key === sorted ? (down ? "down" : "up") : "" })
    const shown = found().sort(compare)
    const wanted = still ? held(shown) : shown
    lines = new Map(wanted.map(row => [key(row), lines.get(key(row)) || line()]))
    for (const row of wanted) fill(lines.get(key(row)), row)
    const ordered = [...lines.values()]
    if (ordered.length !== list.children.length || ordered.some((element, index) => element !== list.children[index])) list.replaceChildren(...ordered)
    const more = (section.count || 0) - rows.length
    const many = rows.length === 1 ? "1 environment" : `${integer(shown.length)} of ${integer(rows.length)} environments`
    put(foot, shown.length || !rows.length ? `${many}${more > 0 ? `, and ${integer(more)} more that are not listed` : ""}` : "Nothing is called that.")
  }

  /** These rows where they are in the list, and those that are new at its end. */
  function held(shown) {
    const places = new Map([...lines.keys()].map((name, index) => [name, index]))
    const place = row => places.get(key(row)) ?? places.size
    return shown.sort((one, other) => place(one) - place(other))
  }

  function line() {
    const element = h("button", {type: "button", class: "row", role: "option", onclick: () => {
      send({do: "watch", endpoint: element.row.endpoint, environment: element.row.environment})
    }}, ...COLUMNS.map(() => h("span")))
    return element
  }

  function fill(element, row) {
    element.row = row
    COLUMNS.forEach((column, index) => put(element.children[index], column.text(row)))
    element.setAttribute("aria-selected", row.endpoint === section.endpoint && (row.of === 1 || row.environment === section.environment))
  }

  const onKey = event => {
    const typing = event.composedPath()[0]?.matches?.("input, textarea, select")
    if (event.key === "Escape" && section.open) { open(false); leave() }
    else if (event.key.toLowerCase() === "a" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); open(!section.open) }
  }
  const onPress = event => { if (section.open && !event.composedPath().some(each => each === panel || each === button)) open(false) }
  document.addEventListener("keydown", onKey)
  document.addEventListener("pointerdown", onPress)
  const stop = subscribe("roster", changes => {
    const wanted = section.open
    section = {...section, ...changes, open: wanted}
    button.classList.add("opens")
    take()
  }, {calm: true})
  const stopLink = subscribe("link", ({connected}) => { if (connected && section.open) send({do: "list", open: true}) })
  return {button, panel, stop: () => {
    stop(); stopLink()
    document.removeEventListener("keydown", onKey)
    document.removeEventListener("pointerdown", onPress)
  }}
}
