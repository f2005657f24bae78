//! The engine: bytes in, ids out.
//!
//! Pure: no I/O, async, serde, logging, clock or globals. A bad vocabulary is an error, never a panic.
//! Every text that enters is valid UTF-8 (`&str`); every sequence of ids that leaves was made by one
//! [`Tokenizer`], which is immutable and shared between threads.

mod alphabet;
mod arena;
mod bits;
mod charsmap;
mod cuts;
mod decode;
mod encode;
mod encoding;
mod find;
mod linear;
mod merges;
mod model;
mod normalize;
mod offsets;
mod prefetch;
mod pretokenize;
mod quick;
mod scalars;
mod scripts;
mod special;
mod split;
mod spm_decode;
mod spm_normalize;
mod template;
mod templates;
mod tokenizer;
mod tracked;
mod train;
mod trie;
mod unigram;
mod vocab;
mod windows;
mod words;

pub use alphabet::{byte_char, char_byte, spell, spelt_bytes};
pub use charsmap::{Charsmap, CharsmapError};
pub use decode::{DecodeError, DecodeStep, DecodeStream, Decoded, Decoder};
pub use encode::{Scratch, merge_by};
pub use encoding::{Count, EncodeError, EncodeOptions, Encoding, Keep, Shown};
pub use find::Find;
pub use merges::{DuplicatePair, Merge, MergeTable, Rank};
pub use model::{ByteTokens, Chars, Missing, Model, Rules, Unknown};
pub use normalize::{Form, Normalizer, Tables};
pub use offsets::{OffsetUnit, Span};
pub use pretokenize::{Behavior, PreStep, Prepend, Pretokenizer};
pub use scripts::{SPACE_MARK, Script, TokenScript};
pub use special::{Found, Matcher, OnSpecial, Place, Special, SpecialError, SpecialPolicy, SpecialTokens};
use split::Ends;
#[cfg(any(test, fuzzing))]
pub use split::oracle_pieces;
pub use split::{Digits, Family, Pattern, Regex, SplitError};
pub use spm_decode::SentencePieceDecoder;
pub use spm_normalize::{SentencePieceNormalizer, UserDefined, UserDefinedError};
pub use template::{Template, Trim};
pub use templates::ChatTemplates;
pub use tokenizer::{Tokenizer, TokenizerError, TokenizerParts};
pub use train::{
    BaseError, Counter, Extended, Extension, LearnedMerge, LeftOut, MAX_TRAIN_THREADS, MAX_VOCAB_SIZE,
    Observer, SafeCuts, ScriptTokens, Scripts, Stage, StopReason, TakeWord, TieBreak, Totals, TrainConfig,
    TrainError, Trained, WordCounts, WordSums, Words, merging_bytes, resume, scaled_count, tokens_by_script,
    train,
};
pub use unigram::{
    PieceKind, Unigram, UnigramError, UnigramFlavour, UnigramParts, UnigramPiece, UnigramScratch, byte_of,
};
pub use vocab::{TokenId, Vocab, VocabError};
