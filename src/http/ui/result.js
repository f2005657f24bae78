// What a run made: figures, what it bought, an alias to move, files to take away, its merges on a text.

import { decimal, field, figure, figures, fill, freshId, h, notice, number, own, percent, say, select, size, table, time } from "./dom.js";
import { getBlob, path, post, Refused, told, withJson } from "./api.js";
import { curve } from "./charts.js";
import { all, find, Picker } from "./vocabs.js";
import { fragmentation } from "./compare.js";
import { replayPanel } from "./replay.js";

const REASONS = { vocab_size: "it has the tokens that were wanted", num_merges: "it has the merges that were wanted", nothing_frequent: "nothing frequent enough was left to merge" };
/** Files of the formats that have several. */
const FILES = { hf: ["tokenizer.json", "tokenizer_config.json"], gpt2: ["vocab.json", "merges.txt"], tiktoken: ["tokenizer.tiktoken", "tokenizer.toml"], native: [null] };

export class Result {
  /** `points` of the curve as it was followed, which are more than the report's. */
  constructor(job, fields, points) {
    Object.assign(this, { job, fields, points });
    const { vocab } = job.result;
    this.ref = `${vocab.name}@${vocab.version}`;
    this.element = h("div", {});
  }

  async start() {
    const { result } = this.job;
    let list;
    try {
      list = await all(true);
    } catch (error) {
      return fill(this.element, notice(told(error) ?? "Stopped.", "bad"));
    }
    const there = find(list, this.ref);
    fill(this.element,
      h("section", { class: "panel", "aria-label": "Result" }, h("h2", {}, "The new version: ", own(this.ref)),
        figures(figure("tokens", number(result.vocab_size)), figure("merges", number(result.merges)), figure("text", size(result.text_bytes)), figure("pretokens", number(result.pretokens)),
          figure("time", time(result.seconds)), figure("new tokens not used", number(result.report?.unused_tokens ?? null), "steps to longer ones")),
        h("p", { class: "help" }, `Training ended as ${REASONS[this.job.stop_reason] ?? this.job.stop_reason}. ${result.created ? "" : "The vocabulary had this very content already: no version was added."}`),
        there ? null : notice(`${this.ref} is not here any more: it was removed.`, "bad"),
        this.report(result.report)),
      there && [this.bought(list), h("div", { class: "halves" }, this.promote(there.vocab), this.exports()), replayPanel(list, new URLSearchParams(), this.ref)]);
    return undefined;
  }

  report(report) {
    if (!report) return null;
    const told = report.curve.map(({ merges, bytes_per_token: ratio }) => [merges, ratio]);
    const whole = this.points[0]?.[0] === 0 && this.points.length > told.length;
    const points = whole ? [...this.points.filter(([merges]) => merges < told.at(-1)[0]), told.at(-1)] : told;
    const gain = report.gain && table(`What the extension bought, ${report.gain.held_back ? "on records held back" : "on the corpus that it was trained on"}`, ["script", "bytes", "bytes per token before", "after", "fewer tokens"],
      report.gain.scripts.map((script) => [script.script, number(script.bytes), decimal(script.bytes_per_token_before), decimal(script.bytes_per_token_after), percent(1 - script.bytes_per_token_before / script.bytes_per_token_after)]));
    const longest = h("details", {}, h("summary", {}, "The longest new tokens"), table("Longest new tokens", ["token", "bytes", "times in the corpus"], report.longest.map((token) => [own(token.text), number(token.bytes), number(token.frequency)])));
    return [gain, h("h3", {}, "Bytes per token on the corpus, as merges were made"), h("div", { class: "halves" }, h("div", {}, curve(points, "merges", "bytes per token", "Bytes per token by merges")), longest)];
  }

