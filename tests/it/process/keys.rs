//! `vocabd key`, and a server that asks for what it made.

use super::start::refused;
use super::{Client, Server, finish, vocabd, wait_for};
use std::path::Path;
use std::process::Command;

fn key(args: &[&str], file: Option<&Path>) -> Command {
    let mut command = vocabd();
    command.arg("key").args(args);
    if let Some(file) = file {
        command.arg("--file").arg(file);
    }
    command
}

#[track_caller]
fn made(command: Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    out
}

/// On every address, as the image does it, with the word of consent that its environment has.
fn serve(data: &Path, keys: &Path) -> Command {
    let mut command = vocabd();
    command.env("VOCABD_KEYS_FILE", keys).env("VOCABD_LOG_LEVEL", "trace");
    command.env("VOCABD_ALLOW_UNAUTHENTICATED", "true");
    command.args(["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(data);
    command
}

#[test]
fn a_made_key_opens_what_its_scopes_say_until_it_is_taken_out() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("keys.toml");
    let encode = made(key(&["ci", "--scopes", "encode"], Some(&file)));
    let admin = made(key(&["root", "--scopes", "admin"], Some(&file)));
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(encode.trim()) && !kept.contains(admin.trim()), "hashes only: {kept}");

    let server = Server::run(serve(data.path(), &file));
    let ask = |key: &str, method: &str, path: &str, body: &[u8]| {
        let header = format!("Authorization: Bearer {}\r\n", key.trim());
        let mut client = Client::new(([127, 0, 0, 1], server.address.port()).into());
        client.try_ask(method, path, &header, body).unwrap()
    };
    let text = br#"{"text": "a"}"#;
    ask(&encode, "POST", "/encode", text).expect(200);
    ask(&encode, "POST", "/reload", b"").expect(403);
    ask(&admin, "POST", "/reload", b"").expect(200);
    let wrong = ask("vocabd_kanarienvogel", "POST", "/encode", text);
    assert_eq!(wrong.expect(401)["code"], "unknown_key");
    assert_eq!(ask("", "GET", "/readyz", b"").status, 200);

    // Revoked by a signal.
    std::fs::write(&file, kept.split("\n\n").nth(1).unwrap()).unwrap();
    server.signal(rustix::process::Signal::HUP);
    wait_for("the reload", || (ask(&encode, "POST", "/encode", text).status == 401).then_some(()));
    ask(&admin, "POST", "/encode", text).expect(200);
    let log = server.stop();
    assert!(log.contains("\"key\":\"ci\"") && log.contains("\"key\":\"root\""), "{log}");
    for secret in [encode.trim(), admin.trim(), "kanarienvogel"] {
        assert!(!log.contains(secret), "a key is in the log");
    }
}

#[test]
fn without_a_file_the_entry_is_printed_below_the_key() {
    let limits = "--requests-per-second 5 --burst 9 --requests-per-day 70 --bytes-per-day 8 --kept-versions 3 \
                  --kept-bytes 4 --open-jobs 2";
    let args: Vec<&str> = ["a"].into_iter().chain(limits.split_whitespace()).collect();
    let out = made(key(&args, None));
    let (key_line, entry) = out.split_once("\n\n").unwrap();
    assert!(key_line.starts_with("vocabd_"), "{out}");
    assert!(
        entry.contains(
            "scopes = []\nrequests_per_second = 5\nburst = 9\nrequests_per_day = 70\nbytes_per_day = 8\n\
             kept_versions = 3\nkept_bytes = 4\nopen_jobs = 2\n"
        ),
        "{out}"
    );
    vocabd::keys::Keys::check(entry).unwrap();
}

#[test]
fn a_key_that_cannot_be_added_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    refused(key(&["a b"], Some(&file)), &["the name must be"]);
    assert!(!file.exists());
    made(key(&["a"], Some(&file)));
    let before = std::fs::read(&file).unwrap();
    refused(key(&["a"], Some(&file)), &["keys.toml", "entry 2", "name"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let (code, _, err) = finish(key(&["b", "--scopes", "everything"], Some(&file)));
    assert!(code == Some(2) && err.contains("encode, train, publish, admin"), "{err}");
    let (code, _, err) = finish(key(&["b", "--burst", "5"], Some(&file)));
    assert!(code == Some(2) && err.contains("--requests-per-second"), "{err}");
}

#[test]
fn a_server_with_a_bad_file_of_keys_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("keys.toml");
    let start = || {
        let mut command = serve(&data.path().join("data"), &file);
        command.env("VOCABD_LOG_LEVEL", "off");
        command
    };
    refused(start(), &["keys_file", "cannot be read"]);
    std::fs::write(&file, "").unwrap();
    refused(start(), &["keys_file", "[[keys]]"]);
    std::fs::write(&file, "[[keys]]\nname = \"a\"\nsha256 = \"kanarienvogel\"\nscopes = []\n").unwrap();
    refused(start(), &["keys_file", "entry 1", "sha256"]);
}
