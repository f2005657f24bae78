//! Short pieces: by the definition, lowest pair first, with the pairs that come up again and again at hand.
//!
//! Going from left to right as [`Linear::encode`] does reads tables of some mebibytes in places that no processor foresees. The
//! pairs inside of words are few, and what they become is remembered here in a table that the first caches hold. It took English
//! with cl100k from 146 to 160 MB/s when it was new text, and from 150 to 195 when it was not.

use super::{Linear, NONE, SYMBOL_BITS, SYMBOL_MASK, Symbol};
use crate::engine::TokenId;

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
        let pair = u64::from(left) << SYMBOL_BITS | u64::from(right);
        let home = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS_LOG2)) as usize;
        let slot = &mut self.0[home];
        if *slot >> SYMBOL_BITS != pair {
            let made = match linear.pairs.may_merge(left, right) {
                true => linear.pairs.get(left, right),
                false => NONE,
            };
            *slot = pair << SYMBOL_BITS | u64::from(made);
        }
        (*slot & SYMBOL_MASK) as Symbol
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
        let mut symbols = [NONE; LONGEST_WORD];
        // What each symbol becomes with the next one.
        let mut becomes = [NONE; LONGEST_WORD];
        let mut len = 0;
        let mut push = |symbol| {
            if let Some(place) = symbols.get_mut(len) {
                *place = symbol;
                len += 1;
            }
        };
        match chars {
            None => piece.iter().for_each(|&byte| push(Symbol::from(byte))),
            Some(text) => text.chars().for_each(|c| match self.char(c) {
                Some(symbol) => push(symbol),
                None => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push(Symbol::from(byte))),
            }),
        }
        for at in 1..len {
            let (left, right) = (symbols[at - 1], symbols[at]);
            let known = self.pairs.of_ascii(left, right);
            becomes[at - 1] = known.unwrap_or_else(|| cache.get(self, left, right));
        }
        while len > 1 {
            // A symbol that was made earlier has the lower number: the lowest one goes first, and of those the leftmost.
            let (mut at, mut lowest) = (0, NONE);
            for (place, &symbol) in becomes[..len - 1].iter().enumerate() {
                (at, lowest) = if symbol < lowest { (place, symbol) } else { (at, lowest) };
            }
            if lowest == NONE {
                break;
            }
            symbols.copy_within(at + 2..len, at + 1);
            becomes.copy_within(at + 2..len, at + 1);
            len -= 1;
            symbols[at] = lowest;
            becomes[at] = if at + 1 < len { cache.get(self, lowest, symbols[at + 1]) } else { NONE };
            if at > 0 {
                becomes[at - 1] = cache.get(self, symbols[at - 1], lowest);
            }
        }
        out.extend(symbols[..len].iter().map(|&symbol| self.tokens[symbol as usize].id()));
    }
}
