// Inflates zlib data (RFC 1950, 1951) at once. The browser's own DecompressionStream passes every array through several
// threads: 12 ms on a machine that is busy, for what is done here in less than one.

const LENGTHS = ranges(3, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5])
const DISTANCES = ranges(1, [0, 0, 0, 0, ...Array.from({length: 26}, (_, index) => (index >> 1) + 1)])
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

/** First values and extra bits of the codes that stand for ranges. */
function ranges(first, bits) {
  const base = []
  for (const extra of bits) { base.push(first); first += 1 << extra }
  return {base, bits}
}
LENGTHS.base.push(258)
LENGTHS.bits.push(0)

const FIXED = [
  tableOf(Uint8Array.from({length: 288}, (_, code) => code < 144 ? 8 : code < 256 ? 9 : code < 280 ? 7 : 8)),
  tableOf(new Uint8Array(30).fill(5)),
]

/** Return the `size` bytes that `source`, a Uint8Array, stands for; throws an Error where it does not. */
export function inflate(source, size) {
  const out = new Uint8Array(size), reader = new Reader(source)
  if ((source[0] & 15) !== 8 || (source[0] << 8 | source[1]) % 31 || source[1] & 32) throw new Error("not zlib data")
  let length = 0, last = false
  while (!last) {
    last = reader.take(1) === 1
    const kind = reader.take(2)
    if (kind === 3) throw new Error("a block of an unknown kind")
    length = kind === 0 ? store(reader, out, length) : expand(reader, out, length, ...kind === 1 ? FIXED : readTables(reader))
  }
  if (length !== size) throw new Error(`${length} bytes where ${size} were expected`)
  return out
}

/** Bits, lowest first; beyond the end there are zeros, up to a few. */
class Reader {
  constructor(source) { this.source = source; this.at = 2; this.hold = 0; this.count = 0 }

  fill() {
    while (this.count <= 16) {
      if (this.at > this.source.length + 4) throw new Error("the data ends too soon")
      this.hold |= (this.source[this.at++] | 0) << this.count
      this.count += 8
    }
  }

  take(bits) {
    this.fill()
    const value = this.hold & (1 << bits) - 1
    this.hold >>>= bits
    this.count -= bits
    return value
  }

  symbol({entries, bits}) {
    this.fill()
    const entry = entries[this.hold & (1 << bits) - 1], length = entry & 15
    if (length === 0) throw new Error("a code that stands for nothing")
    this.hold >>>= length
    this.count -= length
    return entry >> 4
  }

  /** Drop the bits up to the next byte, and give back the bytes read ahead. */
  align() {
    this.at -= this.count >> 3
    this.hold = this.count = 0
  }
}

/** Look-up table of a canonical Huffman code, indexed by the next bits: symbol << 4 | length of its code. */
function tableOf(lengths) {
  const bits = Math.max(1, ...lengths), entries = new Uint16Array(1 << bits)
  let code = 0
  for (let length = 1; length <= bits; length++, code <<= 1) {
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue
      for (let index = reverse(code++, length); index < entries.length; index += 1 << length) entries[index] = symbol << 4 | length
    }
  }
  return {entries, bits}
}

function reverse(code, length) {
  let turned = 0
  for (; length > 0; length--, code >>= 1) turned = turned << 1 | code & 1
  return turned
}

function readTables(reader) {
  const literals = reader.take(5) + 257, distances = reader.take(5) + 1, count = reader.take(4) + 4
  const own = new Uint8Array(19)
  for (let index = 0; index < count; index++) own[ORDER[index]] = reader.take(3)
  const table = tableOf(own), lengths = new Uint8Array(literals + distances)
  for (let index = 0; index < lengths.length;) {
    const symbol = reader.symbol(table)
    if (symbol < 16) { lengths[index++] = symbol; continue }
    const value = symbol === 16 ? lengths[index - 1] : 0
    const times = symbol === 16 ? 3 + reader.take(2) : symbol === 17 ? 3 + reader.take(3) : 11 + reader.take(7)
    lengths.fill(value, index, index += times)
  }
  return [tableOf(lengths.subarray(0, literals)), tableOf(lengths.subarray(literals))]
}

function store(reader, out, length) {
  reader.align()
  const {source, at} = reader, count = source[at] | source[at + 1] << 8
  if (at + 4 + count > source.length) throw new Error("the data ends too soon")
  out.set(source.subarray(at + 4, at + 4 + count), length)
  reader.at = at + 4 + count
  return length + count
}

function expand(reader, out, length, literals, distances) {
  for (;;) {
    const symbol = reader.symbol(literals)
    if (symbol === 256) return length
    if (symbol < 256) { out[length++] = symbol; continue }
    const count = LENGTHS.base[symbol - 257] + reader.take(LENGTHS.bits[symbol - 257])
    const code = reader.symbol(distances), distance = DISTANCES.base[code] + reader.take(DISTANCES.bits[code])
    if (!(distance <= length) || !(length + count <= out.length)) throw new Error("a copy from beyond the data")
    if (distance === 1) { out.fill(out[length - 1], length, length += count); continue }
    for (const end = length + count; length < end; length++) out[length] = out[length - distance]
  }
}
