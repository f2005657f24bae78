// Drawings in SVG: bars of shares, points of a plane, a line that grows.

import { decimal, h, number, s } from "./dom.js";

/** A bar of shares of a whole: `[[class, share], …]`. */
export function bar(parts, label) {
  let at = 0;
  const rects = parts.map(([kind, share]) => {
    const rect = s("rect", { x: `${at * 100}%`, y: "0", width: `${share * 100}%`, height: "100%", class: kind });
    at += share;
    return rect;
  });
  return s("svg", { role: "img", "aria-label": label, preserveAspectRatio: "none" }, rects);
}

/** Round numbers for an axis from `from` to `to`: about `wanted` of them. */
export function ticks(from, to, wanted = 5) {
  const span = to - from || Math.abs(to) || 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  const all = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step / 1e6; at += step) all.push(Number(at.toPrecision(12)));
  return all;
}

const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e9) return `${decimal(value / 1e9, 1)}G`;
  if (size >= 1e6) return `${decimal(value / 1e6, value % 1e6 === 0 ? 0 : 1)}M`;
  if (size >= 1e3) return `${decimal(value / 1e3, value % 1e3 === 0 ? 0 : 1)}k`;
  return Number.isInteger(value) ? String(value) : decimal(value, 2);
};

const WIDTH = 640, HEIGHT = 320, LEFT = 62, RIGHT = 24, TOP = 34, BOTTOM = 46;

/** Axes, and where values are on them. */
function frame(xs, ys, xLabel, yLabel) {
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (value) => LEFT + ((value - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - y0) / (y1 - y0 || 1)) * (HEIGHT - TOP - BOTTOM);
  const lines = [
    ...ticks(y0, y1).flatMap((value) => [s("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }), s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, short(value))]),
    ...ticks(x0, x1).map((value) => s("text", { x: x(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, short(value))),
    s("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    s("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel),
    s("text", { x: LEFT - 54, y: TOP - 20 }, yLabel),
  ];
  return { x, y, lines, floor: HEIGHT - BOTTOM };
}

const drawing = (label, ...children) => s("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, s("title", {}, label), children);

/** A box around a point, and whether two of them overlap: left, right, top, bottom. */
const around = (x, y, across, down) => [x - across, x + across, y - down, y + down];
const overlap = (a, b) => a[0] < b[1] && b[0] < a[1] && a[2] < b[3] && b[2] < a[3];

/** Points with names: `[{name, x, y, series}]`. */
export function points(all, xLabel, yLabel, label) {
  const least = 0;
  const most = Math.max(1, ...all.map((point) => point.y)) * 1.08;
  const { x, y, lines } = frame([least, Math.max(1, ...all.map((point) => point.x)) * 1.08], [least, most], xLabel, yLabel);
  const taken = all.map((point) => around(x(point.x), y(point.y), 8, 8));
  const marks = all.map((point) => {
    const [cx, cy, width] = [x(point.x), y(point.y), point.name.length * 7.2];
    const places = [[cx + 11, cy + 4, "start"], [cx - 11, cy + 4, "end"], [cx, cy - 12, "middle"], [cx, cy + 21, "middle"], [cx, cy - 27, "middle"], [cx, cy + 36, "middle"]];
    const box = ([at, line, anchor]) => around(anchor === "start" ? at + width / 2 : anchor === "end" ? at - width / 2 : at, line - 4, width / 2, 8);
    const inside = ([left, right]) => left > 0 && right < WIDTH;
    const place = places.find((each) => inside(box(each)) && !taken.some((other) => overlap(other, box(each)))) ?? places[0];
    taken.push(box(place));
    return [s("circle", { cx, cy, r: 6, class: `fill-${point.series}` }), s("text", { class: "name", x: place[0], y: place[1], "text-anchor": place[2] }, point.name)];
  });
  return drawing(label, lines, marks);
}

/** A line through `[[x, y], …]`. */
export function curve(all, xLabel, yLabel, label, xMost = 0) {
  if (all.length < 2) return h("p", { class: "help" }, "The curve begins with the merges.");
  const xs = [0, xMost, ...all.map(([x]) => x)];
  const ys = all.map(([, y]) => y);
  const { x, y, lines, floor } = frame(xs, [0, Math.max(...ys) * 1.05], xLabel, yLabel);
  const path = all.map(([a, b], n) => `${n === 0 ? "M" : "L"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
  const [lastX, lastY] = all.at(-1);
  const right = x(lastX) > WIDTH * 0.75;
  return drawing(`${label}: ${decimal(lastY)} at ${number(lastX)}`, lines,
    s("path", { class: "area", d: `${path}L${x(lastX).toFixed(1)},${floor}L${x(all[0][0]).toFixed(1)},${floor}Z` }),
    s("path", { class: "line", d: path }),
    s("circle", { cx: x(lastX), cy: y(lastY), r: 4.5, class: "fill-0" }),
    s("text", { class: "name", x: x(lastX) + (right ? -8 : 8), y: y(lastY) - 9, "text-anchor": right ? "end" : "start" }, decimal(lastY)));
}

/** The key of a series: its colour and its name. */
export const named = (series, ...name) => h("span", { class: `named series-${series}` }, h("span", { class: "key", "aria-hidden": "true" }), h("bdi", {}, name));
