// Tokens of a text as a list of them wants to be told.

import { asText, Text } from "./bytes.js";

/** What the engine cut a text into: ids, with the bytes that each stands for. */
export class Cut {
  constructor({ text, ids, offsets, specials = new Map(), ref, ring = null }) {
    Object.assign(this, { text: text instanceof Text ? text : new Text(text), ids, offsets, specials, ref, ring });
    this.count = ids.length;
  }

  span(n) {
    return this.offsets[n];
  }

  token(n) {
    const id = this.ids[n];
    const [start, end] = this.offsets[n];
    const special = this.specials.has(id);
    const name = special && start === end ? this.specials.get(id) : null;
    return { id, pieces: this.text.pieces(start, end), name, special, ring: this.ring?.has(n) ?? false };
  }

  endsLine(n) {
    const end = this.offsets[n][1];
    return end > 0 && this.text.bytes[end - 1] === 10;
  }

  length(from, to) {
    return this.offsets[to - 1][1] - this.offsets[from][0];
  }

  /** Characters that are in several tokens. */
  cutCharacters() {
    const heads = new Set();
    for (const [, end] of this.offsets) {
      if ((this.text.bytes[end] & 0xc0) === 0x80) heads.add(this.text.head(end));
    }
    return heads.size;
  }
}

/** Tokens that were given by id: each has its own bytes, and places in a text only where these are the text. */
export class Given {
  constructor({ ids, bytes, text, specials, ref }) {
    Object.assign(this, { ids, bytes, specials, ref, text: new Text(text) });
    this.count = ids.length;
    let at = 0;
    this.starts = bytes.map((own) => (at += own.length) - own.length);
    const joined = this.text.bytes.length === at;
    this.places = joined && bytes.every((own, n) => own.every((byte, k) => this.text.bytes[this.starts[n] + k] === byte));
  }

  span(n) {
    return this.places ? [this.starts[n], this.starts[n] + this.bytes[n].length] : null;
  }

  token(n) {
    const [id, own] = [this.ids[n], this.bytes[n]];
    const text = asText(own);
    const pieces = this.places ? this.text.pieces(...this.span(n)) : text === null ? [{ part: own, from: 0, to: own.length, of: own.length + 1 }] : [{ text }];
    return { id, pieces, name: own.length === 0 ? (this.specials.get(id) ?? null) : null, special: this.specials.has(id), ring: false };
  }

  endsLine(n) {
    return this.bytes[n].at(-1) === 10;
  }

  length(from, to) {
    return this.starts[to - 1] + this.bytes[to - 1].length - this.starts[from];
  }

  cutCharacters() {
    return this.places ? new Cut({ text: this.text, ids: this.ids, offsets: this.ids.map((_, n) => this.span(n)) }).cutCharacters() : 0;
  }
}
