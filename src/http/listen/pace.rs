//! What a connection did last, and which limit that exceeds. Must stay true: at every moment either a limit
//! runs, or a handler is at work for the client.
//!
//! The socket and the exchanges only write times down; [`Pace::exceeded`] does all the judging. So a request costs
//! a few atomic stores and no timer, and no limit depends on when hyper polls what. The orderings are relaxed: a
//! time seen late is seen at the next look.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{ListenSettings, MINIMUM_RATE};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Where a limit may begin unseen, the watch looks at least this often, and this many times per shortest limit.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
const SHORTEST_LOOK: Duration = Duration::from_millis(5);
const LOOKS_PER_LIMIT: u32 = 4;

/// A limit that a connection has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// No request was open for the idle time: end politely.
    Idle,
    /// A request head is incomplete: close at once.
    Head,
    /// The client does not take its answer: close at once.
    Answer,
}

/// The times of one connection. All are milliseconds since `opened`, plus one; 0 is "not now".
#[derive(Debug)]
pub(super) struct Pace {
    header_timeout: Duration,
    body_timeout: Duration,
    idle_timeout: Duration,
    opened: Instant,
    /// Requests that a handler works on, or whose answer is not all handed to hyper.
    exchanges: AtomicUsize,
    /// Those of them that wait for the client to take a piece of its answer.
    waiting: AtomicUsize,
    /// Since when a request head is under way.
    head: AtomicU64,
    /// When the last exchange ended.
    quiet: AtomicU64,
    /// Since when the client is behind with what it should take; more recent, the more it took since.
    blocked: AtomicU64,
    /// When a piece of an answer last went anywhere.
    moved: AtomicU64,
    /// The client does not take bytes: those in the kernel's buffers are not worth keeping.
    discard: AtomicBool,
}

impl Pace {
    pub(super) fn start(settings: &ListenSettings) -> Self {
        Self {
            header_timeout: settings.header_timeout,
            body_timeout: settings.body_timeout,
            idle_timeout: settings.idle_timeout,
            opened: Instant::now(),
            exchanges: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            head: AtomicU64::new(1), // the first head is under way from the accept on
            quiet: AtomicU64::new(1),
            blocked: AtomicU64::new(0),
            moved: AtomicU64::new(1),
            discard: AtomicBool::new(false),
        }
    }

    /// A request head is complete. The exchange ends when the returned value is dropped.
    pub(super) fn begin_exchange(self: &Arc<Self>) -> Exchange {
        self.exchanges.fetch_add(1, Relaxed);
        self.head.store(0, Relaxed);
        Exchange { pace: Arc::clone(self), waits: false }
    }

    /// The idle time begins again.
    pub(super) fn restart_idle(&self) {
        self.quiet.store(self.now(), Relaxed);
    }

    /// Waits until a limit is exceeded. A connection that nobody moves costs one timer a limit: whatever begins another one
    /// polls its task, and so this.
    pub(super) async fn exceeded(&self) -> Exceeded {
        let shortest = self.header_timeout.min(self.body_timeout).min(self.idle_timeout);
        let look = (shortest / LOOKS_PER_LIMIT).clamp(SHORTEST_LOOK, LONGEST_LOOK);
        let mut alarm = pin!(tokio::time::sleep_until(self.next_look(look)));
        poll_fn(|cx| {
            let next = self.next_look(look);
            if next < alarm.deadline() {
                alarm.as_mut().reset(next);
            }
            while alarm.as_mut().poll(cx).is_ready() {
                match self.next_limit() {
                    Some((at, exceeded)) if at <= Instant::now() => {
                        self.discard.store(exceeded == Exceeded::Answer, Relaxed);
                        return Poll::Ready(exceeded);
                    }
                    _ => alarm.as_mut().reset(self.next_look(look)),
                }
            }
            Poll::Pending
        })
        .await
    }

