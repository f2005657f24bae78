// Models after they were measured on a text: in their order, each score explained, nothing unknown made up.

import { decimal, fill, h, notice, number, own, percent, size } from "./dom.js";
import { bar } from "./charts.js";
import { copyButton } from "./copy.js";
import { told, withJson } from "./api.js";

/** A value, or the word that there is none. */
export const known = (value, shown = (it) => it) => (value === null || value === undefined ? h("span", { class: "unknown" }, "unknown") : shown(value));

/** A large number in words: 7.6 B. */
export function short(value) {
  for (const [unit, of] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) if (value >= of) return `${decimal(value / of, value / of < 100 ? 1 : 0)} ${unit}`;
  return number(value);
}

/** In the order of their ranks; those that are not ranked after them, by tokens needed; those that were dropped last. */
export function ordered(results) {
  const place = (result) => [result.kept ? 0 : 1, result.rank ?? Infinity, result.count ?? Infinity, result.name];
  return [...results].sort((a, b) => {
    const [one, two] = [place(a), place(b)];
    const at = one.findIndex((value, n) => value !== two[n]);
    return at === -1 ? 0 : one[at] < two[at] ? -1 : 1;
  });
}

/** One model: what it does with the text, its score, and why. `chosen` are those that stand side by side. */
export function row(result, model, { chosen, onchosen, onimported }) {
  const { card, derived } = model;
  const tick = h("input", { type: "checkbox", checked: chosen.includes(result.name), "aria-label": `Put ${result.name} side by side`, onchange: () => onchosen(result.name, tick.checked) });
  const cells = [
    ["tokens", known(result.count, number)],
    ["chars per token", known(result.characters_per_token, (value) => decimal(value))],
    ["of the context", known(result.context.share, (value) => percent(value, value < 0.01 ? 3 : 1))],
    ["cache of this text", known(result.kv_bytes?.longest, size)],
    ["relative cost", known(result.cost.relative, (value) => `${decimal(value)} ×`)],
    ["kept whole", known(result.kept_whole?.share, (value) => percent(value))],
    ["memory", known(result.serving.total_bytes, size)],
    ["GPUs", known(result.serving.gpus, number)],
    ["parameters", known(derived.parameters, (value) => (derived.active_parameters !== null && derived.active_parameters !== value ? `${short(value)}, ${short(derived.active_parameters)} active` : short(value)))],
    ["licence", known(card.licence, ({ name }) => own(name))],
  ];
  return h("li", { class: `model ${result.kept ? "" : "dropped"}` },
    h("div", { class: "model-head" }, tick, h("span", { class: "rank-number" }, result.rank === null ? "–" : String(result.rank)),
      h("h3", {}, own(result.name)), h("span", { class: "note" }, [card.vendor, card.released].filter(Boolean).join(", ")), score(result)),
    result.kept ? null : h("p", { class: "why-not" }, "Left out: ", result.fails.map(({ filter, wanted, value }) => `${filter.replaceAll("_", " ")}: wanted ${plain(wanted)}, is ${plain(value)}`).join("; "), result.fails.length === 0 && "a filter that its card says nothing of"),
    result.unknown.length > 0 && h("p", { class: "help" }, "Not known: ", result.unknown.map(({ filter }) => filter.replaceAll("_", " ")).join(", ")),
    h("dl", { class: "cells" }, cells.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    result.missing_vocab && missing(result.missing_vocab, onimported),
    result.factors.length > 0 && explained(result.factors));
}

const plain = (value) => (Array.isArray(value) ? value.join(", ") : value === null ? "unknown" : typeof value === "number" ? number(value) : String(value));

function score({ score: value, score_range: range, known_weight: share }) {
  if (value === null) return null;
  const about = range[0] === range[1] ? "" : `, between ${decimal(range[0])} and ${decimal(range[1])}`;
  const shown = bar([["fill-0", range[0]], ["fill-0 maybe", Math.max(0, range[1] - range[0])]], `score ${decimal(value)}${about}`);
  return h("span", { class: "score" }, shown, h("strong", {}, decimal(value)), h("span", { class: "note" }, share < 1 ? `${percent(share, 0)} of the weights known${about}` : ""));
}

function explained(factors) {
  const total = factors.reduce((sum, { weight }) => sum + weight, 0);
  return h("details", {}, h("summary", {}, "How the score comes about"), h("ul", { class: "factors" }, factors.map(({ factor, weight, score: value, explanation }) =>
    h("li", {}, h("span", { class: "factor" }, factor.replaceAll("_", " ")), h("span", { class: "note" }, `weighs ${percent(weight / total, 0)}`),
      value === null ? h("span", { class: "unknown" }, "unknown") : h("strong", {}, decimal(value)), h("span", { class: "explanation" }, own(explanation))))));
}

/** The vocabulary of a card is not on this server: how it is brought here. Never another one's figures. */
function missing({ ref, import_command: command, source }, onimported) {
  const place = h("div", { "aria-live": "polite" });
  const bring = h("button", { type: "button", onclick: async () => {
    bring.disabled = true;
    fill(place, h("p", { class: "help" }, "The server fetches it …"));
    try {
      await withJson("POST", "vocabs", { name: ref.split("@")[0], source });
      onimported();
    } catch (error) {
      fill(place, notice(told(error) ?? "Stopped.", "bad"));
      bring.disabled = false;
    }
  } }, "Import it now");
  return h("div", { class: "missing" }, h("p", {}, "Its vocabulary ", own(ref), " is not on this server, so what it makes of the text is unknown."),
    command ? h("p", {}, h("code", {}, command), " ", copyButton("Copy the command", () => command)) : h("p", { class: "help" }, "Its card does not say where the vocabulary is from."), source && bring, place);
}
