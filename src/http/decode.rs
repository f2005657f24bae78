//! `/decode`, `/decode/batch`: ids to text.

use super::extract::list::List;
use super::extract::{Batch, Ids, Sent};
use super::media::OBJECTS;
use super::openapi::PackedBody;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, Ask, Made, Maker};
use super::state::AppState;
use super::wanted::wanted;
use crate::engine::{DecodeError, TokenId, Tokenizer};
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Ids to decode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecodeRequest {
    /// The ids.
    #[schema(value_type = Vec<u32>, example = json!([72, 101]))]
    ids: Vec<TokenId>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Leave special tokens out.
    #[serde(default)]
    #[schema(default = false)]
    skip_special_tokens: bool,
    /// What happens where the bytes are not UTF-8: U+FFFD in their place, a refusal, or `bytes_b64` instead of text.
    #[serde(default)]
    #[schema(default = json!("replace"))]
    errors: OnInvalid,
}

/// Sequences of ids to decode with one version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecodeBatchRequest {
    /// The sequences.
    #[schema(value_type = Vec<Vec<u32>>, example = json!([[72, 101], [72]]))]
    ids: List<Vec<TokenId>>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Leave special tokens out.
    #[serde(default)]
    #[schema(default = false)]
    skip_special_tokens: bool,
    /// What happens where the bytes are not UTF-8: U+FFFD in their place, a refusal, or `bytes_b64` instead of text.
    #[serde(default)]
    #[schema(default = json!("replace"))]
    errors: OnInvalid,
}

/// What happens where decoded bytes are not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnInvalid {
    /// Each ill-formed part becomes U+FFFD.
    #[default]
    Replace,
    /// The request is refused.
    Strict,
    /// The answer is `bytes_b64` in place of text.
    Bytes,
}

/// Decoded ids.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DecodeReply {
    /// The version that made this.
    vocab: Maker,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// Whether the bytes were UTF-8, so that nothing was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    valid_utf8: Option<bool>,
    /// The bytes in base64, with `errors` = `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    bytes_b64: Option<String>,
}

impl Answer for DecodeReply {}

/// Decoded sequences, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DecodeBatchReply {
    /// The version that made all of them.
    vocab: Maker,
    /// The texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    texts: Option<Vec<String>>,
    /// Whether the bytes of each were UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    valid_utf8: Option<Vec<bool>>,
    /// The bytes of each in base64, with `errors` = `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    bytes_b64: Option<Vec<String>>,
}

impl Answer for DecodeBatchReply {}

/// Bytes that an id takes in a body, roughly: what decides whether decoding is long work.
const BYTES_PER_ID: usize = 4;

