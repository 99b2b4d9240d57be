// Very many points on a canvas. They are written into its pixels one by one: that takes a few milliseconds for 100,000, on
// any machine, without WebGL.

import {categories, ramp, unknown} from "./ramps.js"

const MANY = 40_000  // points of which single ones need no smooth edge
const GLIDE = 700  // milliseconds in which points move to where a new layout has them

/** The points of a map, by slot. */
export class Points {
  constructor() { this.clear(0) }

  clear(capacity) {
    this.count = 0
    this.step = new Float64Array(capacity)
    this.rows = new Float32Array(0)
    this.wide = 0
    for (const name of ["x", "y", "fromX", "fromY", "toX", "toY"]) this[name] = new Float32Array(capacity)
    this.slots = new Map()  // step -> slot
    this.began = -Infinity
    this.moving = false
  }

  /** Take a message's points in. */
  take({slots, xy, changed, step, rows}, now) {
    const before = this.count, glides = new Uint32Array(slots.data.length)
    this.settle(now)
    let moved = 0
    for (let k = 0; k < slots.data.length; k++) {
      const slot = slots.data[k]
      if (slot < before) glides[moved++] = slot
      else { this.x[slot] = xy.data[2 * k]; this.y[slot] = xy.data[2 * k + 1] }
      this.fromX[slot] = this.x[slot]; this.fromY[slot] = this.y[slot]
      this.toX[slot] = xy.data[2 * k]; this.toY[slot] = xy.data[2 * k + 1]
      if (slot >= this.count) this.count = slot + 1
    }
    if (this.wide !== rows.shape[1]) {
      this.wide = rows.shape[1]
      this.rows = new Float32Array(this.step.length * this.wide).fill(NaN)
    }
    for (let k = 0; k < changed.data.length; k++) {
      const slot = changed.data[k]
      if (slot < before && this.step[slot] !== step.data[k]) {  // another step took its place: it does not glide
        this.slots.delete(this.step[slot])
        this.x[slot] = this.fromX[slot] = this.toX[slot]
        this.y[slot] = this.fromY[slot] = this.toY[slot]
      }
      this.step[slot] = step.data[k]
      this.slots.set(step.data[k], slot)
      this.rows.set(rows.data.subarray(k * this.wide, (k + 1) * this.wide), slot * this.wide)
    }
    if (moved) { this.began = now; this.moving = true }
  }

  /** Make where they are now where the next glide begins. */
  settle(now) {
    if (!this.moving) return
    this.glide(now)
    this.fromX.set(this.x); this.fromY.set(this.y)
  }

  /** Move the points on; whether they are still moving. */
  glide(now) {
    if (!this.moving) return false
    const share = Math.min(1, Math.max(0, (now - this.began) / GLIDE)), eased = share * share * (3 - 2 * share)
    const {x, y, fromX, fromY, toX, toY, count} = this
    for (let k = 0; k < count; k++) {
      x[k] = fromX[k] + (toX[k] - fromX[k]) * eased
      y[k] = fromY[k] + (toY[k] - fromY[k]) * eased
    }
    this.moving = share < 1
    return this.moving
  }

  value(slot, column) { return this.rows[slot * this.wide + column] }

  /** The box around where all are going: {left, right, low, high}, or null of none. */
  bounds() {
    if (!this.count) return null
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity
    for (let k = 0; k < this.count; k++) {
      const x = this.toX[k], y = this.toY[k]
      if (x < left) left = x
      if (x > right) right = x
      if (y < low) low = y
      if (y > high) high = y
    }
    return {left, right, low, high}
  }

  /** The slot nearest to a place within a distance, in the map's coordinates; -1 of none. */
  nearest(x, y, within) {
    let best = within * within, found = -1
    for (let k = 0; k < this.count; k++) {
      const dx = this.x[k] - x, dy = this.y[k] - y, distance = dx * dx + dy * dy
      if (distance < best) { best = distance; found = k }
    }
    return found
  }

