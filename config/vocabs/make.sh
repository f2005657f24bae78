#!/bin/sh
# Makes the default vocabulary anew, byte for byte, from the corpora named in README.md (unpacked, in the folder given).
# usage: config/vocabs/make.sh CORPORA OUTPUT
set -eu
corpora=$1
here=$(cd "$(dirname "$0")" && pwd)
output=$2
vocabd=${VOCABD:-"cargo run --release --quiet --manifest-path $here/../../Cargo.toml --"}
$vocabd train default \
  "$corpora/en.txt" "$corpora/zh.txt" "$corpora/ja.txt" "$corpora/ko.txt" \
  "$corpora/mixed.txt" "$corpora/code.txt" "$corpora/json.txt" \
  --vocab-size 32000 --split cl100k --records whole --tie-break hf --min-frequency 2 --max-token-bytes 64 \
  --special-token '<|endoftext|>' --special-token '<|im_start|>' --special-token '<|im_end|>' \
  --output "$output"
