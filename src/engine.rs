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
#[cfg(any(test, fuzzing))]
pub use split::oracle_pieces;
pub use split::{Digits, Family, Pattern, SplitError};
pub use vocab::{TokenId, Vocab, VocabError};
