//! `/encode`, `/encode/batch`, `/count`: texts to ids.

use super::extract::Payload;
use super::problem::{Problem, ProblemBody};
use super::reply::{Made, check_if_match};
use super::state::AppState;
use super::wanted::wanted;
use crate::engine::{
    EncodeOptions, Encoding, Keep, OffsetUnit, OnSpecial, Scratch, SpecialPolicy, TokenId, Tokenizer,
};
use crate::jobs::VocabTriple;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use utoipa::ToSchema;

/// A text to encode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodeRequest {
    /// The text.
    #[schema(example = "Hello, 世界! 😀")]
    text: String,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    #[schema(example = "default")]
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Add the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    add_special_tokens: bool,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]))]
    allowed_special: Vec<String>,
    /// What to answer beside `count`: ids, tokens as text, their bytes in base64, offsets.
    #[serde(default = "default_return", rename = "return")]
    #[schema(default = json!(["ids"]))]
    wanted: Vec<Return>,
    /// The unit of offsets: UTF-8 bytes, Unicode scalar values, or UTF-16 code units.
    #[serde(default)]
    #[schema(default = json!("byte"))]
    offset_unit: OffsetUnitName,
    /// At most so many tokens, at least 1.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[schema(default = json!("right"))]
    truncation_side: Side,
}

/// Texts to encode with one version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodeBatchRequest {
    /// The texts.
    #[schema(example = json!(["Hello", "世界"]))]
    texts: Vec<String>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Add the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    add_special_tokens: bool,
    /// What the names of special tokens inside the texts mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]))]
    allowed_special: Vec<String>,
    /// At most so many tokens of each text, at least 1.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[schema(default = json!("right"))]
    truncation_side: Side,
}

/// A text, or texts, to count: exactly one of `text` and `texts`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CountRequest {
    /// One text.
    #[schema(example = "Hello, 世界!")]
    text: Option<String>,
    /// Several texts.
    texts: Option<Vec<String>>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Count the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[schema(default = false)]
    add_special_tokens: bool,
    /// What the names of special tokens inside the text mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[schema(default = json!("text"))]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[schema(default = json!([]))]
    allowed_special: Vec<String>,
    /// Stop counting once there are more tokens than this in all, at least 1.
    #[schema(minimum = 1)]
    limit: Option<u64>,
}

/// What the name of a special token inside a text means.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SpecialName {
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
pub(super) enum Return {
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
pub(super) enum OffsetUnitName {
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
pub(super) enum Side {
    /// The beginning is cut off.
    Left,
    /// The end is cut off.
    #[default]
    Right,
}

pub(super) fn default_return() -> Vec<Return> {
    vec![Return::Ids]
}

/// An encoded text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EncodeReply {
    /// The version that made this.
    vocab: VocabTriple,
    /// Number of tokens answered.
    count: usize,
    /// Token ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<u32>, required = false)]
    ids: Option<Vec<TokenId>>,
    /// Tokens as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tokens: Option<Vec<String>>,
    /// Tokens as base64 of their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    bytes_b64: Option<Vec<String>>,
    /// Start and end of each token in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offsets: Option<Vec<[usize; 2]>>,
    /// Whether `max_tokens` cut something off.
    truncated: bool,
}

/// Encoded texts, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EncodeBatchReply {
    /// The version that made all of them.
    vocab: VocabTriple,
    /// Number of tokens of each text.
    counts: Vec<usize>,
    /// Token ids of each text.
    #[schema(value_type = Vec<Vec<u32>>)]
    ids: Vec<Vec<TokenId>>,
    /// Whether `max_tokens` cut something off, for each text.
    truncated: Vec<bool>,
}

/// Numbers of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountReply {
    /// The version that made this.
    vocab: VocabTriple,
    /// Tokens of `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    count: Option<usize>,
    /// Tokens of each of `texts` (only of those looked at, when `limit` was exceeded).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    counts: Option<Vec<usize>>,
    /// Tokens of all `texts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    total: Option<usize>,
    /// With `limit`: whether there are more tokens. The numbers are lower bounds then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    exceeded: Option<bool>,
}

thread_local! {
    /// What encoding works in, kept from request to request.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let result = work(scratch);
        scratch.trim();
        result
    })
}

/// Work that a text and an allowed name cost beside their bytes, in bytes.
const BYTES_PER_TEXT: usize = 64;
const BYTES_PER_NAME: usize = 256;

