// Elements, numbers and short messages. Whatever is shown goes through `textContent`: no text becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes (`on…` are listeners, `class`, booleans), then children: elements, strings, lists, null. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) element.value = value;
    else if (name === "checked") element.checked = true;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...shown(children));
  return element;
}

const shown = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** Puts children in the place of what is there. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
  return element;
}

/** Somebody's text inside ours: its direction stays its own. */
export const own = (text, attributes = {}) => h("bdi", attributes, text);

let names = 0;
/** An id for a label that points at a field. */
export const freshId = (stem) => `${stem}-${(names += 1)}`;

/** A labelled field; `help` explains it. */
export function field(label, input, help = null) {
  const id = input.id || freshId("field");
  input.id = id;
  const helpId = help && `${id}-help`;
  if (helpId) input.setAttribute("aria-describedby", helpId);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, help && h("p", { class: "help", id: helpId }, help));
}

/** A tick box with its label. */
export function tick(label, checked, onchange, help = null) {
  const input = h("input", { type: "checkbox", checked, onchange: () => onchange(input.checked) });
  return h("label", { class: "tick", title: help }, input, h("span", {}, label));
}

/** A choice of a few, as buttons of which one is pressed. */
export function segmented(label, options, value, onchange) {
  const buttons = options.map(([name, text]) =>
    h("button", { type: "button", "aria-pressed": String(name === value), onclick: () => choose(name) }, text));
  function choose(name) {
    options.forEach(([other], at) => buttons[at].setAttribute("aria-pressed", String(other === name)));
    onchange(name);
  }
  return h("div", { class: "segmented", role: "group", "aria-label": label }, buttons);
}

export function select(options, value, onchange) {
  const list = h("select", { onchange: () => onchange(list.value) }, options.map(([name, text]) => h("option", { value: name }, text)));
  list.value = value;
  return list;
}

export const number = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: 0 });
export const decimal = (value, digits = 2) => value === null || value === undefined || Number.isNaN(value) ? "–"
  : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const percent = (share, digits = 1) => share === null || Number.isNaN(share) ? "–" : `${decimal(share * 100, digits)} %`;

/** Bytes with a unit of 1024. */
export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (bytes >= 1024 && at + 1 < units.length) [bytes, at] = [bytes / 1024, at + 1];
  return at === 0 ? `${bytes} ${bytes === 1 ? "byte" : units[0]}` : `${decimal(bytes, bytes < 10 ? 1 : 0)} ${units[at]}`;
}

/** Seconds for people. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${decimal(seconds / 3600, 1)} h`;
}

/** A figure with its name. */
export const figure = (name, value, note = null) => h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value), note && h("dd", { class: "note" }, note));
export const figures = (...all) => h("dl", { class: "figures" }, all);

/** A message in the page; bad ones are said at once. */
export const notice = (text, kind = "info", ...more) =>
  h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, h("p", {}, text), more);

/** Says something to who cannot see the page. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

/** Calls `work` once nothing was asked for `wait` milliseconds. */
export function debounced(work, wait) {
  let timer = 0;
  return (...all) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...all), typeof wait === "function" ? wait() : wait);
  };
}

/** A table: heads, rows of cells. */
export function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => (at === 0 ? h("th", { scope: "row" }, cell) : h("td", {}, cell))))))));
}
