// The state of a view is in the address, behind the `#`: it can be sent as a link, and no server ever sees it.

/** Texts up to so many characters stand in the address as they are, longer ones compressed. */
const PLAIN = 200;
/** Compressed texts over this many characters are left out: mail programs cut longer addresses. */
const LONGEST = 6000;

/** View and fields of the address. */
export function read() {
  const [name, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: name || "playground", fields: new URLSearchParams(query) };
}

/** What stands behind the address of a view. Empty fields are left out. */
function hashOf(view, fields) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const text = query.toString();
  return `#/${view}${text && `?${text}`}`;
}

/** Puts the fields of a view into the address, without a step in the history. */
export function write(view, fields) {
  const hash = hashOf(view, fields);
  if (location.hash !== hash) history.replaceState(null, "", hash);
}

/** Goes to a view. */
export function go(view, fields = {}) {
  location.hash = hashOf(view, fields);
}

async function through(stream, bytes) {
  const writer = stream.writable.getWriter();
  writer.write(bytes).catch(() => {});
  writer.close().catch(() => {});
  return new Uint8Array(await new Response(stream.readable).arrayBuffer());
}

/** The fields that hold a text: `text`, or `z`, or `long` where it is left out. */
export async function packed(text) {
  if (text.length <= PLAIN) return { text };
  const bytes = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(text));
  if (bytes.length * 4 / 3 > LONGEST) return { long: String(text.length) };
  const chars = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return { z: btoa(chars).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "") };
}

/** The text of the fields; null where there is none. A link that was cut gives null as well. */
export async function unpacked(fields) {
  if (fields.has("text")) return fields.get("text");
  if (!fields.has("z")) return null;
  try {
    const chars = atob(fields.get("z").replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = await through(new DecompressionStream("deflate-raw"), Uint8Array.from(chars, (c) => c.charCodeAt(0)));
    return new TextDecoder().decode(bytes);
  } catch {
    return null;
  }
}