    /// When to look again if nothing polls the connection before: at its limit; or soon, where a handler is at work, whose
    /// stream of HTTP/2 is a task of its own, and where the socket is full, which is tried again at each look.
    fn next_look(&self, look: Duration) -> Instant {
        let soon = || Instant::now() + look;
        match self.next_limit() {
            Some((at, _)) if self.blocked.load(Relaxed) == 0 => at,
            Some((at, _)) => at.min(soon()),
            None => soon(),
        }
    }

    /// The limit that runs out first if nothing moves; `None` while a handler is at work.
    fn next_limit(&self) -> Option<(Instant, Exceeded)> {
        let blocked = self.time(&self.blocked).map(|since| (since + self.body_timeout, Exceeded::Answer));
        let exchanges = self.exchanges.load(Relaxed);
        let other = if exchanges > 0 {
            // Only when no exchange moves: behind a proxy, one slow reader must not end the others' requests.
            let all_wait = self.waiting.load(Relaxed) >= exchanges;
            let moved = self.time(&self.moved).filter(|_| all_wait);
            moved.map(|since| (since + self.body_timeout, Exceeded::Answer))
        } else if let Some(since) = self.time(&self.head) {
            Some((since + self.header_timeout, Exceeded::Head))
        } else {
            self.time(&self.quiet).map(|since| (since + self.idle_timeout, Exceeded::Idle))
        };
        blocked.into_iter().chain(other).min_by_key(|(at, _)| *at)
    }

    fn bytes_read(&self) {
        if self.exchanges.load(Relaxed) == 0 && self.head.load(Relaxed) == 0 {
            self.head.store(self.now(), Relaxed);
        }
    }

    fn bytes_written(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending if self.blocked.load(Relaxed) == 0 => self.blocked.store(self.now(), Relaxed),
            Poll::Pending => {}
            Poll::Ready(written) => {
                let bytes = *written.as_ref().unwrap_or(&0) as u64;
                let (since, now) = (self.blocked.load(Relaxed), self.now());
                // A byte now and then does not make good for the time: only as many as the lowest speed asks for.
                let made_good = since.saturating_add(bytes.saturating_mul(1000) / MINIMUM_RATE);
                self.blocked.store(if since == 0 || made_good >= now { 0 } else { made_good }, Relaxed);
                self.moved.store(now, Relaxed);
            }
        }
    }

    /// All that there was is written.
    fn flushed(&self) {
        self.blocked.store(0, Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn time(&self, stored: &AtomicU64) -> Option<Instant> {
        let millis = stored.load(Relaxed).checked_sub(1)?;
        Some(self.opened + Duration::from_millis(millis))
    }
}

/// One request with its answer, counted as open until dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    pace: Arc<Pace>,
    waits: bool,
}

impl Exchange {
    /// Whether it is the client's turn (to take a piece of the answer) or the handler's.
    pub(super) fn waits_for_client(&mut self, waits: bool) {
        if waits {
            self.pace.moved.store(self.pace.now(), Relaxed);
        }
        if waits != self.waits {
            self.waits = waits;
            if waits {
                self.pace.waiting.fetch_add(1, Relaxed);
            } else {
                self.pace.waiting.fetch_sub(1, Relaxed);
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.waits_for_client(false);
        self.pace.restart_idle();
        self.pace.exchanges.fetch_sub(1, Relaxed);
    }
}

/// A connection's socket, which tells its [`Pace`] about every read and write.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    pace: Arc<Pace>,
    /// What is still to come of the HTTP/2 preface; `None` once the protocol is known.
    preface: Option<&'static [u8]>,
    http2: bool,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream, pace: Arc<Pace>) -> Self {
        Self { stream, pace, preface: Some(HTTP2_PREFACE), http2: false }
    }

    /// The first byte that the client sends, left to be read.
    pub(super) async fn peek(&self) -> io::Result<u8> {
        let mut first = [0];
        match self.stream.peek(&mut first).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }

