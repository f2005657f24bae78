//! The source of a template before it is compiled: held to its bounds, and changed in a few places.
//!
//! The bounds keep the parser, the compiler and the drop of their trees from overflowing the stack, which would end the
//! process. The changes, which no template can tell from the original:
//! - `{% generation %}` (transformers' own tag, it marks what an assistant wrote) becomes `{% with %}`: its variables end
//!   with it and nothing else happens.
//! - What is stored by `{% set %}` goes through a filter that refuses what is too deep, and namespaces inside of
//!   namespaces: a loop could build lists of any depth, or circles, and both overflow the stack when dropped or printed.
//! - Operands of `~`, `*` and the left side of `in` go through filters that pay for lists before they are turned into
//!   text, and refuse to repeat lists: these are the places where minijinja pays afterwards, if at all.

use super::{ChatError, MAX_BRACKETS, MAX_ELIFS, MAX_NESTING, MAX_TAG_TOKENS, MAX_TEMPLATE_BYTES};

/// Filter on what a plain variable is set to.
pub(super) const KEPT: &str = "|_kept";
/// Filter on what an attribute of a namespace is set to.
pub(super) const STORED: &str = "|_stored";
/// Filter on operands of `~`.
pub(super) const TEXT: &str = "|_text";
/// Filter on operands of `*`.
pub(super) const SCALAR: &str = "|_scalar";
/// Filter on the left side of `in`.
pub(super) const SIZED: &str = "|_sized";

/// Statements that go on to an `end...` of their own. `set` is one when it has no `=`.
const BLOCKS: [&str; 8] = ["for", "if", "with", "macro", "call", "filter", "autoescape", "generation"];
/// Names that end no operand.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "if", "else", "elif"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Text,
    Number,
    Sign,
}

#[derive(Debug, Clone, Copy)]
struct Token<'s> {
    kind: Kind,
    text: &'s str,
    start: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    fn is_name(&self, name: &str) -> bool {
        self.kind == Kind::Name && self.text == name
    }

    /// Whether it can be the last one of an operand that is more than a literal.
    fn ends_operand(&self) -> bool {
        match self.kind {
            Kind::Name => !KEYWORDS.contains(&self.text),
            Kind::Sign => [")", "]", "}"].contains(&self.text),
            Kind::Text | Kind::Number => false,
        }
    }
}

/// Checks a source and makes the changes.
///
/// # Errors
/// [`ChatError::SourceTooLarge`]. What is no Jinja passes: the parser says so with its line.
pub(super) fn prepare(source: &str) -> Result<String, ChatError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(ChatError::SourceTooLarge { what: "bytes", limit: MAX_TEMPLATE_BYTES, line: 1 });
    }
    let mut edits = Edits { source, made: String::with_capacity(source.len()), upto: 0 };
    // The number of `elif` of each open statement.
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some((start, mark)) = next_tag(source, at) {
        let body = start + 2;
        if mark == b'#' {
            let Some(end) = source[body..].find("#}") else { break };
            at = body + end + 2;
            continue;
        }
        if mark == b'%'
            && let Some(inside) = plain_tag(source, body, "raw")
        {
            let Some(end) = end_of_raw(source, inside) else { break };
            at = end;
            continue;
        }
        let (tokens, end) = tokenize(source, body, if mark == b'%' { "%}" } else { "}}" });
        let line = || 1 + source[..start].bytes().filter(|&b| b == b'\n').count();
        let bound = |what, count: usize, limit| {
            if count > limit { Err(ChatError::SourceTooLarge { what, limit, line: line() }) } else { Ok(()) }
        };
        let counted = tokens.iter().filter(|t| t.kind != Kind::Text && !t.is(",")).count();
        bound("tokens in a tag", counted, MAX_TAG_TOKENS)?;
        bound("levels of brackets", deepest(&tokens), MAX_BRACKETS)?;
        if mark == b'%' {
            nest(&tokens, &mut open);
            bound("levels of statements", open.len(), MAX_NESTING)?;
            bound("elif branches", open.last().copied().unwrap_or(0), MAX_ELIFS)?;
        }
        edits.tag(&tokens, mark == b'%');
        let Some(end) = end else { break };
        at = end;
    }
    Ok(edits.finish())
}

