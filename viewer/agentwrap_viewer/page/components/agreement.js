// What each policy would do, and how far apart they are, here and on all steps.

import {subscribe} from "./feed.js"
import {card, dress, h, integer, number, put} from "./kit.js"

const FIGURES = [
  ["distance", "Distance here"], ["left", "Value, left"], ["right", "Value, right"],
  ["disagreements", "Disagree on"], ["mean", "Mean distance"], ["known", "Steps compared"],
]

export async function render({model, el}) {
  await dress(el)
  const {root, caption, body} = card("agreement", "Agreement")
  const acts = ["left", "right", "recorded"].map(side => {
    const what = h("b", {class: "what"}), who = h("span", {class: "who"})
    return {who, what, root: h("div", {class: `act ${side}`}, who, what)}
  })
  const shown = Object.fromEntries(FIGURES.map(([name, label]) => [name, {term: h("dt", {}, label), value: h("dd", {})}]))
  body.append(h("div", {class: "acts"}, ...acts.map(act => act.root)),
    h("dl", {class: "figures"}, ...FIGURES.map(([name]) => h("div", {class: name}, shown[name].term, shown[name].value))))

  function draw(source) {
    const {known, steps, disagreements} = source, [left, right] = source.names
    root.dataset.agree = source.disagree === null ? "unknown" : source.disagree ? "no" : "yes"
    put(caption, source.disagree === null ? "" : source.disagree ? "they would act differently" : "they would do the same")
    const names = [`${left} would`, `${right} would`, "recorded"]
    ;[...source.actions, source.recorded].forEach((action, index) => {
      put(acts[index].who, names[index])
      put(acts[index].what, action === null ? "…" : action)
    })
    put(shown.distance.value, number(source.distance))
    put(shown.left.term, `Value, ${left}`)
    put(shown.right.term, `Value, ${right}`)
    put(shown.left.value, number(source.values[0]))
    put(shown.right.value, number(source.values[1]))
    put(shown.disagreements.value, known ? `${(100 * disagreements / known).toFixed(1)} %` : "–")
    put(shown.mean.value, number(source.mean_distance))
    put(shown.known.value, known === steps ? "all" : `${integer(known)} of ${integer(steps)}`)
  }

  const stop = subscribe("contrast", (_, source) => draw(source), {calm: true})
  model.on("remove", stop)
  return root
}
