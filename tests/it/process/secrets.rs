//! Texts never reach logs, metrics or error answers, whatever is wrong with them.

use super::{Server, wait_for};
use crate::support;
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What nobody may ever read again but in an answer to its own request.
const CANARY: &str = "kanarienvogel";

struct Caller<'s> {
    server: &'s Server,
    answers: Mutex<Vec<(String, u16, String)>>,
}

impl Caller<'_> {
    /// Sends it; an error answer must not hold the canary.
    fn send(&self, method: &str, path: &str, body: &[u8]) {
        let answer = self.server.ask(method, path, body);
        self.answers.lock().unwrap().push((format!("{method} {path}"), answer.status, answer.text()));
    }

    fn send_as(&self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let answer = self.server.client().try_ask(method, path, headers, body).unwrap();
        let (status, text) = (answer.status, answer.text());
        // The errors of a stream are in lines of a good answer.
        let errors = text.lines().filter(|line| status >= 400 || line.contains("\"error\""));
        let told = errors.collect::<Vec<_>>().join("\n");
        let status = if told.is_empty() { status } else { status.max(400) };
        self.answers.lock().unwrap().push((format!("{method} {path} {headers}"), status, told));
    }

    fn json(&self, path: &str, body: &Value) {
        self.send("POST", path, body.to_string().as_bytes());
    }
}

#[test]
fn no_text_is_in_logs_metrics_or_errors() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let import = data.path().join("import");
    std::fs::create_dir(&import).unwrap();
    std::fs::write(import.join("bad.tiktoken"), format!("{CANARY} {CANARY}\n")).unwrap();
    std::fs::write(import.join("sidecar.tiktoken"), super::numbered(0).1).unwrap();
    std::fs::write(import.join("sidecar.toml"), format!("split = \"cl100k\n{CANARY} = [\n")).unwrap();
    std::fs::write(import.join("regex.tiktoken"), super::numbered(0).1).unwrap();
    std::fs::write(import.join("regex.toml"), format!("split = \"({CANARY}\"\n")).unwrap();
    std::fs::write(root.path().join("bad.jsonl"), format!("{{\"text\": \"{CANARY}\" {CANARY}\n")).unwrap();
    std::fs::write(root.path().join("bad.txt"), [CANARY.as_bytes(), b"\xff", CANARY.as_bytes()].concat())
        .unwrap();
    let root = root.path().to_str().unwrap();
    let server = Server::start_with(
        data.path(),
        &[
            ("log_level", "trace"),
            ("corpus_root", root),
            ("max_body_bytes", "2000000"),
            ("body_timeout_seconds", "1"),
            ("header_timeout_seconds", "1"),
        ],
    );
    let caller = Caller { server: &server, answers: Mutex::default() };

    let slow = slow(&server);
    requests(&caller);
    every_route(&caller);
    let jobs = training(&caller);
    server.signal(rustix::process::Signal::HUP);
    wait_for("the reload", || server.log().contains("\"reloaded\"").then_some(()));
    server.ask("POST", "/reload", b"").expect(200);
    let health = server.get("/health").to_string();
    assert!(health.contains("import/regex.tiktoken"), "{health}");
    assert!(!health.contains(CANARY), "{health}");

    for mut client in slow {
        let mut told = String::new();
        // Some are told that they were too slow, some are cut off.
        let _ = client.read_to_string(&mut told);
        assert!(!told.contains(CANARY), "{told}");
    }
    for job in jobs {
        let ended = server.ended(&job);
        let failure = ended["error"].to_string();
        assert!(!failure.contains(CANARY), "{failure}");
    }
    let metrics = server.ask("GET", "/metrics", b"").text();
    assert!(metrics.contains("vocabd_encode_bytes_total"));
    assert!(!metrics.contains(CANARY), "{metrics}");
    let answers = caller.answers.into_inner().unwrap();
    let refused: Vec<_> = answers.iter().filter(|(_, status, _)| *status >= 400).collect();
    assert!(refused.len() >= 300, "the bad requests are refused: {refused:?}");
    for (request, status, text) in refused {
        assert!(*status < 500, "{request}: {status} {text}");
        // The pointer names the field, by the name that the caller gave it.
        let problem = text.lines().map(without_pointers).collect::<String>();
        assert!(!problem.contains(CANARY), "{request}: {status} {text}");
    }
    let log = server.stop();
    assert!(log.contains("\"route\":\"/encode\"") && log.contains("\"TRACE\""), "nothing was logged: {log}");
    let line = log.lines().find(|line| line.contains(CANARY));
    assert_eq!(line, None);
}

