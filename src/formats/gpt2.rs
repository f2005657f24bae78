//! GPT-2's two files: tokens with ids as JSON (`vocab.json`, `encoder.json`), and merges in order of priority, a pair a
//! line (`merges.txt`, `vocab.bpe`). Both are written in the byte alphabet.
//!
//! Split and special tokens are not in the files: the split is GPT-2's own unless the caller says another, and
//! `<|endoftext|>` is a special token where it is among the tokens, as GPT-2's own loaders have it.

use super::hf::{At, Strings, parse_json};
use super::{FormatError, ImportOptions, merges_reach_all};
use crate::engine::{
    Decoder, Family, Merge, Normalizer, Pattern, Special, TokenId, Tokenizer, TokenizerError, TokenizerParts,
    spelt_bytes,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Most merges.
const MAX_MERGES: usize = 10_000_000;
/// The special token that is known by its name.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Whether a file is a list of merges: its first line says so, or is two words of the byte alphabet.
pub fn looks_like_merges(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 12)];
    if head.starts_with(b"#version") {
        return true;
    }
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line).map(|line| line.trim_end_matches('\r'));
    let pair = text.ok().and_then(|text| text.split_once(' '));
    pair.is_some_and(|(left, right)| {
        let spelt = |part: &str| !part.is_empty() && spelt_bytes(part).is_some();
        // Numbers behind a word are the ranks of another format.
        spelt(left) && spelt(right) && !right.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether a file is an object of tokens and ids.
pub fn looks_like_vocab(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 12)];
    // Up to the first comma there is one member: a string and a number.
    let member = head.trim_ascii().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    let Some(quoted) = member.and_then(|member| member.strip_prefix(b"\"")) else { return false };
    let mut at = 0;
    while at < quoted.len() && quoted[at] != b'"' {
        at += if quoted[at] == b'\\' { 2 } else { 1 };
    }
    let value = quoted.get(at + 1..).map(<[u8]>::trim_ascii_start).and_then(|rest| rest.strip_prefix(b":"));
    value.map(<[u8]>::trim_ascii_start).is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

/// Reads the two files.
///
/// # Errors
/// [`FormatError::Line`] for the merges, [`FormatError::Json`] for the tokens.
pub fn read(vocab: &[u8], merges: &[u8], options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    let ids = parse_vocab(vocab)?;
    let mut specials = options.specials();
    if let (true, Some(&id)) = (specials.is_empty(), ids.get(END_OF_TEXT)) {
        specials.push(Special::new(END_OF_TEXT, id, true));
    }
    let (mut tokens, mut unreached) = (Vec::with_capacity(ids.len()), Vec::new());
    for (token, &id) in &ids {
        let is_special = specials.iter().any(|special| special.id == id && special.name == **token);
        match spelt_bytes(token).filter(|_| !is_special) {
            Some(bytes) => tokens.push((id, bytes)),
            None => unreached.push((id, token.as_bytes().to_vec())),
        }
    }
    tokens.sort_unstable_by_key(|(id, _)| *id);
    let pattern = options.pattern(Some(Pattern::of(Family::Gpt2)))?.unwrap_or_default();
    let parts = TokenizerParts {
        unreached,
        specials,
        normalizer: options.normalizer(Normalizer::None)?,
        decoder: Decoder::ByteLevel,
        ..TokenizerParts::byte_level(tokens, parse_merges(merges, &ids)?, pattern)
    };
    Tokenizer::new(parts).map_err(|error| match error {
        TokenizerError::BadMerge { index, .. } => {
            FormatError::Line { line: index as u64 + 1, reason: error.to_string() }
        }
        error => error.into(),
    })
}

fn parse_vocab(bytes: &[u8]) -> Result<HashMap<Cow<'_, str>, TokenId>, FormatError> {
    let ids: HashMap<Cow<'_, str>, TokenId> = parse_json(bytes)?;
    if ids.keys().any(|token| token.is_empty()) {
        return At::new(&Value::Null, "/").fail("a token is empty");
    }
    Ok(ids)
}

fn parse_merges(bytes: &[u8], ids: &HashMap<Cow<'_, str>, TokenId>) -> Result<Vec<Merge>, FormatError> {
    let mut merges = Vec::new();
    let mut joined = String::new();
    for (line, content) in (1u64..).zip(bytes.split(|&b| b == b'\n')) {
        let failed = |reason: &str| FormatError::Line { line, reason: reason.to_owned() };
        let text = std::str::from_utf8(content).map_err(|_| failed("is not UTF-8"))?;
        let text = text.trim_end_matches('\r');
        if text.is_empty() || line == 1 && text.starts_with("#version") {
            continue;
        }
        if merges.len() >= MAX_MERGES {
            return Err(failed(&format!("there are over {MAX_MERGES} merges")));
        }
        let pair = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| failed("is not two tokens"))?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let find = |token: &str, what: &str| ids.get(token).copied().ok_or_else(|| failed(what));
        let left = find(left, "the left part is no token")?;
        let right = find(right, "the right part is no token")?;
        merges.push(Merge { left, right, id: find(&joined, "what it makes is no token")? });
    }
    Ok(merges)
}

/// Writes the two files: the tokens, and the merges.
///
/// # Errors
/// [`FormatError::Inexpressible`] names what the format lacks.
pub fn write(tokenizer: &Tokenizer) -> Result<(Vec<u8>, Vec<u8>), FormatError> {
    let inexpressible =
        |reason: &str| FormatError::Inexpressible { format: "gpt2", reason: reason.to_owned() };
    if !tokenizer.model().is_all_bytes() {
        return Err(inexpressible("it is not byte-level"));
    }
    if tokenizer.pretokenizer().pattern().is_none() {
        return Err(inexpressible("its pre-tokenizer is more than a split pattern"));
    }
    if tokenizer.whole_pretokens() && !merges_reach_all(tokenizer) {
        return Err(inexpressible("it has tokens that no merge reaches, which would be lost"));
    }
    let strings = Strings::new(tokenizer);
    let mut ids = Map::new();
    for (id, _) in tokenizer.vocab().iter() {
        if ids.insert(strings.get(id).to_owned(), Value::from(id)).is_some() {
            return Err(inexpressible(&format!("token {id} would be written as another one is")));
        }
    }
    let mut merges = String::from("#version: 0.2\n");
    for merge in tokenizer.merges() {
        merges.push_str(&format!("{} {}\n", strings.get(merge.left), strings.get(merge.right)));
    }
    let ids = serde_json::to_vec(&ids).expect("strings and numbers have a JSON form");
    Ok((ids, merges.into_bytes()))
}
