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
//! | unreached | where the header says so: as tokens, those that no text leads to |
//! | scores | of a unigram model: eight bytes (f64) for each piece |
//! | ranks | where the header says so: a u32 for each merge |
//!
//! Names of special tokens are in the header only.

use super::FormatError;
use super::hf::{
    At, Dialect, decoder, decoder_json, normalizer, normalizer_json, pretokenizer, pretokenizer_json,
};
use crate::engine::{
    Chars, ChatTemplates, Decoder, Merge, Missing, Model, Normalizer, Pattern, PieceKind, Place,
    Pretokenizer, Rules, Special, Tables, Template, TokenId, Tokenizer, TokenizerParts, Trim, Unigram,
    UnigramFlavour, UnigramParts, UnigramPiece, Unknown,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"VOCABD\x00\x01";

/// Everything but tokens and merges. Field order is part of the format. A field that was not there from the beginning
/// is written only where it says something, so that a vocabulary that needs none of them has the bytes, and the
/// digest, that it always had.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// A name, or a component as in a `tokenizer.json`.
    normalizer: Value,
    split: Vec<String>,
    whole_pretokens: bool,
    special: Vec<HeaderSpecial>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chat_templates: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chat_tokens: BTreeMap<String, String>,
    /// In the place of `split`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pre_tokenizer: Option<Value>,
    /// What is not a merge of bytes, all of which are tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<HeaderModel>,
    /// What does not join bytes: `byte_level`, `spaced`, or a component as in a `tokenizer.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decoder: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<HeaderTemplate>,
    /// Behind the merges: ids, lengths and bytes of the tokens that no text leads to, as the others have them.
    #[serde(default, skip_serializing_if = "is_false")]
    unreached: bool,
    /// Behind those: the rank of each merge.
    #[serde(default, skip_serializing_if = "is_false")]
    ranks: bool,
}

/// A member that is there, be it null: without steps a pre-tokenizer is written so.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpecial {
    name: String,
    id: TokenId,
    special: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    normalized: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    single_word: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    lstrip: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    rstrip: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
