//! `/vocabs` and `/reload`: import, facts, export, aliases, removal, the import folder, and swaps under load.

use crate::registry::native;
use crate::support::{TestServer, and, ids, json_body, request, tiktoken};
use axum::http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The `vocabs` entry of the listing for a name.
async fn listed(server: &TestServer, name: &str) -> Value {
    let listing = server.get("/vocabs").await.ok(200);
    let vocabs = listing["vocabs"].as_array().unwrap();
    vocabs.iter().find(|vocab| vocab["name"] == name).cloned().unwrap_or_default()
}

async fn version(server: &TestServer, wanted: &str) -> Value {
    let body = json!({"text": "a", "vocab": wanted});
    server.post_json("/encode", body).await.ok(200)["vocab"]["version"].clone()
}

#[tokio::test]
async fn equal_content_makes_no_new_version() {
    let server = TestServer::new().await;
    let first = server.post("/vocabs?name=zh&format=native", native("hello")).await;
    let made = first.ok(201);
    assert_eq!((&made["vocab"]["version"], &made["created"]), (&json!(1), &json!(true)));
    assert_eq!((first.header("location"), first.header("vocab")), ("/vocabs/zh@1", "zh@1"));
    let again = server.post("/vocabs?name=zh", native("hello")).await.ok(200);
    assert_eq!((&again["vocab"], &again["created"]), (&made["vocab"], &json!(false)));
    assert_eq!(server.post("/vocabs?name=zh", native("world")).await.ok(201)["vocab"]["version"], 2);
    let elsewhere = server.post("/vocabs?name=other", native("hello")).await.ok(201);
    assert_eq!(elsewhere["vocab"]["digest"], made["vocab"]["digest"]);
    // The alias moves to the version that is there.
    server.post("/vocabs?name=zh&alias=prod", native("hello")).await.ok(200);
    assert_eq!(version(&server, "zh@prod").await, 1);
    assert_eq!(server.get("/vocabs/zh@prod").await.ok(200)["aliases"], json!(["prod"]));
}

#[tokio::test]
async fn what_a_tiktoken_file_does_not_say_is_said_in_the_query() {
    let server = TestServer::new().await;
    let file = tiktoken(&["12"]);
    let import = async |options: &str| {
        let path = format!("/vocabs?name=t&{options}");
        let made = server.post(&path, file.clone()).await.ok(201);
        format!("t@{}", made["vocab"]["version"])
    };
    server.post("/vocabs?name=t", file.clone()).await.problem(422, "bad_vocabulary", Some("/query/split"));
    let groups = import("format=tiktoken&split=cl100k").await;
    assert_eq!(server.ids(&groups, "12").await, [256]);
    let single = import("split=cl100k&digits=single").await;
    assert_eq!(server.ids(&single, "12").await, [0x31, 0x32]);
    let regex = import("split=%5B0-9%5D").await;
    assert_eq!(server.ids(&regex, "12").await, [0x31, 0x32]);
    let nfc = import("split=cl100k&normalizer=nfc").await;
    assert_eq!(server.ids(&nfc, "e\u{301}").await, [0xc3, 0xa9]);
    assert_eq!(server.ids(&groups, "e\u{301}").await, [0x65, 0xcc, 0x81]);

    // Special tokens: one by one, or as JSON.
    let parse = async |vocab: &str, text: &str| {
        let body = json!({"text": text, "vocab": vocab, "special": "parse"});
        ids(&server.post_json("/encode", body).await.ok(200)["ids"])
    };
    let repeated = import("split=cl100k&special=%3Cs%3E%3D300&special=a=b=301").await;
    assert_eq!(parse(&repeated, "<s>a=b").await, [300, 301]);
    let facts = server.get(&format!("/vocabs/{repeated}")).await.ok(200);
    assert_eq!(
        (&facts["special_tokens"], &facts["vocab_size"], &facts["tokens"]),
        (&json!(2), &json!(302), &json!(259))
    );
    let object = "/vocabs?name=t&split=cl100k&special=%7B%22%3Cs%3E%22:300,%22a=b%22:301%7D";
    assert_eq!(server.post(object, file.clone()).await.ok(200)["created"], false);

    for (options, code, pointer) in [
        ("split=cl100k&special=x", "invalid_field", "/query/special"),
        ("split=cl100k&special=x=-1", "invalid_field", "/query/special"),
        ("split=cl100k&special=x=300&special=x=301", "invalid_field", "/query/special"),
        ("split=cl100k&special=%7B", "invalid_field", "/query/special"),
        ("split=cl100k&digits=some", "bad_vocabulary", "/query/digits"),
        ("split=%5B0-9%5D&digits=run", "bad_vocabulary", "/query/digits"),
        ("split=cl100k&normalizer=nfx", "bad_vocabulary", "/query/normalizer"),
        ("split=cl10k", "bad_vocabulary", "/query/split"),
        ("split=%28cAnArY-7f3a", "bad_vocabulary", "/query/split"),
        ("format=gguff", "invalid_field", "/query/format"),
        ("nane=x", "invalid_field", "/query/nane"),
        ("name=x", "invalid_field", "/query/name"),
        ("alias=latest", "invalid_field", "/query/alias"),
        ("alias=12", "invalid_field", "/query/alias"),
    ] {
        let answer = server.post(&format!("/vocabs?name=t&{options}"), file.clone()).await;
        answer.problem(422, code, Some(pointer));
    }
    server.post("/vocabs", file).await.problem(422, "invalid_field", Some("/query/name"));
}

