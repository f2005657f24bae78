//! `/models/compare`: base models over the user's own texts, filtered and ranked by the user's own weights.

use super::super::compare::round;
use super::super::corpus::{CorpusFields, Figures};
use super::super::extract::Payload;
use super::super::extract::list::{List, MODELS};
use super::super::problem::{Problem, ProblemBody};
use super::super::reply::{Ask, Made};
use super::super::state::{App, AppState};
use super::missing;
use super::reply::{
    CacheReply, CompareModelsReply, ContextReply, CostReply, KeptWhole, ModelResult, ServingReply,
    TokensOfDocuments,
};
use crate::analysis::compare::{Measure, Texts, ratio};
use crate::jobs::{CorpusFormat, InvalidUtf8, Records, VocabTriple};
use crate::models::card::Card;
use crate::models::derive::{Precision, cache_bytes, gpus};
use crate::models::filter::{Filter, Measured, Verdict};
use crate::models::rank::{Candidate, OnTexts, Weights, WeightsError, rank};
use crate::models::{Model, Models};
use crate::registry::{Loaded, ResolveError, VocabRef};
use axum::extract::State;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use utoipa::ToSchema;

/// Models, what they are to read (exactly one of `text`, `texts` and `upload`), what they must have, and what counts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CompareModelsRequest {
    /// Names of models, at most the setting `max_compare_models` (64); all that there are cards of, where left out.
    #[schema(example = json!(["qwen2.5-7b", "yi-6b"]), value_type = Option<Vec<String>>)]
    models: Option<List<String, MODELS>>,
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
    /// How the models would be served.
    #[serde(default)]
    serving: ServingRequest,
    /// By model what a million tokens of input cost, in any currency.
    #[serde(default)]
    prices: BTreeMap<String, f64>,
    /// Languages (BCP 47) for the factor `languages`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    languages: Vec<String>,
    /// What a model must have to be kept.
    #[serde(default)]
    filter: Filter,
    /// By factor how much it counts; `GET /models` lists the factors. Without it nothing is ranked.
    #[schema(example = json!({"context": 1, "cost": 2, "benchmark:MMLU": 1}))]
    weights: Option<BTreeMap<String, f64>>,
}

/// How models would be served.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::http) struct ServingRequest {
    /// Bytes that a GPU has for weights and caches (80 GiB).
    #[schema(default = 85_899_345_920_u64)]
    gpu_bytes: u64,
    /// Precision of the weights.
    #[schema(default = json!("bf16"))]
    weights: Precision,
    /// Requests at once.
    #[schema(default = 1)]
    batch: u64,
    /// Tokens of each; those of the longest document, where left out.
    length: Option<u64>,
}

impl Default for ServingRequest {
    fn default() -> Self {
        Self { gpu_bytes: 80 << 30, weights: Precision::default(), batch: 1, length: None }
    }
}

/// More is no request to a model.
const MAX_LENGTH: u64 = 1_000_000_000;
const MAX_BATCH: u64 = 1_000_000;
const MAX_LANGUAGES: usize = 100;

/// A request whose every field has been checked.
struct Plan {
    models: Vec<Arc<Model>>,
    /// By model the place of its vocabulary among the loaded ones.
    vocabs: Vec<Option<usize>>,
    serving: ServingRequest,
    prices: BTreeMap<String, f64>,
    languages: Vec<String>,
    filter: Filter,
    weights: Option<Weights>,
}

