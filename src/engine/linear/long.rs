//! Long pieces, in windows.

use super::{Linear, LinearScratch, NONE, PairCache, SYMBOL_BITS, Symbol};
use crate::engine::encode::Stretch;
use crate::engine::windows::{self, Merging, NEVER, common_prefix};
use crate::engine::{Rank, TokenId};

/// A piece that is merged by the numbers of symbols.
struct ByNumber<'p> {
    linear: &'p Linear,
    cache: &'p mut PairCache,
    piece: &'p [u8],
}

impl Merging for ByNumber<'_> {
    #[inline(always)]
    fn begin(&self, at: usize) -> Option<(Symbol, usize)> {
        self.piece.get(at).map(|&byte| (Symbol::from(byte), at + 1))
    }

    #[inline(always)]
    fn pair(&mut self, left: Symbol, right: Symbol) -> (Rank, Symbol) {
        let known = self.linear.pairs.of_bytes(left, right);
        match known.unwrap_or_else(|| self.cache.get(self.linear, left, right)) {
            NONE => (NEVER, NONE),
            made => (made, made),
        }
    }

    fn repeated(&self, at: usize, period: usize) -> usize {
        common_prefix(&self.piece[at..], &self.piece[at - period..])
    }
}

const _: () = assert!(1 << SYMBOL_BITS <= windows::TOO_HIGH);

impl Linear {
    /// Appends what merging leaves of the bytes of `piece`, in windows; where those do not lead to it from left to right.
    pub(in crate::engine) fn encode_long(
        &self,
        piece: &[u8],
        cache: &mut PairCache,
        stretch: &mut Stretch,
        scratch: &mut LinearScratch,
        is_stopped: impl Fn() -> bool,
        out: &mut Vec<TokenId>,
    ) {
        let before = out.len();
        let mut by_number = ByNumber { linear: self, cache, piece };
        let push = |symbol: Symbol, _| out.push(self.tokens[symbol as usize].id());
        if !windows::merge(&mut by_number, stretch, is_stopped, push) {
            out.truncate(before);
            self.encode(piece, scratch, out);
        }
    }
}
