// What a user says of models before they are ranked: what must hold, how much each factor weighs, what they run on.

import { field, fill, h, select } from "./dom.js";

/** Factors that are there at once; the others are one step away. */
const FIRST = ["context", "tools", "licence", "languages", "cost", "size", "tokenizer", "kept_whole"];
const GIB = 2 ** 30;

/** A field of numbers with its unit; empty is none. */
function numberField(label, value, help, onchange, attributes = {}) {
  const input = h("input", { type: "number", min: "0", step: "any", value: value ?? "", onchange: () => onchange(input.value === "" ? null : Number(input.value)), ...attributes });
  return field(label, input, help);
}

const YES = [["", "no matter"], ["yes", "must be so"]];

/** What must hold. `state` is `{min_context, tools, …}` as in the address; empty ones are left out. */
export function filterPanel(state, onchange) {
  const set = (name) => (value) => {
    state[name] = value === null || value === "" ? undefined : value;
    onchange();
  };
  const words = (label, name, placeholder, help) => {
    const input = h("input", { value: state[name] ?? "", placeholder, autocomplete: "off", onchange: () => set(name)(input.value.trim()) });
    return field(label, input, help);
  };
  return h("details", { class: "choices" }, h("summary", {}, "What must hold"), h("div", { class: "form-grid" },
    numberField("Context of at least", state.min_context, "Tokens that the model reads at once.", set("min_context"), { step: "1" }),
    field("Every document fits the context", select(YES, state.fits ?? "", set("fits")), "Of your text, by the model's own tokens."),
    field("Calls tools", select(YES, state.tools ?? "", set("tools"))),
    field("Commercial use", select(YES, state.commercial ?? "", set("commercial")), "Licences with conditions count as allowed; read them."),
    words("Languages", "languages", "en, zh", "As its card lists them. Also what the factor languages asks for."),
    words("Reads also", "modalities", "image", "text, image, audio, video."),
    words("Variants", "variants", "chat", "Such as instruct or chat."),
    numberField("Parameters at most, in billions", state.max_billions, "Total ones, of experts that rest too.", set("max_billions")),
    numberField("GPUs at most", state.max_gpus, "For weights and cache, as set below.", set("max_gpus"), { step: "1" }),
    field("Where a card does not say", select([["", "keep the model, and say so"], ["drop", "drop the model"]], state.unknown ?? "", set("unknown")))));
}

/** The filter of a request. */
export function filterOf(state) {
  const list = (text) => text?.split(",").map((item) => item.trim()).filter(Boolean);
  const filter = {
    min_context: state.min_context === undefined ? undefined : Math.round(Number(state.min_context)),
    fits: state.fits === "yes" || undefined,
    tool_calling: state.tools === "yes" || undefined,
    commercial: state.commercial === "yes" || undefined,
    languages: list(state.languages), modalities: list(state.modalities), variants: list(state.variants),
    max_parameters: state.max_billions === undefined ? undefined : Math.round(Number(state.max_billions) * 1e9),
    max_gpus: state.max_gpus === undefined ? undefined : Math.round(Number(state.max_gpus)),
    unknown: state.unknown,
  };
  const said = Object.entries(filter).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0));
  return said.some(([name]) => name !== "unknown") ? { filter: Object.fromEntries(said) } : {};
}

/** What the models run on. */
export function servingPanel(state, onchange) {
  const set = (name) => (value) => {
    state[name] = value === null || value === "" ? undefined : value;
    onchange();
  };
  return h("details", { class: "choices" }, h("summary", {}, "What they run on"), h("div", { class: "form-grid" },
    numberField("Memory of a GPU in GiB", state.gpu ?? 80, "80 is an A100 or H100.", set("gpu")),
    field("Weights in", select([["bf16", "bf16: two bytes"], ["int8", "int8: one byte"], ["int4", "int4: half a byte"]], state.weights ?? "bf16", set("weights"))),
    numberField("Requests at once", state.batch ?? 1, "Each has a cache of its own.", set("batch"), { step: "1", min: "1" }),
    numberField("Tokens of a request", state.length, "Empty: those of your longest document.", set("length"), { step: "1", min: "1" })));
}

export function servingOf(state) {
  const serving = {
    ...(state.gpu !== undefined && { gpu_bytes: Math.round(Number(state.gpu) * GIB) }),
    ...(state.weights && { weights: state.weights }),
    ...(state.batch !== undefined && { batch: Math.round(Number(state.batch)) }),
    ...(state.length !== undefined && { length: Math.round(Number(state.length)) }),
  };
  return Object.keys(serving).length > 0 ? { serving } : {};
}

/** Factors that cards bring along: benchmarks and speeds by name. */
export function cardFactors(models) {
  const names = (list, lead) => [...new Set(models.flatMap((model) => model.card[list].map(({ name }) => name)))].sort().map((name) => ({ name: `${lead}:${name}`, meaning: `${lead === "speed" ? "Tokens a second" : "Score"}, as a source of the card has it`, better: "more" }));
  return [...names("benchmarks", "benchmark"), ...names("speed", "speed")];
}

/** A slider a factor, from 0 (no matter) to 5. */
export function weightPanel(factors, weights, onchange) {
  const row = ({ name, meaning, better }) => {
    const shown = h("output", { class: "value" }, String(weights[name] ?? 0));
    const slider = h("input", { type: "range", min: "0", max: "5", step: "0.5", value: String(weights[name] ?? 0), oninput: () => {
      weights[name] = Number(slider.value);
      shown.textContent = slider.value;
      onchange();
    } });
    const line = field(name.replaceAll("_", " "), slider, `${meaning}${better === "less" ? "; less is better" : ""}`);
    line.querySelector("label").append(" ", shown);
    return line;
  };
  const first = FIRST.map((name) => factors.find((factor) => factor.name === name)).filter(Boolean);
  const rest = factors.filter(({ name }) => !FIRST.includes(name));
  const more = h("details", { class: "choices" }, h("summary", {}, `${rest.length} more factors`), h("div", { class: "form-grid weights" }, rest.map(row)));
  const place = h("div", {});
  fill(place, h("p", { class: "help" }, "0 is no matter. A score is the mean of what is known, by these weights; what a card does not know counts as unknown, and the range says what it may come to."),
    h("div", { class: "form-grid weights" }, first.map(row)), more);
  return place;
}
