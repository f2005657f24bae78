//! The merge loop: the most frequent pair, again and again, without ever counting anew.
//!
//! All pretokens lie in one flat array of token ids, a cell for every token that they begin as, and are merged where
//! they are. A token made of n of these has its id in the first and in the last of its n cells, so both neighbours of a
//! token are found by the lengths of tokens alone and one replacement takes the same few steps in a word of 5 bytes and
//! in one of 5 million.
//! What has to stay true:
//!
//! - `Pair::count` is the number of places where the pair's tokens are neighbours, overlaps included ("aaa" has two
//!   (a, a)), each weighted by the count of its pretoken.
//! - `Pair::places` are the positions of the left token in ascending order: all that the pair has, and some where it
//!   no longer is. A pair gets them all when the later of its two tokens is made, since no other step makes such
//!   neighbours; from then on it only loses. So no list is ever added to, and a count never rises.
//! - A pair below `Limits::least_count`, or too long, has no entry: it can never be merged any more.
//!
//! No merge spells a token that exists. A border between two tokens only ever vanishes, and what a step does between
//! two borders that outlive it depends on nothing outside (in a run of equal tokens the outliving border lies after
//! an even number of them). So at any time all places that have the same bytes between two borders have the same
//! tokens there; when (A, B) becomes N, every place with the bytes of N between two borders that remain becomes N.

mod encoded;
mod pairs;

use super::words::{WordCounts, ask};
use super::{LearnedMerge, Observer, Stage, TrainError};
use crate::engine::TokenId;
use pairs::{NOWHERE, Pairs, Places, key};
use std::hint::black_box;

/// Between two pretokens, before the first and after the last.
const BORDER: u32 = u32::MAX;
/// The former first cell of a token that is now the right part of another.
const INSIDE: u32 = u32::MAX - 1;

/// The observer is asked after this many places or cells.
const POLL_PLACES: usize = 1 << 14;
/// Cells of this many places are touched before the first is worked on, so that their cache misses overlap.
const TOUCH_PLACES: usize = 32;

/// When to stop.
pub(super) struct Limits {
    pub(super) wanted: u32,
    /// At least 1.
    pub(super) least_count: u64,
    pub(super) max_token_bytes: u32,
}

/// Which of several equally frequent pairs comes first: the one with the smallest key, then with the smallest ids.
pub(super) trait Order {
    /// What is compared.
    type Key: Ord;

    /// The key of a pair. `tokens` are the bytes of all tokens so far.
    fn key(&self, tokens: &[Vec<u8>], left: TokenId, right: TokenId) -> Self::Key;
}

/// The smallest (left id, right id).
#[derive(Clone, Copy)]
pub(super) struct ById;

impl Order for ById {
    type Key = ();

    fn key(&self, _: &[Vec<u8>], _: TokenId, _: TokenId) {}
}

/// So many merges are made between two looks of the observer at all of them.
const LOOK_EVERY: usize = 64;

/// Makes merges until a limit is met, and appends them to `merges`, the bytes of the new tokens to `tokens`. `done` merges were
/// made before those. A pair that makes a token which is not `allowed` stays as it is for good.
pub(super) fn learn<O: Order>(
    merger: &mut Merger<'_, O>,
    tokens: &mut Vec<Vec<u8>>,
    (done, merges): (u32, &mut Vec<LearnedMerge>),
    allowed: &mut impl FnMut(&[u8]) -> bool,
    observer: &mut impl Observer,
) -> Result<(), TrainError> {
    let wanted = merger.limits.wanted;
    while done + (merges.len() as u32) < wanted {
        let Some(((left, right), pair)) = merger.pairs.take_best() else { break };
        let token = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
        if !allowed(&token) {
            continue;
        }
        let id = tokens.len() as TokenId;
        tokens.push(token);
        let made = merger.merge(left, right, id, pair.places, tokens, observer)?;
        let merge = LearnedMerge { left, right, id, count: pair.count, made };
        merges.push(merge);
        let token = &tokens[id as usize];
        if observer.merged(&merge, token, done + merges.len() as u32, wanted).is_break() {
            return Err(TrainError::Cancelled);
        }
        if merges.len().is_multiple_of(LOOK_EVERY) {
            observer.so_far(merges);
        }
    }
    Ok(())
}

