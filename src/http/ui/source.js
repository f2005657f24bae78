// Tokens of a text as a list of them wants to be told.

import { asText, Text } from "./bytes.js";

/** How many tokens of one stretch are looked at. */
const MOST_IN_GROUP = 64;

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
    const [first, count, stop] = this.group(n);
    const isByte = count > 1 && count === stop - start && this.text.pieces(start, stop).every((piece) => piece.text !== undefined && this.text.head(stop - 1) === start);
    // Of several tokens for one stretch only the first shows it: the normalizer made more of it than it was.
    const again = !isByte && count > 1 && start < end && n > first;
    const name = special && start === end ? this.specials.get(id) : again ? "…" : null;
    const pieces = isByte ? [{ part: this.text.bytes.subarray(start + n - first, start + n - first + 1), character: this.text.slice(start, stop), from: n - first, to: n - first + 1, of: count }] : this.text.pieces(start, end);
    return { id, pieces, name, special, ring: this.ring?.has(n) ?? false };
  }

  /**
   * The tokens around `n` that stand for one stretch of text together: first, count, and where the stretch ends. The bytes of a
   * character that a vocabulary has no token for are such tokens: with Hugging Face's rules all of them have the whole character
   * as their place, with SentencePiece's all but the last have none.
   */
  group(n) {
    const [start] = this.offsets[n];
    const same = (at) => at >= 0 && at < this.count && Math.abs(at - n) < MOST_IN_GROUP && this.offsets[at][0] === start && !this.specials.has(this.ids[at]);
    if (!same(n)) return [n, 1, this.offsets[n][1]];
    let [first, beyond] = [n, n + 1];
    while (same(first - 1)) first -= 1;
    while (same(beyond)) beyond += 1;
    return [first, beyond - first, this.offsets[beyond - 1][1]];
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
    this.offsets.forEach(([start, end], n) => {
      if ((this.text.bytes[end] & 0xc0) === 0x80) heads.add(this.text.head(end));
      else if (this.offsets[n + 1]?.[0] === start && this.token(n).pieces[0]?.part) heads.add(start);
    });
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
