//! The answer of `/models/compare`.

use super::super::reply::Answer;
use super::MissingVocab;
use crate::jobs::VocabTriple;
use crate::models::filter::{Failed, Untold};
use crate::models::rank::Scored;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Figures of the texts, and of each model on them.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CompareModelsReply {
    /// Number of texts.
    pub(super) documents: u64,
    /// UTF-8 bytes of all texts.
    pub(super) bytes: u64,
    /// Characters (Unicode scalar values) of all texts.
    pub(super) characters: u64,
    /// Words of all texts (Unicode Standard Annex 29); each Chinese character is one.
    pub(super) words: u64,
    /// Parts of an upload that were not UTF-8 and became U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) replaced: Option<u64>,
    /// One for each of `models`, in their order, those that the filter drops too.
    pub(super) results: Vec<ModelResult>,
}

impl Answer for CompareModelsReply {}

/// What a model makes of the texts. Null is what is not known: of the card, or as its vocabulary is not in the store.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ModelResult {
    /// Its name.
    pub(super) name: String,
    /// The version that cut the texts.
    pub(super) vocab: Option<VocabTriple>,
    /// The vocabulary, where it is not in the store.
    pub(super) missing_vocab: Option<MissingVocab>,
    /// Tokens of all texts.
    pub(super) count: Option<u64>,
    /// Bytes that a token stands for, on average.
    pub(super) bytes_per_token: Option<f64>,
    /// Characters that a token stands for, on average.
    pub(super) characters_per_token: Option<f64>,
    /// Tokens of the documents.
    pub(super) per_document: Option<TokensOfDocuments>,
    /// How much of the texts lies in whole characters.
    pub(super) kept_whole: Option<KeptWhole>,
    /// What the texts take of its context.
    pub(super) context: ContextReply,
    /// Bytes of the cache of keys and values, bf16.
    pub(super) kv_bytes: Option<CacheReply>,
    /// What reading such texts costs.
    pub(super) cost: CostReply,
    /// What serving it takes, with weights, batch and length as `serving` has them.
    pub(super) serving: ServingReply,
    /// Whether it passes the filter.
    pub(super) kept: bool,
    /// Filters that it does not pass.
    pub(super) fails: Vec<Failed>,
    /// Filters that cannot tell.
    pub(super) unknown: Vec<Untold>,
    /// From 1, the best; those of whose weights less than half is known come after the others. Null without `weights`, for one
    /// that is not kept, and where nothing that is weighed is known.
    pub(super) rank: Option<u64>,
    /// The mean of the known scores by weight.
    pub(super) score: Option<f64>,
    /// The mean of all, if what is unknown were worst, and best.
    pub(super) score_range: Option<[f64; 2]>,
    /// The share of the weights whose factor is known.
    pub(super) known_weight: Option<f64>,
    /// What the score was made from.
    pub(super) factors: Vec<Scored>,
}

/// Numbers of tokens of the documents; null where there is no document.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TokensOfDocuments {
    /// Half of the documents have no more.
    pub(super) p50: Option<u64>,
    /// 95 of a hundred have no more.
    pub(super) p95: Option<u64>,
    /// None has more.
    pub(super) max: Option<u64>,
}

/// Shares of characters that lie in one token as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct KeptWhole {
    /// Of all; null where there is no character.
    pub(super) share: Option<f64>,
    /// By script, those that occur, as `/compare` has them.
    pub(super) scripts: BTreeMap<&'static str, f64>,
}

/// The context window.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ContextReply {
    /// Tokens that it holds.
    pub(super) length: Option<u64>,
    /// What the longest document takes of it; above 1 it does not fit.
    pub(super) share: Option<f64>,
    /// Documents that do not fit.
    pub(super) longer_documents: Option<u64>,
}

/// Bytes of caches.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CacheReply {
    /// Of the longest document.
    pub(super) longest: u64,
    /// Of all texts, each with its own.
    pub(super) all: u64,
}

/// What reading texts costs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CostReply {
    /// Tokens that a million characters of such texts are.
    pub(super) tokens_per_million_characters: Option<f64>,
    /// Floating-point operations to read them: 2 for each active parameter and token.
    pub(super) flops_per_million_characters: Option<f64>,
    /// Those against the cheapest of the results, which has 1.
    pub(super) relative: Option<f64>,
    /// The same by `prices`.
    pub(super) price_per_million_characters: Option<f64>,
}

/// Memory to serve a model.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ServingReply {
    /// Of the weights.
    pub(super) weight_bytes: Option<u64>,
    /// Of the caches of the batch.
    pub(super) kv_bytes: Option<u64>,
    /// Of both.
    pub(super) total_bytes: Option<u64>,
    /// GPUs that hold them: a lower bound, as programs need room of their own.
    pub(super) gpus: Option<u64>,
}
