//! The vocabulary: token id <-> bytes.
//!
//! Holds for every [`Vocab`]: ids may have gaps but none exceeds `2 * count + 1_000_000`; no token is empty; no two
//! ordinary tokens have the same bytes. Names of special tokens live in the same id space but are never found by
//! their bytes: only [`super::SpecialTokens`] recognises them.

use super::arena::Arena;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher};

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

/// Tokens by id and by bytes.
#[derive(Clone)]
pub struct Vocab {
    /// By id; a gap is empty.
    arena: Arena,
    lookup: HashTable<TokenId>,
    len: usize,
    longest: usize,
}

impl Vocab {
    /// Builds a vocabulary from ordinary tokens (found by their bytes) and the names of special tokens (not found
    /// by their bytes). A special token may also be an ordinary one if id and bytes are the same. What is given is gone
    /// through several times and never gathered.
    ///
    /// # Errors
    /// See [`VocabError`].
    pub fn new<'t, 's, T, S>(tokens: T, specials: S) -> Result<Self, VocabError>
    where
        T: IntoIterator<Item = (TokenId, &'t [u8]), IntoIter: Clone>,
        S: IntoIterator<Item = (TokenId, &'s [u8]), IntoIter: Clone>,
    {
        let (tokens, specials) = (tokens.into_iter(), specials.into_iter());
        let (mut count, mut bytes, mut highest) = (0, 0, None);
        let mut measure = |id, len| {
            count += 1;
            bytes += len as u64;
            highest = highest.max(Some(id));
        };
        tokens.clone().for_each(|(id, token)| measure(id, token.len()));
        specials.clone().for_each(|(id, name)| measure(id, name.len()));
        let limit = (2 * count + GAP_ALLOWANCE).min(u64::from(u32::MAX) - 1);
        if let Some(id) = highest.filter(|&id| u64::from(id) > limit) {
            return Err(VocabError::IdTooLarge { id, limit });
        }
        if bytes > u64::from(u32::MAX) {
            return Err(VocabError::TooManyBytes { limit: u64::from(u32::MAX) });
        }
        let bound = highest.map_or(0, |id| id as usize + 1);
        // Lengths first: they say where each token will lie. The place before the first is that of its start.
        let mut lens = vec![0; bound + 1];
        let (mut ordinary, mut longest) = (0, 0);
        for (id, token) in tokens.clone() {
            let len = &mut lens[id as usize + 1];
            match (token.len(), *len) {
                (0, _) => return Err(VocabError::Empty { id }),
                (given, 0) => *len = given as u32,
                _ => return Err(VocabError::DuplicateId { id }),
            }
            ordinary += 1;
            longest = longest.max(token.len());
        }
        let mut named = Vec::new();
        for (id, name) in specials {
            let len = &mut lens[id as usize + 1];
            if name.is_empty() {
                return Err(VocabError::Empty { id });
            }
            named.push((id, name, *len == 0));
            if *len == 0 {
                *len = name.len() as u32;
            }
        }
        let mut vocab = Self {
            arena: Arena::of_lens(lens),
            lookup: HashTable::with_capacity(ordinary),
            len: ordinary + named.iter().filter(|(.., is_first)| *is_first).count(),
            longest,
        };
        for (id, token) in tokens {
            vocab.arena.fill(id, token);
            vocab.index(id, token)?;
        }
        for (id, name, is_first) in named {
            if is_first {
                vocab.arena.fill(id, name);
            } else if vocab.arena.get(id) != name {
                return Err(VocabError::DuplicateId { id });
            }
        }
        Ok(vocab)
    }

    fn index(&mut self, id: TokenId, bytes: &[u8]) -> Result<(), VocabError> {
        let Self { arena, lookup, .. } = self;
        match lookup.entry(hash(bytes), |&other| arena.get(other) == bytes, |&id| hash(arena.get(id))) {
            Entry::Occupied(other) => Err(VocabError::DuplicateBytes { id, other: *other.get() }),
            Entry::Vacant(free) => {
                free.insert(id);
                Ok(())
            }
        }
    }

    /// The bytes of a token, special tokens' names included; `None` for a gap or an id beyond the last.
    #[inline]
    pub fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        Some(self.arena.get(id)).filter(|bytes| !bytes.is_empty())
    }

    /// The same for all ids, for those who want many.
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The ordinary token with exactly these bytes.
    pub fn id(&self, bytes: &[u8]) -> Option<TokenId> {
        if bytes.len() > self.longest {
            return None;
        }
        self.lookup.find(hash(bytes), |&id| self.arena.get(id) == bytes).copied()
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
        self.arena.bound()
    }

    /// Length in bytes of the longest ordinary token.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// All tokens by ascending id, specials included.
    pub fn iter(&self) -> impl Iterator<Item = (TokenId, &[u8])> {
        (0..self.id_bound() as u32).filter_map(|id| Some((id, self.bytes(id)?)))
    }

    /// The ordinary tokens by ascending id.
    pub fn ordinary(&self) -> impl Iterator<Item = (TokenId, &[u8])> {
        self.iter().filter(|(id, bytes)| self.id(bytes) == Some(*id))
    }

    /// Bytes of heap that this vocabulary holds.
    pub fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes() + self.lookup.allocation_size()
    }
}

/// Without the length before the bytes, which [`std::hash::Hash`] would put in: this hash tells lengths apart itself.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0x766f_6361_6264).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl std::fmt::Debug for Vocab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vocab({} tokens, ids below {})", self.len, self.id_bound())
    }
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
