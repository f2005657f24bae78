//! Words and their ids: what makes the common case of encoding one look-up.
//!
//! A word of up to [`LONGEST`] bytes is a number of 128 bits, its bytes with its length on top, so two words are the same if
//! their numbers are. A [`WordTable`] is made with the tokenizer, holds the words that are one token, and never changes. A
//! [`WordCache`] remembers what other words were merged into; it has a fixed size, belongs to one thread at a time and
//! goes with its tokenizer. Both only ever answer what merging would have given.

use super::TokenId;
use super::linear::PairCache;
use super::quick::RankedPairs;
use std::sync::{Mutex, MutexGuard};

/// Most bytes of a word.
pub(super) const LONGEST: usize = 15;

/// Most ids that are kept of a word.
pub(super) const MOST_IDS: usize = 3;

/// A word: its bytes, the first one lowest, and its length in the highest byte. No word is zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Word(u128);

/// What is left of 16 bytes of which so many are a word, and what is added to them.
static MASKS: [[u128; 2]; 16] = {
    let mut masks = [[0; 2]; 16];
    let mut len = 1;
    while len < 16 {
        masks[len] = [(1 << (8 * len)) - 1, (len as u128) << 120];
        len += 1;
    }
    masks
};

impl PartialEq for Word {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Word {
    /// No word, and not what a free place has either.
    pub(super) const NONE: Self = Self(1);

    /// The word of `len` bytes, 1 to [`LONGEST`], at the beginning of `bytes`.
    #[inline(always)]
    pub(super) fn new(bytes: &[u8; 16], len: usize) -> Self {
        debug_assert!((1..=LONGEST).contains(&len), "{len} bytes are no word");
        let [mask, length] = MASKS[len & 15];
        Self(u128::from_le_bytes(*bytes) & mask | length)
    }

    /// The word of a whole slice of 1 to [`LONGEST`] bytes.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        Self::new(&padded, bytes.len())
    }

    /// Its bytes, zeros, and its length in the last byte.
    #[inline(always)]
    pub(super) fn to_le_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Whether this is no word.
    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self.high() == 0
    }

    #[inline(always)]
    fn low(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// A hash whose high bits are good.
    #[inline(always)]
    pub(super) fn hash(self) -> u64 {
        let product =
            u128::from(self.low() ^ 0x9e37_79b9_7f4a_7c15) * u128::from(self.high() ^ 0xa076_1d64_78bd_642f);
        product as u64 ^ (product >> 64) as u64
    }
}

/// The words that are one token.
#[derive(Clone, Default)]
pub(super) struct WordTable {
    slots: Box<[Slot]>,
}

/// Words side by side in a cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Slot {
    words: [Word; 3],
    ids: [TokenId; 3],
}

impl WordTable {
    /// The table of these words, none of them twice.
    pub(super) fn new(words: impl ExactSizeIterator<Item = (Word, TokenId)>) -> Self {
        // Three of four places are taken.
        let lines = words.len() * 4 / 9 + 1;
        let mut table = Self { slots: vec![Slot::default(); lines].into() };
        for (word, id) in words {
            table.insert(word, id);
        }
        table
    }

    fn insert(&mut self, word: Word, id: TokenId) {
        let mut at = self.home(word.hash());
        loop {
            let slot = &mut self.slots[at];
            if let Some(free) = slot.words.iter().position(|taken| taken.is_none()) {
                slot.words[free] = word;
                slot.ids[free] = id;
                return;
            }
            at = if at + 1 < self.slots.len() { at + 1 } else { 0 };
        }
    }

    /// The line where the search for a word with this hash begins: its share of the range of hashes is the line's share of the table.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    /// Asks memory for what [`WordTable::get`] will read.
    #[inline(always)]
    pub(super) fn expect(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// The token that a word is.
    #[inline]
    pub(super) fn get(&self, word: Word, hash: u64) -> Option<TokenId> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slots.get(at)?;
            for (known, id) in slot.words.iter().zip(slot.ids) {
                if *known == word {
                    return Some(id);
                }
            }
            if slot.words[2].is_none() {
                return None;
            }
            at = if at + 1 < self.slots.len() { at + 1 } else { 0 };
        }
    }

    /// Bytes of heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }
}

impl std::fmt::Debug for WordTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WordTable({} lines)", self.slots.len())
    }
}

/// What words and longer pieces were merged into, in a fixed amount of memory.
pub(super) struct WordCache {
    recent: Recent,
    /// Words that had to be merged into more ids than there is room for among the recent ones.
    many: Box<[Many; 1 << MANY_LOG2]>,
    /// Pieces longer than a word.
    long: Box<[Long; 1 << LONG_LOG2]>,
    /// Pieces longer still: a rule of dashes, a wide indentation.
    longer: Vec<Longer>,
    /// What the pairs of symbols inside of words become.
    pub(super) pairs: PairCache,
    /// The same where those have ranks of their own.
    pub(super) ranked_pairs: RankedPairs,
}

