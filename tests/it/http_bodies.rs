//! Forms of bodies over the router: every form of a request and of an answer says the same, and what is none of ours is
//! refused.

use crate::data;
use crate::support::{Answer, CANARY, TestServer, and, json_body, request, tiktoken, with_body};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::io::Write;

const MSGPACK: &str = "application/msgpack";
const PACKED: &str = "application/octet-stream";
const TEXT: &str = "Grüße, 世界! don't stop 12345 😀\r\n\tfn main() {}  ";

/// A server with `cl100k` (ids beyond 16 bits) and `small` (ids that fit).
async fn server() -> TestServer {
    with(|_| ()).await
}

async fn with(change: impl FnOnce(&mut vocabd::config::Config)) -> TestServer {
    let server = TestServer::with(change).await;
    let file = data::local("vocabs/cl100k_base.tiktoken");
    server.post("/vocabs?name=cl100k&format=tiktoken&split=cl100k", file).await.ok(201);
    let special = "%7B%22%3Cend%3E%22:400%7D";
    let path = format!("/vocabs?name=small&split=cl100k&special={special}");
    server.post(&path, tiktoken(&["hello", "help"])).await.ok(201);
    server
}

fn post(path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    and(with_body(Method::POST, path, body), "content-type", kind)
}

fn msgpack(body: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(body).unwrap()
}

fn pack(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

#[track_caller]
fn unpack(answer: &Answer) -> Vec<u32> {
    assert_eq!((answer.status, answer.header("content-type")), (200, PACKED), "{answer:?}");
    answer.bytes.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n)).collect()
}

/// The answer in `MessagePack`, as JSON.
#[track_caller]
fn unpacked(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (200, MSGPACK), "{answer:?}");
    rmp_serde::from_slice(&answer.bytes).unwrap()
}

fn compressed(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(body).unwrap();
            gzip.finish().unwrap()
        }
        _ => zstd::encode_all(body, 3).unwrap(),
    }
}

fn decompressed(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut out = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut out).unwrap();
            out
        }
        _ => zstd::decode_all(body).unwrap(),
    }
}

#[tokio::test]
async fn every_form_of_a_request_and_an_answer_says_the_same() {
    let server = server().await;
    let requests = [
        ("/encode", json!({"text": TEXT, "vocab": "cl100k"})),
        (
            "/encode",
            json!({"text": TEXT, "vocab": "cl100k", "return": ["ids", "tokens", "bytes", "offsets"],
                "offset_unit": "utf16", "max_tokens": 9, "truncation_side": "left"}),
        ),
        ("/encode", json!({"text": "", "vocab": "small", "return": []})),
        ("/encode", json!({"text": "hello<end>", "vocab": "small", "allowed_special": ["<end>"]})),
        ("/encode/batch", json!({"texts": [TEXT, "", "hello"], "vocab": "cl100k", "max_tokens": 3})),
        ("/count", json!({"texts": [TEXT, "a"], "vocab": "cl100k", "limit": 100})),
        ("/decode", json!({"ids": [9906, 11, 220, 3574, 244], "vocab": "cl100k"})),
        ("/decode", json!({"ids": [9906, 3574], "vocab": "cl100k", "errors": "bytes"})),
        ("/decode/batch", json!({"ids": [[9906], [], [3574]], "vocab": "cl100k"})),
        ("/chunk", json!({"text": TEXT, "size": 4, "overlap": 1, "vocab": "cl100k"})),
        ("/explain", json!({"text": TEXT, "vocab": "cl100k"})),
    ];
    for (path, body) in requests {
        let expect = server.post_json(path, body.clone()).await.ok(200);
        let from_msgpack = server.send(post(path, MSGPACK, msgpack(&body))).await;
        assert_eq!(from_msgpack.ok(200), expect, "{path} from MessagePack");
        let request = and(json_body(Method::POST, path, &body), "accept", MSGPACK);
        let answer = server.send(request).await;
        assert_eq!(unpacked(&answer), expect, "{path} to MessagePack");
        let version = format!("{}@1", body["vocab"].as_str().unwrap());
        assert_eq!(answer.header("vocab"), version);
        assert_eq!(answer.header("etag"), format!("\"{}\"", expect["vocab"]["digest"].as_str().unwrap()));
        for coding in ["gzip", "zstd"] {
            let small = compressed(coding, body.to_string().as_bytes());
            let request = and(with_body(Method::POST, path, small), "content-encoding", coding);
            assert_eq!(server.send(request).await.ok(200), expect, "{path} from {coding}");
        }
    }
    // Made by two versions, and by none: no header names one.
    let body = json!({"vocabs": ["cl100k", "small"], "texts": [TEXT, "hello"]});
    let expect = server.post_json("/compare", body.clone()).await.ok(200);
    let answer = server.send(and(post("/compare", MSGPACK, msgpack(&body)), "accept", MSGPACK)).await;
    assert_eq!((unpacked(&answer), answer.header("vocab")), (expect, ""));
    for path in ["/vocabs/small/tokens?limit=5", "/vocabs/small/stats", "/vocabs/small/diff/cl100k"] {
        let expect = server.get(path).await.ok(200);
        let answer = server.send(and(request(Method::GET, path), "accept", MSGPACK)).await;
        assert_eq!(unpacked(&answer), expect, "{path}");
        assert_eq!(answer.header("vocab"), if path.contains("diff") { "" } else { "small@1" });
        let gzip = server.send(and(request(Method::GET, path), "accept-encoding", "gzip")).await;
        let body = if gzip.header("content-encoding").is_empty() {
            gzip.bytes.to_vec()
        } else {
            decompressed("gzip", &gzip.bytes)
        };
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect, "{path}");
        let pdf = and(request(Method::GET, path), "accept", "application/pdf");
        server.send(pdf).await.problem(406, "not_acceptable", Some("/header/Accept"));
        let other = and(request(Method::GET, path), "if-match", "\"sha256:00\"");
        let answer = server.send(other).await;
        if path.contains("diff") {
            answer.ok(200);
        } else {
            answer.problem(412, "vocab_changed", None);
        }
    }
    let pdf = and(json_body(Method::POST, "/compare", &body), "accept", "application/pdf");
    server.send(pdf).await.problem(406, "not_acceptable", Some("/header/Accept"));
    let chat = json!({"messages": [{"role": "user", "content": "hello"}], "vocab": "small"});
    let answer = server.send(post("/chat/render", MSGPACK, msgpack(&chat))).await;
    answer.problem(422, "no_chat_template", None);
}

