//! From a Hugging Face `config.json` to a card: the facts that the file has, and those that its kind of model fixes. What such a
//! file does not say (languages, licence, training) stays unknown.

use super::card::{
    Activation, Attention, AttentionKind, Card, CardError, Moe, Norm, Position, PositionKind, Scaling,
    ScalingKind, SlidingWindow, VocabSource,
};
use serde_json::{Map, Value};

/// Why there is no card of a config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is not a JSON object.
    #[error("is not a JSON object{0}")]
    Json(String),
    /// A field is not there that this kind of model needs.
    #[error("lacks {0}")]
    Missing(String),
    /// A field is not as it must be.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: String,
        /// What it must be.
        rule: String,
    },
    /// A kind of model that is not known here.
    #[error("model_type `{0}` is not known here; these are: {known}", known = KINDS.map(|(name, _)| name).join(", "))]
    Kind(String),
    /// The facts do not make a card.
    #[error(transparent)]
    Card(#[from] CardError),
}

/// What a kind of model fixes, whatever its config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Llama,
    Mistral,
    Qwen,
    Qwen2,
    Qwen3,
    DeepSeek,
    Gemma,
    Gemma2,
    Gemma3,
    Gpt2,
    Baichuan,
}

const KINDS: [(&str, Kind); 18] = [
    ("llama", Kind::Llama),
    ("yi", Kind::Llama),
    ("Yi", Kind::Llama),
    ("mistral", Kind::Mistral),
    ("mixtral", Kind::Mistral),
    ("qwen", Kind::Qwen),
    ("qwen2", Kind::Qwen2),
    ("qwen2_moe", Kind::Qwen2),
    ("qwen3", Kind::Qwen3),
    ("qwen3_moe", Kind::Qwen3),
    ("deepseek_v2", Kind::DeepSeek),
    ("deepseek_v3", Kind::DeepSeek),
    ("gemma", Kind::Gemma),
    ("gemma2", Kind::Gemma2),
    ("gemma3", Kind::Gemma3),
    ("gemma3_text", Kind::Gemma3),
    ("gpt2", Kind::Gpt2),
    ("baichuan", Kind::Baichuan),
];

/// What JSON numbers hold exactly.
const MAX_NUMBER: u64 = 1 << 53;

/// Whose card it becomes.
#[derive(Debug, Clone)]
pub struct Naming {
    /// The name of the card.
    pub name: String,
    /// Its vocabulary.
    pub vocab: VocabSource,
    /// Where the config is from, as the source of every fact.
    pub from: String,
}

/// Makes a card of a config.
///
/// # Errors
/// See [`ImportError`]; the field is named.
pub fn from_config(config: &str, naming: Naming) -> Result<Card, ImportError> {
    let value: Value = serde_json::from_str(config)
        .map_err(|e| ImportError::Json(format!(": line {}, column {}", e.line(), e.column())))?;
    let Value::Object(outer) = value else { return Err(ImportError::Json(String::new())) };
    // Models of several modalities have the language model's config inside.
    let inner = match outer.get("text_config") {
        Some(Value::Object(inner)) => Some(inner.clone()),
        _ => None,
    };
    let has_images = outer.contains_key("vision_config");
    let outer_kind = outer.get("model_type").cloned();
    let mut fields = Config(inner.unwrap_or(outer));
    if fields.text("model_type")?.is_none()
        && let Some(kind) = outer_kind
    {
        fields.0.insert("model_type".to_owned(), kind);
    }
    let kind = fields.text("model_type")?.ok_or_else(|| ImportError::Missing("model_type".to_owned()))?;
    let found = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    let found = found.ok_or_else(|| ImportError::Kind(kind.chars().take(64).collect()))?;
    let mut card = fields.card(found)?;
    card.modalities =
        if has_images { vec!["text".to_owned(), "image".to_owned()] } else { vec!["text".to_owned()] };
    card.name = naming.name;
    card.vocab = naming.vocab;
    card.sources = card.known_facts().into_iter().map(|fact| (fact, naming.from.clone())).collect();
    // By way of the file, so that what is written is what is read.
    Ok(Card::parse(&card.to_toml())?)
}

/// The fields of a config.
struct Config(Map<String, Value>);

impl Config {
    fn get(&self, names: &[&str]) -> Option<(String, &Value)> {
        let found = names.iter().find_map(|name| Some(((*name).to_owned(), self.0.get(*name)?)));
        found.filter(|(_, value)| !value.is_null())
    }

