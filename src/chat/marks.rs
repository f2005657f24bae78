//! Names of special tokens that came with the messages, found again in the rendered text.
//!
//! Before rendering, each such name in a message, a tool, a document or a variable is put between two marks: characters
//! that are in no text of the request, first of all noncharacters of Unicode. Afterwards the marks are taken out, and
//! what stood between them is plain text. The name itself stays whole, so that a template which looks for one (Qwen3 and
//! DeepSeek cut contents at `</think>`) still finds it; a mark that lost its partner in such a cut leaves an empty range,
//! which no special token may span, or the range of the name beside it, if that is one of those from the messages.
//!
//! Limits. A template that asks for the length of a content, cuts it by position, or looks at its very start or end sees
//! the marks of the names there, and white space that
//! stood beside a name at which it cuts is not trimmed. What the template joins to a name from pieces (`'<|' + role + '|>'`) is not found, and
//! keys of objects that look like variables are not looked at. Added tokens that are not flagged special are recognised
//! everywhere, as in any other text.

use super::{Chat, ChatError, Rendered};
use crate::engine::{Found, Matcher, OnSpecial, SpecialPolicy, Tokenizer};
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

/// The two characters, and the names that they are put around.
pub(super) struct Marks {
    open: char,
    close: char,
    names: HashSet<String>,
    /// Every length of a name, in bytes.
    lengths: BTreeSet<usize>,
}

impl Marks {
    /// Puts marks around the names; `None` if there are no names, so that nothing has to be done.
    ///
    /// # Errors
    /// [`ChatError::Invalid`] if the texts use every character that could be a mark, 131,104 of them.
    pub(super) fn put(tokenizer: &Tokenizer, chat: &Chat) -> Result<Option<(Self, Chat)>, ChatError> {
        let policy = SpecialPolicy { others: OnSpecial::Parse, ..SpecialPolicy::default() };
        // The policy names no token, so there is none that could be unknown.
        let Ok(matcher) = tokenizer.matcher(&policy) else { return Ok(None) };
        let (mut found, mut taken) = (HashSet::new(), HashSet::new());
        let _ = chat.map_texts(&mut |text| {
            found.extend(names(tokenizer, &matcher, text).map(|range| text[range].to_owned()));
            taken.extend(text.chars().filter(|c| may_mark(*c)));
            None
        });
        if found.is_empty() {
            return Ok(None);
        }
        let mut free = candidates().filter(|c| !taken.contains(c));
        let (Some(open), Some(close)) = (free.next(), free.next()) else {
            let reason = "uses every private character; content_special = text needs two that are free";
            return Err(ChatError::Invalid { pointer: "/messages".to_owned(), reason: reason.to_owned() });
        };
        let marked = chat.map_texts(&mut |text| {
            let (mut marked, mut upto) = (String::new(), 0);
            for range in names(tokenizer, &matcher, text) {
                marked.push_str(&text[upto..range.start]);
                marked.push(open);
                marked.push_str(&text[range.clone()]);
                marked.push(close);
                upto = range.end;
            }
            marked.push_str(&text[upto..]);
            (upto > 0).then_some(marked)
        });
        let lengths = found.iter().map(String::len).collect();
        Ok(Some((Self { open, close, names: found, lengths }, marked)))
    }

    /// Both characters, for what must not escape them.
    pub(super) fn pair(&self) -> String {
        [self.open, self.close].into_iter().collect()
    }

    /// The longest of the names at a place, given what stands there in each length.
    fn name<'x>(&self, at: impl Fn(usize) -> Option<&'x str>) -> Option<&'x str> {
        self.lengths.iter().rev().find_map(|&length| at(length).filter(|text| self.names.contains(*text)))
    }

    /// Takes the marks out of a text.
    pub(super) fn take(&self, marked: &str) -> Rendered {
        let mut rendered = Rendered { text: String::with_capacity(marked.len()), plain: Vec::new() };
        let Rendered { text, plain } = &mut rendered;
        let mut rest = marked;
        while let Some(at) = rest.find([self.open, self.close]) {
            text.push_str(&rest[..at]);
            let start = text.len();
            let opens = rest[at..].starts_with(self.open);
            rest = &rest[at + if opens { self.open.len_utf8() } else { self.close.len_utf8() }..];
            let end = rest.find([self.open, self.close]).filter(|_| opens);
            if let Some(end) =
                end.filter(|&at| rest[at..].starts_with(self.close) && self.names.contains(&rest[..at]))
            {
                text.push_str(&rest[..end]);
                rest = &rest[end + self.close.len_utf8()..];
                plain.push(start..text.len());
            } else if opens {
                // Its partner was cut off; the name may still be whole.
                let name = self.name(|length| rest.get(..length)).map_or(0, str::len);
                text.push_str(&rest[..name]);
                rest = &rest[name..];
                plain.push(start..text.len());
            } else {
                let before = plain.last().map_or(0, |range: &Range<usize>| range.end);
                let name = self.name(|length| text.get(text.len().checked_sub(length)?..));
                plain.push((start - name.map_or(0, str::len)).max(before)..start);
            }
        }
        text.push_str(rest);
        rendered
    }
}

/// Where names of tokens flagged special stand in a text.
fn names<'a>(
    tokenizer: &'a Tokenizer,
    matcher: &'a Matcher<'a>,
    text: &'a str,
) -> impl Iterator<Item = Range<usize>> + 'a {
    matcher.find(text).filter_map(|found| match found {
        Found::Token(range, id) => tokenizer.is_special(id).then_some(range),
        Found::Denied(_) => None,
    })
}

/// Characters that may be marks: noncharacters, then the private planes.
fn may_mark(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
}

fn candidates() -> impl Iterator<Item = char> {
    ('\u{fdd0}'..='\u{fdef}').chain('\u{f0000}'..='\u{10ffff}')
}
