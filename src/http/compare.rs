//! `/compare`: how vocabularies cut texts, side by side.

use super::corpus::{CorpusFields, Figures};
use super::extract::Payload;
use super::extract::list::{List, VOCABS};
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, Ask, Made};
use super::state::AppState;
use crate::analysis::compare::{Fragmentation, Measure, Texts, ratio};
use crate::engine::TokenId;
use crate::jobs::{CorpusFormat, InvalidUtf8, Records, VocabTriple};
use crate::registry::{Loaded, VocabRef};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Vocabularies, and what they are to cut: exactly one of `text`, `texts` and `upload`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompareRequest {
    /// The vocabularies: `name`, `name@3` or `name@alias`; at least one, and at most the setting `max_compare_vocabs` (16).
    #[schema(example = json!(["default"]), value_type = Vec<String>, min_items = 1)]
    vocabs: List<String, VOCABS>,
    /// One text.
    #[schema(example = "Hello, 世界! 😀")]
    text: Option<String>,
    /// Several texts, each of which is a document.
    #[schema(value_type = Option<Vec<String>>)]
    texts: Option<List<String>>,
    /// The id of an upload. It is read as it goes, and never held in memory.
    upload: Option<String>,
    /// What the upload holds. gzip and zstd are told by their first bytes.
    #[schema(default = json!("text"))]
    format: Option<CorpusFormat>,
    /// The JSONL field or Parquet column that holds the text.
    #[schema(default = "text")]
    field: Option<String>,
    /// What of a text upload is a document: `lines` (with their line feeds) or `paragraphs`.
    #[schema(default = json!("lines"))]
    records: Option<Records>,
    /// What happens to bytes of the upload that are not UTF-8: an error that names their place, or they become U+FFFD.
    #[schema(default = json!("error"))]
    invalid_utf8: Option<InvalidUtf8>,
}

/// Figures of the texts, and of each vocabulary.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompareReply {
    /// Number of texts.
    documents: u64,
    /// UTF-8 bytes of all texts.
    bytes: u64,
    /// Characters (Unicode scalar values) of all texts.
    characters: u64,
    /// Words of all texts (Unicode Standard Annex 29); each Chinese character is one.
    words: u64,
    /// Parts of an upload that were not UTF-8 and became U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replaced: Option<u64>,
    /// One for each of `vocabs`, in their order.
    results: Vec<CompareResult>,
}

impl Answer for CompareReply {}

/// What one vocabulary makes of the texts. Names of special tokens are plain text, and none are added.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompareResult {
    /// The version that made this.
    vocab: VocabTriple,
    /// Tokens of all texts.
    count: u64,
    /// Bytes that a token stands for, on average; null where there is no token.
    bytes_per_token: Option<f64>,
    /// Characters that a token stands for, on average; null where there is no token.
    characters_per_token: Option<f64>,
    /// Tokens that a word is in, on average; null where there is no word.
    tokens_per_word: Option<f64>,
    /// The share of the words that are in one token as a whole; null where there is no word.
    one_token_words: Option<f64>,
    /// How many different tokens were used.
    distinct_tokens: u64,
    /// Tokens of the documents.
    per_document: PerDocument,
    /// By script how its characters were cut: han, kana, hangul, latin, cyrillic, arabic, devanagari, thai, digit, punctuation
    /// (with symbols), emoji, space and other; those that occur.
    fragmentation: BTreeMap<&'static str, FragmentationBody>,
    /// The ids of `text`, where that has at most `max_compare_span_bytes` (16,384).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<u32>, required = false)]
    ids: Option<Vec<TokenId>>,
    /// Start and end in bytes of each token of `text`, where there are `ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    spans: Option<Vec<[usize; 2]>>,
}

/// Numbers of tokens of the documents; null where there is no document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PerDocument {
    /// Half of the documents have no more.
    p50: Option<u64>,
    /// 95 of a hundred have no more.
    p95: Option<u64>,
    /// None has more.
    max: Option<u64>,
}

