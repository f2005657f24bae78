//! The way from a text to its tokens, step by step: parts, the normalized text, pretokens, and merge after merge with its rank,
//! or for a unigram model the pieces of the best way with their scores.
//!
//! The tokens are those that the engine gives; the steps are found again by the definition, and lead to them.

use crate::engine::{
    Chars, EncodeError, Matcher, Model, PieceKind, Rank, Rules, Scratch, Shown, Span, TokenId, Tokenizer,
    Unigram, char_byte,
};
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

/// How many times the most bytes of a text it may have once it is normalized.
const NORMALIZED: usize = 16;

/// The same for all that is shown of it: stretches, and their pretokens, which may be spelt in letters of two bytes.
const SHOWN: usize = 3 * NORMALIZED;

/// Why a text is not explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// It is too long.
    #[error("has over {limit} bytes")]
    TooLong {
        /// The most that it may have.
        limit: usize,
    },
    /// It is too long once it is normalized.
    #[error("has over {limit} bytes when it is normalized")]
    NormalizedTooLong {
        /// The most that it may have then.
        limit: usize,
    },
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a text becomes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// The tokens of the text, without those that a template puts around it.
    pub ids: Vec<TokenId>,
    /// In order.
    pub parts: Vec<Part>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A special or added token.
    Token {
        /// Its id.
        id: TokenId,
        /// Where it stands in the text.
        span: Span,
    },
    /// A stretch of text.
    Stretch {
        /// Where it stands in the text.
        span: Span,
        /// The normalized text.
        text: String,
        /// What it is cut into.
        pretokens: Vec<Pretoken>,
    },
}

/// A pretoken and what the model makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretoken {
    /// What the model sees; where `spelt` letters that stand for bytes.
    pub text: String,
    /// Whether each character stands for a byte, as in GPT-2's alphabet.
    pub spelt: bool,
    /// Where it stands in the text.
    pub span: Span,
    /// Its tokens, each with the bytes of `text` that it stands for.
    pub tokens: Vec<(TokenId, Range<usize>)>,
    /// How the model comes to them.
    pub way: Way,
}

/// How a model comes to the tokens of a pretoken.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// The pretoken is a token as a whole, which ends the matter whatever the merges say.
    Whole {
        /// What merges that lead to it would begin with; empty where they lead elsewhere.
        start: Vec<Symbol>,
        /// Those merges, in the order in which they would be made.
        steps: Vec<Step>,
    },
    /// It begins as symbols, and two of them become one until no merge is left.
    Merges {
        /// What it begins as.
        start: Vec<Symbol>,
        /// The merges, in the order in which they are made.
        steps: Vec<Step>,
    },
    /// Of all ways to cut it the one whose scores have the highest sum.
    Best {
        /// Its pieces.
        pieces: Vec<Piece>,
        /// The sum.
        score: f64,
    },
}

/// What a merge takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its token; none for a character that is no token, which may merge with others nevertheless.
    pub id: Option<TokenId>,
    /// The bytes of the pretoken's text that it stands for.
    pub range: Range<usize>,
}

/// One merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its rank: of all merges that are possible the lowest goes first, and of that the leftmost.
    pub rank: Rank,
    /// The left symbol; none as in [`Symbol::id`].
    pub left: Option<TokenId>,
    /// The right symbol.
    pub right: Option<TokenId>,
    /// What they become.
    pub id: TokenId,
    /// The bytes that it stands for, as in [`Symbol::range`].
    pub range: Range<usize>,
}

/// A piece on the best way of a unigram model.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its tokens: one, or those of the bytes of what is unknown.
    pub ids: Vec<TokenId>,
    /// The bytes of the pretoken that it stands for.
    pub range: Range<usize>,
    /// What it adds to the sum.
    pub score: f64,
    /// Whether no piece spells it.
    pub unknown: bool,
}

/// Explains a text of at most `most` bytes.
///
/// # Errors
/// See [`ExplainError`].
pub fn explain(
    tokenizer: &Tokenizer,
    text: &str,
    most: usize,
    matcher: &Matcher<'_>,
    scratch: &mut Scratch,
) -> Result<Explanation, ExplainError> {
    if text.len() > most {
        return Err(ExplainError::TooLong { limit: most });
    }
    let mut made = Explanation::default();
    let mut left = most.saturating_mul(SHOWN);
    let mut over = false;
    tokenizer.show(text, matcher, scratch, &mut |shown| {
        let len = match &shown {
            Shown::Token { .. } => 0,
            Shown::Stretch { text, .. } | Shown::Pretoken { text, .. } => text.len(),
        };
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => {
                over = true;
                return ControlFlow::Break(());
            }
        }
        made.take(tokenizer, &shown);
        ControlFlow::Continue(())
    })?;
    if over {
        return Err(ExplainError::NormalizedTooLong { limit: most.saturating_mul(NORMALIZED) });
    }
    Ok(made)
}

