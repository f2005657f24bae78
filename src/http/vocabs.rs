//! `/vocabs` and `/reload`: list, import, export, aliases, removal.

pub(super) mod browse;
pub(super) mod diff;
pub(super) mod import;
mod parts;

use super::extract::{Path, Query};
use super::problem::{Problem, ProblemBody};
use super::reply::{Json, name_version, tag};
use super::state::AppState;
use crate::formats::{Format, export_files};
use crate::jobs::VocabTriple;
use crate::models::Refused;
use crate::registry::{
    AliasName, Failure, Precondition, SplitFacts, VersionFacts, VocabListing, VocabName, VocabRef,
};
use crate::store::Digest;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::{IntoParams, ToSchema};

/// Facts of one version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionReply {
    /// The vocabulary.
    name: String,
    /// Its number.
    version: u32,
    /// `sha256:` and the digest of its content.
    digest: String,
    /// Aliases that name it.
    aliases: Vec<String>,
    /// When it was published, RFC 3339.
    created_at: String,
    /// What it came as: `embedded`, `trained` or the format of the imported file.
    format: String,
    /// Where it came from.
    source: String,
    /// One more than the highest token id.
    vocab_size: u64,
    /// Number of tokens, special ones included.
    tokens: u64,
    /// Number of merges.
    merges: u64,
    /// Number of special and added tokens.
    special_tokens: u64,
    /// The split pattern: a family name, or its regexes.
    #[schema(value_type = SplitReply)]
    split: SplitFacts,
    /// The normalizer.
    normalizer: String,
    /// Length of the longest token in bytes.
    longest_token_bytes: u64,
    /// Size in the native format.
    native_bytes: u64,
    /// Figures of the training run that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    training: Option<serde_json::Value>,
}

/// A split pattern: the name of a family, or regexes.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Split)]
#[expect(dead_code, reason = "only described")]
enum SplitReply {
    /// A family.
    Family(String),
    /// Regexes, in order.
    Regexes(Vec<String>),
}

/// One vocabulary.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VocabReply {
    /// Its name.
    name: String,
    /// The version that the bare name means.
    latest: Option<u32>,
    /// Where its aliases are.
    aliases: BTreeMap<String, u32>,
    /// Its versions, ascending.
    versions: Vec<VersionReply>,
}

/// All vocabularies.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VocabsReply {
    /// What a request without `vocab` gets.
    default_vocab: String,
    /// By name.
    vocabs: Vec<VocabReply>,
}

/// Where to move an alias.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AliasRequest {
    /// The number of a version of the vocabulary.
    #[schema(example = 2)]
    version: u32,
}

/// A moved alias.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AliasReply {
    /// Its vocabulary.
    name: String,
    /// The alias.
    alias: String,
    /// Where it is now.
    vocab: VocabTriple,
    /// Where it was.
    previous: Option<VocabTriple>,
}

/// What a reload did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReloadReply {
    /// Versions that are new and aliases that moved.
    loaded: Vec<String>,
    /// How many versions and files are as they were.
    unchanged: u64,
    /// Versions and aliases that are gone.
    removed: Vec<String>,
    /// What could not be taken; the state before stays in its place.
    failed: Vec<FailureReply>,
}

/// Something that could not be loaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FailureReply {
    /// A version, an alias, a file in the import folder, `store`, `keys`, or the file of a model card.
    what: String,
    /// Why.
    problem: String,
}

impl From<&Failure> for FailureReply {
    fn from(failure: &Failure) -> Self {
        Self { what: failure.what.clone(), problem: failure.problem.clone() }
    }
}

impl From<&Refused> for FailureReply {
    fn from(refused: &Refused) -> Self {
        Self { what: refused.file.clone(), problem: refused.problem.clone() }
    }
}

/// What to write.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `native` (when left out), `hf`, `tiktoken` or `gpt2`.
    format: Option<String>,
    /// Which of the format's files, where it has several: the first one (the tokens) when left out. hf: `tokenizer.json`,
    /// `tokenizer_config.json`; gpt2: `vocab.json`, `merges.txt`; tiktoken: `tokenizer.tiktoken`, and `tokenizer.toml` with
    /// what that cannot hold.
    file: Option<String>,
}

