// The view Playground.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

const text = (page, selector) => page.locator(selector).first().textContent();
const figure = (page, name) => page.locator(".figure", { has: page.locator(`dt:text-is("${name}")`) }).locator("dd").first().textContent();
const counted = (page, count) => page.waitForFunction((wanted) => [...document.querySelectorAll(".figure")].some((f) => f.firstChild.textContent === "tokens" && f.children[1].textContent === wanted), count);
const link = (fields) => `#/playground?${new URLSearchParams(fields)}`;

export default {
  async "playground: a text is cut, counted and shown"(visitor, { server }) {
    const page = await visitor.open(link({ text: "Hello, 世界! 😀", vocab: "default" }));
    const reply = await server.call("POST", "encode", { text: "Hello, 世界! 😀" });
    await counted(page, String(reply.count));
    assert.equal(await figure(page, "bytes"), "19");
    assert.equal(await figure(page, "characters"), "12");
    assert.equal(await figure(page, "bytes per token"), (19 / reply.count).toFixed(2));
    assert.equal(await page.locator(".tokens .token").count(), reply.count);
    // The face is in two tokens: each shows its bytes, and neither the whole character.
    assert.equal(await figure(page, "characters cut"), "1");
    assert.deepEqual(await page.locator(".tokens .part").allTextContents(), ["F0 9F 98", "80"]);
    assert.ok(!(await text(page, ".tokens")).includes("😀"));
    await page.fill("textarea", "Hello,\tworld \n");
    await page.waitForFunction(() => document.querySelector(".tokens").textContent.includes("→"));
    const signs = await page.locator(".tokens .space").allTextContents();
    assert.deepEqual(signs, ["→", "·", "⏎"]);
    await page.getByLabel("show ids").check();
    const ids = (await server.call("POST", "encode", { text: "Hello,\tworld \n" })).ids;
    assert.deepEqual(await page.locator(".tokens .token").allTextContents(), ids.map(String));
  },

  async "playground: a token tells its id, bytes, rank and offsets in three units"(visitor, { server }) {
    const page = await visitor.open(link({ text: "a😀世界 tokens" }));
    await page.waitForSelector(".tokens .token");
    const reply = await server.call("POST", "encode", { text: "a😀世界 tokens", return: ["ids", "offsets", "tokens"] });
    const n = reply.tokens.indexOf("世界");
    assert.ok(n > 0, JSON.stringify(reply.tokens));
    await page.locator(".tokens .token").nth(n).hover();
    const facts = async () => Object.fromEntries(await page.$$eval(".facts dt", (all) => all.map((dt) => [dt.textContent, dt.nextSibling.textContent])));
    await page.waitForFunction(() => document.querySelector(".facts")?.textContent.includes("kind"));
    const told = await facts();
    assert.equal(told.id, String(reply.ids[n]));
    assert.equal(told["offsets in bytes"], "5 – 11");
    assert.equal(told["in characters"], "2 – 4");
    assert.equal(told["in UTF-16 units"], "3 – 5");
    assert.equal(told["bytes (6)"], "E4 B8 96 E7 95 8C");
    const { tokens } = await server.call("GET", `vocabs/default@1/tokens?limit=1&after=${reply.ids[n] - 1}`);
    assert.equal(told["merge rank"].replaceAll(",", ""), String(tokens[0].merge.rank));
    assert.match(told.kind, /ordinary, han/);
  },

  async "playground: the same from the keyboard"(visitor) {
    const page = await visitor.open(link({ text: "one two three" }));
    await page.waitForSelector(".tokens .token");
    await page.focus(".tokens");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    const active = await page.getAttribute(".tokens", "aria-activedescendant");
    assert.equal(await page.getAttribute(`#${active}`, "aria-selected"), "true");
    assert.match(await text(page, ".facts"), /2 of/);
    await page.keyboard.press("End");
    assert.match(await text(page, ".tokens .current"), /three|e/);
    // From the top of the page by Tab alone: the link to the content is first, then brand, views, theme.
    await page.reload();
    await page.waitForSelector(".tokens .token");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    const stops = [];
    for (let n = 0; n < 20 && !stops.includes("TEXTAREA"); n += 1) {
      await page.keyboard.press("Tab");
      stops.push(await page.evaluate(() => document.activeElement.tagName));
    }
    assert.ok(stops.includes("SELECT") && stops.includes("TEXTAREA"), stops.join(" "));
  },

  async "playground: whatever a text holds stays text"(visitor) {
    const page = await visitor.open(link({ text: "" }));
    const nasty = "<script>globalThis.hurt = 1</script><img src=x onerror=\"globalThis.hurt = 1\"> \u202Egnihton\u202C \u200B\u0000 العربية";
    await page.fill("textarea", nasty.replace("\u0000", "\u0001"));
    await page.waitForFunction(() => document.querySelector(".tokens").textContent.includes("U+200B"));
    assert.equal(await page.evaluate(() => globalThis.hurt), undefined);
    assert.equal(await page.locator("main script, main img").count(), 0);
    await page.locator(".tokens .token").nth(1).click();
    await page.getByRole("button", { name: "Explain merge by merge" }).click();
    await page.waitForSelector(".pretoken");
    const hidden = (await page.locator(".hidden-char").allTextContents()).join();
    assert.ok(["U+202E", "U+202C", "U+200B", "U+0001"].every((name) => hidden.includes(name)), hidden);
    assert.ok(!/[\u202E\u200B\u0001]/.test(await page.locator("main").textContent()));
    assert.equal(await page.evaluate(() => globalThis.hurt), undefined);
    // The order on the screen is that of the text, whatever direction it asks for.
    const tops = await page.$$eval(".tokens .token", (all) => all.slice(0, 6).map((token) => token.getBoundingClientRect().left));
    assert.ok(tops.every((left, n) => n === 0 || left > tops[n - 1]), tops.join(" "));
  },

  async "playground: special tokens by name, and those that are added"(visitor) {
    const page = await visitor.open(link({ vocab: "own@prod", text: "a<|end|>b" }));
    await page.waitForSelector(".tokens .token");
    assert.equal(await page.locator(".tokens .special").count(), 0);
    await page.getByLabel("special tokens by name").check();
    await page.waitForSelector(".tokens .special");
    assert.equal(await text(page, ".tokens .special"), "<|end|>");
    assert.match(page.url(), /special=parse/);
    await page.reload();
    await page.waitForSelector(".tokens .special");
  },

  async "playground: messages through the chat template, as JSON too"(visitor, { server, root }) {
    const { readFileSync } = await import("node:fs");
    const form = new FormData();
    const model = await server.call("GET", "vocabs/own@1/export?format=hf");
    form.append("file", new Blob([JSON.stringify(model)]), "tokenizer.json");
    form.append("file", new Blob([readFileSync(`${root}/tests/data/chat/qwen2.5.jinja`)]), "chat_template.jinja");
    await server.call("POST", "vocabs?name=chatty", form);
    const page = await visitor.open(link({ vocab: "chatty", mode: "chat" }));
    await page.waitForFunction(() => document.querySelector(".tokens").textContent.includes("assistant"));
    await page.getByLabel("Content of message 2").fill("What is 词表?");
    await page.waitForFunction(() => /What.{0,9}is/.test(document.querySelector(".tokens").textContent));
    await page.getByRole("button", { name: "JSON" }).click();
    await page.getByLabel("Messages as JSON").fill("[{");
    assert.match(await page.locator(".notice.bad").textContent(), /no JSON/);
    await page.getByLabel("Messages as JSON").fill('[{"role": "user", "content": "short"}]');
    await page.waitForFunction(() => document.querySelector(".tokens").textContent.includes("short"));
    visitor.expect(/422/);
    await page.getByLabel("Vocabulary", { exact: true }).selectOption("default");
    assert.match(await page.locator(".notice.bad").textContent(), /template/i);
  },

  async "playground: ids back to text, and what is no id"(visitor, { server }) {
    const { ids } = await server.call("POST", "encode", { text: "decode 这些" });
    const page = await visitor.open(link({ mode: "ids", text: ids.join(", ") }));
    await page.waitForFunction(() => document.querySelector(".tokens").textContent.includes("decode"));
    assert.match(await page.locator(".notice").first().textContent(), /encodes back to these ids/);
    assert.equal(await page.locator(".tokens .token").count(), ids.length);
    visitor.expect(/422/);
    await page.fill("textarea", "1, 99999999");
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /ids\/1/);
    await page.fill("textarea", "1, -4");
    await page.waitForFunction(() => document.querySelector(".notice.bad")?.textContent.includes("-4"));
  },

  async "playground: a pretoken merge by merge"(visitor, { server }) {
    const page = await visitor.open(link({ text: "tokenizers lower" }));
    await page.locator(".tokens .token").first().click();
    await page.getByRole("button", { name: "Explain merge by merge" }).click();
    await page.waitForSelector(".stepper input");
    const reply = await server.call("POST", "explain", { text: "tokenizers lower" });
    const piece = reply.pieces.find(({ way }) => way === "merges");
    await page.locator(".pretoken").nth(reply.pieces.indexOf(piece)).click();
    const slider = page.locator(".stepper input");
    assert.equal(await slider.getAttribute("max"), String(piece.merges.length));
    await slider.fill("0");
    assert.equal(await page.locator(".symbol-line .token").count(), piece.symbols.length);
    await slider.focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.locator(".symbol-line .token").count(), piece.symbols.length - 1);
    await slider.fill(String(piece.merges.length));
    assert.equal(await page.locator(".symbol-line .token").count(), piece.tokens.length);
  },

  async "playground: what is copied does the same elsewhere"(visitor, { server }) {
    const nasty = "it's \"quoted\" $HOME `x` \\ 世界 😀\n";
    const page = await visitor.open(link({ text: nasty }));
    await page.waitForSelector(".tokens .token");
    await page.evaluate(() => {
      Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { globalThis.copied = text; } } });
    });
    const copied = async (name) => {
      await page.getByRole("button", { name }).click();
      return page.evaluate(() => globalThis.copied);
    };
    const { ids } = await server.call("POST", "encode", { text: nasty });
    assert.deepEqual(JSON.parse(await copied("Copy ids")), ids);
    const curl = await copied("Copy as curl");
    assert.deepEqual(JSON.parse(execFileSync("sh", ["-c", curl], { encoding: "utf8" })).ids, ids, curl);
    const python = await copied("Copy as Python");
    assert.match(execFileSync("python3", ["-c", python], { encoding: "utf8" }), new RegExp(ids.join(", ")));
  },

  async "playground: a link brings the same view; a text too long for one is left out and said"(visitor) {
    const page = await visitor.open(link({ vocab: "zh", spaces: "0" }));
    const long = "词表 and words. ".repeat(60);
    await page.fill("textarea", long);
    await page.waitForFunction(() => location.hash.includes("z="));
    await page.reload();
    await page.waitForSelector(".tokens .token");
    assert.equal(await page.inputValue("textarea"), long);
    assert.equal(await page.inputValue("select.vocab"), "zh");
    assert.ok(!(await page.getByLabel("white space visible").isChecked()));
    const noise = Array.from({ length: 6000 }, (_, n) => String.fromCodePoint(0x4e00 + ((n * 7919) % 20000))).join("");
    await page.fill("textarea", noise);
    await page.waitForFunction(() => location.hash.includes("long=6000"));
    await page.reload();
    await page.waitForSelector("main .view");
    assert.match(await page.locator(".notice").first().textContent(), /left out a text of 6,000/);
  },

  async "playground: a megabyte and more than a hundred thousand tokens"(visitor) {
    const page = await visitor.open(link({ vocab: "zh", text: "x" }));
    await page.waitForSelector(".tokens .token");
    const big = Array.from({ length: 16000 }, (_, n) => `line ${n}: the quick brown fox 自然语言 jumps over it\n`).join("");
    assert.ok(big.length > 800000);
    await page.evaluate((value) => {
      const area = document.querySelector("textarea");
      area.value = value;
      area.dispatchEvent(new Event("input"));
    }, big);
    await page.waitForFunction(() => Number([...document.querySelectorAll(".figure dd")][0]?.textContent.replaceAll(",", "")) > 100000);
    const inPage = await page.locator(".tokens .token").count();
    assert.ok(inPage > 100 && inPage < 8000, `${inPage} tokens are in the page`);
    // To the end, while the page stays quick.
    await page.focus(".tokens");
    const begin = Date.now();
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.querySelector(".tokens .current")?.textContent.includes("⏎"));
    assert.ok(Date.now() - begin < 3000);
    await page.evaluate(() => { document.querySelector(".tokens").scrollTop = 200000; });
    await page.waitForFunction(() => {
      const box = document.querySelector(".tokens").getBoundingClientRect();
      return document.elementFromPoint(box.left + 30, box.top + box.height / 2)?.closest(".token");
    });
    assert.ok((await page.locator(".tokens .token").count()) < 9000);
  },

  async "playground: files that are too large or no text are refused with a word"(visitor) {
    const page = await visitor.open();
    const drop = (name, size, byte) => page.evaluate(([name, size, byte]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(size).fill(byte)], name));
      document.querySelector("textarea").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }, [name, size, byte]);
    await drop("huge.txt", 50 * 1024 * 1024, 97);
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /50 MiB.*Compare/);
    await drop("picture.png", 1000, 0xff);
    await page.waitForFunction(() => document.querySelector(".notice.bad")?.textContent.includes("picture.png is no text"));
    await drop("fine.txt", 1000, 98);
    await page.waitForFunction(() => document.querySelector("textarea").value.startsWith("bbbb"));
  },

  async "playground: a vocabulary that goes away while it is shown"(visitor, { server }) {
    await server.train({ name: "brief", corpus: { texts: ["abcabcabc ".repeat(20)] }, num_merges: 3 });
    const page = await visitor.open(link({ vocab: "brief", text: "abc" }));
    await page.waitForSelector(".tokens .token");
    await server.call("DELETE", "vocabs/brief/versions/1");
    visitor.expect(/404/);
    await page.fill("textarea", "abcd");
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /no vocabulary brief any more/);
    assert.equal(await page.locator(".tokens .token").count(), 0);
    await page.locator("select.vocab").selectOption("default");
    await page.waitForSelector(".tokens .token");
    assert.equal(await page.locator(".notice.bad").count(), 0);
  },
};
