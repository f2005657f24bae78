"""A vocabd server on loopback with a data directory of its own, and the few routes that the cross-checks ask."""

import base64
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.parse

# The server takes variables of this beginning for settings.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("VOCABD_")}
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Refused(Exception):
    """An answer that is none of the good ones; `detail` says what the server said of it."""

    def __init__(self, status, detail):
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail


def binary(given=None):
    """The binary: as given, or the release build, which is made if it has to be."""
    if given:
        return str(pathlib.Path(given).resolve())
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    return str(ROOT / "target/release/vocabd")


class Server:
    """`with Server(binary) as server:` it runs, and what it kept is gone afterwards."""

    def __init__(self, program, **settings):
        """`settings` are those of the server, by their names in the configuration file."""
        self.program = program
        self.environment = ENVIRONMENT | {f"VOCABD_{name.upper()}": str(value) for name, value in settings.items()}
        self.data = tempfile.mkdtemp(prefix="vocabd-cross-")
        self.process = self.connection = None

    def __enter__(self):
        self.start()
        return self

    def start(self):
        """Starts it on a port that is free now, and waits until it answers."""
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = open(pathlib.Path(self.data) / "log", "ab")
        self.process = subprocess.Popen(
            [self.program, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data],
            stdout=self.log,
            stderr=self.log,
            env=self.environment,
        )
        for _ in range(600):
            if self.process.poll() is not None:
                raise SystemExit(f"vocabd ended: {(pathlib.Path(self.data) / 'log').read_text()[-2000:]}")
            try:
                self.ask("GET", "/livez")
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise SystemExit("vocabd does not answer")

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def stop(self):
        if self.connection:
            self.connection.close()
            self.connection = None
        self.process.terminate()
        self.process.wait(60)
        self.log.close()

    def command(self, *args):
        """The command line over the same directory; what it prints."""
        run = subprocess.run(
            [self.program, *map(str, args), "--data-dir", self.data], capture_output=True, text=True, env=ENVIRONMENT
        )
        if run.returncode:
            raise Refused(run.returncode, run.stderr.strip())
        return run.stdout

    def ask(self, method, path, body=None, kind="application/json"):
        """The JSON, or the bytes, of an answer."""
        if body is not None and not isinstance(body, bytes):
            # Not ensure_ascii=False: a lone surrogate of a text has to get there.
            body = json.dumps(body).encode()
        for attempt in (0, 1):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            try:
                headers = {"content-type": kind} if body is not None else {}
                self.connection.request(method, path, body, headers)
                answer = self.connection.getresponse()
                content = answer.read()
                break
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                # An idle connection that the server has closed.
                self.connection.close()
                self.connection = None
                if attempt:
                    raise
        is_json = "json" in answer.headers.get("content-type", "")
        if answer.status >= 400:
            detail = json.loads(content).get("detail", "") if is_json else content[:200].decode(errors="replace")
            raise Refused(answer.status, detail)
        return json.loads(content) if is_json else content

    def add(self, name, content, **query):
        """Imports a file as a version of `name`."""
        query = urllib.parse.urlencode({"name": name, **query})
        return self.ask("POST", f"/vocabs?{query}", content, "application/octet-stream")["vocab"]

    def remove(self, vocab):
        """Removes what `add` gave."""
        self.ask("DELETE", f"/vocabs/{vocab['name']}/versions/{vocab['version']}")

    def export(self, name, format):
        return self.ask("GET", f"/vocabs/{name}/export?format={format}")

    def encode_all(self, name, texts, special="text", **options):
        """Ids of each text, by the batch route."""
        ids = []
        for batch in batches(texts):
            body = {"vocab": name, "texts": batch, "special": special, **options}
            ids += self.ask("POST", "/encode/batch", body)["ids"]
        return ids

    def encode(self, name, text, special="text", add=False, unit="char"):
        """Ids of a text, and the offsets of each."""
        body = {
            "vocab": name, "text": text, "special": special, "add_special_tokens": add,
            "return": ["ids", "offsets"], "offset_unit": unit,
        }  # fmt: skip
        answer = self.ask("POST", "/encode", body)
        return answer["ids"], [tuple(span) for span in answer["offsets"]]

    def decode_all(self, name, sequences, skip=False):
        """The text of each sequence of ids."""
        body = {"vocab": name, "ids": sequences, "skip_special_tokens": skip}
        return self.ask("POST", "/decode/batch", body)["texts"]

    def decode_bytes(self, name, sequences):
        body = {"vocab": name, "ids": sequences, "errors": "bytes"}
        return [base64.b64decode(b) for b in self.ask("POST", "/decode/batch", body)["bytes_b64"]]


def batches(texts, most=2000, most_chars=2_000_000):
    """Parts of a list that fit into a request."""
    part, chars = [], 0
    for text in texts:
        if part and (len(part) >= most or chars + len(text) > most_chars):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    if part:
        yield part
