// The page: which view is open, the theme, the key.

import { fill, h, notice } from "./dom.js";
import { forgetKey, hasKey, onKeyWanted, told } from "./api.js";
import { read } from "./state.js";

const VIEWS = {
  playground: ["Playground", () => import("./playground.js")],
  compare: ["Compare", () => import("./compare.js")],
  train: ["Train", () => import("./train.js")],
  models: ["Models", () => import("./models.js")],
};

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let shown = null;
let turn = 0;

async function show() {
  const { view, fields } = read();
  const name = view in VIEWS ? view : "playground";
  const mine = (turn += 1);
  shown?.close?.();
  shown = null;
  [...nav.children].forEach((link) => (link.dataset.view === name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current")));
  document.title = `${VIEWS[name][0]} · vocabd`;
  try {
    const module = await VIEWS[name][1]();
    const opened = await module.open(fields);
    if (mine !== turn) return opened.close?.();
    shown = opened;
    fill(main, opened.element);
  } catch (error) {
    if (mine !== turn) return undefined;
    fill(main, notice(told(error) ?? "Stopped.", "bad"), h("button", { type: "button", onclick: show }, "Try again"));
  }
  return undefined;
}

fill(nav, Object.entries(VIEWS).map(([name, [title]]) => {
  const link = h("a", { href: `#/${name}` }, title);
  link.dataset.view = name;
  return link;
}));
addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
});

// The theme: the system's, or the one that was chosen. It is the only thing that is kept.

const THEMES = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");

function theme(name) {
  document.documentElement.dataset.theme = name;
  themeButton.textContent = `Theme: ${name}`;
  try { localStorage.setItem("theme", name); } catch { /* a browser that keeps nothing */ }
}

function keptTheme() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}

theme(THEMES.includes(keptTheme()) ? keptTheme() : "system");
themeButton.addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));

// The key: asked for when the server wants one, and kept in memory until the page is closed or it is forgotten.

const keyButton = document.getElementById("key");

function keyDialog(why) {
  return new Promise((given) => {
    const input = h("input", { type: "password", id: "key-input", autocomplete: "off", required: true, spellcheck: "false" });
    const dialog = h("dialog", { class: "key-dialog", "aria-labelledby": "key-title", onclose: () => {
      const key = dialog.returnValue === "use" && input.value.trim() ? input.value.trim() : null;
      dialog.remove();
      keyButton.hidden = key === null && !hasKey();
      given(key);
    } });
    const use = (event) => {
      event.preventDefault();
      if (input.value.trim()) dialog.close("use");
    };
    dialog.append(h("form", { onsubmit: use },
      h("h2", { id: "key-title" }, "This server asks for a key"),
      why && notice(why, "bad"),
      h("p", {}, "The page keeps it in memory only: closing or reloading the page forgets it."),
      h("label", { for: "key-input" }, "API key"), input,
      h("div", { class: "bar" }, h("button", { type: "submit", class: "main" }, "Use it"), h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

onKeyWanted(keyDialog);
keyButton.textContent = "Forget the key";
keyButton.addEventListener("click", () => {
  forgetKey();
  keyButton.hidden = true;
  location.reload();
});

show();
