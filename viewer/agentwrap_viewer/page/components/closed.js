// The notices that stand in this tab: what the server says, or that it is gone, less what the user closed.

import {subscribe} from "./feed.js"

const GONE = {
  id: "gone", about: "", level: "error", title: "The viewer is not running any more",
  text: "This page shows what it received last, and comes back when “agentwrap view” is started again.",
}

/** Tells notices apart: of one kind there may be several, and what one says may change while it stands. */
export const keyOf = ({id, about}) => `${id} ${about}`

const listeners = new Set(), closed = new Set()
let items = [], closable = false, connected = true

/** Call `draw(notices, closable)` now and whenever others stand; the function returned ends that. */
export function onNotices(draw) {
  listen()
  listeners.add(draw)
  draw(standing(), closable)
  return () => listeners.delete(draw)
}

/** Show a notice no more until what it is about has passed and comes again. */
export function close(item) {
  closed.add(keyOf(item))
  tell()
}

// what the server said last may hold no more where it is gone
const said = () => connected ? items : [GONE]

const standing = () => said().filter(item => !closable || !closed.has(keyOf(item)))

function tell() {
  for (const draw of listeners) draw(standing(), closable)
}

function renew() {
  const keys = new Set(said().map(keyOf))
  for (const key of closed) if (!keys.has(key)) closed.delete(key)
  tell()
}

let listening = false
function listen() {
  if (listening) return
  listening = true
  subscribe("link", link => { connected = link.connected; renew() })
  subscribe("notices", source => { ({items, closable} = source); renew() })
}
