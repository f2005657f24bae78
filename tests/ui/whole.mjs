// What all views share: keys, themes, accessibility, narrow screens.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { Server } from "./server.mjs";
import { Visitor } from "./visitor.mjs";

const VIEWS = {
  playground: "#/playground?text=" + encodeURIComponent("The café’s naïve tokenizer cut 自然语言处理 and 😀🎉 into pieces: 3.14159 <|end|>\n\tmore — Привет, 안녕하세요, مرحبا!\n") + "&vocab=default",
  compare: "#/compare?vocabs=default,own@prod,zh&text=" + encodeURIComponent("Tokenizers cut words into pieces. 自然语言处理让机器理解人类的语言。 def f(x): return x"),
  train: "#/train",
  models: "#/models?beside=qwen2.5-7b,deepseek-v3&rank=context:1,cost:2,licence:1,tokenizer:2",
};

async function ready(page, name) {
  if (name === "playground") {
    await page.waitForSelector(".tokens .token");
    await page.locator(".tokens .token").nth(9).click();
    await page.waitForFunction(() => document.querySelector(".facts")?.textContent.includes("kind"));
    await page.getByRole("button", { name: "Explain merge by merge" }).click();
    await page.waitForSelector(".pretoken");
    await page.evaluate(() => scrollTo(0, 0));
  }
  if (name === "compare") await page.waitForSelector(".plot");
  if (name === "models") await page.waitForSelector(".side-by-side table");
  if (name === "models") await page.waitForSelector(".model .score");
  if (name === "train") await page.waitForSelector("section[aria-label=Jobs] table");
}

async function keyed(browser, program, shots, fact) {
  const own = new Server(program);
  const file = join(own.data, "keys.toml");
  const key = execFileSync(program, ["key", "page", "--scopes", "encode,train", "--file", file], { encoding: "utf8" }).trim().split(/\s+/).find((word) => word.length > 30);
  own.settings.VOCABD_KEYS_FILE = file;
  let visitor = null;
  try {
    own.keyed = { authorization: `Bearer ${key}` };
    await own.start();
    visitor = await Visitor.begin(browser, own, shots);
    await fact(visitor, key);
    visitor.nothingWrong();
  } finally {
    await visitor?.end();
    await own.end();
  }
}

const facts = {
  async "whole: with keys on the page asks for one and keeps it in memory only"(unused, { browser, program }) {
    await keyed(browser, program, unused.shots, async (visitor, key) => {
      const { page } = visitor;
      visitor.expect(/401|403/);
      await page.goto(visitor.server.url);
      await page.waitForSelector("dialog[open]");
      await visitor.accessible("the dialog");
      await page.getByLabel("API key").fill("wrong");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelectorAll("dialog[open] .notice.bad").length === 1);
      await page.getByLabel("API key").fill(key);
      await page.keyboard.press("Enter");
      await page.waitForSelector(".tokens .token");
      const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
      assert.ok(!kept.includes(key), kept);
      // Events and uploads carry it too; what the key may not do is said.
      await page.click("nav a[data-view=train]");
      await page.getByLabel("Name", { exact: true }).fill("keyed");
      await page.setInputFiles("form input[type=file]", { name: "c.txt", mimeType: "text/plain", buffer: Buffer.from("abc abc abd ".repeat(200)) });
      await page.waitForFunction(() => document.querySelector("form").textContent.includes("is there:"));
      await page.getByLabel("Tokens in all").fill("260");
      await page.getByRole("button", { name: "Start training" }).click();
      await page.waitForSelector("section[aria-label=Promote]");
      await page.getByRole("button", { name: "Move the alias" }).click();
      await page.waitForFunction(() => document.querySelector("section[aria-label=Promote] .notice.bad")?.textContent.includes("publish"));
      await page.reload();
      await page.waitForSelector("dialog[open]");
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.waitForSelector(".notice.bad");
    });
  },

  async "whole: the theme follows the system or the button"(visitor) {
    const page = await visitor.open();
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const [light, button] = [await ground(), page.locator("#theme")];
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await ground();
    assert.notEqual(light, dark);
    await button.click();
    assert.equal(await ground(), light);
    await page.reload();
    await page.waitForSelector("main .view");
    assert.equal(await ground(), light);
    await button.click();
    assert.equal(await ground(), dark);
  },

  async "whole: the policy stops what would be foreign or inline"(visitor) {
    const page = await visitor.open();
    visitor.expect(/policy|Content Security Policy|Content-Security-Policy|Trusted|violates/i);
    const ran = await page.evaluate(async () => {
      const script = document.createElement("script");
      try { script.textContent = "globalThis.inline = 1"; document.body.append(script); } catch { /* refused at once */ }
      try { document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='globalThis.inline = 2'>"); } catch { /* refused at once */ }
      const elsewhere = await fetch("http://localhost:9/").then(() => true, () => false);
      return [globalThis.inline, elsewhere];
    });
    assert.deepEqual(ran, [undefined, false]);
    assert.ok(visitor.wrong.length >= 3, visitor.wrong.join(" | "));
    visitor.wrong = visitor.wrong.filter((text) => !text.startsWith("another host: http://localhost:9/"));
  },
};

for (const colorScheme of ["light", "dark"]) {
  for (const [name, hash] of Object.entries(VIEWS)) {
    facts[`whole: ${name} is accessible, ${colorScheme}`] = async (visitor) => {
      await visitor.page.emulateMedia({ colorScheme });
      const page = await visitor.open(hash);
      await ready(page, name);
      await visitor.accessible(`${name}, ${colorScheme}`);
      await visitor.shot(`${name}-${colorScheme}`, true);
      if (colorScheme === "dark") return;
      await page.setViewportSize({ width: 400, height: 850 });
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(beyond <= 0, `${beyond} pixels are beyond a narrow screen`);
      await visitor.accessible(`${name}, narrow`);
      await visitor.shot(`${name}-narrow`, true);
    };
  }
}

export default facts;
