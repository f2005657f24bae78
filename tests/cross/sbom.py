#!/usr/bin/env python3
"""A list of crates (deploy/sbom.sh) against the schema of CycloneDX and against what cargo-cyclonedx finds.

    tests/cross/sbom.py SBOM.json

Needs the packages of sbom.txt (tests/cross/venv.sh DIR sbom.txt) and cargo-cyclonedx.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).resolve().parents[2]


def names(sbom):
    return {(part["name"], part["version"]) for part in sbom["components"]}


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    fault = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    assert fault is None, fault
    ours = json.loads(text)
    refs = {part["bom-ref"] for part in ours["components"]} | {ours["metadata"]["component"]["bom-ref"]}
    assert all(set(entry["dependsOn"]) | {entry["ref"]} <= refs for entry in ours["dependencies"])
    assert all("hashes" in part and "licenses" in part for part in ours["components"])
    name = pathlib.Path(tempfile.mktemp(prefix="sbom-")).name
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.split("host: ")[1].split()[0]
    command = ["cargo", "cyclonedx", "--format", "json", "--no-build-deps", "--target", host, "--override-filename", name]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    theirs = ROOT / f"{name}.json"
    found = names(json.loads(theirs.read_text()))
    theirs.unlink()
    # The other tool counts macros, which are run by the compiler and are not in the program.
    missing, more = names(ours) - found, found - names(ours)
    print(f"{len(names(ours))} crates are linked in; of {len(more)} more the compiler runs the code: {sorted(name for name, _ in more)}")
    assert not missing, missing
    sys.exit(0)


main()
