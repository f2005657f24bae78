//! From a request to a checked type: bodies, query options, path segments. Everything that is refused here is refused
//! with a problem that names the field and never repeats its value.

use super::listen::is_body_timeout;
use super::problem::Problem;
use super::state::AppState;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::error::Error;

/// A JSON body of type `T`. Objects are closed: an unknown or repeated field is an error.
#[derive(Debug)]
pub(super) struct Payload<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<AppState> for Payload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        if let Err(problem) = check_json(request.headers()).and_then(|()| check_encoding(request.headers())) {
            discard(request.into_body()).await;
            return Err(problem);
        }
        let body = read_body(request, app.config.max_body_bytes as u64).await?;
        app.cpu.run(body.len(), move || parse(&body)).await?.map(Payload)
    }
}

/// Query options of type `T`.
#[derive(Debug)]
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads query options.
///
/// # Errors
/// 422 that names the option at fault.
pub(super) fn query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let uri = axum::http::Uri::try_from(format!("/?{query}"))
        .map_err(|_| Problem::invalid("/query", "is not a query"))?;
    let options = axum::extract::Query::try_from_uri(&uri);
    options.map(|axum::extract::Query(options)| options).map_err(|error| {
        let message = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        // Errors of the query's own parser lead with `NAME: `.
        let (key, message) = match message.split_once(": ") {
            Some((key, rest)) if tellable(key).is_some() => (Some(key.to_owned()), rest.to_owned()),
            _ => (None, message),
        };
        let field = named_field(&message).map(str::to_owned).or(key).unwrap_or_default();
        Problem::invalid(format!("/query/{field}"), expectation(&message))
    })
}

/// Path segments of type `T`.
#[derive(Debug)]
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(Problem::invalid("/path", "a segment of the path is not what it must be")),
        }
    }
}

/// The whole body, refused as soon as it is known to be over `limit` bytes.
///
/// # Errors
/// 413, 408 when it comes too slowly, 400 when it is cut off, 415 when it is compressed.
pub(super) async fn read_body(request: Request<Body>, limit: u64) -> Result<Bytes, Problem> {
    check_encoding(request.headers())?;
    let announced = announced_length(request.headers());
    let mut body = request.into_body();
    if announced.is_some_and(|n| n > limit) {
        discard(body).await;
        return Err(Problem::body_too_large(limit));
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let collected = Limited::new(&mut body, most).collect().await;
    match collected {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => {
            let problem = body_error(&*error, limit);
            discard(body).await;
            Err(problem)
        }
    }
}

/// The most of a refused body that is still read.
const DISCARD_BYTES: usize = 64 << 20;

/// Reads on for a moment, keeping nothing: a client that sends its whole body before it reads would otherwise see a
/// reset connection in place of the answer that says what was wrong.
pub(super) async fn discard(mut body: Body) {
    let mut left = DISCARD_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), read).await;
}

/// What an error of reading a body means.
pub(super) fn body_error(error: &(dyn Error + 'static), limit: u64) -> Problem {
    let too_long = |error: &(dyn Error + 'static)| error.is::<LengthLimitError>();
    if std::iter::successors(Some(error), |error| (*error).source()).any(too_long) {
        Problem::body_too_large(limit)
    } else if is_body_timeout(error) {
        Problem::body_timeout()
    } else {
        Problem::body_cut_off()
    }
}

/// `Content-Length`, where there is one.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses compressed bodies.
///
/// # Errors
/// 415.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Problem::unsupported_media_type("Content-Encoding", "identity"))
        }
        _ => Ok(()),
    }
}

/// A body without a type is taken as JSON, and so is what `curl -d` says of every body. (A web page may send forms to
/// foreign servers without asking, but a Host or Origin that is not ours was refused before this.)
fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    let (kind, parameters) = kind.split_once(';').unwrap_or((&kind, ""));
    let kind = kind.trim();
    let charset = parameters.split(';').find_map(|p| p.trim().strip_prefix("charset="));
    if charset.is_some_and(|c| !matches!(c.trim_matches('"'), "utf-8" | "utf8")) {
        return Err(Problem::unsupported_media_type("Content-Type", "UTF-8"));
    }
    let json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if json || kind == "application/x-www-form-urlencoded" {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type("Content-Type", "application/json"))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|e| Problem::invalid_utf8(e.valid_up_to()))?;
    // serde reads an array as the fields in their order: that order is no part of the contract.
    if text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('[') {
        return Err(Problem::invalid("", "must be an object"));
    }
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Parses again, slower, to learn where the fault lies.
fn explain<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    // A number where one of several words belongs is reported in the same way as what is no value at all.
    let is_json = || {
        error.to_string().starts_with("expected value")
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    };
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io if !is_json() => {
            Problem::bad_json(error.line(), error.column())
        }
        _ => {
            let mut parser = serde_json::Deserializer::from_str(text);
            let Err(located) = serde_path_to_error::deserialize::<_, T>(&mut parser) else {
                return Problem::internal();
            };
            let message = located.inner().to_string();
            let mut pointer = pointer(located.path());
            if let Some(field) =
                named_field(&message).filter(|field| !pointer.ends_with(&format!("/{field}")))
            {
                pointer = format!("{pointer}/{field}");
            }
            Problem::invalid(pointer, expectation(&message))
        }
    }
}

