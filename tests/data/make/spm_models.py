"""Trains the three small SentencePiece models of ../vocabs and makes their goldens in ../golden.

Run with sentencepiece 0.2.3 and tokenizers 0.23.3 installed, and the zstd command. Trained on corpora/train-dev-tiny.txt;
encoded are the texts of golden/cl100k_base.jsonl (by their number) and texts made up here.

golden/spm-NAME.jsonl, an object a line:
  n or text, times   the text, repeated so many times
  norm               the normalized text, where the text is made up here
  ids, offsets       as SentencePiece gives them; begin and end of each token in bytes of the original text, each as
                     the difference to the number before it
  hf_norm            what tokenizers' Precompiled normalizer makes of the text, where the model has rules and it differs
  hf, hf_offsets     ids and offsets (in the same way) that tokenizers' Unigram makes of the text as it is
golden/spm-NAME.decode.jsonl: ids, decoded
"""

import io
import json
import pathlib
import random
import subprocess
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers

DATA = pathlib.Path(__file__).resolve().parent.parent
USER_DEFINED = ["<sep>", "[X] [Y]", "foo", "foobar", "日本", "①", "  ", "é", "▁▁"]
MODELS = {
    "nfkc-bytes": dict(
        vocab_size=1100, normalization_rule_name="nmt_nfkc", byte_fallback=True, character_coverage=0.98,
        user_defined_symbols=USER_DEFINED),
    "rules-suffix": dict(
        vocab_size=2000, treat_whitespace_as_suffix=True, character_coverage=0.98, control_symbols=["<2ja>"], pad_id=3),
    "identity": dict(
        vocab_size=2600, normalization_rule_name="identity", split_by_whitespace=False, character_coverage=0.98,
        remove_extra_whitespaces=False, unk_surface="<?>", user_defined_symbols=USER_DEFINED),
}
# Replacement rules of all shapes: longer, shorter, to nothing, to and from sequences, and one that begins with another.
RULES = {chr(c): chr(c + 32) for c in range(0x41, 0x5B)}
RULES |= {chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}
RULES |= {"\u3000": " ", "\t": " ", "\n": " ", "\u200b": "", "\x01": "", "\u0323": "", "ﬁ": "fi", "㌀": "アパート", "½": "1⁄2"}
RULES |= {"e\u0301": "é", "E": "e", "E\u0301": "é", "ﾊ": "ハ", "ﾊﾟ": "パ", "か\u3099": "が", "ᄀ\u1161": "가", "a\u0301\u0301": "a"}
BITS = list("ab  ▁▁\t\n\u3000éÉ日本語ﬁ½①Ⅷ가ᄀ\u1161\u0301\u0323\u200b\u200d\ufeff\u0000\x01\x7fＡﾊﾟ\u0660🇩🇪😀👩ſİßΣ<>[]XY\u00ad\u0345\u1f80\ufdfa㌀")
BITS += ["<sep>", "[X] [Y]", "foo", "foobar", "  ", "<unk>", "<s>", "<0x41>", "か\u3099", "TM™", "\r\n", "<2ja>"]


def unpack(path):
    return subprocess.run(["zstd", "-dc", DATA / path], check=True, capture_output=True).stdout


def pack(path, data):
    subprocess.run(["zstd", "-19", "-qf", "-o", DATA / path], input=data, check=True)


def differences(numbers):
    return [b - a for a, b in zip([0, *numbers], numbers)]


def texts(part):
    """A third of the texts, another one for each model, but for the longest."""
    for line in unpack("golden/cl100k_base.jsonl.zst").decode().splitlines():
        case = json.loads(line)
        if case["n"] % len(MODELS) == part and len(case["text"]) < 2000:
            yield {"n": case["n"]}, case["text"]
    for _ in range(250):
        text = "".join(random.choice(BITS) for _ in range(random.randrange(1, 30)))
        yield {"text": text}, text
    # Sums beyond 100,000, and runs of what is unknown.
    for text, times in [("日本 the, ", 8000), ("😀", 3000), ("▁", 5000), ("foobar", 4000)]:
        yield {"text": text, "times": times}, text * times


def lines(objects):
    return "".join(json.dumps(o, ensure_ascii=False, separators=(",", ":")) + "\n" for o in objects).encode()


def points(text):
    return " ".join(f"{ord(c):X}" for c in text)


for part, (name, settings) in enumerate(MODELS.items()):
    random.seed(name)
    rules = tempfile.NamedTemporaryFile("w", suffix=".tsv")
    if "normalization_rule_name" not in settings:
        rules.write("".join(f"{points(old)}\t{points(new)}\n" for old, new in RULES.items()))
        rules.flush()
        settings["normalization_rule_tsv"] = rules.name
    corpus = unpack("corpora/train-dev-tiny.txt.zst").decode().splitlines()
    if name == "nfkc-bytes":
        # The rules fill the file: few characters leave room for pieces.
        corpus = [line for line in corpus if max(line, default="") < "\u1100"]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=written, minloglevel=2, num_threads=1, **settings)
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    pack(f"vocabs/spm-{name}.model.zst", model.SerializeToString())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    count = processor.get_piece_size()
    vocab = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(count)]
    unigram = models.Unigram(vocab, processor.unk_id(), model.trainer_spec.byte_fallback)
    charsmap = model.normalizer_spec.precompiled_charsmap
    precompiled = normalizers.Precompiled(charsmap) if charsmap else None

    cases = []
    for case, text in texts(part):
        tokens = processor.encode(text.encode(), return_type="proto").pieces
        if "n" not in case and "times" not in case:
            case["norm"] = processor.normalize(text)
        case["ids"] = [t.id for t in tokens]
        case["offsets"] = differences([end for t in tokens for end in (t.begin, t.end)])
        if "times" not in case:
            if precompiled and precompiled.normalize_str(text) != text:
                case["hf_norm"] = precompiled.normalize_str(text)
            tokens = unigram.tokenize(text)
            case["hf"] = [t.id for t in tokens]
            case["hf_offsets"] = differences([end for t in tokens for end in t.offsets])
        cases.append(case)
    pack(f"golden/spm-{name}.jsonl.zst", lines(cases))

    by_kind = {"byte": [i for i in range(count) if processor.is_byte(i)]}
    by_kind["steers"] = [i for i in range(count) if processor.is_control(i) or processor.is_unknown(i)]
    by_kind["space"] = [i for i in range(count) if processor.id_to_piece(i).startswith("▁")]
    by_kind["any"] = range(count)
    kinds = [kind for kind in by_kind.values() if kind]
    sequences = []
    for _ in range(500):
        ids = [random.choice(random.choice(kinds)) for _ in range(random.randrange(10))]
        sequences.append({"ids": ids, "decoded": processor.decode(ids)})
    pack(f"golden/spm-{name}.decode.jsonl.zst", lines(sequences))
    print(name, count, len(cases))
