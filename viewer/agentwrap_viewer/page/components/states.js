// The map of inner states: its points, what they are coloured by, and what the pointer does on it.

import {ask, frameOf, listen} from "./atlas.js"
import {send, subscribe} from "./feed.js"
import {byPointer} from "./focus.js"
import {card, colour, crisp, dress, h, integer, number, onTheme, put} from "./kit.js"
import {paintFrame} from "./picture.js"
import {Points, paint} from "./points.js"
import {category, gradient, unknownText} from "./ramps.js"
import {onView} from "./view.js"

const NEAR = 10           // CSS pixels within which a point is under the pointer
const TRAIL = 40          // steps whose way to the one shown is drawn
const MARGIN = 24         // CSS pixels around the points
const KEY = "agentwrap-states-colour"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("states", "State map")
  const canvas = h("canvas", {class: "points", "aria-hidden": "true"})
  const overlay = h("canvas", {class: "overlay", role: "img", tabIndex: 0,
    "aria-label": "Map of the agent's inner states: a point for each step, alike ones together"})
  const tip = h("div", {class: "tip", hidden: true}), picture = h("canvas", {width: 1, height: 1}), words = h("p")
  const empty = h("p", {class: "empty"}, "Connecting …"), legend = h("div", {class: "legend"})
  const notes = h("p", {class: "note", hidden: true})
  tip.append(picture, words)
  const by = select("Colour by"), layout = select("Layout"), layer = select("Layer")
  const lasso = h("button", {type: "button", class: "tool lasso", title: "Lasso: draw around steps (or drag with shift)", "aria-pressed": "false"}, "Lasso")
  const fit = h("button", {type: "button", class: "tool", title: "Show all (double click)"}, "Show all")
  layout.element.append(option("tsne", "t-SNE"), option("pca", "PCA"))
  const plane = h("div", {class: "plane"}, canvas, overlay, empty, tip)
  body.append(h("div", {class: "tools"}, by.root, layout.root, layer.root, lasso, fit), notes, plane, legend)

  const points = new Points(), context = canvas.getContext("2d")
  let state = null, generation = null, image = null, ratio = 1
  let colours = null, range = null, chosen = null, near = [], coloured = remembered()  // by what, if the user chose
  let view = {scale: 1, x: 0, y: 0}, following = true  // place in CSS pixels = (x * scale + view.x, view.y - y * scale)
  let hover = -1, path = null, drag = null, shownStep = null, due = false, repaint = false, visible = false
  const pointers = new Map()

  // ---- drawing ------------------------------------------------------------------------------------------------------

  const {stop: stopFit, redraw: redrawOverlay} = crisp(overlay, drawOverlay)
  const resize = new ResizeObserver(() => { due = repaint = true; schedule() })
  resize.observe(plane)

  let scheduled = false
  function schedule() {
    if (scheduled || !visible) return
    scheduled = true
    requestAnimationFrame(now => { scheduled = false; turn(now) })
  }

  function turn(now) {
    const moving = points.glide(now), settling = following && follow()
    if (repaint || moving || settling) drawPoints()
    else redrawOverlay()
    repaint = false
    root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1)
    if (moving || settling) { repaint = true; schedule() }
  }

  function drawPoints() {
    ratio = window.devicePixelRatio || 1
    const wide = Math.round(plane.clientWidth * ratio), high = Math.round(plane.clientHeight * ratio)
    if (wide < 2 || high < 2) return
    if (canvas.width !== wide || canvas.height !== high || image === null) {
      canvas.width = wide; canvas.height = high
      image = context.createImageData(wide, high)
    }
    if (colours === null || colours.length !== points.count) recolour()
    const place = {scale: view.scale * ratio, x: view.x * ratio, y: view.y * ratio}
    paint(image, points, colours, place, diameter() * ratio, packedGround(), chosen)
    context.putImageData(image, 0, 0)
    redrawOverlay()
  }

  /** Fewer points are larger. */
  const diameter = () => points.count > 40_000 ? 2 : points.count > 8000 ? 3 : points.count > 1500 ? 4.5 : 6.5

  function packedGround() {
    const [red, green, blue] = [1, 3, 5].map(at => parseInt(colour("card").slice(at, at + 2), 16))
    return (0xff000000 | blue << 16 | green << 8 | red) >>> 0
  }

  function recolour() {
    if (!coloured && state && state.columns && points.count) by.element.value = usual()
    const index = columnIndex(), column = state && state.columns ? state.columns[index] : null
    if (column === null || column === undefined) { colours = new Uint32Array(points.count); return }
    range = column.kind === "number" ? points.range(index) : null
    colours = points.colours(index, column.kind, range)
    drawLegend(column, index)
  }

  /** What points are coloured by unless the user chose: the value, or the action where the policy gave none. */
  function usual() {
    const value = state.columns.findIndex(({name}) => name === "value"), action = state.columns.find(({name}) => name.startsWith("action"))
    return action === undefined || points.range(value) !== null ? "value" : action.name
  }

  const columnIndex = () => Math.max(0, state && state.columns ? state.columns.findIndex(column => column.name === by.element.value) : 0)

  function drawLegend(column, index) {
    if (column.kind === "category") {
      const occurring = new Set()
      for (let k = 0; k < points.count; k++) occurring.add(points.value(k, index))
      const known = [...occurring].filter(Number.isFinite).sort((a, b) => a - b)
      legend.replaceChildren(...known.slice(0, 18).map(value => chip(category(value), column.labels[value] || `${value}`)))
      return
    }
    const bar = h("i", {class: "ramp"})
    bar.style.background = gradient()
    const parts = range ? [h("span", {}, number(range.low)), bar, h("span", {}, number(range.high))] : []
    let missing = false
    for (let k = 0; k < points.count && !missing; k++) missing = !Number.isFinite(points.value(k, index))
    legend.replaceChildren(...parts, ...(missing ? [chip(unknownText(), column.unknown)] : []))
  }

  function drawOverlay(context) {
    const at = slot => [points.x[slot] * view.scale + view.x, view.y - points.y[slot] * view.scale]
    const slot = points.slots.get(shownStep)
    if (slot !== undefined) drawTrail(context, at, slot)
    for (const step of near) ringAt(context, at, points.slots.get(step), colour("primary"), 6, 1.5)
    if (slot !== undefined) {
      ringAt(context, at, slot, colour("card"), 7.5, 5)
      ringAt(context, at, slot, colour("strong"), 7.5, 2)
    }
    if (hover >= 0 && hover < points.count) ringAt(context, at, hover, colour("strong"), 5, 1.5)
    if (path !== null && path.length > 1) drawPath(context)
  }

  /** The way that the agent came through the map. */
  function drawTrail(context, at, slot) {
    const column = state.columns.findIndex(({name}) => name === "time")
    context.strokeStyle = colour("strong")
    context.lineWidth = 1.25
    let [x, y] = at(slot), time = points.value(slot, column), found = 0
    for (let step = shownStep - 1; step > shownStep - 6 * TRAIL && found < TRAIL; step--) {
      const before = points.slots.get(step)
      if (before === undefined) continue
      if (!(points.value(before, column) < time)) break
      const [toX, toY] = at(before)
      context.globalAlpha = 0.55 * (1 - found / TRAIL)
      context.beginPath(); context.moveTo(x, y); context.lineTo(toX, toY); context.stroke()
      x = toX; y = toY; time = points.value(before, column); found++
    }
    context.globalAlpha = 1
  }

  function drawPath(context) {
    context.beginPath()
    path.forEach(([x, y], k) => k ? context.lineTo(x, y) : context.moveTo(x, y))
    context.closePath()
    context.fillStyle = context.strokeStyle = colour("primary")
    context.lineWidth = 1.5
    context.globalAlpha = 0.14; context.fill(); context.globalAlpha = 1; context.stroke()
  }

  // ---- where one looks ----------------------------------------------------------------------------------------------

  /** Where everything is to be seen. */
  function whole() {
    const box = points.bounds(), wide = plane.clientWidth - 2 * MARGIN, high = plane.clientHeight - 2 * MARGIN
    if (box === null || wide < 2 || high < 2) return null
    const scale = Math.min(wide / Math.max(box.right - box.left, 1e-6), high / Math.max(box.high - box.low, 1e-6))
    return {
      scale,
      x: MARGIN + wide / 2 - (box.left + box.right) / 2 * scale,
      y: MARGIN + high / 2 + (box.low + box.high) / 2 * scale,
    }
  }

  /** Come nearer to seeing everything; whether there is some way left. */
  function follow() {
    const aim = whole()
    if (aim === null) return false
    const share = due ? 1 : 0.2, before = view
    due = false
    view = {
      scale: before.scale + (aim.scale - before.scale) * share,
      x: before.x + (aim.x - before.x) * share,
      y: before.y + (aim.y - before.y) * share,
    }
    return Math.abs(aim.scale / view.scale - 1) > 0.002 || Math.hypot(aim.x - view.x, aim.y - view.y) > 0.5
  }

  function zoom(x, y, factor) {
    following = false
    const scale = Math.max(0.05, Math.min(1e5, view.scale * factor)), by = scale / view.scale
    view = {scale, x: x + (view.x - x) * by, y: y + (view.y - y) * by}
    repaint = true
    schedule()
  }

  const showAll = () => { following = true; repaint = true; schedule() }

  // ---- the pointer --------------------------------------------------------------------------------------------------

  const inside = event => {
    const box = overlay.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top]
  }
  const under = ([x, y]) => points.nearest((x - view.x) / view.scale, (view.y - y) / view.scale, NEAR / view.scale)

  overlay.addEventListener("pointerdown", event => {
    if (event.button) return
    const place = inside(event)
    overlay.setPointerCapture(event.pointerId)
    pointers.set(event.pointerId, place)
    const drawing = event.shiftKey || lasso.getAttribute("aria-pressed") === "true"
    if (pointers.size === 1) drag = {from: place, moved: false, drawing}
    if (drawing && pointers.size === 1) path = [place]
    else path = null
    point(-1)
  })
  overlay.addEventListener("pointermove", event => {
    const place = inside(event), before = pointers.get(event.pointerId)
    if (before === undefined) return point(under(place), place)
    pointers.set(event.pointerId, place)
    if (Math.hypot(place[0] - drag.from[0], place[1] - drag.from[1]) > 4) drag.moved = true
    if (pointers.size > 1) return pinch(event.pointerId, before, place)
    if (path !== null) {
      const [lastX, lastY] = path.at(-1)
      if (Math.hypot(place[0] - lastX, place[1] - lastY) > 3) path.push(place)
      schedule()
    } else if (drag.moved) {
      following = false
      view = {...view, x: view.x + place[0] - before[0], y: view.y + place[1] - before[1]}
      repaint = true
      schedule()
    }
  })
  function pinch(moving, before, place) {
    const other = [...pointers].find(([id]) => id !== moving)[1]
    const apart = ([x, y]) => Math.max(8, Math.hypot(x - other[0], y - other[1]))
    zoom((place[0] + other[0]) / 2, (place[1] + other[1]) / 2, apart(place) / apart(before))
  }
  const release = event => {
    if (!pointers.delete(event.pointerId) || pointers.size) return
    if (path !== null && path.length > 4) choose(path)
    else if (!drag.moved && event.type === "pointerup") click(under(inside(event)))
    path = null
    schedule()
  }
  overlay.addEventListener("pointerup", release)
  overlay.addEventListener("pointercancel", release)
  overlay.addEventListener("pointerleave", () => point(-1))
  overlay.addEventListener("dblclick", showAll)
  overlay.addEventListener("wheel", event => {
    event.preventDefault()
    zoom(...inside(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)))
  }, {passive: false})
  overlay.addEventListener("keydown", event => { if (event.key === "Escape") clear() })

  function click(slot) {
    if (slot >= 0) send({do: "jump", step: points.step[slot]})
    else if (chosen !== null) clear()
  }

  function choose(drawn) {
    const stride = Math.ceil(drawn.length / 512), corners = drawn.filter((_, k) => k % stride === 0)
    ask({do: "select", polygon: corners.map(([x, y]) => [(x - view.x) / view.scale, (view.y - y) / view.scale])})
    lasso.setAttribute("aria-pressed", "false")
  }

  const clear = () => document.dispatchEvent(new CustomEvent("agentwrap:unselect"))

  function point(slot, place = null) {
    if (slot === hover && slot < 0) return
    hover = slot
    overlay.classList.toggle("over", slot >= 0)
    drawTip(place)
    schedule()
  }

  function drawTip(place) {
    tip.hidden = hover < 0
    if (hover < 0) return
    const step = points.step[hover], known = frameOf(step)
    const index = columnIndex(), column = state.columns[index]
    put(words, `step ${integer(step)} · ${said(column, points.value(hover, index))}`)
    picture.hidden = !(known && known.frame)
    if (known && known.frame && picture.dataset.step !== String(step)) {
      paintFrame(picture, known.frame)
      picture.dataset.step = step
    }
    tip.dataset.step = step
    if (place === null) return
    const right = place[0] > plane.clientWidth / 2, below = place[1] > plane.clientHeight / 2
    tip.style.left = right ? "" : `${place[0] + 16}px`
    tip.style.right = right ? `${plane.clientWidth - place[0] + 16}px` : ""
    tip.style.top = below ? "" : `${place[1] + 12}px`
    tip.style.bottom = below ? `${plane.clientHeight - place[1] + 12}px` : ""
  }

  // ---- what comes ---------------------------------------------------------------------------------------------------

  function takeState(told) {
    state = told
    if (told.columns) fill(by.element, told.columns.map(({name, title}) => [name, title]), coloured || "value")
    const layers = told.layers || []
    layer.root.hidden = layers.length < 2
    fill(layer.element, layers.map(name => [name, name.replace("layer/", "")]), told.layer)
    if (layout.element.value !== told.wanted && document.activeElement !== layout.element) layout.element.value = told.wanted || "tsne"
    put(empty, told.problem || "")
    empty.hidden = !told.problem
    const last = [...(told.notes || [])].at(-1) || ""
    put(notes, last)
    notes.hidden = !last
    put(caption, describe(told))
    root.dataset.method = told.method || ""
    root.dataset.count = told.count
  }

  function describe({count, arrived, method, wanted, fitting, read, left_out: leftOut}) {
    if (!count) return ""
    const kept = arrived > count ? `${integer(count)} of ${integer(arrived)} steps` : `${integer(count)} steps`
    const now = fitting !== null ? `computing t-SNE, ${Math.round(fitting * 100)} %` : ""
    const shown = {tsne: "t-SNE", pca: wanted === "tsne" && !now ? "PCA, t-SNE follows" : "PCA"}[method] || ""
    const out = leftOut ? `${integer(leftOut)} left out: NaN` : ""
    return [read !== null && read < 1 ? `reading, ${Math.round(read * 100)} %` : "", kept, shown, now, out].filter(Boolean).join(" · ")
  }

  function takePoints(section) {
    if (section.generation !== generation) {
      generation = section.generation
      points.clear(section.capacity)
      chosen = null; hover = -1; near = []
      clear()
      due = true
    }
    if (!points.count) due = true
    points.take(section, performance.now())
    if (section.changed.data.length) colours = null
    if (chosen !== null && chosen.length < points.count) chosen = grown(chosen, points.count)
    repaint = true
    schedule()
  }

  by.element.addEventListener("change", () => {
    coloured = by.element.value
    try { localStorage.setItem(KEY, coloured) } catch { /* then it lasts until the page is left */ }
    colours = null; repaint = true
    schedule()
  })
  layout.element.addEventListener("change", () => ask({do: "choose", method: layout.element.value}))
  layer.element.addEventListener("change", () => ask({do: "choose", layer: layer.element.value}))
  lasso.addEventListener("click", () => lasso.setAttribute("aria-pressed", lasso.getAttribute("aria-pressed") !== "true"))
  fit.addEventListener("click", showAll)

  const unselect = () => { chosen = null; repaint = true; schedule() }
  document.addEventListener("agentwrap:unselect", unselect)
  const stops = [
    stopFit,
    () => resize.disconnect(),
    () => document.removeEventListener("agentwrap:unselect", unselect),
    onView(shown => { visible = shown === "states"; repaint = due = visible; schedule() }),
    onTheme(() => { colours = null; repaint = true; schedule() }),
    listen("link", ({connected}) => { if (connected) { generation = null } else { put(empty, "Connecting …"); empty.hidden = points.count > 0 } }),
    listen("process", ({problem}) => {  // another one begins its own map
      generation = null
      put(notes, problem)
      notes.hidden = false
    }),
    listen("map", takeState),
    listen("points", takePoints),
    listen("frame", ({step}) => { if (hover >= 0 && points.step[hover] === step) drawTip(null) }),
    listen("selection", ({slots}) => {
      chosen = new Uint8Array(points.count)
      for (const slot of slots.data) if (slot < chosen.length) chosen[slot] = 1
      repaint = true
      schedule()
    }),
    listen("like", ({found}) => { near = found.map(([step]) => step); schedule() }),
    subscribe("status", (_, {step}) => { if (step !== shownStep) { shownStep = step; schedule() } }, {calm: true}),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

const remembered = () => { try { return localStorage.getItem(KEY) } catch { return null } }

/** A column's value in words. */
export function said({title, kind, labels, unknown}, value) {
  if (!Number.isFinite(value)) return `${title.toLowerCase()}: ${unknown}`
  return `${title.toLowerCase()} ${kind === "category" ? labels[value] || value : number(value)}`
}

function ringAt(context, at, slot, stroke, radius, width) {
  if (slot === undefined) return
  const [x, y] = at(slot)
  context.strokeStyle = stroke
  context.lineWidth = width
  context.beginPath(); context.arc(x, y, radius, 0, 2 * Math.PI); context.stroke()
}

const chip = (colour, text) => {
  const box = h("i")
  box.style.background = colour
  return h("span", {class: "chip"}, box, text)
}

function select(label) {
  const element = h("select", {"aria-label": label})
  element.addEventListener("change", () => { if (byPointer()) element.blur() })
  return {element, root: h("label", {class: "choice"}, h("span", {}, label), element)}
}

const option = (value, text) => h("option", {value}, text)

/** Fill a select where its options are others; keep what is chosen, or choose what is told. */
function fill(element, options, chosen) {
  const key = JSON.stringify(options)
  if (element.dataset.options === key) return
  const before = element.value || chosen
  element.dataset.options = key
  element.replaceChildren(...options.map(([value, text]) => option(value, text)))
  element.value = options.some(([value]) => value === before) ? before : options.length ? options[0][0] : ""
}

function grown(array, length) {
  const larger = new Uint8Array(length)
  larger.set(array)
  return larger
}
