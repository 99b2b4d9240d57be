// Light or dark: what the system prefers, unless the user chose. Sets the Material controls' theme along with ours.

import {dress, h, setTheme} from "./kit.js"

const KEY = "agentwrap-theme"

/** Let the page be seen once the Material controls, which follow a moment later, have the same ground. */
function reveal(patience = 100) {
  const style = getComputedStyle(document.documentElement)
  const [ours, theirs] = ["--aw-ground", "--panel-background-color"].map(name => style.getPropertyValue(name).trim())
  if ((ours && ours === theirs) || patience === 0) document.documentElement.dataset.awShown = ""
  else setTimeout(reveal, 20, patience - 1)
}

export async function render({model, el}) {
  const system = matchMedia("(prefers-color-scheme: dark)")
  const remembered = () => { try { return localStorage.getItem(KEY) } catch { return null } }
  const apply = dark => { model.dark = dark; setTheme(dark) }
  const follow = () => { if (remembered() === null) apply(system.matches) }

  model.wide = matchMedia("(min-width: 900px)").matches
  apply(remembered() === null ? system.matches : remembered() === "dark")
  await dress(el)
  reveal()
  const button = h("button", {type: "button", class: "theme", title: "Light or dark", "aria-label": "Light or dark"})
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2v14a7 7 0 0 1 0-14z"/></svg>`
  button.addEventListener("click", () => {
    apply(!model.dark)
    try { localStorage.setItem(KEY, model.dark ? "dark" : "light") } catch { /* then it lasts until the page is left */ }
  })
  system.addEventListener("change", follow)
  model.on("remove", () => system.removeEventListener("change", follow))
  return button
}
