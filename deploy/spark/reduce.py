"""Adds up the counts that count.py left, and drops what is too rare, if asked to: fewer and smaller files for /train.

usage: spark-submit reduce.py INPUT OUTPUT [--prune-count N] [--to parquet|ndjson] [--partitions N]

INPUT: the folder of count.py. OUTPUT: a folder that is not there yet; Parquet (`pretoken` binary, `count` bigint) or NDJSON
with what the counts were made by in the first line of each file, which /train checks. Here, where all counts of a pretoken
are together, `--prune-count` drops what is rare in the whole corpus, and says how much that was.
"""

import argparse
import base64
import json

from pyspark.sql import SparkSession
from pyspark.sql.types import BinaryType, LongType, StructField, StructType


def arguments():
    parser = argparse.ArgumentParser(description="Adds up shards of counts.")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--prune-count", type=int, default=1)
    parser.add_argument("--to", choices=["parquet", "ndjson"], default="ndjson")
    parser.add_argument("--partitions", type=int, default=8)
    return parser.parse_args()


def rules(meta):
    """The part of the first line of a shard that must be the same in all of them."""
    meta = json.loads(meta)["vocabd"]
    return json.dumps({key: meta[key] for key in meta if key not in ("text_bytes", "pretokens")}, sort_keys=True)


def main():
    args = arguments()
    spark = SparkSession.builder.appName("vocabd reduce").getOrCreate()
    lines = spark.sparkContext.textFile(args.input)
    found = lines.filter(lambda line: line.startswith('{"vocabd"')).map(rules).distinct().take(2)
    if len(found) != 1:
        raise SystemExit("the shards were not all made by the same rules")
    counts = lines.filter(lambda line: line.startswith('{"t"')).map(json.loads)
    sums = counts.map(lambda row: (row["t"], row["c"])).reduceByKey(lambda a, b: a + b, args.partitions).cache()
    if args.prune_count > 1:
        rare = sums.filter(lambda pair: pair[1] < args.prune_count).map(lambda pair: pair[1])
        print(f"dropped: {rare.count()} distinct pretokens, {rare.sum()} in all")
    kept = sums.filter(lambda pair: pair[1] >= args.prune_count)
    if args.to == "parquet":
        schema = StructType([StructField("pretoken", BinaryType()), StructField("count", LongType())])
        rows = kept.map(lambda pair: (bytearray(base64.b64decode(pair[0])), pair[1]))
        spark.createDataFrame(rows, schema).write.option("compression", "gzip").parquet(args.output)
    else:
        meta = json.dumps({"vocabd": json.loads(found[0])}, separators=(",", ":"))

        def with_rules(pairs):
            yield meta
            for token, count in pairs:
                yield json.dumps({"t": token, "c": count}, separators=(",", ":"))

        codec = "org.apache.hadoop.io.compress.GzipCodec"
        kept.mapPartitions(with_rules).saveAsTextFile(args.output, compressionCodecClass=codec)
    spark.stop()


if __name__ == "__main__":
    main()
