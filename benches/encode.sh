#!/bin/sh
# Measures every cell of the table of encoding speed, and loading, into one file of JSON lines. A cell that the file has
# already is left out, so that a run that was ended goes on where it was.
# usage: benches/encode.sh DATA [OPTIONS]     DATA: unpacked test data with corpora/ and vocabs/
#   --out FILE      the lines [default: target/encode.jsonl]
#   --runs N        processes per engine and cell [default: 5]
#   --quick         three runs, one for the slow engines
#   --cells NAME... only these: docs big trained spm worst count decode offsets batch load
#   --like-llama3 FILE, --like-llama2 FILE    vocabularies that the test data may not hold, into the cells of their kind
#   --program FILE  a compare that is built already, compare-peers beside it
#   --engine NAME...  passed on, as every engine's name must be one that `compare encode --help` lists
set -eu
[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
out='' runs='' once='' cells='docs big trained spm worst count decode offsets batch load'
llama3='' llama2='' program='' engines=''
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --quick) runs=${runs:-3}; once='--once bpe-openai tiktoken-rs kitoken sentencepiece tokenizers'; shift ;;
    --cells) shift; cells=''; while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do cells="$cells $1"; shift; done ;;
    --like-llama3) llama3=$2; shift 2 ;;
    --like-llama2) llama2=$2; shift 2 ;;
    --program) program=$2; shift 2 ;;
    --engine) shift; engines='--engine'; while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do engines="$engines $1"; shift; done ;;
    *) echo "encode.sh: $1 is no option" >&2; exit 2 ;;
  esac
done
runs=${runs:-5}
target=${CARGO_TARGET_DIR:-$here/compare/target}
out=${out:-$target/encode.jsonl}
if [ -z "$program" ]; then
  cargo build --release --quiet --manifest-path "$here/compare/Cargo.toml" --target-dir "$target" --bin compare
  cargo build --release --quiet --manifest-path "$here/compare/peers/Cargo.toml" --target-dir "$target"
  program=$target/release/compare
fi
[ -x "${VOCABD_BENCH_VENV:-$here/compare/target/venv}/bin/python" ] || "$here/compare/peers.sh"
touch "$out"
wanted() { case " $cells " in *" $1 "*) ;; *) return 1 ;; esac; }

name_of() { basename "$1" | sed 's/\.[^.]*$//; s/\.tokenizer$//'; }
has() { grep -q "\"vocab\":\"$1\",\"corpus\":\"$2\",\"mode\":\"$3\"" "$out"; }

# measure MODE VOCABULARY CORPUS...
measure() {
  mode=$1 vocab=$2
  shift 2
  missing=''
  for corpus in "$@"; do
    has "$(name_of "$vocab")" "$corpus" "$mode" || missing="$missing $data/corpora/$corpus.txt"
  done
  [ -n "$missing" ] || return 0
  echo "$(date +%T) $mode $(name_of "$vocab"):$(for m in $missing; do printf ' %s' "$(name_of "$m")"; done)" >&2
  # shellcheck disable=SC2086 # lists of words
  "$program" encode --vocab "$vocab" --corpus $missing --mode "$mode" --runs "$runs" --json $once $engines >>"$out"
}

cl100k=$data/vocabs/cl100k_base.tiktoken
families="$cl100k $data/vocabs/o200k_base.tiktoken $data/vocabs/qwen2.5.tokenizer.json
  $data/vocabs/deepseek-v3.tokenizer.json $llama3"
sentencepiece="$data/vocabs/yi.tokenizer.json $data/vocabs/mistral-v1-hf.tokenizer.json
  $data/vocabs/mistral-v1.tokenizer.model $llama2"

if wanted docs; then
  for vocab in $families; do measure docs "$vocab" en code json zh ja ko; done
fi
if wanted big; then
  for vocab in $families; do measure big "$vocab" en zh; done
fi
if wanted trained; then
  # On the halves that warm; what is measured is unseen by the vocabulary too.
  trained=$target/trained-64k.vocabd
  [ -f "$trained" ] || "$program" train --corpus "$data/corpora/mixed.txt" --vocab-size 64000 --threads 2 --save "$trained"
  measure docs "$trained" mixed en
fi
if wanted spm; then
  for vocab in $sentencepiece; do measure docs "$vocab" en code zh; done
fi
if wanted worst && ! has cl100k_base combining adversarial; then
  grep -v '"mode":"adversarial"' "$out" >"$out.part" || true
  mv "$out.part" "$out"
  echo "$(date +%T) adversarial cl100k_base" >&2
  # shellcheck disable=SC2086
  "$program" encode --vocab "$cl100k" --mode adversarial --runs "$runs" --json $once $engines >>"$out"
fi
if wanted count; then measure count "$cl100k" en zh; fi
if wanted decode; then measure decode "$cl100k" en zh; fi
if wanted offsets; then
  measure offsets "$cl100k" en zh
  measure offsets "$data/vocabs/qwen2.5.tokenizer.json" en
fi
if wanted batch; then measure batch "$cl100k" en zh; fi
if wanted load; then
  for vocab in $families $sentencepiece; do
    if ! grep -q "\"vocab\":\"$(name_of "$vocab")\",\"mode\":\"load\"" "$out"; then
      echo "$(date +%T) load $(name_of "$vocab")" >&2
      # shellcheck disable=SC2086
      "$program" load --vocab "$vocab" --runs "$runs" --json $engines >>"$out"
    fi
  done
fi
