// The view Models.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TEXT = "模型的选择取决于你的文本。 A base model for your text.";
const link = (fields) => `#/models?${new URLSearchParams(fields)}`;
const names = (page) => page.locator(".model th bdi").allTextContents();
const model = (page, name) => page.locator(".model", { has: page.locator(`th bdi:text-is("${name}")`) });
const cell = (page, name, label) => model(page, name).locator(`td[data-name="${label}"]`).textContent();
const all = (page) => page.getByRole("button", { name: /^Show all/ }).click();
const open = (page, name) => model(page, name).locator("summary").first().click();

/** A vocabulary under the name that a card asks for, so that its figures are there. */
async function known(server) {
  const { models } = await server.call("GET", "models");
  const wanted = models.find(({ name }) => name === "qwen2.5-7b").vocab;
  const { vocabs } = await server.call("GET", "vocabs");
  if (!vocabs.some(({ name }) => name === wanted.split("@")[0])) await server.train({ name: wanted.split("@")[0], corpus: { texts: [TEXT.repeat(30)] }, vocab_size: 300 });
  return models;
}

export default {
  async "models: ranked by weights, each score explained, nothing unknown made up"(visitor, { server }) {
    const models = await known(server);
    const page = await visitor.open(link({ text: TEXT, rank: "context:1,tokenizer:2" }));
    await page.waitForSelector(".model");
    const reply = await server.call("POST", "models/compare", { text: TEXT, weights: { context: 1, tokenizer: 2 } });
    assert.equal(await page.locator(".model").count(), 15);
    await all(page);
    assert.equal(await page.locator(".model").count(), models.length);
    const ranked = reply.results.filter(({ rank }) => rank !== null).sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1)).map(({ name }) => name);
    assert.deepEqual((await names(page)).slice(0, ranked.length).sort(), [...ranked].sort());
    assert.equal((await names(page))[0], ranked[0]);
    const qwen = reply.results.find(({ name }) => name === "qwen2.5-7b");
    assert.equal(await cell(page, "qwen2.5-7b", "tokens"), String(qwen.count));
    assert.equal(await cell(page, "qwen2.5-7b", "chars per token"), qwen.characters_per_token.toFixed(2));
    await open(page, "qwen2.5-7b");
    const why = await model(page, "qwen2.5-7b").locator(".factors").textContent();
    for (const { factor, explanation } of qwen.factors) assert.ok(why.includes(factor) && why.includes(explanation), `${explanation} in ${why}`);
    // Without its vocabulary a model's figures are unknown, and the way to them is told.
    const other = reply.results.find(({ missing_vocab }) => missing_vocab?.import_command);
    assert.equal(other.count, null);
    assert.equal(await cell(page, other.name, "tokens"), "unknown");
    assert.ok((await model(page, other.name).locator(".missing").textContent()).includes(other.missing_vocab.import_command));
    visitor.expect(/403/);
    await open(page, other.name);
    await model(page, other.name).getByRole("button", { name: "Import it now" }).click();
    await model(page, other.name).locator(".notice.bad").waitFor();
    assert.match(await model(page, other.name).locator(".notice.bad").textContent(), /allow_hub|403/);
  },

  async "models: weights move, all of them zero is said"(visitor, { server }) {
    await known(server);
    const page = await visitor.open(link({ text: TEXT, rank: "context:1" }));
    await page.waitForSelector(".score");
    await page.getByLabel(/^context/).fill("0");
    await page.waitForFunction(() => document.querySelector("main").textContent.includes("Every weight is zero"));
    assert.equal(await page.locator(".score").count(), 0);
    await page.reload();
    await page.waitForSelector(".model");
    assert.match(await page.locator("main").textContent(), /Every weight is zero/);
    await page.getByLabel(/^size/).fill("3");
    await page.waitForSelector(".score");
    assert.match(decodeURIComponent(page.url()), /rank=size:3/);
  },

  async "models: filters leave out and say why"(visitor, { server }) {
    const models = await known(server);
    const page = await visitor.open(link({ text: TEXT, rank: "tokenizer:1" }));
    await page.waitForSelector(".model");
    await page.getByText("What must hold").click();
    await page.getByLabel("Context of at least").fill("100000");
    await page.getByLabel("Context of at least").press("Tab");
    await page.waitForFunction((count) => [...document.querySelectorAll(".figure")].at(-1).children[1].textContent === String(count), models.filter(({ card }) => card.context_length === null || card.context_length >= 100000).length);
    await all(page);
    const short = models.filter(({ card }) => card.context_length !== null && card.context_length < 100000);
    assert.ok(short.length > 0);
    assert.equal(await page.locator(".model.dropped").count(), short.length);
    assert.match(await model(page, short[0].name).locator(".why-not").textContent(), /min context: wanted 100,000/);
    await page.getByText("What they run on").click();
    visitor.expect(/422/);
    await page.getByLabel("Memory of a GPU").fill("0");
    await page.getByLabel("Memory of a GPU").press("Tab");
    await page.waitForSelector(".notice.bad");
    assert.match(await page.locator(".notice.bad").textContent(), /gpu_bytes/);
  },

  async "models: cards side by side, with sources and what is unknown"(visitor, { server }) {
    const models = await known(server);
    const page = await visitor.open(link({ text: TEXT, beside: "qwen2.5-7b" }));
    await page.waitForSelector(".side-by-side table");
    await page.getByLabel("Put deepseek-v3 side by side").check();
    await page.waitForFunction(() => document.querySelectorAll(".side-by-side thead th").length === 3);
    assert.match(decodeURIComponent(page.url()), /beside=qwen2.5-7b,deepseek-v3/);
    const row = async (name) => page.$$eval(".side-by-side tbody tr", (rows, wanted) => [...rows.find((each) => each.firstChild.textContent === wanted).children].slice(1).map((each) => each.textContent), name);
    const of = (name) => models.find((each) => each.name === name);
    const layers = await row("layers");
    assert.ok(layers[0].startsWith(String(of("qwen2.5-7b").card.layers)) && layers[1].startsWith(String(of("deepseek-v3").card.layers)), layers.join());
    assert.match((await row("attention"))[1], /MLA/);
    const source = page.locator(".side-by-side a.source").first();
    assert.equal(await source.getAttribute("rel"), "noreferrer noopener");
    // Whatever a card leaves out is a word, not a number.
    const unknown = Object.entries({ "tool calling": "tool_calling", "log n scaling": "log_n_scaling", "window attention beyond training length": "attention_window" });
    for (const [label, fact] of unknown) {
      const shown = await row(label);
      for (const [at, name] of ["qwen2.5-7b", "deepseek-v3"].entries()) if (of(name).card[fact] === null) assert.match(shown[at], /unknown/);
    }
  },

  async "models: a card of one's own that is not taken is named with its fault"(visitor, { server }) {
    await known(server);
    const folder = join(server.data, "models");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "mine.toml"), 'name = "mine"\nvocab = { ref = "default" }\nlayrs = 3\n');
    await server.call("POST", "reload");
    const page = await visitor.open(link({ text: TEXT }));
    await page.waitForSelector(".model");
    assert.match(await page.locator(".notice.bad").textContent(), /models\/mine.toml.*layrs/);
    writeFileSync(join(folder, "mine.toml"), 'name = "mine"\nvocab = { ref = "default" }\n');
    await server.call("POST", "reload");
    await visitor.open(link({ text: TEXT, rank: "tokenizer:1" }));
    await page.waitForSelector(".model");
    assert.equal(await page.locator(".notice.bad").count(), 0);
    assert.equal(await model(page, "mine").locator("td[data-name=parameters]").textContent(), "unknown");
  },
};
