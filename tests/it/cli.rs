//! The command line: the same calls as over HTTP, without a server.

use crate::data;
use crate::process::{Server, finish, http, numbered, vocabd, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program over a data directory.
fn command(data: &Path, args: &[&str]) -> Command {
    let mut command = vocabd();
    command.arg("--data-dir").arg(data).args(args);
    command
}

/// It succeeds without a word of complaint; what it printed.
#[track_caller]
fn prints(data: &Path, args: &[&str]) -> String {
    let (code, out, err) = finish(command(data, args));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}: {out}");
    out
}

/// The same with `input` on its standard input.
#[track_caller]
fn prints_from(data: &Path, args: &[&str], input: &[u8]) -> String {
    let mut command = command(data, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// It fails with code 1, nothing on standard output and one line on standard error that has all of `names`.
#[track_caller]
fn refused(data: &Path, args: &[&str], names: &[&str]) {
    let (code, out, err) = finish(command(data, args));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{args:?}: {err}");
    assert!(err.starts_with("vocabd: "), "{args:?}: {err}");
    for name in names {
        assert!(err.contains(name), "{args:?}: {name} is not in: {err}");
    }
}

/// The digest in a line such as `name@1 sha256:... (n tokens, new)`.
fn digest(line: &str) -> String {
    line.split(' ').nth(1).filter(|digest| digest.starts_with("sha256:")).unwrap().to_owned()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Answers each connection with the next of `answers`, head and body as they are.
fn serve_files(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/some/vocab.tiktoken", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            (&stream).write_all(&answer).unwrap();
        }
    });
    url
}

#[test]
fn a_published_file_goes_in_and_out_with_one_digest() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, data) = (dir.path(), data.path());
    let file = path(dir, "cl100k_base.tiktoken");
    std::fs::write(&file, data::local("vocabs/cl100k_base.tiktoken")).unwrap();
    let line = prints(data, &["import", "gpt4", &file, "--alias", "prod"]);
    assert!(line.starts_with("gpt4@1 ") && line.contains("100261 tokens, new"), "{line}");
    assert_eq!(prints(data, &["import", "gpt4", &file]), line.replace("new", "there already"));

    // Both formats give the same content back; the tiktoken file with what its sidecar says.
    for (format, extension) in [("native", "vocabd"), ("tiktoken", "tiktoken")] {
        let out = path(dir, &format!("out.{extension}"));
        assert_eq!(prints(data, &["export", "gpt4@prod", "--format", format, "-o", &out]), "");
        let again = prints(data, &["import", "gpt4", &out]);
        assert!(digest(&again) == digest(&line) && again.contains("there already"), "{format}: {again}");
    }
    assert!(std::fs::read(path(dir, "out.tiktoken")).unwrap() == std::fs::read(&file).unwrap());
    let piped = command(data, &["export", "gpt4", "--format", "tiktoken"]).output().unwrap();
    assert!(piped.stdout == std::fs::read(&file).unwrap(), "standard output and file differ");

    let facts: Value = serde_json::from_str(&prints(data, &["inspect", "gpt4@1"])).unwrap();
    assert_eq!((&facts["digest"], &facts["format"]), (&json!(digest(&line)), &json!("tiktoken")));
    let of_file: Value = serde_json::from_str(&prints(data, &["inspect", &file])).unwrap();
    assert_eq!(of_file["digest"], facts["digest"]);

    // A server over the same directory knows it as the command line does.
    let server = Server::start(data);
    assert_eq!(server.get("/vocabs/gpt4@prod")["digest"], facts["digest"]);
    let text = "Hello, 世界! 😀";
    let ids = server.encode("gpt4", text)["ids"].clone();
    assert_eq!(
        serde_json::from_str::<Value>(&prints(data, &["encode", text, "--vocab", "gpt4"])).unwrap(),
        ids
    );
}

/// What the command line changes under a running server is there after a reload.
#[test]
fn a_server_takes_what_commands_changed() {
    let data = tempfile::tempdir().unwrap();
    let file = path(data.path(), "mine.tiktoken");
    std::fs::write(&file, numbered(0).1).unwrap();
    let server = Server::start(data.path());
    let line = prints(data.path(), &["import", "mine", &file, "--split", "gpt2", "--alias", "prod"]);
    server.ask("GET", "/vocabs/mine", b"").expect(404);
    let report = server.ask("POST", "/reload", b"").expect(200);
    assert_eq!(report["loaded"], json!(["mine@1", "mine@prod"]));
    assert_eq!(server.get("/vocabs/mine@prod")["digest"], digest(&line));
    // And the other way round.
    let (query, other) = numbered(1);
    server.ask("POST", &format!("/vocabs?name=mine&{query}"), &other).expect(201);
    let facts: Value = serde_json::from_str(&prints(data.path(), &["inspect", "mine"])).unwrap();
    assert_eq!((&facts["version"], &facts["source"]), (&json!(2), &json!("request")));
}

