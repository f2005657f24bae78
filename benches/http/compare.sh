#!/bin/sh
# Requests per second of vocabd, of the bare server (echo), and of servers as teams write them, in turn, in one run: the server on core 0, the
# client on core 1, loopback only. Then a table of ratios. About ten minutes; wants the packages of benches/compare/peers.sh.
# usage: benches/http/compare.sh DATA OUT.jsonl     DATA: unpacked test data with corpora/ and vocabs/
#   BUILD=0 takes the programs that are there; RUNS=3 SECONDS_EACH=1.5 SERVERS="echo vocabd naive fastapi-tiktoken fastapi-tokenizers"
set -eu
[ $# = 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1 out=$2
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$PWD/benches/compare/target
venv=${VOCABD_BENCH_VENV:-$tools/venv}
[ -x "$venv/bin/uvicorn" ] || benches/compare/peers.sh
if [ "${BUILD:-1}" = 1 ]; then
  cargo build --release --quiet --bin vocabd
  cargo build --release --quiet --manifest-path benches/compare/Cargo.toml --target-dir "$tools" --bin load --bin echo
  cargo build --release --quiet --manifest-path benches/compare/peers/Cargo.toml --target-dir "$tools" --bin naive
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tiktoken=$data/vocabs/cl100k_base.tiktoken
# What tokenizers reads, from vocabd's own export: the ids are the same.
"$target/release/vocabd" import cl100k_base "$tiktoken" --data-dir "$work/export" >/dev/null
"$target/release/vocabd" export cl100k_base --format hf --output "$work/cl100k_base.json" --data-dir "$work/export" >/dev/null
for engine in tiktoken tokenizers; do
  printf '#!/bin/sh\nexec "%s" "%s" %s "$@"\n' "$venv/bin/python" "$PWD/benches/http/peers.py" $engine >"$work/fastapi-$engine"
  chmod +x "$work/fastapi-$engine"
done

: >"$out"
# add SERVER PROGRAM VOCABULARY [OPTIONS OF load]
add() {
  server=$1 program=$2 vocab=$3
  shift 3
  taskset -c 1 "$tools/release/load" --vocabd "$program" --server-cores 0 --vocab "$vocab" --starts 0 --runs 1 \
    --corpus "$data/corpora/en.txt" "$data/corpora/zh.txt" --seconds "${SECONDS_EACH:-1.5}" --json "$@" |
    sed "s/^{/{\"server\":\"$server\",/" >>"$out"
}
echo "machine: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1 /proc/loadavg)" >&2
run=0
while [ $run -lt "${RUNS:-3}" ]; do
  run=$((run + 1))
  echo "run $run, load $(cut -d' ' -f1 /proc/loadavg)" >&2
  for server in ${SERVERS:-echo vocabd naive fastapi-tiktoken fastapi-tokenizers}; do
    case $server in
      echo)
        # It has no `import`, and takes the place of any vocabulary.
        printf '#!/bin/sh\n[ "$1" = import ] || exec "%s" "$@"\n' "$tools/release/echo" >"$work/echo"
        chmod +x "$work/echo"
        add echo "$work/echo" "$tiktoken" --shape json packed
        add echo "$work/echo" "$tiktoken" --shape batch --size 2048
        ;;
      vocabd)
        taskset -c 0 "$tools/release/load" --in-process --vocab "$tiktoken" --runs 1 --seconds "${SECONDS_EACH:-1.5}" --json \
          --corpus "$data/corpora/en.txt" "$data/corpora/zh.txt" | sed 's/^{/{"server":"engine",/' >>"$out"
        add vocabd "$target/release/vocabd" "$tiktoken" --shape json packed
        add vocabd "$target/release/vocabd" "$tiktoken" --shape batch --size 2048
        ;;
      naive)
        add naive "$tools/release/naive" "$tiktoken" --shape json
        add naive "$tools/release/naive" "$tiktoken" --shape batch --size 2048
        ;;
      fastapi-tiktoken)
        add $server "$work/$server" "$tiktoken" --shape json
        add $server "$work/$server" "$tiktoken" --shape batch --size 2048
        ;;
      fastapi-tokenizers)
        add $server "$work/$server" "$work/cl100k_base.json" --shape json
        add $server "$work/$server" "$work/cl100k_base.json" --shape batch --size 2048
        ;;
    esac
  done
done
python3 benches/http/table.py "$out"
