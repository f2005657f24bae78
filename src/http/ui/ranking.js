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

/** The columns: name, what of a result and its model. */
const COLUMNS = [
  ["tokens", (result) => known(result.count, number)],
  ["chars per token", (result) => known(result.characters_per_token, (value) => decimal(value))],
  ["of the context", (result) => known(result.context.share, (value) => percent(value, value < 0.01 ? 3 : 1))],
  ["relative cost", (result) => known(result.cost.relative, (value) => `${decimal(value)} ×`)],
  ["parameters", (_, { derived }) => known(derived.parameters, short)],
];
/** What stands one step away. */
const MORE = [
  ["cache of the longest document", (result) => known(result.kv_bytes?.longest, size)],
  ["tokens per million characters", (result) => known(result.cost.tokens_per_million_characters, number)],
  ["characters kept whole", (result) => known(result.kept_whole, ({ share, scripts }) => `${percent(share)} (${Object.entries(scripts).map(([script, part]) => `${script} ${percent(part, 0)}`).join(", ")})`)],
  ["weights and cache", (result) => known(result.serving.total_bytes, size)],
  ["GPUs", (result) => known(result.serving.gpus, number)],
  ["active parameters", (_, { derived }) => known(derived.active_parameters, short)],
  ["licence", (_, { card }) => known(card.licence, ({ name }) => own(name))],
];

/** The list of models with their results, each of which opens. `chosen` are those that stand side by side. */
export function ranking(results, models, { chosen, onchosen, onimported }) {
  const heads = ["side by side", "rank", "model", ...COLUMNS.map(([name]) => name), "score"];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Ranking of models" }, h("table", { class: "ranking" },
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    results.map((result) => model(result, models.get(result.name), heads.length, { chosen, onchosen, onimported }))));
}

function model(result, card, width, { chosen, onchosen, onimported }) {
  const tick = h("input", { type: "checkbox", checked: chosen.includes(result.name), "aria-label": `Put ${result.name} side by side`, onchange: () => onchosen(result.name, tick.checked) });
  const columns = COLUMNS.map(([name, of]) => {
    const cell = h("td", {}, of(result, card));
    cell.dataset.name = name;
    return cell;
  });
  const about = [card.card.vendor, card.card.released].filter(Boolean).join(", ");
  const line = [!result.kept && h("span", { class: "why-not" }, "left out: ", whyNot(result)), result.missing_vocab && h("span", { class: "absent" }, "vocabulary not here"),
    result.unknown.length > 0 && `not known: ${result.unknown.map(({ filter }) => words(filter)).join(", ")}`].filter(Boolean);
  return h("tbody", { class: `model ${result.kept ? "" : "dropped"}` },
    h("tr", {}, h("td", {}, tick), h("td", { class: "rank-number" }, result.rank === null ? "–" : String(result.rank)),
      h("th", { scope: "row" }, own(result.name), " ", h("span", { class: "note" }, about)), columns, h("td", {}, score(result))),
    h("tr", { class: "opens" }, h("td", { colspan: String(width) }, h("details", {}, h("summary", {}, "More", line.flatMap((part) => [" · ", part])),
      h("dl", { class: "cells" }, MORE.map(([name, of]) => h("div", {}, h("dt", {}, name), h("dd", {}, of(result, card))))),
      result.missing_vocab && missing(result.missing_vocab, onimported),
      result.factors.length > 0 && explained(result.factors)))));
}

const words = (name) => name.replaceAll("_", " ");
const whyNot = ({ fails }) => (fails.length === 0 ? "its card does not say what a filter asks" : fails.map(({ filter, wanted, value }) => `${words(filter)}: wanted ${plain(wanted)}, is ${plain(value)}`).join("; "));

const plain = (value) => (Array.isArray(value) ? value.join(", ") : value === null ? "unknown" : typeof value === "number" ? number(value) : String(value));

function score({ score: value, score_range: range, known_weight: share }) {
  if (value === null) return known(null);
  const about = range[0] === range[1] ? "" : `, between ${decimal(range[0])} and ${decimal(range[1])}`;
  const shown = bar([["fill-0", range[0]], ["fill-0 maybe", Math.max(0, range[1] - range[0])]], `score ${decimal(value)}${about}`);
  return h("span", { class: "score" }, shown, h("strong", {}, decimal(value)), h("span", { class: "note" }, share < 1 ? `${percent(share, 0)} of the weights known${about}` : ""));
}

function explained(factors) {
  const total = factors.reduce((sum, { weight }) => sum + weight, 0);
  return h("div", {}, h("h4", {}, "How the score comes about"), h("ul", { class: "factors" }, factors.map(({ factor, weight, score: value, explanation }) =>
    h("li", {}, h("span", { class: "factor" }, words(factor)), h("span", { class: "note" }, `weighs ${percent(weight / total, 0)}`),
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
