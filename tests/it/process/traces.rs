//! Spans on their way to a collector; `.ci/long traces` reads them with the types that OpenTelemetry publishes.

use super::{Client, Server};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CANARY: &str = "kanarienvogel";

/// A stand-in collector: takes everything, and hands on the bodies.
fn collector() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut reader, sender) = (BufReader::new(stream.unwrap()), sender.clone());
            std::thread::spawn(move || {
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if length == 0 || reader.read_exact(&mut body).is_err() || sender.send(body).is_err() {
                        return;
                    }
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (endpoint, bodies)
}

fn has(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_request_has_a_span_in_its_callers_trace_and_no_text_in_it() {
    let (endpoint, bodies) = collector();
    let data = tempfile::tempdir().unwrap();
    let settings = [("otlp_endpoint", endpoint.as_str()), ("log_level", "debug")];
    let server = Server::start_with(data.path(), &settings);
    let mut client = server.client();
    let ask = |client: &mut Client, headers: &str, body: &str| {
        let headers = format!("content-type: application/json\r\n{headers}");
        client.try_ask("POST", "/encode", &headers, body.as_bytes()).unwrap()
    };
    let text = json!({"text": CANARY}).to_string();
    let state = format!("tracestate: a={CANARY}\r\nbaggage: {CANARY}\r\nuser-agent: {CANARY}\r\n");
    let answer = ask(&mut client, &format!("traceparent: {PARENT}\r\nx-request-id: mine\r\n{state}"), &text);
    let told = answer.header("traceresponse").unwrap().to_owned();
    assert!(
        told.starts_with(&PARENT[..36]) && told.ends_with("-01") && !told.contains(&PARENT[36..52]),
        "{told}"
    );
    // Its own trace, and one that is not sampled.
    let own = ask(&mut client, "", "{").header("traceresponse").unwrap().to_owned();
    assert!(own.len() == 55 && own[..36] != PARENT[..36], "{own}");
    let unsampled = PARENT.replace("-01", "-00").replace("0af7", "0af8");
    let answer = ask(&mut client, &format!("traceparent: {unsampled}\r\n"), &text);
    assert!(answer.header("traceresponse").unwrap().ends_with("-00"));
    // One that is none, and two that contradict each other, are none.
    for wrong in ["traceparent: x\r\n".to_owned(), format!("traceparent: {PARENT}\r\n").repeat(2)] {
        let told = ask(&mut client, &wrong, &text).header("traceresponse").unwrap().to_owned();
        assert_ne!(told[..36], PARENT[..36]);
    }
    // Nobody follows a probe.
    assert_eq!(client.ask("GET", "/readyz", b"").header("traceresponse"), None);
    let path = format!("/{CANARY}?{CANARY}");
    client.ask("GET", &path, b"");

    let log = server.stop();
    assert!(log.contains(r#""request_id":"mine","trace_id":"0af7651916cd43dd8448eb211c80319c""#), "{log}");
    let sent: Vec<u8> = bodies.try_iter().flatten().collect();
    let id = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
    };
    for part in [&id(&PARENT[3..35]), &id(&PARENT[36..52]), &id(&told[36..52]), &id(&own[3..35])] {
        assert!(has(&sent, part));
    }
    assert!(!has(&sent, &id(&unsampled[3..35])));
    for part in ["POST /encode", "http.response.status_code", "bad_json", "default@1", "mine", "unmatched"] {
        assert!(has(&sent, part.as_bytes()), "{part}");
    }
    assert!(!has(&sent, CANARY.as_bytes()) && !has(&sent, b"/readyz") && !log.contains(CANARY));
}

#[test]
fn a_dead_collector_is_told_once_and_counted() {
    let data = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{gone}");
    let server = Server::start_with(data.path(), &[("otlp_endpoint", endpoint.as_str())]);
    let mut client = server.client();
    let dropped = |client: &mut Client| {
        let metrics = client.ask("GET", "/metrics", b"").text();
        let line = metrics.lines().find(|line| line.contains("spans_total{result=\"dropped\"}")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let deadline = std::time::Instant::now() + super::PATIENCE;
    let mut before = 0;
    // Two batches at least.
    for _ in 0..2 {
        client.ask("POST", "/encode", br#"{"text": "a"}"#);
        while dropped(&mut client) <= before {
            assert!(std::time::Instant::now() < deadline, "nothing is dropped");
            std::thread::sleep(Duration::from_millis(50));
        }
        before = dropped(&mut client);
    }
    let log = server.stop();
    assert_eq!(log.matches("takes no spans").count(), 1, "{log}");
    assert!(
        log.contains("it cannot be reached") && !log.contains("the collector of traces takes spans again")
    );
}

#[test]
fn without_a_collector_only_the_log_knows_the_callers_trace() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[("log_level", "debug")]);
    let header = format!("traceparent: {PARENT}\r\n");
    let answer = server.client().try_ask("GET", "/vocabs", &header, b"").unwrap();
    assert_eq!((answer.status, answer.header("traceresponse")), (200, None));
    assert!(server.stop().contains(r#""trace_id":"0af7651916cd43dd8448eb211c80319c""#));
}
