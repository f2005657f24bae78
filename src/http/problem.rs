//! Error answers (RFC 9457): the only place that knows status codes.
//!
//! A problem tells what is wrong, which field and which limit; it never repeats text from a request. The request id
//! is added by the outermost layer, which renders every problem (see `layers.rs`).

use super::compat::Dialect;
use super::reply::Json;
use crate::keys::{Refused, Scope};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

mod causes;

/// What went wrong with a request. Boxed, as every handler's result has room for one.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    pointer: Option<String>,
    more: Map<String, Value>,
    retry_after: Option<u64>,
    allow: Option<HeaderValue>,
}

/// The body of an error answer, `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`: `code` is what programs look at.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The status.
    #[schema(example = 422)]
    status: u16,
    /// A stable word for programs.
    #[schema(example = "invalid_field")]
    code: &'static str,
    /// The same for people.
    #[schema(example = "must be at least 1")]
    detail: String,
    /// JSON pointer to the field at fault; for what is not in the body `/query/NAME`, `/path/NAME`, `/header/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/max_tokens")]
    pointer: Option<String>,
    /// The id of this request, as in the `x-request-id` header and the logs.
    request_id: String,
    /// Further members by `code`: `limit`, `near`, `known`, `line`, `offset`, ...
    #[serde(flatten)]
    #[schema(value_type = Object)]
    more: Map<String, Value>,
}

