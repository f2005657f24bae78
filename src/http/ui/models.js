// Base models over the user's own text: what each needs for it, and which one fits what the user says matters.

import { debounced, decimal, field, fill, h, notice, number, say, segmented, size, figure, figures } from "./dom.js";
import { get, post, told } from "./api.js";
import { cardFactors, filterOf, filterPanel, servingOf, servingPanel, weightPanel } from "./choices.js";
import { Corpus } from "./corpus.js";
import { ordered, ranking } from "./ranking.js";
import { sideBySide } from "./cards.js";
import { packed, unpacked, write } from "./state.js";

const SAMPLE = "人工智能正在改变世界。大语言模型的选择取决于你的文本。\nA base model is chosen by what your own text costs in it. 日本語も少し。\n";
const USUAL = { context: 1, cost: 2, licence: 1, tokenizer: 2 };
const FILTERS = ["min_context", "fits", "tools", "commercial", "languages", "modalities", "variants", "max_billions", "max_gpus", "unknown"];
const SERVING = ["gpu", "weights", "batch", "length"];
const MOST_BESIDE = 4;
/** Models that are shown at once; the rest is a button away. */
const FIRST_SHOWN = 15;

export async function open(fields) {
  const [listed, text] = await Promise.all([get("models"), unpacked(fields)]);
  const view = new Models(listed, fields, text);
  view.corpus.recalled.then(() => view.run());
  return { element: view.element, close: () => view.asked?.abort() };
}

class Models {
  constructor(listed, fields, text) {
    this.listed = listed;
    this.text = text ?? SAMPLE;
    this.from = fields.get("from") === "corpus" ? "corpus" : "text";
    const taken = (names) => Object.fromEntries(names.filter((name) => fields.has(name)).map((name) => [name, fields.get(name)]));
    [this.filter, this.serving] = [taken(FILTERS), taken(SERVING)];
    this.weights = fields.has("rank") ? Object.fromEntries(fields.get("rank").split(",").filter(Boolean).map((pair) => [pair.slice(0, pair.lastIndexOf(":")), Number(pair.slice(pair.lastIndexOf(":") + 1))])) : { ...USUAL };
    this.beside = (fields.get("beside") ?? "").split(",").filter((name) => listed.models.some((model) => model.name === name)).slice(0, MOST_BESIDE);
    this.corpus = new Corpus({ records: [["lines", "a line"], ["paragraphs", "a paragraph"]], onready: () => this.run(), given: Object.fromEntries(["upload", "format", "field", "records"].map((name) => [name, fields.get(name) ?? undefined])) });
    this.soon = debounced(() => this.run(), 250);
    this.input = h("div", { class: "input" });
    this.problem = h("div", {});
    this.results = h("div", {});
    this.cards = h("div", {});
    const factors = [...listed.factors, ...cardFactors(listed.models)];
    this.element = h("div", { class: "view models" }, h("h1", {}, "Models"),
      h("section", { class: "panel", "aria-label": "Your text" }, segmented("What is measured", [["text", "A text"], ["corpus", "A corpus"]], this.from, (from) => this.setFrom(from)), this.input),
      h("section", { class: "panel", "aria-label": "What matters" }, h("h2", {}, "What matters to you"), weightPanel(factors, this.weights, this.soon), filterPanel(this.filter, this.soon), servingPanel(this.serving, this.soon)),
      listed.failed.map(({ what, problem }) => notice(`The card ${what} is not taken: ${problem}`, "bad")),
      this.problem, this.results, this.cards);
    this.drawInput();
    this.drawCards();
  }

  setFrom(from) {
    this.from = from;
    this.drawInput();
    this.run();
  }

  drawInput() {
    if (this.from === "corpus") return fill(this.input, this.corpus.element);
    const area = h("textarea", { rows: "4", dir: "auto", spellcheck: "false", oninput: () => {
      this.text = area.value;
      this.soon();
    } });
    area.value = this.text;
    return fill(this.input, field("Your text", area, "What you will send to the model: a typical document says most."));
  }

