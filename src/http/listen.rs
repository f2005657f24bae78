//! The accept loop: HTTP/1 and HTTP/2 on one port, plain (HTTP/2 by prior knowledge) or over TLS (by ALPN), with a limit on
//! everything a client can make us wait for.
//!
//! Must stay true: no connection outlives its limits, and no handler has to know them.
//!
//! `axum::serve` leaves a silent client connected for ever, and a stuck one holds up its shutdown, so the loop is
//! our own. hyper's timeouts are not used for HTTP/1 either: they do not cover the first byte (hyper issue 3756)
//! and cannot tell "no next request yet" from "half a head". Instead the socket and the exchanges of a connection
//! write down when they last moved (`pace`), and one watch per connection judges:
//!
//! | the client                                      | limit            | then                                   |
//! |-------------------------------------------------|------------------|----------------------------------------|
//! | sends no complete first head, TLS's own before  | `header_timeout` | closed                                 |
//! | sends a part of a later head (HTTP/1)           | `header_timeout` | closed                                 |
//! | has no request open                             | `idle_timeout`   | closed (HTTP/2: GOAWAY)                |
//! | pauses within a body, or sends it below 1 KiB/s | `body_timeout`   | the handler reads a [`BodyTimeout`]    |
//! | does not take its answer, or below 1 KiB/s      | `body_timeout`   | closed                                 |
//! | does not answer an HTTP/2 ping                  | `header_timeout` | closed                                 |
//!
//! A limit that begins where the watch does not see it may be overrun by a quarter of the shortest one.

mod body;
mod pace;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use body::{BodyTimeout, is_body_timeout};
use pace::{Exceeded, Pace, WatchedStream};
pub use tls::{Tls, TlsError};
use tokio_rustls::server::TlsStream;

/// How long to leave the listener alone after an error that waiting may cure (no file descriptors left).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long to wait for connections that were told to end at once.
const ABORT_WAIT: Duration = Duration::from_secs(1);
/// Bytes of one HTTP/1 request head; also the size of a read.
const HTTP1_BUFFER: usize = 64 * 1024;
/// How long a connection is listened to once the shutdown has come, before it ends for want of an open request: what was sent
/// before may still lie in the kernel. A timer ends after the runtime has looked there.
const LAST_LOOK: Duration = Duration::from_millis(50);
const HTTP2_STREAMS: u32 = 100;
/// The lowest average speed of a body in either direction while it is waited for, in bytes per second.
const MINIMUM_RATE: u64 = 1024;
/// Bytes of one HTTP/2 request head, after decompression.
const HTTP2_HEADER_LIST: u32 = 16 * 1024;

/// What a client may make the server wait for, and how many clients there may be.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Longest time from the first byte of a request head to its last; for the first head, from the accept.
    pub header_timeout: Duration,
    /// Longest pause between two pieces of a request body, or between two pieces taken of an answer. Both must also
    /// reach 1 KiB/s on average, after this time.
    pub body_timeout: Duration,
    /// Longest time a connection is kept with no request open.
    pub idle_timeout: Duration,
    /// Longest time, from the shutdown on, for open requests to finish.
    pub drain: Duration,
    /// Connections open at once. More are not refused: they wait in the kernel's backlog until one closes.
    pub max_connections: usize,
    /// What to show to clients that must speak TLS; without it none may.
    pub tls: Option<Arc<Tls>>,
}

/// Serves `router` on `listener` until `shutdown` is cancelled, then drains.
///
/// `connections` is the number of connections open now. Handlers find the client's address as
/// `ConnectInfo<SocketAddr>`.
///
/// On shutdown the listener is closed, every connection ends after its open requests, and after `drain` what is
/// left is cut. Errors of single connections, and of accepting, never end the loop.
///
/// # Errors
/// When the listener has no local address, which is to say that it was never bound.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ListenSettings,
    connections: Arc<AtomicU64>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let tasks = Tasks { tracker: TaskTracker::new(), cut: CancellationToken::new() };
    let drain = settings.drain;
    let server = Arc::new(Server { router, settings, connections, shutdown, tasks });

    while let Some((stream, peer, place)) = server.next_connection(&listener, &places).await {
        server.start(stream, peer, place);
    }
    server.take_the_last(listener, &places);

    let tasks = &server.tasks;
    tasks.tracker.close();
    if tokio::time::timeout(drain, tasks.tracker.wait()).await.is_err() {
        let left = server.connections.load(Ordering::Relaxed);
        tracing::warn!(%address, connections = left, "drain time is over, cutting the connections left");
        tasks.cut.cancel();
        // A handler that blocks its thread cannot be cut: it must not hold up the exit either.
        let _ = tokio::time::timeout(ABORT_WAIT, tasks.tracker.wait()).await;
    }
    Ok(())
}

struct Server {
    router: Router,
    settings: ListenSettings,
    connections: Arc<AtomicU64>,
    shutdown: CancellationToken,
    tasks: Tasks,
}

