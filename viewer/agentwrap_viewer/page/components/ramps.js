// Numbers and categories in colour, for points on the page's ground.

// From cold to warm, with lightness growing (dark ground) or falling (light ground) all the way: the ramp is read without
// hue, too. Ends stay away from the ground.
const RAMPS = {
  dark: ["#4257c9", "#2b84b8", "#2fae93", "#8ccb5e", "#f7e256"],
  light: ["#c9a227", "#5ca24e", "#1f8a8a", "#2a5ea8", "#3b1f7a"],
}
// Okabe & Ito 2008, made a little lighter or darker where the ground wants it, and further ones apart from those.
const CATEGORIES = {
  dark: ["#56b4e9", "#e69f00", "#2fc796", "#f0e442", "#ff7a45", "#d38ac0", "#8c9bff", "#b5e07b", "#ff9db0", "#9aa5b4"],
  light: ["#0072b2", "#c77700", "#00825d", "#8a7a00", "#c8451b", "#a9428a", "#4b48c8", "#4d7c0f", "#b8325a", "#5c6675"],
}
const UNKNOWN = {dark: "#3a4557", light: "#c3cbd6"}

const theme = () => document.documentElement.dataset.awTheme === "light" ? "light" : "dark"
const parse = text => [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16))
/** Pack red, green, blue as a canvas holds them. */
export const packed = ([red, green, blue]) => (0xff000000 | blue << 16 | green << 8 | red) >>> 0

/** 256 packed colours from low to high. */
export function ramp() {
  const stops = RAMPS[theme()].map(parse)
  return Uint32Array.from({length: 256}, (_, k) => {
    const at = k / 255 * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2), share = at - low
    return packed(stops[low].map((value, c) => Math.round(value + (stops[low + 1][c] - value) * share)))
  })
}

/** The ramp as a CSS gradient. */
export const gradient = () => `linear-gradient(90deg, ${RAMPS[theme()].join(", ")})`

/** The CSS colour of a category; there are ten. */
export const category = index => CATEGORIES[theme()][index % 10]

/** The packed colours of categories, and of what is not known. */
export const categories = () => Uint32Array.from(CATEGORIES[theme()], text => packed(parse(text)))
export const unknown = () => packed(parse(UNKNOWN[theme()]))
export const unknownText = () => UNKNOWN[theme()]