/// Decode ids.
#[utoipa::path(post, path = "/decode", tag = "encode",
    request_body(description = "The ids with options; as application/octet-stream the ids alone, of 32 bits, little-endian (of \
            16 bits as application/octet-stream; bits=16), with the options as query fields",
        content((DecodeRequest = "application/json"), (DecodeRequest = "application/msgpack"),
            (PackedBody = "application/octet-stream"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The text",
        content((DecodeReply = "application/json"), (DecodeReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn decode(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<DecodeRequest, Ids>,
) -> Result<Made, Problem> {
    text(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "ids"))
}

async fn text(app: &AppState, ask: &Ask, request: DecodeRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let (tokens, vocab) = (request.ids.len(), app.metrics.vocab(loaded.facts.name.as_str()));
    let (size, mut room) = (work(app, &loaded.tokenizer, [&request.ids]), Room::of(app));
    let made = app.cpu.run(size, move || {
        let how = (request.skip_special_tokens, request.errors);
        let vocab = Maker(Arc::clone(&loaded));
        let reply = match decoded(&loaded.tokenizer, &request.ids, how, "/ids", &mut room)? {
            Text::Bytes(bytes) => {
                DecodeReply { vocab, text: None, valid_utf8: None, bytes_b64: Some(STANDARD.encode(bytes)) }
            }
            Text::Text(text, valid) => {
                DecodeReply { vocab, text: Some(text), valid_utf8: Some(valid), bytes_b64: None }
            }
        };
        Ok::<_, Problem>(settled.made(&loaded, &reply))
    });
    let made = made.await??;
    vocab.decoded(tokens as u64);
    Ok(made)
}

/// Decode several sequences with one version.
#[utoipa::path(post, path = "/decode/batch", tag = "encode",
    request_body(description = "The ids with options; as application/octet-stream n and n counts, each of 32 bits, then the ids \
            of all (of 16 bits as application/octet-stream; bits=16), little-endian, with the options as query fields",
        content((DecodeBatchRequest = "application/json"), (DecodeBatchRequest = "application/msgpack"),
            (PackedBody = "application/octet-stream"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The texts",
        content((DecodeBatchReply = "application/json"), (DecodeBatchReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn decode_batch(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<DecodeBatchRequest, Batch>,
) -> Result<Made, Problem> {
    texts(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "ids"))
}

async fn texts(app: &AppState, ask: &Ask, request: DecodeBatchRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let tokens: usize = request.ids.iter().map(Vec::len).sum();
    let vocab = app.metrics.vocab(loaded.facts.name.as_str());
    let (size, mut room) = (work(app, &loaded.tokenizer, request.ids.iter()), Room::of(app));
    let made = app.cpu.run(size, move || {
        let (mut texts, mut valid_utf8, mut bytes_b64) = (Vec::new(), Vec::new(), Vec::new());
        for (index, ids) in request.ids.iter().enumerate() {
            let pointer = format!("/ids/{index}");
            let how = (request.skip_special_tokens, request.errors);
            match decoded(&loaded.tokenizer, ids, how, &pointer, &mut room)? {
                Text::Bytes(bytes) => bytes_b64.push(STANDARD.encode(bytes)),
                Text::Text(text, valid) => {
                    texts.push(text);
                    valid_utf8.push(valid);
                }
            }
        }
        let as_bytes = request.errors == OnInvalid::Bytes;
        let reply = DecodeBatchReply {
            vocab: Maker(Arc::clone(&loaded)),
            texts: (!as_bytes).then_some(texts),
            valid_utf8: (!as_bytes).then_some(valid_utf8),
            bytes_b64: as_bytes.then_some(bytes_b64),
        };
        Ok::<_, Problem>(settled.made(&loaded, &reply))
    });
    let made = made.await??;
    vocab.decoded(tokens as u64);
    Ok(made)
}

/// How much work decoding is, in bytes. Few ids may stand for many bytes; many ids are long work in any case.
fn work<'i>(
    app: &AppState,
    tokenizer: &Tokenizer,
    sequences: impl IntoIterator<Item = &'i Vec<TokenId>>,
) -> usize {
    let mut size = 0;
    for ids in sequences {
        size += BYTES_PER_ID * (1 + ids.len());
        if size > app.config.inline_bytes {
            break;
        }
        size += tokenizer.decoded_len(ids, false).map_or(0, |n| n as usize);
    }
    size
}

/// A sequence decoded as the request asks.
enum Text {
    Bytes(Vec<u8>),
    Text(String, bool),
}

/// The bytes that the ids of one request may stand for.
#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    left: u64,
}

impl Room {
    pub(super) fn of(app: &AppState) -> Self {
        let limit = app.config.max_decoded_bytes;
        Self { limit, left: limit }
    }

    /// Takes some of them for the ids at `pointer`.
    fn take(&mut self, bytes: u64, pointer: &str) -> Result<(), Problem> {
        self.left =
            self.left.checked_sub(bytes).ok_or_else(|| Problem::decoded_too_long(pointer, self.limit))?;
        Ok(())
    }
}

/// Decodes, taking the bytes that it needs.
fn decoded(
    tokenizer: &Tokenizer,
    ids: &[TokenId],
    (skip_special, errors): (bool, OnInvalid),
    pointer: &str,
    room: &mut Room,
) -> Result<Text, Problem> {
    let failed = |e: DecodeError| match e {
        DecodeError::UnknownId { index, id } => Problem::unknown_id(format!("{pointer}/{index}"), id),
        DecodeError::Split(e) => Problem::encode(pointer, &e.into()),
    };
    room.take(tokenizer.decoded_len(ids, skip_special).map_err(failed)?, pointer)?;
    if errors == OnInvalid::Replace {
        let decoded = tokenizer.decode(ids, skip_special).map_err(failed)?;
        return Ok(Text::Text(decoded.text, decoded.valid));
    }
    let bytes = tokenizer.decode_bytes(ids, skip_special).map_err(failed)?;
    if errors == OnInvalid::Bytes {
        return Ok(Text::Bytes(bytes));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text::Text(text, true)),
        Err(e) => Err(Problem::not_text(pointer.to_owned(), e.utf8_error().valid_up_to())),
    }
}

/// Decodes with what is no text replaced, taking the bytes that it needs.
pub(super) fn lossy(
    tokenizer: &Tokenizer,
    ids: &[TokenId],
    skip_special: bool,
    pointer: &str,
    room: &mut Room,
) -> Result<String, Problem> {
    match decoded(tokenizer, ids, (skip_special, OnInvalid::Replace), pointer, room)? {
        Text::Text(text, _) => Ok(text),
        Text::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}
