// The switch between the page's views, in the header.

import {dress, h} from "./kit.js"
import {onView, show} from "./view.js"

const VIEWS = {agent: ["Agent", "The agent's view, and why it acts"], states: ["State map", "A map of the agent's inner states"]}

export async function render({model, el}) {
  await dress(el)
  const buttons = Object.entries(VIEWS).map(([name, [text, title]]) => {
    const button = h("button", {type: "button", title, "data-view": name, "aria-pressed": "false"}, text)
    button.addEventListener("click", () => show(name))
    return button
  })
  const stop = onView(shown => {
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.view === shown)
  })
  model.on("remove", stop)
  return h("div", {class: "views", role: "group", "aria-label": "View"}, ...buttons)
}