/// Compare base models over one's own texts, and choose among them.
#[utoipa::path(post, path = "/models/compare", operation_id = "compare_models", tag = "models",
    request_body(content((CompareModelsRequest = "application/json"), (CompareModelsRequest = "application/msgpack"))),
    responses(
    (status = 200, description = "The figures, and the ranking",
        content((CompareModelsReply = "application/json"), (CompareModelsReply = "application/msgpack"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn compare(
    State(app): State<AppState>,
    ask: Ask,
    Payload(request): Payload<CompareModelsRequest>,
) -> Result<Made, Problem> {
    let settled = ask.settle_alone()?;
    let (mut plan, corpus) = request.check(&app)?;
    let loaded = plan.load(&app).await?;
    let corpus = corpus.open(&app)?;
    corpus.measure(&app, loaded, false, move |figures| settled.alone(&plan.reply(&figures))).await
}

impl CompareModelsRequest {
    fn check(self, app: &App) -> Result<(Plan, CorpusFields), Problem> {
        let models = app.models.load();
        let chosen = chosen(&models, self.models.as_deref(), app.config.max_compare_models)?;
        let ServingRequest { gpu_bytes, batch, length, .. } = self.serving;
        if gpu_bytes == 0 {
            return Err(Problem::invalid("/serving/gpu_bytes", "must be at least 1"));
        }
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(Problem::invalid("/serving/batch", format!("must be 1 to {MAX_BATCH}")));
        }
        if length.is_some_and(|length| !(1..=MAX_LENGTH).contains(&length)) {
            return Err(Problem::invalid("/serving/length", format!("must be 1 to {MAX_LENGTH}")));
        }
        for (name, price) in &self.prices {
            if !chosen.iter().any(|model| model.card.name == *name) {
                return Err(Problem::invalid(
                    member("/prices", name),
                    "is none of the models that are compared",
                ));
            }
            if !price.is_finite() || *price < 0.0 {
                return Err(Problem::invalid(
                    member("/prices", name),
                    "must be a number that is not below 0",
                ));
            }
        }
        for (pointer, list) in [
            ("/languages", Some(&self.languages)),
            ("/filter/languages", self.filter.languages.as_ref()),
            ("/filter/licences", self.filter.licences.as_ref()),
            ("/filter/modalities", self.filter.modalities.as_ref()),
            ("/filter/variants", self.filter.variants.as_ref()),
        ] {
            if list.is_some_and(|list| list.len() > MAX_LANGUAGES) {
                return Err(Problem::too_many(pointer, MAX_LANGUAGES));
            }
        }
        let weights = self.weights.as_ref().map(Weights::new).transpose().map_err(|e| weights_problem(&e))?;
        let weighs_languages =
            self.weights.iter().flatten().any(|(name, weight)| name == "languages" && *weight > 0.0);
        if weighs_languages && self.languages.is_empty() {
            return Err(Problem::invalid(
                "/weights/languages",
                "needs the field languages, which says which",
            ));
        }
        let plan = Plan {
            vocabs: Vec::with_capacity(chosen.len()),
            models: chosen,
            serving: self.serving,
            prices: self.prices,
            languages: self.languages,
            filter: self.filter,
            weights,
        };
        let corpus = CorpusFields {
            text: self.text,
            texts: self.texts,
            upload: self.upload,
            format: self.format,
            field: self.field,
            records: self.records,
            invalid_utf8: self.invalid_utf8,
        };
        Ok((plan, corpus))
    }
}

fn chosen(models: &Models, names: Option<&[String]>, limit: usize) -> Result<Vec<Arc<Model>>, Problem> {
    let Some(names) = names else {
        return match models.iter().len() {
            all if all > limit => Err(Problem::too_many("/models", limit)),
            _ => Ok(models.iter().cloned().collect()),
        };
    };
    if names.is_empty() {
        return Err(Problem::invalid("/models", "must name at least one model"));
    }
    let mut chosen: Vec<Arc<Model>> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("/models/{index}");
        let model = models.get(name).ok_or_else(|| Problem::unknown_card(&pointer, &models.near(name)))?;
        if chosen.iter().any(|other| other.card.name == *name) {
            return Err(Problem::invalid(pointer, "names a model for the second time"));
        }
        chosen.push(Arc::clone(model));
    }
    Ok(chosen)
}

fn weights_problem(error: &WeightsError) -> Problem {
    match error {
        WeightsError::Unknown { factor, .. } | WeightsError::Range { factor } => {
            Problem::invalid(member("/weights", factor), error.to_string())
        }
        WeightsError::Zero => Problem::invalid("/weights", error.to_string()),
    }
}

/// Pointer to a member, where its name cannot be somebody's text.
fn member(object: &str, name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.: ".contains(&b);
    match name.len() <= 64 && name.bytes().all(plain) {
        true => format!("{object}/{name}"),
        false => object.to_owned(),
    }
}

impl Plan {
    /// Loads each vocabulary once; a model whose vocabulary is not there goes without.
    async fn load(&mut self, app: &App) -> Result<Vec<Arc<Loaded>>, Problem> {
        let mut loaded: Vec<Arc<Loaded>> = Vec::new();
        let mut places: HashMap<&str, Option<usize>> = HashMap::new();
        for (index, model) in self.models.iter().enumerate() {
            let reference = model.card.vocab.reference.as_str();
            if !places.contains_key(reference) {
                let place = match reference.parse::<VocabRef>() {
                    Err(_) => None,
                    Ok(wanted) => match app.registry.resolve(Some(&wanted)).await {
                        Ok(version) => {
                            loaded.push(version);
                            Some(loaded.len() - 1)
                        }
                        Err(
                            ResolveError::UnknownVocab { .. }
                            | ResolveError::UnknownVersion { .. }
                            | ResolveError::UnknownAlias { .. },
                        ) => None,
                        Err(e @ (ResolveError::Unavailable { .. } | ResolveError::NoRoom { .. })) => {
                            return Err(Problem::from(e).at(format!("/models/{index}")));
                        }
                    },
                };
                places.insert(reference, place);
                let limit = app.config.max_compare_vocabs;
                if loaded.len() > limit {
                    let detail =
                        format!("have over {limit} vocabularies, which is the setting max_compare_vocabs");
                    return Err(Problem::invalid("/models", detail));
                }
            }
            self.vocabs.push(places[reference]);
        }
        Ok(loaded)
    }

    fn reply(&self, figures: &Figures<'_>) -> CompareModelsReply {
        let Texts { documents, bytes, characters, words } = figures.all;
        let looked_at: Vec<Looked<'_>> = (self.models.iter().zip(&self.vocabs))
            .map(|(model, vocab)| self.look(model, vocab.map(|at| &figures.of_each[at]), &figures.all))
            .collect();
        let costs = looked_at.iter().filter_map(|looked| looked.candidate.flops_per_million_characters());
        let cheapest = costs.min_by(f64::total_cmp);
        let mut results: Vec<ModelResult> =
            looked_at.iter().map(|looked| looked.result(self, &figures.all, cheapest)).collect();
        if let Some(weights) = &self.weights {
            let (candidates, places): (Vec<Candidate<'_>>, Vec<usize>) = (looked_at.iter().zip(0..))
                .filter(|(looked, _)| self.filter.keeps(&looked.verdict))
                .map(|(looked, at)| (looked.candidate, at))
                .unzip();
            for (ranking, at) in rank(&candidates, weights).into_iter().zip(places) {
                let result = &mut results[at];
                result.rank = ranking.rank;
                result.score = round(ranking.score);
                result.score_range = Some(ranking.range.map(|score| (score * 1e6).round() / 1e6));
                result.known_weight = round(Some(ranking.known_weight));
                result.factors = ranking.factors;
                result.factors.iter_mut().for_each(|factor| factor.score = round(factor.score));
            }
        }
        CompareModelsReply { documents, bytes, characters, words, replaced: figures.replaced, results }
    }

    fn look<'p>(
        &'p self,
        model: &'p Model,
        measured: Option<&'p (&'p Arc<Loaded>, Measure<'p>)>,
        all: &Texts,
    ) -> Looked<'p> {
        let Model { card, derived, .. } = model;
        let measure = measured.map(|(_, measure)| measure);
        let whole = |measure: &Measure<'_>| measure.fragmentation().map(|(_, f)| f.whole).sum();
        let longest = measure.and_then(Measure::most);
        let weight_bytes = derived.weight_bytes.map(|bytes| bytes.at(self.serving.weights));
        let length = self.serving.length.or(longest);
        let kv_bytes = length.and_then(|length| cache_bytes(card, length));
        let kv_bytes = kv_bytes.map(|bytes| bytes.saturating_mul(self.serving.batch));
        let memory = weight_bytes.zip(kv_bytes).map(|(weights, caches)| weights.saturating_add(caches));
        let gpus = memory.map(|memory| gpus(memory, self.serving.gpu_bytes));
        let serving = ServingReply { weight_bytes, kv_bytes, total_bytes: memory, gpus };
        Looked {
            version: measured.map(|(version, _)| *version),
            measure,
            candidate: Candidate {
                name: &card.name,
                card,
                derived,
                on_texts: measure.map(|measure| OnTexts {
                    tokens: measure.tokens,
                    characters: all.characters,
                    whole: whole(measure),
                }),
                weight_bytes,
                memory,
                languages: &self.languages,
            },
            verdict: self.filter.verdict(card, derived, Measured { longest, memory, gpus }),
            serving,
        }
    }
}

/// A model, and what its vocabulary makes of the texts.
struct Looked<'p> {
    version: Option<&'p Arc<Loaded>>,
    measure: Option<&'p Measure<'p>>,
    candidate: Candidate<'p>,
    verdict: Verdict,
    serving: ServingReply,
}