/// The next `{{`, `{%` or `{#`: its place and second byte.
fn next_tag(source: &str, from: usize) -> Option<(usize, u8)> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1))
        .find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
        .map(|at| (at, bytes[at + 1]))
}

/// Where the tag `name` without arguments ends, if it starts at `body`.
fn plain_tag(source: &str, body: usize, name: &str) -> Option<usize> {
    let rest = source[body..].trim_start_matches(['-', '+']).trim_start();
    let rest = rest.strip_prefix(name)?.trim_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(source.len() - rest.len())
}

fn end_of_raw(source: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let start = at + source[at..].find("{%")?;
        if let Some(end) = plain_tag(source, start + 2, "endraw") {
            return Some(end);
        }
        at = start + 2;
    }
}

/// The tokens of a tag, and where it ends with its closing marks; `None` where it does not.
fn tokenize<'s>(source: &'s str, body: usize, close: &str) -> (Vec<Token<'s>>, Option<usize>) {
    let bytes = source.as_bytes();
    let mut at = body;
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let (mut tokens, mut brackets) = (Vec::new(), 0_usize);
    while at < bytes.len() {
        let rest = &source[at..];
        if brackets == 0 {
            let marked = rest.strip_prefix(['-', '+']).is_some_and(|rest| rest.starts_with(close));
            if marked || rest.starts_with(close) {
                return (tokens, Some(at + close.len() + usize::from(marked)));
            }
        }
        let byte = bytes[at];
        let (kind, length) = match byte {
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'\'' | b'"' => (Kind::Text, quoted(&bytes[at..])),
            b'0'..=b'9' => (Kind::Number, number(&bytes[at..])),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                let word = |c: char| c == '_' || c.is_alphanumeric() || !c.is_ascii();
                (Kind::Name, rest.find(|c| !word(c)).unwrap_or(rest.len()))
            }
            _ => {
                match byte {
                    b'(' | b'[' | b'{' => brackets += 1,
                    b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
                    _ => {}
                }
                let double = ["**", "//", "==", "!=", "<=", ">="].iter().any(|s| rest.starts_with(s));
                (Kind::Sign, if double { 2 } else { 1 })
            }
        };
        tokens.push(Token { kind, text: &source[at..at + length], start: at });
        at += length;
    }
    (tokens, None)
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != bytes[0] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    // The byte after a backslash may begin a character; that one then is not cut, as only its end counts.
    let mut end = (at + 1).min(bytes.len());
    while end < bytes.len() && bytes[end] & 0xc0 == 0x80 {
        end += 1;
    }
    end
}

fn number(bytes: &[u8]) -> usize {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let exponent = matches!(bytes[at - 1], b'e' | b'E') && matches!(byte, b'+' | b'-') && digit(at + 1);
        let part = byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'.' && digit(at + 1));
        if !part && !exponent {
            break;
        }
        at += 1;
    }
    at
}

fn deepest(tokens: &[Token<'_>]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in tokens.iter().filter(|t| t.kind == Kind::Sign) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn nest(tokens: &[Token<'_>], open: &mut Vec<usize>) {
    let Some(first) = tokens.first().filter(|t| t.kind == Kind::Name) else { return };
    let block = BLOCKS.contains(&first.text) || (first.text == "set" && assignment(tokens).is_none());
    if block {
        open.push(0);
    } else if first.text.starts_with("end") {
        open.pop();
    } else if first.text == "elif"
        && let Some(count) = open.last_mut()
    {
        *count += 1;
    }
}

/// The `=` of a `set`; those inside of brackets name arguments.
fn assignment(tokens: &[Token<'_>]) -> Option<usize> {
    let equals = tokens.iter().position(|t| t.is("="))?;
    let opens = tokens[..equals].iter().filter(|t| t.is("(")).count();
    let closes = tokens[..equals].iter().filter(|t| t.is(")")).count();
    (opens == closes).then_some(equals)
}

/// The source with changes, as far as it is made.
struct Edits<'s> {
    source: &'s str,
    made: String,
    upto: usize,
}

