//! From a request to a checked type: bodies, query options, path segments. Everything that is refused here is refused
//! with a problem that names the field and never repeats its value.

use super::admission::Room;
use super::coding;
use super::listen::is_body_timeout;
use super::media::{Coding, Form, sent};
use super::metered;
use super::problem::Problem;
use super::state::AppState;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use faults::{expectation, named_field, tellable};
use http_body_util::{BodyExt, LengthLimitError};
use list::{limits, within};
use options::Field;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

mod faults;
pub(super) mod json;
pub(super) mod list;
mod msgpack;
mod options;
pub(super) mod packed;

/// A body that is an object of type `T`: JSON or `MessagePack`. Objects are closed: an unknown or repeated field is an error.
#[derive(Debug)]
pub(super) struct Payload<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<AppState> for Payload<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (form, body) = receive(
            request,
            app,
            |form| matches!(form, Form::Json | Form::MessagePack),
            "application/json or application/msgpack",
        )
        .await?;
        let limits = limits(&app.config);
        app.cpu.run(body.len(), move || within(limits, || object(form, &body))).await?.map(Self)
    }
}

/// A body that is an object of type `T`, or its main field alone with the other fields in the query.
#[derive(Debug)]
pub(super) struct Sent<T, P> {
    /// What was sent.
    pub(super) request: T,
    /// Where its fields stand.
    pub(super) place: Place,
    plain: PhantomData<P>,
}

/// Where the fields of a request stand, but for its main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Body,
    Query,
}

impl Place {
    /// The problem with its pointer leading there; `main` is the field that is always in the body.
    pub(super) fn of(self, problem: Problem, main: &str) -> Problem {
        if self == Self::Query { problem.in_query(main) } else { problem }
    }
}

/// What a body that is no object holds.
pub(super) trait Plain: Send + 'static {
    /// The types that a route with such bodies takes, in words.
    const TYPES: &'static str;
    /// Whether a body is one.
    fn takes(form: Form) -> bool;
    /// The main field.
    ///
    /// # Errors
    /// 400 where the body is not as its type says.
    fn read(form: Form, body: Bytes) -> Result<(&'static str, Field), Problem>;
}

/// `text/plain`: the field `text`.
#[derive(Debug)]
pub(super) struct Text;

impl Plain for Text {
    const TYPES: &'static str = "application/json, application/msgpack or text/plain";

    fn takes(form: Form) -> bool {
        form == Form::Text
    }

    fn read(_: Form, body: Bytes) -> Result<(&'static str, Field), Problem> {
        let text = String::from_utf8(body.into());
        let text = text.map_err(|e| Problem::invalid_utf8(e.utf8_error().valid_up_to()))?;
        Ok(("text", Field::Text(text)))
    }
}

/// Packed ids: the field `ids`.
#[derive(Debug)]
pub(super) struct Ids;

impl Plain for Ids {
    const TYPES: &'static str = "application/json, application/msgpack or application/octet-stream";

    fn takes(form: Form) -> bool {
        matches!(form, Form::Packed(_))
    }

    fn read(form: Form, body: Bytes) -> Result<(&'static str, Field), Problem> {
        Ok(("ids", Field::Ids(packed::ids(&body, packed::width(form))?)))
    }
}

/// A packed batch: the field `ids`.
#[derive(Debug)]
pub(super) struct Batch;

impl Plain for Batch {
    const TYPES: &'static str = "application/json, application/msgpack or application/octet-stream";

    fn takes(form: Form) -> bool {
        matches!(form, Form::Packed(_))
    }

    fn read(form: Form, body: Bytes) -> Result<(&'static str, Field), Problem> {
        Ok(("ids", Field::Batch(packed::batch(&body, packed::width(form))?)))
    }
}

