//! The pairs that can still be merged, which of them comes next, and where they are.

use crate::engine::TokenId;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

/// Lists of places are kept in blocks of at least this many.
const BLOCK_PLACES: usize = 1 << 18;

/// All pairs that can still be merged.
pub(super) struct Pairs<K> {
    least_count: u64,
    by_ids: HashMap<u64, Pair, foldhash::fast::FixedState>,
    /// Each pair at least once, with its count or one that it had: a count only falls, so it is put right when it
    /// comes to the top.
    candidates: BinaryHeap<Candidate<K>>,
    /// The lists of places, one after the other.
    blocks: Vec<Vec<u32>>,
    freed: Freed,
}

/// Where the list of the pair in hand was, which its merge needs no longer: the first lists of new pairs that fit go there. With
/// it the lists take half the memory.
#[derive(Default)]
struct Freed {
    block: u32,
    free: Range<u32>,
    /// Set in cursors that lead there; 0 where there is nothing.
    flag: u32,
}

/// The cursor of a pair that has no list.
pub(super) const NOWHERE: u32 = u32::MAX;
const IN_FREED: u32 = 1 << 31;

/// The largest is the most frequent, and of those the one that comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<K> {
    count: u64,
    /// Its key, and its ids as [`key`] has them.
    order: Reverse<(K, u64)>,
}

pub(super) struct Pair {
    pub(super) count: u64,
    pub(super) places: Places,
}

/// A list of places, in a block: how many there are, and they. The table of pairs is the most of what training takes, so the
/// number is not in it.
#[derive(Clone, Copy)]
pub(super) struct Places {
    block: u32,
    start: u32,
}

/// Pairs compare by left id, then right id.
pub(super) fn key(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl<K: Ord> Pairs<K> {
    pub(super) fn new(least_count: u64) -> Self {
        let (by_ids, candidates) = (HashMap::default(), BinaryHeap::new());
        Self { least_count, by_ids, candidates, blocks: vec![Vec::new()], freed: Freed::default() }
    }

    /// Takes out the pair to merge next.
    pub(super) fn take_best(&mut self) -> Option<((TokenId, TokenId), Pair)> {
        while let Some(mut top) = self.candidates.peek_mut() {
            let Candidate { count, order: Reverse((_, key)) } = &*top;
            let (count, key) = (*count, *key);
            match self.by_ids.get(&key) {
                Some(pair) if pair.count == count => {
                    PeekMut::pop(top);
                    let pair = self.by_ids.remove(&key)?;
                    return Some((((key >> 32) as TokenId, key as TokenId), pair));
                }
                Some(pair) => top.count = pair.count,
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        None
    }

    pub(super) fn places(&self, list: Places) -> &[u32] {
        match &self.blocks[list.block as usize][list.start as usize..] {
            [len, places @ ..] => &places[..*len as usize],
            [] => &[],
        }
    }

    /// Makes room for lists of so many places each in one block.
    pub(super) fn open_block(&mut self, lists: impl Iterator<Item = u32>) {
        let wanted = lists.map(|places| 1 + places as usize).sum();
        let block = self.last_block();
        if block.capacity() - block.len() < wanted {
            self.blocks.push(Vec::with_capacity(wanted.max(BLOCK_PLACES)));
        }
    }

    /// The lists that are added next may overwrite this one. There has to be a block open for them.
    pub(super) fn reuse(&mut self, list: Places) {
        let end = list.start as usize + 1 + self.places(list).len();
        // Of the bits of a cursor one is taken.
        if end < IN_FREED as usize && self.last_block().capacity() < IN_FREED as usize {
            self.freed = Freed { block: list.block, free: list.start..end as u32, flag: IN_FREED };
        }
    }

    /// The lists of the merge in hand are written.
    pub(super) fn settled(&mut self) {
        self.freed = Freed::default();
    }

    /// Writes a place where the cursor leads, if it leads anywhere.
    #[inline]
    pub(super) fn write(&mut self, cursor: &mut u32, place: u32) {
        if *cursor != NOWHERE {
            let freed = *cursor & self.freed.flag != 0;
            let block = if freed { self.freed.block as usize } else { self.blocks.len() - 1 };
            self.blocks[block][(*cursor & !self.freed.flag) as usize] = place;
            *cursor += 1;
        }
    }

    pub(super) fn last_block(&mut self) -> &mut Vec<u32> {
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// Enters a pair that did not exist before, unless it is too rare. Says where its list of so many places has to be
    /// written; in the last block, where no list is [reused](Self::reuse).
    pub(super) fn add(
        &mut self,
        left: TokenId,
        right: TokenId,
        order: K,
        count: u64,
        places: u32,
    ) -> Option<u32> {
        if count < self.least_count {
            return None;
        }
        let Freed { block, free, flag } = &mut self.freed;
        let (list, flag) = if free.len() > places as usize {
            let list = Places { block: *block, start: free.start };
            free.start += 1 + places;
            self.blocks[list.block as usize][list.start as usize] = places;
            (list, *flag)
        } else {
            let block = self.blocks.len() as u32 - 1;
            let last = self.last_block();
            let start = last.len() as u32;
            last.push(places);
            last.resize(last.len() + places as usize, 0);
            (Places { block, start }, 0)
        };
        self.by_ids.insert(key(left, right), Pair { count, places: list });
        self.candidates.push(Candidate { count, order: Reverse((order, key(left, right))) });
        Some((list.start + 1) | flag)
    }

    /// The pair, if there is such an entry, occurs so much less often than it did.
    pub(super) fn lessen(&mut self, left: TokenId, right: TokenId, by: u64) {
        if by == 0 {
            return;
        }
        if let Some(pair) = self.by_ids.get_mut(&key(left, right)) {
            pair.count -= by;
            if pair.count < self.least_count {
                self.by_ids.remove(&key(left, right));
            }
        }
    }
}