impl Edits<'_> {
    fn tag(&mut self, tokens: &[Token<'_>], statement: bool) {
        let first = tokens.first().filter(|t| statement && t.kind == Kind::Name).map(|t| t.text);
        if let (Some(name @ ("generation" | "endgeneration")), 1) = (first, tokens.len()) {
            self.copy_upto(tokens[0].start);
            self.made.push_str(if name == "generation" { "with" } else { "endwith" });
            self.upto = tokens[0].end();
            return;
        }
        let mut filters = operand_filters(tokens, first == Some("for"));
        if first == Some("set")
            && let Some(equals) = assignment(tokens).filter(|at| at + 1 < tokens.len())
        {
            let to_attribute = tokens[..equals].iter().any(|t| t.is("."));
            filters.push((tokens[equals + 1].start, "("));
            filters.push((tokens[tokens.len() - 1].end(), ")"));
            filters.push((tokens[tokens.len() - 1].end(), if to_attribute { STORED } else { KEPT }));
        }
        // Stable: at the end of a `set` the filters of its last operand come first.
        filters.sort_by_key(|(at, _)| *at);
        filters.dedup();
        for (at, text) in filters {
            self.copy_upto(at);
            self.made.push_str(text);
        }
    }

    fn copy_upto(&mut self, at: usize) {
        self.made.push_str(&self.source[self.upto..at]);
        self.upto = at;
    }

    fn finish(mut self) -> String {
        self.copy_upto(self.source.len());
        self.made
    }
}

/// Where which filters belong.
fn operand_filters(tokens: &[Token<'_>], is_loop: bool) -> Vec<(usize, &'static str)> {
    let mut filters = Vec::new();
    // The first `in` of a `for` is no operator.
    let own = tokens.iter().position(|t| t.is_name("in")).filter(|_| is_loop);
    for (at, token) in tokens.iter().enumerate().skip(1) {
        let before = &tokens[at - 1];
        if token.is_name("in") && own != Some(at) && !before.is(".") {
            let left = if before.is_name("not") && at > 1 { &tokens[at - 2] } else { before };
            if left.ends_operand() {
                filters.push((left.end(), SIZED));
            }
        }
        let filter = match token.text {
            "~" if token.kind == Kind::Sign => TEXT,
            // Not the mark of further arguments.
            "*" if token.kind == Kind::Sign && !before.is("(") && !before.is(",") => SCALAR,
            _ => continue,
        };
        if before.ends_operand() {
            filters.push((before.end(), filter));
        }
        if let Some(end) = operand_end(tokens, at + 1) {
            filters.push((end, filter));
        }
    }
    filters
}

/// Where the operand that starts at token `at` ends; `None` if it is a literal, or none at all.
fn operand_end(tokens: &[Token<'_>], mut at: usize) -> Option<usize> {
    while tokens.get(at).is_some_and(|t| t.is("-") || t.is("+")) {
        at += 1;
    }
    let mut literal = false;
    match tokens.get(at)? {
        t if t.kind == Kind::Name && !KEYWORDS.contains(&t.text) => at += 1,
        t if matches!(t.kind, Kind::Text | Kind::Number) => {
            literal = true;
            at += 1;
            while tokens.get(at).is_some_and(|t| t.kind == Kind::Text) {
                at += 1;
            }
        }
        t if t.is("(") || t.is("[") || t.is("{") => at = after_bracket(tokens, at)?,
        _ => return None,
    }
    loop {
        match tokens.get(at) {
            Some(t) if t.is(".") => at += 2,
            Some(t) if t.is("(") || t.is("[") => at = after_bracket(tokens, at)?,
            Some(t) if t.is("|") => at += 2,
            _ => break,
        }
        literal = false;
    }
    if literal { None } else { Some(tokens.get(at - 1)?.end()) }
}

fn after_bracket(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open).filter(|(_, t)| t.kind == Kind::Sign) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}
