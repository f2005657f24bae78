//! Starts that must not succeed, and what they say.

use super::{Client, Server, finish, serve as serve_over, vocabd};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// It ends with code 1 and one line on standard error that has all of `names`.
#[track_caller]
pub(crate) fn refused(command: Command, names: &[&str]) {
    let shown = format!("{command:?}");
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(1), "{shown}: {err}");
    assert_eq!(out, "", "{shown}");
    assert_eq!(err.trim_end().lines().count(), 1, "{shown}: {err}");
    assert!(err.starts_with("vocabd: "), "{shown}: {err}");
    for name in names {
        assert!(err.contains(name), "{shown}: {name} is not in: {err}");
    }
}

fn serve(args: &[&str]) -> Command {
    let mut command = vocabd();
    // By variable, so that a test can put another address in its place.
    command
        .env("VOCABD_LISTEN", "127.0.0.1:0")
        .args(["serve", "--data-dir", "/proc/no-such-folder"])
        .args(args);
    command
}

#[test]
fn an_address_that_others_reach_needs_a_word_of_consent() {
    let data = tempfile::tempdir().unwrap();
    let open = |consent: Option<&str>| {
        let mut command = vocabd();
        command.args(["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(data.path());
        command.envs(consent.map(|value| ("VOCABD_ALLOW_UNAUTHENTICATED", value)));
        command
    };
    refused(open(None), &["0.0.0.0:0", "--listen", "VOCABD_ALLOW_UNAUTHENTICATED"]);
    refused(open(Some("false")), &["VOCABD_ALLOW_UNAUTHENTICATED"]);
    let mut operators = serve(&[]);
    operators.env("VOCABD_ADMIN_LISTEN", "0.0.0.0:0");
    refused(operators, &["admin_listen", "0.0.0.0:0", "VOCABD_ADMIN_LISTEN"]);
    Server::run(open(Some("true"))).stop();
}

/// A connection is a file, and the usual limit of a shell is below `max_connections`.
#[cfg(target_os = "linux")]
#[test]
fn as_many_files_may_be_open_as_the_system_allows() {
    let data = tempfile::tempdir().unwrap();
    let program = vocabd();
    for (limit, warns) in [("ulimit -S -n 64", false), ("ulimit -n 300", true)] {
        let mut shell = Command::new("sh");
        shell.env_clear().stdin(Stdio::null()).arg("-c").arg(format!("{limit}; exec \"$0\" \"$@\""));
        shell.arg(program.get_program());
        let server = Server::run(serve_over(shell, data.path(), &[("max_connections", "1000")]));
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "{files}");
        assert_eq!(server.log().contains("raise ulimit -n"), warns, "{}", server.log());
        server.stop();
    }
}

#[test]
fn operators_have_a_listener_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[("admin_listen", "127.0.0.1:0")]);
    let log = super::wait_for("its line", || {
        server.log().lines().find(|line| line.contains("listening for operators")).map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&log).unwrap();
    let mut operator = Client::new(line["address"].as_str().unwrap().parse().unwrap());
    let mut caller = server.client();
    let text = br#"{"text": "a"}"#;
    for client in [&mut operator, &mut caller] {
        client.ask("POST", "/encode", text).expect(200);
        client.ask("GET", "/readyz", b"").expect(200);
        client.ask("GET", "/vocabs", b"").expect(200);
    }
    let target = br#"{"version": 1}"#;
    for (method, path, body, status) in [
        ("GET", "/metrics", &b""[..], 200),
        ("POST", "/reload", b"", 200),
        ("PUT", "/vocabs/default/aliases/a", target, 201),
        ("DELETE", "/vocabs/default/aliases/a", b"", 204),
    ] {
        assert_eq!(caller.ask(method, path, body).expect(404)["code"], "unknown_route", "{path}");
        assert_eq!(operator.ask(method, path, body).status, status, "{path}");
    }
    // A job is for callers as well, but not what it would move when it has ended.
    let job = br#"{"name": "v", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260}"#;
    caller.ask("POST", "/train", job).expect(202);
    let moving = br#"{"name": "v", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260, "aliases": ["prod"]}"#;
    let refused = caller.ask("POST", "/train", moving).expect(403);
    let told = [&refused["code"], &refused["pointer"], &refused["setting"]];
    assert_eq!(told, ["operators_only", "/aliases", "admin_listen"], "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("operators' listener"), "{refused}");
    assert_eq!(caller.ask("GET", "/train", b"").expect(200)["jobs"].as_array().unwrap().len(), 1);
    operator.ask("POST", "/train", moving).expect(202);
    server.stop();
}

#[test]
fn settings_that_are_none_are_named() {
    let variable = |name: &str, value: &str| {
        let mut command = serve(&[]);
        command.env(name, value);
        command
    };
    refused(
        variable("VOCABD_MAX_BODY_BYTE", "1"),
        &["VOCABD_MAX_BODY_BYTE", "did you mean", "VOCABD_MAX_BODY_BYTES"],
    );
    refused(variable("VOCABD_MAX_BODY_BYTES", "many"), &["max_body_bytes", "VOCABD_MAX_BODY_BYTES"]);
    refused(variable("VOCABD_LOG_LEVEL", "loud"), &["log_level", "loud", "VOCABD_LOG_LEVEL", "trace"]);
    refused(variable("VOCABD_DRAIN_SECONDS", "-1"), &["drain_seconds", "-1", "VOCABD_DRAIN_SECONDS"]);
    refused(variable("VOCABD_LISTEN", "here"), &["listen", "here", "VOCABD_LISTEN"]);
    refused(variable("VOCABD_DEFAULT_VOCAB", "a b"), &["default_vocab"]);

    let dir = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = dir.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = serve(&["--config"]);
        command.arg(path);
        command
    };
    refused(file("max_bodybytes = 5\n"), &["max_bodybytes", "settings.toml", "max_body_bytes"]);
    refused(file("log_level = 5\n"), &["log_level", "settings.toml"]);
    refused(serve(&["--config", "no-such-file.toml"]), &["no-such-file.toml"]);
    refused_lines(file("listen = \n"), "settings.toml");
}

