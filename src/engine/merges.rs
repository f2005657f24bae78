//! The merges: which two neighbours become which token, and in which order.
use super::TokenId;
/// One merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// Left part.
    pub left: TokenId,
    /// Right part.
    pub right: TokenId,
    /// The token they become.
    pub id: TokenId,
}
/// Merges by pair.
#[derive(Debug, Clone)]
pub struct MergeTable;