fn without_pointers(line: &str) -> String {
    let Ok(mut problem) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    for at in ["/pointer", "/error/pointer"] {
        if let Some(pointer) = problem.pointer_mut(at) {
            pointer.take();
        }
    }
    problem.to_string()
}

/// Good, bad and huge requests.
fn requests(caller: &Caller<'_>) {
    let special = format!("<|{CANARY}|>");
    caller.json("/encode", &json!({"text": CANARY}));
    caller.json("/encode", &json!({"text": CANARY.repeat(10_000), "return": ["ids", "tokens", "offsets"]}));
    caller.json("/encode", &json!({"text": CANARY.repeat(200_000)}));
    caller.json("/encode", &json!({"text": CANARY, "vocab": CANARY}));
    caller.json("/encode", &json!({"text": CANARY, "vocab": format!("default@{CANARY}")}));
    caller.json("/encode", &json!({"text": CANARY, "special": CANARY}));
    caller.json("/encode", &json!({"text": CANARY, "allowed_special": [special]}));
    caller.json("/encode", &json!({"text": CANARY, "return": [CANARY]}));
    caller.json("/encode", &json!({"text": [CANARY]}));
    caller.json("/encode", &json!({"text": CANARY, CANARY: 1}));
    caller.json("/encode", &json!(CANARY));
    caller.json("/encode/batch", &json!({"texts": [CANARY, 5]}));
    caller.json("/count", &json!({"text": CANARY, "texts": [CANARY]}));
    caller.json("/decode", &json!({"ids": [CANARY]}));
    caller.json("/decode", &json!({"ids": [4_000_000_000_u32], "vocab": CANARY}));
    caller.send("POST", "/encode", format!("{{\"text\": \"{CANARY}").as_bytes());
    caller.send("POST", "/encode", format!("{{\"text\": \"{CANARY}\\ud800\"}}").as_bytes());
    caller.send("POST", "/encode", format!("{CANARY} {{").as_bytes());
    caller.send("POST", "/encode", &[b"{\"text\": \"", CANARY.as_bytes(), b"\xff\"}"].concat());
    caller.send("POST", &format!("/{CANARY}?{CANARY}={CANARY}"), b"");
    caller.send("GET", &format!("/vocabs/{CANARY}"), b"");
    caller.send("GET", &format!("/train/{CANARY}"), b"");
    caller.send("GET", &format!("/uploads/..{CANARY}"), b"");
    caller.send("POST", &format!("/vocabs?name=x&special={CANARY}"), CANARY.as_bytes());
    caller.send("POST", &format!("/vocabs?name=x&{CANARY}=1"), CANARY.as_bytes());
    caller.send("POST", "/vocabs?name=x&format=tiktoken&split=cl100k", format!("{CANARY} 1\n").as_bytes());
    caller.send("POST", &format!("/vocabs?name=x&split=({CANARY}"), &super::numbered(0).1);
    let (query, file) = super::numbered(1);
    // A special token's name is a text as well.
    let named = query.replace("token", CANARY);
    caller.send("POST", &format!("/vocabs?name=named&{named}"), &file);
    caller.json("/encode", &json!({"text": format!("a<{CANARY}>"), "vocab": "named", "special": "error"}));
    caller.json("/encode", &json!({"text": format!("a<{CANARY}>"), "vocab": "named", "special": "parse"}));
    caller.send("PUT", "/vocabs/default/aliases/x", format!("{{\"version\": \"{CANARY}\"}}").as_bytes());
}

/// Clients that do not come to an end.
fn slow(server: &Server) -> Vec<TcpStream> {
    let begun = [
        format!("POST /encode HTTP/1.1\r\nHost: localhost\r\nX-Text: {CANARY}"),
        format!("POST /{CANARY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{"),
        format!(
            "POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{{\"text\": \"{CANARY}"
        ),
        format!(
            "POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 999\r\n\r\n{CANARY}"
        ),
        format!(
            "POST /encode/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{{\"text\": \"{CANARY}"
        ),
        format!("PUT /uploads/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{CANARY}"),
        format!(
            "POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{{\"corpus\": \"{CANARY}"
        ),
        format!("POST /vocabs?name=slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{CANARY}"),
    ];
    begun.iter().map(|bytes| super::http::connect(server.address, bytes.as_bytes())).collect()
}

