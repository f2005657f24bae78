//! Answers: JSON bodies, and the headers that name the version which made them.

use super::problem::Problem;
use crate::registry::VersionFacts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Json<T>(pub StatusCode, pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json_bytes(self.0, to_json(&self.1))
    }
}

/// A JSON answer of the encode side: made by one version, which its headers name.
#[derive(Debug)]
pub(super) struct Made {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Made {
    /// Writes the body; meant to run where the work ran.
    pub(super) fn by(facts: &VersionFacts, body: &impl Serialize) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        name_version(&mut headers, facts);
        Self { headers, body: to_json(body) }
    }
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        let mut response = json_bytes(StatusCode::OK, self.body);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Sets `Vocab` and `ETag`.
pub(super) fn name_version(headers: &mut HeaderMap, facts: &VersionFacts) {
    let version = format!("{}@{}", facts.name, facts.version);
    for (name, value) in [("vocab", version), ("etag", format!("\"{}\"", facts.digest))] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Refuses where `If-Match` does not name the version's digest.
///
/// # Errors
/// 412 with the digest that the vocabulary has.
pub(super) fn check_if_match(headers: &HeaderMap, facts: &VersionFacts) -> Result<(), Problem> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let digest = facts.digest.to_string();
    let matches =
        wanted.to_str().is_ok_and(|tags| tags.split(',').map(tag).any(|tag| tag == "*" || tag == digest));
    if matches { Ok(()) } else { Err(Problem::vocab_changed(&digest)) }
}

/// An entity tag without its quotes, which people who type these by hand leave out.
pub(super) fn tag(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have string keys and finite numbers")
}