/// A file that nobody published needs its split and special tokens said; its sidecar says them again.
#[test]
fn a_sidecar_says_what_a_tiktoken_file_does_not() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, data) = (dir.path(), data.path());
    let file = path(dir, "mine.tiktoken");
    std::fs::write(&file, numbered(0).1).unwrap();
    refused(data, &["import", "mine", &file], &[&file, "split"]);
    let line = prints(data, &["import", "mine", &file, "--split", "qwen2", "--special", "<|a=b|>=300"]);
    let out = path(dir, "out.tiktoken");
    prints(data, &["export", "mine", "--format", "tiktoken", "-o", &out]);
    let sidecar = std::fs::read_to_string(path(dir, "out.toml")).unwrap();
    assert!(sidecar.contains("split = \"qwen2\"") && sidecar.contains("\"<|a=b|>\" = 300"), "{sidecar}");

    // Put into the import folder, both are taken.
    std::fs::create_dir(data.join("import")).unwrap();
    std::fs::rename(&out, data.join("import/again.tiktoken")).unwrap();
    std::fs::rename(path(dir, "out.toml"), data.join("import/again.toml")).unwrap();
    let facts: Value = serde_json::from_str(&prints(data, &["inspect", "again"])).unwrap();
    assert_eq!(facts["digest"], digest(&line));
    let parsed = prints(data, &["encode", "x<|a=b|>", "--vocab", "again", "--parse-special"]);
    assert_eq!(parsed, "[120,300]\n");
}

#[test]
fn a_url_is_fetched_and_its_faults_are_named() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = numbered(0).1;
    let good =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).as_bytes(), &file].concat();
    let url = serve_files(vec![
        good.clone(),
        good,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\nabc".to_vec(),
    ]);
    let split = ["--split", "cl100k"];
    let with_key = format!("{url}?key=secret#part");
    let line = prints(data, &[&["import", "fetched", &with_key][..], &split].concat());
    let facts: Value = serde_json::from_str(&prints(data, &["inspect", "fetched"])).unwrap();
    assert_eq!(facts["source"], "vocab.tiktoken");
    assert!(line.starts_with("fetched@1 sha256:") && line.contains("256 tokens, new"), "{line}");
    let by_name = url.replace("127.0.0.1", "localhost");
    let line = prints(data, &[&["import", "fetched", &by_name][..], &split].concat());
    assert!(line.contains("there already"), "{line}");
    refused(data, &["import", "fetched", &url], &[&url, "404"]);
    refused(data, &["import", "fetched", &url], &[&url]);
    refused(data, &["import", "fetched", &url], &[&url, "max_vocab_bytes"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{taken}/x");
    refused(data, &["import", "fetched", &nobody], &[&nobody, "refused"]);
    refused(data, &["import", "fetched", "ftp://localhost/x"], &["ftp://localhost/x", "http"]);
}

#[test]
fn training_here_and_over_http_gives_one_vocabulary() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, root) = (data.path(), root.path());
    let corpus = path(root, "corpus.txt");
    std::fs::write(&corpus, data::local("corpora/train-dev-tiny.txt")).unwrap();
    let settings =
        ["--vocab-size", "700", "--split", "qwen2", "--records", "lines", "--special-token", "<end>"];
    let line = prints(data, &[&["train", "here", &corpus, "--alias", "prod"][..], &settings].concat());
    assert!(
        line.starts_with("here@1 sha256:") && line.contains("700 tokens, stopped by vocab_size"),
        "{line}"
    );
    let out = path(root, "out.vocabd");
    let told =
        prints(data, &[&["train", "here", &corpus, "-o", &out, "--threads", "1"][..], &settings].concat());
    assert_eq!(told, "700 tokens, stopped by vocab_size\n");
    assert_eq!(digest(&prints(data, &["import", "here", &out])), digest(&line));

    let server = Server::start_with(data, &[("corpus_root", root.to_str().unwrap())]);
    let job = json!({"name": "there", "corpus": {"files": ["corpus.txt"], "records": "lines"}, "vocab_size": 700,
        "split": "qwen2", "special_tokens": ["<end>"]});
    let job = server.post("/train", &job).expect(202)["id"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&job)["result"]["vocab"]["digest"], digest(&line));
    assert_eq!(server.get("/vocabs/here@prod")["digest"], digest(&line));

    refused(data, &["train", "x", &corpus, "--vocab-size", "10"], &["vocab_size"]);
    refused(data, &["train", "x", &corpus], &["vocab_size", "num_merges"]);
    refused(data, &["train", "x", &path(root, "none.txt"), "--vocab-size", "300"], &["none.txt"]);
    refused(data, &["train", "a b", &corpus, "--vocab-size", "300"], &["a b", "name"]);
    refused(data, &["train", "x", &corpus, "--vocab-size", "300", "--split", "nope("], &["split"]);
    std::fs::write(path(root, "latin1.txt"), b"caf\xe9").unwrap();
    refused(data, &["train", "x", &path(root, "latin1.txt"), "--vocab-size", "300"], &["latin1.txt", "3"]);
    std::fs::write(path(root, "empty.txt"), b"").unwrap();
    refused(data, &["train", "x", &path(root, "empty.txt"), "--vocab-size", "300"], &["empty"]);
}

