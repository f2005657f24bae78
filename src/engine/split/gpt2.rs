//! GPT-2, r50k, p50k. Numbers take a space before them as words do; contractions are in lower case only; line
//! ends are white space like any other.

use super::class::{Classes, LETTER, NUMBER, SPACE, classes};
use super::scan::{Case, Scan, contraction_end, number_end, space_end};
use super::{Digits, Scanner, Spelling};

/// As tiktoken has it now.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"],
    digits: Digits::Run,
    numbers: [r" ?\p{N}", r" ?\p{N}{1,3}", r" ?\p{N}++"],
    plain: Some(&OLDER),
    scanner: |digits| Scanner::Gpt2(Gpt2::new(digits)),
};

/// See [`OLDER`].
pub(super) const OLDER_REGEX: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// As GPT-2's own code had it, and the byte-level pre-tokenizer of Hugging Face: the same pieces.
pub(super) static OLDER: Spelling = Spelling {
    regexes: &[OLDER_REGEX],
    digits: Digits::Run,
    numbers: [r" ?\p{N}", r" ?\p{N}{1,3}", r" ?\p{N}+"],
    plain: None,
    scanner: PUBLISHED.scanner,
};

/// The scanner.
#[derive(Clone, Copy)]
pub(super) struct Gpt2 {
    digits: Digits,
    classes: &'static Classes,
}

impl Gpt2 {
    fn new(digits: Digits) -> Self {
        Self { digits, classes: classes() }
    }
}

impl Scan for Gpt2 {
    #[inline(always)]
    fn piece_end(&self, text: &[u8], at: usize) -> usize {
        let first = text[at];
        if first == b'\''
            && let Some(end) = contraction_end(text, at, Case::Sensitive)
        {
            return end;
        }
        let start = if first == b' ' { at + 1 } else { at };
        let (class, len) = self.classes.at(text, start);
        if class & LETTER != 0 {
            self.classes.run(text, start + len, LETTER)
        } else if class & NUMBER != 0 {
            number_end(self.classes, text, start, len, self.digits)
        } else if class & SPACE == 0 && len > 0 {
            self.classes.run_without(text, start + len, LETTER | NUMBER | SPACE)
        } else {
            space_end(self.classes, text, at)
        }
    }
}
