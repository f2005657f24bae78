//! A model card: what is known of one base model, and from where. What is not known is absent, never guessed.
//!
//! A card that exists has passed [`Card::parse`]: every number is in its range, the kinds fit the numbers, and every fact
//! names its source.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

mod check;

/// The facts of one base model. As JSON (in answers) every fact has its member, null where it is not known; name and
/// vocabulary stand beside the card there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ModelCard)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its name: lower-case letters, digits, dots, hyphens and underscores.
    #[serde(skip_serializing)]
    pub name: String,
    /// The vocabulary that it reads.
    #[serde(skip_serializing)]
    pub vocab: VocabSource,
    /// Who made it.
    pub vendor: Option<String>,
    /// When it was published: a year, year and month, or a day.
    #[schema(example = "2024-09-19")]
    pub released: Option<String>,
    /// Parameters as its makers count them.
    pub published_parameters: Option<u64>,
    /// Parameters that one token goes through, as its makers count them.
    pub published_active_parameters: Option<u64>,
    /// Rows of the embedding: the tokens of the vocabulary and what was added to get an even number.
    pub vocab_size: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Numbers that stand for a token between layers.
    pub hidden_size: Option<u64>,
    /// Numbers inside the feed-forward part of a layer without experts.
    pub intermediate_size: Option<u64>,
    /// Heads that ask.
    pub heads: Option<u64>,
    /// Heads that are kept for later tokens.
    pub kv_heads: Option<u64>,
    /// Numbers of a head.
    pub head_dim: Option<u64>,
    /// How heads share keys and values.
    pub attention: Option<Attention>,
    /// Layers that see the last tokens only.
    pub sliding_window: Option<SlidingWindow>,
    /// How the place of a token gets in.
    pub position: Option<Position>,
    /// The normalization of layers.
    pub norm: Option<Norm>,
    /// Whether a layer normalizes behind its two parts as well, as Gemma 2 does.
    pub post_norm: Option<bool>,
    /// The activation of feed-forward parts.
    pub activation: Option<Activation>,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: Option<bool>,
    /// Whether the output of attention has a bias.
    pub output_bias: Option<bool>,
    /// Whether feed-forward parts have biases.
    pub mlp_bias: Option<bool>,
    /// Whether queries and keys are normalized head by head.
    pub qk_norm: Option<bool>,
    /// Whether the embedding is the output matrix as well.
    pub tied_embeddings: Option<bool>,
    /// Whether attention is limited to windows beyond the trained length.
    pub attention_window: Option<bool>,
    /// Whether attention is scaled by the logarithm of the length beyond the trained one.
    pub log_n_scaling: Option<bool>,
    /// Experts, of a mixture of them.
    pub moe: Option<Moe>,
    /// Encoders of images or sound, beside the language model.
    #[serde(default)]
    pub towers: Vec<Tower>,
    /// Most tokens of a context.
    pub context_length: Option<u64>,
    /// What it was trained on.
    pub training_data: Option<TrainingData>,
    /// Languages that its makers name, as BCP 47 tags.
    #[serde(default)]
    pub languages: Vec<String>,
    /// What it was published as.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Whether it, or a variant, was trained to call tools.
    pub tool_calling: Option<bool>,
    /// What goes in: text, image, audio, video.
    #[serde(default)]
    pub modalities: Vec<String>,
    /// What one may do with it.
    pub licence: Option<Licence>,
    /// Published scores.
    #[serde(default)]
    pub benchmarks: Vec<Benchmark>,
    /// What runs it.
    #[serde(default)]
    pub ecosystem: Vec<String>,
    /// Published speeds.
    #[serde(default)]
    pub speed: Vec<Speed>,
    /// By fact where it is from; benchmarks and speeds have their own.
    #[serde(default, deserialize_with = "sources")]
    pub sources: BTreeMap<String, String>,
}

/// A vocabulary, and where it can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabSource {
    /// `name`, `name@3` or `name@alias`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What `vocabd import` takes: `hf://ORG/MODEL` or a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// How heads share keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttentionKind {
    /// Each head has its own.
    Mha,
    /// All heads share one.
    Mqa,
    /// Groups of heads share one.
    Gqa,
    /// All are made from one compressed vector (DeepSeek-V2).
    Mla,
}

