#!/usr/bin/env python3
"""What was acknowledged survives a cut of the power.

    tests/proofs/powercuts.py [--vocabd BINARY] [--cuts N] [--without-sync]

Wants root and mkfs.xfs. The data directory is on XFS in a loop device; in the middle of publications, moved aliases and
submitted jobs the file system is shut down as a cut would leave it (XFS_IOC_GOINGDOWN, no flush of its log), the server is
killed, and the file system is mounted again. Then every acknowledged version must be there with the content of its digest, the
alias where it was acknowledged or asked to be, every accepted job known, and nothing half done. What is answered once the cut has begun
is not acknowledged: XFS tells some who wait for their log just then that it is written, which a power supply has no time for (a loop of
write, fsync, rename and fsync of the folder alone is told so once in 1,500 times).

With --without-sync the server runs with an fsync that does nothing: then something must be lost, or the proof proves nothing.
"""

import argparse
import base64
import collections
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import tempfile
import threading
import time

# _IOR('X', 125, uint32_t), and to leave the log unwritten.
XFS_IOC_GOINGDOWN, NO_LOG_FLUSH = 0x8004587D, 2

NO_SYNC = """
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int sync_file_range(int fd, long a, long b, unsigned c) { (void)fd; (void)a; (void)b; (void)c; return 0; }
int syncfs(int fd) { (void)fd; return 0; }
void sync(void) {}
"""

FILE = "".join(f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256)).encode()


