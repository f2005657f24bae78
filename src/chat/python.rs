//! Values as Python writes them: `str`, `repr` and `json.dumps`.
//!
//! Everything here pays fuel while it goes, so that what a list holds many times over cannot be written out without
//! end, and stops at a depth, so that its own recursion is bounded.

use super::environment::{MARKS, TooDeep};
use super::{Json, MAX_DEPTH};
use minijinja::value::{DynObject, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State};
use regex_automata::meta::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

/// Deepest value that is written: what may be kept in a variable, and what one expression may put around it.
const MAX_WRITTEN_DEPTH: usize = 2 * MAX_DEPTH;
/// Bytes that are written for one step.
const BYTES_PER_STEP: usize = 16;

/// How `json.dumps` is told to write.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonStyle {
    /// Whether what is not ASCII becomes `\u` escapes.
    pub ensure_ascii: bool,
    /// What one level is indented by; `None` for one line.
    pub indent: Option<String>,
    /// Between items, and between key and value.
    pub separators: Option<(String, String)>,
    /// Whether keys are sorted.
    pub sort_keys: bool,
}

/// `str(value)`.
///
/// # Errors
/// Out of fuel, or too deep.
pub(super) fn text(state: &State<'_, '_>, value: &Json) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let mut out = Out::new(state);
            out.repr(value, 0)?;
            out.finish()
        }
    }
}

/// `json.dumps(value, ...)`.
///
/// # Errors
/// Out of fuel, too deep, or a value that JSON does not have.
pub(super) fn dumps(state: &State<'_, '_>, value: &Json, style: &JsonStyle) -> Result<String, Error> {
    let mut out = Out::new(state);
    out.json(value, style, 0)?;
    out.finish()
}

/// A float, if the value is one.
pub(super) fn as_float(value: &Json) -> Option<f64> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    }
}

/// What is being written.
struct Out<'s> {
    state: &'s State<'s, 's>,
    text: String,
    /// Bytes of `text` that are paid for.
    paid: usize,
    /// Characters that stay as they are whatever is escaped, see `marks.rs`.
    marks: Option<Json>,
}

impl<'s> Out<'s> {
    fn new(state: &'s State<'_, '_>) -> Self {
        Self { state, text: String::new(), paid: 0, marks: state.lookup(MARKS) }
    }

    fn finish(mut self) -> Result<String, Error> {
        self.pay()?;
        Ok(self.text)
    }

    /// Pays for one item and for what was written since the last time.
    fn pay(&mut self) -> Result<(), Error> {
        let steps = 1 + (self.text.len() - self.paid) / BYTES_PER_STEP;
        self.paid = self.text.len();
        self.state.consume_fuel(steps as u64)
    }

    fn is_mark(&self, c: char) -> bool {
        self.marks.as_ref().and_then(Json::as_str).is_some_and(|marks| marks.contains(c))
    }

    fn enter(&mut self, depth: usize) -> Result<(), Error> {
        if depth > MAX_WRITTEN_DEPTH { Err(TooDeep.into()) } else { self.pay() }
    }

    fn repr(&mut self, value: &Json, depth: usize) -> Result<(), Error> {
        self.enter(depth)?;
        match value.kind() {
            ValueKind::String => self.repr_str(value.as_str().unwrap_or_default()),
            ValueKind::Number => match as_float(value) {
                Some(float) => self.text.push_str(&float_repr(float, "inf", "nan")),
                None => drop(write!(self.text, "{value}")),
            },
            ValueKind::Undefined if depth > 0 => self.text.push_str("Undefined"),
            ValueKind::Undefined | ValueKind::None | ValueKind::Bool => drop(write!(self.text, "{value}")),
            _ => match value.as_object() {
                Some(object) => return self.repr_object(value, object, depth),
                None => drop(write!(self.text, "{value}")),
            },
        }
        Ok(())
    }

