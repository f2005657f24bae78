// The form of a training run: every option with what it does, and defaults that fit most.

import { field, fill, h, notice, segmented, select } from "./dom.js";
import { post, Refused, told } from "./api.js";
import { refs } from "./vocabs.js";
import { Corpus } from "./corpus.js";
import { go } from "./state.js";

const SPLITS = [["", "as the base, else cl100k"], ["cl100k", "cl100k: GPT-4; numbers in threes"], ["qwen2", "qwen2: as cl100k, digits one by one"], ["o200k", "o200k: GPT-4o; by upper and lower case"],
  ["llama3", "llama3: as cl100k"], ["deepseek", "deepseek: Chinese and Japanese apart from Latin"], ["gpt2", "gpt2: the first one"], ["regex", "a regular expression of mine"]];
const DIGITS = [["", "as the split has it"], ["single", "one by one"], ["group3", "groups of up to three"], ["run", "as long as they are"]];
const FORMS = [["", "none, or as the base"], ["nfc", "NFC: composed"], ["nfkc", "NFKC: composed, with look-alikes made one"], ["nfd", "NFD"], ["nfkd", "NFKD"]];
const TIES = [["hf", "hf: as Hugging Face's trainer"], ["bytes", "bytes: raw byte values, specials last"]];

/** The form. A run that was accepted is opened. */
export class TrainForm {
  constructor(list, fields) {
    this.list = list;
    this.from = "upload";
    this.inputs = {};
    this.problem = h("div", {});
    this.corpus = new Corpus({ records: [["whole", "the whole file"], ["lines", "a line"], ["paragraphs", "a paragraph"]], onready: () => {}, given: { upload: fields.get("upload") } });
    this.corpusPlace = h("div", {});
    this.element = h("form", { class: "panel", "aria-label": "A new training run", novalidate: true, onsubmit: (event) => this.submit(event) },
      h("h2", {}, "Train a vocabulary"),
      h("div", { class: "form-grid" },
        this.text("name", "Name", "my-vocab", "The vocabulary that gets a new version. One of that name keeps its versions; none is changed.", { value: fields.get("name") ?? "", required: true }),
        this.count("vocab_size", "Tokens in all", "Special tokens, the 256 bytes and merges together. 32,000 is usual for one language, 100,000 and more for many.", { value: "32000", min: "257" }),
        this.text("aliases", "Aliases to move when it is done", "", "With commas between, such as prod. Empty: none, and the result can be promoted by hand."),
        h("div", { class: "whole" }, h("p", { class: "label" }, "Corpus"),
          segmented("Where the corpus is", [["upload", "A file of mine"], ["texts", "Text typed here"], ["files", "Files on the server"]], this.from, (from) => this.drawCorpus(from)), this.corpusPlace)),
      this.more(),
      h("p", { class: "help" }, "Corpora by URL, several with weights, and counts that were made elsewhere: by ", h("a", { href: "docs#op-train" }, "POST /train"), "."),
      this.problem,
      h("div", { class: "bar" }, h("button", { type: "submit", class: "main" }, "Start training")));
    this.drawCorpus(this.from);
  }

  text(name, label, placeholder, help, attributes = {}) {
    return field(label, (this.inputs[name] = h("input", { name, placeholder, autocomplete: "off", spellcheck: "false", ...attributes })), help);
  }

  count(name, label, help, attributes = {}) {
    return field(label, (this.inputs[name] = h("input", { type: "number", name, min: "1", step: "1", ...attributes })), help);
  }

  choice(name, label, options, help) {
    return field(label, (this.inputs[name] = select(options, options[0][0], () => this.inputs.regex.closest(".field").toggleAttribute("hidden", this.inputs.split.value !== "regex"))), help);
  }

  more() {
    const bases = [["", "none: a new vocabulary"], ...this.list.vocabs.flatMap(refs)];
    const regex = this.text("regex", "Regular expression", "\\p{L}+|\\p{N}|\\s+|[^\\s\\p{L}\\p{N}]+", "What it finds is a pretoken; what lies between is one too.");
    regex.hidden = true;
    return h("details", { class: "more" }, h("summary", {}, "More options"), h("div", { class: "form-grid" },
      this.choice("base", "Extend another vocabulary", bases, "All of its ids stay as they are, new tokens come behind them. “Tokens in all” counts the base's too."),
      this.text("scripts", "Only tokens of these scripts", "Han", "With a base: Unicode scripts, with commas between. Empty: every script."),
      this.count("num_merges", "Merges at most", "Stop at so many merges. With both limits the first one reached stops; empty: no such limit."),
      this.count("min_frequency", "Least frequency of a pair", "Stop when the best pair occurs less often. 2 is the least that is worth a token.", { value: "2" }),
      this.count("max_token_bytes", "Longest token in bytes", "No merge makes a longer one. Empty: no limit. A Chinese character has three bytes."),
      this.choice("split", "Split pattern", SPLITS, "How text is cut before counting. No token reaches from one pretoken into the next."), regex,
      this.choice("digits", "Digits", DIGITS, "Replaces the number rule of a split family. One by one is what arithmetic is said to like."),
      this.choice("normalizer", "Unicode normalization", FORMS, "Before the cut, in training and in use. NFC is harmless; the K forms lose what was written."),
      this.text("special_tokens", "Special tokens", "<|endoftext|>, <|im_start|>", "Names that get an id of their own. Where they occur in the corpus they end the record and are not counted. With commas between."),
      this.choice("tie_break", "Order of equals", TIES, "Which of several equally frequent pairs is merged first, and how ids are numbered. The same input gives the same vocabulary either way."),
      this.count("prune_count", "Leave out rare pretokens", "Pretokens that occur less often are dropped before merging: less memory, hardly another result. 1 keeps all.", { value: "1" }),
      this.count("sample", "Share of the corpus in %", "How much of the records is read, chosen by their content. 100 reads all.", { value: "100", min: "1", max: "100", step: "any" }),
      this.count("hold_back", "Held back in %", "Share of the records that is not trained on. With a base, the gain is measured there. 0 to 50.", { value: "0", min: "0", max: "50", step: "any" })));
  }

