// The tab's one connection to the server's /frames: decodes what comes, hands each section to whoever draws it, and
// acknowledges what it has drawn. The layout of a message is described in page/packet.py.

import {take} from "./history.js"
import {inflate} from "./inflate.js"
import {placeKept} from "./place.js"

// Milliseconds between two drawings of what is read rather than watched. They are drawn together, because each change of
// a text costs a layout of the page.
const CALM = 100

const listeners = new Map()   // section name -> Map of functions to whether they are calm
const latest = new Map()      // section name -> everything received of it, merged
const waiting = new Map()     // section name -> what its calm listeners have not seen

let socket = null
let server = null
let arrived = []              // messages decoded and not yet drawn
let calmed = -Infinity        // when calm listeners were called last
let later = null

const TYPES = {
  "|u1": Uint8Array, "|b1": Uint8Array, "|i1": Int8Array, "<u2": Uint16Array, "<i2": Int16Array,
  "<u4": Uint32Array, "<i4": Int32Array, "<f4": Float32Array, "<f8": Float64Array,
}

/**
 * Call `draw(changes, all)` when a section of this name has come, and now if there was one before. Where `calm`, that is
 * at most ten times a second, with all that has changed since.
 */
export function subscribe(name, draw, {calm = false} = {}) {
  if (!listeners.has(name)) listeners.set(name, new Map())
  listeners.get(name).set(draw, calm)
  if (latest.has(name)) draw(latest.get(name), latest.get(name))
  if (socket === null) connect()
  return () => listeners.get(name).delete(draw)
}

/** Ask the server for something, e.g. `{do: "pause"}`; lost while there is no connection. */
export function send(command) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command))
}

function connect() {
  const address = new URL("frames", document.baseURI)
  address.protocol = address.protocol.replace("http", "ws")
  const begin = placeKept()
  if (begin !== null) address.searchParams.set("begin", begin)
  socket = new WebSocket(address)
  socket.binaryType = "arraybuffer"
  const mine = socket
  let opened = false
  socket.onopen = () => { opened = true; dispatch("link", {connected: true}) }
  socket.onmessage = event => accept(mine, event.data)
  socket.onclose = () => {
    dispatch("link", {connected: false})
    setTimeout(connect, opened ? 300 : 1000)
  }
}

/** Decode a message, to be drawn with the browser's next frame; what comes until then is drawn with it. */
function accept(from, data) {
  const received = now(), header = decode(data)
  if (server !== null && server !== header.server) return location.reload()
  server = header.server
  arrived.push({from, header, received})
  if (arrived.length === 1) requestAnimationFrame(show)
}

/** Return a message's header; the arrays that it describes have their elements as `data`. */
export function decode(data) {
  const length = new DataView(data).getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)))
  readArrays(header.sections, data, 4 + length)
  return header
}

/** Draw what has arrived, up to one picture: the next one is seen as well, with the frame after this. */
function show() {
  const pictures = arrived.flatMap(({header: {sections}}, index) => sections.stage && sections.stage.frame ? [index] : [])
  const messages = arrived.splice(0, pictures.length > 1 ? pictures[1] : arrived.length), changes = new Map()
  if (arrived.length) requestAnimationFrame(show)
  for (const {header: {sections}} of messages) {
    if (sections.series) take(sections.series)
    for (const [name, section] of Object.entries(sections)) changes.set(name, {...changes.get(name), ...section})
  }
  for (const [name, section] of changes) dispatch(name, section)
  settle()
  for (const {from} of messages) if (from.readyState === WebSocket.OPEN) from.send('{"do":"painted"}')
  document.dispatchEvent(new CustomEvent("agentwrap:painted", {detail: describe(messages)}))
}

function dispatch(name, section) {
  const all = Object.assign(latest.get(name) || {}, section)
  latest.set(name, all)
  waiting.set(name, {...waiting.get(name), ...section})
  call(name, section, false)
}

/** Call calm listeners, or see to it that they will be. */
function settle() {
  const {mode} = latest.get("transport") || {}
  const left = mode === "paused" ? 0 : calmed + CALM - performance.now()  // who pauses and steps should see it at once
  if (left > 0) {
    if (later === null) later = setTimeout(() => requestAnimationFrame(settle), left)
    return
  }
  clearTimeout(later)
  later = null
  calmed = performance.now()
  for (const [name, section] of waiting) call(name, section, true)
  waiting.clear()
}

function call(name, section, calm) {
  for (const [draw, isCalm] of listeners.get(name) || []) {
    if (isCalm !== calm) continue
    try { draw(section, latest.get(name)) } catch (error) { console.error(`${name}:`, error) }
  }
}

/** What a measuring program wants to know: which step and which map this paint showed, and what happened to them when. */
function describe(messages) {
  const hot = messages.filter(({header}) => header.sections.stage && header.sections.stage.heat)
  const {header: {number, packed}, received} = hot.at(-1) || messages.at(-1)
  const status = latest.get("status"), lag = (latest.get("stage") || {}).lag
  return {
    number, packed, received, drawn: now(),
    step: status ? status.step : null,
    stepTime: status ? status.time : null,
    map: lag || null,
    newHeat: hot.length > 0,
  }
}

/** Seconds since the epoch, to a fraction of a millisecond. */
const now = () => (performance.timeOrigin + performance.now()) / 1000

function readArrays(value, data, base) {
  if (value === null || typeof value !== "object") return
  if (value.dtype === undefined || value.offset === undefined) {
    for (const item of Object.values(value)) readArrays(item, data, base)
    return
  }
  const bytes = new Uint8Array(data, base + value.offset, value.bytes), type = TYPES[value.dtype]
  const size = value.shape.reduce((product, length) => product * length, type.BYTES_PER_ELEMENT)
  // a copy, also where nothing is inflated: typed arrays must be aligned
  value.data = new type((value.deflated ? inflate(bytes, size) : bytes.slice()).buffer)
}
