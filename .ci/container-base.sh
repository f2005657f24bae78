#!/usr/bin/env bash
# Makes the build stage's base image locally, without an engine or an image registry: Debian from its own mirror, plus gcc
# and the Rust toolchain that runs this script, under the name that the Dockerfile's FROM line asks for. Does nothing
# when an image of that name is there already. About four minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

base=$(awk '$1 == "FROM" && /AS build$/ { print $2; exit }' Dockerfile)
if buildah inspect --type image "$base" >/dev/null 2>&1; then
    echo "base $base is here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$work/root.tar"
container=$(buildah from scratch)
buildah add -q "$container" "$work/root.tar" / >/dev/null
root=$(buildah mount "$container")
sysroot=$(rustc --print sysroot)
toolchain=$(basename "$sysroot")
mkdir -p "$root/usr/local/rustup/toolchains/$toolchain" "$root/usr/local/cargo/bin"
tar -C "$sysroot" --exclude=share/doc -cf - . | tar -C "$root/usr/local/rustup/toolchains/$toolchain" -xf -
for tool in cargo rustc rustdoc; do
    ln -s "/usr/local/rustup/toolchains/$toolchain/bin/$tool" "$root/usr/local/cargo/bin/$tool"
done
buildah umount "$container" >/dev/null
buildah config --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit -q --rm "$container" "localhost/$base" >/dev/null
echo "base $base made"
