//! DeepSeek V3 and later: three regexes, each splitting the pieces of the one before. Numbers stand alone, then
//! runs of Han and Kana, then words with their marks, ASCII words behind one punctuation character, punctuation,
//! white space. What the third leaves unmatched (control and format characters, unassigned ones) is a piece too.

use std::ops::ControlFlow;

use super::bounds::{Bounds, Groups, Later, Lines, single_numbers};
use super::chunk::{Chunk, Kinds, ascii_classes, behind};
use super::class::{
    Class, Classes, HAN_KANA, LETTER, MARK, NEWLINE, NUMBER, PUNCT, SPACE, char_before, classes, decode,
};
use super::planes::AsciiClasses;
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
    plain: None,
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
    /// The end of the stretch that starts at byte `at`.
    pub(super) fn stretch(&self, text: &str, at: usize) -> usize {
        let kind = Stretch::of(self.classes, text.as_bytes(), at).0;
        stretch_end(self.classes, text.as_bytes(), at, kind)
    }

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

impl Bounds for DeepSeek {
    /// Stretches of Han and Kana and the others between are texts of their own: nothing goes on from one to the other.
    #[inline(always)]
    fn mark(&self, chunk: &mut Chunk, _text: &[u8], _ends_text: bool) -> bool {
        let mut here = Stretches::default();
        let (mut groups, mut lines) = (Groups::new(self.digits), Lines::new(false));
        let mut word_ends = Later::new();
        let mut next = Stretches::of(&chunk.kinds(0), &here.kinds);
        for block in 0..chunk.blocks() {
            let before = std::mem::replace(&mut here, next);
            next = Stretches::of(&chunk.kinds(block + 1), &here.kinds);
            let starts = here.starts(&before, &next, self.digits) | groups.step(here.kinds.number);
            let punct = here.kinds.punct & !here.han_kana;
            let (starts, _) = lines.step(chunk, block, &here.kinds, punct, starts);
            chunk.set_starts(block, starts);
            // An ASCII word behind a punctuation character ends where other letters begin.
            let ascii = ascii_letters(&here.kinds);
            word_ends.add(block, here.letter & !ascii & behind(ascii, ascii_letters(&before.kinds)));
        }
        word_ends.each(|at| {
            let mut first = at;
            while first > 0 && is_ascii_letter(chunk.class(first - 1)) {
                first -= 1;
            }
            if first > 0 && is_ascii_punct(chunk.class(first - 1)) && !chunk.starts(first) {
                chunk.start_at(at);
            }
        });
        true
    }
}

fn is_ascii_letter(class: Class) -> bool {
    class & MARK != 0 && !matches!(class & HAN_KANA, 0 | HAN_KANA)
}

fn is_ascii_punct(class: Class) -> bool {
    class & (NEWLINE | SPACE) == NEWLINE
}

/// Letters and marks.
fn letters(kinds: &Kinds) -> u64 {
    (kinds.upper ^ kinds.lower) | kinds.caseless | kinds.mark
}

fn ascii_letters(kinds: &Kinds) -> u64 {
    (kinds.upper ^ kinds.lower) & kinds.mark
}

/// A block, as the third regex sees it.
#[derive(Clone, Copy, Default)]
struct Stretches {
    kinds: Kinds,
    han_kana: u64,
    /// Where Han and Kana begin or end.
    border: u64,
    letter: u64,
    /// What no alternative matches by itself.
    none: u64,
    /// ASCII punctuation that stands alone, with which an ASCII word may begin.
    first: u64,
}

impl Stretches {
    fn of(kinds: &Kinds, before: &Kinds) -> Self {
        let letter = letters(kinds);
        let none = kinds.valid & !(letter | kinds.number | kinds.space | kinds.punct);
        let taken = behind(kinds.punct, before.punct) | behind(kinds.blank, before.blank);
        let han_kana = kinds.upper & kinds.lower;
        let border = (han_kana ^ behind(han_kana, before.upper & before.lower)) & kinds.valid;
        let first = kinds.apart & !(taken & !border);
        Self { kinds: *kinds, han_kana, border, letter, none, first }
    }

    /// What is neither Han nor Kana, number nor white space.
    fn text(&self) -> u64 {
        (self.letter | self.kinds.punct | self.none) & !self.han_kana
    }

    /// Where pieces start but for line ends, groups of numbers and the ends of ASCII words.
    #[inline(always)]
    fn starts(&self, before: &Self, next: &Self, digits: Digits) -> u64 {
        let Kinds { number, space, newline, punct, blank, .. } = self.kinds;
        let earlier = &before.kinds;
        let border = self.border;
        let begins = |map: u64, map_before: u64| map & (!behind(map, map_before) | border);
        let with_word = behind(space & !newline, earlier.space & !earlier.newline)
            | behind(self.none, before.none)
            | ascii_letters(&self.kinds) & behind(self.first, before.first);
        let words = begins(self.letter, before.letter) & !(with_word & !border);
        let puncts = begins(punct, earlier.punct) & !(behind(blank, earlier.blank) & !border);
        // White space leaves its last character to what follows in the same stretch.
        let ahead = |map: u64, map_next: u64| map >> 1 | map_next << 63;
        let last_of_spaces = space & !newline & ahead(self.text(), next.text());
        // Of what no alternative matches the last character goes with the word behind it.
        let last_of_none = self.none & ahead(self.letter & !border, next.letter & !next.border);
        words
            | puncts
            | begins(number, earlier.number)
            | begins(space, earlier.space)
            | begins(self.none, before.none)
            | last_of_spaces
            | last_of_none
            | single_numbers(digits, &self.kinds, earlier)
    }
}

/// ASCII letters are marks as well, which no letter is otherwise, and ASCII punctuation is set apart.
pub(super) static ASCII_CLASSES: AsciiClasses = {
    let mut classes = ascii_classes(br##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##);
    let mut byte = b'A';
    while byte <= b'z' {
        if byte.is_ascii_alphabetic() {
            classes[byte as usize] |= MARK;
        }
        byte += 1;
    }
    classes
};
