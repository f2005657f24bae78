// Calls of this server. A key that it asks for is kept in memory, in this file, and nowhere else.

let key = null;
let askForKey = null;
let asking = null;

/** Who shows the dialog: called with why, answers a key, or null where the user gives none. */
export function onKeyWanted(dialog) {
  askForKey = dialog;
}

export const forgetKey = () => { key = null; };
export const hasKey = () => key !== null;

/** What a server or a network says no with. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
    this.code = problem.code || "";
    this.pointer = problem.pointer || "";
    this.problem = problem;
  }
}

const UNREACHABLE = { code: "unreachable", detail: "The server does not answer. Is it running?" };
const headers = (more = {}) => (key === null ? more : { ...more, authorization: `Bearer ${key}` });
const place = (path) => new URL(path, document.baseURI.split("#")[0]).href;

/** A path of refs and names, each of them escaped. */
export const path = (...parts) => parts.map((part) => encodeURIComponent(part).replaceAll("%40", "@")).join("/");

async function refusal(response) {
  const text = await response.text();
  try {
    return new Refused(response.status, JSON.parse(text));
  } catch {
    return new Refused(response.status, {});
  }
}

async function newKey(why) {
  asking ??= askForKey(why).finally(() => { asking = null; });
  const given = await asking;
  if (given !== null) key = given;
  return given !== null;
}

/** How often a busy server is asked, and for how many seconds it is left alone, at most. */
const MOST_TRIES = 4;
const LONGEST_PAUSE = 3;
const busy = ({ status, headers: told }) => (status === 503 || status === 429) && told.has("retry-after");

const pause = (seconds, signal) => new Promise((over, stopped) => {
  const timer = setTimeout(over, seconds * 1000);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    stopped(new DOMException("stopped", "AbortError"));
  });
});

/** A request; sends it again to a server that is busy, and with a key to one that wants one. */
async function send(method, where, { body, more = {}, signal } = {}) {
  let tries = 0;
  for (;;) {
    const used = key;
    let response;
    try {
      response = await fetch(place(where), { method, body, headers: headers(more), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, UNREACHABLE);
    }
    if (response.ok) return response;
    const refused = await refusal(response);
    if (busy(response) && (tries += 1) < MOST_TRIES) {
      await pause(Math.min(LONGEST_PAUSE, Number(response.headers.get("retry-after"))), signal);
      continue;
    }
    if (refused.status !== 401) throw refused;
    // Another request may have got one meanwhile.
    if (used === key && !(await newKey(used === null ? "" : refused.message))) throw refused;
  }
}

export const get = async (where, signal) => (await send("GET", where, { signal })).json();
export const post = (where, body, signal) => withJson("POST", where, body, { signal });
export const withJson = async (method, where, body, { signal, more = {} } = {}) => {
  const options = { body: JSON.stringify(body), more: { ...more, "content-type": "application/json" }, signal };
  return (await send(method, where, options)).json();
};
export const getBlob = async (where, signal) => (await send("GET", where, { signal })).blob();
export const remove = (where) => send("DELETE", where);

/** Sends a file to /uploads/ID and tells how far it is. */
export function upload(id, file, onprogress, signal) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", place(path("uploads", id)));
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onprogress(event.loaded, event.total));
    request.addEventListener("load", async () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* no JSON: the status says it */ }
      if (request.status < 300) return done(answer);
      const refused = new Refused(request.status, answer);
      if (request.status !== 401 || !(await newKey(""))) return failed(refused);
      upload(id, file, onprogress, signal).then(done, failed);
    });
    request.addEventListener("error", () => failed(new Refused(0, UNREACHABLE)));
    request.addEventListener("abort", () => failed(new DOMException("stopped", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** Server-sent events until the stream ends: `onevent(name, data)`. By fetch, as an EventSource sends no key. */
export async function events(where, onevent, signal) {
  const response = await send("GET", where, { signal, more: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const whole = rest.split("\n\n");
      rest = whole.pop();
      for (const event of whole) {
        const field = (name) => event.split("\n").filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim()).join("\n");
        if (field("data")) onevent(field("event"), JSON.parse(field("data")));
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, UNREACHABLE);
  }
}

/** A message for what went wrong; null for what was given up on purpose. */
export function told(error) {
  if (error.name === "AbortError") return null;
  if (error instanceof Refused) {
    const where = error.pointer ? ` (${error.pointer})` : "";
    const status = error.status ? ` [${error.status}]` : "";
    return `${sentence(error.message)}${where}${status}`;
  }
  console.error(error);
  return `The page failed: ${error.message}`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
