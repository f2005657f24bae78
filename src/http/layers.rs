//! What every request passes through: an id, the guard of a server without keys or the look at the caller's key, the log,
//! the figures, and the rendering of problems.

use super::Side;
use super::access;
use super::admission::{Load, Place, Room};
use super::compat::Dialect;
use super::held::held;
use super::metered::metered;
use super::problem::Problem;
use super::state::AppState;
use crate::keys::Key;
use crate::telemetry::{Hex, InFlight, Span, Trace, TraceParent};
use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};
use tower::{Layer, Service};

/// Carries the id of a request, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Carry the place of a request in a trace, there and back.
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Routes that answer whoever asks, and are not worth a line in the log.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/health"];

/// The outermost layer: by hand, as a layer made of a function takes four allocations a request, and so does one that catches
/// panics.
#[derive(Debug, Clone)]
pub(super) struct Outermost {
    pub(super) app: AppState,
    pub(super) side: Side,
}

impl<S> Layer<S> for Outermost {
    type Service = Around<S>;

    fn layer(&self, inner: S) -> Around<S> {
        Around { app: Arc::clone(&self.app), side: self.side, inner }
    }
}

/// A route inside the outermost layer.
#[derive(Debug, Clone)]
pub(super) struct Around<S> {
    app: AppState,
    side: Side,
    inner: S,
}

impl<S> Service<Request> for Around<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let mut exchange = Exchange::begin(&self.app, &request);
        let allowed = guard(&self.app, &request, exchange.is_probe()).and_then(|()| {
            if self.side == Side::Public
                && exchange.matched().is_some_and(|route| access::is_for_operators(request.method(), route))
            {
                return Err(Problem::unknown_route());
            }
            // Before the key, so that what is shed is not counted as its holder's.
            exchange.admitted = take_on(&self.app, &request, exchange.matched())?;
            exchange.key = access::admit(&self.app, &request, exchange.matched())?;
            Ok(())
        });
        if let Some(key) = &exchange.key {
            request.extensions_mut().insert(Arc::clone(key));
            request = request.map(|body| metered(body, key));
        }
        match &exchange.admitted {
            Some((_, room)) if may_grow(&request, exchange.matched()) => {
                request.extensions_mut().insert(Arc::clone(room));
            }
            // Nothing counts its body, which has to be small therefore.
            None if !request.body().is_end_stream() => {
                request.extensions_mut().insert(Load::Control);
            }
            _ => {}
        }
        let answer = allowed.map(|()| AssertUnwindSafe(self.inner.call(request)).catch_unwind());
        Box::pin(async move {
            let response = match answer {
                Err(problem) => exchange.refuse(problem),
                // The hook of `telemetry` has logged where a panic was; what it said may quote a text.
                Ok(answer) => {
                    answer.await.map_or_else(|_panic| Problem::internal().into_response(), |Ok(made)| made)
                }
            };
            Ok(exchange.end(response))
        })
    }
}

/// A request from its head to the head of its answer.
struct Exchange {
    app: AppState,
    started: Instant,
    _in_flight: InFlight,
    id: HeaderValue,
    method: Method,
    /// The path as the route table has it: a raw one would make labels without bound, and may hold anything.
    route: Option<MatchedPath>,
    /// Whose request it is, where callers are asked.
    key: Option<Arc<Key>>,
    /// What it has of the limits: the place until its answer begins, the room until that is sent.
    admitted: Option<(Place, Arc<Room>)>,
    /// The trace that its caller says it belongs to.
    caller: Option<TraceParent>,
    /// Its place in a trace, where traces are sent.
    trace: Option<Trace>,
}

impl Exchange {
    fn begin(app: &AppState, request: &Request) -> Self {
        Self {
            app: Arc::clone(app),
            started: Instant::now(),
            _in_flight: app.metrics.request_in_flight(),
            id: request_id(request.headers()),
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            key: None,
            admitted: None,
            caller: None,
            trace: None,
        }
        .traced(request.headers())
    }

    fn traced(mut self, headers: &HeaderMap) -> Self {
        // One that comes twice is none, says the standard.
        let mut parents = headers.get_all(TRACE_PARENT).iter();
        if let (Some(parent), None) = (parents.next(), parents.next()) {
            self.caller = TraceParent::parse(parent.as_bytes());
        }
        if !self.is_probe() {
            self.trace = self.app.traces.as_ref().map(|traces| traces.begin(self.caller));
        }
        self
    }

