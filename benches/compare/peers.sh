#!/bin/sh
# Makes the environment of the peers that have no crate (peers.py runs them): benches/compare/target/venv, or the folder
# in VOCABD_BENCH_VENV. Takes wheels only, from PyPI.
set -eu
cd "$(dirname "$0")"
venv=${VOCABD_BENCH_VENV:-target/venv}
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --only-binary :all: gigatoken==0.10.0 sentencepiece==0.2.3 \
    rustbpe==0.1.0 tokenizers==0.23.3 ffbpe==0.1.10 \
    fastapi==0.165.0 uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0 pydantic==2.14.4 tiktoken==0.14.0
