// The tab's connection to /states, open only while the map is shown: points as they come, and answers to what is asked.

import {decode} from "./feed.js"
import {onView} from "./view.js"

const FRAMES = 128  // frames that are kept

const listeners = new Map()  // section name -> set of functions
const frames = new Map()     // step -> what is known of its frame
const asked = new Set()      // steps whose frames have been asked for
let socket = null
let wanted = false
let state = null

/** Call `take(section)` for each section of this name. */
export function listen(name, take) {
  if (!listeners.has(name)) listeners.set(name, new Set())
  listeners.get(name).add(take)
  if (name === "map" && state !== null) take(state)
  return () => listeners.get(name).delete(take)
}

/** Ask for something, e.g. `{do: "like", step: 7}`; lost while there is no connection. */
export function ask(command) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command))
}

/** What is known of a step's frame, or null: then it has been asked for, and a section `frame` will come. */
export function frameOf(step) {
  if (frames.has(step)) return frames.get(step)
  if (!asked.has(step)) {
    asked.add(step)
    ask({do: "frame", step})
  }
  return null
}

function tell(name, section) {
  if (name === "map") state = section
  if (name === "frame") {
    asked.delete(section.step)
    frames.set(section.step, section)
    if (frames.size > FRAMES) frames.delete(frames.keys().next().value)
  }
  for (const take of listeners.get(name) || []) {
    try { take(section) } catch (error) { console.error(`${name}:`, error) }
  }
}

function connect() {
  const address = new URL("states", document.baseURI)
  address.protocol = address.protocol.replace("http", "ws")
  const mine = socket = new WebSocket(address)
  mine.binaryType = "arraybuffer"
  mine.onopen = () => { asked.clear(); tell("link", {connected: true}) }
  mine.onmessage = ({data}) => {
    const {sections} = decode(data)
    for (const [name, section] of Object.entries(sections)) tell(name, section)
    if (sections.points) ask({do: "got"})
  }
  mine.onclose = () => {
    if (socket !== mine) return
    socket = null
    tell("link", {connected: false})
    if (wanted) setTimeout(() => { if (wanted && socket === null) connect() }, 500)
  }
}

onView(shown => {
  wanted = shown === "states"
  if (wanted && socket === null) connect()
  if (!wanted && socket !== null) {
    const closing = socket
    socket = null
    closing.close()
    frames.clear()  // while the map is hidden the agent may be another
  }
})
