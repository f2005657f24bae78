//! `/encode/stream`: NDJSON in, NDJSON out, one answer a line in their order. A line that is wrong is answered with its error
//! and the stream goes on; one version makes all of it. Nothing is read that the client does not take the answers of.

use super::admission::Room;
use super::coding::{Decoder, Encoder, Limits};
use super::encode::{
    OffsetUnitName, Parts, Return, Side, SpecialName, at_least_one, default_return, keep, policy, unit,
    with_scratch,
};
use super::extract::list::{List, NAMES};
use super::extract::{Options, json, query_place};
use super::held::streamed;
use super::media::{Coding, Form, LINES, sent};
use super::openapi::LinesBody;
use super::problem::{Problem, ProblemBody};
use super::reply::{Ask, Made, json::Object};
use super::state::AppState;
use super::wanted::wanted;
use crate::engine::EncodeOptions;
use crate::registry::Loaded;
use crate::telemetry::VocabMetrics;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use lines::{Batch, Lines};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

mod lines;

/// How to encode the texts of a stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamOptions {
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    #[param(required = false)]
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    #[param(required = false)]
    model: Option<String>,
    /// Add the tokens that the vocabulary puts around a text (such as BOS).
    #[serde(default)]
    #[param(required = false)]
    add_special_tokens: bool,
    /// What the names of special tokens inside the texts mean: plain text, the tokens, or an error.
    #[serde(default)]
    #[param(required = false, inline)]
    special: SpecialName,
    /// Names that are parsed whatever `special` is.
    #[serde(default)]
    #[param(required = false, value_type = Vec<String>)]
    allowed_special: List<String, NAMES>,
    /// What to answer beside `count`: ids, tokens as text, their bytes in base64, offsets.
    #[serde(default = "default_return", rename = "return")]
    #[param(required = false, inline)]
    wanted: Vec<Return>,
    /// The unit of offsets: UTF-8 bytes, Unicode scalar values, or UTF-16 code units.
    #[serde(default)]
    #[param(required = false, inline)]
    offset_unit: OffsetUnitName,
    /// At most so many tokens of each text, at least 1; answers then say `truncated` as well.
    #[param(required = false, minimum = 1)]
    max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[param(required = false, inline)]
    truncation_side: Side,
}

/// A line of a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamLine<'l> {
    /// Any value; the answer has it, too.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Object>)]
    id: Option<&'l RawValue>,
    /// The text.
    #[serde(borrow)]
    #[schema(value_type = String)]
    text: Cow<'l, str>,
}

/// The same to learn what is wrong with a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct OwnLine {
    #[serde(default)]
    id: serde::de::IgnoredAny,
    text: String,
}

/// The id of a line that is wrong otherwise.
#[derive(Deserialize)]
struct IdAlone<'l> {
    #[serde(borrow, default)]
    id: Option<&'l RawValue>,
}

/// Encode a stream of texts.
///
/// Lines are answered as they come, in their order: `{id?,count,ids}`, or `{id?,line,error}` where one is wrong; `line` is its
/// number, counted from 1. A line that is no longer than `max_body_bytes` is taken. The client must take answers while it sends:
/// one that does not is not read any further, and is closed after a while.
#[utoipa::path(post, path = "/encode/stream", tag = "encode",
    request_body(description = "A JSON object `{\"id\": any, \"text\": string}` a line; blank lines are passed over",
        content((LinesBody = "application/x-ndjson"))),
    params(StreamOptions, ("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "A JSON object a line", content((LinesBody = "application/x-ndjson")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn encode_stream(
    State(app): State<AppState>,
    ask: Ask,
    Options(options): Options<StreamOptions>,
    request: Request,
) -> Result<Made, Problem> {
    let form = sent(request.headers(), "application/x-ndjson")?;
    // What names no type is taken as JSON elsewhere, and a line of it is JSON.
    if !matches!(form, Form::Lines | Form::Json) {
        return Err(Problem::unsupported_media_type("Content-Type", "application/x-ndjson"));
    }
    let coding = Coding::sent(request.headers())?;
    let vocab = wanted(options.vocab.as_deref(), options.model.as_deref()).map_err(query_place)?;
    let max_tokens = at_least_one("/query/max_tokens", options.max_tokens)?;
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, LINES)?;
    // A name that the vocabulary does not have would be wrong with every line.
    let policed = loaded.tokenizer.matcher(&policy(options.special, &options.allowed_special));
    policed.map_err(|e| query_place(Problem::encode("/allowed_special", &e.into())))?;

    let limits = Limits { bytes: usize::MAX, ratio: app.config.max_decompress_ratio };
    let decoder = coding.map(|coding| Decoder::new(coding, limits)).transpose();
    let decoder = decoder.map_err(|_| Problem::overloaded())?;
    let room = request.extensions().get::<Arc<Room>>().cloned();
    let own = room.as_ref().map(|room| room.apart());
    let mut lines = Lines::new(request.into_body(), decoder, app.config.max_body_bytes, own);
    // The head of the answer goes out when the first lines are there: only until then is a client told to go on sending that
    // waits to be told (`Expect: 100-continue`).
    let first = lines.batch().await;
    let of_a_line = |problem: &&Problem| ["line_too_long", "overloaded"].contains(&problem.code());
    if let Some(problem) = first.as_ref().and_then(Batch::only_problem).filter(|problem| !of_a_line(problem))
    {
        return Err(problem.clone());
    }
    let metrics = app.metrics.vocab(loaded.facts.name.as_str());
    let how = Arc::new(How { loaded: Arc::clone(&loaded), options, max_tokens, metrics });
    let answers = answers(app.clone(), how, first, lines, room);
    let body = match settled.coding {
        None => Body::from_stream(answers.map(io::Result::Ok)),
        Some(coding) => Body::from_stream(compressed(
            app,
            Encoder::new(coding).map_err(|_| Problem::overloaded())?,
            answers,
        )),
    };
    Ok(settled.headed(body, settled.coding).by_version(&loaded))
}

