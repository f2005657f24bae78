//! The tables that counting fills: pretokens by hash, each with how often it occurred.
//!
//! A pretoken of up to 15 bytes is a number of 128 bits and lies in its slot; longer ones have their bytes in a buffer
//! beside the table. [`Tally`] is what one thread has: a small table of the words that came last, which takes most of a
//! text, before the tables of all words, parted by hash so that those of several threads are added up part by part.

use super::TrainError;
use super::words::{ASK_WORDS, MAX_DISTINCT_BYTES, MAX_TOTAL_BYTES, ask};
use crate::engine::words::{LONGEST, Word};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher};
use std::ops::{ControlFlow, Range};

/// Recent words: few enough for the second cache of a core.
const RECENT_LOG2: u32 = if cfg!(test) { 4 } else { 13 };

/// The hash of a pretoken. Seeded at random, as the texts are somebody else's; no result depends on it.
#[derive(Clone, Default)]
pub(super) struct WordHasher(foldhash::fast::RandomState);

impl WordHasher {
    #[inline]
    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// The same of a short word; of other bytes than its own, so that a table has to keep the two apart.
    #[inline]
    fn hash_short(&self, key: &[u8; 16]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u128(u128::from_le_bytes(*key));
        hasher.finish()
    }
}

/// Which of so many parts a hash belongs to. Tables use the lowest and the highest bits: these are from its middle.
#[inline]
fn part_of(hash: u64, parts: usize) -> usize {
    (((hash >> 16 & 0xffff_ffff) * parts as u64) >> 32) as usize
}

/// What one thread has counted.
pub(super) struct Tally {
    recent: Box<[Recent]>,
    /// By part of the hashes.
    tables: Vec<Table>,
}

/// A word and how often it came since it is here; free where that is 0.
#[derive(Clone, Copy)]
struct Recent {
    word: Word,
    count: u64,
}

impl Tally {
    /// Nothing counted yet, for so many parts.
    pub(super) fn new(parts: usize) -> Self {
        let recent = vec![Recent { word: Word::NONE, count: 0 }; 1 << RECENT_LOG2].into();
        Self { recent, tables: (0..parts).map(|_| Table::default()).collect() }
    }

    /// Counts the pretokens of `text` of which the first starts at `start` and each ends at the next of `ends`.
    pub(super) fn add_all(
        &mut self,
        hasher: &WordHasher,
        text: &[u8],
        mut start: usize,
        ends: &[u32],
    ) -> Result<(), TrainError> {
        for &end in ends {
            let end = end as usize;
            match text[start..].first_chunk::<16>() {
                Some(bytes) if end - start <= LONGEST => {
                    self.add_word(hasher, Word::new(bytes, end - start))?
                }
                _ => self.add(hasher, &text[start..end])?,
            }
            start = end;
        }
        Ok(())
    }

    /// Counts one pretoken.
    pub(super) fn add(&mut self, hasher: &WordHasher, pretoken: &[u8]) -> Result<(), TrainError> {
        if pretoken.len() <= LONGEST {
            return self.add_word(hasher, Word::of(pretoken));
        }
        let hash = hasher.hash(pretoken);
        let part = part_of(hash, self.tables.len());
        self.tables[part].add_long(hash, pretoken, 1)
    }

    #[inline(always)]
    fn add_word(&mut self, hasher: &WordHasher, word: Word) -> Result<(), TrainError> {
        let recent = &mut self.recent[(word.hash() >> (64 - RECENT_LOG2)) as usize];
        if recent.word == word {
            // A text is far shorter than 2^64 bytes, so this cannot overflow.
            recent.count += 1;
            return Ok(());
        }
        let before = std::mem::replace(recent, Recent { word, count: 1 });
        self.keep(hasher, before)
    }

    #[inline(never)]
    fn keep(&mut self, hasher: &WordHasher, recent: Recent) -> Result<(), TrainError> {
        if recent.count == 0 {
            return Ok(());
        }
        let key = recent.word.to_le_bytes();
        let hash = hasher.hash_short(&key);
        let part = part_of(hash, self.tables.len());
        self.tables[part].add_short(hasher, hash, key, recent.count)
    }

