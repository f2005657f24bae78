//! Training: from texts to merges, by plain byte-pair encoding.
//!
//! [`Counter`] turns texts into [`WordCounts`] (each distinct pretoken with how often it occurs); [`train`] merges
//! the most frequent pair of neighbouring tokens again and again. What must stay true: the result is the one that
//! recounting every pair before every merge would give, and it depends on the counts alone: not on the number of
//! threads, nor on the order of the texts. Everything that takes long asks an [`Observer`] whether to go on.

mod count;
mod extend;
mod merge;
mod rounds;
mod scripts;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use count::{Counter, SafeCuts};
pub use extend::{BaseError, Extended, Extension, LeftOut, ScriptTokens, tokens_by_script};
pub use scripts::Scripts;
pub use start::merging_bytes;
pub use words::{TakeWord, Totals, WordCounts, WordSums, Words, scaled_count};

use super::alphabet::bytes_by_letter;
use super::{Form, Merge, Pattern, SplitError, Tables, TokenId};
use merge::ById;
use start::{Made, Start};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// The largest vocabulary that can be asked for, in tokens.
pub const MAX_VOCAB_SIZE: u32 = 4_000_000;

/// The most threads that can be asked for.
pub const MAX_TRAIN_THREADS: usize = 256;

/// Which of several equally frequent pairs is merged first: always the one with the smaller (left id, right id), so
/// this is a choice of how ids are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TieBreak {
    /// Special tokens from 0, then the 256 bytes by code point of GPT-2's byte alphabet, then the merges.
    #[default]
    Hf,
    /// Bytes by value from 0, then the merges, then the special tokens.
    Bytes,
}

impl TieBreak {
    /// The tie-break of that name: `hf` or `bytes`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hf, Self::Bytes].into_iter().find(|t| t.name() == name)
    }

    /// The name that [`TieBreak::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Bytes => "bytes",
        }
    }
}

/// What to train. [`TrainConfig::new`] gives the defaults; one of `vocab_size` and `num_merges` has to be set.
#[derive(Debug, Clone)]
pub struct TrainConfig {
    /// How texts are cut into pretokens; no merge crosses from one into the next.
    pub pattern: Pattern,
    /// Applied before the cut, to each stretch between special tokens.
    pub normalizer: Option<Form>,
    /// By which tables.
    pub tables: Tables,
    /// Names that get an id and end the record where they occur in a text. They are never counted.
    pub special_tokens: Vec<String>,
    /// Stop at this many tokens: special tokens, 256 bytes and merges together.
    pub vocab_size: Option<u32>,
    /// Stop at this many merges. With `vocab_size` too, the first one reached stops.
    pub num_merges: Option<u32>,
    /// Stop when the best pair occurs less often than this; 0 means 1, as a pair that never occurs is never merged.
    pub min_frequency: u64,
    /// The longest token that a merge may make, in bytes, itself included.
    pub max_token_bytes: Option<u32>,
    /// Which of several equally frequent pairs is merged first.
    pub tie_break: TieBreak,
    /// Threads that count. The result is the same for any number.
    pub threads: usize,
    /// Memory that merging may take, in bytes, about. What would take more is merged in rounds, with the same result.
    pub max_memory: usize,
}

