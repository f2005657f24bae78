//! DeepSeek V3 and later: three regexes, each splitting the pieces of the one before. Numbers stand alone, then
//! runs of Han and Kana, then words with their marks, ASCII words behind one punctuation character, punctuation,
//! white space. What the third leaves unmatched (control and format characters, unassigned ones) is a piece too.

use std::ops::ControlFlow;

use super::class::{Classes, LETTER, MARK, NEWLINE, NUMBER, PUNCT, SPACE, char_before, classes, decode};
use super::scan::{Scan, drive, line_or_space_end, number_end};
use super::{Digits, Scanner, Spelling};

/// As published. The third has its line ends as such, not as escapes.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"\p{N}{1,3}",
        "[一-龥\u{3040}-ゟ゠-ヿ]+",
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
            "\r\n",
            r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[",
            "\r\n",
            r"]*|\s*[",
            "\r\n",
            r"]+|\s+(?!\S)|\s+",
        ),
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}", r"\p{N}+"],
    scanner: |digits| Scanner::DeepSeek(DeepSeek { digits, classes: classes() }),
};

/// The scanner. The first two regexes part the text into stretches in one pass; a stretch is a text of its own to
/// the third, which ends there.
#[derive(Clone, Copy)]
pub(super) struct DeepSeek {
    digits: Digits,
    classes: &'static Classes,
}

impl DeepSeek {
    /// Calls `piece` with each piece of `text`, in order.
    pub(super) fn drive<'t>(
        &self,
        text: &'t str,
        piece: &mut impl FnMut(&'t str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let kind = Stretch::of(self.classes, bytes, at).0;
            let end = stretch_end(self.classes, bytes, at, kind);
            let stretch = &text[at..end];
            match kind {
                Stretch::Numbers => drive(&Numbers(self.classes, self.digits), stretch, piece)?,
                Stretch::HanKana | Stretch::Other => drive(&Words(self.classes), stretch, piece)?,
            }
            at = end;
        }
        ControlFlow::Continue(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Numbers,
    HanKana,
    Other,
}

impl Stretch {
    /// The kind of stretch that the character at `at` belongs to, and its length in bytes.
    #[inline(always)]
    fn of(classes: &Classes, text: &[u8], at: usize) -> (Self, usize) {
        let (scalar, len) = decode(text, at);
        let kind = match scalar {
            0x3040..=0x30ff | 0x4e00..=0x9fa5 => Self::HanKana,
            _ if classes.of(scalar) & NUMBER != 0 => Self::Numbers,
            _ => Self::Other,
        };
        (kind, len)
    }
}

fn stretch_end(classes: &Classes, text: &[u8], mut at: usize, kind: Stretch) -> usize {
    loop {
        if kind == Stretch::Other {
            while text.get(at).is_some_and(|byte| byte.is_ascii() && !byte.is_ascii_digit()) {
                at += 1;
            }
        }
        if at == text.len() {
            return at;
        }
        let (here, len) = Stretch::of(classes, text, at);
        if here != kind {
            return at;
        }
        at += len;
    }
}

/// `\p{N}{1,3}`, on a stretch of numbers.
struct Numbers(&'static Classes, Digits);

impl Scan for Numbers {
    #[inline(always)]
    fn piece_end(&self, text: &[u8], at: usize) -> usize {
        let (_, len) = self.0.at(text, at);
        number_end(self.0, text, at, len, self.1)
    }
}

/// The third regex, on a stretch without numbers.
struct Words(&'static Classes);

impl Scan for Words {
    #[inline(always)]
    fn piece_end(&self, text: &[u8], at: usize) -> usize {
        let classes = self.0;
        let (class, len) = classes.at(text, at);
        let next = at + len;
        if class & (LETTER | MARK) != 0 {
            return classes.run(text, next, LETTER | MARK);
        }
        if class & NEWLINE != 0 {
            return line_or_space_end(classes, text, at);
        }
        let (after, after_len) = classes.at(text, next);
        if class & PUNCT != 0 {
            let ascii_word = text[at].is_ascii() && text.get(next).is_some_and(u8::is_ascii_alphabetic);
            return if ascii_word { ascii_word_end(text, next) } else { punct_end(classes, text, next) };
        }
        if after & (LETTER | MARK) != 0 {
            classes.run(text, next + after_len, LETTER | MARK)
        } else if class & SPACE == 0 {
            unmatched_end(classes, text, next)
        } else if text[at] == b' ' && after & PUNCT != 0 {
            punct_end(classes, text, next + after_len)
        } else {
            line_or_space_end(classes, text, at)
        }
    }
}

fn ascii_word_end(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_alphabetic) {
        at += 1;
    }
    at
}

/// `[\p{P}\p{S}]*[\r\n]*`.
fn punct_end(classes: &Classes, text: &[u8], at: usize) -> usize {
    let end = classes.run(text, at, PUNCT);
    classes.run(text, end, NEWLINE)
}

/// The end of a stretch that no alternative matches: of control characters and the like, of which the last one
/// goes with the word that follows it. The first one, just before `at`, has no word after it.
fn unmatched_end(classes: &Classes, text: &[u8], at: usize) -> usize {
    let end = classes.run_without(text, at, LETTER | MARK | NUMBER | PUNCT | SPACE);
    match classes.at(text, end) {
        (class, _) if class & (LETTER | MARK) != 0 => char_before(text, end),
        _ => end,
    }
}
