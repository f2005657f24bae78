// How several vocabularies cut a text or a corpus.

import { debounced, decimal, field, figure, figures, fill, h, notice, number, percent, say, segmented, size, table } from "./dom.js";
import { all, find, Several } from "./vocabs.js";
import { post, told } from "./api.js";
import { bar, named, points } from "./charts.js";
import { Corpus } from "./corpus.js";
import { cuts } from "./spans.js";
import { Diff } from "./diff.js";
import { packed, unpacked, write } from "./state.js";

const SAMPLE = "The quick brown fox jumps over the lazy dog. 自然语言处理让机器理解人类的语言。\n東京は晴れ、気温は25度。 def encode(text): return [ord(c) for c in text]  # 한국어 텍스트도 있다\n";
const MOST_TEXT = 8 * 1024 * 1024;

export async function open(fields) {
  const view = new Compare(await all(), fields, await unpacked(fields));
  view.corpus.recalled.then(() => view.run());
  return { element: view.element, close: () => view.asked?.abort() };
}

class Compare {
  constructor(list, fields, text) {
    this.list = list;
    this.from = fields.get("from") === "corpus" ? "corpus" : "text";
    this.text = text ?? SAMPLE;
    const named = (fields.get("vocabs") ?? "").split(",").filter(Boolean).slice(0, 6);
    const others = list.vocabs.map((vocab) => vocab.name).filter((name) => name !== list.default_vocab);
    this.several = new Several(list, named.length > 1 ? named : [list.default_vocab, others[0] ?? list.default_vocab], () => this.run());
    this.corpus = new Corpus({
      records: [["lines", "a line"], ["paragraphs", "a paragraph"]],
      onready: () => this.run(),
      given: Object.fromEntries(["upload", "format", "field", "records"].map((name) => [name, fields.get(name) ?? undefined])),
    });
    this.input = h("div", {});
    this.problem = h("div", {});
    this.results = h("div", {});
    this.diff = new Diff(list, () => (this.from === "text" ? this.text : null));
    this.soon = debounced(() => this.run(), 300);
    const what = segmented("What is cut", [["text", "A text"], ["corpus", "A corpus"]], this.from, (from) => {
      this.from = from;
      this.drawInput();
      this.run();
    });
    this.element = h("div", { class: "view compare" }, h("h1", {}, "Compare"),
      h("section", { class: "panel", "aria-label": "What is compared" }, this.several.element, what, this.input),
      this.problem, this.results, this.diff.element);
    this.drawInput();
  }

  drawInput() {
    if (this.from === "corpus") return fill(this.input, h("div", { class: "field" }, this.corpus.element));
    const area = h("textarea", { rows: "5", dir: "auto", spellcheck: "false", oninput: () => {
      this.text = area.value;
      this.soon();
    } });
    area.value = this.text;
    return fill(this.input, field("Text", area));
  }

