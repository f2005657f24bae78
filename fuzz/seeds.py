#!/usr/bin/env python3
"""Beginnings for the fuzz targets, in fuzz/corpus: a good body of every form for every route, small vocabulary files of every
format, templates. usage: fuzz/seeds.py"""

import base64
import gzip
import json
import pathlib
import re
import struct

here = pathlib.Path(__file__).parent
corpus = here / "corpus"


def put(target, name, content):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


# What http_any.rs has, read from it, so that the numbers stay its own.
source = (here / "fuzz_targets/http_any.rs").read_text()
routes = [path for _, path in re.findall(r'\("(POST|PUT)", "([^"]+)"\)', source)]
kinds = re.search(r"KINDS[^=]*= &\[(.*?)\];", source, re.S)[1]
kinds = re.findall(r'"([^"]+)"', kinds)

TEXT = "Hello, 世界! e\u0301 <|endoftext|> 123"
MESSAGES = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "a"}]
BODIES = {
    "/encode": {"text": TEXT, "return": ["ids", "tokens", "offsets"], "offset_unit": "utf16", "max_tokens": 5, "special": "parse"},
    "/encode/batch": {"texts": [TEXT, ""], "vocab": "default@1", "truncation_side": "left", "max_tokens": 2},
    "/count": {"texts": [TEXT], "limit": 3},
    "/decode": {"ids": [72, 300, 1], "errors": "bytes"},
    "/decode/batch": {"ids": [[72], []], "skip_special_tokens": True},
    "/chunk": {"text": TEXT * 3, "size": 4, "overlap": 2, "boundary": "word"},
    "/compare": {"vocabs": ["default", "default@1"], "texts": [TEXT]},
    "/explain": {"text": TEXT},
    "/chat/encode": {"messages": MESSAGES, "chat_template": "{{ messages }}", "add_generation_prompt": False},
    "/chat/render": {"messages": MESSAGES, "chat_template": "{% for m in messages %}{{ m.content | upper }}{% endfor %}"},
    "/apply-template": {"messages": MESSAGES},
    "/chat_tokenize": {"messages": MESSAGES},
    "/train": {"name": "t", "corpus": {"texts": [TEXT]}, "vocab_size": 260, "digits": "single", "special_tokens": ["<x>"]},
    "/vocabs": {"name": "v", "source": "hf://a/b"},
    "/vocabs/default/aliases/fuzzed": {"version": 1},
    "/tokenize": {"content": TEXT, "prompt": TEXT, "inputs": TEXT},
    "/detokenize": {"tokens": [72, 300]},
    "/v1/tokenize": {"text": TEXT, "model": "default"},
    "/v1/detokenize": {"tokens": [72], "model": "default"},
    "/v1/messages/count_tokens": {"model": "default", "messages": MESSAGES, "system": TEXT},
    "/v1/responses/input_tokens": {"model": "default", "input": TEXT},
    "/v1/chat/completions/input_tokens": {"model": "default", "messages": MESSAGES},
    "/v1beta/models/default:countTokens": {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
    "/compat/tei/tokenize": {"inputs": [TEXT]},
    "/compat/tei/decode": {"ids": [[72]]},
    "/compat/llamacpp/tokenize": {"content": TEXT, "with_pieces": True},
    "/compat/llamacpp/detokenize": {"tokens": [72]},
    "/compat/llamacpp/apply-template": {"messages": MESSAGES},
    "/utils/token_counter": {"model": "default", "messages": MESSAGES},
    "/v1/tokenize-text": {"text": TEXT, "model": "default"},
    "/ml/v1/text/tokenization": {"model_id": "default", "input": TEXT},
    "/v3/tokenize": {"model": "default", "text": TEXT},
    "/api/tokenize": {"model": "default", "prompt": TEXT},
    "/api/detokenize": {"model": "default", "tokens": [72]},
    "/models/compare": {"texts": [TEXT], "languages": ["zh"], "weights": {"context": 1}},
    "/compat/tgi/tokenize": {"inputs": TEXT},
    "/compat/tgi/chat_tokenize": {"messages": MESSAGES},
    "/compat/sglang/tokenize": {"prompt": TEXT},
    "/compat/sglang/detokenize": {"tokens": [72]},
    "/compat/sglang/v1/tokenize": {"prompt": TEXT},
    "/compat/sglang/v1/detokenize": {"tokens": [72]},
    "/compat/cohere/v1/tokenize": {"text": TEXT, "model": "default"},
    "/compat/cohere/v1/detokenize": {"tokens": [72], "model": "default"},
    "/compat/vllm/tokenize": {"prompt": TEXT},
    "/compat/vllm/detokenize": {"tokens": [72]},
    "/compat/localai/v1/tokenize": {"content": TEXT, "model": "default"},
    "/compat/ovms/v1/tokenize": {"text": TEXT, "model": "default"},
}


def msgpack(value):
    """As little of MessagePack as these bodies need."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return b"\xce" + struct.pack(">I", value)
    if isinstance(value, str):
        return b"\xda" + struct.pack(">H", len(value.encode())) + value.encode()
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(msgpack, value))
    return b"\xde" + struct.pack(">H", len(value)) + b"".join(msgpack(key) + msgpack(each) for key, each in value.items())


tiktoken = "".join(f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)).encode()
form = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="x.tiktoken"\r\n\r\n' + tiktoken + b"\r\n--XX--\r\n"
for number, path in enumerate(routes):
    body = BODIES.get(path.split("?")[0])
    forms = [("json", 0, json.dumps(body).encode()), ("msgpack", 1, msgpack(body)), ("text", 2, TEXT.encode()),
             ("packed", 3, struct.pack("<4I", 1, 2, 72, 300)), ("packed16", 6, struct.pack("<4H", 1, 0, 2, 72))]
    if path == "/encode/stream":
        forms = [("ndjson", 4, b'{"id": 1, "text": "a"}\n{"text": "b"}\n[1]\n')]
    if path.startswith("/vocabs?") or path.startswith("/uploads"):
        forms = [("file", 3, tiktoken), ("form", 5, form)]
    for name, kind, content in forms:
        put("http_any", f"{number}-{name}", bytes([number, kind, 0]) + content)
    put("http_any", f"{number}-gzip", bytes([number, forms[0][1], 4]) + gzip.compress(forms[0][2]))

# The first byte: 7 has the format be told by the content, 64 names a split pattern, 128 makes two files of the two halves.
put("import_any", "tiktoken", b"\x47" + tiktoken)
put("import_any", "tekken", b"\7" + json.dumps({"config": {"pattern": "\\p{L}+|\\s+|[^\\s\\p{L}]", "default_vocab_size": 260,
    "default_num_special_tokens": 3}, "vocab": [{"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode()} for byte in range(256)] +
    [{"rank": 256, "token_bytes": base64.b64encode(b"ll").decode()}]}, separators=(",", ":")).encode())
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
byte_level = {byte: chr(byte) for byte in BYTES} | {
    byte: chr(256 + at) for at, byte in enumerate(byte for byte in range(256) if byte not in BYTES)}
plain = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
whole = {"type": "BPE", "vocab": {byte_level[byte]: byte for byte in range(256)} | {"ll": 256, "Hell": 257}, "merges": ["l l"]}
pieces = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
    "vocab": {"<unk>": 0, "\u2581": 1, "H": 2, "e": 3, "He": 4, "\u2581He": 5, "<0x0A>": 6}, "merges": ["H e", "\u2581 He"]}
unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [["<unk>", 0.0], ["\u2581", -2.5], ["He", -3.0], ["l", -4.0]]}
added = [{"id": 300, "content": "<s>", "special": True, "lstrip": True, "rstrip": False, "normalized": False, "single_word": True}]
level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": True}
metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
split = {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)|[^\\s]"}, "behavior": "Isolated", "invert": False}
FILES = {
    "byte-level": (plain, {"type": "NFC"}, level, {"type": "ByteLevel"}, None),
    "whole": (whole, None, {"type": "Sequence", "pretokenizers": [split, level | {"use_regex": False}]}, {"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}}),
    "pieces": (pieces, {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}, None, {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}, None),
    "unigram": (unigram, {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"},
        {"type": "Strip", "strip_left": True, "strip_right": True}]}, metaspace, metaspace, None),
    "steps": (plain, {"type": "NFKD"}, {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
        {"type": "Punctuation", "behavior": "MergedWithNext"}, {"type": "WhitespaceSplit"}]}, None, None),
}
for name, (model, normalizer, pretokenizer, decoder, after) in FILES.items():
    put("import_any", "hf-" + name, b"\7" + json.dumps({"version": "1.0", "truncation": None, "padding": None,
        "added_tokens": added if name == "whole" else [], "normalizer": normalizer, "pre_tokenizer": pretokenizer,
        "post_processor": after, "decoder": decoder, "model": model}, ensure_ascii=False).encode())
halves = ["#version: 0.2\nl l\n", json.dumps({byte_level[byte]: byte for byte in range(256)} | {"ll": 256}, ensure_ascii=False)]
halves[0] += " " * (len(halves[1].encode()) - len(halves[0]))
put("import_any", "gpt2", b"\xc7" + "".join(halves).encode())


def field(number, content):
    """A field of protobuf: bytes, a number or a float."""
    if isinstance(content, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", content)
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2]) + (bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 127 | 128, len(content) >> 7])) + content


for kind in (1, 2):
    model = b"".join(field(1, field(1, piece.encode()) + field(2, score) + field(3, which)) for piece, score, which in
        [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("\u2581", -1.0, 1), ("He", -2.0, 1), ("l", -3.0, 1), ("H", -4.0, 1), ("e", -5.0, 1)])
    put("import_any", f"sentencepiece{kind}", b"\7" + model + field(2, field(3, kind)) + field(3, field(1, b"identity") + field(3, 1)))


def gguf(value):
    """A value of GGUF, with its type before it."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<IQ", 8, len(value.encode())) + value.encode()
    each = [gguf(one) for one in value]
    return struct.pack("<I", 9) + each[0][:4] + struct.pack("<Q", len(each)) + b"".join(one[4:] for one in each)


