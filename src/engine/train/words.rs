//! Distinct byte strings with counts: the sorted list that training reads.
//!
//! A list is in one order only (most frequent first, then by bytes), so equal counts are equal lists however they
//! came about.

use super::TrainError;
use super::table::{Table, WordHasher};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::ControlFlow;

/// Training keeps positions in 32 bits, with a separator for every pretoken and two values set apart; lists of places are
/// addressed so too, and one merge makes two for each token at most.
pub(super) const MAX_DISTINCT_BYTES: u64 = u32::MAX as u64 - (1 << 24);

/// Counts of pairs are sums of parts of this, so with it they cannot overflow either.
pub(super) const MAX_TOTAL_BYTES: u64 = i64::MAX as u64;

/// So many pretokens are sorted at a time: some milliseconds.
const RUN: usize = if cfg!(test) { 64 } else { 1 << 15 };

/// After so many pretokens it is asked whether to go on: some tenths of a millisecond.
pub(super) const ASK_WORDS: usize = if cfg!(test) { 16 } else { 1 << 12 };

/// What distinct pretokens with counts come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many distinct pretokens there are.
    pub distinct: u64,
    /// The bytes of all distinct pretokens.
    pub distinct_bytes: u64,
    /// The sum of all counts.
    pub pretokens: u64,
    /// The bytes of all pretokens, each taken as often as it occurs.
    pub bytes: u64,
}

impl Totals {
    /// With one more distinct pretoken.
    ///
    /// # Errors
    /// The sums do not fit.
    pub fn with(self, word: &[u8], count: u64) -> Result<Self, TrainError> {
        let bytes = count.checked_mul(word.len() as u64).and_then(|bytes| bytes.checked_add(self.bytes));
        let bytes = bytes.filter(|&bytes| bytes <= MAX_TOTAL_BYTES);
        Ok(Self {
            distinct: self.distinct + 1,
            distinct_bytes: self.distinct_bytes + word.len() as u64,
            // No more than the bytes, as no pretoken is empty.
            pretokens: self.pretokens.saturating_add(count),
            bytes: bytes.ok_or(TrainError::Overflow { limit: MAX_TOTAL_BYTES })?,
        })
    }
}

/// What takes a pretoken and its count.
pub type TakeWord<'t> = dyn FnMut(&[u8], u64) -> Result<(), TrainError> + 't;

/// Distinct pretokens with counts that can be gone through again and again, wherever they are.
pub trait Words {
    /// Why they cannot be gone through, an error of the trainer included.
    type Error: From<TrainError>;

    /// Calls `take` with each pretoken and its count, in any order: none of them twice, empty, or of count 0. Ends at
    /// the first error of `take`.
    fn each(&self, take: &mut TakeWord<'_>) -> Result<(), Self::Error>;

    /// What they come to.
    fn totals(&self) -> Totals;

    /// All of them in memory, where they are.
    fn loaded(&self) -> Option<&WordCounts>;
}

impl<W: Words> Words for &W {
    type Error = W::Error;

    fn each(&self, take: &mut TakeWord<'_>) -> Result<(), W::Error> {
        (*self).each(take)
    }

    fn totals(&self) -> Totals {
        (*self).totals()
    }

    fn loaded(&self) -> Option<&WordCounts> {
        (*self).loaded()
    }
}

impl Words for WordCounts {
    type Error = TrainError;

    fn each(&self, take: &mut TakeWord<'_>) -> Result<(), TrainError> {
        self.iter().try_for_each(|(word, count)| take(word, count))
    }

    fn totals(&self) -> Totals {
        Totals {
            distinct: self.entries.len() as u64,
            distinct_bytes: self.bytes.len() as u64,
            pretokens: self.total_pretokens,
            bytes: self.total_bytes,
        }
    }

    fn loaded(&self) -> Option<&WordCounts> {
        Some(self)
    }
}

/// Distinct pretokens and how often each occurs: all that training needs to know of a corpus.
///
/// Made by [`Counter::finish`](super::Counter::finish) from texts, or by [`WordCounts::from_pairs`] from counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WordCounts {
    bytes: Vec<u8>,
    /// Where each pretoken ends in `bytes`, and its count.
    entries: Vec<(u32, u64)>,
    total_pretokens: u64,
    total_bytes: u64,
}

