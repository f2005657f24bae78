//! What follows from a card: parameters, memory, work. Whatever needs a fact that the card does not have is unknown.

use super::card::{AttentionKind, Card, Norm, PositionKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens a parameter with which a given amount of training work goes furthest.
///
/// Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", table 3: 20.2 billion tokens for 1 billion parameters.
/// Models that are made to be served a lot are trained on more.
pub const CHINCHILLA_TOKENS: f64 = 20.0;

/// Bits of knowledge that a parameter can hold.
///
/// Allen-Zhu and Li 2024, "Physics of Language Models: Part 3.3, Knowledge Capacity Scaling Laws". An upper bound, of models that saw
/// each fact a thousand times: with a hundred times it is 1 bit, int8 keeps the 2 and int4 0.7, and data of no worth in between
/// takes much more away.
pub const KNOWLEDGE_BITS: u64 = 2;

/// Bytes of a number of the cache, which is bf16.
const CACHE_BYTES: u128 = 2;

/// What follows from a card. Null where a fact for it is unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ModelDerived)]
pub struct Derived {
    /// All parameters: what the architecture adds up to; where it is not known whole, the published count.
    pub parameters: Option<u64>,
    /// Those that one token goes through; all, but for experts that are not chosen.
    pub active_parameters: Option<u64>,
    /// Those of the embedding, and of the output matrix where that is another.
    pub embedding_parameters: Option<u64>,
    /// Their share of all.
    pub embedding_share: Option<f64>,
    /// Bytes that the cache of keys and values grows by with a token (bf16), while no layer's window is full.
    pub kv_bytes_per_token: Option<u64>,
    /// Bytes of the weights.
    pub weight_bytes: Option<WeightBytes>,
    /// Floating-point operations to read or make a token: 2 for each active parameter, attention itself not counted.
    pub forward_flops_per_token: Option<u64>,
    /// Floating-point operations to train on a token: 6 for each active parameter.
    pub training_flops_per_token: Option<u64>,
    /// Those of its whole training.
    pub training_flops: Option<f64>,
    /// Tokens that it was trained on, for each parameter.
    pub tokens_per_parameter: Option<f64>,
    /// The same against the 20 of Chinchilla: above 1 it was trained longer than its training work alone would ask for.
    pub over_training: Option<f64>,
    /// Bits of facts that it can hold at most: 2 a parameter, if it saw each fact a thousand times; with a hundred times it is 1, int4
    /// keeps 0.7, and data of no worth in between takes more away.
    pub knowledge_bits: Option<u64>,
}

/// Bytes of weights by the precision that they are kept in: 2, 1 and half a byte a parameter, scales not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct WeightBytes {
    /// 16 bits.
    pub bf16: u64,
    /// 8 bits.
    pub int8: u64,
    /// 4 bits.
    pub int4: u64,
}

/// A precision of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 16 bits.
    #[default]
    Bf16,
    /// 8 bits.
    Int8,
    /// 4 bits.
    Int4,
}

impl WeightBytes {
    /// Bytes in a precision.
    pub fn at(&self, precision: Precision) -> u64 {
        match precision {
            Precision::Bf16 => self.bf16,
            Precision::Int8 => self.int8,
            Precision::Int4 => self.int4,
        }
    }
}

