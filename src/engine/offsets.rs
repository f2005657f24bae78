//! Where each token stands in the text, in bytes, characters or UTF-16 units.

/// The unit in which offsets are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetUnit {
    /// UTF-8 bytes. A token may begin or end inside a character.
    #[default]
    Byte,
    /// Unicode scalar values, as Python's `str` counts.
    Char,
    /// UTF-16 code units, as JavaScript and Java count.
    Utf16,
}

/// A half-open stretch of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First unit.
    pub start: usize,
    /// One after the last unit.
    pub end: usize,
}

/// Tells spans of bytes in another unit. Spans come in ascending order of `start`. A span that begins or ends inside
/// a character gets that whole character.
pub(super) fn convert(text: &str, spans: &mut [Span], unit: OffsetUnit) {
    if unit == OffsetUnit::Byte || text.is_ascii() {
        return;
    }
    let mut start = Cursor::new(text, unit);
    let mut end = Cursor::new(text, unit);
    for span in spans {
        let (first, last) = (span.start, span.end);
        span.start = start.floor(first);
        // An empty span stays empty; it has no character to round up to.
        span.end = if last > first { end.ceil(last) } else { span.start };
    }
}

/// Walks a text once, knowing the unit offset of the character that begins at `byte`.
struct Cursor<'t> {
    text: &'t str,
    unit: OffsetUnit,
    byte: usize,
    count: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str, unit: OffsetUnit) -> Self {
        Self { text, unit, byte: 0, count: 0 }
    }

    /// Unit offset of the start of the character that holds byte `at`.
    fn floor(&mut self, at: usize) -> usize {
        if at < self.byte {
            // Spans of one normalized stretch may share it and step back; begin anew, as this is rare.
            *self = Self::new(self.text, self.unit);
        }
        while let Some(c) = self.text[self.byte..].chars().next() {
            if self.byte + c.len_utf8() > at {
                break;
            }
            self.byte += c.len_utf8();
            self.count += units(c, self.unit);
        }
        self.count
    }

    /// Unit offset of the end of the character that holds byte `at - 1`.
    fn ceil(&mut self, at: usize) -> usize {
        let count = self.floor(at);
        match self.text[self.byte..].chars().next() {
            Some(c) if self.byte < at => count + units(c, self.unit),
            _ => count,
        }
    }
}

fn units(c: char, unit: OffsetUnit) -> usize {
    match unit {
        OffsetUnit::Byte => c.len_utf8(),
        OffsetUnit::Char => 1,
        OffsetUnit::Utf16 => c.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: &[(usize, usize)], unit: OffsetUnit, expect: &[(usize, usize)]) {
        let mut spans: Vec<Span> = bytes.iter().map(|&(start, end)| Span { start, end }).collect();
        convert(text, &mut spans, unit);
        assert_eq!(spans.iter().map(|s| (s.start, s.end)).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn offsets_are_told_in_each_unit() {
        let text = "a中😀b";
        let whole = [(0, 1), (1, 4), (4, 8), (8, 9)];
        check(text, &whole, OffsetUnit::Byte, &whole);
        check(text, &whole, OffsetUnit::Char, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        check(text, &whole, OffsetUnit::Utf16, &[(0, 1), (1, 2), (2, 4), (4, 5)]);
    }

    #[test]
    fn a_token_inside_a_character_has_the_whole_character() {
        let text = "中😀";
        check(text, &[(0, 2), (2, 5), (5, 7)], OffsetUnit::Char, &[(0, 1), (0, 2), (1, 2)]);
        check(text, &[(0, 2), (2, 5), (5, 7)], OffsetUnit::Utf16, &[(0, 1), (0, 3), (1, 3)]);
    }

    #[test]
    fn empty_spans_stay_empty() {
        check("é", &[(0, 0), (0, 2), (2, 2)], OffsetUnit::Char, &[(0, 0), (0, 1), (1, 1)]);
    }
}
