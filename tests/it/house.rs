//! The house rules that a machine can check: which module may name which, a pure engine, file sizes, words that do not
//! belong in the tree, and a reason beside every dependency.
//!
//! The arrows are checked over all of `src`, tests modules included; the purity of the engine only over what ships.

mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use source::Source;

/// Who may name whom; a module that is not on the left is a breach by itself, so a new one has to be placed here.
const ARROWS: [(&str, &[&str]); 18] = [
    ("engine", &[]),
    ("store", &[]),
    ("fetch", &[]),
    ("models", &[]),
    ("reread", &[]),
    ("keys", &["reread"]),
    ("config", &[]),
    ("telemetry", &[]),
    ("shutdown", &[]),
    ("lib", &[]),
    ("formats", &["engine"]),
    ("analysis", &["engine"]),
    ("chat", &["engine"]),
    ("registry", &["engine", "formats", "store"]),
    ("jobs", &["engine", "formats", "store", "registry", "fetch"]),
    ("http", &BELOW_HTTP),
    ("cli", &EVERYTHING),
    ("main", &EVERYTHING),
];
const BELOW_HTTP: [&str; 13] = [
    "engine",
    "store",
    "fetch",
    "models",
    "keys",
    "reread",
    "formats",
    "analysis",
    "chat",
    "registry",
    "jobs",
    "config",
    "telemetry",
];
const EVERYTHING: [&str; 16] = [
    "engine",
    "store",
    "fetch",
    "models",
    "keys",
    "reread",
    "formats",
    "analysis",
    "chat",
    "registry",
    "jobs",
    "config",
    "telemetry",
    "shutdown",
    "http",
    "cli",
];

/// What would make the engine more than bytes in, ids out: crates, and parts of `std`.
const IMPURE_CRATES: [&str; 7] =
    ["serde", "serde_json", "tracing", "tokio", "reqwest", "object_store", "axum"];
const IMPURE_STD: [&str; 5] = ["fs", "time", "net", "env", "process"];

const MOST_LINES: usize = 600;

/// Pieces that make a forbidden word when joined, so that this file does not hold one itself.
const FORBIDDEN: [[&str; 2]; 12] = [
    ["/tmp", "/wt"],
    ["/work", "/"],
    ["/root", "/"],
    ["crates", ".io"],
    ["docker", ".io"],
    ["ghcr", ".io"],
    ["gcr", ".io"],
    ["quay", ".io"],
    ["pypi", ".org"],
    ["pythonhosted", ".org"],
    ["registry.npmjs", ".org"],
    ["deb.debian", ".org"],
];

#[test]
fn modules_name_only_what_the_arrows_allow() {
    check("arrows", rust_files("src").iter().flat_map(arrow_breaches));
}

#[test]
fn the_engine_is_pure() {
    let engine = rust_files("src").into_iter().filter(|file| file.module() == "engine");
    check("engine", engine.flat_map(|file| purity_breaches(&file)));
}

#[test]
fn files_are_short_enough_to_read() {
    let files = rust_files("src").into_iter().chain(rust_files("tests"));
    check("file sizes", files.flat_map(|file| size_breach(&file)));
}

#[test]
fn no_machine_path_and_no_package_registry_in_the_tree() {
    check("words", tracked_texts().iter().flat_map(|(path, text)| word_breaches(path, text)));
}

#[test]
fn every_dependency_says_why() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    check("dependencies", unexplained_dependencies(&manifest));
}

/// What a reviewer is promised leads somewhere.
#[test]
fn tests_that_the_threats_name_are_there() {
    let page = fs::read_to_string(root().join("deploy/THREATS.md")).unwrap();
    let names: Vec<&str> = (page.lines().filter(|line| line.starts_with("| ") && line.contains('`')))
        .flat_map(|line| line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().split('`'))
        .filter(|word| word.contains('_'))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let code: String =
        tracked_texts().into_iter().filter(|(path, _)| path.ends_with(".rs")).map(|(_, text)| text).collect();
    let missing = names.into_iter().filter(|name| !code.contains(&format!("fn {name}(")));
    check("tests that are named and not there", missing.map(str::to_owned));
}