/// The kind of attention, and the ranks of MLA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// The kind.
    pub kind: AttentionKind,
    /// MLA: the compressed query. Absent where queries are not compressed.
    pub q_lora_rank: Option<u64>,
    /// MLA: the compressed key and value, which is what is cached.
    pub kv_lora_rank: Option<u64>,
    /// MLA: numbers of a head's query and key without position.
    pub qk_nope_head_dim: Option<u64>,
    /// MLA: numbers with position, of which the key is cached once for all heads.
    pub qk_rope_head_dim: Option<u64>,
    /// MLA: numbers of a head's value.
    pub v_head_dim: Option<u64>,
}

/// Layers that see the last tokens only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// How many tokens they see.
    pub tokens: u64,
    /// How many layers do so; the others see all.
    pub layers: u64,
}

/// How the place of a token gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PositionKind {
    /// Rotation of queries and keys.
    Rope,
    /// A learned vector for each place.
    Learned,
    /// A slope on attention.
    Alibi,
}

/// The position scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The kind.
    pub kind: PositionKind,
    /// `RoPE`: the base of its frequencies.
    pub rope_base: Option<f64>,
    /// `RoPE`: the share of a head that is rotated.
    pub rotary_share: Option<f64>,
    /// `RoPE`: how it was stretched beyond the length that was trained first.
    pub scaling: Option<Scaling>,
}

/// A way to stretch `RoPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingKind {
    /// Places are divided by the factor.
    Linear,
    /// The base grows by the factor.
    Ntk,
    /// The base grows with the length of the text.
    DynamicNtk,
    /// By parts, as `YaRN` has it.
    Yarn,
    /// By parts, as Llama 3.1 has it.
    Llama3,
    /// A factor for each frequency.
    Longrope,
}

/// How `RoPE` was stretched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The way.
    pub kind: ScalingKind,
    /// How many times.
    pub factor: Option<f64>,
    /// The length that was trained first.
    pub original_context: Option<u64>,
}

/// A normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// By the root of the mean square: one weight a number.
    Rmsnorm,
    /// By mean and variance: a weight and a bias a number.
    Layernorm,
}

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `SiLU` with a gate: three matrices.
    Swiglu,
    /// GELU with a gate: three matrices.
    Geglu,
    /// GELU: two matrices.
    Gelu,
    /// `ReLU`: two matrices.
    Relu,
}

impl Activation {
    /// Matrices of a feed-forward part.
    pub fn matrices(self) -> u64 {
        match self {
            Self::Swiglu | Self::Geglu => 3,
            Self::Gelu | Self::Relu => 2,
        }
    }
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Moe {
    /// Experts of a layer among which is chosen.
    pub experts: u64,
    /// How many a token goes through.
    pub active_experts: u64,
    /// Experts that every token goes through.
    pub shared_experts: Option<u64>,
    /// Numbers inside an expert.
    pub expert_intermediate_size: u64,
    /// Numbers inside what is shared, where that is no multiple of an expert.
    pub shared_intermediate_size: Option<u64>,
    /// First layers without experts.
    #[serde(default)]
    pub dense_layers: u64,
    /// Whether what is shared has a gate of its own.
    #[serde(default)]
    pub shared_gate: bool,
    /// Whether the choice of experts has a bias.
    #[serde(default)]
    pub router_bias: bool,
    /// Whether the makers count the input embedding as active, of which a token reads one row; most do.
    #[serde(default = "yes")]
    pub counts_input_embedding: bool,
}

fn yes() -> bool {
    true
}

/// An encoder of something that is no text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tower {
    /// What it is.
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
}

/// What a model was trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingData {
    /// Tokens, by its own vocabulary, that training went through.
    pub tokens: Option<u64>,
    /// What kinds of text.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What the tuned variants were tuned with.
    pub instruction_data: Option<String>,
}

/// A form in which a model was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// `base`, `instruct`, `chat`, ...
    pub name: String,
    /// How it was aligned.
    pub alignment: Option<String>,
    /// What that is for.
    pub purpose: Option<String>,
}

/// Whether one may earn money with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Commercial {
    /// As with any open-source licence.
    Allowed,
    /// Below a number of users, on request, or for some uses.
    Conditions,
    /// Not at all.
    Forbidden,
}

/// A licence of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its SPDX name, or what it calls itself.
    pub name: String,
    /// Whether it allows commercial use.
    pub commercial: Option<Commercial>,
}

