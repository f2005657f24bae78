// Cards side by side: every fact with its source, and what follows from it.

import { decimal, h, number, own, percent, size, table } from "./dom.js";
import { known, short } from "./ranking.js";

const yes = (value) => known(value, (is) => (is ? "yes" : "no"));
const list = (values) => (values.length === 0 ? known(null) : own(values.join(", ")));

const FAMILIES = { mha: "MHA: every head its own keys", mqa: "MQA: one set of keys for all heads", gqa: "GQA: heads share keys", mla: "MLA: compressed keys" };

function attention({ attention: kind, heads, kv_heads: shared }) {
  if (kind === null) return known(null);
  const ranks = kind.kv_lora_rank ? `, rank ${number(kind.kv_lora_rank)}` : "";
  const count = heads === null ? "" : ` (${number(heads)} heads${shared === null ? "" : `, ${number(shared)} of keys`})`;
  return `${FAMILIES[kind.kind] ?? kind.kind}${ranks}${count}`;
}

function position({ position: at }) {
  if (at === null) return known(null);
  const base = at.rope_base ? `, base ${number(at.rope_base)}` : "";
  const scaled = at.scaling ? `, ${at.scaling.kind}${at.scaling.factor ? ` × ${at.scaling.factor}` : ""}` : "";
  return `${at.kind}${base}${scaled}`;
}

const experts = ({ moe }) => (moe === null ? "none, or not said" : `${moe.active_experts} of ${moe.experts}${moe.shared_experts ? `, and ${moe.shared_experts} always` : ""}`);

/** Rows: name, value of a model, the fact that its source is looked up by. */
const ROWS = [
  ["makers", ({ card }) => known(card.vendor, own), "vendor"],
  ["released", ({ card }) => known(card.released), "released"],
  ["licence", ({ card }) => known(card.licence, ({ name, commercial }) => [own(name), commercial ? ` (commercial use: ${commercial === "conditions" ? "with conditions" : commercial})` : ""]), "licence"],
  ["vocabulary", (model) => own(model.vocab), null],
  ["rows of the embedding", ({ card }) => known(card.vocab_size, number), "vocab_size"],
  ["parameters", ({ derived }) => known(derived.parameters, short), null],
  ["of them active", ({ derived }) => known(derived.active_parameters, short), null],
  ["published parameters", ({ card }) => known(card.published_parameters, short), "published_parameters"],
  ["share of embeddings", ({ derived }) => known(derived.embedding_share, percent), null],
  ["layers", ({ card }) => known(card.layers, number), "layers"],
  ["hidden size", ({ card }) => known(card.hidden_size, number), "hidden_size"],
  ["intermediate size", ({ card }) => known(card.intermediate_size, number), "intermediate_size"],
  ["head size", ({ card }) => known(card.head_dim, number), "head_dim"],
  ["attention", ({ card }) => attention(card), "attention"],
  ["bias on queries, keys, values", ({ card }) => yes(card.qkv_bias), "qkv_bias"],
  ["position", ({ card }) => position(card), "position"],
  ["sliding window", ({ card }) => (card.sliding_window === null ? "none, or not said" : number(card.sliding_window.tokens)), "sliding_window"],
  ["window attention beyond training length", ({ card }) => yes(card.attention_window), "attention_window"],
  ["log n scaling", ({ card }) => yes(card.log_n_scaling), "log_n_scaling"],
  ["norm", ({ card }) => known(card.norm), "norm"],
  ["activation", ({ card }) => known(card.activation), "activation"],
  ["tied embeddings", ({ card }) => yes(card.tied_embeddings), "tied_embeddings"],
  ["experts", ({ card }) => experts(card), "moe"],
  ["context", ({ card }) => known(card.context_length, number), "context_length"],
  ["cache per token", ({ derived }) => known(derived.kv_bytes_per_token, size), null],
  ["weights in bf16, int8, int4", ({ derived }) => known(derived.weight_bytes, (bytes) => [bytes.bf16, bytes.int8, bytes.int4].map(size).join(", ")), null],
  ["trained on tokens", ({ card }) => known(card.training_data?.tokens, short), "training_data"],
  ["training FLOPs per token", ({ derived }) => known(derived.training_flops_per_token, (value) => value.toExponential(2)), null],
  ["tokens per parameter", ({ derived }) => known(derived.tokens_per_parameter, (value) => decimal(value, 0)), null],
  ["times Chinchilla's 20", ({ derived }) => known(derived.over_training, (value) => decimal(value, 1)), null],
  ["knowledge at 2 bits a parameter", ({ derived }) => known(derived.knowledge_bits, (bits) => `${short(bits)} bits at most`), null],
  ["languages", ({ card }) => list(card.languages), "languages"],
  ["reads", ({ card }) => list(card.modalities), "modalities"],
  ["variants", ({ card }) => list(card.variants.map(({ name, alignment }) => (alignment ? `${name} (${alignment})` : name))), "variants"],
  ["tool calling", ({ card }) => yes(card.tool_calling), "tool_calling"],
  ["benchmarks", ({ card }) => list(card.benchmarks.map(({ name, score, setting }) => `${name} ${score}${setting ? ` (${setting})` : ""}`)), null],
  ["speed", ({ card }) => list(card.speed.map(({ name, tokens_per_second: rate }) => `${decimal(rate, 0)} tokens/s: ${name}`)), null],
  ["ecosystem", ({ card }) => list(card.ecosystem), "ecosystem"],
];

/** The source of a fact: a link that is followed only when it is pressed. */
function source(card, fact) {
  const at = fact && card.sources[fact];
  if (!at) return null;
  return /^https?:/.test(at) ? h("a", { class: "source", href: at, rel: "noreferrer noopener", target: "_blank", "aria-label": `Source of ${fact.replaceAll("_", " ")}`, title: at }, "source") : h("span", { class: "source", title: at }, own(at));
}

export function sideBySide(models) {
  const rows = ROWS.map(([name, of, fact]) => [name, ...models.map((model) => h("span", {}, of(model), " ", source(model.card, fact)))]);
  return h("section", { class: "panel side-by-side", "aria-label": "Side by side" }, h("h2", {}, "Side by side"), table("Cards", ["", ...models.map(({ name }) => own(name))], rows),
    h("p", { class: "help" }, "Knowledge is an upper bound for facts seen about a thousand times in training; rare ones come to half of it, and junk in the data to less."));
}
