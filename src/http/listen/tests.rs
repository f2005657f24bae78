//! Slow, stuck and greedy clients on raw sockets. Upper bounds are generous: the machine may be loaded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{BodyTimeout, ListenSettings, is_body_timeout, serve};

mod tls;

const LIMIT: Duration = Duration::from_millis(150);
/// Between the bytes of a client that always sends something.
const DRIP: Duration = Duration::from_millis(40);
/// Long enough for any limit here to be enforced, even late.
const SOON: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn settings() -> ListenSettings {
    ListenSettings {
        header_timeout: LIMIT,
        body_timeout: LIMIT,
        idle_timeout: LIMIT,
        drain: Duration::from_secs(5),
        max_connections: 1000,
        tls: None,
    }
}

struct Running {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    shutdown: CancellationToken,
    ended: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start(settings: ListenSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let shutdown = CancellationToken::new();
        let ended =
            tokio::spawn(serve(listener, router(), settings, Arc::clone(&connections), shutdown.clone()));
        Self { address, connections, shutdown, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_and_send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        client
    }

    async fn wait_for_connections(&self, count: u64) {
        let started = Instant::now();
        while self.connections.load(Ordering::Relaxed) != count {
            assert!(started.elapsed() < SOON, "never {count} connections");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/length", post(length))
        .route("/big", get(|| async { vec![b'x'; 50 << 20] }))
        .route("/endless", get(|| async { Body::from_stream(futures_util::stream::repeat_with(piece)) }))
        .route("/slow", get(|| async { tokio::time::sleep(LIMIT * 3).await }))
        .route("/stuck", get(std::future::pending::<()>))
        .route(
            "/pieces",
            get(|| async {
                let pieces = futures_util::stream::unfold(0_u8, |n| async move {
                    tokio::time::sleep(LIMIT * 3 / 2).await;
                    (n < 2).then_some((Ok::<_, io::Error>("piece "), n + 1))
                });
                Body::from_stream(pieces)
            }),
        )
}

fn piece() -> io::Result<Bytes> {
    static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];
    Ok(Bytes::from_static(&PIECE))
}

async fn length(body: Body) -> Response {
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(error) if is_body_timeout(&error) => StatusCode::REQUEST_TIMEOUT.into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// What the server sends until it closes, and after how long that is.
async fn read_to_close(mut client: TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(SOON, async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = client.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
        }
    });
    closed.await.expect("the server closes the connection");
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
}

/// Sends `head`, then one byte of `drip` per interval for ever, and reads until the server closes.
async fn drip(mut client: TcpStream, head: &[u8], drip: u8) -> (String, Duration) {
    client.write_all(head).await.unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(started.elapsed() < SOON, "the server puts up with a slow client");
        match tokio::time::timeout(DRIP, client.read(&mut buffer)).await {
            Ok(Ok(length @ 1..)) => answer.extend_from_slice(&buffer[..length]),
            Ok(_) => break,
            Err(_) if client.write_all(&[drip]).await.is_err() => break,
            Err(_) => {}
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
}

/// One answer of a keep-alive connection: its status line and its body (by content-length).
async fn read_answer(client: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(SOON, client.read_u8()).await.expect("an answer in time");
        head.push(byte.expect("an open connection"));
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    tokio::time::timeout(SOON, client.read_exact(&mut body)).await.expect("a body in time").unwrap();
    (head.lines().next().unwrap().to_owned(), body)
}

#[tokio::test]
async fn silent_and_half_heads_are_closed() {
    let server = Running::start(settings()).await;
    let first = ["", "GET / HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n"];
    let mut clients = Vec::new();
    for bytes in first {
        clients.push(tokio::spawn(read_to_close(server.connect_and_send(bytes.as_bytes()).await)));
    }
    for client in clients {
        let (answer, after) = client.await.unwrap();
        assert_eq!(answer, "");
        assert!(after >= LIMIT / 2, "closed too early: {after:?}");
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn heads_that_drip_are_closed() {
    let server = Running::start(settings()).await;
    let second_head = [GET, b"GET /"].concat();
    let (one, two) = tokio::join!(
        drip(server.connect().await, b"GET / HTTP/1.1\r\nx: ", b'y'),
        drip(server.connect().await, &second_head, b'y'),
    );
    assert_eq!(one.0, "");
    assert!(two.0.ends_with("hello"), "{}", two.0);
}

#[tokio::test]
async fn idle_time_and_head_time_are_two_limits() {
    let idle_timeout = Duration::from_millis(600);
    let server = Running::start(ListenSettings { idle_timeout, ..settings() }).await;
    let mut client = server.connect_and_send(GET).await;
    read_answer(&mut client).await;
    tokio::time::sleep(LIMIT * 2).await; // over the head time, within the idle time
    client.write_all(GET).await.unwrap();
    assert_eq!(read_answer(&mut client).await.1, b"hello");
    let (_, after) = read_to_close(client).await;
    assert!(after >= idle_timeout - LIMIT, "closed too early: {after:?}");
}

#[tokio::test]
async fn stuck_bodies_get_408_and_are_closed() {
    let server = Running::start(settings()).await;
    let head = b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    let chunked = b"POST /length HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\nabc";
    let (silent, chunked, dripping) = tokio::join!(
        read_to_close(server.connect_and_send(head).await),
        read_to_close(server.connect_and_send(chunked).await),
        drip(server.connect().await, head, b'x'),
    );
    for (answer, after) in [silent, chunked, dripping] {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(after >= LIMIT / 2, "closed too early: {after:?}");
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn clients_that_do_not_read_are_closed() {
    let server = Running::start(settings()).await;
    let one = server.connect_and_send(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let two = server.connect_and_send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.wait_for_connections(2).await;
    server.wait_for_connections(0).await;
    drop((one, two));
}

#[tokio::test]
async fn clients_that_read_slowly_are_kept() {
    let server = Running::start(settings()).await;
    let mut client = server.connect_and_send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut buffer = vec![0; 1 << 18];
    let started = Instant::now();
    while started.elapsed() < LIMIT * 8 {
        client.read_exact(&mut buffer).await.unwrap();
        tokio::time::sleep(LIMIT / 5).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1, "a client that reads was closed");
}

#[tokio::test]
async fn answers_may_take_longer_than_any_limit() {
    let server = Running::start(settings()).await;
    let mut client =
        server.connect_and_send(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
    let started = Instant::now();
    while let length @ 1.. = client.read(&mut buffer).await.unwrap() {
        read += length;
        // At a speed that takes eight times the limits for all of it, were there no other delays.
        let due = (LIMIT * 8).mul_f64(read as f64 / (50 << 20) as f64);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
    assert!(read > 50 << 20, "cut after {read} bytes");
}

#[tokio::test]
async fn handlers_may_be_slower_than_any_limit() {
    let server = Running::start(settings()).await;
    let mut client = server.connect_and_send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(read_answer(&mut client).await.0, "http/1.1 200 ok");
    let request = b"GET /pieces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (answer, _) = read_to_close(server.connect_and_send(request).await).await;
    assert_eq!(answer.matches("piece ").count(), 2, "{answer}");
}

#[tokio::test]
async fn fast_clients_do_not_notice_slow_ones() {
    let server = Running::start(settings()).await;
    let mut slow = Vec::new();
    for n in 0..50 {
        let client = server.connect().await;
        slow.push(tokio::spawn(drip(client, if n % 2 == 0 { b"GET / HT" } else { b"" }, b'x')));
    }
    let mut client = server.connect().await;
    for _ in 0..20 {
        client.write_all(GET).await.unwrap();
        assert_eq!(read_answer(&mut client).await, ("http/1.1 200 ok".to_owned(), b"hello".to_vec()));
    }
    let head = b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    client.write_all(&[&head[..], &vec![b'x'; 1_000_000]].concat()).await.unwrap();
    assert_eq!(read_answer(&mut client).await.1, b"1000000");
    for client in slow {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn connections_above_the_cap_wait_for_a_place() {
    let server = Running::start(ListenSettings { max_connections: 2, ..settings() }).await;
    let stuck = b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n";
    let first = server.connect_and_send(stuck).await;
    let second = server.connect_and_send(stuck).await;
    server.wait_for_connections(2).await;
    let mut third = server.connect_and_send(GET).await;
    let mut byte = [0];
    let early = tokio::time::timeout(LIMIT, third.read(&mut byte)).await;
    assert!(early.is_err(), "served above the cap");
    drop(first);
    assert_eq!(read_answer(&mut third).await.1, b"hello");
    drop(second);
}

#[tokio::test]
async fn shutdown_finishes_requests_and_cuts_stuck_clients() {
    // Long enough that a busy machine has answered the slow request by half of it.
    let drain = LIMIT * 20;
    let server = Running::start(ListenSettings { drain, ..settings() }).await;
    let slow = server.connect_and_send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let stuck = server.connect_and_send(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.wait_for_connections(2).await;
    tokio::time::sleep(DRIP).await; // until both handlers run

    let started = Instant::now();
    server.shutdown.cancel();
    let (answer, _) = read_to_close(slow).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(TcpStream::connect(server.address).await.is_err(), "accepts after the shutdown");
    assert!(!server.ended.is_finished(), "did not wait for the stuck client");
    let (answer, _) = read_to_close(stuck).await;
    assert_eq!(answer, "");
    tokio::time::timeout(SOON, server.ended).await.expect("the loop ends").unwrap().unwrap();
    assert!(started.elapsed() >= drain / 2);
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn shutdown_with_idle_clients_is_immediate() {
    let day = Duration::from_secs(86_400);
    let server =
        Running::start(ListenSettings { header_timeout: day, idle_timeout: day, drain: day, ..settings() });
    let server = server.await;
    let mut kept_alive = server.connect_and_send(GET).await;
    read_answer(&mut kept_alive).await;
    let silent = server.connect().await;
    server.wait_for_connections(2).await;
    server.shutdown.cancel();
    tokio::time::timeout(SOON, server.ended).await.expect("the loop ends").unwrap().unwrap();
    drop((kept_alive, silent));
}

fn http2_client() -> reqwest::Client {
    // The process-wide TLS provider, which reqwest asks for even when no TLS is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap()
}

#[tokio::test]
async fn http2_requests_are_served_and_limited() {
    let server = Running::start(settings()).await;
    let client = http2_client();
    let url = |path: &str| format!("http://{}{path}", server.address);
    let answer = client.get(url("/")).send().await.unwrap();
    assert_eq!(answer.version(), axum::http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");

    let big = client.post(url("/length")).body(vec![b'x'; 1_000_000]).send().await.unwrap();
    assert_eq!(big.text().await.unwrap(), "1000000");
    let slow = client.get(url("/slow")).send().await.unwrap();
    assert_eq!(slow.status(), StatusCode::OK);

    let never = futures_util::stream::pending::<Result<Bytes, io::Error>>();
    let stuck = client.post(url("/length")).body(reqwest::Body::wrap_stream(never)).send();
    let stuck = tokio::time::timeout(SOON, stuck).await.expect("an answer in time").unwrap();
    assert_eq!(stuck.status(), StatusCode::REQUEST_TIMEOUT);

    // The client would keep its connection; the idle time ends it.
    server.wait_for_connections(0).await;
    assert_eq!(client.get(url("/")).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn http2_clients_that_take_no_answer_are_closed() {
    let server = Running::start(settings()).await;
    for path in ["/big", "/endless"] {
        // Unread, the answer fills the stream's window; the client answers pings all the same.
        let client = http2_client();
        let answer = client.get(format!("http://{}{path}", server.address)).send().await.unwrap();
        server.wait_for_connections(1).await;
        server.wait_for_connections(0).await;
        drop(answer);
    }
}

#[tokio::test]
async fn body_timeouts_are_found_in_wrapped_errors() {
    let timeout = BodyTimeout { received: 3, waited: LIMIT };
    assert!(is_body_timeout(&axum::Error::new(axum::Error::new(timeout))));
    assert!(!is_body_timeout(&axum::Error::new(io::Error::other("reset"))));
    assert_eq!(timeout.to_string(), "the request body came too slowly: 3 bytes in 150ms of waiting");
}