impl TrainConfig {
    /// The defaults: no normalization, no special tokens, `min_frequency` 2, one thread, and no stop rule yet.
    pub fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            normalizer: None,
            tables: Tables::Reference,
            special_tokens: Vec::new(),
            vocab_size: None,
            num_merges: None,
            min_frequency: 2,
            max_token_bytes: None,
            tie_break: TieBreak::Hf,
            threads: 1,
            max_memory: usize::MAX,
        }
    }

    /// Checks every field; the error names the first one at fault and its limit.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.validate_counting()?;
        let bytes_and_specials = 256 + self.special_tokens.len() as u64;
        match (self.vocab_size, self.num_merges) {
            (None, None) => return Err(TrainError::NoStopRule),
            (Some(vocab_size), _) if u64::from(vocab_size) <= bytes_and_specials => {
                return Err(TrainError::VocabSizeTooSmall { vocab_size, bytes_and_specials });
            }
            (Some(vocab_size), _) if vocab_size > MAX_VOCAB_SIZE => {
                return Err(TrainError::VocabSizeTooLarge { vocab_size, limit: MAX_VOCAB_SIZE });
            }
            (_, Some(0)) => return Err(TrainError::NoMerges),
            (None, Some(n)) if u64::from(n) + bytes_and_specials > u64::from(MAX_VOCAB_SIZE) => {
                return Err(TrainError::NumMergesTooLarge {
                    num_merges: n,
                    limit: u64::from(MAX_VOCAB_SIZE).saturating_sub(bytes_and_specials),
                });
            }
            _ => {}
        }
        match self.max_token_bytes {
            Some(max_token_bytes @ 0..2) => Err(TrainError::MaxTokenBytesTooSmall { max_token_bytes }),
            _ => Ok(()),
        }
    }

    /// The part of [`TrainConfig::validate`] that matters for counting, where no stop rule is needed.
    fn validate_counting(&self) -> Result<(), TrainError> {
        if self.threads == 0 || self.threads > MAX_TRAIN_THREADS {
            return Err(TrainError::Threads { threads: self.threads, limit: MAX_TRAIN_THREADS });
        }
        let mut seen = HashSet::new();
        for (index, name) in self.special_tokens.iter().enumerate() {
            if name.is_empty() {
                return Err(TrainError::EmptySpecialToken { index });
            }
            if !seen.insert(name) {
                return Err(TrainError::DuplicateSpecialToken { index });
            }
        }
        Ok(())
    }

    /// The lowest count that is still merged.
    fn least_count(&self) -> u64 {
        self.min_frequency.max(1)
    }

    /// How many merges are wanted, and why it ends there. The config is valid.
    fn wanted(&self) -> (u32, StopReason) {
        let bytes_and_specials = 256 + self.special_tokens.len() as u32;
        let by_size = self.vocab_size.map(|n| (n - bytes_and_specials, StopReason::VocabSize));
        let by_merges = self.num_merges.map(|n| (n, StopReason::NumMerges));
        match (by_size, by_merges) {
            (Some(size), Some(merges)) if merges.0 < size.0 => merges,
            (Some(size), _) => size,
            (None, Some(merges)) => merges,
            (None, None) => (0, StopReason::NumMerges),
        }
    }

    /// The id of each byte, the id of the first merge, and that of the first special token where it precedes them.
    fn byte_ids(&self) -> ([TokenId; 256], TokenId) {
        let mut ids = [0; 256];
        match self.tie_break {
            TieBreak::Bytes => {
                (0..).zip(&mut ids).for_each(|(id, slot)| *slot = id);
                (ids, 256)
            }
            TieBreak::Hf => {
                let first = self.special_tokens.len() as TokenId;
                for (id, byte) in (first..).zip(bytes_by_letter()) {
                    ids[usize::from(byte)] = id;
                }
                (ids, first + 256)
            }
        }
    }
}

/// A part of the work of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Texts are split and their pretokens counted.
    Counting,
    /// The pairs of the counted pretokens are laid out.
    Preparing,
    /// Merges are made.
    Merging,
}

/// Is told how training gets on, and says whether it goes on: `Break` ends it with [`TrainError::Cancelled`].
///
/// Every method is called on the thread that called the trainer, some ten thousand times a second at most but for
/// `merged`, so reading a flag or a clock in each of them is cheap and cancels within milliseconds.
pub trait Observer {
    /// So far `bytes` of text and `pretokens` of them were counted, over all calls of one [`Counter`].
    fn counting(&mut self, bytes: u64, pretokens: u64) -> ControlFlow<()> {
        let _ = (bytes, pretokens);
        ControlFlow::Continue(())
    }

    /// So far `done` of `total` steps of laying out were made.
    fn preparing(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        let _ = (done, total);
        ControlFlow::Continue(())
    }

    /// A merge was made: the `done`th of at most `wanted`, and these are its bytes.
    fn merged(&mut self, merge: &LearnedMerge, token: &[u8], done: u32, wanted: u32) -> ControlFlow<()> {
        let _ = (merge, token, done, wanted);
        ControlFlow::Continue(())
    }

    /// Now and then is shown all merges of this call of the trainer, those that it was told of as made before left out.
    fn so_far(&mut self, merges: &[LearnedMerge]) {
        let _ = merges;
    }

    /// Called inside long steps that have nothing to tell.
    fn poll(&mut self, stage: Stage) -> ControlFlow<()> {
        let _ = stage;
        ControlFlow::Continue(())
    }
}

/// Watches nothing and never cancels.
impl Observer for () {}

/// One merge: wherever `left` is followed by `right`, `id` takes their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedMerge {
    /// The token on the left.
    pub left: TokenId,
    /// The token on the right.
    pub right: TokenId,
    /// The token made of both.
    pub id: TokenId,
    /// How often the two were neighbours in the corpus when they were merged, overlaps included.
    pub count: u64,
    /// How many tokens were made of them: by so many the corpus has fewer tokens since.
    pub made: u64,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// `vocab_size` was reached.
    VocabSize,
    /// `num_merges` was reached.
    NumMerges,
    /// No pair that may be merged occurs `min_frequency` times.
    NothingFrequent,
}

