//! Probes, `/info`, `/metrics`. They look at figures that are there already and wait for nothing.

use super::problem::{Problem, ProblemBody};
use super::reply::Json;
use super::state::AppState;
use super::vocabs::FailureReply;
use crate::chat;
use crate::jobs::free_bytes;
use crate::telemetry::{METRICS_CONTENT_TYPE, Scrape};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// A state in a word.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusReply {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthReply {
    /// `ok`, or `degraded` when something could not be loaded (what was loaded before is served on).
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// Vocabularies with at least one version.
    vocabs: u64,
    /// What could not be loaded when the store was last read.
    failed: Vec<FailureReply>,
}

/// What this server is and where its limits are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InfoReply {
    /// The program's version.
    version: &'static str,
    /// What a request without `vocab` gets.
    default_vocab: String,
    /// Limits by the name of their setting, and by a name of their own the bounds on chat templates, which are no settings.
    limits: BTreeMap<String, u64>,
}

/// Bounds on chat templates, which are programs: no setting makes them take more.
fn fixed_limits() -> [(&'static str, u64); 3] {
    [
        ("max_chat_template_bytes", chat::MAX_TEMPLATE_BYTES as u64),
        ("max_chat_steps", chat::MAX_STEPS),
        ("max_chat_output_bytes", chat::MAX_OUTPUT_BYTES as u64),
    ]
}

/// Is the process alive?
#[utoipa::path(get, path = "/livez", tag = "operations", responses(
    (status = 200, description = "Yes", body = StatusReply)))]
pub(super) async fn livez() -> Json<StatusReply> {
    Json(StatusCode::OK, StatusReply { status: "ok" })
}

/// May requests be sent here?
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "Yes", body = StatusReply),
    (status = 503, description = "Not yet, or no longer", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn readyz(State(app): State<AppState>) -> Result<Json<StatusReply>, Problem> {
    if app.shutdown.is_cancelled() {
        return Err(Problem::not_ready("the server is going down"));
    }
    if !app.registry.ready() {
        return Err(Problem::not_ready("vocabularies are still being loaded"));
    }
    Ok(Json(StatusCode::OK, StatusReply { status: "ok" }))
}

/// How is it?
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Its state", body = HealthReply)))]
pub(super) async fn health(State(app): State<AppState>) -> Json<HealthReply> {
    let failed: Vec<FailureReply> = app.failed().iter().map(FailureReply::from).collect();
    let reply = HealthReply {
        status: if failed.is_empty() { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        vocabs: app.registry.residency().vocabs,
        failed,
    };
    Json(StatusCode::OK, reply)
}

/// What is it, and where are its limits?
#[utoipa::path(get, path = "/info", tag = "operations", responses(
    (status = 200, description = "Version and limits", body = InfoReply)))]
pub(super) async fn info(State(app): State<AppState>) -> Json<InfoReply> {
    let mut limits = app.config.limits();
    limits.extend(fixed_limits().map(|(name, limit)| (name.to_owned(), limit)));
    let default_vocab = app.registry.settings().default_vocab.to_string();
    Json(StatusCode::OK, InfoReply { version: env!("CARGO_PKG_VERSION"), default_vocab, limits })
}

/// Free bytes where the data directory is or will be.
fn disk_free(data_dir: &Path) -> u64 {
    data_dir
        .ancestors()
        .chain([Path::new(".")])
        .find_map(|folder| free_bytes(folder).ok())
        .unwrap_or_default()
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(app): State<AppState>) -> impl IntoResponse {
    let versions: Vec<(String, u32, String)> = app
        .registry
        .list()
        .into_iter()
        .flat_map(|listing| listing.versions)
        .map(|facts| (facts.name.to_string(), facts.version, facts.digest.to_string()))
        .collect();
    let scrape = Scrape {
        vocabs: versions
            .iter()
            .map(|(name, version, digest)| (name.as_str(), *version, digest.as_str()))
            .collect(),
        resident_bytes: app.registry.residency().resident_bytes,
        jobs: &app.jobs.counts().map(|(state, n)| (state.name(), n)),
        train_merges: app.jobs.merges_made(),
        inflight_bytes: app.cpu.bytes_in_flight(),
        admitted_bytes: app.admission.bytes_in_flight(),
        connections: app.connections.load(Relaxed),
        ready: !app.shutdown.is_cancelled() && app.registry.ready(),
        load_failures: app.failed().len() as u64,
        disk_free: disk_free(&app.config.data_dir),
        limits: &[
            ("max_connections", app.config.max_connections as u64),
            ("max_requests_in_flight", app.config.max_requests_in_flight),
            ("max_bytes_in_flight", app.config.bytes_in_flight()),
            ("max_resident_bytes", app.config.max_resident_bytes),
            ("max_queued_jobs", app.config.max_queued_jobs as u64),
            ("min_free_bytes", app.config.min_free_bytes),
        ],
        certificate_expiry: app.tls.as_ref().and_then(|tls| tls.expires()),
    };
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], app.metrics.render(&scrape))
}
