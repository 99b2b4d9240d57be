// How the explanation does.

import {subscribe} from "./feed.js"
import {card, dress, h, integer, milliseconds, number, put} from "./kit.js"

const STATES = {
  none: "not running", down: "restarting", starting: "starting", waiting: "waiting for an agent",
  pending: "waiting for the policy", ready: "", unable: "unable",
}
const FIGURES = ["maps / s", "compute", "age", "refined", "replica", "weights"]

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("explanation", "Explainer")
  const list = h("dl", {class: "figures"})
  const cells = {}, labels = {}
  for (const name of FIGURES) {
    cells[name] = h("dd")
    labels[name] = h("dt", {}, name)
    list.append(h("div", {}, labels[name], cells[name]))
  }
  body.append(list)
  const version = h("span"), age = h("small", {title: "for so long they had acted, at the step shown"})
  cells.weights.append(version, age)

  const stop = subscribe("explanation", (_, source) => {
    const map = source.map
    put(caption, STATES[source.state] || (map ? map.methods.join(", ") : "ready"))
    put(aside, source.probed ? `probed, ${integer(source.probed.ms_per_s)} ms/s` : source.device || "")
    aside.title = source.probed ? probedTitle(source.probed) : ""
    put(labels.replica, source.probed ? "answers" : "replica")
    put(cells["maps / s"], source.rate === null ? "–" : source.rate.toFixed(1))
    put(cells.compute, milliseconds(map ? map.seconds : null))
    put(cells.age, map ? (map.behind === 0 ? "this step" : milliseconds(map.age)) : "–")
    put(cells.refined, map ? `${Math.floor(map.refined * 100 + 1e-6)} %` : "–")
    const weights = source.map ? source.map.version : source.policy_version  // a recording is explained by several
    put(labels.weights, source.probed ? "policy" : "weights")
    put(version, weights === null || (source.probed && !weights) ? "–" : `v${integer(weights)}`)
    put(age, source.weights_age === null ? "" : `${integer(Math.round(source.weights_age))} s`)
    drawCheck(cells.replica, source.replica)
    list.title = map ? `step ${integer(map.step)}, ${integer(map.forwards)} forwards` : ""
  }, {calm: true})
  model.on("remove", stop)
  return root
}

function probedTitle({ms_per_s, why}) {
  return `The policy is asked in the agent's process, for at most ${integer(ms_per_s)} ms of each second`
    + ` (probe_ms_per_s): ${why}`
}

function drawCheck(cell, {state, difference}) {
  const words = {unknown: "–", same: "agrees", stale: "updating", differs: "differs"}
  put(cell, words[state])
  cell.className = {same: "good", differs: "bad"}[state] || ""  // that weights move while an agent learns is no alarm
  const expected = state === "stale" ? "; expected, since the agent's weights moved on after they were sent" : ""
  cell.title = difference === null ? "" : `largest difference of outputs: ${number(difference)}${expected}`
}
