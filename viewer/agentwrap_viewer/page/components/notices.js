// What stands in the way, in words. Each notice can be closed, where it is not all that there is to see.

import {close, keyOf, onNotices} from "./closed.js"
import {send} from "./feed.js"
import {dress, h, put} from "./kit.js"
import {button} from "./playback.js"

export async function render({model, el}) {
  await dress(el)
  const root = h("div", {class: "notices", "aria-live": "polite"})
  let shown = new Map()

  // one that stands keeps its element: what has the focus keeps it, and nothing is read out twice
  function draw(items, closable) {
    shown = new Map(items.map(item => [partsOf(item), shown.get(partsOf(item)) || notice(item)]))
    items.forEach(item => shown.get(partsOf(item)).say(item, closable))
    const wanted = [...shown.values()].map(each => each.root)
    for (const child of [...root.children]) if (!wanted.includes(child)) child.remove()
    wanted.forEach((child, index) => { if (root.children[index] !== child) root.insertBefore(child, root.children[index] || null) })
  }

  const stop = onNotices(draw)
  model.on("remove", stop)
  return root
}

/** What a notice's element is made of; its words alone may change. */
const partsOf = item => JSON.stringify([keyOf(item), item.level, item.offer, item.code])

function notice(item) {
  const {id, level, offer, code} = item
  const title = h("strong"), text = h("span"), shut = button("close", "", () => close(item))
  const root = h("div", {class: `notice ${level} ${id}`, role: level === "error" ? "alert" : "note"},
    h("i", {class: "dot"}), h("div", {class: "text"}, title, text))
  if (offer) {
    const show = () => send({do: "watch", endpoint: offer.endpoint, environment: 0})
    root.append(h("button", {type: "button", class: "offer", onclick: show}, offer.text))
  }
  root.append(shut)
  if (code) root.append(snippet(code))
  return {root, say(said, closable) {
    put(title, said.title)
    put(text, said.text)
    shut.hidden = !closable
    shut.title = "Close"
    shut.setAttribute("aria-label", `Close: ${said.title}`)
  }}
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
