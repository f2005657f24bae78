//! Chat templates: messages in, the text that a model reads out, as `apply_chat_template` of transformers makes it.
//!
//! A template is a program that came with a vocabulary, or even with a request, so nothing here trusts it: it reaches no
//! files, no clock but `strftime_now`, no other template; its source, its steps, its output and the depth of what it
//! builds are bounded by the constants below. What it is given are the messages as they came, unknown keys included.
//!
//! Known differences from the reference, none of which a published template was found to depend on: what Jinja2 makes as
//! a generator (`map`, `select`, ...) is a list here, false when it is empty; `x.items` without a call is the value of that
//! key, not the method; values of different types can be compared; lists cannot be repeated with `*`, nor texts formatted
//! with `%`; a whole number beyond 64 bits in the request becomes a float; there are no `varargs` in macros, no blocks, and
//! no filters for web pages (`pprint`, `truncate`, `urlencode`, ...).
//!
//! Where minijinja and Jinja2 differ, the reference decides: `python.rs` has Python's forms of values, `methods.rs` its
//! methods of strings, `environment.rs` the names that templates find, `source.rs` what is changed in a source before it
//! is compiled.

mod conversation;
mod environment;
mod marks;
mod methods;
mod python;
mod source;
#[cfg(test)]
mod tests;

use crate::engine::{ChatTemplates, Tokenizer};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::ops::Range;

pub use conversation::{Chat, ChatParts};
/// A JSON value as templates see it: objects keep the order of their keys, which `tojson` shows.
pub use minijinja::Value as Json;

/// Longest source of a template, in bytes. The longest published ones have about 30,000.
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Most tokens in one tag, strings and commas not counted: the parser and the compiler call themselves once for each
/// link of a chain such as `a + b + c`. Published templates have up to about 60.
pub const MAX_TAG_TOKENS: usize = 400;
/// Deepest brackets in one tag, for the same reason.
pub const MAX_BRACKETS: usize = 32;
/// Deepest nesting of statements, for the same reason.
pub const MAX_NESTING: usize = 64;
/// Most `elif` branches of one `if`, for the same reason.
pub const MAX_ELIFS: usize = 128;
/// Steps of one rendering: instructions, and 64 bytes or two list items made or looked at count as one. About half a
/// second, and at most 256 MiB of values at one time.
pub const MAX_STEPS: u64 = 4_000_000;
/// Longest text that a template may make, in bytes: as much as `/decode` gives.
pub const MAX_OUTPUT_BYTES: usize = 64 << 20;
/// Deepest lists and objects that a template may keep in a variable. Dropping, printing and comparing them recurses;
/// what comes as JSON has at most 128 levels.
pub const MAX_DEPTH: usize = 160;
/// Recursion of macros and loops at run time, in minijinja's units: a macro call costs about 5.
pub const MAX_RECURSION: usize = 200;
/// Longest message of `raise_exception` that is told, in bytes.
const MAX_MESSAGE_BYTES: usize = 500;

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The vocabulary came without templates.
    #[error("the vocabulary has no chat template")]
    NoTemplate,
    /// It has none of that name, or none that is used when no name is given.
    #[error("the vocabulary has no chat template of that name; it has {}", known.join(", "))]
    UnknownTemplate {
        /// The names that it has.
        known: Vec<String>,
    },
    /// The template calls `raise_exception`. The message is cut where it stops to be text of the template's source, as
    /// the rest may be a message's.
    #[error("the chat template refuses these messages: {message}")]
    Raised {
        /// What the template says.
        message: String,
    },
    /// The source is no Jinja, or has something that this program does not know.
    #[error("the chat template has a syntax error in line {line}")]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// The source is over one of the bounds on sources.
    #[error("the chat template has over {limit} {what} in line {line}")]
    SourceTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The most that is allowed.
        limit: usize,
        /// The line, from 1.
        line: usize,
    },
    /// An operation of the template failed: an undefined value, a list where a string belongs.
    #[error("the chat template failed in line {line}: {reason}")]
    Failed {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// The kind of failure. Holds names from the template, never a value.
        reason: String,
    },
    /// The template takes too many steps, recurses too deep, or builds values that are too large or too deep.
    #[error("the chat template takes more work than is allowed ({MAX_STEPS} steps, {MAX_DEPTH} levels)")]
    TooCostly,
    /// The text gets too long.
    #[error("the chat template makes over {MAX_OUTPUT_BYTES} bytes")]
    OutputTooLarge,
    /// Content that is no text: how many tokens it takes is not for a tokenizer to say.
    #[error("{kind} content cannot be counted: only a model's own processor knows its tokens")]
    NotCountable {
        /// JSON pointer to the part.
        pointer: String,
        /// What it is: `image`, `audio`, `video` or `file`.
        kind: &'static str,
    },
    /// A field is not what it must be.
    #[error("{reason}")]
    Invalid {
        /// JSON pointer to the field.
        pointer: String,
        /// What it must be.
        reason: String,
    },
    /// The last message cannot be continued: it has no text, or the template does not repeat it.
    #[error("the final message cannot be continued: {reason}")]
    NotContinuable {
        /// Why.
        reason: &'static str,
    },
}

