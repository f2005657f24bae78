// The vocabularies of the server, and how one or several are chosen.

import { decimal, fill, freshId, h, number } from "./dom.js";
import { get, path } from "./api.js";

let listed = null;

/** All vocabularies, as /vocabs has them; asked for once unless `again`. */
export async function all(again = false) {
  if (again) listed = null;
  listed ??= get("vocabs").catch((error) => {
    listed = null;
    throw error;
  });
  return listed;
}

/** The vocabulary and facts of the version that a ref means; null where there is none. */
export function find({ vocabs, default_vocab }, ref) {
  const [name, rest = "latest"] = (ref || default_vocab).split("@");
  const vocab = vocabs.find((other) => other.name === name);
  const number = rest === "latest" ? vocab?.latest : /^\d+$/.test(rest) ? Number(rest) : vocab?.aliases[rest];
  const version = vocab?.versions.find((other) => other.version === number);
  return version ? { vocab, version, ref: `${name}@${version.version}` } : null;
}

/** Every ref of a vocabulary with a word for it: the latest, aliases, numbers. */
export function refs(vocab) {
  const aliases = Object.entries(vocab.aliases).map(([alias, version]) => [`${vocab.name}@${alias}`, `${vocab.name}@${alias} → ${version}`]);
  const versions = [...vocab.versions].reverse().map(({ version, format }) => [`${vocab.name}@${version}`, `${vocab.name}@${version}${format === "trained" ? " · trained here" : ""}`]);
  const latest = vocab.latest === null ? [] : [[vocab.name, `${vocab.name} (latest: ${vocab.latest})`]];
  return [...latest, ...aliases, ...versions];
}

/** Options of a list of choices, grouped by vocabulary. One that is gone stays, marked, as long as it is chosen. */
function options(list, chosen = null) {
  const groups = list.vocabs.map((vocab) => h("optgroup", { label: vocab.name }, refs(vocab).map(([ref, text]) => h("option", { value: ref }, text))));
  const known = list.vocabs.some((vocab) => refs(vocab).some(([ref]) => ref === chosen));
  return chosen === null || known ? groups : [h("option", { value: chosen }, `${chosen} (not here)`), ...groups];
}

/** A list to choose one from. */
export class Picker {
  constructor(list, ref, onchange, label = "Vocabulary") {
    this.select = h("select", { id: freshId("vocab"), class: "vocab", onchange: () => this.chosen(onchange) });
    this.about = h("p", { class: "help about" });
    this.element = h("div", { class: "field" }, h("label", { for: this.select.id }, label), this.select, this.about);
    this.update(list, ref || list.default_vocab);
  }

  get ref() {
    return this.select.value;
  }

  chosen(onchange) {
    this.tell();
    onchange(this.ref);
  }

  update(list, ref = this.ref) {
    this.list = list;
    fill(this.select, options(list, ref));
    this.select.value = ref;
    this.tell();
  }

  tell() {
    const found = find(this.list, this.ref);
    this.about.textContent = found ? about(found.version) : "This vocabulary is not here, or no longer.";
  }
}

/** A version in a line. */
export function about({ name, version, tokens, merges, split, normalizer, format }) {
  const cut = typeof split === "string" ? split : "own pattern";
  return `${name}@${version} · ${number(tokens)} tokens, ${number(merges)} merges · split ${cut}${normalizer && normalizer !== "none" ? ` · ${normalizer}` : ""} · ${format}`;
}

/** Two to six to choose, in an order. */
export class Several {
  constructor(list, chosen, onchange, { least = 2, most = 6 } = {}) {
    Object.assign(this, { list, onchange, least, most });
    this.refs = chosen;
    this.element = h("div", { class: "several", role: "group", "aria-label": "Vocabularies to compare" });
    this.draw();
  }

  draw() {
    const rows = this.refs.map((ref, at) => {
      const choice = h("select", { "aria-label": `Vocabulary ${at + 1}`, class: `vocab series-${at}`, onchange: () => this.set(at, choice.value) }, options(this.list, ref));
      choice.value = ref;
      const remove = h("button", { type: "button", class: "quiet", "aria-label": `Leave out vocabulary ${at + 1}, ${ref}`, onclick: () => this.leave(at) }, "×");
      return h("div", { class: "row" }, h("span", { class: `key series-${at}`, "aria-hidden": "true" }), choice, this.refs.length > this.least && remove);
    });
    const more = h("button", { type: "button", class: "quiet add", onclick: () => this.add() }, "+ another vocabulary");
    fill(this.element, rows, this.refs.length < this.most && more);
  }

  set(at, ref) {
    this.refs[at] = ref;
    this.onchange(this.refs);
  }

  leave(at) {
    this.refs.splice(at, 1);
    this.draw();
    this.onchange(this.refs);
  }

  add() {
    const free = this.list.vocabs.map((vocab) => vocab.name).find((name) => !this.refs.includes(name));
    this.refs.push(free ?? this.list.default_vocab);
    this.draw();
    this.element.querySelectorAll("select")[this.refs.length - 1].focus();
    this.onchange(this.refs);
  }
}

const specialsKnown = new Map();

/** Special and added tokens of a version, by id: their names. The first thousand; more are no use to a reader. */
export async function specials(ref) {
  if (!specialsKnown.has(ref)) {
    const { tokens } = await get(`${path("vocabs", ref, "tokens")}?special=true&limit=1000`);
    specialsKnown.set(ref, new Map(tokens.map((token) => [token.id, token.text ?? `<${token.id}>`])));
  }
  return specialsKnown.get(ref);
}

export const perToken = (value) => decimal(value, 3);
