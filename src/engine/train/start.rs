//! What tokens pretokens are before the run in hand merges anything: bytes, or what a base or an earlier life of the run
//! made of them.

use super::merge::{self, Limits, Merger, Order};
use super::words::{MAX_DISTINCT_BYTES, Totals, WordCounts, Words};
use super::{LearnedMerge, Observer, TrainError, rounds};
use crate::engine::encode::merge as merge_pairs;
use crate::engine::{Merge, MergeTable, Scratch, TokenId};

/// Where a run begins.
pub(super) struct Start<'s> {
    pub(super) byte_ids: [Option<TokenId>; 256],
    /// Merges that hold already, in order.
    pub(super) merges: Vec<Merge>,
    /// How many of them are the run's own, made in an earlier life.
    pub(super) done: u32,
    /// The token that a pretoken is as a whole, whatever merges lead to.
    pub(super) whole: Option<&'s WholeToken<'s>>,
}

type WholeToken<'s> = dyn Fn(&[u8]) -> Option<TokenId> + 's;

/// Encodes with the merges of a [`Start`] and some more.
pub(super) struct Encoder<'s> {
    start: &'s Start<'s>,
    table: MergeTable,
    scratch: Scratch,
}

impl Encoder<'_> {
    /// Appends the ids of a pretoken.
    pub(super) fn pretoken(&mut self, word: &[u8], ids: &mut Vec<TokenId>) {
        match self.start.whole.and_then(|whole| whole(word)) {
            Some(id) => ids.push(id),
            None => self.part(word, ids),
        }
    }

    /// Appends the ids of a part of a pretoken between two borders that all merges leave.
    pub(super) fn part(&mut self, part: &[u8], ids: &mut Vec<TokenId>) {
        let bytes = part.iter().filter_map(|&byte| self.start.byte_ids[usize::from(byte)]);
        merge_pairs(&self.table, bytes, &mut self.scratch, ids);
    }
}

impl Start<'_> {
    /// With these merges after its own.
    pub(super) fn encoder(&self, more: &[LearnedMerge]) -> Result<Encoder<'_>, TrainError> {
        let merges: Vec<Merge> = self.merges.iter().copied().chain(more.iter().map(Merge::from)).collect();
        let table = MergeTable::new(&merges).map_err(|_| TrainError::BadResume { index: 0 })?;
        Ok(Encoder { start: self, table, scratch: Scratch::default() })
    }

    /// The ids of the bytes, where a pretoken is nothing else.
    fn bytes(&self) -> Option<[TokenId; 256]> {
        let plain = self.merges.is_empty() && self.whole.is_none() && !self.byte_ids.contains(&None);
        plain.then(|| self.byte_ids.map(Option::unwrap_or_default))
    }
}

/// What a run gave.
pub(super) struct Made {
    /// Without those of the start.
    pub(super) merges: Vec<LearnedMerge>,
    /// By id, how often the pretokens as merged have each token.
    pub(super) frequencies: Vec<u64>,
}

/// Makes merges until a limit is met, and appends the bytes of the new tokens to `tokens`; in rounds where laying out
/// everything at once would take over `max_memory` bytes. A pair that makes a token which is not `allowed` stays as it is.
pub(super) fn learn<W: Words, O: Order + Copy>(
    words: W,
    start: &Start<'_>,
    tokens: &mut Vec<Vec<u8>>,
    (limits, order): (&Limits, O),
    max_memory: usize,
    mut allowed: impl FnMut(&[u8]) -> bool,
    observer: &mut impl Observer,
) -> Result<Made, W::Error> {
    let Some(counts) = words.loaded().filter(|_| merging_bytes(&words.totals()) <= max_memory as u64) else {
        return rounds::learn(&words, start, tokens, (limits, order), max_memory, &mut allowed, observer);
    };
    let mut merger = laid_out(counts, start, tokens, (limits, order), observer)?;
    // They may be the caller's no longer, and what is merged needs the memory.
    drop(words);
    let mut merges = Vec::new();
    merge::learn(&mut merger, tokens, (start.done, &mut merges), &mut allowed, observer)?;
    Ok(Made { merges, frequencies: merger.frequencies(observer)? })
}

fn laid_out<'l, O: Order>(
    counts: &WordCounts,
    start: &Start<'_>,
    tokens: &[Vec<u8>],
    (limits, order): (&'l Limits, O),
    observer: &mut impl Observer,
) -> Result<Merger<'l, O>, TrainError> {
    match start.bytes() {
        Some(byte_ids) => Merger::new(counts, &byte_ids, tokens, limits, order, observer),
        None => {
            let mut encoder = start.encoder(&[])?;
            let encode = |word: &[u8], ids: &mut Vec<TokenId>| encoder.pretoken(word, ids);
            Merger::of_encoded(counts, encode, tokens, limits, order, observer)
        }
    }
}

/// Memory in bytes that merging takes, about, where everything is laid out at once, the counts included; the largest number
/// where there are too many pretokens for that.
pub fn merging_bytes(totals: &Totals) -> u64 {
    if totals.distinct_bytes + totals.distinct > MAX_DISTINCT_BYTES {
        return u64::MAX;
    }
    // Of a distinct byte the counts have one, the cells four, the places eight, and the pairs the rest.
    28 * totals.distinct_bytes + 20 * totals.distinct
}
