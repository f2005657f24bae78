"""Servers that vocabd is compared with over HTTP: FastAPI in front of a Python library, as teams write it.

    peers.py tiktoken|tokenizers import NAME FILE --data-dir DIR
    peers.py tiktoken|tokenizers serve --data-dir DIR --listen HOST:PORT

They take the arguments of vocabd, so that `load` can start either. One worker, uvloop and httptools, no access log: the
quickest that uvicorn has on one core.
"""

import argparse
import base64
import os
import pathlib
import shutil

# cl100k's pattern and special tokens, as tiktoken has them.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


def tiktoken_encoder(file):
    import tiktoken

    lines = pathlib.Path(file).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding("peer", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode(text, disallowed_special=())


def tokenizers_encoder(file):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def serve(encode, listen):
    import fastapi
    import pydantic
    import uvicorn

    app = fastapi.FastAPI()

    class One(pydantic.BaseModel):
        text: str

    class Many(pydantic.BaseModel):
        texts: list[str]

    @app.post("/encode")
    async def one(body: One):
        ids = encode(body.text)
        return {"count": len(ids), "ids": ids}

    @app.post("/encode/batch")
    async def many(body: Many):
        ids = [encode(text) for text in body.texts]
        return {"counts": [len(one) for one in ids], "ids": ids}

    @app.get("/readyz")
    async def ready():
        return {"status": "ok"}

    host, port = listen.rsplit(":", 1)
    uvicorn.run(app, host=host, port=int(port), loop="uvloop", http="httptools", log_level="error", access_log=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["tiktoken", "tokenizers"])
    commands = parser.add_subparsers(dest="command", required=True)
    imports = commands.add_parser("import")
    imports.add_argument("name")
    imports.add_argument("file")
    imports.add_argument("--data-dir", required=True)
    serves = commands.add_parser("serve")
    serves.add_argument("--data-dir", required=True)
    serves.add_argument("--listen", required=True)
    args = parser.parse_args()
    kept = pathlib.Path(args.data_dir) / "vocabulary"
    if args.command == "import":
        shutil.copyfile(args.file, kept)
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    serve({"tiktoken": tiktoken_encoder, "tokenizers": tokenizers_encoder}[args.engine](kept), args.listen)


main()
