// The same request for a terminal or a program, and the ids.

import { h, say } from "./dom.js";

const base = () => new URL(".", document.baseURI.split("#")[0]).href.replace(/\/$/, "");

/** A word for a POSIX shell, whatever is in it. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export const curl = (route, body, keyed) =>
  `curl -s ${quoted(`${base()}/${route}`)} ${keyed ? '-H "Authorization: Bearer $KEY" ' : ""}-d ${quoted(JSON.stringify(body))}`;

/** A JSON value as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${literal(key)}: ${literal(item)}`).join(", ")}}`;
  return JSON.stringify(value);
}

export const python = (route, body, keyed) => [
  "import json, os, urllib.request",
  "",
  `body = ${literal(body)}`,
  `headers = {"Content-Type": "application/json"${keyed ? ', "Authorization": "Bearer " + os.environ["KEY"]' : ""}}`,
  `request = urllib.request.Request(${literal(`${base()}/${route}`)}, json.dumps(body).encode(), headers)`,
  "print(json.load(urllib.request.urlopen(request)))",
].join("\n");

/** Puts a text on the clipboard; the old way where a page that is not served over TLS may not. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** A button that copies what `make` gives when it is pressed. */
export function copyButton(label, make) {
  const button = h("button", { type: "button", class: "quiet", onclick: async () => {
    await copy(make());
    button.textContent = "Copied";
    say(`${label}: copied`);
    setTimeout(() => { button.textContent = label; }, 1200);
  } }, label);
  return button;
}
