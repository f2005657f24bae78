//! What requests to the encode side may say.

use crate::engine::{Keep, OffsetUnit, OnSpecial, SpecialPolicy};
use crate::http::extract::list::{List, NAMES};
use serde::Deserialize;
use utoipa::ToSchema;

/// A text to encode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EncodeRequest {
    /// The text.
    #[schema(example = "Hello, 世界! 😀")]
    pub(in crate::http) text: String,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    #[schema(example = "default")]
    pub(in crate::http) vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    pub(in crate::http) model: Option<String>,
    /// Add the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    pub(in crate::http) add_special_tokens: bool,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    pub(in crate::http) special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]), value_type = Vec<String>)]
    pub(in crate::http) allowed_special: List<String, NAMES>,
    /// What to answer beside `count`: ids, tokens as text, their bytes in base64, offsets.
    #[serde(default = "default_return", rename = "return")]
    #[schema(default = json!(["ids"]))]
    pub(in crate::http) wanted: Vec<Return>,
    /// The unit of offsets: UTF-8 bytes, Unicode scalar values, or UTF-16 code units.
    #[serde(default)]
    #[schema(default = json!("byte"))]
    pub(in crate::http) offset_unit: OffsetUnitName,
    /// At most so many tokens, at least 1.
    #[schema(minimum = 1)]
    pub(in crate::http) max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[schema(default = json!("right"))]
    pub(in crate::http) truncation_side: Side,
}

/// Texts to encode with one version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EncodeBatchRequest {
    /// The texts.
    #[schema(example = json!(["Hello", "世界"]), value_type = Vec<String>)]
    pub(in crate::http) texts: List<String>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    pub(in crate::http) vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    pub(in crate::http) model: Option<String>,
    /// Add the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    pub(in crate::http) add_special_tokens: bool,
    /// What the names of special tokens inside the texts mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    pub(in crate::http) special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]), value_type = Vec<String>)]
    pub(in crate::http) allowed_special: List<String, NAMES>,
    /// At most so many tokens of each text, at least 1.
    #[schema(minimum = 1)]
    pub(in crate::http) max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[schema(default = json!("right"))]
    pub(in crate::http) truncation_side: Side,
}

/// A text, or texts, to count: exactly one of `text` and `texts`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CountRequest {
    /// One text.
    #[schema(example = "Hello, 世界!")]
    pub(in crate::http) text: Option<String>,
    /// Several texts.
    #[schema(value_type = Option<Vec<String>>)]
    pub(in crate::http) texts: Option<List<String>>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    pub(in crate::http) vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    pub(in crate::http) model: Option<String>,
    /// Count the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    pub(in crate::http) add_special_tokens: bool,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    pub(in crate::http) special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]), value_type = Vec<String>)]
    pub(in crate::http) allowed_special: List<String, NAMES>,
    /// Stop counting once there are more tokens than this in all, at least 1.
    #[schema(minimum = 1)]
    pub(in crate::http) limit: Option<u64>,
}

/// What the name of a special token inside a text means.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum SpecialName {
    /// Plain text.
    #[default]
    Text,
    /// The special token.
    Parse,
    /// An error.
    Error,
}

/// A part of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Return {
    /// Token ids.
    Ids,
    /// Tokens as text; bytes that are not UTF-8 are replaced.
    Tokens,
    /// Tokens as base64 of their bytes.
    Bytes,
    /// Where tokens stand in the text.
    Offsets,
}

/// The unit of offsets.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum OffsetUnitName {
    /// UTF-8 bytes.
    #[default]
    Byte,
    /// Unicode scalar values.
    Char,
    /// UTF-16 code units.
    Utf16,
}

/// An end of a text.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Side {
    /// The beginning is cut off.
    Left,
    /// The end is cut off.
    #[default]
    Right,
}

pub(in crate::http) fn default_return() -> Vec<Return> {
    vec![Return::Ids]
}

pub(in crate::http) fn policy(special: SpecialName, allowed: &[String]) -> SpecialPolicy<'_> {
    let others = match special {
        SpecialName::Text => OnSpecial::Text,
        SpecialName::Parse => OnSpecial::Parse,
        SpecialName::Error => OnSpecial::Error,
    };
    SpecialPolicy { allowed, others }
}

pub(in crate::http) fn unit(name: OffsetUnitName) -> OffsetUnit {
    match name {
        OffsetUnitName::Byte => OffsetUnit::Byte,
        OffsetUnitName::Char => OffsetUnit::Char,
        OffsetUnitName::Utf16 => OffsetUnit::Utf16,
    }
}

pub(in crate::http) fn keep(side: Side) -> Keep {
    match side {
        Side::Left => Keep::End,
        Side::Right => Keep::Start,
    }
}
