//! The vocabulary: token id <-> bytes.
//!
//! Holds for every [`Vocab`]: ids may have gaps but none exceeds `2 * count + 1_000_000`; no token is empty; no two
//! ordinary tokens have the same bytes. Names of special tokens live in the same id space but are never found by
//! their bytes: only [`super::SpecialTokens`] recognises them.

use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The number of a token. Not its merge priority: that is the rank.
pub type TokenId = u32;

/// Ids may leave gaps, but a table indexed by id must stay in proportion to the number of tokens.
const GAP_ALLOWANCE: u64 = 1_000_000;

/// Why a set of tokens is not a vocabulary. Every variant names the id at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabError {
    /// An id out of proportion to the number of tokens.
    #[error("token id {id} is over the limit of {limit} for this number of tokens")]
    IdTooLarge {
        /// The id.
        id: TokenId,
        /// The highest id taken.
        limit: u64,
    },
    /// Two tokens have one id.
    #[error("token id {id} is given twice")]
    DuplicateId {
        /// The id.
        id: TokenId,
    },
    /// Two ordinary tokens have the same bytes.
    #[error("token {id} has the bytes of token {other}")]
    DuplicateBytes {
        /// The later id.
        id: TokenId,
        /// The earlier id.
        other: TokenId,
    },
    /// A token without bytes.
    #[error("token {id} is empty")]
    Empty {
        /// The id.
        id: TokenId,
    },
    /// More bytes in all than can be addressed.
    #[error("the tokens have over {limit} bytes in all")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
}

/// Where the bytes of one id lie in the arena; `len == 0` is a gap.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    start: u32,
    len: u32,
}

/// Tokens by id and by bytes.
#[derive(Clone)]
pub struct Vocab {
    arena: Vec<u8>,
    slots: Vec<Slot>,
    lookup: HashTable<TokenId>,
    hasher: foldhash::fast::FixedState,
    len: usize,
    longest: usize,
}

impl Vocab {
    /// Builds a vocabulary from ordinary tokens (found by their bytes) and the names of special tokens (not found
    /// by their bytes). A special token may also be an ordinary one if id and bytes are the same.
    ///
    /// # Errors
    /// See [`VocabError`].
    pub fn new<'a>(
        tokens: impl IntoIterator<Item = (TokenId, &'a [u8])>,
        specials: impl IntoIterator<Item = (TokenId, &'a [u8])>,
    ) -> Result<Self, VocabError> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let specials: Vec<_> = specials.into_iter().collect();
        let count = tokens.len() + specials.len();
        let limit = (2 * count as u64 + GAP_ALLOWANCE).min(u64::from(u32::MAX) - 1);
        let highest = tokens.iter().chain(&specials).map(|&(id, _)| id).max();
        if let Some(id) = highest.filter(|&id| u64::from(id) > limit) {
            return Err(VocabError::IdTooLarge { id, limit });
        }
        let bytes: u64 = tokens.iter().chain(&specials).map(|(_, b)| b.len() as u64).sum();
        if bytes > u64::from(u32::MAX) {
            return Err(VocabError::TooManyBytes { limit: u64::from(u32::MAX) });
        }
        let mut vocab = Self {
            arena: Vec::with_capacity(bytes as usize),
            slots: vec![Slot::default(); highest.map_or(0, |id| id as usize + 1)],
            lookup: HashTable::with_capacity(tokens.len()),
            hasher: foldhash::fast::FixedState::with_seed(0x766f_6361_6264),
            len: 0,
            longest: tokens.iter().map(|(_, b)| b.len()).max().unwrap_or(0),
        };
        for (id, bytes) in tokens {
            vocab.place(id, bytes)?;
            vocab.index(id, bytes)?;
        }
        for (id, bytes) in specials {
            if vocab.bytes(id) != Some(bytes) {
                vocab.place(id, bytes)?;
            }
        }
        Ok(vocab)
    }

    fn place(&mut self, id: TokenId, bytes: &[u8]) -> Result<(), VocabError> {
        if bytes.is_empty() {
            return Err(VocabError::Empty { id });
        }
        let slot = &mut self.slots[id as usize];
        if slot.len != 0 {
            return Err(VocabError::DuplicateId { id });
        }
        *slot = Slot { start: self.arena.len() as u32, len: bytes.len() as u32 };
        self.arena.extend_from_slice(bytes);
        self.len += 1;
        Ok(())
    }

    fn index(&mut self, id: TokenId, bytes: &[u8]) -> Result<(), VocabError> {
        if let Some(other) = self.id(bytes) {
            return Err(VocabError::DuplicateBytes { id, other });
        }
        let Self { arena, slots, lookup, hasher, .. } = self;
        lookup.insert_unique(hasher.hash_one(bytes), id, |&id| {
            hasher.hash_one(slice(arena, slots[id as usize]))
        });
        Ok(())
    }