/// The whole state between two merges.
pub(super) struct Merger<'l, O: Order> {
    limits: &'l Limits,
    order: O,
    cells: Vec<u32>,
    weights: Weights,
    /// By id: pretokens that are one token from the start, which have no cells.
    alone: Vec<u64>,
    /// By token id, in cells.
    lengths: Vec<u32>,
    pairs: Pairs<O::Key>,
    left_of: Neighbours,
    right_of: Neighbours,
}

impl<'l, O: Order> Merger<'l, O> {
    /// Of pretokens as bytes.
    pub(super) fn new(
        counts: &WordCounts,
        byte_ids: &[TokenId; 256],
        tokens: &[Vec<u8>],
        limits: &'l Limits,
        order: O,
        observer: &mut impl Observer,
    ) -> Result<Self, TrainError> {
        let mut cells = Vec::with_capacity(counts.distinct_bytes() + counts.len() + 1);
        let mut weights = Weights::default();
        // By left and right byte: the count, and in how many places.
        let mut tally = vec![(0u64, 0u32); 1 << 16];
        let total = 2 * counts.distinct_bytes() as u64;
        let mut steps = Steps { done: 0, asked: 0, total, observer };
        steps.ask()?;

        cells.push(BORDER);
        // A pretoken of one byte has no pair and never will.
        let mut alone = vec![0; tokens.len()];
        for (word, count) in counts.iter() {
            if let [byte] = word {
                alone[byte_ids[usize::from(*byte)] as usize] += count;
            }
        }
        let words = || counts.iter().filter(|(word, _)| word.len() > 1);
        for (word, count) in words() {
            for part in word.chunks(POLL_PLACES) {
                cells.extend(part.iter().map(|&byte| byte_ids[usize::from(byte)]));
                steps.make(part.len())?;
            }
            cells.push(BORDER);
            weights.push(cells.len() as u32, count);
            for pair in word.array_windows() {
                let (sum, places) = &mut tally[usize::from(u16::from_be_bytes(*pair))];
                *sum += count;
                *places += 1;
            }
        }

        let mut pairs = Pairs::new(limits.least_count);
        let frequent = |(count, _): &&(u64, u32)| *count >= limits.least_count;
        pairs.open_block(tally.iter().filter(frequent).map(|(_, places)| *places));
        // Where the next place of a pair goes; one past the block for pairs that are not frequent.
        let mut cursors = vec![u32::MAX; 1 << 16];
        for (both, &(count, places)) in tally.iter().enumerate() {
            let [left, right] = (both as u16).to_be_bytes().map(|byte| byte_ids[usize::from(byte)]);
            if count == 0 {
                continue;
            }
            if let Some(cursor) = pairs.add(left, right, order.key(tokens, left, right), count, places) {
                cursors[both] = cursor;
            }
        }
        let block = pairs.last_block();
        let mut position = 1;
        for (word, _) in words() {
            for (i, pair) in word.array_windows().enumerate() {
                let cursor = &mut cursors[usize::from(u16::from_be_bytes(*pair))];
                if let Some(place) = block.get_mut(*cursor as usize) {
                    *place = position;
                    *cursor += 1;
                }
                position += 1;
                if i % POLL_PLACES == POLL_PLACES - 1 {
                    steps.make(POLL_PLACES)?;
                }
            }
            position += 2;
            steps.make(word.len() % POLL_PLACES)?;
        }
        steps.done = total;
        steps.ask()?;

        Ok(Self::of(limits, order, cells, (weights, alone), tokens, pairs))
    }

    fn of(
        limits: &'l Limits,
        order: O,
        cells: Vec<u32>,
        (weights, alone): (Weights, Vec<u64>),
        tokens: &[Vec<u8>],
        pairs: Pairs<O::Key>,
    ) -> Self {
        let lengths = vec![1; tokens.len()];
        let neighbours =
            || Neighbours { by_id: vec![Neighbour::default(); lengths.len()], ..Default::default() };
        let (left_of, right_of) = (neighbours(), neighbours());
        Self { limits, order, cells, weights, alone, lengths, pairs, left_of, right_of }
    }

    /// By id, how often the pretokens have each token now.
    pub(super) fn frequencies(self, observer: &mut impl Observer) -> Result<Vec<u64>, TrainError> {
        let Self { cells, weights, alone, lengths, pairs, .. } = self;
        // The memory that it frees is what the answer needs, where there is little left.
        drop(pairs);
        let mut frequencies = alone;
        frequencies.resize(lengths.len(), 0);
        let mut weights = weights.cursor();
        let (mut at, mut polled) = (0, 0);
        while let Some(&id) = cells.get(at) {
            if id == BORDER {
                at += 1;
                continue;
            }
            frequencies[id as usize] += weights.at(at as u32);
            at += lengths[id as usize] as usize;
            if at - polled >= POLL_PLACES {
                polled = at;
                ask(&mut || observer.poll(Stage::Merging))?;
            }
        }
        Ok(frequencies)
    }

