//! Words and their ids: what makes the common case of encoding one look-up.
//!
//! A word of up to [`LONGEST`] bytes is a number of 128 bits, its bytes with its length on top, so two words are the same if
//! their numbers are; the number of a piece of up to [`LONGEST_LONG`] is a hash of it, and its bytes decide. A [`WordTable`] is
//! made with the tokenizer, holds the words that are one token, and never changes. A [`WordCache`] remembers what came last, and
//! what other words were merged into; it has a fixed size, belongs to one thread at a time and goes with its tokenizer. Both
//! only ever answer what merging would have given.

mod cache;

use super::TokenId;
use super::prefetch::prefetch;
pub(super) use cache::{Caches, LANES, LONGEST_LONG, LONGEST_LONGER, Place, Recent, WordCache};

/// Most bytes of a word.
pub(super) const LONGEST: usize = 15;

/// A word: its bytes, the first one lowest, and its length in the highest byte; or a longer piece: a hash, and its length there. None
/// is zero.
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

    /// What stands for a piece of more than [`LONGEST`] bytes, up to [`LONGEST_LONG`]. Others may have the same.
    #[inline]
    fn long(piece: &[u8]) -> Self {
        debug_assert!((LONGEST + 1..=LONGEST_LONG).contains(&piece.len()), "{} bytes", piece.len());
        let hash = hash_of(piece);
        Self(u128::from(hash) | (piece.len() as u128) << 120)
    }

    /// What stands for a piece, if anything does: itself, a hash, or nothing for one over [`LONGEST_LONG`] bytes.
    pub(super) fn of_piece(bytes: &[u8]) -> Self {
        match bytes.len() {
            len if len <= LONGEST => Self::of(bytes),
            len if len <= LONGEST_LONG => Self::long(bytes),
            _ => Self::NONE,
        }
    }

    /// Whether it stands for a piece longer than a word.
    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.0 >> 120 > LONGEST as u128
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

/// The golden ratio in 64 bits, by which hashes multiply (Knuth, volume 3, 6.4).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash of any bytes.
#[inline]
fn hash_of(bytes: &[u8]) -> u64 {
    let mixed = |hash: u64, eight: u64| {
        let hash = (hash ^ eight).wrapping_mul(FACTOR);
        hash ^ hash >> 32
    };
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = eights.iter().fold(bytes.len() as u64, |hash, eight| mixed(hash, u64::from_le_bytes(*eight)));
    mixed(hash, u64::from_le_bytes(last)).wrapping_mul(FACTOR)
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
