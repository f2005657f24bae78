# Sourced by .ci/run and .ci/long: runs steps by name, goes on after a failure, and counts.
passed=()
failed=()

# step NAME COMMAND... : the command's output, then its outcome and time.
step() {
    local step_name=$1 step_begin=$SECONDS # names of their own: the command sees them
    shift
    printf '\n== %s: %s\n' "$step_name" "$*"
    if ("$@"); then
        passed+=("$step_name")
        printf -- '-- %s: ok, %d s\n' "$step_name" $((SECONDS - step_begin))
    else
        failed+=("$step_name")
        printf -- '-- %s: FAILED, %d s\n' "$step_name" $((SECONDS - step_begin))
    fi
}

# need PACKAGE COMMAND : installs the Debian package if the command (or the file, by its path) is not there; fails with
# the reason if it can't.
need() {
    { command -v "$2" >/dev/null || [ -f "$2" ]; } && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "$2 is missing and can't be installed here (wants apt-get and root): install the package $1" >&2
        return 1
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"; } >/dev/null
    command -v "$2" >/dev/null || [ -f "$2" ] || { echo "$1 was installed but brings no $2" >&2; return 1; }
}

# need_cargo COMMAND : a part of the toolchain, such as fmt; never downloads one.
need_cargo() {
    cargo "$1" --version >/dev/null 2>&1 && return
    echo "cargo $1 is missing: it is a component of the Rust toolchain (rustup component add)" >&2
    return 1
}

# Prints the totals and leaves with 1 if a step failed.
finish() {
    printf '\n%s: %d passed, %d failed, %d s\n' "$1" ${#passed[@]} ${#failed[@]} "$SECONDS"
    [ ${#failed[@]} = 0 ] && exit 0
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
}
