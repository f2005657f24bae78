"""What vocabd writes, read by the libraries that its files are for: they have to give the ids that vocabd gives.

1. Vocabularies trained here are exported as hf, tiktoken and gpt2, loaded with tokenizers, transformers and tiktoken, and
   compared with a running server on lines of every corpus and on the texts of the goldens, names of special tokens
   parsed and as text.
2. Published vocabularies are imported, exported as hf, and loaded with tokenizers: ids, offsets and decoded texts of the
   goldens' texts have to be those of the original file (tokenizers) or of the goldens (other formats). Chat templates
   have to render as from the original folder.
3. SentencePiece's .model files are compared with sentencepiece itself, as soon as the server imports them.

Prints a table; ends with 1 where anything differs.
"""

import argparse
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

import sentencepiece
import tiktoken
import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.implementations import ByteLevelBPETokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

import data
from server import Refused, Server, binary

CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
CORPUS = ["zh", "en", "code"]
# Name, tokens, and what `vocabd train` is told.
TRAINED = [
    ("cl100k", 32000, ["--split", "cl100k"]),
    ("o200k-special", 32000, ["--split", "o200k", *(arg for name in CHAT for arg in ("--special-token", name))]),
    ("nfc-digits", 32000, ["--split", "cl100k", "--normalizer", "nfc", "--digits", "single", "--special-token", CHAT[0]]),
    ("tie-bytes", 32000, ["--split", "qwen2", "--tie-break", "bytes", "--special-token", CHAT[0]]),
    ("gpt2", 8000, ["--split", "gpt2", "--special-token", CHAT[0]]),
    ("llama3-lines", 8000, ["--split", "llama3", "--records", "lines", "--special-token", CHAT[1]]),
    ("deepseek", 8000, ["--split", "deepseek", "--special-token", CHAT[0]]),
    ("regex", 8000, ["--split", r"\p{L}+|\p{N}{1,2}|[^\s\p{L}\p{N}]+", "--special-token", CHAT[0]]),
]
NAMES = [f"{a}{b}" for a in ("x", "", "\n") for b in (CHAT[0], f"{CHAT[1]}user\n{CHAT[2]}", "<tool_call>", "<|endoftext|", "<|im_start|><|im_end|>")]


class Table:
    def __init__(self):
        self.rows, self.bad = [], 0

    def add(self, vocabulary, format, library, texts, differences, note=""):
        self.rows.append((vocabulary, format, library, texts, differences, note))
        self.bad += differences if isinstance(differences, int) else 1
        print("{:16} {:9} {:44} {:>7} {:>11} {}".format(*self.rows[-1]), flush=True)

    def compare(self, vocabulary, format, library, texts, theirs, ours):
        """Both give a list, a member a text."""
        assert len(theirs) == len(ours) == len(texts)
        different = [n for n, (a, b) in enumerate(zip(theirs, ours)) if a != b]
        self.add(vocabulary, format, library, len(texts), len(different))
        for n in different[:2]:
            print(f"    {texts[n]!r:.300}\n    library {theirs[n]!r:.600}\n    vocabd  {ours[n]!r:.600}", flush=True)


def listed(ids):
    return [list(one) for one in ids]


# What the libraries make of the exported files: each gives a function of texts, and of whether names are parsed.


def of_tokenizers(load):
    def encode(texts, parse):
        tokenizer = load()
        tokenizer.encode_special_tokens = not parse
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return encode


