//! What words and longer pieces were merged into, in a fixed amount of memory.
//!
//! The words that came last stand in one table, two to a cache line, each with its ids if they are few. More ids, and the bytes of a
//! piece longer than a word, stand in rings beside it, where the oldest give way: so a word with many ids is found as soon as one with
//! few, and what is seldom needed takes no memory before it is. Korean with `cl100k`, where every eighth word has more than three ids,
//! gained a fifth by that.

use super::{FACTOR, Word};
use crate::engine::TokenId;
use crate::engine::linear::PairCache;
use crate::engine::prefetch::prefetch;
use crate::engine::quick::RankedPairs;
use std::sync::{Mutex, MutexGuard};

/// Most bytes of a piece that is kept in place.
pub(in crate::engine) const LONGEST_LONG: usize = 64;

/// Most bytes of a piece that is kept at all, and most ids of it.
pub(in crate::engine) const LONGEST_LONGER: usize = 1024;
const MOST_LONGER_IDS: usize = 256;

/// Most ids of a word that stand beside it.
const MOST_IDS: usize = 3;

/// Places of an entry: its ids, and how many they are.
pub(in crate::engine) const LANES: usize = MOST_IDS + 1;

const RECENT_LOG2: u32 = 16;
const MANY_LOG2: u32 = 15;
const LONG_LOG2: u32 = 13;
const LONGER_LOG2: u32 = 10;

/// The words that came last. More than the second cache of a core holds: who asks for one word at a time waits for them.
pub(in crate::engine) struct Recent {
    lines: Box<[Line; 1 << RECENT_LOG2]>,
}

/// Where a word is, if it is among the recent ones.
#[derive(Clone, Copy, Default)]
pub(in crate::engine) struct Place(u32);

/// Two words in a cache line, the one that came last first.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([Entry; 2]);

/// A word and its ids.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(in crate::engine) struct Entry {
    word: Word,
    /// Its ids, and last how many they are: copied as one. With [`ELSEWHERE`] in the last place the first one says where they are.
    lanes: [u32; LANES],
}

/// In the place of a number of ids: they are in a ring.
const ELSEWHERE: u32 = u32::MAX;

impl Entry {
    /// Of a word with few ids.
    fn new(word: Word, ids: &[TokenId]) -> Option<Self> {
        let mut lanes = [0; LANES];
        lanes[..MOST_IDS].get_mut(..ids.len())?.copy_from_slice(ids);
        lanes[MOST_IDS] = ids.len() as u32;
        Some(Self { word, lanes })
    }

    fn elsewhere(word: Word, at: usize) -> Self {
        Self { word, lanes: [at as u32, 0, 0, ELSEWHERE] }
    }

    fn is_elsewhere(&self) -> bool {
        self.lanes[MOST_IDS] == ELSEWHERE
    }

    /// Writes its ids at `at`, and over what is behind them, and gives where they end. `None` where there is no room for all lanes.
    #[inline(always)]
    pub(in crate::engine) fn write<const N: usize>(
        &self,
        into: &mut [TokenId; N],
        at: usize,
    ) -> Option<usize> {
        let place: &mut [_; LANES] = into.get_mut(at..at + LANES)?.first_chunk_mut()?;
        *place = self.lanes;
        Some(at + self.lanes[MOST_IDS] as usize)
    }
}

impl Recent {
    /// By fewer instructions than [`Word::hash`]: it is asked for every word.
    #[inline(always)]
    pub(in crate::engine) fn place(word: Word) -> Place {
        Place(
            ((word.low().wrapping_mul(FACTOR) ^ word.high()).wrapping_mul(FACTOR) >> (64 - RECENT_LOG2))
                as u32,
        )
    }

    #[inline(always)]
    fn line(&self, place: Place) -> &Line {
        &self.lines[place.0 as usize & ((1 << RECENT_LOG2) - 1)]
    }

    /// Asks memory for what [`Recent::few`] will read.
    #[inline(always)]
    pub(in crate::engine) fn expect(&self, place: Place) {
        prefetch(self.line(place));
    }

    #[inline(always)]
    fn nearest(&self, word: Word, place: Place) -> &Entry {
        let Line(entries) = self.line(place);
        // Which of the two it is cannot be foreseen, that it is one of them can.
        &entries[usize::from(entries[1].word == word)]
    }

    /// What is known of a word, if it has few ids.
    #[inline(always)]
    pub(in crate::engine) fn few(&self, word: Word, place: Place) -> Option<&Entry> {
        let entry = self.nearest(word, place);
        ((entry.word == word) & !entry.is_elsewhere()).then_some(entry)
    }
}

/// A fixed number of places, of which the oldest is taken when all are. They take memory as they are used.
struct Ring<T> {
    places: Vec<T>,
    next: usize,
}

impl<T> Ring<T> {
    fn new(len: usize) -> Self {
        Self { places: Vec::with_capacity(len), next: 0 }
    }