#[test]
fn texts_come_from_arguments_and_from_standard_input() {
    let data = tempfile::tempdir().unwrap();
    // Reading commands work on a directory that is not there, and do not make it.
    let missing = data.path().join("none");
    let text = "Hello, 世界! 😀\n";
    let ids = prints(&missing, &["encode", text]);
    assert_eq!(prints_from(&missing, &["encode"], text.as_bytes()), ids);
    let parsed: Vec<u32> = serde_json::from_str(&ids).unwrap();
    assert_eq!(prints_from(&missing, &["decode"], ids.as_bytes()), text);
    let words: Vec<String> = parsed.iter().map(ToString::to_string).collect();
    let args: Vec<&str> = ["decode"].into_iter().chain(words.iter().map(String::as_str)).collect();
    assert_eq!(prints(&missing, &args), text);
    assert_eq!(prints_from(&missing, &["count"], text.as_bytes()), format!("{}\n", parsed.len()));
    let tokens = prints(&missing, &["encode", text, "--tokens"]);
    assert_eq!(tokens.lines().count(), parsed.len());
    assert!(tokens.starts_with(&format!("{}\t\"Hello\"\n", parsed[0])), "{tokens}");
    assert_eq!(prints(&missing, &["encode", ""]), "[]\n");
    assert_eq!(prints_from(&missing, &["decode"], b"[]"), "");

    let (a, b) = (path(data.path(), "a.txt"), path(data.path(), "b.txt"));
    std::fs::write(&a, text).unwrap();
    std::fs::write(&b, "").unwrap();
    let n = parsed.len();
    assert_eq!(prints(&missing, &["count", &a]), format!("{n}\t{a}\n"));
    assert_eq!(prints(&missing, &["count", &a, &b]), format!("{n}\t{a}\n0\t{b}\n{n}\ttotal\n"));
    assert!(!missing.exists());
}

#[test]
fn faults_are_one_line_that_names_the_thing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    prints(data, &["inspect", "default"]);
    refused(data, &["encode", "x", "--vocab", "defualt"], &["defualt", "default"]);
    refused(data, &["encode", "x", "--vocab", "default@7"], &["default@7"]);
    refused(data, &["encode", "x", "--vocab", "default@prod"], &["default@prod"]);
    refused(data, &["encode", "x", "--vocab", "../x"], &["../x"]);
    refused(data, &["decode", "4000000000"], &["4000000000"]);
    refused(data, &["decode", "1", "x7"], &["x7"]);
    refused(data, &["decode", "4294967296"], &["4294967296"]);
    refused(data, &["decode", "-1"], &["-1"]);
    refused(data, &["count", "no-such-file.txt"], &["no-such-file.txt"]);
    refused(data, &["import", "x", "no-such-file.tiktoken"], &["no-such-file.tiktoken"]);
    refused(data, &["import", "../x", "f"], &["../x", "name"]);
    refused(data, &["import", "x", "f", "--alias", "7"], &["--alias 7"]);
    refused(data, &["import", "x", "f", "--special", "<a>"], &["--special", "<a>", "NAME=ID"]);
    refused(data, &["export", "nothing", "--format", "native"], &["nothing"]);
    refused(data, &["inspect", "nothing"], &["nothing"]);
    refused(data, &["inspect", "no/file"], &["no/file"]);
    let out = path(data, "no-such-folder/out");
    refused(data, &["export", "default", "--format", "native", "-o", &out], &[&out]);

    let bad = path(data, "bad.tiktoken");
    for (text, problem) in [
        ("not a vocabulary", "formats"),
        ("IQ== 0\nIQ== 1\n", "line 2"),
        ("IQ== 0\nIg== 0\n", "line 2"),
        ("IQ== 0\n%%% 1\n", "line 2"),
    ] {
        std::fs::write(&bad, text).unwrap();
        refused(data, &["import", "x", &bad, "--split", "cl100k"], &[&bad, problem]);
        refused(data, &["inspect", &bad, "--split", "cl100k"], &[&bad, problem]);
    }
    std::fs::write(&bad, b"\xff").unwrap();
    refused(data, &["count", &bad], &[&bad, "UTF-8"]);
    std::fs::write(&bad, vec![b'x'; 5000]).unwrap();
    let mut small = command(data, &["import", "x", &bad]);
    small.env("VOCABD_MAX_VOCAB_BYTES", "4096");
    let (code, _, err) = finish(small);
    assert!(code == Some(1) && err.contains("max_vocab_bytes") && err.contains(&bad), "{err}");
}