#[tokio::test]
async fn facts_tell_what_a_version_is() {
    let server = TestServer::new().await;
    let made = server.post("/vocabs?name=zh&split=cl100k&alias=prod", tiktoken(&["hello"])).await.ok(201);
    for wanted in ["zh", "zh@1", "zh@prod", "zh@latest"] {
        let answer = server.get(&format!("/vocabs/{wanted}")).await;
        let facts = answer.ok(200);
        assert_eq!((answer.header("vocab"), &facts["digest"]), ("zh@1", &made["vocab"]["digest"]));
        let numbers = ["version", "vocab_size", "tokens", "merges", "special_tokens", "longest_token_bytes"];
        assert_eq!(numbers.map(|field| facts[field].as_u64().unwrap()), [1, 260, 260, 4, 0, 5]);
        let words = ["name", "format", "source", "normalizer"];
        assert_eq!(words.map(|field| facts[field].as_str().unwrap()), ["zh", "tiktoken", "request", "none"]);
        assert_eq!((&facts["aliases"], &facts["split"]), (&json!(["prod"]), &json!("cl100k")));
    }
    let zh = listed(&server, "zh").await;
    assert_eq!((&zh["latest"], &zh["aliases"]), (&json!(1), &json!({"prod": 1})));
    assert_eq!(zh["versions"][0]["digest"], made["vocab"]["digest"]);
    let listing = server.get("/vocabs").await.ok(200);
    assert_eq!(listing["default_vocab"], "default");
    let names: Vec<&Value> = listing["vocabs"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(names, ["default", "zh"]);
}

#[tokio::test]
async fn exports_lead_back_to_the_same_content() {
    let server = TestServer::new().await;
    let made = server
        .post("/vocabs?name=zh&split=qwen2&normalizer=nfc&special=%3Cs%3E=300", tiktoken(&["hello"]))
        .await
        .ok(201);
    let digest = &made["vocab"]["digest"];
    let whole = server.get("/vocabs/zh@1/export").await;
    assert_eq!((whole.status, whole.header("vocab")), (200, "zh@1"));
    assert_eq!(whole.header("etag"), format!("\"{}\"", digest.as_str().unwrap()));
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"zh-1.vocabd\"");
    assert_eq!(server.get("/vocabs/zh/export?format=native").await.bytes, whole.bytes);
    let back = server.post("/vocabs?name=back", whole.bytes.clone()).await.ok(201);
    assert_eq!(&back["vocab"]["digest"], digest);
    assert_eq!(server.get("/vocabs/back/export").await.bytes, whole.bytes);

    let file = server.get("/vocabs/zh/export?format=tiktoken").await;
    assert_eq!(file.bytes, tiktoken(&["hello"]));
    let options = "name=tik&split=qwen2&normalizer=nfc&special=%3Cs%3E=300";
    let back = server.post(&format!("/vocabs?{options}"), file.bytes).await.ok(201);
    assert_eq!(&back["vocab"]["digest"], digest);

    let embedded = server.get("/vocabs/default/export").await;
    let back = server.post("/vocabs?name=default", embedded.bytes).await.ok(200);
    assert_eq!(back["created"], false);
    server.get("/vocabs/zh/export?format=xyz").await.problem(422, "invalid_field", Some("/query/format"));
    server.get("/vocabs/none/export").await.problem(404, "unknown_vocab", None);
}

