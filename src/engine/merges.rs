//! The merges: which two neighbours become which token, and which merge goes first.
//!
//! Invariant of a [`MergeTable`]: one entry a pair; the rank is the merge's position in the list it was built from, or
//! what a list of ranks says (SentencePiece's merges into one piece share its rank), so a lower rank merges first. The
//! id of the result says nothing about the rank (only in tiktoken files do they go together).
//!
//! Looking pairs up is most of what encoding an unseen word costs, most pairs do not merge, and what it costs is the
//! cache. So the table is as small as may be: eight bytes a slot, which hold the pair and the position of its merge,
//! and before it a filter of some bits a pair that fits the second level of the cache. Measured against slots of 16 bytes
//! in linear probing at half load, on the pairs that encoding unseen words asks for (o200k): 6 ns for 12 on Chinese
//! text, 6 for 7.5 on English, 3 for 14 on random pairs, which do not merge. Merges drawn evenly, which no text asks
//! for, take 11 for 8: the frequent ones were put in first and are where their walk begins.

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

/// Merges by pair.
#[derive(Clone)]
pub struct MergeTable {
    form: Form,
    len: usize,
}

#[derive(Clone)]
enum Form {
    Packed(Packed),
    /// By key in ascending order, for pairs that do not fit the slots of the other form or were made up to collide.
    Sorted(Vec<(u64, Rank, TokenId)>),
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
        let form = match Packed::new(merges, ranks)? {
            Some(packed) => Form::Packed(packed),
            None => Form::Sorted(sorted(merges, ranks)?),
        };
        Ok(Self { form, len: merges.len() })
    }

    /// Rank and result of merging `left` with `right`, if that is a merge.
    #[inline]
    pub fn get(&self, left: TokenId, right: TokenId) -> Option<(Rank, TokenId)> {
        match &self.form {
            Form::Packed(packed) => packed.get(left, right),
            Form::Sorted(entries) => find(entries, left, right),
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
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Sorted(entries) => entries.capacity() * size_of::<(u64, Rank, TokenId)>(),
        }
    }
}

impl std::fmt::Debug for MergeTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MergeTable({} merges)", self.len)
    }
}

/// Ids of pairs have so many bits, and so has one more than the position of a merge.
const BITS: u32 = 21;

/// Where the pair is in a slot. Below it are a bit, [`WALKED`], and one more than the position of the merge.
const PAIR: u32 = BITS + 1;

/// Set where a pair that begins its walk here, or passes by, is in a later slot.
const WALKED: u64 = 1 << BITS;

const POSITION: u64 = WALKED - 1;

/// How far a look-up may walk before the table is built again with another multiplier.
const MAX_PROBE: usize = 128;

/// Multipliers to try, odd and without a pattern. A set of pairs for which none will do was made up for that.
const MULTIPLIERS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// That of the filter, which has to err on other pairs than those that share a slot.
const FILTER_MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;

/// Merges by pair in open addressing.
#[derive(Clone)]
struct Packed {
    /// The pair, [`WALKED`] and the position. All zeros where it is free.
    slots: Vec<u64>,
    /// Slots in which a walk may begin; behind them is room for its end.
    homes: u64,
    multiplier: u64,
    /// Two bits for each pair in one word. Where one is not set the pair is not in the table.
    filter: Vec<u64>,
    filter_shift: u32,
    results: Results,
}

/// Rank and result of the merge at a position.
#[derive(Clone)]
enum Results {
    /// The rank is the position, the result so much more than the position: vocabularies in the order of their merges.
    Counted(TokenId),
    Listed(Vec<(Rank, TokenId)>),
}

impl Packed {
    /// `None` where ids or positions need more bits, or where pairs pile up whatever the multiplier.
    fn new(merges: &[Merge], ranks: Option<&[Rank]>) -> Result<Option<Self>, DuplicatePair> {
        if merges.len() >= POSITION as usize || merges.iter().any(|m| !fits(m.left, m.right)) {
            return Ok(None);
        }
        for multiplier in MULTIPLIERS {
            if let Some(table) = Self::build(merges, multiplier)? {
                let first = merges.first().map_or(0, |merge| merge.id);
                let is_counted = ranks.is_none() && (first..).zip(merges).all(|(id, merge)| id == merge.id);
                let results = match is_counted {
                    true => Results::Counted(first),
                    false => Results::Listed(ranked(merges, ranks).map(|(m, rank)| (rank, m.id)).collect()),
                };
                return Ok(Some(Self { results, ..table }));
            }
        }
        Ok(None)
    }

