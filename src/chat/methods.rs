//! Methods of Python's strings, lists and dicts, where they differ from those of minijinja-contrib or are missing there.
//!
//! The sandbox of transformers lets no method change a list or a dict, so there is none here either. Whatever makes more
//! than it is given pays before it does.

use super::{Json, python};
use minijinja::value::{StringInput, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;

/// What white space is for Python: `White_Space` of Unicode, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip` and its siblings.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let stripped = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(stripped) } else { text };
    if right { text.trim_end_matches(stripped) } else { text }
}

/// `str.capitalize`.
///
/// # Errors
/// None that a string can cause.
pub(super) fn capitalize(state: &State<'_, '_>, text: &Json) -> Result<Json, Error> {
    StringInput::new(state, text).map(filters::capitalize)
}

/// A method that minijinja itself does not know.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Json,
    method: &str,
    args: &[Json],
) -> Result<Json, Error> {
    let done = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_string(state, text, method, args)?,
        (None, ValueKind::Map) if method == "copy" && args.is_empty() => Some(value.clone()),
        (None, ValueKind::Seq) => match method {
            "copy" if args.is_empty() => Some(value.clone()),
            "index" => Some(position(state, value, args)?),
            _ => None,
        },
        _ => None,
    };
    match done {
        Some(done) => Ok(done),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn position(state: &State<'_, '_>, value: &Json, args: &[Json]) -> Result<Json, Error> {
    let (wanted,): (&Json,) = from_args(args)?;
    for (at, item) in value.try_iter()?.enumerate() {
        state.consume_fuel(1)?;
        if item == *wanted {
            return Ok(at.into());
        }
    }
    Err(Error::new(ErrorKind::InvalidOperation, "the value is not in the list"))
}

fn of_string(state: &State<'_, '_>, text: &str, method: &str, args: &[Json]) -> Result<Option<Json>, Error> {
    let all = |holds: fn(char) -> bool| Json::from(!text.is_empty() && text.chars().all(holds));
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            strip(text, chars, method != "rstrip", method != "lstrip").into()
        }
        "split" | "rsplit" => split(state, text, method == "rsplit", args)?,
        "splitlines" => splitlines(state, text, args)?,
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let at = if method == "partition" { text.find(separator) } else { text.rfind(separator) };
            let none = if method == "partition" { [text, "", ""] } else { ["", "", text] };
            let parts = at.map_or(none, |at| [&text[..at], separator, &text[at + separator.len()..]]);
            Tuple::new(parts.into_iter().map(Json::from).collect()).into()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let missing = || Error::new(ErrorKind::InvalidOperation, "the substring is not there");
            text[..at.ok_or_else(missing)?].chars().count().into()
        }
        "ljust" | "rjust" | "center" | "zfill" => pad(state, text, method, args)?,
        "capitalize" if args.is_empty() => capitalize(state, &text.into())?,
        "casefold" if args.is_empty() => text.to_lowercase().into(),
        "title" if args.is_empty() => title(state, text)?.into(),
        "swapcase" if args.is_empty() => {
            let swapped = text.chars().map(|c| {
                if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() }
            });
            swapped.collect::<String>().into()
        }
        "isspace" if args.is_empty() => all(is_space),
        "isdecimal" if args.is_empty() => all(|c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric())),
        "join" => {
            let (values,): (&Json,) = from_args(args)?;
            let mut joined = String::new();
            for (at, item) in values.try_iter()?.enumerate() {
                // Python joins strings only.
                let item = item.as_str().ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, "an item of join is not a string")
                })?;
                state.consume_fuel(1 + (item.len() + text.len()) as u64 / 64)?;
                joined.push_str(if at > 0 { text } else { "" });
                joined.push_str(item);
            }
            joined.into()
        }
        "format" => {
            // A list as an argument is written out; so it is paid for here.
            for arg in args.iter().filter(|arg| arg.as_object().is_some()) {
                python::text(state, arg)?;
            }
            return Ok(None);
        }
        _ => return Ok(None),
    }))
}