  /** Where a column's colours begin and end: its 1st and 99th percentile, of a sample. */
  range(column) {
    const values = [], stride = Math.max(1, Math.floor(this.count / 5000))
    for (let k = 0; k < this.count; k += stride) {
      const value = this.value(k, column)
      if (Number.isFinite(value)) values.push(value)
    }
    if (!values.length) return null
    values.sort((a, b) => a - b)
    const low = values[Math.floor(values.length * 0.01)], high = values[Math.ceil(values.length * 0.99) - 1]
    return {low, high: Math.max(low, high)}
  }

  /** The packed colour of each point. */
  colours(column, kind, range) {
    const out = new Uint32Array(this.count), scale = ramp(), named = categories(), none = unknown()
    const factor = range && range.high > range.low ? 255 / (range.high - range.low) : 0
    for (let k = 0; k < this.count; k++) {
      const value = this.value(k, column)
      if (!Number.isFinite(value)) out[k] = none
      else if (kind === "category") out[k] = named[Math.max(0, value) % named.length]
      else out[k] = scale[factor ? Math.max(0, Math.min(255, Math.round((value - range.low) * factor))) : 128]
    }
    return out
  }
}

/** Which pixels a point of this diameter covers, and how much of each: [dx, dy, opacity] one after the other. */
function stampOf(diameter) {
  const radius = diameter / 2, reach = Math.ceil(radius), out = []
  for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
    const opacity = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(dx, dy)))
    if (opacity > 0.06) out.push(dx, dy, opacity)
  }
  return out
}

/**
 * Draw points into an image. `chosen` (a Uint8Array by slot, or null) has those that stand out; the others are drawn fainter,
 * below them. Returns the image's pixels.
 */
export function paint(image, points, colours, {scale, x: originX, y: originY}, diameter, ground, chosen) {
  const pixels = new Uint32Array(image.data.buffer), {width, height} = image
  pixels.fill(0)
  const stamp = stampOf(diameter), reach = Math.ceil(diameter / 2) + 1
  const solid = [], soft = []
  for (let k = 0; k < stamp.length; k += 3) {
    const offset = stamp[k + 1] * width + stamp[k]
    if (stamp[k + 2] > (points.count > MANY ? 0.4 : 0.85)) solid.push(offset)
    else if (points.count <= MANY) soft.push(offset, Math.round(stamp[k + 2] * 255))
  }
  const inner = Int32Array.from(solid), edge = Int32Array.from(soft), {x, y, count} = points
  for (const standing of chosen === null ? [1] : [0, 1]) {
    for (let k = 0; k < count; k++) {
      if (chosen !== null && chosen[k] !== standing) continue
      const px = Math.round(x[k] * scale + originX), py = Math.round(originY - y[k] * scale)
      if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue
      const at = py * width + px
      const colour = standing ? colours[k] : faint(colours[k], ground)
      for (let j = 0; j < inner.length; j++) pixels[at + inner[j]] = colour
      for (let j = 0; j < edge.length; j += 2) {
        const place = at + edge[j], under = pixels[place]
        if (under === 0) pixels[place] = (colour & 0xffffff | edge[j + 1] << 24) >>> 0
        else pixels[place] = over(colour, under, edge[j + 1])
      }
    }
  }
  return pixels
}

/** A colour over another with an opacity of 0…255. */
function over(colour, under, opacity) {
  const mix = shift => {
    const below = under >>> shift & 255
    return below + (((colour >>> shift & 255) - below) * opacity >> 8) << shift
  }
  const alpha = under >>> 24
  return (mix(16) | mix(8) | mix(0) | alpha + ((255 - alpha) * opacity >> 8) << 24) >>> 0
}

/** A colour, three quarters of the way to the ground. */
function faint(colour, ground) {
  const mix = shift => (((colour >>> shift & 255) + 3 * (ground >>> shift & 255)) >>> 2) << shift
  return (0xff000000 | mix(16) | mix(8) | mix(0)) >>> 0
}
