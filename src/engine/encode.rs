//! One pretoken to ids: merge the pair of lowest rank, leftmost first, until none is left.
//!
//! Two ways that always agree: a scan for short pretokens, a heap over a linked list for long ones (O(n log n),
//! as a pretoken may be a whole text). The obvious O(n^2) twin is in the tests.

use super::linear::LinearScratch;
use super::merges::Rank;
use super::{Ends, MergeTable, TokenId, UnigramScratch};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Longest pretoken, in symbols, that is merged by scanning; beyond, the heap is quicker.
const SCAN_LIMIT: usize = 64;

/// The rank of a pair that does not merge.
const NO_MERGE: Rank = Rank::MAX;

/// Memory that encoding works in; one per thread, reused from text to text.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) stretch: Stretch,
    /// Ids of the current stretch where the caller wants none of them kept.
    pub(super) ids: Vec<TokenId>,
    /// The symbols that a pretoken begins as, and how long each is.
    pub(super) start: Vec<Start>,
    /// What they were merged into.
    pub(super) merged: Vec<Start>,
    pub(super) unigram: UnigramScratch,
    /// Pretokens of the batch that is worked on.
    pub(super) ends: Ends,
    pub(super) linear: LinearScratch,
    /// Which of a tokenizer's caches this thread had last.
    pub(super) cache_hint: usize,
    /// Set from elsewhere when nobody waits for the ids any more.
    stop: Option<Arc<AtomicBool>>,
}

/// A symbol before or after merging, and the length of what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) id: TokenId,
    pub(super) len: u32,
}

/// What a scratch may keep from text to text.
const KEPT_BYTES: usize = 1 << 20;

impl Scratch {
    /// From here on encoding ends with [`EncodeError::Stopped`](super::EncodeError::Stopped) soon after `stop` became true: it is
    /// looked at every few KiB of text.
    pub fn stop_on(&mut self, stop: Option<Arc<AtomicBool>>) {
        self.stop = stop;
    }

    /// What tells whether to stop; of its own, so that the scratch can be in use meanwhile.
    pub(super) fn stopped(&self) -> impl Fn() -> bool + use<> {
        let stop = self.stop.clone();
        move || stop.as_ref().is_some_and(|stop| stop.load(Relaxed))
    }

    /// Lets go of what an uncommonly long pretoken needed.
    pub fn trim(&mut self) {
        let held = self.stretch.memory_bytes()
            + self.ids.capacity() * 4
            + (self.start.capacity() + self.merged.capacity()) * size_of::<Start>()
            + self.linear.memory_bytes()
            + self.unigram.memory_bytes();
        if held > KEPT_BYTES {
            *self = Self::default();
        }
    }
}

/// A symbol and its merge with the one to the right.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: TokenId,
    /// Rank and result of merging with the next symbol; `NO_MERGE` where that is no merge.
    rank: Rank,
    merged: TokenId,
    /// Neighbours in the linked list (heap only); `END` beyond the border.
    prev: u32,
    next: u32,
}

const END: u32 = u32::MAX;

/// A symbol that was merged into its left neighbour.
const GONE: TokenId = TokenId::MAX;

/// Merges the symbols `start` by `table` and appends what is left to `out`.
pub(super) fn merge(
    table: &MergeTable,
    start: impl Iterator<Item = TokenId>,
    scratch: &mut Scratch,
    out: &mut Vec<TokenId>,
) {
    merge_by(&|left, right| table.get(left, right), start, scratch, out);
}

/// Merges the symbols `start` and appends what is left to `out`. `look_up` gives rank and result of a pair; it must
/// always say the same of a pair.
pub fn merge_by(
    look_up: &impl Fn(TokenId, TokenId) -> Option<(Rank, TokenId)>,
    start: impl Iterator<Item = TokenId>,
    scratch: &mut Scratch,
    out: &mut Vec<TokenId>,
) {
    let look_up = &mut |left, right| look_up(left, right).unwrap_or((NO_MERGE, 0));
    let Stretch { symbols, heap: queue } = &mut scratch.stretch;
    lay_out(look_up, start, symbols);
    if symbols.len() <= SCAN_LIMIT {
        scan(look_up, symbols)
    } else {
        heap(look_up, symbols, queue)
    }
    out.extend(symbols.iter().map(|s| s.id).filter(|&id| id != GONE));
}

