// What a vocabulary makes of a text, of messages, or of ids.

import { debounced, decimal, field, figure, figures, fill, h, notice, number, say, segmented, tick } from "./dom.js";
import { fromBase64 } from "./bytes.js";
import { all, Picker, specials } from "./vocabs.js";
import { Refused, hasKey, post, told } from "./api.js";
import { Cut, Given } from "./source.js";
import { Detail, ratio } from "./detail.js";
import { Explain, MOST_BYTES } from "./explain.js";
import { EXAMPLE, Messages } from "./chat.js";
import { TokenList } from "./tokens.js";
import { copyButton, curl, python } from "./copy.js";
import { packed, unpacked, write } from "./state.js";

/** The longest text that is shown here; the server takes 16 MiB, and whole corpora in the view Compare. */
const MOST_TEXT = 8 * 1024 * 1024;
const MOST_IDS = 10000;
const SAMPLE = "Hello, 世界! 😀\n\tTokenizers cut “words” into pieces: 自然语言处理, naïve café, 3.14159, مرحبا.\n";

export async function open(fields) {
  const view = new Playground(await all(), fields, await unpacked(fields));
  view.run();
  return { element: view.element, close: () => view.asked?.abort() };
}

class Playground {
  constructor(list, fields, text) {
    this.list = list;
    this.mode = ["text", "chat", "ids"].includes(fields.get("mode")) ? fields.get("mode") : "text";
    this.options = { special: fields.get("special") === "parse", add: fields.get("add") === "1", spaces: fields.get("spaces") !== "0", ids: fields.get("show") === "ids" };
    this.inputs = { text: SAMPLE, ids: "9707, 11, 220", chat: structuredClone(EXAMPLE) };
    if (text !== null) this.take(text);
    const left = fields.get("long");
    this.picker = new Picker(list, fields.get("vocab"), () => this.changed());
    this.input = h("div", { class: "input" });
    this.problem = h("div", { class: "problems" });
    this.dropProblem = h("div", {});
    this.counts = h("div", { "aria-live": "off" });
    this.link = h("p", { class: "help" });
    this.detail = new Detail({ onexplain: (n) => this.explainAt(n) });
    this.explain = new Explain();
    const show = (n) => (n >= 0 && this.source ? this.detail.show(this.source, n) : this.detail.clear());
    this.tokens = new TokenList({ label: "Tokens", onpick: show, onhover: debounced(show, 40) });
    this.soon = debounced(() => this.run(), () => Math.min(800, 120 + this.size() / 4000));
    this.tickBar = h("div", { class: "bar ticks" }, this.ticks());
    this.copies = h("div", { class: "bar" }, this.copyButtons());
    this.element = h("div", { class: "view playground" },
      h("h1", {}, "Playground"),
      h("div", { class: "columns" },
        h("div", { class: "wide" },
          h("section", { class: "panel", "aria-label": "What is cut" },
            h("div", { class: "bar" }, this.picker.element, segmented("What is cut", [["text", "Text"], ["chat", "Chat"], ["ids", "Ids"]], this.mode, (mode) => this.setMode(mode))),
            this.input, this.dropProblem,
            left && notice(`The link left out a text of ${number(Number(left))} characters: it was too long for an address.`),
            this.tickBar),
          this.problem, this.counts,
          h("section", { class: "panel", "aria-label": "Tokens" }, this.tokens.element, this.copies, this.link),
          this.explain.element),
        h("aside", { class: "side", "aria-label": "Details" }, this.detail.element)));
    this.drawInput();
  }

  ticks() {
    const set = (name, again) => (value) => {
      this.options[name] = value;
      if (again) this.changed();
      else this.draw();
    };
    const how = this.mode === "text" && [
      tick("special tokens by name", this.options.special, set("special", true), "A special token's name in the text is that token; otherwise it is plain text"),
      tick("add BOS and the like", this.options.add, set("add", true), "Add the tokens that the vocabulary puts around a text"),
    ];
    return [how,
      tick("white space visible", this.options.spaces, set("spaces", false)),
      tick("show ids", this.options.ids, set("ids", false), "Ids in the place of the text"),
    ];
  }

