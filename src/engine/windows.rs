//! Long stretches of symbols, window by window: what merging leaves of a text however long, by merging no more than a window at a
//! time.
//!
//! Merging takes the lowest pair, the leftmost of several, until there is none. For any such order of pairs holds:
//!
//! - *A border that is never crossed splits the work.* Up to the first merge across a border both sides are merged as they would be
//!   alone, since the choice of the lowest, leftmost pair within a stretch does not depend on what is beside it.
//! - So a sequence of tokens is what merging leaves of its text **iff each two neighbours are what merging leaves of the text of those
//!   two**: the first merge across any border would happen among the two tokens beside it as well.
//! - So where what merging leaves of a text up to some place and what it leaves of a window, which begins at one of its borders, have
//!   one and the same token in the same place, *the tokens up to that one and those of the window behind it are what merging leaves of
//!   the text up to the window's end*: each two neighbours in it are neighbours in one of the two.
//! - And where a text repeats itself behind tokens that stand twice, they stand there as often as it does.
//!
//! A window begins some tokens before the end of the one before. What its end changes in the tokens before it reaches back over few of
//! them: each further one must be merged later than the last. Where no token is the same, more is done again, then more at once,
//! and in the end the caller does the whole by another way. All that is bounded by the length of the text, and what it
//! works in by the length of a window.

use super::bits::bits;
use super::encode::Stretch;
use super::{Rank, TokenId};
use std::ops::Range;

/// What a text is made of, and what that merges into. A symbol is an id, or what else is merged by.
pub(super) trait Merging {
    /// The symbol that begins at a place of the text, and the place behind it; `None` at its end.
    fn begin(&self, at: usize) -> Option<(TokenId, usize)>;

    /// Rank and result of merging two symbols; [`NEVER`] where they do not.
    fn pair(&mut self, left: TokenId, right: TokenId) -> (Rank, TokenId);

    /// For how many places from `at` on the text is the same as so many places before.
    fn repeated(&self, at: usize, period: usize) -> usize;
}

/// The rank of a pair that does not merge.
pub(super) const NEVER: Rank = Rank::MAX;

/// Most symbols of a window: a bit each in a word.
const LANES: usize = 64;

/// Bits of a key for the symbol's place.
const LANE_BITS: u32 = LANES.trailing_zeros();

/// The key of a pair that does not merge, above that of every one that does.
const NO_KEY: i32 = i32::MAX;

/// The first rank that a key has no room for.
pub(super) const TOO_HIGH: Rank = 1 << (31 - LANE_BITS);

/// Symbols of a window where the others are too narrow.
const WIDE: usize = 4096;

/// How many tokens before the end of what is known a window begins; and how many if that is too few.
const BACK: [usize; 2] = [3, 24];

/// The same for wide windows; the first time no more than half of what is known, so that there is more of the text to be had.
const WIDE_BACK: [usize; 2] = [24, 1024];

/// By how many places a window has to get on, a wide one by how many.
const LEAST: usize = 8;
const WIDE_LEAST: usize = 1024;

/// Most tokens of which it is looked whether they repeat themselves, and how often the text then has to.
const MAX_PERIOD: usize = 8;
const LEAST_COPIES: usize = 4;

/// A token in its place; it reaches to where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    start: usize,
    id: TokenId,
}

/// Windows of a text.
struct Windows<'w, M> {
    merging: &'w mut M,
    stretch: &'w mut Stretch,
    /// What merging leaves of the text up to `end`, but for the tokens that were handed on.
    known: Vec<Token>,
    end: usize,
    /// The window that is joined to it.
    next: Vec<Token>,
}

/// Hands what merging leaves of a whole text to `take`, with its places. Where windows do not lead to it the answer is no, and what was
/// handed on is void; where `is_stopped` says so nothing more is.
pub(super) fn merge<M: Merging>(
    merging: &mut M,
    stretch: &mut Stretch,
    is_stopped: impl Fn() -> bool,
    mut take: impl FnMut(TokenId, Range<usize>),
) -> bool {
    let (known, next) = (Vec::with_capacity(LANES), Vec::with_capacity(LANES));
    let mut windows = Windows { merging, stretch, known, end: 0, next };
    let Some(end) = windows.narrow(0) else { return false };
    std::mem::swap(&mut windows.known, &mut windows.next);
    windows.end = end;
    let mut looked = 0;
    while windows.merging.begin(windows.end).is_some() {
        // Each window has a symbol, and so a token.
        windows.repeat(&mut take);
        if !windows.go_on(&mut take) {
            return false;
        }
        if windows.end - looked > LOOK {
            looked = windows.end;
            if is_stopped() {
                return true;
            }
        }
    }
    windows.hand_on(windows.known.len(), &mut take);
    true
}