    fn build(merges: &[Merge], multiplier: u64) -> Result<Option<Self>, DuplicatePair> {
        // Half of the slots are taken; at ten to twenty bits a pair the filter errs on one pair in 30 to 100.
        let homes = (merges.len() * 2).max(16);
        let words = (merges.len() * 10 / 64).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![0; homes + MAX_PROBE],
            homes: homes as u64,
            multiplier,
            filter: vec![0; words],
            filter_shift: u64::BITS - words.ilog2(),
            results: Results::Counted(0),
        };
        for (merge, place) in merges.iter().zip(1..) {
            let pair = pair(merge.left, merge.right);
            let home = table.home(pair);
            let walk = &mut table.slots[home..home + MAX_PROBE];
            let Some(free) = walk.iter().position(|&slot| slot & POSITION == 0) else { return Ok(None) };
            for slot in &mut walk[..free] {
                if (*slot ^ pair) >> PAIR == 0 {
                    return Err(DuplicatePair { left: merge.left, right: merge.right });
                }
                *slot |= WALKED;
            }
            walk[free] = pair | place;
            let (word, bits) = table.filtered(pair);
            table.filter[word] |= bits;
        }
        Ok(Some(table))
    }

    #[inline]
    fn get(&self, left: TokenId, right: TokenId) -> Option<(Rank, TokenId)> {
        if !fits(left, right) {
            return None;
        }
        let pair = pair(left, right);
        let (word, bits) = self.filtered(pair);
        if self.filter.get(word)? & bits != bits {
            return None;
        }
        let mut at = self.home(pair);
        loop {
            let slot = *self.slots.get(at)?;
            if (slot ^ pair) >> PAIR == 0 {
                // A free slot looks like one of the pair (0, 0).
                let position = (slot & POSITION).checked_sub(1)? as u32;
                return match &self.results {
                    Results::Counted(first) => Some((position, first + position)),
                    Results::Listed(results) => results.get(position as usize).copied(),
                };
            }
            if slot & WALKED == 0 {
                return None;
            }
            at += 1;
        }
    }

    #[inline]
    fn home(&self, pair: u64) -> usize {
        ((u128::from(pair.wrapping_mul(self.multiplier)) * u128::from(self.homes)) >> 64) as usize
    }

    /// The word of the filter that has the bits of a pair, and these. They come from other bits of one product.
    #[inline]
    fn filtered(&self, pair: u64) -> (usize, u64) {
        let product = pair.wrapping_mul(FILTER_MULTIPLIER);
        let bit = |shift: u32| 1 << (product >> shift & 63);
        ((product >> self.filter_shift) as usize, bit(38) | bit(32))
    }

    fn memory_bytes(&self) -> usize {
        let results = match &self.results {
            Results::Counted(_) => 0,
            Results::Listed(results) => results.capacity() * size_of::<(Rank, TokenId)>(),
        };
        (self.slots.capacity() + self.filter.capacity()) * 8 + results
    }
}

/// Whether the ids of a pair have as few bits as a slot has for them.
#[inline]
fn fits(left: TokenId, right: TokenId) -> bool {
    (left | right) >> BITS == 0
}

/// A pair as slots have it.
#[inline]
fn pair(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << (PAIR + BITS) | u64::from(right) << PAIR
}

/// Each merge with its rank.
fn ranked<'m>(merges: &'m [Merge], ranks: Option<&'m [Rank]>) -> impl Iterator<Item = (&'m Merge, Rank)> {
    let rank = move |position| ranks.and_then(|ranks| ranks.get(position).copied());
    merges.iter().enumerate().map(move |(position, m)| (m, rank(position).unwrap_or(position as Rank)))
}

fn sorted(merges: &[Merge], ranks: Option<&[Rank]>) -> Result<Vec<(u64, Rank, TokenId)>, DuplicatePair> {
    let entry = |(m, rank): (&Merge, Rank)| (key(m.left, m.right), rank, m.id);
    let mut entries: Vec<_> = ranked(merges, ranks).map(entry).collect();
    entries.sort_unstable();
    match entries.array_windows().find(|[one, next]| one.0 == next.0) {
        Some([(key, ..), _]) => Err(DuplicatePair { left: (key >> 32) as TokenId, right: *key as TokenId }),
        None => Ok(entries),
    }
}

