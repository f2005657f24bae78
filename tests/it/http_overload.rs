//! More than the server takes on: what is shed, in which order, and how quickly.

use crate::support::{Answer, TestServer, json_body, with_body};
use axum::body::Body;
use axum::http::{Method, header};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;

async fn server(requests: u64, bytes: usize) -> TestServer {
    TestServer::with(|config| {
        config.max_requests_in_flight = requests;
        config.max_bytes_in_flight = bytes as u64;
        config.max_body_bytes = MIB;
        config.max_vocab_bytes = MIB;
    })
    .await
}

/// A request whose body does not end before it is told to.
struct Held {
    finish: oneshot::Sender<()>,
    answer: JoinHandle<Answer>,
}

impl Held {
    /// With a body of `bytes` bytes, announced or not. Where it is not, all but its end are there.
    async fn new(server: &TestServer, bytes: usize, announced: bool) -> Self {
        let (finish, finished) = oneshot::channel::<()>();
        let text = format!("{{\"text\": \"{}", "a".repeat(bytes - 12));
        let end = stream::once(async move {
            let _ = finished.await;
            Ok::<_, std::io::Error>(Bytes::from("\"}"))
        });
        let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let body = futures_util::StreamExt::chain(pieces, end);
        let mut asked = with_body(Method::POST, "/encode", Body::from_stream(body));
        asked.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        if announced {
            // As the accept loop has it: the length is the body's own.
            asked = asked.map(|body| Body::new(Sized { body, left: bytes as u64 }));
        }
        let before = server.app.admission.bytes_in_flight();
        let server = server.clone();
        let sent = server.clone();
        let answer = tokio::spawn(async move { sent.send(asked).await });
        while server.app.admission.bytes_in_flight() == before && !answer.is_finished() {
            tokio::task::yield_now().await;
        }
        Self { finish, answer }
    }

    async fn end(self) -> Answer {
        self.finish.send(()).unwrap();
        self.answer.await.unwrap()
    }
}

/// A body that knows its length.
struct Sized {
    body: Body,
    left: u64,
}

impl hyper::body::Body for Sized {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }
}

async fn encode(server: &TestServer) -> Answer {
    server.post_json("/encode", json!({"text": "a"})).await
}

/// What may be shed last answers.
async fn is_operable(server: &TestServer) {
    for probe in ["/livez", "/readyz", "/health", "/info", "/train"] {
        server.get(probe).await.ok(200);
    }
    assert!(server.get("/metrics").await.status == 200);
    server.put_json("/vocabs/default/aliases/prod", json!({"version": 1})).await;
    server.post("/reload", "").await.ok(200);
}

#[tokio::test]
async fn bytes_in_flight_shed_training_first_then_everything_but_control() {
    let server = server(1000, 4 * MIB).await;
    let train = json!({"name": "t", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 260});
    let mut held = Vec::new();
    for announced in [true, false, true] {
        held.push(Held::new(&server, MIB, announced).await);
    }
    // Three of four MiB: training is over its threshold, encoding is not.
    let refused = server.post_json("/train", train.clone()).await;
    refused.problem(503, "overloaded", None);
    encode(&server).await.ok(200);
    held.push(Held::new(&server, 1000, true).await);
    server.put("/uploads/u", "text").await.problem(503, "overloaded", None);
    encode(&server).await.ok(200);
    held.push(Held::new(&server, MIB - 1005, true).await);
    encode(&server).await.problem(503, "overloaded", None);
    let anthropic = server.post_json("/v1/messages/count_tokens", json!({"messages": []})).await;
    assert_eq!(
        (anthropic.status, anthropic.json()["error"]["type"].as_str()),
        (529, Some("overloaded_error"))
    );
    assert_eq!(anthropic.header("retry-after"), "1");
    is_operable(&server).await;
    let metrics = String::from_utf8(server.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(metrics.contains("vocabd_shed_total{load=\"bulk\"} 2"), "{metrics}");
    assert!(metrics.contains("vocabd_shed_total{load=\"encode\"} 2"), "{metrics}");

    for one in held {
        assert_eq!(one.end().await.ok(200)["truncated"], false);
    }
    assert_eq!(server.app.admission.bytes_in_flight(), 0);
    server.post_json("/train", train).await.ok(202);
    encode(&server).await.ok(200);
}

#[tokio::test]
async fn what_is_not_announced_takes_its_room_as_it_comes() {
    let server = server(1000, 2 * MIB).await;
    let held = [Held::new(&server, MIB, true).await, Held::new(&server, MIB - 100, false).await];
    // Its announced bytes are few, those that they become are not.
    let text = json!({"text": "a".repeat(100_000)}).to_string();
    let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
    assert!(packed.len() < 90);
    let mut asked = with_body(Method::POST, "/encode", packed);
    asked.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    asked.headers_mut().insert(header::CONTENT_ENCODING, "zstd".parse().unwrap());
    server.send(asked).await.problem(503, "overloaded", None);
    // One that grows over the limit is refused where it does.
    let grown = Held::new(&server, 1000, false).await;
    grown.answer.await.unwrap().problem(503, "overloaded", None);
    for one in held {
        one.end().await.ok(200);
    }
    assert_eq!(server.app.admission.bytes_in_flight(), 0);
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_rest_is_told_so_at_once() {
    let server = server(8, 100 * MIB).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(Held::new(&server, 1000, true).await);
    }
    server.post("/vocabs?name=v", "x").await.problem(503, "overloaded", None);
    encode(&server).await.ok(200);
    for _ in 0..2 {
        held.push(Held::new(&server, 1000, true).await);
    }
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let asked = json_body(Method::POST, "/encode", &json!({"text": "a".repeat(100_000)}));
        let begin = Instant::now();
        server.send(asked).await.problem(503, "overloaded", None);
        times.push(begin.elapsed());
    }
    times.sort();
    assert!(times[100] < Duration::from_millis(5), "the median is {:?}", times[100]);
    is_operable(&server).await;

    // A client that goes away gives its place back.
    held.pop().unwrap().answer.abort();
    while encode(&server).await.status == 503 {
        tokio::task::yield_now().await;
    }
    for one in held {
        one.end().await.ok(200);
    }
}