    /// The bytes of a token, special tokens' names included; `None` for a gap or an id beyond the last.
    pub fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        let slot = *self.slots.get(id as usize)?;
        (slot.len != 0).then(|| slice(&self.arena, slot))
    }

    /// The ordinary token with exactly these bytes.
    pub fn id(&self, bytes: &[u8]) -> Option<TokenId> {
        if bytes.len() > self.longest {
            return None;
        }
        self.lookup
            .find(self.hasher.hash_one(bytes), |&id| slice(&self.arena, self.slots[id as usize]) == bytes)
            .copied()
    }

    /// Whether an id is that of an ordinary token: one that is found by its bytes.
    pub fn is_ordinary(&self, id: TokenId) -> bool {
        self.bytes(id).is_some_and(|bytes| self.id(bytes) == Some(id))
    }

    /// Number of tokens, specials included and gaps not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest id: what a model's embedding has to hold.
    pub fn id_bound(&self) -> usize {
        self.slots.len()
    }

    /// Length in bytes of the longest ordinary token.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// All tokens by ascending id, specials included.
    pub fn iter(&self) -> impl Iterator<Item = (TokenId, &[u8])> {
        (0..self.slots.len() as u32).filter_map(|id| Some((id, self.bytes(id)?)))
    }

    /// The ordinary tokens by ascending id.
    pub fn ordinary(&self) -> impl Iterator<Item = (TokenId, &[u8])> {
        self.iter().filter(|(id, bytes)| self.id(bytes) == Some(*id))
    }

    /// Bytes of heap that this vocabulary holds.
    pub fn memory_bytes(&self) -> usize {
        self.arena.capacity() + self.slots.capacity() * size_of::<Slot>() + self.lookup.allocation_size()
    }
}

impl std::fmt::Debug for Vocab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vocab({} tokens, ids below {})", self.len, self.id_bound())
    }
}

fn slice(arena: &[u8], slot: Slot) -> &[u8] {
    &arena[slot.start as usize..][..slot.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(tokens: &[(u32, &str)], specials: &[(u32, &str)]) -> Result<Vocab, VocabError> {
        Vocab::new(
            tokens.iter().map(|&(i, b)| (i, b.as_bytes())),
            specials.iter().map(|&(i, b)| (i, b.as_bytes())),
        )
    }

    #[test]
    fn ids_and_bytes_find_each_other_across_gaps() {
        let v = vocab(&[(0, "a"), (7, "bc")], &[(3, "<s>")]).unwrap();
        assert_eq!((v.len(), v.id_bound(), v.longest()), (3, 8, 2));
        assert_eq!(v.id(b"bc"), Some(7));
        assert_eq!(v.bytes(7), Some(&b"bc"[..]));
        assert_eq!(v.bytes(1), None);
        assert_eq!(v.bytes(9), None);
        assert_eq!(v.bytes(3), Some(&b"<s>"[..]));
        assert_eq!(v.id(b"<s>"), None, "a special token's name is not found by its bytes");
        assert_eq!(v.iter().map(|(id, _)| id).collect::<Vec<_>>(), [0, 3, 7]);
        assert_eq!(v.ordinary().map(|(id, _)| id).collect::<Vec<_>>(), [0, 7]);
        assert_eq!([0, 1, 3, 7, 9].map(|id| v.is_ordinary(id)), [true, false, false, true, false]);
    }

    #[test]
    fn a_token_may_be_ordinary_and_special_at_once() {
        let v = vocab(&[(0, "a"), (1, "<s>")], &[(1, "<s>")]).unwrap();
        assert_eq!((v.len(), v.id(b"<s>")), (2, Some(1)));
        assert!(v.is_ordinary(1));
    }

    #[test]
    fn bad_vocabularies_are_refused_with_the_id() {
        let check = |tokens: &[(u32, &str)], specials: &[(u32, &str)], expect| {
            assert_eq!(vocab(tokens, specials).unwrap_err(), expect);
        };
        check(&[(0, "a"), (0, "b")], &[], VocabError::DuplicateId { id: 0 });
        check(&[(0, "a"), (1, "a")], &[], VocabError::DuplicateBytes { id: 1, other: 0 });
        check(&[(5, "")], &[], VocabError::Empty { id: 5 });
        check(&[(0, "a")], &[(0, "<s>")], VocabError::DuplicateId { id: 0 });
        check(
            &[(4_000_000_000, "a")],
            &[],
            VocabError::IdTooLarge { id: 4_000_000_000, limit: 2 + GAP_ALLOWANCE },
        );
    }
}
