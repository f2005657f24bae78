// The whole text along the ranks of the merges that it needs: as the vocabulary cut it while it was still learning.

import { field, fill, freshId, h, notice, number } from "./dom.js";
import { Text } from "./bytes.js";
import { post, told } from "./api.js";
import { after, stepper, symbolRow } from "./explain.js";
import { Picker } from "./vocabs.js";
import { write } from "./state.js";

class Replay {
  constructor() {
    this.element = h("div", { class: "replay" });
  }

  draw(reply) {
    const pieces = reply.pieces.map((piece) => ({ ...piece, shown: new Text(piece.text) }));
    const ranks = [...new Set(pieces.flatMap((piece) => piece.merges?.map((merge) => merge.rank) ?? []))].sort((a, b) => a - b);
    const text = h("p", { class: "tokens still", "aria-live": "off" });
    const now = h("p", { class: "now" });
    const steps = stepper("Merges of the vocabulary", ranks.length, (step) => {
      const below = step === 0 ? -1 : ranks[step - 1];
      let count = 0;
      const parts = pieces.map((piece) => {
        if (!piece.symbols?.length) {
          count += piece.tokens.length;
          return symbolRow(piece.shown, piece.tokens);
        }
        const merges = piece.merges ?? [];
        const beyond = merges.findIndex((merge) => merge.rank > below);
        const symbols = after(piece, beyond === -1 ? merges.length : beyond);
        count += symbols.length;
        return symbolRow(piece.shown, symbols);
      });
      fill(text, parts);
      now.textContent = `${step === 0 ? "before the first merge" : `with the merges up to rank ${number(below)}`}: ${number(count)} tokens`;
    });
    fill(this.element, steps.element, now, text);
  }

  async show(request, signal) {
    try {
      this.draw(await post("explain", request, signal));
    } catch (error) {
      if (told(error)) fill(this.element, notice(told(error), "bad"));
    }
  }
}

/** The merges of a vocabulary along its ranks, on a text. */
export function replayPanel(list, fields, ref = null, text = null) {
  const replay = new Replay();
  const area = h("textarea", { rows: "2", dir: "auto", id: freshId("replay"), spellcheck: "false" });
  area.value = text ?? "自然语言处理: how a vocabulary learns to read, merge by merge.";
  const picker = new Picker(list, ref ?? fields.get("replay"), (chosen) => ref === null && write("train", { replay: chosen }), "Vocabulary to replay");
  const show = () => replay.show({ vocab: picker.ref, text: area.value.toWellFormed() });
  return h("section", { class: "panel", "aria-label": "Replay" }, h("h2", {}, "Replay the merges"),
    h("p", { class: "help" }, "The text as the vocabulary cut it when it had learned only the merges up to a rank: from bytes to what it makes of it now."),
    picker.element, field("Text to replay on (up to 4 KiB)", area), h("div", { class: "bar" }, h("button", { type: "button", onclick: show }, "Replay")), replay.element);
}

