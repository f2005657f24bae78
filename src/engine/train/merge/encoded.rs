//! Laying out pretokens that are more than bytes already: encoded with a base, or with the merges made so far.
//!
//! The state is the one that making those merges here would have left: a border between two tokens only ever
//! vanishes, so what became of a pretoken does not depend on when it is asked for.

use super::{
    BORDER, Limits, Merger, Observer, Order, POLL_PLACES, Pairs, Steps, TokenId, TrainError, Weights,
    WordCounts, key,
};
use crate::engine::train::words::MAX_DISTINCT_BYTES;
use hashbrown::HashMap;

/// A pair of the first layout.
#[derive(Default)]
struct Tallied {
    count: u64,
    places: u32,
    /// Where its next place goes; one past the block for pairs that are not frequent.
    cursor: u32,
}

impl<'l, O: Order> Merger<'l, O> {
    /// Of pretokens that `encode` appends the ids of. Of each distinct pretoken the ids are asked once; `tokens` are
    /// the bytes of all ids.
    pub(in crate::engine::train) fn of_encoded(
        counts: &WordCounts,
        mut encode: impl FnMut(&[u8], &mut Vec<TokenId>),
        tokens: &[Vec<u8>],
        limits: &'l Limits,
        order: O,
        observer: &mut impl Observer,
    ) -> Result<Self, TrainError> {
        let mut cells = vec![BORDER];
        let mut weights = Weights::default();
        let mut tally: HashMap<u64, Tallied, foldhash::fast::FixedState> = HashMap::default();
        let total = 2 * counts.distinct_bytes() as u64;
        let mut steps = Steps { done: 0, asked: 0, total, observer };
        steps.ask()?;

        let (mut ids, mut alone) = (Vec::new(), vec![0; tokens.len()]);
        for (word, count) in counts.iter() {
            ids.clear();
            encode(word, &mut ids);
            steps.make(word.len())?;
            // One token has no pair and never will.
            if let [id] = ids[..] {
                alone[id as usize] += count;
                continue;
            }
            cells.extend_from_slice(&ids);
            cells.push(BORDER);
            weights.push(cells.len() as u32, count);
            for pair in ids.array_windows::<2>() {
                let tallied = tally.entry(key(pair[0], pair[1])).or_default();
                tallied.count += count;
                tallied.places += 1;
            }
        }

        let mut pairs = Pairs::new(limits.least_count);
        let long = |key: u64| {
            let [left, right] = [key >> 32, key & 0xffff_ffff].map(|id| tokens[id as usize].len() as u64);
            left + right > limits.max_token_bytes.into()
        };
        tally.retain(|&key, tallied| tallied.count >= limits.least_count && !long(key));
        // Places have to have numbers, and so have their lists.
        if cells.len() + tally.len() > u32::MAX as usize {
            return Err(TrainError::TooManyPretokens { limit: MAX_DISTINCT_BYTES });
        }
        pairs.open_block(tally.values().map(|tallied| tallied.places));
        for (&key, tallied) in &mut tally {
            let (left, right) = ((key >> 32) as TokenId, key as TokenId);
            let order = order.key(tokens, left, right);
            let cursor = pairs.add(left, right, order, tallied.count, tallied.places);
            tallied.cursor = cursor.unwrap_or(u32::MAX);
        }
        let block = pairs.last_block();
        for (at, pair) in cells.array_windows::<2>().enumerate() {
            // A border is in no pair that was tallied.
            if let Some(tallied) = tally.get_mut(&key(pair[0], pair[1]))
                && let Some(place) = block.get_mut(tallied.cursor as usize)
            {
                *place = at as u32;
                tallied.cursor += 1;
            }
            if at % POLL_PLACES == POLL_PLACES - 1 {
                steps.make(POLL_PLACES)?;
            }
        }
        steps.done = total;
        steps.ask()?;
        drop(tally);
        Ok(Self::of(limits, order, cells, (weights, alone), tokens, pairs))
    }
}
