//! Answers: bodies in the form that the request takes, and the headers that name the version which made them.

use super::coding;
use super::extract::packed;
use super::media::{Accept, Coding, Form, OBJECTS, Width};
use super::problem::Problem;
use super::state::AppState;
use crate::engine::TokenId;
use crate::jobs::VocabTriple;
use crate::registry::{Loaded, VersionFacts};
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::sync::Arc;

pub(super) mod json;

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Json<T>(pub StatusCode, pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut response = (self.0, to_json(&self.1)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, Form::Json.content_type());
        response
    }
}

/// The body of an answer of the encode side.
pub(super) trait Answer: Serialize {
    /// Writes it as JSON; what is written often has a quicker way than serde's, which gives the same.
    fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("answers have string keys and finite numbers");
    }

    /// Writes its ids packed, where it has any.
    fn write_packed(&self, _width: Width, _out: &mut Vec<u8>) {}

    /// Whether something was cut off, which packed bodies have no room to say.
    fn truncated(&self) -> bool {
        false
    }
}

/// How a request wants its answer: `If-Match`, `Accept`, `Accept-Encoding`.
#[derive(Debug)]
pub(super) struct Ask {
    if_match: Option<HeaderValue>,
    accept: Accept,
    coding: Option<Coding>,
    compress_from: usize,
}

impl FromRequestParts<AppState> for Ask {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Self::Rejection> {
        let headers = &parts.headers;
        let compress_from = app.config.compress_min_bytes;
        Ok(Self {
            if_match: headers.get(header::IF_MATCH).cloned(),
            accept: Accept::of(headers),
            coding: Coding::accepted(headers).filter(|_| compress_from > 0),
            compress_from,
        })
    }
}

impl Ask {
    /// The form of an answer by this version, of those on offer.
    ///
    /// # Errors
    /// 412 where `If-Match` names another version, 406 where no form is taken.
    pub(super) fn settle(&self, loaded: &Loaded, offers: &[Form]) -> Result<Settled, Problem> {
        if let Some(wanted) = &self.if_match
            && !matches(wanted, &loaded.told.digest)
        {
            return Err(Problem::vocab_changed(&loaded.told.digest));
        }
        let fits = |form: &Form| {
            *form != Form::Packed(Width::Bits16) || loaded.tokenizer.vocab_size() <= usize::from(u16::MAX) + 1
        };
        self.choose(offers, fits)
    }

    /// The form of an object that no single version makes.
    ///
    /// # Errors
    /// 406 where no form is taken.
    pub(super) fn settle_alone(&self) -> Result<Settled, Problem> {
        self.choose(OBJECTS, |_| true)
    }

    fn choose(&self, offers: &[Form], fits: impl Fn(&Form) -> bool) -> Result<Settled, Problem> {
        let form = self.accept.best(offers).filter(&fits);
        let form = form.or_else(|| {
            let rest: Vec<Form> = offers.iter().copied().filter(&fits).collect();
            self.accept.best(&rest)
        });
        let form = form.ok_or_else(|| Problem::not_acceptable(what_there_is(offers)))?;
        Ok(Settled { form, coding: self.coding, compress_from: self.compress_from })
    }
}

fn what_there_is(offers: &[Form]) -> &'static str {
    if offers.contains(&Form::Lines) {
        "the answer is application/x-ndjson"
    } else if offers.contains(&Form::Packed(Width::Bits32)) {
        "the answer is application/json, application/msgpack or application/octet-stream; the last with bits=16 where all \
         ids of the vocabulary are below 65536"
    } else {
        "the answer is application/json or application/msgpack"
    }
}

/// The form of an answer, once the version is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) form: Form,
    pub(super) coding: Option<Coding>,
    compress_from: usize,
}

