#!/usr/bin/env python3
"""A long stream through POST /encode/stream: how many bytes a second, and the server's resident memory along the way.

    benches/http/stream.py VOCABD CORPUS [--gb 10] [--line-gb 1]

Sends documents of 4,000 characters from CORPUS, one of a thousand of which is no text, and behind them a single line of --line-gb;
reads the answers beside it. Fails if an answer or the error of a line is missing, if memory grows by more than 24 MB once a tenth of
the stream has passed, or if the long line takes over 64 MB.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time


def resident_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabd")
    parser.add_argument("corpus")
    parser.add_argument("--gb", type=float, default=10)
    parser.add_argument("--line-gb", type=float, default=1)
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tempfile.TemporaryDirectory(prefix="vocabd-stream-")
    command = [args.vocabd, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", data.name]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        text = pathlib.Path(args.corpus).read_text()
        document = lambda n: text[n * 4000 : (n + 1) * 4000] if n % 1000 else 5
        lines = [json.dumps({"id": n, "text": document(n)}) + "\n" for n in range(len(text) // 4000)]
        wrong = lambda some: sum(line.endswith('"text": 5}\n') for line in some)
        chunks = []
        for at in range(0, len(lines), 16):
            body = "".join(lines[at : at + 16]).encode()
            some = lines[at : at + 16]
            chunks.append((b"%x\r\n" % len(body) + body + b"\r\n", len(body), len(some), wrong(some)))
        for _ in range(100):
            try:
                client = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.1)
        client.sendall(b"POST /encode/stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answers, errors, last = [0], [0], [b""]

        def read():
            rest = b""
            while piece := client.recv(1 << 20):
                # A key may be cut in two by the pieces.
                answers[0] += (rest + piece).count(b'"count":')
                errors[0] += (rest + piece).count(b'"error":')
                rest, last[0] = piece[-7:], (last[0] + piece)[-500:]
                if piece.endswith(b"\r\n0\r\n\r\n"):
                    return

        reader = threading.Thread(target=read)
        reader.start()
        sent, turn, asked, bad, memory, begin = 0, 0, 0, 0, [], time.time()
        while sent < args.gb * 1e9:
            chunk, size, count, wrong_ones = chunks[turn % len(chunks)]
            client.sendall(chunk)
            sent, turn, asked, bad = sent + size, turn + 1, asked + count, bad + wrong_ones
            if len(memory) < 20 * sent / (args.gb * 1e9):
                memory.append(resident_mb(server.pid))
        seconds = time.time() - begin
        endless = b"%x\r\n" % (1 << 20) + b"a" * (1 << 20) + b"\r\n"
        for _ in range(int(args.line_gb * 1e9) >> 20):
            client.sendall(endless)
        memory.append(resident_mb(server.pid))
        client.sendall(b"0\r\n\r\n")
        reader.join()
        told = f"{answers[0]} answers and {errors[0]} errors"
        print(f"{sent / 1e9:.1f} GB, {asked} lines, {told}, {sent / 1e6 / seconds:.0f} MB/s, resident MB {memory}, the last behind a line of {args.line_gb} GB")
        answered = (answers[0], errors[0]) == (asked - bad, bad + 1) and b"line_too_long" in last[0]
        *stream, last_one = memory[2:]
        # A thread that had not encoded before brings a memory of words of its own. Of the long line max_body_bytes (16 MiB) are held
        # before it is known to be too long, in a buffer that had to grow.
        sys.exit(not answered or max(stream) > stream[0] + 24 or last_one > stream[0] + 64)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