#[tokio::test]
async fn aliases_are_made_moved_rolled_back_and_removed() {
    let server = TestServer::new().await;
    let digest =
        async |word: &str| server.import("zh", &[word]).await["vocab"]["digest"].as_str().unwrap().to_owned();
    let (one, two) = (digest("hello").await, digest("world").await);
    let path = "/vocabs/zh/aliases/prod";
    let put = async |version: u32, header: Option<(&'static str, &str)>| {
        let mut request = json_body(Method::PUT, path, &json!({"version": version}));
        if let Some((name, value)) = header {
            request = and(request, name, value);
        }
        server.send(request).await
    };

    let made = put(1, None).await.ok(201);
    assert_eq!((&made["vocab"]["digest"], &made["previous"]), (&json!(one), &Value::Null));
    assert_eq!((&made["name"], &made["alias"]), (&json!("zh"), &json!("prod")));
    assert_eq!(version(&server, "zh@prod").await, 1);
    let moved = put(2, None).await;
    assert_eq!((moved.header("vocab"), &moved.ok(200)["previous"]["version"]), ("zh@2", &json!(1)));
    assert_eq!(version(&server, "zh@prod").await, 2);
    let back = put(1, Some(("if-match", &format!("\"{two}\"")))).await.ok(200);
    assert_eq!(back["previous"]["digest"], two.as_str());
    assert_eq!(version(&server, "zh@prod").await, 1);

    let problem = put(2, Some(("if-match", &two))).await.problem(412, "alias_changed", None);
    assert_eq!(problem["digest"], one.as_str());
    put(2, Some(("if-none-match", "*"))).await.problem(412, "alias_changed", None);
    assert_eq!(version(&server, "zh@prod").await, 1);
    put(2, Some(("if-match", "*"))).await.ok(200);
    put(1, Some(("if-match", "nonsense"))).await.problem(422, "invalid_field", Some("/header/if-match"));
    let answer = put(1, Some(("if-none-match", &one))).await;
    answer.problem(422, "invalid_field", Some("/header/if-none-match"));
    put(7, None).await.problem(404, "unknown_version", None);
    put(0, None).await.problem(404, "unknown_version", None);
    assert_eq!(version(&server, "zh@prod").await, 2);

    let remove = and(request(Method::DELETE, path), "if-match", &one);
    server.send(remove).await.problem(412, "alias_changed", None);
    server.delete(path).await.ok(204);
    server.delete(path).await.problem(404, "unknown_alias", None);
    server.post_json("/encode", json!({"text": "a", "vocab": "zh@prod"})).await.problem(
        404,
        "unknown_alias",
        None,
    );
    put(1, Some(("if-match", "*"))).await.problem(412, "alias_changed", None);
    put(1, Some(("if-none-match", "*"))).await.ok(201);
}

