//! Why a request for a version, or a change, is refused.

use super::name::{AliasName, VocabName};
use super::quota::OverQuota;
use crate::store::Digest;
use crate::store::StoreError;

/// Why a ref gives no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No vocabulary has that name.
    #[error("there is no vocabulary of that name{}", named("; near ones are", .near))]
    UnknownVocab {
        /// Names that look like it, best first.
        near: Vec<VocabName>,
    },
    /// The vocabulary has no version of that number (any more).
    #[error("{name} has no such version{}", named("; it has", .known))]
    UnknownVersion {
        /// The vocabulary.
        name: VocabName,
        /// Its newest versions, newest first.
        known: Vec<u32>,
    },
    /// The vocabulary has no alias of that name.
    #[error("{name} has no such alias{}", named("; it has", .known))]
    UnknownAlias {
        /// The vocabulary.
        name: VocabName,
        /// Some of its aliases.
        known: Vec<AliasName>,
    },
    /// The version exists but cannot be loaded; another try may work once its cause is mended.
    #[error("{name} cannot be loaded: {problem}")]
    Unavailable {
        /// The vocabulary.
        name: VocabName,
        /// The cause, without paths.
        problem: String,
    },
    /// The version does not fit beside those that must stay in memory.
    #[error("{name} needs {needed} bytes of memory; {limit} are set, of which {pinned} are in lasting use")]
    NoRoom {
        /// The vocabulary.
        name: VocabName,
        /// Bytes that the version takes.
        needed: u64,
        /// Bytes of the versions that stay in memory: aliased, latest and default ones.
        pinned: u64,
        /// `max_resident_bytes`.
        limit: u64,
    },
}

/// Why a vocabulary was not published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Read back from the store it is not what it was: a fault in the format or in the storage.
    #[error("the vocabulary did not pass its check before publishing: {problem}")]
    Unfaithful {
        /// What differs.
        problem: String,
    },
    /// It does not fit in memory beside those that must stay.
    #[error(
        "the vocabulary needs {needed} bytes of memory; {limit} are set, of which {pinned} are in lasting use"
    )]
    NoRoom {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes of the versions that stay in memory.
        pinned: u64,
        /// `max_resident_bytes`.
        limit: u64,
    },
    /// Its publisher keeps as much as it may.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// Version numbers are used up, or other processes take them faster than this one can.
    #[error("no version number is free")]
    NoNumber,
    /// The storage refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an alias or a version was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What the change names is not there or cannot be loaded.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The precondition does not hold.
    #[error("the alias is not at what the precondition says")]
    Precondition {
        /// The digest that the alias is at now; `None` where there is no such alias.
        current: Option<Digest>,
    },
    /// Aliases name the version; they must be moved or removed first.
    #[error("the version is named by {}", list(.aliases))]
    InUse {
        /// These.
        aliases: Vec<AliasName>,
    },
    /// `default_vocab` would name nothing any more.
    #[error("the default vocabulary would be gone; set default_vocab to another one first")]
    IsDefault,
    /// The storage refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn named(lead: &str, items: &[impl ToString]) -> String {
    if items.is_empty() { String::new() } else { format!("{lead} {}", list(items)) }
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
