//! What templates find: filters, tests, functions, and the limits of one rendering.
//!
//! The names are Jinja2's and those that transformers adds. What only minijinja has is taken out, and filters whose
//! results differ from Jinja2's, or which would turn a list into text without paying for it, are replaced.

use super::python::{self, JsonStyle};
use super::{Json, MAX_DEPTH, MAX_RECURSION, MAX_STEPS, methods};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ObjectRepr, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use std::sync::LazyLock;

/// The variable that holds the characters which mark names of special tokens. No template can name it.
pub(super) const MARKS: &str = " marks";

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
pub(super) struct Raised(pub String);

/// A value with more levels than may be kept.
#[derive(Debug, thiserror::Error)]
#[error("a value is too deep")]
pub(super) struct TooDeep;

impl From<TooDeep> for Error {
    fn from(error: TooDeep) -> Self {
        Self::new(ErrorKind::InvalidOperation, "").with_source(error)
    }
}

/// Longest format of `strftime_now`, in bytes.
const MAX_TIME_FORMAT: usize = 256;
/// Most spaces of one level of indentation.
const MAX_INDENT: usize = 64;

/// The environment of all templates. It holds none of them.
pub(super) fn shared() -> &'static Environment<'static> {
    static SHARED: LazyLock<Environment<'static>> = LazyLock::new(make);
    &SHARED
}

fn make() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.unwrap_or_default());
    env.set_auto_escape_callback(|_| AutoEscape::None);
    // Debug information would hold parts of messages.
    env.set_debug(false);
    env.set_fuel(Some(MAX_STEPS));
    env.set_recursion_limit(MAX_RECURSION);
    env.set_formatter(|out, state, value| {
        match value.as_str() {
            Some(text) => out.write_str(text),
            None if value.is_undefined() => Ok(()),
            None => out.write_str(&python::text(state, value)?),
        }
        .map_err(Error::from)
    });
    env.set_unknown_method_callback(methods::call);
    for name in ["bool", "chain", "lines", "pprint", "split", "zip"] {
        env.remove_filter(name);
    }
    env.remove_global("debug");

    env.add_filter("tojson", tojson);
    env.add_filter("string", |state: &State<'_, '_>, value: &Json| text_of(state, value));
    env.add_filter("trim", |state: &State<'_, '_>, value: &Json, chars: Option<&str>| {
        Ok::<_, Error>(methods::strip(&python::text(state, value)?, chars, true, true).to_owned())
    });
    env.add_filter("upper", |state: &State<'_, '_>, value: &Json| {
        Ok::<_, Error>(python::text(state, value)?.to_uppercase())
    });
    env.add_filter("lower", |state: &State<'_, '_>, value: &Json| {
        Ok::<_, Error>(python::text(state, value)?.to_lowercase())
    });
    env.add_filter("title", |state: &State<'_, '_>, value: &Json| {
        Ok::<_, Error>(title(&python::text(state, value)?))
    });
    env.add_filter("capitalize", |state: &State<'_, '_>, value: &Json| {
        methods::capitalize(state, &text_of(state, value)?)
    });
    env.add_filter("escape", escape);
    env.add_filter("e", escape);
    // Nothing is escaped by itself, so nothing is told from what is safe.
    env.add_filter("safe", |state: &State<'_, '_>, value: &Json| text_of(state, value));
    env.add_filter("join", join);
    env.add_filter("indent", indent);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("_kept", |state: &State<'_, '_>, value: Json| kept(state, value, true));
    env.add_filter("_stored", |state: &State<'_, '_>, value: Json| kept(state, value, false));
    env.add_filter("_text", |state: &State<'_, '_>, value: Json| match value.as_object() {
        Some(_) => text_of(state, &value),
        None => Ok(value),
    });
    env.add_filter("_sized", |state: &State<'_, '_>, value: Json| {
        measure(state, &value, true)?;
        Ok::<_, Error>(value)
    });
    env.add_filter("_scalar", |value: Json| {
        let list = value.as_object().is_some_and(|o| o.repr() != ObjectRepr::Map);
        let refused =
            || Error::new(ErrorKind::InvalidOperation, "lists cannot be repeated in a chat template");
        if list { Err(refused()) } else { Ok(value) }
    });

    env.add_test("sequence", |value: &Json| {
        let indexed = matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map);
        indexed || value.is_undefined() || (value.kind() == ValueKind::Iterable && value.len().is_some())
    });
    env.add_test("callable", |value: &Json| value.kind() == ValueKind::Plain);

    env.add_function("raise_exception", |state: &State<'_, '_>, message: &Json| {
        let raised = Raised(python::text(state, message)?);
        Err::<Json, Error>(Error::new(ErrorKind::InvalidOperation, "").with_source(raised))
    });
    env.add_function("strftime_now", strftime_now);
    env
}

