//! What a tokenizer does to a text: chunks that fit a number of tokens, figures to compare vocabularies by, the way from a
//! text to its tokens step by step, and what is in a vocabulary.
//!
//! Pure, like the engine it stands on: no I/O, no async, no serde. Every function's time and memory are bounded by the size
//! of what it is given, or by a limit that it names in its error.

pub mod chunk;
pub mod compare;
pub mod diff;
pub mod explain;
pub mod stats;
pub mod tokens;
