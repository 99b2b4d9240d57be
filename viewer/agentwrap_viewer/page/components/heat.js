// Scores in colour: which colour stands for what, and the words that say so. The player of exported runs has this file in itself.

import {h} from "./elements.js"

// Actor blue and critic red, as in Greydanus et al. 2018; light enough to be seen on a game's dark blue and dark red.
// A part of what the actor computes, an action or a choice, is green. Signed scores have a pair of their own: orange and
// violet, which no common colour blindness confuses.
export const COLOURS = {
  actor: [92, 176, 255], critic: [255, 72, 72], part: [84, 226, 150], for: [255, 150, 40], against: [178, 112, 255],
}

/** What a target is to the eye: `actor`, `critic`, or a `part` of what the actor computes. */
export const kindOf = target => target === "actor" || target === "critic" ? target : "part"

/** The colours of a target's positive and negative scores. */
export function coloursOf({target, scale}) {
  if (isSigned(scale)) return [COLOURS.for, COLOURS.against]
  return [COLOURS[kindOf(target)], COLOURS[kindOf(target)]]
}

/** Whether colour tells the sign: of scores, or of a difference of maps. */
export const isSigned = scale => scale === "signed" || scale === "difference"

/**
 * The legend's entries: one for each of the layers, which have a `target` and its `title`; for signed scores what speaks for
 * it and what speaks against; for a difference which of the two policies with these `names` looks there more.
 */
export function keysOf(layers, scale, names = []) {
  const titles = layers.map(({title}) => title).join(", ")
  if (scale === "difference") return [h("span", {title: "who depends on it more, as shares of each map's largest score"}, `${titles}:`), key("against", `more in ${names[0]}`), key("for", `more in ${names[1]}`)]
  if (scale !== "signed") return layers.map(({target, title}) => key(kindOf(target), title))
  return [key("for", `raises ${titles}`), key("against", "lowers")]
}

const key = (kind, text) => h("span", {class: `key ${kind}`}, text)