fn text_of(state: &State<'_, '_>, value: &Json) -> Result<Json, Error> {
    if value.as_str().is_some() { Ok(value.clone()) } else { python::text(state, value).map(Json::from) }
}

/// The local time. The formats are those of C; what they do not have is an error.
fn strftime_now(format: &str) -> Result<String, Error> {
    let refused = || Error::new(ErrorKind::InvalidOperation, "no format of a time");
    if format.len() > MAX_TIME_FORMAT {
        return Err(refused());
    }
    jiff::fmt::strtime::format(format, &jiff::ZonedDateTime::now()).map_err(|_| refused())
}

/// As transformers defines it: plain `json.dumps`, nothing escaped for HTML.
fn tojson(
    state: &State<'_, '_>,
    value: &Json,
    ensure_ascii: Option<bool>,
    indent: Option<Json>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(given) => given,
        None => kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match indent {
        Some(given) => Some(given),
        None => kwargs.get::<Option<Json>>("indent")?,
    };
    let separators = kwargs.get::<Option<Json>>("separators")?;
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let indent = indent.filter(|given| !given.is_none()).map(|given| indentation(&given)).transpose()?;
    let separators = match separators.filter(|given| !given.is_none()) {
        None => None,
        Some(pair) => {
            let parts: Vec<Json> = pair.try_iter()?.take(3).collect();
            match parts.iter().map(Json::as_str).collect::<Vec<_>>()[..] {
                [Some(comma), Some(colon)] => Some((comma.to_owned(), colon.to_owned())),
                _ => return Err(Error::new(ErrorKind::InvalidOperation, "no separators of JSON")),
            }
        }
    };
    python::dumps(state, value, &JsonStyle { ensure_ascii, indent, separators, sort_keys })
}

/// As markupsafe escapes.
fn escape(state: &State<'_, '_>, value: &Json) -> Result<String, Error> {
    let text = python::text(state, value)?;
    // A character becomes at most six.
    state.consume_fuel(text.len() as u64 / 8)?;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// Words begin behind white space and some marks, not behind every other character as in `str.title`.
fn title(text: &str) -> String {
    let parts = |c: char| methods::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let (mut made, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let end = if parts(first) { first.len_utf8() } else { rest.find(parts).unwrap_or(rest.len()) };
        made.extend(first.to_uppercase());
        made.push_str(&rest[first.len_utf8()..end].to_lowercase());
        rest = &rest[end..];
    }
    made
}

/// `int`, or the default where there is no number.
fn int(value: &Json, default: Option<Json>, base: Option<u32>, kwargs: Kwargs) -> Result<Json, Error> {
    let default = match default {
        Some(given) => given,
        None => kwargs.get::<Option<Json>>("default")?.unwrap_or_else(|| 0.into()),
    };
    let base = match base {
        Some(given) => given,
        None => kwargs.get::<Option<u32>>("base")?.unwrap_or(10),
    };
    kwargs.assert_all_used()?;
    let truncated = |float: f64| float.is_finite().then(|| Json::from(float as i128));
    Ok(match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            let digits = methods::strip(text, None, true, true).replace('_', "");
            let (negative, digits) = match digits.strip_prefix(['-', '+']) {
                Some(rest) => (digits.starts_with('-'), rest.to_owned()),
                None => (false, digits),
            };
            let digits = match base {
                16 => digits.trim_start_matches("0x"),
                8 => digits.trim_start_matches("0o"),
                2 => digits.trim_start_matches("0b"),
                _ => &digits,
            };
            let whole = (2..=36).contains(&base).then(|| i128::from_str_radix(digits, base).ok()).flatten();
            let whole = whole.filter(|_| !digits.starts_with(['-', '+']));
            whole
                .map(|whole| Json::from(if negative { -whole } else { whole }))
                .or_else(|| as_number(text).and_then(truncated))
                .unwrap_or(default)
        }
        (None, ValueKind::Bool) => i64::from(value.is_true()).into(),
        (None, ValueKind::Number) => {
            python::as_float(value).map_or_else(|| value.clone(), |float| truncated(float).unwrap_or(default))
        }
        _ => default,
    })
}

