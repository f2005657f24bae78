// What there is to know of one token: id, bytes, rank, offsets in three units.

import { decimal, fill, h, number, own } from "./dom.js";
import { asText, codePoint, fromBase64, hex } from "./bytes.js";
import { get, path } from "./api.js";
import { content } from "./tokens.js";

/** Facts of tokens that were asked for, by version and id; old ones go first. */
const known = new Map();
const MOST_KNOWN = 5000;

/** Facts of a token: bytes, script, kind, the merge that makes it. A vocabulary is pinned to its version. */
export async function factsOf(ref, id, signal) {
  const name = `${ref}/${id}`;
  if (!known.has(name)) {
    const after = id === 0 ? "" : `&after=${id - 1}`;
    const { tokens } = await get(`${path("vocabs", ref, "tokens")}?limit=1${after}`, signal);
    if (known.size >= MOST_KNOWN) known.delete(known.keys().next().value);
    known.set(name, tokens[0]?.id === id ? tokens[0] : null);
  }
  return known.get(name);
}

const KINDS = { text: "ordinary", special: "special", added: "added", unreached: "not reached by text" };

/** A token's own text, or its bytes where they are none. */
export function shown(bytes) {
  const text = asText(bytes);
  return text === null ? h("span", { class: "part first" }, hex(bytes)) : h("bdi", {}, content([{ text }]));
}

export class Detail {
  constructor({ onexplain }) {
    this.onexplain = onexplain;
    this.body = h("div", { class: "detail-body" }, hint());
    this.element = h("section", { class: "panel detail", "aria-label": "Token" }, h("h2", {}, "Token"), this.body);
    this.asked = null;
  }

  clear() {
    this.shown = null;
    this.asked?.abort();
    fill(this.body, hint());
  }

  /** Shows token `n` of `source`; its facts come when they are there. */
  async show(source, n) {
    if (this.shown?.[0] === source && this.shown[1] === n) return;
    this.shown = [source, n];
    const { id, pieces, special, name } = source.token(n);
    const [start, end] = source.span(n) ?? [0, 0];
    const offsets = source.span(n) && source.text.offsets(start, end);
    const facts = h("dl", { class: "facts" });
    const row = (label, ...value) => [h("dt", {}, label), h("dd", {}, value)];
    const range = (pair) => h("code", {}, `${number(pair[0])} – ${number(pair[1])}`);
    const cut = pieces.filter((piece) => piece.character).map((piece) => h("p", { class: "cut-note" },
      `Bytes ${piece.from + 1} to ${piece.to} of the ${piece.of} of `, own(piece.character), ` (${codePoint(piece.character)}): the character is cut.`));
    fill(facts,
      row("position", `${number(n + 1)} of ${number(source.count)}`),
      row("id", h("code", { class: "id" }, String(id))),
      offsets && [row("offsets in bytes", range(offsets.byte)), row("in characters", range(offsets.char)), row("in UTF-16 units", range(offsets.utf16))]);
    const explain = end > start && h("button", { type: "button", onclick: () => this.onexplain(n) }, "Explain merge by merge");
    fill(this.body, h("p", { class: `sample ${special ? "special" : ""}` }, h("bdi", {}, content(pieces, { name }))), cut, facts, explain);
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    try {
      await new Promise((later) => setTimeout(later, 60));
      if (asked.signal.aborted) return;
      const token = await factsOf(source.ref, id, asked.signal);
      if (asked.signal.aborted) return;
      if (token === null) return void facts.append(...row("bytes", "the vocabulary has no such token any more"));
      const bytes = fromBase64(token.bytes_b64);
      facts.append(...row(`bytes (${bytes.length})`, h("code", { class: "hex" }, hex(bytes.subarray(0, 64)), bytes.length > 64 ? " …" : "")));
      if (token.merge) {
        const parts = await Promise.all([token.merge.left, token.merge.right].map((part) => factsOf(source.ref, part, asked.signal)));
        if (asked.signal.aborted) return;
        const part = (at) => (parts[at] ? shown(fromBase64(parts[at].bytes_b64)) : "?");
        facts.append(...row("merge rank", h("code", {}, number(token.merge.rank))),
          ...row("made of", h("span", { class: "made-of" }, part(0), " + ", part(1)), h("span", { class: "note" }, ` ${token.merge.left} + ${token.merge.right}`)));
      } else {
        facts.append(...row("merge rank", "none: no merge makes it"));
      }
      facts.append(...row("kind", `${KINDS[token.kind] ?? token.kind}, ${token.script}`));
    } catch (error) {
      if (error.name !== "AbortError") facts.append(...row("bytes", "could not be asked for"));
    }
  }
}

const hint = () => h("p", { class: "help" }, "Point at a token, or move through them with the arrow keys.");

/** Ratios of a text and its tokens. */
export const ratio = (of, tokens) => (tokens === 0 ? "–" : decimal(of / tokens));