    /// Puts it in the place that is given.
    fn push(&mut self, value: T) -> usize {
        let at = self.next;
        match self.places.get_mut(at) {
            Some(place) => *place = value,
            None => self.places.push(value),
        }
        self.next = if at + 1 < self.places.capacity() { at + 1 } else { 0 };
        at
    }
}

/// A word with more ids.
#[repr(C, align(64))]
struct Many {
    word: Word,
    ids: [TokenId; MOST_OF_MANY],
    len: u32,
}

/// Most ids that are kept of a word.
const MOST_OF_MANY: usize = 11;

/// A piece longer than a word, and its ids.
#[repr(C, align(64))]
struct Long {
    bytes: [u8; LONGEST_LONG],
    ids: [TokenId; MOST_OF_LONG],
    len: u8,
    ids_len: u8,
}

/// Most ids that are kept of a piece longer than a word.
const MOST_OF_LONG: usize = 15;

/// A piece of any length, and its ids.
#[derive(Default)]
struct Longer {
    bytes: Box<[u8]>,
    ids: Box<[TokenId]>,
}

/// What words and longer pieces were merged into.
pub(in crate::engine) struct WordCache {
    recent: Recent,
    /// Ids of words that have more of them than there is room for beside the word.
    many: Ring<Many>,
    /// Pieces longer than a word.
    long: Ring<Long>,
    /// Pieces longer still, a rule of dashes, a wide indentation: by the hash of their bytes.
    longer: Vec<Longer>,
    /// What the pairs of symbols inside of words become.
    pub(in crate::engine) pairs: PairCache,
    /// The same where those have ranks of their own.
    pub(in crate::engine) ranked_pairs: RankedPairs,
}

impl Default for WordCache {
    fn default() -> Self {
        let lines = vec![Line::default(); 1 << RECENT_LOG2].into_boxed_slice();
        let Ok(lines) = lines.try_into() else { unreachable!("there are as many as were asked for") };
        Self {
            recent: Recent { lines },
            many: Ring::new(1 << MANY_LOG2),
            long: Ring::new(1 << LONG_LOG2),
            longer: Vec::new(),
            pairs: PairCache::default(),
            ranked_pairs: RankedPairs::default(),
        }
    }
}

impl WordCache {
    /// Bytes of heap.
    pub(in crate::engine) const MEMORY_BYTES: usize = (size_of::<Line>() << RECENT_LOG2)
        + (size_of::<Many>() << MANY_LOG2)
        + (size_of::<Long>() << LONG_LOG2)
        + PairCache::MEMORY_BYTES
        + RankedPairs::MEMORY_BYTES;

    /// The words that came last.
    #[inline(always)]
    pub(in crate::engine) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The ids of a word, or of a piece for which it stands, with these bytes.
    #[inline]
    pub(in crate::engine) fn get(&self, word: Word, place: Place, bytes: &[u8]) -> Option<&[TokenId]> {
        let entry = self.recent.nearest(word, place);
        if entry.word != word {
            return None;
        }
        let [ids @ .., len] = &entry.lanes;
        if !entry.is_elsewhere() {
            return ids.get(..*len as usize);
        }
        let at = ids[0] as usize;
        if word.is_long() {
            let long = self.long.places.get(at)?;
            (long.bytes.get(..long.len.into())? == bytes).then(|| long.ids.get(..long.ids_len.into()))?
        } else {
            let many = self.many.places.get(at)?;
            (many.word == word).then(|| many.ids.get(..many.len as usize))?
        }
    }

    /// Remembers the ids of a word, or of a piece for which it stands, with these bytes, if they are not too many.
    #[inline]
    pub(in crate::engine) fn insert(&mut self, word: Word, bytes: &[u8], ids: &[TokenId]) {
        let entry = if word.is_long() {
            let (Some(kept), Some(bytes)) = (kept(ids), kept(bytes)) else { return };
            let len = (word.high() >> 56) as u8;
            Entry::elsewhere(word, self.long.push(Long { bytes, ids: kept, len, ids_len: ids.len() as u8 }))
        } else if let Some(entry) = Entry::new(word, ids) {
            entry
        } else {
            let Some(kept) = kept(ids) else { return };
            Entry::elsewhere(word, self.many.push(Many { word, ids: kept, len: ids.len() as u32 }))
        };
        let Line(entries) = &mut self.recent.lines[Recent::place(word).0 as usize];
        entries[1] = entries[0];
        entries[0] = entry;
    }

    /// The ids of a piece longer than [`LONGEST_LONG`] bytes.
    #[inline]
    pub(in crate::engine) fn longer(&self, piece: &[u8]) -> Option<&[TokenId]> {
        if piece.len() > LONGEST_LONGER || self.longer.is_empty() {
            return None;
        }
        let known = &self.longer[home_of_longer(piece)];
        (*known.bytes == *piece).then_some(&*known.ids)
    }

