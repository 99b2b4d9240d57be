// The scalars of the last steps as this tab has them: a ring of rows at the server's positions. The feed fills it, so that
// nothing is missed before the first chart is there.

let width = 0, length = 0, rows = null, first = 0, end = 0, fields = []

/** Take in what came since the last message. */
export function take(section) {
  if (section.reset || rows === null) {
    fields = section.fields
    width = fields.length
    length = section.length
    rows = new Float64Array(width * length)
    first = end = section.start
  }
  const data = section.rows.data
  if (section.start > end) first = end = section.start  // some were lost: begin anew
  for (let k = 0; k < data.length / width; k++, end++) {
    rows.set(data.subarray(k * width, (k + 1) * width), (end % length) * width)
  }
  first = Math.max(first, end - length)
}

/** First position kept, and the one after the last. */
export const reach = () => ({first, end})

/** The value of a field at a position; NaN where there is none. */
export function at(position, field) {
  if (rows === null || position < first || position >= end) return NaN
  return rows[(position % length) * width + fields.indexOf(field)]
}

/** Positions of the window of `count` steps that ends with the step shown. */
export function windowUntil(position, count) {
  const last = Math.min(position, end - 1)
  return {from: Math.max(first, last - count + 1), last}
}
