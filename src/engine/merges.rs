//! The merges: which two neighbours become which token, and which merge goes first.
//!
//! Invariant of a [`MergeTable`]: one entry a pair; the rank is the merge's position in the list it was built from, or
//! what a list of ranks says (SentencePiece's merges into one piece share its rank), so a lower rank merges first. The id of the result says nothing about the rank (only in tiktoken files do they
//! go together).

use super::TokenId;

/// Merge priority: lower goes first. Not a token id.
pub type Rank = u32;

/// One merge: `left` and `right`, side by side, become `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// Left part.
    pub left: TokenId,
    /// Right part.
    pub right: TokenId,
    /// The token they become.
    pub id: TokenId,
}

/// The same pair is merged into two different tokens, or two ranks are given for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pair of tokens {left} and {right} is merged twice")]
pub struct DuplicatePair {
    /// Left part.
    pub left: TokenId,
    /// Right part.
    pub right: TokenId,
}

/// A slot of the hash table; `key == EMPTY` is free.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: u64,
    rank: Rank,
    id: TokenId,
}

/// No pair has this key: ids stay below `u32::MAX` (see [`super::Vocab`]).
const EMPTY: u64 = u64::MAX;

/// How far a look-up may walk before the table is built again with another seed or more room.
const MAX_PROBE: usize = 64;

/// Merges by pair, in open addressing.
#[derive(Clone)]
pub struct MergeTable {
    slots: Vec<Slot>,
    seed: u64,
    len: usize,
}

impl MergeTable {
    /// Indexes `merges`, which are in order of priority.
    ///
    /// # Errors
    /// [`DuplicatePair`] where a pair occurs twice.
    pub fn new(merges: &[Merge]) -> Result<Self, DuplicatePair> {
        Self::with_ranks(merges, None)
    }

    /// The same with a rank for each merge where several share one. Of equal ranks the leftmost pair goes first.
    ///
    /// # Errors
    /// [`DuplicatePair`] where a pair occurs twice.
    pub fn with_ranks(merges: &[Merge], ranks: Option<&[Rank]>) -> Result<Self, DuplicatePair> {
        let mut capacity = (merges.len() * 2).next_power_of_two().max(16);
        // An unlucky (or made up) set of pairs that piles up in one place gets another seed, at last more room.
        for attempt in 0u64.. {
            let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * attempt + 1);
            // Pairs made up to collide under every seed get longer walks, not ever more memory.
            let most = if attempt < 8 { MAX_PROBE } else { usize::MAX };
            if let Some(table) = Self::build(merges, ranks, capacity, seed, most)? {
                return Ok(table);
            }
            if attempt % 4 == 3 {
                capacity *= 2;
            }
        }
        unreachable!("the ninth attempt takes any table")
    }

    fn build(
        merges: &[Merge],
        ranks: Option<&[Rank]>,
        capacity: usize,
        seed: u64,
        most: usize,
    ) -> Result<Option<Self>, DuplicatePair> {
        let free = Slot { key: EMPTY, rank: Rank::MAX, id: 0 };
        let mut table = Self { slots: vec![free; capacity], seed, len: merges.len() };
        for (rank, merge) in merges.iter().enumerate() {
            let key = key(merge.left, merge.right);
            let mut at = table.home(key);
            let mut walked = 0;
            while table.slots[at].key != EMPTY {
                if table.slots[at].key == key {
                    return Err(DuplicatePair { left: merge.left, right: merge.right });
                }
                at = (at + 1) & (capacity - 1);
                walked += 1;
                if walked > most {
                    return Ok(None);
                }
            }
            let rank = ranks.and_then(|ranks| ranks.get(rank).copied()).unwrap_or(rank as Rank);
            table.slots[at] = Slot { key, rank, id: merge.id };
        }
        Ok(Some(table))
    }

    fn home(&self, key: u64) -> usize {
        let product = u128::from(key ^ self.seed) * u128::from(0x2d35_8dcc_aa6c_78a5_u64 | 1);
        ((product >> 64) as u64 ^ product as u64) as usize & (self.slots.len() - 1)
    }

    /// Rank and result of merging `left` with `right`, if that is a merge.
    #[inline]
    pub fn get(&self, left: TokenId, right: TokenId) -> Option<(Rank, TokenId)> {
        let key = key(left, right);
        let mut at = self.home(key);
        loop {
            let slot = self.slots[at];
            if slot.key == key {
                return Some((slot.rank, slot.id));
            }
            if slot.key == EMPTY {
                return None;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Number of merges.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no merge.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of heap that the table holds.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

impl std::fmt::Debug for MergeTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MergeTable({} merges)", self.len)
    }
}

fn key(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_found_with_its_rank_and_no_other() {
        let merges: Vec<Merge> =
            (0..5000).map(|i| Merge { left: i % 70, right: i / 70, id: 9000 - i }).collect();
        let table = MergeTable::new(&merges).unwrap();
        for (rank, m) in merges.iter().enumerate() {
            assert_eq!(table.get(m.left, m.right), Some((rank as u32, m.id)));
        }
        assert_eq!(table.get(71, 0), None);
        assert_eq!(table.get(u32::MAX - 1, u32::MAX - 1), None);
        assert_eq!(table.len(), 5000);
    }

    #[test]
    fn a_pair_given_twice_is_refused() {
        let m = Merge { left: 1, right: 2, id: 3 };
        assert_eq!(
            MergeTable::new(&[m, Merge { id: 4, ..m }]).unwrap_err(),
            DuplicatePair { left: 1, right: 2 }
        );
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = MergeTable::new(&[]).unwrap();
        assert!(table.is_empty());
        assert_eq!(table.get(0, 0), None);
    }
}