/// Places after which it is asked whether to go on.
pub(super) const LOOK: usize = 1 << 14;

impl<M: Merging> Windows<'_, M> {
    /// Hands on the first of the tokens that are known.
    fn hand_on(&mut self, count: usize, take: &mut impl FnMut(TokenId, Range<usize>)) {
        // Of an empty text there is none.
        let ends = self.known.iter().skip(1).map(|token| token.start).chain([self.end]);
        self.known[..count].iter().zip(ends).for_each(|(token, end)| take(token.id, token.start..end));
    }

    /// Joins another window to what is known.
    fn go_on(&mut self, take: &mut impl FnMut(TokenId, Range<usize>)) -> bool {
        let len = self.known.len();
        let narrow = BACK.map(|back| (back.min(len - 1), LEAST));
        let wide = [WIDE_BACK[0].min(len / 2 + 1), WIDE_BACK[1].min(len)].map(|back| (back, WIDE_LEAST));
        for (back, least) in narrow.into_iter().filter(|(back, _)| *back > 0).chain(wide) {
            let first = len - back;
            let start = self.known[first].start;
            let end = if least == LEAST { self.narrow(start) } else { self.wide(start) };
            let Some(end) = end else { return false };
            if end < self.end + least && self.merging.begin(end).is_some() {
                continue;
            }
            // What is left of the text from its beginning needs no token in common with what was left of less of it.
            let joined = if start == 0 { Some((0, 0)) } else { common(&self.known[first..], &self.next) };
            if let Some((here, there)) = joined {
                self.hand_on(first + here, take);
                self.next.drain(..there);
                std::mem::swap(&mut self.known, &mut self.next);
                self.end = end;
                return true;
            }
        }
        false
    }

    /// Where the last tokens but those that the end may change stand twice, and the text goes on so, as often as it does.
    fn repeat(&mut self, take: &mut impl FnMut(TokenId, Range<usize>)) {
        // What is left out only if there is enough else: long tokens are few in a window.
        let len = self.known.len() - BACK[0].min(self.known.len() / 4);
        let is_same = |&period: &usize| {
            len >= 2 * period
                && self.known[len - 1].id == self.known[len - 1 - period].id
                && (len - period..len).all(|at| self.known[at].id == self.known[at - period].id)
        };
        let Some(count) = (1..=MAX_PERIOD).find(is_same) else { return };
        let start = self.known.get(len).map_or(self.end, |token| token.start);
        let period = start - self.known[len - count].start;
        let copies = self.merging.repeated(start, period) / period;
        let end = start + copies * period;
        if copies < LEAST_COPIES || end <= self.end {
            return;
        }
        self.hand_on(len - count, take);
        // The last ones may still change; of them enough stay for a window to begin in.
        let kept = (BACK[1] / count + 2).min(copies);
        let copy: Vec<Token> = self.known[len - count..len].to_vec();
        let ends: Vec<usize> = copy[1..].iter().map(|token| token.start).chain([start]).collect();
        for nth in 0..=copies - kept {
            for (token, end) in copy.iter().zip(&ends) {
                take(token.id, token.start + nth * period..end + nth * period);
            }
        }
        self.known.clear();
        for nth in copies - kept + 1..=copies {
            let moved = |token: &Token| Token { start: token.start + nth * period, id: token.id };
            self.known.extend(copy.iter().map(moved));
        }
        self.end = end;
    }

    /// What merging leaves of the window at a place, into `next`; its end. `None` where a rank is too high for it.
    fn narrow(&mut self, start: usize) -> Option<usize> {
        let mut lanes = Lanes::default();
        let end = lanes.fill(self.merging, start)?;
        lanes.merge(self.merging)?;
        self.next.clear();
        self.next.extend(lanes.tokens());
        Some(end)
    }

    /// The same for a wide window.
    fn wide(&mut self, start: usize) -> Option<usize> {
        let (merging, mut at) = (&mut *self.merging, start);
        let begin = || {
            let (symbol, end) = merging.begin(at)?;
            Some((std::mem::replace(&mut at, end), symbol))
        };
        let symbols: Vec<(usize, TokenId)> = std::iter::from_fn(begin).take(WIDE).collect();
        let pair = &mut |left, right| merging.pair(left, right);
        let left = self.stretch.merge(pair, symbols.iter().map(|symbol| symbol.1));
        self.next.clear();
        self.next.extend(left.map(|(at, id)| Token { start: symbols[at].0, id }));
        Some(at)
    }
}

