//! SentencePiece models in a GGUF file: BPE (`tokenizer.ggml.model` is `llama`) and Unigram (`t5`).
//!
//! The file has the pieces of the model and part of what the model says of normalizing. What it lacks is as the models
//! have it that are kept in this way: no rules for characters in BPE, white space kept as it is unless the file says
//! otherwise, a space before the text.

use super::metadata::Metadata;
use super::{ADD_BOS, ADD_EOS, BOS, EOS, Kind, PADDING, Tokens, UNKNOWN};
use crate::engine::{ChatTemplates, TokenId, Tokenizer};
use crate::formats::FormatError;
use std::collections::HashSet;

/// A model as the file describes it, in the terms of SentencePiece. Holds: as many scores and kinds as pieces; the ids
/// are those of pieces.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parsed {
    /// Whether the model is Unigram rather than BPE.
    pub(super) unigram: bool,
    /// Text, score and kind of each piece.
    pub(super) pieces: Vec<(String, f32, Kind)>,
    /// The piece for what is unknown.
    pub(super) unk: Option<TokenId>,
    /// The piece for the beginning, and whether it goes before each text.
    pub(super) bos: (Option<TokenId>, bool),
    /// The piece for the end, and whether it goes after each text.
    pub(super) eos: (Option<TokenId>, bool),
    /// The piece for padding.
    pub(super) pad: Option<TokenId>,
    /// Whether there are pieces for bytes.
    pub(super) byte_fallback: bool,
    /// `precompiled_charsmap`, if there are rules for characters.
    pub(super) charsmap: Option<Vec<u8>>,
    /// Whether a space is put before the text.
    pub(super) add_dummy_prefix: bool,
    /// Whether spaces at the ends and all but one of several are dropped.
    pub(super) remove_extra_whitespaces: bool,
    /// Chat templates.
    pub(super) chat: ChatTemplates,
}

pub(super) fn parse(metadata: &Metadata<'_>, model: &str) -> Result<Parsed, FormatError> {
    let unigram = model == "t5";
    let tokens = Tokens::read(metadata)?;
    let entry = metadata.want("tokenizer.ggml.scores")?;
    let scores = entry.scores()?;
    if scores.len() != tokens.len() {
        return entry.fail(format!("has {} elements for {} tokens", scores.len(), tokens.len()));
    }
    if let Some((id, score)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
        return entry.fail(format!("of token {id} is {score}, which is not a finite number"));
    }
    let mut seen = HashSet::with_capacity(tokens.len());
    if let Some(id) = tokens.texts.iter().position(|text| !text.is_empty() && !seen.insert(*text)) {
        return tokens.entry.fail(format!("{id} has the text of another token"));
    }
    let pieces = tokens.texts.iter().zip(scores).zip(&tokens.kinds).zip(0..);
    let pieces = pieces.map(|(((&text, score), &kind), id)| match (text, kind) {
        // The name that llama.cpp gives it; no text leads to it.
        ("", _) => (format!("[EMPTY_{id}]"), score, Kind::Unused),
        // Padding of the vocabulary's size. A piece that no two pieces make is found in no text, which for BPE is all
        // that an unused piece has to be.
        (text, Kind::Unused) if !unigram && !can_be_made(text, &seen) => (text.to_owned(), score, Kind::Control),
        (text, kind) => (text.to_owned(), score, kind),
    });
    let pieces: Vec<_> = pieces.collect();
    // What llama.cpp takes where the file does not say.
    let default = |id: TokenId| Some(id).filter(|&id| (id as usize) < tokens.len());
    let named = |key: &str, default: Option<TokenId>| Ok::<_, FormatError>(tokens.named(metadata, key)?.or(default));
    let bos = named(BOS, if unigram { None } else { default(1) })?;
    let eos = named(EOS, if unigram { default(1) } else { default(2) })?;
    let flag = |key: &str, default: bool| metadata.get(key).map_or(Ok(default), |entry| entry.flag());
    let charsmap = match metadata.get("tokenizer.ggml.precompiled_charsmap") {
        Some(entry) => Some(entry.bytes()?.to_vec()).filter(|rules| unigram && !rules.is_empty()),
        None => None,
    };
    Ok(Parsed {
        unigram,
        unk: named(UNKNOWN, if unigram { default(2) } else { default(0) })?
            .filter(|&id| tokens.kinds[id as usize] == Kind::Unknown),
        bos: (bos, tokens.around(metadata, ADD_BOS, !unigram, bos)?.is_some()),
        eos: (eos, tokens.around(metadata, ADD_EOS, unigram, eos)?.is_some()),
        pad: tokens.named(metadata, PADDING)?,
        byte_fallback: tokens.kinds.contains(&Kind::Byte),
        charsmap,
        add_dummy_prefix: flag("tokenizer.ggml.add_space_prefix", !unigram)?,
        remove_extra_whitespaces: flag("tokenizer.ggml.remove_extra_whitespaces", false)?,
        chat: tokens.chat(metadata)?,
        pieces,
    })
}

/// Whether two pieces joined are this one.
fn can_be_made(text: &str, pieces: &HashSet<&str>) -> bool {
    let mut cuts = text.char_indices().skip(1);
    cuts.any(|(at, _)| pieces.contains(&text[..at]) && pieces.contains(&text[at..]))
}

impl Parsed {
    /// The tokenizer of this model.
    pub(super) fn tokenizer(self) -> Result<Tokenizer, FormatError> {
        let reason = "a GGUF file of a SentencePiece model cannot be read yet".to_owned();
        Err(FormatError::Malformed { offset: 0, reason })
    }
}