/// How the characters of a script were cut.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fragmentation)]
pub(super) struct FragmentationBody {
    /// Characters of the script.
    characters: u64,
    /// Those that are in one token as a whole.
    whole: u64,
    /// Those that are split into bytes, which several tokens share.
    split: u64,
    /// Those in place of which the unknown token stands. What is none of the three was left out by a normalizer.
    unknown: u64,
    /// Tokens whose last character is of the script.
    tokens: u64,
}

impl From<Fragmentation> for FragmentationBody {
    fn from(from: Fragmentation) -> Self {
        let Fragmentation { characters, whole, split, unknown, tokens } = from;
        Self { characters, whole, split, unknown, tokens }
    }
}

/// Compare how vocabularies cut texts.
#[utoipa::path(post, path = "/compare", tag = "analysis",
    request_body(content((CompareRequest = "application/json"), (CompareRequest = "application/msgpack"))),
    responses(
    (status = 200, description = "The figures",
        content((CompareReply = "application/json"), (CompareReply = "application/msgpack"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn compare(
    State(app): State<AppState>,
    ask: Ask,
    Payload(mut request): Payload<CompareRequest>,
) -> Result<Made, Problem> {
    let settled = ask.settle_alone()?;
    let loaded = resolve(&app, &request.vocabs).await?;
    let with_spans =
        request.text.as_ref().is_some_and(|text| text.len() <= app.config.max_compare_span_bytes);
    let corpus = request.corpus().open(&app)?;
    let told = move |figures: Figures<'_>| settled.alone(&reply(figures));
    corpus.measure(&app, loaded, with_spans, told).await
}

impl CompareRequest {
    fn corpus(&mut self) -> CorpusFields {
        CorpusFields {
            text: self.text.take(),
            texts: self.texts.take(),
            upload: self.upload.take(),
            format: self.format,
            field: self.field.take(),
            records: self.records,
            invalid_utf8: self.invalid_utf8,
        }
    }
}

async fn resolve(app: &AppState, vocabs: &[String]) -> Result<Vec<Arc<Loaded>>, Problem> {
    if vocabs.is_empty() {
        return Err(Problem::invalid("/vocabs", "must name at least one vocabulary"));
    }
    let mut loaded = Vec::with_capacity(vocabs.len());
    for (index, text) in vocabs.iter().enumerate() {
        let pointer = format!("/vocabs/{index}");
        let wanted: VocabRef = text.parse().map_err(|e| Problem::name(&pointer, &e))?;
        let found = app.registry.resolve(Some(&wanted)).await;
        loaded.push(found.map_err(|e| Problem::from(e).at(pointer))?);
    }
    Ok(loaded)
}

fn reply(figures: Figures<'_>) -> CompareReply {
    let Texts { documents, bytes, characters, words } = figures.all;
    let results = figures.of_each.iter().map(|(version, measure)| result(version, measure, &figures.all));
    let mut results: Vec<CompareResult> = results.collect();
    for (result, cut) in results.iter_mut().zip(figures.cut) {
        result.spans = Some(cut.spans.iter().map(|span| [span.start, span.end]).collect());
        result.ids = Some(cut.ids);
    }
    CompareReply { documents, bytes, characters, words, replaced: figures.replaced, results }
}

fn result(version: &Loaded, measure: &Measure<'_>, all: &Texts) -> CompareResult {
    CompareResult {
        vocab: VocabTriple::from(&*version.facts),
        count: measure.tokens,
        bytes_per_token: round(ratio(all.bytes, measure.tokens)),
        characters_per_token: round(ratio(all.characters, measure.tokens)),
        tokens_per_word: round(measure.tokens_per_word()),
        one_token_words: round(measure.one_token_words()),
        distinct_tokens: measure.distinct_tokens(),
        per_document: PerDocument {
            p50: measure.percentile(50),
            p95: measure.percentile(95),
            max: measure.most(),
        },
        fragmentation: measure.fragmentation().map(|(script, f)| (script.name(), f.into())).collect(),
        ids: None,
        spans: None,
    }
}

/// Six digits behind the point are more than anybody compares.
pub(super) fn round(number: Option<f64>) -> Option<f64> {
    number.map(|number| (number * 1e6).round() / 1e6)
}
