//! From a request to a checked type: bodies, query options, path segments. Everything that is refused here is refused
//! with a problem that names the field and never repeats its value.

use super::admission::{CONTROL_BODY_BYTES, Load, Room};
use super::coding;
use super::media::{Coding, Form, sent};
use super::problem::Problem;
use super::state::AppState;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use body::{TextPieces, Whole, collect};
pub(super) use body::{announced_length, body_error, check_encoding, discard, read_body};
use bytes::Bytes;
use faults::{expectation, named_field, tellable};
use list::{limits, within};
use options::Field;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

mod body;
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
        app.cpu.run(body.len(), move || within(limits, || object(form, &body.into_bytes()))).await?.map(Self)
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
    fn read(form: Form, body: Whole) -> Result<(&'static str, Field), Problem>;
}

/// `text/plain`: the field `text`.
#[derive(Debug)]
pub(super) struct Text;

impl Plain for Text {
    const TYPES: &'static str = "application/json, application/msgpack or text/plain";

    fn takes(form: Form) -> bool {
        form == Form::Text
    }

    fn read(_: Form, body: Whole) -> Result<(&'static str, Field), Problem> {
        Ok(("text", Field::Text(body.into_text()?)))
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

    fn read(form: Form, body: Whole) -> Result<(&'static str, Field), Problem> {
        Ok(("ids", Field::Ids(packed::ids(&body.into_bytes(), packed::width(form))?)))
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

    fn read(form: Form, body: Whole) -> Result<(&'static str, Field), Problem> {
        Ok(("ids", Field::Batch(packed::batch(&body.into_bytes(), packed::width(form))?)))
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
                false => object(form, &body.into_bytes()),
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
    let (_, body) = receive(request, app, |form| form == Form::Json, "application/json").await?;
    Ok(body.into_bytes())
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
) -> Result<(Form, Whole), Problem> {
    let limit = match request.extensions().get::<Load>() {
        Some(Load::Control) => app.config.max_body_bytes.min(CONTROL_BODY_BYTES),
        _ => app.config.max_body_bytes,
    };
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
    let Some(coding) = coding else {
        let body = match form {
            Form::Text => collect(request, limit as u64, TextPieces::default()).await?,
            _ => collect(request, limit as u64, Vec::new()).await?,
        };
        return Ok((form, body));
    };
    let body = collect(request, limit as u64, Vec::new()).await?.into_bytes();
    let limits = coding::Limits { bytes: limit, ratio: app.config.max_decompress_ratio };
    // Never here: few bytes may become many.
    let decoded = app.cpu.run_elsewhere(body.len(), move || coding::decode(coding, limits, &body)).await??;
    if let Some(room) = room {
        room.grow(decoded.len() as u64)?;
    }
    Ok((form, Whole::Bytes(decoded.into())))
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