  take(text) {
    if (this.mode !== "chat") return void (this.inputs[this.mode] = text);
    try {
      const messages = JSON.parse(text);
      if (Array.isArray(messages) && messages.length > 0) this.inputs.chat = messages;
    } catch { /* a link that was changed by hand: the example stays */ }
  }

  setMode(mode) {
    this.mode = mode;
    fill(this.tickBar, this.ticks());
    this.drawInput();
    this.changed();
  }

  drawInput() {
    if (this.mode === "chat") {
      const messages = new Messages(this.inputs.chat, (given, why) => {
        if (given === null) return fill(this.problem, notice(why, "bad"));
        this.inputs.chat = given;
        return this.soon();
      });
      return fill(this.input, messages.element);
    }
    const isText = this.mode === "text";
    const area = h("textarea", { rows: isText ? "5" : "4", dir: "auto", spellcheck: "false", class: isText ? "" : "code", oninput: () => {
      this.inputs[this.mode] = area.value;
      this.soon();
    } });
    area.value = this.inputs[this.mode];
    area.addEventListener("dragover", (event) => event.preventDefault());
    area.addEventListener("drop", (event) => this.dropped(event, area));
    return fill(this.input, field(isText ? "Text" : "Ids", area, isText ? "Type, paste, or drop a text file." : "Numbers, with commas or spaces between."));
  }