impl Derived {
    /// What follows from `card`.
    pub fn of(card: &Card) -> Self {
        let counted = count(card);
        let towers: u128 = card.towers.iter().map(|tower| u128::from(tower.parameters)).sum();
        // The text model alone is not the model, where what else goes in has an encoder that the card does not know.
        let whole = !card.towers.is_empty() || card.modalities.iter().all(|modality| modality == "text");
        let counted = counted.filter(|_| whole);
        let parameters = counted.map(|count| to_u64(count.total + towers)).or(card.published_parameters);
        let active_parameters = counted
            .map(|count| to_u64(count.active + towers))
            .or(card.published_active_parameters)
            .or(parameters.filter(|_| card.moe.is_none()));
        let embedding_parameters = embeddings(card).map(to_u64);
        let tokens = card.training_data.as_ref().and_then(|data| data.tokens);
        let training_flops_per_token = active_parameters.map(|active| active.saturating_mul(6));
        let tokens_per_parameter = tokens.zip(parameters).map(|(tokens, all)| tokens as f64 / all as f64);
        Self {
            parameters,
            active_parameters,
            embedding_parameters,
            embedding_share: embedding_parameters.zip(parameters).map(|(part, all)| part as f64 / all as f64),
            kv_bytes_per_token: cache_bytes(card, 1),
            weight_bytes: parameters.map(|all| WeightBytes {
                bf16: all.saturating_mul(2),
                int8: all,
                int4: all.div_ceil(2),
            }),
            forward_flops_per_token: active_parameters.map(|active| active.saturating_mul(2)),
            training_flops_per_token,
            training_flops: training_flops_per_token
                .zip(tokens)
                .map(|(each, tokens)| each as f64 * tokens as f64),
            tokens_per_parameter,
            over_training: tokens_per_parameter.map(|tokens| tokens / CHINCHILLA_TOKENS),
            knowledge_bits: parameters.map(|all| all.saturating_mul(KNOWLEDGE_BITS)),
        }
    }
}

/// Bytes of the cache of a text of so many tokens, bf16. Every layer keeps, of each token,
///
/// - MHA, GQA, MQA: a key and a value a head of those: `2 * kv_heads * head_dim` numbers;
/// - MLA: the compressed vector and the one rotated key: `kv_lora_rank + qk_rope_head_dim` numbers (DeepSeek-V2, section 2.1.3);
///
/// and a layer with a window keeps no more than that many tokens.
pub fn cache_bytes(card: &Card, tokens: u64) -> Option<u64> {
    let layers = card.layers?;
    let attention = card.attention.as_ref()?;
    let numbers = match attention.kind {
        AttentionKind::Mla => u128::from(attention.kv_lora_rank?) + u128::from(attention.qk_rope_head_dim?),
        AttentionKind::Mha | AttentionKind::Mqa | AttentionKind::Gqa => {
            2 * u128::from(card.kv_heads?) * u128::from(card.head_dim?)
        }
    };
    let kept = match &card.sliding_window {
        None => u128::from(layers) * u128::from(tokens),
        Some(window) => {
            let full = u128::from(layers.saturating_sub(window.layers)) * u128::from(tokens);
            full + u128::from(window.layers.min(layers)) * u128::from(tokens.min(window.tokens))
        }
    };
    Some(to_u64(numbers.saturating_mul(kept).saturating_mul(CACHE_BYTES)))
}

/// How many GPUs hold weights and caches, where they can be parted at will: a lower bound, as programs need room for themselves.
pub fn gpus(bytes: u64, gpu_bytes: u64) -> u64 {
    bytes.div_ceil(gpu_bytes.max(1))
}

/// Parameters of a language model.
#[derive(Debug, Clone, Copy)]
struct Count {
    total: u128,
    active: u128,
}