/// A piece of any length, and its ids.
#[derive(Default)]
struct Longer {
    bytes: Box<[u8]>,
    ids: Box<[TokenId]>,
}

const LONGER_LOG2: u32 = 10;

/// Most bytes of a piece that is kept, and most ids of it.
pub(super) const LONGEST_LONGER: usize = 1024;
const MOST_LONGER_IDS: usize = 256;

const RECENT_LOG2: u32 = 16;
const MANY_LOG2: u32 = 13;
const LONG_LOG2: u32 = 11;

/// Two words in a cache line, the one that came last first.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([Entry; 2]);

/// A word and its ids.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Entry {
    word: Word,
    /// Its ids, and last how many they are: copied as one.
    lanes: [u32; LANES],
}

/// Places of an entry.
pub(super) const LANES: usize = MOST_IDS + 1;

impl Entry {
    fn new(word: Word, ids: &[TokenId]) -> Option<Self> {
        let mut lanes = [0; LANES];
        lanes[..MOST_IDS].get_mut(..ids.len())?.copy_from_slice(ids);
        lanes[MOST_IDS] = ids.len() as u32;
        Some(Self { word, lanes })
    }

    pub(super) fn ids(&self) -> &[TokenId] {
        &self.lanes[..(self.lanes[MOST_IDS] as usize).min(MOST_IDS)]
    }

    /// Writes its ids at `at`, and over what is behind them, and gives where they end. `None` where there is no room for all lanes.
    #[inline(always)]
    pub(super) fn write<const N: usize>(&self, into: &mut [TokenId; N], at: usize) -> Option<usize> {
        let place: &mut [_; LANES] = into.get_mut(at..at + LANES)?.first_chunk_mut()?;
        *place = self.lanes;
        Some(at + self.lanes[MOST_IDS] as usize)
    }
}

/// A word with more ids.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Many {
    word: Word,
    ids: [TokenId; MOST_OF_MANY],
    len: u32,
}

/// Most ids that are kept of a word that had to be merged.
const MOST_OF_MANY: usize = 11;

/// A piece longer than a word, and its ids.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Long {
    bytes: [u8; LONGEST_LONG],
    ids: [TokenId; MOST_LONG_IDS],
    len: u8,
    ids_len: u8,
}

/// Most bytes of a piece that is kept, and most ids of one longer than a word.
pub(super) const LONGEST_LONG: usize = 64;
const MOST_LONG_IDS: usize = 15;

/// The words that came last. More than the second cache of a core holds: who asks for one word at a time waits for them.
pub(super) struct Recent {
    lines: Box<[Line; 1 << RECENT_LOG2]>,
}

/// Where a word is, if it is among the recent ones.
#[derive(Clone, Copy, Default)]
pub(super) struct Place(u32);

impl Recent {
    /// By fewer instructions than [`Word::hash`]: it is asked for every word.
    #[inline(always)]
    pub(super) fn place(word: Word) -> Place {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        Place(
            ((word.low().wrapping_mul(FACTOR) ^ word.high()).wrapping_mul(FACTOR) >> (64 - RECENT_LOG2))
                as u32,
        )
    }

    #[inline(always)]
    fn line(&self, place: Place) -> &Line {
        &self.lines[place.0 as usize & ((1 << RECENT_LOG2) - 1)]
    }

    /// Asks memory for what [`Recent::get`] will read.
    #[inline(always)]
    pub(super) fn expect(&self, place: Place) {
        prefetch(self.line(place));
    }

    /// What is known of a word.
    #[inline(always)]
    pub(super) fn get(&self, word: Word, place: Place) -> Option<&Entry> {
        let Line(entries) = self.line(place);
        // Which of the two it is cannot be foreseen, that it is one of them can.
        let entry = &entries[usize::from(entries[1].word == word)];
        (entry.word == word).then_some(entry)
    }
}

impl Default for WordCache {
    fn default() -> Self {
        let no_long = Long { bytes: [0; LONGEST_LONG], ids: [0; MOST_LONG_IDS], len: 0, ids_len: 0 };
        Self {
            recent: Recent { lines: boxed(Line::default()) },
            many: boxed(Many::default()),
            long: boxed(no_long),
            longer: Vec::new(),
            pairs: PairCache::default(),
            ranked_pairs: RankedPairs::default(),
        }
    }
}

/// Many of the same, made where they stay.
fn boxed<T: Clone, const N: usize>(value: T) -> Box<[T; N]> {
    match vec![value; N].into_boxed_slice().try_into() {
        Ok(all) => all,
        Err(_) => unreachable!("there are as many as were asked for"),
    }
}

impl Line {
    #[inline(always)]
    fn insert(&mut self, word: Word, ids: &[TokenId]) {
        let Some(entry) = Entry::new(word, ids) else { return };
        self.0[1] = self.0[0];
        self.0[0] = entry;
    }
}

