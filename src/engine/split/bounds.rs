//! What the families share of the quick way to split: where pieces start, as bitmaps over the characters of a [`Chunk`].

use super::Digits;
use super::chunk::{Chunk, Kinds, behind};
use super::class::{LETTER, NEWLINE, NUMBER, SPACE};
use super::scan::{Case, contraction_end};

/// A family's regex, on a chunk at a time.
pub(super) trait Bounds {
    /// Marks in `chunk`, which holds `text`, the characters at which pieces start. The chunk splits as a text of its own; `ends_text`
    /// says whether its end is the end of the text. `false` where it holds what only the scanner knows.
    fn mark(&self, chunk: &mut Chunk, text: &[u8], ends_text: bool) -> bool;
}

/// Marks the groups of three in runs of numbers, where that is the rule: from the fourth character of a run on.
pub(super) fn mark_groups(chunk: &mut Chunk, digits: Digits) {
    if digits != Digits::Group3 {
        return;
    }
    let fourth = |kinds: &Kinds, before: &Kinds| {
        let (number, earlier) = (kinds.number, before.number);
        number & behind(number, earlier) & (number << 2 | earlier >> 62) & (number << 3 | earlier >> 61)
    };
    let mut done = 0;
    each(chunk, fourth, |chunk, mut at| {
        let mut len = 3;
        while at >= done && chunk.is(at, NUMBER) {
            if len % 3 == 0 {
                chunk.start_at(at);
            }
            (at, len) = (at + 1, len + 1);
        }
        done = done.max(at);
    });
}

/// The characters that start a piece of numbers behind a number, where numbers stand one by one.
#[inline(always)]
pub(super) fn single_numbers(digits: Digits, kinds: &Kinds, before: &Kinds) -> u64 {
    match digits {
        Digits::Single => kinds.number & behind(kinds.number, before.number),
        Digits::Run | Digits::Group3 => 0,
    }
}

/// What line ends go with.
pub(super) struct Lines {
    /// Line ends go with the punctuation before them: whether a character of this class is such.
    pub(super) punct: fn(u8) -> bool,
    /// Slashes among and behind those line ends go with it too.
    pub(super) slash: bool,
    /// White space at the end of a text is one piece, even where it has line ends.
    pub(super) whole_at_end: bool,
}

/// Whether a class is `[^\s\p{L}\p{N}]`.
pub(super) fn is_other(class: u8) -> bool {
    class & (LETTER | NUMBER | SPACE) == 0
}

impl Lines {
    /// Marks the starts that line ends change: they go with punctuation before them, and white space has a cut behind
    /// its last one.
    pub(super) fn mark(&self, chunk: &mut Chunk, text: &[u8], ends_text: bool) {
        let mut done = 0;
        each(
            chunk,
            |kinds, _| kinds.newline,
            |chunk, at| {
                if at >= done {
                    done = self.mark_run(chunk, text, at, ends_text);
                }
            },
        );
    }

    /// The same for one run of white space, from its first line end at `at`; gives its end.
    fn mark_run(&self, chunk: &mut Chunk, text: &[u8], at: usize, ends_text: bool) -> usize {
        let is_newline = |chunk: &Chunk, at| chunk.class(at) & (NEWLINE | SPACE) == NEWLINE | SPACE;
        let mut start = at;
        if at > 0 && (self.punct)(chunk.class(at - 1)) {
            let goes_on = |chunk: &Chunk, at: usize| {
                is_newline(chunk, at) || self.slash && chunk.is_there(at) && text[chunk.offset(at)] == b'/'
            };
            while goes_on(chunk, start) {
                chunk.no_start_at(start);
                start += 1;
            }
            chunk.start_at(start);
            // Behind a slash that went with a line end another character begins a run of punctuation, and may be all of it.
            let begins = self.slash && chunk.is_there(start) && (self.punct)(chunk.class(start));
            if begins && chunk.is(start + 1, LETTER) {
                chunk.no_start_at(start + 1);
            }
        }
        let end = if chunk.is_there(start) { chunk.spaces_end(start) } else { start };
        let Some(last) = chunk.last_newline(start, end) else { return end };
        if !(self.whole_at_end && ends_text && end == chunk.len()) {
            chunk.start_at(last + 1);
        }
        end
    }
}

/// Calls `take` with each character of a map made for each block from its kinds and those of the block before, in order.
#[inline(always)]
pub(super) fn each(
    chunk: &mut Chunk,
    map: impl Fn(&Kinds, &Kinds) -> u64,
    mut take: impl FnMut(&mut Chunk, usize),
) {
    let mut before = Kinds::default();
    for block in 0..chunk.blocks() {
        let kinds = chunk.kinds(block);
        let mut left = map(&kinds, &before);
        before = kinds;
        while left != 0 {
            take(chunk, block * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

/// The character behind a contraction whose apostrophe is the character at `at`, if that is one.
pub(super) fn contraction(chunk: &Chunk, text: &[u8], at: usize, case: Case) -> Option<usize> {
    let byte = chunk.offset(at);
    let end = contraction_end(text, byte, case)?;
    let is_long_s = text[byte + 1] >= 0x80;
    Some(at + if is_long_s { 2 } else { end - byte })
}
