// Elements and numbers: what needs no page around it. The player of exported runs has this file in itself.

/** Return an element. `properties` are set on it; `class` and `data-…`, `aria-…`, `role` become attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class" || name === "role" || name.includes("-")) element.setAttribute(name, value)
    else element[name] = value
  }
  element.append(...children.filter(child => child !== null && child !== undefined))
  return element
}

/** Set an element's text only where it differs. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text
}

// ---- numbers --------------------------------------------------------------------------------------------------------

const thousands = new Intl.NumberFormat("en-US")

export function integer(value) {
  return value === null || value === undefined ? "–" : thousands.format(Math.round(value))
}

/** Three significant digits or so, never more than needed; "–" where there is no number. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–"
  const size = Math.abs(value)
  if (size >= 10000) return thousands.format(Math.round(value))
  if (size >= 100) return value.toFixed(Number.isInteger(value) ? 0 : 1)
  if (Number.isInteger(value)) return value.toFixed(0)
  if (size >= 0.095) return value.toFixed(2)
  return size < 1e-12 ? "0" : value.toPrecision(2)
}

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–"
  const value = seconds * 1000
  if (value >= 10000) return `${(value / 1000).toFixed(0)} s`
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`
  return value < 10 ? `${value.toFixed(1)} ms` : `${value.toFixed(0)} ms`
}
