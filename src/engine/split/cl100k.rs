//! `cl100k_base`, and the scanner that Qwen2 and Llama 3 share with it: they differ in digits and in white space at
//! the end of a text, which cl100k keeps in one piece even where it has line ends.

use super::bounds::{Bounds, Groups, Later, Lines, contraction, others, single_numbers};
use super::chunk::{Chunk, Kinds, behind};
use super::class::{Classes, LETTER, NEWLINE, NUMBER, SPACE, classes};
use super::scan::{Case, Scan, contraction_end, line_or_space_end, number_end};
use super::{Digits, Scanner, Spelling};

/// As tiktoken has it now.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}+", r"\p{N}+"],
    plain: Some(&PLAIN),
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
    plain: None,
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

    /// `[^\s\p{L}\p{N}]*[\r\n]*`.
    #[inline(always)]
    fn punct_end(&self, text: &[u8], at: usize) -> usize {
        let end = self.classes.run_without(text, at, LETTER | NUMBER | SPACE);
        self.classes.run(text, end, NEWLINE)
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
            self.punct_end(text, next)
        } else if text[at] == b' ' && after_len > 0 && after & (NUMBER | SPACE) == 0 {
            self.punct_end(text, next + after_len)
        } else {
            self.space_end(text, at)
        }
    }
}

impl Bounds for Cl100k {
    /// A letter begins a word unless the character before it goes with it: the last one of white space, or punctuation that
    /// stands alone and has no blank before it, which would take it.
    #[inline(always)]
    fn mark(&self, chunk: &mut Chunk, text: &[u8], ends_text: bool) -> bool {
        let mut before = Words::default();
        let (mut groups, mut apostrophes) = (Groups::new(self.digits), Later::new());
        let mut lines = Lines::new(self.trailing == Trailing::Whole && ends_text);
        for block in 0..chunk.blocks() {
            let mut here = Words::of(&chunk.kinds(block));
            let starts = here.starts(&before, chunk.text_follows(block))
                | single_numbers(self.digits, &here.kinds, &before.kinds)
                | groups.step(here.kinds.number);
            let (starts, _) = lines.step(chunk, block, &here.kinds, here.other, starts);
            chunk.set_starts(block, starts);
            apostrophes.add(block, here.kinds.apart & here.first);
            before = here;
        }
        apostrophes.each(|at| {
            if let Some(end) = contraction(chunk, text, at, Case::Insensitive) {
                chunk.start_at(end);
            }
        });
        true
    }
}

/// Words, numbers, white space and what is none of them, in a block. o200k has them too.
#[derive(Clone, Copy, Default)]
pub(super) struct Words {
    pub(super) kinds: Kinds,
    pub(super) letter: u64,
    pub(super) other: u64,
    /// Characters of `other` that begin a run of it and have no blank before them: a word may begin with one that stands alone.
    first: u64,
}

impl Words {
    pub(super) fn of(kinds: &Kinds) -> Self {
        Self { kinds: *kinds, letter: kinds.letter(), other: others(kinds), first: 0 }
    }

    /// Where pieces start but for line ends, contractions and groups of numbers. `text_follows` is the last bit if the
    /// next block begins with a character that is no white space.
    #[inline(always)]
    pub(super) fn starts(&mut self, before: &Self, text_follows: u64) -> u64 {
        let Kinds { number, space, newline, .. } = self.kinds;
        let earlier = &before.kinds;
        self.first =
            self.other & !behind(self.other, before.other) & !behind(self.kinds.blank, earlier.blank);
        let blanks = space & !newline;
        let with_word = behind(self.first, before.first) | behind(blanks, earlier.space & !earlier.newline);
        let words = self.letter & !behind(self.letter, before.letter) & !with_word;
        let numbers = number & !behind(number, earlier.number);
        let spaces = space & !behind(space, earlier.space);
        let text = self.kinds.valid & !space;
        let last_of_spaces = blanks & (text >> 1 | text_follows);
        words | numbers | self.first | spaces | last_of_spaces
    }
}
