//! What the encode side answers. JSON with ids in it is written by hand; a test compares it with what serde writes.

use super::super::extract::packed;
use super::super::media::Width;
use super::super::reply::{Answer, Maker, json::Object, json::write_ids, write_packed_batch};
use super::Return;
use crate::engine::{Encoding, Span, TokenId, Tokenizer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use utoipa::ToSchema;

/// What a request may ask for of an encoded text.
#[derive(Debug)]
pub(in crate::http) struct Parts<'a> {
    pub(in crate::http) ids: Option<&'a [TokenId]>,
    pub(in crate::http) tokens: Option<Tokens<'a>>,
    pub(in crate::http) bytes_b64: Option<Bytes<'a>>,
    pub(in crate::http) offsets: Option<Offsets<'a>>,
}

impl<'a> Parts<'a> {
    pub(in crate::http) fn new(encoding: &'a Encoding, tokenizer: &'a Tokenizer, wanted: &[Return]) -> Self {
        let Encoding { ids, spans, .. } = encoding;
        let asked_for = |part| wanted.contains(&part);
        Self {
            ids: asked_for(Return::Ids).then_some(ids),
            tokens: asked_for(Return::Tokens).then_some(Tokens(tokenizer, ids)),
            bytes_b64: asked_for(Return::Bytes).then_some(Bytes(tokenizer, ids)),
            offsets: asked_for(Return::Offsets).then_some(Offsets(spans)),
        }
    }

    pub(in crate::http) fn write_json(&self, object: &mut Object<'_>) {
        if let Some(ids) = self.ids {
            object.ids("ids", ids);
        }
        if let Some(tokens) = &self.tokens {
            object.value("tokens", tokens);
        }
        if let Some(bytes) = &self.bytes_b64 {
            object.value("bytes_b64", bytes);
        }
        if let Some(offsets) = &self.offsets {
            object.value("offsets", offsets);
        }
    }
}

/// An encoded text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncodeReply)]
pub(super) struct EncodeReply<'a> {
    /// The version that made this.
    vocab: Maker,
    /// Number of tokens answered.
    count: usize,
    /// Token ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<u32>, required = false)]
    ids: Option<&'a [TokenId]>,
    /// Tokens as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    tokens: Option<Tokens<'a>>,
    /// Tokens as base64 of their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    bytes_b64: Option<Bytes<'a>>,
    /// Start and end of each token in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<[usize; 2]>, required = false)]
    offsets: Option<Offsets<'a>>,
    /// Whether `max_tokens` cut something off.
    truncated: bool,
}

impl<'a> EncodeReply<'a> {
    pub(super) fn new(vocab: Maker, encoding: &'a Encoding, parts: Parts<'a>) -> Self {
        let Parts { ids, tokens, bytes_b64, offsets } = parts;
        let (count, truncated) = (encoding.ids.len(), encoding.truncated);
        Self { vocab, count, ids, tokens, bytes_b64, offsets, truncated }
    }
}

impl Answer for EncodeReply<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let Self { ids, tokens, bytes_b64, offsets, .. } = self;
        out.reserve(256 + ids.map_or(0, |ids| ids.len() * 6));
        let mut object = Object::begin(out);
        object.raw("vocab", &self.vocab.0.told.json);
        object.value("count", &self.count);
        Parts { ids: *ids, tokens: *tokens, bytes_b64: *bytes_b64, offsets: *offsets }
            .write_json(&mut object);
        object.value("truncated", &self.truncated);
        object.end();
    }

    fn write_packed(&self, width: Width, out: &mut Vec<u8>) {
        packed::write(self.ids.unwrap_or_default(), width, out);
    }

    fn truncated(&self) -> bool {
        self.truncated
    }
}

/// Encoded texts, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncodeBatchReply)]
pub(super) struct EncodeBatchReply<'a> {
    /// The version that made all of them.
    vocab: Maker,
    /// Number of tokens of each text.
    counts: Vec<usize>,
    /// Token ids of each text.
    #[schema(value_type = Vec<Vec<u32>>)]
    ids: Vec<&'a [TokenId]>,
    /// Whether `max_tokens` cut something off, for each text.
    truncated: Vec<bool>,
}

impl<'a> EncodeBatchReply<'a> {
    pub(super) fn new(vocab: Maker, encodings: &'a [Encoding]) -> Self {
        Self {
            vocab,
            counts: encodings.iter().map(|e| e.ids.len()).collect(),
            ids: encodings.iter().map(|e| &e.ids[..]).collect(),
            truncated: encodings.iter().map(|e| e.truncated).collect(),
        }
    }
}

impl Answer for EncodeBatchReply<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let tokens: usize = self.counts.iter().sum();
        out.reserve(256 + self.counts.len() * 16 + tokens * 6);
        let mut object = Object::begin(out);
        object.raw("vocab", &self.vocab.0.told.json);
        object.value("counts", &self.counts);
        let array = object.member("ids");
        array.push(b'[');
        for (n, ids) in self.ids.iter().enumerate() {
            if n > 0 {
                array.push(b',');
            }
            write_ids(ids, array);
        }
        array.push(b']');
        object.value("truncated", &self.truncated);
        object.end();
    }

    fn write_packed(&self, width: Width, out: &mut Vec<u8>) {
        write_packed_batch(self.ids.iter().copied(), width, out);
    }

    fn truncated(&self) -> bool {
        self.truncated.contains(&true)
    }
}

/// Numbers of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountReply {
    /// The version that made this.
    pub(super) vocab: Maker,
    /// Tokens of `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) count: Option<usize>,
    /// Tokens of each of `texts` (only of those looked at, when `limit` was exceeded).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) counts: Option<Vec<usize>>,
    /// Tokens of all `texts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) total: Option<usize>,
    /// With `limit`: whether there are more tokens. The numbers are lower bounds then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) exceeded: Option<bool>,
}

impl Answer for CountReply {}

/// Tokens as text; what is not UTF-8 in them is replaced. No string is made of those that are.
#[derive(Clone, Copy)]
pub(in crate::http) struct Tokens<'a>(&'a Tokenizer, &'a [TokenId]);

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.1.len()))?;
        for &id in self.1 {
            let bytes = self.0.token_bytes(id).unwrap_or_default();
            all.serialize_element(&String::from_utf8_lossy(&bytes))?;
        }
        all.end()
    }
}

impl std::fmt::Debug for Tokens<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.1.len())
    }
}

/// Tokens as base64 of their bytes.
#[derive(Clone, Copy)]
pub(in crate::http) struct Bytes<'a>(&'a Tokenizer, &'a [TokenId]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.1.len()))?;
        let mut base64 = String::new();
        for &id in self.1 {
            base64.clear();
            STANDARD.encode_string(self.0.token_bytes(id).unwrap_or_default(), &mut base64);
            all.serialize_element(&base64)?;
        }
        all.end()
    }
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.1.len())
    }
}

/// Starts and ends.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Offsets<'a>(&'a [Span]);

impl Serialize for Offsets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|span| [span.start, span.end]))
    }
}
