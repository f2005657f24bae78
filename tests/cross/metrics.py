#!/usr/bin/env python3
"""What promtool says of the figures of a server that has done some of everything, and of the alerts.

    tests/cross/metrics.py [--vocabd BINARY]

Needs promtool (Debian: prometheus). Fails where it finds a fault in the metrics, the rules, or what the rules make of an outage.
"""

import argparse
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from server import ROOT, Refused, Server, binary


def promtool(*args, **more):
    run = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, **more)
    print("promtool", *args[:2], run.stdout.strip() or run.stderr.strip() or "ok", sep=" ")
    return run.returncode == 0 and not run.stderr.strip()


def figures(program):
    with Server(program, otlp_endpoint="http://127.0.0.1:1") as server:
        server.ask("POST", "/encode", {"text": "the cat"})
        server.ask("POST", "/decode", {"ids": [1, 2]})
        try:
            server.ask("POST", "/encode", {"vocab": "nowhere", "text": ""})
        except Refused as refused:
            assert refused.status == 404
        corpus = {"texts": ["the cat sat on the mat, the cat ate the rat"]}
        job = server.ask("POST", "/train", {"name": "t", "vocab_size": 270, "corpus": corpus})["id"]
        while server.ask("GET", f"/train/{job}")["state"] in ("queued", "running"):
            time.sleep(0.05)
        server.ask("POST", "/reload")
        return server.ask("GET", "/metrics")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--vocabd")
    text = figures(binary(arguments.parse_args().vocabd)).decode()
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    series = [line for line in text.splitlines() if not line.startswith("#")]
    print(f"{len(families)} metrics, {len(series)} series")
    # A fault that must be found, so that the check is one.
    planted = text + "# TYPE vocabd_planted counter\nvocabd_planted 1\n"
    run = subprocess.run(["promtool", "check", "metrics"], input=planted, capture_output=True, text=True)
    good = run.returncode != 0
    good &= promtool("check", "metrics", input=text)
    good &= promtool("check", "rules", ROOT / "deploy/alerts.yaml")
    good &= promtool("test", "rules", ROOT / "tests/cross/alerts.yaml")
    sys.exit(0 if good else 1)


main()
