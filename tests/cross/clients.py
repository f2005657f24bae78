#!/usr/bin/env python3
"""Clients of other servers, as people install them, against a vocabd server: openai, anthropic, cohere, google-genai, litellm, and plain
HTTP with MessagePack and zstd from libraries that are not ours.

    tests/cross/clients.py [--vocabd BINARY]

Needs the packages of clients.txt (tests/cross/venv.sh DIR clients.txt). What litellm counts by itself, offline, is what its
route here must give.
"""

import argparse
import json
import os
import pathlib
import struct
import sys

# Nothing is asked of other hosts.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic
import cohere
import httpx
import litellm
import msgpack
import openai
import zstandard
from google import genai

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from server import Server, binary  # noqa: E402

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
TEXT = "Grüße, 世界! don't stop 12345 😀\n\tfn main() {}"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a place",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "City"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["place"],
            },
        },
    }
]
CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT, "name": "Ann"}],
    [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}],
    [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"place": "Rome"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ],
]

checks = 0


def same(got, expect, what):
    global checks
    checks += 1
    if got != expect:
        raise SystemExit(f"{what}: {got!r} instead of {expect!r}")


def raises(kind, status, call, what):
    global checks
    checks += 1
    try:
        call()
    except kind as error:
        same(error.status_code, status, what)
        return error
    raise SystemExit(f"{what}: no {kind.__name__}")


def with_openai(base, ids):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    models = {model.id for model in client.models.list()}
    same({"cl100k", "default", "gpt-4"} <= models, True, "openai models")
    same(client.models.retrieve("gpt-4").object, "model", "openai model")
    count = client.responses.input_tokens.count(model="gpt-4", input="Hello")
    same((count.object, count.input_tokens), ("response.input_tokens", 8), "openai count")
    count = client.responses.input_tokens.count(
        model="gpt-4", instructions="Be brief.", input=[{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]
    )
    same(count.input_tokens > len(ids), True, "openai parts")
    error = raises(openai.NotFoundError, 404, lambda: client.responses.input_tokens.count(model="x/y", input="a"), "openai 404")
    same(error.code, "model_not_found", "openai code")
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}]}]
    raises(openai.BadRequestError, 400, lambda: client.responses.input_tokens.count(model="gpt-4", input=image), "openai image")


def with_anthropic(base, ids):
    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
    ask = lambda **more: client.messages.count_tokens(model="claude-opus", **more).input_tokens
    same(ask(messages=[{"role": "user", "content": "Hello"}]), 8, "anthropic count")
    tools = [{"name": "t", "description": "d", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}]
    more = ask(system="Be brief.", tools=tools, messages=[{"role": "user", "content": [{"type": "text", "text": TEXT}]}])
    same(more > len(ids), True, "anthropic blocks")
    image = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]
    raises(anthropic.BadRequestError, 400, lambda: ask(messages=image), "anthropic image")
    error = raises(
        anthropic.NotFoundError,
        404,
        lambda: client.messages.count_tokens(model="nobody", messages=[{"role": "user", "content": "a"}]),
        "anthropic 404",
    )
    same(error.body["error"]["type"], "not_found_error", "anthropic type")


def with_cohere(base, ids):
    client = cohere.Client(api_key="none", base_url=base)
    reply = client.tokenize(text=TEXT, model="command-r", offline=False)
    same((reply.tokens, len(reply.token_strings)), (ids, len(ids)), "cohere tokenize")
    same(reply.meta.api_version.version, "1", "cohere meta")
    same(client.detokenize(tokens=ids, model="command-r", offline=False).text, TEXT, "cohere detokenize")
    raises(cohere.BadRequestError, 400, lambda: client.tokenize(text="", model="command-r", offline=False), "cohere empty")
    raises(cohere.NotFoundError, 404, lambda: client.tokenize(text="a", model="nobody", offline=False), "cohere 404")


