"""Trains the peers as `compare train` asks it to: the same documents, one engine a process.

usage: train_peers.py ENGINE DOCUMENTS VOCAB_SIZE PATTERN     prints a line of JSON

DOCUMENTS: little-endian u32 lengths before each text. Reading them and the start of the engine's library are outside the
clock; so is asking for the merges afterwards. RAYON_NUM_THREADS says how many threads there are.
"""

import gc
import hashlib
import importlib.metadata
import json
import resource
import struct
import sys
import time


def documents(path):
    with open(path, "rb") as file:
        data = file.read()
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def tokenizers(texts, vocab_size, pattern):
    """Hugging Face's BpeTrainer through its own package, byte level with the pattern as a Split."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False, special_tokens=[], initial_alphabet=alphabet
    )

    def train():
        tokenizer.train_from_iterator(texts, trainer)

    def merged():
        bytes_of = letter_bytes()
        for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
            yield bytes(bytes_of[letter] for letter in left + right)

    return train, merged


def letter_bytes():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    letters.update({chr(256 + at): byte for at, byte in enumerate(others)})
    return letters


def rustbpe(texts, vocab_size, pattern):
    import rustbpe as module

    tokenizer = module.Tokenizer()

    def train():
        tokenizer.train_from_iterator(texts, vocab_size=vocab_size, pattern=pattern)

    def merged():
        ranks = sorted(tokenizer.get_mergeable_ranks(), key=lambda pair: pair[1])
        return (bytes(token) for token, _ in ranks[256:])

    return train, merged


def ffbpe(texts, vocab_size, pattern):
    """Raw byte ids and the smallest pair first, as rustbpe; batches of 4096 records, as its own `train_bpe`."""
    import ffbpe as module

    counter = module.PreTokenizer([], pat_str=pattern).word_counter()
    trainer = module.BpeTrainer([], unit="byte", initial_alphabet="raw", tie_break="smallest_pair_id")

    def train():
        for at in range(0, len(texts), 4096):
            counter.add_batch(texts[at : at + 4096])
        trainer.add_word_counter(counter)
        trainer.train(vocab_size)

    def merged():
        tokens = sorted(trainer.vocab.items(), key=lambda pair: pair[1])
        return (token if isinstance(token, bytes) else token.encode() for token, _ in tokens[256:])

    return train, merged


ENGINES = {"tokenizers": tokenizers, "rustbpe": rustbpe, "ffbpe": ffbpe}


def status_kb(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def main():
    engine, path, vocab_size, pattern = sys.argv[1:]
    texts = documents(path)
    train, merged = ENGINES[engine](texts, int(vocab_size), pattern)
    gc.disable()
    before = status_kb("VmRSS:")
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, count = hashlib.sha256(), 0
    for token in merged():
        digest.update(struct.pack("<I", len(token)) + token)
        count += 1
    answer = {
        "version": importlib.metadata.version(engine),
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_rss_mb": max(0, peak - before) * 1024 / 1e6,
        "merges": count,
        "digest": digest.hexdigest(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