impl Server {
    /// The next client, once there is a place for it; `None` on shutdown.
    async fn next_connection(
        &self,
        listener: &TcpListener,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let accept = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => return Some((stream, peer, place)),
                    Err(error) if is_about_one_client(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections, trying again");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                }
            }
        };
        self.shutdown.run_until_cancelled(accept).await.flatten()
    }

    /// Clients that the kernel has let in already get their answer too, as far as there is room for them. The kernel itself is asked: the
    /// runtime need not have heard of the last ones.
    fn take_the_last(self: &Arc<Self>, listener: TcpListener, places: &Arc<Semaphore>) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(place) = Arc::clone(places).try_acquire_owned() {
            match listener.accept() {
                Ok((stream, peer)) => {
                    if let Ok(stream) =
                        stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream))
                    {
                        self.start(stream, peer, place);
                    }
                }
                Err(error) if is_about_one_client(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn start(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let open = Open::new(Arc::clone(&self.connections), place);
        let server = Arc::clone(self);
        self.tasks.tracker.spawn(Box::pin(async move {
            server.connection(stream, peer).await;
            drop(open);
        }));
    }

    /// One connection, from its first byte to its end.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY"); // the client has gone already
        }
        let pace = Arc::new(Pace::start(&self.settings));
        let stream = WatchedStream::new(stream, Arc::clone(&pace));
        let Some(tls) = &self.settings.tls else {
            return self.exchanges(stream, peer, &pace, Protocol::Any).await;
        };
        if let Some(stream) = self.handshake(tls, stream, &pace).await {
            let protocol = if stream.get_ref().0.speaks_http2() { Protocol::Http2 } else { Protocol::Http1 };
            self.exchanges(stream, peer, &pace, protocol).await;
        }
    }

    /// The stream behind the handshake, if there is one in time.
    async fn handshake(
        &self,
        tls: &Tls,
        stream: WatchedStream,
        pace: &Pace,
    ) -> Option<Box<TlsStream<WatchedStream>>> {
        tokio::select! {
            biased;
            made = tls.accept(stream, &self.shutdown) => match made {
                Ok(stream) => Some(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, "no TLS connection came about");
                    None
                }
            },
            () = self.tasks.cut.cancelled() => None,
            exceeded = pace.exceeded() => {
                tracing::debug!(?exceeded, "connection closed: the client is too slow");
                None
            }
        }
    }

    /// The requests of a connection, until one end closes it.
    async fn exchanges<S>(&self, stream: S, peer: SocketAddr, pace: &Arc<Pace>, protocol: Protocol)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let body_timeout = self.settings.body_timeout;
        let service = service_fn(|request: Request<Incoming>| {
            let exchange = pace.begin_exchange();
            let router = self.router.clone();
            async move {
                let mut request = request.map(|incoming| body::request_body(incoming, body_timeout));
                request.extensions_mut().insert(ConnectInfo(peer));
                let Ok(response) = router.oneshot(request).await;
                Ok::<_, Infallible>(response.map(|inner| body::AnswerBody::new(inner, exchange)))
            }
        });
        // Whatever ends the connection ends the tasks of its HTTP/2 streams.
        let tasks = Tasks { tracker: self.tasks.tracker.clone(), cut: self.tasks.cut.child_token() };
        let _cut_streams = tasks.cut.clone().drop_guard();
        let builder = self.builder(tasks, protocol);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let shutdown = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(LAST_LOOK).await;
        };
        tokio::pin!(shutdown);

        let mut ending = false;
        loop {
            tokio::select! {
                // In this order, so that a request that has arrived already counts as open when the shutdown comes.
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "connection ended");
                    }
                    return;
                }
                () = self.tasks.cut.cancelled() => return,
                () = shutdown.as_mut(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                exceeded = pace.exceeded() => match exceeded {
                    Exceeded::Idle if !ending => {
                        ending = true;
                        pace.restart_idle();
                        connection.as_mut().graceful_shutdown();
                    }
                    Exceeded::Idle | Exceeded::Head | Exceeded::Answer => {
                        tracing::debug!(?exceeded, "connection closed: the client is too slow");
                        return;
                    }
                },
            }
        }
    }

    fn builder(&self, tasks: Tasks, protocol: Protocol) -> Builder<Tasks> {
        let mut builder = Builder::new(tasks);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None) // ours: see the head of this file
            .half_close(false)
            .max_buf_size(HTTP1_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HTTP2_HEADER_LIST)
            .keep_alive_interval(self.settings.body_timeout)
            .keep_alive_timeout(self.settings.header_timeout);
        match protocol {
            Protocol::Any => builder,
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
        }
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    /// What its first bytes say.
    Any,
    Http1,
    Http2,
}

/// Whether accepting failed because of the one client that was next.
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The tasks of connections and of HTTP/2 streams, which all end when `cut` is cancelled.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            cut.run_until_cancelled(stream).await;
        });
    }
}

/// A connection's place under the cap and in the count.
struct Open {
    connections: Arc<AtomicU64>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(connections: Arc<AtomicU64>, place: OwnedSemaphorePermit) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self { connections, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