  async dropped(event, area) {
    const file = event.dataTransfer?.files?.[0];
    if (!file) return;
    event.preventDefault();
    fill(this.dropProblem);
    if (file.size > MOST_TEXT) return void fill(this.dropProblem, notice(`${file.name} has ${decimal(file.size / 2 ** 20, 0)} MiB; the playground takes up to ${MOST_TEXT / 2 ** 20}. The view Compare reads whole corpora.`, "bad"));
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) throw new TypeError("binary");
      this.inputs[this.mode] = area.value = text;
      this.changed();
    } catch {
      fill(this.dropProblem, notice(`${file.name} is no text in UTF-8: it looks like a binary file, or has another encoding.`, "bad"));
    }
  }

  size() {
    return this.mode === "chat" ? JSON.stringify(this.inputs.chat).length : this.inputs[this.mode].length;
  }

  changed() {
    this.run();
  }

  /** Route and body of the request as it is now. */
  request(ref = this.picker.ref) {
    const common = { vocab: ref, return: ["ids", "offsets"] };
    if (this.mode === "chat") return ["chat/encode", { ...common, messages: this.inputs.chat }];
    const text = this.inputs.text.toWellFormed();
    return ["encode", { ...common, text, ...(this.options.special && { special: "parse" }), ...(this.options.add && { add_special_tokens: true }) }];
  }

  async run() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.remember(signal);
    if (this.mode === "text" && this.inputs.text.length > MOST_TEXT) {
      return fill(this.problem, notice(`A text of ${number(this.inputs.text.length)} characters is too long to be shown here; the view Compare takes it as a file.`, "bad"));
    }
    this.element.setAttribute("aria-busy", "true");
    try {
      const source = this.mode === "ids" ? await this.decoded(signal) : await this.encoded(signal);
      if (signal.aborted) return undefined;
      this.source = source;
      fill(this.problem, source.note ?? []);
      this.draw();
    } catch (error) {
      if (signal.aborted) return undefined;
      await this.failed(error);
    } finally {
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
    return undefined;
  }

  /** The message; what was shown before is taken away, as it is not of what is asked now. */
  async failed(error) {
    const text = told(error);
    if (!text) return;
    this.source = null;
    fill(this.counts);
    fill(this.tokens.element);
    this.detail.clear();
    this.explain.hide();
    const gone = error instanceof Refused && error.status === 404;
    fill(this.problem, notice(gone ? `There is no vocabulary ${this.picker.ref} any more (it was removed, or the link names one of another server). Choose another one.` : text, "bad"));
    if (gone) this.picker.update((this.list = await all(true)));
  }

  async encoded(signal) {
    const [route, body] = this.request();
    const reply = await post(route, body, signal);
    const ref = `${reply.vocab.name}@${reply.vocab.version}`;
    return new Cut({ text: reply.text ?? body.text, ids: reply.ids, offsets: reply.offsets, ref, specials: await specials(ref) });
  }

  async decoded(signal) {
    const words = this.inputs.ids.split(/[^0-9-]+/).filter(Boolean);
    const ids = words.map(Number);
    const bad = words.find((word, n) => !Number.isInteger(ids[n]) || ids[n] < 0 || ids[n] > 0xffffffff);
    if (bad !== undefined) throw new Refused(0, { detail: `“${bad}” is no token id` });
    if (ids.length > MOST_IDS) throw new Refused(0, { detail: `${number(ids.length)} ids are more than the ${number(MOST_IDS)} that are decoded here` });
    const vocab = this.picker.ref;
    const whole = await post("decode", { vocab, ids }, signal);
    const ref = `${whole.vocab.name}@${whole.vocab.version}`;
    const each = ids.length === 0 ? { bytes_b64: [] } : await post("decode/batch", { vocab: ref, ids: ids.map((id) => [id]), errors: "bytes" }, signal);
    const source = new Given({ ids, bytes: each.bytes_b64.map(fromBase64), text: whole.text, specials: await specials(ref), ref });
    if (ids.length > 0) {
      const again = await post("encode", { vocab: ref, text: whole.text, special: "parse" }, signal);
      const same = again.ids.length === ids.length && again.ids.every((id, n) => id === ids[n]);
      source.note = [notice(same ? "The text encodes back to these ids." : `The text encodes to ${number(again.count)} other ids: these are not what the vocabulary makes of it.`),
        whole.valid_utf8 ? null : notice("The bytes of these ids are no whole text: what is not UTF-8 is shown as U+FFFD.")];
    }
    return source;
  }

  draw() {
    const { source } = this;
    if (!source) return;
    this.tokens.show(source, { spaces: this.options.spaces, asIds: this.options.ids });
    this.detail.clear();
    this.explain.hide();
    const { bytes, characters } = source.text;
    const cut = source.cutCharacters();
    fill(this.counts, figures(figure("tokens", number(source.count)), figure("characters", number(characters)), figure("bytes", number(bytes.length)),
      figure("bytes per token", ratio(bytes.length, source.count)), figure("chars per token", ratio(characters, source.count)),
      figure("characters cut", number(cut), cut > 0 ? "in several tokens" : null)));
    say(`${number(source.count)} tokens`);
  }

  copyButtons() {
    const request = () => (this.mode === "ids" ? ["decode", { vocab: this.picker.ref, ids: this.source?.ids ?? [] }] : this.request());
    return [
      copyButton("Copy as curl", () => curl(...request(), hasKey())),
      copyButton("Copy as Python", () => python(...request(), hasKey())),
      copyButton("Copy ids", () => JSON.stringify(this.source?.ids ?? [])),
    ];
  }

  async remember(signal) {
    const text = this.mode === "chat" ? JSON.stringify(this.inputs.chat) : this.inputs[this.mode];
    const state = text === SAMPLE ? {} : text.length > MOST_TEXT ? { long: String(text.length) } : await packed(text);
    if (signal.aborted) return;
    write("playground", { vocab: this.picker.ref, mode: this.mode === "text" ? "" : this.mode, special: this.options.special ? "parse" : "",
      add: this.options.add ? "1" : "", spaces: this.options.spaces ? "" : "0", show: this.options.ids ? "ids" : "", ...state });
    this.link.textContent = state.long ? "This text is too long for the address: a link to this view leaves it out." : "The address of this view is a link to it, text and all. What stands behind its # is never sent to a server.";
  }

  /** Explains the surroundings of a token: whole lines where they are short enough, else tokens. */
  explainAt(n) {
    const { source } = this;
    const { bytes } = source.text;
    const [start, end] = source.span(n);
    let from = source.text.head(start);
    let to = end;
    while (from > 0 && bytes[from - 1] !== 10 && start - from < MOST_BYTES / 2) from -= 1;
    while (to < bytes.length && bytes[to - 1] !== 10 && to - from < MOST_BYTES - 8) to += 1;
    from = source.text.head(from);
    to = to < bytes.length ? source.text.head(to) : to;
    if (to <= from) to = Math.min(bytes.length, from + 4);
    const parse = this.mode !== "text" || this.options.special;
    const text = source.text.slice(from, to);
    this.explain.show({ vocab: source.ref, text, ...(parse && { special: "parse" }) }, start - from);
    this.explain.element.scrollIntoView({ block: "nearest" });
  }
}