/// Which template is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub enum Wanted<'a> {
    /// As transformers chooses: `tool_use` where there are tools and such a template, else `default`.
    #[default]
    Usual,
    /// The one of this name.
    Named(&'a str),
    /// This source instead of any.
    Source(&'a str),
}

/// A rendered text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Where names of special tokens from the messages stand in it, in order; empty unless they were asked for. An
    /// empty range is a place where such a name was cut by the template.
    pub plain: Vec<Range<usize>>,
}

/// Renders messages.
///
/// With `plain`, names of that tokenizer's special tokens inside messages, tools, documents and variables are found again
/// in the text; see `marks.rs` for how, and for what a template can notice of it.
///
/// # Errors
/// See [`ChatError`].
pub fn render(
    templates: &ChatTemplates,
    wanted: Wanted<'_>,
    chat: &Chat,
    plain: Option<&Tokenizer>,
) -> Result<Rendered, ChatError> {
    let source = choose(templates, wanted, chat)?;
    render_source(source, &templates.tokens, chat, plain).map_err(|error| match (wanted, error) {
        // What the template says is what the request says.
        (Wanted::Source(_), ChatError::Raised { .. }) => ChatError::Raised { message: "...".to_owned() },
        (Wanted::Source(_), ChatError::Failed { line, reason }) => {
            let reason = reason.split(':').next().unwrap_or_default().to_owned();
            ChatError::Failed { line, reason }
        }
        (_, error) => error,
    })
}

fn render_source(
    source: &str,
    tokens: &BTreeMap<String, String>,
    chat: &Chat,
    plain: Option<&Tokenizer>,
) -> Result<Rendered, ChatError> {
    match plain.map(|tokenizer| marks::Marks::put(tokenizer, chat)).transpose()?.flatten() {
        None => Ok(Rendered { text: run(source, tokens, chat, None)?, plain: Vec::new() }),
        Some((marks, marked)) => Ok(marks.take(&run(source, tokens, &marked, Some(&marks))?)),
    }
}

/// Whether a template's source goes through contents that are arrays: whether it has a loop over something called so.
pub fn reads_parts(source: &str) -> bool {
    let tags = source.split("{%").skip(1).filter_map(|tag| tag.split_once("%}"));
    let mut loops = tags
        .filter_map(|(tag, _)| tag.trim_matches(['-', '+', ' ']).strip_prefix("for ")?.split_once(" in "));
    loops.any(|(_, over)| {
        ["content", "['content']", "[\"content\"]"].iter().any(|end| over.trim().ends_with(end))
    })
}

/// Whether a value is a JSON object.
pub fn is_object(value: &Json) -> bool {
    value.kind() == ValueKind::Map
}