/// Lists of parts take far more memory than the text they come from: each pays its place.
fn pay_parts(state: &State<'_, '_>, parts: usize) -> Result<(), Error> {
    state.consume_fuel(parts as u64)
}

fn split(state: &State<'_, '_>, text: &str, from_right: bool, args: &[Json]) -> Result<Json, Error> {
    use minijinja::value::Kwargs;
    let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(given) => Some(given),
        None => kwargs.get::<Option<&str>>("sep")?,
    };
    let most = match most {
        Some(given) => Some(given),
        None => kwargs.get::<Option<i64>>("maxsplit")?,
    };
    kwargs.assert_all_used()?;
    // Fewer than none means all.
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => {
            pay_parts(state, text.matches(separator).count().min(most))?;
            while parts.len() < most {
                let cut = if from_right { rest.rsplit_once(separator) } else { rest.split_once(separator) };
                let Some((left, right)) = cut else { break };
                parts.push(if from_right { right } else { left });
                rest = if from_right { left } else { right };
            }
            parts.push(rest);
        }
        None => {
            pay_parts(state, text.split(is_space).count().min(most))?;
            while parts.len() < most {
                rest = strip(rest, None, !from_right, from_right);
                let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(at) = cut else { break };
                let space = rest[at..].chars().next().map_or(1, char::len_utf8);
                let (left, right) = (&rest[..at], &rest[at + space..]);
                parts.push(if from_right { right } else { left });
                rest = if from_right { left } else { right };
            }
            // What is left keeps its outer end, as in Python.
            rest = strip(rest, None, !from_right || parts.len() < most, from_right || parts.len() < most);
            if !rest.is_empty() {
                parts.push(rest);
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Json::from).collect::<Vec<Json>>().into())
}

fn splitlines(state: &State<'_, '_>, text: &str, args: &[Json]) -> Result<Json, Error> {
    let (keep,): (Option<bool>,) = from_args(args)?;
    let lines = lines(state, text)?;
    let line = |(line, end): (&str, &str)| {
        if keep == Some(true) { Json::from(format!("{line}{end}")) } else { Json::from(line) }
    };
    Ok(lines.into_iter().map(line).collect::<Vec<Json>>().into())
}

/// Lines as Python tells them, with their ends: also at vertical tabs, form feeds, separators of ASCII, next line, U+2028
/// and U+2029.
pub(super) fn lines<'t>(state: &State<'_, '_>, text: &'t str) -> Result<Vec<(&'t str, &'t str)>, Error> {
    let ends = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    pay_parts(state, text.matches(ends).count())?;
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let end = match rest[at..].chars().next() {
            Some('\r') if rest[at..].starts_with("\r\n") => at + 2,
            end => at + end.map_or(0, char::len_utf8),
        };
        lines.push((&rest[..at], &rest[at..end]));
        rest = &rest[end..];
    }
    Ok(lines)
}

fn pad(state: &State<'_, '_>, text: &str, method: &str, args: &[Json]) -> Result<Json, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(if method == "zfill" { "0" } else { " " });
    let length = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(length);
    if fill.chars().count() != 1 {
        return Err(Error::new(ErrorKind::InvalidOperation, "the fill is not one character"));
    }
    state.consume_fuel((missing as u64).saturating_mul(fill.len() as u64) / 64)?;
    let left = match method {
        "ljust" => 0,
        // Python's own rule for what cannot be halved.
        "center" => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
        _ => missing,
    };
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if method == "zfill" => (&text[..1], digits),
        _ => ("", text),
    };
    Ok(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(missing - left)).into())
}

/// `str.title`: a letter after no letter is in title case, every other one in lower case.
fn title(state: &State<'_, '_>, text: &str) -> Result<String, Error> {
    let (mut made, mut inside) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        if inside {
            made.extend(c.to_lowercase());
        } else if c.is_ascii() {
            made.push(c.to_ascii_uppercase());
        } else {
            made.push_str(capitalize(state, &c.into())?.as_str().unwrap_or_default());
        }
        inside = c.is_lowercase()
            || c.is_uppercase()
            || matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}');
    }
    Ok(made)
}
