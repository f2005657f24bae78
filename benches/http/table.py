"""Tables of what compare.sh measured, and a picture: table.py RUN.jsonl [PICTURE.svg]"""

import collections
import json
import statistics
import sys

SERVERS = ["vocabd", "naive", "fastapi-tiktoken", "fastapi-tokenizers"]
NAMES = {
    "vocabd": "vocabd",
    "naive": "axum + tiktoken-rs",
    "fastapi-tiktoken": "FastAPI + tiktoken",
    "fastapi-tokenizers": "FastAPI + tokenizers",
}
COLOURS = {"vocabd": "#e5484d", "naive": "#3b82f6", "fastapi-tiktoken": "#14b8a6", "fastapi-tokenizers": "#94a3b8"}
SIZES = [("json", 100), ("json", 2048), ("json", 65536), ("batch", 2048), ("packed", 100), ("packed", 2048), ("packed", 65536)]


def label(shape, size):
    name = {100: "100 B", 2048: "2 KB", 65536: "64 KB"}[size]
    return f"64 x {name}" if shape == "batch" else name if shape == "json" else f"{name}, packed"


def medians(path):
    """Requests per second by server, corpus, shape and size, and MB/s of the engine by corpus and size."""
    rates, engine = collections.defaultdict(list), collections.defaultdict(list)
    for line in open(path):
        row = json.loads(line)
        if row["server"] == "engine":
            engine[row["corpus"], row["text_bytes"], row["texts"] > 1].append(row["mb_per_s"])
        elif "requests_per_s" in row:
            rates[row["server"], row["corpus"], row["shape"], row["text_bytes"]].append(row["requests_per_s"])
    return ({cell: statistics.median(all) for cell, all in some.items()} for some in (rates, engine))


def overhead(rates, engine):
    print("| texts | | echo, requests/s | engine, MB/s | vocabd, requests/s | of the echo | of 1 / (T_http + bytes / engine) | of the engine |")
    print("|---|---|---|---|---|---|---|---|")
    for shape, size in SIZES:
        for corpus in ("en", "zh"):
            cell = (corpus, shape, size)
            if ("vocabd", *cell) not in rates or ("echo", *cell) not in rates:
                continue
            echo, ours, speed = rates["echo", *cell], rates["vocabd", *cell], engine[corpus, size, shape == "batch"] * 1e6
            texts = 64 if shape == "batch" else 1
            alone = texts * size / speed
            bound = 1 / (1 / echo + alone)
            print(
                f"| {label(shape, size)} | {corpus} | {echo:.0f} | {speed / 1e6:.0f} | {ours:.0f} | {ours / echo:.2f} | "
                f"{ours / bound:.2f} | {ours * alone:.2f} |"
            )


def peers(rates):
    print("| texts | | " + " | ".join(NAMES[server] for server in SERVERS) + " | times the best of FastAPI |")
    print("|---|---|" + "---|" * (len(SERVERS) + 1))
    for shape, size in SIZES:
        for corpus in ("en", "zh"):
            row = [rates.get((server, corpus, shape, size)) for server in SERVERS]
            if None in row:
                continue
            best = max(row[2:])
            print(f"| {label(shape, size)} | {corpus} | " + " | ".join(f"{rate:.0f}" for rate in row) + f" | {row[0] / best:.1f} |")


def picture(rates, path):
    """MB/s of text, on a scale of powers of ten: the servers are that far apart."""
    import math

    groups = [(label(shape, size), corpus, shape, size) for shape, size in SIZES if shape != "packed" for corpus in ("en", "zh")]
    groups = [group for group in groups if all((server, *group[1:]) in rates for server in SERVERS)]
    width, left, top, bars = 900, 44, 70, 190
    step = (width - left - 10) / max(len(groups), 1)
    lowest, highest = -1, 3
    place = lambda value: top + bars * (highest - max(math.log10(value), lowest)) / (highest - lowest)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + bars + 46}" font-family="sans-serif" font-size="12">',
        "<style>text{fill:#57606a}@media(prefers-color-scheme:dark){text{fill:#9aa4af}}</style>",
        f'<text x="{left}" y="20" font-size="15">Encoding over HTTP with cl100k, MB/s of text, server on one core (powers of ten)</text>',
    ]
    x = left
    for server in SERVERS:
        out.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{COLOURS[server]}"/><text x="{x + 16}" y="44">{NAMES[server]}</text>')
        x += 30 + 7.2 * len(NAMES[server])
    for power in range(lowest, highest + 1):
        y = place(10**power)
        out.append(f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884" /><text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    for at, (name, corpus, shape, size) in enumerate(groups):
        texts = 64 if shape == "batch" else 1
        begin = left + at * step + step * 0.12
        wide = step * 0.76 / len(SERVERS)
        for number, server in enumerate(SERVERS):
            value = rates[server, corpus, shape, size] * texts * size / 1e6
            y = place(value)
            out.append(f'<rect x="{begin + number * wide:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{top + bars - y:.1f}" fill="{COLOURS[server]}"><title>{NAMES[server]}: {value:.1f} MB/s</title></rect>')
            if number in (0, 2):
                out.append(f'<text x="{begin + number * wide + wide / 2:.1f}" y="{y - 4:.1f}" font-size="9" text-anchor="middle">{value:.3g}</text>')
        out.append(f'<text x="{begin + step * 0.38:.1f}" y="{top + bars + 18}" text-anchor="middle">{name}</text>')
        out.append(f'<text x="{begin + step * 0.38:.1f}" y="{top + bars + 34}" text-anchor="middle">{corpus}</text>')
    out.append("</svg>")
    open(path, "w").write("\n".join(out) + "\n")


def main():
    rates, engine = medians(sys.argv[1])
    overhead(rates, engine)
    print()
    peers(rates)
    if len(sys.argv) > 2:
        picture(rates, sys.argv[2])


main()
