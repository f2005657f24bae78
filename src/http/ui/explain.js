// How a text becomes its tokens, merge by merge: one pretoken, or the whole text along the ranks.

import { decimal, fill, freshId, h, notice, number, own, table } from "./dom.js";
import { asText, fromBase64, Text } from "./bytes.js";
import { colourOf, content } from "./tokens.js";
import { post, told } from "./api.js";

/** What /explain takes, unless the settings say otherwise. */
export const MOST_BYTES = 4096;
const MOST_PIECES = 400;
const STEP_MS = 260;

/** Symbols of a piece after the first `steps` of its merges. */
export function after(piece, steps) {
  let symbols = piece.symbols.map((symbol) => ({ ...symbol }));
  for (const merge of (piece.merges ?? []).slice(0, steps)) {
    const from = symbols.findIndex((symbol) => symbol.start === merge.start);
    const to = symbols.findIndex((symbol) => symbol.end === merge.end);
    symbols.splice(from, to - from + 1, { id: merge.id, start: merge.start, end: merge.end, fresh: true });
  }
  return symbols;
}

/** A row of symbols, coloured as tokens are. */
export function symbolRow(text, symbols, next = null) {
  return h("span", { class: "symbols" }, symbols.map((symbol) => {
    const joins = next && symbol.start >= next.start && symbol.end <= next.end;
    const colour = symbol.id === null || symbol.id === undefined ? "none" : `c${colourOf(symbol.id)}`;
    return h("span", { class: `token ${colour} ${joins ? "joins" : ""}`, title: symbol.id === undefined || symbol.id === null ? "no token" : `id ${symbol.id}` }, content(text.pieces(symbol.start, symbol.end)));
  }));
}

/** A slider over steps, with buttons to go one on, one back, and to run. */
export function stepper(label, most, onstep) {
  const id = freshId("steps");
  const output = h("output", { for: id, class: "step-now" });
  const slider = h("input", { type: "range", id, min: "0", max: String(most), value: String(most), oninput: () => to(Number(slider.value)) });
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  };
  const play = h("button", { type: "button", class: "quiet", onclick: () => {
    if (timer) return stop();
    if (Number(slider.value) >= most) to(0);
    play.textContent = "Pause";
    const stride = Math.max(1, Math.round(most / 60));
    timer = setInterval(() => {
      if (!slider.isConnected || Number(slider.value) >= most) return stop();
      return to(Math.min(most, Number(slider.value) + stride));
    }, STEP_MS);
    return undefined;
  } }, "Play");
  function to(step) {
    slider.value = String(step);
    output.textContent = `step ${number(step)} of ${number(most)}`;
    onstep(step);
  }
  const move = (by) => () => {
    stop();
    to(Math.max(0, Math.min(most, Number(slider.value) + by)));
  };
  const element = h("div", { class: "stepper" }, h("label", { for: id }, label),
    h("button", { type: "button", class: "quiet", "aria-label": "One step back", onclick: move(-1) }, "‹"), slider,
    h("button", { type: "button", class: "quiet", "aria-label": "One step on", onclick: move(1) }, "›"), play, output);
  to(most);
  return { element, to };
}

const WAYS = {
  special: "It is a special or added token, found by its name before the text is cut.",
  whole: "It is a token as a whole, and merges do not lead to it: it is looked up.",
};

export class Explain {
  constructor() {
    this.body = h("div", {});
    this.element = h("section", { class: "panel explain", "aria-label": "Merge by merge", hidden: true }, h("h2", {}, "Merge by merge"), this.body);
    this.asked = null;
  }

  hide() {
    this.asked?.abort();
    this.element.hidden = true;
  }

  /** Explains `text`; the piece that has the byte `at` is the first to be shown. */
  async show(request, at = 0) {
    this.element.hidden = false;
    this.asked?.abort();
    this.asked = new AbortController();
    fill(this.body, h("p", { class: "help" }, "Asking …"));
    try {
      this.draw(await post("explain", request, this.asked.signal), request.text, at);
    } catch (error) {
      if (told(error)) fill(this.body, notice(told(error), "bad"));
    }
  }

