//! What every handler can reach.

use super::cpu::Cpu;
use crate::config::Config;
use crate::jobs::JobQueue;
use crate::registry::Registry;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    /// Figures.
    pub metrics: Metrics,
    /// Connections open now.
    pub connections: Arc<AtomicU64>,
    /// Cancelled when the server goes down.
    pub shutdown: CancellationToken,
}

/// The state of the router: one reference.
pub type AppState = Arc<App>;
