#!/bin/sh
# Requests per second of /encode, start-to-ready time and resident memory of a release build of vocabd: the server on
# core 0, the client on core 1, loopback only. About two minutes.
# usage: benches/http/run.sh DATA [OPTIONS OF load]     DATA: unpacked test data with corpora/ and vocabs/
set -eu
data=$1
shift
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --release --quiet --bin vocabd
cargo build --release --quiet --manifest-path benches/compare/Cargo.toml --target-dir "$target" --bin load
load() {
  taskset -c 1 "$target/release/load" --vocabd "$target/release/vocabd" --server-cores 0 \
    --corpus "$data/corpora/en.txt" "$data/corpora/zh.txt" "$@"
}
echo "machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1 /proc/loadavg)" >&2
load "$@"
load --vocab "$data/vocabs/cl100k_base.tiktoken" "$@"