#[cold]
fn find(entries: &[(u64, Rank, TokenId)], left: TokenId, right: TokenId) -> Option<(Rank, TokenId)> {
    let found = entries.binary_search_by_key(&key(left, right), |entry| entry.0).ok()?;
    entries.get(found).map(|&(_, rank, id)| (rank, id))
}

fn key(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Both forms against a map, on all pairs of the ids that occur and their neighbours.
    fn check(merges: &[Merge], ranks: Option<&[Rank]>) {
        let map: HashMap<_, _> =
            ranked(merges, ranks).map(|(m, rank)| ((m.left, m.right), (rank, m.id))).collect();
        let sorted = Form::Sorted(sorted(merges, ranks).unwrap());
        let tables =
            [MergeTable::with_ranks(merges, ranks).unwrap(), MergeTable { form: sorted, len: merges.len() }];
        let near = |id: TokenId| [id.wrapping_sub(1), id, id.wrapping_add(1)];
        let ids =
            merges.iter().flat_map(|m| near(m.left).into_iter().chain(near(m.right))).chain([0, u32::MAX]);
        let ids: Vec<TokenId> = ids.collect();
        for (&left, &right) in ids.iter().flat_map(|left| ids.iter().map(move |right| (left, right))) {
            for table in &tables {
                assert_eq!(table.get(left, right), map.get(&(left, right)).copied(), "{left} {right}");
            }
        }
    }

    proptest! {
        #[test]
        fn look_ups_match_a_map(
            pairs in proptest::collection::hash_set((0u32..40, 0u32..40), 0..60),
            scale in prop_oneof![Just(1u32), Just(5_003), Just(60_000_000)],
            are_counted: bool,
            has_ranks: bool,
        ) {
            let merge = |((left, right), at): ((u32, u32), u32)| Merge {
                left: left * scale,
                right: right * scale,
                id: if are_counted { 256 + at } else { 9_000 - at },
            };
            let merges: Vec<Merge> = pairs.into_iter().zip(0..).map(merge).collect();
            let ranks: Vec<Rank> = (0..merges.len() as u32).map(|at| at / 3).collect();
            check(&merges, has_ranks.then_some(&ranks[..]));
        }
    }

    #[test]
    fn the_highest_ids_that_fit_a_slot_and_the_first_that_do_not() {
        let last = (1 << BITS) - 1;
        let merge = |left, right| Merge { left, right, id: 7 };
        check(&[merge(last, last), merge(0, 0), merge(last, 0)], None);
        let is_packed = |right| matches!(MergeTable::new(&[merge(0, right)]).unwrap().form, Form::Packed(_));
        assert_eq!((is_packed(last), is_packed(last + 1)), (true, false));
    }

    /// Pairs that all begin their walk in one place, under each of the multipliers: the other form takes them.
    #[test]
    fn pairs_made_up_to_collide_are_found_all_the_same() {
        let homes = 2 * 200 * MULTIPLIERS.len() as u64;
        let mut merges = Vec::new();
        for multiplier in MULTIPLIERS {
            let home = |pair: u64| (u128::from(pair.wrapping_mul(multiplier)) * u128::from(homes)) >> 64;
            let pairs = (0..2_000).flat_map(|left| (0..300).map(move |right| (left, right)));
            let colliding = pairs.filter(|&(left, right)| home(pair(left, right)) == 5);
            merges.extend(colliding.take(200).map(|(left, right)| Merge { left, right, id: 1 }));
        }
        merges.sort_unstable_by_key(|m| key(m.left, m.right));
        merges.dedup();
        assert_eq!(merges.len() * 2, homes as usize);
        let table = MergeTable::new(&merges).unwrap();
        assert!(matches!(table.form, Form::Sorted(_)));
        for (rank, m) in (0..).zip(&merges) {
            assert_eq!(table.get(m.left, m.right), Some((rank, 1)));
        }
    }

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
        let twice = [m, Merge { id: 4, ..m }];
        assert_eq!(MergeTable::new(&twice).unwrap_err(), DuplicatePair { left: 1, right: 2 });
        assert_eq!(sorted(&twice, None).unwrap_err(), DuplicatePair { left: 1, right: 2 });
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = MergeTable::new(&[]).unwrap();
        assert!(table.is_empty());
        assert_eq!(table.get(0, 0), None);
    }
}
