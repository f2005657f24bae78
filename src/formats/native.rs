//! The native format: one binary file that holds a whole tokenizer, canonical (equal tokenizers give equal bytes).
//!
//! Layout, integers little-endian:
//!
//! | part | content |
//! |---|---|
//! | magic | 8 bytes `VOCABD\x00\x01` (the last is the format's version) |
//! | header | u32 length, then JSON: `Header` |
//! | tokens | u32 count, then ids (u32 each, ascending), then lengths (u32 each), then all bytes joined |
//! | merges | u32 count, then left, right, result (u32 each) in order of priority |
//!
//! Names of special tokens are in the header only.

use super::{FormatError, ImportOptions};
use crate::engine::{ChatTemplates, Merge, Normalizer, Pattern, Special, TokenId, Tokenizer, TokenizerParts};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"VOCABD\x00\x01";

/// Everything but tokens and merges. Field order is part of the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    normalizer: String,
    split: Vec<String>,
    whole_pretokens: bool,
    special: Vec<HeaderSpecial>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chat_templates: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chat_tokens: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpecial {
    name: String,
    id: TokenId,
    special: bool,
}

/// Whether a file begins like one of this format.
pub fn is_native(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// `sha256:` and the hex digest of canonical bytes: the identity of a vocabulary's content.
pub fn digest(canonical: &[u8]) -> String {
    let mut out = String::from("sha256:");
    for byte in Sha256::digest(canonical) {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

/// The canonical bytes of a tokenizer.
pub fn write(tokenizer: &Tokenizer) -> Vec<u8> {
    let specials = tokenizer.specials();
    let mut special: Vec<HeaderSpecial> = specials
        .list()
        .iter()
        .map(|t| HeaderSpecial { name: t.name.clone(), id: t.id, special: t.special })
        .collect();
    special.sort_by_key(|t| t.id);
    let header = Header {
        normalizer: tokenizer.normalizer().name().to_owned(),
        split: tokenizer.pattern().regexes().to_vec(),
        whole_pretokens: tokenizer.whole_pretokens(),
        special,
        chat_templates: tokenizer.chat().sources.clone(),
        chat_tokens: tokenizer.chat().tokens.clone(),
    };
    let header = serde_json::to_vec(&header).expect("strings, integers and flags have a JSON form");
    let tokens: Vec<(TokenId, &[u8])> =
        tokenizer.vocab().iter().filter(|(id, bytes)| tokenizer.vocab().id(bytes) == Some(*id)).collect();
    let merges = tokenizer.merges();

    let mut out = Vec::with_capacity(64 + header.len() + tokens.len() * 16 + merges.len() * 12);
    out.extend_from_slice(MAGIC);
    put_u32(&mut out, header.len());
    out.extend_from_slice(&header);
    put_u32(&mut out, tokens.len());
    tokens.iter().for_each(|(id, _)| out.extend_from_slice(&id.to_le_bytes()));
    tokens.iter().for_each(|(_, bytes)| put_u32(&mut out, bytes.len()));
    tokens.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    put_u32(&mut out, merges.len());
    for merge in merges {
        [merge.left, merge.right, merge.id].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }
    out
}

fn put_u32(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n).expect("a vocabulary holds less than 2^32 tokens and bytes");
    out.extend_from_slice(&n.to_le_bytes());
}

/// Reads a file of this format.
///
/// # Errors
/// [`FormatError::Malformed`] with the place; [`FormatError::Tokenizer`] where the content is no vocabulary.
pub fn read(bytes: &[u8]) -> Result<Tokenizer, FormatError> {
    read_with(bytes, &ImportOptions::default())
}

/// Reads a file of this format; it is complete, so options are refused.
pub(super) fn read_with(bytes: &[u8], options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    for (option, given) in [
        ("split", options.split.is_some()),
        ("digits", options.digits.is_some()),
        ("normalizer", options.normalizer.is_some()),
        ("special", !options.special.is_empty()),
    ] {
        if given {
            return Err(FormatError::Option {
                option,
                reason: "cannot be given: a native file has its own".to_owned(),
            });
        }
    }
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(FormatError::Malformed {
            offset: 0,
            reason: "this is no native file of version 1".to_owned(),
        });
    }
    let header_len = reader.u32()? as usize;
    let header_at = reader.at;
    let header: Header = serde_json::from_slice(reader.take(header_len)?).map_err(|_| {
        FormatError::Malformed { offset: header_at, reason: "the header is not valid".to_owned() }
    })?;

    let count = reader.u32()? as usize;
    let ids = reader.u32s(count)?;
    let lens = reader.u32s(count)?;
    let mut tokens = Vec::with_capacity(count);
    for (id, len) in ids.zip(lens) {
        tokens.push((id, reader.take(len as usize)?.to_vec()));
    }
    let count = reader.u32()? as usize;
    let numbers: Vec<u32> = reader.u32s(count.saturating_mul(3))?.collect();
    let merges = numbers.chunks_exact(3).map(|m| Merge { left: m[0], right: m[1], id: m[2] }).collect();
    if reader.at != bytes.len() {
        return Err(reader.malformed("bytes after the end"));
    }

    let bad = |reason: String| FormatError::Malformed { offset: header_at, reason };
    let stages: Vec<&str> = header.split.iter().map(String::as_str).collect();
    let parts = TokenizerParts {
        tokens,
        merges,
        specials: header
            .special
            .into_iter()
            .map(|t| Special { name: t.name, id: t.id, special: t.special })
            .collect(),
        pattern: Pattern::from_regexes(&stages).map_err(|e| bad(e.to_string()))?,
        normalizer: Normalizer::from_name(&header.normalizer)
            .ok_or_else(|| bad("the header names an unknown normalizer".to_owned()))?,
        whole_pretokens: header.whole_pretokens,
        chat: ChatTemplates { sources: header.chat_templates, tokens: header.chat_tokens },
    };
    Ok(Tokenizer::new(parts)?)
}

/// Reads from a slice; every length is checked against what is there before it is used.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], FormatError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| self.malformed("the file is cut off"))?;
        self.at += len;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(le_u32(self.take(4)?))
    }

    fn u32s(&mut self, count: usize) -> Result<impl Iterator<Item = u32> + use<'b>, FormatError> {
        Ok(self.take(count.saturating_mul(4))?.chunks_exact(4).map(le_u32))
    }

    fn malformed(&self, reason: &str) -> FormatError {
        FormatError::Malformed { offset: self.at, reason: reason.to_owned() }
    }
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EncodeOptions, Scratch};
    use crate::formats::{Format, export, import, tiktoken};

    fn tokenizer() -> Tokenizer {
        let mut file = tiktoken::tests::bytes_only();
        file.push_str("YWI= 300\nYWJhYg== 301\n");
        let options = ImportOptions {
            split: Some("cl100k".into()),
            normalizer: Some("nfc".into()),
            special: [("<s>".to_owned(), 256), ("</s>".to_owned(), 400)].into(),
            ..Default::default()
        };
        import(file.as_bytes(), Some(Format::Tiktoken), &options).unwrap()
    }

    #[test]
    fn export_then_import_is_the_identity() {
        let t = tokenizer();
        let bytes = write(&t);
        assert_eq!(Format::detect(&bytes), Some(Format::Native));
        let back = read(&bytes).unwrap();
        assert_eq!(write(&back), bytes, "canonical");
        let ids = |t: &Tokenizer| {
            t.encode("abab <s> é", &EncodeOptions::default(), &mut Scratch::default()).unwrap().ids
        };
        assert_eq!(ids(&back), ids(&t));
        assert_eq!(back.specials().list(), {
            let mut list = t.specials().list().to_vec();
            list.sort_by_key(|s| s.id);
            list
        });
        assert_eq!(export(&back, Format::Native).unwrap(), bytes);
        assert_eq!(digest(&bytes).len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let bytes = write(&tokenizer());
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut at {len}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(read(&longer), Err(FormatError::Malformed { .. })));
    }

    #[test]
    fn a_byte_changed_anywhere_never_panics() {
        let bytes = write(&tokenizer());
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                let _ = read(&bad);
            }
        }
    }

    #[test]
    fn options_are_refused_as_the_file_has_its_own() {
        let bytes = write(&tokenizer());
        let options = ImportOptions { split: Some("gpt2".into()), ..Default::default() };
        assert!(matches!(import(&bytes, None, &options), Err(FormatError::Option { option: "split", .. })));
    }
}