/// How much work a request is, in bytes of text.
fn work(texts: &[String], allowed: &[String]) -> usize {
    let bytes: usize = texts.iter().map(|text| text.len() + BYTES_PER_TEXT).sum();
    bytes + allowed.len() * BYTES_PER_NAME
}

/// Encode a text.
#[utoipa::path(post, path = "/encode", tag = "encode", request_body = EncodeRequest,
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The ids", body = EncodeReply,
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn encode(
    State(app): State<AppState>,
    headers: HeaderMap,
    Payload(request): Payload<EncodeRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let max_tokens = at_least_one("/max_tokens", request.max_tokens)?;
    check_specials(&request.allowed_special)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    check_if_match(&headers, &loaded.facts)?;
    let (bytes, version) = (request.text.len(), loaded.facts.clone());
    let size = work(std::slice::from_ref(&request.text), &request.allowed_special);
    let (made, tokens) = app
        .cpu
        .run(size, move || {
            let returns = |part| request.wanted.contains(&part);
            let options = EncodeOptions {
                special: policy(request.special, &request.allowed_special),
                add_special: request.add_special_tokens,
                offsets: returns(Return::Offsets).then(|| unit(request.offset_unit)),
                max_tokens,
                keep: keep(request.truncation_side),
            };
            let encoding = with_scratch(|scratch| loaded.tokenizer.encode(&request.text, &options, scratch))
                .map_err(|e| Problem::encode("/text", &e))?;
            let tokens = encoding.ids.len();
            let reply = encode_reply(&loaded.tokenizer, VocabTriple::from(&*loaded.facts), encoding, returns);
            Ok::<_, Problem>((Made::by(&loaded.facts, &reply), tokens))
        })
        .await??;
    app.metrics.vocab(version.name.as_str()).encoded(bytes as u64, tokens as u64);
    Ok(made)
}

/// Encode several texts with one version.
#[utoipa::path(post, path = "/encode/batch", tag = "encode", request_body = EncodeBatchRequest,
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The ids of each text", body = EncodeBatchReply,
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn encode_batch(
    State(app): State<AppState>,
    headers: HeaderMap,
    Payload(request): Payload<EncodeBatchRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let max_tokens = at_least_one("/max_tokens", request.max_tokens)?;
    check_specials(&request.allowed_special)?;
    check_texts(&app, &request.texts)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    check_if_match(&headers, &loaded.facts)?;
    let (bytes, version) = (request.texts.iter().map(String::len).sum::<usize>(), loaded.facts.clone());
    let size = work(&request.texts, &request.allowed_special);
    let (made, tokens) = app
        .cpu
        .run(size, move || {
            let options = EncodeOptions {
                special: policy(request.special, &request.allowed_special),
                add_special: request.add_special_tokens,
                offsets: None,
                max_tokens,
                keep: keep(request.truncation_side),
            };
            let matcher = loaded.tokenizer.matcher(&options.special);
            let matcher = matcher.map_err(|e| Problem::encode("/texts", &e.into()))?;
            let encodings = with_scratch(|scratch| {
                let texts = request.texts.iter().enumerate();
                texts
                    .map(|(index, text)| {
                        let encoding = loaded.tokenizer.encode_matched(text, &matcher, &options, scratch);
                        encoding.map_err(|e| Problem::encode(&format!("/texts/{index}"), &e))
                    })
                    .collect::<Result<Vec<Encoding>, _>>()
            })?;
            let counts: Vec<usize> = encodings.iter().map(|e| e.ids.len()).collect();
            let tokens: usize = counts.iter().sum();
            let (truncated, ids) = encodings.into_iter().map(|e| (e.truncated, e.ids)).unzip();
            let reply = EncodeBatchReply { vocab: VocabTriple::from(&*loaded.facts), counts, ids, truncated };
            Ok::<_, Problem>((Made::by(&loaded.facts, &reply), tokens))
        })
        .await??;
    app.metrics.vocab(version.name.as_str()).encoded(bytes as u64, tokens as u64);
    Ok(made)
}

