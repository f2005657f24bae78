//! The engine: bytes in, ids out.
//!
//! Pure: no I/O, async, serde, logging, clock or globals. A bad vocabulary is an error, never a panic.
//! Every text that enters is valid UTF-8 (`&str`); every sequence of ids that leaves was made by one
//! [`Tokenizer`], which is immutable and shared between threads.

mod normalize;
mod split;
mod train;
mod vocab;

pub use normalize::Normalizer;
pub use split::{Digits, Family, Pattern, SplitError};
pub use train::{
    Counter, LearnedMerge, MAX_TRAIN_THREADS, MAX_VOCAB_SIZE, Observer, Stage, StopReason, TieBreak, TrainConfig, TrainError, Trained,
    WordCounts, train,
};
pub use vocab::{TokenId, Vocab, VocabError};
