//! Media types and content codings of bodies: what a request says it sends, and which of ours it takes. The only place
//! that knows their names.

use super::problem::Problem;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/json`.
    Json,
    /// `application/msgpack`: the same object, with the same names of members.
    MessagePack,
    /// `text/plain`: a text alone, in UTF-8.
    Text,
    /// `application/octet-stream`: ids one after the other, little-endian.
    Packed(Width),
    /// `application/x-ndjson`: an object a line.
    Lines,
}

/// How many bits an id takes in a packed body: the parameter `bits` of its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// 16: where asked for, and only for vocabularies whose ids all fit.
    Bits16,
    /// 32, unless said otherwise.
    Bits32,
}

impl Width {
    /// Bytes of an id.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bits16 => 2,
            Self::Bits32 => 4,
        }
    }
}

/// Forms of answers that are objects.
pub(super) const OBJECTS: &[Form] = &[Form::Json, Form::MessagePack];
/// Forms of answers that may also be ids alone.
pub(super) const OBJECTS_OR_IDS: &[Form] =
    &[Form::Json, Form::MessagePack, Form::Packed(Width::Bits32), Form::Packed(Width::Bits16)];
/// Forms of answers that are streams.
pub(super) const LINES: &[Form] = &[Form::Lines];

impl Form {
    /// The `Content-Type` of such an answer.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Text => "text/plain; charset=utf-8",
            Self::Packed(Width::Bits32) => "application/octet-stream",
            Self::Packed(Width::Bits16) => "application/octet-stream; bits=16",
            Self::Lines => "application/x-ndjson",
        })
    }

    /// The form that a media type without its parameters names.
    fn named(kind: &str, width: Width) -> Option<Self> {
        Some(match kind {
            "application/json" => Self::Json,
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Self::MessagePack,
            "text/plain" => Self::Text,
            "application/octet-stream" => Self::Packed(width),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines" => Self::Lines,
            _ => return None,
        })
    }
}

/// What a request's body is; JSON where it does not say, and where it says what `curl -d` says of every body. (A web
/// page may send forms to foreign servers without asking, but an Origin that is not ours was refused before, and a key is
/// nothing that a page may send so.)
///
/// # Errors
/// 415 for what is none of ours, with the `types` that the route takes, and for a charset other than UTF-8.
pub(super) fn sent(headers: &HeaderMap, types: &'static str) -> Result<Form, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Form::Json) };
    if value == "application/json" {
        return Ok(Form::Json);
    }
    let unsupported = |wanted| Problem::unsupported_media_type("Content-Type", wanted);
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let (kind, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let kind = kind.trim();
    if parameter(parameters, "charset").is_some_and(|c| !matches!(c, "utf-8" | "utf8")) {
        return Err(unsupported("UTF-8"));
    }
    let width =
        width(parameters).ok_or_else(|| unsupported("application/octet-stream with bits=16 or bits=32"))?;
    if kind == "application/x-www-form-urlencoded"
        || (kind.starts_with("application/") && kind.ends_with("+json"))
    {
        return Ok(Form::Json);
    }
    Form::named(kind, width).ok_or_else(|| unsupported(types))
}

fn parameter<'p>(parameters: &'p str, name: &str) -> Option<&'p str> {
    let all = parameters.split(';').filter_map(|p| p.split_once('='));
    let mut named = all.filter(|(key, _)| key.trim() == name);
    named.next().map(|(_, value)| value.trim().trim_matches('"'))
}

/// The width that the parameters of a packed body name; `None` for one that there is not.
fn width(parameters: &str) -> Option<Width> {
    match parameter(parameters, "bits") {
        None | Some("32") => Some(Width::Bits32),
        Some("16") => Some(Width::Bits16),
        Some(_) => None,
    }
}

/// What a request takes for an answer: its `Accept`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Accept {
    /// Everything, or nothing was said.
    Any,
    /// These.
    Ranges(Vec<Range>),
}

/// A media range with its weight in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    names: Names,
    weight: u16,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Names {
    /// `*/*`.
    Anything,
    /// `application/*` or `text/*`.
    Kind(&'static str),
    One(Form),
}

impl Accept {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(first) = headers.get(header::ACCEPT) else { return Self::Any };
        if first == "*/*" {
            return Self::Any;
        }
        let mut ranges = Vec::new();
        for (item, weight) in weighted(headers, &header::ACCEPT) {
            let (kind, parameters) = item.split_once(';').unwrap_or((&item, ""));
            let names = match kind.trim() {
                "*/*" => Some(Names::Anything),
                "application/*" => Some(Names::Kind("application")),
                "text/*" => Some(Names::Kind("text")),
                kind => width(parameters).and_then(|width| Form::named(kind, width)).map(Names::One),
            };
            ranges.extend(names.map(|names| Range { names, weight }));
        }
        Self::Ranges(ranges)
    }

    /// The form of those on offer that is liked best; of equals the one named more closely, then the first.
    pub(super) fn best(&self, offers: &[Form]) -> Option<Form> {
        let Self::Ranges(ranges) = self else { return offers.first().copied() };
        let mut best: Option<(u16, u8, Form)> = None;
        for &offer in offers {
            let closest =
                ranges.iter().filter_map(|range| Some((closeness(range.names, offer)?, range.weight)));
            let Some((closeness, weight)) = closest.max_by_key(|(closeness, _)| *closeness) else { continue };
            if weight > 0 && best.is_none_or(|(w, c, _)| (weight, closeness) > (w, c)) {
                best = Some((weight, closeness, offer));
            }
        }
        best.map(|(.., form)| form)
    }
}

