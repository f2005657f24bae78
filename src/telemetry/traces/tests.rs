//! The header, what goes to the collector (read by the numbers of its fields, and not by the types that wrote it), and a collector that
//! is slow, refuses, or is not there.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::telemetry::Metrics;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_header_is_read_as_the_standard_has_it() {
    let check = |header: &str, expected: Option<bool>| {
        let read = TraceParent::parse(header.as_bytes());
        assert_eq!(read.map(|parent| parent.sampled), expected, "{header}");
    };
    check(PARENT, Some(true));
    check(&PARENT.replace("-01", "-00"), Some(false));
    check(&PARENT.replace("-01", "-ff"), Some(true));
    check(&format!("cc{}-what-comes", &PARENT[2..]), Some(true));
    let parsed = TraceParent::parse(PARENT.as_bytes()).unwrap();
    assert_eq!(Hex(&parsed.id).to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(Hex(&parsed.span).to_string(), "b7ad6b7169203331");
    for wrong in [
        "",
        "00",
        &PARENT[..54],
        &format!("{PARENT}-"),
        &format!("{PARENT}0"),
        &format!("ff{}", &PARENT[2..]),
        &PARENT.to_uppercase(),
        &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
        &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
        &PARENT.replace("0af7", "0ag7"),
        &PARENT.replace('-', "_"),
        &format!(" {PARENT}"),
        "00-é0f7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
    ] {
        check(wrong, None);
    }
}

#[test]
fn ids_differ_and_are_never_zero() {
    let ids: std::collections::HashSet<[u8; 8]> = (0..10_000).map(|_| ids()).collect();
    assert!(ids.len() == 10_000 && !ids.contains(&[0; 8]));
}

/// The fields of a message by number: numbers as they are, bytes as they are. A field comes in the order in which it stands.
fn fields(mut bytes: &[u8]) -> HashMap<u64, Vec<Field>> {
    let mut found: HashMap<u64, Vec<Field>> = HashMap::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.entry(tag >> 3).or_default().push(field);
    }
    found
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Field {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(number) => panic!("{number}"),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

/// Attributes (field `number`) as texts.
fn attributes(message: &HashMap<u64, Vec<Field>>, number: u64) -> Vec<String> {
    let pair = |field: &Field| {
        let pair = fields(field.bytes());
        let value = fields(pair[&2][0].bytes());
        let text = match (value.get(&1), value.get(&3)) {
            (Some(text), None) => String::from_utf8(text[0].bytes().to_vec()).unwrap(),
            (None, Some(number)) => format!("{:?}", number[0]),
            other => panic!("{other:?}"),
        };
        format!("{}={text}", String::from_utf8_lossy(pair[&1][0].bytes()))
    };
    message[&number].iter().map(pair).collect()
}

fn span(trace: Trace, status: u16) -> Span {
    Span {
        trace,
        method: "POST",
        route: "/encode".to_owned(),
        status,
        code: (status >= 400).then(|| "internal".to_owned()),
        request_id: "r-1".to_owned(),
        vocab: (status < 400).then(|| "zh@3".to_owned()),
        ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        elapsed: Duration::from_millis(500),
    }
}

#[test]
fn a_span_goes_out_by_the_numbers_of_its_fields() {
    let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
    let trace = Trace { id: parent.id, span: [7; 8], parent: Some(parent.span), sampled: true };
    let alone = Trace { parent: None, ..trace };
    let body = otlp::export(&[span(trace, 200), span(alone, 500)], "i");

    let resource_spans = fields(fields(&body)[&1][0].bytes());
    let resource = fields(resource_spans[&1][0].bytes());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        attributes(&resource, 1),
        ["service.name=vocabd", &format!("service.version={version}"), "service.instance.id=i"]
    );
    let scope_spans = fields(resource_spans[&2][0].bytes());
    assert_eq!(fields(scope_spans[&1][0].bytes())[&1][0].bytes(), b"vocabd");
    let spans: Vec<_> = scope_spans[&2].iter().map(|span| fields(span.bytes())).collect();
    let [good, bad] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(good[&1][0].bytes(), parent.id);
    assert_eq!(good[&2][0].bytes(), [7; 8]);
    assert_eq!(good[&4][0].bytes(), parent.span);
    assert_eq!(good[&5][0].bytes(), b"POST /encode");
    assert_eq!(good[&6], [Field::Number(2)]);
    assert_eq!((&good[&7][0], &good[&8][0]), (&Field::Number(1_000_000_000), &Field::Number(1_500_000_000)));
    assert_eq!(
        attributes(good, 9),
        [
            "http.request.method=POST",
            "http.route=/encode",
            "http.response.status_code=Number(200)",
            "vocabd.request_id=r-1",
            "vocabd.vocab=zh@3"
        ]
    );
    assert!(!good.contains_key(&15) && good[&16] == [Field::Number(0x301)]);
    assert!(!bad.contains_key(&4) && bad[&16] == [Field::Number(1)]);
    assert_eq!(fields(bad[&15][0].bytes())[&3], [Field::Number(2)]);
    assert!(attributes(bad, 9).contains(&"error.type=internal".to_owned()));
}

