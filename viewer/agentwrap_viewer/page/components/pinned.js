// The pinned frame: a small map by each version of the policy, oldest first, and one of them large.

import {send, subscribe} from "./feed.js"
import {keysOf, kindOf} from "./heat.js"
import {card, dress, h, integer, number, put} from "./kit.js"
import {paintFrame, paintHeat} from "./picture.js"
import {button} from "./playback.js"
import {scaleOf, share as placeOf} from "./policy.js"

const DRAWN = ["probabilities", "q_values", "gaussian"]  // kinds of outputs that have bars
const MOST_BARS = 12  // actions beside a small map: of more nothing could be told apart

/** CSS pixels: the page's header, the gap to it and to the row, and what one map at large takes at least. */
const HEADER = 64, GAP = 8, LEAST = 240

/** The button that pins the step shown, or none any more: {element, toggle, stop}; hidden where there are no maps. */
export function pinButton(step) {
  let pinned = null
  const toggle = () => {
    if (pinned !== null) send({do: "pin", step: null})
    else if (step() !== null && !element.hidden) send({do: "pin", step: step()})
  }
  const element = button("pin round", "", toggle)
  element.hidden = true
  const stop = subscribe("pinned", (_, source) => {
    pinned = source.pin
    element.hidden = !source.possible
    element.setAttribute("aria-pressed", pinned !== null)
    element.title = pinned === null ? "Pin this frame: see how its map changes with the policy's versions (V)" : "Unpin the frame (V)"
    element.setAttribute("aria-label", element.title)
  })
  return {element, toggle, stop}
}

export async function render({model, el}) {
  await dress(el)
  const {root, heading, caption, aside, body} = card("pinned", "Pinned frame")
  const row = h("div", {class: "versions", role: "group", "aria-label": "Maps of the pinned frame by version of the policy"})
  const empty = h("p", {class: "empty"}, "computing the first map")
  const common = h("button", {type: "button", class: "tool", "aria-pressed": "false",
    title: "Full colour is the largest score of all versions; else of each its own"}, "common scale")
  const large = largeMap(choose, walk)
  const keys = h("span", {class: "keys"})
  aside.append(keys, common, button("close round", "Unpin the frame (V)", () => send({do: "pin", step: null})))
  body.append(row, empty)
  root.append(large.element)
  const cells = new Map()  // version -> what draws it
  let all = {pin: null, versions: []}, chosen = null, looked = null  // who looks at a map keeps it when it is thinned out

  common.addEventListener("click", () => {
    common.setAttribute("aria-pressed", common.getAttribute("aria-pressed") !== "true")
    drawAll()
  })

  const entry = version => all[`map/${version}`]
  const entries = () => all.versions.map(entry).filter(Boolean)

  /** The layers of a map, each with the strength of its largest score. */
  function layersOf({heat}) {
    if (!heat || common.getAttribute("aria-pressed") !== "true") return heat
    const largest = target => Math.max(...entries().flatMap(other => (other.heat || []).filter(layer => layer.target === target).map(layer => layer.full)))
    return heat.map(layer => ({...layer, strength: layer.full / (largest(layer.target) || 1)}))
  }

  function drawAll() {
    for (const version of all.versions) drawCell(version)
    drawLarge()
  }

  function drawLarge() {
    looked = chosen === null ? null : entry(chosen) || looked
    large.draw(looked, all, layersOf)
  }

  function drawCell(version) {
    if (!cells.has(version)) cells.set(version, makeCell(() => choose(version)))
    cells.get(version).draw(entry(version), all, layersOf)
  }

  function order() {
    for (const [version, cell] of cells) if (!all.versions.includes(version)) { cell.element.remove(); cells.delete(version) }
    const wanted = all.versions.map(version => cells.get(version).element)
    const atEnd = row.scrollLeft + row.clientWidth > row.scrollWidth - 8
    wanted.forEach((element, index) => { if (row.children[index] !== element) row.insertBefore(element, row.children[index] || null) })
    if (atEnd) requestAnimationFrame(() => { row.scrollLeft = row.scrollWidth })  // by then it is shown, if it was not
    empty.hidden = wanted.length > 0
  }

  /** Show a version large, or none (null, or the one that is). */
  function choose(version) {
    chosen = version === chosen || !all.versions.includes(version) ? null : version
    for (const [other, {element}] of cells) element.setAttribute("aria-pressed", other === chosen)
    drawLarge()
  }

  function walk(count) {
    const next = count < 0 ? all.versions.findLast(version => version < chosen) : all.versions.find(version => version > chosen)
    if (next === undefined) return
    choose(next)
    cells.get(next).element.scrollIntoView({block: "nearest", inline: "nearest"})
  }

  function describe() {
    const {pin} = all
    put(heading, `Pinned frame: step ${integer(pin.step)}`)
    put(caption, pin.probed ? "this policy is asked in the agent's process, which does not tell versions"
      : pin.recorded ? `by ${all.versions.length} of ${pin.awaited} version${pin.awaited === 1 ? "" : "s"} of the policy`
      : `by each version of the policy since v${integer(all.versions[0] ?? pin.version)}`)
    const first = entries().find(({heat, layers}) => heat || layers.length), layers = first?.heat || first?.layers || []
    const scale = first?.heat ? first.heat[0].scale : first?.signed ? "signed" : "magnitude"
    const told = layers.map(({target}) => `${target} ${scale}`).join()
    if (told === keys.dataset.told) return
    keys.dataset.told = told
    keys.replaceChildren(...(layers.length ? keysOf(layers, scale) : []))
  }

  // while the keyboard is in the row or in the large map, the arrows go from version to version
  root.addEventListener("keydown", event => {
    const count = {ArrowLeft: -1, ArrowRight: 1}[event.key]
    if (count === undefined || chosen === null) return
    walk(count)
    event.preventDefault()
    event.stopPropagation()
  })
  const leave = event => { if (event.key === "Escape" && chosen !== null) choose(null) }
  document.addEventListener("keydown", leave)

  const stop = subscribe("pinned", (changes, source) => {
    all = source
    if ("frame" in changes) {  // another pin
      cells.forEach(cell => cell.element.remove())
      cells.clear()
      choose(null)
    }
    if (all.pin === null) return choose(null)
    if ("versions" in changes) {
      for (const version of all.versions) if (`map/${version}` in changes || !cells.has(version)) drawCell(version)
      order()
      if (common.getAttribute("aria-pressed") === "true") drawAll()
      else drawLarge()
    }
    cells.forEach(cell => cell.age(all.pin.now))
    describe()
  })
  window.addEventListener("resize", drawLarge)
  model.on("remove", () => {
    stop()
    document.removeEventListener("keydown", leave)
    window.removeEventListener("resize", drawLarge)
  })
  return root
}