impl StopReason {
    /// `vocab_size`, `num_merges` or `nothing_frequent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::VocabSize => "vocab_size",
            Self::NumMerges => "num_merges",
            Self::NothingFrequent => "nothing_frequent",
        }
    }
}

/// A trained vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The bytes of every token, by id, without a gap; those of a special token are its name.
    pub tokens: Vec<Vec<u8>>,
    /// The merges, in order: the rank of a merge is its place here.
    pub merges: Vec<LearnedMerge>,
    /// The special tokens as given, with their ids.
    pub special_tokens: Vec<(String, TokenId)>,
    /// The id of each byte.
    pub byte_ids: [TokenId; 256],
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How many different pretokens the corpus has.
    pub distinct_pretokens: u64,
    /// How many pretokens the corpus has.
    pub total_pretokens: u64,
    /// How many bytes these have together.
    pub total_bytes: u64,
    /// By id, how often the corpus as merged has each token.
    pub frequencies: Vec<u64>,
}

/// Why training was refused, or ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// Nothing says how many merges to make.
    #[error("one of vocab_size and num_merges is required")]
    NoStopRule,
    /// There is no place for a merge.
    #[error(
        "vocab_size is {vocab_size}; it must be over {bytes_and_specials} (256 bytes and the special tokens)"
    )]
    VocabSizeTooSmall {
        /// As given.
        vocab_size: u32,
        /// The tokens that are there before any merge.
        bytes_and_specials: u64,
    },
    /// There is no place for a merge beside the base.
    #[error("vocab_size is {vocab_size}; it must be over {base} (the base's ids and the new special tokens)")]
    VocabSizeBelowBase {
        /// As given.
        vocab_size: u32,
        /// The ids that are there before any merge.
        base: u64,
    },
    /// More tokens than are supported.
    #[error("vocab_size is {vocab_size}; it must be at most {limit}")]
    VocabSizeTooLarge {
        /// As given.
        vocab_size: u32,
        /// The largest taken.
        limit: u32,
    },
    /// No merge is asked for.
    #[error("num_merges is 0; it must be at least 1")]
    NoMerges,
    /// More tokens than are supported.
    #[error("num_merges is {num_merges}; it must be at most {limit}")]
    NumMergesTooLarge {
        /// As given.
        num_merges: u32,
        /// The largest taken.
        limit: u64,
    },
    /// No merge fits.
    #[error("max_token_bytes is {max_token_bytes}; it must be at least 2")]
    MaxTokenBytesTooSmall {
        /// As given.
        max_token_bytes: u32,
    },
    /// No thread, or too many.
    #[error("threads is {threads}; it must be from 1 to {limit}")]
    Threads {
        /// As given.
        threads: usize,
        /// The most taken.
        limit: usize,
    },
    /// A special token without a name.
    #[error("special_tokens[{index}] is empty")]
    EmptySpecialToken {
        /// Its place in the list.
        index: usize,
    },
    /// A special token named twice.
    #[error("special_tokens[{index}] is in the list already")]
    DuplicateSpecialToken {
        /// The place of the second one.
        index: usize,
    },
    /// The special tokens cannot be searched for.
    #[error("special_tokens are too large to search for")]
    SpecialTokensTooLarge,
    /// There is no pretoken at all.
    #[error("the corpus is empty: there is nothing to train on")]
    EmptyCorpus,
    /// A counted pretoken without a byte.
    #[error("the counts hold an empty pretoken")]
    EmptyPretoken,
    /// The counts do not fit 63 bits.
    #[error("the counts are too large: all pretokens together have over {limit} bytes")]
    Overflow {
        /// The most bytes that can be counted.
        limit: u64,
    },
    /// The distinct pretokens do not fit 32-bit positions.
    #[error("the distinct pretokens are too large: together they have over {limit} bytes")]
    TooManyPretokens {
        /// The most bytes that distinct pretokens may have.
        limit: u64,
    },
    /// Not even the most frequent pairs can be merged in the memory that there is.
    #[error(
        "merging needs more memory than max_memory, {max_memory} bytes (the setting train_max_memory_bytes): raise that, \
         or prune_count"
    )]
    Memory {
        /// The limit.
        max_memory: u64,
    },
    /// Merges to go on from that are not those of such a run.
    #[error("merge {index} to go on from does not follow from those before it")]
    BadResume {
        /// Its place in the list.
        index: usize,
    },
    /// The observer said so.
    #[error("training was cancelled")]
    Cancelled,
    /// The split pattern gave up on a text.
    #[error(transparent)]
    Split(#[from] SplitError),
}