enum HeaderModel {
    /// Merges of bytes of which some are no tokens: left out, or the unknown token.
    Bytes { unknown: Option<HeaderUnknown> },
    /// Merges of characters, by Hugging Face's rules, or by SentencePiece's with the characters that join without
    /// being tokens.
    Chars { unknown: Option<HeaderUnknown>, bytes: Option<Vec<Option<TokenId>>>, joining: Option<String> },
    /// Pieces with scores; these are behind everything else, eight bytes each. SentencePiece's flavour has the kinds
    /// of the pieces in its decoder.
    Unigram { pieces: u32, unknown: Option<TokenId>, byte_fallback: bool, sentencepiece: bool },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderUnknown {
    id: TokenId,
    fused: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderTemplate {
    before: Vec<TokenId>,
    after: Vec<TokenId>,
    /// `prefix_space` of each trim.
    trims: Vec<bool>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_false(flag: &bool) -> bool {
    !flag
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
    let vocab = tokenizer.vocab();
    let names: HashSet<TokenId> = tokenizer.specials().list().iter().map(|t| t.id).collect();
    let (tokens, others): (Vec<_>, Vec<_>) = vocab.iter().partition(|(id, _)| vocab.is_ordinary(*id));
    let unreached: Vec<(TokenId, &[u8])> = others.into_iter().filter(|(id, _)| !names.contains(id)).collect();
    let merges = tokenizer.merges();
    let header = header(tokenizer, !unreached.is_empty());
    let header = serde_json::to_vec(&header).expect("strings, integers and flags have a JSON form");

    let mut out = Vec::with_capacity(64 + header.len() + tokens.len() * 16 + merges.len() * 12);
    out.extend_from_slice(MAGIC);
    put_u32(&mut out, header.len());
    out.extend_from_slice(&header);
    put_tokens(&mut out, &tokens);
    put_u32(&mut out, merges.len());
    for merge in merges {
        [merge.left, merge.right, merge.id].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }
    if !unreached.is_empty() {
        put_tokens(&mut out, &unreached);
    }
    tokenizer.ranks().into_iter().flatten().for_each(|rank| out.extend_from_slice(&rank.to_le_bytes()));
    if let Model::Unigram(unigram) = tokenizer.model() {
        let scores = (0..unigram.len() as TokenId).filter_map(|id| unigram.score(id));
        scores.for_each(|score| out.extend_from_slice(&score.to_le_bytes()));
    }
    out
}

fn header(tokenizer: &Tokenizer, unreached: bool) -> Header {
    let mut special: Vec<HeaderSpecial> =
        tokenizer.specials().list().iter().map(HeaderSpecial::from).collect();
    special.sort_by_key(|t| t.id);
    let own = "regexes in their own dialect need no translation";
    let normalizer = match tokenizer.normalizer() {
        // As always; the same forms by other tables are components.
        Normalizer::None | Normalizer::Unicode(_, Tables::Current) => {
            Value::from(tokenizer.normalizer().name())
        }
        other => normalizer_json(other, Dialect::Own).expect(own),
    };
    let pre_tokenizer = match tokenizer.pretokenizer() {
        Pretokenizer::Pattern(_) => None,
        // Null would read as nothing at all.
        Pretokenizer::Steps(steps) if steps.is_empty() => {
            Some(json!({"type": "Sequence", "pretokenizers": []}))
        }
        steps => Some(pretokenizer_json(steps, Dialect::Own).expect(own)),
    };
    let decoder = match tokenizer.decoder() {
        Decoder::Bytes => None,
        Decoder::ByteLevel => Some(Value::from("byte_level")),
        Decoder::Spaced => Some(Value::from("spaced")),
        steps => Some(decoder_json(steps, Dialect::Own).expect(own)),
    };
    let unknown = |unknown: &Unknown| HeaderUnknown { id: unknown.id, fused: unknown.fused };
    let model = match tokenizer.model() {
        Model::Bytes { missing: None } => None,
        Model::Bytes { missing: Some(Missing::LeftOut) } => Some(HeaderModel::Bytes { unknown: None }),
        Model::Bytes { missing: Some(Missing::Unknown(id)) } => {
            Some(HeaderModel::Bytes { unknown: Some(unknown(id)) })
        }
        Model::Chars(chars) => Some(HeaderModel::Chars {
            unknown: chars.unknown.as_ref().map(unknown),
            bytes: chars.bytes.as_ref().map(|bytes| bytes.to_vec()),
            joining: match &chars.rules {
                Rules::HuggingFace => None,
                Rules::SentencePiece { joining } => Some(joining.iter().collect()),
            },
        }),
        Model::Unigram(unigram) => Some(HeaderModel::Unigram {
            pieces: unigram.len() as u32,
            unknown: unigram.unk(),
            byte_fallback: unigram.byte_fallback(),
            sentencepiece: unigram.flavour() == UnigramFlavour::SentencePiece,
        }),
    };
    let template = tokenizer.template();
    let chat = tokenizer.chat().clone();
    Header {
        normalizer,
        split: tokenizer.pretokenizer().pattern().map_or_else(Vec::new, |p| p.regexes().to_vec()),
        whole_pretokens: tokenizer.whole_pretokens(),
        special,
        chat_templates: chat.sources,
        chat_tokens: chat.tokens,
        pre_tokenizer,
        model,
        decoder,
        template: (*template != Template::default()).then(|| HeaderTemplate {
            before: template.before.clone(),
            after: template.after.clone(),
            trims: template.trims.iter().map(|trim| trim.prefix_space).collect(),
        }),
        unreached,
        ranks: tokenizer.ranks().is_some(),
    }
}

impl From<&Special> for HeaderSpecial {
    fn from(t: &Special) -> Self {
        let Place { normalized, single_word, lstrip, rstrip } = t.place;
        Self { name: t.name.clone(), id: t.id, special: t.special, normalized, single_word, lstrip, rstrip }
    }
}

impl From<HeaderSpecial> for Special {
    fn from(t: HeaderSpecial) -> Self {
        let place = Place {
            normalized: t.normalized,
            single_word: t.single_word,
            lstrip: t.lstrip,
            rstrip: t.rstrip,
        };
        Self { name: t.name, id: t.id, special: t.special, place }
    }
}

fn put_tokens(out: &mut Vec<u8>, tokens: &[(TokenId, &[u8])]) {
    put_u32(out, tokens.len());
    tokens.iter().for_each(|(id, _)| out.extend_from_slice(&id.to_le_bytes()));
    tokens.iter().for_each(|(_, bytes)| put_u32(out, bytes.len()));
    tokens.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
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

    let tokens = reader.tokens()?;
    let count = reader.u32()? as usize;
    let merges = reader.take(count.saturating_mul(12))?.chunks_exact(12).map(|merge| {
        let [left, right, id] = [0, 4, 8].map(|at| le_u32(&merge[at..]));
        Merge { left, right, id }
    });
    let merges: Vec<Merge> = merges.collect();
    let unreached = if header.unreached { reader.tokens()? } else { Tokens::default() };
    let ranks = match header.ranks {
        true => Some(reader.u32s(merges.len())?.collect()),
        false => None,
    };
    let scores = match header.model {
        Some(HeaderModel::Unigram { pieces, .. }) => reader.f64s(pieces as usize)?,
        _ => Vec::new(),
    };
    if reader.at != bytes.len() {
        return Err(reader.malformed("bytes after the end"));
    }
    let unigram = header.unigram(tokens.clone().chain(unreached.clone()), &scores, header_at)?;
    let mut parts = header.parts(merges, header_at)?;
    if let Some(unigram) = unigram {
        parts.model = Model::Unigram(Box::new(unigram));
    }
    let unreached = unreached.map(|(id, bytes)| (id, bytes.to_vec())).collect();
    Ok(Tokenizer::with_tokens(TokenizerParts { unreached, ranks, ..parts }, tokens)?)
}

impl Header {
    /// The unigram model, if it is one: the pieces are the tokens, those that no text leads to among them.
    fn unigram<'b>(
        &'b self,
        tokens: impl Iterator<Item = (TokenId, &'b [u8])>,
        scores: &[f64],
        header_at: usize,
    ) -> Result<Option<Unigram>, FormatError> {
        let Some(HeaderModel::Unigram { unknown, byte_fallback, sentencepiece, .. }) = self.model else {
            return Ok(None);
        };
        let bad = |reason: String| FormatError::Malformed { offset: header_at, reason };
        let names = self.special.iter().map(|special| (special.id, special.name.as_bytes()));
        let mut texts: Vec<Option<&str>> = vec![None; scores.len()];
        for (id, bytes) in tokens.chain(names) {
            if let Some(text) = texts.get_mut(id as usize) {
                *text = std::str::from_utf8(bytes).ok();
            }
        }
        let kinds = self
            .decoder
            .as_ref()
            .filter(|_| sentencepiece)
            .map(|steps| decoder(Some(&At::new(steps, "/decoder")), false, Dialect::Own));
        let kinds: Arc<[PieceKind]> = match kinds.transpose()? {
            Some(Decoder::SentencePiece(_, kinds)) => kinds,
            _ => Arc::from([]),
        };
        let mut pieces = Vec::with_capacity(scores.len());
        for (id, (text, &score)) in texts.into_iter().zip(scores).enumerate() {
            let text = text.ok_or_else(|| bad(format!("there is no token {id} for a piece")))?;
            pieces.push(UnigramPiece { text, score, kind: kinds.get(id).copied().unwrap_or_default() });
        }
        let flavour = if sentencepiece { UnigramFlavour::SentencePiece } else { UnigramFlavour::HuggingFace };
        let parts = UnigramParts { pieces, unk: unknown, byte_fallback, flavour };
        Unigram::new(&parts).map(Some).map_err(|e| bad(e.to_string()))
    }

    /// The parts that the header tells, with the merges from behind it.
    fn parts(self, merges: Vec<Merge>, header_at: usize) -> Result<TokenizerParts, FormatError> {
        let bad = |reason: String| FormatError::Malformed { offset: header_at, reason };
        let in_header = |error: FormatError| bad(format!("in the header, {error}"));
        let normalizer = match self.normalizer.as_str() {
            Some(name) => Normalizer::from_name(name)
                .ok_or_else(|| bad("the header names an unknown normalizer".to_owned()))?,
            None => normalizer(&At::new(&self.normalizer, "/normalizer"), Dialect::Own).map_err(in_header)?,
        };
        let pretokenizer = match &self.pre_tokenizer {
            Some(steps) => {
                pretokenizer(&At::new(steps, "/pre_tokenizer"), Dialect::Own).map_err(in_header)?
            }
            None => {
                let stages: Vec<&str> = self.split.iter().map(String::as_str).collect();
                Pretokenizer::Pattern(Pattern::from_regexes(&stages).map_err(|e| bad(e.to_string()))?)
            }
        };
        let model =
            self.model.map_or(Ok(Model::Bytes { missing: None }), |model| model.model().map_err(bad))?;
        let is_byte_level = model.is_byte_level();
        let decoder = match &self.decoder {
            None => Decoder::Bytes,
            Some(Value::String(name)) if name == "byte_level" => Decoder::ByteLevel,
            Some(Value::String(name)) if name == "spaced" => Decoder::Spaced,
            Some(steps) => {
                let at = At::new(steps, "/decoder");
                decoder(Some(&at), is_byte_level, Dialect::Own).map_err(in_header)?
            }
        };
        let template = self.template.map_or_else(Template::default, |t| Template {
            before: t.before,
            after: t.after,
            trims: t.trims.into_iter().map(|prefix_space| Trim { prefix_space }).collect(),
        });
        Ok(TokenizerParts {
            tokens: Vec::new(),
            unreached: Vec::new(),
            merges,
            ranks: None,
            specials: self.special.into_iter().map(Special::from).collect(),
            pretokenizer,
            normalizer,
            model,
            whole_pretokens: self.whole_pretokens,
            template,
            decoder,
            chat: ChatTemplates { sources: self.chat_templates, tokens: self.chat_tokens },
        })
    }
}

impl HeaderModel {
    fn model(self) -> Result<Model, String> {
        let known = |unknown: HeaderUnknown| Unknown { id: unknown.id, fused: unknown.fused };
        Ok(match self {
            Self::Bytes { unknown } => {
                let missing = unknown.map_or(Missing::LeftOut, |unknown| Missing::Unknown(known(unknown)));
                Model::Bytes { missing: Some(missing) }
            }
            Self::Chars { unknown, bytes, joining } => Model::Chars(Chars {
                bytes: match bytes {
                    Some(bytes) => Some(bytes.try_into().map_err(|_| "there must be a token for each byte")?),
                    None => None,
                },
                unknown: unknown.map(known),
                rules: match joining {
                    Some(joining) => Rules::SentencePiece { joining: joining.chars().collect() },
                    None => Rules::HuggingFace,
                },
            }),
            // The scores are not in the header; who reads them puts the model in this one's place.
            Self::Unigram { .. } => {
                Model::Chars(Chars { bytes: None, unknown: None, rules: Rules::HuggingFace })
            }
        })
    }
}

/// Tokens as they lie in the file.
#[derive(Debug, Clone, Default)]
struct Tokens<'b> {
    ids: &'b [u8],
    /// As many as ids, and together as many as there are bytes.
    lens: &'b [u8],
    bytes: &'b [u8],
}

impl<'b> Iterator for Tokens<'b> {
    type Item = (TokenId, &'b [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (id, ids) = self.ids.split_first_chunk()?;
        let (len, lens) = self.lens.split_first_chunk()?;
        let (bytes, rest) = self.bytes.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        *self = Self { ids, lens, bytes: rest };
        Some((TokenId::from_le_bytes(*id), bytes))
    }
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

    fn f64s(&mut self, count: usize) -> Result<Vec<f64>, FormatError> {
        let bytes = self.take(count.saturating_mul(8))?;
        let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Ok(bytes.chunks_exact(8).map(number).collect())
    }

    /// A number of tokens, their ids, their lengths, their bytes.
    fn tokens(&mut self) -> Result<Tokens<'b>, FormatError> {
        let count = self.u32()? as usize;
        let ids = self.take(count.saturating_mul(4))?;
        let lens = self.take(count.saturating_mul(4))?;
        let mut total = 0;
        for len in lens.chunks_exact(4) {
            total += u64::from(le_u32(len));
        }
        let bytes = self.take(usize::try_from(total).unwrap_or(usize::MAX))?;
        Ok(Tokens { ids, lens, bytes })
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
    use crate::formats::{Format, ImportOptions, export, import, tiktoken};

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
