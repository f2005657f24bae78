//! Bad input over the router: a problem that names the field and repeats nothing, and a server that goes on.

use crate::registry::native;
use crate::support::{
    Answer, CANARY, Faults, TestServer, and, json_body, request, tiktoken, varied_text, with_body,
};
use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vocabd::config::Config;

/// Sends a request that must be refused so, and sees that the server goes on.
async fn check(
    server: &TestServer,
    request: Request<Body>,
    status: u16,
    code: &str,
    pointer: Option<&str>,
) -> Value {
    let shown = format!("{} {}", request.method(), request.uri());
    let answer: Answer = server.send(request).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["code"]), (status, &json!(code)), "{shown}: {told}");
    let problem = answer.problem(status, code, pointer);
    server.goes_on().await;
    problem
}

fn encode(body: impl Into<Body>) -> Request<Body> {
    with_body(Method::POST, "/encode", body)
}

#[tokio::test]
async fn texts_of_every_kind_are_taken() {
    let server = TestServer::new().await;
    let empty = server.post_json("/encode", json!({"text": ""})).await.ok(200);
    assert_eq!((&empty["count"], &empty["ids"]), (&json!(0), &json!([])));
    for character in ["a", "\n", "世", "\u{301}"] {
        let text = character.repeat(1_000_000 / character.len());
        let from = Instant::now();
        let reply = server.post_json("/encode", json!({"text": text})).await.ok(200);
        assert!(from.elapsed() < Duration::from_secs(10), "{character:?} took {:?}", from.elapsed());
        let back = server.post_json("/decode", json!({"ids": reply["ids"]})).await.ok(200);
        assert!(back["text"] == text.as_str(), "{character:?}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_by_their_place() {
    let server = TestServer::new().await;
    let bad = async |body: Vec<u8>, code: &str| check(&server, encode(body), 400, code, None).await;
    let quoted = |inner: &[u8]| [b"{\"text\":\"", CANARY.as_bytes(), inner, b"\"}"].concat();
    assert_eq!(bad(quoted(b"\xff"), "invalid_utf8").await["offset"], 9 + CANARY.len());
    bad(quoted(b"\xed\xa0\x80"), "invalid_utf8").await;
    bad(quoted(b"\\ud800"), "bad_json").await;
    bad(quoted(b"\\udc00 "), "bad_json").await;
    bad(quoted(b"\n"), "bad_json").await;
    assert_eq!(bad(format!("{{\n\"text\": {CANARY}}}").into(), "bad_json").await["line"], 2);
    bad(Vec::new(), "bad_json").await;
    bad(b"{\"text\":\"a\"} trailing".to_vec(), "bad_json").await;
    bad(b"{\"text\":\"a\",}".to_vec(), "bad_json").await;
    bad(b"\xef\xbb\xbf{\"text\":\"a\"}".to_vec(), "bad_json").await;
    bad(b"{\"text\":\"".to_vec(), "bad_json").await;
}

#[tokio::test]
async fn nesting_without_end_is_refused() {
    let server = TestServer::new().await;
    let deep = "[".repeat(100_000);
    let closed = deep.clone() + &"]".repeat(100_000);
    for nested in [&deep, &closed] {
        check(&server, encode(nested.clone()), 422, "invalid_field", Some("")).await;
        let text = format!("{{\"text\":{nested}}}");
        check(&server, encode(text), 422, "invalid_field", Some("/text")).await;
        let decode = with_body(Method::POST, "/decode/batch", format!("{{\"ids\":[[{nested}]]}}"));
        check(&server, decode, 422, "invalid_field", Some("/ids/0/0")).await;
        let train = with_body(Method::POST, "/train", format!("{{\"corpus\":{nested}}}"));
        check(&server, train, 422, "invalid_field", Some("/corpus")).await;
    }
    let objects = "{\"text\":".repeat(100_000);
    check(&server, encode(objects), 422, "invalid_field", Some("/text")).await;
    let unknown = format!("{{\"text\":\"a\",\"x\":{deep}}}");
    check(&server, encode(unknown), 422, "invalid_field", Some("/x")).await;
}

#[tokio::test]
async fn fields_are_closed_typed_and_given_once() {
    let server = TestServer::new().await;
    let bad = async |path: &str, body: &str, pointer: &str| {
        let body = body.replace('$', CANARY);
        check(&server, with_body(Method::POST, path, body), 422, "invalid_field", Some(pointer)).await;
    };
    bad("/encode", r#"{"text": 5}"#, "/text").await;
    bad("/encode", r#"{"text": null}"#, "/text").await;
    bad("/encode", r#"{"text": ["$"]}"#, "/text").await;
    bad("/encode", r#"{}"#, "/text").await;
    bad("/encode", r#"{"text": "$", "txet": "$"}"#, "/txet").await;
    bad("/encode", r#"{"text": "$", "$ a field that is a text": 1}"#, "").await;
    bad("/encode", r#"{"text": "$", "text": "$"}"#, "/text").await;
    bad("/encode", r#"{"text": "a", "vocab": "default", "vocab": "$"}"#, "/vocab").await;
    bad("/encode", r#"{"text": "$", "special": "$"}"#, "/special").await;
    bad("/encode", r#"{"text": "$", "return": ["ids", "$"]}"#, "/return/1").await;
    bad("/encode", r#"{"text": "$", "offset_unit": "bytes"}"#, "/offset_unit").await;
    bad("/encode", r#"{"text": "$", "max_tokens": -1}"#, "/max_tokens").await;
    bad("/encode", r#"{"text": "$", "max_tokens": "3"}"#, "/max_tokens").await;
    bad("/encode", r#"{"text": "$", "truncation_side": 1}"#, "/truncation_side").await;
    bad("/encode", r#"{"text": "$", "add_special_tokens": "no"}"#, "/add_special_tokens").await;
    bad("/encode", r#"["$"]"#, "").await;
    bad("/encode", r#""$""#, "").await;
    bad("/encode", "null", "").await;
    bad("/encode/batch", r#"{"texts": "$"}"#, "/texts").await;
    bad("/encode/batch", r#"{"texts": ["$", 1]}"#, "/texts/1").await;
    bad("/decode", r#"{"ids": "$"}"#, "/ids").await;
    bad("/decode", r#"{"ids": [1], "errors": "$"}"#, "/errors").await;
    bad("/decode/batch", r#"{"ids": [1]}"#, "/ids/0").await;
    bad("/train", r#"{"name": "a", "corpus": [["$"]], "num_merges": 1}"#, "/corpus").await;
    bad("/train", r#"{"name": "a", "corpus": {"texts": ["$"], "txt": 1}, "num_merges": 1}"#, "/corpus/txt")
        .await;
    for name in ["../x", "%2e%2e", "", "a/b", "a b", "ä", "a@b@c"] {
        let body = json!({"text": CANARY, "vocab": name});
        check(&server, json_body(Method::POST, "/encode", &body), 422, "invalid_field", Some("/vocab")).await;
        let body = json!({"name": name, "corpus": {"texts": ["a"]}, "num_merges": 1});
        check(&server, json_body(Method::POST, "/train", &body), 422, "invalid_field", Some("/name")).await;
    }
    let unknown = json!({"text": "a", "vocab": CANARY});
    check(&server, json_body(Method::POST, "/encode", &unknown), 404, "unknown_vocab", None).await;
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_however_it_comes() {
    let server = TestServer::with(|config| {
        config.max_body_bytes = 1000;
        config.max_vocab_bytes = 2000;
    })
    .await;
    let big = json!({"text": CANARY.repeat(200)}).to_string();
    let chunks = || {
        let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
            big.as_bytes().chunks(100).map(|piece| Ok(piece.to_vec())).collect();
        Body::from_stream(futures_util::stream::iter(pieces))
    };
    for path in ["/encode", "/encode/batch", "/count", "/decode", "/decode/batch", "/train"] {
        let announced =
            and(with_body(Method::POST, path, big.clone()), "content-length", &big.len().to_string());
        for request in [announced, with_body(Method::POST, path, chunks())] {
            assert_eq!(check(&server, request, 413, "body_too_large", None).await["limit"], 1000);
        }
    }
    let request = with_body(Method::PUT, "/vocabs/default/aliases/a", chunks());
    check(&server, request, 413, "body_too_large", None).await;
    let request = with_body(Method::POST, "/vocabs?name=a", tiktoken(&[]));
    assert_eq!(check(&server, request, 413, "body_too_large", None).await["limit"], 2000);
    let broken: Vec<Result<Vec<u8>, std::io::Error>> =
        vec![Ok(b"{".to_vec()), Err(std::io::Error::other(CANARY))];
    let broken = encode(Body::from_stream(futures_util::stream::iter(broken)));
    check(&server, broken, 400, "body_cut_off", None).await;
}

#[tokio::test]
async fn files_that_are_no_vocabulary_are_told_by_their_line() {
    let server = TestServer::new().await;
    let whole = tiktoken(&["hello"]);
    let import = |file: String| with_body(Method::POST, "/vocabs?name=bad&split=cl100k", file);
    let at_line = async |file: String, line: u64| {
        let problem = check(&server, import(file), 422, "bad_vocabulary", None).await;
        assert_eq!(problem["line"], line, "{problem}");
    };
    at_line(format!("{whole}{CANARY}!! 260\n"), 261).await;
    at_line(format!("{whole}aGVsbG8h 256\n"), 261).await;
    at_line(format!("{whole}aGVsbG8= 300\n"), 261).await;
    at_line(format!("{whole}aGVsbG8h\n"), 261).await;
    at_line(format!("{whole}aGVsbG8h -1\n"), 261).await;
    at_line(format!("{whole}aGVsbG8h 4294967296\n"), 261).await;
    at_line(format!("{whole}aGVsbG8h 4000000000\n"), 261).await;
    at_line(format!("{whole} 260\n"), 261).await;
    let missing: String =
        whole.lines().filter(|line| !line.starts_with("QQ== ")).map(|l| format!("{l}\n")).collect();
    let problem = check(&server, import(missing), 422, "bad_vocabulary", None).await;
    assert!(problem["detail"].as_str().unwrap().contains("0x41"), "{problem}");
    check(&server, import(String::new()), 422, "bad_vocabulary", None).await;
    check(&server, import(CANARY.to_owned()), 422, "bad_vocabulary", None).await;

    let native = native("hello");
    for file in [&native[..native.len() - 1], &native[..20], &[&native[..], b"x"].concat()[..]] {
        let request = with_body(Method::POST, "/vocabs?name=bad", file.to_vec());
        assert!(check(&server, request, 422, "bad_vocabulary", None).await["offset"].is_u64());
    }
    let option = with_body(Method::POST, "/vocabs?name=bad&split=cl100k", native);
    check(&server, option, 422, "bad_vocabulary", Some("/query/split")).await;
    server.get("/vocabs/bad").await.problem(404, "unknown_vocab", None);

    // A gap in the ranks is legal and survives.
    let gap = format!("{whole}aGVsbG8h 400\n");
    server.send(import(gap.clone())).await.ok(201);
    assert_eq!(server.get("/vocabs/bad/export?format=tiktoken").await.bytes, gap);
}

#[tokio::test]
async fn training_that_cannot_be_is_refused_with_its_field() {
    let server = TestServer::new().await;
    server.corpus("a.txt", "some text");
    std::os::unix::fs::symlink("/etc/passwd", server.data().parent().unwrap().join("corpora/link")).unwrap();
    let bad = async |corpus: Value, more: Value, pointer: &str| {
        let mut body = json!({"name": "t", "corpus": corpus});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        check(&server, json_body(Method::POST, "/train", &body), 422, "invalid_field", Some(pointer)).await
    };
    let texts = || json!({"texts": [CANARY]});
    let enough = || json!({"num_merges": 10});
    bad(texts(), json!({"vocab_size": 10}), "/vocab_size").await;
    bad(texts(), json!({"vocab_size": 256}), "/vocab_size").await;
    bad(texts(), json!({"vocab_size": 4_000_001}), "/vocab_size").await;
    bad(texts(), json!({"vocab_size": 257, "special_tokens": ["<s>"]}), "/vocab_size").await;
    bad(texts(), json!({}), "/vocab_size").await;
    bad(texts(), json!({"num_merges": 0}), "/num_merges").await;
    bad(texts(), json!({"num_merges": u32::MAX}), "/num_merges").await;
    bad(texts(), json!({"num_merges": -1}), "/num_merges").await;
    bad(texts(), json!({"num_merges": 10, "max_token_bytes": 1}), "/max_token_bytes").await;
    bad(texts(), json!({"num_merges": 10, "min_frequency": -1}), "/min_frequency").await;
    bad(texts(), json!({"num_merges": 10, "split": "cl10k"}), "/split").await;
    bad(texts(), json!({"num_merges": 10, "split": format!("({CANARY}")}), "/split").await;
    bad(texts(), json!({"num_merges": 10, "split": "[0-9]", "digits": "single"}), "/digits").await;
    bad(texts(), json!({"num_merges": 10, "digits": "double"}), "/digits").await;
    bad(texts(), json!({"num_merges": 10, "tie_break": CANARY}), "/tie_break").await;
    bad(texts(), json!({"num_merges": 10, "normalizer": CANARY}), "/normalizer").await;
    bad(texts(), json!({"num_merges": 10, "special_tokens": ["a", ""]}), "/special_tokens/1").await;
    bad(texts(), json!({"num_merges": 10, "special_tokens": ["a", "a"]}), "/special_tokens/1").await;
    bad(texts(), json!({"num_merges": 10, "aliases": ["latest"]}), "/aliases/0").await;
    bad(json!({}), enough(), "/corpus").await;
    bad(json!({"texts": ["a"], "files": ["a.txt"]}), enough(), "/corpus").await;
    bad(json!({"texts": []}), enough(), "/corpus/texts").await;
    bad(json!({"texts": ["", ""]}), enough(), "/corpus/texts").await;
    bad(json!({"files": []}), enough(), "/corpus/files").await;
    bad(json!({"upload": "none"}), enough(), "/corpus/upload").await;
    bad(json!({"upload": "../x"}), enough(), "/corpus/upload").await;
    bad(json!({"texts": ["a"], "format": "jsonl"}), enough(), "/corpus/format").await;
    bad(json!({"files": ["a.txt"], "field": "x"}), enough(), "/corpus/field").await;
    bad(json!({"files": ["a.txt"], "format": "xml"}), enough(), "/corpus/format").await;
    for file in ["../secret", "/etc/passwd", "link", "none.txt", "", ".", "a\0.txt", "../corpora/a.txt"] {
        bad(json!({"files": ["a.txt", file]}), enough(), "/corpus/files/1").await;
    }
    assert_eq!(server.get("/train").await.ok(200)["jobs"], json!([]));

    let off = TestServer::with(|config| config.corpus_root = "".into());
    drop(off);
    let body = json!({"name": "t", "corpus": {"texts": [varied_text(100)]}, "num_merges": 3});
    server.train(body).await;
}

#[tokio::test]
async fn requests_of_another_kind_are_refused() {
    let server = TestServer::new().await;
    let body = json!({"text": CANARY});
    for kind in
        ["text/html", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "nonsense"]
    {
        let request = and(encode(body.to_string()), "content-type", kind);
        check(&server, request, 415, "unsupported_media_type", None).await;
    }
    for kind in ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"] {
        server.send(and(encode(body.to_string()), "content-type", kind)).await.ok(200);
    }
    for encoding in ["br", "deflate, gzip"] {
        let request = and(json_body(Method::POST, "/encode", &body), "content-encoding", encoding);
        check(&server, request, 415, "unsupported_media_type", None).await;
    }
    for encoding in ["gzip", "zstd", "br", "deflate, gzip"] {
        for request in [
            with_body(Method::PUT, "/uploads/a", "x"),
            with_body(Method::POST, "/vocabs?name=a", native("hello")),
        ] {
            let request = and(request, "content-encoding", encoding);
            check(&server, request, 415, "unsupported_media_type", None).await;
        }
    }
    for path in ["/nope", "/encode/", "/vocabs/a/b/c", "/..%2f..%2fetc/passwd", "/train/x/y"] {
        check(&server, request(Method::GET, path), 404, "unknown_route", None).await;
    }
    for (method, path, allow) in [
        (Method::GET, "/encode", "POST"),
        (Method::DELETE, "/train", "GET,HEAD,POST"),
        (Method::POST, "/uploads/a", "DELETE,GET,HEAD,PUT"),
        (Method::PATCH, "/vocabs", "GET,HEAD,POST"),
        (Method::POST, "/livez", "GET,HEAD"),
    ] {
        let answer = server.send(request(method.clone(), path)).await;
        answer.problem(405, "method_not_allowed", None);
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_drive_a_server_without_keys() {
    let server = TestServer::new().await;
    let with = |path: &str, host: &str, origin: Option<&str>| {
        let mut request = request(Method::GET, path);
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        request
    };
    for (host, origin) in [
        ("evil.example", None),
        ("localhost.evil.example:8080", None),
        ("10.0.0.1:8080", None),
        ("localhost:8080", Some("http://evil.example")),
        ("localhost:8080", Some("http://localhost:9090")),
        ("localhost:8080", Some("null")),
    ] {
        for path in ["/vocabs", "/openapi.yaml", "/metrics", "/nope"] {
            check(&server, with(path, host, origin), 403, "foreign_origin", None).await;
        }
        for probe in ["/livez", "/readyz", "/health"] {
            server.send(with(probe, host, origin)).await.ok(200);
        }
    }
    for (host, origin) in [
        ("localhost:8080", Some("http://localhost:8080")),
        ("127.0.0.1:8080", None),
        ("[::1]:8080", Some("http://[::1]:8080")),
    ] {
        server.send(with("/vocabs", host, origin)).await.ok(200);
    }
}

/// With the settings of the image, whose port is published on the machine of somebody who looks at web pages.
#[tokio::test]
async fn a_web_page_cannot_drive_a_server_that_is_open_to_all() {
    let image = |config: &mut Config| {
        config.listen = "0.0.0.0:8080".into();
        config.allow_unauthenticated = true;
    };
    let server = TestServer::with(image).await;
    // What a form of a page sends without asking first.
    let post = |path: &str, host: &str, origin: Option<&str>| {
        let body = json!({"text": "a"}).to_string();
        let mut request = and(with_body(Method::POST, path, body), "host", host);
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        and(request, "content-type", "application/x-www-form-urlencoded")
    };
    for origin in
        ["https://page.example", "http://127.0.0.1:9090", "http://localhost:8080", "null", "file://"]
    {
        for path in ["/encode", "/train", "/vocabs?name=x&alias=prod", "/tokenize", "/reload"] {
            let request = post(path, "127.0.0.1:8080", Some(origin));
            let answer = server.send(request).await;
            assert_eq!(answer.status, 403, "{path} {origin}: {answer:?}");
        }
        check(&server, post("/encode", "127.0.0.1:8080", Some(origin)), 403, "foreign_origin", None).await;
        server.send(and(request(Method::GET, "/readyz"), "origin", origin)).await.ok(200);
    }
    // Clients that are no browsers, whatever they call the server; its own page, also behind a proxy that speaks TLS.
    for (host, origin) in [
        ("127.0.0.1:8080", None),
        ("vocabd:8080", None),
        ("vocab.example", None),
        ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
        ("vocab.example", Some("https://vocab.example")),
        ("vocab.example:8443", Some("https://vocab.example:8443")),
    ] {
        server.send(post("/encode", host, origin)).await.ok(200);
    }
    let allowing = TestServer::with(|config| {
        image(config);
        config.cors_origins = "https://page.example".into();
    })
    .await;
    allowing.send(post("/encode", "127.0.0.1:8080", Some("https://page.example"))).await.ok(200);
    let other = post("/encode", "127.0.0.1:8080", Some("https://other.example"));
    check(&allowing, other, 403, "foreign_origin", None).await;
}

#[tokio::test]
async fn request_ids_are_the_clients_if_harmless() {
    let server = TestServer::new().await;
    let send = async |id: &str| {
        let answer = server.send(and(request(Method::GET, "/nope"), "x-request-id", id)).await;
        answer.problem(404, "unknown_route", None)["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(send("abc-123").await, "abc-123");
    assert_ne!(send(&format!("{CANARY} with spaces")).await, CANARY);
    let (one, two) = (send("").await, send("").await);
    assert_ne!(one, two);
}

/// What readers see of vocabularies and jobs.
async fn visible(server: &TestServer) -> Value {
    json!([server.get("/vocabs").await.ok(200), server.get("/train").await.ok(200)])
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_shows_nothing_half_done() {
    let faults = Arc::new(Faults::default());
    let server = TestServer::over(&faults).await;
    for word in ["hello", "world"] {
        server.post("/vocabs?name=zh&alias=prod", native(word)).await.ok(201);
    }
    let before = visible(&server).await;
    faults.full();
    let train = json!({"name": "zh", "corpus": {"texts": ["some text some text"]}, "num_merges": 3});
    for request in [
        with_body(Method::POST, "/vocabs?name=zh&alias=prod", native("third")),
        with_body(Method::POST, "/vocabs?name=new", native("third")),
        json_body(Method::PUT, "/vocabs/zh/aliases/prod", &json!({"version": 1})),
        json_body(Method::PUT, "/vocabs/zh/aliases/new", &json!({"version": 1})),
        json_body(Method::POST, "/train", &train),
    ] {
        check(&server, request, 507, "storage_full", None).await;
        assert_eq!(visible(&server).await, before);
    }
    faults.none();
    assert_eq!(server.post("/reload", "").await.ok(200)["failed"], json!([]));
    assert_eq!(visible(&server).await, before);
    assert_eq!(server.post("/vocabs?name=zh", native("third")).await.ok(201)["vocab"]["version"], 3);
    let id = server.train(train.clone()).await;
    assert_eq!(server.wait_for_job(&id).await["state"], "succeeded");

    // Full only when the job publishes: it fails, and says so.
    let id = server
        .train(json!({"name": "later", "corpus": {"texts": [varied_text(2_000_000)]}, "num_merges": 3000}))
        .await;
    faults.full();
    let job = server.wait_for_job(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("storage_failed")), "{job}");
    server.get("/vocabs/later").await.problem(404, "unknown_vocab", None);
}

#[tokio::test]
async fn below_the_least_free_room_nothing_is_begun() {
    let server = TestServer::with(|config| config.min_free_bytes = u64::MAX).await;
    let upload = with_body(Method::PUT, "/uploads/a", CANARY);
    assert_eq!(check(&server, upload, 507, "storage_full", None).await["min_free_bytes"], u64::MAX);
    let train = json!({"name": "a", "corpus": {"texts": [CANARY]}, "num_merges": 3});
    check(&server, json_body(Method::POST, "/train", &train), 507, "storage_full", None).await;
    assert_eq!(server.get("/train").await.ok(200)["jobs"], json!([]));
    server.get("/uploads/a").await.problem(404, "not_found", None);
}