#[tokio::test]
async fn names_that_would_read_as_something_else_are_refused() {
    let server = TestServer::new().await;
    server.import("zh", &["hello"]).await;
    for alias in ["latest", "123", "..", "%2e%2e", "..%2Fx", "a%20b", "-a", &"a".repeat(65)] {
        let path = format!("/vocabs/zh/aliases/{alias}");
        let answer = server.put_json(&path, json!({"version": 1})).await;
        answer.problem(422, "invalid_field", Some("/path/alias"));
        server.delete(&path).await.problem(422, "invalid_field", Some("/path/alias"));
    }
    for name in ["..", "%2e%2e", "..%2Fx", "%00", "a%40b"] {
        let answer = server.put_json(&format!("/vocabs/{name}/aliases/x"), json!({"version": 1})).await;
        answer.problem(422, "invalid_field", Some("/path/name"));
        let answer = server.delete(&format!("/vocabs/{name}/versions/1")).await;
        answer.problem(422, "invalid_field", Some("/path/name"));
        let answer = server.post(&format!("/vocabs?name={name}"), native("hello")).await;
        answer.problem(422, "invalid_field", Some("/query/name"));
    }
    for wanted in ["..", "%2e%2e", "..%2Fx", "zh@0", "zh@01", "zh@4294967296", "zh@@", "@1"] {
        let answer = server.get(&format!("/vocabs/{wanted}")).await;
        answer.problem(422, "invalid_field", Some("/path/ref"));
    }
    assert_eq!(listed(&server, "zh").await["aliases"], json!({}));
}

#[tokio::test]
async fn a_version_is_removed_once_nothing_names_it_and_its_number_is_gone() {
    let server = TestServer::new().await;
    for word in ["hello", "world", "third"] {
        server.import("zh", &[word]).await;
    }
    server.put_json("/vocabs/zh/aliases/prod", json!({"version": 3})).await.ok(201);
    let problem = server.delete("/vocabs/zh/versions/3").await.problem(409, "version_in_use", None);
    assert_eq!(problem["aliases"], json!(["prod"]));
    server.put_json("/vocabs/zh/aliases/prod", json!({"version": 1})).await.ok(200);
    server.delete("/vocabs/zh/versions/3").await.ok(204);
    server.delete("/vocabs/zh/versions/3").await.problem(404, "unknown_version", None);
    assert_eq!(version(&server, "zh").await, 2);
    let answer = server.post_json("/encode", json!({"text": "a", "vocab": "zh@3"})).await;
    assert_eq!(answer.problem(404, "unknown_version", None)["known"], json!([2, 1]));
    assert_eq!(server.import("zh", &["fourth"]).await["vocab"]["version"], 4);
    server.delete("/vocabs/zh/versions/x").await.problem(422, "invalid_field", Some("/path/version"));
    server.delete("/vocabs/none/versions/1").await.problem(404, "unknown_vocab", None);
    server.delete("/vocabs/default/versions/1").await.problem(409, "version_in_use", None);
    server.goes_on().await;

    // After a restart too.
    server.delete("/vocabs/zh/versions/4").await.ok(204);
    let again = server.again().await;
    assert_eq!(again.import("zh", &["fifth"]).await["vocab"]["version"], 5);
    assert_eq!(version(&again, "zh@prod").await, 1);
}

#[tokio::test]
async fn an_unknown_vocabulary_lists_near_names() {
    let server = TestServer::new().await;
    server.import("qwen-zh", &["hello"]).await;
    for (path, body) in [
        ("/encode", json!({"text": "a", "vocab": "qwen_zh"})),
        ("/encode/batch", json!({"texts": ["a"], "vocab": "qwen_zh@prod"})),
        ("/count", json!({"text": "a", "model": "qwen_zh"})),
        ("/decode", json!({"ids": [1], "vocab": "qwen_zh@2"})),
    ] {
        let problem = server.post_json(path, body).await.problem(404, "unknown_vocab", None);
        assert_eq!(problem["near"], json!(["qwen-zh"]));
    }
    assert_eq!(server.get("/vocabs/qwen_zh").await.problem(404, "unknown_vocab", None)["near"][0], "qwen-zh");
}