#[tokio::test]
async fn a_text_alone_is_encoded_with_options_in_the_query() {
    let server = server().await;
    let check = async |path: &str, query: &str, options: Value| {
        let mut body = json!({"text": TEXT});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let expect = server.post_json(path, body).await.ok(200);
        for kind in ["text/plain", "text/plain; charset=utf-8"] {
            let answer = server.send(post(&format!("{path}?{query}"), kind, TEXT)).await;
            assert_eq!(answer.ok(200), expect, "{path}?{query}");
        }
    };
    check("/encode", "", json!({})).await;
    check("/encode", "vocab=cl100k", json!({"vocab": "cl100k"})).await;
    check(
        "/encode",
        "model=cl100k@1&return=tokens,offsets&offset_unit=char",
        json!(
        {"vocab": "cl100k", "return": ["tokens", "offsets"], "offset_unit": "char"}),
    )
    .await;
    check(
        "/encode",
        "max_tokens=3&truncation_side=left&add_special_tokens=true&special=parse",
        json!(
        {"max_tokens": 3, "truncation_side": "left", "add_special_tokens": true, "special": "parse"}),
    )
    .await;
    check("/count", "vocab=cl100k&limit=5", json!({"vocab": "cl100k", "limit": 5})).await;

    let encode = async |query: &str, text: &str| {
        server.send(post(&format!("/encode?{query}"), "text/plain", text.to_owned())).await
    };
    let parsed = encode("vocab=small&allowed_special=%3Cend%3E", "hello<end>").await.ok(200);
    assert_eq!(parsed["ids"], json!([259, 400]));
    assert_eq!(encode("", "").await.ok(200)["ids"], json!([]));
    encode("vocab=small&special=error", "hello<end>").await.problem(
        422,
        "special_not_allowed",
        Some("/text"),
    );
    for (query, pointer) in [
        ("max_tokens=0", "/query/max_tokens"),
        ("max_tokens=-1", "/query/max_tokens"),
        ("max_tokens=x", "/query/max_tokens"),
        ("max_tokens=1&max_tokens=2", "/query/max_tokens"),
        ("return=ids,spans", "/query/return/1"),
        ("offset_unit=bytes", "/query/offset_unit"),
        ("truncation_side=up", "/query/truncation_side"),
        ("vocab=a&model=a", "/query/model"),
        ("vocab=..%2fx", "/query/vocab"),
        ("text=cAnArY-7f3a", "/query/text"),
        ("txet=cAnArY-7f3a", "/query/txet"),
    ] {
        encode(query, CANARY).await.problem(422, "invalid_field", Some(pointer));
    }
    let limit = server.send(post("/count?limit=0", "text/plain", "a")).await;
    limit.problem(422, "invalid_field", Some("/query/limit"));
    let answer =
        server.send(post("/encode", "text/plain", [b"cAnArY-7f3a".as_slice(), b"\xff"].concat())).await;
    assert_eq!(answer.problem(400, "invalid_utf8", None)["offset"], 11);
    // An object has its options inside.
    let answer = server.send(json_body(Method::POST, "/encode?max_tokens=1", &json!({"text": "a"}))).await;
    answer.problem(422, "invalid_field", Some("/query/max_tokens"));
    server.send(post("/encode/batch", "text/plain", "a")).await.problem(415, "unsupported_media_type", None);
    server.goes_on().await;
}