/// A mount of one file goes on showing the file of the start, whatever is put in its place: revoked keys would be good for ever.
#[test]
fn files_that_are_read_again_are_mounted_by_their_folder() {
    let guides = tracked_texts()
        .into_iter()
        .filter(|(path, _)| [".md", ".yaml", "Dockerfile"].iter().any(|end| path.ends_with(end)));
    let mounts = guides.flat_map(|(path, text)| {
        let of_one_file = (1..).zip(text.lines()).filter(|(_, line)| line.contains(".toml:/"));
        of_one_file
            .map(|(number, _)| format!("{path}:{number}: mounts a file, not its folder"))
            .collect::<Vec<_>>()
    });
    check("mounts", mounts);
}

#[test]
fn a_planted_arrow_is_found() {
    let found = |path: &str, code: &str| arrow_breaches(&Source::new(path, code));

    assert_eq!(
        found("src/engine/split.rs", "use crate::http::Problem;"),
        ["src/engine/split.rs:1: engine names http"]
    );
    assert_eq!(
        found(
            "src/store.rs",
            "fn f() {}\nuse crate::{\n    store::Key,\n    registry::{engine, http},\n    jobs,\n};"
        ),
        ["src/store.rs:4: store names registry", "src/store.rs:5: store names jobs"]
    );
    assert_eq!(
        found("src/jobs/worker.rs", "fn f() { let x = crate::cli::X; }"),
        ["src/jobs/worker.rs:1: jobs names cli"]
    );
    assert_eq!(
        found("src/formats.rs", "use super::registry::Registry;"),
        ["src/formats.rs:1: formats names registry"]
    );
    assert_eq!(
        found("src/store/key.rs", "mod tests {\n use super::super::super::jobs::Job;\n}"),
        ["src/store/key.rs:2: store names jobs"]
    );
    assert_eq!(found("src/http/encode.rs", "use crate::*;"), ["src/http/encode.rs:1: http names *"]);
    assert_eq!(found("src/engine.rs", "use vocabd::store::Key;"), ["src/engine.rs:1: engine names store"]);
    assert_eq!(found("src/new.rs", ""), ["src/new.rs:1: new has no place among the arrows"]);

    let allowed = "//! [`crate::http`]\n/* crate::http */ const A: &str = \"crate::http\"; const B: char = '\"';\n\
                   const C: &str = r#\"crate::http \" crate::cli\"#; pub(crate) fn f<'a>(x: &'a str) {}\n\
                   use crate::engine::http; mod tests { use super::super::registry; use super::store::Key; }";
    assert_eq!(found("src/registry/name.rs", allowed), [""; 0]);
    assert_eq!(found("src/main.rs", "use vocabd::http; use vocabd::cli;"), [""; 0]);
}

#[test]
fn a_planted_impurity_is_found() {
    let found = |code: &str| purity_breaches(&Source::new("src/engine/vocab.rs", code));

    assert_eq!(found("\nuse std::time::Instant;"), ["src/engine/vocab.rs:2: the engine uses std::time"]);
    assert_eq!(found("use std::{fmt, fs::File};"), ["src/engine/vocab.rs:1: the engine uses std::fs"]);
    assert_eq!(found("fn f() { tracing::info!() }"), ["src/engine/vocab.rs:1: the engine uses tracing"]);
    assert_eq!(found("#[derive(serde::Serialize)]"), ["src/engine/vocab.rs:1: the engine uses serde"]);
    assert_eq!(
        found("#[cfg(not(test))]\nuse std::net;"),
        ["src/engine/vocab.rs:2: the engine uses std::net"]
    );
    let in_tests =
        "use std::fmt;\n#[cfg(test)]\nmod tests { fn f() { use std::fs; } }\n#[cfg(test)] use std::time;";
    assert_eq!(found(in_tests), [""; 0]);
    assert_eq!(purity_breaches(&Source::new("src/engine/vocab/tests.rs", "use std::fs;")), [""; 0]);
}

#[test]
fn a_planted_length_word_and_dependency_are_found() {
    let long = Source::new("src/a.rs", &"\n".repeat(MOST_LINES + 1));
    assert_eq!(size_breach(&long), Some(format!("src/a.rs: 601 lines, {MOST_LINES} are the most")));
    assert_eq!(size_breach(&Source::new("src/a.rs", &"\n".repeat(MOST_LINES))), None);

    let path = format!("a\nsee {}/x", FORBIDDEN[0].concat());
    assert_eq!(word_breaches("README.md", &path), [format!("README.md:2: holds {}", FORBIDDEN[0].concat())]);

    let manifest =
        "[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n\nc = \"1\"\nd = \"1\" # why\n[features]\ne = []\n";
    assert_eq!(unexplained_dependencies(manifest), ["Cargo.toml:6: no comment says why c is here"]);
}

