//! The engine: bytes in, ids out.
//!
//! Pure: no I/O, async, serde, logging, clock or globals. A bad vocabulary is an error, never a panic.
//! Every text that enters is valid UTF-8 (`&str`); every sequence of ids that leaves was made by one
//! [`Tokenizer`], which is immutable and shared between threads.

mod decode;
mod encode;
mod merges;
mod normalize;
mod offsets;
mod special;
mod split;
mod templates;
mod tokenizer;
mod train;
mod vocab;

pub use decode::{DecodeError, DecodeStream};
pub use encode::{Scratch, merge_by};
pub use merges::{DuplicatePair, Merge, MergeTable, Rank};
pub use normalize::{Alignment, Normalizer};
pub use offsets::{OffsetUnit, Span};
pub use special::{Found, Matcher, OnSpecial, Special, SpecialError, SpecialPolicy, SpecialTokens};
#[cfg(any(test, fuzzing))]
pub use split::oracle_pieces;
pub use split::{Digits, Family, Pattern, SplitError};
pub use templates::ChatTemplates;
pub use tokenizer::{
    Count, EncodeError, EncodeOptions, Encoding, Keep, Tokenizer, TokenizerError, TokenizerParts,
};
pub use train::{
    Counter, LearnedMerge, MAX_TRAIN_THREADS, MAX_VOCAB_SIZE, Observer, SafeCuts, Stage, StopReason,
    TieBreak, TrainConfig, TrainError, Trained, WordCounts, train,
};
pub use vocab::{TokenId, Vocab, VocabError};
