// The tab's one connection to the server's /frames: decodes what comes, hands each section to whoever draws it, and
// acknowledges after the browser has painted. The layout of a message is described in page/packet.py.

import {take} from "./history.js"

const listeners = new Map()   // section name -> Set of functions
const latest = new Map()      // section name -> everything received of it, merged
const inflating = typeof DecompressionStream !== "undefined"

let socket = null
let server = null
let work = Promise.resolve()

const TYPES = {
  "|u1": Uint8Array, "|b1": Uint8Array, "|i1": Int8Array, "<u2": Uint16Array, "<i2": Int16Array,
  "<u4": Uint32Array, "<i4": Int32Array, "<f4": Float32Array, "<f8": Float64Array,
}

/** Call `draw(changes, all)` for each message that has a section of this name, and now if there was one before. */
export function subscribe(name, draw) {
  if (!listeners.has(name)) listeners.set(name, new Set())
  listeners.get(name).add(draw)
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
  socket = new WebSocket(address)
  socket.binaryType = "arraybuffer"
  const mine = socket
  let opened = false
  socket.onopen = () => { opened = true; dispatch("link", {connected: true}) }
  // one after the other: inflating is asynchronous and must not change their order
  socket.onmessage = event => { work = work.then(() => show(mine, event.data)).catch(error => console.error(error)) }
  socket.onclose = () => {
    dispatch("link", {connected: false})
    setTimeout(connect, opened ? 300 : 1000)
  }
}

async function show(from, data) {
  const length = new DataView(data).getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)))
  if (server !== null && server !== header.server) return location.reload()
  server = header.server
  await readArrays(header.sections, data, 4 + length)
  await new Promise(painted => requestAnimationFrame(painted))
  if (header.sections.series) take(header.sections.series)
  for (const [name, section] of Object.entries(header.sections)) dispatch(name, section)
  if (from.readyState === WebSocket.OPEN) from.send('{"do":"painted"}')
  document.dispatchEvent(new CustomEvent("agentwrap:painted", {detail: describe(header)}))
}

function dispatch(name, section) {
  const all = Object.assign(latest.get(name) || {}, section)
  latest.set(name, all)
  for (const draw of listeners.get(name) || []) {
    try { draw(section, all) } catch (error) { console.error(`${name}:`, error) }
  }
}

/** What a measuring program wants to know: which step and which map this paint showed, and when they were made. */
function describe(header) {
  const status = latest.get("status"), lag = (latest.get("stage") || {}).lag
  return {
    number: header.number,
    step: status ? status.step : null,
    stepTime: status ? status.time : null,
    mapStep: lag ? lag.step : null,
    mapTime: lag ? lag.time : null,
    newHeat: Boolean(header.sections.stage && header.sections.stage.heat),
    now: Date.now() / 1000,
  }
}

async function readArrays(value, data, base) {
  if (value === null || typeof value !== "object") return
  if (value.dtype !== undefined && value.offset !== undefined) {
    const bytes = new Uint8Array(data, base + value.offset, value.bytes)
    // a copy, also where nothing is inflated: typed arrays must be aligned
    const buffer = value.deflated ? await inflate(bytes) : bytes.slice().buffer
    value.data = new TYPES[value.dtype](buffer)
    return
  }
  await Promise.all(Object.values(value).map(item => readArrays(item, data, base)))
}

async function inflate(bytes) {
  if (!inflating) throw new Error("this browser is too old: it has no DecompressionStream")
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer()
}