impl Explanation {
    fn take(&mut self, tokenizer: &Tokenizer, shown: &Shown<'_>) {
        match *shown {
            Shown::Token { id, span } => {
                self.ids.push(id);
                self.parts.push(Part::Token { id, span });
            }
            Shown::Stretch { text, span } => {
                self.parts.push(Part::Stretch { span, text: text.to_owned(), pretokens: Vec::new() });
            }
            Shown::Pretoken { text, span, spelt, tokens } => {
                self.ids.extend(tokens.iter().map(|(id, _)| *id));
                let pretoken = Pretoken {
                    text: text.to_owned(),
                    spelt,
                    span,
                    tokens: tokens.to_vec(),
                    way: way(tokenizer, text, spelt, tokens),
                };
                if let Some(Part::Stretch { pretokens, .. }) = self.parts.last_mut() {
                    pretokens.push(pretoken);
                }
            }
        }
    }
}

fn way(tokenizer: &Tokenizer, text: &str, spelt: bool, tokens: &[(TokenId, Range<usize>)]) -> Way {
    let bytes: Vec<u8> = match spelt {
        true => text.chars().filter_map(char_byte).collect(),
        false => text.as_bytes().to_vec(),
    };
    let whole = || matches!(tokens, [(id, _)] if tokenizer.vocab().id(&bytes) == Some(*id));
    let start = match tokenizer.model() {
        Model::Unigram(unigram) => return best(tokenizer, unigram, text, tokens),
        Model::Bytes { .. } => bytes_as_symbols(tokenizer, &bytes),
        Model::Chars(chars) => chars_as_symbols(tokenizer, text, chars),
    };
    let steps = merges(tokenizer, &start);
    let bound = tokenizer.vocab_size() as TokenId;
    let known = |id: TokenId| Some(id).filter(|&id| id < bound);
    // Where letters stand for bytes, the letter of each byte, and the end of the text.
    let letters: Vec<usize> = match spelt {
        true => text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        false => Vec::new(),
    };
    let place = |at: usize| letters.get(at).copied().unwrap_or(at);
    let range = |range: &Range<usize>| place(range.start)..place(range.end);
    let symbols = start.iter().map(|(id, at)| Symbol { id: known(*id), range: range(at) }).collect();
    let steps = steps.into_iter().map(|made| Step {
        rank: made.rank,
        left: known(made.left),
        right: known(made.right),
        id: made.id,
        range: range(&made.range),
    });
    let (start, steps): (Vec<Symbol>, Vec<Step>) = (symbols, steps.collect());
    if !(tokenizer.whole_pretokens() && whole()) {
        return Way::Merges { start, steps };
    }
    // One symbol is left, and it is the token.
    let last = steps.last().map_or(start.first().and_then(|symbol| symbol.id), |step| Some(step.id));
    match start.len() == steps.len() + 1 && last == tokens.first().map(|(id, _)| *id) {
        true => Way::Whole { start, steps },
        false => Way::Whole { start: Vec::new(), steps: Vec::new() },
    }
}

/// A symbol by its id, which may be one beyond all tokens.
type Start = (TokenId, Range<usize>);

/// An id that merges with nothing.
const NO_SYMBOL: TokenId = TokenId::MAX;

/// Bytes that are no token are left out, or unknown; either way nothing merges with them, but what stands around
/// those that are left out does.
fn bytes_as_symbols(tokenizer: &Tokenizer, bytes: &[u8]) -> Vec<Start> {
    let left_out =
        matches!(tokenizer.model(), Model::Bytes { missing: Some(crate::engine::Missing::LeftOut) });
    let ids = bytes.iter().enumerate().map(|(at, byte)| (tokenizer.vocab().id(&[*byte]), at..at + 1));
    let kept = ids.filter(|(id, _)| id.is_some() || !left_out);
    kept.map(|(id, range)| (id.unwrap_or(NO_SYMBOL), range)).collect()
}