/** One small map: {element, draw, age}. */
function makeCell(press) {
  const name = h("b"), age = h("span", {class: "age"}), share = h("span", {class: "share"})
  const picture = pictureOf(), bars = h("span", {class: "few"}), best = h("span", {class: "best"}), value = h("span", {class: "worth"})
  const element = h("button", {type: "button", class: "version", onclick: press, "aria-pressed": "false"},
    picture.element, h("span", {class: "what"}, h("span", {class: "head"}, name, age), bars, best, value))
  picture.element.append(share)
  let began = null
  return {
    element,
    draw: (entry, all, layersOf) => {
      began = entry.began
      put(name, entry.name)
      picture.draw(all.frame, entry, layersOf(entry))
      const rows = entry.rows.length <= MOST_BARS ? entry.rows : [], scale = scaleOf(entry)
      bars.replaceChildren(...(DRAWN.includes(entry.kind) ? rows.map(row => barOf(row, entry.kind, scale)) : []))
      put(best, entry.best ? `${entry.best.name} ${written(entry.best.value, entry.kind)}` : "")
      put(value, entry.value === null ? "" : `V ${number(entry.value)}`)
      share.hidden = entry.refined >= 1
      put(share, `${percent(entry.refined)} %`)
      element.title = `${entry.name}: ${entry.method}${entry.refined < 1 ? `, ${percent(entry.refined)} % computed` : ""}`
    },
    age: now => put(age, now === null || began === null ? "" : ago(now - began)),
  }
}

