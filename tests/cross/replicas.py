#!/usr/bin/env python3
"""Three vocabd servers over one bucket of a server of S3 (moto), clients on all of them while versions are published and an
alias moves.

    tests/cross/replicas.py [--vocabd BINARY] [--seconds N]

Needs the packages of replicas.txt (tests/cross/venv.sh DIR replicas.txt). Fails where one request fails that should not, where
an answer's ids are not those of the version that it names, or where a replica does not follow within its watch interval.
"""

import argparse
import base64
import http.client
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

# Before the module that copies it.
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1", AWS_ALLOW_HTTP="true")
sys.path.insert(0, str(pathlib.Path(__file__).parent))

WATCH_SECONDS = 1
TAKE_OVER_SECONDS = 2
TEXT = "one two three four five six seven eight nine ten" * 8
WORDS = "one two three four five six seven eight nine ten".split()


class Bucket:
    """A server of S3 with the bucket `vocabs`."""

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("PUT", "/vocabs")
                assert connection.getresponse().status == 200
                return self
            except OSError:
                assert self.process.poll() is None, "moto does not start"
                time.sleep(0.1)
        raise SystemExit("moto does not answer")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Client:
    """One connection that repeats nothing: what fails is told."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(self, method, path, body=None, headers=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None

    def good(self, *args, **more):
        status, body = self.ask(*args, **more)
        assert status in (200, 201, 202), (args[:2], status, body)
        return body


def vocabulary(number):
    """A tiktoken file: bytes, and what makes the words that the bits of the number name, so that each encodes differently."""
    tokens = [bytes([byte]) for byte in range(256)]
    for bit, word in enumerate(WORDS):
        if number >> bit & 1:
            tokens += [word[:end].encode() for end in range(2, len(word) + 1)]
    tokens = list(dict.fromkeys(tokens))
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)).encode()


class Traffic:
    """A client on each of some servers, checking every answer."""

    def __init__(self, servers):
        self.golden, self.ended = {}, threading.Event()
        self.asked, self.failed, self.unexplained, self.seen = 0, [], [], set()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(server,)) for server in servers]

    def run(self, server):
        client = Client(server)
        while not self.ended.is_set():
            try:
                status, body = client.ask("POST", "/encode", {"text": TEXT, "vocab": "v@prod"})
                if status != 200:
                    self.failed.append((server.port, status, body))
                    continue
                number = body["vocab"]["version"]
                with self.lock:
                    self.asked += 1
                    self.seen.add((server.port, number))
                if self.golden.get(number) != body["ids"]:
                    self.unexplained.append((server.port, body["vocab"]))
            except Exception as error:  # noqa: BLE001
                self.failed.append((server.port, repr(error)))
                client = Client(server)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        if sys.exc_info()[0] is None:
            assert not self.failed, self.failed[:5]
            assert not self.unexplained, self.unexplained[:5]


def publish(client, traffic, number):
    """Publishes and keeps what its ids are; the answer tells the version."""
    made = client.good("POST", "/vocabs?name=v&split=cl100k", vocabulary(number), headers={"content-type": "application/octet-stream"})
    version = made["vocab"]["version"]
    traffic.golden[version] = client.good("POST", "/encode", {"text": TEXT, "vocab": f"v@{version}"})["ids"]
    return version


def follows(client, version, within):
    """Seconds until a server serves that version by the alias."""
    begin = time.monotonic()
    while True:
        if client.good("POST", "/encode", {"text": "one", "vocab": "v@prod"})["vocab"]["version"] == version:
            return time.monotonic() - begin
        assert time.monotonic() - begin < within, f"version {version} is not served after {within} s"
        time.sleep(0.02)


def main():
    from server import Server, binary

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--vocabd")
    arguments.add_argument("--seconds", type=float, default=20)
    arguments = arguments.parse_args()
    program = binary(arguments.vocabd)
    seed = int(os.environ.get("VOCABD_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"seed {seed}")
    dice = random.Random(seed)

    with Bucket() as bucket:
        os.environ["AWS_ENDPOINT"] = f"http://127.0.0.1:{bucket.port}"
        settings = {"take_over_seconds": TAKE_OVER_SECONDS, "store": "s3://vocabs/test", "watch_seconds": WATCH_SECONDS, "max_connections": 100}
        servers = [Server(program, **settings) for _ in range(3)]
        for server in servers:
            server.environment["AWS_ENDPOINT"] = os.environ["AWS_ENDPOINT"]
        try:
            for server in servers:
                server.start()
            clients = [Client(server) for server in servers]
            swaps(arguments.seconds, dice, servers, clients)
            kill(dice, servers, clients)
            take_over(dice, servers, clients)
            outage(bucket, servers, clients)
        finally:
            for server in servers:
                server.process and server.process.poll() is None and server.__exit__()


def first(clients, traffic):
    publish(clients[0], traffic, 1)
    clients[0].good("PUT", "/vocabs/v/aliases/prod", {"version": 1})
    for client in clients:
        client.good("POST", "/reload")


def swaps(seconds, dice, servers, clients):
    traffic = Traffic(servers)
    first(clients, traffic)
    moves, published, slowest, number = 0, 1, 0.0, 1
    with traffic:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            on = dice.choice(clients)
            if dice.random() < 0.5 or number == 1:
                number += 1
                version, published = publish(on, traffic, number), published + 1
            else:
                # One that the others may not know yet.
                version = dice.choice(list(traffic.golden))
            on.good("PUT", "/vocabs/v/aliases/prod", {"version": version})
            moves += 1
            for other in clients:
                if other is on:
                    assert follows(other, version, 0.5) < 0.5
                elif moves % 3 == 0:
                    slowest = max(slowest, follows(other, version, WATCH_SECONDS + 5))
                else:
                    other.good("POST", "/reload")
                    assert follows(other, version, 0.5) < 0.5
    replicas = {port for port, _ in traffic.seen}
    assert len(replicas) == 3 and len(traffic.seen) > 9, traffic.seen
    print(
        f"swaps: {traffic.asked} requests on three replicas, {published} publications, {moves} moves of the alias; "
        f"0 failed, 0 unexplained versions; by itself a replica followed within {slowest:.2f} s (watch_seconds {WATCH_SECONDS})"
    )


def kill(dice, servers, clients):
    """A replica is killed while it publishes; the others go on, and it comes back to what they have."""
    gone = dice.randrange(3)
    left = [server for index, server in enumerate(servers) if index != gone]
    others = [client for index, client in enumerate(clients) if index != gone]
    traffic = Traffic(left)
    for version in range(1, 1_000_000):
        status, body = others[0].ask("POST", "/encode", {"text": TEXT, "vocab": f"v@{version}"})
        if status == 404:
            break
        traffic.golden[version] = body["ids"]
    with traffic:
        publishing = threading.Thread(target=lambda: try_publish(servers[gone]))
        publishing.start()
        time.sleep(dice.random() * 0.05)
        servers[gone].process.send_signal(signal.SIGKILL)
        servers[gone].process.wait()
        publishing.join()
        version = publish(others[0], traffic, 1000)
        others[1].good("PUT", "/vocabs/v/aliases/prod", {"version": version})
        servers[gone].connection = None
        servers[gone].start()
        clients[gone] = Client(servers[gone])
        assert clients[gone].good("GET", "/health")["status"] == "ok"
        assert follows(clients[gone], version, 0.5) < 0.5
        time.sleep(WATCH_SECONDS + 1)
    print(f"kill: {traffic.asked} requests on the two that stayed; 0 failed; the third came back to version {version}")


def try_publish(server):
    try:
        kind = {"content-type": "application/octet-stream"}
        Client(server).ask("POST", "/vocabs?name=v&split=cl100k", vocabulary(999), headers=kind)
    except (OSError, http.client.HTTPException):
        pass  # It was killed before it answered.


def take_over(dice, servers, clients):
    """A replica is killed while it trains: another makes the same vocabulary, and says so in the job of that id."""
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(3, 9))) for _ in range(60_000)]
    job = {"name": "t", "corpus": {"texts": [" ".join(dice.choices(words, k=600_000))]}, "vocab_size": 12_000}
    gone, other = dice.sample(range(3), 2)
    ids = []
    for killed in (True, False):
        ids.append(clients[gone].good("POST", "/train", job)["id"])
        while clients[other].good("GET", f"/train/{ids[-1]}")["state"] == "queued":
            time.sleep(0.02)
        if killed:
            # Whoever runs it: the claim has no names of hosts, so all but one are killed.
            for index, server in enumerate(servers):
                if index != other:
                    server.process.send_signal(signal.SIGKILL)
                    server.process.wait()
        begin = time.monotonic()
        while (told := clients[other].good("GET", f"/train/{ids[-1]}"))["state"] in ("queued", "running"):
            assert time.monotonic() - begin < 300, told
            time.sleep(0.05)
        assert told["state"] == "succeeded", told
        if killed:
            first, starts = told, time.monotonic() - begin
            for index, server in enumerate(servers):
                if index != other:
                    server.connection = None
                    server.start()
                    clients[index] = Client(server)
    assert told["result"]["vocab"] == first["result"]["vocab"] and not told["result"]["created"], (first, told)
    for client in clients:
        assert client.good("GET", f"/train/{ids[0]}")["state"] == "succeeded"
    print(f"take over: the job of a killed replica ended {starts:.1f} s after the kill, with the vocabulary of an undisturbed run")


def outage(bucket, servers, clients):
    """The bucket is gone: serving goes on, changes are refused in words, nobody has to be started again."""
    traffic = Traffic(servers)
    body = clients[0].good("POST", "/encode", {"text": TEXT, "vocab": "v@prod"})
    traffic.golden[body["vocab"]["version"]] = body["ids"]
    with traffic:
        bucket.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        bucket.process.send_signal(signal.SIGCONT)
        number = publish(clients[1], traffic, 1001)
        bucket.process.kill()
        bucket.process.wait()
        begin = time.monotonic()
        status, body = clients[2].ask("PUT", "/vocabs/v/aliases/prod", {"version": number})
        took = time.monotonic() - begin
        assert (status, body["code"]) == (503, "storage_unavailable"), (status, body)
        for client in clients:
            assert client.good("GET", "/readyz")["status"] == "ok"
            status, body = client.ask("POST", "/reload")
            assert status == 200 and body["failed"][0]["what"] == "store", body
    print(f"outage: {traffic.asked} requests while the bucket was away; 0 failed; a change was refused after {took:.1f} s")


if __name__ == "__main__":
    main()