#[tokio::test]
async fn a_long_body_in_pieces_is_whole_whatever_was_announced() {
    let server = server().await;
    let text = "Five words, and one number: 12345.\n".repeat(100_000);
    let whole = server.send(post("/count?vocab=small", "text/plain", text.clone())).await.ok(200);
    let pieces = || {
        let (mut pieces, mut left) = (Vec::new(), text.as_bytes());
        for size in [1, 100, 70_000, 400_000].into_iter().cycle() {
            let (piece, rest) = left.split_at(left.len().min(size));
            pieces.push(Ok::<_, std::io::Error>(piece.to_vec()));
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        Body::from_stream(futures_util::stream::iter(pieces))
    };
    // What is announced is what comes, or less, or more than that: the last two are for a proxy's mistakes.
    for announced in [None, Some(text.len()), Some(1), Some(16 << 20)] {
        let mut request = post("/count?vocab=small", "text/plain", pieces());
        if let Some(announced) = announced {
            request = and(request, "content-length", &announced.to_string());
        }
        assert_eq!(server.send(request).await.ok(200), whole, "{announced:?}");
    }
}

#[tokio::test]
async fn ids_are_packed_both_ways() {
    let server = server().await;
    let ids = server.ids("cl100k", TEXT).await;
    let body = json!({"text": TEXT, "vocab": "cl100k"});
    let answer = server.send(and(json_body(Method::POST, "/encode", &body), "accept", PACKED)).await;
    assert_eq!(unpack(&answer), ids);
    assert_eq!((answer.header("truncated"), answer.header("vocab")), ("false", "cl100k@1"));
    let request = and(post("/encode?vocab=cl100k&max_tokens=2", "text/plain", TEXT), "accept", PACKED);
    let answer = server.send(request).await;
    assert_eq!((unpack(&answer), answer.header("truncated")), (ids[..2].to_vec(), "true"));

    let texts = json!({"texts": [TEXT, "", TEXT], "vocab": "cl100k"});
    let answer = server.send(and(json_body(Method::POST, "/encode/batch", &texts), "accept", PACKED)).await;
    let n = ids.len() as u32;
    let expect = [&[3, n, 0, n][..], &ids, &ids].concat();
    assert_eq!(unpack(&answer), expect);

    let back = server.send(post("/decode?vocab=cl100k", PACKED, pack(&ids))).await.ok(200);
    assert_eq!(back["text"], TEXT);
    let back = server.send(post("/decode/batch?vocab=cl100k", PACKED, pack(&expect))).await.ok(200);
    assert_eq!(back["texts"], json!([TEXT, "", TEXT]));
    let skipped =
        server.send(post("/decode?vocab=small&skip_special_tokens=true", PACKED, pack(&[259, 400]))).await;
    assert_eq!(skipped.ok(200)["text"], "hello");

    let bad = async |path: &str, bytes: &[u8], status: u16, code: &str, pointer: Option<&str>| {
        server.send(post(path, PACKED, bytes.to_vec())).await.problem(status, code, pointer);
    };
    bad("/decode", b"abc", 400, "bad_packed", None).await;
    bad("/decode/batch", &pack(&[1, 2, 7]), 400, "bad_packed", None).await;
    bad("/decode/batch", &pack(&[u32::MAX]), 400, "bad_packed", None).await;
    bad("/decode/batch", b"", 400, "bad_packed", None).await;
    bad("/decode?vocab=small", &pack(&[97, 300]), 422, "unknown_id", Some("/ids/1")).await;
    bad("/decode?errors=maybe", b"", 422, "invalid_field", Some("/query/errors")).await;
    let empty = server.send(post("/decode", PACKED, "")).await.ok(200);
    assert_eq!(empty["text"], "");
    server.goes_on().await;
}

#[tokio::test]
async fn sixteen_bits_are_for_vocabularies_whose_ids_fit() {
    let server = server().await;
    let half = "application/octet-stream; bits=16";
    let ask = async |vocab: &str, accept: &str| {
        let body = json!({"texts": ["hello help", "a"], "vocab": vocab});
        server.send(and(json_body(Method::POST, "/encode/batch", &body), "accept", accept)).await
    };
    let answer = ask("small", half).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, half));
    let ids: Vec<u8> = [259u16, 32, 260, 97].iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_eq!(answer.bytes, [pack(&[2, 3, 1]), ids.clone()].concat());
    let back = server.send(post("/decode?vocab=small", half, ids)).await.ok(200);
    assert_eq!(back["text"], "hello helpa");

    ask("cl100k", half).await.problem(406, "not_acceptable", Some("/header/Accept"));
    let answer = ask("cl100k", "application/octet-stream;bits=16, application/octet-stream;q=0.5").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, PACKED));
}