/// Usage errors are clap's, with its code.
#[test]
fn unknown_options_are_usage_errors() {
    let data = tempfile::tempdir().unwrap();
    for args in [&["frobnicate"][..], &["encode", "--frobnicate"], &["train", "x"], &["import", "x"]] {
        let (code, out, err) = finish(command(data.path(), args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains("Usage"), "{args:?}: {err}");
    }
    assert_eq!(prints(data.path(), &["--version"]), concat!("vocabd ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let data = tempfile::tempdir().unwrap();
    let file = path(data.path(), "words.txt");
    // More than a pipe holds.
    std::fs::write(&file, "word ".repeat(100_000)).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    for args in [&["encode", "--tokens"][..], &["export", "default", "--format", "native"], &["openapi"]] {
        let mut command = command(data.path(), args);
        command.stdin(input.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = [0];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn openapi_is_the_document_that_the_server_gives() {
    let data = tempfile::tempdir().unwrap();
    let printed = prints(data.path(), &["openapi"]);
    assert!(printed.starts_with("openapi: 3.1"), "{printed}");
    let server = Server::start(data.path());
    assert_eq!(server.ask("GET", "/openapi.yaml", b"").text(), printed);
    if let Ok(committed) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml"))
    {
        assert!(printed == committed, "openapi.yaml is not what `vocabd openapi` prints");
    }
}

#[test]
fn health_asks_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = format!("http://{}", server.address);
    let address = server.address.to_string();
    assert_eq!(prints(data.path(), &["health", "--url", &url]), "ok\n");
    let by_setting = || {
        let mut command = command(data.path(), &["health"]);
        // A proxy that is not there: nobody asks it about this machine.
        command.env("VOCABD_LISTEN", &address).env("http_proxy", "http://127.0.0.1:1");
        finish(command)
    };
    assert_eq!(by_setting(), (Some(0), "ok\n".to_owned(), String::new()));

    // While it goes down, with a request still open, it is not healthy.
    let open = http::connect(
        server.address,
        b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    );
    server.signal(rustix::process::Signal::TERM);
    wait_for("the end of its health", || (by_setting().0 == Some(1)).then_some(()));
    drop(open);
    server.kill();
    refused(data.path(), &["health", "--url", &url], &[&url, "refused"]);
}

#[test]
fn what_vocabularies_make_of_texts_is_told_without_a_server() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, data) = (dir.path(), data.path());
    let (text, file) = ("One sentence. Another one!\n还有一句，世界。\n", path(dir, "a.txt"));
    std::fs::write(&file, text).unwrap();
    let lines = prints(data, &["chunk", &file, "--size", "6", "--boundary", "sentence"]);
    assert_eq!(
        lines,
        prints_from(data, &["chunk", "--size", "6", "--boundary", "sentence"], text.as_bytes())
    );
    let chunks: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(chunks.iter().map(|c| c["text"].as_str().unwrap()).collect::<String>(), text);
    assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk["count"].as_u64().unwrap() <= 6));
    for chunk in &chunks {
        let count = prints_from(data, &["count"], chunk["text"].as_str().unwrap().as_bytes());
        assert_eq!(count.trim(), chunk["count"].to_string());
    }
    refused(data, &["chunk", &file, "--size", "3", "--overlap", "3"], &["--overlap", "less than size"]);
    refused(data, &["chunk", "none.txt", "--size", "3"], &["none.txt"]);

    let tiktoken = path(dir, "b.tiktoken");
    std::fs::write(&tiktoken, numbered(0).1).unwrap();
    prints(data, &["import", "bytes", &tiktoken, "--split", "gpt2"]);
    let table = prints(data, &["compare", &file, "--vocab", "bytes", "--vocab", "default"]);
    let names: Vec<&str> = table.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["default@1", "bytes@1"], "the fewest tokens first: {table}");
    let count = prints(data, &["count", &file, "--vocab", "bytes"]);
    assert!(table.contains(&format!(" {} ", count.split('\t').next().unwrap())), "{table}");
    refused(data, &["compare", &file, "--vocab", "none"], &["none"]);

    let steps = prints(data, &["explain", "hello"]);
    assert!(
        steps.starts_with("\"hello\"\n") && steps.trim_end().lines().last().unwrap().starts_with("  = "),
        "{steps}"
    );
    let merges = prints(data, &["explain", "xhellozq"]);
    assert!(merges.contains("  rank ") && merges.contains(" + "), "{merges}");
    refused(data, &["explain", &"x".repeat(5000)], &["4096 bytes"]);
}