    /// Replaces (a, b) by `new` from left to right, and keeps the counts of all pairs right. Gives how often it was
    /// replaced.
    ///
    /// Where x a b y becomes x new y, the pairs that change are (x, a), (x, new), (b, y) and (new, y): each is told
    /// by one neighbour, so the changes are gathered in arrays by x and by y, and the table of pairs is asked once
    /// for each different neighbour rather than for each place.
    fn merge(
        &mut self,
        a: TokenId,
        b: TokenId,
        new: TokenId,
        places: Places,
        tokens: &[Vec<u8>],
        observer: &mut impl Observer,
    ) -> Result<u64, TrainError> {
        let Self { limits, order, cells, weights, alone: _, lengths, pairs, left_of, right_of } = self;
        let (a_len, b_len) = (lengths[a as usize], lengths[b as usize]);
        let new_len = a_len + b_len;
        lengths.push(new_len);
        left_of.by_id.push(Neighbour::default());
        right_of.by_id.push(Neighbour::default());
        // Of new followed by new, which were b followed by a.
        let (mut between, mut between_places, mut made) = (0u64, Vec::new(), 0u64);

        let mut weights = weights.cursor();
        for part in pairs.places(places).chunks(POLL_PLACES) {
            for part in part.chunks(TOUCH_PLACES) {
                black_box(part.iter().fold(0, |all, &place| all ^ cells[place as usize]));
                for &place in part {
                    let (at, middle) = (place as usize, (place + a_len) as usize);
                    if cells[at] != a || cells[middle] != b {
                        continue;
                    }
                    let weight = weights.at(place);
                    made += weight;
                    let after = middle + b_len as usize;
                    let (x, y) = (cells[at - 1], cells[after]);
                    if x == new {
                        between += weight;
                        between_places.push(place - new_len);
                    } else if x != BORDER {
                        left_of.add(x, weight, place - lengths[x as usize]);
                    }
                    // Where the next two are (a, b) too, they are the next place, which sees this one as its x.
                    if y != BORDER && !(y == a && cells[after + a_len as usize] == b) {
                        right_of.add(y, weight, place);
                    }
                    cells[at] = new;
                    cells[middle] = INSIDE;
                    cells[after - 1] = new;
                }
            }
            poll(part, observer)?;
        }

        // The pair (a, b) itself is gone: where a is b, taking from it finds nothing.
        pairs.lessen(b, a, between);
        for x in &left_of.found {
            pairs.lessen(*x, a, left_of.by_id[*x as usize].weight);
        }
        for y in &right_of.found {
            pairs.lessen(b, *y, right_of.by_id[*y as usize].weight);
        }

        let bytes = |id: TokenId| tokens[id as usize].len() as u64;
        let any_fits = limits.max_token_bytes == u32::MAX;
        let fits = |x: TokenId| any_fits || bytes(x) + bytes(new) <= limits.max_token_bytes.into();
        let of = |neighbours: &Neighbours, id: &TokenId| neighbours.by_id[*id as usize].places;
        let lists = left_of.found.iter().map(|id| of(left_of, id));
        let lists = lists.chain(right_of.found.iter().map(|id| of(right_of, id)));
        pairs.open_block(lists.chain([between_places.len() as u32]));
        pairs.reuse(places);
        let mut add = |left, right, weight, places| {
            let key = order.key(tokens, left, right);
            pairs.add(left, right, key, weight, places)
        };
        left_of.settle(|x, n| if fits(x) { add(x, new, n.weight, n.places) } else { None });
        right_of.settle(|y, n| if fits(y) { add(new, y, n.weight, n.places) } else { None });
        let between_cursor =
            if fits(new) { add(new, new, between, between_places.len() as u32) } else { None };
        if let Some(mut cursor) = between_cursor {
            between_places.iter().for_each(|&place| pairs.write(&mut cursor, place));
        }
        for neighbours in [left_of, right_of] {
            neighbours.distribute(pairs, observer)?;
        }
        pairs.settled();
        Ok(made)
    }
}