/// What all lines of a stream have in common.
#[derive(Debug)]
struct How {
    loaded: Arc<Loaded>,
    options: StreamOptions,
    max_tokens: Option<usize>,
    metrics: Arc<VocabMetrics>,
}

/// The answers, a batch of them at a time. While the next batches are worked on, the one before is sent.
fn answers(
    app: AppState,
    how: Arc<How>,
    first: Option<Batch>,
    lines: Lines,
    room: Option<Arc<Room>>,
) -> impl Stream<Item = Bytes> + Send {
    let at_once = app.config.encode_threads() + 1;
    let rest = stream::unfold(lines, async |mut lines| Some((lines.batch().await?, lines)));
    let all = stream::iter(first).chain(rest);
    let worked = all.map(move |batch| {
        let (app, how, room) = (Arc::clone(&app), Arc::clone(&how), room.clone());
        async move {
            let size = batch.len();
            let answer = app.cpu.run_in_turn(size, move || how.answer(&batch)).await;
            let answer = answer.unwrap_or_else(|problem| {
                let mut out = Vec::new();
                write_error(&mut out, None, None, &problem);
                out
            });
            streamed(answer, room.as_deref())
        }
    });
    worked.buffered(at_once)
}

impl How {
    fn answer(&self, batch: &Batch) -> Vec<u8> {
        let mut out = Vec::with_capacity(batch.len());
        let (mut bytes, mut tokens) = (0, 0);
        with_scratch(|scratch| {
            let options = EncodeOptions {
                special: policy(self.options.special, &self.options.allowed_special),
                add_special: self.options.add_special_tokens,
                offsets: self
                    .options
                    .wanted
                    .contains(&Return::Offsets)
                    .then(|| unit(self.options.offset_unit)),
                max_tokens: self.max_tokens,
                keep: keep(self.options.truncation_side),
            };
            let tokenizer = &self.loaded.tokenizer;
            let Ok(matcher) = tokenizer.matcher(&options.special) else { return };
            for (number, line) in batch.lines() {
                let line = match line {
                    Ok(line) => line,
                    Err(problem) => {
                        write_error(&mut out, None, Some(number), problem);
                        continue;
                    }
                };
                let StreamLine { id, text } = match parse(line) {
                    Ok(line) => line,
                    Err((id, problem)) => {
                        write_error(&mut out, id, Some(number), &problem);
                        continue;
                    }
                };
                let encoding = match tokenizer.encode_matched(&text, &matcher, &options, scratch) {
                    Ok(encoding) => encoding,
                    Err(error) => {
                        write_error(&mut out, id, Some(number), &Problem::encode("/text", &error));
                        continue;
                    }
                };
                (bytes, tokens) = (bytes + text.len(), tokens + encoding.ids.len());
                let mut object = Object::begin(&mut out);
                if let Some(id) = id {
                    object.raw("id", id.get());
                }
                object.value("count", &encoding.ids.len());
                Parts::new(&encoding, tokenizer, &self.options.wanted).write_json(&mut object);
                if self.max_tokens.is_some() {
                    object.value("truncated", &encoding.truncated);
                }
                object.end();
                out.push(b'\n');
            }
        });
        self.metrics.encoded(bytes as u64, tokens as u64);
        out
    }
}

fn parse(line: &[u8]) -> Result<StreamLine<'_>, (Option<&RawValue>, Problem)> {
    // serde reads an array as the fields in their order: that order is no part of the contract, and an array has no id.
    let object = Some(line).filter(|line| !line.trim_ascii_start().starts_with(b"["));
    object.and_then(|line| serde_json::from_slice(line).ok()).ok_or_else(|| {
        let problem = json::parse::<OwnLine>(line).err().unwrap_or_else(Problem::internal);
        let id = object.and_then(|line| serde_json::from_slice::<IdAlone<'_>>(line).ok()?.id);
        (id, problem)
    })
}

fn write_error(out: &mut Vec<u8>, id: Option<&RawValue>, line: Option<u64>, problem: &Problem) {
    let mut object = Object::begin(out);
    if let Some(id) = id {
        object.raw("id", id.get());
    }
    if let Some(line) = line {
        object.value("line", &line);
    }
    object.value("error", &problem.in_line());
    object.end();
    out.push(b'\n');
}

/// The same compressed, each piece so that it can be read to its end when it is there.
fn compressed(
    app: AppState,
    encoder: Encoder,
    answers: impl Stream<Item = Bytes> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let state = (Box::pin(answers), Some(encoder));
    stream::unfold(state, move |(mut answers, encoder)| {
        let app = Arc::clone(&app);
        async move {
            let mut encoder = encoder?;
            let Some(piece) = answers.next().await else {
                return Some((encoder.finish().map(Bytes::from), (answers, None)));
            };
            let size = piece.len();
            let work = move || {
                encoder.put(&piece)?;
                let small = encoder.flush()?;
                Ok::<_, io::Error>((encoder, small))
            };
            let outcome = app.cpu.run_in_turn(size, work).await;
            match outcome.map_err(|_| io::Error::other("compressing failed")).flatten() {
                Ok((encoder, small)) => Some((Ok(small.into()), (answers, Some(encoder)))),
                Err(error) => Some((Err(error), (answers, None))),
            }
        }
    })
}
