#!/usr/bin/env bash
# venv.sh DIR [LIST] : a Python environment in DIR with the reference implementations, in the versions of requirements.txt;
# or with what another list here has. Does nothing where one is that has them.
set -euo pipefail

[ $# = 1 ] || [ $# = 2 ] || { echo "usage: $0 DIR [LIST]" >&2; exit 2; }
wanted=$(dirname "$0")/${2:-requirements.txt}
has_all() {
    "$1/bin/python" - "$wanted" <<'X' 2>/dev/null
import importlib.metadata, sys
for line in open(sys.argv[1]):
    name, version = line.split("==")
    name = name.split("[")[0]
    assert importlib.metadata.version(name) == version.strip()
X
}
if has_all "$1"; then
    echo "the references are in $1"
    exit 0
fi
command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 1; }
python3 -m venv "$1" || { echo "python3 has no venv here: install the package python3-venv" >&2; exit 1; }
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement "$wanted"
has_all "$1"
