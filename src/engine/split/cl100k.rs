//! `cl100k_base`, and the scanner that Qwen2 and Llama 3 share with it: they differ in digits and in white space at
//! the end of a text, which cl100k keeps in one piece even where it has line ends.

use super::class::{Classes, LETTER, NEWLINE, NUMBER, SPACE, classes};
use super::scan::{Case, Scan, contraction_end, line_or_space_end, number_end, punct_end};
use super::{Digits, Scanner, Spelling};

/// As tiktoken has it now.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}+", r"\p{N}+"],
    scanner: |digits| Scanner::Cl100k(Cl100k::new(digits, Trailing::Whole)),
};

/// The same without possessive quantifiers, and with the end of the text written so that no engine reads it as the
/// end of a line.
pub(super) static PLAIN: Spelling = Spelling {
    regexes: &[
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}", r"\p{N}+"],
    scanner: PUBLISHED.scanner,
};

/// White space at the end of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trailing {
    /// `\s++$`: one piece.
    Whole,
    /// No rule of its own: line ends and what follows them are two pieces.
    AsElsewhere,
}

/// The scanner.
#[derive(Clone, Copy)]
pub(super) struct Cl100k {
    digits: Digits,
    trailing: Trailing,
    classes: &'static Classes,
}

impl Cl100k {
    pub(super) fn new(digits: Digits, trailing: Trailing) -> Self {
        Self { digits, trailing, classes: classes() }
    }

    fn space_end(&self, text: &[u8], at: usize) -> usize {
        if self.trailing == Trailing::Whole {
            let end = self.classes.run(text, at, SPACE);
            if end == text.len() {
                return end;
            }
        }
        line_or_space_end(self.classes, text, at)
    }
}

impl Scan for Cl100k {
    #[inline(always)]
    fn piece_end(&self, text: &[u8], at: usize) -> usize {
        let (class, len) = self.classes.at(text, at);
        let next = at + len;
        if class & LETTER != 0 {
            return self.classes.run(text, next, LETTER);
        }
        if class & NUMBER != 0 {
            return number_end(self.classes, text, at, len, self.digits);
        }
        if class & NEWLINE != 0 {
            return self.space_end(text, at);
        }
        if text[at] == b'\''
            && let Some(end) = contraction_end(text, at, Case::Insensitive)
        {
            return end;
        }
        // Anything else may stand before a word.
        let (after, after_len) = self.classes.at(text, next);
        if after & LETTER != 0 {
            self.classes.run(text, next + after_len, LETTER)
        } else if class & SPACE == 0 {
            punct_end(self.classes, text, next, LETTER | NUMBER | SPACE)
        } else if text[at] == b' ' && after_len > 0 && after & (NUMBER | SPACE) == 0 {
            punct_end(self.classes, text, next + after_len, LETTER | NUMBER | SPACE)
        } else {
            self.space_end(text, at)
        }
    }
}