/// A collector that answers what `answer` says to each of its requests, and hands on their bodies.
fn collector(
    answer: impl Fn(usize) -> &'static str + Send + 'static,
) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, bodies) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _gone = sender.send(body(&mut stream));
            let head =
                format!("HTTP/1.1 {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", answer(number));
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    (address, bodies)
}

fn body(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.starts_with("post /base/v1/traces http/1.1") && head.contains("application/x-protobuf"),
        "{head}"
    );
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

fn traces(address: SocketAddr, percent: u64) -> (Traces, SpansCounted) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().build().unwrap();
    let counted = Metrics::new("0").spans();
    let endpoint = Url::parse(&format!("http://{address}/base/")).unwrap();
    (Traces::start(client, endpoint, percent, counted.clone()), counted)
}

fn spans_in(body: &[u8]) -> usize {
    fields(fields(fields(body)[&1][0].bytes())[&2][0].bytes())[&2].len()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_come_in_batches_and_the_last_ones_at_the_end() {
    let (address, bodies) = collector(|_| "200 OK");
    let (traces, counted) = traces(address, 100);
    for _ in 0..3 {
        let trace = traces.begin(None);
        traces.end(&trace, || span(trace, 200));
    }
    let unsampled = traces.begin(TraceParent::parse(PARENT.replace("-01", "-00").as_bytes()));
    traces.end(&unsampled, || panic!("is not sampled"));
    let first = bodies.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(spans_in(&first), 3);
    let trace = traces.begin(None);
    traces.end(&trace, || span(trace, 200));
    traces.close().await;
    assert_eq!(spans_in(&bodies.try_recv().unwrap()), 1);
    assert_eq!((counted.sent.get(), counted.dropped.get()), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_stuck_or_gone_holds_nothing_up() {
    // Accepts and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (traces, counted) = traces(listener.local_addr().unwrap(), 100);
    let started = std::time::Instant::now();
    let many = 3 * QUEUE;
    for _ in 0..many {
        let trace = traces.begin(None);
        traces.end(&trace, || span(trace, 200));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let dropped = counted.dropped.get();
    assert!((many - QUEUE - 2 * BATCH..=many - QUEUE).contains(&(dropped as usize)), "{dropped}");
    let started = std::time::Instant::now();
    traces.close().await;
    assert!(started.elapsed() < CLOSE * 4, "{:?}", started.elapsed());
    assert_eq!(counted.sent.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_dropped_and_the_next_is_sent() {
    let (address, bodies) =
        collector(|number| if number == 0 { "503 Service Unavailable" } else { "200 OK" });
    let (traces, counted) = traces(address, 100);
    for _ in 0..2 {
        let trace = traces.begin(None);
        traces.end(&trace, || span(trace, 200));
        bodies.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    traces.close().await;
    assert_eq!((counted.sent.get(), counted.dropped.get()), (1, 1));
}

#[tokio::test]
async fn a_share_of_the_traces_is_sampled_and_callers_decide_for_theirs() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let sampled = |percent| {
        let (traces, _) = traces(address, percent);
        let parent = TraceParent::parse(PARENT.as_bytes());
        let told = traces.begin(parent);
        assert_eq!(
            (told.id, told.parent, told.sampled),
            (parent.unwrap().id, Some(parent.unwrap().span), true)
        );
        (0..10_000).filter(|_| traces.begin(None).sampled).count()
    };
    assert_eq!((sampled(0), sampled(100)), (0, 10_000));
    let ten = sampled(10);
    assert!((700..1300).contains(&ten), "{ten}");
}
