//! What a run tells of the vocabulary that it made, beside the vocabulary.

use crate::engine::{LearnedMerge, LeftOut, ScriptTokens, TokenId, Tokenizer};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use utoipa::ToSchema;

/// The most tokens that are listed as unused, and as longest.
const MAX_UNUSED: usize = 200;
const MAX_LONGEST: usize = 20;

/// What the corpus says of the new tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainReport {
    /// New tokens that the corpus, encoded with the vocabulary, has nowhere: steps on the way to longer ones.
    pub unused_tokens: u64,
    /// Ids of the first 200 of them.
    pub unused: Vec<u32>,
    /// The longest new tokens.
    pub longest: Vec<LongToken>,
    /// Bytes of the corpus per token, after 0, 1000, 2000, 4000, ... merges and at the end.
    pub curve: Vec<CurvePoint>,
    /// What was dropped by `prune_count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// Of `words`: those that needed no token of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words_left_out: Option<WordsLeftOut>,
    /// Of an extension: what it bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Gain>,
}

/// A long token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LongToken {
    /// Its id.
    pub id: u32,
    /// Its length.
    pub bytes: u64,
    /// How often the corpus has it.
    pub frequency: u64,
    /// It as text; bytes that are not UTF-8 are replaced, and the end of a very long one is left out.
    pub text: String,
}

/// A point of the compression curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CurvePoint {
    /// So many merges.
    pub merges: u64,
    /// Bytes of the corpus per token with them.
    pub bytes_per_token: f64,
}

/// Pretokens that were dropped for their count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Different ones.
    pub distinct_pretokens: u64,
    /// All of them.
    pub pretokens: u64,
}

/// Words that were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WordsLeftOut {
    /// The split cuts them.
    pub cut_by_split: u64,
    /// They are one token already.
    pub tokens_already: u64,
}

/// What an extension bought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gain {
    /// Whether it was measured on records held back (`hold_back`), or on the corpus that it was trained on.
    pub held_back: bool,
    /// By script of the pretokens, those with the most bytes first.
    pub scripts: Vec<ScriptGain>,
}

/// What an extension bought for one script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScriptGain {
    /// Its name, as in the query of `/vocabs/{ref}/tokens`.
    pub script: String,
    /// Bytes of text.
    pub bytes: u64,
    /// Bytes per token with the base.
    pub bytes_per_token_before: f64,
    /// Bytes per token with the extension.
    pub bytes_per_token_after: f64,
}

impl TrainReport {
    /// Of the tokens that `merges` made; `tokens_before` is what the corpus had without them.
    pub(super) fn new(
        tokenizer: &Tokenizer,
        merges: &[LearnedMerge],
        frequencies: &[u64],
        text_bytes: u64,
        tokens_before: u64,
    ) -> Self {
        let frequency = |id: TokenId| frequencies.get(id as usize).copied().unwrap_or(0);
        let unused: Vec<u32> = merges.iter().map(|merge| merge.id).filter(|&id| frequency(id) == 0).collect();
        let bytes = |id: TokenId| tokenizer.vocab().bytes(id).unwrap_or_default();
        let mut longest: Vec<TokenId> = merges.iter().map(|merge| merge.id).collect();
        longest.sort_by_key(|&id| (Reverse(bytes(id).len()), id));
        let long = |id: TokenId| LongToken {
            id,
            bytes: bytes(id).len() as u64,
            frequency: frequency(id),
            text: String::from_utf8_lossy(bytes(id)).chars().take(100).collect(),
        };
        let mut curve = Vec::new();
        let mut tokens = tokens_before;
        let mut next = 1000;
        let mut point = |merges: u64, tokens: u64| {
            curve.push(CurvePoint { merges, bytes_per_token: ratio(text_bytes, tokens) });
        };
        point(0, tokens);
        for (done, merge) in (1..).zip(merges) {
            tokens = tokens.saturating_sub(merge.made);
            if done == next || done == merges.len() as u64 {
                point(done, tokens);
            }
            if done == next {
                next *= 2;
            }
        }
        Self {
            unused_tokens: unused.len() as u64,
            unused: unused.into_iter().take(MAX_UNUSED).collect(),
            longest: longest.into_iter().take(MAX_LONGEST).map(long).collect(),
            curve,
            ..Self::default()
        }
    }
}

impl From<LeftOut> for WordsLeftOut {
    fn from(left_out: LeftOut) -> Self {
        Self { cut_by_split: left_out.cut, tokens_already: left_out.tokens }
    }
}

impl From<&ScriptTokens> for ScriptGain {
    fn from(script: &ScriptTokens) -> Self {
        let [before, after] = [0, 1].map(|at| script.tokens.get(at).copied().unwrap_or(0));
        Self {
            script: script.script.to_owned(),
            bytes: script.bytes,
            bytes_per_token_before: ratio(script.bytes, before),
            bytes_per_token_after: ratio(script.bytes, after),
        }
    }
}

/// Four digits are what a person compares.
pub(super) fn ratio(bytes: u64, tokens: u64) -> f64 {
    if tokens == 0 { 0.0 } else { (bytes as f64 / tokens as f64 * 10_000.0).round() / 10_000.0 }
}
