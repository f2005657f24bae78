//! `o200k_base`, and tekken (Mistral), which is o200k without contractions and with numbers one by
//! one. A word is cut where an upper-case letter follows a lower-case one; its contraction stays with it.

use super::bounds::{Bounds, Groups, Later, Lines, contraction, mark_slashes, only_slashes, single_numbers};
use super::chunk::{Chunk, Kinds, behind};
use super::cl100k::Words;
use super::class::{CASELESS, Classes, LETTER, LOWER, MARK, NEWLINE, NUMBER, SPACE, UPPER, classes};
use super::scan::{Case, Scan, contraction_end, line_or_space_end, number_end};
use super::{Digits, Scanner, Spelling};

/// As tiktoken has it.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}", r"\p{N}+"],
    plain: None,
    scanner: |digits| Scanner::O200k(O200k::new(digits, Contractions::Joined)),
};

/// Tekken.
pub(super) static TEKKEN: Spelling = Spelling {
    regexes: &[
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    digits: Digits::Single,
    numbers: PUBLISHED.numbers,
    plain: None,
    scanner: |digits| Scanner::O200k(O200k::new(digits, Contractions::Apart)),
};

/// What becomes of a contraction after a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contractions {
    /// It ends the word's piece.
    Joined,
    /// It has no rule.
    Apart,
}

/// The scanner.
#[derive(Clone, Copy)]
pub(super) struct O200k {
    digits: Digits,
    contractions: Contractions,
    classes: &'static Classes,
}

impl O200k {
    fn new(digits: Digits, contractions: Contractions) -> Self {
        Self { digits, contractions, classes: classes() }
    }

    /// The end of a word whose letters start at `at`, and whether the first alternative (which wants a letter that
    /// may be lower case at its end) made it.
    ///
    /// With U = upper, caseless, mark and W = lower, caseless, mark, `U*W+` takes the whole run of U, and the W
    /// after it. Where no lower-case letter follows that run, U gives back down to the last character that is in W
    /// too, and W takes only that one, because what follows it is upper case. Where there is none, `U+W*` takes the
    /// run.
    #[inline(always)]
    fn letters_end(&self, text: &[u8], at: usize) -> (usize, bool) {
        let mut end = at;
        let mut last_in_both = None;
        loop {
            let (class, len) = self.classes.at(text, end);
            if class & UPPER != 0 {
                end += len;
            } else if class & (CASELESS | MARK) != 0 {
                end += len;
                last_in_both = Some(end);
            } else if class & LOWER != 0 {
                return (self.classes.run(text, end + len, LOWER | CASELESS | MARK), true);
            } else {
                return last_in_both.map_or((end, false), |end| (end, true));
            }
        }
    }

    #[inline(always)]
    fn with_contraction(&self, text: &[u8], end: usize) -> usize {
        match self.contractions {
            Contractions::Joined => contraction_end(text, end, Case::Insensitive).unwrap_or(end),
            Contractions::Apart => end,
        }
    }

    /// `[^\s\p{L}\p{N}]+[\r\n/]*`; marks count among the former, after the first.
    fn punct_end(&self, text: &[u8], at: usize) -> usize {
        let mut end = self.classes.run_without(text, at, LETTER | NUMBER | SPACE);
        while text.get(end).is_some_and(|byte| matches!(byte, b'\r' | b'\n' | b'/')) {
            end += 1;
        }
        end
    }
}

impl Scan for O200k {
    #[inline(always)]
    fn piece_end(&self, text: &[u8], at: usize) -> usize {
        let (class, len) = self.classes.at(text, at);
        let next = at + len;
        if class & LETTER != 0 {
            return self.with_contraction(text, self.letters_end(text, at).0);
        }
        if class & NUMBER != 0 {
            return number_end(self.classes, text, at, len, self.digits);
        }
        if class & NEWLINE != 0 {
            return line_or_space_end(self.classes, text, at);
        }
        // Anything else may stand before a word.
        let (after, after_len) = self.classes.at(text, next);
        if class & MARK != 0 {
            // A mark is a word by itself as well, and the first alternative is tried without a prefix before the
            // second one is tried with it.
            let end = match self.letters_end(text, next) {
                (end, true) => end,
                (_, false) => next,
            };
            self.with_contraction(text, end)
        } else if after & (LETTER | MARK) != 0 {
            self.with_contraction(text, self.letters_end(text, next).0)
        } else if class & SPACE == 0 {
            self.punct_end(text, next)
        } else if text[at] == b' ' && after_len > 0 && after & (NUMBER | SPACE) == 0 {
            self.punct_end(text, next + after_len)
        } else {
            line_or_space_end(self.classes, text, at)
        }
    }
}

