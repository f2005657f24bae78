// A file of the user as an upload of the server: chosen or dropped, looked at, sent with its progress shown.

import { decimal, fill, freshId, h, notice, select, size } from "./dom.js";
import { get, path, told, upload } from "./api.js";

/** What of a file is looked at before it is sent. */
const HEAD = 64 * 1024;
const MAGIC = [["gzip", [0x1f, 0x8b]], ["zstd", [0x28, 0xb5, 0x2f, 0xfd]], ["parquet", [0x50, 0x41, 0x52, 0x31]]];

/** What a file is by its first bytes and its name: `{format}`, or `{problem}` where it is no corpus. */
export async function looksLike(file) {
  const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  const magic = MAGIC.find(([, bytes]) => bytes.every((byte, at) => head[at] === byte))?.[0];
  const name = file.name.toLowerCase().replace(/\.(gz|zst|zstd)$/, "");
  if (file.size === 0) return { problem: `${file.name} is empty.` };
  if (magic === "parquet") return { format: "parquet" };
  if (!magic && head.includes(0)) return { problem: `${file.name} looks like a binary file (it has a zero byte in its first ${decimal(HEAD / 1024, 0)} KiB). Text, JSONL and Parquet are read, each of the first two also as .gz and .zst.` };
  return { format: /\.(jsonl|ndjson)$/.test(name) ? "jsonl" : name.endsWith(".parquet") ? "parquet" : "text" };
}

const newId = () => `page-${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;

/** A place to drop a file. `records` is what a text may be parted into; `onready` is told when the upload changes. */
export class Corpus {
  constructor({ records, onready, given = {} }) {
    this.onready = onready;
    this.recordNames = records;
    this.id = given.upload ?? null;
    this.how = { format: given.format || "text", field: given.field || "text", records: given.records || records[0][0], invalid: "error" };
    this.input = h("input", { type: "file", id: freshId("file"), onchange: () => this.take(this.input.files[0]) });
    this.told = h("div", { "aria-live": "polite" });
    this.options = h("div", { class: "bar" });
    this.zone = h("div", { class: "drop" }, h("label", { for: this.input.id }, "Drop a corpus here, or choose one"), h("div", {}, this.input),
      h("p", { class: "help" }, ".txt, .jsonl, .parquet; also .gz and .zst. It is sent to this server, kept for a day after its last use, and read there."));
    for (const name of ["dragover", "dragleave", "drop"]) this.zone.addEventListener(name, (event) => this.drag(event));
    this.element = h("div", {}, this.zone, this.told, this.options);
    /** Done once the upload of a link is known to be there, or not. */
    this.recalled = this.id ? this.recall() : Promise.resolve();
    this.drawOptions();
  }

  drag(event) {
    event.preventDefault();
    this.zone.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") this.take(event.dataTransfer.files[0]);
  }

  /** The upload of a link: it may be gone. */
  async recall() {
    try {
      const facts = await get(path("uploads", this.id));
      fill(this.told, notice(`The upload of this link: ${size(facts.bytes)}.`));
    } catch (error) {
      this.id = null;
      if (told(error)) fill(this.told, notice(error.status === 404 ? "The upload of this link is gone: uploads are kept for a day. Choose the file again." : told(error), "bad"));
    }
  }

  async take(file) {
    if (!file) return;
    this.stop?.abort();
    this.id = null;
    this.onready();
    const { format, problem } = await looksLike(file);
    if (problem) return void fill(this.told, notice(problem, "bad"));
    this.how.format = format;
    this.drawOptions();
    const id = newId();
    const bar = h("progress", { max: "1", value: "0", "aria-label": `Sending ${file.name}` });
    const line = h("p", { class: "help" }, "");
    const stop = (this.stop = new AbortController());
    fill(this.told, bar, line, h("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Stop sending"));
    try {
      const facts = await upload(id, file, (sent, total) => {
        bar.value = total ? sent / total : 0;
        line.textContent = `${file.name}: ${size(sent)} of ${size(total)} sent`;
      }, stop.signal);
      this.id = id;
      fill(this.told, notice(`${file.name} is there: ${size(facts.bytes)}.`));
      this.onready();
    } catch (error) {
      if (stop !== this.stop) return;
      fill(this.told, notice(told(error) ?? `Sending ${file.name} was stopped.`, "bad"));
    }
  }

  drawOptions() {
    const changed = (name) => (value) => {
      this.how[name] = value;
      this.drawOptions();
      if (this.id) this.onready();
    };
    const labelled = (label, input) => {
      input.id = freshId("how");
      return h("div", { class: "field" }, h("label", { for: input.id }, label), input);
    };
    const { format, field, records, invalid } = this.how;
    const name = h("input", { value: field, onchange: () => changed("field")(name.value.trim() || "text") });
    fill(this.options,
      labelled("Format", select([["text", "plain text"], ["jsonl", "JSONL"], ["parquet", "Parquet"]], format, changed("format"))),
      format === "text" ? labelled("A document is", select(this.recordNames, records, changed("records"))) : labelled(format === "jsonl" ? "Field with the text" : "Column with the text", name),
      labelled("Bytes that are not UTF-8", select([["error", "are an error"], ["replace", "become U+FFFD"]], invalid, changed("invalid"))));
  }

  /** The fields of a request that say how the upload is read. */
  fields() {
    const { format, field, records, invalid } = this.how;
    return { upload: this.id, format, ...(format === "text" ? { records } : { field }), invalid_utf8: invalid };
  }

  /** The same for the address. */
  state() {
    const { format, field, records } = this.how;
    return this.id ? { upload: this.id, format, ...(format === "text" ? { records } : { field }) } : {};
  }
}
