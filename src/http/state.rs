//! What every handler can reach.

use super::admission::Admission;
use super::cpu::Cpu;
use super::listen::{Tls, TlsError};
use crate::config::Config;
use crate::fetch::{self, FetchError, UrlPolicy};
use crate::jobs::{JobQueue, JobsSettings, UploadLimits, Uploads};
use crate::keys::{Keys, KeysError};
use crate::models::{Models, Refused};
use crate::registry::{Failure, Registry, ReloadReport};
use crate::store::StoreError;
use crate::telemetry::{Metrics, Traces};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The parts of a running server.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub config: Config,
    /// Who may call.
    pub keys: Keys,
    /// What clients are shown that speak TLS, if they must.
    pub tls: Option<Arc<Tls>>,
    /// Vocabularies.
    pub registry: Registry,
    /// Cards of base models.
    pub models: ArcSwap<Models>,
    /// Training jobs and uploads.
    pub jobs: JobQueue,
    /// How much is taken on at once.
    pub admission: Arc<Admission>,
    /// Where texts too long for the async threads are encoded.
    pub cpu: Cpu,
    /// Whose turn it is to read a whole corpus for an answer: one request at a time.
    pub corpora: Arc<Semaphore>,
    /// Figures.
    pub metrics: Metrics,
    /// Where spans of requests go, if they go anywhere.
    pub traces: Option<Traces>,
    /// Connections open now.
    pub connections: Arc<AtomicU64>,
    /// Cancelled when the server goes down.
    pub shutdown: CancellationToken,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The setting `keys_file` names no good file.
    #[error("setting keys_file: {0}")]
    Keys(#[from] KeysError),
    /// The settings `tls_cert` and `tls_key` name no good files.
    #[error("setting {0}")]
    Tls(#[from] TlsError),
    /// There is no client for the setting `otlp_endpoint`.
    #[error("setting otlp_endpoint: {0}")]
    Traces(#[from] FetchError),
    /// The records of jobs cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Puts a server together from its settings and an open registry, and starts the workers of its jobs on the
    /// current runtime. Cancelling `shutdown` refuses new jobs, ends event streams and makes `/readyz` say no.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn open(
        config: Config,
        registry: Registry,
        shutdown: CancellationToken,
    ) -> Result<AppState, AppError> {
        let keys = Keys::open(config.keys_file())?;
        let tls = config.tls().map(|(cert, key)| Tls::open(cert, key)).transpose()?;
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let traces = match config.otlp_endpoint() {
            None => None,
            Some(url) => {
                let (client, url) = fetch::client(url)?;
                Some(Traces::start(client, url, config.otlp_sample_percent, metrics.spans()))
            }
        };
        let limits = UploadLimits {
            max_bytes: config.max_upload_bytes,
            max_ratio: config.max_decompress_ratio as u64,
            min_free_bytes: config.min_free_bytes,
            ttl: config.upload_ttl(),
        };
        let uploads = Uploads::new(config.data_dir.join("uploads"), limits);
        let settings = JobsSettings {
            max_running: config.max_running_jobs,
            max_queued: config.max_queued_jobs,
            threads: config.train_threads(),
            max_records: config.max_job_records,
            min_free_bytes: config.min_free_bytes,
            corpus_root: config.corpus_root().map(Arc::from),
            scratch: config.data_dir.join("scratch").into(),
            max_memory: usize::try_from(config.train_max_memory_bytes).unwrap_or(usize::MAX),
            checkpoint_every: Duration::from_secs(config.train_checkpoint_seconds),
            take_over_after: Duration::from_secs(config.take_over_seconds),
            urls: UrlPolicy::parse(&config.corpus_urls),
            max_url_bytes: config.max_upload_bytes,
        };
        let models = ArcSwap::from_pointee(read_models(&config).await);
        let jobs = JobQueue::open(registry.clone(), uploads, settings).await?;
        Ok(Arc::new(Self {
            admission: Admission::new(config.max_requests_in_flight, config.bytes_in_flight()),
            cpu: Cpu::new(config.inline_bytes, config.encode_threads(), config.max_waiting_encodes),
            corpora: Arc::new(Semaphore::new(1)),
            metrics,
            traces,
            connections: Arc::new(AtomicU64::new(0)),
            config,
            keys,
            tls,
            registry,
            models,
            jobs,
            shutdown,
        }))
    }
}

impl App {
    /// Reads the keys, the certificate, the store, the import folder and the model cards again.
    pub async fn reload(&self) -> ReloadReport {
        let keys = self.keys.reload();
        let tls = self.tls.as_ref().map_or(Ok(()), |tls| tls.reload());
        let mut report = self.registry.reload().await;
        report.failed.extend(keys.err().map(|error| failure("keys", &*error)));
        report.failed.extend(tls.err().map(|error| failure("tls", &*error)));
        let models = read_models(&self.config).await;
        report.failed.extend(models.failed.iter().map(card_failure));
        self.models.store(Arc::new(models));
        self.metrics.reloaded(report.failed.is_empty());
        report
    }

    /// What could not be loaded when it was last tried.
    pub fn failed(&self) -> Vec<Failure> {
        let mut failed = Vec::clone(&self.registry.failed());
        failed.extend(self.keys.failure().map(|error| failure("keys", &*error)));
        let tls = self.tls.as_ref().and_then(|tls| tls.failure());
        failed.extend(tls.map(|error| failure("tls", &*error)));
        failed.extend(self.models.load().failed.iter().map(card_failure));
        failed
    }
}

fn failure(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure { what: what.to_owned(), problem: error.to_string() }
}

fn card_failure(refused: &Refused) -> Failure {
    Failure { what: refused.file.clone(), problem: refused.problem.clone() }
}

/// The cards that come with the program and those of the user's folder, off the async threads.
async fn read_models(config: &Config) -> Models {
    let folder = config.models_dir();
    // The work does not panic; were it to, there are the cards of the program.
    let read = tokio::task::spawn_blocking(move || Models::with_folder(&folder)).await;
    read.unwrap_or_else(|_| Models::embedded())
}

/// The state of the router: one reference.
pub type AppState = Arc<App>;