    fn size(&self, names: &[&str]) -> Result<Option<u64>, ImportError> {
        let Some((field, value)) = self.get(names) else { return Ok(None) };
        let number = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n > 0.0).map(|n| n as u64));
        match number.filter(|number| (1..=MAX_NUMBER).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(ImportError::Invalid { field, rule: "must be a whole number from 1 to 2^53".to_owned() })
            }
        }
    }

    /// A size that may be 0 for "none".
    fn size_or_none(&self, names: &[&str]) -> Result<Option<u64>, ImportError> {
        match self.get(names) {
            Some((_, value)) if value.as_u64() == Some(0) => Ok(None),
            _ => self.size(names),
        }
    }

    fn need(&self, names: &[&str]) -> Result<u64, ImportError> {
        self.size(names)?.ok_or_else(|| ImportError::Missing(names.join(" or ")))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        match self.get(&[name]) {
            None => Ok(default),
            Some((_, Value::Bool(flag))) => Ok(*flag),
            Some((field, _)) => Err(ImportError::Invalid { field, rule: "must be true or false".to_owned() }),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, ImportError> {
        match self.get(&[name]) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((field, _)) => Err(ImportError::Invalid { field, rule: "must be a string".to_owned() }),
        }
    }

    fn card(&self, kind: Kind) -> Result<Card, ImportError> {
        let layers = self.need(&["num_hidden_layers", "n_layer"])?;
        let hidden = self.need(&["hidden_size", "n_embd"])?;
        let heads = self.need(&["num_attention_heads", "n_head"])?;
        let kv_heads = match self.size(&["num_key_value_heads"])? {
            Some(kv_heads) => kv_heads,
            // These have a head of keys for each of queries where the config does not say otherwise; of the others the default
            // differs from release to release.
            None if matches!(
                kind,
                Kind::Llama | Kind::Qwen | Kind::Gpt2 | Kind::Baichuan | Kind::DeepSeek
            ) =>
            {
                heads
            }
            None => return Err(ImportError::Missing("num_key_value_heads".to_owned())),
        };
        let attention = self.attention(heads, kv_heads)?;
        let is_mla = attention.kind == AttentionKind::Mla;
        let head_dim = match self.size(&["head_dim", "kv_channels"])? {
            // DeepSeek's configs have that of the rotated part, if any.
            _ if is_mla => None,
            Some(head_dim) => Some(head_dim),
            None if hidden.is_multiple_of(heads) => Some(hidden / heads),
            None => {
                let rule =
                    format!("must be divisible by num_attention_heads, {heads}, where there is no head_dim");
                return Err(ImportError::Invalid { field: "hidden_size".to_owned(), rule });
            }
        };
        let is_gpt2 = kind == Kind::Gpt2;
        let intermediate_size = match kind {
            // Half of it for the gate, half for what it gates.
            Kind::Qwen => self.need(&["intermediate_size"])? / 2,
            Kind::Gpt2 => self.size(&["n_inner"])?.unwrap_or(4 * hidden),
            _ => self.need(&["intermediate_size"])?,
        };
        let attention_bias = self.flag("attention_bias", false)?;
        let qwen_bias = kind == Kind::Qwen && !self.flag("no_bias", true)?;
        let is_gemma = matches!(kind, Kind::Gemma | Kind::Gemma2 | Kind::Gemma3);
        let moe = self.moe(kind, layers)?;
        Ok(Card {
            vocab_size: Some(self.need(&["vocab_size"])?),
            layers: Some(layers),
            hidden_size: Some(hidden),
            intermediate_size: Some(intermediate_size),
            heads: Some(heads),
            kv_heads: (!is_mla).then_some(kv_heads),
            head_dim,
            sliding_window: self.window(kind, layers)?,
            position: Some(self.position(kind, hidden)?),
            norm: Some(if is_gpt2 { Norm::Layernorm } else { Norm::Rmsnorm }),
            post_norm: Some(matches!(kind, Kind::Gemma2 | Kind::Gemma3)),
            activation: Some(self.activation(kind)?),
            qkv_bias: Some(is_gpt2 || matches!(kind, Kind::Qwen | Kind::Qwen2) || attention_bias),
            output_bias: Some(is_gpt2 || qwen_bias || (kind != Kind::Qwen2 && attention_bias)),
            mlp_bias: Some(is_gpt2 || qwen_bias || self.flag("mlp_bias", false)?),
            qk_norm: Some(matches!(kind, Kind::Qwen3 | Kind::Gemma3)),
            tied_embeddings: Some(self.flag("tie_word_embeddings", is_gpt2 || is_gemma)?),
            attention_window: (kind == Kind::Qwen).then_some(true),
            log_n_scaling: match kind {
                Kind::Qwen => Some(self.flag("use_logn_attn", true)?),
                _ => None,
            },
            moe,
            context_length: self.size(&[
                "max_position_embeddings",
                "n_positions",
                "n_ctx",
                "seq_length",
                "model_max_length",
            ])?,
            attention: Some(attention),
            ..Card::default()
        })
    }

    fn attention(&self, heads: u64, kv_heads: u64) -> Result<Attention, ImportError> {
        let rank = self.size(&["kv_lora_rank"])?;
        let kind = match (rank, kv_heads) {
            (Some(_), _) => AttentionKind::Mla,
            (None, kv) if kv == heads => AttentionKind::Mha,
            (None, 1) => AttentionKind::Mqa,
            (None, _) => AttentionKind::Gqa,
        };
        let of_mla =
            |name: &'static str| if rank.is_some() { self.need(&[name]).map(Some) } else { Ok(None) };
        Ok(Attention {
            kind,
            q_lora_rank: if rank.is_some() { self.size_or_none(&["q_lora_rank"])? } else { None },
            kv_lora_rank: rank,
            qk_nope_head_dim: of_mla("qk_nope_head_dim")?,
            qk_rope_head_dim: of_mla("qk_rope_head_dim")?,
            v_head_dim: of_mla("v_head_dim")?,
        })
    }

    fn activation(&self, kind: Kind) -> Result<Activation, ImportError> {
        let gated = kind != Kind::Gpt2;
        if kind == Kind::Qwen {
            return Ok(Activation::Swiglu);
        }
        let default = if gated { "silu" } else { "gelu_new" };
        let name = match self.text("hidden_activation")? {
            Some(name) => name,
            None => match self.text("hidden_act")? {
                Some(name) => name,
                None => self.text("activation_function")?.unwrap_or(default),
            },
        };
        match (gated, name) {
            (true, "silu" | "swish") => Ok(Activation::Swiglu),
            (true, name) if name.starts_with("gelu") => Ok(Activation::Geglu),
            (false, name) if name.starts_with("gelu") => Ok(Activation::Gelu),
            (false, "relu") => Ok(Activation::Relu),
            _ => {
                let rule = "is none of silu, gelu and its forms, and relu without a gate".to_owned();
                Err(ImportError::Invalid { field: "hidden_act".to_owned(), rule })
            }
        }
    }

    fn position(&self, kind: Kind, hidden: u64) -> Result<Position, ImportError> {
        let plain = |kind| Position { kind, rope_base: None, rotary_share: None, scaling: None };
        // Of Baichuan the smaller models rotate; their configs do not say it.
        if kind == Kind::Baichuan && hidden != 4096 {
            return Ok(plain(PositionKind::Alibi));
        }
        if kind == Kind::Gpt2 {
            return Ok(plain(PositionKind::Learned));
        }
        // Newer configs have all of it in one object.
        let nested = match self.get(&["rope_parameters"]) {
            Some((_, Value::Object(nested))) => Some(Config(nested.clone())),
            _ => None,
        };
        let base = match &nested {
            Some(nested) => nested.number("rope_theta")?,
            None => None,
        };
        let base = match base {
            Some(base) => base,
            None => match self.number("rope_theta")? {
                Some(base) => base,
                None => self.number("rotary_emb_base")?.unwrap_or(10_000.0),
            },
        };
        let scaling = match self.get(&["rope_scaling"]) {
            Some((_, Value::Object(scaling))) => Some(Config(scaling.clone())),
            Some((field, _)) => {
                return Err(ImportError::Invalid { field, rule: "must be an object or null".to_owned() });
            }
            None => nested,
        };
        let scaling = match scaling {
            Some(scaling) => scaling.scaling()?,
            None if kind == Kind::Qwen && self.flag("use_dynamic_ntk", true)? => {
                Some(Scaling { kind: ScalingKind::DynamicNtk, factor: None, original_context: None })
            }
            None => None,
        };
        let share = self.number("partial_rotary_factor")?;
        let share = share.or(self.number("rotary_pct")?).filter(|share| *share < 1.0);
        Ok(Position { kind: PositionKind::Rope, rope_base: Some(base), rotary_share: share, scaling })
    }

    /// Of the object `rope_scaling` or `rope_parameters`.
    fn scaling(&self) -> Result<Option<Scaling>, ImportError> {
        let name = match self.text("rope_type")? {
            Some(name) => Some(name),
            None => self.text("type")?,
        };
        let kind = match name {
            None | Some("default" | "mrope") => return Ok(None),
            Some("linear") => ScalingKind::Linear,
            Some("ntk") => ScalingKind::Ntk,
            Some("dynamic") => ScalingKind::DynamicNtk,
            Some("yarn") => ScalingKind::Yarn,
            Some("llama3") => ScalingKind::Llama3,
            Some("longrope" | "su") => ScalingKind::Longrope,
            Some(_) => {
                let rule = "is none of default, linear, dynamic, ntk, yarn, llama3, longrope".to_owned();
                return Err(ImportError::Invalid { field: "rope_scaling.rope_type".to_owned(), rule });
            }
        };
        let original_context = self.size(&["original_max_position_embeddings"])?;
        Ok(Some(Scaling { kind, factor: self.number("factor")?, original_context }))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ImportError> {
        match self.get(&[name]) {
            None => Ok(None),
            Some((field, value)) => match value.as_f64().filter(|number| *number > 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(ImportError::Invalid { field, rule: "must be a number above 0".to_owned() }),
            },
        }
    }

    fn window(&self, kind: Kind, layers: u64) -> Result<Option<SlidingWindow>, ImportError> {
        if matches!(kind, Kind::Qwen2 | Kind::Qwen3) && !self.flag("use_sliding_window", false)? {
            return Ok(None);
        }
        if !matches!(kind, Kind::Mistral | Kind::Qwen2 | Kind::Qwen3 | Kind::Gemma2 | Kind::Gemma3) {
            return Ok(None);
        }
        let Some(tokens) = self.size(&["sliding_window"])? else { return Ok(None) };
        let named = match self.get(&["layer_types"]) {
            Some((_, Value::Array(types))) => {
                Some(types.iter().filter(|kind| *kind == "sliding_attention").count() as u64)
            }
            _ => None,
        };
        let layers = match (named, kind) {
            (Some(layers), _) => layers,
            (None, Kind::Gemma2) => layers.div_ceil(2),
            (None, Kind::Gemma3) => layers - layers / self.size(&["sliding_window_pattern"])?.unwrap_or(6),
            (None, Kind::Qwen2 | Kind::Qwen3) => layers.saturating_sub(self.need(&["max_window_layers"])?),
            (None, _) => layers,
        };
        Ok((layers > 0).then_some(SlidingWindow { tokens, layers }))
    }

    fn moe(&self, kind: Kind, layers: u64) -> Result<Option<Moe>, ImportError> {
        let experts = self.size_or_none(&["num_local_experts", "num_experts", "n_routed_experts"])?;
        let Some(experts) = experts else { return Ok(None) };
        for (field, rule) in [("decoder_sparse_step", "must be 1"), ("moe_layer_freq", "must be 1")] {
            if self.get(&[field]).is_some_and(|(_, value)| value.as_u64() != Some(1)) {
                return Err(ImportError::Invalid { field: field.to_owned(), rule: rule.to_owned() });
            }
        }
        let dense_layers = match self.get(&["first_k_dense_replace"]) {
            Some((field, value)) => value
                .as_u64()
                .filter(|&dense| dense <= layers)
                .ok_or(ImportError::Invalid { field, rule: "must be a whole number of layers".to_owned() })?,
            None => match self.get(&["mlp_only_layers"]) {
                Some((field, Value::Array(dense))) => {
                    if (0..).zip(dense).any(|(at, layer): (u64, &Value)| layer.as_u64() != Some(at)) {
                        return Err(ImportError::Invalid {
                            field,
                            rule: "must be the first layers".to_owned(),
                        });
                    }
                    dense.len() as u64
                }
                _ => 0,
            },
        };
        let shared_size = self.size_or_none(&["shared_expert_intermediate_size"])?;
        let names: &[&str] =
            if kind == Kind::Mistral { &["intermediate_size"] } else { &["moe_intermediate_size"] };
        Ok(Some(Moe {
            experts,
            active_experts: self.need(&["num_experts_per_tok"])?,
            shared_experts: self.size_or_none(&["n_shared_experts"])?,
            expert_intermediate_size: self.need(names)?,
            shared_intermediate_size: shared_size,
            dense_layers,
            shared_gate: kind == Kind::Qwen2 && shared_size.is_some(),
            router_bias: self.text("topk_method")? == Some("noaux_tc"),
            counts_input_embedding: true,
        }))
    }
}

#[cfg(test)]
mod tests;
