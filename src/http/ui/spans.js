// One text as several vocabularies cut it. A token is ringed where no other vocabulary cuts that stretch so.

import { h, number } from "./dom.js";
import { Text } from "./bytes.js";
import { Cut } from "./source.js";
import { TokenList } from "./tokens.js";
import { named } from "./charts.js";

/** By vocabulary the numbers of the tokens whose stretch no other one has. */
export function lonely(results) {
  const seen = new Map();
  for (const { spans } of results) {
    for (const key of new Set(spans.map(([start, end]) => `${start} ${end}`))) seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  return results.map(({ spans }) => new Set(spans.flatMap(([start, end], n) => (seen.get(`${start} ${end}`) === 1 ? [n] : []))));
}

export function cuts(text, results) {
  const shared = new Text(text);
  const rings = lonely(results);
  const rows = results.map(({ vocab, ids, spans, count }, at) => {
    const ref = `${vocab.name}@${vocab.version}`;
    const note = h("span", { class: "note" }, `  ${number(count)} tokens, ${number(rings[at].size)} that no other one has`);
    const list = new TokenList({ label: `Tokens of ${ref}`, onpick: (n) => { picked.textContent = `${ref}: token ${number(n + 1)}, id ${ids[n]}, bytes ${spans[n][0]} to ${spans[n][1]}`; } });
    const picked = h("p", { class: "help", "aria-live": "polite" });
    list.show(new Cut({ text: shared, ids, offsets: spans, ref, ring: rings[at] }));
    return h("div", {}, h("h3", {}, named(at, ref), note), list.element, picked);
  });
  return h("section", { class: "panel", "aria-label": "Where they differ" }, h("h2", {}, "Where they differ"),
    h("p", { class: "help" }, "Ringed: stretches that no other of these vocabularies cuts so."), h("div", { class: "cuts" }, rows));
}
