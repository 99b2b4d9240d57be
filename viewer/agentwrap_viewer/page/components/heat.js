// Scores in colour: which colour stands for what, and the words that say so.

import {h} from "./kit.js"

// Actor blue and critic red, as in Greydanus et al. 2018; light enough to be seen on a game's dark blue and dark red.
// Signed scores have a pair of their own: orange and violet, which no common colour blindness confuses.
export const COLOURS = {actor: [92, 176, 255], critic: [255, 72, 72], for: [255, 150, 40], against: [178, 112, 255]}

const NAMES = {chosen: "chosen action"}

/** The colours of a target's positive and negative scores. Those of neither actor nor critic are drawn like the actor's. */
export function coloursOf({target, scale}) {
  if (isSigned(scale)) return [COLOURS.for, COLOURS.against]
  return [COLOURS[target] || COLOURS.actor, COLOURS.actor]
}

/** Whether colour tells the sign: of scores, or of a difference of maps. */
export const isSigned = scale => scale === "signed" || scale === "difference"

/**
 * The legend's entries: one for each target; for signed scores what speaks for it and what speaks against; for a difference
 * which of the two policies with these `names` looks there more.
 */
export function keysOf(targets, scale, names = []) {
  const name = target => NAMES[target] || target
  if (scale === "difference") return [h("span", {title: "who looks there more, as shares of each map's largest score"}, `${targets.map(name).join(", ")}:`), key("against", names[0]), key("for", names[1])]
  if (scale !== "signed") return targets.map(target => key(target === "critic" ? "critic" : "actor", name(target)))
  return [key("for", `raises ${targets.map(name).join(", ")}`), key("against", "lowers")]
}

const key = (kind, text) => h("span", {class: `key ${kind}`}, text)
