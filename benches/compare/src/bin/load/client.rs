//! A closed loop of HTTP/1.1 connections: each sends its next request when it has read the answer to the last one.

use crate::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request as it goes over the wire.
pub struct Request {
    wire: Vec<u8>,
    pub text_bytes: usize,
}

/// What requests and answers look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// JSON with one text, JSON with its ids.
    Json,
    /// The text alone, packed ids.
    Packed,
    /// JSON with `--batch` texts, JSON with the ids of each.
    Batch,
}

impl Request {
    /// A request for one text, or for several with [`Shape::Batch`].
    pub fn encode(texts: &[&str], shape: Shape, port: u16) -> Result<Self, Failure> {
        let (path, kind, body) = match (shape, texts) {
            (Shape::Json, [text]) => ("/encode", "application/json", serde_json::json!({ "text": text }).to_string()),
            (Shape::Packed, [text]) => ("/encode", "text/plain\r\nAccept: application/octet-stream", (*text).to_owned()),
            (Shape::Batch, texts) => {
                ("/encode/batch", "application/json", serde_json::json!({ "texts": texts }).to_string())
            }
            _ => return Err("one text at a time".into()),
        };
        let wire = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self { wire: wire.into_bytes(), text_bytes: texts.iter().map(|text| text.len()).sum() })
    }
}

impl Request {
    /// Whether the server lives.
    pub fn probe(port: u16) -> Self {
        Self { wire: format!("GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes(), text_bytes: 0 }
    }
}

/// What a run found.
pub struct Run {
    pub requests: u64,
    pub seconds: f64,
    pub server_cpu: f64,
    pub client_cpu: f64,
    /// Sorted, in microseconds.
    latencies: Vec<u32>,
}

impl Run {
    /// In milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies.len().saturating_sub(1) as f64 * share) as usize;
        self.latencies.get(at).map_or(f64::NAN, |&us| f64::from(us) / 1e3)
    }
}

/// Sends requests for `duration`, in turn over all connections together.
pub async fn run(
    port: u16,
    requests: &Arc<[Request]>,
    connections: usize,
    duration: Duration,
) -> Result<Run, Failure> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let end = started + duration;
    let work: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::spawn(connection(stream, Arc::clone(requests), Arc::clone(&next), end)))
        .collect();
    let mut latencies = Vec::new();
    for connection in work {
        latencies.append(&mut connection.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Run { requests: latencies.len() as u64, seconds, server_cpu: 0.0, client_cpu: 0.0, latencies })
}

/// Sends a request each `pace` on one connection for `duration`. The latency is counted from when it was due, so that
/// one that waits for the one before it shows (Tene, "How NOT to Measure Latency").
pub async fn paced(
    port: u16,
    requests: &[Request],
    pace: Duration,
    duration: Duration,
) -> Result<Run, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut latencies, mut answer) = (Vec::new(), vec![0; 1 << 16]);
    let started = Instant::now();
    let mut due = started;
    for request in requests.iter().cycle() {
        due += pace;
        if due > started + duration {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        stream.write_all(&request.wire).await?;
        read_answer(&mut stream, &mut answer).await?;
        latencies.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Run { requests: latencies.len() as u64, seconds, server_cpu: 0.0, client_cpu: 0.0, latencies })
}

/// The latency of each request, in microseconds.
async fn connection(
    mut stream: TcpStream,
    requests: Arc<[Request]>,
    next: Arc<AtomicUsize>,
    end: Instant,
) -> Result<Vec<u32>, Failure> {
    let mut latencies = Vec::new();
    let mut answer = vec![0; 1 << 20];
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        let request = &requests[next.fetch_add(1, Relaxed) % requests.len()];
        stream.write_all(&request.wire).await?;
        read_answer(&mut stream, &mut answer).await?;
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// Reads one answer to its end; anything but a 200 ends the measurement.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let mut filled = 0;
    let mut expected = None;
    loop {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed a connection inside an answer".into());
        }
        filled += read;
        if expected.is_none()
            && let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n")
        {
            expected = Some(end + 4 + content_length(&buffer[..end])?);
        }
        match expected {
            Some(expected) if filled == expected => return Ok(()),
            Some(expected) if filled > expected => return Err("an answer is longer than it says".into()),
            _ => {}
        }
    }
}

fn content_length(head: &[u8]) -> Result<usize, Failure> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("the server answered {status:?}").into());
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.ok_or_else(|| "an answer has no Content-Length".into())
}