    /// The tables, by part; they are empty afterwards.
    pub(super) fn take_tables(&mut self, hasher: &WordHasher) -> Result<Vec<Table>, TrainError> {
        for at in 0..self.recent.len() {
            let free = Recent { word: Word::NONE, count: 0 };
            let recent = std::mem::replace(&mut self.recent[at], free);
            self.keep(hasher, recent)?;
        }
        Ok(self.tables.iter_mut().map(std::mem::take).collect())
    }

    /// Bytes of heap.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.recent) + self.tables.iter().map(Table::memory_bytes).sum::<usize>()
    }
}

/// Pretokens with counts, by hash.
#[derive(Default)]
pub(super) struct Table {
    short: HashTable<Short>,
    long: HashTable<Long>,
    bytes: Vec<u8>,
}

/// A pretoken as [`Word`] has it: its bytes, zeros, its length.
#[derive(Clone, Copy)]
struct Short {
    key: [u8; 16],
    count: u64,
}

impl Short {
    fn word(&self) -> &[u8] {
        &self.key[..usize::from(self.key[LONGEST] & 15)]
    }
}

struct Long {
    hash: u64,
    count: u64,
    start: u32,
    len: u32,
}

impl Long {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// Bytes of heap.
    pub(super) fn memory_bytes(&self) -> usize {
        // A byte of each place beside it is the table's own.
        self.short.capacity() * 8 / 7 * (size_of::<Short>() + 1)
            + self.long.capacity() * 8 / 7 * (size_of::<Long>() + 1)
            + self.bytes.capacity()
    }

    /// Every pretoken with its count, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let short = self.short.iter().map(|slot| (slot.word(), slot.count));
        short.chain(self.long.iter().map(|slot| (&self.bytes[slot.range()], slot.count)))
    }

    /// Adds `count` to what the pretoken, which is not empty, has.
    pub(super) fn add(&mut self, hasher: &WordHasher, pretoken: &[u8], count: u64) -> Result<(), TrainError> {
        if pretoken.len() <= LONGEST {
            let key = Word::of(pretoken).to_le_bytes();
            return self.add_short(hasher, hasher.hash_short(&key), key, count);
        }
        self.add_long(hasher.hash(pretoken), pretoken, count)
    }

    fn add_short(
        &mut self,
        hasher: &WordHasher,
        hash: u64,
        key: [u8; 16],
        count: u64,
    ) -> Result<(), TrainError> {
        match self.short.entry(hash, |slot| slot.key == key, |slot| hasher.hash_short(&slot.key)) {
            Entry::Occupied(mut slot) => slot.get_mut().count = sum(slot.get().count, count)?,
            Entry::Vacant(slot) => {
                slot.insert(Short { key, count });
            }
        }
        Ok(())
    }

    fn add_long(&mut self, hash: u64, pretoken: &[u8], count: u64) -> Result<(), TrainError> {
        let Self { long, bytes, .. } = self;
        let same = |slot: &Long| slot.hash == hash && bytes[slot.range()] == *pretoken;
        match long.entry(hash, same, |slot| slot.hash) {
            Entry::Occupied(mut slot) => slot.get_mut().count = sum(slot.get().count, count)?,
            Entry::Vacant(slot) => {
                let start = bytes.len();
                if start as u64 + pretoken.len() as u64 > MAX_DISTINCT_BYTES {
                    return Err(TrainError::TooManyPretokens { limit: MAX_DISTINCT_BYTES });
                }
                bytes.extend_from_slice(pretoken);
                slot.insert(Long { hash, count, start: start as u32, len: pretoken.len() as u32 });
            }
        }
        Ok(())
    }

    /// Adds all that another table with the same hasher has. Asks now and then whether to go on.
    pub(super) fn absorb(
        &mut self,
        hasher: &WordHasher,
        other: &Self,
        go_on: &mut impl FnMut() -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        for (i, slot) in other.short.iter().enumerate() {
            if i.is_multiple_of(ASK_WORDS) {
                ask(go_on)?;
            }
            self.add_short(hasher, hasher.hash_short(&slot.key), slot.key, slot.count)?;
        }
        for (i, slot) in other.long.iter().enumerate() {
            if i.is_multiple_of(ASK_WORDS) {
                ask(go_on)?;
            }
            self.add_long(slot.hash, &other.bytes[slot.range()], slot.count)?;
        }
        Ok(())
    }
}

fn sum(a: u64, b: u64) -> Result<u64, TrainError> {
    a.checked_add(b).ok_or(TrainError::Overflow { limit: MAX_TOTAL_BYTES })
}