/// A JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => match tellable(key) {
                Some(key) => pointer.push_str(&format!("/{key}")),
                None => break,
            },
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// The field that a message of serde's is about: missing, unknown or repeated.
fn named_field(message: &str) -> Option<&str> {
    let leads = ["missing field `", "unknown field `", "duplicate field `"];
    let rest = leads.iter().find_map(|lead| message.strip_prefix(lead))?;
    tellable(rest.split('`').next()?)
}

/// A key may be told if it looks like a field's name; anything else may be somebody's text.
fn tellable(key: &str) -> Option<&str> {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    (plain && !key.is_empty() && key.len() <= 40).then_some(key)
}

/// What serde expected, without the value that it found instead.
fn expectation(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    if message.starts_with("missing field") {
        return "is required".to_owned();
    }
    if message.starts_with("duplicate field") {
        return "is given twice".to_owned();
    }
    let lead = if message.starts_with("unknown field") { "is not a field here; it " } else { "" };
    match message.rfind(", expected ") {
        Some(at) => format!("{lead}must be {}", in_words(&message[at + ", expected ".len()..])),
        None if !lead.is_empty() => "is not a field here".to_owned(),
        // Errors of our own types (names, refs, digests) state their rule and hold no value.
        None if ["a ", "an ", "the "].iter().any(|article| message.starts_with(article)) => {
            message.to_owned()
        }
        None => "is not what it must be".to_owned(),
    }
}

/// Rust's names of types in words that a client knows.
fn in_words(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 to 18446744073709551615",
        "a sequence" => "an array",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Thing {
        text: String,
        #[serde(default)]
        ids: Vec<u32>,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
    }

    #[track_caller]
    fn check(body: &str, status: u16, expect: &str) {
        let problem = parse::<Thing>(body.as_bytes()).unwrap_err();
        let text = format!("{problem:?}");
        assert!(!text.contains("SECRET"), "{text}");
        assert_eq!(problem.status().as_u16(), status, "{text}");
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn faults_are_told_by_field_and_never_by_value() {
        check(r#"{"text":5}"#, 422, r#"detail: "must be a string", pointer: Some("/text")"#);
        check(
            r#"{"text":"a","ids":[1,"SECRET"]}"#,
            422,
            r#"detail: "must be a whole number from 0 to 4294967295", pointer: Some("/ids/1")"#,
        );
        check(r#"{"text":"a","ids":[1,-1]}"#, 422, r#"pointer: Some("/ids/1")"#);
        check(r#"{"text":"a","ids":[5000000000]}"#, 422, r#"pointer: Some("/ids/0")"#);
        check(r#"{"ids":[]}"#, 422, r#"detail: "is required", pointer: Some("/text")"#);
        check(r#"{"text":"a","txet":"SECRET"}"#, 422, r#"pointer: Some("/txet")"#);
        check(r#"{"text":"a","SECRET, expected x":1}"#, 422, "is not a field here");
        check(r#"{"text":"a","text":"b"}"#, 422, r#"detail: "is given twice", pointer: Some("/text")"#);
        check(r#"{"text":"a","kind":"SECRET"}"#, 422, "must be `one` or `two`");
        check(r#"{"text":"SECRET","kind":1}"#, 422, r#"pointer: Some("/kind")"#);
        check(r#""SECRET, expected y""#, 422, "must be an object");
        check(r#" ["SECRET",[1],"one"]"#, 422, "must be an object");
    }

    #[test]
    fn what_is_not_json_is_told_by_its_place() {
        check(r#"{"text":"SECRET"#, 400, "bad_json");
        check(r#"{"text":"\ud800"}"#, 400, "bad_json");
        check(r#"{"text":"a"} SECRET"#, 400, "bad_json");
        check("", 400, "bad_json");
        let problem = parse::<Thing>(b"{\"text\":\"a\xff\"}").unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (400, "invalid_utf8"));
    }

    #[test]
    fn nesting_without_end_is_refused_and_harmless() {
        for body in ["[".repeat(100_000), r#"{"text":"#.to_owned() + &"[".repeat(100_000)] {
            let status = parse::<Thing>(body.as_bytes()).unwrap_err().status().as_u16();
            assert!(status == 400 || status == 422);
        }
    }
}