#[test]
fn the_settings_in_effect_are_printed_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("not-made");
    let mut asked = command(&data, &["serve", "--listen", "127.0.0.1:7", "--print-config"]);
    asked.env("VOCABD_MAX_CHUNKS", "12");
    let (code, printed, err) = finish(asked);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{printed}");
    for line in ["listen = \"127.0.0.1:7\"", "max_chunks = 12", "log_format = \"json\""] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
    assert!(!data.exists(), "nothing is opened for it");
    let file = path(dir.path(), "vocabd.toml");
    std::fs::write(&file, &printed).unwrap();
    let mut again = vocabd();
    again.args(["--config", &file, "serve", "--print-config"]);
    assert_eq!(finish(again).1, printed);
    let mut wrong = command(&data, &["serve", "--print-config"]);
    wrong.env("VOCABD_MAX_CHUNKS", "many");
    let (code, out, err) = finish(wrong);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("max_chunks") && err.contains("VOCABD_MAX_CHUNKS"), "{err}");
}

#[test]
fn a_config_becomes_a_card_that_the_program_then_knows() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, data) = (dir.path(), data.path());
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/configs");
    let cards = data.join("models");
    std::fs::create_dir(&cards).unwrap();
    let card = path(&cards, "gpt2.toml");
    let config = format!("{configs}/gpt2.json");
    let args = [
        "model",
        "import",
        &config,
        "--name",
        "gpt2",
        "--vocab",
        "r50k",
        "--source",
        "hf://openai-community/gpt2",
    ];
    assert_eq!(prints(data, &[&args[..], &["-o", &card]].concat()), "");
    assert_eq!(std::fs::read_to_string(&card).unwrap(), prints(data, &args));
    let shown: Value = serde_json::from_str(&prints(data, &["model", "show", "gpt2"])).unwrap();
    assert_eq!((&shown["own"], &shown["derived"]["parameters"]), (&json!(true), &json!(124_439_808)));
    assert_eq!(shown["import_command"], "vocabd import r50k hf://openai-community/gpt2");
    let listed = prints(data, &["model", "list"]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("gpt2 ") && line.contains("124M") && line.ends_with("r50k"))
    );
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("deepseek-v3 ") && line.contains("671B") && line.contains("70272"))
    );
    // The name of the model in the config, else that of the folder.
    let named = prints(data, &["model", "import", &format!("{configs}/llama-2-7b.json")]);
    assert!(named.starts_with("name = \"llama-2-7b-hf\""), "{named}");
    assert!(prints(data, &["model", "import", &config]).starts_with("name = \"configs\""));

    let bad = path(dir, "config.json");
    std::fs::write(&bad, r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}"#).unwrap();
    refused(data, &["model", "import", &bad], &["config.json", "lacks num_attention_heads"]);
    refused(data, &["model", "import", &path(dir, "none.json")], &["none.json", "No such file"]);
    refused(data, &["model", "import", &config, "--name", "A B"], &["name must be 1 to 64 lower-case"]);
    std::fs::write(&bad, " ".repeat((1 << 20) + 1)).unwrap();
    refused(data, &["model", "import", &bad], &["has over 1048576 bytes"]);
    refused(data, &["model", "show", "yi-5b"], &["no card", "near ones are yi-6b"]);
    std::fs::write(cards.join("bad.toml"), "layrs = 2").unwrap();
    let (code, out, err) = finish(command(data, &["model", "list"]));
    assert_eq!((code, err.as_str()), (Some(0), "vocabd: models/bad.toml: unknown fields: layrs\n"));
    assert!(out.contains("gpt2"));
}