fn version_reply(facts: &VersionFacts, aliases: &BTreeMap<AliasName, u32>) -> VersionReply {
    let f = facts.clone();
    VersionReply {
        aliases: aliases
            .iter()
            .filter(|(_, version)| **version == f.version)
            .map(|(a, _)| a.to_string())
            .collect(),
        name: f.name.to_string(),
        version: f.version,
        digest: f.digest.to_string(),
        created_at: f.created_at,
        format: f.format,
        source: f.source,
        vocab_size: f.vocab_size,
        tokens: f.tokens,
        merges: f.merges,
        special_tokens: f.special_tokens,
        split: f.split,
        normalizer: f.normalizer,
        longest_token_bytes: f.longest_token_bytes,
        native_bytes: f.native_bytes,
        training: f.training,
    }
}

fn vocab_reply(listing: &VocabListing) -> VocabReply {
    VocabReply {
        name: listing.name.to_string(),
        latest: listing.latest,
        aliases: listing.aliases.iter().map(|(alias, version)| (alias.to_string(), *version)).collect(),
        versions: listing
            .versions
            .iter()
            .map(|facts| {
                let mut reply = version_reply(facts, &listing.aliases);
                // A number for each token is too much for a list; it is told of one version.
                if let Some(serde_json::Value::Object(training)) = &mut reply.training {
                    training.remove("frequencies");
                }
                reply
            })
            .collect(),
    }
}

/// A name, alias or ref in the path.
fn segment<T: FromStr<Err = crate::registry::NameError>>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|e| Problem::name(format!("/path/{what}"), &e))
}

/// List all vocabularies.
#[utoipa::path(get, path = "/vocabs", operation_id = "list_vocabs", tag = "vocabs", responses(
    (status = 200, description = "All vocabularies", body = VocabsReply)))]
pub(super) async fn list(State(app): State<AppState>) -> Json<VocabsReply> {
    let vocabs = app.registry.list().iter().map(vocab_reply).collect();
    Json(
        StatusCode::OK,
        VocabsReply { default_vocab: app.registry.settings().default_vocab.to_string(), vocabs },
    )
}

