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

for file in sorted((here / "../tests/data/vocabs").iterdir()):
    if file.stat().st_size < 64 << 10:
        put("import_any", file.name, b"\0" + file.read_bytes())
put("import_any", "tiktoken", b"\x40" + tiktoken)
model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
put("import_any", "hf", b"\0" + json.dumps({"version": "1.0", "added_tokens": [], "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "decoder": {"type": "ByteLevel"}, "model": model}).encode())
put("import_any", "gguf", b"\0GGUF\x03\0\0\0" + bytes(16))
for text in (TEXT, "a" * 300, "\r\n \t", "１２３"):
    for target in ("split_vs_regex", "encode_quick", "chunk_any", "decode_any"):
        put(target, str(len(text)), b"\1\1\1" + text.encode())
put("chat_any", "loop", BODIES["/chat/render"]["chat_template"].encode())
print({folder.name: len(list(folder.iterdir())) for folder in sorted(corpus.iterdir())})