/// The canary in every text of every route that takes one: as it should be, and broken in every way.
fn every_route(caller: &Caller<'_>) {
    let messages = json!([{"role": "user", "content": CANARY}]);
    let parts = json!([{"role": "user", "parts": [{"text": CANARY}]}]);
    let bodies = [
        ("/encode", json!({"text": CANARY})),
        ("/encode/batch", json!({"texts": [CANARY]})),
        ("/encode/stream", json!({"text": CANARY})),
        ("/count", json!({"text": CANARY})),
        ("/decode", json!({"ids": [97], "vocab": CANARY})),
        ("/decode/batch", json!({"ids": [[97]], "errors": CANARY})),
        ("/chunk", json!({"text": CANARY, "size": 1})),
        ("/compare", json!({"vocabs": ["default"], "text": CANARY})),
        ("/explain", json!({"text": CANARY})),
        ("/chat/encode", json!({"messages": messages})),
        ("/chat/render", json!({"messages": messages, "chat_template": CANARY})),
        ("/apply-template", json!({"messages": messages})),
        ("/train", json!({"name": "x", "corpus": {"texts": [CANARY]}, "num_merges": CANARY})),
        ("/uploads/known", json!(CANARY)),
        ("/tokenize", json!({"content": CANARY})),
        ("/tokenize", json!({"inputs": CANARY})),
        ("/tokenize", json!({"model": "default", "prompt": CANARY})),
        ("/detokenize", json!({"tokens": [CANARY]})),
        ("/v1/tokenize", json!({"text": CANARY, "model": CANARY})),
        ("/v1/detokenize", json!({"tokens": [4_000_000_000_u32], "model": CANARY})),
        ("/v1/messages/count_tokens", json!({"model": CANARY, "messages": messages})),
        ("/v1/chat/completions/input_tokens", json!({"model": "default", "messages": messages})),
        ("/v1/responses/input_tokens", json!({"model": "default", "input": CANARY})),
        ("/v1/tokenize-text", json!({"text": CANARY, "model": CANARY})),
        ("/v1beta/models/default:countTokens", json!({"contents": parts})),
        ("/chat_tokenize", json!({"messages": messages})),
        ("/utils/token_counter", json!({"model": "default", "prompt": CANARY})),
        ("/ml/v1/text/tokenization", json!({"model_id": "default", "input": CANARY})),
        ("/v3/tokenize", json!({"model": "default", "text": CANARY})),
        ("/api/tokenize", json!({"model": "default", "prompt": CANARY})),
        ("/api/detokenize", json!({"model": "default", "tokens": [CANARY]})),
        ("/compat/tei/tokenize", json!({"inputs": CANARY, "add_special_tokens": CANARY})),
        ("/compat/llamacpp/tokenize", json!({"content": CANARY, "add_special": CANARY})),
    ];
    let gzip = "Content-Encoding: gzip\r\n";
    for (path, body) in bodies {
        let method = if path.starts_with("/uploads") { "PUT" } else { "POST" };
        let good = body.to_string();
        let mut odd = body.clone();
        if odd.is_object() {
            odd[CANARY] = json!({CANARY: [CANARY]});
        }
        let half = &good.as_bytes()[..good.find(CANARY).unwrap() + CANARY.len()];
        let wrapped = json!([body]).to_string();
        let no_text = [half, b"\xff\"}"].concat();
        for (kind, bytes) in [
            ("application/json", good.as_bytes()),
            ("application/json", odd.to_string().as_bytes()),
            ("application/json", half),
            ("application/json", wrapped.as_bytes()),
            ("application/json", &no_text),
            ("application/msgpack", good.as_bytes()),
            ("application/x-ndjson", half),
            ("text/plain", half),
            ("text/plain", &no_text),
            ("application/octet-stream", half),
            (CANARY, good.as_bytes()),
            ("multipart/form-data; boundary=kanarienvogel", good.as_bytes()),
        ] {
            caller.send_as(method, path, &format!("Content-Type: {kind}\r\n"), bytes);
        }
        caller.send_as(method, path, gzip, good.as_bytes());
        caller.send_as(method, path, &format!("Accept: {CANARY}\r\nIf-Match: {CANARY}\r\n"), good.as_bytes());
        caller.send_as(method, path, &format!("Authorization: {CANARY}\r\nX-Api-Key: {CANARY}\r\n"), half);
        caller.send_as(method, &format!("{path}?{CANARY}={CANARY}"), "", good.as_bytes());
        caller.send_as("DELETE", path, "", good.as_bytes());
    }
}

