//! Mistral's `tekken.json`: tokens as base64 with ranks, a split pattern, and special tokens that take the first ids.
//!
//! As in mistral-common: the ranks are the merge priorities, as in tiktoken's files; the id of a token is its rank plus
//! the number of special tokens; of the listed tokens only those are used that fit in the vocabulary's size.

use super::hf::{At, parse_json};
use super::{FormatError, tiktoken};
use crate::engine::{Merge, Pattern, Special, Template, TokenId, Tokenizer, TokenizerParts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// Most tokens listed.
const MAX_TOKENS: usize = 4_000_000;

#[derive(Debug, Deserialize)]
struct File<'f> {
    config: Config,
    #[serde(borrow)]
    vocab: Vec<Listed<'f>>,
    /// The special tokens; files before version 7 leave them out.
    #[serde(default)]
    special_tokens: Option<Vec<ListedSpecial>>,
}

#[derive(Debug, Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: u32,
    default_num_special_tokens: u32,
}

#[derive(Debug, Deserialize)]
struct Listed<'f> {
    rank: u32,
    #[serde(borrow)]
    token_bytes: Cow<'f, str>,
}

#[derive(Debug, Deserialize)]
struct ListedSpecial {
    rank: u32,
    token_str: String,
}

/// The special tokens of files that do not list them, in order of their ids; what follows has no name of its own.
const DEPRECATED_SPECIALS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// Whether a file is of this format.
pub fn looks_like(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 14)];
    let has = |name: &[u8]| memchr::memmem::find(head, name).is_some();
    head.trim_ascii_start().starts_with(b"{") && has(b"\"default_vocab_size\"") && has(b"\"pattern\"")
}

/// Reads a file.
///
/// # Errors
/// [`FormatError::Json`] with the place.
pub fn read(bytes: &[u8]) -> Result<Tokenizer, FormatError> {
    let file: File<'_> = parse_json(bytes)?;
    let null = serde_json::Value::Null;
    let at = |pointer: &str| At::new(&null, pointer.to_owned());
    let specials = file.config.default_num_special_tokens;
    let Some(ordinary) = file.config.default_vocab_size.checked_sub(specials) else {
        return at("/config/default_num_special_tokens").fail("is over default_vocab_size");
    };
    if file.vocab.len() > MAX_TOKENS {
        return at("/vocab").fail(format!("has over {MAX_TOKENS} entries"));
    }
    let mut ranked: Vec<(TokenId, Vec<u8>)> = Vec::with_capacity(ordinary.min(1 << 22) as usize);
    for (index, listed) in file.vocab.iter().enumerate().take(ordinary as usize) {
        let entry = |name: &str| at(&format!("/vocab/{index}/{name}"));
        if listed.rank as usize != index {
            return entry("rank").fail("must be the position in the list");
        }
        let Ok(token) = STANDARD.decode(listed.token_bytes.as_bytes()) else {
            return entry("token_bytes").fail("is not valid base64");
        };
        if token.is_empty() {
            return entry("token_bytes").fail("is empty");
        }
        ranked.push((listed.rank, token));
    }
    let merges = tiktoken::derive_merges(&ranked)
        .map_err(|error| FormatError::Json { pointer: "/vocab".to_owned(), reason: error.to_string() })?;
    let shift = |id: TokenId| id + specials;
    let merges = merges
        .into_iter()
        .map(|m| Merge { left: shift(m.left), right: shift(m.right), id: shift(m.id) })
        .collect();
    let tokens = ranked.into_iter().map(|(rank, token)| (shift(rank), token)).collect();
    let pattern = Pattern::from_regexes(&[&file.config.pattern])
        .map_err(|e| FormatError::Json { pointer: "/config/pattern".to_owned(), reason: e.to_string() })?;
    let specials = special_tokens(&file, specials)?;
    let bos = specials.iter().find(|token| token.name == "<s>").map(|token| token.id);
    let parts = TokenizerParts {
        specials,
        whole_pretokens: true,
        template: Template { before: bos.into_iter().collect(), ..Template::default() },
        ..TokenizerParts::byte_level(tokens, merges, pattern)
    };
    Ok(Tokenizer::new(parts)?)
}

/// The special tokens that are listed, or those of old files; the ids between have names made of their numbers.
fn special_tokens(file: &File<'_>, count: u32) -> Result<Vec<Special>, FormatError> {
    let mut names: Vec<Option<String>> = vec![None; count.min(1 << 20) as usize];
    match &file.special_tokens {
        Some(listed) => {
            for (index, token) in listed.iter().enumerate() {
                let pointer = format!("/special_tokens/{index}/rank");
                let Some(name) = names.get_mut(token.rank as usize) else {
                    let reason = "is not below default_num_special_tokens".to_owned();
                    return Err(FormatError::Json { pointer, reason });
                };
                if name.replace(token.token_str.clone()).is_some() {
                    return Err(FormatError::Json { pointer, reason: "is given twice".to_owned() });
                }
            }
        }
        None => {
            for (name, known) in names.iter_mut().zip(DEPRECATED_SPECIALS) {
                *name = Some(known.to_owned());
            }
        }
    }
    let named = names
        .into_iter()
        .zip(0..)
        .map(|(name, id)| Special::new(name.unwrap_or_else(|| format!("<SPECIAL_{id}>")), id, true));
    Ok(named.collect())
}
