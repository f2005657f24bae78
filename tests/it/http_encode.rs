//! `/encode`, `/count`, `/decode` and their batches: every option, over the router.

use crate::data;
use crate::support::{Answer, TestServer, and, ids, json_body, tiktoken};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A server with `zh@1` (words hello and help, two special tokens) and `zh@2` (word world), `zh@prod` at 1.
async fn server() -> TestServer {
    let server = TestServer::new().await;
    let special = "%7B%22%3Cend%3E%22:400,%22%3Cpad%3E%22:401%7D";
    let path = format!("/vocabs?name=zh&split=cl100k&alias=prod&special={special}");
    server.post(&path, tiktoken(&["hello", "help"])).await.ok(201);
    server.import("zh", &["world"]).await;
    server
}

async fn encode(server: &TestServer, text: &str, options: Value) -> Value {
    let mut body = json!({"text": text, "vocab": "zh@1"});
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let answer = server.post_json("/encode", body).await;
    names_version(&answer, "zh", 1);
    answer.json()
}

/// That body and headers of a 2xx name the same version.
#[track_caller]
fn names_version(answer: &Answer, name: &str, version: u32) {
    let vocab = answer.ok(200)["vocab"].clone();
    assert_eq!((vocab["name"].as_str(), vocab["version"].as_u64()), (Some(name), Some(version.into())));
    assert_eq!(answer.header("vocab"), format!("{name}@{version}"));
    assert_eq!(answer.header("etag"), format!("\"{}\"", vocab["digest"].as_str().unwrap()));
    assert!(vocab["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn ids_are_answered_and_nothing_else_unless_asked_for() {
    let server = server().await;
    let reply = encode(&server, "hello hel", json!({})).await;
    assert_eq!(reply["ids"], json!([259, 32, 257]));
    assert_eq!((&reply["count"], &reply["truncated"]), (&json!(3), &json!(false)));
    let members: Vec<&String> = reply.as_object().unwrap().keys().collect();
    assert_eq!(members, ["count", "ids", "truncated", "vocab"]);

    let reply = encode(&server, "hello", json!({"return": []})).await;
    assert_eq!((&reply["count"], reply.get("ids")), (&json!(1), None));
}

#[tokio::test]
async fn tokens_bytes_and_offsets_are_answered_on_demand() {
    let server = server().await;
    let text = "hello 世😀";
    let reply = encode(&server, text, json!({"return": ["ids", "tokens", "bytes", "offsets"]})).await;
    assert_eq!(reply["count"], 9);
    assert_eq!(reply["tokens"][0], "hello");
    assert_eq!(reply["tokens"][2], "\u{fffd}");
    let bytes: Vec<u8> = reply["bytes_b64"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|token| STANDARD.decode(token.as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(bytes, text.as_bytes());

    let byte = [[0, 5], [5, 6], [6, 7], [7, 8], [8, 9], [9, 10], [10, 11], [11, 12], [12, 13]];
    let char = [[0, 5], [5, 6], [6, 7], [6, 7], [6, 7], [7, 8], [7, 8], [7, 8], [7, 8]];
    let utf16 = [[0, 5], [5, 6], [6, 7], [6, 7], [6, 7], [7, 9], [7, 9], [7, 9], [7, 9]];
    assert_eq!(reply["offsets"], json!(byte), "the default unit");
    for (unit, expect) in [("byte", byte), ("char", char), ("utf16", utf16)] {
        let reply = encode(&server, text, json!({"return": ["offsets"], "offset_unit": unit})).await;
        assert_eq!(reply["offsets"], json!(expect), "{unit}");
        assert_eq!(reply.get("ids"), None);
    }
}

#[tokio::test]
async fn a_text_is_cut_at_the_side_asked_for() {
    let server = server().await;
    let check = async |options: Value, ids: Value, truncated: bool| {
        let reply = encode(&server, "hello help", options).await;
        assert_eq!((&reply["ids"], &reply["truncated"]), (&ids, &json!(truncated)));
        assert_eq!(reply["count"], ids.as_array().unwrap().len());
    };
    // `help` is one token: the space before it is a byte of its own.
    check(json!({}), json!([259, 32, 260]), false).await;
    check(json!({"max_tokens": 3}), json!([259, 32, 260]), false).await;
    check(json!({"max_tokens": 2}), json!([259, 32]), true).await;
    check(json!({"max_tokens": 2, "truncation_side": "right"}), json!([259, 32]), true).await;
    check(json!({"max_tokens": 2, "truncation_side": "left"}), json!([32, 260]), true).await;
    check(json!({"max_tokens": 18_446_744_073_709_551_615_u64}), json!([259, 32, 260]), false).await;

    let options = json!({"max_tokens": 1, "truncation_side": "left", "return": ["offsets"]});
    assert_eq!(encode(&server, "hello help", options).await["offsets"], json!([[6, 10]]));
    let body = json!({"text": "hello", "max_tokens": 0});
    server.post_json("/encode", body).await.problem(422, "invalid_field", Some("/max_tokens"));
}

#[tokio::test]
async fn special_tokens_mean_what_the_request_says() {
    let server = server().await;
    let text = "hello<end>hello<pad>";
    let check = async |options: Value, specials: &[u32]| {
        let reply = encode(&server, text, options).await;
        let found: Vec<u32> = ids(&reply["ids"]).into_iter().filter(|id| *id >= 400).collect();
        assert_eq!(found, specials);
    };
    check(json!({}), &[]).await;
    check(json!({"special": "text"}), &[]).await;
    check(json!({"special": "parse"}), &[400, 401]).await;
    check(json!({"allowed_special": ["<pad>"]}), &[401]).await;
    check(json!({"special": "error", "allowed_special": ["<pad>", "<end>"]}), &[400, 401]).await;

    let error = json!({"text": text, "vocab": "zh@1", "special": "error"});
    let problem = server.post_json("/encode", error).await.problem(422, "special_not_allowed", Some("/text"));
    assert_eq!(problem["offset"], 5);
    let error = json!({"text": text, "vocab": "zh@1", "special": "error", "allowed_special": ["<end>"]});
    let problem = server.post_json("/encode", error).await.problem(422, "special_not_allowed", Some("/text"));
    assert_eq!(problem["offset"], 15);
    let unknown = json!({"text": "a", "vocab": "zh@1", "allowed_special": ["<end>", "<nope>"]});
    let answer = server.post_json("/encode", unknown).await;
    answer.problem(422, "unknown_special", Some("/allowed_special/1"));
    let many = json!({"text": "a", "vocab": "zh@1", "allowed_special": vec!["<end>"; 1001]});
    let answer = server.post_json("/encode", many).await;
    assert_eq!(answer.problem(422, "invalid_field", Some("/allowed_special"))["limit"], 1000);

    // In a batch and in counts the same.
    let batch = json!({"texts": ["a", text], "vocab": "zh@1", "special": "error"});
    let problem =
        server.post_json("/encode/batch", batch).await.problem(422, "special_not_allowed", Some("/texts/1"));
    assert_eq!(problem["offset"], 5);
    let count = json!({"text": text, "vocab": "zh@1", "special": "parse"});
    assert_eq!(server.post_json("/count", count).await.ok(200)["count"], 4);
}

#[tokio::test]
async fn the_vocabulary_is_named_once_and_by_any_ref() {
    let server = server().await;
    for (wanted, version) in [("zh", 2), ("zh@latest", 2), ("zh@1", 1), ("zh@2", 2), ("zh@prod", 1)] {
        for field in ["vocab", "model"] {
            for (path, body) in [
                ("/encode", json!({"text": "a", field: wanted})),
                ("/encode/batch", json!({"texts": ["a"], field: wanted})),
                ("/count", json!({"text": "a", field: wanted})),
                ("/decode", json!({"ids": [97], field: wanted})),
                ("/decode/batch", json!({"ids": [[97]], field: wanted})),
            ] {
                names_version(&server.post_json(path, body).await, "zh", version);
            }
        }
    }
    names_version(&server.post_json("/encode", json!({"text": "a"})).await, "default", 1);
    let both = json!({"text": "a", "vocab": "zh", "model": "zh"});
    server.post_json("/encode", both).await.problem(422, "invalid_field", Some("/model"));
}

#[tokio::test]
async fn if_match_guards_against_another_version() {
    let server = server().await;
    let answer = server.post_json("/encode", json!({"text": "a", "vocab": "zh@1"})).await;
    let tag = answer.header("etag").to_owned();
    let digest = tag.trim_matches('"').to_owned();
    for (path, body) in [
        ("/encode", json!({"text": "a", "vocab": "zh@prod"})),
        ("/encode/batch", json!({"texts": ["a"], "vocab": "zh@prod"})),
        ("/count", json!({"text": "a", "vocab": "zh@prod"})),
        ("/decode", json!({"ids": [97], "vocab": "zh@prod"})),
        ("/decode/batch", json!({"ids": [[97]], "vocab": "zh@prod"})),
    ] {
        let send =
            async |tag: &str| server.send(and(json_body(Method::POST, path, &body), "if-match", tag)).await;
        for good in [&tag, &digest, "*", &format!("\"other\", {tag}")] {
            names_version(&send(good).await, "zh", 1);
        }
        let problem = send("\"sha256:00\"").await.problem(412, "vocab_changed", None);
        assert_eq!(problem["digest"], digest.as_str());
    }
    server.put_json("/vocabs/zh/aliases/prod", json!({"version": 2})).await.ok(200);
    let request = json_body(Method::POST, "/encode", &json!({"text": "a", "vocab": "zh@prod"}));
    server.send(and(request, "if-match", &tag)).await.problem(412, "vocab_changed", None);
}

#[tokio::test]
async fn a_batch_gives_what_its_texts_give_alone() {
    let server = server().await;
    let texts = ["hello", "", "世界 😀", "hello help hello", &"long ".repeat(10_000)];
    for options in [json!({}), json!({"max_tokens": 2}), json!({"max_tokens": 2, "truncation_side": "left"})]
    {
        let mut body = json!({"texts": texts, "vocab": "zh@1"});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let batch = server.post_json("/encode/batch", body).await.ok(200);
        for (index, text) in texts.iter().enumerate() {
            let alone = encode(&server, text, options.clone()).await;
            assert_eq!(batch["ids"][index], alone["ids"]);
            assert_eq!(batch["counts"][index], alone["count"]);
            assert_eq!(batch["truncated"][index], alone["truncated"]);
        }
    }
    let empty = server.post_json("/encode/batch", json!({"texts": []})).await.ok(200);
    assert_eq!((&empty["ids"], &empty["counts"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn counts_agree_with_encoding_and_stop_at_their_limit() {
    let server = server().await;
    let count = async |body: Value| server.post_json("/count", body).await.ok(200);
    let one = count(json!({"text": "hello help", "vocab": "zh@1"})).await;
    assert_eq!((&one["count"], one.get("counts"), one.get("exceeded")), (&json!(3), None, None));
    let several = count(json!({"texts": ["hello", "", "hello help"], "vocab": "zh@1"})).await;
    assert_eq!((&several["counts"], &several["total"]), (&json!([1, 0, 3]), &json!(4)));
    assert_eq!(several.get("count"), None);

    let under = count(json!({"text": "hello help", "vocab": "zh@1", "limit": 3})).await;
    assert_eq!((&under["count"], &under["exceeded"]), (&json!(3), &json!(false)));
    let over = count(json!({"text": "hello help", "vocab": "zh@1", "limit": 2})).await;
    assert_eq!(over["exceeded"], true);
    assert!(over["count"].as_u64().unwrap() > 2);
    let over = count(json!({"texts": ["hello", "hello", "hello"], "vocab": "zh@1", "limit": 1})).await;
    assert_eq!((&over["exceeded"], over["counts"].as_array().unwrap().len()), (&json!(true), 2));
    let long = "word ".repeat(200_000);
    let over = count(json!({"text": long, "limit": 10})).await;
    assert!((11..1000).contains(&over["count"].as_u64().unwrap()), "{over}");

    for (body, pointer) in [
        (json!({"text": "a", "texts": ["a"]}), ""),
        (json!({}), ""),
        (json!({"text": "a", "limit": 0}), "/limit"),
    ] {
        server.post_json("/count", body).await.problem(422, "invalid_field", Some(pointer));
    }
}

#[tokio::test]
async fn decoding_tells_bytes_that_are_no_text() {
    let server = server().await;
    let decode = async |body: Value| server.post_json("/decode", body).await;
    let good = decode(json!({"ids": [259, 400, 32, 260], "vocab": "zh@1"})).await.ok(200);
    assert_eq!((&good["text"], &good["valid_utf8"]), (&json!("hello<end> help"), &json!(true)));
    let skipped = json!({"ids": [259, 400, 32, 260], "vocab": "zh@1", "skip_special_tokens": true});
    assert_eq!(decode(skipped).await.ok(200)["text"], "hello help");
    let empty = decode(json!({"ids": []})).await.ok(200);
    assert_eq!((&empty["text"], &empty["valid_utf8"]), (&json!(""), &json!(true)));

    // The first two bytes of a character of three.
    let half = |errors: &str| json!({"ids": [259, 0xe4, 0xb8], "vocab": "zh@1", "errors": errors});
    let replaced = decode(half("replace")).await.ok(200);
    assert_eq!((&replaced["text"], &replaced["valid_utf8"]), (&json!("hello\u{fffd}"), &json!(false)));
    let bytes = decode(half("bytes")).await.ok(200);
    assert_eq!(bytes["bytes_b64"], STANDARD.encode(b"hello\xe4\xb8"));
    assert_eq!((bytes.get("text"), bytes.get("valid_utf8")), (None, None));
    let problem = decode(half("strict")).await.problem(422, "not_utf8", Some("/ids"));
    assert_eq!(problem["offset"], 5);
}

#[tokio::test]
async fn an_id_that_is_no_token_is_named() {
    let server = server().await;
    let check = async |ids: &str, code: &str, pointer: &str| {
        let body = format!("{{\"vocab\":\"zh@1\",\"ids\":{ids}}}");
        server.post("/decode", body).await.problem(422, code, Some(pointer));
        let body = format!("{{\"vocab\":\"zh@1\",\"ids\":[[],{ids}]}}");
        let pointer = pointer.replacen("/ids", "/ids/1", 1);
        server.post("/decode/batch", body).await.problem(422, code, Some(&pointer));
    };
    // 261 to 399 is a gap in the ids.
    check("[97, 300]", "unknown_id", "/ids/1").await;
    check("[402]", "unknown_id", "/ids/0").await;
    check("[97, 97, 4000000000]", "unknown_id", "/ids/2").await;
    check("[4294967295]", "unknown_id", "/ids/0").await;
    check("[97, -1]", "invalid_field", "/ids/1").await;
    check("[5000000000]", "invalid_field", "/ids/0").await;
    check("[4e9]", "invalid_field", "/ids/0").await;
    check("[1.5]", "invalid_field", "/ids/0").await;
    check("[\"a\"]", "invalid_field", "/ids/0").await;
    check("[null]", "invalid_field", "/ids/0").await;
    server.goes_on().await;
}

#[tokio::test]
async fn batches_of_ids_are_decoded_in_order() {
    let server = server().await;
    let ids = json!([[259], [], [0xe4], [400, 260]]);
    let decode = async |options: Value| {
        let mut body = json!({"ids": ids, "vocab": "zh@1"});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        server.post_json("/decode/batch", body).await
    };
    let reply = decode(json!({"skip_special_tokens": true})).await.ok(200);
    assert_eq!(reply["texts"], json!(["hello", "", "\u{fffd}", "help"]));
    assert_eq!(reply["valid_utf8"], json!([true, true, false, true]));
    let reply = decode(json!({"errors": "bytes"})).await.ok(200);
    let expect: Vec<String> =
        [&b"hello"[..], b"", b"\xe4", b"<end>help"].iter().map(|b| STANDARD.encode(b)).collect();
    assert_eq!((&reply["bytes_b64"], reply.get("texts")), (&json!(expect), None));
    decode(json!({"errors": "strict"})).await.problem(422, "not_utf8", Some("/ids/2"));
}

#[tokio::test]
async fn what_is_encoded_is_given_back_by_decoding() {
    let server = server().await;
    let long = "长文本 long text 😀\n".repeat(5000);
    for text in ["", " ", "\0", "Hello, 世界! 😀", "👩‍👩‍👧‍👦 e\u{301} \u{fffd}\u{10ffff}", "\r\n\t  x", &long]
    {
        for vocab in ["default", "zh@1", "zh@2"] {
            let ids = server.ids(vocab, text).await;
            let reply = server.post_json("/decode", json!({"ids": ids, "vocab": vocab})).await.ok(200);
            assert_eq!((&reply["text"], &reply["valid_utf8"]), (&json!(text), &json!(true)));
        }
    }
}

#[tokio::test]
async fn limits_of_batches_name_the_limit() {
    let server = TestServer::with(|config| config.max_batch_texts = 3).await;
    for (path, field) in [("/encode/batch", "texts"), ("/count", "texts"), ("/decode/batch", "ids")] {
        let pointer = format!("/{field}");
        let entry = if field == "ids" { json!([97]) } else { json!("a") };
        let body = |n: usize| json!({field: vec![entry.clone(); n]});
        server.post_json(path, body(3)).await.ok(200);
        let problem = server.post_json(path, body(4)).await.problem(422, "invalid_field", Some(&pointer));
        assert_eq!(problem["limit"], 3);
    }
}

/// Every golden of the published vocabularies that are there, through the router.
#[tokio::test]
async fn ids_over_http_equal_the_references() {
    let server = TestServer::new().await;
    let mut seen = 0;
    for vocab in ["cl100k_base", "o200k_base", "r50k_base", "p50k_base", "qwen"] {
        let read = |path: String| {
            data::shared(&path).or_else(|| (vocab == "cl100k_base").then(|| data::local(&path)))
        };
        let Some(file) = read(format!("vocabs/{vocab}.tiktoken")) else { continue };
        let imported = server.post(&format!("/vocabs?name={vocab}"), file).await.ok(201);
        assert_eq!(imported["vocab"]["version"], 1);
        let lines = |bytes: Vec<u8>| -> Vec<Value> {
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        for case in lines(read(format!("golden/{vocab}.jsonl")).unwrap()) {
            let text = case["text"].as_str().unwrap();
            let body = json!({"text": text, "vocab": vocab});
            let plain = server.post_json("/encode", body).await.ok(200);
            assert_eq!(plain["ids"], case["ids"], "{vocab}, text {}", case["n"]);
            let body = json!({"text": text, "vocab": vocab, "special": "parse"});
            let parsed = server.post_json("/encode", body).await.ok(200);
            let expect = case.get("ids_special").filter(|ids| !ids.is_null()).unwrap_or(&case["ids"]);
            assert_eq!(&parsed["ids"], expect, "{vocab}, text {} with specials", case["n"]);
            let body = json!({"ids": case["ids"], "vocab": vocab});
            let decoded = server.post_json("/decode", body).await.ok(200);
            let expect = case["decoded"].as_str().unwrap_or(text);
            assert_eq!(decoded["text"], expect, "{vocab}, text {} decoded", case["n"]);
        }
        for (n, case) in lines(read(format!("golden/{vocab}.decode.jsonl")).unwrap()).iter().enumerate() {
            let answer = server.post_json("/decode", json!({"ids": case["ids"], "vocab": vocab})).await;
            if case.get("error").is_some_and(|error| !error.is_null()) {
                assert_eq!(answer.status, 422, "{vocab}, sequence {n}");
                continue;
            }
            let expect = case["lossy"].as_str().or(case["decoded"].as_str()).unwrap();
            assert_eq!(answer.ok(200)["text"], expect, "{vocab}, sequence {n}");
        }
        seen += 1;
    }
    assert_eq!(seen, if data::shared("SHA256SUMS").is_some() { 5 } else { 1 });
}

#[tokio::test]
async fn ids_that_stand_for_too_many_bytes_are_refused() {
    let server = crate::support::TestServer::with(|config| config.max_decoded_bytes = 8).await;
    let encoded = server.post_json("/encode", serde_json::json!({ "text": "12 bytes of." })).await;
    let ids = encoded.ok(200)["ids"].clone();
    let decode = |path: &'static str, ids| server.post_json(path, serde_json::json!({ "ids": ids }));
    for (path, ids) in [("/decode", ids.clone()), ("/decode/batch", serde_json::json!([[], ids]))] {
        let answer = decode(path, ids).await;
        assert_eq!(answer.status, 422);
        assert!(String::from_utf8_lossy(&answer.bytes).contains("max_decoded_bytes"));
    }
    assert_eq!(decode("/decode", serde_json::json!([ids[0]])).await.status, 200);
}
