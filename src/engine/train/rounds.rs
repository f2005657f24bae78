//! Merging in rounds, for distinct pretokens that all at once would take too much memory.
//!
//! A round makes the merges of pairs that occur `floor` times or more, and lays out no more than these need: pretokens
//! are cut wherever two neighbours occur together less often than that, what is left of them is added up where it is
//! equal, and what is one token is left out. Of the long tail of a corpus, pretokens that came once, hardly anything is
//! left, and that little is in many of them. The next round has a lower floor, longer tokens, and so again few frequent
//! pairs.
//!
//! The merges are those of one layout, counts and all:
//!
//! - Wherever a token occurs it was made in the same way. So where (L, R) is merged, the tokens that met there when the
//!   round began are the same ones everywhere, A at the end of L and B at the beginning of R, and (A, B) occurred no less
//!   often than (L, R) does. A cut between A and B, made where that is below the floor, is one that no merge of the round
//!   would cross; and it is made at all places of (A, B) or at none, so the counts of pairs that are not cut are whole.
//! - Counts only fall. When no pair reaches the floor any more, all that are left are below it, and the next round begins.
//! - A part between two borders that merging left is encoded by itself as it is within its pretoken, for the same reason.
//!
//! Counting all pairs exactly would take a table as large as what is to be avoided. Sums over pairs with the same hash
//! do: they are never too low, so at most some cuts are not made.

use super::merge::{self, Limits, Merger, Order};
use super::start::{Encoder, Made, Start};
use super::words::{MAX_DISTINCT_BYTES, WordCounts, WordSums, Words};
use super::{Observer, Stage, TrainError};
use crate::engine::TokenId;

/// The first floor is the count of the most frequent pair divided by this.
const FIRST_STEP: u64 = if cfg!(test) { 2 } else { 16 };

/// A floor is below the counts of all pairs by this part of them at least, which bounds the number of rounds.
const LEAST_STEP: u64 = 8;

/// The largest step from one floor to the next.
const MAX_STEP: u64 = 1 << 20;

/// Sums that bound the counts of pairs: 32 MiB of them, at most.
const MAX_SUMS_LOG2: u32 = if cfg!(test) { 10 } else { 22 };

/// The observer is asked after this many pretokens.
const POLL_WORDS: u64 = if cfg!(test) { 4 } else { 1 << 12 };

/// Taking counts out of their table needs memory again, up to twice what the table has.
const SHARE: usize = 3;

/// Bytes for each pair that a round knows: its entry, its candidates.
const PAIR_BYTES: u64 = 100;

/// Makes merges until a limit is met, and appends the bytes of the new tokens to `tokens`.
pub(super) fn learn<W: Words, O: Order + Copy>(
    words: &W,
    start: &Start<'_>,
    tokens: &mut Vec<Vec<u8>>,
    (limits, order): (&Limits, O),
    max_memory: usize,
    allowed: &mut impl FnMut(&[u8]) -> bool,
    observer: &mut impl Observer,
) -> Result<Made, W::Error> {
    let held = words.loaded().map_or(0, WordCounts::memory_bytes);
    let budget = max_memory.saturating_sub(held + Bounds::bytes_within(max_memory));
    let mut merges = Vec::new();
    // All pairs that may still be merged occur less often.
    let mut ceiling = u64::MAX;
    let mut step = FIRST_STEP;
    loop {
        let done = start.done + merges.len() as u32;
        let mut encoder = start.encoder(&merges)?;
        let survey = Survey::of(words, &mut encoder, tokens.len(), max_memory, observer)?;
        let made = merges.len();
        while merges.len() == made {
            let top = survey.bounds.most().saturating_add(1).min(ceiling);
            if done >= limits.wanted || top <= limits.least_count {
                return Ok(Made { merges, frequencies: survey.frequencies });
            }
            let wanted_floor = (top / step).max(limits.least_count);
            let mut parts = Parts::new(&survey.bounds, top, wanted_floor, budget);
            parts.add_all(words, &mut encoder, tokens, max_memory, observer)?;
            step = match parts.floor {
                floor if floor > wanted_floor => (top / floor).max(2),
                _ if parts.takes() < budget / 4 => (step * 4).min(MAX_STEP),
                _ => step,
            };
            let floor = parts.floor;
            let counts = parts.sums.take()?;
            let limits = Limits { least_count: floor, ..*limits };
            let encode = |part: &[u8], ids: &mut Vec<TokenId>| encoder.part(part, ids);
            let mut merger = Merger::of_encoded(&counts, encode, tokens, &limits, order, observer)?;
            drop(counts);
            merge::learn(&mut merger, tokens, (start.done, &mut merges), allowed, observer)?;
            ceiling = floor;
        }
    }
}

/// What all pretokens are with the merges so far.
struct Survey {
    bounds: Bounds,
    /// By id.
    frequencies: Vec<u64>,
}

impl Survey {
    fn of<W: Words>(
        words: &W,
        encoder: &mut Encoder<'_>,
        tokens: usize,
        max_memory: usize,
        observer: &mut impl Observer,
    ) -> Result<Self, W::Error> {
        let mut survey = Self { bounds: Bounds::within(max_memory), frequencies: vec![0; tokens] };
        let (mut ids, mut asked) = (Vec::new(), 0);
        words.each(&mut |word, count| {
            poll(&mut asked, observer)?;
            ids.clear();
            encoder.pretoken(word, &mut ids);
            ids.iter().for_each(|&id| survey.frequencies[id as usize] += count);
            for pair in ids.array_windows() {
                survey.bounds.add(*pair, count);
            }
            Ok(())
        })?;
        Ok(survey)
    }
}

