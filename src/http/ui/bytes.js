// Texts as bytes, characters and UTF-16 units; what of a text a token stands for.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A text with the way from each byte to its character and back. Two numbers a byte. */
export class Text {
  constructor(text) {
    this.text = text.toWellFormed();
    this.bytes = encoder.encode(this.text);
    const length = this.bytes.length;
    /** By byte: UTF-16 index of its character, and number of its character. One more at the end. */
    this.units = new Uint32Array(length + 1);
    this.numbers = new Uint32Array(length + 1);
    let unit = 0, number = 0;
    for (let at = 0; at < length;) {
      const width = widthOf(this.bytes[at]);
      for (let end = at + width; at < end; at += 1) [this.units[at], this.numbers[at]] = [unit, number];
      unit += width === 4 ? 2 : 1;
      number += 1;
    }
    this.units[length] = unit;
    this.numbers[length] = number;
    this.characters = number;
  }

  /** First byte of the character that has the byte `at`. */
  head(at) {
    while (at > 0 && (this.bytes[at] & 0xc0) === 0x80) at -= 1;
    return at;
  }

  /** What stands at the bytes `start..end`: `{text}` of whole characters, `{part, character, from, to, of}` of one that is cut. */
  pieces(start, end) {
    const all = [];
    let at = start, whole = -1;
    const close = (to) => {
      if (whole >= 0) all.push({ text: this.text.slice(this.units[whole], this.units[to]) });
      whole = -1;
    };
    while (at < end) {
      const head = this.head(at);
      const width = widthOf(this.bytes[head]);
      const to = Math.min(end, head + width);
      if (at === head && to === head + width) {
        if (whole < 0) whole = at;
      } else {
        close(at);
        const unit = this.units[head];
        all.push({ part: this.bytes.subarray(at, to), character: this.text.slice(unit, unit + (width === 4 ? 2 : 1)), from: at - head, to: to - head, of: width });
      }
      at = to;
    }
    close(at);
    return all;
  }

  slice(start, end) {
    return this.text.slice(this.units[this.head(start)], this.units[end]);
  }

  /** Start and end in the three units; a character that is cut counts whole in characters and UTF-16. */
  offsets(start, end) {
    const last = end > start ? this.head(end - 1) : end;
    const width = end > start ? widthOf(this.bytes[last]) : 0;
    const beyond = (of) => (end > start ? of[last] + (of === this.units && width === 4 ? 2 : 1) : of[end]);
    const first = this.head(start);
    return {
      byte: [start, end],
      char: [this.numbers[first], beyond(this.numbers)],
      utf16: [this.units[first], beyond(this.units)],
    };
  }
}

/** Bytes of the character that begins with a byte. */
export const widthOf = (byte) => (byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");

export const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** Bytes as text; null where they are none. */
export function asText(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

export const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Signs for white space. */
const SIGNS = new Map([[" ", "·"], ["\t", "→"], ["\n", "⏎"], ["\r", "␍"], ["\u00a0", "⍽"], ["\u3000", "□"]]);
/** What is not seen, or would turn the text around it: control and format characters, separators, unassigned and private ones. */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]|[\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]/u;
const SPECIAL = /[ \t\n\r\u00a0\u3000]|[\p{C}\p{Zl}\p{Zp}]|[\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]/gu;

/** A text in runs: `{text}`, `{space, sign}`, `{hidden}`. A joiner or selector inside an emoji stays where it is. */
export function runs(text) {
  const all = [];
  let done = 0;
  for (const found of text.matchAll(SPECIAL)) {
    const [character] = found;
    const sign = SIGNS.get(character);
    const joins = (character === "\u200d" || /[\ufe00-\ufe0f]/.test(character)) && found.index > 0 && /[\p{Extended_Pictographic}\ufe0f\u{1f3fb}-\u{1f3ff}]/u.test(text.slice(Math.max(0, found.index - 2), found.index));
    if (joins) continue;
    if (found.index > done) all.push({ text: text.slice(done, found.index) });
    all.push(sign ? { space: character, sign } : { hidden: codePoint(character) });
    done = found.index + character.length;
  }
  if (done < text.length) all.push({ text: text.slice(done) });
  return all;
}

export const isHidden = (character) => HIDDEN.test(character);