    fn matched(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    fn route(&self) -> &str {
        self.matched().unwrap_or("unmatched")
    }

    /// The answer to a request that no handler gets, in the shape of the route's server.
    fn refuse(&self, problem: Problem) -> Response {
        let mut response = problem.into_response();
        if let Some(dialect) = self.matched().and_then(|route| Dialect::of_route(&self.method, route)) {
            response.extensions_mut().insert(dialect);
        }
        response
    }

    fn is_probe(&self) -> bool {
        PROBES.contains(&self.route())
    }

    fn end(self, mut response: Response) -> Response {
        let id = self.id.to_str().unwrap_or_default();
        let problem = response.extensions_mut().remove::<Problem>();
        let code = problem.as_ref().map(Problem::code);
        if let Some(problem) = problem {
            response = match response.extensions_mut().remove::<Dialect>() {
                Some(dialect) => problem.render_as(dialect, id),
                None => problem.render(id),
            };
        } else if response.status() == axum::http::StatusCode::METHOD_NOT_ALLOWED {
            let allow = response.headers_mut().remove(header::ALLOW);
            response = Problem::method_not_allowed(allow).render(id);
        }
        let status = response.status().as_u16();
        let elapsed = self.started.elapsed();
        self.app.metrics.answered(self.route(), status, elapsed);
        self.log(status, code, elapsed.as_secs_f64() * 1000.0);

        let headers = response.headers_mut();
        if let (Some(traces), Some(trace)) = (&self.app.traces, self.trace) {
            let vocab = headers.get("vocab").and_then(|vocab| vocab.to_str().ok());
            traces.end(&trace, || Span {
                trace,
                method: self.method(),
                route: self.route().to_owned(),
                status,
                code: code.map(str::to_owned),
                request_id: id.to_owned(),
                vocab: vocab.map(str::to_owned),
                ended: SystemTime::now(),
                elapsed,
            });
            if let Ok(trace) = HeaderValue::try_from(trace.to_string()) {
                headers.insert(TRACE_RESPONSE, trace);
            }
        }
        headers.insert(REQUEST_ID, self.id);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self.admitted {
            Some((_place, room)) => response.map(|body| held(body, room)),
            None => response,
        }
    }

    /// A method of the client's own making may be anybody's text.
    fn method(&self) -> &'static str {
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
        known.into_iter().find(|known| *known == self.method.as_str()).unwrap_or("other")
    }

    fn log(&self, status: u16, code: Option<&str>, ms: f64) {
        let method = self.method();
        let trace_id =
            self.trace.as_ref().map(|trace| &trace.id).or(self.caller.as_ref().map(|from| &from.id));
        let trace_id = trace_id.map(|id| tracing::field::display(Hex(id)));
        let (route, key) = (self.route(), self.key.as_deref().map(Key::name));
        let request_id = self.id.to_str().unwrap_or_default();
        match status {
            500.. => tracing::error!(method, route, status, code, ms, request_id, trace_id, key, "request"),
            400.. => tracing::info!(method, route, status, code, ms, request_id, trace_id, key, "request"),
            _ if self.is_probe() => {
                tracing::trace!(method, route, status, ms, request_id, trace_id, key, "request")
            }
            _ => tracing::debug!(method, route, status, ms, request_id, trace_id, key, "request"),
        }
    }
}

/// The client's id if it is harmless in logs and headers, else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |id: &&HeaderValue| {
        (1..=64).contains(&id.len()) && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    headers.get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(own_id)
}

