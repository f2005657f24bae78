// The view Compare.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const link = (fields) => `#/compare?${new URLSearchParams(fields)}`;
const row = async (page, name) => page.$$eval("tbody tr", (rows, wanted) => [...(rows.find((each) => each.firstChild.textContent === wanted)?.children ?? [])].slice(1).map((cell) => cell.textContent), name);
const TEXT = "tokenizers read 自然语言 and 한국어";

export default {
  async "compare: three vocabularies on a text"(visitor, { server }) {
    const page = await visitor.open(link({ vocabs: "default,own@prod,zh", text: TEXT }));
    await page.waitForSelector("table");
    const { results } = await server.call("POST", "compare", { vocabs: ["default", "own@prod", "zh"], text: TEXT });
    assert.deepEqual(await row(page, "tokens"), results.map(({ count }) => String(count)));
    assert.deepEqual(await row(page, "characters per token"), results.map((r) => r.characters_per_token.toFixed(3)));
    assert.deepEqual(await row(page, "tokens per document, p95"), results.map((r) => String(r.per_document.p95)));
    const best = await page.$$eval("tbody tr:first-child td", (cells) => cells.map((cell) => cell.classList.contains("best")));
    assert.deepEqual(best, results.map(({ count }) => count === Math.min(...results.map((r) => r.count))));
    // Ringed is what no other one cuts so: looked at here by the definition.
    const rings = results.map(({ spans }, at) => spans.filter(([start, end]) => !results.some((other, n) => n !== at && other.spans.some(([s, e]) => s === start && e === end))).length);
    for (const [at, wanted] of rings.entries()) assert.equal(await page.locator(".cuts > div").nth(at).locator(".ring").count(), wanted);
    assert.ok(rings.some((count) => count > 0));
    // Bars by script, and a point for each vocabulary.
    const han = results.map(({ fragmentation }) => `${((fragmentation.han.whole / fragmentation.han.characters) * 100).toFixed(1)} %`);
    const shown = await page.$$eval(".bars h3", (heads) => {
      const values = [];
      for (let next = heads.find((head) => head.textContent.startsWith("han")).nextSibling; next && next.tagName !== "H3"; next = next.nextSibling) if (next.className === "value") values.push(next.textContent);
      return values;
    });
    assert.deepEqual(shown, han);
    assert.equal(await page.locator(".plot circle").count(), 3);
    assert.match(await page.locator(".plot title").textContent(), /default@1: size 32,000, needs \d+/);
  },

  async "compare: vocabularies are added, left out and linked to"(visitor) {
    const page = await visitor.open(link({ vocabs: "default,zh", text: "词" }));
    await page.waitForSelector("table");
    assert.equal(await page.getByRole("button", { name: /Leave out/ }).count(), 0);
    for (let n = 0; n < 4; n += 1) await page.getByRole("button", { name: "+ another vocabulary" }).click();
    assert.equal(await page.getByRole("button", { name: "+ another vocabulary" }).count(), 0);
    await page.getByLabel("Vocabulary 3", { exact: true }).selectOption("own@1");
    await page.waitForFunction(() => decodeURIComponent(location.hash).includes("default,zh,own@1"));
    await page.getByRole("button", { name: /Leave out vocabulary 1/ }).click();
    await page.waitForFunction(() => document.querySelectorAll("thead th").length === 6);
    await page.reload();
    await page.waitForFunction(() => document.querySelectorAll("thead th").length === 6);
  },

  async "compare: a JSONL corpus is sent and measured by document"(visitor, { server }) {
    const lines = Array.from({ length: 200 }, (_, n) => JSON.stringify({ body: "词表 token ".repeat(1 + (n % 20)), n }));
    const file = join(server.data, "mine.jsonl");
    writeFileSync(file, `${lines.join("\n")}\n`);
    const page = await visitor.open(link({ vocabs: "default,zh", from: "corpus" }));
    visitor.expect(/422/);
    await page.setInputFiles("input[type=file]", file);
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /no field of the name/);
    await page.getByLabel("Field with the text").fill("body");
    await page.getByLabel("Field with the text").press("Tab");
    await page.waitForSelector("table");
    assert.deepEqual(await page.locator(".figure dd").first().textContent(), "200");
    const upload = new URLSearchParams(page.url().split("?")[1]).get("upload");
    const reply = await server.call("POST", "compare", { vocabs: ["default", "zh"], upload, format: "jsonl", field: "body" });
    assert.deepEqual(await row(page, "tokens per document, p50"), reply.results.map((r) => String(r.per_document.p50)));
    // The link works as long as the upload is there.
    await page.reload();
    await page.waitForSelector("table");
    await server.call("DELETE", `uploads/${upload}`);
    visitor.expect(/404/);
    await page.reload();
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /gone/);
  },

  async "compare: 50 MB are sent with progress; a binary file is not sent"(visitor, { server }) {
    const page = await visitor.open(link({ vocabs: "own@prod,zh", from: "corpus" }));
    const drop = (name, size, byte, break_) => page.evaluate(([name, size, byte, break_]) => {
      const bytes = new Uint8Array(size).fill(byte);
      for (let at = 79; break_ && at < size; at += 80) bytes[at] = 10;
      const data = new DataTransfer();
      data.items.add(new File([bytes], name));
      document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }, [name, size, byte, break_]);
    await drop("photo.jpg", 5000, 0, false);
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /photo.jpg looks like a binary file/);
    await page.evaluate(() => {
      globalThis.seen = new Set();
      new MutationObserver(() => document.querySelectorAll("progress").forEach((bar) => globalThis.seen.add(bar.value))).observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    await drop("large.txt", 50 * 1024 * 1024, 97, true);
    await page.waitForFunction(() => document.querySelector("main").textContent.includes("large.txt is there: 50 MiB"), null, { timeout: 60000 });
    const upload = await page.waitForFunction(() => new URLSearchParams(location.hash.split("?")[1]).get("upload"));
    assert.equal((await server.call("GET", `uploads/${await upload.jsonValue()}`)).bytes, 50 * 1024 * 1024);
    assert.ok((await page.evaluate(() => globalThis.seen.size)) >= 1);
  },

  async "compare: two versions of one's own"(visitor, { server }) {
    const page = await visitor.open(link({ text: "token 自然语言", vocabs: "own@1,own@2" }));
    await page.waitForSelector("table");
    assert.equal(await page.getByLabel("First version").inputValue(), "own@1");
    assert.equal(await page.getByLabel("Second version").inputValue(), "own@2");
    await page.getByRole("button", { name: "Show how they differ" }).click();
    await page.waitForSelector(".diff table");
    const diff = await server.call("GET", "vocabs/own@1/diff/own@2");
    assert.match(await page.locator(".diff").textContent(), new RegExp(`${diff.same} tokens have one id in both`));
    const label = `tokens of the second only: ${diff.only_b.total}`;
    await page.getByRole("button", { name: label }).click();
    await page.waitForFunction(() => document.querySelector(".diff caption").textContent === "tokens of the second only");
    assert.equal(await page.locator(".diff tbody tr").count(), Math.min(50, diff.only_b.total));
    assert.ok(diff.only_b.total > 50);
    await page.getByRole("button", { name: /Show more/ }).click();
    await page.waitForFunction((wanted) => document.querySelectorAll(".diff tbody tr").length === wanted, Math.min(100, diff.only_b.total));
    assert.equal(await page.locator(".diff .cuts .tokens").count(), 2);
  },

  async "compare: one of several is gone"(visitor) {
    visitor.expect(/404/);
    const page = await visitor.open(link({ vocabs: "default,nothing@7", text: "x" }));
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /no vocabulary nothing@7/);
    assert.equal(await page.locator("select.series-1 option:checked").textContent(), "nothing@7 (not here)");
  },
};