/// The same for symbols that have a length each: what is left has the length of all that went into it.
pub(super) fn merge_with_lengths(table: &MergeTable, scratch: &mut Scratch) {
    let Scratch { stretch, start, merged, .. } = scratch;
    let look_up = &mut |left, right| table.get(left, right).unwrap_or((NO_MERGE, 0));
    drop(stretch.merge(look_up, start.iter().map(|start| start.id)));
    merged.clear();
    for (symbol, start) in stretch.symbols.iter().zip(start) {
        match merged.last_mut() {
            Some(last) if symbol.id == GONE => last.len += start.len,
            _ => merged.push(Start { id: symbol.id, len: start.len }),
        }
    }
}

/// Symbols that are merged by a heap.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<(Rank, u32)>>,
}

impl Stretch {
    /// Merges symbols by rank and result of each pair, the highest rank for one that does not merge; gives what is left, each with how
    /// many symbols stood before it.
    pub(super) fn merge(
        &mut self,
        look_up: &mut impl FnMut(TokenId, TokenId) -> (Rank, TokenId),
        start: impl Iterator<Item = TokenId>,
    ) -> impl Iterator<Item = (usize, TokenId)> {
        lay_out(look_up, start, &mut self.symbols);
        heap(look_up, &mut self.symbols, &mut self.heap);
        self.symbols.iter().map(|symbol| symbol.id).enumerate().filter(|&(_, id)| id != GONE)
    }

    /// Bytes of heap held.
    fn memory_bytes(&self) -> usize {
        self.symbols.capacity() * size_of::<Symbol>() + self.heap.capacity() * 8
    }
}

/// Symbols side by side, each with its merge.
fn lay_out(
    look_up: &mut impl FnMut(TokenId, TokenId) -> (Rank, TokenId),
    start: impl Iterator<Item = TokenId>,
    symbols: &mut Vec<Symbol>,
) {
    symbols.clear();
    symbols.extend(start.zip(0u32..).map(|(id, at)| Symbol {
        id,
        rank: NO_MERGE,
        merged: 0,
        prev: at.checked_sub(1).unwrap_or(END),
        next: at + 1,
    }));
    if let Some(last) = symbols.last_mut() {
        last.next = END;
    }
    for at in 1..symbols.len() {
        (symbols[at - 1].rank, symbols[at - 1].merged) = look_up(symbols[at - 1].id, symbols[at].id);
    }
}

fn scan(look_up: &mut impl FnMut(TokenId, TokenId) -> (Rank, TokenId), symbols: &mut Vec<Symbol>) {
    loop {
        let Some((at, best)) = symbols.iter().enumerate().min_by_key(|(_, s)| s.rank) else { return };
        if best.rank == NO_MERGE {
            return;
        }
        symbols[at].id = best.merged;
        symbols.remove(at + 1);
        let (rank, merged) = match symbols.get(at + 1) {
            Some(right) => look_up(symbols[at].id, right.id),
            None => (NO_MERGE, 0),
        };
        (symbols[at].rank, symbols[at].merged) = (rank, merged);
        if at > 0 {
            (symbols[at - 1].rank, symbols[at - 1].merged) = look_up(symbols[at - 1].id, symbols[at].id);
        }
    }
}

