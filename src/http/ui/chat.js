// Messages to type, or as JSON where they have more than a role and a content.

import { fill, h, segmented } from "./dom.js";

const ROLES = ["system", "user", "assistant", "tool"];
export const EXAMPLE = [
  { role: "system", content: "You answer briefly." },
  { role: "user", content: "What is a token?" },
];

/** An editor of messages; `onchange(messages)`, or `onchange(null, why)` while the JSON is none. */
export class Messages {
  constructor(messages, onchange) {
    this.messages = messages;
    this.onchange = onchange;
    this.body = h("div", { class: "messages" });
    this.element = h("div", {}, segmented("Form of the messages", [["form", "Form"], ["json", "JSON"]], "form", (form) => this.draw(form)), this.body);
    this.draw("form");
  }

  draw(form) {
    if (form === "json") return this.drawJson();
    if (this.messages.some((message) => typeof message.content !== "string")) return this.drawJson("These messages have contents that are no plain text: they are edited as JSON.");
    const rows = this.messages.map((message, at) => {
      const role = h("select", { "aria-label": `Role of message ${at + 1}`, onchange: () => this.set(at, { ...message, role: role.value }) },
        [...new Set([...ROLES, message.role])].map((name) => h("option", {}, name)));
      role.value = message.role;
      const content = h("textarea", { "aria-label": `Content of message ${at + 1}`, rows: "2", dir: "auto", spellcheck: "false", oninput: () => {
        this.messages[at].content = content.value;
        this.onchange(this.messages);
      } });
      content.value = message.content;
      const remove = h("button", { type: "button", class: "quiet", "aria-label": `Remove message ${at + 1}`, onclick: () => this.remove(at) }, "×");
      return h("div", { class: "message" }, role, content, this.messages.length > 1 && remove);
    });
    const more = h("button", { type: "button", class: "quiet", onclick: () => this.add() }, "+ message");
    fill(this.body, rows, more);
  }

  drawJson(note = "Every key of a message is given to the template: `tool_calls`, `name` and so on.") {
    const area = h("textarea", { "aria-label": "Messages as JSON", rows: "10", class: "code", spellcheck: "false", oninput: () => {
      try {
        const messages = JSON.parse(area.value);
        const are = Array.isArray(messages) && messages.length > 0 && messages.every((message) => message !== null && typeof message === "object" && typeof message.role === "string");
        if (!are) return this.onchange(null, "The messages must be a list of objects, each with a role.");
        this.messages = messages;
        return this.onchange(messages);
      } catch (error) {
        return this.onchange(null, `The messages are no JSON: ${error.message}`);
      }
    } });
    area.value = JSON.stringify(this.messages, null, 2);
    fill(this.body, area, h("p", { class: "help" }, note));
  }

  set(at, message) {
    this.messages[at] = message;
    this.onchange(this.messages);
  }

  add() {
    const last = this.messages.at(-1)?.role;
    this.messages.push({ role: last === "user" ? "assistant" : "user", content: "" });
    this.draw("form");
    this.onchange(this.messages);
  }

  remove(at) {
    this.messages.splice(at, 1);
    this.draw("form");
    this.onchange(this.messages);
  }
}
