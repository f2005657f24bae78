//! A text on its way through normalizers and pre-tokenizers, and where each of its bytes came from.
//!
//! The way back is that of Hugging Face's `NormalizedString`: every byte has a stretch of the original text, a byte of
//! an inserted character that of the byte before it, and a range of bytes stands where its first one starts and its
//! last one ends. Offsets equal theirs only if this does, so its quirks are kept.

use super::{Span, SplitError};
use std::borrow::Cow;
use std::ops::Range;

/// Where the bytes of a text came from.
#[derive(Debug, Clone)]
enum Origins<'t> {
    /// Nobody will ask.
    Unknown,
    /// Nothing was changed: byte `i` is byte `i + shift` of the original.
    Shifted(usize),
    /// Start and end of the original stretch of each byte.
    Mapped(Cow<'t, [(u32, u32)]>),
}

/// A text and its way back.
#[derive(Debug, Clone)]
pub(super) struct Tracked<'t> {
    text: Cow<'t, str>,
    origins: Origins<'t>,
    /// How many bytes it may grow to.
    limit: usize,
}

/// How many bytes a text of `len` bytes may grow to by what a vocabulary asks for. What is published adds a byte or
/// two a word; a character that falls apart in compatibility forms has 33 bytes at most.
pub(super) fn growth_limit(len: usize) -> usize {
    len.saturating_mul(64).saturating_add(1 << 16)
}

/// What becomes of a character: the new one, and `1` if it is inserted, `0` if it replaces the next old character,
/// `-n` if it replaces that and the `n` characters behind it.
pub(super) type Change = (char, isize);

impl<'t> Tracked<'t> {
    /// A stretch of the original text that begins at byte `start` of it; `track` says whether offsets are wanted.
    pub(super) fn new(text: &'t str, start: usize, track: bool) -> Self {
        let origins = if track { Origins::Shifted(start) } else { Origins::Unknown };
        Self { text: Cow::Borrowed(text), origins, limit: growth_limit(text.len()) }
    }

    /// Puts another text in the place of this one, with the origin of each byte if it is tracked.
    pub(super) fn set(&mut self, text: String, origins: Option<Vec<(u32, u32)>>) {
        self.text = Cow::Owned(text);
        self.origins = origins.map_or(Origins::Unknown, |origins| Origins::Mapped(Cow::Owned(origins)));
    }