fn choose<'a>(templates: &'a ChatTemplates, wanted: Wanted<'a>, chat: &Chat) -> Result<&'a str, ChatError> {
    let sources = &templates.sources;
    let found = match wanted {
        Wanted::Source(source) => return Ok(source),
        _ if sources.is_empty() => return Err(ChatError::NoTemplate),
        Wanted::Named(name) => sources.get(name),
        Wanted::Usual => {
            let for_tools = if chat.has_tools() { sources.get("tool_use") } else { None };
            for_tools.or_else(|| sources.get("default"))
        }
    };
    found
        .map(String::as_str)
        .ok_or_else(|| ChatError::UnknownTemplate { known: sources.keys().cloned().collect() })
}

/// Compiles and runs. Compiling takes 5 to 90 µs for published templates, so nothing is kept between requests.
fn run(
    source: &str,
    tokens: &BTreeMap<String, String>,
    chat: &Chat,
    marks: Option<&marks::Marks>,
) -> Result<String, ChatError> {
    let continued = chat.continued(source)?;
    let prepared = source::prepare(source)?;
    let environment = environment::shared();
    let template = environment.template_from_named_str("chat", &prepared).map_err(|e| explain(&e, source))?;
    let variables = continued.as_ref().map_or(chat, |(chat, _)| chat).variables(tokens, marks);
    let mut out = Capped(Vec::new());
    template.render_captured_to(variables, &mut out).map_err(|e| explain(&e, source))?;
    let text = String::from_utf8(out.0).map_err(|_| ChatError::TooCostly)?;
    match continued {
        Some((_, ending)) => ending.cut(text),
        None => Ok(text),
    }
}

/// A buffer that takes no more than [`MAX_OUTPUT_BYTES`].
struct Capped(Vec<u8>);

impl std::io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What an error of minijinja's means, without the values that its text may hold.
fn explain(error: &Error, source: &str) -> ChatError {
    let mut line = error.line().unwrap_or(0);
    let mut innermost = error;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(raised) = this.downcast_ref::<environment::Raised>() {
            return ChatError::Raised { message: told(source, &raised.0) };
        }
        if this.is::<environment::TooDeep>() {
            return ChatError::TooCostly;
        }
        if let Some(inner) = this.downcast_ref::<Error>() {
            match inner.kind() {
                ErrorKind::OutOfFuel => return ChatError::TooCostly,
                ErrorKind::WriteFailure => return ChatError::OutputTooLarge,
                _ => {}
            }
            line = inner.line().unwrap_or(line);
            innermost = inner;
        }
        cause = this.source();
    }
    let detail = innermost.detail().unwrap_or_default();
    match innermost.kind() {
        ErrorKind::SyntaxError | ErrorKind::BadEscape => ChatError::Syntax { line },
        _ if detail.starts_with("recursion limit") || detail.contains("too many elements") => {
            ChatError::TooCostly
        }
        // These details name what the template calls, and nothing else.
        kind @ (ErrorKind::UnknownFilter
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod
        | ErrorKind::UnknownTest) => {
            let detail: String = detail.chars().take(100).collect();
            ChatError::Failed { line, reason: format!("{kind}: {detail}") }
        }
        // Names an operator and the types of its operands.
        kind if detail.starts_with("tried to use ") => {
            ChatError::Failed { line, reason: format!("{kind}: {detail}") }
        }
        kind => ChatError::Failed { line, reason: kind.to_string() },
    }
}

/// The beginning of a message that is the source's own text.
fn told(source: &str, message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let whole = &message[..end];
    if source.contains(whole) {
        return whole.to_owned();
    }
    // What is a part of the source stays one when it gets shorter, so the longest beginning is found by halving.
    let ends: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    let known = ends.partition_point(|&end| source.contains(&whole[..end]));
    let end = ends.get(known.saturating_sub(1)).copied().unwrap_or(0);
    format!("{}...", &whole[..end])
}
