// The header: name, connection, and the figures of the step shown.

import {subscribe} from "./feed.js"
import {dress, h, integer, number, put} from "./kit.js"
import {roster} from "./roster.js"

const WORDS = {
  connected: "streaming", waiting: "waiting for an agent", silent: "agent silent", gone: "agent gone", ended: "agent has ended",
  incompatible: "other version", recorded: "recording", held: "exporting the policy, agent held", lost: "viewer gone",
}
const FIGURES = ["step", "episode", "return", "V(s)", "steps / s", "dropped"]

export async function render({model, el}) {
  await dress(el)
  const dot = h("i", {class: "dot"}), words = h("b"), name = h("span", {class: "name"})
  const all = roster(dot, h("span", {class: "said", role: "status"}, words, name))
  const figures = h("dl", {class: "headline"})
  const cells = Object.fromEntries(FIGURES.map(label => {
    const value = h("dd")
    figures.append(h("div", {class: label.replace(/\W+/g, "")}, h("dt", {}, label), value))
    return [label, value]
  }))
  const root = h("div", {class: "status"}, h("span", {class: "brand"}, "agentwrap"), all.button, all.panel, figures)
  let connected = true

  function drawState(status) {
    const held = connected && status.connection === "connected" && status.awaited === "export"
    const state = !connected ? "lost" : held ? "held" : status.connection
    root.dataset.state = state
    put(words, WORDS[state] || state)
    const which = status.environments > 1 ? ` · ${status.environment}` : ""
    put(name, (status.stream || "") + which)
  }

  const stops = [
    subscribe("link", link => { connected = link.connected; drawState({connection: "waiting", ...link.status}) }),
    subscribe("status", (_, status) => {
      drawState(status)
      put(cells.step, integer(status.step))
      put(cells.episode, integer(status.episode))
      put(cells.return, number(status.return))
      put(cells["V(s)"], number(status.value))
      put(cells["steps / s"], status.rate === null ? "–" : status.rate >= 100 ? integer(status.rate) : status.rate.toFixed(1))
      put(cells.dropped, integer(status.dropped))
      cells["V(s)"].parentElement.hidden = status.gives_value === false
    }, {calm: true}),
  ]
  stops.push(all.stop)
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}
