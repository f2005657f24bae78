//! GPT-2, r50k, p50k. Numbers take a space before them as words do; contractions are in lower case only; line
//! ends are white space like any other.

use super::bounds::{Bounds, Groups, Later, contraction, others, single_numbers};
use super::chunk::{Chunk, Kinds, behind};
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

impl Bounds for Gpt2 {
    /// A blank goes with the word, the number or the punctuation behind it.
    #[inline(always)]
    fn mark(&self, chunk: &mut Chunk, text: &[u8], _ends_text: bool) -> bool {
        let mut before = Kinds::default();
        let (mut groups, mut apostrophes) = (Groups::new(self.digits), Later::new());
        for block in 0..chunk.blocks() {
            let kinds = chunk.kinds(block);
            let begins = |map: u64, map_before: u64| map & !behind(map, map_before);
            let (other, other_before) = (others(&kinds), others(&before));
            let words = begins(kinds.letter(), before.letter())
                | begins(kinds.number, before.number)
                | begins(other, other_before);
            let text = kinds.valid & !kinds.space;
            let last_of_spaces = kinds.space & (text >> 1 | chunk.text_follows(block));
            let with_blank = behind(kinds.blank, before.blank);
            let starts = words & !with_blank
                | begins(kinds.space, before.space)
                | last_of_spaces
                | single_numbers(self.digits, &kinds, &before)
                | groups.step(kinds.number);
            chunk.set_starts(block, starts);
            apostrophes.add(block, kinds.apart & !behind(other, other_before) & !with_blank);
            before = kinds;
        }
        apostrophes.each(|at| {
            if let Some(end) = contraction(chunk, text, at, Case::Sensitive) {
                chunk.no_start_at(at + 1);
                chunk.start_at(end);
            }
        });
        true
    }
}