  async run() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.remember(signal);
    const vocabs = [...this.several.refs];
    if (this.from === "corpus" && !this.corpus.id) return fill(this.results);
    if (this.from === "text" && this.text.length > MOST_TEXT) return fill(this.problem, notice("This text is too long to be typed: give it as a file.", "bad"));
    const body = this.from === "corpus" ? { vocabs, ...this.corpus.fields() } : { vocabs, text: this.text.toWellFormed() };
    fill(this.problem, this.from === "corpus" ? notice("Reading the corpus …") : []);
    try {
      const reply = await post("compare", body, signal);
      fill(this.problem);
      this.draw(reply, body.text);
    } catch (error) {
      if (signal.aborted) return undefined;
      fill(this.results);
      fill(this.problem, notice(this.worded(error, vocabs), "bad"));
    }
    return undefined;
  }

  worded(error, vocabs) {
    const at = /^\/vocabs\/(\d+)/.exec(error.pointer ?? "");
    if (error.status === 404 && at) return `There is no vocabulary ${vocabs[Number(at[1])]} any more. Choose another one in its place.`;
    return told(error) ?? "Stopped.";
  }

  async remember(signal) {
    const state = this.from === "corpus" ? this.corpus.state() : this.text === SAMPLE ? {} : await packed(this.text);
    if (!signal.aborted) write("compare", { vocabs: this.several.refs.join(","), from: this.from === "corpus" ? "corpus" : "", ...state });
  }

  draw(reply, text) {
    const { results } = reply;
    const refs = results.map(({ vocab }) => `${vocab.name}@${vocab.version}`);
    fill(this.results,
      figures(figure("documents", number(reply.documents)), figure("size", size(reply.bytes)), figure("characters", number(reply.characters)), figure("words", number(reply.words)),
        reply.replaced ? figure("replaced", number(reply.replaced), "parts that were not UTF-8") : []),
      h("section", { class: "panel", "aria-label": "Figures" }, figureTable(results, refs)),
      results.every((result) => result.spans) && text !== undefined ? cuts(text, results) : this.from === "text" && notice("Tokens are shown one by one for texts up to 16 KiB; the figures are of the whole text."),
      h("div", { class: "halves even" },
        h("section", { class: "panel", "aria-label": "By script" }, fragmentation(results, refs)),
        h("section", { class: "panel", "aria-label": "Size and tokens" }, this.plot(results, refs))));
    say(`Compared: ${results.map(({ count }, at) => `${refs[at]} ${number(count)} tokens`).join(", ")}`);
  }

  plot(results, refs) {
    const all = results.map(({ count }, at) => ({ name: refs[at], x: find(this.list, refs[at])?.version.tokens ?? 0, y: count, series: at }));
    return [h("h2", {}, "Vocabulary size and tokens needed"), points(all, "tokens in the vocabulary", "tokens of this text", `Vocabulary size against tokens needed. ${all.map(({ name, x, y }) => `${name}: size ${number(x)}, needs ${number(y)}`).join("; ")}`),
      h("p", { class: "help" }, "Lower is fewer tokens for the same text; further left is a smaller table of embeddings.")];
  }
}

/** The row of figures; of each the best one is marked. */
function figureTable(results, refs) {
  const rows = [
    ["tokens", (r) => r.count, number, Math.min],
    ["bytes per token", (r) => r.bytes_per_token, (v) => decimal(v, 3), Math.max],
    ["characters per token", (r) => r.characters_per_token, (v) => decimal(v, 3), Math.max],
    ["tokens per word", (r) => r.tokens_per_word, (v) => decimal(v, 3), Math.min],
    ["words in one token", (r) => r.one_token_words, (v) => percent(v), Math.max],
    ["different tokens used", (r) => r.distinct_tokens, number, null],
    ["tokens per document, p50", (r) => r.per_document.p50, number, Math.min],
    ["tokens per document, p95", (r) => r.per_document.p95, number, Math.min],
    ["longest document", (r) => r.per_document.max, number, null],
  ];
  const shown = table("Figures", ["", ...refs.map((ref, at) => named(at, ref))], rows.map(([name, of, format]) => [name, ...results.map((result) => format(of(result)))]));
  shown.querySelectorAll("tbody tr").forEach((row, n) => {
    const [, of, , better] = rows[n];
    const values = results.map(of);
    const best = better?.(...values.filter((value) => value !== null));
    if (!better || new Set(values).size < 2) return;
    values.forEach((value, at) => row.children[at + 1].classList.toggle("best", value === best));
  });
  return shown;
}

/** By script: the share of its characters that are in one token as a whole. */
export function fragmentation(results, refs) {
  const characters = new Map();
  for (const { fragmentation: all } of results) {
    for (const [script, figures] of Object.entries(all)) characters.set(script, Math.max(characters.get(script) ?? 0, figures.characters));
  }
  const share = (result, script) => {
    const { characters: of, whole } = result.fragmentation[script] ?? { characters: 0, whole: 0 };
    return of === 0 ? 0 : whole / of;
  };
  const scripts = [...characters].sort((a, b) => b[1] - a[1]);
  const whole = scripts.filter(([script]) => results.every((result) => share(result, script) === 1)).map(([script]) => script);
  const rows = scripts.filter(([script]) => !whole.includes(script)).map(([script, count]) => [h("h3", {}, `${script} `, h("span", { class: "note" }, `${number(count)} characters`)),
    results.map((result, at) => {
      const part = share(result, script);
      return [named(at, refs[at]), bar([[`fill-${at}`, part]], `${refs[at]}: ${percent(part)} of ${script} whole`), h("span", { class: "value" }, percent(part))];
    })]);
  return [h("h2", {}, "Characters kept whole, by script"), h("p", { class: "help" }, "The rest is split into bytes that several tokens share."), h("div", { class: "bars" }, rows),
    whole.length > 0 && h("p", {}, `Whole with all of them: ${whole.join(", ")}.`)];
}
