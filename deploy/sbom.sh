#!/bin/sh
# What the program is made of, as CycloneDX 1.5 (JSON) on standard output: every crate that is linked in, by the lock file, with its
# licence, its checksum and what it depends on. `deploy/sbom.sh [TARGET]`; the image has the outcome as /sbom.cdx.json.
# Wants nothing but cargo and awk, and no network where the crates are there.
set -eu
cd "$(dirname "$0")/.."
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}

cargo tree --locked --quiet --target "$target" --edges normal,no-proc-macro --prefix depth --format '|{p}|{l}' |
    awk -v lock=Cargo.lock '
    BEGIN {
        FS = "|"
        # The checksums of the lock file, by name and version.
        while ((getline line < lock) > 0) {
            split(line, part, "\"")
            if (line ~ /^name = /) name = part[2]
            if (line ~ /^version = /) version = part[2]
            if (line ~ /^checksum = /) checksum[name "@" version] = part[2]
        }
    }
    {
        # DEPTH|NAME vVERSION (where it is from)|LICENCE; (*) stands behind one whose dependencies were told before.
        depth = $1 + 0
        split($2, word, " ")
        id = word[1] "@" substr(word[2], 2)
        path[depth] = id
        if (!(id in seen)) { seen[id] = 1; order[++count] = id }
        licence = $3
        sub(/ \(\*\)$/, "", licence)
        gsub("/", " OR ", licence)
        # Among expressions with slashes some have spaces around them.
        gsub(/  +/, " ", licence)
        if (licence != "") licences[id] = licence
        if (depth > 0 && !((path[depth - 1], id) in edge)) {
            edge[path[depth - 1], id] = 1
            needs[path[depth - 1]] = needs[path[depth - 1]] (needs[path[depth - 1]] == "" ? "" : ",") "\"pkg:cargo/" id "\""
        }
    }
    function component(id, kind,   at) {
        at = index(id, "@")
        printf "{\"type\":\"%s\",\"bom-ref\":\"pkg:cargo/%s\",\"name\":\"%s\",\"version\":\"%s\",\"purl\":\"pkg:cargo/%s\"", kind, id, substr(id, 1, at - 1), substr(id, at + 1), id
        if (id in checksum) printf ",\"hashes\":[{\"alg\":\"SHA-256\",\"content\":\"%s\"}]", checksum[id]
        if (id in licences) printf ",\"licenses\":[{\"expression\":\"%s\"}]", licences[id]
        printf "}"
    }
    END {
        if (count < 2) { print "cargo tree told of no crates" > "/dev/stderr"; exit 1 }
        printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\"metadata\":{\"component\":"
        component(order[1], "application")
        printf "},\n\"components\":["
        for (i = 2; i <= count; i++) { if (i > 2) printf ",\n"; component(order[i], "library") }
        printf "],\n\"dependencies\":["
        for (i = 1; i <= count; i++) printf "%s{\"ref\":\"pkg:cargo/%s\",\"dependsOn\":[%s]}", (i > 1 ? ",\n" : ""), order[i], needs[order[i]]
        print "]}"
    }'