/// Fails with every breach on its own line.
fn check(rule: &str, breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "{rule}: {} breaches\n{}", breaches.len(), breaches.join("\n"));
}

fn arrow_breaches(file: &Source) -> Vec<String> {
    let from = file.module();
    let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == from) else {
        return vec![format!("{}:1: {from} has no place among the arrows", file.path)];
    };
    file.named_modules()
        .into_iter()
        .filter(|(_, to)| to != from && !allowed.contains(&to.as_str()))
        .map(|(line, to)| format!("{}:{line}: {from} names {to}", file.path))
        .collect()
}

fn purity_breaches(file: &Source) -> Vec<String> {
    if file.is_test() {
        return Vec::new();
    }
    let shipped = file.without_tests();
    let crates = shipped.words().filter(|(_, word)| IMPURE_CRATES.contains(word));
    let crates = crates.map(|(line, word)| (line, word.to_owned()));
    let parts = shipped.named_in("std").into_iter().filter(|(_, part)| IMPURE_STD.contains(&part.as_str()));
    crates
        .chain(parts.map(|(line, part)| (line, format!("std::{part}"))))
        .map(|(line, what)| format!("{}:{line}: the engine uses {what}", file.path))
        .collect()
}

fn size_breach(file: &Source) -> Option<String> {
    (file.lines > MOST_LINES)
        .then(|| format!("{}: {} lines, {MOST_LINES} are the most", file.path, file.lines))
}

fn word_breaches(path: &str, text: &str) -> Vec<String> {
    let words = FORBIDDEN.map(|pieces| pieces.concat());
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in words.iter().filter(|word| line.contains(word.as_str())) {
            breaches.push(format!("{path}:{number}: holds {word}"));
        }
    }
    breaches
}

/// A dependency is explained by a comment on its line or by one above it in the same block of lines.
fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let (mut in_dependencies, mut block_explained) = (false, false);
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            (in_dependencies, block_explained) = (line.contains("dependencies]"), false);
        } else if line.is_empty() {
            block_explained = false;
        } else if line.starts_with('#') {
            block_explained = true;
        } else if in_dependencies && !block_explained && !line.contains(" # ") && !line.contains("  #") {
            let name = line.split_whitespace().next().unwrap_or(line);
            breaches.push(format!("Cargo.toml:{number}: no comment says why {name} is here"));
        }
    }
    breaches
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files under a folder of the tree, in the order of their paths.
fn rust_files(folder: &str) -> Vec<Source> {
    let files = files_under(&root().join(folder));
    let rust = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources: Vec<Source> =
        rust.map(|path| Source::new(&in_tree(path), &fs::read_to_string(path).unwrap())).collect();
    assert!(!sources.is_empty(), "no Rust file under {folder}");
    sources
}

/// The text files that git tracks but for the lock files; all of the tree where there is no git.
fn tracked_texts() -> Vec<(String, String)> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let paths: Vec<PathBuf> = match listed {
        Ok(listed) if listed.status.success() && !listed.stdout.is_empty() => {
            let names = String::from_utf8(listed.stdout).unwrap();
            names.split_terminator('\0').map(|name| root().join(name)).collect()
        }
        _ => files_under(root()),
    };
    let read = paths.iter().filter(|path| !path.ends_with("Cargo.lock")).filter_map(|path| {
        let text = String::from_utf8(fs::read(path).ok()?).ok()?;
        Some((in_tree(path), text))
    });
    let texts: Vec<_> = read.collect();
    assert!(texts.iter().any(|(path, _)| path == "Cargo.toml"), "the list of files is not that of the tree");
    texts
}

/// Every file below a folder but for git's own, build output and data, sorted.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !path.is_dir() {
                files.push(path);
            } else if ![".git", "target", "data"].contains(&name.as_str()) {
                open.push(path);
            }
        }
    }
    files.sort();
    files
}

fn in_tree(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}
