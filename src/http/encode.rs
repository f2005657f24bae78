//! `/encode`, `/encode/batch`, `/count`: texts to ids.

use super::cpu::{self, Cpu};
use super::extract::{Payload, Sent, Text};
use super::media::{OBJECTS, OBJECTS_OR_IDS};
use super::openapi::PackedBody;
use super::problem::{Problem, ProblemBody};
use super::reply::{Ask, Made, Maker, Settled};
use super::state::AppState;
use super::wanted::wanted;
use crate::engine::{EncodeOptions, Encoding, Scratch};
use crate::registry::Loaded;
use answer::{CountReply, EncodeBatchReply, EncodeReply};
use axum::extract::State;
use futures_util::future::try_join_all;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

pub(super) mod answer;
mod request;

pub(super) use answer::Parts;
use request::{CountRequest, EncodeBatchRequest, EncodeRequest};
pub(super) use request::{OffsetUnitName, Return, Side, SpecialName, default_return, keep, policy, unit};

thread_local! {
    /// What encoding works in, kept from request to request.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.stop_on(cpu::stop_of_this_work());
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
#[utoipa::path(post, path = "/encode", tag = "encode",
    request_body(description = "The text with options; as text/plain the text alone, with the options as query fields",
        content((EncodeRequest = "application/json"), (EncodeRequest = "application/msgpack"), (String = "text/plain"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The ids; as application/octet-stream ids of 32 bits, little-endian (of 16 bits with \
            `Accept: application/octet-stream; bits=16`, where all ids of the vocabulary fit), and a header `Truncated`",
        content((EncodeReply<'_> = "application/json"), (EncodeReply<'_> = "application/msgpack"),
            (PackedBody = "application/octet-stream")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn encode(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<EncodeRequest, Text>,
) -> Result<Made, Problem> {
    encoded(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "text"))
}

async fn encoded(app: &AppState, ask: &Ask, request: EncodeRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let max_tokens = at_least_one("/max_tokens", request.max_tokens)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS_OR_IDS)?;
    check_packed(&settled, &request.wanted)?;
    let (bytes, vocab) = (request.text.len(), app.metrics.vocab(loaded.facts.name.as_str()));
    let size = work(std::slice::from_ref(&request.text), &request.allowed_special);
    let (made, tokens) = app
        .cpu
        .run(size, move || {
            let options = EncodeOptions {
                special: policy(request.special, &request.allowed_special),
                add_special: request.add_special_tokens,
                offsets: request.wanted.contains(&Return::Offsets).then(|| unit(request.offset_unit)),
                max_tokens,
                keep: keep(request.truncation_side),
            };
            let encoding = with_scratch(|scratch| loaded.tokenizer.encode(&request.text, &options, scratch))
                .map_err(|e| Problem::encode("/text", &e))?;
            let parts = Parts::new(&encoding, &loaded.tokenizer, &request.wanted);
            let reply = EncodeReply::new(Maker(Arc::clone(&loaded)), &encoding, parts);
            Ok::<_, Problem>((settled.made(&loaded, &reply), encoding.ids.len()))
        })
        .await??;
    vocab.encoded(bytes as u64, tokens as u64);
    Ok(made)
}

/// Encode several texts with one version.
#[utoipa::path(post, path = "/encode/batch", tag = "encode",
    request_body(content((EncodeBatchRequest = "application/json"), (EncodeBatchRequest = "application/msgpack"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The ids of each text; as application/octet-stream n and n counts, each of 32 bits, \
            then the ids of all (of 16 bits with `Accept: application/octet-stream; bits=16`), little-endian, and a \
            header `Truncated` that says whether any was cut",
        content((EncodeBatchReply<'_> = "application/json"), (EncodeBatchReply<'_> = "application/msgpack"),
            (PackedBody = "application/octet-stream")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn encode_batch(
    State(app): State<AppState>,
    ask: Ask,
    Payload(request): Payload<EncodeBatchRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    at_least_one("/max_tokens", request.max_tokens)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS_OR_IDS)?;
    let (bytes, vocab) =
        (request.texts.iter().map(String::len).sum::<usize>(), app.metrics.vocab(loaded.facts.name.as_str()));
    let ranges = shares(&request.texts, app.config.encode_threads());
    let (made, tokens) = if let [_] = ranges[..] {
        let size = work(&request.texts, &request.allowed_special);
        app.cpu
            .run(size, move || {
                let encodings = encode_range(&loaded, &request, 0..request.texts.len())?;
                Ok::<_, Problem>(batch_reply(&settled, &loaded, &encodings))
            })
            .await??
    } else {
        let request = Arc::new(request);
        let shares = ranges.into_iter().map(|range| share(&app.cpu, &loaded, &request, range));
        let encodings = try_join_all(shares).await?.concat();
        app.cpu.run_elsewhere(0, move || batch_reply(&settled, &loaded, &encodings)).await?
    };
    vocab.encoded(bytes as u64, tokens as u64);
    Ok(made)
}

/// A share of a batch, encoded when a thread is free.
async fn share(
    cpu: &Cpu,
    loaded: &Arc<Loaded>,
    request: &Arc<EncodeBatchRequest>,
    range: Range<usize>,
) -> Result<Vec<Encoding>, Problem> {
    let (loaded, request) = (Arc::clone(loaded), Arc::clone(request));
    let size = work(&request.texts[range.clone()], &request.allowed_special);
    cpu.run_elsewhere(size, move || encode_range(&loaded, &request, range)).await?
}

fn encode_range(
    loaded: &Loaded,
    request: &EncodeBatchRequest,
    range: Range<usize>,
) -> Result<Vec<Encoding>, Problem> {
    let options = EncodeOptions {
        special: policy(request.special, &request.allowed_special),
        add_special: request.add_special_tokens,
        offsets: None,
        max_tokens: request.max_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        keep: keep(request.truncation_side),
    };
    let matcher = loaded.tokenizer.matcher(&options.special);
    let matcher = matcher.map_err(|e| Problem::encode("/texts", &e.into()))?;
    with_scratch(|scratch| {
        let texts = range.map(|index| {
            let encoding =
                loaded.tokenizer.encode_matched(&request.texts[index], &matcher, &options, scratch);
            encoding.map_err(|e| Problem::encode(&format!("/texts/{index}"), &e))
        });
        texts.collect()
    })
}

fn batch_reply(settled: &Settled, loaded: &Arc<Loaded>, encodings: &[Encoding]) -> (Made, usize) {
    let reply = EncodeBatchReply::new(Maker(Arc::clone(loaded)), encodings);
    (settled.made(loaded, &reply), encodings.iter().map(|e| e.ids.len()).sum())
}

/// Bytes of text for which another thread is worth its start and the moving about.
const SHARE_BYTES: usize = 64 << 10;

/// The texts of a batch in stretches of about the same work, one a thread; a single one where that is not worth it.
fn shares(texts: &[String], threads: usize) -> Vec<Range<usize>> {
    let total = work(texts, &[]);
    let share = total.div_ceil(threads.max(1)).max(SHARE_BYTES);
    let (mut ranges, mut from, mut size) = (Vec::new(), 0, 0);
    for (index, text) in texts.iter().enumerate() {
        size += text.len() + BYTES_PER_TEXT;
        if size >= share {
            ranges.push(from..index + 1);
            (from, size) = (index + 1, 0);
        }
    }
    if from < texts.len() || ranges.is_empty() {
        ranges.push(from..texts.len());
    }
    ranges
}

/// Count tokens.
#[utoipa::path(post, path = "/count", tag = "encode",
    request_body(description = "The text or texts with options; as text/plain the text alone, with the options as query fields",
        content((CountRequest = "application/json"), (CountRequest = "application/msgpack"), (String = "text/plain"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The number of tokens",
        content((CountReply = "application/json"), (CountReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn count(
    State(app): State<AppState>,
    ask: Ask,
    sent: Sent<CountRequest, Text>,
) -> Result<Made, Problem> {
    counted(&app, &ask, sent.request).await.map_err(|problem| sent.place.of(problem, "text"))
}

async fn counted(app: &AppState, ask: &Ask, request: CountRequest) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let limit = at_least_one("/limit", request.limit)?;
    let (texts, single) = match (request.text, request.texts) {
        (Some(text), None) => (vec![text], true),
        (None, Some(texts)) => (texts.0, false),
        _ => return Err(Problem::invalid("", "needs exactly one of text and texts")),
    };
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    let bytes: usize = texts.iter().map(String::len).sum();
    let vocab = app.metrics.vocab(loaded.facts.name.as_str());
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
                vocab: Maker(Arc::clone(&loaded)),
                count: single.then_some(total),
                counts: (!single).then_some(counts),
                total: (!single).then_some(total),
                exceeded: limit.map(|_| exceeded),
            };
            Ok::<_, Problem>((settled.made(&loaded, &reply), total))
        })
        .await??;
    vocab.encoded(bytes as u64, total as u64);
    Ok(made)
}

pub(super) fn at_least_one(pointer: &str, number: Option<u64>) -> Result<Option<usize>, Problem> {
    match number {
        Some(0) => Err(Problem::invalid(pointer, "must be at least 1")),
        Some(n) => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
        None => Ok(None),
    }
}

/// Refuses what packed ids have no room for.
pub(super) fn check_packed(settled: &Settled, wanted: &[Return]) -> Result<(), Problem> {
    let ids_alone = !wanted.is_empty() && wanted.iter().all(|part| *part == Return::Ids);
    if settled.is_packed() && !ids_alone {
        return Err(Problem::invalid("/return", "must be ids alone where the answer is packed ids"));
    }
    Ok(())
}
