#!/usr/bin/env bash
# Proves, on this machine, that counts made by Spark give the merges of the text itself: trains on the text, on the shards of
# count.py and on those of reduce.py (both forms), and compares the files.
#
# usage: proof.sh TEXT [VOCABD]      TEXT: a text file whose lines are records; needs Java 17 and pyspark (SPARK_PYTHON names
#                                    a Python that has it)
set -euo pipefail
text=$(realpath "$1") vocabd=$(realpath "${2:-target/release/vocabd}")
here=$(cd "$(dirname "$0")" && pwd) python=${SPARK_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYSPARK_PYTHON=$python
spark() { "$python" "$@" 2>"$work/log" || { tail -20 "$work/log" >&2; exit 1; }; }

train() { "$vocabd" --data-dir "$work/data" train proof "$@" --vocab-size 8000 -o "$work/$out"; }
out=from-text train "$text" --records lines
spark "$here/count.py" "$text" "$work/shards" --format text --vocabd "$vocabd" --partitions 5
spark "$here/reduce.py" "$work/shards" "$work/ndjson"
spark "$here/reduce.py" "$work/shards" "$work/parquet" --to parquet
out=from-shards train "$work"/shards/part-* --counts
out=from-ndjson train "$work"/ndjson/part-* --counts
out=from-parquet train "$work"/parquet/*.parquet --counts
for made in from-shards from-ndjson from-parquet; do
    cmp "$work/from-text" "$work/$made"
    echo "$made: the same vocabulary as from the text"
done
