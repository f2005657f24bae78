//! Training jobs: accepted, queued, run on the blocking pool, recorded so that they survive a restart.
//!
//! The record in the store is the truth: it is written before a job is acknowledged, when it starts and when it ends.
//! A job found queued or running when the store is opened is run again from its stored request. Progress is not
//! stored. A panic in a job fails that job only. Where replicas share a store, each job is claimed by the one that runs it
//! and taken over when that one is silent (`queue/share.rs`).

mod alone;
mod checkpoint;
mod corpus;
mod counting;
mod disk;
mod documents;
mod files;
mod progress;
mod queue;
mod record;
mod report;
mod request;
mod shard;
mod uploads;
mod whole;
mod wordfile;
mod worker;

pub use corpus::CorpusError;
pub use disk::free_bytes;
pub use documents::{Documents, DocumentsError, DocumentsFormat, StopReading};
pub use progress::{JobStage, LastMerge, Merging, ProgressView};
pub use queue::{JobQueue, JobsSettings, Owner, Submitted};
pub use record::{JobFailure, JobId, JobResult, JobState, JobView, VocabTriple};
pub use report::{CurvePoint, Gain, LongToken, Pruned, ScriptGain, TrainReport, WordsLeftOut};
pub use request::{
    CorpusFormat, CorpusRequest, CountsRequest, DigitsName, InvalidUtf8, NormalizerName, Records,
    TieBreakName, TrainRequest,
};
pub use shard::ShardFormat;
pub use uploads::{UploadError, UploadFacts, UploadId, UploadLimits, UploadWriter, Uploads};

pub use alone::{FilesRun, count_files, train_files};
pub use worker::Learned;

use crate::registry::OverQuota;
use crate::store::StoreError;

/// Why a job was not accepted, or not found.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A field of the request is at fault.
    #[error("{reason}")]
    Invalid {
        /// JSON pointer to the field; empty for the request as a whole.
        pointer: String,
        /// What is wrong, with the limit where there is one.
        reason: String,
    },
    /// As many jobs wait as may.
    #[error("{limit} jobs are waiting already")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// As many jobs of the key wait or run as may.
    #[error("the key has open_jobs = {limit}, and as many of its jobs wait or run")]
    TooManyOpen {
        /// The limit.
        limit: u32,
    },
    /// The key keeps as much as it may, with what its open jobs will make.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used before with another request")]
    KeyReused,
    /// No job has that id.
    #[error("there is no such job")]
    Unknown,
    /// The job has ended, so that it cannot be cancelled.
    #[error("the job has ended already: it {}", .0.name())]
    Ended(JobState),
    /// Too little room on the disk to begin.
    #[error("the disk has less than {min_free_bytes} bytes free")]
    DiskFull {
        /// The setting.
        min_free_bytes: u64,
    },
    /// The storage refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JobError {
    fn invalid(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), reason: reason.into() }
    }
}
