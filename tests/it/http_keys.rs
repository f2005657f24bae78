//! Keys: who may call what, how often, and what the others are told.

use crate::support::{Answer, TestServer, and, json_body, request, tiktoken, with_body};
use axum::body::Body;
use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::Path;
use vocabd::keys::{Limits, Scope, entry, generate};

/// The keys of a server: one for each scope, and one with none.
struct Keys {
    /// What the file has, and the keys themselves by name.
    text: String,
    keys: Vec<(String, String)>,
}

impl Keys {
    fn new() -> Self {
        let mut keys = Self { text: String::new(), keys: Vec::new() };
        keys.add("none", &[], Limits::default());
        for scope in Scope::ALL {
            keys.add(scope.name(), &[scope], Limits::default());
        }
        keys
    }

    fn add(&mut self, name: &str, scopes: &[Scope], limits: Limits) {
        let (key, hash) = generate().unwrap();
        self.text += &entry(name, &hash, scopes, limits);
        self.keys.push((name.to_owned(), key));
    }

    fn of(&self, name: &str) -> &str {
        &self.keys.iter().find(|(known, _)| known == name).unwrap().1
    }

    async fn server(&self) -> (tempfile::NamedTempFile, TestServer) {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.write(file.path());
        let server = TestServer::with(|config| config.keys_file = file.path().to_owned()).await;
        (file, server)
    }

    fn write(&self, file: &Path) {
        std::fs::write(file, &self.text).unwrap();
    }
}

async fn ask(server: &TestServer, method: &str, path: &str, key: Option<&str>) -> Answer {
    let method: Method = method.parse().unwrap();
    let asked = match method {
        Method::POST | Method::PUT => json_body(method, path, &json!({})),
        _ => request(method, path),
    };
    let asked = match key {
        Some(key) => and(asked, "authorization", &format!("Bearer {key}")),
        None => asked,
    };
    server.send(asked).await
}

/// Method, path and scope of every route: of the contract, and of the compatible ones as they stand in the source.
fn routes() -> Vec<(String, String, String)> {
    let contract = vocabd::http::OPENAPI_YAML;
    let mut path = String::new();
    let mut routes: Vec<(String, String, String)> = Vec::new();
    for line in contract.lines().skip_while(|line| *line != "paths:").take_while(|l| *l != "components:") {
        let (depth, word) = (line.len() - line.trim_start().len(), line.trim());
        match depth {
            2 => path = word.trim_end_matches(':').to_owned(),
            4 => {
                routes.push((word.trim_end_matches(':').to_uppercase(), path.clone(), "open".to_owned()));
            }
            6 if word.starts_with("x-scope: ") => {
                routes.last_mut().unwrap().2 = word["x-scope: ".len()..].to_owned();
            }
            _ => {}
        }
    }
    let source = include_str!("../../src/http/compat.rs");
    for route in
        source.split('"').filter(|word| word.starts_with("/compat/") && word.matches('/').count() > 2)
    {
        let line = &source[source.find(route).unwrap()..];
        let asked = line.find("asked(").unwrap() < line.find("looked(").unwrap_or(usize::MAX);
        let method = if asked { "POST" } else { "GET" };
        routes.push((method.to_owned(), route.to_owned(), "encode".to_owned()));
    }
    routes
}

#[tokio::test]
async fn every_route_wants_its_scope_and_no_more() {
    let keys = Keys::new();
    let (_file, server) = keys.server().await;
    let (unknown, _) = generate().unwrap();
    let routes = routes();
    let compat = routes.iter().filter(|(_, path, _)| path.starts_with("/compat/")).count();
    assert!(routes.len() > 65 && compat > 20, "{routes:?}");
    for (method, path, scope) in &routes {
        let route = format!("{method} {path}");
        let path = path.replace("{*model}", "m").replace("{version}", "1").replace(['{', '}'], "");
        let code = |answer: &Answer| match answer.status {
            401 | 403 => answer.status,
            _ => 0,
        };
        let open = scope == "open";
        for key in [None, Some(unknown.as_str())] {
            let answer = ask(&server, method, &path, key).await;
            assert_eq!(code(&answer), if open { 0 } else { 401 }, "{route} {key:?}: {answer:?}");
            // In the shape of the server whose route it is.
            if path.starts_with("/compat/") {
                assert_eq!(answer.header("content-type"), "application/json", "{route}");
            }
        }
        for (name, key) in &keys.keys {
            let allowed = open || scope == "any" || name == scope || name == "admin";
            let answer = ask(&server, method, &path, Some(key)).await;
            assert_eq!(code(&answer), if allowed { 0 } else { 403 }, "{route} {name}: {answer:?}");
            assert!(!String::from_utf8_lossy(&answer.bytes).contains("unknown_route"), "{route}");
        }
    }
    // Nothing is there, and nobody needs to be known to learn that.
    ask(&server, "GET", "/nowhere", None).await.problem(404, "unknown_route", None);
    ask(&server, "DELETE", "/encode", None).await.problem(401, "no_key", Some("/header/Authorization"));
    ask(&server, "DELETE", "/encode", Some(keys.of("encode"))).await.problem(405, "method_not_allowed", None);
}

