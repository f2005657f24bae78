#!/usr/bin/env bash
# Puts RustSec's list of known faults where deny.toml looks for it, from a copy of that repository: a folder, or a .tar.zst of one, that
# VOCABD_ADVISORY_DB names, or the test data beside the project. Fails where there is none. With a network `cargo deny check` gets the newest one by
# itself.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=${VOCABD_ADVISORY_DB:-${SHARED_DATA_DIR:-../shared/data}/advisory-db.tar.zst}
[ -e "$copy" ] || {
    echo "advisories: there is no copy of RustSec's advisory-db at $copy: VOCABD_ADVISORY_DB can name one" >&2
    exit 1
}
# The name that cargo-deny gives to its clone of that repository.
clone=target/advisories/advisory-db-3157b0e258782691
rm -rf target/advisories && mkdir -p "$clone"
if [ -d "$copy" ]; then cp -r "$copy/." "$clone"; else tar --zstd -xf "$copy" -C "$clone"; fi
[ -d "$clone/crates" ] || { echo "advisories: $copy is no copy of RustSec's advisory-db" >&2; exit 1; }
if [ ! -d "$clone/.git" ]; then
    git -C "$clone" init --quiet && git -C "$clone" add --all --force &&
        git -C "$clone" -c user.name=vocabd -c user.email=vocabd@localhost commit --quiet --message "a copy"
fi
touch "$clone/.git/FETCH_HEAD"
echo "advisories: $(find "$clone/crates" -name 'RUSTSEC-*' | wc -l), the newest of $(find "$clone/crates" -name 'RUSTSEC-*' -exec grep -h '^date = ' {} + | cut -d'"' -f2 | sort | tail -1)"