/// How many bytes from the first `left` and `right` have in common.
pub(super) fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    const STEP: usize = 32;
    let steps = left.chunks_exact(STEP).zip(right.chunks_exact(STEP));
    let same = STEP * steps.take_while(|(left, right)| left == right).count();
    same + left[same..].iter().zip(&right[same..]).take_while(|(left, right)| left == right).count()
}

/// Where two sequences have the first token in common.
fn common(left: &[Token], right: &[Token]) -> Option<(usize, usize)> {
    let (mut here, mut there) = (0, 0);
    loop {
        let (one, other) = (left.get(here)?, right.get(there)?);
        if one == other {
            return Some((here, there));
        }
        here += usize::from(one.start <= other.start);
        there += usize::from(one.start >= other.start);
    }
}

/// A window: each symbol stays in the lane that it began in, and one that was merged into its left neighbour leaves its lane empty.
struct Lanes {
    /// By lane: rank of the pair with the next symbol, and the lane, so that the lowest is the one to merge.
    keys: [i32; LANES],
    made: [TokenId; LANES],
    symbols: [TokenId; LANES],
    starts: [usize; LANES],
    taken: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { keys: [NO_KEY; LANES], made: [0; LANES], symbols: [0; LANES], starts: [0; LANES], taken: 0 }
    }
}

impl Lanes {
    /// Takes symbols from a place on; gives the place behind them.
    #[inline]
    fn fill(&mut self, merging: &mut impl Merging, start: usize) -> Option<usize> {
        let mut at = start;
        for lane in 0..LANES {
            let Some((symbol, end)) = merging.begin(at) else { break };
            self.symbols[lane] = symbol;
            self.starts[lane] = at;
            self.taken |= 1 << lane;
            if lane > 0 {
                self.look_up(merging, lane - 1, lane)?;
            }
            at = end;
        }
        Some(at)
    }

    #[inline]
    fn look_up(&mut self, merging: &mut impl Merging, left: usize, right: usize) -> Option<()> {
        let (rank, made) = merging.pair(self.symbols[left], self.symbols[right]);
        self.made[left] = made;
        self.keys[left] = match rank {
            NEVER => NO_KEY,
            TOO_HIGH.. => return None,
            rank => (rank << LANE_BITS) as i32 | left as i32,
        };
        Some(())
    }

    #[inline]
    fn merge(&mut self, merging: &mut impl Merging) -> Option<()> {
        loop {
            let lowest = self.lowest();
            if lowest == NO_KEY {
                return Some(());
            }
            let lane = lowest as usize % LANES;
            self.symbols[lane] = self.made[lane];
            let behind = self.taken & (u64::MAX << lane << 1);
            let others = behind & behind.wrapping_sub(1);
            let gone = behind.trailing_zeros() as usize % LANES;
            self.taken &= !(1 << gone);
            self.keys[gone] = NO_KEY;
            self.keys[lane] = NO_KEY;
            if others != 0 {
                self.look_up(merging, lane, others.trailing_zeros() as usize)?;
            }
            let before = self.taken & !(u64::MAX << lane);
            if before != 0 {
                self.look_up(merging, before.ilog2() as usize, lane)?;
            }
        }
    }

    #[inline]
    fn lowest(&self) -> i32 {
        let mut lowest = [NO_KEY; 8];
        for keys in self.keys.as_chunks::<8>().0 {
            for (lowest, key) in lowest.iter_mut().zip(keys) {
                *lowest = (*lowest).min(*key);
            }
        }
        lowest.into_iter().fold(NO_KEY, i32::min)
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        bits(self.taken).map(|lane| Token { start: self.starts[lane], id: self.symbols[lane] })
    }
}

#[cfg(test)]
mod tests;
