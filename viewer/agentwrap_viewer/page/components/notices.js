// What stands in the way, in words.

import {send, subscribe} from "./feed.js"
import {dress, h} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const root = h("div", {class: "notices", "aria-live": "polite"})
  let items = [], connected = true

  function draw() {
    const gone = {
      id: "gone", level: "error", title: "The viewer is not running any more",
      text: "This page shows what it received last, and comes back when “agentwrap view” is started again.",
    }
    root.replaceChildren(...(connected ? items : [gone]).map(notice))  // what it said last may hold no more
  }

  const stops = [
    subscribe("link", link => { connected = link.connected; draw() }),
    subscribe("notices", source => { items = source.items; draw() }),
  ]
  model.on("remove", () => stops.forEach(stop => stop()))
  return root
}

function notice({id, level, title, text, code, offer}) {
  const body = h("div", {class: "text"}, h("strong", {}, title), h("span", {}, text))
  const root = h("div", {class: `notice ${level} ${id}`, role: level === "error" ? "alert" : "note"}, h("i", {class: "dot"}), body)
  if (offer) {
    const show = () => send({do: "watch", endpoint: offer.endpoint, environment: 0})
    root.append(h("button", {type: "button", class: "offer", onclick: show}, offer.text))
  }
  if (code) root.append(snippet(code))
  return root
}

function snippet(code) {
  const button = h("button", {type: "button", class: "copy"}, "Copy")
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code)
    button.textContent = "Copied"
    setTimeout(() => { button.textContent = "Copy" }, 1500)
  })
  return h("div", {class: "code"}, h("pre", {}, h("code", {}, code)), button)
}