impl Looked<'_> {
    fn result(&self, plan: &Plan, all: &Texts, cheapest: Option<f64>) -> ModelResult {
        let (card, measure) = (self.candidate.card, self.measure);
        let longest = measure.and_then(Measure::most);
        let ServingReply { weight_bytes, kv_bytes, total_bytes, gpus } = self.serving;
        let flops = self.candidate.flops_per_million_characters();
        let tokens = self.candidate.tokens_per_million_characters();
        let relative = flops.zip(cheapest).and_then(|(flops, least)| (least > 0.0).then(|| flops / least));
        let price = plan.prices.get(&card.name).zip(tokens).map(|(price, tokens)| price * tokens / 1e6);
        let length = card.context_length;
        ModelResult {
            name: card.name.clone(),
            vocab: self.version.map(|version| VocabTriple::from(&*version.facts)),
            missing_vocab: self.version.is_none().then(|| missing(card)),
            count: measure.map(|measure| measure.tokens),
            bytes_per_token: measure.and_then(|measure| round(ratio(all.bytes, measure.tokens))),
            characters_per_token: measure.and_then(|measure| round(ratio(all.characters, measure.tokens))),
            per_document: measure.map(|measure| TokensOfDocuments {
                p50: measure.percentile(50),
                p95: measure.percentile(95),
                max: measure.most(),
            }),
            kept_whole: measure.map(|measure| kept_whole(measure, all)),
            context: ContextReply {
                length,
                share: round(longest.zip(length).and_then(|(longest, length)| ratio(longest, length))),
                longer_documents: measure.zip(length).map(|(measure, length)| measure.longer_than(length)),
            },
            kv_bytes: measure.and_then(|measure| caches(card, measure)),
            cost: CostReply {
                tokens_per_million_characters: round(tokens),
                flops_per_million_characters: flops,
                relative: round(relative),
                price_per_million_characters: round(price),
            },
            serving: ServingReply { weight_bytes, kv_bytes, total_bytes, gpus },
            kept: plan.filter.keeps(&self.verdict),
            fails: self.verdict.fails.clone(),
            unknown: self.verdict.unknown.clone(),
            rank: None,
            score: None,
            score_range: None,
            known_weight: None,
            factors: Vec::new(),
        }
    }
}

fn kept_whole(measure: &Measure<'_>, all: &Texts) -> KeptWhole {
    let whole = measure.fragmentation().map(|(_, f)| f.whole).sum();
    let scripts = measure.fragmentation().filter_map(|(script, f)| {
        let share = round(ratio(f.whole, f.characters))?;
        Some((script.name(), share))
    });
    KeptWhole { share: round(ratio(whole, all.characters)), scripts: scripts.collect() }
}

/// The cache of the longest document, and that of all: document by document, as a window may end each.
fn caches(card: &Card, measure: &Measure<'_>) -> Option<CacheReply> {
    let mut all = 0u64;
    for (tokens, documents) in measure.lengths() {
        all = all.saturating_add(cache_bytes(card, tokens)?.saturating_mul(documents));
    }
    Some(CacheReply { longest: cache_bytes(card, measure.most()?)?, all })
}
