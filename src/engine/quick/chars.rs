//! Words of characters: by the definition, lowest pair first, with what pairs become at hand.
//!
//! The twin of [`Linear::encode_word`](super::Linear::encode_word) for models over characters, where merges have ranks of their own
//! and characters take a look-up each.

use super::{MergeTable, Running, TokenId};
use crate::engine::Rank;

/// Most characters of such a word.
const LONGEST: usize = 32;

const SLOTS_LOG2: u32 = 12;

/// Rank of a pair that does not merge; one that does and has it is merged elsewhere.
const NEVER: Rank = Rank::MAX;

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