#[tokio::test]
async fn forms_that_there_are_not_are_refused() {
    let server = server().await;
    let body = json!({"text": CANARY});
    for accept in
        ["text/html", "image/*", "application/octet-stream;bits=64", "application/json;q=0", "*/*;q=0"]
    {
        for (path, body) in [("/encode", &body), ("/count", &body), ("/decode", &json!({"ids": [97]}))] {
            let answer = server.send(and(json_body(Method::POST, path, body), "accept", accept)).await;
            if accept == "application/json;q=0" {
                answer.problem(406, "not_acceptable", Some("/header/Accept"));
                let answer = server
                    .send(and(json_body(Method::POST, path, body), "accept", "application/json;q=0, */*"))
                    .await;
                unpacked(&answer);
            } else {
                answer.problem(406, "not_acceptable", Some("/header/Accept"));
            }
        }
    }
    for (path, body) in [("/count", &body), ("/decode", &json!({"ids": [97]}))] {
        let answer = server.send(and(json_body(Method::POST, path, body), "accept", PACKED)).await;
        answer.problem(406, "not_acceptable", Some("/header/Accept"));
    }
    for wanted in [json!(["ids", "tokens"]), json!([]), json!(["offsets"])] {
        let body = json!({"text": CANARY, "return": wanted});
        let answer = server.send(and(json_body(Method::POST, "/encode", &body), "accept", PACKED)).await;
        answer.problem(422, "invalid_field", Some("/return"));
    }
    for kind in ["image/png", "application/octet-stream", "application/x-ndjson", "application/xml", ""] {
        server.send(post("/encode", kind, "a")).await.problem(415, "unsupported_media_type", None);
    }
    server.send(post("/decode", "application/octet-stream; bits=8", "a")).await.problem(
        415,
        "unsupported_media_type",
        None,
    );
    server.send(post("/encode", MSGPACK, "\u{1}")).await.problem(422, "invalid_field", Some(""));
    server.send(post("/encode", MSGPACK, vec![0x81])).await.problem(400, "bad_msgpack", None);
    let bad = msgpack(&json!({"text": CANARY, "max_tokens": -1}));
    server.send(post("/encode", MSGPACK, bad)).await.problem(422, "invalid_field", Some("/max_tokens"));
    server.goes_on().await;
}

#[tokio::test]
async fn answers_are_compressed_for_who_takes_that() {
    let server = server().await;
    let text = TEXT.repeat(1000);
    let body = json!({"text": text, "vocab": "cl100k"});
    let plain = server.post_json("/encode", body.clone()).await;
    assert_eq!(plain.header("content-encoding"), "");
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.1, gzip", "gzip"),
    ] {
        let answer =
            server.send(and(json_body(Method::POST, "/encode", &body), "accept-encoding", accept)).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{accept}");
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert!(answer.bytes.len() < plain.bytes.len() / 2);
        assert_eq!(decompressed(coding, &answer.bytes), plain.bytes);
    }
    let packed = and(json_body(Method::POST, "/encode", &body), "accept", PACKED);
    let answer = server.send(and(packed, "accept-encoding", "zstd")).await;
    assert_eq!(
        decompressed("zstd", &answer.bytes).len(),
        4 * plain.json()["count"].as_u64().unwrap() as usize
    );
    let short = json!({"text": "short"});
    let answer =
        server.send(and(json_body(Method::POST, "/encode", &short), "accept-encoding", "gzip")).await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, ""));
    for accept in ["br", "identity", "gzip;q=0"] {
        let answer =
            server.send(and(json_body(Method::POST, "/encode", &body), "accept-encoding", accept)).await;
        assert_eq!(answer.header("content-encoding"), "", "{accept}");
    }
    let off = with(|config| config.compress_min_bytes = 0).await;
    let answer = off.send(and(json_body(Method::POST, "/encode", &body), "accept-encoding", "gzip")).await;
    assert_eq!(answer.header("content-encoding"), "");
}

