//! What the families share of the quick way to split: where pieces start, as bitmaps over the characters of a [`Chunk`].
//!
//! One pass over the blocks of a chunk: each rule is a step that keeps what it has to know of the block before. What depends on more
//! than bitmaps say is put off until all blocks are marked ([`Later`]).

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

/// The groups of three in runs of numbers, where that is the rule. A group begins where a run does, and three characters behind
/// a group if those between are numbers too: taken in steps that double, that is some operations for all groups of a block.
pub(super) struct Groups {
    wanted: bool,
    number_before: u64,
    before: u64,
}

impl Groups {
    pub(super) fn new(digits: Digits) -> Self {
        Self { wanted: digits == Digits::Group3, number_before: 0, before: 0 }
    }

    /// The characters of the next block at which groups start, but for those at which a run does: a blank may go with it.
    #[inline(always)]
    pub(super) fn step(&mut self, number: u64) -> u64 {
        if !self.wanted {
            return 0;
        }
        let second = number & behind(number, self.number_before);
        // With two more numbers before it.
        let mut third = second & (number << 2 | self.number_before >> 62);
        let mut groups = number & !second | self.before >> 61 & third;
        if third != 0 {
            for step in [3, 6, 12, 24, 48] {
                groups |= groups << step & third;
                third &= third << step;
            }
        }
        (self.number_before, self.before) = (number, groups);
        groups & second
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

/// Characters to be looked at one by one when all blocks are marked.
pub(super) struct Later {
    maps: [u64; BLOCKS],
    /// A bit for each block that has some.
    blocks: u64,
}

const _: () = assert!(BLOCKS <= u64::BITS as usize);

impl Later {
    pub(super) fn new() -> Self {
        Self { maps: [0; BLOCKS], blocks: 0 }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, block: usize, map: u64) {
        self.maps[block % BLOCKS] = map;
        self.blocks |= u64::from(map != 0) << block;
    }

    /// Calls `take` with each of them, in order.
    #[inline(always)]
    pub(super) fn each(&self, mut take: impl FnMut(usize)) {
        for block in bits(self.blocks) {
            bits(self.maps[block % BLOCKS]).for_each(|bit| take(block * 64 + bit));
        }
    }
}

/// `[^\s\p{L}\p{N}]`.
pub(super) fn others(kinds: &Kinds) -> u64 {
    kinds.valid & !(kinds.letter() | kinds.number | kinds.space)
}

/// The starts that line ends change: they go with punctuation before them, and white space has a cut behind its last one.
pub(super) struct Lines {
    /// Behind the end of the chunk there is to be a line end that is not cut off: so none before it is the last.
    one_more: bool,
    punct_before: u64,
    /// Line ends that go with punctuation reach to the end of the block.
    goes_on: bool,
    /// The block's last character is the last line end of white space.
    cut: u64,
}

impl Lines {
    /// With `one_more` white space at the end of the chunk is one piece, even where it has line ends.
    pub(super) fn new(one_more: bool) -> Self {
        Self { one_more, punct_before: 0, goes_on: false, cut: 0 }
    }

    /// What becomes of the starts of the next block, and the characters behind line ends that go with the punctuation before them: `punct`
    /// are the characters that they go with.
    #[inline(always)]
    pub(super) fn step(
        &mut self,
        chunk: &Chunk,
        block: usize,
        kinds: &Kinds,
        punct: u64,
        starts: u64,
    ) -> (u64, u64) {
        let punct_before = std::mem::replace(&mut self.punct_before, punct);
        let starts = starts | std::mem::take(&mut self.cut);
        let newline = kinds.newline;
        if newline == 0 && !self.goes_on {
            return (starts, 0);
        }
        let goes_on = u64::from(self.goes_on);
        let begins = behind(punct, punct_before) | goes_on;
        // Adding their first one to runs of line ends carries to what is behind them.
        let (sum, over) = newline.overflowing_add(begins & newline);
        let behind_them = (sum & !newline | begins & goes_on & !newline) & kinds.valid;
        self.goes_on = over;
        let last = self.last(chunk, block, kinds);
        self.cut = last >> 63;
        ((starts & !(newline & !sum) | behind_them | last << 1) & kinds.valid, behind_them)
    }

    /// The line ends behind which white space has no other.
    #[inline(always)]
    fn last(&self, chunk: &Chunk, block: usize, kinds: &Kinds) -> u64 {
        let space = self.space(chunk, block, kinds);
        let (space_next, rest_next) =
            if space >> 63 == 0 { (false, false) } else { self.ahead(chunk, block) };
        let text_next = !(space >> 1 | u64::from(space_next) << 63);
        let mut whole = kinds.space & !kinds.newline;
        let mut rest = whole & (text_next | u64::from(rest_next) << 63);
        for step in [1, 2, 4, 8, 16, 32] {
            rest |= whole & rest >> step;
            whole &= whole >> step;
        }
        kinds.newline & (text_next | rest >> 1 | u64::from(rest_next) << 63)
    }

    /// White space, and what is to count as such behind the end.
    #[inline(always)]
    fn space(&self, chunk: &Chunk, block: usize, kinds: &Kinds) -> u64 {
        let ends_here = self.one_more && block == chunk.len() / 64;
        kinds.space | u64::from(ends_here) << (chunk.len() % 64)
    }

    /// Whether white space follows a block, and whether that has no line end.
    fn ahead(&self, chunk: &Chunk, block: usize) -> (bool, bool) {
        let mut any = false;
        for next in block + 1..chunk.blocks() {
            let kinds = chunk.kinds(next);
            let space = self.space(chunk, next, &kinds);
            match (kinds.space & !kinds.newline).trailing_ones() {
                0 => return (any || space & 1 != 0, any && space & 1 == 0),
                64 => any = true,
                run => return (true, space >> run & 1 == 0),
            }
        }
        let one_more = self.one_more && chunk.len().is_multiple_of(64);
        (any || one_more, any && !one_more)
    }
}

/// Those characters of a map of a block that are slashes.
pub(super) fn only_slashes(chunk: &Chunk, text: &[u8], block: usize, map: u64) -> u64 {
    let is_slash = |bit: &usize| text[chunk.offset(block * 64 + bit)] == b'/';
    bits(map).filter(is_slash).fold(0, |slashes, bit| slashes | 1 << bit)
}

/// Punctuation goes on with a slash behind its line ends, and with the line ends and slashes that follow.
#[inline(never)]
pub(super) fn mark_slashes(chunk: &mut Chunk, text: &[u8], at: usize) {
    let mut start = at;
    while chunk.is_there(start) && matches!(text[chunk.offset(start)], b'/' | b'\n' | b'\r') {
        chunk.no_start_at(start);
        start += 1;
    }
    chunk.start_at(start);
    // Another character begins a run of punctuation then, and may be all of it.
    let begins = chunk.is_there(start) && others(&chunk.kinds(start / 64)) >> (start % 64) & 1 != 0;
    if begins && chunk.is(start + 1, LETTER) {
        chunk.no_start_at(start + 1);
    }
}

/// The character behind a contraction whose apostrophe is the character at `at`, if that is one.
pub(super) fn contraction(chunk: &Chunk, text: &[u8], at: usize, case: Case) -> Option<usize> {
    let byte = chunk.offset(at);
    let end = contraction_end(text, byte, case)?;
    let is_long_s = text[byte + 1] >= 0x80;
    Some(at + if is_long_s { 2 } else { end - byte })
}
