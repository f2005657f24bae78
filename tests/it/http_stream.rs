//! `/encode/stream`: each line has its answer in its place, whatever is wrong with others, and nothing is read ahead of a
//! client that does not take its answers.

use crate::data;
use crate::support::{CANARY, PATIENCE, TestServer, and, tiktoken, varied_text, with_body};
use axum::body::Body;
use axum::http::{Method, Request, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vocabd::http::listen::{ListenSettings, serve};
use vocabd::http::{Side, router};

async fn server() -> TestServer {
    let server = TestServer::with(|config| config.max_body_bytes = 1 << 20).await;
    let file = data::local("vocabs/cl100k_base.tiktoken");
    server.post("/vocabs?name=cl100k&format=tiktoken&split=cl100k", file).await.ok(201);
    let special = "%7B%22%3Cend%3E%22:400%7D";
    server
        .post(&format!("/vocabs?name=small&split=cl100k&special={special}"), tiktoken(&["hello"]))
        .await
        .ok(201);
    server
}

fn post(query: &str, body: impl Into<Body>) -> Request<Body> {
    and(
        with_body(Method::POST, &format!("/encode/stream?{query}"), body),
        "content-type",
        "application/x-ndjson",
    )
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The answers to a body, all of them.
async fn answers(server: &TestServer, query: &str, body: impl Into<Body>) -> Vec<Value> {
    let answer = server.send(post(query, body)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{answer:?}");
    assert!(!String::from_utf8_lossy(&answer.bytes).contains(CANARY));
    lines(&answer.bytes)
}

/// The next piece of an answer, as lines.
async fn next(response: &mut Response<Body>) -> Option<Vec<Value>> {
    let frame = tokio::time::timeout(PATIENCE, response.body_mut().frame()).await.expect("an answer in time");
    frame.map(|frame| lines(&frame.unwrap().into_data().unwrap()))
}

#[tokio::test]
async fn every_line_has_the_answer_that_encode_gives() {
    let server = server().await;
    let texts: Vec<String> =
        (0..3000).map(|n| if n % 5 == 0 { "世界 😀 don't".into() } else { varied_text(n) }).collect();
    let body: String =
        texts.iter().enumerate().map(|(n, text)| format!("{}\n", json!({"id": n, "text": text}))).collect();
    let all = answers(&server, "vocab=cl100k", body).await;
    assert_eq!(all.len(), texts.len());
    for (n, (text, answer)) in texts.iter().zip(&all).enumerate().step_by(97) {
        let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(members, ["count", "id", "ids"]);
        let ids = server.ids("cl100k", text).await;
        assert_eq!(
            (&answer["id"], &answer["ids"], &answer["count"]),
            (&json!(n), &json!(ids), &json!(ids.len()))
        );
    }
    let query =
        "vocab=small&return=tokens,offsets&offset_unit=char&max_tokens=2&truncation_side=left&special=parse";
    let all = answers(&server, query, "{\"text\":\"世hello<end>\"}\n{\"text\":\"a\"}").await;
    let expect =
        json!({"count": 2, "tokens": ["hello", "<end>"], "offsets": [[1, 6], [6, 11]], "truncated": true});
    assert_eq!(all[0], expect);
    assert_eq!(all[1]["truncated"], false);
    assert_eq!(answers(&server, "", "").await, [Value::Null; 0]);
    assert_eq!(answers(&server, "", "\n \r\n\n").await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_line_that_is_wrong_has_its_error_and_the_stream_goes_on() {
    let server = server().await;
    let long = CANARY.repeat(200_000);
    let body = [
        json!({"id": 1, "text": "hello"}).to_string(),
        format!("{{\"id\": 2, \"text\": \"{CANARY}"),
        json!({"id": {"a": [3]}, "txet": CANARY}).to_string(),
        json!({"id": 4, "text": long}).to_string(),
        json!({"id": "five", "text": 5}).to_string(),
        format!("[6, \"{CANARY}\"]"),
        "[".repeat(50_000),
        json!({"id": 8, "text": "hello<end>"}).to_string(),
        "null".to_owned(),
        json!({"text": "hello"}).to_string(),
    ]
    .join("\n");
    let all = answers(&server, "vocab=small&special=error", body.clone()).await;
    let told: Vec<(&Value, Option<&str>, Option<&str>)> = all
        .iter()
        .map(|line| (&line["id"], line["error"]["code"].as_str(), line["error"]["pointer"].as_str()))
        .collect();
    let (null, nested, five) = (Value::Null, json!({"a": [3]}), json!("five"));
    assert_eq!(
        told,
        [
            (&json!(1), None, None),
            (&null, Some("bad_json"), None),
            (&nested, Some("invalid_field"), Some("/txet")),
            (&null, Some("line_too_long"), None),
            (&five, Some("invalid_field"), Some("/text")),
            (&null, Some("invalid_field"), Some("")),
            (&null, Some("invalid_field"), Some("")),
            (&json!(8), Some("special_not_allowed"), Some("/text")),
            (&null, Some("invalid_field"), Some("")),
            (&null, None, None),
        ]
    );
    assert_eq!((&all[3]["line"], &all[3]["error"]["limit"]), (&json!(4), &json!(1 << 20)));
    assert_eq!((&all[7]["line"], &all[7]["error"]["offset"]), (&json!(8), &json!(5)));
    assert_eq!((&all[9]["ids"], all[9].get("line")), (&json!([259]), None));
    let utf8 = answers(&server, "", b"{\"id\":1,\"text\":\"\xff\"}\n{\"text\":\"a\"}".to_vec()).await;
    assert_eq!((utf8[0]["error"]["code"].as_str(), &utf8[1]["count"]), (Some("invalid_utf8"), &json!(1)));
}

#[tokio::test]
async fn a_line_without_end_takes_no_memory() {
    let server = server().await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = stream::iter((0..1024).map(move |_| io::Result::Ok(piece.clone())));
    let end = stream::iter([Ok(Bytes::from("\n{\"text\":\"hello\"}\n"))]);
    let all = answers(&server, "", Body::from_stream(pieces.chain(end))).await;
    assert_eq!((all[0]["error"]["code"].as_str(), all[1]["count"].is_u64()), (Some("line_too_long"), true));
}

#[tokio::test]
async fn answers_come_while_the_client_still_sends_and_are_of_one_version() {
    let server = server().await;
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<io::Result<Bytes>>();
    let line = |text: &str| send.send(Ok(format!("{}\n", json!({"text": text})).into())).unwrap();
    line("hello");
    let mut response = server
        .stream(post(
            "vocab=small",
            Body::from_stream(tokio_stream::wrappers::UnboundedReceiverStream::new(receive)),
        ))
        .await;
    assert_eq!(response.headers()["vocab"], "small@1");
    assert_eq!(next(&mut response).await.unwrap()[0]["ids"], json!([259]));
    server.import("small", &["world"]).await;
    for _ in 0..3 {
        line("hello");
        assert_eq!(next(&mut response).await.unwrap(), [json!({"count": 1, "ids": [259]})]);
    }
    drop(send);
    assert_eq!(next(&mut response).await, None);
}

#[tokio::test]
async fn nothing_is_read_ahead_of_a_client_that_takes_no_answers() {
    let server = server().await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let line = Bytes::from(format!("{}\n", json!({"text": varied_text(60_000)})));
    let size = line.len();
    let pieces = stream::iter(0..1000).map(move |_| {
        count.fetch_add(1, SeqCst);
        io::Result::Ok(line.clone())
    });
    let mut response = server.stream(post("", Body::from_stream(pieces))).await;
    let mut taken = next(&mut response).await.unwrap().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let threads = server.app.config.encode_threads();
    let most = (threads + 4) * (300_000 / size + 1);
    assert!(pulled.load(SeqCst) <= most, "{} pieces read, at most {most} expected", pulled.load(SeqCst));
    while let Some(lines) = next(&mut response).await {
        taken += lines.len();
    }
    assert_eq!((taken, pulled.load(SeqCst)), (1000, 1000));
}

#[tokio::test]
async fn streams_are_compressed_both_ways() {
    let server = server().await;
    let text = varied_text(2_000_000);
    let body: String =
        (0..2000).map(|n| format!("{}\n", json!({"id": n, "text": text[n * 900..][..n]}))).collect();
    let expect = server.send(post("vocab=cl100k", body.clone())).await;
    let packed = zstd::encode_all(body.as_bytes(), 3).unwrap();
    let answer = server.send(and(post("vocab=cl100k", packed.clone()), "content-encoding", "zstd")).await;
    assert!(answer.bytes == expect.bytes);
    let both =
        and(and(post("vocab=cl100k", packed.clone()), "content-encoding", "zstd"), "accept-encoding", "zstd");
    let answer = server.send(both).await;
    assert_eq!(answer.header("content-encoding"), "zstd");
    assert!(zstd::decode_all(&answer.bytes[..]).unwrap() == expect.bytes);
    let gzip = server.send(and(post("vocab=cl100k", body), "accept-encoding", "gzip")).await;
    let mut out = Vec::new();
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip.bytes[..]), &mut out).unwrap();
    assert!(out == expect.bytes);

    // What cannot be decompressed ends the stream with its error; so does a bomb.
    let cut = and(post("", packed[..packed.len() - 5].to_vec()), "content-encoding", "zstd");
    let answer = server.send(cut).await;
    assert_eq!(lines(&answer.bytes).last().unwrap()["error"]["code"], "bad_coding");
    let bomb = zstd::encode_all(io::Read::take(io::repeat(b'\n'), 1 << 30), 3).unwrap();
    let answer = server.send(and(post("", bomb), "content-encoding", "zstd")).await;
    answer.problem(413, "body_expands", None);
    server.send(and(post("", "x"), "content-encoding", "gzip")).await.problem(400, "bad_coding", None);
    server.goes_on().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_told_before_the_stream() {
    let server = server().await;
    let bad = async |query: &str, status: u16, code: &str, pointer: Option<&str>| {
        server.send(post(query, "{\"text\":\"a\"}\n")).await.problem(status, code, pointer);
    };
    bad("vocab=none", 404, "unknown_vocab", None).await;
    bad("vocab=a&model=b", 422, "invalid_field", Some("/query/model")).await;
    bad("max_tokens=0", 422, "invalid_field", Some("/query/max_tokens")).await;
    bad("max_tokens=-1", 422, "invalid_field", Some("/query/max_tokens")).await;
    bad("return=words", 422, "invalid_field", Some("/query/return/0")).await;
    bad("tokens=1", 422, "invalid_field", Some("/query/tokens")).await;
    bad("vocab=small&allowed_special=x", 422, "unknown_special", Some("/query/allowed_special/0")).await;
    let line = "{\"text\":\"a\"}\n";
    server.send(and(post("", line), "accept", "application/json")).await.problem(
        406,
        "not_acceptable",
        Some("/header/Accept"),
    );
    server.send(and(post("", line), "if-match", "\"sha256:0\"")).await.problem(412, "vocab_changed", None);
    server.send(and(post("", line), "content-encoding", "br")).await.problem(
        415,
        "unsupported_media_type",
        None,
    );
    let text = and(with_body(Method::POST, "/encode/stream", line), "content-type", "text/plain");
    server.send(text).await.problem(415, "unsupported_media_type", None);
    let untyped = server.send(with_body(Method::POST, "/encode/stream", line)).await;
    assert_eq!((untyped.status, lines(&untyped.bytes).len()), (200, 1));

    let broken = |first: &'static str| {
        let pieces = [Ok(first.to_owned()), Err(io::Error::other(CANARY))];
        post(
            "",
            Body::from_stream(stream::iter(
                pieces.into_iter().filter(|p| p.as_ref().is_ok_and(|p| !p.is_empty()) || p.is_err()),
            )),
        )
    };
    server.send(broken("")).await.problem(400, "body_cut_off", None);
    let answer = server.send(broken("{\"text\":\"a\"}\n{\"te")).await;
    let told = lines(&answer.bytes);
    assert_eq!((told.len(), told[1]["error"]["code"].as_str()), (2, Some("body_cut_off")));
}

/// A server on a socket whose clocks are short.
async fn listening(server: &TestServer) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let second = Duration::from_secs(1);
    let settings = ListenSettings {
        header_timeout: second,
        body_timeout: second,
        idle_timeout: second,
        drain: second,
        max_connections: 10,
        tls: None,
    };
    let app = Arc::clone(&server.app);
    let shutdown = app.shutdown.clone();
    tokio::spawn(serve(listener, router(app, Side::All), settings, Arc::new(AtomicU64::new(0)), shutdown));
    address
}

const HEAD: &[u8] = b"POST /encode/stream HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_client_that_stops_sending_is_told_so() {
    let server = server().await;
    let mut client = TcpStream::connect(listening(&server).await).await.unwrap();
    client.write_all(HEAD).await.unwrap();
    client.write_all(b"e\r\n{\"text\": \"a\"}\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8(answer).unwrap();
    assert!(text.contains("\"count\":1") && text.contains("\"code\":\"body_timeout\""), "{text}");
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed() {
    let server = server().await;
    let mut client = TcpStream::connect(listening(&server).await).await.unwrap();
    client.write_all(HEAD).await.unwrap();
    let line = format!("{}\n", json!({"text": "a".repeat(60_000)}));
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    let send = async {
        let mut sent = 0;
        while client.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 200 << 20, "the server reads and reads");
        }
    };
    tokio::time::timeout(PATIENCE, send).await.expect("closed in time");
    server.goes_on().await;
}
