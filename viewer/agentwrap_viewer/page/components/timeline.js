// A recording from end to end: value, entropy and reward of all steps, episodes, and the controls of playing it.

import {send, subscribe} from "./feed.js"
import {colour, crisp, dress, h, integer, number, onTheme, put} from "./kit.js"
import {drawMarks, grouped, marksNear, neighbouring, said, STRIP} from "./marks.js"
import {momentsPanel} from "./moments.js"
import {pinButton} from "./pinned.js"
import {keepPlace} from "./place.js"
import {button, listenForKeys, playActions, playButton, rests, speedSelect} from "./playback.js"

const LEFT = 56, RIGHT = 14, TOP = 15  // CSS pixels around the lanes: their names, a count of marks, and the episodes' numbers above
const ORDER = ["distance", "value", "entropy", "reward"]
const BESIDE = 6  // from an episode's line to its number, which the knob leaves free
const APART = 8   // pixels between episodes' lines, on average, with which all are drawn
const NEAR = 3  // marks described beside the pointer

export async function render({model, el}) {
  await dress(el)
  let now = {mode: "paused", speed: 1, speeds: [1], step: null, episode: null, position: 0, last: 0, loop: null}
  let all = {count: 0, lanes: [], borders: [], episodes: []}
  let hover = null, marked = null  // where the pointer is; where a range was begun, with shift

  const actions = playActions(() => now, {
    first: () => send({do: "go", position: 0}),
    episode: count => send({do: "go", position: neighbour(all.borders, now.position, count)}),
  })
  const toggle = playButton("Play (space)", actions.toggle)
  const loop = button("loop", "", repeat)
  const speed = speedSelect("Speed, relative to the recording's")
  const step = entry("Step", value => send({do: "jump", step: value}))
  const episode = entry("Episode", value => send({do: "jump", episode: value}))
  const time = h("span", {class: "time"}), pin = pinButton(() => now.step)
  const moments = momentsPanel({go: position => send({do: "go", position}), changed: () => redraw()})
  const canvas = h("canvas", {class: "timeline", role: "slider", tabIndex: 0, "aria-label": "Position in the recording"})
  const root = h("div", {class: "transport replay card", role: "toolbar", "aria-label": "Playback"},
    moments.panel, canvas,
    h("div", {class: "controls"},
      h("div", {class: "buttons"}, button("first", "First step (Home)", actions.first),
        button("back", "One step back (←, with shift ten)", () => actions.back()), toggle.element,
        button("on", "One step on (→, with shift ten)", () => actions.on()), button("last", "Last step (End)", actions.live)),
      step.root, episode.root, time, button("bookmark round", "Bookmark this step (B)", bookmark), pin.element, moments.button, loop, speed.element))

  const {redraw, stop: stopFit} = crisp(canvas, (context, width, height) => {
    drawTimeline(context, scaleOf(width, height, all, moments.marks), {...all, marks: moments.marks}, now, hover, marked)
  })

  function bookmark() {
    if (now.mode === "playing") send({do: "pause"})
    if (now.step !== null) moments.bookmark(now.step)
  }

  function repeat() {
    if (now.loop !== null) return send({do: "repeat"})
    const {from, to} = around(all, now.position)
    send({do: "repeat", first: from, last: to})
  }

  function draw(source) {
    now = source
    keepPlace(now)
    root.dataset.mode = now.mode
    toggle.show(rests(now))
    const looped = now.loop !== null
    if (loop.getAttribute("aria-pressed") !== String(looped)) {
      loop.setAttribute("aria-pressed", looped)
      loop.title = looped ? "Play on beyond the range" : "Repeat this episode; drag with shift on the timeline for another range"
      loop.setAttribute("aria-label", loop.title)
    }
    speed.show(now.speed, now.speeds)
    step.show(now.step, now.last_step)
    episode.show(now.episode, now.last_episode)
    put(time, `${clock(now.seconds)} / ${clock(now.duration)}`)
    moments.at(now.position)
    canvas.setAttribute("aria-valuemin", 0)
    canvas.setAttribute("aria-valuemax", now.last)
    canvas.setAttribute("aria-valuenow", now.position)
    redraw()
  }

  const under = event => {
    const {x0, x1, x, bottom} = scaleOf(canvas.clientWidth, canvas.clientHeight, all, moments.marks)
    const box = canvas.getBoundingClientRect(), at = event.clientX - box.left
    const [near] = event.clientY - box.top > bottom ? marksNear(grouped(moments.marks, x), x, at) : []
    if (near) return near.position
    const share = (at - x0) / (x1 - x0)
    return Math.round(Math.max(0, Math.min(1, share)) * Math.max(0, all.count - 1))
  }
  let held = false
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId)
    if (event.shiftKey) marked = under(event)
    else { held = true; send({do: "go", position: under(event)}) }
  })
  canvas.addEventListener("pointermove", event => {
    hover = under(event)
    if (held) send({do: "go", position: hover})
    redraw()
  })
  canvas.addEventListener("pointerup", event => {
    if (marked !== null && marked !== under(event)) {
      const [first, last] = [marked, under(event)].sort((a, b) => a - b)
      send({do: "repeat", first, last})
    }
    held = false; marked = null
    canvas.blur()  // who came with the pointer needs no ring around it
    redraw()
  })
  canvas.addEventListener("pointercancel", () => { held = false; marked = null; redraw() })
  canvas.addEventListener("pointerleave", () => { hover = null; redraw() })

  const toMark = direction => () => {
    const next = neighbouring(moments.marks, now.position, direction)
    if (next === null) return
    now = {...now, position: next.position}  // who presses twice at once goes on from there
    send({do: "go", position: next.position})
  }
  const keys = {n: toMark(1), p: toMark(-1), m: moments.toggle, Escape: moments.close, b: bookmark, v: pin.toggle}
  const stops = [
    subscribe("marks", source => moments.show(source.items)),
    subscribe("timeline", source => { all = {...source, lanes: sorted(source.lanes)}; redraw() }),
    subscribe("transport", (_, source) => draw(source), {calm: true}),
    onTheme(redraw), stopFit, listenForKeys(actions, keys), pin.stop,
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

/** A number that says where one is, and takes one where to go. */
function entry(name, go) {
  const input = h("input", {type: "text", inputMode: "numeric", "aria-label": `Go to ${name.toLowerCase()}`,
    title: `Type a number and press Enter to go there`, autocomplete: "off", spellcheck: false})
  const all = h("span"), of = h("span", {class: "of"}, h("span", {class: "word"}, "of "), all)
  const root = h("label", {class: `entry ${name.toLowerCase()}`}, h("span", {class: "name"}, name), input, of)
  const editing = () => input.getRootNode().activeElement === input
  let shown = ""
  input.addEventListener("focus", () => input.select())
  input.addEventListener("blur", () => { input.value = shown })
  input.addEventListener("keydown", event => {
    const typed = input.value.replace(/[,\s]/g, "")
    if (event.key === "Enter" && /^\d{1,15}$/.test(typed)) go(Number(typed))
    if (event.key === "Enter" || event.key === "Escape") input.blur()
  })
  return {root, show: (value, last) => {
    shown = integer(value)
    put(all, integer(last))
    input.style.width = `calc(${Math.max(3, integer(last).length)}ch + 22px)`
    if (!editing() && input.value !== shown) input.value = shown
  }}
}

const sorted = lanes => [...lanes].sort((a, b) => ORDER.indexOf(a.name) - ORDER.indexOf(b.name))

/** Where the episode begins that is `count` episodes from this position; back, first where this one begins. */
function neighbour(borders, position, count) {
  const here = Math.max(0, borders.findLastIndex(border => border <= position))
  const wanted = count < 0 && borders[here] < position ? here : here + count
  return borders[Math.max(0, Math.min(borders.length - 1, wanted))] || 0
}

/** First and last position of the episode at a position. */
function around({borders, count}, position) {
  const here = Math.max(0, borders.findLastIndex(border => border <= position))
  return {from: borders[here] || 0, to: here + 1 < borders.length ? borders[here + 1] - 1 : count - 1}
}

const shortened = text => text.length > 90 ? `${text.slice(0, 89)}…` : text

function clock(seconds) {
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600)
  const two = value => String(value).padStart(2, "0")
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`
}

/** Where things are: the lanes from TOP to `bottom`, below them the marks, if there are some. */
function scaleOf(width, height, {count, lanes}, marks) {
  const x0 = LEFT, x1 = width - RIGHT, span = Math.max(1, count - 1), bottom = height - (marks.length ? STRIP : 0)
  const lane = (bottom - TOP) / Math.max(1, lanes.length)
  return {x0, x1, height, bottom, lane, x: position => x0 + position / span * (x1 - x0)}
}

function drawTimeline(context, scale, all, now, hover, marked) {
  const {x0, x1, height, bottom, x} = scale
  drawRange(context, scale, marked !== null && hover !== null ? [Math.min(marked, hover), Math.max(marked, hover)] : now.loop)
  drawEpisodes(context, scale, all)
  all.lanes.forEach((lane, index) => drawLane(context, scale, lane, index))
  if (!all.lanes.length) {
    context.fillStyle = colour("grid")
    context.fillRect(x0, TOP + (bottom - TOP) / 2 - 2, x1 - x0, 4)
  }
  const groups = grouped(all.marks, x)
  drawMarks(context, groups, bottom + STRIP / 2)
  if (hover !== null) drawHover(context, scale, all, groups, hover)
  const here = Math.round(x(now.position)) + 0.5
  context.strokeStyle = context.fillStyle = colour("strong")
  context.lineWidth = 1.5
  context.beginPath(); context.moveTo(here, TOP - 3); context.lineTo(here, height); context.stroke()
  context.beginPath(); context.arc(here, TOP - 4, 4.5, 0, 2 * Math.PI); context.fill()
  context.lineWidth = 1
}

function drawRange(context, {x, height}, range) {
  if (range === null) return
  const left = x(range[0]), right = Math.max(left + 2, x(range[1]))
  context.fillStyle = context.strokeStyle = colour("primary")
  context.globalAlpha = 0.16
  context.fillRect(left, TOP, right - left, height - TOP)
  context.globalAlpha = 1
  context.fillRect(left, TOP - 2, right - left, 2)
}

/** A line where each episode begins, and its number where there is room; lines alone would hide what is behind many. */
function drawEpisodes(context, {x0, x1, x, bottom}, {borders, episodes}) {
  const all = borders.length * APART < x1 - x0
  context.font = colour("font-small")
  context.textAlign = "left"
  context.textBaseline = "alphabetic"
  let free = -Infinity, drawn = -Infinity
  borders.forEach((border, index) => {
    const at = Math.round(x(border)) + 0.5, text = free === -Infinity ? `episode ${integer(episodes[index])}` : integer(episodes[index])
    const end = at < free ? Infinity : at + BESIDE + context.measureText(text).width, named = end <= x1 + RIGHT
    if (at - drawn < 3 || !(all || named)) return
    drawn = at
    context.strokeStyle = colour("axis")
    context.beginPath(); context.moveTo(at, TOP - 2); context.lineTo(at, bottom); context.stroke()
    if (!named) return
    context.fillStyle = colour("muted")
    context.fillText(text, at + BESIDE, TOP - 5)
    free = end + 10
  })
}

function drawLane(context, scale, {name, values: {data, shape: [count]}}, index) {
  const {x0, x1, lane} = scale, top = TOP + index * lane + 3, bottom = TOP + (index + 1) * lane - 3
  context.font = colour("font-small")
  context.textAlign = "right"
  context.textBaseline = "middle"
  context.fillStyle = colour("muted")
  context.fillText(name, x0 - 8, (top + bottom) / 2)
  const {low, high} = rangeOf(data, name), y = value => bottom - (value - low) / (high - low) * (bottom - top)
  const x = k => x0 + k / Math.max(1, count - 1) * (x1 - x0)
  if (name === "reward" && isSparse(data)) return drawRewards(context, data, count, x, y)
  context.fillStyle = context.strokeStyle = colour({value: "value", entropy: "return", distance: "against"}[name] || name)
  drawBand(context, data, count, x, y, Math.max(top, Math.min(bottom, y(0))))
}

function rangeOf(data, name) {
  let low = Infinity, high = -Infinity
  for (const value of data) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value) }
  if (name !== "value") { low = Math.min(low, 0); high = Math.max(high, 0) }
  return high > low ? {low, high} : {low: low - 0.5, high: low + 0.5}
}

/** A line through the middles, a band between least and largest value, and a faint area from zero; with gaps where none is known. */
function drawBand(context, data, count, x, y, ground) {
  for (let from = 0; from < count; from++) {
    if (!Number.isFinite(data[2 * from])) continue
    let to = from
    while (to + 1 < count && Number.isFinite(data[2 * to + 2])) to++
    const band = new Path2D(), line = new Path2D(), area = new Path2D()
    area.moveTo(x(from), ground)
    for (let k = from; k <= to; k++) {
      band.lineTo(x(k), y(data[2 * k + 1]))
      line.lineTo(x(k), y((data[2 * k] + data[2 * k + 1]) / 2))
      area.lineTo(x(k), y((data[2 * k] + data[2 * k + 1]) / 2))
    }
    for (let k = to; k >= from; k--) band.lineTo(x(k), y(data[2 * k]))
    area.lineTo(x(to), ground)
    context.globalAlpha = 0.12; context.fill(area)
    context.globalAlpha = 0.45; context.fill(band)
    context.globalAlpha = 1; context.stroke(line)
    from = to
  }
}

/** Whether most columns have no reward. Where they have, stems would be a fence. */
function isSparse(data) {
  let rewarded = 0
  for (let k = 0; k < data.length; k += 2) if (data[k] || data[k + 1]) rewarded++
  return rewarded <= data.length / 4
}

/** A stem for the largest reward above zero and one for the least below it. */
function drawRewards(context, data, count, x, y) {
  const zero = Math.round(y(0)) + 0.5
  context.strokeStyle = colour("grid")
  context.beginPath(); context.moveTo(x(0), zero); context.lineTo(x(count - 1), zero); context.stroke()
  for (const [which, sign, name] of [[1, 1, "good"], [0, -1, "bad"]]) {
    context.strokeStyle = colour(name)
    context.beginPath()
    for (let k = 0; k < count; k++) {
      const value = data[2 * k + which]
      if (value * sign > 0) { context.moveTo(x(k), zero); context.lineTo(x(k), y(value)) }
    }
    context.stroke()
  }
}

/** What there is under the pointer. */
function drawHover(context, scale, {borders, episodes, lanes, count}, groups, hover) {
  const {x, x0, x1, height} = scale, at = Math.round(x(hover)) + 0.5
  context.strokeStyle = colour("muted")
  context.beginPath(); context.moveTo(at, TOP); context.lineTo(at, height); context.stroke()
  const episode = episodes[borders.findLastIndex(border => border <= hover)]
  const values = lanes.map(({name, values: {data, shape: [wide]}}) => {
    const k = Math.min(wide - 1, Math.floor(hover * wide / Math.max(1, count)))
    const [low, high] = [data[2 * k], data[2 * k + 1]]
    return `${name} ${low === high || !Number.isFinite(low) ? number(low) : `${number(low)} … ${number(high)}`}`
  })
  const near = marksNear(groups, x, x(hover))
  const lines = [[`episode ${integer(episode)}`, ...values].join("  ·  "), ...near.slice(0, NEAR).map(mark => shortened(said(mark)))]
  if (near.length > NEAR) lines.push(`and ${integer(near.length - NEAR)} more`)
  context.font = colour("font-small")
  const wide = Math.max(...lines.map(text => context.measureText(text).width)) + 14
  const left = Math.max(x0, Math.min(x1 - wide, at + 8 + wide > x1 ? at - 8 - wide : at + 8))
  context.fillStyle = colour("raised")
  context.strokeStyle = colour("line")
  context.beginPath(); context.roundRect(left, TOP + 4, wide, 5 + 15 * lines.length, 5); context.fill(); context.stroke()
  context.fillStyle = colour("strong")
  context.textAlign = "left"
  context.textBaseline = "middle"
  lines.forEach((text, index) => context.fillText(text, left + 7, TOP + 14.5 + 15 * index))
}