#[tokio::test]
async fn answers_count_until_the_client_has_taken_them() {
    let server = server(1000, 2 * MIB).await;
    let idle = server.app.admission.bytes_in_flight();
    let text = json!({"text": "a b c d ".repeat(20_000), "return": ["ids", "tokens", "offsets"]});
    let mut unread = Vec::new();
    // Each becomes megabytes, which are there: the limit ends those that come after.
    while server.app.admission.bytes_in_flight() < 2 * MIB as u64 {
        let answer = server.stream(json_body(Method::POST, "/encode", &text)).await;
        assert_eq!(answer.status(), 200);
        unread.push(answer);
    }
    let sizes = unread.iter().map(|answer| hyper::body::Body::size_hint(answer.body()).exact().unwrap());
    assert_eq!(server.app.admission.bytes_in_flight() - idle, sizes.sum::<u64>());
    let refused = encode(&server).await;
    refused.problem(503, "overloaded", None);
    assert_eq!(refused.header("retry-after"), "1");
    is_operable(&server).await;
    let metrics = String::from_utf8(server.get("/metrics").await.bytes.to_vec()).unwrap();
    let told = metrics.lines().find_map(|line| line.strip_prefix("vocabd_admitted_bytes "));
    assert!(told.unwrap().parse::<u64>().unwrap() > 2 * MIB as u64, "{told:?}");

    // A piece on its way to a socket keeps the whole in memory, and the room with it.
    let mut last = unread.pop().unwrap().into_body();
    drop(unread);
    let frame = http_body_util::BodyExt::frame(&mut last).await.unwrap().unwrap();
    let piece = frame.into_data().unwrap().split_off(MIB);
    drop(last);
    assert!(server.app.admission.bytes_in_flight() > MIB as u64);
    drop(piece);
    assert_eq!(server.app.admission.bytes_in_flight(), idle);
    encode(&server).await.ok(200);
}

#[tokio::test]
async fn forms_that_do_not_announce_their_length_take_their_room_as_they_come() {
    let server = server(1000, 2 * MIB).await;
    let form = |bytes: usize| {
        let head = "--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"v.tiktoken\"\r\n\r\n";
        let text = format!("{head}{}\r\n--b--\r\n", "a".repeat(bytes));
        let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(text)]));
        let mut asked = with_body(Method::POST, "/vocabs?name=v", body);
        let kind = "multipart/form-data; boundary=b".parse().unwrap();
        asked.headers_mut().insert(header::CONTENT_TYPE, kind);
        asked
    };
    let held = Held::new(&server, MIB, true).await;
    server.send(form(MIB - 1000)).await.problem(503, "overloaded", None);
    // With room for it, it is read, and no vocabulary.
    assert_eq!(server.send(form(1000)).await.status, 422);
    held.end().await.ok(200);
    assert_eq!(server.app.admission.bytes_in_flight(), 0);
}

#[tokio::test]
async fn bodies_of_what_is_never_shed_are_small() {
    let server = server(1000, 2 * MIB).await;
    let body = |padding: usize| format!("{{\"version\": 1{}}}", " ".repeat(padding));
    let ask = |content: Vec<u8>, coding: Option<&str>| {
        let mut asked = with_body(Method::PUT, "/vocabs/default/aliases/prod", content);
        asked.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        if let Some(coding) = coding {
            asked.headers_mut().insert(header::CONTENT_ENCODING, coding.parse().unwrap());
        }
        server.send(asked)
    };
    let (fits, large) = (body(60_000), body(70_000));
    ask(fits.clone().into(), None).await.ok(201);
    ask(zstd::encode_all(fits.as_bytes(), 3).unwrap(), Some("zstd")).await.ok(200);
    let refused = ask(large.clone().into(), None).await;
    refused.problem(413, "body_too_large", None);
    assert_eq!(refused.json()["limit"], 65_536);
    let refused = ask(zstd::encode_all(large.as_bytes(), 3).unwrap(), Some("zstd")).await;
    assert_eq!((refused.status, &refused.json()["limit"]), (413, &json!(65_536)));
}
