//! The counts of a whole corpus: in memory, or on the disk where they and what merging lays out would take too much.

use super::wordfile::{self, Merged};
use super::worker::RunError;
use crate::engine::{TakeWord, Totals, WordCounts, Words, merging_bytes};
use std::path::{Path, PathBuf};

/// Distinct pretokens with counts.
#[derive(Debug)]
pub(super) enum Whole {
    Loaded(WordCounts),
    /// A file as [`wordfile`] has it; it stays for as long as this does.
    Stored {
        path: PathBuf,
        totals: Totals,
    },
}

impl Default for Whole {
    fn default() -> Self {
        Self::Loaded(WordCounts::default())
    }
}

impl Whole {
    /// What a file has, which is checked from one end to the other; in memory where all that follows fits in so much.
    pub(super) fn open(path: &Path, max_memory: usize) -> Result<Self, RunError> {
        let mut totals = Totals::default();
        for pair in Merged::open(&[path])? {
            let (word, count) = pair?;
            totals = totals.with(&word, count)?;
        }
        Self::Stored { path: path.to_owned(), totals }.loaded_within(max_memory)
    }

    /// Writes counts that come in the order of their pretokens to a file.
    pub(super) fn store(
        path: &Path,
        counts: impl Iterator<Item = Result<(Vec<u8>, u64), RunError>>,
        max_memory: usize,
    ) -> Result<Self, RunError> {
        let mut totals = Totals::default();
        let summed = counts.map(|pair| {
            let (word, count) = pair?;
            totals = totals.with(&word, count)?;
            Ok::<_, RunError>((word, count))
        });
        wordfile::write_sorted(path, summed)?;
        Self::Stored { path: path.to_owned(), totals }.loaded_within(max_memory)
    }

    fn loaded_within(self, max_memory: usize) -> Result<Self, RunError> {
        match &self {
            Self::Stored { path, totals } if merging_bytes(totals) <= max_memory as u64 => {
                Ok(Self::Loaded(wordfile::read(path)?))
            }
            _ => Ok(self),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.totals().distinct == 0
    }
}

impl Words for Whole {
    type Error = RunError;

    fn each(&self, take: &mut TakeWord<'_>) -> Result<(), RunError> {
        match self {
            Self::Loaded(counts) => Ok(counts.each(take)?),
            Self::Stored { path, .. } => {
                let mut words = wordfile::WordsOf::open(path)?;
                let mut word = Vec::new();
                while let Some(count) = words.next_into(&mut word)? {
                    take(&word, count)?;
                }
                Ok(())
            }
        }
    }

    fn totals(&self) -> Totals {
        match self {
            Self::Loaded(counts) => counts.totals(),
            Self::Stored { totals, .. } => *totals,
        }
    }

    fn loaded(&self) -> Option<&WordCounts> {
        match self {
            Self::Loaded(counts) => Some(counts),
            Self::Stored { .. } => None,
        }
    }
}
