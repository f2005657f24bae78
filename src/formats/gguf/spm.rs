//! SentencePiece models in a GGUF file: BPE (`tokenizer.ggml.model` is `llama`) and Unigram (`t5`).
//!
//! The file has the pieces of the model and part of what the model says of normalizing. What it lacks is as the models
//! have it that are kept in this way: no rules for characters in BPE, white space kept as it is unless the file says
//! otherwise, a space before the text of a BPE model.

use super::metadata::{Entry, Metadata, NAME};
use super::{ADD_BOS, ADD_EOS, BOS, EOS, PADDING, Tokens, UNKNOWN};
use crate::engine::{Charsmap, PieceKind, TokenId};
use crate::formats::FormatError;
use crate::formats::sentencepiece::{Around, Model, ModelKind, NormalizerSpec, Pieces, UNK_SURFACE};
use std::collections::HashSet;

/// The longest name of padding such as `[PAD32000]`.
const MAX_PADDING_BYTES: usize = 32;

/// The model that a file describes, and what it says besides.
pub(super) fn parse(metadata: &Metadata<'_>, model: &str) -> Result<(Model, Around), FormatError> {
    let kind = if model == "t5" { ModelKind::Unigram } else { ModelKind::Bpe };
    let is_bpe = kind == ModelKind::Bpe;
    let tokens = Tokens::read(metadata)?;
    let pieces = pieces(metadata, &tokens, kind)?;
    let byte_fallback = tokens.kinds.contains(&PieceKind::Byte);
    let unk = pieces.check(kind, byte_fallback).map_err(|error| placed(&tokens, error))?;
    // What llama.cpp takes where the file does not say.
    let named = |key: &str, default: Option<TokenId>| {
        let default = default.filter(|&id| (id as usize) < tokens.len());
        Ok::<_, FormatError>(tokens.named(metadata, key)?.or(default))
    };
    let bos = named(BOS, if is_bpe { Some(1) } else { None })?;
    let eos = named(EOS, if is_bpe { Some(2) } else { Some(1) })?;
    let around = Around {
        bos: Some(tokens.around(metadata, ADD_BOS, is_bpe, bos)?.is_some()),
        eos: Some(tokens.around(metadata, ADD_EOS, !is_bpe, eos)?.is_some()),
        unk_by_name: true,
        rstrip: if is_phi3(metadata)? { takes_space_in_phi3 } else { |_| false },
        chat: tokens.chat(metadata)?,
    };
    let flag = |key: &str, default: bool| metadata.get(key).map_or(Ok(default), Entry::flag);
    let normalizer = NormalizerSpec {
        name: String::new(),
        charsmap: if is_bpe { None } else { charsmap(metadata)? },
        add_dummy_prefix: flag("tokenizer.ggml.add_space_prefix", is_bpe)?,
        remove_extra_whitespaces: flag("tokenizer.ggml.remove_extra_whitespaces", false)?,
        escape_whitespaces: true,
    };
    let model = Model {
        kind,
        pieces: pieces.list,
        unk,
        bos,
        eos,
        pad: tokens.named(metadata, PADDING)?,
        unk_surface: UNK_SURFACE.to_owned(),
        byte_fallback,
        treat_whitespace_as_suffix: false,
        normalizer,
    };
    Ok((model, around))
}

/// Whether the model is a Phi-3: the file does not say what belongs to its special tokens, and so llama.cpp goes by the
/// name as well.
fn is_phi3(metadata: &Metadata<'_>) -> Result<bool, FormatError> {
    let Some(entry) = metadata.get(NAME) else { return Ok(false) };
    let name = entry.text()?.to_ascii_lowercase();
    Ok(name.contains("phi-3") || name.contains("phi3"))
}

fn takes_space_in_phi3(name: &str) -> bool {
    !matches!(name, "<unk>" | "<s>" | "<|endoftext|>")
}

fn pieces(metadata: &Metadata<'_>, tokens: &Tokens<'_>, kind: ModelKind) -> Result<Pieces, FormatError> {
    let entry = metadata.want("tokenizer.ggml.scores")?;
    let scores = entry.scores()?;
    if scores.len() != tokens.len() {
        return entry.fail(format!("has {} elements for {} tokens", scores.len(), tokens.len()));
    }
    let texts: HashSet<&str> = tokens.texts.iter().copied().collect();
    // Files without types name it, and some have its type on padding as well.
    let is_unknown = |id: TokenId| tokens.kinds[id as usize] == PieceKind::Unknown;
    let first = (0..).zip(&tokens.kinds).find(|(_, kind)| **kind == PieceKind::Unknown).map(|(id, _)| id);
    let unk = tokens.named(metadata, UNKNOWN)?.filter(|&id| is_unknown(id) || first.is_none()).or(first);
    let mut pieces = Pieces::default();
    for (((id, &text), score), &piece) in (0..).zip(&tokens.texts).zip(scores).zip(&tokens.kinds) {
        let (text, piece) = match (text, piece) {
            // The name that llama.cpp gives it; no text leads to it.
            ("", _) => (format!("[EMPTY_{id}]"), PieceKind::Control),
            (text, _) if unk == Some(id) => (text.to_owned(), PieceKind::Unknown),
            (text, PieceKind::Unknown) => (text.to_owned(), PieceKind::Control),
            // Padding of the vocabulary's size. A piece that no two pieces make is found in no text, which for BPE is
            // all that an unused piece has to be.
            (text, PieceKind::Unused) if kind == ModelKind::Bpe && !can_be_made(text, &texts) => {
                (text.to_owned(), PieceKind::Control)
            }
            // Converters write what these look like in a text.
            (text, PieceKind::UserDefined) => {
                let marked = Some(text.replace(' ', "\u{2581}")).filter(|marked| !texts.contains(&**marked));
                (marked.unwrap_or_else(|| text.to_owned()), piece)
            }
            (text, piece) => (text.to_owned(), piece),
        };
        pieces
            .add(tokens.entry.offset, text.into_bytes(), score, piece)
            .map_err(|error| placed(tokens, error))?;
    }
    Ok(pieces)
}

/// Whether two pieces joined are this one, or it is longer than names of padding are.
fn can_be_made(text: &str, pieces: &HashSet<&str>) -> bool {
    if text.len() > MAX_PADDING_BYTES {
        return true;
    }
    let mut cuts = text.char_indices().skip(1);
    cuts.any(|(at, _)| pieces.contains(&text[..at]) && pieces.contains(&text[at..]))
}

/// The rules for characters.
fn charsmap(metadata: &Metadata<'_>) -> Result<Option<Charsmap>, FormatError> {
    let Some(entry) = metadata.get("tokenizer.ggml.precompiled_charsmap") else { return Ok(None) };
    match entry.bytes()? {
        [] => Ok(None),
        rules => {
            Charsmap::new(rules.to_vec()).map(Some).or_else(|e| entry.fail(format!("cannot be used: {e}")))
        }
    }
}

/// An error about a piece, with the key that it stands under.
fn placed(tokens: &Tokens<'_>, error: FormatError) -> FormatError {
    match error {
        FormatError::Malformed { offset, reason } => {
            FormatError::Malformed { offset, reason: format!("{}: {reason}", tokens.entry.key) }
        }
        error => error,
    }
}