/// A published score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// MMLU, MATH, ...
    pub name: String,
    /// The score. More is better.
    pub score: f64,
    /// Shots, and what else the score depends on. Scores of different settings do not compare.
    pub setting: Option<String>,
    /// Who says so.
    pub source: String,
}

/// A published speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Program and machine; those of one name compare.
    pub name: String,
    /// Tokens that are made in a second.
    pub tokens_per_second: f64,
    /// Batch, length and what else the speed depends on.
    pub setting: Option<String>,
    /// Who says so.
    pub source: String,
}

/// Some facts that are from one place, as a card's file has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    from: String,
    facts: Vec<String>,
}

fn sources<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut sources = BTreeMap::new();
    for source in Vec::<Source>::deserialize(from)? {
        for fact in source.facts {
            if sources.insert(fact.clone(), source.from.clone()).is_some() {
                return Err(serde::de::Error::custom(format_args!("the fact `{fact}` has two sources")));
            }
        }
    }
    Ok(sources)
}

/// Why a card is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// It is not TOML, or a value is of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// It has facts that no card has.
    #[error("unknown fields: {}", .0.join(", "))]
    Unknown(Vec<String>),
    /// A value is not as it must be.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: String,
        /// What it must be.
        rule: String,
    },
}

impl Card {
    /// Reads and checks a card's file.
    ///
    /// # Errors
    /// See [`CardError`]; the field is named.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| told(&e, text))?;
        let known = Self::fields();
        let unknown = table.keys().filter(|key| !known.contains(*key)).cloned();
        let unknown: Vec<String> = unknown.collect();
        if !unknown.is_empty() {
            return Err(CardError::Unknown(unknown));
        }
        let card: Self = toml::from_str(text).map_err(|e| told(&e, text))?;
        card.check()?;
        Ok(card)
    }

    /// The card as a file that [`Card::parse`] takes; unknown facts are left out.
    pub fn to_toml(&self) -> String {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (fact, source) in &self.sources {
            groups.entry(source).or_default().push(fact.clone());
        }
        let groups: Vec<Source> =
            groups.into_iter().map(|(from, facts)| Source { from: from.to_owned(), facts }).collect();
        let value = |value: Result<toml::Value, toml::ser::Error>| value.expect("cards are plain data");
        let mut facts = value(toml::Value::try_from(self));
        if let toml::Value::Table(facts) = &mut facts {
            facts.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
            facts.insert("sources".to_owned(), value(toml::Value::try_from(groups)));
            facts.insert("vocab".to_owned(), value(toml::Value::try_from(&self.vocab)));
        }
        let facts = toml::to_string(&facts).expect("cards are plain data");
        format!("name = {}\n{facts}", toml::Value::String(self.name.clone()))
    }

    /// The facts that are known, by name, but for those that have sources of their own.
    pub fn known_facts(&self) -> BTreeSet<String> {
        let members = members(self).into_iter().filter(|(name, value)| {
            let empty = value.as_array().is_some_and(Vec::is_empty);
            !value.is_null() && !empty && !["benchmarks", "speed", "sources"].contains(&name.as_str())
        });
        members.map(|(name, _)| name).collect()
    }

    fn fields() -> BTreeSet<String> {
        let facts = members(&Self::default()).into_iter().map(|(name, _)| name);
        facts.chain(["name".to_owned(), "vocab".to_owned()]).collect()
    }

    /// How the vocabulary would be imported; absent where the card does not say where it is from.
    pub fn import_command(&self) -> Option<String> {
        let name = self.vocab.reference.split('@').next().unwrap_or_default();
        self.vocab.source.as_ref().map(|source| format!("vocabd import {name} {source}"))
    }

    /// Whether the makers name a language, or one of which it is a form: `zh` answers for `zh-Hant`.
    pub fn speaks(&self, language: &str) -> bool {
        let wanted = language.to_ascii_lowercase();
        self.languages.iter().any(|known| {
            let rest = wanted.strip_prefix(&known.to_ascii_lowercase());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }
}

/// The members that the card has as JSON.
fn members(card: &Card) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(card) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    }
}

fn told(error: &toml::de::Error, text: &str) -> CardError {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let at = line.map_or_else(String::new, |line| format!(" at line {line}"));
    CardError::Toml(format!("{}{at}", error.message().trim()))
}

#[cfg(test)]
mod tests;
