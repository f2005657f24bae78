//! What every handler can reach.

use super::cpu::Cpu;
use crate::config::Config;
use crate::fetch::UrlPolicy;
use crate::jobs::{JobQueue, JobsSettings, UploadLimits, Uploads};
use crate::registry::Registry;
use crate::store::StoreError;
use crate::telemetry::Metrics;
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
    /// Vocabularies.
    pub registry: Registry,
    /// Training jobs and uploads.
    pub jobs: JobQueue,
    /// Where texts too long for the async threads are encoded.
    pub cpu: Cpu,
    /// Whose turn it is to read a whole corpus for an answer: one request at a time.
    pub corpora: Arc<Semaphore>,
    /// Figures.
    pub metrics: Metrics,
    /// Connections open now.
    pub connections: Arc<AtomicU64>,
    /// Cancelled when the server goes down.
    pub shutdown: CancellationToken,
}

impl App {
    /// Puts a server together from its settings and an open registry, and starts the workers of its jobs on the
    /// current runtime. Cancelling `shutdown` refuses new jobs, ends event streams and makes `/readyz` say no.
    ///
    /// # Errors
    /// The records of jobs cannot be listed.
    pub async fn open(
        config: Config,
        registry: Registry,
        shutdown: CancellationToken,
    ) -> Result<AppState, StoreError> {
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
            urls: UrlPolicy::parse(&config.corpus_urls),
            max_url_bytes: config.max_upload_bytes,
        };
        let jobs = JobQueue::open(registry.clone(), uploads, settings).await?;
        Ok(Arc::new(Self {
            cpu: Cpu::new(config.inline_bytes, config.encode_threads(), config.max_waiting_encodes),
            corpora: Arc::new(Semaphore::new(1)),
            metrics: Metrics::new(env!("CARGO_PKG_VERSION")),
            connections: Arc::new(AtomicU64::new(0)),
            config,
            registry,
            jobs,
            shutdown,
        }))
    }
}

/// The state of the router: one reference.
pub type AppState = Arc<App>;