    /// Remembers what such a piece was merged into, if neither is too long.
    pub(in crate::engine) fn insert_longer(&mut self, piece: &[u8], ids: &[TokenId]) {
        if piece.len() <= LONGEST_LONGER && ids.len() <= MOST_LONGER_IDS {
            self.longer.resize_with(1 << LONGER_LOG2, Longer::default);
            self.longer[home_of_longer(piece)] = Longer { bytes: piece.into(), ids: ids.into() };
        }
    }
}

fn home_of_longer(piece: &[u8]) -> usize {
    (super::hash_of(piece) >> (64 - LONGER_LOG2)) as usize
}

/// Something in a place of fixed size, if it is not too much for it.
#[inline(always)]
fn kept<T: Copy + Default, const N: usize>(some: &[T]) -> Option<[T; N]> {
    let mut kept = [T::default(); N];
    kept.get_mut(..some.len())?.copy_from_slice(some);
    Some(kept)
}

/// Caches of a tokenizer, each for one thread at a time.
pub(in crate::engine) struct Caches {
    all: [Mutex<Option<Box<WordCache>>>; MOST_CACHES],
}

/// Threads beyond so many that encode at once have none.
const MOST_CACHES: usize = 16;

impl Default for Caches {
    fn default() -> Self {
        Self { all: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Caches {
    /// A cache that nobody uses now, if there is one; never waits. The one at `hint` is tried first, and `hint` is set to where it was found.
    pub(in crate::engine) fn take(&self, hint: &mut usize) -> Option<MutexGuard<'_, Option<Box<WordCache>>>> {
        for turn in 0..MOST_CACHES {
            let at = (*hint + turn) % MOST_CACHES;
            if let Ok(guard) = self.all[at].try_lock() {
                *hint = at;
                return Some(guard);
            }
        }
        None
    }
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, of `count` pieces of which `piece` gives the bytes and the ids, all remembered one after the other: never anything
    /// else than what was remembered.
    fn found(count: u32, piece: impl Fn(u32) -> (Vec<u8>, Vec<TokenId>)) -> Vec<u32> {
        let mut cache = WordCache::default();
        for number in 0..count {
            let (bytes, ids) = piece(number);
            let word = Word::of_piece(&bytes);
            cache.insert(word, &bytes, &ids);
            assert_eq!(cache.get(word, Recent::place(word), &bytes), Some(&*ids));
        }
        let found = (0..count).filter(|&number| {
            let (bytes, ids) = piece(number);
            let word = Word::of_piece(&bytes);
            let known = cache.get(word, Recent::place(word), &bytes);
            assert!(known.is_none_or(|known| known == ids), "{number}");
            known.is_some()
        });
        found.collect()
    }

    #[test]
    fn of_words_with_many_ids_the_last_ones_are_known() {
        let (last, more) = (1 << MANY_LOG2, 1000);
        let piece =
            |number: u32| (format!("w{number}").into_bytes(), (number..number + 4 + number % 8).collect());
        let found = found(last + more, piece);
        assert!(found.iter().all(|&number| number >= more), "older ones gave way");
        assert!(found.len() > last as usize * 9 / 10, "{}", found.len());
    }

    #[test]
    fn of_longer_pieces_the_last_ones_are_known() {
        let (last, more) = (1 << LONG_LOG2, 1000);
        let piece = |number: u32| {
            (format!("a longer piece, and its number is {number}").into_bytes(), vec![number; 5])
        };
        let found = found(last + more, piece);
        assert!(found.iter().all(|&number| number >= more), "older ones gave way");
        assert!(found.len() > last as usize * 9 / 10, "{}", found.len());
    }

    #[test]
    fn a_piece_is_known_by_its_bytes_and_not_by_its_hash_alone() {
        let mut cache = WordCache::default();
        let (bytes, others) = (b"a piece of some length", b"a piece of same length");
        let word = Word::of_piece(bytes);
        cache.insert(word, bytes, &[1, 2]);
        let place = Recent::place(word);
        assert_eq!(cache.get(word, place, bytes), Some(&[1, 2][..]));
        assert_eq!(cache.get(word, place, others), None);
    }

    #[test]
    fn what_has_too_many_ids_is_not_kept() {
        let mut cache = WordCache::default();
        for (bytes, most) in [(&b"word"[..], MOST_OF_MANY), (b"a piece of some length", MOST_OF_LONG)] {
            let word = Word::of_piece(bytes);
            let place = Recent::place(word);
            cache.insert(word, bytes, &vec![7; most + 1]);
            assert_eq!(cache.get(word, place, bytes), None);
            cache.insert(word, bytes, &vec![7; most]);
            assert_eq!(cache.get(word, place, bytes), Some(&*vec![7; most]));
        }
    }
}
