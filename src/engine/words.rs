//! Words and their ids: what makes the common case of encoding one look-up.
//!
//! A word of up to [`LONGEST`] bytes is a number of 128 bits, its bytes with its length on top, so two words are the same if
//! their numbers are. A [`WordTable`] is made with the tokenizer, holds the words that are one token, and never changes. A
//! [`WordCache`] remembers what other words were merged into; it has a fixed size, belongs to one thread at a time and
//! goes with its tokenizer. Both only ever answer what merging would have given.

use super::TokenId;
use std::sync::{Mutex, MutexGuard};

/// Most bytes of a word.
pub(super) const LONGEST: usize = 15;

/// Most ids that are kept of a word.
pub(super) const MOST_IDS: usize = 3;

/// A word: its bytes, the first one lowest, and its length in the highest byte. No word is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Word {
    low: u64,
    high: u64,
}

/// What is left of 16 bytes of which so many are a word.
static MASKS: [Word; 16] = {
    let mut masks = [Word { low: 0, high: 0 }; 16];
    let mut len = 1;
    while len < 16 {
        let bits = (1u128 << (8 * len)) - 1;
        masks[len] = Word { low: bits as u64, high: (bits >> 64) as u64 };
        len += 1;
    }
    masks
};

impl Word {
    /// No word, and not what a free place has either.
    pub(super) const NONE: Self = Self { low: 1, high: 0 };

    /// The word of `len` bytes, 1 to [`LONGEST`], at the beginning of `bytes`.
    #[inline(always)]
    pub(super) fn new(bytes: &[u8; 16], len: usize) -> Self {
        debug_assert!((1..=LONGEST).contains(&len), "{len} bytes are no word");
        let both = u128::from_le_bytes(*bytes);
        let mask = &MASKS[len & 15];
        Self { low: both as u64 & mask.low, high: (both >> 64) as u64 & mask.high | (len as u64) << 56 }
    }

    /// The word of a whole slice of 1 to [`LONGEST`] bytes.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        Self::new(&padded, bytes.len())
    }

    /// Whether this is no word.
    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self.high == 0
    }

    /// A hash whose high bits are good.
    #[inline(always)]
    pub(super) fn hash(self) -> u64 {
        let product = u128::from(self.low ^ 0x9e37_79b9_7f4a_7c15) * u128::from(self.high ^ 0xa076_1d64_78bd_642f);
        product as u64 ^ (product >> 64) as u64
    }
}

/// The words that are one token.
#[derive(Clone, Default)]
pub(super) struct WordTable {
    slots: Box<[Slot]>,
    /// Hashes are cut to so many high bits.
    shift: u32,
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
        // Two of three places are taken, at most.
        let lines = (words.len() / 2 + 1).next_power_of_two();
        let mut table =
            Self { slots: vec![Slot::default(); lines].into(), shift: 64 - lines.trailing_zeros() };
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
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        hash.checked_shr(self.shift).unwrap_or(0) as usize
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
            at = (at + 1) & (self.slots.len() - 1);
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

/// What some words were merged into, in a fixed amount of memory.
pub(super) struct WordCache {
    lines: Box<[Line]>,
}

/// Two words in a cache line, the one that came last first.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([Entry; 2]);

/// A word and its ids.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Entry {
    word: Word,
    pub(super) ids: [TokenId; MOST_IDS],
    pub(super) len: u32,
}

/// Two to the power of this is the number of lines: half a mebibyte in all, which stays in the second cache of a core.
const LINES_LOG2: u32 = 13;

impl Default for WordCache {
    fn default() -> Self {
        Self { lines: vec![Line::default(); 1 << LINES_LOG2].into() }
    }
}

impl WordCache {
    /// Bytes of heap.
    pub(super) const MEMORY_BYTES: usize = size_of::<Line>() << LINES_LOG2;

    /// Where a word is, if it is there.
    #[inline(always)]
    pub(super) fn home(hash: u64) -> u32 {
        (hash >> (64 - LINES_LOG2)) as u32
    }

    /// The ids of a word at its home, if they are remembered.
    #[inline(always)]
    pub(super) fn get(&self, word: Word, home: u32) -> Option<&Entry> {
        let Line([first, second]) = &self.lines[home as usize % (1 << LINES_LOG2)];
        if first.word == word {
            Some(first)
        } else if second.word == word {
            Some(second)
        } else {
            None
        }
    }

    /// Remembers the ids of a word, if they are not too many.
    #[inline]
    pub(super) fn insert(&mut self, word: Word, home: u32, ids: &[TokenId]) {
        let mut kept = [0; MOST_IDS];
        let Some(place) = kept.get_mut(..ids.len()) else { return };
        place.copy_from_slice(ids);
        let Line(entries) = &mut self.lines[home as usize % (1 << LINES_LOG2)];
        entries[1] = entries[0];
        entries[0] = Entry { word, ids: kept, len: ids.len() as u32 };
    }
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