impl WordCache {
    /// Bytes of heap.
    pub(super) const MEMORY_BYTES: usize = (size_of::<Line>() << RECENT_LOG2)
        + (size_of::<Many>() << MANY_LOG2)
        + (size_of::<Long>() << LONG_LOG2)
        + PairCache::MEMORY_BYTES
        + RankedPairs::MEMORY_BYTES;

    /// The words that came last.
    #[inline(always)]
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Remembers a word's ids among those that came last.
    #[inline]
    pub(super) fn insert(&mut self, word: Word, ids: &[TokenId]) {
        self.recent.lines[Recent::place(word).0 as usize].insert(word, ids);
    }

    /// The ids of a word that has many.
    #[inline]
    pub(super) fn many(&self, word: Word, hash: u64) -> Option<&[TokenId]> {
        let known = &self.many[(hash >> (64 - MANY_LOG2)) as usize];
        if known.word == word { known.ids.get(..known.len as usize) } else { None }
    }

    /// Remembers what a word was merged into, if that is too much for the recent ones and not for this.
    #[inline]
    pub(super) fn insert_many(&mut self, word: Word, hash: u64, ids: &[TokenId]) {
        if ids.len() > MOST_IDS
            && let Some(kept) = kept(ids)
        {
            self.many[(hash >> (64 - MANY_LOG2)) as usize] = Many { word, ids: kept, len: ids.len() as u32 };
        }
    }

    /// The ids of a piece of up to [`LONGEST_LONG`] bytes, and where it would be remembered.
    #[inline]
    pub(super) fn long(&self, piece: &[u8]) -> Result<&[TokenId], LongPiece> {
        let mut bytes = [0; LONGEST_LONG];
        bytes[..piece.len()].copy_from_slice(piece);
        let home = (piece_hash(piece) >> (64 - LONG_LOG2)) as usize;
        let known = &self.long[home];
        if usize::from(known.len) == piece.len() && known.bytes == bytes {
            Ok(&known.ids[..usize::from(known.ids_len)])
        } else {
            Err(LongPiece { bytes, home })
        }
    }

    /// Remembers what a longer piece was merged into, if that is not too much.
    pub(super) fn insert_long(&mut self, piece: LongPiece, len: usize, ids: &[TokenId]) {
        let Some(kept) = kept(ids) else { return };
        self.long[piece.home] =
            Long { bytes: piece.bytes, ids: kept, len: len as u8, ids_len: ids.len() as u8 };
    }
}

/// A piece that is not remembered.
pub(super) struct LongPiece {
    bytes: [u8; LONGEST_LONG],
    home: usize,
}

impl WordCache {
    fn home_of_longer(piece: &[u8]) -> usize {
        (piece_hash(piece) >> (64 - LONGER_LOG2)) as usize
    }

    /// The ids of a piece longer than [`LONGEST_LONG`] bytes.
    pub(super) fn longer(&self, piece: &[u8]) -> Option<&[TokenId]> {
        if piece.len() > LONGEST_LONGER || self.longer.is_empty() {
            return None;
        }
        let known = &self.longer[Self::home_of_longer(piece)];
        (*known.bytes == *piece).then_some(&*known.ids)
    }

    /// Remembers what such a piece was merged into, if neither is too long.
    pub(super) fn insert_longer(&mut self, piece: &[u8], ids: &[TokenId]) {
        if piece.len() <= LONGEST_LONGER && ids.len() <= MOST_LONGER_IDS {
            self.longer.resize_with(1 << LONGER_LOG2, Longer::default);
            self.longer[Self::home_of_longer(piece)] = Longer { bytes: piece.into(), ids: ids.into() };
        }
    }
}

/// A hash of any bytes whose high bits are good.
#[inline]
fn piece_hash(piece: &[u8]) -> u64 {
    let (words, rest) = piece.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = piece.len() as u64;
    for eight in words.iter().chain([&last]) {
        hash = (hash ^ u64::from_le_bytes(*eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
    }
    hash.wrapping_mul(0xa076_1d64_78bd_642f)
}

/// Ids in a place of fixed size, if they are not too many for it.
#[inline(always)]
fn kept<const N: usize>(ids: &[TokenId]) -> Option<[TokenId; N]> {
    let mut kept = [0; N];
    kept.get_mut(..ids.len())?.copy_from_slice(ids);
    Some(kept)
}

/// Asks memory for what will be read soon.
#[inline(always)]
fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "an unknown word costs one wait for memory in place of several")]
        // SAFETY: a prefetch reads nothing that the program sees, and the address is that of a reference.
        unsafe {
            _mm_prefetch(std::ptr::from_ref(value).cast(), _MM_HINT_T0);
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _no_hint = value;
}

/// Caches of a tokenizer, each for one thread at a time.
pub(super) struct Caches {
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
    pub(super) fn take(&self, hint: &mut usize) -> Option<MutexGuard<'_, Option<Box<WordCache>>>> {
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