  drawCorpus(from) {
    this.from = from;
    if (from === "upload") return fill(this.corpusPlace, this.corpus.element);
    if (from === "texts") return fill(this.corpusPlace, field("Texts", (this.inputs.texts = h("textarea", { rows: "8", spellcheck: "false", dir: "auto" })), "One record. Good for a try; a corpus is better sent as a file."));
    return fill(this.corpusPlace, field("Paths", (this.inputs.files = h("textarea", { rows: "3", class: "code", spellcheck: "false" })), "A path a line, below the folder that the setting corpus_root names."),
      field("Format", (this.inputs.filesFormat = select([["text", "plain text"], ["jsonl", "JSONL with the field text"], ["parquet", "Parquet with the column text"]], "text", () => {}))));
  }

  /** The request; throws what the form itself can tell. */
  request() {
    const value = (name) => this.inputs[name].value.trim();
    const whole = (name) => {
      if (value(name) === "") return {};
      const given = Number(value(name));
      if (!Number.isInteger(given) || given < 1) throw wrong(`/${name}`, "must be a whole number of at least 1");
      return { [name]: given };
    };
    const list = (name) => value(name).split(",").map((item) => item.trim()).filter(Boolean);
    const lists = (name) => (list(name).length > 0 ? { [name]: list(name) } : {});
    const word = (name) => (value(name) ? { [name]: value(name) } : {});
    const share = (name) => {
      const given = Number(value(name) || "NaN") / 100;
      if (Number.isNaN(given) || given < 0 || given > 1) throw wrong(`/${name}`, "must be a number from 0 to 100");
      return given;
    };
    if (!value("name")) throw wrong("/name", "give the vocabulary a name");
    const split = value("split") === "regex" ? { split: value("regex") } : word("split");
    const holdBack = share("hold_back");
    return {
      name: value("name"), corpus: this.corpusFields(share("sample")), ...lists("aliases"),
      ...whole("vocab_size"), ...whole("num_merges"), ...whole("min_frequency"), ...whole("max_token_bytes"), ...whole("prune_count"),
      ...word("base"), ...lists("scripts"), ...split, ...word("digits"), ...word("normalizer"), ...lists("special_tokens"), ...word("tie_break"),
      ...(holdBack > 0 && { hold_back: holdBack }),
    };
  }

  corpusFields(share) {
    const sample = share < 1 ? { sample: share } : {};
    if (this.from === "texts") {
      if (!this.inputs.texts.value) throw wrong("/corpus/texts", "type a text, or give a file");
      return { texts: [this.inputs.texts.value.toWellFormed()], ...sample };
    }
    if (this.from === "files") {
      const files = this.inputs.files.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (files.length === 0) throw wrong("/corpus/files", "name at least one file");
      return { files, format: this.inputs.filesFormat.value, ...sample };
    }
    if (!this.corpus.id) throw wrong("/corpus/upload", "choose a file, and wait until it is sent");
    return { ...this.corpus.fields(), ...sample };
  }

  async submit(event) {
    event.preventDefault();
    const button = this.element.querySelector("button[type=submit]");
    Object.values(this.inputs).forEach((input) => input.removeAttribute("aria-invalid"));
    try {
      const request = this.request();
      button.disabled = true;
      const job = await post("train", request);
      const upload = request.corpus.upload ? this.corpus.state() : {};
      go("train", { job: job.id, against: request.base ?? "", ...upload });
    } catch (error) {
      const input = this.inputs[(error.pointer ?? "").split("/")[1]];
      input?.closest("details")?.setAttribute("open", "");
      input?.setAttribute("aria-invalid", "true");
      input?.focus();
      fill(this.problem, notice(told(error), "bad"));
    } finally {
      button.disabled = false;
    }
  }
}

const wrong = (pointer, detail) => new Refused(0, { pointer, detail });