fn heap(
    look_up: &mut impl FnMut(TokenId, TokenId) -> (Rank, TokenId),
    symbols: &mut [Symbol],
    heap: &mut BinaryHeap<Reverse<(Rank, u32)>>,
) {
    heap.clear();
    heap.extend(
        symbols.iter().zip(0u32..).filter(|(s, _)| s.rank != NO_MERGE).map(|(s, at)| Reverse((s.rank, at))),
    );
    while let Some(Reverse((rank, at))) = heap.pop() {
        let symbol = symbols[at as usize];
        if symbol.id == GONE || symbol.rank != rank {
            continue; // a neighbour changed since this entry was pushed
        }
        let right = symbols[symbol.next as usize];
        symbols[symbol.next as usize].id = GONE;
        let left = &mut symbols[at as usize];
        left.id = symbol.merged;
        left.next = right.next;
        if right.next != END {
            symbols[right.next as usize].prev = at;
        }
        refresh(look_up, symbols, heap, at);
        if symbol.prev != END {
            refresh(look_up, symbols, heap, symbol.prev);
        }
    }
}

/// Looks up the merge of the symbol at `at` with its right neighbour anew.
fn refresh(
    look_up: &mut impl FnMut(TokenId, TokenId) -> (Rank, TokenId),
    symbols: &mut [Symbol],
    heap: &mut BinaryHeap<Reverse<(Rank, u32)>>,
    at: u32,
) {
    let Symbol { id, next, .. } = symbols[at as usize];
    let (rank, merged) = if next == END { (NO_MERGE, 0) } else { look_up(id, symbols[next as usize].id) };
    let symbol = &mut symbols[at as usize];
    (symbol.rank, symbol.merged) = (rank, merged);
    if rank != NO_MERGE {
        heap.push(Reverse((rank, at)));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::Merge;
    use proptest::prelude::*;

    /// The definition: find the leftmost pair of lowest rank, replace it, begin again.
    pub(crate) fn naive(table: &MergeTable, mut ids: Vec<TokenId>) -> Vec<TokenId> {
        loop {
            let best = ids
                .windows(2)
                .enumerate()
                .filter_map(|(at, pair)| table.get(pair[0], pair[1]).map(|(rank, id)| (rank, at, id)))
                .min();
            let Some((_, at, id)) = best else { return ids };
            ids.splice(at..at + 2, [id]);
        }
    }

    /// Random merges over a small alphabet, so that ties, overlaps and chains abound. Results may be of any rank
    /// below or above their parts, as in published vocabularies.
    fn merges() -> impl Strategy<Value = Vec<Merge>> {
        proptest::collection::vec((0u32..40, 0u32..40), 0..60).prop_map(|pairs| {
            let mut seen = std::collections::HashSet::new();
            let pairs = pairs.into_iter().filter(|p| seen.insert(*p)).enumerate();
            pairs.map(|(i, (left, right))| Merge { left, right, id: 4 + i as u32 }).collect()
        })
    }

    proptest! {
        #[test]
        fn scan_and_heap_match_naive(merges in merges(), start in proptest::collection::vec(0u32..4, 0..200)) {
            let table = MergeTable::new(&merges).unwrap();
            let expect = naive(&table, start.clone());
            let mut scratch = Scratch::default();
            let mut out = vec![];
            merge(&table, start.iter().copied(), &mut scratch, &mut out);
            prop_assert_eq!(&out, &expect);

            let mut look_up = |left, right| table.get(left, right).unwrap_or((NO_MERGE, 0));
            let mut symbols = vec![];
            for (at, &id) in start.iter().enumerate() {
                let (rank, merged) = start.get(at + 1).map_or((NO_MERGE, 0), |&next| look_up(id, next));
                let next = if at + 1 < start.len() { at as u32 + 1 } else { END };
                symbols.push(Symbol { id, rank, merged, prev: (at as u32).checked_sub(1).unwrap_or(END), next });
            }
            let mut by_scan = symbols.clone();
            scan(&mut look_up, &mut by_scan);
            prop_assert_eq!(by_scan.iter().map(|s| s.id).collect::<Vec<_>>(), expect.clone());
            heap(&mut look_up, &mut symbols, &mut scratch.stretch.heap);
            prop_assert_eq!(symbols.iter().map(|s| s.id).filter(|&id| id != GONE).collect::<Vec<_>>(), expect);
        }
    }
}