/// 32 hexadecimal digits: 16 of this process, drawn at its start, and 16 of its requests, no two of which are alike. Asking
/// the system for random bytes each time would take as long as encoding a short text.
fn own_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("request ids"));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        |number: u64| std::array::from_fn::<u8, 16, _>(|n| DIGITS[(number >> (60 - 4 * n)) as usize & 15]);
    // An odd factor takes no two numbers to the same.
    let request = NEXT.fetch_add(1, Relaxed).wrapping_add(*PROCESS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = [digits(*PROCESS), digits(request)];
    HeaderValue::from_bytes(id.as_flattened()).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Takes a request on, with the bytes that it announces as far as they may come into memory.
fn take_on(
    app: &AppState,
    request: &Request,
    route: Option<&str>,
) -> Result<Option<(Place, Arc<Room>)>, Problem> {
    let load = Load::of(request.method(), route);
    let most = match route {
        // What passes through in pieces.
        Some("/uploads/{id}" | "/encode/stream") => 0,
        Some("/vocabs") => app.config.max_vocab_bytes,
        _ => app.config.max_body_bytes,
    };
    let announced = request.body().size_hint().exact().unwrap_or(0).min(most as u64);
    let admitted = app.admission.admit(load, announced);
    if admitted.is_err() {
        app.metrics.shed(load.name());
    }
    admitted
}

/// Whether more may come into memory than a request announces: what it unpacks, lines of a stream, or what an import fetches.
fn may_grow(request: &Request, route: Option<&str>) -> bool {
    request.body().size_hint().exact().is_none()
        || request.headers().contains_key(header::CONTENT_ENCODING)
        || matches!(route, Some("/encode/stream" | "/vocabs"))
}

/// Without keys a server answers to no page but its own and those that the settings allow, and on loopback only to who
/// addresses it as such: otherwise any web page open on a machine that reaches it could drive it. Browsers send an `Origin` with
/// whatever may change something, and other clients send none.
fn guard(app: &AppState, request: &Request, probe: bool) -> Result<(), Problem> {
    let (headers, loopback) = (request.headers(), app.config.guards_loopback());
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if probe || app.config.keys_file().is_some() || !loopback && origin.is_none() {
        return Ok(());
    }
    let host = match headers.get(header::HOST).map(HeaderValue::to_str) {
        // What most callers send needs no parser.
        Some(Ok(host)) if origin.is_none() && is_plain_loopback(host) => return Ok(()),
        Some(Ok(host)) => host.parse::<Authority>().ok(),
        Some(Err(_)) => None,
        None => request.uri().authority().cloned(),
    };
    let host = host.filter(|host| !loopback || is_loopback(host));
    let host = host.ok_or_else(|| Problem::foreign_origin("Host"))?;
    match origin {
        Some(origin) if !app.config.allows_origin(origin) && !is_own(origin, &host) => {
            Err(Problem::foreign_origin("Origin"))
        }
        _ => Ok(()),
    }
}

/// Whether the page of an origin came from the host that its request names. The schemes may differ: a proxy that speaks TLS passes
/// on the host, and the port that either leaves out is that of the page's scheme.
fn is_own(origin: &str, host: &Authority) -> bool {
    let (page, port) = match origin.split_once("://") {
        Some(("http", page)) => (page, 80),
        Some(("https", page)) => (page, 443),
        _ => return false,
    };
    page.parse::<Authority>().is_ok_and(|page| {
        page.host().eq_ignore_ascii_case(host.host())
            && page.port_u16().unwrap_or(port) == host.port_u16().unwrap_or(port)
    })
}

/// Whether a host is one of the usual names of this machine, with a port or without one.
fn is_plain_loopback(host: &str) -> bool {
    let port = host.strip_prefix("127.0.0.1").or_else(|| host.strip_prefix("localhost"));
    port.is_some_and(|port| {
        port.is_empty()
            || port.strip_prefix(':').is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_harm_a_log_are_replaced() {
        let check = |given: &'static str, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(given));
            assert_eq!(request_id(&headers) == given, kept, "{given}");
        };
        check("abc-123", true);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        check("0123456789012345678901234567890123456789012345678901234567890123x", false);
    }

    #[test]
    fn own_ids_are_harmless_and_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| own_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit)));
    }

    #[test]
    fn loopback_has_many_names() {
        let check =
            |host: &str, expect: bool| assert_eq!(is_loopback(&host.parse().unwrap()), expect, "{host}");
        check("localhost:8080", true);
        check("LOCALHOST", true);
        check("127.0.0.1:1", true);
        check("127.9.9.9", true);
        check("[::1]:8080", true);
        check("evil.example", false);
        check("localhost.evil.example", false);
        check("10.0.0.1:8080", false);
        check("127.0.0.1.evil.example", false);
    }

    #[test]
    fn a_page_is_of_this_server_where_its_host_and_port_are() {
        let check = |origin: &str, host: &str, expect: bool| {
            assert_eq!(is_own(origin, &host.parse().unwrap()), expect, "{origin} {host}");
        };
        check("http://localhost:8080", "localhost:8080", true);
        check("http://[::1]:8080", "[::1]:8080", true);
        check("https://vocab.example", "vocab.example", true);
        check("https://vocab.example", "vocab.example:443", true);
        check("https://vocab.example:8443", "Vocab.Example:8443", true);
        check("http://vocab.example", "vocab.example:80", true);
        check("http://localhost", "localhost:8080", false);
        check("http://localhost:9090", "localhost:8080", false);
        check("http://localhost:8080", "localhost", false);
        check("http://evil.example:8080", "localhost:8080", false);
        check("http://localhost.evil.example:8080", "localhost:8080", false);
        for none in ["null", "", "file://", "localhost:8080", "ftp://localhost:8080", "http://", "http:// x"]
        {
            check(none, "localhost:8080", false);
        }
    }

    #[test]
    fn plain_names_of_loopback_are_no_more_than_that() {
        let check = |host: &str, expect: bool| assert_eq!(is_plain_loopback(host), expect, "{host}");
        check("localhost", true);
        check("localhost:8080", true);
        check("127.0.0.1:1", true);
        for other in [
            "localhost.evil.example",
            "localhost:",
            "localhost:80@evil",
            "127.0.0.1.evil.example:1",
            "127.0.0.12",
            "",
        ] {
            check(other, false);
        }
    }
}