impl Settled {
    /// Whether the answer is ids and nothing else.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.form, Form::Packed(_))
    }

    /// Writes the body; meant to run where the work ran.
    pub(super) fn made(&self, loaded: &Loaded, answer: &impl Answer) -> Made {
        self.alone(answer).by_version(loaded)
    }

    /// The same where no single version made it.
    pub(super) fn alone(&self, answer: &impl Answer) -> Made {
        let mut body = Vec::new();
        match self.form {
            Form::MessagePack => rmp_serde::encode::write_named(&mut body, answer)
                .expect("answers have members that MessagePack knows"),
            Form::Packed(width) => answer.write_packed(width, &mut body),
            Form::Json | Form::Text | Form::Lines => answer.write_json(&mut body),
        }
        let small = self.coding.filter(|_| body.len() >= self.compress_from);
        let small = small.and_then(|coding| Some((coding, coding::encode(coding, &body)?)));
        let coding = small.as_ref().map(|(coding, _)| *coding);
        let mut made = self.headed(Body::from(small.map_or(body, |(_, small)| small)), coding);
        if self.is_packed() {
            let truncated = if answer.truncated() { "true" } else { "false" };
            made.0.headers_mut().insert(TRUNCATED, HeaderValue::from_static(truncated));
        }
        made
    }

    /// A body with the headers that belong to it.
    pub(super) fn headed(&self, body: Body, coding: Option<Coding>) -> Made {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.reserve(6);
        headers.insert(header::CONTENT_TYPE, self.form.content_type());
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, coding.name());
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        Made(response)
    }
}

/// Names the version that made an answer.
const VOCAB: HeaderName = HeaderName::from_static("vocab");
/// Whether `max_tokens` cut something off, for bodies that are ids and nothing else.
const TRUNCATED: HeaderName = HeaderName::from_static("truncated");

/// An answer of the encode side; one that a single version made names it in its headers.
#[derive(Debug)]
pub(super) struct Made(Response);

impl Made {
    /// Names the version that made it.
    pub(super) fn by_version(mut self, loaded: &Loaded) -> Self {
        for (name, value) in [(VOCAB, &loaded.told.version), (header::ETAG, &loaded.told.etag)] {
            if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
                self.0.headers_mut().insert(name, value);
            }
        }
        self
    }

    /// A JSON body, whatever the request takes.
    pub(super) fn by(facts: &VersionFacts, body: &impl Serialize) -> Self {
        let mut response = Json(StatusCode::OK, body).into_response();
        name_version(response.headers_mut(), facts);
        Self(response)
    }
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        self.0
    }
}

/// The member `vocab` of an answer: the version that made it.
#[derive(Debug, Clone)]
pub(super) struct Maker(pub(super) Arc<Loaded>);

impl Serialize for Maker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Member by member as `VocabTriple` has them.
        let mut triple = serializer.serialize_struct("VocabTriple", 3)?;
        triple.serialize_field("name", self.0.facts.name.as_str())?;
        triple.serialize_field("version", &self.0.facts.version)?;
        triple.serialize_field("digest", &self.0.told.digest)?;
        triple.end()
    }
}

impl utoipa::PartialSchema for Maker {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        VocabTriple::schema()
    }
}

impl utoipa::ToSchema for Maker {
    fn name() -> std::borrow::Cow<'static, str> {
        VocabTriple::name()
    }
}

/// Appends a packed batch: n, n counts, the ids of all.
pub(super) fn write_packed_batch<'i>(
    all: impl ExactSizeIterator<Item = &'i [TokenId]> + Clone,
    width: Width,
    out: &mut Vec<u8>,
) {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let ids: usize = all.clone().map(<[TokenId]>::len).sum();
    out.reserve(4 + 4 * all.len() + ids * width.bytes());
    out.extend(number(all.len()));
    out.extend(all.clone().flat_map(|ids| number(ids.len())));
    all.for_each(|ids| packed::write(ids, width, out));
}

/// Sets `Vocab` and `ETag`.
pub(super) fn name_version(headers: &mut HeaderMap, facts: &VersionFacts) {
    let version = format!("{}@{}", facts.name, facts.version);
    for (name, value) in [(VOCAB, version), (header::ETAG, format!("\"{}\"", facts.digest))] {
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
    if matches(wanted, &digest) { Ok(()) } else { Err(Problem::vocab_changed(&digest)) }
}

fn matches(if_match: &HeaderValue, digest: &str) -> bool {
    if_match.to_str().is_ok_and(|tags| tags.split(',').map(tag).any(|tag| tag == "*" || tag == digest))
}

/// An entity tag without its quotes, which people who type these by hand leave out.
pub(super) fn tag(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have string keys and finite numbers")
}