/// Facts of one version.
#[utoipa::path(get, path = "/vocabs/{ref}", operation_id = "get_vocab", tag = "vocabs",
    params(("ref" = String, Path, description = "`name`, `name@3` or `name@alias`")),
    responses(
        (status = 200, description = "Its facts", body = VersionReply),
        (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not a ref", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn facts(
    State(app): State<AppState>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let wanted: VocabRef = segment("ref", &text)?;
    let facts = app.registry.facts(Some(&wanted))?;
    let aliases = app.registry.vocab(&facts.name).map(|listing| listing.aliases).unwrap_or_default();
    let mut response = Json(StatusCode::OK, version_reply(&facts, &aliases)).into_response();
    name_version(response.headers_mut(), &facts);
    Ok(response)
}

/// Download a version as a file.
#[utoipa::path(get, path = "/vocabs/{ref}/export", operation_id = "export_vocab", tag = "vocabs",
    params(("ref" = String, Path, description = "`name`, `name@3` or `name@alias`"), ExportQuery),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The format cannot hold it", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn download(
    State(app): State<AppState>,
    Path(text): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let wanted: VocabRef = segment("ref", &text)?;
    let format = format(query.format.as_deref(), "/query/format")?.unwrap_or(Format::Native);
    let loaded = app.registry.resolve(Some(&wanted)).await?;
    let facts = loaded.facts.clone();
    let size = facts.native_bytes as usize;
    let files = app.cpu.run_elsewhere(size, move || export_files(&loaded.tokenizer, format)).await?;
    let files = files.map_err(|e| Problem::format(&e, "/query"))?;
    let wanted = |name: &str| query.file.as_deref().is_none_or(|wanted| wanted == name);
    let Some((file_name, file)) = files.iter().find(|(name, _)| wanted(name)) else {
        let names: Vec<&str> = files.iter().map(|(name, _)| name).collect();
        return Err(Problem::invalid("/query/file", format!("must be one of {}", names.join(", "))));
    };
    let file = file.clone();
    // `tokenizer.json` is what such a file is called; the other main files are told by their extension alone.
    let ending = file_name.strip_prefix("tokenizer.").filter(|ending| *ending != "json").unwrap_or(file_name);
    let name = format!("attachment; filename=\"{}-{}.{ending}\"", facts.name, facts.version);
    let mut response = file.into_response();
    name_version(response.headers_mut(), &facts);
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The format in the field at `pointer`.
fn format(name: Option<&str>, pointer: &str) -> Result<Option<Format>, Problem> {
    let known = || Format::ALL.map(Format::name).join(", ");
    let Some(name) = name else { return Ok(None) };
    match Format::from_name(name) {
        Some(format) => Ok(Some(format)),
        None => Err(Problem::invalid(pointer, format!("must be one of {}", known()))),
    }
}

/// Remove a version that no alias names.
#[utoipa::path(delete, path = "/vocabs/{name}/versions/{version}", operation_id = "delete_version", tag = "vocabs",
    params(("name" = String, Path, description = "The vocabulary"), ("version" = u32, Path, description = "The number of the version")),
    responses(
        (status = 204, description = "Removed; its number is never used again"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn remove_version(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name: VocabName = segment("name", &name)?;
    let version =
        version.parse().map_err(|_| Problem::invalid("/path/version", "must be the number of a version"))?;
    app.registry.delete_version(&name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Move an alias, or make it.
///
/// Answered however much else there is to do; so the body may have no more than 64 KiB.
#[utoipa::path(put, path = "/vocabs/{name}/aliases/{alias}", tag = "vocabs",
    params(("name" = String, Path, description = "The vocabulary"), ("alias" = String, Path, description = "The alias: neither all digits nor `latest`"),
        ("If-Match" = Option<String>, Header, description = "The digest that the alias must be at now, or `*`"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only make, never move")),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "Moved", body = AliasReply),
        (status = 201, description = "Made", body = AliasReply),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn put_alias(
    State(app): State<AppState>,
    Path((name, alias)): Path<(String, String)>,
    headers: HeaderMap,
    super::extract::Payload(request): super::extract::Payload<AliasRequest>,
) -> Result<Response, Problem> {
    let (name, alias): (VocabName, AliasName) = (segment("name", &name)?, segment("alias", &alias)?);
    let change = app.registry.set_alias(&name, &alias, request.version, precondition(&headers)?).await?;
    let reply = AliasReply {
        name: name.to_string(),
        alias: alias.to_string(),
        vocab: VocabTriple::from(&*change.new),
        previous: change.old.as_deref().map(VocabTriple::from),
    };
    let status = if change.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = Json(status, reply).into_response();
    name_version(response.headers_mut(), &change.new);
    Ok(response)
}

/// Remove an alias.
#[utoipa::path(delete, path = "/vocabs/{name}/aliases/{alias}", operation_id = "delete_alias", tag = "vocabs",
    params(("name" = String, Path, description = "The vocabulary"), ("alias" = String, Path, description = "The alias: neither all digits nor `latest`"),
        ("If-Match" = Option<String>, Header, description = "The digest that the alias must be at now, or `*`")),
    responses(
        (status = 204, description = "Removed"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn remove_alias(
    State(app): State<AppState>,
    Path((name, alias)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (name, alias): (VocabName, AliasName) = (segment("name", &name)?, segment("alias", &alias)?);
    app.registry.remove_alias(&name, &alias, precondition(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap_or_default());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::None),
        (None, Some(any)) if any.trim() == "*" => Ok(Precondition::IfNoneMatchAny),
        (Some(any), None) if any.trim() == "*" => Ok(Precondition::IfMatchAny),
        (Some(tags), None) => {
            let digests: Option<Vec<Digest>> = tags.split(',').map(|t| Digest::parse(tag(t))).collect();
            let invalid =
                || Problem::invalid("/header/if-match", "must be a digest (sha256:...) in quotes, or *");
            digests.map(Precondition::IfMatch).ok_or_else(invalid)
        }
        (None, Some(_)) => Err(Problem::invalid("/header/if-none-match", "must be *")),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("/header/if-none-match", "cannot be given together with If-Match"))
        }
    }
}

/// Read the store, the import folder and the file of keys again.
#[utoipa::path(post, path = "/reload", tag = "vocabs", responses(
    (status = 200, description = "What changed, and what could not be taken", body = ReloadReply)))]
pub(super) async fn reload(State(app): State<AppState>) -> Json<ReloadReply> {
    let report = app.reload().await;
    let refs = |refs: &[VocabRef]| refs.iter().map(ToString::to_string).collect();
    let reply = ReloadReply {
        loaded: refs(&report.loaded),
        unchanged: report.unchanged,
        removed: refs(&report.removed),
        failed: report.failed.iter().map(FailureReply::from).collect(),
    };
    Json(StatusCode::OK, reply)
}