/// Count tokens.
#[utoipa::path(post, path = "/count", tag = "encode", request_body = CountRequest,
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The number of tokens", body = CountReply,
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn count(
    State(app): State<AppState>,
    headers: HeaderMap,
    Payload(request): Payload<CountRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let limit = at_least_one("/limit", request.limit)?;
    check_specials(&request.allowed_special)?;
    let (texts, single) = match (request.text, request.texts) {
        (Some(text), None) => (vec![text], true),
        (None, Some(texts)) => (texts, false),
        _ => return Err(Problem::invalid("", "needs exactly one of text and texts")),
    };
    check_texts(&app, &texts)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    check_if_match(&headers, &loaded.facts)?;
    let (bytes, version) = (texts.iter().map(String::len).sum::<usize>(), loaded.facts.clone());
    let size = work(&texts, &request.allowed_special);
    let (made, total) = app
        .cpu
        .run(size, move || {
            let matcher = loaded.tokenizer.matcher(&policy(request.special, &request.allowed_special));
            let matcher = matcher.map_err(|e| Problem::encode("/allowed_special", &e.into()))?;
            let (mut counts, mut total, mut exceeded) = (Vec::with_capacity(texts.len()), 0, false);
            with_scratch(|scratch| {
                for (index, text) in texts.iter().enumerate() {
                    let rest = limit.map(|limit| limit - total);
                    let count = loaded
                        .tokenizer
                        .count_matched(text, &matcher, request.add_special_tokens, rest, scratch)
                        .map_err(|e| {
                            let pointer = if single { "/text".to_owned() } else { format!("/texts/{index}") };
                            Problem::encode(&pointer, &e)
                        })?;
                    counts.push(count.tokens);
                    total += count.tokens;
                    exceeded = count.exceeded;
                    if exceeded {
                        break;
                    }
                }
                Ok::<_, Problem>(())
            })?;
            let reply = CountReply {
                vocab: VocabTriple::from(&*loaded.facts),
                count: single.then_some(total),
                counts: (!single).then_some(counts),
                total: (!single).then_some(total),
                exceeded: limit.map(|_| exceeded),
            };
            Ok::<_, Problem>((Made::by(&loaded.facts, &reply), total))
        })
        .await??;
    app.metrics.vocab(version.name.as_str()).encoded(bytes as u64, total as u64);
    Ok(made)
}

fn encode_reply(
    tokenizer: &Tokenizer,
    vocab: VocabTriple,
    encoding: Encoding,
    returns: impl Fn(Return) -> bool,
) -> EncodeReply {
    let Encoding { ids, spans, truncated } = encoding;
    let bytes = || ids.iter().map(|&id| tokenizer.token_bytes(id).unwrap_or_default());
    EncodeReply {
        vocab,
        count: ids.len(),
        tokens: returns(Return::Tokens)
            .then(|| bytes().map(|b| String::from_utf8_lossy(&b).into_owned()).collect()),
        bytes_b64: returns(Return::Bytes).then(|| bytes().map(|b| STANDARD.encode(b)).collect()),
        offsets: returns(Return::Offsets).then(|| spans.iter().map(|s| [s.start, s.end]).collect()),
        ids: returns(Return::Ids).then_some(ids),
        truncated,
    }
}

pub(super) fn at_least_one(pointer: &str, number: Option<u64>) -> Result<Option<usize>, Problem> {
    match number {
        Some(0) => Err(Problem::invalid(pointer, "must be at least 1")),
        Some(n) => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
        None => Ok(None),
    }
}

/// The most names in `allowed_special`.
pub(super) const MAX_ALLOWED_SPECIAL: usize = 1000;

fn check_specials(allowed: &[String]) -> Result<(), Problem> {
    if allowed.len() > MAX_ALLOWED_SPECIAL {
        return Err(Problem::too_many("/allowed_special", MAX_ALLOWED_SPECIAL));
    }
    Ok(())
}

fn check_texts(app: &AppState, texts: &[String]) -> Result<(), Problem> {
    let limit = app.config.max_batch_texts;
    if texts.len() > limit { Err(Problem::too_many("/texts", limit)) } else { Ok(()) }
}

pub(super) fn policy(special: SpecialName, allowed: &[String]) -> SpecialPolicy<'_> {
    let others = match special {
        SpecialName::Text => OnSpecial::Text,
        SpecialName::Parse => OnSpecial::Parse,
        SpecialName::Error => OnSpecial::Error,
    };
    SpecialPolicy { allowed, others }
}

pub(super) fn unit(name: OffsetUnitName) -> OffsetUnit {
    match name {
        OffsetUnitName::Byte => OffsetUnit::Byte,
        OffsetUnitName::Char => OffsetUnit::Char,
        OffsetUnitName::Utf16 => OffsetUnit::Utf16,
    }
}

pub(super) fn keep(side: Side) -> Keep {
    match side {
        Side::Left => Keep::End,
        Side::Right => Keep::Start,
    }
}
