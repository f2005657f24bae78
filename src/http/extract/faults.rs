//! What is wrong with a body or a query, told by the field and never by the value.

use super::super::problem::Problem;
use super::list::limit_of;

/// The problem that an error of serde's at a place is. Its message is that of one of the parsers.
pub(super) fn fault(path: &serde_path_to_error::Path, message: &str, root: &str) -> Problem {
    let mut pointer = format!("{root}{}", pointer(path));
    if let Some(field) = named_field(message).filter(|field| !pointer.ends_with(&format!("/{field}"))) {
        pointer = format!("{pointer}/{field}");
    }
    if let Some(limit) = limit_of(message) {
        return Problem::too_many(pointer, limit);
    }
    Problem::invalid(pointer, expectation(message))
}

/// A JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => match tellable(key) {
                Some(key) => pointer.push_str(&format!("/{key}")),
                None => break,
            },
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// The field that a message of serde's is about: missing, unknown or repeated.
pub(super) fn named_field(message: &str) -> Option<&str> {
    let leads = ["missing field `", "unknown field `", "duplicate field `"];
    let rest = leads.iter().find_map(|lead| message.strip_prefix(lead))?;
    tellable(rest.split('`').next()?)
}

/// A key may be told if it looks like a field's name; anything else may be somebody's text.
pub(super) fn tellable(key: &str) -> Option<&str> {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    (plain && !key.is_empty() && key.len() <= 40).then_some(key)
}

/// What serde expected, without the value that it found instead.
pub(super) fn expectation(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    if message.starts_with("missing field") {
        return "is required".to_owned();
    }
    if message.starts_with("duplicate field") {
        return "is given twice".to_owned();
    }
    let lead = if message.starts_with("unknown field") { "is not a field here; it " } else { "" };
    match message.rfind(", expected ") {
        Some(at) => format!("{lead}must be {}", in_words(&message[at + ", expected ".len()..])),
        None if !lead.is_empty() => "is not a field here".to_owned(),
        // Errors of our own types (names, refs, digests) state their rule and hold no value.
        None if ["a ", "an ", "the "].iter().any(|article| message.starts_with(article)) => {
            message.to_owned()
        }
        None => "is not what it must be".to_owned(),
    }
}

/// Rust's names of types in words that a client knows.
fn in_words(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 to 18446744073709551615",
        "a sequence" => "an array",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}