#[tokio::test]
async fn the_page_is_open_and_its_policy_lets_in_nothing_else() {
    let (_file, server) = Keys::new().server().await;
    for (path, kind) in [("/", "text/html; charset=utf-8"), ("/ui/app.js", "text/javascript; charset=utf-8")]
    {
        let answer = ask(&server, "GET", path, None).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        let policy = answer.header("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"] {
            assert!(policy.split("; ").any(|own| own == rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    ask(&server, "GET", "/ui/none.js", None).await.problem(404, "not_found", None);
    // What the page calls wants a key as ever.
    ask(&server, "GET", "/vocabs", None).await.problem(401, "no_key", Some("/header/Authorization"));
}

#[tokio::test]
async fn a_refusal_says_what_is_missing() {
    let keys = Keys::new();
    let (_file, server) = keys.server().await;
    let answer = ask(&server, "POST", "/encode", None).await;
    answer.problem(401, "no_key", Some("/header/Authorization"));
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    let answer = ask(&server, "POST", "/encode", Some("cAnArY-7f3a")).await;
    answer.problem(401, "unknown_key", Some("/header/Authorization"));
    let problem = ask(&server, "POST", "/train", Some(keys.of("encode"))).await;
    assert_eq!(problem.problem(403, "missing_scope", None)["scope"], "train");

    let body = json!({"text": "Hello"});
    let good = and(json_body(Method::POST, "/encode", &body), "x-api-key", keys.of("encode"));
    server.send(good).await.ok(200);
}

#[tokio::test]
async fn a_training_job_that_moves_aliases_is_a_publication() {
    let mut keys = Keys::new();
    keys.add("both", &[Scope::Train, Scope::Publish], Limits::default());
    let (_file, server) = keys.server().await;
    let train = async |key: &str, aliases: Value| {
        let body = json!({"name": "v", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260, "aliases": aliases});
        let asked = json_body(Method::POST, "/train", &body);
        server.send(and(asked, "x-api-key", keys.of(key))).await
    };
    train("train", json!([])).await.ok(202);
    let refused = train("train", json!(["prod"])).await;
    assert_eq!(refused.problem(403, "missing_scope", Some("/aliases"))["scope"], "publish");
    train("both", json!(["prod"])).await.ok(202);
    train("admin", json!(["prod"])).await.ok(202);
}

#[tokio::test]
async fn other_servers_clients_are_refused_in_their_servers_shapes() {
    let keys = Keys::new();
    let (_file, server) = keys.server().await;
    let check = async |path: &str, key: Option<&str>, status: u16, at: &str, expected: &str| {
        let answer = ask(&server, "POST", path, key).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.json().pointer(at), Some(&json!(expected)), "{path}: {answer:?}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
        }
    };
    let wrong = Some(keys.of("train"));
    let no_key = "header.Authorization: a key is wanted: Authorization: Bearer KEY, or x-api-key: KEY";
    check("/v1/responses/input_tokens", None, 401, "/error/code", "invalid_api_key").await;
    check("/compat/openai/v1/responses/input_tokens", None, 401, "/error/code", "invalid_api_key").await;
    check("/v1/messages/count_tokens", None, 401, "/error/type", "authentication_error").await;
    check("/v1/messages/count_tokens", wrong, 403, "/error/type", "permission_error").await;
    check("/compat/anthropic/v1/messages/count_tokens", None, 401, "/error/message", no_key).await;
    check("/compat/llamacpp/tokenize", None, 401, "/error/type", "authentication_error").await;
    check("/compat/llamacpp/tokenize", wrong, 403, "/error/type", "permission_error").await;
    check("/compat/litellm/utils/token_counter", None, 401, "/error/type", "auth_error").await;
    check("/compat/vllm/tokenize", None, 401, "/error/message", no_key).await;
    check("/tokenize", None, 401, "/error/message", no_key).await;
    check("/compat/sglang/tokenize", None, 401, "/message", no_key).await;
    check("/compat/cohere/v1/tokenize", None, 401, "/message", no_key).await;
    check("/compat/tei/tokenize", None, 401, "/error", no_key).await;
    check("/chat_tokenize", None, 401, "/error", no_key).await;
    check("/v1/chat/completions/input_tokens", None, 401, "/error/type", "authentication_error").await;
    check("/v3/tokenize", None, 401, "/error", no_key).await;
    check("/api/tokenize", None, 401, "/error", no_key).await;
    check("/api/detokenize", None, 401, "/error", no_key).await;
    check("/v1/models/m:countTokens", None, 401, "/error/message", no_key).await;
    check("/v1beta/models/m:countTokens", None, 401, "/error/status", "UNAUTHENTICATED").await;
    check("/ml/v1/text/tokenization", None, 401, "/errors/0/message", no_key).await;
    check("/v1/tokenize-text", None, 401, "/error", no_key).await;
    let models = ask(&server, "GET", "/v1/models", None).await;
    assert_eq!((models.status, &models.json()["error"]["code"]), (401, &json!("invalid_api_key")));
}

#[tokio::test]
async fn a_key_at_its_limit_is_told_when_to_come_back_and_others_are_not_held_up() {
    let mut keys = Keys::new();
    let rate = Limits { requests_per_second: Some(1), burst: Some(3), ..Limits::default() };
    keys.add("paced", &[Scope::Encode], rate);
    let quota = Limits { requests_per_day: Some(2), ..Limits::default() };
    keys.add("counted", &[Scope::Encode], quota);
    let (file, server) = keys.server().await;
    let count = async |name: &str| {
        let asked = json_body(Method::POST, "/count", &json!({"text": "Hello"}));
        server.send(and(asked, "x-api-key", keys.of(name))).await
    };
    for _ in 0..3 {
        count("paced").await.ok(200);
    }
    let refused = count("paced").await;
    let problem = refused.problem(429, "key_limit", None);
    assert_eq!((&problem["setting"], &problem["limit"]), (&json!("requests_per_second"), &json!(1)));
    assert_eq!(refused.header("retry-after"), "1");

    count("counted").await.ok(200);
    count("counted").await.ok(200);
    let refused = count("counted").await;
    assert_eq!(refused.problem(429, "key_limit", None)["setting"], "requests_per_day");
    assert!((1..=86_400).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    // Not a way around it.
    keys.write(file.path());
    ask(&server, "POST", "/reload", Some(keys.of("admin"))).await.ok(200);
    count("counted").await.problem(429, "key_limit", None);
    let anthropic = ask(&server, "POST", "/v1/messages/count_tokens", Some(keys.of("counted"))).await;
    assert_eq!((anthropic.status, &anthropic.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_ne!(anthropic.header("retry-after"), "");

    for _ in 0..20 {
        count("encode").await.ok(200);
    }
    // A probe is nobody's request.
    ask(&server, "GET", "/readyz", None).await.ok(200);
}

#[tokio::test]
async fn bytes_of_a_day_are_counted_as_they_come_and_end_a_body_that_did_not_say_its_length() {
    let mut keys = Keys::new();
    let limits = Limits { bytes_per_day: Some(1000), ..Limits::default() };
    keys.add("counted", &[Scope::Encode, Scope::Train], limits);
    let (_file, server) = keys.server().await;
    let send = async |method: Method, path: &str, body: Body| {
        let asked = and(with_body(method, path, body), "content-type", "text/plain");
        server.send(and(asked, "x-api-key", keys.of("counted"))).await
    };
    let chunked = |pieces: usize| {
        let piece = Ok::<_, std::io::Error>(Bytes::from_static(&[b'a'; 100]));
        Body::from_stream(futures_util::stream::iter(
            std::iter::repeat_with(move || Ok::<_, std::io::Error>(piece.as_ref().unwrap().clone()))
                .take(pieces),
        ))
    };
    let refused = |answer: &Answer| {
        let problem = answer.problem(429, "key_limit", None);
        assert_eq!((&problem["setting"], &problem["limit"]), (&json!("bytes_per_day"), &json!(1000)));
        assert!((1..=86_400).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    };
    send(Method::POST, "/count", "a".repeat(600).into()).await.ok(200);
    // What is announced and does not fit is refused before it is read, and costs nothing.
    refused(&send(Method::POST, "/count", "a".repeat(401).into()).await);
    refused(&send(Method::PUT, "/uploads/u", "a".repeat(401).into()).await);
    send(Method::POST, "/count", "a".repeat(100).into()).await.ok(200);
    // What is not announced is read as far as it fits.
    refused(&send(Method::POST, "/count", chunked(4)).await);
    refused(&send(Method::PUT, "/uploads/u", chunked(4)).await);
    refused(&send(Method::POST, "/encode/stream", chunked(1)).await);
    let get = and(request(Method::GET, "/vocabs"), "x-api-key", keys.of("counted"));
    server.send(get).await.ok(200);
    ask(&server, "GET", "/uploads/u", Some(keys.of("train"))).await.problem(404, "not_found", None);
    // Others have bytes of their own.
    let asked = with_body(Method::POST, "/count", "a".repeat(600));
    let asked = and(and(asked, "content-type", "text/plain"), "x-api-key", keys.of("encode"));
    server.send(asked).await.ok(200);
}

#[tokio::test]
async fn what_a_key_keeps_is_limited_and_what_is_deleted_is_free_again() {
    let mut keys = Keys::new();
    let scopes = [Scope::Publish, Scope::Train];
    keys.add("few", &scopes, Limits { kept_versions: Some(2), ..Limits::default() });
    keys.add("small", &scopes, Limits { kept_bytes: Some(10_000), ..Limits::default() });
    let (file, server) = keys.server().await;
    let import = async |key: &str, name: &str, words: &[&str]| {
        let path = format!("/vocabs?name={name}&format=tiktoken&split=cl100k");
        let asked = with_body(Method::POST, &path, tiktoken(words));
        server.send(and(asked, "x-api-key", keys.of(key))).await
    };
    let train = async |key: &str| {
        let body = json!({"name": "trained", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260});
        server.send(and(json_body(Method::POST, "/train", &body), "x-api-key", keys.of(key))).await
    };
    let refused = |answer: &Answer, setting: &str, limit: u64| {
        let problem = answer.problem(403, "key_quota", None);
        assert_eq!((&problem["setting"], &problem["limit"]), (&json!(setting), &json!(limit)), "{problem}");
    };
    import("few", "a", &["one"]).await.ok(201);
    import("few", "b", &["two"]).await.ok(201);
    refused(&import("few", "b", &["three"]).await, "kept_versions", 2);
    refused(&train("few").await, "kept_versions", 2);
    // What is there already takes no room; others have room of their own, and what they publish under the same name is theirs.
    import("few", "b", &["two"]).await.ok(200);
    import("publish", "b", &["four"]).await.ok(201);
    refused(&import("few", "c", &["three"]).await, "kept_versions", 2);
    ask(&server, "DELETE", "/vocabs/a/versions/1", Some(keys.of("few"))).await.ok(204);
    import("few", "c", &["three"]).await.ok(201);

    let bytes = import("small", "d", &["word"]).await.ok(201);
    let path = format!("/vocabs/d@{}", bytes["vocab"]["version"]);
    let size = ask(&server, "GET", &path, Some(keys.of("encode"))).await.ok(200)["native_bytes"].clone();
    let fit = 10_000 / size.as_u64().unwrap();
    for nth in 1..fit {
        import("small", "d", &[&format!("word{nth}")]).await.ok(201);
    }
    refused(&import("small", "d", &["more"]).await, "kept_bytes", 10_000);

    // A key of the same name goes on with what it keeps, also in another life of the server.
    let server = server.again_with(|config| config.keys_file = file.path().to_owned()).await;
    let path = "/vocabs?name=c&format=tiktoken&split=cl100k";
    let asked = with_body(Method::POST, path, tiktoken(&["five"]));
    refused(&server.send(and(asked, "x-api-key", keys.of("few"))).await, "kept_versions", 2);
}

#[tokio::test]
async fn a_key_has_no_more_open_jobs_than_it_may_and_what_they_make_counts_as_kept() {
    let mut keys = Keys::new();
    keys.add("one", &[Scope::Train], Limits { open_jobs: Some(1), ..Limits::default() });
    keys.add("kept", &[Scope::Train], Limits { kept_versions: Some(1), ..Limits::default() });
    let file = tempfile::NamedTempFile::new().unwrap();
    keys.write(file.path());
    let server = TestServer::with(|config| {
        config.keys_file = file.path().to_owned();
        config.max_running_jobs = 0;
    })
    .await;
    let train = async |key: &str| {
        let body = json!({"name": "v", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260});
        server.send(and(json_body(Method::POST, "/train", &body), "x-api-key", keys.of(key))).await
    };
    let open = train("one").await.ok(202);
    let refused = train("one").await;
    let problem = refused.problem(429, "key_limit", None);
    assert_eq!((&problem["setting"], &problem["limit"]), (&json!("open_jobs"), &json!(1)));
    assert_ne!(refused.header("retry-after"), "");
    train("kept").await.ok(202);
    assert_eq!(train("kept").await.problem(403, "key_quota", None)["setting"], "kept_versions");
    train("train").await.ok(202);
    let cancel = format!("/train/{}/cancel", open["id"].as_str().unwrap());
    ask(&server, "POST", &cancel, Some(keys.of("one"))).await.ok(202);
    train("one").await.ok(202);
}

#[tokio::test]
async fn keys_are_read_again_without_a_restart() {
    let mut keys = Keys::new();
    let (file, server) = keys.server().await;
    let old = keys.of("encode").to_owned();
    let info = async |key: &str| ask(&server, "GET", "/info", Some(key)).await.status;
    assert_eq!(info(&old).await, 200);

    std::fs::write(file.path(), keys.text.replace("sha256", "sha512")).unwrap();
    let admin = keys.of("admin").to_owned();
    let report = ask(&server, "POST", "/reload", Some(&admin)).await.ok(200);
    assert_eq!(report["failed"][0]["what"], "keys", "{report}");
    assert_eq!(info(&old).await, 200, "a bad file changes nothing");
    let health = ask(&server, "GET", "/health", Some(&old)).await.ok(200);
    assert_eq!((&health["status"], &health["failed"][0]["what"]), (&json!("degraded"), &json!("keys")));

    keys.text = keys.text.split_inclusive("[[keys]]\n").filter(|part| !part.contains("\"encode\"")).collect();
    keys.add("new", &[Scope::Encode], Limits::default());
    keys.text = keys.text.replace("[[keys]]\n[[keys]]", "[[keys]]");
    keys.write(file.path());
    let report = ask(&server, "POST", "/reload", Some(&admin)).await.ok(200);
    assert_eq!(report["failed"], json!([]));
    assert_eq!((info(&old).await, info(keys.of("new")).await), (401, 200));
    let health = ask(&server, "GET", "/health", Some(keys.of("new"))).await.ok(200);
    assert_eq!(health["status"], "ok");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let preflight = |origin: &str| {
        let asked = and(request(Method::OPTIONS, "/encode"), "origin", origin);
        let asked = and(asked, "access-control-request-method", "POST");
        and(asked, "access-control-request-headers", "authorization,content-type")
    };
    let call =
        |origin: &str| and(json_body(Method::POST, "/encode", &json!({"text": "a"})), "origin", origin);
    let closed = TestServer::new().await;
    assert_eq!(
        closed.send(preflight("https://app.example.org")).await.header("access-control-allow-origin"),
        ""
    );
    closed.send(call("https://app.example.org")).await.problem(403, "foreign_origin", None);

    let open =
        TestServer::with(|config| config.cors_origins = "https://app.example.org, http://b:1".into()).await;
    for origin in ["https://app.example.org", "http://b:1"] {
        let answer = open.send(preflight(origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
        assert!(answer.header("access-control-allow-methods").contains("POST"), "{answer:?}");
        assert!(answer.header("access-control-allow-headers").contains("authorization"), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        let answer = open.send(call(origin)).await;
        answer.ok(200);
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert!(answer.header("access-control-expose-headers").contains("etag"), "{answer:?}");
    }
    let foreign = "https://evil.example.org";
    assert_eq!(open.send(preflight(foreign)).await.header("access-control-allow-origin"), "");
    open.send(call(foreign)).await.problem(403, "foreign_origin", None);

    // With keys a page needs one, and reads why it was refused.
    let keys = Keys::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    keys.write(file.path());
    let both = TestServer::with(|config| {
        config.keys_file = file.path().to_owned();
        config.cors_origins = "*".into();
    })
    .await;
    assert_eq!(both.send(preflight(foreign)).await.header("access-control-allow-origin"), "*");
    let answer = both.send(call(foreign)).await;
    answer.problem(401, "no_key", Some("/header/Authorization"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    both.send(and(call(foreign), "x-api-key", keys.of("encode"))).await.ok(200);
}