#[tokio::test]
async fn files_put_in_by_hand_become_versions_on_reload() {
    let server = TestServer::new().await;
    let reload = async || server.post("/reload", "").await.ok(200);
    server.by_hand("hand.tiktoken", tiktoken(&["hello"]));
    server.by_hand("hand.toml", "split = \"cl100k\"\naliases = [\"prod\"]\nspecial = { \"<s>\" = 300 }\n");
    let report = reload().await;
    assert_eq!((&report["loaded"], &report["failed"]), (&json!(["hand@1", "hand@prod"]), &json!([])));
    assert_eq!(server.ids("hand@prod", "hello").await, [259]);
    let facts = server.get("/vocabs/hand").await.ok(200);
    assert_eq!((&facts["special_tokens"], &facts["source"]), (&json!(1), &json!("import/hand.tiktoken")));
    assert_eq!(reload().await["loaded"], json!([]));

    // One that is bad changes nothing that is served, and says what is wrong with it.
    server.by_hand("hand.tiktoken", "YQ== 0\nnot base64 at all\n");
    server.by_hand("other.vocabd", native("world"));
    let report = reload().await;
    assert_eq!(
        (&report["loaded"], &report["failed"][0]["what"]),
        (&json!(["other@1"]), &json!("import/hand.tiktoken"))
    );
    assert!(report["failed"][0]["problem"].as_str().unwrap().contains("line 2"), "{report}");
    assert_eq!(server.ids("hand@prod", "hello").await, [259]);
    let health = server.get("/health").await.ok(200);
    assert_eq!((&health["status"], &health["failed"]), (&json!("degraded"), &report["failed"]));
    assert_eq!(server.get("/readyz").await.ok(200)["status"], "ok");

    server.by_hand("hand.tiktoken", tiktoken(&["world"]));
    let report = reload().await;
    assert_eq!(report["failed"], json!([]));
    assert_eq!(version(&server, "hand").await, 2);
    assert_eq!(server.get("/health").await.ok(200)["status"], "ok");
    // A start takes them as well, and makes no version twice.
    let again = server.again().await;
    assert_eq!(listed(&again, "hand").await["versions"].as_array().unwrap().len(), 2);
}

/// While an alias moves all the time, no request fails and each answer's ids are those of the version it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_fails_no_request_and_mixes_no_versions() {
    let server = TestServer::new().await;
    // `hello world` is another sequence by each; long enough for the encode threads, too.
    let (short, long) = ("hello world", "hello world ".repeat(8000));
    let mut expected = Vec::new();
    for word in ["hello", "world", "hello world"] {
        let version = expected.len() as u32 + 1;
        server.import("zh", &[word, " world"]).await;
        let of = format!("zh@{version}");
        expected.push([server.ids(&of, short).await, server.ids(&of, &long).await]);
    }
    assert!(expected[0] != expected[1]);
    server.put_json("/vocabs/zh/aliases/prod", json!({"version": 1})).await.ok(201);

    let (expected, stop) = (Arc::new(expected), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (server, expected, stop) = (server.clone(), Arc::clone(&expected), Arc::clone(&stop));
            let (short, long) = (short.to_owned(), long.clone());
            tokio::spawn(async move {
                let mut answers = [0_u64; 3];
                while !stop.load(Relaxed) {
                    let text = if client == 0 { &long } else { &short };
                    let body = json!({"texts": [text, text], "vocab": "zh@prod"});
                    let answer = server.post_json("/encode/batch", body).await;
                    let reply = answer.ok(200);
                    let version = reply["vocab"]["version"].as_u64().unwrap() as usize;
                    assert_eq!(answer.header("vocab"), format!("zh@{version}"));
                    let expect = &expected[version - 1][usize::from(client == 0)];
                    assert_eq!((&ids(&reply["ids"][0]), &ids(&reply["ids"][1])), (expect, expect));
                    answers[version - 1] += 1;
                    // A client behind a socket waits; one that never does would keep its thread from all others.
                    tokio::task::yield_now().await;
                }
                answers
            })
        })
        .collect();
    for round in 0..60_u32 {
        let version = round % 3 + 1;
        server.put_json("/vocabs/zh/aliases/prod", json!({"version": version})).await.ok(200);
        if round % 10 == 0 {
            server.post("/reload", "").await.ok(200);
        }
    }
    stop.store(true, Relaxed);
    let mut seen = [0; 3];
    for client in clients {
        let answers = client.await.unwrap();
        seen.iter_mut().zip(answers).for_each(|(sum, n)| *sum += n);
    }
    assert!(seen.iter().all(|n| *n > 0), "answers by version: {seen:?}");
}