class Disk:
    def __init__(self, folder):
        self.image, self.at = folder / "disk.img", folder / "mnt"
        self.at.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(512 << 20)
        subprocess.run(["mkfs.xfs", "-q", "-f", self.image], check=True)

    def mount(self):
        subprocess.run(["mount", "-t", "xfs", "-o", "loop", self.image, self.at], check=True)

    def cut(self):
        handle = os.open(self.at, os.O_RDONLY)
        fcntl.ioctl(handle, XFS_IOC_GOINGDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(handle)

    def unmount(self):
        for _ in range(100):
            if subprocess.run(["umount", self.at], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit("the file system is busy")


class Server:
    def __init__(self, vocabd, data, preload):
        environment = {"LD_PRELOAD": str(preload)} if preload else {}
        self.process = subprocess.Popen(
            [vocabd, "serve", "--listen", "127.0.0.1:0", "--data-dir", data], stderr=subprocess.PIPE, text=True,
            env={**environment, "VOCABD_MIN_FREE_BYTES": "0", "VOCABD_MAX_QUEUED_JOBS": "10000", "VOCABD_KEEP_VERSIONS": "0"})
        log = []
        for text in self.process.stderr:
            log.append(text)
            line = json.loads(text) if text.startswith("{") else {}
            if line.get("message") == "listening":
                self.port = int(line["address"].rsplit(":", 1)[1])
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        raise SystemExit("the server does not start:\n" + "".join(log))

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def ask(client, method, path, body=None):
    client.request(method, path, body, {"content-type": "application/json"} if body and body[:1] == b"{" else {})
    answer = client.getresponse()
    content = answer.read()
    return answer.status, json.loads(content) if content else None


class Kept:
    """What the server acknowledged of one data directory."""

    def __init__(self, acknowledged):
        self.versions, self.jobs, self.lock = {}, set(), threading.Lock()
        # Where the alias is, and where it may be: what was asked since and not acknowledged.
        self.alias, self.alias_asked = None, set()
        self.sent = 0
        # Set when the power begins to go.
        self.cut = threading.Event()
        # Of all directories.
        self.acknowledged = acknowledged

    def work(self, server, stop):
        def loop(step):
            client = server.client()
            # What cannot be kept is refused, or the connection ends: nothing of that was acknowledged.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                while not stop.is_set():
                    step(client)

        steps = [self.publish, self.publish, self.move, self.submit]
        threads = [threading.Thread(target=loop, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        return threads

    def publish(self, client):
        with self.lock:
            self.sent += 1
            special = 1000 + self.sent
        status, made = ask(client, "POST", f"/vocabs?name=many&format=tiktoken&split=cl100k&special=%3Ctoken%3E%3D{special}", FILE)
        if status == 201 and not self.cut.is_set():
            with self.lock:
                version = made["vocab"]["version"]
                assert version not in self.versions, f"the number {version} was given twice"
                self.versions[version] = made["vocab"]["digest"]
                self.acknowledged["versions"] += 1
        elif status == 200:
            raise SystemExit(f"a version was there already: {made}")

    def move(self, client):
        with self.lock:
            version = random.choice(list(self.versions)) if self.versions else None
            self.alias_asked |= {version} - {None}
        if version is None:
            time.sleep(0.005)
            return
        status, _ = ask(client, "PUT", "/vocabs/many/aliases/live", json.dumps({"version": version}).encode())
        if status in (200, 201) and not self.cut.is_set():
            with self.lock:
                self.alias, self.alias_asked = version, set()
                self.acknowledged["moves"] += 1

    def submit(self, client):
        body = {"name": "trained", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260}
        status, job = ask(client, "POST", "/train", json.dumps(body).encode())
        if status == 202 and not self.cut.is_set():
            with self.lock:
                self.jobs.add(job["id"])
                self.acknowledged["jobs"] += 1
        time.sleep(0.05)

    def lost(self, server, data):
        """What is missing or wrong."""
        client, wrong = server.client(), []
        _, health = ask(client, "GET", "/health")
        wrong += [f"{failure}" for failure in health["failed"]]
        _, listing = ask(client, "GET", "/vocabs")
        many = next((vocab for vocab in listing["vocabs"] if vocab["name"] == "many"), {"versions": [], "aliases": {}})
        found = {facts["version"]: facts["digest"] for facts in many["versions"]}
        for version, digest in self.versions.items():
            if found.get(version) != digest:
                wrong.append(f"many@{version}: {found.get(version)}")
        for version, digest in found.items():
            blob = data / "blobs" / "sha256" / digest.removeprefix("sha256:")
            if version not in self.versions or version == self.alias:
                status, _ = ask(client, "POST", "/encode", json.dumps({"vocab": f"many@{version}", "text": "abc"}).encode())
                if status != 200:
                    wrong.append(f"many@{version} cannot be used: {status}")
            if not blob.exists() or hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
                wrong.append(f"the content of many@{version} is missing or torn")
        at = many["aliases"].get("live")
        if at not in {self.alias, *self.alias_asked}:
            wrong.append(f"the alias is at {at}: acknowledged {self.alias}, asked {self.alias_asked}")
        for job in self.jobs:
            if ask(client, "GET", f"/train/{job}")[0] != 200:
                wrong.append(f"the job {job} is not known")
        # What was written and not acknowledged is whole, and counts from now on.
        self.versions, self.alias, self.alias_asked = found, at, set()
        self.jobs = {job for job in self.jobs if f"the job {job} is not known" not in wrong}
        litter = unfinished(data)
        if litter:
            # Jobs that go on publish while this is looked at.
            time.sleep(1)
            litter &= unfinished(data)
        return wrong + [f"litter: {name}" for name, _ in litter]


def unfinished(data):
    """Files that a put has begun with: their names, and which files they are."""
    found = set()
    for path in (path for folder in ("vocabs", "blobs") for path in (data / folder).rglob("*") if "#" in path.name):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ctime_ns))
    return found


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--vocabd", default="target/release/vocabd")
    arguments.add_argument("--cuts", type=int, default=200)
    arguments.add_argument("--without-sync", action="store_true")
    arguments.add_argument("--seed", type=int, default=time.time_ns())
    arguments = arguments.parse_args()
    random.seed(arguments.seed)
    print("seed", arguments.seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleaning:
        folder = pathlib.Path(folder)
        preload = None
        if arguments.without_sync:
            preload = folder / "nosync.so"
            source = folder / "nosync.c"
            source.write_text(NO_SYNC)
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", preload, source], check=True)
        disk = Disk(folder)
        disk.mount()
        servers = []
        cleaning.callback(disk.unmount)
        cleaning.callback(lambda: [server.kill() for server in servers])
        acknowledged, losses, begin = collections.Counter(), 0, time.time()
        for number in range(arguments.cuts):
            if number % 20 == 0:
                # A new directory now and then: making it must last as well, and a round stays a matter of a second.
                data, kept = disk.at / f"data-{number}" / "below", Kept(acknowledged)
            server = Server(arguments.vocabd, data, preload)
            servers[:] = [server]
            before = kept.acknowledged["versions"]
            kept.cut.clear()
            stop = threading.Event()
            threads = kept.work(server, stop)
            deadline = time.time() + 30
            while kept.acknowledged["versions"] == before and time.time() < deadline:
                time.sleep(0.001)
            time.sleep(random.random() * 0.5)
            kept.cut.set()
            disk.cut()
            server.kill()
            stop.set()
            for thread in threads:
                thread.join()
            disk.unmount()
            disk.mount()
            server = Server(arguments.vocabd, data, preload)
            servers[:] = [server]
            wrong = kept.lost(server, data)
            server.kill()
            losses += bool(wrong)
            for one in wrong[:5]:
                print(f"cut {number + 1}: {one}")
            if wrong and arguments.without_sync:
                # A fresh directory: what was lost is gone.
                disk.unmount()
                subprocess.run(["mkfs.xfs", "-q", "-f", disk.image], check=True)
                disk.mount()
                kept = Kept(acknowledged)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(acknowledged.items()))
    print(f"{arguments.cuts} cuts, {time.time() - begin:.0f} s: acknowledged {counts}; {losses} cuts after which something was lost or torn")
    if arguments.without_sync and not losses:
        raise SystemExit("nothing was lost although nothing was synced: this proves nothing")
    if losses and not arguments.without_sync:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