impl<T: DeserializeOwned + Send + 'static, P: Plain> FromRequest<AppState> for Sent<T, P> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let query = request.uri().query().map(str::to_owned);
        let takes = |form| matches!(form, Form::Json | Form::MessagePack) || P::takes(form);
        let (form, body) = receive(request, app, takes, P::TYPES).await?;
        let (plain, size) = (P::takes(form), body.len());
        if let Some(query) = query.as_deref().filter(|query| !plain && !query.is_empty()) {
            // What is ignored in silence is a typing error that nobody finds.
            let name = options::first_name(query);
            return Err(Problem::invalid(
                format!("/query/{name}"),
                "belongs in the body, beside the other fields",
            ));
        }
        let limits = limits(&app.config);
        let read = move || {
            within(limits, || match plain {
                true => options::fields(&query.unwrap_or_default(), Some(P::read(form, body)?)),
                false => object(form, &body),
            })
        };
        let place = if plain { Place::Query } else { Place::Body };
        let request = app.cpu.run(size, read).await??;
        Ok(Self { request, place, plain: PhantomData })
    }
}

/// The body of a request in JSON, decompressed.
///
/// # Errors
/// 415 for another type, and as [`read_body`].
pub(super) async fn whole(request: Request, app: &AppState) -> Result<Bytes, Problem> {
    Ok(receive(request, app, |form| form == Form::Json, "application/json").await?.1)
}

fn object<T: DeserializeOwned>(form: Form, body: &[u8]) -> Result<T, Problem> {
    if form == Form::MessagePack { msgpack::parse(body) } else { json::parse(body) }
}

/// The form of a body and the body itself, decompressed.
async fn receive(
    request: Request,
    app: &AppState,
    takes: impl Fn(Form) -> bool,
    types: &'static str,
) -> Result<(Form, Bytes), Problem> {
    let limit = app.config.max_body_bytes;
    let kind = |headers: &HeaderMap| {
        let form = sent(headers, types)?;
        if !takes(form) {
            return Err(Problem::unsupported_media_type("Content-Type", types));
        }
        Ok((form, Coding::sent(headers)?))
    };
    let (form, coding) = match kind(request.headers()) {
        Ok(kind) => kind,
        Err(problem) => {
            discard(request.into_body()).await;
            return Err(problem);
        }
    };
    let room = request.extensions().get::<Arc<Room>>().cloned();
    let body = collect(request, limit as u64).await?;
    let Some(coding) = coding else { return Ok((form, body)) };
    let limits = coding::Limits { bytes: limit, ratio: app.config.max_decompress_ratio };
    // Never here: few bytes may become many.
    let decoded = app.cpu.run_elsewhere(body.len(), move || coding::decode(coding, limits, &body)).await??;
    if let Some(room) = room {
        room.grow(decoded.len() as u64)?;
    }
    Ok((form, decoded.into()))
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

/// Query options of type `T`, lists among them.
#[derive(Debug)]
pub(super) struct Options<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Options<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        options::fields(parts.uri.query().unwrap_or_default(), None).map(Self)
    }
}

/// The problem of a field that stands in the query.
pub(super) fn query_place(problem: Problem) -> Problem {
    problem.in_query("")
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
    collect(request, limit).await
}

/// The same for a body of any coding.
async fn collect(request: Request<Body>, limit: u64) -> Result<Bytes, Problem> {
    let announced = announced_length(request.headers());
    // What is not announced takes its room as it comes.
    let room = request.extensions().get::<Arc<Room>>().filter(|_| announced.is_none()).cloned();
    let mut body = request.into_body();
    if announced.is_some_and(|n| n > limit) {
        discard(body).await;
        return Err(Problem::body_too_large(limit));
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut whole = Vec::new();
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Err(body_error(&error, limit)),
            None => return Ok(whole.into()),
        };
        if piece.len() > most - whole.len() {
            discard(body).await;
            return Err(Problem::body_too_large(limit));
        }
        if let Some(room) = &room {
            room.grow(piece.len() as u64)?;
        }
        if whole.is_empty() && hyper::body::Body::is_end_stream(&body) {
            // Most bodies come in one piece.
            return Ok(piece);
        }
        if whole.is_empty() {
            // It counts among the bytes in flight, and takes no memory before it is written to; what would be too small is copied.
            whole.reserve_exact(announced.map_or(0, |n| n.min(most as u64) as usize));
        }
        whole.extend_from_slice(&piece);
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
    } else if let Some(refused) = metered::refusal(error) {
        Problem::key_limit(refused)
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