impl TrainError {
    /// The field of [`TrainConfig`] at fault, if it is one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoStopRule
            | Self::VocabSizeTooSmall { .. }
            | Self::VocabSizeBelowBase { .. }
            | Self::VocabSizeTooLarge { .. } => Some("vocab_size"),
            Self::NoMerges | Self::NumMergesTooLarge { .. } => Some("num_merges"),
            Self::MaxTokenBytesTooSmall { .. } => Some("max_token_bytes"),
            Self::Threads { .. } => Some("threads"),
            Self::EmptySpecialToken { .. }
            | Self::DuplicateSpecialToken { .. }
            | Self::SpecialTokensTooLarge => Some("special_tokens"),
            Self::Split(_) => Some("pattern"),
            Self::Memory { .. } => Some("max_memory"),
            Self::EmptyCorpus
            | Self::EmptyPretoken
            | Self::Overflow { .. }
            | Self::TooManyPretokens { .. }
            | Self::BadResume { .. }
            | Self::Cancelled => None,
        }
    }
}

/// Learns the merges of counted pretokens. Those that are handed over, and not lent, are freed once they are laid out.
///
/// # Errors
/// The config or the counts are at fault, or the observer ended it.
pub fn train<W: Words>(
    words: W,
    config: &TrainConfig,
    observer: &mut impl Observer,
) -> Result<Trained, W::Error> {
    resume(words, config, &[], observer)
}

/// The same where the first merges are known already, from a run with the same counts and config that was not
/// brought to its end. Much quicker than making them: the pretokens are encoded with them.
///
/// # Errors
/// As [`train`], and [`TrainError::BadResume`].
pub fn resume<W: Words>(
    words: W,
    config: &TrainConfig,
    done: &[LearnedMerge],
    observer: &mut impl Observer,
) -> Result<Trained, W::Error> {
    config.validate()?;
    let totals = words.totals();
    if totals.distinct == 0 {
        return Err(TrainError::EmptyCorpus.into());
    }
    let (byte_ids, first_merge) = config.byte_ids();
    let names = config.special_tokens.iter().map(|name| name.clone().into_bytes());
    let mut tokens: Vec<Vec<u8>> = match config.tie_break {
        TieBreak::Hf => names.clone().collect(),
        TieBreak::Bytes => Vec::new(),
    };
    tokens.resize(first_merge as usize, Vec::new());
    for (byte, &id) in (0..=255).zip(&byte_ids) {
        tokens[id as usize] = vec![byte];
    }

    let (wanted, reason_when_done) = config.wanted();
    let limits = merge::Limits {
        wanted,
        least_count: config.least_count(),
        max_token_bytes: config.max_token_bytes.unwrap_or(u32::MAX),
    };
    add_tokens(&mut tokens, done, wanted)?;
    let start = Start {
        byte_ids: byte_ids.map(Some),
        merges: done.iter().map(Merge::from).collect(),
        done: done.len() as u32,
        whole: None,
    };
    let made =
        start::learn(words, &start, &mut tokens, (&limits, ById), config.max_memory, |_| true, observer)?;
    let Made { merges: more, mut frequencies } = made;
    let merges = if done.is_empty() { more } else { [done, &more].concat() };

    let first_special = match config.tie_break {
        TieBreak::Hf => 0,
        TieBreak::Bytes => {
            let first = tokens.len() as TokenId;
            tokens.extend(names);
            first
        }
    };
    frequencies.resize(tokens.len(), 0);
    Ok(Trained {
        frequencies,
        stop_reason: if merges.len() as u32 == wanted {
            reason_when_done
        } else {
            StopReason::NothingFrequent
        },
        tokens,
        merges,
        special_tokens: config.special_tokens.iter().cloned().zip(first_special..).collect(),
        byte_ids,
        distinct_pretokens: totals.distinct,
        total_pretokens: totals.pretokens,
        total_bytes: totals.bytes,
    })
}

/// Appends the tokens of merges made before, which are checked.
fn add_tokens(tokens: &mut Vec<Vec<u8>>, done: &[LearnedMerge], wanted: u32) -> Result<(), TrainError> {
    if done.len() as u64 > u64::from(wanted) {
        return Err(TrainError::BadResume { index: wanted as usize });
    }
    for (index, merge) in done.iter().enumerate() {
        let part = |id: TokenId| tokens.get(id as usize).filter(|token| !token.is_empty());
        match (part(merge.left), part(merge.right)) {
            (Some(left), Some(right)) if merge.id as usize == tokens.len() => {
                let token = [left.as_slice(), right].concat();
                tokens.push(token);
            }
            _ => return Err(TrainError::BadResume { index }),
        }
    }
    Ok(())
}
