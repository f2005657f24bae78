"""Random tokenizer.json files and random texts: Hugging Face's tokenizers and vocabd have to agree on all of them.

Each case is made from its number alone, so that `--first N --count 1 --keep DIR` shows one again. A reference that
hangs or eats all memory ends a worker process and not the run. What is compared: ids
and character offsets, with and without the tokens of the post-processor; ids where the names of special tokens are text;
and the text of random sequences of ids, with and without special tokens. Where the reference refuses a file, or ends in
a panic, there is nothing to compare: both are counted, by their message. So is what vocabd refuses, which must be
among `KNOWN` (what it says it does not support).
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

import tokenizers
from tokenizers import Tokenizer, models, trainers

from server import Refused, Server, binary

# A worker does so many cases; a case may take so many seconds; and a worker may have so much memory.
PER_WORKER = 100
SECONDS = 60
MEMORY = 4 << 30

# What vocabd is documented not to take. Anything else that it refuses is a difference.
KNOWN = [
    r"ByteLevel stands twice in a sequence",
    r"Metaspace stands behind ByteLevel",
    r"byte_fallback: is not supported where ByteLevel lacks some of the 256 bytes",
    r"has the content of another added token",
    r"nothing is left of the name of token \d+ when it is normalized",
    r"stands behind another one that adds tokens",
    r"trims offsets behind one that adds tokens",
]

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2028", "\x85", "\x0b", "\u200b", "\x1c", "\u1680"]
DIGITS = ["0", "7", "42", "2024", "1234567", "½", "Ⅷ", "٣٤", "۵", "１２", "²", "৪", "㉑", "𝟘"]
MARKS = ["'s", "'LL", "!", "?!", "...", "_", "__", "-", "--", "“", "”", "—", "。", "、", "¿", "$", "€", "+", "=", "<", ">", "|", "(", ")", "/", "\\", "'", '"', "·", "〜", "﹏", "٪"]
WORDS = ["the", "The", "THE", "hello", "world", "don't", "it's", "a", "I", "tok", "token", "tokens", "cat", "Cats", "naïve", "Straße", "ẞ", "façade", "ǅ", "İstanbul", "ΟΔΟΣ", "σς", "Привет", "мир", "中文", "你好世界", "日本語", "テスト", "ﾃｽﾄ", "한국어", "각", "가나다", "ไทย", "ภาษา", "مرحبا", "שלום", "हिन्दी", "தமிழ்"]
ODD = ["e\u0301", "é", "a\u0323\u0307", "a\u0307\u0323", "\u0301", "\u0300\u0316", "\u1100\u1161\u11a8", "\u1100\u1161", "\u11a8", "ﬁ", "ﬀ", "Å", "\u212b", "K", "①", "㍿", "\ufb2c", "\u0958", "\u2126", "\uf900", "\U0002f800", "\u0344", "\u0f73", "😀", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "❤\ufe0f", "\ufeff", "\u00ad", "\ufffd", "\x00", "\x01", "\x7f", "\x80", "\uffff", "\U0010ffff", "\ue000", "▁", "▁▁", "Ġ", "ĊĠ", "Ã©", "<0x41>", "<0xE4>", "\u1e4d0", "\U0001fae8", "\U0001e4d0", "ⓐ", "℀", "ʼn", "ŉ", "ǰ", "\u1fb3", "ᾳ", "\u0345", "\u03b1\u0345", "ก\u0e33", "\u3099", "か\u3099", "ー", "ｰ"]
POOLS = [SPACES, DIGITS, MARKS, WORDS, WORDS, ODD]

REGEXES = [
    r"\s+", r"\s", r"\w+", r"\S+", r"\d", r"\d+", r"\p{L}+", r"\p{N}{1,3}", r"\p{N}", r" ?\w+", r"[a-z]+", r"[^\s]+|\s+", r"(?i:'s|'ll)", r"[\r\n]+",
    r"\s+(?!\S)|\s+", r"\p{P}", r"[\p{L}\p{M}]+", r"\p{Lu}?\p{Ll}+", r"(?=[A-Z])", r"\b", r"^\s*", r"\s*$", r"a|b|the", r"tok(?=en)", r"(?<=t)o", r"[^a-zA-Z]",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[一-龥぀-ゟ゠-ヿ]+", r"\p{Han}+", r"\h+", r".", r".+", r"x*", r"[!-/:-@]+", r"(?:ab|c){2,}", r"[^\p{L}]*", r"\A\w", r"\w\z", r"[[a-z]&&[^aeiou]]+", r"\p{^L}+", r"\P{L}+",
]  # fmt: skip
LITERALS = [" ", "a", "the", "▁", "e", "-", "  ", "中", "\n", "é", "1", "'", "Ġ", "to"]
CONTENTS = ["", " ", "▁", "x", "  ", "é", "<sp>", "中文", "\n", "ab"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def text(rng, names):
    """A text of hard things, among them the names of added tokens whole, in parts, in other cases and glued."""
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 21])):
        kind = rng.random()
        if names and kind < 0.18:
            name = rng.choice(names)
            parts.append(rng.choice([name, name, name, name.upper(), name[: rng.randint(0, len(name))], f" {name} ", name + name]))
        elif kind < 0.45:
            parts.append(" " + rng.choice(WORDS))
        else:
            parts.append(rng.choice(rng.choice(POOLS)))
    return "".join(parts)


def pattern(rng, regexes=None):
    return {"Regex": rng.choice(regexes or REGEXES)} if rng.random() < 0.6 else {"String": rng.choice(LITERALS)}


def sequence(rng, kind, members, make, most=3):
    """None, one, or several steps in sequence, now and then with an empty or a nested one."""
    steps = [make(rng) for _ in range(rng.choice([0, 1, 1, 2, most]))]
    if not steps:
        return None if rng.random() < 0.8 else {"type": "Sequence", members: []}
    if len(steps) == 1 and rng.random() < 0.7:
        return steps[0]
    if len(steps) > 1 and rng.random() < 0.15:
        steps = [steps[0], {"type": "Sequence", members: steps[1:]}]
    return {"type": "Sequence", members: steps}


def normalizer(rng):
    kind = rng.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "Prepend", "Replace", "Replace"])
    step = {"type": kind}
    if kind == "Replace":
        # Not at places without characters: at the beginning those lead the reference to panic in what comes next.
        step |= {"pattern": pattern(rng, [r for r in REGEXES if not re.fullmatch(r".*[*]\$?|\\b|\(\?=.*|\^.*", r)]), "content": rng.choice(CONTENTS)}
    elif kind == "Strip":
        step |= {"strip_left": rng.random() < 0.5, "strip_right": rng.random() < 0.5}
    elif kind == "Prepend":
        step |= {"prepend": rng.choice(["▁", " ", "x", "▁▁", "é"])}
    return step


def metaspace(rng):
    return {"type": "Metaspace", "replacement": rng.choice("▁▁_"), "prepend_scheme": rng.choice(["first", "never", "always"]), "split": rng.random() < 0.6}


def pre_tokenizer_step(rng):
    kind = rng.choice(["Split", "Split", "Digits", "Metaspace", "Whitespace", "WhitespaceSplit", "Punctuation"])
    step = {"type": kind}
    if kind == "Split":
        step |= {"pattern": pattern(rng), "behavior": rng.choice(BEHAVIORS), "invert": rng.random() < 0.25}
    elif kind == "Digits":
        step |= {"individual_digits": rng.random() < 0.5}
    elif kind == "Punctuation":
        step |= {"behavior": rng.choice(BEHAVIORS)}
    elif kind == "Metaspace":
        step = metaspace(rng)
    return step


def pre_tokenizer(rng, byte_level):
    steps = [pre_tokenizer_step(rng) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]
    if byte_level:
        at = len(steps) if rng.random() < 0.75 else rng.randint(0, len(steps))
        if any(step["type"] == "Metaspace" for step in steps[at:]) and rng.random() < 0.9:
            at = len(steps)
        steps.insert(at, {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.4, "trim_offsets": rng.random() < 0.5, "use_regex": rng.random() < 0.5})
    given = iter(steps)
    if len(steps) == 1 and rng.random() < 0.7:
        return steps[0]
    return {"type": "Sequence", "pretokenizers": list(given)} if steps else None


def decoder_step(rng):
    kind = rng.choice(["ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace"])
    step = {"type": kind}
    if kind == "ByteLevel":
        step |= {"add_prefix_space": rng.random() < 0.5, "trim_offsets": rng.random() < 0.5, "use_regex": rng.random() < 0.5}
    elif kind == "Strip":
        step |= {"content": rng.choice(" ▁a"), "start": rng.choice([0, 1, 2]), "stop": rng.choice([0, 0, 1])}
    elif kind == "Replace":
        step |= {"pattern": pattern(rng), "content": rng.choice(CONTENTS)}
    elif kind == "Metaspace":
        step = metaspace(rng)
    return step


def decoder(rng, byte_level):
    usual = rng.random()
    if usual < 0.4:
        if byte_level:
            return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
        if rng.random() < 0.5:
            steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        return {"type": "Sequence", "decoders": steps}
    return sequence(rng, "decoder", "decoders", decoder_step, 4)


def byte_level_processor(rng):
    return {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": rng.random() < 0.7, "use_regex": True}


def template(rng, ids):
    """Random special tokens around the text; some of a token of several ids."""
    names = rng.sample(sorted(ids), min(len(ids), 3))
    around = lambda kind: [{"SpecialToken": {"id": name, "type_id": kind}} for name in names if rng.random() < 0.6]
    before, after = around(0), around(0)
    text = lambda name, kind: [{"Sequence": {"id": name, "type_id": kind}}]
    tokens = {name: {"id": name, "ids": [ids[name]] * rng.choice([1, 1, 2]), "tokens": [name]} for name in names}
    for token in tokens.values():
        token["tokens"] = [token["id"]] * len(token["ids"])
    return {"type": "TemplateProcessing", "single": before + text("A", 0) + after, "pair": text("A", 0) + text("B", 1), "special_tokens": tokens}


def post_processor(rng, ids):
    def step(rng):
        kind = rng.random()
        if kind < 0.4 or not ids:
            return byte_level_processor(rng)
        if kind < 0.75:
            return template(rng, ids)
        pair = lambda: (lambda name: [name, ids[name]])(rng.choice(sorted(ids)))
        if kind < 0.9:
            return {"type": "RobertaProcessing", "sep": pair(), "cls": pair(), "trim_offsets": rng.random() < 0.5, "add_prefix_space": rng.random() < 0.5}
        return {"type": "BertProcessing", "sep": pair(), "cls": pair()}

    return sequence(rng, "processor", "processors", step)


NAMES = ["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|im_start|><|im_end|>", "[MASK]", "tok", "token", "the", "The", " the", "é", "e\u0301", "中文", "  ", " x ", "<S>", "ΟΔΟΣ", "a", "\n", "ﬁ", "▁the", "Ġthe", "Ã©", "<0x41>", "don't", "_", "1", "각", "İ"]  # fmt: skip


def make(number, seed):
    """The file of a case, and names that its texts should hold."""
    rng = random.Random(f"{seed}/{number}")
    byte_level = rng.random() < 0.55
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    file["normalizer"] = sequence(rng, "normalizer", "normalizers", normalizer)
    file["pre_tokenizer"] = pre_tokenizer(rng, byte_level)
    file |= {"post_processor": None, "decoder": None, "model": {"type": "BPE", "vocab": {}, "merges": []}}

    # A small vocabulary, trained as the file would cut texts, so that its merges are met.
    trained = Tokenizer.from_str(json.dumps(file))
    trained.model = models.BPE()
    corpus = [text(rng, NAMES[:1]) for _ in range(rng.choice([5, 40, 150]))]
    full = byte_level and rng.random() < 0.7
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet() if full else []
    specials = ["<unk>"] if rng.random() < 0.6 else []
    trainer = trainers.BpeTrainer(
        vocab_size=rng.choice([60, 300, 600, 1200]), min_frequency=1, show_progress=False, initial_alphabet=alphabet,
        special_tokens=specials,
    )  # fmt: skip
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]
    vocab, merges = model["vocab"], model["merges"]
    if not full:
        # Characters that are no token. (The trainer's own limit keeps others of them each time.)
        gone = {token for token in vocab if len(token) == 1 and rng.random() < rng.choice([0, 0.1, 0.5])}
        kept = [token for token in vocab if token == "<unk>" or not gone & set(token)]
        vocab = {token: id for id, token in enumerate(kept)}
        merges = [merge for merge in merges if "".join(merge) in vocab]
    extra = []
    if rng.random() < 0.3:
        # Tokens that no merge makes.
        extra = [w for w in rng.sample(WORDS + ["Ġthe", "▁the", "Ċ", "th", "<|im_start|>"], 6) if w not in vocab]
    byte_fallback = rng.random() < (0.5 if not byte_level else 0.1)
    if byte_fallback:
        some = range(256) if rng.random() < 0.7 else rng.sample(range(256), 200)
        extra += [f"<0x{byte:02X}>" for byte in some if f"<0x{byte:02X}>" not in vocab and f"<0x{byte:02X}>" not in extra]
    for token in extra:
        vocab[token] = len(vocab)
    if rng.random() < 0.3:
        merges = [merge for merge in merges if rng.random() < 0.9]
    unk = rng.choice([None, "<unk>", "<unk>"]) if "<unk>" in vocab else rng.choice([None, None, None, "<unk>"])
    file["model"] = {
        "type": "BPE", "dropout": None, "unk_token": unk, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": rng.random() < 0.5, "byte_fallback": byte_fallback, "ignore_merges": rng.random() < 0.3,
        "vocab": vocab, "merges": merges,
    }  # fmt: skip

    names, next_id, ids, patterns = [], len(vocab), {}, set()
    for name in rng.sample(NAMES, rng.choice([0, 1, 3, 6, 10])):
        flag = lambda chance: rng.random() < chance
        normalized = flag(0.4)
        if normalized:
            # Of names that are one in the normalized text the reference takes another each time it runs.
            pattern = trained.normalizer.normalize_str(name) if trained.normalizer else name
            if pattern in patterns:
                continue
            patterns.add(pattern)
        if name in vocab:
            at = vocab[name]
        else:
            at, next_id = next_id, next_id + 1
        names.append(name)
        ids[name] = at
        file["added_tokens"].append({
            "id": at, "content": name, "single_word": flag(0.2), "lstrip": flag(0.2), "rstrip": flag(0.2), "normalized": normalized, "special": flag(0.5),
        })  # fmt: skip
    file["post_processor"] = post_processor(rng, ids)
    file["decoder"] = decoder(rng, byte_level)
    return file, names


class Panic(Exception):
    """The reference ended in a panic, or in an error of its own."""


def reference(call):
    """The library tells panics as an exception that is no Exception."""
    try:
        return call()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise Panic(re.sub(r"\d+", "N", str(error))[:90]) from None


class Counts:
    """What came out, by kind; passed from a worker as JSON."""

    KINDS = ["compared", "panics", "refusals", "untrained", "not_loaded", "differences", "ended"]

    def __init__(self):
        for kind in self.KINDS:
            setattr(self, kind, collections.Counter())

    def add(self, others):
        for kind, counts in others.items():
            getattr(self, kind).update(counts)

    def told(self):
        return {kind: dict(getattr(self, kind)) for kind in self.KINDS if getattr(self, kind)}


def tell(**what):
    print(json.dumps(what), flush=True)


def show(counts, args, number, what, text, theirs, ours):
    counts.differences[what] += 1
    tell(shown=f"case {number}: {what} of {text!r}\n  reference {theirs}\n  vocabd    {ours}")


def check(server, number, args, counts):
    """Compares one file. Its number is in the output of every difference."""
    try:
        file, names = reference(lambda: make(number, args.seed))
    except Panic as error:
        counts.untrained[str(error)] += 1
        return
    content = json.dumps(file, ensure_ascii=False).encode()
    if args.keep:
        pathlib.Path(args.keep, f"{number}.json").write_bytes(content)
    try:
        theirs = reference(lambda: Tokenizer.from_str(content.decode()))
    except Panic as error:
        counts.not_loaded[str(error)] += 1
        return
    as_text = Tokenizer.from_str(content.decode())
    as_text.encode_special_tokens = True
    vocab = f"case{number}"
    try:
        added = server.add(vocab, content, format="hf")
    except Refused as error:
        if any(re.search(known, error.detail) for known in KNOWN):
            counts.refusals[re.sub(r"\d+", "N", error.detail)[:120]] += 1
        else:
            show(counts, args, number, "import", "", "loads", error)
        return
    rng, told = random.Random(f"{args.seed}/{number}/texts"), set()

    def same(what, text, theirs, ours):
        try:
            theirs = reference(theirs)
        except Panic as error:
            counts.panics[str(error)] += 1
            return
        try:
            ours = ours()
        except Refused as error:
            ours = error
        counts.compared[what] += 1
        if theirs != ours:
            if what in told:
                counts.differences[what] += 1
            else:
                told.add(what)
                show(counts, args, number, what, text, theirs, ours)

    def encoded(tokenizer, text, add):
        encoding = tokenizer.encode(text, add_special_tokens=add)
        return encoding.ids, encoding.offsets

    for _ in range(args.texts):
        t = text(rng, names)
        for what, tokenizer, special, add in [
            ("plain", theirs, "parse", False),
            ("with those around", theirs, "parse", True),
            ("names as text", as_text, "text", False),
        ]:
            try:
                ids, offsets = reference(lambda: encoded(tokenizer, t, add))
            except Panic as error:
                counts.panics[str(error)] += 1
                continue
            try:
                ours, spans = server.encode(vocab, t, special, add)
            except Refused as error:
                ours, spans = error, []
            same(f"ids, {what}", t, lambda: ids, lambda: ours)
            if ids == ours:
                same(f"offsets, {what}", t, lambda: (ids, offsets), lambda: (ours, spans))
    known = sorted(set(file["model"]["vocab"].values()) | {token["id"] for token in file["added_tokens"]})
    if known:
        sequences = [rng.choices(known, k=rng.choice([0, 1, 2, 5, 12, 30])) for _ in range(args.texts)]
        for skip in (False, True):
            try:
                all_ours = server.decode_all(vocab, sequences, skip)
            except Refused as error:
                show(counts, args, number, "decoding", "", "texts", error)
                break
            for ids, ours in zip(sequences, all_ours):
                what = "text without specials" if skip else "text"
                same(what, ids, lambda: theirs.decode(ids, skip_special_tokens=skip), lambda: ours)
    server.remove(added)


def work(args):
    """The cases of a worker, which the reference may end: by its memory, by a panic in a thread, by never coming back."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # The reference's panics write long traces, which say nothing here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    server = Server(None)
    server.port = args.port
    for number in range(args.first, args.first + args.count):
        signal.alarm(SECONDS)
        counts = Counts()
        tell(begun=number)
        try:
            check(server, number, args, counts)
        except (OSError, http.client.HTTPException) as error:
            # The server has to survive everything.
            show(counts, args, number, "the server", "", "answers", repr(error))
        tell(counts=counts.told())