/// The parameters of a decoder, matrix by matrix, with `d` the hidden size:
///
/// - embedding `vocab_size * d`, the output matrix as much again unless tied, learned places `context_length * d`;
/// - attention: queries `d * heads * head_dim`, keys and values `d * kv_heads * head_dim` each, output `heads * head_dim * d`, their
///   biases, and `2 * head_dim` where heads are normalized. For MLA (DeepSeek-V2, section 2.1): queries by way of
///   `q_lora_rank` with a norm there, `d * (kv_lora_rank + rope)`, a norm, and `kv_lora_rank * heads * (nope + v)`;
/// - feed-forward: 3 matrices `d * intermediate_size` with a gate, else 2; with experts as many for each, and for what is shared, a
///   router `d * experts`, and a gate `d` or a bias `experts` where there are such;
/// - norms: two a layer (four where it normalizes behind its parts too) and one at the end, `d` each, `2 * d` with a bias.
fn count(card: &Card) -> Option<Count> {
    let wide = |number: Option<u64>| number.map(u128::from);
    let (d, layers) = (wide(card.hidden_size)?, wide(card.layers)?);
    let norm = match card.norm? {
        Norm::Rmsnorm => d,
        Norm::Layernorm => 2 * d,
    };
    let norms = norm * if card.post_norm? { 4 } else { 2 };
    let layer = attention(card, d)? + norms;
    let position = match card.position.as_ref()?.kind {
        PositionKind::Learned => wide(card.context_length)? * d,
        PositionKind::Rope | PositionKind::Alibi => 0,
    };
    let outside = embeddings(card)? + position + norm + layers * layer;
    let matrices = u128::from(card.activation?.matrices());
    let biased = card.mlp_bias?;
    let feed_forward = |size: u128| matrices * d * size + if biased { (matrices - 1) * size + d } else { 0 };
    let Some(moe) = &card.moe else {
        let total = outside + layers * feed_forward(wide(card.intermediate_size)?);
        return Some(Count { total, active: total });
    };
    let experts = u128::from(moe.experts);
    let expert = feed_forward(u128::from(moe.expert_intermediate_size));
    let shared = match moe.shared_intermediate_size {
        Some(size) => feed_forward(u128::from(size)),
        None => u128::from(moe.shared_experts.unwrap_or(0)) * expert,
    };
    let choice =
        d * experts + if moe.shared_gate { d } else { 0 } + if moe.router_bias { experts } else { 0 };
    let dense = u128::from(moe.dense_layers);
    let dense_part = if dense == 0 { 0 } else { dense * feed_forward(wide(card.intermediate_size)?) };
    let mixed = layers.saturating_sub(dense);
    let with = |chosen: u128| outside + dense_part + mixed * (chosen * expert + shared + choice);
    // One row of the input embedding is read, which some makers do not count. Tied, it is the output matrix too.
    let looked_up = match (moe.counts_input_embedding, card.tied_embeddings?) {
        (false, false) => wide(card.vocab_size)? * d,
        _ => 0,
    };
    Some(Count { total: with(experts), active: with(u128::from(moe.active_experts)) - looked_up })
}

/// Parameters of attention in a layer; see [`count`].
fn attention(card: &Card, d: u128) -> Option<u128> {
    let wide = |number: Option<u64>| number.map(u128::from);
    let attention = card.attention.as_ref()?;
    let heads = wide(card.heads)?;
    let (biased, output_bias) = (card.qkv_bias?, if card.output_bias? { d } else { 0 });
    if attention.kind == AttentionKind::Mla {
        let (rank, rope) = (wide(attention.kv_lora_rank)?, wide(attention.qk_rope_head_dim)?);
        let (nope, value) = (wide(attention.qk_nope_head_dim)?, wide(attention.v_head_dim)?);
        let asked = heads * (nope + rope);
        let (queries, query_bias) = match wide(attention.q_lora_rank) {
            Some(rank) => (d * rank + rank + rank * asked, rank),
            None => (d * asked, 0),
        };
        let keys = d * (rank + rope) + rank + rank * heads * (nope + value);
        let bias = if biased { query_bias + rank + rope } else { 0 };
        return Some(queries + keys + heads * value * d + bias + output_bias);
    }
    let (kv, size) = (wide(card.kv_heads)?, wide(card.head_dim)?);
    let made = (heads + 2 * kv) * size;
    let bias = if biased { made } else { 0 };
    let head_norms = if card.qk_norm? { 2 * size } else { 0 };
    Some(d * made + heads * size * d + bias + output_bias + head_norms)
}

fn embeddings(card: &Card) -> Option<u128> {
    let one = u128::from(card.vocab_size?) * u128::from(card.hidden_size?);
    Some(if card.tied_embeddings? { one } else { 2 * one })
}

/// What is too much is refused when a card is read.
fn to_u64(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