def with_google(base, ids):
    client = genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=base))
    count = lambda model, contents, **config: client.models.count_tokens(model=model, contents=contents, config=config or None)
    same(count("gemini-pro", "Hello").total_tokens, 8, "google count")
    several = [genai.types.Content(role=role, parts=[genai.types.Part(text=TEXT)]) for role in ["user", "model"]]
    same(count("gemini-pro", several).total_tokens > 2 * len(ids), True, "google contents")
    checks_of = lambda call, code, status, what: same((lambda e: (e.code, e.status))(refusal(call)), (code, status), what)

    def refusal(call):
        try:
            call()
        except genai.errors.APIError as error:
            return error
        raise SystemExit("google: no error")

    checks_of(lambda: count("nobody", "a"), 404, "NOT_FOUND", "google 404")
    image = genai.types.Part(inline_data=genai.types.Blob(mime_type="image/png", data=b"AAAA"))
    checks_of(lambda: count("gemini-pro", [genai.types.Content(parts=[image])]), 400, "INVALID_ARGUMENT", "google image")


def with_litellm(base):
    ask = lambda **body: httpx.post(f"{base}/utils/token_counter", json={"model": "gpt-4", **body}).raise_for_status().json()
    for text in ["Hello", TEXT, ""]:
        same(ask(prompt=text)["total_tokens"], litellm.token_counter(model="gpt-4", text=text), "litellm text")
    for messages in CONVERSATIONS:
        for tools in [None, TOOLS]:
            body = {"messages": messages} | ({"tools": tools} if tools else {})
            expect = litellm.token_counter(model="gpt-4", messages=messages, tools=tools)
            same(ask(**body)["total_tokens"], expect, f"litellm {messages} {bool(tools)}")


def with_bare_http(base, ids):
    client = httpx.Client(base_url=base)
    body = {"text": TEXT, "vocab": "cl100k"}
    answer = client.post("/encode", content=msgpack.packb(body), headers={"content-type": "application/msgpack", "accept": "application/msgpack"})
    same(msgpack.unpackb(answer.content)["ids"], ids, "MessagePack")
    small = zstandard.ZstdCompressor().compress(json.dumps(body).encode())
    answer = client.post("/encode", content=small, headers={"content-encoding": "zstd", "accept": "application/octet-stream"})
    same(list(struct.unpack(f"<{len(ids)}I", answer.content)), ids, "zstd in, packed out")
    for accept in ["gzip", "zstd"]:
        answer = client.post("/encode", json={"text": TEXT * 2000, "vocab": "cl100k"}, headers={"accept-encoding": accept})
        same((answer.headers["content-encoding"], answer.json()["truncated"]), (accept, False), f"{accept} out")
    lines = "".join(json.dumps({"id": n, "text": TEXT}) + "\n" for n in range(1000))
    answer = client.post("/encode/stream?vocab=cl100k", content=lines, headers={"content-type": "application/x-ndjson"})
    replies = [json.loads(line) for line in answer.text.splitlines()]
    same([reply["id"] for reply in replies], list(range(1000)), "stream order")
    same(all(reply["ids"] == ids for reply in replies), True, "stream ids")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabd")
    args = parser.parse_args()
    packed = (DATA / "vocabs/cl100k_base.tiktoken.zst").read_bytes()
    vocabulary = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    models = "gpt-4=cl100k,claude-*=cl100k,command-r=cl100k,gemini-*=cl100k"
    with Server(binary(args.vocabd), models=models) as server:
        server.add("cl100k", vocabulary, format="tiktoken", split="cl100k")
        base = f"http://127.0.0.1:{server.port}"
        ids = server.encode_all("cl100k", [TEXT])[0]
        with_openai(base, ids)
        with_anthropic(base, ids)
        with_cohere(base, ids)
        with_google(base, ids)
        with_litellm(base)
        with_bare_http(base, ids)
    print(f"clients: {checks} checks")


if __name__ == "__main__":
    main()