    /// How many bytes it may grow to.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn into_text(self) -> Cow<'t, str> {
        self.text
    }

    pub(super) fn is_tracked(&self) -> bool {
        !matches!(self.origins, Origins::Unknown)
    }

    /// A part of it, on character borders.
    pub(super) fn slice(&self, range: Range<usize>) -> Tracked<'_> {
        let origins = match &self.origins {
            Origins::Unknown => Origins::Unknown,
            Origins::Shifted(shift) => Origins::Shifted(shift + range.start),
            Origins::Mapped(map) => Origins::Mapped(Cow::Borrowed(&map[range.clone()])),
        };
        Tracked { text: Cow::Borrowed(&self.text[range]), origins, limit: self.limit }
    }

    /// Where it starts in the original text; zero where nothing is tracked.
    pub(super) fn start(&self) -> usize {
        match &self.origins {
            Origins::Unknown => 0,
            Origins::Shifted(shift) => *shift,
            Origins::Mapped(map) => map.first().map_or(0, |origin| origin.0 as usize),
        }
    }

    /// The original stretch of a range of bytes.
    pub(super) fn original(&self, range: Range<usize>) -> Span {
        match &self.origins {
            Origins::Unknown => Span { start: range.start, end: range.end },
            Origins::Shifted(shift) => Span { start: shift + range.start, end: shift + range.end },
            Origins::Mapped(map) if range.is_empty() => {
                // Where the next byte comes from; behind the last one, where that ends.
                let next = map.get(range.start).map(|origin| origin.0);
                let at = next.or(map.last().map(|origin| origin.1)).unwrap_or_default() as usize;
                Span { start: at, end: at }
            }
            Origins::Mapped(map) => {
                let (first, last) = (map.get(range.start), map.get(range.end - 1));
                let start = first.map_or(0, |origin| origin.0 as usize);
                Span { start, end: last.map_or(start, |origin| origin.1 as usize) }
            }
        }
    }

    /// Origins of the bytes from `from` to `to`, as a list.
    fn copy_origins(&self, range: Range<usize>, out: &mut Vec<(u32, u32)>) {
        match &self.origins {
            Origins::Unknown => {}
            Origins::Shifted(shift) => {
                for (at, c) in self.text[range.clone()].char_indices() {
                    let start = shift + range.start + at;
                    let origin = (start as u32, (start + c.len_utf8()) as u32);
                    out.extend(std::iter::repeat_n(origin, c.len_utf8()));
                }
            }
            Origins::Mapped(map) => out.extend_from_slice(&map[range]),
        }
    }

    /// Origin of the byte at `at`.
    fn origin(&self, at: usize) -> (u32, u32) {
        match &self.origins {
            Origins::Unknown => (0, 0),
            Origins::Shifted(shift) => {
                let start = floor_char(&self.text, at);
                let len = self.text[start..].chars().next().map_or(0, char::len_utf8);
                ((shift + start) as u32, (shift + start + len) as u32)
            }
            Origins::Mapped(map) => map.get(at).copied().unwrap_or_default(),
        }
    }

    /// Replaces the whole text by the characters of `changes`; the first `removed` old characters have gone.
    pub(super) fn transform(&mut self, changes: impl IntoIterator<Item = Change>, removed: usize) {
        let whole = 0..self.text.len();
        self.transform_range(whole, changes, removed);
    }

    /// Replaces a range of the text by the characters of `changes`.
    pub(super) fn transform_range(
        &mut self,
        range: Range<usize>,
        changes: impl IntoIterator<Item = Change>,
        removed: usize,
    ) {
        let tracked = self.is_tracked();
        let mut text = String::with_capacity(self.text.len() + 8);
        let mut origins = Vec::with_capacity(if tracked { self.text.len() + 8 } else { 0 });
        text.push_str(&self.text[..range.start]);
        self.copy_origins(0..range.start, &mut origins);
        let mut old = self.text[range.clone()].chars();
        // What a match on text that nobody asks about costs is only the characters.
        let mut at = range.start + old.by_ref().take(removed).map(char::len_utf8).sum::<usize>();
        for (c, change) in changes {
            if tracked {
                let origin = match change {
                    1.. => at.checked_sub(1).map_or((0, 0), |before| self.origin(before)),
                    _ => self.origin(at),
                };
                origins.extend(std::iter::repeat_n(origin, c.len_utf8()));
            }
            if change <= 0 {
                let gone = 1 + change.unsigned_abs();
                at += old.by_ref().take(gone).map(char::len_utf8).sum::<usize>();
            }
            text.push(c);
        }
        text.push_str(&self.text[range.end..]);
        self.copy_origins(range.end..self.text.len(), &mut origins);
        self.text = Cow::Owned(text);
        if tracked {
            self.origins = Origins::Mapped(Cow::Owned(origins));
        }
    }

    /// Whether the text may have so many bytes.
    fn check(&self, len: usize) -> Result<(), SplitError> {
        if len <= self.limit { Ok(()) } else { Err(SplitError::Grows { limit: self.limit }) }
    }

    /// Puts `prefix` before the text. It has the origin of the first character, which loses nothing.
    ///
    /// # Errors
    /// The text would grow out of proportion.
    pub(super) fn prepend(&mut self, prefix: &str) -> Result<(), SplitError> {
        let Some(first) = self.text.chars().next() else { return Ok(()) };
        self.check(self.text.len().saturating_add(prefix.len()))?;
        let inserted = prefix.chars().enumerate().map(|(i, c)| (c, isize::from(i != 0)));
        let changes: Vec<Change> = inserted.chain([(first, 1)]).collect();
        self.transform_range(0..first.len_utf8(), changes, 0);
        Ok(())
    }

    /// Puts `content` in the place of each of `matches`, which ascend and do not overlap. Its characters have the
    /// origin of the last byte that they replace.
    ///
    /// # Errors
    /// The text would grow out of proportion.
    pub(super) fn replace(
        &mut self,
        matches: impl Iterator<Item = Range<usize>>,
        content: &str,
    ) -> Result<(), SplitError> {
        let tracked = self.is_tracked();
        let mut text = String::new();
        let mut origins = Vec::new();
        let mut done = 0;
        let mut any = false;
        for found in matches {
            if !any {
                any = true;
                text.reserve(self.text.len() + self.text.len() / 4);
                origins.reserve(if tracked { self.text.len() + self.text.len() / 4 } else { 0 });
            }
            text.push_str(&self.text[done..found.start]);
            text.push_str(content);
            self.check(text.len())?;
            if tracked {
                self.copy_origins(done..found.start, &mut origins);
                let origin = found.end.checked_sub(1).map_or((0, 0), |before| self.origin(before));
                origins.extend(std::iter::repeat_n(origin, content.len()));
            }
            done = found.end;
        }
        if !any {
            return Ok(());
        }
        text.push_str(&self.text[done..]);
        self.copy_origins(done..self.text.len(), &mut origins);
        self.text = Cow::Owned(text);
        if tracked {
            self.origins = Origins::Mapped(Cow::Owned(origins));
        }
        Ok(())
    }
}