impl WordCounts {
    /// From pretokens and their counts, in any order; the counts of a pretoken given twice are added, those of 0
    /// left out. An empty pretoken is an error, and so is a sum that does not fit.
    pub fn from_pairs<B: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (B, u64)>) -> Result<Self, TrainError> {
        let hasher = WordHasher::default();
        let mut table = Table::default();
        for (word, count) in pairs {
            match word.as_ref() {
                [] => return Err(TrainError::EmptyPretoken),
                _ if count == 0 => {}
                word => table.add(&hasher, word, count)?,
            }
        }
        Self::from_tables(&[table], &mut || ControlFlow::Continue(()))
    }

    /// From distinct pretokens that come one by one in any order, none of them empty or of count 0. Needs no table, so
    /// it takes half the memory of [`WordCounts::from_pairs`].
    pub fn from_distinct<B: AsRef<[u8]>, E: From<TrainError>>(
        pairs: impl IntoIterator<Item = Result<(B, u64), E>>,
    ) -> Result<Self, E> {
        let mut bytes = Vec::new();
        let mut entries: Vec<(u32, u64)> = Vec::new();
        let (mut total_pretokens, mut total_bytes) = (0u128, 0u128);
        for pair in pairs {
            let (word, count) = pair?;
            let word = word.as_ref();
            if word.is_empty() {
                return Err(TrainError::EmptyPretoken.into());
            }
            total_pretokens += u128::from(count);
            total_bytes += u128::from(count) * word.len() as u128;
            if (bytes.len() + word.len() + entries.len() + 1) as u64 > MAX_DISTINCT_BYTES {
                return Err(TrainError::TooManyPretokens { limit: MAX_DISTINCT_BYTES }.into());
            }
            bytes.extend_from_slice(word);
            entries.push((bytes.len() as u32, count));
        }
        if total_bytes > u128::from(MAX_TOTAL_BYTES) {
            return Err(TrainError::Overflow { limit: MAX_TOTAL_BYTES }.into());
        }
        let word = |at: u32| {
            let start = if at == 0 { 0 } else { entries[at as usize - 1].0 };
            &bytes[start as usize..entries[at as usize].0 as usize]
        };
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            let by_count = entries[b as usize].1.cmp(&entries[a as usize].1);
            by_count.then_with(|| word(a).cmp(word(b)))
        });
        let mut counts = Self {
            bytes: Vec::with_capacity(bytes.len()),
            entries: Vec::with_capacity(entries.len()),
            total_pretokens: total_pretokens as u64,
            total_bytes: total_bytes as u64,
        };
        for at in order {
            counts.bytes.extend_from_slice(word(at));
            counts.entries.push((counts.bytes.len() as u32, entries[at as usize].1));
        }
        Ok(counts)
    }

    /// The same with every count multiplied and rounded to the nearest whole number (half of one up); pretokens whose
    /// count becomes 0 are left out.
    pub fn scaled(&self, weight: f64) -> Result<Self, TrainError> {
        Self::from_distinct(self.iter().filter_map(|(word, count)| {
            let scaled = scaled_count(count, weight).transpose()?;
            Some(scaled.map(|count| (word, count)))
        }))
    }

    /// Without the pretokens that occur less often than `least`; and how many pretokens these were, distinct and all.
    pub fn pruned(mut self, least: u64) -> (Self, u64, u64) {
        let keep = self.entries.partition_point(|&(_, count)| count >= least);
        let dropped = self.entries.split_off(keep);
        let mut start = self.entries.last().map_or(0, |&(end, _)| end);
        self.bytes.truncate(start as usize);
        let mut pretokens = 0;
        for &(end, count) in &dropped {
            pretokens += count;
            self.total_bytes -= count * u64::from(end - start);
            start = end;
        }
        self.total_pretokens -= pretokens;
        (self, dropped.len() as u64, pretokens)
    }

    /// From tables that have no pretoken in common. Asks now and then whether to go on.
    pub(super) fn from_tables(
        tables: &[Table],
        go_on: &mut impl FnMut() -> ControlFlow<()>,
    ) -> Result<Self, TrainError> {
        let (mut total_pretokens, mut total_bytes, mut distinct_bytes) = (0u128, 0u128, 0u128);
        for (word, count) in tables.iter().flat_map(Table::iter) {
            total_pretokens += u128::from(count);
            total_bytes += u128::from(count) * word.len() as u128;
            distinct_bytes += word.len() as u128 + 1;
        }
        if total_bytes > u128::from(MAX_TOTAL_BYTES) {
            return Err(TrainError::Overflow { limit: MAX_TOTAL_BYTES });
        }
        if distinct_bytes > u128::from(MAX_DISTINCT_BYTES) {
            return Err(TrainError::TooManyPretokens { limit: MAX_DISTINCT_BYTES });
        }

        // The first bytes beside the count settle nearly every comparison without a visit to the pretokens.
        let mut order: Vec<(Reverse<u64>, u64, &[u8])> =
            Vec::with_capacity(tables.iter().map(Table::len).sum());
        for table in tables {
            order.extend(table.iter().map(|(word, count)| (Reverse(count), leading_bytes(word), word)));
        }
        // Sorted in runs that are merged, so that a cancel does not have to wait for the whole.
        for run in order.chunks_mut(RUN) {
            ask(go_on)?;
            run.sort_unstable();
        }
        let mut runs: BinaryHeap<_> = order.chunks(RUN).filter_map(first_and_rest).collect();

        let mut counts = Self {
            bytes: Vec::with_capacity(distinct_bytes as usize - order.len()),
            entries: Vec::with_capacity(order.len()),
            total_pretokens: total_pretokens as u64,
            total_bytes: total_bytes as u64,
        };
        while let Some(mut run) = runs.peek_mut() {
            let Reverse(((Reverse(count), _, word), rest)) = *run;
            counts.bytes.extend_from_slice(word);
            counts.entries.push((counts.bytes.len() as u32, count));
            match first_and_rest(rest) {
                Some(next) => *run = next,
                None => drop(PeekMut::pop(run)),
            }
            if counts.entries.len().is_multiple_of(ASK_WORDS) {
                ask(go_on)?;
            }
        }
        Ok(counts)
    }

    /// How many distinct pretokens there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of all counts.
    pub fn total_pretokens(&self) -> u64 {
        self.total_pretokens
    }

    /// The bytes of all pretokens, each taken as often as it occurs.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The bytes of all distinct pretokens.
    pub fn distinct_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of heap.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<(u32, u64)>()
    }

    /// Each distinct pretoken with its count: the most frequent first, then by bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut start = 0;
        self.entries.iter().map(move |&(end, count)| {
            let word = &self.bytes[start..end as usize];
            start = end as usize;
            (word, count)
        })
    }
}

