// How two versions differ: tokens and merges that one has, that moved, and settings.

import { fill, freshId, h, notice, number, segmented, table } from "./dom.js";
import { get, path, post, told } from "./api.js";
import { fromBase64 } from "./bytes.js";
import { refs } from "./vocabs.js";
import { shown } from "./detail.js";
import { cuts } from "./spans.js";

const SECTIONS = [["only_a", "tokens of the first only"], ["only_b", "tokens of the second only"], ["moved", "tokens with two ids"],
  ["merges_only_a", "merges of the first only"], ["merges_only_b", "merges of the second only"], ["merges_moved", "merges with two ranks"], ["specials", "special tokens"]];
const PAGE = 50;

/** The panel: two versions to choose, of one's own first. `text()` is what their cuts are shown on. */
export class Diff {
  constructor(list, text) {
    this.text = text;
    const own = list.vocabs.filter((vocab) => vocab.versions.length > 1);
    const first = own[0] ?? list.vocabs[0];
    const numbers = first.versions.map(({ version }) => `${first.name}@${version}`);
    const choices = () => list.vocabs.map((vocab) => h("optgroup", { label: vocab.name }, refs(vocab).map(([ref, name]) => h("option", { value: ref }, name))));
    const choice = (label, value) => {
      const select = h("select", { class: "vocab", id: freshId("diff") }, choices());
      select.value = value;
      return [select, h("div", { class: "field" }, h("label", { for: select.id }, label), select)];
    };
    const [a, aField] = choice("First version", numbers.at(-2) ?? numbers[0]);
    const [b, bField] = choice("Second version", numbers.at(-1));
    this.body = h("div", {});
    this.element = h("section", { class: "panel diff", "aria-label": "Two versions" }, h("h2", {}, "Two versions"),
      h("div", { class: "bar" }, aField, bField, h("button", { type: "button", onclick: () => this.show(a.value, b.value) }, "Show how they differ")), this.body);
  }

  async show(a, b) {
    this.refs = [a, b];
    this.where = `${path("vocabs", a, "diff", b)}`;
    fill(this.body, h("p", { class: "help" }, "Asking …"));
    try {
      const diff = await get(`${this.where}?limit=${PAGE}`);
      this.draw(diff);
      const text = this.text();
      if (text) this.body.append(await this.onText(text, diff));
    } catch (error) {
      if (told(error)) fill(this.body, notice(told(error), "bad"));
    }
  }

  draw(diff) {
    const name = ({ name: own, version }) => `${own}@${version}`;
    const settings = diff.settings.map((change) => h("li", {}, h("code", {}, change.name), ": ", h("bdi", {}, String(change.a ?? "none")), " → ", h("bdi", {}, String(change.b ?? "none"))));
    const body = h("div", {});
    const draw = (section) => this.section(section, diff[section], body, name(diff.a), name(diff.b));
    const some = SECTIONS.filter(([section]) => diff[section].total > 0);
    fill(this.body,
      h("p", {}, `${number(diff.same)} tokens have one id in both, ${number(diff.merges_same)} merges one rank.`),
      settings.length > 0 && [h("h3", {}, "Settings"), h("ul", {}, settings)],
      some.length === 0 ? notice("They have the same tokens, merges and special tokens.")
        : [segmented("What differs", some.map(([section, text]) => [section, `${text}: ${number(diff[section].total)}`]), some[0][0], draw), body]);
    if (some.length > 0) draw(some[0][0]);
  }

  section(section, first, place, a, b) {
    const entries = [...first.entries];
    let { next } = first;
    const cell = (value) => (value === null || value === undefined ? "–" : number(value));
    const rows = () => entries.map((entry) => {
      if (section === "specials") return [h("bdi", {}, entry.name), cell(entry.a?.id), cell(entry.b?.id)];
      if (section.startsWith("merges")) return [h("span", {}, shown(fromBase64(entry.left_b64)), " + ", shown(fromBase64(entry.right_b64))), cell(entry.a), cell(entry.b)];
      return [shown(fromBase64(entry.bytes_b64)), cell(entry.a), cell(entry.b)];
    });
    const what = section.startsWith("merges") ? "rank" : "id";
    const draw = () => {
      const more = next !== undefined && h("button", { type: "button", class: "quiet", onclick: async () => {
        const page = (await get(`${this.where}?section=${section}&after=${next}&limit=${PAGE}`))[section];
        entries.push(...page.entries);
        ({ next } = page);
        draw();
      } }, `Show more: ${number(entries.length)} of ${number(first.total)}`);
      fill(place, table(`${SECTIONS.find(([name]) => name === section)[1]}`, [section.startsWith("merges") ? "merge" : "token", `${what} in ${a}`, `${what} in ${b}`], rows()), more);
    };
    draw();
  }

  async onText(text, diff) {
    const vocabs = [diff.a, diff.b].map(({ name, version }) => `${name}@${version}`);
    const { results } = await post("compare", { vocabs, text });
    return results.every((result) => result.spans) ? cuts(text, results) : h("p", { class: "help" }, "The text is too long for its tokens to be shown one by one.");
  }
}
