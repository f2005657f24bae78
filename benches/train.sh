#!/bin/sh
# Trains on every corpus with vocabd and its peers, and checks that all make the same merges.
#
# usage: benches/train.sh DIR [--out FILE.jsonl] [--large] [--program COMPARE] [--threads N] [--runs N]
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
out=/dev/stdout large= program=benches/compare/target/release/compare threads=2 runs=1
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift ;;
        --large) large=1 ;;
        --program) program=$2; shift ;;
        --threads) threads=$2; shift ;;
        --runs) runs=$2; shift ;;
        *) echo "unknown: $1" >&2; exit 2 ;;
    esac
    shift
done
lines=$(mktemp)
trap 'rm -f "$lines" "$lines.txt"' EXIT
for size in 32000 100000; do
    for corpus in en code zh json mixed ja ko; do
        "$program" train --corpus "$dir/corpora/$corpus.txt" --vocab-size $size --threads "$threads" --runs "$runs" --json | tee -a "$lines" >&2
    done
done
if [ -n "$large" ]; then
    "$program" synth --corpus "$dir"/corpora/*.txt --bytes 200000000 --seed 1 --output "$lines.txt"
    "$program" train --corpus "$lines.txt" --vocab-size 100000 --threads "$threads" --without tokenizers --json | tee -a "$lines" >&2
fi
cat "$lines" >"$out"
if grep -q '"merges_ok":false' "$lines"; then
    echo "train.sh: merges differ" >&2
    exit 1
fi
