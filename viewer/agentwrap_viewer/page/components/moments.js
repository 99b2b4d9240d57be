// The list of what is marked on the timeline: opened from the bar, filtered by kind, each line goes to its place.

import {send} from "./feed.js"
import {h, integer, put} from "./kit.js"
import {glyph, labelOf, line} from "./marks.js"

const LONGEST_NOTE = 500

/** Lines shown at most: more than there are of a long recording. Those outside of the view cost little, see page.css. */
const SHOWN = 5000

/**
 * The button and the panel that it opens. `go(position)` is called where a mark is chosen, `changed()` when the marks to
 * be drawn are others. `marks` are those of the kinds that are not left out; `show(items, position)` renews the list.
 */
export function momentsPanel({go, changed}) {
  const hidden = new Set()
  let items = [], here = -1, lines = new Map()  // a line for each mark, kept while others come
  const list = h("div", {class: "list"}), kinds = h("div", {class: "kinds", role: "group", "aria-label": "Kinds of moments"})
  const more = h("p", {class: "more"}), none = h("p", {class: "none"}, "Nothing is marked.")
  const form = noteForm()
  const panel = h("section", {class: "moments", "aria-label": "Moments", hidden: true}, form.root, kinds, list, more, none)
  const count = h("span", {class: "count"})
  const button = h("button", {type: "button", class: "open", title: "Moments of this recording (M)", "aria-expanded": "false",
    onclick: () => open(panel.hidden)}, glyph("td_error"), h("span", {class: "name"}, "Moments"), count)

  function open(wanted) {
    panel.hidden = !wanted
    button.setAttribute("aria-expanded", wanted)
    if (wanted) { drawList(); reveal() }
  }

  const visible = () => items.filter(mark => !hidden.has(mark.kind))

  function drawKinds() {
    const numbers = new Map()
    for (const {kind} of items) numbers.set(kind, (numbers.get(kind) || 0) + 1)
    kinds.replaceChildren(...[...numbers].sort().map(([kind, number]) => h("button", {
      type: "button", class: "kind", "data-kind": kind, "aria-pressed": String(!hidden.has(kind)),
      title: hidden.has(kind) ? "Show these" : "Leave these out",
      onclick: () => {
        if (!hidden.delete(kind)) hidden.add(kind)
        drawKinds(); drawList(); changed()
      },
    }, glyph(kind), `${labelOf(kind)} ${integer(number)}`)))
    put(count, integer(visible().length))
  }

  function drawList() {
    if (panel.hidden) return
    const marks = visible(), before = lines
    lines = new Map(marks.slice(0, SHOWN).map(mark => {
      const key = JSON.stringify(mark)
      return [key, before.get(key) || line(mark, integer(mark.step), () => go(mark.position))]
    }))
    list.replaceChildren(...lines.values())
    put(more, marks.length > SHOWN ? `and ${integer(marks.length - SHOWN)} more, which are on the timeline` : "")
    none.hidden = marks.length > 0
    point()
  }

  /** Mark the line of the step shown. */
  function point() {
    visible().slice(0, SHOWN).forEach((mark, index) => list.children[index]?.classList.toggle("here", mark.position === here))
  }

  function reveal() {
    const before = visible().slice(0, SHOWN).findLastIndex(mark => mark.position <= here)
    list.children[Math.max(0, before)]?.scrollIntoView({block: "nearest"})
  }

  return {
    button, panel,
    get marks() { return visible() },
    toggle: () => open(panel.hidden),
    close: () => open(false),
    /** Have the user write a note for a step. */
    bookmark(step) {
      const own = items.find(mark => mark.kind === "bookmark" && mark.step === step)
      open(true)
      form.ask(step, own ? own.text : null)
    },
    show(marks) { items = marks; drawKinds(); drawList(); changed() },
    at(position) {
      if (position === here) return
      here = position
      if (!panel.hidden) point()
    },
  }
}

/** Asks for a bookmark's note; `ask(step, note)` begins, with the note there is or null. Enter saves, Escape leaves it. */
function noteForm() {
  let step = null
  const input = h("input", {type: "text", class: "note", maxLength: LONGEST_NOTE, placeholder: "Note (may be empty)", autocomplete: "off"})
  const remove = h("button", {type: "button", class: "plain", onclick: () => finish({note: null})}, "Remove")
  const label = h("span", {class: "what"})
  const root = h("form", {class: "bookmark", hidden: true}, glyph("bookmark"), label, input,
    h("button", {type: "submit", class: "save"}, "Save"), remove)
  function finish(answer) {
    if (answer !== null) send({do: "bookmark", step, ...answer})
    root.hidden = true
    input.blur()
  }
  root.addEventListener("submit", event => { event.preventDefault(); finish({note: input.value}) })
  root.addEventListener("keydown", event => { if (event.key === "Escape") finish(null) })
  return {root, ask(number, note) {
    step = number
    put(label, `Step ${integer(step)}`)
    input.setAttribute("aria-label", `Note for step ${integer(step)}`)
    input.value = note || ""
    remove.hidden = note === null
    root.hidden = false
    input.focus()
  }}
}