/// Start of the character that holds byte `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut start = at.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &Tracked<'_>) -> Vec<(char, usize, usize)> {
        let at = |(i, c): (usize, char)| {
            let span = text.original(i..i + c.len_utf8());
            (c, span.start, span.end)
        };
        text.text().char_indices().map(at).collect()
    }

    #[test]
    fn an_unchanged_text_is_where_it_was() {
        let text = Tracked::new("a中b", 10, true);
        assert_eq!(spans(&text), [('a', 10, 11), ('中', 11, 14), ('b', 14, 15)]);
        assert_eq!(spans(&text.slice(1..4)), [('中', 11, 14)]);
    }

    #[test]
    fn a_prefix_has_the_place_of_the_first_character() {
        let mut text = Tracked::new("中b", 4, true);
        text.prepend("▁").unwrap();
        assert_eq!(spans(&text), [('▁', 4, 7), ('中', 4, 7), ('b', 7, 8)]);
    }

    #[test]
    fn replacements_have_the_place_of_what_they_replace() {
        let mut text = Tracked::new("a b", 0, true);
        text.replace(std::iter::once(1..2), "▁").unwrap();
        assert_eq!(spans(&text), [('a', 0, 1), ('▁', 1, 2), ('b', 2, 3)]);
    }

    #[test]
    fn what_replaces_a_sequence_has_the_place_of_its_first_character() {
        let mut text = Tracked::new("xe\u{301}y", 0, true);
        text.transform([('x', 0), ('é', -1), ('y', 0)], 0);
        assert_eq!(spans(&text), [('x', 0, 1), ('é', 1, 2), ('y', 4, 5)]);
        let mut text = Tracked::new("é", 0, true);
        text.transform([('e', 0), ('\u{301}', 1)], 0);
        assert_eq!(spans(&text), [('e', 0, 2), ('\u{301}', 0, 2)]);
    }

    #[test]
    fn a_text_does_not_grow_out_of_proportion() {
        let mut text = Tracked::new("aaaa", 0, true);
        let long = "b".repeat(1 << 15);
        assert!(text.replace((0..4).map(|at| at..at + 1), &long).is_err());
        assert!(text.prepend(&long.repeat(3)).is_err());
        assert_eq!(text.text(), "aaaa");
    }

    #[test]
    fn an_untracked_text_is_changed_all_the_same() {
        let mut text = Tracked::new("a b", 0, false);
        text.replace(std::iter::once(1..2), "▁").unwrap();
        text.prepend("▁").unwrap();
        text.transform(text.text().to_owned().chars().skip(1).map(|c| (c, 0)), 1);
        assert_eq!(text.text(), "a▁b");
    }
}
