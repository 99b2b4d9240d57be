// A row for each feature of a vector observation: its value, and how much actor and critic depend on it.

import {barsIn} from "./bars.js"
import {subscribe} from "./feed.js"
import {keysOf} from "./heat.js"
import {card, dress, h, put} from "./kit.js"

export async function render({model, el}) {
  await dress(el)
  const {root, caption, aside, body} = card("features", model.heading)
  const table = h("div", {class: "bars features", role: "table"}), more = h("button", {type: "button", class: "further", hidden: true})
  body.append(table)
  root.append(more)
  root.classList.toggle("difference", model.source.endsWith("difference"))
  const bars = barsIn(table)
  let drawnKeys = null

  function drawKeys({layers, signed, names}) {
    const scale = names ? "difference" : signed ? "signed" : "magnitude"
    const wanted = `${scale} ${names} ${layers.map(({target, title}) => `${target} ${title}`)}`
    if (wanted === drawnKeys) return
    drawnKeys = wanted
    aside.replaceChildren(...layers.length ? keysOf(layers, scale, names) : [])
    aside.title = signed && layers.length > 1 ? "the upper bar is the actor's, the lower one the critic's" : ""
  }

  /** Say how many rows are below what is seen of the list. */
  function tellMore() {
    const end = body.getBoundingClientRect().bottom
    const below = [...table.querySelectorAll(".row")].filter(row => row.getBoundingClientRect().bottom > end + 4).length
    more.hidden = below === 0
    put(more, `${below} more ↓`)
  }
  body.addEventListener("scroll", tellMore, {passive: true})
  more.addEventListener("click", () => body.scrollBy({top: body.clientHeight - 40, behavior: "smooth"}))
  const fit = new ResizeObserver(tellMore)
  fit.observe(body)
  fit.observe(table)

  // where there is no picture, the rows have all the room
  const stopStage = subscribe("stage", source => { if ("frame" in source) root.classList.toggle("alone", source.frame === null) })
  const stop = subscribe(model.source, source => {
    put(caption, source.methods.length ? `by ${source.methods.join(" and ").toLowerCase()}` : "")
    caption.title = source.methods.length ? "how much the policy depends on each value" : ""
    bars(source)
  })
  // together with the policy's bars and the map's age: drawn at once it would speak of a later step than they
  const stopKeys = subscribe(model.source, (_, source) => drawKeys(source), {calm: true})
  model.on("remove", () => { stop(); stopKeys(); stopStage(); fit.disconnect() })
  return root
}
