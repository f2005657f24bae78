"""Measures the peers that have no crate as `compare` asks it to: in Python what the crate `measure` does in Rust.

usage: peers.py TASK     as `compare` starts it; prints a line of JSON
"""

import gc
import hashlib
import importlib
import json
import struct
import sys
import time

FIRST = "Hello, 世界! 1234 times; it's the first text."
STRIDE = 32
BATCH_DOCUMENTS = 64


class Gigatoken:
    """By the calls of its own interface, which its documentation calls the fastest; a numpy array of ids for each text.
    Bytes go in, as Python would first have to turn a `str` into them."""

    module = "gigatoken"

    def __init__(self, module, file):
        load = {"tiktoken": module.Tokenizer.from_tiktoken, "model": module.Tokenizer.from_sentencepiece}
        self.tokenizer = load.get(file.rpartition(".")[2], module.Tokenizer)(file)
        self.encode = self.tokenizer.encode
        self.decode = self.tokenizer.decode

    def encode_batch(self, texts, threads):
        return self.tokenizer.encode_batch(texts, parallel=threads > 1)


class Sentencepiece:
    """By its `encode`, which gives a list of ids."""

    module = "sentencepiece"

    def __init__(self, module, file):
        self.processor = module.SentencePieceProcessor(model_file=file)

    def encode(self, text):
        return self.processor.encode(text)

    def decode(self, ids):
        return self.processor.decode(ids)

    def encode_batch(self, texts, threads):
        return self.processor.encode(texts, num_threads=threads)


ENGINES = {"gigatoken": Gigatoken, "sentencepiece": Sentencepiece}


class Clock:
    """Time spent inside an engine; what is done with its answers is not counted."""

    def __init__(self):
        self.cpu = self.wall = 0

    def time(self, items, work):
        done = [None] * len(items)
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for at, item in enumerate(items):
            done[at] = work(item)
        self.cpu += time.process_time_ns() - cpu
        self.wall += time.perf_counter_ns() - wall
        return done


class Answers:
    """The digests of answers: ids or bytes, and how many ids."""

    def __init__(self):
        self.answers, self.counts = hashlib.sha256(), hashlib.sha256()

    def ids(self, ids):
        packed = ids.tobytes() if hasattr(ids, "tobytes") else struct.pack(f"<{len(ids)}I", *ids)
        self.counts.update(struct.pack("<Q", len(packed) // 4))
        self.bytes(packed)

    def bytes(self, data):
        self.answers.update(struct.pack("<Q", len(data)))
        self.answers.update(data)


def read_documents(path):
    """The texts that warm and those that are measured, as the crate `measure` describes the file."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def number():
        nonlocal at
        at += 4
        return struct.unpack_from("<I", data, at - 4)[0]

    def texts():
        nonlocal at
        found = []
        for _ in range(number()):
            length = number()
            found.append(data[at : at + length])
            at += length
        return found

    return texts(), texts()


def resident_mb():
    with open("/proc/self/status") as status:
        kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return kb * 1024 / 1e6


def measure(task):
    mode, threads = task["mode"], task["threads"]
    warm, measured = read_documents(task["documents"])
    bytes_measured = sum(map(len, measured))
    first = FIRST.encode()
    if task["engine"] == "sentencepiece":
        # It takes either, and is quicker with what Python has as text.
        warm, measured, first = [t.decode() for t in warm], [t.decode() for t in measured], FIRST

    engine_class = ENGINES[task["engine"]]
    # Loading a module is like starting a program: no engine's start is timed.
    module = importlib.import_module(engine_class.module)
    gc.disable()
    rss_before = resident_mb()
    started = time.perf_counter()
    engine = engine_class(module, task["file"])
    answer = engine.encode(first)
    load_ms = (time.perf_counter() - started) * 1e3

    def batches(texts):
        return [texts[at : at + BATCH_DOCUMENTS] for at in range(0, len(texts), BATCH_DOCUMENTS)]

    def encode_batch(texts):
        return engine.encode_batch(texts, threads)

    if mode == "batch":
        for batch in batches(warm):
            encode_batch(batch)
    elif mode == "decode":
        for text in warm:
            engine.decode(engine.encode(text))
    else:
        for text in warm:
            engine.encode(text)
    rss_mb = resident_mb() - rss_before

    clock, answers = Clock(), Answers()
    strides = [measured[at : at + STRIDE] for at in range(0, len(measured), STRIDE)]
    if mode in ("docs", "big"):
        for stride in strides:
            for ids in clock.time(stride, engine.encode):
                answers.ids(ids)
    elif mode == "decode":
        for stride in strides:
            for data in clock.time([engine.encode(text) for text in stride], engine.decode):
                answers.bytes(data.encode() if isinstance(data, str) else data)
    elif mode == "batch":
        for batch in batches(measured):
            for encoded in clock.time([batch], encode_batch):
                for ids in encoded:
                    answers.ids(ids.to_numpy() if hasattr(ids, "to_numpy") else ids)
    elif mode == "load":
        answers.ids(answer)
    else:
        sys.exit(f"peers.py: {task['engine']} has no call for {mode}")

    ns = clock.wall if mode == "batch" else clock.cpu
    share = clock.cpu / clock.wall if clock.wall else 0.0
    return {
        "mb_per_s": bytes_measured / 1e6 / (ns / 1e9) if ns else 0.0,
        "ms": ns / 1e6,
        "core_share": share,
        "load_ms": load_ms,
        "rss_mb": rss_mb,
        "limit_us": None,
        "answers": answers.answers.hexdigest(),
        "counts": answers.counts.hexdigest(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
