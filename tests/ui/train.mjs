// The view Train.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Server } from "./server.mjs";
import { Visitor } from "./visitor.mjs";

/** Words of many kinds, so that there is much to merge; the same each time. */
export function corpus(bytes, kinds = 30000) {
  let state = 1;
  const random = (below) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % below;
  const words = Array.from({ length: kinds }, () => Array.from({ length: 3 + random(9) }, () => "etaoinshrdlucmfwyp"[Math.min(random(18), random(18))]).join(""));
  let text = "";
  while (text.length < bytes) text += `${words[Math.min(random(kinds), random(kinds))]}${random(12) === 0 ? ".\n" : " "}`;
  return text;
}

async function fillForm(page, { name, file, size, alias }) {
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Tokens in all").fill(String(size));
  if (alias) await page.getByLabel("Aliases to move when it is done").fill(alias);
  await page.setInputFiles("form input[type=file]", file);
  await page.waitForFunction(() => document.querySelector("form").textContent.includes("is there:"));
}

export default {
  async "train: from the form to a promoted alias"(visitor, { server }) {
    const file = join(server.data, "corpus.txt");
    writeFileSync(file, corpus(300000));
    const page = await visitor.open("#/train");
    await fillForm(page, { name: "trained", file, size: 3000 });
    await page.getByText("More options").click();
    await page.getByLabel("Special tokens").fill("<|a|>, <|b|>");
    await page.getByLabel("Digits").selectOption("single");
    await page.getByRole("button", { name: "Start training" }).click();
    await page.waitForSelector(".stages");
    await page.waitForSelector("section[aria-label=Result]");
    assert.match(await page.locator("section[aria-label=Result]").textContent(), /trained@1/);
    const { version, tokens, special_tokens } = await server.call("GET", "vocabs/trained");
    assert.deepEqual([version, tokens, special_tokens], [1, 3000, 2]);
    // What it bought, on its own corpus, by the server's figures.
    await page.waitForSelector("section[aria-label='What it bought'] .figure");
    const bought = await page.locator("section[aria-label='What it bought']").textContent();
    const upload = new URLSearchParams(page.url().split("?")[1]).get("upload");
    const { results } = await server.call("POST", "compare", { vocabs: ["default", "trained@1"], upload, invalid_utf8: "replace" });
    for (const { count } of results) assert.ok(bought.includes(count.toLocaleString("en-US")), `${count} in ${bought}`);
    assert.equal(await page.locator("section[aria-label=Result] .plot path.line").count(), 1);
    // Promote, and back again.
    await page.getByLabel("Alias", { exact: true }).fill("prod");
    await page.getByRole("button", { name: "Move the alias" }).click();
    await page.waitForFunction(() => document.querySelector("section[aria-label=Promote]").textContent.includes("means version 1 now"));
    assert.equal((await server.call("GET", "vocabs/trained@prod")).version, 1);
    // Export: what comes is the server's file.
    const download = page.waitForEvent("download");
    await page.getByLabel("Format").selectOption("native");
    await page.getByRole("button", { name: "Download" }).click();
    const saved = readFileSync(await (await download).path());
    assert.deepEqual(saved, Buffer.from(await (await fetch(`${server.url}vocabs/trained@1/export?format=native`)).arrayBuffer()));
    // Replay: bytes at first, the vocabulary's tokens at last.
    await page.getByLabel("Text to replay on").fill("the token");
    await page.getByRole("button", { name: "Replay" }).click();
    await page.waitForSelector(".replay .stepper");
    const count = () => page.locator(".replay .token").count();
    const last = await count();
    assert.equal(last, (await server.call("POST", "count", { vocab: "trained", text: "the token" })).count);
    await visitor.shot("train-result", true);
    await visitor.accessible("a result");
    await page.locator(".replay input[type=range]").fill("0");
    assert.equal(await count(), 9);
    await page.goto(`${server.url}#/train`);
    await page.waitForSelector("section[aria-label=Jobs] table");
    assert.match(await page.locator("section[aria-label=Jobs]").textContent(), /trained@1.*succeeded/);
  },

  async "train: a second version moves its alias and may be rolled back"(visitor, { server }) {
    const page = await visitor.open("#/train?name=own");
    await page.getByRole("button", { name: "Text typed here" }).click();
    await page.getByLabel("Texts").fill("over and over and over again ".repeat(50));
    await page.getByLabel("Tokens in all").fill("280");
    await page.getByRole("button", { name: "Start training" }).click();
    await page.waitForSelector("section[aria-label=Promote]");
    await page.getByLabel("Alias", { exact: true }).fill("prod");
    await page.getByRole("button", { name: "Move the alias" }).click();
    await page.getByRole("button", { name: "Roll back to version 2" }).click();
    await page.waitForFunction(() => document.querySelector("section[aria-label=Promote]").textContent.includes("means version 2 now; it was 3"));
    assert.equal((await server.call("GET", "vocabs/own@prod")).version, 2);
    await server.call("DELETE", "vocabs/own/versions/3");
  },

  async "train: live merges and a curve that grows, a restart in between, and cancel"(visitor, { browser, program }) {
    const own = await new Server(program, { VOCABD_TRAIN_CHECKPOINT_SECONDS: "1" }).start();
    const live = await Visitor.begin(browser, own, visitor.shots);
    try {
      const file = join(own.data, "corpus.txt");
      writeFileSync(file, corpus(12000000, 100000));
      const page = await live.open("#/train");
      await fillForm(page, { name: "slow", file, size: 200000 });
      await page.getByText("More options").click();
      await page.getByLabel("Least frequency of a pair").fill("1");
      await page.getByRole("button", { name: "Start training" }).click();
      await page.waitForFunction(() => document.querySelectorAll(".feed li").length > 5, null, { timeout: 60000 });
      await page.waitForSelector(".plot path.line");
      const path = () => page.locator(".plot path.line").getAttribute("d");
      const before = await path();
      await page.waitForFunction((old) => document.querySelector(".plot path.line")?.getAttribute("d") !== old, before);
      await live.shot("train-live");
      await live.accessible("a run");
      // The server goes away and comes back: the page says so, and follows again.
      live.expect(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/);
      await own.stop("SIGKILL");
      await page.waitForFunction(() => document.querySelector("main").textContent.includes("The connection is gone"));
      await own.start();
      await page.waitForFunction(() => !document.querySelector("main").textContent.includes("The connection is gone"), null, { timeout: 30000 });
      await page.waitForSelector(".state.running");
      await page.getByRole("button", { name: "Cancel the run" }).click();
      await page.waitForSelector(".state.cancelled");
      assert.match(await page.locator("main").textContent(), /was cancelled. Nothing was published/);
      live.nothingWrong();
    } finally {
      await live.end();
      await own.end();
    }
  },

  async "train: what the form and the server refuse"(visitor) {
    const page = await visitor.open("#/train");
    await page.getByRole("button", { name: "Start training" }).click();
    assert.match(await page.locator(".notice.bad").textContent(), /name/);
    await page.getByLabel("Name", { exact: true }).fill("../x");
    await page.getByRole("button", { name: "Start training" }).click();
    assert.match(await page.locator(".notice.bad").textContent(), /Choose a file/);
    await page.getByRole("button", { name: "Text typed here" }).click();
    await page.getByLabel("Texts").fill("a b c");
    visitor.expect(/422|404/);
    await page.getByRole("button", { name: "Start training" }).click();
    await page.waitForFunction(() => document.querySelector(".notice.bad").textContent.includes("/name"));
    assert.equal(await page.getByLabel("Name", { exact: true }).getAttribute("aria-invalid"), "true");
    await page.getByLabel("Name", { exact: true }).fill("x");
    await page.getByLabel("Tokens in all").fill("10");
    await page.getByRole("button", { name: "Start training" }).click();
    await page.waitForFunction(() => document.querySelector(".notice.bad").textContent.includes("/vocab_size"));
    await page.goto("about:blank");
    await page.goto(`${visitor.server.url}#/train?job=${"0".repeat(32)}`);
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /no such job/);
  },

  async "train: a corpus that fails says where"(visitor) {
    const page = await visitor.open("#/train");
    await page.getByLabel("Name", { exact: true }).fill("broken");
    await page.setInputFiles("form input[type=file]", { name: "latin1.txt", mimeType: "text/plain", buffer: Buffer.from([0x67, 0x72, 0xfc, 0x6e, 0x0a]) });
    await page.waitForFunction(() => document.querySelector("form").textContent.includes("is there:"));
    await page.getByRole("button", { name: "Start training" }).click();
    await page.waitForSelector(".state.failed");
    assert.match(await page.locator(".notice.bad").textContent(), /corpus_not_utf8/);
  },
};
