"""The test data beside the project (`../shared/data`, or where SHARED_DATA_DIR says), unpacked as it is read."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("SHARED_DATA_DIR") or ROOT.parent / "shared/data")
RESTRICTED = os.environ.get("VOCABD_RESTRICTED_DIR")

CORPORA = ["en", "zh", "ja", "ko", "code", "json", "mixed"]

# Published vocabularies: name, files, and whether they may be passed on. As in tests/it/parity.rs.
PUBLISHED = [
    ("cl100k_base", ["cl100k_base.tiktoken"], True),
    ("o200k_base", ["o200k_base.tiktoken"], True),
    ("r50k_base", ["r50k_base.tiktoken"], True),
    ("p50k_base", ["p50k_base.tiktoken"], True),
    ("qwen", ["qwen.tiktoken"], True),
    ("llama3-tiktoken", ["llama3.tokenizer.model"], False),
    ("tekken-240718", ["tekken_240718.json"], True),
    ("qwen2.5", ["qwen2.5.tokenizer.json", "qwen2.5.tokenizer_config.json"], True),
    ("qwen3", ["qwen3.tokenizer.json", "qwen3.tokenizer_config.json"], True),
    ("deepseek-v3", ["deepseek-v3.tokenizer.json", "deepseek-v3.tokenizer_config.json"], True),
    ("deepseek-v4", ["deepseek-v4.tokenizer.json", "deepseek-v4.tokenizer_config.json"], True),
    ("yi", ["yi.tokenizer.json", "yi.tokenizer_config.json"], True),
    ("mistral-nemo", ["mistral-nemo.tokenizer.json", "mistral-nemo.tokenizer_config.json"], True),
    ("mistral-v1-hf", ["mistral-v1-hf.tokenizer.json", "mistral-v1-hf.tokenizer_config.json"], True),
    ("llama2", ["llama2.tokenizer.json"], False),
    ("llama3", ["llama3.tokenizer.json", "llama3.tokenizer_config.json"], False),
    ("gemma3", ["gemma3.tokenizer.json", "gemma3.tokenizer_config.json"], False),
    ("mistral-v1", ["mistral-v1.tokenizer.model"], True),
    ("mistral-v3", ["mistral-v3.tokenizer.model"], True),
]


def unpacked(path):
    """The bytes of a file, or of the one of that name packed with zstd; None where neither is."""
    if path.is_file():
        return path.read_bytes()
    packed = path.with_name(path.name + ".zst")
    if not packed.is_file():
        return None
    return subprocess.run(["zstd", "-dqc", packed], capture_output=True, check=True).stdout


def shared(path):
    content = unpacked(SHARED / path)
    if content is None:
        raise SystemExit(f"{path} is not in {SHARED}")
    return content


def vocabulary(file, passed_on):
    """A file of a published vocabulary; None for one that may not be passed on and that nobody fetched."""
    if passed_on:
        return shared(f"vocabs/{file}")
    folders = [pathlib.Path(folder) for folder in [RESTRICTED] if folder] + [SHARED / "vocabs"]
    return next((content for folder in folders if (content := unpacked(folder / file)) is not None), None)


def golden(name):
    lines = shared(f"golden/{name}.jsonl").decode().split("\n")
    return [json.loads(line) for line in lines if line]


def tricky():
    """The texts of the goldens."""
    return [case["text"] for case in golden("cl100k_base")]


def lines(corpus, most):
    """At most so many lines of a corpus, spread over all of it, none of them empty."""
    all_lines = [line for line in shared(f"corpora/{corpus}.txt").decode().split("\n") if line.strip()]
    step = max(1, len(all_lines) // most)
    return all_lines[::step][:most]
