"""Counts pretokens on a Spark cluster: each partition goes through `vocabd wordcount`, so texts are cut by the very code that
trains and serves. Every partition leaves one file of counts, which /train takes as it is (counts of the same pretoken are
added up); reduce.py makes them fewer and smaller.

usage: spark-submit count.py INPUT OUTPUT [--format jsonl|parquet|text] [--field text] [--split cl100k] [--digits D]
                             [--normalizer N] [--special-token NAME]... [--prune-count N] [--vocabd vocabd]

INPUT: JSON lines or Parquet with a column of text, each row a record; or text, each line a record (with its line feed).
OUTPUT: a folder that is not there yet; NDJSON, gzip.
`vocabd` must be on every executor: in the image, or sent along with `--files vocabd` and named `./vocabd`.
"""

import argparse
import json

from pyspark.sql import SparkSession


def arguments():
    parser = argparse.ArgumentParser(description="Counts pretokens with vocabd wordcount in every partition.")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--format", choices=["jsonl", "parquet", "text"], default="jsonl")
    parser.add_argument("--field", default="text")
    parser.add_argument("--split", default="cl100k")
    parser.add_argument("--digits")
    parser.add_argument("--normalizer", default="none")
    parser.add_argument("--special-token", action="append", default=[])
    parser.add_argument("--prune-count", type=int, default=1, help="per partition: above 1 the result is not exact")
    parser.add_argument("--vocabd", default="vocabd")
    parser.add_argument("--partitions", type=int, help="default: as the input has them")
    return parser.parse_args()


def command(args):
    words = [args.vocabd, "wordcount", "-", "-o", "-", "--to", "ndjson", "--format", "jsonl", "--threads", "1"]
    words += ["--split", args.split, "--normalizer", args.normalizer, "--prune-count", str(args.prune_count)]
    if args.digits:
        words += ["--digits", args.digits]
    for name in args.special_token:
        words += ["--special-token", name]
    return words


def piped(rows, words):
    """What the program makes of the texts of one partition. Python's own `pipe` splits its command at blanks, which split
    patterns and special tokens may hold, and hides how the program ended."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as counted:
        for text in rows:
            given.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
        given.seek(0)
        done = subprocess.run(words, stdin=given, stdout=counted, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError("vocabd wordcount: " + done.stderr.decode(errors="replace")[-2000:])
        counted.seek(0)
        for line in counted:
            yield line.decode().rstrip("\n")


def main():
    args = arguments()
    spark = SparkSession.builder.appName("vocabd wordcount").getOrCreate()
    if args.format == "text":
        # Spark takes the line feed off; the trainer's `records = lines` has it.
        rows = spark.read.text(args.input).rdd.map(lambda row: row[0] + "\n")
    else:
        reader = spark.read.parquet if args.format == "parquet" else spark.read.json
        frame = reader(args.input).select(args.field)
        rows = frame.rdd.map(lambda row: row[0]).filter(lambda text: text is not None)
    if args.partitions:
        rows = rows.repartition(args.partitions)
    words = command(args)
    shards = rows.mapPartitions(lambda texts: piped(texts, words))
    shards.saveAsTextFile(args.output, compressionCodecClass="org.apache.hadoop.io.compress.GzipCodec")
    spark.stop()


if __name__ == "__main__":
    main()