    /// The protocol that a handshake has settled: what is read from now on is encrypted, and has no preface to be seen.
    pub(super) fn agreed(&mut self, http2: bool) {
        (self.preface, self.http2) = (None, http2);
        if http2 {
            self.pace.restart_idle();
            self.pace.head.store(0, Relaxed);
        }
    }

    /// Whether that is HTTP/2, as far as it is known.
    pub(super) fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// HTTP/2 has frames besides heads, so after its preface bytes alone start no head: the idle time and the
    /// pings limit what a client can do without a request.
    fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.http2 {
            return;
        }
        if let Some(rest) = self.preface {
            let length = rest.len().min(bytes.len());
            if rest[..length] != bytes[..length] {
                self.preface = None;
            } else if length < rest.len() {
                self.preface = Some(&rest[length..]);
            } else {
                self.http2 = true;
                self.pace.head.store(0, Relaxed);
                return;
            }
        }
        self.pace.bytes_read();
    }

    /// Writes past the runtime, which waits for the kernel to report room. The kernel does so only when a third
    /// of its buffer (up to megabytes) is free: without this, a client that reads slowly but steadily would look
    /// stuck. Comes to pass when the watch looks, since that polls the connection.
    fn write_if_any_room(&self, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() || self.pace.blocked.load(Relaxed) == 0 {
            return Poll::Pending;
        }
        match rustix::io::write(&self.stream, buf) {
            Ok(length) => Poll::Ready(Ok(length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.read(&buf.filled()[before..]);
        result
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match Pin::new(&mut this.stream).poll_write(cx, buf) {
            Poll::Pending => this.write_if_any_room(buf),
            ready @ Poll::Ready(_) => ready,
        };
        this.pace.bytes_written(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match Pin::new(&mut this.stream).poll_write_vectored(cx, bufs) {
            Poll::Pending => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                this.write_if_any_room(first.map_or(&[], |buf| &**buf))
            }
            ready @ Poll::Ready(_) => ready,
        };
        this.pace.bytes_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Protocols ask for this once they have nothing left to write.
        this.pace.flushed();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        if self.pace.discard.load(Relaxed) {
            // Otherwise the kernel would keep megabytes for minutes, for a client that never reads them.
            let _ = self.stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn pace() -> Pace {
        Pace::start(&ListenSettings {
            header_timeout: LIMIT * 1000,
            body_timeout: LIMIT,
            idle_timeout: LIMIT * 1000,
            drain: LIMIT,
            max_connections: 1,
            tls: None,
        })
    }

    /// After how many seconds a client is closed that takes so many bytes every 2 seconds, for it has not all of its answer;
    /// `None` where it is kept for ten minutes.
    fn closed_after(bytes: usize) -> Option<u64> {
        let mut pace = pace();
        for seconds in (0..600).step_by(2) {
            pace.bytes_written(&Poll::Pending);
            pace.opened -= Duration::from_secs(2);
            let (at, exceeded) = pace.next_limit().unwrap();
            if at <= Instant::now() {
                assert_eq!(exceeded, Exceeded::Answer);
                return Some(seconds + 2);
            }
            pace.bytes_written(&Poll::Ready(Ok(bytes)));
        }
        None
    }

    #[test]
    fn answers_have_a_lowest_speed() {
        assert_eq!(closed_after(0), Some(10));
        assert_eq!(closed_after(1), Some(10));
        assert_eq!(closed_after(1024), Some(18));
        assert_eq!(closed_after(2048), None);
        assert_eq!(closed_after(100_000), None);
    }

    #[test]
    fn nobody_waits_for_what_is_all_written() {
        let mut pace = pace();
        pace.bytes_written(&Poll::Pending);
        pace.opened -= LIMIT / 2;
        pace.bytes_written(&Poll::Ready(Ok(100)));
        pace.flushed();
        pace.opened -= LIMIT * 2;
        assert!(pace.next_limit().unwrap().0 > Instant::now());
    }
}