def of_transformers(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return lambda texts, parse: listed(tokenizer(texts, add_special_tokens=False, split_special_tokens=not parse).input_ids)


def of_tiktoken(module):
    spec = importlib.util.spec_from_file_location("exported", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    encode = getattr(loaded, "encode", loaded.encoding.encode)

    def all_texts(texts, parse):
        allowed = {"allowed_special": "all"} if parse else {"disallowed_special": ()}
        return [encode(text, **allowed) for text in texts]

    return all_texts


def of_gpt2(folder, whole):
    """GPT-2's files say neither split, normalizer nor special tokens: those of the hf export, and of the sidecar."""

    def load():
        tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        hf = Tokenizer.from_file(str(whole / "tokenizer.json"))
        tokenizer.pre_tokenizer, tokenizer.normalizer = hf.pre_tokenizer, hf.normalizer
        special = tomllib.loads((folder / "tokenizer.toml").read_text()).get("special", {})
        names = sorted(special, key=special.get)
        tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
        return tokenizer

    return of_tokenizers(load)


def of_gpt2_itself(folder):
    """The library's own loader of GPT-2's files, which has GPT-2's split."""

    def load():
        tokenizer = ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        tokenizer.add_special_tokens([AddedToken(CHAT[0], normalized=False)])
        return tokenizer._tokenizer

    return of_tokenizers(load)


def export(server, vocab, format, work):
    """A folder with the files of a format, or why there is none."""
    folder = work / f"{vocab}.{format}"
    folder.mkdir()
    server.command("export", vocab, "--format", format, "-o", folder)
    return folder


def train(server, args, work):
    """Trains with the command line, on the first bytes of each corpus, cut back to a line feed."""
    files = []
    for corpus in CORPUS:
        content = data.shared(f"corpora/{corpus}.txt")[: args.megabytes << 20]
        files.append(work / f"{corpus}.txt")
        files[-1].write_bytes(content[: content.rfind(b"\n") + 1])
    for name, size, options in TRAINED:
        size = min(size, args.vocab_size)
        print(server.command("train", name, *files, "--vocab-size", size, *options).strip(), flush=True)


def check_trained(server, args, table, work):
    texts = [line for corpus in data.CORPORA for line in data.lines(corpus, args.lines)] + data.tricky() + NAMES
    for vocab in [name for name, _, _ in TRAINED] + ["default"]:
        ours = {parse: server.encode_all(vocab, texts, "parse" if parse else "text") for parse in (True, False)}
        whole = export(server, vocab, "hf", work)
        libraries = [
            ("hf", "tokenizers", of_tokenizers(lambda: Tokenizer.from_file(str(whole / "tokenizer.json")))),
            ("hf", "transformers", of_transformers(whole)),
        ]
        folder = export(server, vocab, "tiktoken", work)
        if (folder / "tokenizer.py").exists():
            libraries.append(("tiktoken", "tiktoken", of_tiktoken(folder / "tokenizer.py")))
        else:
            print(f"{vocab}: no module for tiktoken, which has one split pattern and not several")
        folder = export(server, vocab, "gpt2", work)
        libraries.append(("gpt2", "tokenizers BPE.from_file", of_gpt2(folder, whole)))
        if vocab == "gpt2":
            libraries.append(("gpt2", "tokenizers ByteLevelBPETokenizer", of_gpt2_itself(folder)))
        for format, library, encode in libraries:
            for parse in (True, False):
                what = f"{library}, names {'parsed' if parse else 'as text'}"
                table.compare(vocab, format, what, texts, encode(texts, parse), ours[parse])


def behaviour(tokenizer, text):
    """All that is compared of a text between two files."""
    seen = []
    for as_text in (False, True):
        tokenizer.encode_special_tokens = as_text
        for add in (False, True):
            encoding = tokenizer.encode(text, add_special_tokens=add)
            seen.append((encoding.ids, encoding.offsets))
            if not as_text:
                seen += [tokenizer.decode(encoding.ids, skip_special_tokens=skip) for skip in (False, True)]
    return seen


def import_published(server, name, files, work):
    """Imports a vocabulary from a folder where the command line takes one, else its main file. Whether all went in."""
    folder = work / name
    folder.mkdir()
    for file, content in files:
        usual = next((end for end in ("tokenizer.json", "tokenizer_config.json") if file.endswith(end)), file)
        (folder / usual).write_bytes(content)
    if len(files) > 1:
        try:
            server.command("import", name, folder)
            server.ask("POST", "/reload")
            return folder, True
        except Refused:
            pass
    server.add(name, files[0][1])
    return folder, len(files) == 1


def check_published(server, table, work):
    chats = {}
    for case in data.golden("chat"):
        chats.setdefault(case["vocab"], []).append(case)
    for name, names, passed_on in data.PUBLISHED:
        files = [(file, data.vocabulary(file, passed_on)) for file in names]
        if any(content is None for _, content in files):
            table.add(name, "-", "not here (fetch.sh)", 0, 0)
            continue
        if names[0].endswith("mistral-v1.tokenizer.model") or names[0].endswith("mistral-v3.tokenizer.model"):
            check_sentencepiece(server, table, work, name, files[0][1])
            continue
        folder, complete = import_published(server, name, files, work)
        cases = data.golden(name)
        texts = [case["text"] for case in cases]
        whole = export(server, name, "hf", work)
        exported = Tokenizer.from_file(str(whole / "tokenizer.json"))
        if names[0].endswith("tokenizer.json"):
            original = Tokenizer.from_file(str(folder / "tokenizer.json"))
            theirs = [behaviour(original, text) for text in texts]
            table.compare(name, "hf", "tokenizers: file of vocabd, original file", texts, [behaviour(exported, t) for t in texts], theirs)
            sequences = [case["ids"] for case in data.golden(f"{name}.decode")]
            table.compare(name, "hf", "tokenizers: the same, decoding", sequences, exported.decode_batch(sequences, skip_special_tokens=False), original.decode_batch(sequences, skip_special_tokens=False))
        else:
            exported.encode_special_tokens = True
            table.compare(name, "hf", "tokenizers: file of vocabd, golden ids", texts, [exported.encode(t, add_special_tokens=False).ids for t in texts], [case["ids"] for case in cases])
        if name in chats and complete:
            check_chat(table, name, folder, whole, chats[name])
        elif name in chats:
            table.add(name, "hf", "chat template: a folder is not imported yet", 0, 0)


def check_chat(table, name, folder, whole, cases):
    original, exported = (PreTrainedTokenizerFast.from_pretrained(at) for at in (folder, whole))
    render = lambda tokenizer, case: tokenizer.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=case["add_generation_prompt"])
    asked = [case["messages"] for case in cases]
    table.compare(name, "hf", "transformers: chat template", asked, [render(exported, case) for case in cases], [case["rendered"] for case in cases])
    table.compare(name, "hf", "transformers: the same, original folder", asked, [render(exported, case) for case in cases], [render(original, case) for case in cases])


def check_sentencepiece(server, table, work, name, content):
    """A .model file: imported, and compared with the library that it is for; exported, and loaded there."""
    try:
        server.add(name, content)
    except Refused as error:
        table.add(name, "spm", "not imported yet", 0, 0, error.detail[:60])
        return
    original = sentencepiece.SentencePieceProcessor(model_proto=content)
    texts = [text for text in data.tricky() if "\0" not in text] + [line for corpus in data.CORPORA for line in data.lines(corpus, 200)]
    ours = server.encode_all(name, texts)
    theirs = [original.encode(text) for text in texts]
    table.compare(name, "spm", "sentencepiece: ids", texts, theirs, ours)
    spans = [[(piece.begin, piece.end) for piece in original.encode(text, out_type="proto").pieces] for text in texts]
    table.compare(name, "spm", "sentencepiece: offsets", texts, spans, [server.encode(name, text, unit="byte")[1] for text in texts])
    table.compare(name, "spm", "sentencepiece: decoding", theirs, [original.decode(ids) for ids in theirs], [text for part in batches_of(theirs) for text in server.decode_all(name, part)])
    try:
        folder = export(server, name, "sentencepiece", work)
    except Refused:
        return
    exported = sentencepiece.SentencePieceProcessor(model_file=str(next(folder.glob("*.model"))))
    table.compare(name, "spm", "sentencepiece: file of vocabd", texts, [exported.encode(text) for text in texts], theirs)


def batches_of(sequences, size=500):
    return [sequences[at : at + size] for at in range(0, len(sequences), size)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabd", help="the binary; without it the release build is made")
    parser.add_argument("--lines", type=int, default=5000, help="lines of each corpus")
    parser.add_argument("--megabytes", type=int, default=14, help="of each corpus, to train on")
    parser.add_argument("--vocab-size", type=int, default=32000, help="at most")
    parser.add_argument("--only", choices=["trained", "published"])
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    table, begin = Table(), time.time()
    work = pathlib.Path(tempfile.mkdtemp(prefix="vocabd-export-"))
    try:
        with Server(binary(args.vocabd)) as server:
            if args.only != "published":
                train(server, args, work)
                server.ask("POST", "/reload")
                check_trained(server, args, table, work)
            if args.only != "trained":
                check_published(server, table, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    versions = f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}, tiktoken {tiktoken.__version__}, sentencepiece {sentencepiece.__version__}"
    print(f"{versions}: {len(table.rows)} comparisons of {sum(row[3] for row in table.rows)} texts, {table.bad} differences, {time.time() - begin:.0f} s")
    sys.exit(1 if table.bad else 0)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