fn chars_as_symbols(tokenizer: &Tokenizer, text: &str, chars: &Chars) -> Vec<Start> {
    let bound = tokenizer.vocab_size() as TokenId;
    let mut start: Vec<Start> = Vec::new();
    for (at, c) in text.char_indices() {
        let range = at..at + c.len_utf8();
        let bytes = &text.as_bytes()[range.clone()];
        if let Some(id) = tokenizer.vocab().id(bytes) {
            start.push((id, range));
            continue;
        }
        match (&chars.rules, chars.bytes.as_deref()) {
            (Rules::SentencePiece { joining }, _) => {
                let place = joining.iter().position(|other| *other == c);
                start.push((place.map_or(NO_SYMBOL, |place| bound + place as TokenId), range));
            }
            (Rules::HuggingFace, Some(ids)) if bytes.iter().all(|&byte| ids[usize::from(byte)].is_some()) => {
                let bytes =
                    (at..).zip(bytes).filter_map(|(at, &byte)| Some((ids[usize::from(byte)]?, at..at + 1)));
                start.extend(bytes);
            }
            // Without a token for what is unknown it is left out.
            (Rules::HuggingFace, _) if chars.unknown.is_some() => start.push((NO_SYMBOL, range)),
            (Rules::HuggingFace, _) => {}
        }
    }
    start
}

/// A merge with ids that may lie beyond all tokens.
struct Made {
    rank: Rank,
    left: TokenId,
    right: TokenId,
    id: TokenId,
    range: Range<usize>,
}

/// All merges of a list of symbols, in the order in which they are made: `O(n log n)`.
fn merges(tokenizer: &Tokenizer, start: &[Start]) -> Vec<Made> {
    let len = start.len();
    let mut symbols: Vec<Start> = start.to_vec();
    // Neighbours of each symbol that is left; `len` is beyond the end, and so is what lies before the first one.
    let mut next: Vec<usize> = (1..=len).collect();
    let mut before: Vec<usize> = (0..len).map(|at| at.checked_sub(1).unwrap_or(len)).collect();
    let pair = |symbols: &[Start], left: usize, right: usize| {
        let (left, right) = (symbols.get(left)?.0, symbols.get(right)?.0);
        tokenizer.table().get(left, right)
    };
    let mut open: BTreeSet<(Rank, usize)> = BTreeSet::new();
    open.extend(next.iter().enumerate().filter_map(|(at, &next)| Some((pair(&symbols, at, next)?.0, at))));
    let mut made = Vec::new();
    while let Some((rank, at)) = open.pop_first() {
        let right = next[at];
        let Some((_, id)) = pair(&symbols, at, right) else { continue };
        let (left_id, right_id) = (symbols[at].0, symbols[right].0);
        // What the two were with their neighbours they are no longer.
        let left = before[at];
        for (first, second) in [(left, at), (right, next[right])] {
            if let Some((rank, _)) = pair(&symbols, first, second) {
                open.remove(&(rank, first));
            }
        }
        symbols[at] = (id, symbols[at].1.start..symbols[right].1.end);
        next[at] = next[right];
        if let Some(previous) = before.get_mut(next[at]) {
            *previous = at;
        }
        for (first, second) in [(left, at), (at, next[at])] {
            open.extend(pair(&symbols, first, second).map(|(rank, _)| (rank, first)));
        }
        made.push(Made { rank, left: left_id, right: right_id, id, range: symbols[at].1.clone() });
    }
    made
}

/// The tokens of the best way as its pieces: those that stand for the bytes of something unknown are one.
fn best(tokenizer: &Tokenizer, unigram: &Unigram, text: &str, tokens: &[(TokenId, Range<usize>)]) -> Way {
    let spells = |id: TokenId, range: &Range<usize>| {
        let is_text = matches!(unigram.kind(id), Some(PieceKind::Normal | PieceKind::UserDefined));
        let own = text.as_bytes().get(range.clone()).filter(|own| !own.is_empty());
        is_text && own.is_some_and(|own| tokenizer.vocab().id(own) == Some(id))
    };
    let mut pieces: Vec<Piece> = Vec::new();
    for (id, range) in tokens {
        if spells(*id, range) {
            let score = unigram.weight(*id).unwrap_or_default();
            pieces.push(Piece { ids: vec![*id], range: range.clone(), score, unknown: false });
            continue;
        }
        // Tokens of bytes stand for all of what is unknown, or only the last one stands for its character.
        match pieces
            .last_mut()
            .filter(|last| last.unknown && (last.range.is_empty() || range.start < last.range.end))
        {
            Some(last) => {
                last.ids.push(*id);
                last.range.end = last.range.end.max(range.end);
            }
            None => pieces.push(Piece { ids: vec![*id], range: range.clone(), score: 0.0, unknown: true }),
        }
    }
    // Hugging Face's model joins the name of the unknown token, where a text spells it, to unknown characters beside it: such a
    // stretch is told as if all of it were unknown.
    for piece in pieces.iter_mut().filter(|piece| piece.unknown) {
        let characters = text.get(piece.range.clone()).map_or(0, |own| own.chars().count());
        piece.score = unigram.unknown_weight() * characters as f64;
    }
    let score = pieces.iter().map(|piece| piece.score).sum();
    Way::Best { pieces, score }
}

#[cfg(test)]
mod tests;