/// Seconds after which a client that was sent away may come back.
const RETRY_AFTER: u64 = 1;

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let (detail, more) = (detail.into(), Map::new());
        Self(Box::new(Parts { status, code, detail, pointer: None, more, retry_after: None, allow: None }))
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// The same about the field at `pointer`.
    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    fn retry(mut self) -> Self {
        self.0.retry_after = Some(RETRY_AFTER);
        self
    }

    /// As [`Problem::retry`], after as long as somebody else asks for.
    fn retry_in(mut self, seconds: Option<u64>) -> Self {
        self.0.retry_after = Some(seconds.unwrap_or(RETRY_AFTER));
        self
    }

    /// 400: the body is not JSON.
    pub fn bad_json(line: usize, column: usize) -> Self {
        let detail = format!("the body is not valid JSON at line {line}, column {column}");
        Self::new(StatusCode::BAD_REQUEST, "bad_json", detail).with("line", line).with("column", column)
    }

    /// 400: the body is not UTF-8.
    pub fn invalid_utf8(offset: usize) -> Self {
        let detail = format!("the body is not valid UTF-8 at byte {offset}");
        Self::new(StatusCode::BAD_REQUEST, "invalid_utf8", detail).with("offset", offset)
    }

    /// 400: the body is not `MessagePack`.
    pub fn bad_msgpack() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_msgpack", "the body is not valid MessagePack")
    }

    /// 400: packed ids that are cut off or do not add up.
    pub fn bad_packed(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_packed", detail)
    }

    /// 400: the body cannot be decompressed.
    pub fn bad_coding() -> Self {
        let detail = "the body is not what its Content-Encoding says, or is cut off";
        Self::new(StatusCode::BAD_REQUEST, "bad_coding", detail)
    }

    /// 400: the body is not a form with files.
    pub fn bad_multipart() -> Self {
        let detail = "the body is not valid multipart/form-data";
        Self::new(StatusCode::BAD_REQUEST, "bad_multipart", detail)
    }

    /// 400: the body ended before it was whole.
    pub fn body_cut_off() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body_cut_off", "the body ended before it was whole")
    }

    /// 400: a body that does not say whose request it is.
    pub(super) fn dialect(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "which_dialect", detail)
    }

    /// 401: the route wants a key and the request has none.
    pub(super) fn no_key() -> Self {
        let detail = "a key is wanted: Authorization: Bearer KEY, or x-api-key: KEY";
        Self::new(StatusCode::UNAUTHORIZED, "no_key", detail).at("/header/Authorization")
    }

    /// 401: the key of the request is not one of this server's.
    pub(super) fn unknown_key() -> Self {
        let detail = "the key is not known here";
        Self::new(StatusCode::UNAUTHORIZED, "unknown_key", detail).at("/header/Authorization")
    }

    /// 403: the key of the request is for other things.
    pub(super) fn missing_scope(scope: Scope) -> Self {
        let detail = format!("the key has not the scope {scope}, which this takes");
        Self::new(StatusCode::FORBIDDEN, "missing_scope", detail).with("scope", scope.name())
    }

    /// 403: it is taken where operators are, and they have a listener of their own.
    pub(super) fn operators_only() -> Self {
        let detail = "is taken on the operators' listener only, which is the setting admin_listen";
        Self::new(StatusCode::FORBIDDEN, "operators_only", detail).with("setting", "admin_listen")
    }

    /// 429: a limit of the key is reached.
    pub(super) fn key_limit(refused: &Refused) -> Self {
        let Refused { limit, value, retry_after } = *refused;
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "key_limit", refused.to_string());
        problem.with("setting", limit).with("limit", value).retry_in(Some(retry_after))
    }

    /// 403: the request comes from a page or for a host that this server is not.
    pub fn foreign_origin(header: &'static str) -> Self {
        let detail = format!(
            "the {header} header names another host; without API keys a server answers to no page but its own and those of \
             its setting cors_origins, and on loopback only to localhost"
        );
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", detail)
    }

    /// 403: the server fetches nothing of that kind for its callers until the setting allows it.
    pub fn fetch_not_allowed(pointer: &str, setting: &'static str) -> Self {
        let detail = format!(
            "the server fetches nothing of the kind for its callers unless its setting {setting} allows it \
             (VOCABD_{}); `vocabd import` fetches always",
            setting.to_uppercase()
        );
        Self::new(StatusCode::FORBIDDEN, "fetch_not_allowed", detail).at(pointer).with("setting", setting)
    }

    /// 403: the request brings a template, and the server does not run those.
    pub fn chat_template_not_allowed() -> Self {
        let detail = "templates in requests are not run here unless the setting allow_chat_template is true; the name of \
                      one of the vocabulary's own templates is always taken";
        Self::new(StatusCode::FORBIDDEN, "chat_template_not_allowed", detail).at("/chat_template")
    }

    /// 404: no such route.
    pub fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_route", "there is no such route; /openapi.yaml lists them")
    }

    /// 404: a model that no vocabulary is known for.
    pub fn unknown_model() -> Self {
        let detail =
            "there is no such model: names are those of vocabularies, and those that the setting models has";
        Self::new(StatusCode::NOT_FOUND, "unknown_model", detail).at("/model")
    }

    /// 404: a model that there is no card of.
    pub(super) fn unknown_card(pointer: impl Into<String>, near: &[&str]) -> Self {
        let detail = "there is no card of such a model; /models lists them";
        Self::new(StatusCode::NOT_FOUND, "unknown_model", detail).at(pointer).with("near", near)
    }

    /// 404: no such job or upload.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// 405: the route exists with other methods.
    pub fn method_not_allowed(allow: Option<HeaderValue>) -> Self {
        let detail = "the route does not take this method";
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        problem.0.allow = allow;
        problem
    }

    /// 406: an answer in none of the forms that the request takes.
    pub fn not_acceptable(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail).at("/header/Accept")
    }

    /// 408: the body came too slowly.
    pub fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body came too slowly")
    }

    /// 412: `If-Match` names another version.
    pub fn vocab_changed(digest: &str) -> Self {
        let detail = "the vocabulary is not the one that If-Match names";
        Self::new(StatusCode::PRECONDITION_FAILED, "vocab_changed", detail).with("digest", digest)
    }

    /// 413: a body over its limit.
    pub fn body_too_large(limit: u64) -> Self {
        let detail = format!("the body has over {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).with("limit", limit)
    }

    /// 413: a compressed body that becomes too many times what was sent.
    pub fn body_expands(ratio: usize) -> Self {
        let detail = format!(
            "the body becomes over {ratio} times what was sent when it is decompressed, which is the setting max_decompress_ratio"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_expands", detail).with("limit", ratio)
    }

    /// 413: a line of a stream that is over its limit.
    pub fn line_too_long(limit: usize) -> Self {
        let detail = format!("the line has over {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "line_too_long", detail).with("limit", limit)
    }

    /// 415: a body of another type.
    pub fn unsupported_media_type(header: &'static str, wanted: &'static str) -> Self {
        let detail = format!("{header} must be {wanted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422: a field is missing, unknown or not as it must be.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail).at(pointer)
    }

    /// 422: a list is over its limit.
    pub fn too_many(pointer: impl Into<String>, limit: usize) -> Self {
        Self::invalid(pointer, format!("has over {limit} entries")).with("limit", limit)
    }

    /// 422: a text is over the limit that this route has for it.
    pub fn text_too_long(pointer: impl Into<String>, limit: usize) -> Self {
        let detail = format!("has over {limit} bytes");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "text_too_long", detail).at(pointer).with("limit", limit)
    }

    /// 422: an id that the vocabulary does not have.
    pub fn unknown_id(pointer: String, id: u32) -> Self {
        let detail = "the id is not a token of the vocabulary";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_id", detail).at(pointer).with("id", id)
    }

    /// 422: ids that stand for more bytes than one request may ask for.
    pub fn decoded_too_long(pointer: &str, limit: u64) -> Self {
        let detail =
            format!("makes over {limit} bytes in this request, which is the setting max_decoded_bytes");
        Self::invalid(pointer, detail).with("limit", limit)
    }

    /// 422: decoded bytes are not text, and the request asks for an error then.
    pub fn not_text(pointer: String, offset: usize) -> Self {
        let detail = format!("the decoded bytes are not valid UTF-8 at byte {offset}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "not_utf8", detail).at(pointer).with("offset", offset)
    }

    /// 500: our fault. The cause is logged where it is known; the client gets the request id.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log has more")
    }

    /// 503: as much work waits as may.
    pub fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much work is waiting").retry()
    }

    /// 503: not (or no longer) ready.
    pub fn not_ready(reason: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).retry()
    }

    /// 507: less room than is kept free.
    fn disk_full(detail: String, min_free_bytes: u64) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail)
            .with("min_free_bytes", min_free_bytes)
            .retry()
    }

    /// The same where all fields but `main` stand in the query.
    pub(super) fn in_query(mut self, main: &str) -> Self {
        if let Some(pointer) = &mut self.0.pointer {
            let field = pointer.strip_prefix('/').and_then(|rest| rest.split('/').next());
            if field.is_some_and(|field| field != main && !matches!(field, "query" | "header" | "path")) {
                pointer.insert_str(0, "/query");
            }
        }
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is wrong, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// JSON pointer to the field at fault.
    pub fn pointer(&self) -> Option<&str> {
        self.0.pointer.as_deref()
    }

    /// The stable word.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The same as a member of an answer that goes on: what a body of its own would hold, but for `type`, `title` and
    /// `request_id`.
    pub(super) fn in_line(&self) -> Value {
        let parts = &*self.0;
        let mut told = parts.more.clone();
        told.insert("status".to_owned(), parts.status.as_u16().into());
        told.insert("code".to_owned(), parts.code.into());
        told.insert("detail".to_owned(), parts.detail.clone().into());
        if let Some(pointer) = &parts.pointer {
            told.insert("pointer".to_owned(), pointer.clone().into());
        }
        told.into()
    }

    /// The answer in the shape of another server.
    pub(super) fn render_as(self, dialect: Dialect, request_id: &str) -> Response {
        let (status, body) = dialect.error(&self, request_id);
        let status = StatusCode::from_u16(status).unwrap_or(self.0.status);
        let mut response = Json(status, body).into_response();
        self.0.put_headers(response.headers_mut());
        response
    }

    /// The answer, with the id of the request.
    pub fn render(self, request_id: &str) -> Response {
        let mut parts = *self.0;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        parts.put_headers(&mut headers);
        headers.extend(parts.allow.take().map(|allow| (header::ALLOW, allow)));
        let body = ProblemBody {
            kind: "about:blank",
            title: parts.status.canonical_reason().unwrap_or("Error"),
            status: parts.status.as_u16(),
            code: parts.code,
            detail: parts.detail,
            pointer: parts.pointer,
            request_id: request_id.to_owned(),
            more: parts.more,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        (parts.status, headers, body).into_response()
    }
}

impl Parts {
    /// What a client looks for in the head, whatever the shape of the body.
    fn put_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

/// The layer that knows the request id finds the problem among the extensions and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