/// For each pair of tokens a count that is not below its own.
struct Bounds(Vec<u64>);

impl Bounds {
    /// A sixteenth of the memory at most: where several pairs share a sum, cuts are lost.
    fn bytes_within(max_memory: usize) -> usize {
        let sums = max_memory / 16 / size_of::<u64>();
        size_of::<u64>() << sums.max(1 << 6).ilog2().min(MAX_SUMS_LOG2)
    }

    fn within(max_memory: usize) -> Self {
        Self(vec![0; Self::bytes_within(max_memory) / size_of::<u64>()])
    }

    fn place(&self, [left, right]: [TokenId; 2]) -> usize {
        let key = u64::from(left) << 32 | u64::from(right);
        let mixed = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - self.0.len().ilog2())) as usize
    }

    /// The counts of all pairs together are below 2^63, so no sum overflows.
    fn add(&mut self, pair: [TokenId; 2], count: u64) {
        let place = self.place(pair);
        self.0[place] += count;
    }

    fn of(&self, pair: [TokenId; 2]) -> u64 {
        self.0[self.place(pair)]
    }

    fn most(&self) -> u64 {
        self.0.iter().copied().max().unwrap_or(0)
    }
}

/// Parts of pretokens between pairs below the floor, added up.
struct Parts<'b> {
    bounds: &'b Bounds,
    /// Above the counts of all pairs.
    top: u64,
    floor: u64,
    /// Bytes that the round may take.
    budget: usize,
    sums: WordSums,
    /// Of the distinct parts.
    bytes: u64,
    tokens: u64,
    /// Neighbours, each as often as it occurs.
    pairs: u64,
    part: Vec<u8>,
}

impl<'b> Parts<'b> {
    fn new(bounds: &'b Bounds, top: u64, floor: u64, budget: usize) -> Self {
        let (sums, part) = (WordSums::default(), Vec::new());
        Self { bounds, top, floor, budget, sums, bytes: 0, tokens: 0, pairs: 0, part }
    }

    /// The parts of all pretokens; with a higher floor than was asked for where they would take too much.
    fn add_all<W: Words>(
        &mut self,
        words: &W,
        encoder: &mut Encoder<'_>,
        tokens: &[Vec<u8>],
        max_memory: usize,
        observer: &mut impl Observer,
    ) -> Result<(), W::Error> {
        let (mut ids, mut asked) = (Vec::new(), 0);
        words.each(&mut |word, count| {
            poll(&mut asked, observer)?;
            ids.clear();
            encoder.pretoken(word, &mut ids);
            self.add(&ids, tokens, count)?;
            while self.takes() > self.budget {
                // A floor nearer to the top would make for rounds without end.
                let highest = self.top - self.top.div_ceil(LEAST_STEP);
                if self.floor >= highest {
                    return Err(TrainError::Memory { max_memory: max_memory as u64 });
                }
                let floor = (self.floor * 2).min(highest);
                let before = std::mem::replace(self, Self::new(self.bounds, self.top, floor, self.budget));
                for (part, count) in before.sums.iter() {
                    poll(&mut asked, observer)?;
                    ids.clear();
                    encoder.part(part, &mut ids);
                    self.add(&ids, tokens, count)?;
                }
            }
            Ok(())
        })
    }

    fn add(&mut self, ids: &[TokenId], tokens: &[Vec<u8>], count: u64) -> Result<(), TrainError> {
        let mut from = 0;
        for at in 1..=ids.len() {
            if ids.get(at).is_some_and(|&next| self.bounds.of([ids[at - 1], next]) >= self.floor) {
                continue;
            }
            if at - from > 1 {
                self.part.clear();
                ids[from..at].iter().for_each(|&id| self.part.extend_from_slice(&tokens[id as usize]));
                let known = self.sums.len();
                self.sums.add(&self.part, count)?;
                if self.sums.len() > known {
                    self.bytes += self.part.len() as u64;
                    self.tokens += (at - from) as u64;
                }
                self.pairs += count * (at - from - 1) as u64;
            }
            from = at;
        }
        Ok(())
    }

    /// Bytes that it takes to make counts of these, and to lay them out and merge them.
    fn takes(&self) -> usize {
        let words = self.sums.len() as u64;
        if self.bytes + words > MAX_DISTINCT_BYTES / 2 {
            // Positions have 32 bits.
            return usize::MAX;
        }
        let pairs = (self.pairs / self.floor).min(self.tokens);
        let merging = self.bytes + 20 * words + 16 * self.tokens + PAIR_BYTES * pairs;
        (self.sums.memory_bytes() * SHARE).max(usize::try_from(merging).unwrap_or(usize::MAX))
    }
}

fn poll(asked: &mut u64, observer: &mut impl Observer) -> Result<(), TrainError> {
    *asked += 1;
    match asked.is_multiple_of(POLL_WORDS) && observer.poll(Stage::Preparing).is_break() {
        true => Err(TrainError::Cancelled),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
