//! The vocabulary: token id <-> bytes.

/// The number of a token. Not its merge priority: that is the rank.
pub type TokenId = u32;

/// Why a set of tokens is not a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabError {
    /// An id beyond what may be addressed for that many tokens.
    #[error("token id {id} is over the limit {limit}")]
    IdTooLarge {
        /// The id.
        id: u64,
        /// The highest id taken.
        limit: u64,
    },
}

/// Tokens by id and by bytes.
#[derive(Debug, Clone)]
pub struct Vocab;
