//! The commands of the operator's page that save a data directory and bring it back.

use super::{Server, numbered};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A command of the section, by what it begins with, for these folders.
fn command(beginning: &str, data: &Path, copy: &Path) -> Command {
    let page = include_str!("../../../deploy/README.md");
    let section = page.split("## Backup and restore").nth(1).unwrap().split("\n## ").next().unwrap();
    let line =
        section.lines().find_map(|line| line.strip_prefix("    ").filter(|l| l.starts_with(beginning)));
    let line = line.unwrap_or_else(|| panic!("no command begins with {beginning}"));
    let line = line.replace("DATA", data.to_str().unwrap()).replace("COPY", copy.to_str().unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-ec", &line]);
    shell
}

/// While versions are published and an alias moves, each copy is whole: every version that it knows is there, and the alias names
/// one of them.
#[test]
fn a_copy_of_a_running_server_is_whole_and_serves_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let (published, ended) = (AtomicU32::new(0), AtomicBool::new(false));
    let publish = |number: u32| {
        let (query, file) = numbered(number);
        let (mut client, path) = (server.client(), format!("/vocabs?name=v&{query}"));
        client.ask("POST", &path, &file).expect(201);
        let version = json!({"version": number}).to_string();
        client
            .try_ask(
                "PUT",
                "/vocabs/v/aliases/prod",
                "content-type: application/json\r\n",
                version.as_bytes(),
            )
            .unwrap();
        published.store(number, Relaxed);
    };
    publish(1);
    std::thread::scope(|scope| {
        let _ending = super::StopOnDrop(&ended);
        scope.spawn(|| {
            for number in (2..).take_while(|_| !ended.load(Relaxed)) {
                publish(number);
            }
        });
        for round in 0..8 {
            let copy = dir.path().join(format!("copy-{round}.tar"));
            let before = published.load(Relaxed);
            let saved = command("cd DATA", &data, &copy).output().unwrap();
            assert!(saved.status.success(), "{saved:?}");
            check(dir.path(), round, &copy, before);
        }
    });
    server.stop();
}

fn check(dir: &Path, round: u32, copy: &Path, before: u32) {
    let restored = dir.join(format!("restored-{round}"));
    let brought = command("mkdir DATA", &restored, copy).output().unwrap();
    assert!(brought.status.success(), "{brought:?}");
    let server = Server::start(&restored);
    let health = server.get("/health");
    assert_eq!((&health["status"], &health["failed"]), (&json!("ok"), &json!([])));
    let version_of = |name: &str| server.get(&format!("/vocabs/{name}"))["version"].as_u64().unwrap();
    let (newest, alias) = (version_of("v"), version_of("v@prod"));
    assert!(
        newest >= before.into() && alias >= before.into() && alias <= newest,
        "{before} {alias} {newest}"
    );
    for version in 1..=newest {
        let name = format!("v@{version}");
        assert_eq!(server.encode(&name, "a")["vocab"]["version"], version, "{name}");
    }
    server.stop();
}