/// Training on the canary: jobs that succeed, and jobs that fail.
fn training(caller: &Caller<'_>) -> Vec<String> {
    let mut jobs = Vec::new();
    let mut start = |request: Value| {
        let job = caller.server.post("/train", &request).expect(202);
        jobs.push(job["id"].as_str().unwrap().to_owned());
    };
    let texts = vec![CANARY; 50];
    start(json!({"name": "good", "corpus": {"texts": texts}, "vocab_size": 280,
        "special_tokens": [format!("<|{CANARY}|>")]}));
    start(json!({"name": "bad", "corpus": {"files": ["bad.txt"]}, "vocab_size": 280}));
    start(json!({"name": "bad", "corpus": {"files": ["bad.jsonl"], "format": "jsonl"}, "vocab_size": 280}));
    caller.json("/train", &json!({"name": "bad", "corpus": {"texts": [CANARY]}, "vocab_size": 280, "split": format!("({CANARY}")}));
    caller.json("/train", &json!({"name": "bad", "corpus": {"files": [CANARY]}, "vocab_size": 280}));
    caller.json("/train", &json!({"name": "bad", "corpus": {"upload": CANARY}, "vocab_size": 280}));
    caller
        .json("/train", &json!({"name": "bad", "corpus": {"texts": [CANARY], CANARY: 1}, "vocab_size": 280}));
    caller.json(
        "/train",
        &json!({"name": "bad", "corpus": {"texts": [CANARY]}, "vocab_size": 10,
        "special_tokens": [CANARY, CANARY]}),
    );
    jobs
}

/// What panics quotes a text, as slicing a string does: the caller is told of an error, the log where it was, and nobody what it
/// said. A process of its own plays the server, as the hook for panics and the log are the whole process's.
#[test]
fn panics_are_told_without_their_texts() {
    const PLAYS: &str = "VOCABD_TEST_PANICS";
    if std::env::var_os(PLAYS).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(panicking());
    }
    let mut server = Command::new(std::env::current_exe().unwrap());
    server
        .args(["--exact", "process::secrets::panics_are_told_without_their_texts", "--nocapture"])
        .env(PLAYS, "1");
    let (code, out, log) = super::finish(server);
    assert_eq!(code, Some(0), "{out}{log}");
    assert!(log.matches("\"message\":\"panic\"").count() >= 2, "{log}");
    assert!(log.contains("\"status\":500"), "{log}");
    let line = out.lines().chain(log.lines()).find(|line| line.contains(support::CANARY));
    assert_eq!(line, None);
}

async fn panicking() {
    vocabd::telemetry::init_logging("trace", true);
    vocabd::telemetry::log_panics();
    let faults = Arc::new(support::Faults::default());
    let server = support::TestServer::over(&faults).await;
    faults.panic();
    let file = support::tiktoken(&[support::CANARY]);
    let mut told = vec![server.post("/vocabs?name=v&split=cl100k", file).await];
    let corpus = json!({"texts": [support::CANARY, support::CANARY]});
    let id = server.train(json!({"name": "t", "corpus": corpus, "vocab_size": 270})).await;
    loop {
        let job = server.get(&format!("/train/{id}")).await;
        if !["queued", "running"].contains(&job.json()["state"].as_str().unwrap()) {
            assert_eq!(job.json()["state"], "failed", "{job:?}");
            told.push(job);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(told[0].status, 500, "{:?}", told[0]);
    told.push(server.get("/metrics").await);
    for answer in told {
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(support::CANARY), "{answer:?}");
    }
    server.post_json("/encode", json!({"text": "and it goes on"})).await.ok(200);
}
