//! What every request passes through: an id, the guard of a server without keys, the log, the figures, and the
//! rendering of problems.

use super::compat::Dialect;
use super::problem::Problem;
use super::state::AppState;
use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::Instant;

/// Carries the id of a request, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Routes that answer whoever asks, and are not worth a line in the log.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/health"];

/// The outermost layer.
pub(super) async fn outermost(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = app.metrics.request_in_flight();
    let id = request_id(request.headers());
    let method = request.method().clone();
    // The path as the route table has it: a raw one would make labels without bound, and may hold anything.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let probe = PROBES.contains(&route.as_str());

    let mut response = match guard(&app, &request, probe) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let problem = response.extensions_mut().remove::<Problem>();
    let code = problem.as_ref().map(Problem::code);
    if let Some(problem) = problem {
        response = match response.extensions_mut().remove::<Dialect>() {
            Some(dialect) => problem.render_as(dialect, &id),
            None => problem.render(&id),
        };
    } else if response.status() == axum::http::StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = Problem::method_not_allowed(allow).render(&id);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    app.metrics.answered(&route, status, elapsed);
    log(&method, &route, status, code, elapsed.as_secs_f64() * 1000.0, &id, probe);
    response
}

fn log(
    method: &Method,
    route: &str,
    status: u16,
    code: Option<&str>,
    ms: f64,
    request_id: &str,
    probe: bool,
) {
    // A method of the client's own making may be anybody's text.
    let method = match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    };
    match status {
        500.. => tracing::error!(method, route, status, code, ms, request_id, "request"),
        400.. => tracing::info!(method, route, status, code, ms, request_id, "request"),
        _ if probe => tracing::trace!(method, route, status, ms, request_id, "request"),
        _ => tracing::debug!(method, route, status, ms, request_id, "request"),
    }
}

/// The client's id if it is harmless in logs and headers, else one of ours.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// Without keys a server on loopback answers only to who addresses it as such, and to no page but its own: otherwise
/// any web page open on the same machine could drive it.
fn guard(app: &AppState, request: &Request, probe: bool) -> Result<(), Problem> {
    if probe || !app.config.guards_loopback() {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).map(HeaderValue::to_str);
    let host = match host {
        Some(Ok(host)) => host.parse::<Authority>().ok(),
        Some(Err(_)) => None,
        None => request.uri().authority().cloned(),
    };
    let host = host.filter(is_loopback).ok_or_else(|| Problem::foreign_origin("Host"))?;
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if origin == Some(host.as_str()) { Ok(()) } else { Err(Problem::foreign_origin("Origin")) }
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A panic in a handler is an answer. The hook of `telemetry` has logged where it was; what it said may quote a text.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::internal().into_response()
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
}