/// Asks the observer after a whole part of a list; short lists have their merge for it.
fn poll<T>(part: &[T], observer: &mut impl Observer) -> Result<(), TrainError> {
    match part.len() == POLL_PLACES && observer.poll(Stage::Merging).is_break() {
        true => Err(TrainError::Cancelled),
        false => Ok(()),
    }
}

/// Progress of laying out.
struct Steps<'o, O> {
    done: u64,
    asked: u64,
    total: u64,
    observer: &'o mut O,
}

impl<O: Observer> Steps<'_, O> {
    fn make(&mut self, steps: usize) -> Result<(), TrainError> {
        self.done += steps as u64;
        if self.done - self.asked >= POLL_PLACES as u64 { self.ask() } else { Ok(()) }
    }

    fn ask(&mut self) -> Result<(), TrainError> {
        self.asked = self.done;
        match self.observer.preparing(self.done, self.total).is_break() {
            true => Err(TrainError::Cancelled),
            false => Ok(()),
        }
    }
}

/// The count of the pretoken at a position. Pretokens lie in descending order of their counts, so this is a short
/// list of ranges, and walking up a list of places seldom leaves the range it is in.
#[derive(Default)]
struct Weights {
    /// The end of each range of positions.
    ends: Vec<u32>,
    counts: Vec<u64>,
}

impl Weights {
    /// The next pretoken ends before `end`.
    fn push(&mut self, end: u32, count: u64) {
        match (self.ends.last_mut(), self.counts.last()) {
            (Some(last), Some(&same)) if same == count => *last = end,
            _ => {
                self.ends.push(end);
                self.counts.push(count);
            }
        }
    }

    fn cursor(&self) -> WeightCursor<'_> {
        WeightCursor { weights: self, range: 0, end: 0, count: 0 }
    }
}

struct WeightCursor<'w> {
    weights: &'w Weights,
    range: usize,
    end: u32,
    count: u64,
}

impl WeightCursor<'_> {
    /// The positions asked for only grow.
    #[inline]
    fn at(&mut self, place: u32) -> u64 {
        if place >= self.end {
            let Weights { ends, .. } = self.weights;
            // Most often it is one of the next few.
            let ends = &ends[self.range..];
            let mut bound = 1;
            while ends.get(bound).is_some_and(|&end| end <= place) {
                bound *= 2;
            }
            let skipped = bound / 2;
            let near = &ends[skipped..ends.len().min(bound + 1)];
            self.range += skipped + near.partition_point(|&end| end <= place);
            let Weights { ends, counts } = self.weights;
            (self.end, self.count) = (ends[self.range], counts[self.range]);
        }
        self.count
    }
}

/// What the merge in hand has found on one side of its places.
#[derive(Default)]
struct Neighbours {
    /// By token id; all zero between merges.
    by_id: Vec<Neighbour>,
    /// The ids that are not zero there.
    found: Vec<TokenId>,
    /// The neighbour, and the position of the left token of the new pair.
    places: Vec<(TokenId, u32)>,
}

#[derive(Clone, Copy, Default)]
struct Neighbour {
    weight: u64,
    places: u32,
    /// Where the next of its places goes.
    cursor: u32,
}

impl Neighbours {
    #[inline]
    fn add(&mut self, id: TokenId, weight: u64, place: u32) {
        let neighbour = &mut self.by_id[id as usize];
        if neighbour.places == 0 {
            self.found.push(id);
        }
        neighbour.weight += weight;
        neighbour.places += 1;
        self.places.push((id, place));
    }

    /// Asks for each neighbour where its list of places begins, if it is to have one.
    fn settle(&mut self, mut cursor: impl FnMut(TokenId, Neighbour) -> Option<u32>) {
        for &id in &self.found {
            let neighbour = &mut self.by_id[id as usize];
            neighbour.cursor = cursor(id, *neighbour).unwrap_or(NOWHERE);
        }
    }

    /// Writes the lists of places, and is ready for the next merge.
    fn distribute<K: Ord>(
        &mut self,
        pairs: &mut Pairs<K>,
        observer: &mut impl Observer,
    ) -> Result<(), TrainError> {
        for part in self.places.chunks(POLL_PLACES) {
            for &(id, position) in part {
                pairs.write(&mut self.by_id[id as usize].cursor, position);
            }
            poll(part, observer)?;
        }
        self.places.clear();
        for id in self.found.drain(..) {
            self.by_id[id as usize] = Neighbour::default();
        }
        Ok(())
    }
}
