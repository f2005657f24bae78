#!/usr/bin/env bash
# run.sh VOCABD VENV [CASES] : the contract against a server. Lints openapi.yaml (redocly, through npx), lets schemathesis make all
# of its checks on CASES random requests an operation (150: over 5,000 in all) and on sequences of operations, and makes a Python
# client of the file and uses it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
vocabd=$(realpath "$1") venv=$(realpath "$2") cases=${3:-150} root=$here/../../..
work=$(mktemp -d)
port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$vocabd" serve --listen "127.0.0.1:$port" --data-dir "$work/data" >"$work/log" 2>&1 &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
for _ in $(seq 100); do
    "$venv/bin/python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null && break
    sleep 0.1
done

npx --yes @redocly/cli lint "$root/openapi.yaml" --format=summary

# Where it puts what it remembers goes with everything else.
cd "$work"
PYTHONPATH=$here SCHEMATHESIS_HOOKS=hooks "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run \
    "http://127.0.0.1:$port/openapi.yaml" --max-examples "$cases" --checks all --phases examples,coverage,fuzzing,stateful

"$venv/bin/openapi-python-client" generate --path "$root/openapi.yaml" --meta none --output-path vocabd_client
"$venv/bin/python" - "$port" <<'X'
import sys

from vocabd_client import Client
from vocabd_client.api.encode import decode, encode
from vocabd_client.models import DecodeRequest, EncodeRequest

client = Client(base_url=f"http://127.0.0.1:{sys.argv[1]}")
reply = encode.sync(client=client, body=EncodeRequest(text="Hello, 世界!"))
assert decode.sync(client=client, body=DecodeRequest(ids=reply.ids)).text == "Hello, 世界!"
print("the generated client works")
X
