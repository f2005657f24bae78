//! Short pieces: by the definition, lowest pair first, with the pairs that come up again and again at hand.
//!
//! Going from left to right as [`Linear::encode`] does reads tables of some mebibytes in places that no processor foresees. The
//! pairs inside of words are few, and what they become is remembered here in a table that the first caches hold. It took English
//! with cl100k from 146 to 160 MB/s when it was new text, and from 150 to 195 when it was not.

use super::pairs::{pair, slot};
use super::{Linear, NONE, SYMBOL_BITS, SYMBOL_MASK, Symbol};
use crate::engine::TokenId;
use crate::engine::bits::bits;
use crate::engine::prefetch::prefetch;

/// Most bytes of such a piece.
pub(in crate::engine) const LONGEST_WORD: usize = 32;

const SLOTS_LOG2: u32 = 13;

/// What pairs merge into: left, right and result in a word, at the place that the pair's hash says.
pub(in crate::engine) struct PairCache(Box<[u64; 1 << SLOTS_LOG2]>);

impl Default for PairCache {
    fn default() -> Self {
        // No pair has all bits: a symbol has fewer.
        Self(Box::new([u64::MAX; 1 << SLOTS_LOG2]))
    }
}

impl PairCache {
    /// Bytes of heap.
    pub(in crate::engine) const MEMORY_BYTES: usize = 8 << SLOTS_LOG2;

    #[inline(always)]
    pub(super) fn get(&mut self, linear: &Linear, left: Symbol, right: Symbol) -> Symbol {
        // Most of those that are asked for never merge, and leave the places to others.
        if !linear.pairs.may_merge(left, right) {
            return NONE;
        }
        let pair = pair(left, right);
        let home = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS_LOG2)) as usize;
        let known = &mut self.0[home];
        if *known >> SYMBOL_BITS != pair {
            *known = slot(left, right, linear.pairs.get(left, right));
        }
        (*known & SYMBOL_MASK) as Symbol
    }
}

impl Linear {
    /// Appends what merging leaves of the bytes of `piece`, of which there are up to [`LONGEST_WORD`].
    ///
    /// With `chars` it begins with the characters that are tokens. That is the same where no token reaches over a border between
    /// characters with a part of one: then what merges first is inside of characters, and a merge comes after those of its parts,
    /// so that none with a whole character comes before that one is made.
    pub(in crate::engine) fn encode_word(
        &self,
        piece: &[u8],
        chars: Option<&str>,
        cache: &mut PairCache,
        out: &mut Vec<TokenId>,
    ) {
        debug_assert!(piece.len() <= LONGEST_WORD, "a longer piece is none of those");
        debug_assert!(chars.is_none_or(|chars| chars.as_bytes() == piece), "the same piece");
        let mut begin = Beginning { symbols: [NONE; LONGEST_WORD], len: 0, apart: 0 };
        match chars {
            None => piece.iter().for_each(|&byte| begin.push(Symbol::from(byte))),
            Some(text) => text.chars().for_each(|c| match self.char(c) {
                Some(symbol) => begin.push(symbol),
                None => self.spell(c, &mut begin),
            }),
        }
        let Beginning { mut symbols, len, apart } = begin;
        // What each symbol becomes with the next one, and behind that its place: the lowest number is the pair that goes first, as a
        // symbol that was made earlier has the lower number.
        let mut becomes = [u32::MAX; LONGEST_WORD];
        let becoming = |symbol: Symbol, at: usize| symbol << PLACE_BITS | at as u32;
        for at in 1..len {
            if apart >> at & 1 != 0 {
                continue;
            }
            let (left, right) = (symbols[at - 1], symbols[at]);
            let made = self.pairs.of_bytes(left, right).unwrap_or_else(|| cache.get(self, left, right));
            becomes[at - 1] = becoming(made, at - 1);
        }
        // Where there is a symbol. Nothing is moved when one goes.
        let mut there = u32::MAX.checked_shr(LONGEST_WORD as u32 - len as u32).unwrap_or(0);
        loop {
            let lowest = bits(there.into()).map(|at| becomes[at]).min().unwrap_or(u32::MAX);
            let (symbol, at) = (lowest >> PLACE_BITS, lowest as usize % LONGEST_WORD);
            if symbol >= NONE {
                break;
            }
            let behind = there & !1 << at;
            there &= !(behind & behind.wrapping_neg());
            symbols[at] = symbol;
            // Which of the last ones it is will be asked soon.
            prefetch(&self.tokens[symbol as usize]);
            let (behind, before) = (there & !1 << at, there & ((1 << at) - 1));
            becomes[at] = match behind {
                0 => u32::MAX,
                _ => becoming(cache.get(self, symbol, symbols[behind.trailing_zeros() as usize]), at),
            };
            if before != 0 {
                let left = before.ilog2() as usize;
                becomes[left] = becoming(cache.get(self, symbols[left], symbol), left);
            }
        }
        out.extend(bits(there.into()).map(|at| self.tokens[symbols[at] as usize].id()));
    }
}

/// What a word is before any pair of it is merged.
struct Beginning {
    symbols: [Symbol; LONGEST_WORD],
    len: usize,
    /// A bit for each symbol that never merges with the one before it.
    apart: u32,
}

impl Beginning {
    #[inline(always)]
    fn push(&mut self, symbol: Symbol) {
        if let Some(place) = self.symbols.get_mut(self.len) {
            *place = symbol;
            self.len += 1;
        }
    }
}

impl Linear {
    /// Appends a character that is no token. Of three bytes two may merge, those that become a token first; then nothing of it does,
    /// by itself or with what is beside it.
    fn spell(&self, c: char, begin: &mut Beginning) {
        let before = begin.len;
        let mut utf8 = [0; 4];
        match *c.encode_utf8(&mut utf8).as_bytes() {
            [a, b, c] => {
                let [a, b, c] = [a, b, c].map(Symbol::from);
                let made = |left, right| self.pairs.of_bytes(left, right).unwrap_or(NONE);
                match (made(a, b), made(b, c)) {
                    (NONE, NONE) => [a, b, c].into_iter().for_each(|byte| begin.push(byte)),
                    (left, right) if left < right => {
                        [left, c].into_iter().for_each(|symbol| begin.push(symbol))
                    }
                    (_, right) => [a, right].into_iter().for_each(|symbol| begin.push(symbol)),
                }
                // Itself and the symbol behind it.
                begin.apart |= !(u32::MAX << (begin.len - before + 1)) << before;
            }
            ref bytes => bytes.iter().for_each(|&byte| begin.push(Symbol::from(byte))),
        }
    }
}

// A bit for each place, and a number that holds a symbol and a place.
const _: () = assert!(LONGEST_WORD == u32::BITS as usize && SYMBOL_BITS + PLACE_BITS <= u32::BITS);

/// Bits of a place in a word.
const PLACE_BITS: u32 = LONGEST_WORD.ilog2();