def run(args, server, first, count, counts):
    """A worker over some cases; the number of the next case, which is not the last one's if a case ended the worker."""
    command = [sys.executable, __file__, "--port", str(server.port), "--first", str(first), "--count", str(count)]
    command += ["--texts", str(args.texts), "--seed", args.seed] + (["--keep", args.keep] if args.keep else [])
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    begun = first
    for line in worker.stdout:
        told = json.loads(line)
        begun = told.get("begun", begun)
        counts.add(told.get("counts", {}))
        if "shown" in told:
            args.show -= 1
            if args.show >= 0:
                print(told["shown"], flush=True)
    status = worker.wait()
    if status == 0:
        return first + count
    if status > 0:
        raise SystemExit(f"the worker failed at case {begun}")
    name = signal.Signals(-status).name
    counts.ended[f"{name}{': not done in time' if name == 'SIGALRM' else ''}"] += 1
    print(f"case {begun}: the reference ended the worker ({name})", flush=True)
    return begun + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabd", help="the binary; without it the release build is made")
    parser.add_argument("--count", type=int, default=500, help="tokenizers")
    parser.add_argument("--texts", type=int, default=30, help="texts, and sequences of ids, of each")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--show", type=int, default=20, help="differences to print")
    parser.add_argument("--keep", help="folder for the files of the cases")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.port:
        return work(args)
    counts, begin = Counts(), time.time()
    with Server(binary(args.vocabd)) as server:
        number, end = args.first, args.first + args.count
        while number < end:
            number = run(args, server, number, min(PER_WORKER, end - number), counts)
    print(f"tokenizers {tokenizers.__version__}, {args.count} tokenizers of {args.texts} texts from {args.first}, seed {args.seed}, {time.time() - begin:.0f} s")
    for what, number in sorted(counts.compared.items()):
        print(f"{what:28} {number:8} compared {counts.differences[what]:6} different")
    for title, counter in [
        ("cases at which the reference ended the process", counts.ended),
        ("vocabularies that the reference does not train", counts.untrained),
        ("files that the reference does not load", counts.not_loaded),
        ("answers that the reference owes (panics and errors)", counts.panics),
        ("files that vocabd is documented to refuse", counts.refusals),
    ]:
        print(f"{title}: {sum(counter.values())}")
        for message, number in counter.most_common(12):
            print(f"  {number:6} {message}")
    others = {what: n for what, n in counts.differences.items() if what not in counts.compared}
    if others:
        print(f"other differences: {others}")
    sys.exit(1 if sum(counts.differences.values()) else 0)


if __name__ == "__main__":
    main()