/// A count multiplied and rounded to the nearest whole number (half of one up), where that is not 0.
///
/// # Errors
/// It does not fit.
pub fn scaled_count(count: u64, weight: f64) -> Result<Option<u64>, TrainError> {
    // Exact up to 2^53; a weight is no exact figure either.
    let scaled = (count as f64 * weight).round();
    match scaled {
        ..1.0 => Ok(None),
        _ if scaled > MAX_TOTAL_BYTES as f64 => Err(TrainError::Overflow { limit: MAX_TOTAL_BYTES }),
        _ => Ok(Some(scaled as u64)),
    }
}

/// Sums of counts by pretoken, for counts that were made elsewhere.
#[derive(Default)]
pub struct WordSums {
    hasher: WordHasher,
    table: Table,
}

impl WordSums {
    /// Adds to the count of a pretoken, which is not empty; a count of 0 adds nothing.
    pub fn add(&mut self, pretoken: &[u8], count: u64) -> Result<(), TrainError> {
        match pretoken {
            [] => Err(TrainError::EmptyPretoken),
            _ if count == 0 => Ok(()),
            _ => self.table.add(&self.hasher, pretoken, count),
        }
    }

    /// How many distinct pretokens there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Each distinct pretoken with its count so far, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.table.iter()
    }

    /// Bytes of heap.
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// The sums so far; none is left.
    pub fn take(&mut self) -> Result<WordCounts, TrainError> {
        WordCounts::from_tables(&[std::mem::take(&mut self.table)], &mut || ControlFlow::Continue(()))
    }
}

impl std::fmt::Debug for WordSums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordSums").field("len", &self.table.len()).finish_non_exhaustive()
    }
}

/// The head of a sorted run and what comes after it, to be taken smallest head first.
fn first_and_rest<T: Copy>(run: &[T]) -> Option<Reverse<(T, &[T])>> {
    run.split_first().map(|(first, rest)| Reverse((*first, rest)))
}

pub(super) fn ask(go_on: &mut impl FnMut() -> ControlFlow<()>) -> Result<(), TrainError> {
    if go_on().is_break() { Err(TrainError::Cancelled) } else { Ok(()) }
}

/// The first eight bytes, such that numbers compare as the bytes do.
fn leading_bytes(word: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n = word.len().min(8);
    first[..n].copy_from_slice(&word[..n]);
    u64::from_be_bytes(first)
}
