//! Words of characters: by the definition, lowest pair first, with what pairs become at hand.
//!
//! The twin of [`Linear::encode_word`](super::Linear::encode_word) for models over characters, where merges have ranks of their own
//! and characters take a look-up each.

use super::{MergeTable, Running, Scratch, TokenId};
use crate::engine::Rank;
use crate::engine::model::NO_SYMBOL;
use crate::engine::windows::{self, Merging, NEVER, common_prefix};
use std::ops::Range;

/// Most characters of such a word.
const LONGEST: usize = 32;

const SLOTS_LOG2: u32 = 12;

/// What pairs merge into. Empty until a pair is asked for.
#[derive(Default)]
pub(in crate::engine) struct RankedPairs(Vec<Slot>);

#[derive(Clone, Copy)]
struct Slot {
    left: TokenId,
    right: TokenId,
    rank: Rank,
    id: TokenId,
}

impl RankedPairs {
    /// Bytes of heap, once it is used.
    pub(in crate::engine) const MEMORY_BYTES: usize = size_of::<Slot>() << SLOTS_LOG2;

    fn ready(&mut self) {
        // No two symbols have this number.
        let none = Slot { left: TokenId::MAX, right: TokenId::MAX, rank: NEVER, id: 0 };
        self.0.resize(1 << SLOTS_LOG2, none);
    }

    #[inline(always)]
    fn get(&mut self, table: &MergeTable, left: TokenId, right: TokenId) -> (Rank, TokenId) {
        let pair = u64::from(left) << 32 | u64::from(right);
        let home = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS_LOG2)) as usize;
        let Some(slot) = self.0.get_mut(home) else { return table.get(left, right).unwrap_or((NEVER, 0)) };
        if (slot.left, slot.right) != (left, right) {
            let (rank, id) = table.get(left, right).unwrap_or((NEVER, 0));
            *slot = Slot { left, right, rank, id };
        }
        (slot.rank, slot.id)
    }
}

/// The tokens of the characters that are in every word.
#[derive(Debug)]
pub(super) struct CharTokens {
    ascii: [Option<TokenId>; 128],
}

impl CharTokens {
    pub(super) fn new(running: &Running<'_>) -> Self {
        Self { ascii: std::array::from_fn(|byte| running.vocab.id(&[byte as u8])) }
    }

    fn get(&self, running: &Running<'_>, c: char) -> Option<TokenId> {
        match self.ascii.get(c as usize) {
            Some(id) => *id,
            None => running.vocab.id(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// Appends what merging leaves of the characters of a word. Where it has too many or one of them is no token nothing is
    /// done, and the answer is no.
    pub(super) fn encode_word(
        &self,
        running: &Running<'_>,
        word: &str,
        pairs: &mut RankedPairs,
        out: &mut Vec<TokenId>,
    ) -> bool {
        let mut symbols = [0; LONGEST];
        // Rank and result of each symbol with the next one.
        let mut ranks = [NEVER; LONGEST];
        let mut made = [0; LONGEST];
        let mut len = 0;
        for c in word.chars() {
            match (symbols.get_mut(len), self.get(running, c)) {
                (Some(symbol), Some(id)) => *symbol = id,
                _ => return false,
            }
            len += 1;
        }
        pairs.ready();
        for at in 1..len {
            (ranks[at - 1], made[at - 1]) = pairs.get(running.table, symbols[at - 1], symbols[at]);
        }
        while len > 1 {
            let (mut at, mut lowest) = (0, NEVER);
            for (place, &rank) in ranks[..len - 1].iter().enumerate() {
                (at, lowest) = if rank < lowest { (place, rank) } else { (at, lowest) };
            }
            if lowest == NEVER {
                break;
            }
            symbols[at] = made[at];
            symbols.copy_within(at + 2..len, at + 1);
            ranks.copy_within(at + 2..len, at + 1);
            made.copy_within(at + 2..len, at + 1);
            len -= 1;
            (ranks[at], made[at]) = match at + 1 < len {
                true => pairs.get(running.table, symbols[at], symbols[at + 1]),
                false => (NEVER, 0),
            };
            if at > 0 {
                (ranks[at - 1], made[at - 1]) = pairs.get(running.table, symbols[at - 1], symbols[at]);
            }
        }
        out.extend_from_slice(&symbols[..len]);
        true
    }
}

/// A stretch of characters.
struct ByRank<'p> {
    chars: &'p CharTokens,
    running: &'p Running<'p>,
    pairs: &'p mut RankedPairs,
    text: &'p str,
}

impl Merging for ByRank<'_> {
    #[inline(always)]
    fn begin(&self, at: usize) -> Option<(TokenId, usize)> {
        let c = self.text[at..].chars().next()?;
        let id = self.chars.get(self.running, c).or_else(|| self.running.joining.get(&c).copied());
        Some((id.unwrap_or(NO_SYMBOL), at + c.len_utf8()))
    }

    #[inline(always)]
    fn pair(&mut self, left: TokenId, right: TokenId) -> (Rank, TokenId) {
        self.pairs.get(self.running.table, left, right)
    }

    fn repeated(&self, at: usize, period: usize) -> usize {
        common_prefix(&self.text.as_bytes()[at..], &self.text.as_bytes()[at - period..])
    }
}

impl CharTokens {
    /// The same as [`CharTokens::encode_word`] for as many characters as there are, tokens or not, in windows. Where those do not lead
    /// to what merging leaves nothing is done, and the answer is no.
    pub(super) fn encode_long(
        &self,
        running: &Running<'_>,
        text: &str,
        pairs: &mut RankedPairs,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
    ) -> bool {
        let (before, bound) = (out.len(), running.vocab.id_bound());
        let bytes = running.chars.and_then(|chars| chars.bytes.as_deref());
        let push = |id: TokenId, range: Range<usize>| match (id as usize) < bound {
            true => out.push(id),
            // A character that is in no token.
            false => out.extend(text.as_bytes()[range].iter().filter_map(|&byte| bytes?[usize::from(byte)])),
        };
        pairs.ready();
        let is_stopped = scratch.stopped();
        let mut by_rank = ByRank { chars: self, running, pairs, text };
        let is_whole = windows::merge(&mut by_rank, &mut scratch.stretch, is_stopped, push);
        if !is_whole {
            out.truncate(before);
        }
        is_whole
    }
}