for name, values in {
    "bpe": {"model": "gpt2", "pre": "llama-bpe", "tokens": [*byte_level.values(), "ll"], "merges": ["l l"], "eos_token_id": 256},
    "spm": {"model": "llama", "tokens": ["<unk>", "<s>", "\u2581", "H", "e", "He", "<0x0A>"], "scores": [0.0, 0.0, -1.0, -2.0, -3.0, -4.0, 0.0],
        "token_type": [2, 3, 1, 1, 1, 1, 6], "add_bos_token": True, "bos_token_id": 1},
}.items():
    pairs = {"general.architecture": "llama"} | {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    body = b"".join(struct.pack("<Q", len(key)) + key.encode() + gguf(value) for key, value in pairs.items())
    put("import_any", f"gguf-{name}", b"\7GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body)
for text in (TEXT, "a" * 300, "\r\n \t", "１２３"):
    for target in ("split_vs_regex", "encode_quick", "chunk_any", "decode_any"):
        put(target, str(len(text)), b"\1\1\1" + text.encode())

# The first byte: 0 compares, 1 trains on a text, 2 on counts, with 64 of words; the second: which form of FORMATS, 3 times which of RECORDS.
# Parquet as pyarrow 26 writes it: strings by themselves, by what they share with the one before, by a dictionary; words with counts.
PARQUET = {
    "plain": "UEFSMRUAFVYVViwVCBUAFQYVBhwAAAACAAAAAwsJAAAAbG93IGxvd2VyBgAAAGxvd2VzdAoAAABsb3cg5LiW55WMFQQZLDUAGAZzY2hlbWEVAgAVDCUCGAR0ZXh0JQBMHAAAABYIGRwZHCYAHBUMGSUGABkYBHRleHQVABYIFnwWfCYISRwVABUAFQIAPBYyGQYZJgIGAAAAFnwWCCYIFnwAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRkcHAAAAIgAAABQQVIx",
    "delta": "UEFSMRUAFYoBFYoBLBUIFQ4VBhUGHAAAAAIAAAADC4ABBAMAAAIAAAADAAAAAAAAAIABBAMSCwQAAACgAAAAAAAAAAAAAAAAAAAAbG93IGxvd2VyZXN0IOS4lueVjBUEGSw1ABgGc2NoZW1hFQIAFQwlAhgEdGV4dCUATBwAAAAWCBkcGRwmABwVDBklBg4ZGAR0ZXh0FQAWCBa0ARa0ASYISRwVABUOFQIAPBYyGQYZJgIGAAAAFrQBFggmCBa0AQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAjAAAAFBBUjE=",
    "dictionary": "UEFSMRUEFUoVVkwVBhUAEgAAKLUv/SAlFQEAyAkAAABsb3cgbG93ZXIGZXN0CiDkuJbnlYwCAC2DgGEqARUAFRQVJiwVCBUQFQYVBhwAAAAotS/9IApRAAACAAAAAwsCAyQAFQQZLDUAGAZzY2hlbWEVAgAVDCUCGAR0ZXh0JQBMHAAAABYIGRwZHCYAHBUMGTUABhAZGAR0ZXh0FQwWCBagARa+ASZ6JggpLBUEFQAVAgAVABUQFQIAPBYyGQYZJgIGAAAAFqABFggmCBa+AQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAlgAAAFBBUjE=",
    "counts": "UEFSMRUAFSYVJiwVBBUAFQYVBhwAAAACAAAABAEDAAAAbG93AgAAAGVyFQAVLBUsLBUEFQAVBhUGHAAAAAIAAAAEAQMAAAAAAAAAAgAAAAAAAAAVBBk8NQAYBnNjaGVtYRUEABUMJQIYBHdvcmQlAEwcAAAAFQQlAhgFY291bnQAFgQZHBksJgAcFQwZJQYAGRgEd29yZBUAFgQWTBZMJghJHBUAFQAVAgA8FgoZBhkmAAQAAAAmABwVBBklBgAZGAVjb3VudBUAFgQWUhZSJlRJHBUAFQAVAgA8KQYZJgAEAAAAFp4BFgQmCBaeAQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGSwcAAAcAAAAxwAAAFBBUjE=",
}
lines = json.dumps({"text": TEXT}).encode() + b"\n" + json.dumps({"text": "low"}).encode() + b"\n"
counts = b"low\t5\ner\t3\n"
CORPORA = {"text": (0, 0, TEXT.encode()), "whole": (1, 0, TEXT.encode()), "lines": (1, 3, TEXT.encode() + b"\n" + TEXT.encode()),
    "paragraphs": (1, 6, b"a a\n\nb\n"), "replaced": (1, 128, b"a \xff a"), "jsonl": (1, 1, lines), "compared": (0, 1, lines), "counts": (2, 0, counts),
    "words": (66, 0, counts), "gzip": (1, 3, gzip.compress(TEXT.encode())), "counts-gzip": (2, 0, gzip.compress(counts)),
    "counts-parquet": (2, 0, base64.b64decode(PARQUET.pop("counts")))}
CORPORA |= {f"{name}-{how}": (how, 2, base64.b64decode(content)) for name, content in PARQUET.items() for how in (0, 1)}
for name, (how, form, content) in CORPORA.items():
    put("corpus_any", name, bytes([how, form]) + content)
TEMPLATES = {
    "loop": BODIES["/chat/render"]["chat_template"],
    "qwen2.5": (here / "../tests/data/chat/qwen2.5.jinja").read_text(),
    "llama": "{% set ns = namespace(n=0) %}{{ bos_token }}{%- for m in messages if m['role'] != 'tool' -%}{% set ns.n = ns.n + 1 %}"
        "{{ '<|' ~ m.role ~ '|>' + (m['content'] or '')|trim }}{{ eos_token if not loop.last else '' }}{%- endfor -%}",
    "tools": "{% macro show(tool) %}{{ tool | tojson(indent=4) }}{% endmacro %}{% if tools is defined and tools is not none %}"
        "{% for tool in tools %}{{ show(tool) }}{% endfor %}{% elif messages[0].content is string %}{{ messages[0]['content'].split(' ')[-1][::-1] }}"
        "{% else %}{{ raise_exception('no') }}{% endif %}{% generation %}a{% endgeneration %}",
    "strings": "{{ 'a,b'.split(',') | join('-') | upper | replace('A', 'b') }}{{ range(3) | list | length }}{{ {'a': 1}.items() | list }}"
        "{{ '%s' % 'x' if 1 < 2 and not false else none }}{{ strftime_now('%Y') }}{{ messages | map(attribute='role') | list | last }}",
}
for name, template in TEMPLATES.items():
    put("chat_any", name, template.encode())
print({folder.name: len(list(folder.iterdir())) for folder in sorted(corpus.iterdir())})
