#!/usr/bin/env bash
# How long /encode of 2 KB takes while nothing else runs, and beside a training job with two threads: median and p99.
#
# usage: benches/train-latency.sh DIR [VOCABD]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath "$1") vocabd=$(realpath "${2:-target/release/vocabd}")
data=$(mktemp -d)
trap 'kill $server 2>/dev/null; wait $server || true; rm -rf "$data"' EXIT
"$vocabd" serve --data-dir "$data/d" --listen 127.0.0.1:0 --config <(printf 'corpus_root = "%s"\ntrain_threads = 2\n' "$dir/corpora") 2>"$data/log" &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*"listening","address":"\([^"]*\)".*/\1/p' "$data/log")
    [ -z "$address" ] || break
    sleep 0.1
done
python3 - "$address" "$dir/corpora" <<'PY'
import http.client, json, sys, time

host, corpora = sys.argv[1:]
text = open(corpora + "/en.txt", encoding="utf-8").read()
client = http.client.HTTPConnection(host)


def ask(method, path, body=None):
    client.request(method, path, json.dumps(body) if body is not None else None, {"content-type": "application/json"})
    answer = client.getresponse()
    return json.loads(answer.read())


def timed(seconds, go_on=lambda: True):
    times, at, end = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < end and go_on():
        at = (at + 2048) % (len(text) - 4096)
        body = json.dumps({"text": text[at : at + 2048]})
        start = time.perf_counter()
        client.request("POST", "/encode", body, {"content-type": "application/json"})
        client.getresponse().read()
        times.append(time.perf_counter() - start)
    return times


def figures(times):
    times.sort()
    return {"requests": len(times), "p50_ms": round(times[len(times) // 2] * 1e3, 3),
            "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 3)}


timed(2)
idle = figures(timed(5))
files = ["en.txt", "zh.txt", "code.txt", "ja.txt", "mixed.txt", "json.txt", "ko.txt"] * 20
last = [0.0, True]


def runs(job):
    """Whether it does, asked ten times a second: what comes after its end is not beside it."""
    if time.perf_counter() - last[0] > 0.1:
        last[:] = [time.perf_counter(), ask("GET", f"/train/{job}")["state"] in ("queued", "running")]
    return last[1]


times, jobs, end = [], 0, time.perf_counter() + 15
while time.perf_counter() < end:
    job = ask("POST", "/train", {"name": "load", "corpus": {"files": files}, "vocab_size": 100000})["id"]
    while not ask("GET", f"/train/{job}")["started_at"]:
        time.sleep(0.01)
    last[:] = [0.0, True]
    times += timed(end - time.perf_counter(), lambda: runs(job))
    jobs += 1
    ask("POST", f"/train/{job}/cancel")
beside = figures(times)
ratio = round(beside["p99_ms"] / idle["p99_ms"], 2)
print(json.dumps({"idle": idle, "beside": beside, "p99_ratio": ratio, "jobs": jobs}))
PY
