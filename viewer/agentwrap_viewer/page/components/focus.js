// Where the keys go: the page's own keys to the page again as soon as who used the mouse is done with a control. Who came to
// a control with the keyboard keeps it.

// Keys that say nothing about how somebody goes about: they close a menu, or belong to another one.
const NEUTRAL = new Set(["Escape", "Shift", "Control", "Alt", "Meta"])

// Keys by which a choice opens (WAI-ARIA, pattern "combobox").
const OPENING = {keydown: new Set(["Enter", "ArrowDown", "ArrowUp"]), keyup: new Set([" "])}

// What is operated by a click and would take the keys from then on. Where text is typed the focus stays.
const CLICKED = "button, [role=button], [role=switch], input[type=checkbox], input[type=radio]"

let pointing = false, pointed = false  // now, and before the key that is being handled
window.addEventListener("pointerdown", () => { pointing = true }, {capture: true})
window.addEventListener("keydown", event => {
  pointed = pointing
  if (!NEUTRAL.has(event.key)) pointing = false
}, {capture: true})

/** Whether what was done last was done with a mouse, a pen or a finger. */
export const byPointer = () => pointing

/** The element that has the focus, in whatever shadow root it is. */
export function focused() {
  let element = document.activeElement
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
  return element
}

/** Have controls that are clicked let go of the focus, and choices open by keys; the function returned ends that. */
export function tendControls() {
  document.addEventListener("click", leaveClicked)
  for (const kind in OPENING) document.addEventListener(kind, openChoice)
  return () => {
    document.removeEventListener("click", leaveClicked)
    for (const kind in OPENING) document.removeEventListener(kind, openChoice)
  }
}

/**
 * panel_material_ui's choices open when they are clicked, and by nothing else. With the space bar that is when it is
 * released: that would else choose the first item.
 */
function openChoice(event) {
  const control = event.composedPath()[0]
  if (!OPENING[event.type].has(event.key) || !isClosedChoice(control)) return
  event.preventDefault()
  control.click()
}

const isClosedChoice = node => node instanceof Element && node.matches("[role=combobox][aria-expanded=false]:not(input)")

function leaveClicked(event) {
  if (!pointing) return
  // by the event's path: the icon that was hit may be gone from the button by now
  event.composedPath().find(node => node instanceof Element && node.matches(CLICKED))?.blur()
}

/**
 * The choice that has the focus only because its menu gave it back after a click, and so is not meant by a key; else null.
 * When that happens cannot be seen from outside of its shadow root, so it is looked for when a key comes.
 */
export function leftChoice(event) {
  const control = event.composedPath()[0]
  return pointed && isClosedChoice(control) ? control : null
}

/** Whether a key is meant for the control that has the focus: text, a choice, a slider, or a button. */
export function isTaken(event) {
  const target = event.composedPath()[0]
  if (!(target instanceof Element)) return false
  if (target.matches("input[type=range]")) return event.key !== " "
  if (target.closest("input, textarea, select, [contenteditable], [role=combobox], [role=listbox], [role=option], [role=menu]")) return true
  return event.key === " " && target.closest("button, [role=button]") !== null
}