#[tokio::test]
async fn a_bomb_is_refused_by_its_ratio_or_its_size() {
    let server = with(|config| config.max_body_bytes = 4 << 20).await;
    for coding in ["gzip", "zstd"] {
        let send = async |body: Vec<u8>| {
            server.send(and(post("/encode", "text/plain", body), "content-encoding", coding)).await
        };
        let small = compressed(coding, &vec![b'a'; 3 << 20]);
        assert_eq!(send(small).await.problem(413, "body_expands", None)["limit"], 100);
        let varied = crate::support::varied_text(5 << 20);
        assert_eq!(
            send(compressed(coding, varied.as_bytes())).await.problem(413, "body_too_large", None)["limit"],
            4 << 20
        );
        let bomb = compressed(coding, &vec![b'a'; 256 << 20]);
        assert_eq!(send(bomb).await.status, 413);
        // A page of equal lines is none.
        assert_eq!(send(compressed(coding, &vec![b'a'; 1 << 20])).await.status, 200);
        for bad in [&b"not compressed"[..], b""] {
            send(bad.to_vec()).await.problem(400, "bad_coding", None);
        }
        let whole = compressed(coding, TEXT.repeat(100).as_bytes());
        send(whole[..whole.len() - 3].to_vec()).await.problem(400, "bad_coding", None);
        send([&whole[..], b"trailing"].concat()).await.problem(400, "bad_coding", None);
    }
    server.goes_on().await;
}

#[tokio::test]
async fn a_batch_is_one_answer_on_any_number_of_threads() {
    let texts: Vec<String> = (0..400)
        .map(|n| if n % 7 == 0 { String::new() } else { crate::support::varied_text(n * 20) })
        .collect();
    let body = json!({"texts": texts, "vocab": "cl100k", "max_tokens": 1000});
    let one = with(|config| config.encode_threads = 1).await.post_json("/encode/batch", body.clone()).await;
    let four = with(|config| config.encode_threads = 4).await;
    let answer = four.post_json("/encode/batch", body.clone()).await;
    assert_eq!(answer.ok(200)["counts"].as_array().unwrap().len(), 400);
    assert!(answer.bytes == one.bytes);
    let mut bad = body;
    bad["vocab"] = json!("small");
    bad["special"] = json!("error");
    bad["texts"][399] = json!("<end>");
    four.post_json("/encode/batch", bad).await.problem(422, "special_not_allowed", Some("/texts/399"));
}

/// Lists of a request that have an entry too many, of which each takes a byte of the body and many of memory.
#[tokio::test]
async fn a_list_over_its_limit_is_refused_with_field_and_limit() {
    let server = TestServer::new().await;
    let many = 1_000_000;
    for (path, field, entry, rest, limit) in [
        ("/encode/batch", "texts", json!(""), json!({}), 10_000),
        ("/count", "texts", json!(""), json!({}), 10_000),
        ("/compare", "texts", json!(""), json!({"vocabs": ["default"]}), 10_000),
        ("/compare", "vocabs", json!(""), json!({"text": "a"}), 16),
        ("/decode/batch", "ids", json!([]), json!({}), 10_000),
        ("/encode", "allowed_special", json!(""), json!({"text": "a"}), 1000),
        ("/chunk", "allowed_special", json!(""), json!({"text": "a", "size": 1}), 1000),
    ] {
        let mut body = rest.clone();
        body[field] = Value::Array(vec![entry; many]);
        for request in [json_body(Method::POST, path, &body), post(path, MSGPACK, msgpack(&body))] {
            let pointer = format!("/{field}");
            let problem = server.send(request).await.problem(422, "invalid_field", Some(&pointer));
            assert_eq!(
                (&problem["limit"], &problem["detail"]),
                (&json!(limit), &json!(format!("has over {limit} entries")))
            );
        }
    }
    let packed = pack(&vec![0; many + 1]);
    let packed = [&pack(&[many as u32])[..], &packed[4..]].concat();
    let problem = server.send(post("/decode/batch", PACKED, packed)).await;
    assert_eq!(problem.problem(422, "invalid_field", Some("/ids"))["limit"], 10_000);
    let names = "a,".repeat(1001);
    let problem = server.send(post(&format!("/encode?allowed_special={names}"), "text/plain", "a")).await;
    assert_eq!(problem.problem(422, "invalid_field", Some("/query/allowed_special"))["limit"], 1000);
    server.goes_on().await;
}