  /** The body of the request; weights that are zero are left out. */
  request() {
    const weights = Object.fromEntries(Object.entries(this.weights).filter(([, weight]) => weight > 0));
    const languages = this.filter.languages?.split(",").map((item) => item.trim()).filter(Boolean) ?? [];
    // Without languages there is nothing that the factor could ask for.
    if (languages.length === 0) delete weights.languages;
    return {
      ...(this.from === "corpus" ? this.corpus.fields() : { text: this.text.toWellFormed() }),
      ...filterOf(this.filter), ...servingOf(this.serving),
      ...(languages.length > 0 && { languages }), ...(Object.keys(weights).length > 0 && { weights }),
    };
  }

  async run() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.remember(signal);
    if (this.listed.models.length === 0) return fill(this.results, notice("There are no cards of models on this server."));
    if (this.from === "corpus" && !this.corpus.id) return fill(this.results);
    const body = this.request();
    try {
      const reply = await post("models/compare", body, signal);
      fill(this.problem, this.hints(body));
      this.draw(reply, body);
    } catch (error) {
      if (signal.aborted) return undefined;
      fill(this.results);
      fill(this.problem, notice(told(error) ?? "Stopped.", "bad"));
    }
    return undefined;
  }

  hints(body) {
    return [
      !body.weights && notice("Every weight is zero, so nothing is ranked: the models stand by the tokens that they need."),
      this.weights.languages > 0 && !body.languages && notice("The factor languages asks for languages: name them under “What must hold”. Until then it is left out."),
    ];
  }

  draw(reply, body) {
    const models = new Map(this.listed.models.map((model) => [model.name, model]));
    const kept = reply.results.filter((result) => result.kept).length;
    const all = ordered(reply.results).filter(({ name }) => models.has(name));
    const place = h("div", {});
    const show = (most) => fill(place,
      ranking(all.slice(0, most), models, { chosen: this.beside, onchosen: (name, on) => this.choose(name, on), onimported: () => this.imported() }),
      all.length > most && h("button", { type: "button", class: "quiet", onclick: () => show(all.length) }, `Show all ${number(all.length)}`));
    show(FIRST_SHOWN);
    const toCards = h("button", { type: "button", class: "quiet", onclick: () => this.cards.scrollIntoView() }, "To the cards side by side");
    fill(this.results, figures(figure("documents", number(reply.documents)), figure("size", size(reply.bytes)), figure("characters", number(reply.characters)), figure("models", number(kept), `of ${number(reply.results.length)}`)),
      h("section", { class: "panel", "aria-label": "Ranking" }, h("h2", {}, body.weights ? "Ranking" : "Models, fewest tokens first"), h("div", { class: "bar" }, h("p", { class: "help" }, `Tick up to ${MOST_BESIDE} to see their cards side by side.`), this.beside.length > 0 && toCards), place));
    const best = ordered(reply.results)[0];
    say(`${number(kept)} models${best?.rank === 1 ? `, first ${best.name} with ${decimal(best.score)}` : ""}`);
  }

  choose(name, on) {
    this.beside = on ? [...this.beside, name].slice(-MOST_BESIDE) : this.beside.filter((other) => other !== name);
    for (const box of this.results.querySelectorAll(".model input[type=checkbox]")) box.checked = this.beside.some((other) => box.getAttribute("aria-label").includes(` ${other} `));
    this.drawCards();
    this.remember(this.asked.signal);
  }

  drawCards() {
    const chosen = this.beside.map((name) => this.listed.models.find((model) => model.name === name));
    fill(this.cards, chosen.length > 0 && sideBySide(chosen));
  }

  async imported() {
    this.listed = await get("models");
    this.run();
  }

  async remember(signal) {
    const state = this.from === "corpus" ? this.corpus.state() : this.text === SAMPLE ? {} : await packed(this.text);
    if (signal.aborted) return;
    const rank = Object.entries(this.weights).filter(([, weight]) => weight > 0).map(([name, weight]) => `${name}:${weight}`).join(",");
    write("models", { from: this.from === "corpus" ? "corpus" : "", rank: rank || "none:0", beside: this.beside.join(","), ...this.filter, ...this.serving, ...state });
  }
}
