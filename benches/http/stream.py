#!/usr/bin/env python3
"""A long stream through POST /encode/stream: how many bytes a second, and the server's resident memory along the way.

    benches/http/stream.py VOCABD CORPUS [--gb 10]

Sends documents of 4,000 characters from CORPUS, reads the answers beside it, and fails if one is missing.
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
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tempfile.TemporaryDirectory(prefix="vocabd-stream-")
    command = [args.vocabd, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", data.name]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        text = pathlib.Path(args.corpus).read_text()
        lines = [json.dumps({"id": n, "text": text[n * 4000 : (n + 1) * 4000]}) + "\n" for n in range(len(text) // 4000)]
        chunks = []
        for at in range(0, len(lines), 16):
            body = "".join(lines[at : at + 16]).encode()
            chunks.append((b"%x\r\n" % len(body) + body + b"\r\n", len(body), len(lines[at : at + 16])))
        for _ in range(100):
            try:
                client = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.1)
        client.sendall(b"POST /encode/stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answers = [0]

        def read():
            rest = b""
            while piece := client.recv(1 << 20):
                # A key may be cut in two by the pieces.
                answers[0] += (rest + piece).count(b'"count":')
                rest = piece[-7:]
                if piece.endswith(b"\r\n0\r\n\r\n"):
                    return

        reader = threading.Thread(target=read)
        reader.start()
        sent, asked, memory, begin = 0, 0, [], time.time()
        while sent < args.gb * 1e9:
            chunk, size, count = chunks[asked // 16 % len(chunks)]
            client.sendall(chunk)
            sent, asked = sent + size, asked + count
            if len(memory) < 20 * sent / (args.gb * 1e9):
                memory.append(resident_mb(server.pid))
        client.sendall(b"0\r\n\r\n")
        reader.join()
        seconds = time.time() - begin
        print(f"{sent / 1e9:.1f} GB, {asked} lines, {answers[0]} answers, {sent / 1e6 / seconds:.0f} MB/s, resident MB {memory}")
        sys.exit(answers[0] != asked)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