  draw(reply, text, at) {
    this.names = new Map(reply.tokens.map((token) => [token.id, fromBase64(token.bytes_b64)]));
    const first = Math.max(0, reply.pieces.findIndex((piece) => piece.start <= at && at < piece.end));
    const from = Math.max(0, Math.min(first - MOST_PIECES / 2, reply.pieces.length - MOST_PIECES));
    const shown = reply.pieces.slice(from, from + MOST_PIECES);
    const one = h("div", { class: "piece" });
    const buttons = shown.map((piece, n) => h("button", { type: "button", class: "pretoken", "aria-pressed": "false", onclick: () => pick(n) }, content([{ text: piece.text }])));
    const pick = (n) => {
      buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === n)));
      this.piece(shown[n], one);
    };
    const changed = reply.normalized.map((stretch) => h("li", {}, own(new Text(text).slice(stretch.start, stretch.end)), " becomes ", own(stretch.text)));
    fill(this.body,
      h("p", { class: "help" }, `The split pattern cuts the text into ${number(reply.pieces.length)} pretokens; merges never cross from one into the next. Choose one:`),
      changed.length > 0 && h("details", {}, h("summary", {}, `The normalizer changes ${number(changed.length)} stretches first`), h("ul", {}, changed.slice(0, 50))),
      h("div", { class: "pretokens", role: "group", "aria-label": "Pretokens" }, buttons), one);
    if (shown.length > 0) pick(first - from);
  }

  piece(piece, place) {
    if (piece.way === "merges" || piece.symbols?.length > 1) return this.merges(piece, place);
    if (piece.way === "best") return this.best(piece, place);
    const text = new Text(piece.text);
    return fill(place, h("p", {}, symbolRow(text, piece.tokens)), h("p", { class: "help" }, WAYS[piece.way]));
  }

  named(id) {
    const bytes = this.names.get(id);
    if (!bytes) return "?";
    const text = asText(bytes);
    return h("span", { class: `token c${colourOf(id)}` }, content(text === null ? [{ part: bytes, from: 0, to: 1, of: 2 }] : [{ text }]));
  }

  merges(piece, place) {
    const merges = piece.merges ?? [];
    const text = new Text(piece.text);
    const row = h("p", { class: "symbol-line" });
    const now = h("p", { class: "now", "aria-live": "polite" });
    const rows = merges.map((merge, n) => h("li", {}, h("button", { type: "button", class: "quiet step", onclick: () => steps.to(n + 1) },
      h("span", { class: "rank" }, `rank ${number(merge.rank)}`), this.named(merge.left), " + ", this.named(merge.right), " → ", this.named(merge.id), h("span", { class: "note" }, ` id ${merge.id}`))));
    const steps = stepper("Merges made", merges.length, (step) => {
      fill(row, symbolRow(text, after(piece, step), merges[step]));
      const next = merges[step];
      fill(now, next ? ["next: the pair of the lowest rank, ", h("strong", {}, number(next.rank)), ": ", this.named(next.left), " + ", this.named(next.right)]
        : `No pair is left that has a merge: ${number(piece.tokens.length)} ${piece.tokens.length === 1 ? "token" : "tokens"}.`);
      rows.forEach((item, n) => item.classList.toggle("done", n < step));
    });
    const whole = piece.way === "whole" && h("p", { class: "help" }, "It is a token as a whole, and is looked up; merges lead to it as well:");
    fill(place, whole, row, now, steps.element, h("ol", { class: "steps", tabindex: "0", "aria-label": "All merges of this pretoken" }, rows));
  }

  best(piece, place) {
    const text = new Text(piece.text);
    fill(place, h("p", {}, symbolRow(text, piece.best.map((part) => ({ ...part, id: part.ids[0] })))),
      h("p", { class: "help" }, `This vocabulary has scores in the place of merges: of all ways to cut, the one with the highest sum (${decimal(piece.score, 3)}) is taken.`),
      table("Pieces of the best way", ["piece", "ids", "score"], piece.best.map((part) => [
        h("bdi", {}, content(text.pieces(part.start, part.end))), part.ids.join(", "), part.unknown ? "unknown" : decimal(part.score, 3)])));
  }
}
