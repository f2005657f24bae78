//! The messages of OTLP, as far as spans of requests need them. Numbers and types of fields are those of opentelemetry-proto 1.x,
//! which are stable; what is not set here is left out there too.
//!
//! By hand: the usual library brings a second HTTP client and a layer through which every request would go, for these 60 lines.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::traces::Span;

/// `SPAN_KIND_SERVER`.
const SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
/// That the trace is sampled; and for a span with a parent that it is known to be elsewhere.
const SAMPLED: u32 = 1;
const REMOTE_PARENT: u32 = 0x300;

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// The body of an export: `spans` of this process, which calls itself `instance`.
pub(super) fn export(spans: &[Span], instance: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = Resource {
        attributes: vec![
            text("service.name", "vocabd"),
            text("service.version", version),
            text("service.instance.id", instance),
        ],
    };
    let scope = Scope { name: "vocabd".to_owned(), version: version.to_owned() };
    let spans = spans.iter().map(message).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn message(span: &Span) -> SpanMessage {
    let mut attributes = vec![
        text("http.request.method", span.method),
        text("http.route", &span.route),
        attribute("http.response.status_code", Value::Number(span.status.into())),
        text("vocabd.request_id", &span.request_id),
    ];
    attributes.extend(span.code.as_ref().map(|code| text("error.type", code)));
    attributes.extend(span.vocab.as_ref().map(|vocab| text("vocabd.vocab", vocab)));
    SpanMessage {
        trace_id: span.trace.id.to_vec(),
        span_id: span.trace.span.to_vec(),
        parent_span_id: span.trace.parent.map_or_else(Vec::new, |id| id.to_vec()),
        name: format!("{} {}", span.method, span.route),
        kind: SERVER,
        start_time_unix_nano: nanos(span.ended - span.elapsed),
        end_time_unix_nano: nanos(span.ended),
        attributes,
        // What the client did wrong is no error of this server.
        status: (span.status >= 500).then_some(Status { code: ERROR }),
        flags: SAMPLED | if span.trace.parent.is_some() { REMOTE_PARENT } else { 0 },
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::Text(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