/// `float`, or the default where there is no number.
fn float(value: &Json, default: Option<Json>, kwargs: Kwargs) -> Result<Json, Error> {
    let default = match default {
        Some(given) => given,
        None => kwargs.get::<Option<Json>>("default")?.unwrap_or_else(|| 0.0.into()),
    };
    kwargs.assert_all_used()?;
    Ok(match (value.as_str(), value.kind()) {
        (Some(text), _) => as_number(text).map_or(default, Json::from),
        (None, ValueKind::Bool) => f64::from(u8::from(value.is_true())).into(),
        (None, ValueKind::Number) => f64::try_from(value.clone()).map_or(default, Json::from),
        _ => default,
    })
}

/// A number as Python's `float` reads it.
fn as_number(text: &str) -> Option<f64> {
    methods::strip(text, None, true, true).replace('_', "").parse().ok()
}

/// Jinja2's own: lines end wherever Python ends them, and are joined by line feeds.
fn indent(
    state: &State<'_, '_>,
    value: &Json,
    width: Option<Json>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(given) => Some(given),
        None => kwargs.get::<Option<Json>>("width")?,
    };
    let first = match first {
        Some(given) => given,
        None => kwargs.get::<Option<bool>>("first")?.unwrap_or(false),
    };
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let unit = match &width {
        None => " ".repeat(4),
        Some(given) => indentation(given)?,
    };
    let text = python::text(state, value)? + "\n";
    let lines = methods::lines(state, &text)?;
    state.consume_fuel((lines.len() * unit.len() + text.len()) as u64 / 64)?;
    let mut indented = String::new();
    for (at, (line, _)) in lines.into_iter().enumerate() {
        indented.push_str(if at > 0 { "\n" } else { "" });
        let wanted = if at == 0 { first } else { blank || !line.is_empty() };
        indented.push_str(if wanted { &unit } else { "" });
        indented.push_str(line);
    }
    Ok(indented)
}

/// So many spaces, or the text itself.
fn indentation(given: &Json) -> Result<String, Error> {
    match (given.as_str(), given.as_i64()) {
        (Some(text), _) if text.len() <= MAX_INDENT => Ok(text.to_owned()),
        (None, Some(width)) if width <= MAX_INDENT as i64 => {
            Ok(" ".repeat(usize::try_from(width).unwrap_or(0)))
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, "no indentation")),
    }
}

fn join(
    state: &State<'_, '_>,
    value: &Json,
    separator: Option<&str>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let separator = match separator {
        Some(given) => given,
        None => kwargs.get::<Option<&str>>("d")?.unwrap_or_default(),
    };
    let attribute = match attribute {
        Some(given) => Some(given),
        None => kwargs.get::<Option<&str>>("attribute")?,
    };
    kwargs.assert_all_used()?;
    let mut joined = String::new();
    for (at, item) in value.try_iter()?.enumerate() {
        let item = match attribute {
            Some(path) => path.split('.').try_fold(item, |item, part| item.get_attr(part))?,
            None => item,
        };
        if at > 0 {
            joined.push_str(separator);
        }
        let text = text_of(state, &item)?;
        let text = text.as_str().unwrap_or_default();
        state.consume_fuel(1 + (text.len() + separator.len()) as u64 / 64)?;
        joined.push_str(text);
    }
    Ok(joined)
}

/// What a variable is set to: not too deep, and without lazy lists, which are as deep as there are steps in their making.
fn kept(state: &State<'_, '_>, value: Json, namespaces: bool) -> Result<Json, Error> {
    measure(state, &value, namespaces)?;
    match value.kind() {
        ValueKind::Iterable => Ok(value.try_iter()?.collect::<Vec<Json>>().into()),
        _ => Ok(value),
    }
}

/// Pays for every item of a value, however often it is in it, and for the bytes of its texts.
fn measure(state: &State<'_, '_>, value: &Json, namespaces: bool) -> Result<(), Error> {
    let mut open = vec![(value.clone(), 0)];
    while let Some((value, depth)) = open.pop() {
        if let Some(text) = value.as_str() {
            // The text itself was paid for when it was made.
            if depth > 0 {
                state.consume_fuel(text.len() as u64 / 64)?;
            }
            continue;
        }
        let Some(object) = value.as_object() else { continue };
        let is_namespace = object.type_name().ends_with("::Namespace");
        // A namespace can only be the value of a variable, or inside of what is: no circle goes through it.
        if depth > MAX_DEPTH || (is_namespace && !namespaces) {
            return Err(TooDeep.into());
        }
        match object.repr() {
            ObjectRepr::Map => {
                for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                    state.consume_fuel(1)?;
                    open.extend([(key, depth + 1), (item, depth + 1)]);
                }
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                for item in object.try_iter().into_iter().flatten() {
                    state.consume_fuel(1)?;
                    open.push((item, depth + 1));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