  /** The new version beside another one, on the corpus where it is still there, or on a text. */
  bought(list) {
    const base = this.fields.against;
    const older = find(list, this.ref).vocab.versions.map(({ version }) => version).filter((version) => version < this.job.result.vocab.version).at(-1);
    const against = base || (older ? `${this.job.name}@${older}` : list.default_vocab);
    const body = h("div", {});
    const picker = new Picker(list, against, () => measure(), "Beside");
    const area = h("textarea", { rows: "3", dir: "auto", id: freshId("bought") });
    area.value = "自然语言处理 is natural language processing.";
    const { upload } = this.fields;
    const measure = async () => {
      fill(body, h("p", { class: "help" }, "Measuring …"));
      const { format = "text", field: name, records } = this.fields;
      const how = format === "text" ? { records: records === "paragraphs" ? "paragraphs" : "lines" } : { field: name ?? "text" };
      const vocabs = [picker.ref, this.ref];
      try {
        const reply = upload && this.onUpload !== false ? await post("compare", { vocabs, upload, format, ...how, invalid_utf8: "replace" }) : await post("compare", { vocabs, text: area.value.toWellFormed() });
        this.drawBought(body, reply, vocabs);
      } catch (error) {
        if (error instanceof Refused && error.pointer === "/upload") {
          this.onUpload = false;
          place.hidden = false;
          return void fill(body, notice("The corpus is no longer here: compare on a text instead."));
        }
        if (told(error)) fill(body, notice(told(error), "bad"));
      }
    };
    const place = h("div", { hidden: Boolean(upload) }, field("Text", area), h("button", { type: "button", onclick: () => measure() }, "Measure"));
    measure();
    return h("section", { class: "panel", "aria-label": "What it bought" }, h("h2", {}, "What it bought"),
      h("p", { class: "help" }, upload ? "On the corpus of this run, which is what it was made for: a text that it has not seen may say less." : "On the text below."),
      picker.element, place, body);
  }

  drawBought(place, { results, bytes }, vocabs) {
    const [before, now] = results.map(({ count }) => count);
    const fewer = 1 - now / before;
    fill(place, figures(figure("text", size(bytes)), ...results.map(({ count, bytes_per_token: ratio }, at) => figure(vocabs[at], number(count), `tokens, ${decimal(ratio)} bytes each`)),
      figure(fewer >= 0 ? "fewer tokens" : "more tokens", percent(Math.abs(fewer)))),
    h("details", {}, h("summary", {}, "By script"), fragmentation(results, vocabs)));
  }

  promote(vocab) {
    const input = h("input", { id: freshId("alias"), autocomplete: "off", spellcheck: "false", list: freshId("aliases") });
    input.value = Object.keys(vocab.aliases)[0] ?? "prod";
    const known = h("datalist", { id: input.getAttribute("list") }, Object.keys(vocab.aliases).map((alias) => h("option", { value: alias })));
    const body = h("div", { "aria-live": "polite" });
    const move = async (alias, version) => {
      try {
        const current = find(await all(true), `${vocab.name}@${alias}`);
        // Only from where it was seen: somebody else may move it at the same time.
        const guard = current ? { "if-match": `"${current.version.digest}"` } : { "if-none-match": "*" };
        const { previous } = await withJson("PUT", path("vocabs", vocab.name, "aliases", alias), { version }, { more: guard });
        await all(true);
        say(`${vocab.name}@${alias} is version ${version}`);
        const back = previous && previous.version !== version;
        fill(body, notice(`${vocab.name}@${alias} means version ${version} now${back ? `; it was ${previous.version}` : ""}. Requests see it from here on.`),
          back && h("button", { type: "button", class: "quiet", onclick: () => move(alias, previous.version) }, `Roll back to version ${previous.version}`));
      } catch (error) {
        const moved = error instanceof Refused && error.status === 412;
        if (told(error)) fill(body, notice(moved ? `Somebody moved ${alias} meanwhile: look again before you move it.` : told(error), "bad"));
      }
    };
    return h("section", { class: "panel", "aria-label": "Promote" }, h("h2", {}, "Promote"),
      h("form", { onsubmit: (event) => { event.preventDefault(); move(input.value.trim(), this.job.result.vocab.version); } },
        field("Alias", input, `Moves the alias to ${this.ref}, without a restart and without a failed request.`), known,
        h("div", { class: "bar" }, h("button", { type: "submit", class: "main" }, "Move the alias"))), body);
  }

  exports() {
    const body = h("div", { "aria-live": "polite" });
    const format = select([["hf", "hf: tokenizer.json"], ["tiktoken", "tiktoken"], ["gpt2", "gpt2: vocab.json and merges.txt"], ["native", "native"]], "hf", () => {});
    const take = async () => {
      try {
        for (const file of FILES[format.value]) {
          const blob = await getBlob(`${path("vocabs", this.ref, "export")}?format=${format.value}${file ? `&file=${file}` : ""}`);
          const link = h("a", { href: URL.createObjectURL(blob), download: `${this.ref.replace("@", "-")}-${file ?? "native.vocab"}` });
          link.click();
          setTimeout(() => URL.revokeObjectURL(link.href), 10000);
        }
        fill(body, notice("The files are among your downloads."));
      } catch (error) {
        if (told(error)) fill(body, notice(told(error), "bad"));
      }
    };
    return h("section", { class: "panel", "aria-label": "Export" }, h("h2", {}, "Export"), field("Format", format, "As it is, for transformers, tiktoken, or another vocabd."),
      h("div", { class: "bar" }, h("button", { type: "button", onclick: take }, "Download")), body);
  }
}

