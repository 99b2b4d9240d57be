// Plays a run from this file alone: frames and maps are in it, nothing is fetched.
// What is drawn as the live page draws it, elements, colours and bars, is from there: see webpage.py.
const run = JSON.parse(document.getElementById("run").textContent)
const find = selector => document.querySelector(selector)
const count = run.steps.length

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4], AHEAD = 8, KEPT = 64
const LEFT = 56, RIGHT = 14, TOP = 8  // CSS pixels around the lanes: their names, a count of marks
const DENSE = 4  // pixels that a reward's line needs to be told from its neighbours
const NONE = -128  // stands for a score that there is not
const NEAR = 3   // marks named beside the pointer

const marks = run.marks.map(mark => ({...mark, position: mark.index, step: run.steps[mark.index]}))

let at = 0, playing = false, speed = 1, targets = "both", opacity = 0.75, scores = null, shares = null, last = 0, due = 0

const element = (tag, name, text = "") => Object.assign(document.createElement(tag), {className: name, textContent: text})
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--aw-${name}`).trim()
const shown = value => value === null || value === undefined ? "–" : Number.isInteger(value) ? String(value) : value.toPrecision(3)
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0))

// ---- pictures -------------------------------------------------------------------------------------------------------

const images = new Map()

/** The picture of a step, decoded; the last ones are kept. */
function picture(index) {
  if (!images.has(index)) {
    const image = new Image()
    image.src = `data:${run.frames.type};base64,${run.frames.data[index]}`
    images.set(index, image.decode().then(() => image))
    for (const old of images.keys()) { if (images.size <= KEPT) break; images.delete(old) }
  }
  return images.get(index)
}

async function drawFrame() {
  const canvas = find(".frame"), index = at
  if (!run.frames) return
  for (let next = index; next < Math.min(count, index + AHEAD); next++) picture(next)
  const image = await picture(index)
  if (index !== at) return
  if (canvas.width !== image.naturalWidth) canvas.width = image.naturalWidth
  if (canvas.height !== image.naturalHeight) canvas.height = image.naturalHeight
  canvas.getContext("2d").drawImage(image, 0, 0)
  canvas.dataset.step = run.steps[index]
}

// ---- heat -----------------------------------------------------------------------------------------------------------

async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))
  return new Int8Array(await new Response(stream).arrayBuffer())
}

async function readMaps() {
  if (run.maps) scores = await unpacked(run.maps.data)
  if (run.features?.data) shares = await unpacked(run.features.data)
  drawHeat(); drawFeatures()
}

/** Say by what the maps were computed, or that the step shown has none. */
function drawMethod(card, {method, places}) {
  put(find(`.${card} .method`), places[at] === null ? "no map of this step" : `by ${method}`)
}

function drawHeat() {
  const canvas = find(".heat")
  if (scores === null) return
  drawMethod("heats", run.maps)
  const [high, wide] = run.maps.shape, size = high * wide, layers = run.maps.layers, place = run.maps.places[at]
  canvas.width = wide; canvas.height = high
  canvas.dataset.step = place === null ? "" : run.steps[at]
  if (place === null || targets === "none") return
  const context = canvas.getContext("2d"), image = context.createImageData(wide, high)
  let drawn = layers.map((layer, index) => ({...layer, index})).filter(layer => targets === "both" || layer.target === targets)
  if (run.maps.scale === "signed") drawn = drawn.slice(0, 1)
  for (const {target, index} of drawn) {
    const from = (place * layers.length + index) * size
    const [above, below] = coloursOf({target, scale: run.maps.scale})
    lay(image.data, scores.subarray(from, from + size), above, below)
  }
  context.putImageData(image, 0, 0)
}

/** Lay a colour on with an opacity that grows with the score; two targets mix where they meet. */
function lay(out, data, above, below) {
  for (let i = 0, j = 0; i < data.length; i++, j += 4) {
    const alpha = Math.abs(data[i]) / 127 * opacity
    if (alpha <= 0) continue
    const paint = data[i] > 0 ? above : below, under = out[j + 3] / 255
    const sum = alpha + under - alpha * under, share = alpha / (alpha + under)
    for (let k = 0; k < 3; k++) out[j + k] += (paint[k] - out[j + k]) * share
    out[j + 3] = sum * 255
  }
}

// ---- features -------------------------------------------------------------------------------------------------------

let bars = null

function buildFeatures() {
  const card = find(".observation"), {names, hidden, layers = [], signed} = run.features || {}
  card.hidden = !run.features
  if (!run.features) return
  bars = barsIn(card.querySelector(".bars"))
  card.classList.toggle("unexplained", !layers.length)
  card.querySelector(".keys").append(...keysOf(layers, signed && layers.length ? "signed" : "magnitude"))
  card.querySelector(".more").textContent = hidden ? `and ${integer(hidden)} more values` : ""
  document.body.classList.add("observed")
  if (run.frames) return
  card.classList.add("alone")  // where there is no picture, the rows have all the room
  find(".stage").replaceWith(card)
}

function drawFeatures() {
  if (!bars) return
  const {names, values, layers = [], signed, places} = run.features, place = shares && places[at] !== null ? places[at] : null
  if (shares) drawMethod("observation", run.features)
  const share = (layer, row) => {
    const score = shares[(place * layers.length + layer) * names.length + row]
    return score === NONE ? null : score / 127
  }
  const rows = names.map((name, row) => ({
    name, value: values[at]?.[row],
    scores: place === null ? {} : Object.fromEntries(layers.map(({target}, layer) => [target, share(layer, row)])),
  }))
  bars({rows, layers, signed})
  find(".observation .bars").dataset.step = run.steps[at]
}

// ---- figures and policy ---------------------------------------------------------------------------------------------

const figures = new Map()

function buildFigures() {
  for (const name of ["step", "episode", ...Object.keys(run.curves)]) {
    const box = element("div", ""), value = element("dd", name)
    box.append(element("dt", "", name), value)
    find(".figures").append(box)
    figures.set(name, value)
  }
  find(".policy").hidden = !run.policy
  if (!run.policy) return
  find(".policy h2").textContent = {probabilities: "π(a|s), %", q_values: "Q(s, a)"}[run.policy.kind] || "Policy"
  for (const name of run.policy.names) {
    const row = element("div", "row"), track = element("span", "track")
    track.append(element("i", "fill"))
    row.append(element("span", "name", name), track, element("span", "number"))
    find(".rows").append(row)
  }
}

function drawFigures() {
  figures.get("step").textContent = run.steps[at]
  figures.get("episode").textContent = run.episodes[at]
  for (const [name, values] of Object.entries(run.curves)) figures.get(name).textContent = shown(values[at])
  find(".place").textContent = `step ${at + 1} of ${count}`
  if (!run.policy) return
  const values = run.policy.values[at] || [], chances = run.policy.kind === "probabilities"
  const low = chances ? 0 : Math.min(...values, 0), high = chances ? 1 : Math.max(...values, low < 0 ? 0 : 1e-9)
  const place = value => 100 * (value - low) / (high - low)
  find(".rows").classList.toggle("zeroed", low < 0)
  find(".rows").style.setProperty("--zero", `${place(0)}%`)
  find(".rows").childNodes.forEach((row, index) => {
    const value = values[index] ?? null, end = place(value ?? 0), {style} = row.querySelector(".fill")
    row.classList.toggle("taken", run.policy.taken[at] === index)
    style.left = `${Math.min(place(0), end)}%`
    style.width = `${Math.abs(end - place(0))}%`
    row.querySelector(".number").textContent = chances && value !== null ? (100 * value).toFixed(1) : shown(value)
  })
}

function buildMoments() {
  find(".moments").hidden = !marks.length
  find(".moments .list").append(...marks.map(mark => line(mark, integer(mark.step), () => { pause(); go(mark.position) })))
}

// ---- timeline -------------------------------------------------------------------------------------------------------

const x = (index, wide) => LEFT + index / Math.max(1, count - 1) * (wide - LEFT - RIGHT)

const floorOf = high => high - (marks.length ? STRIP : 2)
const groupsOf = wide => grouped(marks, position => x(position, wide))

/** The marks under the pointer, nearest first: none above their strip. */
function marksUnder(event) {
  const canvas = event.currentTarget, wide = canvas.clientWidth, box = canvas.getBoundingClientRect()
  if (event.clientY - box.top < floorOf(canvas.clientHeight)) return []
  return marksNear(groupsOf(wide), position => x(position, wide), event.clientX - box.left)
}

/** Marks in words, a line each. */
function inWords(near) {
  const more = near.length > NEAR ? [`and ${integer(near.length - NEAR)} more`] : []
  return [...near.slice(0, NEAR).map(said), ...more].join("\n")
}

function drawTimeline() {
  const canvas = find(".timeline"), {clientWidth: wide, clientHeight: high} = canvas, ratio = devicePixelRatio || 1
  canvas.width = wide * ratio; canvas.height = high * ratio
  const context = canvas.getContext("2d"), lanes = Object.entries(run.curves)
  const bottom = floorOf(high), lane = (bottom - TOP) / Math.max(1, lanes.length)
  context.scale(ratio, ratio)
  context.font = "11px system-ui, sans-serif"
  run.episodes.forEach((episode, index) => {
    if (index && episode !== run.episodes[index - 1]) rule(context, x(index, wide), TOP, bottom, colour("line"))
  })
  lanes.forEach(([name, values], number) => drawLane(context, name, values, TOP + number * lane + 2, TOP + (number + 1) * lane - 2, wide))
  drawMarks(context, groupsOf(wide), bottom + STRIP / 2)
  rule(context, x(at, wide), 2, high, colour("strong"), 1.5)
  canvas.setAttribute("aria-valuemin", 0); canvas.setAttribute("aria-valuemax", count - 1); canvas.setAttribute("aria-valuenow", at)
}

function rule(context, where, from, to, stroke, width = 1) {
  context.strokeStyle = stroke
  context.lineWidth = width
  context.beginPath(); context.moveTo(where, from); context.lineTo(where, to); context.stroke()
}

function drawLane(context, name, values, top, bottom, wide) {
  const known = values.filter(value => value !== null)
  let low = known.reduce((a, b) => Math.min(a, b), name === "value" ? Infinity : 0), high = known.reduce((a, b) => Math.max(a, b), name === "value" ? -Infinity : 0)
  if (!(high > low)) { low -= 0.5; high += 0.5 }
  const y = value => bottom - (value - low) / (high - low) * (bottom - top)
  context.fillStyle = colour("muted")
  context.textAlign = "right"; context.textBaseline = "middle"
  context.fillText(name, LEFT - 8, (top + bottom) / 2)
  if (name === "reward") return drawRewards(context, values, y, wide)
  context.strokeStyle = colour(name === "entropy" ? "return" : name)
  context.lineWidth = 1
  context.beginPath()
  values.forEach((value, index) => {
    if (value === null) return
    context[index && values[index - 1] !== null ? "lineTo" : "moveTo"](x(index, wide), y(value))
  })
  context.stroke()
}

/** A line for each reward; where nearly every step has one, lines would be a block: an outline with steps then. */
function drawRewards(context, values, y, wide) {
  const paint = value => colour(value > 0 ? "reward" : "bad"), given = values.filter(Boolean).length
  if (given * DENSE < x(count - 1, wide) - LEFT) return values.forEach((value, index) => {
    if (value) rule(context, x(index, wide), y(0), y(value), paint(value))
  })
  context.lineWidth = 1
  values.forEach((value, index) => {
    const from = x(index, wide), to = x(Math.min(index + 1, count - 1), wide), before = index ? values[index - 1] : value
    context.strokeStyle = value ? paint(value) : colour("muted")
    context.beginPath(); context.moveTo(from, y(before)); context.lineTo(from, y(value)); context.lineTo(to, y(value)); context.stroke()
  })
}

// ---- playing --------------------------------------------------------------------------------------------------------

function draw() { drawFrame(); drawHeat(); drawFeatures(); drawFigures(); drawTimeline() }

function go(index) {
  at = Math.max(0, Math.min(count - 1, index))
  draw()
}

function pause() {
  playing = false
  Object.assign(find(".play"), {textContent: "▶", title: "Play (space)", ariaLabel: "Play"})
}

function toggle() {
  if (playing) return pause()
  if (at === count - 1) go(0)
  playing = true
  last = performance.now(); due = 0
  Object.assign(find(".play"), {textContent: "❚❚", title: "Pause (space)", ariaLabel: "Pause"})
  requestAnimationFrame(turn)
}

/** Show the step that is due; a browser that is slow leaves some out. */
function turn(now) {
  if (!playing) return
  due += Math.min(0.5, (now - last) / 1000) * run.fps * speed
  last = now
  const whole = Math.floor(due)
  due -= whole
  if (whole) go(at + whole)
  if (at === count - 1) return pause()
  requestAnimationFrame(turn)
}

function buildTargets() {
  find(".heats").hidden = !run.maps
  if (!run.maps) return
  const layers = run.maps.layers.map(({target, title}) => [target, title])
  const choices = [...(layers.length > 1 ? [["both", "both"]] : []), ...layers, ["none", "none"]]
  const press = name => {
    targets = name
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", choices[index][0] === name))
  }
  const buttons = choices.map(([name, title]) => Object.assign(element("button", "target", title), {onclick: () => {
    press(name)
    drawHeat()
  }}))
  press(choices[0][0])
  find(".targets").append(...buttons)
  find(".heats .keys").append(...keysOf(run.maps.layers, run.maps.scale))
}

function build() {
  find("h1").textContent = run.title
  find(".about").textContent = run.about
  find(".picture").hidden = !run.frames
  find(".stage .empty").hidden = Boolean(run.frames)
  if (run.frames) find(".picture").style.setProperty("--ratio", run.frames.width / run.frames.height)
  find(".speed").append(...SPEEDS.map(value => Object.assign(new Option(`${value}×`, value), {selected: value === 1})))
  buildTargets(); buildFeatures(); buildFigures(); buildMoments()
  find(".opacity").addEventListener("input", event => { opacity = Number(event.target.value); drawHeat() })
  find(".speed").addEventListener("change", event => { speed = Number(event.target.value); event.target.blur() })
  find(".play").addEventListener("click", event => { toggle(); event.currentTarget.blur() })
  for (const [name, by] of [["back", -1], ["on", 1]]) find(`.${name}`).addEventListener("click", () => { pause(); go(at + by) })
  const canvas = find(".timeline")
  const under = event => {
    const [near] = marksUnder(event)
    if (near) return near.position
    const box = canvas.getBoundingClientRect()
    return Math.round((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT) * (count - 1))
  }
  canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); pause(); go(under(event)) })
  canvas.addEventListener("pointermove", event => {
    canvas.title = inWords(marksUnder(event))
    if (event.buttons & 1) go(under(event))
  })
  document.addEventListener("keydown", event => {
    const by = event.shiftKey ? 10 : 1
    const keys = {" ": toggle, ArrowLeft: () => { pause(); go(at - by) }, ArrowRight: () => { pause(); go(at + by) },
      Home: () => go(0), End: () => go(count - 1)}
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select")) return
    if (event.key === " " && event.target.closest("button")) return
    event.preventDefault()
    keys[event.key]()
  })
  document.addEventListener("click", event => {  // who came with the pointer goes on with the space bar
    if (event.detail) event.target.closest("button")?.blur()
  })
  new ResizeObserver(drawTimeline).observe(canvas)
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", drawTimeline)
  draw()
  readMaps().catch(() => document.querySelectorAll(".method").forEach(said => put(said, "This browser cannot unpack the maps: it is too old.")))
}

build()
