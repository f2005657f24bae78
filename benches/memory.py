#!/usr/bin/env python3
"""The server's resident memory with one vocabulary: as it starts, and along a million requests of which no two are the same.

    benches/memory.py VOCABD VOCABULARY CORPUS [--requests 1000000] [--bytes 2048] [--most 40] [--grows 5]

VOCABULARY is any file that `vocabd import` takes; as the latest `default` it is the only one in memory. Half of a text is of CORPUS, from a random place, the
other half made of letters by chance, so that no memory of words ever has what comes next. Fails if more than --most MiB are
resident at any time, or more than --grows per cent above what it was after the first hundredth of the requests, or if a request
fails.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Requests of one write: the client shall not be what is waited for.
BATCH = 50


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


class Server:
    def __init__(self, args, data):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        env = {**os.environ, "VOCABD_DATA_DIR": data}
        run = lambda *command: subprocess.run([args.vocabd, *command], env=env, check=True, stdout=subprocess.DEVNULL)
        run("import", "default", args.vocabulary, *(["--split", args.split] if args.split else []))
        env |= {"VOCABD_LISTEN": f"127.0.0.1:{self.port}", "VOCABD_LOG_LEVEL": "warn"}
        self.process = subprocess.Popen([args.vocabd, "serve"], env=env)
        for _ in range(200):
            try:
                if self.ask("GET", "/readyz").startswith("HTTP/1.1 200"):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit("the server does not come up")

    def ask(self, method, path):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()


def texts(corpus, size, seed):
    """Endless bodies of requests."""
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz" * 4 + "ABCDEF 0123456789"
    while True:
        at = chance.randrange(len(corpus) - size)
        words = "".join(chance.choices(letters + "      ", k=size // 2))
        yield json.dumps({"text": corpus[at : at + size // 2] + words}, ensure_ascii=False).encode()


def send(port, bodies, count, failed):
    """Sends so many requests over one connection; what is not answered with 200 is `failed`."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        stream = client.makefile("rb", buffering=1 << 20)
        for first in range(0, count, BATCH):
            now = min(BATCH, count - first)
            head = "POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            client.sendall(b"".join((head % len(body)).encode() + body for body, _ in zip(bodies, range(now))))
            for _ in range(now):
                status, length = stream.readline(), 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)
                if b" 200 " not in status:
                    failed.append(status)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabd")
    parser.add_argument("vocabulary")
    parser.add_argument("corpus")
    parser.add_argument("--split", help="for a file that does not say how texts are cut")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=2048)
    parser.add_argument("--most", type=float, default=40)
    parser.add_argument("--grows", type=float, default=5)
    args = parser.parse_args()
    corpus = pathlib.Path(args.corpus).read_text()
    with tempfile.TemporaryDirectory(prefix="vocabd-memory-") as data:
        server = Server(args, data)
        try:
            measured, failed, begin = [resident_mib(server.process.pid)], [], time.time()
            print(f"started: {measured[0]:.1f} MiB", flush=True)
            steps = [0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
            done = 0
            for step in steps:
                count = max(2, round(args.requests * step)) - done
                done += count
                parts = [threading.Thread(target=send, args=(server.port, texts(corpus, args.bytes, done * 2 + n), count // 2, failed)) for n in (0, 1)]
                [part.start() for part in parts]
                [part.join() for part in parts]
                measured.append(resident_mib(server.process.pid))
                print(f"after {done:,} requests: {measured[-1]:.1f} MiB", flush=True)
            settled, most = measured[steps.index(0.01) + 1], max(measured)
            grown = (most / settled - 1) * 100
            print(f"{args.requests:,} requests of {args.bytes} B in {time.time() - begin:.0f} s, {len(failed)} failed; at most {most:.1f} MiB, {grown:+.1f} % from {settled:.1f} MiB")
            sys.exit(bool(failed) or most > args.most or grown > args.grows)
        finally:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait()


if __name__ == "__main__":
    main()