fn closeness(names: Names, offer: Form) -> Option<u8> {
    let kind = if offer == Form::Text { "text" } else { "application" };
    match names {
        Names::One(form) => (form == offer).then_some(2),
        // 16 bits are for who asks for them by name.
        _ if offer == Form::Packed(Width::Bits16) => None,
        Names::Kind(name) => (name == kind).then_some(1),
        Names::Anything => Some(0),
    }
}

/// The items of a header's list in lower case, each with its `q` in thousandths.
fn weighted(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = (String, u16)> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|item| {
        let item = item.trim().to_ascii_lowercase();
        let parameters = item.split_once(';').map_or("", |(_, parameters)| parameters);
        let q = parameter(parameters, "q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        let weight = (q.clamp(0.0, 1.0) * 1000.0) as u16;
        (item, weight)
    })
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub(super) fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// How the body of a request is compressed; `None` where it is not.
    ///
    /// # Errors
    /// 415 for a coding that is none of ours, and for more than one.
    pub(super) fn sent(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(first) = all.next() else { return Ok(None) };
        let name = first.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        if name == "identity" && all.next().is_none() {
            return Ok(None);
        }
        let coding = Self::named(&name).filter(|_| all.next().is_none());
        coding
            .map(Some)
            .ok_or_else(|| Problem::unsupported_media_type("Content-Encoding", "gzip, zstd or identity"))
    }

    /// The coding that a request likes best for its answer; `None` for none.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        headers.get(header::ACCEPT_ENCODING)?;
        let mut best: Option<(u16, Self)> = None;
        for (item, weight) in weighted(headers, &header::ACCEPT_ENCODING) {
            let name = item.split(';').next().unwrap_or_default().trim();
            let Some(coding) = Self::named(name) else { continue };
            // zstd of equals: it takes less time and less room.
            let better = best.is_none_or(|(w, _)| weight > w || (weight == w && coding == Self::Zstd));
            if weight > 0 && better {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_form_of_an_answer_is_the_one_liked_best() {
        let check = |accept: &str, expect: Option<Form>| {
            let accept = Accept::of(&headers(header::ACCEPT, accept));
            assert_eq!(accept.best(OBJECTS_OR_IDS), expect, "{accept:?}");
        };
        let (b16, b32) = (Form::Packed(Width::Bits16), Form::Packed(Width::Bits32));
        check("*/*", Some(Form::Json));
        check("application/*", Some(Form::Json));
        check("application/json, text/plain, */*", Some(Form::Json));
        check("text/html, */*;q=0.1", Some(Form::Json));
        check("application/msgpack, */*", Some(Form::MessagePack));
        check("application/x-msgpack;q=0.5, application/json;q=0.4", Some(Form::MessagePack));
        check("application/octet-stream", Some(b32));
        check("Application/Octet-Stream; bits=16", Some(b16));
        check("application/octet-stream;bits=16, application/octet-stream;q=0.9", Some(b16));
        check("application/octet-stream;bits=64", None);
        check("application/json;q=0, */*", Some(Form::MessagePack));
        check("text/html", None);
        check("text/*", None);
        check("", None);
        check("*/*;q=0", None);
        assert_eq!(Accept::of(&HeaderMap::new()).best(LINES), Some(Form::Lines));
    }

    #[test]
    fn the_form_of_a_body_is_what_it_says() {
        let check = |kind: &str, expect: Option<Form>| {
            assert_eq!(sent(&headers(header::CONTENT_TYPE, kind), "").ok(), expect, "{kind}");
        };
        check("application/json; charset=UTF-8", Some(Form::Json));
        check("application/vnd.x+json", Some(Form::Json));
        check("application/x-www-form-urlencoded", Some(Form::Json));
        check("text/plain", Some(Form::Text));
        check("text/plain;charset=\"utf-8\"", Some(Form::Text));
        check("text/plain; charset=latin1", None);
        check("application/octet-stream; bits=16", Some(Form::Packed(Width::Bits16)));
        check("application/octet-stream; bits=8", None);
        check("application/vnd.msgpack", Some(Form::MessagePack));
        check("application/x-ndjson", Some(Form::Lines));
        check("image/png", None);
        check("nonsense", None);
        assert_eq!(sent(&HeaderMap::new(), "").ok(), Some(Form::Json));
    }

    #[test]
    fn codings_are_ours_or_refused() {
        let check = |accept: &str, expect: Option<Coding>| {
            assert_eq!(Coding::accepted(&headers(header::ACCEPT_ENCODING, accept)), expect, "{accept}");
        };
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip;q=1.0, zstd;q=0.5", Some(Coding::Gzip));
        check("zstd;q=0, gzip", Some(Coding::Gzip));
        check("br, identity, *", None);
        assert_eq!(Coding::sent(&headers(header::CONTENT_ENCODING, "GZIP")).ok(), Some(Some(Coding::Gzip)));
        assert_eq!(Coding::sent(&headers(header::CONTENT_ENCODING, "identity")).ok(), Some(None));
        for refused in ["br", "gzip, zstd", "deflate", ""] {
            assert!(Coding::sent(&headers(header::CONTENT_ENCODING, refused)).is_err(), "{refused}");
        }
    }
}
