#!/usr/bin/env python3
"""No URL that a caller names, and nothing that it leads to, reaches an address inside.

    tests/proofs/ssrf.py [--vocabd BINARY] [--rebindings N]

Wants root: it goes on in a network namespace of its own, which owns 169.254.169.254, 10.0.0.0/8, 127.0.0.0/8, private IPv6
addresses and one address that passes for public, with listeners on all of them and a DNS server that says what suits the
attack. Nothing leaves that namespace. Fails where a listener inside is reached, where something else than a refusal comes
back, or where the controls (a URL that is public, and one that the operator trusts) do not get through.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PUBLIC, METADATA, PRIVATE, ULA = "198.51.99.7", "169.254.169.254", "10.1.2.3", "fd00:ec2::254"
PORTS = (80, 443, 8080)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = "".join(f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)).encode()

# Hosts that are addresses inside, however they are spelt.
SPELT = [
    "169.254.169.254", "169.254.169.254.", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376",
    "169.254.43518", "169.16689662", "169.254.0xa9fe", "00000251.254.169.254", "0xa9.254.0251.254",
    "10.1.2.3", "167838211", "0x0a010203", "012.1.2.3", "10.66051", "0x0A.1.2.3", "10.0.0.1", "10.255.255.254",
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "127.9.8.7", "0", "0.0.0.0", "localhost", "LOCALHOST.",
    "[::1]", "[::]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::ffff:10.1.2.3]", "[0:0:0:0:0:ffff:0a01:0203]",
    "[::10.1.2.3]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]",
    "%31%30.1.2.3", "１０.１.２.３", "①⑩.1.2.3", "169。254。169。254", "10.1.2.3%00.public.test", "10。1｡2．3",
]
# Names that the DNS server or the hosts file leads inside.
NAMED = ["metadata.test", "ten.test", "loop.test", "mixed.test", "mixed2.test", "six.test", "mapped.test", "alias.test", "hosts.test"]
# URLs on which parsers disagree.
TRICKS = [
    "http://public.test@169.254.169.254/x", "http://public.test:80@10.1.2.3/x", "http://169.254.169.254#@public.test/x",
    "http://169.254.169.254?@public.test/x", "http://public.test\\@10.1.2.3/x", "http://10.1.2.3\\@public.test/x",
    "http://10.1.2.3/\\@public.test/x", "http://public.test%40@10.1.2.3/x", "http:10.1.2.3/x", "http:/10.1.2.3/x", "http:\\\\10.1.2.3\\x",
    "http:///10.1.2.3/x", "http://\t10.1.2.3/x", "http://10.1.2.3\n.public.test/x", " http://10.1.2.3/x", "HTTP://10.1.2.3/x",
    "https://10.1.2.3/x", "https://metadata.test/x", "http://10.1.2.3:8080/x", "http://[::ffff:10.1.2.3]:8080/x", "file:///etc/passwd",
    "ftp://10.1.2.3/x", "gopher://10.1.2.3:80/_GET%20/", "data:text/plain,x", "//10.1.2.3/x", "http://", "http://@10.1.2.3/x", "http://:@10.1.2.3/x",
]

hits, asked, lock = [], [], threading.Lock()


def names(question, kind, turn):
    """What the DNS server has: addresses of a name; `turn` counts how often it was asked for."""
    own = {
        "public": [PUBLIC], "hub": [PUBLIC], "metadata": [METADATA], "ten": [PRIVATE], "loop": ["127.0.0.1"],
        "mixed": [PUBLIC, PRIVATE], "mixed2": [METADATA, PUBLIC], "alias": ["cname:ten.test", PRIVATE], "trusted": [PRIVATE],
        "six": [ULA], "mapped": [f"::ffff:{PRIVATE}"],
    }
    first = question.split(".")[0]
    if first.startswith("rebind"):
        found = [PUBLIC] if turn == 0 else [PRIVATE]
    elif first.startswith("flip"):
        found = [PUBLIC] if turn % 2 == 0 else [METADATA]
    else:
        found = own.get(first, [])
    return [f for f in found if f.startswith("cname:") or (":" in f) == (kind == 28)]


def serve_dns():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.53", 53))
    turns = {}

    def name(text):
        return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"

    def run():
        while True:
            query, peer = server.recvfrom(2048)
            at, parts = 12, []
            while query[at]:
                parts.append(query[at + 1 : at + 1 + query[at]].decode().lower())
                at += 1 + query[at]
            question, (kind,) = ".".join(parts), struct.unpack("!H", query[at + 1 : at + 3])
            turn = turns.get((question, kind), 0)
            turns[question, kind] = turn + 1
            answers = b""
            found = names(question, kind, turn) if kind in (1, 28) and question.endswith(".test") else []
            owner = b"\xc0\x0c"
            for address in found:
                if address.startswith("cname:"):
                    target = name(address[6:])
                    answers += owner + struct.pack("!HHIH", 5, 1, 0, len(target)) + target
                    owner = target
                    continue
                raw = socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, address)
                answers += owner + struct.pack("!HHIH", kind, 1, 0, len(raw)) + raw
            head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(found), 0, 0)
            server.sendto(head + query[12 : at + 5] + answers, peer)

    threading.Thread(target=run, daemon=True).start()


def serve_http():
    """Listeners on every address of the namespace; who comes to another than the public one is a hit."""

    def answer(connection, local):
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (piece := connection.recv(4096)):
                head += piece
            path = head.split(b" ")[1].decode() if head.count(b" ") > 1 else ""
            with lock:
                asked.append((local, path))
            connection.sendall(reply(path, head))

    def run(listener):
        while True:
            connection, _ = listener.accept()
            local = connection.getsockname()[0].removeprefix("::ffff:")
            if local != PUBLIC:
                with lock:
                    hits.append(local)
            threading.Thread(target=answer, args=(connection, local), daemon=True).start()

    for port in PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
        threading.Thread(target=run, args=(listener,), daemon=True).start()


def reply(path, head):
    def whole(body, kind="text/plain", status="200 OK", more=""):
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    def redirect(to, status="302 Found"):
        return whole(b"", status=status, more=f"Location: {to}\r\n")

    parsed = urllib.parse.urlsplit(path)
    query = urllib.parse.parse_qs(parsed.query)
    if "to" in query:
        return redirect(query["to"][0], query.get("status", ["302 Found"])[0])
    parts = parsed.path.split("/")
    if parsed.path.startswith("/api/models/"):
        org, model = parts[3], parts[4]
        if org == "list":
            return redirect(TARGETS[int(model)])
        return whole(json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "cl100k_base.tiktoken"}]}).encode(), "application/json")
    if len(parts) > 3 and parts[3] == "resolve" and parts[1] == "file":
        return redirect(TARGETS[int(parts[2])])
    return whole(FILE)


def inside(command, *more):
    subprocess.run([*command, *more], check=True)


def enter_namespace():
    """Starts this program again where no other network is."""
    if os.environ.get("VOCABD_PROOF_NAMESPACE") != "1":
        os.environ["VOCABD_PROOF_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])
    own = {line.split(":")[1].strip() for line in subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()}
    strays = {name.split("@")[0] for name in own if name.split("@")[0] not in ("lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0")}
    assert not strays, f"not a namespace of its own: {strays}"
    inside(["ip", "link", "set", "lo", "up"])
    for address in (f"{METADATA}/32", "10.0.0.1/8", f"{PUBLIC}/32"):
        inside(["ip", "addr", "add", address, "dev", "lo"])
    for address in (f"{ULA}/128", "fe80::1/64"):
        inside(["ip", "-6", "addr", "add", address, "dev", "lo"])


def mount_names(folder):
    for name, content in (("resolv.conf", "nameserver 127.0.0.53\n"), ("hosts", f"127.0.0.1 localhost\n::1 localhost\n{METADATA} hosts.test\n")):
        path = folder / name
        path.write_text(content)
        inside(["mount", "--bind", path, f"/etc/{name}"])


class Server:
    def __init__(self, vocabd, **settings):
        self.data = tempfile.TemporaryDirectory()
        environment = {f"VOCABD_{key.upper()}": value for key, value in settings.items()}
        self.process = subprocess.Popen(
            [vocabd, "serve", "--listen", "127.0.0.1:0", "--data-dir", self.data.name],
            env={**environment, "HF_ENDPOINT": "http://hub.test", "HF_TOKEN": "hf_secret"}, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            line = json.loads(line)
            if line.get("message") == "listening":
                self.port = int(line["address"].rsplit(":", 1)[1])
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        raise SystemExit("the server does not start")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    # Each answers whether the file was fetched, and how.

    def train(self, url):
        status, job = self.ask("POST", "/train", {"name": "t", "corpus": {"urls": [url]}, "vocab_size": 257})
        if status != 202:
            return False, f"{status} {job['code']}"
        while job["state"] in ("queued", "running"):
            time.sleep(0.02)
            _, job = self.ask("GET", f"/train/{job['id']}")
        return job["state"] == "succeeded", f"{job['state']} {(job.get('error') or {}).get('code')}"

    def from_url(self, url):
        status, told = self.ask("POST", "/vocabs", {"name": "i", "source": url, "format": "tiktoken", "split": "cl100k"})
        return status in (200, 201), f"{status} {told.get('code')}"

    def from_hub(self, model):
        status, told = self.ask("POST", "/vocabs", {"name": "h", "source": f"hf://{model}", "format": "tiktoken", "split": "cl100k"})
        return status in (200, 201), f"{status} {told.get('code')}"

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.data.cleanup()


# Where redirects lead.
TARGETS = [f"http://{host}/x" for host in SPELT + NAMED if host.isascii()] + TRICKS[:4] + TRICKS[5:6] + [
    "//10.1.2.3/x", "https://10.1.2.3/x", "http://public.test/?to=http://10.1.2.3/x",
    "http://public.test/?to=http://public.test/?to=http%3A%2F%2Fmetadata.test/x", "ftp://10.1.2.3/x", "file:///etc/passwd",
]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--vocabd", default="target/release/vocabd")
    arguments.add_argument("--rebindings", type=int, default=100)
    arguments = arguments.parse_args()
    enter_namespace()
    with tempfile.TemporaryDirectory() as folder:
        mount_names(pathlib.Path(folder))
        serve_dns()
        serve_http()
        run(arguments)


def run(arguments):
    # The listeners are there, and reached by who may.
    for address in (METADATA, PRIVATE, "10.200.0.9", ULA, "127.0.0.1"):
        for port in PORTS:
            socket.create_connection((address, port), timeout=5).close()
    deadline = time.time() + 10
    while len(hits) < 5 * len(PORTS) and time.time() < deadline:
        time.sleep(0.01)
    assert len(hits) == 5 * len(PORTS), f"listeners are not reached: {hits}"
    trusting = Server(arguments.vocabd, corpus_urls="trusted.test", import_urls="trusted.test,10.1.2.3", max_queued_jobs="10000")
    hits.clear()
    for fetch, url in ((trusting.train, "http://trusted.test/x"), (trusting.from_url, "http://trusted.test/x"), (trusting.from_url, "http://10.1.2.3/x")):
        fetched, how = fetch(url)
        assert fetched, f"what the operator trusts is not fetched: {url}: {how}"
    assert hits == [PRIVATE] * 3, hits
    trusting.stop()
    hits.clear()

    server = Server(arguments.vocabd, corpus_urls="*", import_urls="*", allow_hub="true")
    for fetch, url in ((server.train, "http://public.test/x"), (server.from_url, "http://public.test/?to=/y"), (server.from_hub, "good/model")):
        fetched, how = fetch(url)
        assert fetched, f"what is public is not fetched: {url}: {how}"

    failures, attempts, refusals = [], 0, {}

    def refused(kind, fetch, url):
        nonlocal attempts
        attempts += 1
        before = len(hits)
        fetched, how = fetch(url)
        refusals[how] = refusals.get(how, 0) + 1
        if fetched or how.startswith(("500", "200", "201")) or len(hits) > before:
            failures.append((kind, url, how, hits[before:]))

    direct = [f"http://{host}/x" for host in SPELT + NAMED] + TRICKS
    statuses = ("302 Found", "301 Moved", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")
    redirects = [f"http://public.test/?status={urllib.parse.quote(statuses[n % 5])}&to={urllib.parse.quote(to, safe='')}" for n, to in enumerate(TARGETS)]
    for kind, fetch in (("train", server.train), ("import", server.from_url)):
        for url in direct + redirects:
            refused(kind, fetch, url)
    for number in range(len(TARGETS)):
        refused("hub, list", server.from_hub, f"list/{number}")
        refused("hub, file", server.from_hub, f"file/{number}")
    for model in ("..@10.1.2.3/x", "10.1.2.3/..", "a/b@http://10.1.2.3", "@10.1.2.3/x", "10.1.2.3:80/x", "a/b@../../..//10.1.2.3"):
        before = len(hits)
        server.from_hub(model)
        attempts += 1
        if len(hits) > before:
            failures.append(("hub", model, hits[before:]))

    # Names that are public first and lead inside the next time: what was checked is what is asked, or nothing is.
    rebound = 0
    for number in range(arguments.rebindings):
        for kind, fetch in (("train", server.train), ("import", server.from_url)):
            for name in (f"rebind-{kind}-{number}.test", f"flip-{number}.test"):
                before = len(hits)
                fetch(f"http://{name}/x")
                rebound += fetch(f"http://{name}/x?again")[0]
                fetch(f"http://{name}/?to=http://{name}/x")
                attempts += 3
                if len(hits) > before:
                    failures.append((kind, name, hits[before:]))
    status, _ = server.ask("GET", "/readyz")
    assert status == 200
    reached = sum(local == PUBLIC for local, _ in asked)
    leaked = [path for local, path in asked if "hf_secret" in path]
    server.stop()
    for failure in failures:
        print("FAILED", *failure)
    print(f"{attempts} attempts ({len(direct)} URLs, {len(TARGETS)} redirects, {arguments.rebindings} rebindings of four kinds): "
          f"{len(hits)} reached an address inside; {reached} requests at the public one, {rebound} of them by a name that had changed")
    print("refusals:", ", ".join(f"{how}: {count}" for how, count in sorted(refusals.items())))
    if failures or hits or leaked:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
