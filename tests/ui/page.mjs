// The page in a real browser, against a real server: `node page.mjs [part of a name]`. Screenshots go to target/ui/.

import { chromium } from "playwright-core";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Server } from "./server.mjs";
import { Visitor } from "./visitor.mjs";
import playground from "./playground.mjs";
import compare from "./compare.mjs";
import train from "./train.mjs";
import models from "./models.mjs";
import whole from "./whole.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = process.env.VOCABD ?? join(root, "target/debug/vocabd");
const browserPath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));
if (!browserPath) throw new Error("no Chromium: install the package chromium, or name one in CHROMIUM");
if (!existsSync(program)) throw new Error(`no program at ${program}: cargo build, or name one in VOCABD`);

const shots = join(root, "target/ui");
mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox"] });
const server = await new Server(program).start();
const failed = [];
let passed = 0;

try {
  await prepare(server);
  for (const [name, fact] of Object.entries({ ...playground, ...compare, ...train, ...models, ...whole })) {
    if (process.argv[2] && !name.includes(process.argv[2])) continue;
    const begin = performance.now();
    const visitor = await Visitor.begin(browser, server, shots);
    try {
      await fact(visitor, { browser, server, program, root });
      visitor.nothingWrong();
      passed += 1;
      console.log(`ok   ${name} (${Math.round(performance.now() - begin)} ms)`);
    } catch (error) {
      failed.push(name);
      await visitor.shot(`failed-${failed.length}`).catch(() => {});
      console.log(`FAIL ${name}\n     ${error.stack.replaceAll("\n", "\n     ")}`);
    } finally {
      await visitor.end();
    }
  }
} finally {
  await browser.close();
  await server.end();
}
console.log(`${passed} passed, ${failed.length} failed`);
if (failed.length > 0 || passed === 0) process.exitCode = 1;

/** Two vocabularies beside the built-in one: one with two versions, one that was made for Chinese. */
async function prepare(server) {
  const english = "The quick brown fox jumps over the lazy dog while a token is merged with another token. ".repeat(40);
  const chinese = "自然语言处理是人工智能的一个方向。机器学习让计算机理解语言,词表决定文本怎样被切分。".repeat(40);
  await server.train({ name: "own", corpus: { texts: [english] }, vocab_size: 300, special_tokens: ["<|end|>"] });
  await server.train({ name: "own", corpus: { texts: [english, chinese] }, vocab_size: 420, special_tokens: ["<|end|>"], aliases: ["prod"] });
  await server.train({ name: "zh", corpus: { texts: [chinese] }, vocab_size: 330, split: "qwen2" });
}
