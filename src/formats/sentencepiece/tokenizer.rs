//! A parsed SentencePiece model as a tokenizer. Other files that hold such a model (GGUF) come this way too.

use super::{Model, ModelKind};
use crate::engine::{
    ByteTokens, Chars, ChatTemplates, Decoder, Merge, Model as EngineModel, Normalizer, PieceKind, Place,
    Pretokenizer, Rank, Rules, Special, Template, TokenId, Tokenizer, TokenizerParts, Unknown, byte_of,
};
use crate::formats::FormatError;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::sync::Arc;

/// What a model does not say of itself, and a `tokenizer_config.json` beside it may.
#[derive(Debug, Clone)]
pub(in crate::formats) struct Around {
    /// Whether the piece for the beginning is put before a text. BPE models are used that way, others are not.
    pub(in crate::formats) bos: Option<bool>,
    /// Whether the piece for the end is put after it.
    pub(in crate::formats) eos: Option<bool>,
    /// Whether the name of the unknown piece in a text means that piece where names of special tokens do, which
    /// SentencePiece itself does not know.
    pub(in crate::formats) unk_by_name: bool,
    /// Whether the white space behind a control or user-defined piece belongs to it, of which SentencePiece does not
    /// know either.
    pub(in crate::formats) rstrip: fn(&str) -> bool,
    /// Chat templates.
    pub(in crate::formats) chat: ChatTemplates,
}

impl Default for Around {
    fn default() -> Self {
        Self { bos: None, eos: None, unk_by_name: false, rstrip: |_| false, chat: ChatTemplates::default() }
    }
}

/// Makes a tokenizer of a model.
///
/// # Errors
/// What is wrong with the parts; none that a file read by [`super::parse`] could cause but size.
pub(in crate::formats) fn tokenizer(model: &Model, around: Around) -> Result<Tokenizer, FormatError> {
    let bad = |reason: String| FormatError::Malformed { offset: 0, reason };
    let (mut tokens, mut unreached, mut specials) = (Vec::new(), Vec::new(), Vec::new());
    for (id, piece) in (0..).zip(&model.pieces) {
        let bytes = piece.piece.as_bytes().to_vec();
        match piece.kind {
            PieceKind::Normal | PieceKind::UserDefined => tokens.push((id, bytes)),
            PieceKind::Unknown | PieceKind::Control | PieceKind::Byte | PieceKind::Unused => {
                unreached.push((id, bytes));
            }
        }
        match (piece.kind, model.kind) {
            (PieceKind::Control, _) => {
                let place = Place { rstrip: (around.rstrip)(&piece.piece), ..Place::default() };
                specials.push(Special { place, ..Special::new(piece.piece.clone(), id, true) });
            }
            (PieceKind::Unknown, _) if around.unk_by_name => {
                specials.push(Special::new(piece.piece.clone(), id, true));
            }
            // They never merge; the unigram model finds them by their scores.
            (PieceKind::UserDefined, ModelKind::Bpe) => {
                let rstrip = (around.rstrip)(&piece.piece);
                let place = Place { normalized: !rstrip, rstrip, ..Place::default() };
                specials.push(Special { place, ..Special::new(piece.piece.clone(), id, false) });
            }
            _ => {}
        }
    }
    let (engine_model, merges, ranks) = match model.kind {
        ModelKind::Unigram => {
            let unigram = model.unigram().map_err(|e| bad(e.to_string()))?;
            (EngineModel::Unigram(Box::new(unigram)), Vec::new(), None)
        }
        ModelKind::Bpe => {
            let Merges { merges, ranks, joining } = merges(model);
            let unknown = model.unk.map(|id| Unknown { id, fused: true });
            let bytes = model.byte_fallback.then(|| byte_tokens(model));
            let rules = Rules::SentencePiece { joining };
            (EngineModel::Chars(Chars { bytes, unknown, rules }), merges, Some(ranks))
        }
    };
    let normalizer = model.normalizer().map_err(|e| bad(e.to_string()))?;
    let is_bpe = model.kind == ModelKind::Bpe;
    let template = Template {
        before: model.bos.filter(|_| around.bos.unwrap_or(is_bpe)).into_iter().collect(),
        after: model.eos.filter(|_| around.eos.unwrap_or(false)).into_iter().collect(),
        trims: Vec::new(),
    };
    let mut chat = around.chat;
    for (name, id) in [("bos_token", model.bos), ("eos_token", model.eos), ("unk_token", model.unk)] {
        let piece = id.and_then(|id| model.pieces.get(id as usize));
        if let (Some(piece), false) = (piece, chat.sources.is_empty()) {
            chat.tokens.entry(name.to_owned()).or_insert_with(|| piece.piece.clone());
        }
    }
    let parts = TokenizerParts {
        tokens,
        unreached,
        merges,
        ranks,
        specials,
        pretokenizer: Pretokenizer::Steps(Vec::new()),
        normalizer: Normalizer::SentencePiece(Arc::new(normalizer)),
        model: engine_model,
        whole_pretokens: false,
        template,
        decoder: Decoder::SentencePiece(model.decoder(), model.pieces.iter().map(|p| p.kind).collect()),
        chat,
    };
    Ok(Tokenizer::new(parts)?)
}

struct Merges {
    merges: Vec<Merge>,
    ranks: Vec<Rank>,
    joining: Vec<char>,
}

/// Every way in which two symbols make a piece. A symbol is a piece, or a single character; those that are no piece
/// get ids behind the pieces'. The rank of a merge is that of its piece's score: the highest is the first, and equal
/// ones are one rank.
fn merges(model: &Model) -> Merges {
    let merging = || {
        (0..).zip(&model.pieces).filter(|(_, p)| matches!(p.kind, PieceKind::Normal | PieceKind::UserDefined))
    };
    let ids: HashMap<&str, TokenId, FixedState> =
        merging().map(|(id, piece)| (piece.piece.as_str(), id)).collect();
    let mut joining: Vec<char> = Vec::new();
    let mut joined: HashMap<char, TokenId, FixedState> = HashMap::default();
    let bound = model.pieces.len() as TokenId;
    let mut symbol = |part: &str| {
        if let Some(&id) = ids.get(part) {
            return Some(id);
        }
        let mut chars = part.chars();
        let (Some(only), None) = (chars.next(), chars.next()) else { return None };
        Some(*joined.entry(only).or_insert_with(|| {
            joining.push(only);
            bound + joining.len() as TokenId - 1
        }))
    };
    let mut by_score: Vec<(TokenId, &super::Piece)> = merging().collect();
    by_score.sort_by(|(a_id, a), (b_id, b)| b.score.total_cmp(&a.score).then(a_id.cmp(b_id)));
    let (mut merges, mut ranks) = (Vec::new(), Vec::new());
    let mut rank: Rank = 0;
    let mut last: Option<f32> = None;
    for (id, piece) in by_score {
        if last.is_some_and(|last| last.total_cmp(&piece.score).is_ne()) {
            rank += 1;
        }
        last = Some(piece.score);
        for (at, _) in piece.piece.char_indices().skip(1) {
            let (left, right) = piece.piece.split_at(at);
            if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                merges.push(Merge { left, right, id });
                ranks.push(rank);
            }
        }
    }
    Merges { merges, ranks, joining }
}

fn byte_tokens(model: &Model) -> ByteTokens {
    let mut tokens = Box::new([None; 256]);
    for (id, piece) in (0..).zip(&model.pieces).filter(|(_, piece)| piece.kind == PieceKind::Byte) {
        if let Some(byte) = byte_of(&piece.piece) {
            tokens[usize::from(byte)] = Some(id);
        }
    }
    tokens
}
