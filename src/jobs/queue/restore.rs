//! The jobs of a store that nobody else runs jobs of: what had not ended is run again.

use super::super::progress::{Progress, lock};
use super::super::record::{JobFailure, JobId, JobRecord, JobState, now};
use super::super::request::TrainRequest;
use super::super::uploads::UploadId;
use super::super::worker;
use super::{Job, Shared};
use crate::store::{Key, StoreError};
use std::sync::Arc;

/// A job that was running so often when the process ended without having been told to is not run again: it may be what
/// ends it. Higher than any row of unlucky restarts, low enough that a crash loop comes to its end.
const MAX_STARTS: u32 = 100;

/// So often in a row where it kept nothing more meanwhile: it ends the process at the same place, most likely.
const MAX_STUCK: u32 = 3;

impl Shared {
    pub(super) async fn restore(&self) -> Result<(), StoreError> {
        let listed = self.store.list(&Key::jobs()).await?;
        for listed in &listed {
            let Some(segment) = listed.key.as_job() else { continue };
            let record = match self.store.get(&listed.key).await {
                Ok(bytes) => serde_json::from_slice::<JobRecord>(&bytes).map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            match record {
                Ok(record) if record.id.segment() == segment => self.restore_job(record).await,
                Ok(_) => tracing::warn!(job = segment.as_str(), "job record is another job's; left out"),
                Err(problem) => tracing::warn!(job = segment.as_str(), problem, "job record cannot be read"),
            }
        }
        let runs = |id: &JobId| lock(&self.state).jobs.get(id).is_some_and(|job| !job.record.state.ended());
        worker::tidy(&self.settings.scratch, runs);
        // Requests may hold texts; one whose job has ended, or never came to be, must not stay.
        for (listed, segment) in listed.iter().filter_map(|l| Some((l, l.key.as_job_request()?))) {
            if !JobId::parse(segment.as_str()).is_some_and(|id| runs(&id)) {
                let _ = self.store.delete(&listed.key).await;
            }
        }
        Ok(())
    }

    async fn restore_job(&self, mut record: JobRecord) {
        let (progress, mut request, mut uploads) = (Progress::new(), None, Vec::new());
        if record.state.ended() {
            progress.end(record.state == JobState::Succeeded);
        } else {
            let stored = match self.stored_request(&record.id).await {
                Ok(stored) => self.crashed(&record).map_or(Ok(stored), Err),
                Err(problem) => Err(request_lost(&problem)),
            };
            match stored {
                Ok(stored) => {
                    record.state = JobState::Queued;
                    record.started_at = None;
                    let named = record.uploads.iter().chain(&record.upload);
                    uploads = named.filter_map(|id| UploadId::parse(id)).collect();
                    request = Some(Arc::new(stored));
                }
                Err(failure) => {
                    record.state = JobState::Failed;
                    record.finished_at = Some(now());
                    record.error = Some(failure);
                    progress.end(false);
                }
            }
            // On a full disk the old record stays, which says the same to the next start.
            if let Err(error) = self.save(&record).await {
                tracing::warn!(job = record.id.as_str(), ?error, "restart of the job is not recorded");
            }
        }
        let uploads = uploads.into_iter().map(|id| self.setting.uploads.hold(id)).collect();
        let mut state = lock(&self.state);
        if record.state == JobState::Queued {
            state.waiting.push_back(record.id.clone());
        }
        let job = Job { request, uploads, progress: Arc::new(progress), ..Job::new(record) };
        state.jobs.insert(job.record.id.clone(), job);
    }

    /// Why a job is not run again, if it is not: whatever it does to the process, it must not do it for ever.
    pub(super) fn crashed(&self, record: &JobRecord) -> Option<JobFailure> {
        let is_stuck = record.stuck >= MAX_STUCK
            && record.kept.as_ref() == Some(&worker::kept(&self.settings.scratch, &record.id));
        let detail = if record.starts >= MAX_STARTS {
            format!("the process ended {MAX_STARTS} times while the job ran")
        } else if is_stuck {
            let times = record.stuck;
            format!("the process ended {times} times while the job ran, and each time at the same place")
        } else {
            return None;
        };
        Some(JobFailure { code: "crashed".to_owned(), detail })
    }

    pub(super) async fn stored_request(&self, id: &JobId) -> Result<TrainRequest, String> {
        let bytes = self.store.get(&Key::job_request(&id.segment())).await.map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|_| "it is damaged".to_owned())
    }
}

pub(super) fn request_lost(problem: &str) -> JobFailure {
    let detail = format!("the request cannot be read after a restart: {problem}");
    JobFailure { code: "request_lost".to_owned(), detail }
}
