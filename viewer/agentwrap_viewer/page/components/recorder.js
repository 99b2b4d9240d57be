// The record button: begins and ends a recording of what the page receives, and says where it is.

import {send, subscribe} from "./feed.js"
import {h, put} from "./kit.js"

//: Milliseconds for which the button says where the recording is that has just ended.
const TOLD = 12000

/** Return {element, stop}: hidden where there is nothing that could record. */
export function recordButton() {
  const text = h("span", {class: "text"}, "REC")
  const element = h("button", {type: "button", class: "record", hidden: true, onclick: press}, h("i", {class: "mark"}), text)
  let now = {running: false}, told = 0  // until when the button says how the last one ended

  function press() { send({do: "record", on: !now.running}) }

  const stop = subscribe("recorder", (_, all) => {
    if (now.running && !all.running) {
      told = performance.now() + TOLD
      setTimeout(() => draw(now), TOLD)
    }
    draw(all)
  }, {calm: true})
  return {element, stop}

  function draw(all) {
    now = {...all}
    const telling = !now.running && performance.now() < told
    element.hidden = !now.possible && !now.running && !telling
    element.setAttribute("aria-pressed", now.running)
    element.dataset.told = telling ? (now.failed ? "failed" : "saved") : ""
    put(text, now.running ? `${clock(now.seconds)} · ${size(now.bytes)}` : telling ? ended(now) : "REC")
    const title = describe(now)
    if (element.title === title) return
    element.title = title
    element.setAttribute("aria-label", title)
  }
}

const ended = ({failed, path}) => failed ? "not recorded" : `saved ${path.split(/[\\/]/).pop()}`

function describe({running, path, outcome}) {
  if (running) return `Recording to ${path}. Press to end it.`
  return `Record what is streamed from now on, to a file beside where the viewer was started.${outcome ? `\nLast: ${outcome}` : ""}`
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

function size(bytes) {
  const mebibytes = bytes / 2 ** 20
  return mebibytes < 1024 ? `${mebibytes.toFixed(mebibytes < 10 ? 1 : 0)} MB` : `${(mebibytes / 1024).toFixed(1)} GB`
}