impl Bounds for O200k {
    /// Words as in cl100k, cut where an upper-case letter follows one that ends a word. Marks, which are letters and punctuation at
    /// once, are left to the scanner.
    #[inline(always)]
    fn mark(&self, chunk: &mut Chunk, text: &[u8], _ends_text: bool) -> bool {
        let mut before = Words::default();
        let (mut groups, mut lines) = (Groups::new(self.digits), Lines::new(false));
        let (mut mixed, mut apostrophes, mut slashes) = (Later::new(), Later::new(), Later::new());
        let mut marks = 0;
        for block in 0..chunk.blocks() {
            let mut here = Words::of(&chunk.kinds(block));
            let Kinds { upper, lower, caseless, mark, number, apart, .. } = here.kinds;
            let earlier = &before.kinds;
            let starts = here.starts(&before, chunk.text_follows(block))
                | upper & behind(lower, earlier.lower)
                | single_numbers(self.digits, &here.kinds, earlier)
                | groups.step(number);
            let (starts, behind_lines) = lines.step(chunk, block, &here.kinds, here.other, starts);
            chunk.set_starts(block, starts);
            marks |= mark;
            mixed.add(block, upper & behind(caseless, earlier.caseless));
            apostrophes.add(block, apart & behind(here.letter, before.letter));
            slashes.add(block, only_slashes(chunk, text, block, behind_lines));
            before = here;
        }
        if marks != 0 {
            return false;
        }
        mixed.each(|at| {
            if is_cut_behind_caseless(chunk, at) {
                chunk.start_at(at);
            }
        });
        if self.contractions == Contractions::Joined {
            self.mark_contractions(&apostrophes, chunk, text);
        }
        slashes.each(|at| mark_slashes(chunk, text, at));
        true
    }
}

/// Whether a word is cut between a letter without case and the upper-case one behind it, at `at`: where a lower-case one comes
/// before those without case, or where the word ends with upper-case ones.
fn is_cut_behind_caseless(chunk: &Chunk, at: usize) -> bool {
    let mut first = at - 1;
    while first > 0 && chunk.is(first - 1, CASELESS) {
        first -= 1;
    }
    if first > 0 && chunk.is(first - 1, LOWER) {
        return true;
    }
    let mut end = at;
    while chunk.is(end, UPPER) {
        end += 1;
    }
    !chunk.is(end, LETTER)
}

impl O200k {
    /// A contraction goes with the word before it, and what is behind it begins anew.
    fn mark_contractions(&self, apostrophes: &Later, chunk: &mut Chunk, text: &[u8]) {
        let mut done = 0;
        apostrophes.each(|at| {
            // The letter before may be the end of another contraction, and then this is a word of its own.
            if at <= done {
                return;
            }
            let Some(end) = contraction(chunk, text, at, Case::Insensitive) else { return };
            chunk.no_start_at(at);
            (at..end).for_each(|inside| chunk.no_start_at(inside));
            chunk.start_at(end);
            done = end;
            // Letters behind it are cut as if no letter were before them.
            let mut next = end;
            while chunk.is(next, LETTER) {
                let piece_end = self.letters_end(text, chunk.offset(next)).0;
                let mut cut = next + 1;
                while chunk.is_there(cut) && chunk.offset(cut) < piece_end {
                    chunk.no_start_at(cut);
                    cut += 1;
                }
                chunk.start_at(cut);
                next = cut;
            }
        });
    }
}
