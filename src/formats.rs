//! (stub until the formats arrive)
#![allow(missing_docs, clippy::allow_attributes)]
use crate::engine::Tokenizer;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format { Tiktoken, Native }
#[derive(Debug, thiserror::Error)]
#[error("bad")]
pub struct FormatError;
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportOptions { pub split: Option<String>, pub digits: Option<String>, pub normalizer: Option<String>, pub special: Vec<(String, u32)> }
impl Format {
    pub fn from_name(name: &str) -> Option<Self> { match name { "tiktoken" => Some(Self::Tiktoken), "native" => Some(Self::Native), _ => None } }
    pub fn name(self) -> &'static str { "x" }
}
pub fn import(_bytes: &[u8], _format: Option<Format>, _options: &ImportOptions) -> Result<Tokenizer, FormatError> { Err(FormatError) }
pub mod native {
    use super::*;
    pub fn write(_t: &Tokenizer) -> Vec<u8> { vec![] }
    pub fn read(_bytes: &[u8]) -> Result<Tokenizer, FormatError> { Err(FormatError) }
}
