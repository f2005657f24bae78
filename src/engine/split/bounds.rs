//! What the families share of the quick way to split: where pieces start, as bitmaps over the characters of a [`Chunk`].

use super::Digits;
use super::chunk::{BLOCKS, Chunk, Kinds, behind};
use super::class::LETTER;
use super::scan::{Case, contraction_end};
use crate::engine::bits::bits;

/// A family's regex, on a chunk at a time.
pub(super) trait Bounds {
    /// Marks in `chunk`, which holds `text`, the characters at which pieces start. The chunk splits as a text of its own; `ends_text`
    /// says whether its end is the end of the text. `false` where it holds what only the scanner knows.
    fn mark(&self, chunk: &mut Chunk, text: &[u8], ends_text: bool) -> bool;
}

/// Marks the groups of three in runs of numbers, where that is the rule. A group begins where a run does, and three characters behind
/// a group if those between are numbers too: taken in steps that double, that is some operations for all groups of a block.
pub(super) fn mark_groups(chunk: &mut Chunk, digits: Digits) {
    if digits != Digits::Group3 {
        return;
    }
    let (mut number_before, mut groups_before) = (0, 0);
    for block in 0..chunk.blocks() {
        let number = chunk.kinds(block).number;
        let second = number & behind(number, number_before);
        // With two more numbers before it.
        let mut third = second & (number << 2 | number_before >> 62);
        let mut groups = number & !second | groups_before >> 61 & third;
        if third != 0 {
            for step in [3, 6, 12, 24, 48] {
                groups |= groups << step & third;
                third &= third << step;
            }
            // Where a run begins is not for this to say: a blank may go with it.
            chunk.change_starts(block, 0, groups & second);
        }
        (number_before, groups_before) = (number, groups);
    }
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
pub(super) struct Lines<P> {
    /// Line ends go with the punctuation before them: which characters of a block are such.
    pub(super) punct: P,
    /// Slashes among and behind those line ends go with it too.
    pub(super) slash: bool,
    /// White space at the end of a text is one piece, even where it has line ends.
    pub(super) whole_at_end: bool,
}

/// `[^\s\p{L}\p{N}]`.
pub(super) fn others(kinds: &Kinds) -> u64 {
    kinds.valid & !(kinds.letter() | kinds.number | kinds.space)
}

impl<P: Fn(&Kinds) -> u64> Lines<P> {
    /// Marks the starts that line ends change: they go with punctuation before them, and white space has a cut behind
    /// its last one.
    #[inline(always)]
    pub(super) fn mark(&self, chunk: &mut Chunk, text: &[u8], ends_text: bool) {
        let mut slashes = [0; BLOCKS];
        let mut any_slash = 0;
        let (mut punct_before, mut goes_on) = (0, false);
        for (block, slashes) in slashes.iter_mut().enumerate().take(chunk.blocks()) {
            let kinds = chunk.kinds(block);
            let punct = (self.punct)(&kinds);
            if kinds.newline != 0 || goes_on {
                let begins = behind(punct, punct_before) | u64::from(goes_on);
                // Adding their first one to runs of line ends carries to what is behind them.
                let (sum, over) = kinds.newline.overflowing_add(begins & kinds.newline);
                let behind_them = sum & !kinds.newline | begins & u64::from(goes_on) & !kinds.newline;
                chunk.change_starts(block, kinds.newline & !sum, behind_them);
                goes_on = over;
                if self.slash {
                    *slashes = only_slashes(chunk, text, block, behind_them & kinds.valid);
                    any_slash |= *slashes;
                }
            }
            punct_before = punct;
        }
        self.mark_last(chunk, ends_text);
        if any_slash != 0 {
            for (block, map) in slashes.into_iter().enumerate() {
                bits(map).for_each(|bit| self.mark_slashes(chunk, text, block * 64 + bit));
            }
        }
    }

    /// White space has a cut behind its last line end. From the end to the front, as it is what follows that makes it the last.
    #[inline(always)]
    fn mark_last(&self, chunk: &mut Chunk, ends_text: bool) {
        let len = chunk.len();
        // A line end behind the end of the text, if that is not to be cut off.
        let one_more = self.whole_at_end && ends_text;
        // Of the character behind the block: whether it is white space, and whether no line end comes before the end of that.
        let (mut space_next, mut rest_next) = (one_more && len.is_multiple_of(64), false);
        for block in (0..chunk.blocks()).rev() {
            let Kinds { newline, mut space, .. } = chunk.kinds(block);
            let blanks = space & !newline;
            if one_more && block == len / 64 {
                space |= 1 << (len % 64);
            }
            let text_next = !(space >> 1 | u64::from(space_next) << 63);
            if newline == 0 {
                rest_next = match blanks.trailing_ones() {
                    0 => false,
                    64 => !space_next || rest_next,
                    run => space >> run & 1 == 0,
                };
                space_next = space & 1 != 0;
                continue;
            }
            let mut rest = blanks & (text_next | u64::from(rest_next) << 63);
            let mut whole = blanks;
            for step in [1, 2, 4, 8, 16, 32] {
                rest |= whole & rest >> step;
                whole &= whole >> step;
            }
            let last = newline & (text_next | rest >> 1 | u64::from(rest_next) << 63);
            chunk.change_starts(block, 0, last << 1);
            if last >> 63 != 0 {
                chunk.start_at((block + 1) * 64);
            }
            (space_next, rest_next) = (space & 1 != 0, rest & 1 != 0);
        }
    }

    /// Punctuation goes on with a slash behind its line ends, and with the line ends and slashes that follow.
    #[inline(never)]
    fn mark_slashes(&self, chunk: &mut Chunk, text: &[u8], at: usize) {
        let mut start = at;
        while chunk.is_there(start) && matches!(text[chunk.offset(start)], b'/' | b'\n' | b'\r') {
            chunk.no_start_at(start);
            start += 1;
        }
        chunk.start_at(start);
        // Another character begins a run of punctuation then, and may be all of it.
        let begins = chunk.is_there(start) && (self.punct)(&chunk.kinds(start / 64)) >> (start % 64) & 1 != 0;
        if begins && chunk.is(start + 1, LETTER) {
            chunk.no_start_at(start + 1);
        }
    }
}

/// Those characters of a map of a block that are slashes.
fn only_slashes(chunk: &Chunk, text: &[u8], block: usize, map: u64) -> u64 {
    let is_slash = |bit: &usize| text[chunk.offset(block * 64 + bit)] == b'/';
    bits(map).filter(is_slash).fold(0, |slashes, bit| slashes | 1 << bit)
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
        bits(map(&kinds, &before)).for_each(|bit| take(chunk, block * 64 + bit));
        before = kinds;
    }
}

/// The character behind a contraction whose apostrophe is the character at `at`, if that is one.
pub(super) fn contraction(chunk: &Chunk, text: &[u8], at: usize, case: Case) -> Option<usize> {
    let byte = chunk.offset(at);
    let end = contraction_end(text, byte, case)?;
    let is_long_s = text[byte + 1] >= 0x80;
    Some(at + if is_long_s { 2 } else { end - byte })
}
