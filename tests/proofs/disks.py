#!/usr/bin/env python3
"""Disks that are full, read-only or broken: changes are refused in words, serving goes on, and all works again without a restart.

    tests/proofs/disks.py [--vocabd BINARY]

Wants root and strace. First the data directory is on a tmpfs that is filled, and made read-only, and mended again. Then, on a directory,
each call that a publication, a moved alias and a deletion make of the system fails once, one after the other, with EIO and with ENOSPC
(strace's fault injection on the thread on which a directory is changed). After each the state is that before the change or, acknowledged,
that after it, for the running server and for one that reads the directory anew; and the same change succeeds.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

from powercuts import FILE, Server, ask

# Which calls fail, and how.
FAULTS = {
    "EIO": ["openat", "write", "fsync", "rename", "link", "linkat", "unlink", "statx", "newfstatat", "getdents64", "flock"],
    "ENOSPC": ["openat", "write", "fsync", "rename", "link", "linkat"],
}
# So many calls of a kind are tried: what is read grows with every change.
MOST_CALLS = 30
TEXT = json.dumps({"text": "still here", "vocab": "kept@live"}).encode()


def publish(client, name, number):
    return ask(client, "POST", f"/vocabs?name={name}&format=tiktoken&split=cl100k&special=%3Ctoken%3E%3D{1000 + number}", FILE)


def move(client, version, name="kept", alias="live"):
    return ask(client, "PUT", f"/vocabs/{name}/aliases/{alias}", json.dumps({"version": version}).encode())


def serves(client):
    status, answer = ask(client, "POST", "/encode", TEXT)
    assert status == 200 and len(answer["ids"]) == 10, (status, answer)
    assert ask(client, "GET", "/readyz")[0] == 200


def refused(answer):
    status, problem = answer
    assert status in (503, 507) and problem["code"].startswith("storage_"), answer
    assert problem["detail"], answer


def litter(data):
    return [path for path in pathlib.Path(data).rglob("*#*") if path.is_file()]


def no_litter(data):
    # A put that was given up is removed by whoever made it, a moment later.
    for _ in range(100):
        if not litter(data):
            return
        time.sleep(0.05)
    raise AssertionError(litter(data))


def state(client, name):
    """The versions of a vocabulary with their digests, and where its aliases are."""
    status, listed = ask(client, "GET", "/vocabs")
    assert status == 200, listed
    vocab = next(vocab for vocab in listed["vocabs"] if vocab["name"] == name)
    return {version["version"]: version["digest"] for version in vocab["versions"]}, vocab["aliases"]


def mount(*options, at):
    subprocess.run(["mount", *options, at], check=True)


def full_and_read_only(vocabd, folder):
    data = folder / "tmpfs"
    data.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", at=data)
    try:
        server = Server(vocabd, data, None)
        client = server.client()
        for number in (1, 2):
            assert publish(client, "kept", number)[0] == 201
        assert move(client, 1)[0] in (200, 201)
        serves(client)

        for name, broken, mended in [
            ("full", lambda: fill(data / "ballast"), lambda: (data / "ballast").unlink()),
            ("read-only", lambda: mount("-o", "remount,ro", at=data), lambda: mount("-o", "remount,rw", at=data)),
        ]:
            before = state(client, "kept")
            broken()
            refused(publish(client, "kept", 100))
            refused(ask(client, "PUT", "/uploads/big", b"x" * 1_000_000))
            refused(move(client, 2))
            refused(ask(client, "POST", "/train", b'{"name": "t", "corpus": {"texts": ["a a"]}, "vocab_size": 257}'))
            serves(client)
            assert state(client, "kept") == before
            mended()
            no_litter(data)
            last = max(before[0])
            assert publish(client, "kept", 200 + last)[0] == 201
            assert move(client, 2)[0] == 200 and move(client, 1)[0] == 200
            assert ask(client, "PUT", "/uploads/big", b"x" * 1_000_000)[0] in (200, 201)
            assert ask(client, "DELETE", "/uploads/big")[0] == 204
            serves(client)
            print(f"{name}: four kinds of change refused in words, served meanwhile, worked again without a restart")
        before = state(client, "kept")
        server.kill()
        server = Server(vocabd, data, None)
        assert state(server.client(), "kept") == before
        server.kill()
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def fill(path):
    """Takes every byte that is left, and then gives nothing back."""
    with open(path, "wb", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError:
                pass


class Injected:
    """strace on the thread on which the directory is changed, failing its nth call of a kind."""

    def __init__(self, server, call, error, nth, log):
        tasks = pathlib.Path(f"/proc/{server.process.pid}/task")
        thread = next(task.name for task in tasks.iterdir() if (task / "comm").read_text().strip() == "directories")
        self.log = log
        self.process = subprocess.Popen(
            ["strace", "-qq", "-o", log, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={nth}", "-p", thread],
            stderr=subprocess.PIPE)
        traced = pathlib.Path(f"/proc/{server.process.pid}/task/{thread}/status")
        while "TracerPid:\t0\n" in traced.read_text():
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.002)
        # Attached is not yet going on.
        time.sleep(0.01)

    def ended(self):
        self.process.terminate()
        self.process.wait()
        return "INJECTED" in self.log.read_text()


class Changes:
    """A server over a directory of its own with two versions and an alias, and what is done to them."""

    def __init__(self, vocabd, data):
        self.server, self.number = Server(vocabd, data, None), 10
        self.client = self.server.client()
        for number in (1, 2):
            assert publish(self.client, "kept", number)[0] == 201
        assert move(self.client, 1)[0] in (200, 201)

    def state(self):
        return state(self.client, "kept")

    def a_publication(self):
        self.number += 1
        number = self.number
        return lambda: publish(self.client, "kept", number)

    def a_move(self):
        to = 3 - self.state()[1]["live"]
        return lambda: move(self.client, to)

    def a_deletion(self):
        assert self.a_publication()()[0] == 201
        last = max(self.state()[0])
        return lambda: ask(self.client, "DELETE", f"/vocabs/kept/versions/{last}")

    def tidy(self):
        versions, _ = self.state()
        return all(ask(self.client, "DELETE", f"/vocabs/kept/versions/{last}")[0] == 204 for last in versions if last > 2)


def each_call(vocabd, folder, kind, error, call):
    """Fails each call of this kind that a change makes; how often the change was refused, and how often it went through all the same."""
    data, log = folder / f"{kind}-{error}-{call}", folder / "strace.txt"
    changes, went = Changes(vocabd, data), [0, 0]
    client = changes.client
    for nth in range(1, MOST_CALLS + 1):
        change, before = getattr(changes, kind)(), changes.state()
        injected = Injected(changes.server, call, error, nth, log)
        status, answer = change()
        fired = injected.ended()
        where = (kind, error, call, nth, status, answer)
        serves(client)
        if status in (200, 201, 204):
            assert changes.state() != before, where
        else:
            assert fired, where
            refused((status, answer))
            assert changes.state() == before, where
            assert ask(client, "POST", "/reload")[0] == 200, where
            # What failed may have been written after all: whole, as if by another process.
            if changes.state() == before:
                again = change()
                assert again[0] in (200, 201, 204), (where, again)
        if not fired:
            break
        went[status in (200, 201, 204)] += 1
        assert changes.tidy(), where
    assert ask(client, "POST", "/reload")[0] == 200
    last = changes.state()
    changes.server.kill()
    server = Server(vocabd, data, None)
    assert state(server.client(), "kept") == last
    serves(server.client())
    # What was begun and could not be removed, or looked at, is removed by the next start.
    no_litter(data)
    server.kill()
    return went


def every_call(vocabd, folder):
    for kind in ("a_publication", "a_move", "a_deletion"):
        went = [each_call(vocabd, folder, kind, error, call) for error, calls in FAULTS.items() for call in calls]
        failed, through = (sum(each) for each in zip(*went))
        assert failed >= 10, f"hardly a call of {kind} failed"
        print(f"{kind}: {failed + through} calls failed, one at a time; {failed} times it was refused and {through} times it went through; whole after each")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabd", default="target/release/vocabd")
    vocabd = os.path.abspath(parser.parse_args().vocabd)
    with tempfile.TemporaryDirectory() as folder:
        full_and_read_only(vocabd, pathlib.Path(folder))
        every_call(vocabd, pathlib.Path(folder))


if __name__ == "__main__":
    main()
