//! Traces: a span for each request, sent to a collector of OpenTelemetry (OTLP over HTTP).
//!
//! Must stay true: a request never waits for the collector. Spans wait in a queue of fixed length; one that finds it full is
//! dropped and counted. Batches that the collector does not take are dropped too.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Client, Url};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::metrics::SpansCounted;
use super::otlp;

/// Spans that wait to be sent: some hundred bytes each.
const QUEUE: usize = 4096;
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector has for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the server waits for the last batches.
const CLOSE: Duration = Duration::from_secs(2);

/// What a caller says of the trace that its request belongs to: the header `traceparent` of the W3C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub id: [u8; 16],
    /// The caller's span.
    span: [u8; 8],
    sampled: bool,
}

impl TraceParent {
    /// Reads the header: `00-TRACE-SPAN-FLAGS`, in lower-case hexadecimal digits; later versions may have more behind it.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let mut parts = header.split(|byte| *byte == b'-');
        let version: [u8; 1] = from_hex(parts.next()?)?;
        let (id, span): ([u8; 16], [u8; 8]) = (from_hex(parts.next()?)?, from_hex(parts.next()?)?);
        let flags: [u8; 1] = from_hex(parts.next()?)?;
        let more = parts.next().is_some();
        let bad = version == [0xff] || version == [0] && more || id == [0; 16] || span == [0; 8];
        (!bad).then_some(Self { id, span, sampled: flags[0] & 1 == 1 })
    }
}

fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Bytes as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The place of a request in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    sampled: bool,
}

/// As the answer tells it: the header `traceresponse` of the W3C's draft.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", Hex(&self.id), Hex(&self.span), u8::from(self.sampled))
    }
}

/// What is told of a request: no text, and nothing that the caller may have made up but its request id.
#[derive(Debug)]
pub struct Span {
    /// Its place.
    pub trace: Trace,
    /// Its method, or `other`.
    pub method: &'static str,
    /// The pattern of its route.
    pub route: String,
    /// The status of the answer.
    pub status: u16,
    /// What was wrong with it.
    pub code: Option<String>,
    /// Its id, as in the log.
    pub request_id: String,
    /// Name and version of the vocabulary that answered.
    pub vocab: Option<String>,
    /// When the answer began.
    pub ended: SystemTime,
    /// How long that took.
    pub elapsed: Duration,
}

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    queue: Sender<Span>,
    /// Of a hundred requests that come without a trace, how many are sampled.
    percent: u64,
    dropped: prometheus::IntCounter,
    closing: CancellationToken,
    exporter: Mutex<Option<JoinHandle<()>>>,
}

impl Traces {
    /// Sends spans by `client` to the collector at `endpoint`, from a task of the current runtime.
    #[must_use]
    pub fn start(client: Client, mut endpoint: Url, percent: u64, counted: SpansCounted) -> Self {
        let path = format!("{}/v1/traces", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        let (queue, spans) = mpsc::channel(QUEUE);
        let (closing, dropped) = (CancellationToken::new(), counted.dropped.clone());
        let instance = Hex(&ids::<16>()).to_string();
        let failing = AtomicBool::new(false);
        let exporter = Exporter { client, endpoint, instance, counted, failing, closing: closing.clone() };
        let exporter = Mutex::new(Some(tokio::spawn(exporter.run(spans))));
        Self { queue, percent, dropped, closing, exporter }
    }

    /// A place for a request: in its caller's trace, sampled as that is, or in a new one.
    #[must_use]
    pub fn begin(&self, caller: Option<TraceParent>) -> Trace {
        let span = ids();
        match caller {
            Some(caller) => Trace { id: caller.id, span, parent: Some(caller.span), sampled: caller.sampled },
            None => {
                let id = ids::<16>();
                Trace { id, span, parent: None, sampled: u64::from(id[15]) * 100 < self.percent * 256 }
            }
        }
    }

    /// Has the span of a request sent, if its trace is sampled; `made` makes it.
    pub fn end(&self, trace: &Trace, made: impl FnOnce() -> Span) {
        if !trace.sampled {
            return;
        }
        match self.queue.try_reserve() {
            Ok(place) => place.send(made()),
            Err(_) => self.dropped.inc(),
        }
    }

    /// Sends what is left, if the collector takes it soon.
    pub async fn close(&self) {
        self.closing.cancel();
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(exporter) = exporter {
            let _late = tokio::time::timeout(CLOSE, exporter).await;
        }
    }
}

struct Exporter {
    client: Client,
    endpoint: Url,
    instance: String,
    counted: SpansCounted,
    /// Whether the last batch was not taken: the log has a line for the first of many, and one for the end of it.
    failing: AtomicBool,
    closing: CancellationToken,
}

impl Exporter {
    async fn run(self, mut queue: Receiver<Span>) {
        loop {
            let mut batch = Vec::new();
            // Once the queue is closed, what is in it comes without waiting, and then none.
            let first = self.closing.run_until_cancelled(queue.recv_many(&mut batch, BATCH)).await;
            match first {
                Some(0) => return,
                Some(_) => self.gather(&mut queue, &mut batch).await,
                None => {
                    queue.close();
                    while queue.recv_many(&mut batch, BATCH).await > 0 {
                        self.deliver(&batch).await;
                        batch.clear();
                    }
                    return;
                }
            }
            self.deliver(&batch).await;
        }
    }

    /// Waits for more of a batch, for a while.
    async fn gather(&self, queue: &mut Receiver<Span>, batch: &mut Vec<Span>) {
        let full = async {
            while batch.len() < BATCH {
                if queue.recv_many(batch, BATCH - batch.len()).await == 0 {
                    return;
                }
            }
        };
        let _early = tokio::time::timeout(GATHER, self.closing.run_until_cancelled(full)).await;
    }

    async fn deliver(&self, batch: &[Span]) {
        if batch.is_empty() {
            return;
        }
        let body = otlp::export(batch, &self.instance);
        let request = self.client.post(self.endpoint.clone()).timeout(TIMEOUT);
        let sent = request.header("content-type", "application/x-protobuf").body(body).send().await;
        let problem = match sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) if error.is_timeout() => Some("it did not answer in time".to_owned()),
            Err(error) if error.is_connect() => Some("it cannot be reached".to_owned()),
            Err(_) => Some("the connection to it broke".to_owned()),
        };
        let spans = batch.len() as u64;
        match &problem {
            None => self.counted.sent.inc_by(spans),
            Some(_) => self.counted.dropped.inc_by(spans),
        }
        match (problem, self.failing.load(Relaxed)) {
            (Some(problem), false) => {
                tracing::warn!(problem, "the collector of traces takes no spans, they are dropped");
                self.failing.store(true, Relaxed);
            }
            (None, true) => {
                tracing::info!("the collector of traces takes spans again");
                self.failing.store(false, Relaxed);
            }
            _ => {}
        }
    }
}

/// A new id, of which no byte can be told from those before without knowing two random numbers of this process. Asking the system
/// for random bytes each time would take as long as encoding a short text.
fn ids<const N: usize>() -> [u8; N] {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut id = [0; N];
    for piece in id.chunks_mut(8) {
        let number = RANDOM.hash_one(NEXT.fetch_add(1, Relaxed)).max(1);
        piece.copy_from_slice(&number.to_be_bytes()[..piece.len()]);
    }
    id
}

#[cfg(test)]
mod tests;