/// A TOML error shows the place in the file, on lines of its own.
#[track_caller]
fn refused_lines(command: Command, name: &str) {
    let (code, _, err) = finish(command);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(name) && err.contains("line 1"), "{err}");
}

#[test]
fn a_port_in_use_is_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = vocabd();
    command.env("VOCABD_LOG_LEVEL", "off");
    command.args(["serve", "--listen", &address, "--data-dir"]).arg(data.path());
    refused(command, &[&address, "in use"]);
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for data in [file.clone(), file.join("below")] {
        let mut command = vocabd();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        refused(command, &[data.to_str().unwrap()]);
    }
    // Nobody, not even root, makes a directory there.
    #[cfg(target_os = "linux")]
    {
        let mut command = vocabd();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/no-such-folder"]);
        refused(command, &["/proc/no-such-folder"]);
    }
}

/// Whoever read the log may go, and the server goes on.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut command = serve_over(vocabd(), data.path(), &[("log_level", "trace")]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = lines.find(|line| line.as_ref().unwrap().contains("\"listening\"")).unwrap().unwrap();
    drop(lines);
    let listening: serde_json::Value = serde_json::from_str(&listening).unwrap();
    let mut client = Client::new(listening["address"].as_str().unwrap().parse().unwrap());
    for _ in 0..20 {
        client.ask("POST", "/encode", br#"{"text": "a"}"#).expect(200);
        client.ask("POST", "/encode", b"{").expect(400);
        client.ask("POST", "/reload", b"").expect(200);
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn text_logs_in_a_pipe_have_no_colours() {
    let data = tempfile::tempdir().unwrap();
    let mut command = serve_over(vocabd(), data.path(), &[("log_format", "text")]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = lines.find(|line| line.as_ref().unwrap().contains("listening")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!listening.contains('\u{1b}'), "{listening:?}");
}
