//! Texts never reach logs, metrics or error answers, whatever is wrong with them.

use super::{Server, wait_for};
use serde_json::{Value, json};
use std::sync::Mutex;

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
        &[("log_level", "trace"), ("corpus_root", root), ("max_body_bytes", "2000000")],
    );
    let caller = Caller { server: &server, answers: Mutex::default() };

    requests(&caller);
    let jobs = training(&caller);
    server.signal(rustix::process::Signal::HUP);
    wait_for("the reload", || server.log().contains("\"reloaded\"").then_some(()));
    server.ask("POST", "/reload", b"").expect(200);
    let health = server.get("/health").to_string();
    assert!(health.contains("import/regex.tiktoken"), "{health}");
    assert!(!health.contains(CANARY), "{health}");

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
    assert!(refused.len() >= 20, "the bad requests are refused: {refused:?}");
    for (request, status, text) in refused {
        assert!(*status < 500, "{request}: {status} {text}");
        // The pointer names the field, by the name that the caller gave it.
        let mut problem: Value = serde_json::from_str(text).unwrap();
        problem["pointer"].take();
        assert!(!problem.to_string().contains(CANARY), "{request}: {status} {text}");
    }
    let log = server.stop();
    assert!(log.contains("\"route\":\"/encode\"") && log.contains("\"TRACE\""), "nothing was logged: {log}");
    let line = log.lines().find(|line| line.contains(CANARY));
    assert_eq!(line, None);
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