    fn repr_object(&mut self, value: &Json, object: &DynObject, depth: usize) -> Result<(), Error> {
        match object.repr() {
            ObjectRepr::Map => {
                self.text.push('{');
                for (at, (key, item)) in object.try_iter_pairs().into_iter().flatten().enumerate() {
                    self.text.push_str(if at > 0 { ", " } else { "" });
                    self.repr(&key, depth + 1)?;
                    self.text.push_str(": ");
                    self.repr(&item, depth + 1)?;
                }
                self.text.push('}');
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                let tuple = value.is_tuple();
                self.text.push(if tuple { '(' } else { '[' });
                let mut items = 0;
                for item in object.try_iter().into_iter().flatten() {
                    self.text.push_str(if items > 0 { ", " } else { "" });
                    self.repr(&item, depth + 1)?;
                    items += 1;
                }
                self.text.push_str(match (tuple, items) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    (false, _) => "]",
                });
            }
            // Macros, loops and functions: nothing that holds values is printed.
            _ => self.text.push_str("<object>"),
        }
        Ok(())
    }

    /// As `repr` of a string: single quotes unless there are only those inside; what cannot be printed is escaped.
    fn repr_str(&mut self, text: &str) {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.text.push(quote);
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                _ if c == quote => self.text.extend(['\\', c]),
                ' '..='~' => self.text.push(c),
                _ if is_printable(c) || self.is_mark(c) => self.text.push(c),
                _ => {
                    let code = u32::from(c);
                    let _ = match code {
                        0..=0xff => write!(self.text, "\\x{code:02x}"),
                        0x100..=0xffff => write!(self.text, "\\u{code:04x}"),
                        _ => write!(self.text, "\\U{code:08x}"),
                    };
                }
            }
        }
        self.text.push(quote);
    }

    fn json(&mut self, value: &Json, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        self.enter(depth)?;
        match value.kind() {
            ValueKind::String => self.json_str(value.as_str().unwrap_or_default(), style.ensure_ascii),
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => match as_float(value) {
                Some(float) => self.text.push_str(&float_repr(float, "Infinity", "NaN")),
                None => drop(write!(self.text, "{value}")),
            },
            ValueKind::Seq | ValueKind::Iterable => self.json_list(value, style, depth)?,
            ValueKind::Map => self.json_object(value, style, depth)?,
            kind => {
                let what = format!("{kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, what));
            }
        }
        Ok(())
    }

    fn json_list(&mut self, value: &Json, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        self.text.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.separate(style, empty, depth + 1);
            empty = false;
            self.json(&item, style, depth + 1)?;
        }
        self.close(']', style, empty, depth);
        Ok(())
    }

    fn json_object(&mut self, value: &Json, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        let pairs = value.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten();
        let mut pairs: Box<dyn Iterator<Item = (Json, Json)>> = Box::new(pairs);
        if style.sort_keys {
            let mut sorted: Vec<(Json, Json)> = pairs.collect();
            // By code points, which is the order of the bytes of UTF-8.
            sorted.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()).then_with(|| a.cmp(b)));
            pairs = Box::new(sorted.into_iter());
        }
        self.text.push('{');
        let mut empty = true;
        for (key, item) in pairs {
            self.separate(style, empty, depth + 1);
            empty = false;
            match (key.as_str(), key.kind()) {
                (Some(key), _) => self.json_str(key, style.ensure_ascii),
                (None, ValueKind::None | ValueKind::Bool | ValueKind::Number) => {
                    self.text.push('"');
                    self.json(&key, style, depth + 1)?;
                    self.text.push('"');
                }
                (None, kind) => {
                    return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is no key in JSON")));
                }
            }
            self.text.push_str(style.separators.as_ref().map_or(": ", |(_, colon)| colon));
            self.json(&item, style, depth + 1)?;
        }
        self.close('}', style, empty, depth);
        Ok(())
    }

    /// What stands before an item.
    fn separate(&mut self, style: &JsonStyle, first: bool, depth: usize) {
        if !first {
            // Without separators of its own, an indented list has no space before the line feed.
            let usual = if style.indent.is_some() { "," } else { ", " };
            self.text.push_str(style.separators.as_ref().map_or(usual, |(comma, _)| comma));
        }
        self.line(style, depth);
    }

    fn close(&mut self, bracket: char, style: &JsonStyle, empty: bool, depth: usize) {
        if !empty {
            self.line(style, depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, style: &JsonStyle, depth: usize) {
        if let Some(indent) = &style.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn json_str(&mut self, text: &str, ensure_ascii: bool) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                ' '..='~' => self.text.push(c),
                _ if c < ' ' || (ensure_ascii && !self.is_mark(c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
fn float_repr(float: f64, infinity: &str, nan: &str) -> String {
    if float.is_nan() {
        return nan.to_owned();
    }
    let sign = if float.is_sign_negative() { "-" } else { "" };
    if float.is_infinite() {
        return format!("{sign}{infinity}");
    }
    // Rust writes the same shortest digits, always as `d.ddde-7`.
    let scientific = format!("{:e}", float.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{exponent_sign}{:02}", exponent.abs());
    }
    let plain = format!("{}", float.abs());
    let point = if plain.contains('.') { "" } else { ".0" };
    format!("{sign}{plain}{point}")
}

/// `str.isprintable` of one character: everything but separators other than the space, controls, formats, surrogates,
/// private and unassigned ones.
fn is_printable(c: char) -> bool {
    static HIDDEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}--\x20]").ok());
    let mut bytes = [0; 4];
    let text: &str = c.encode_utf8(&mut bytes);
    HIDDEN.as_ref().is_none_or(|hidden| !hidden.is_match(text))
}
