// Tokens of a text as coloured stretches. Of a long text only what is near the window is in the page: tokens are put into
// blocks, which are filled when they come near and emptied when they are gone.

import { fill, freshId, h, number } from "./dom.js";
import { hex, runs } from "./bytes.js";

/** Tokens of a block: at least so many, then up to the next line's end, and never more than `MOST`. */
const USUAL = 300;
const MOST = 600;
/** How far from the window blocks are filled. */
const NEAR = "800px";
export const COLOURS = 12;

/** The colour of an id, always the same. */
export const colourOf = (id) => (Math.imul(id, 2654435761) >>> 8) % COLOURS;

/** The content of a token for the page. `shown` is text as it is cut; `name` what stands where there is no text. */
export function content(pieces, { spaces = true, name = null } = {}) {
  if (name !== null) return [name];
  return pieces.flatMap((piece) => {
    if (piece.part) {
      const ends = `${piece.from === 0 ? "first" : piece.to === piece.of ? "last" : "middle"}`;
      const title = piece.character && `bytes ${piece.from + 1} to ${piece.to} of the ${piece.of} of one character`;
      return [h("span", { class: `part ${ends}`, title }, hex(piece.part))];
    }
    return runs(piece.text).flatMap((run) => {
      if (run.text !== undefined) return [run.text];
      if (run.hidden !== undefined) return [h("span", { class: "hidden-char" }, run.hidden)];
      if (!spaces) return [run.space];
      const sign = h("span", { class: "space" }, run.sign);
      return run.space === "\n" ? [sign, "\n"] : [sign];
    });
  });
}

/** A list of tokens. `source` tells of token `n`: `{id, pieces, name, special, ring}`; `count` is how many there are. */
export class TokenList {
  constructor({ label, onpick, onhover = () => {} }) {
    this.element = h("div", { class: "tokens", id: freshId("tokens"), role: "listbox", tabindex: "0", "aria-label": label });
    this.onpick = onpick;
    this.onhover = onhover;
    this.current = -1;
    this.watcher = new IntersectionObserver((seen) => seen.forEach((block) => this.near(block)), { rootMargin: NEAR });
    this.element.addEventListener("pointerover", (event) => this.at(event, this.onhover));
    this.element.addEventListener("pointerleave", () => this.onhover(this.current));
    this.element.addEventListener("click", (event) => this.at(event, (n) => this.pick(n)));
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  at(event, act) {
    const token = event.target.closest?.("[data-n]");
    if (token) act(Number(token.dataset.n));
  }

  /** Shows other tokens. */
  show(source, { spaces = true, asIds = false } = {}) {
    this.watcher.disconnect();
    Object.assign(this, { source, spaces, asIds });
    this.current = Math.min(this.current, source.count - 1);
    this.element.removeAttribute("aria-activedescendant");
    this.blocks = parted(source);
    this.elements = this.blocks.map(([from, to], at) => {
      const block = h("div", { class: "block", role: "group", "aria-label": `tokens ${number(from + 1)} to ${number(to)}` });
      block.dataset.block = String(at);
      block.style.minHeight = `${estimate(source, from, to, asIds)}px`;
      return block;
    });
    fill(this.element, this.elements);
    this.element.classList.toggle("as-ids", asIds);
    // What is seen at once is there at once; the rest comes when it is near.
    if (this.elements.length > 0) this.fillBlock(0);
    this.elements.forEach((block) => this.watcher.observe(block));
  }

  near({ target, isIntersecting }) {
    const at = Number(target.dataset.block);
    if (isIntersecting) {
      if (!target.firstChild) this.fillBlock(at);
    } else if (target.firstChild && !(this.blockOf(this.current) === at)) {
      target.style.minHeight = `${target.offsetHeight}px`;
      target.replaceChildren();
    }
  }

  fillBlock(at) {
    const [from, to] = this.blocks[at];
    const all = document.createDocumentFragment();
    for (let n = from; n < to; n += 1) {
      const token = this.token(n);
      all.append(token);
      // A line's end would carry the token's colour into the next line; and lines may break between any two tokens.
      if (token.lastChild.nodeType === Node.TEXT_NODE && token.lastChild.data === "\n") all.append(token.lastChild);
      else all.append(h("wbr"));
    }
    this.elements[at].style.minHeight = "";
    this.elements[at].replaceChildren(all);
  }

  token(n) {
    const { id, pieces, name, special, ring } = this.source.token(n);
    const cut = pieces.some((piece) => piece.part);
    const kinds = [`c${colourOf(id)}`, special && "special", cut && "cut", ring && "ring", n === this.current && "current"];
    const element = h("span", { class: `token ${kinds.filter(Boolean).join(" ")}`, role: "option", id: `${this.element.id}-${n}`, "aria-selected": String(n === this.current) },
      this.asIds ? String(id) : content(pieces, { spaces: this.spaces, name }));
    element.dataset.n = String(n);
    if (!element.firstChild) element.append("∅");
    return element;
  }

  blockOf(n) {
    return this.blocks?.findIndex(([from, to]) => from <= n && n < to) ?? -1;
  }

  /** Makes a token the current one. */
  pick(n, scroll = false) {
    if (!this.source || n < 0 || n >= this.source.count) return;
    this.marked(this.current, false);
    this.current = n;
    const at = this.blockOf(n);
    if (!this.elements[at].firstChild) this.fillBlock(at);
    const element = this.marked(n, true);
    this.element.setAttribute("aria-activedescendant", element.id);
    if (scroll) element.scrollIntoView({ block: "nearest" });
    this.onpick(n);
  }

  marked(n, on) {
    const element = this.element.querySelector(`[data-n="${n}"]`);
    element?.classList.toggle("current", on);
    element?.setAttribute("aria-selected", String(on));
    return element;
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, PageDown: 100, PageUp: -100 };
    const count = this.source?.count ?? 0;
    let to = null;
    if (event.key in steps) to = Math.max(0, Math.min(count - 1, this.current + steps[event.key]));
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = count - 1;
    if (to === null || count === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.pick(to, true);
  }
}

/** Blocks as pairs of token numbers. They end behind a line's end where one is near. */
function parted(source) {
  const blocks = [];
  let from = 0;
  while (from < source.count) {
    let to = Math.min(source.count, from + USUAL);
    const most = Math.min(source.count, from + MOST);
    while (to < most && !source.endsLine(to - 1)) to += 1;
    blocks.push([from, to]);
    from = to;
  }
  return blocks;
}

/** About how high a block will be, so that the bar for scrolling is right before it was filled. */
function estimate(source, from, to, asIds) {
  const characters = asIds ? (to - from) * 7 : source.length(from, to);
  return Math.max(1, Math.ceil(characters / 90)) * 30;
}
