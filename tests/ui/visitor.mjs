// A page in a browser that notes whatever should not happen on it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export class Visitor {
  static async begin(browser, server, shots, options = {}) {
    const visitor = new Visitor();
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, reducedMotion: "reduce", acceptDownloads: true, ...options });
    Object.assign(visitor, { context, server, shots, wrong: [], expected: [] });
    if (process.env.FROM_DISK) await visitor.fromDisk();
    visitor.page = await context.newPage();
    visitor.watch(visitor.page);
    return visitor;
  }

  /** The page's files as they are in src/http/ui, with the server's own headers: no build between an edit and a look. */
  async fromDisk() {
    const serve = (name) => async (route) => {
      const response = await route.fetch();
      const file = name ?? new URL(route.request().url()).pathname.split("/").at(-1);
      const { "content-encoding": _, "content-length": __, ...headers } = response.headers();
      await route.fulfill({ response, headers, body: readFileSync(new URL(`../../src/http/ui/${file}`, import.meta.url)) });
    };
    await this.context.route(`${this.server.url}ui/*`, serve(null));
    await this.context.route(this.server.url, serve("index.html"));
  }

  watch(page) {
    page.setDefaultTimeout(20000);
    page.on("console", (message) => message.type() === "error" && this.wrong.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => this.wrong.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => {
      this.wrong.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(this.server.url) && !url.startsWith("data:") && !url.startsWith("blob:")) this.wrong.push(`another host: ${url}`);
    });
    page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    });
  }

  /** Errors that a test brings about itself. */
  expect(pattern) {
    this.expected.push(pattern);
  }

  nothingWrong() {
    const wrong = this.wrong.filter((text) => !this.expected.some((pattern) => pattern.test(text)));
    assert.deepEqual(wrong, []);
  }

  async open(hash = "#/playground") {
    // A new document each time: a hash alone would not load one.
    await this.page.goto("about:blank");
    await this.page.goto(this.server.url + hash);
    await this.page.waitForSelector("main .view");
    return this.page;
  }

  async shot(name, fullPage = false) {
    await this.page.screenshot({ path: join(this.shots, `${name}.png`), fullPage });
  }

  /** Serious findings of axe on what is shown; none are allowed. */
  async accessible(where) {
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    assert.deepEqual(serious.map(({ id, nodes }) => `${where}: ${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join(" | ")}`), []);
  }

  async end() {
    await this.context.close();
  }
}