/** A frame with heat over it, or a vector's features: {element, draw}. */
function pictureOf() {
  const frame = h("canvas", {class: "frame", width: 1, height: 1}), heat = h("canvas", {class: "heat", width: 1, height: 1})
  const features = h("span", {class: "scores"}), element = h("span", {class: "picture"}, frame, heat, features)
  let painted = null
  return {element, draw: (picture, entry, layers) => {
    const vector = !entry.heat && entry.features.length > 0
    element.classList.toggle("vector", vector)
    frame.hidden = heat.hidden = vector || !picture
    features.hidden = !vector
    if (vector) return features.replaceChildren(...entry.features.map(feature => scoresOf(feature, entry.signed)))
    if (!picture) return
    if (painted !== picture) paintFrame(frame, painted = picture)
    element.style.setProperty("--ratio", picture.shape[1] / picture.shape[0])
    paintHeat(heat, layers)
  }}
}

function scoresOf({name, scores}, signed) {
  const fills = Object.entries(scores).map(([target, score]) => {
    const fill = h("i", {class: `fill ${signed ? (score < 0 ? "against" : "for") : kindOf(target)}`})
    fill.style.width = `${100 * Math.abs(score)}%`
    return h("i", {class: "track"}, fill)
  })
  return h("span", {class: "feature", title: name}, h("span", {class: "name"}, name), ...fills)
}

/** A bar from zero, or the interval that a continuous action is drawn from, on its own axis. */
function barOf(row, kind, scale) {
  const fill = h("i", {class: row.taken ? "taken" : ""}), own = kind === "gaussian" ? row : scale
  const [from, to] = kind === "gaussian" ? [row.from, row.to] : [0, row.value]
  const known = from !== null && to !== null, start = known ? placeOf(from, own) : 0, end = known ? placeOf(to, own) : 0
  fill.style.left = `${Math.min(start, end)}%`
  fill.style.width = `${known ? Math.max(Math.abs(end - start), kind === "gaussian" ? 2 : 0) : 0}%`
  return h("span", {}, fill)
}

/** One map large, with what its version computes: {element, draw}. */
function largeMap(choose, walk) {
  const title = h("strong"), said = h("span", {class: "said"}), picture = pictureOf()
  const table = h("div", {class: "bars", role: "table"}), value = h("p", {class: "worth"})
  const before = button("back", "The version before (←)", () => walk(-1)), after = button("on", "The next version (→)", () => walk(1))
  const element = h("div", {class: "large", role: "dialog", "aria-label": "One map of the pinned frame", hidden: true},
    h("header", {}, title, said, before, after, button("close", "Close (Esc)", () => choose(null))),
    h("div", {class: "both"}, picture.element, h("div", {class: "outputs"}, table, value)))
  return {element, draw: (entry, all, layersOf) => {
    element.hidden = !entry
    if (!entry) return
    const room = element.parentElement.getBoundingClientRect().top - HEADER - 2 * GAP
    element.style.setProperty("--room", `${Math.max(LEAST, room)}px`)
    put(title, entry.name)
    const age = all.pin.now === null || entry.began === null ? "" : `${ago(all.pin.now - entry.began)} old · `
    put(said, `${age}${entry.method}${entry.refined < 1 ? ` · ${percent(entry.refined)} % of it computed` : ""}`)
    before.disabled = !all.versions.some(version => version < entry.version)
    after.disabled = !all.versions.some(version => version > entry.version)
    picture.draw(all.frame, entry, layersOf(entry))
    const scale = scaleOf(entry)
    table.classList.toggle("many", entry.rows.length > 12)
    table.replaceChildren(...entry.rows.map(row => rowOf(row, entry.kind, scale)))
    put(value, entry.value === null ? "" : `V(s) ${number(entry.value)}`)
  }}
}

function rowOf(row, kind, scale) {
  const track = h("span", {class: "track"})
  if (DRAWN.includes(kind)) {
    const {style} = track.appendChild(h("i", {class: "fill"})), bar = barOf(row, kind, scale).firstChild.style
    style.left = bar.left
    style.width = bar.width
  }
  const root = h("div", {class: `row${row.taken ? " taken" : ""}`, role: "row"}, h("span", {class: "name", role: "rowheader"}, row.name),
    track, h("span", {class: "value", role: "cell"}, row.value === null ? "–" : written(row.value, kind)))
  root.title = row.taken ? "the action that was taken at this step" : ""
  return root
}

const percent = share => Math.floor(share * 100 + 1e-6)

const written = (value, kind) => kind === "probabilities" ? `${(100 * value).toFixed(1)} %` : number(value)

/** Seconds in words. */
function ago(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`
}
