//! The queue: which jobs there are, which run, which wait.
//!
//! Locks are std's and never held across an await. A job's record is in the store before its submission is answered.

use super::progress::{JobStage, Progress, lock};
use super::record::{JobFailure, JobId, JobRecord, JobState, JobView, now};
use super::request::TrainRequest;
use super::uploads::{UploadId, Uploads};
use super::worker::{self, Outcome, Setting};
use super::{JobError, files};
use crate::registry::Registry;
use crate::store::{Digest, Key, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// How jobs run.
#[derive(Debug, Clone)]
pub struct JobsSettings {
    /// Jobs that run at once.
    pub max_running: usize,
    /// Jobs that wait; more are refused.
    pub max_queued: usize,
    /// Threads that one job counts with.
    pub threads: usize,
    /// Ended jobs that are remembered.
    pub max_records: usize,
    /// Free room below which no job is accepted.
    pub min_free_bytes: u64,
    /// Where `corpus.files` are; `None` turns them off.
    pub corpus_root: Option<Arc<Path>>,
}

/// How often a worker looks for work even if nothing woke it: a lost wake-up costs no more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often uploads past their time are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// How long the end of the server waits for its jobs to stop.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a submission gave.
#[derive(Debug)]
pub struct Submitted {
    /// The job.
    pub job: JobView,
    /// `false` where the idempotency key led to a job accepted before.
    pub created: bool,
}

/// The training jobs of one server. A handle: clones share one state.
#[derive(Debug, Clone)]
pub struct JobQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    setting: Setting,
    settings: JobsSettings,
    state: Mutex<State>,
    wake: Notify,
    running: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<JobId, Job>,
    waiting: VecDeque<JobId>,
    /// Merges made by jobs that ended since the start.
    merges_of_ended: u64,
    /// The server is going down: jobs that stop stay `running` in the store, to be run again.
    closing: bool,
}

#[derive(Debug)]
struct Job {
    record: JobRecord,
    /// Gone once the job has ended: it may hold all texts.
    request: Option<Arc<TrainRequest>>,
    progress: Arc<Progress>,
    cancelled: bool,
}

impl Job {
    fn view(&self) -> JobView {
        let JobRecord {
            id,
            name,
            state,
            created_at,
            started_at,
            finished_at,
            result,
            stop_reason,
            error,
            ..
        } = self.record.clone();
        let progress = self.progress.view();
        JobView { id, name, state, created_at, started_at, finished_at, progress, result, stop_reason, error }
    }
}

impl JobQueue {
    /// Reads the jobs of the store and starts the workers on the current runtime. Jobs that had not ended are run
    /// again; one whose record or request cannot be read is logged and left out, or failed.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn open(
        registry: Registry,
        uploads: Uploads,
        settings: JobsSettings,
    ) -> Result<Self, StoreError> {
        let store = Arc::clone(registry.store());
        let setting = Setting {
            registry,
            uploads,
            corpus_root: settings.corpus_root.clone(),
            threads: settings.threads,
        };
        let queue = Self {
            shared: Arc::new(Shared {
                store,
                setting,
                settings,
                state: Mutex::default(),
                wake: Notify::new(),
                running: AtomicUsize::new(0),
            }),
        };
        queue.shared.restore().await?;
        for _ in 0..queue.shared.settings.max_running {
            tokio::spawn(Arc::clone(&queue.shared).work());
        }
        let uploads = queue.uploads().clone();
        tokio::spawn(async move {
            loop {
                let uploads = uploads.clone();
                let _ = tokio::task::spawn_blocking(move || uploads.expire()).await;
                tokio::time::sleep(EXPIRE_EVERY).await;
            }
        });
        Ok(queue)
    }

    /// Accepts a job, or refuses it with the field at fault.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn submit(
        &self,
        request: TrainRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, JobError> {
        let shared = &self.shared;
        let stored = serde_json::to_vec(&request).expect("a request has string keys only");
        let idempotency = idempotency_key
            .map(|key| (Digest::of(key.as_bytes()).to_string(), Digest::of(&stored).to_string()));
        if let Some(job) = shared.by_key(idempotency.as_ref())? {
            return Ok(Submitted { job, created: false });
        }
        let (request, upload) = shared.check(request).await?;

        let id = JobId::new();
        let record = JobRecord {
            id: id.clone(),
            name: request.name.clone(),
            state: JobState::Queued,
            created_at: now(),
            started_at: None,
            finished_at: None,
            result: None,
            stop_reason: None,
            error: None,
            upload: upload.as_ref().map(|u| u.as_str().to_owned()),
            idempotency: idempotency.clone(),
        };
        let job = Job {
            record: record.clone(),
            request: Some(Arc::new(request)),
            progress: Arc::new(Progress::new()),
            cancelled: false,
        };
        // The place in the queue is taken before the store is asked, so that the bound holds under any load.
        {
            let mut state = lock(&shared.state);
            let limit = shared.settings.max_queued;
            let waiting = state.jobs.values().filter(|j| j.record.state == JobState::Queued).count();
            if waiting >= limit {
                return Err(JobError::QueueFull { limit });
            }
            if let Some(job) = state.find_key(idempotency.as_ref())? {
                return Ok(Submitted { job: job.view(), created: false });
            }
            state.jobs.insert(id.clone(), job);
        }
        if let Some(upload) = &upload {
            self.uploads().hold(upload);
        }
        // To the end even if the client goes away half-way.
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let put = async {
                shared.store.put(&Key::job_request(&id.segment()), stored).await?;
                shared.save(&record).await
            };
            if let Err(error) = put.await {
                shared.forget(&id, upload.as_ref()).await;
                return Err(JobError::Store(error));
            }
            let (view, cancelled_meanwhile) = {
                let mut state = lock(&shared.state);
                let job = state.jobs.get(&id);
                let (view, queued) =
                    (job.map(Job::view), job.is_some_and(|j| j.record.state == JobState::Queued));
                let ended = job.filter(|_| !queued).map(|j| j.record.clone());
                if queued {
                    state.waiting.push_back(id);
                }
                (view, ended)
            };
            if let Some(record) = cancelled_meanwhile {
                shared.save(&record).await?;
            }
            shared.wake.notify_one();
            view.map(|job| Submitted { job, created: true }).ok_or(JobError::Unknown)
        })
        .await
        .map_err(|e| JobError::Store(StoreError::Other(Box::new(e))))?
    }

    /// All jobs, newest first.
    pub fn list(&self) -> Vec<JobView> {
        lock(&self.shared.state).jobs.values().rev().map(Job::view).collect()
    }

    /// One job.
    pub fn get(&self, id: &JobId) -> Option<JobView> {
        lock(&self.shared.state).jobs.get(id).map(Job::view)
    }

    /// Cancels a job: one that waits at once, one that runs within a second.
    ///
    /// # Errors
    /// There is no such job, or it has ended.
    pub async fn cancel(&self, id: &JobId) -> Result<JobView, JobError> {
        {
            let mut state = lock(&self.shared.state);
            let job = state.jobs.get_mut(id).ok_or(JobError::Unknown)?;
            if job.record.state == JobState::Cancelled {
                return Ok(job.view());
            }
            if job.record.state.ended() {
                return Err(JobError::Ended(job.record.state));
            }
            job.cancelled = true;
            job.progress.stop();
            if job.record.state == JobState::Running {
                return Ok(job.view());
            }
        }
        self.shared.end(id, |record| record.state = JobState::Cancelled).await;
        self.get(id).ok_or(JobError::Unknown)
    }

    /// The uploads that jobs read.
    pub fn uploads(&self) -> &Uploads {
        &self.shared.setting.uploads
    }

    /// How many jobs are in each state.
    pub fn counts(&self) -> [(JobState, u64); 5] {
        let state = lock(&self.shared.state);
        JobState::ALL.map(|s| (s, state.jobs.values().filter(|j| j.record.state == s).count() as u64))
    }

    /// Merges made by all jobs since the start of this process.
    pub fn merges_made(&self) -> u64 {
        let state = lock(&self.shared.state);
        let running = state.jobs.values().filter(|j| j.record.state == JobState::Running);
        state.merges_of_ended + running.map(|j| u64::from(j.progress.view().merges_done)).sum::<u64>()
    }

    /// Stops running jobs without ending them: the next start runs them again.
    pub async fn close(&self) {
        {
            let mut state = lock(&self.shared.state);
            state.closing = true;
            state.waiting.clear();
            state.jobs.values().filter(|j| !j.record.state.ended()).for_each(|j| j.progress.stop());
        }
        // A job that was publishing ends well; one that stops leaves its record as it is.
        let limit = tokio::time::Instant::now() + CLOSE_WITHIN;
        while self.shared.running.load(Relaxed) > 0 && tokio::time::Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl State {
    fn find_key(&self, idempotency: Option<&(String, String)>) -> Result<Option<&Job>, JobError> {
        let Some((key, body)) = idempotency else { return Ok(None) };
        let same_key = |job: &&Job| job.record.idempotency.as_ref().is_some_and(|(k, _)| k == key);
        match self.jobs.values().find(same_key) {
            Some(job) if job.record.idempotency.as_ref().is_some_and(|(_, b)| b != body) => {
                Err(JobError::KeyReused)
            }
            found => Ok(found),
        }
    }
}

impl Shared {
    fn by_key(&self, idempotency: Option<&(String, String)>) -> Result<Option<JobView>, JobError> {
        Ok(lock(&self.state).find_key(idempotency)?.map(Job::view))
    }

    /// Everything that can be said of a request before it runs.
    async fn check(
        self: &Arc<Self>,
        request: TrainRequest,
    ) -> Result<(TrainRequest, Option<UploadId>), JobError> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            request.corpus.check()?;
            request.config(shared.settings.threads.max(1))?;
            let min_free_bytes = shared.settings.min_free_bytes;
            if shared.store.free_bytes()?.is_some_and(|free| free < min_free_bytes) {
                return Err(JobError::DiskFull { min_free_bytes });
            }
            if let Some(names) = &request.corpus.files {
                files::check(shared.settings.corpus_root.as_deref(), names)?;
            }
            let upload = match &request.corpus.upload {
                None => None,
                Some(id) => {
                    let unknown = || JobError::invalid("/corpus/upload", "there is no such upload");
                    let id = UploadId::parse(id).ok_or_else(unknown)?;
                    shared.setting.uploads.facts(&id).map_err(|_| unknown())?;
                    Some(id)
                }
            };
            Ok((request, upload))
        })
        .await
        .map_err(|e| JobError::Store(StoreError::Other(Box::new(e))))?
    }

    async fn save(&self, record: &JobRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(record).expect("a record has string keys only");
        self.store.put(&Key::job(&record.id.segment()), json).await
    }

    /// Undoes a submission that the store refused.
    async fn forget(&self, id: &JobId, upload: Option<&UploadId>) {
        lock(&self.state).jobs.remove(id);
        if let Some(upload) = upload {
            self.setting.uploads.release(upload);
        }
        let _ = self.store.delete(&Key::job_request(&id.segment())).await;
        let _ = self.store.delete(&Key::job(&id.segment())).await;
    }

    async fn restore(&self) -> Result<(), StoreError> {
        for listed in self.store.list(&Key::jobs()).await? {
            let Some(segment) = listed.key.as_job() else { continue };
            let record = match self.store.get(&listed.key).await {
                Ok(bytes) => serde_json::from_slice::<JobRecord>(&bytes).map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            let mut record = match record {
                Ok(record) => record,
                Err(problem) => {
                    tracing::warn!(job = segment.as_str(), problem, "job record cannot be read");
                    continue;
                }
            };
            let progress = Progress::new();
            let mut request = None;
            if record.state.ended() {
                progress.enter(JobStage::Done);
            } else {
                match self.stored_request(&record.id).await {
                    Ok(stored) => {
                        record.state = JobState::Queued;
                        record.started_at = None;
                        request = Some(Arc::new(stored));
                    }
                    Err(problem) => {
                        record.state = JobState::Failed;
                        record.finished_at = Some(now());
                        let detail = format!("the request cannot be read after a restart: {problem}");
                        record.error = Some(JobFailure { code: "request_lost".to_owned(), detail });
                    }
                }
                self.save(&record).await?;
            }
            let mut state = lock(&self.state);
            if record.state == JobState::Queued {
                if let Some(upload) = record.upload.as_deref().and_then(UploadId::parse) {
                    self.setting.uploads.hold(&upload);
                }
                state.waiting.push_back(record.id.clone());
            }
            let job = Job { record, request, progress: Arc::new(progress), cancelled: false };
            state.jobs.insert(job.record.id.clone(), job);
        }
        Ok(())
    }

    async fn stored_request(&self, id: &JobId) -> Result<TrainRequest, String> {
        let bytes = self.store.get(&Key::job_request(&id.segment())).await.map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|_| "it is damaged".to_owned())
    }

    /// One worker: runs one job after the other.
    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = lock(&self.state);
                if state.closing {
                    return;
                }
                state.waiting.pop_front()
            };
            match next {
                Some(id) => {
                    self.running.fetch_add(1, Relaxed);
                    self.run(&id).await;
                    self.running.fetch_sub(1, Relaxed);
                }
                None => {
                    let _ = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
                }
            }
        }
    }

    async fn run(&self, id: &JobId) {
        let started = {
            let mut state = lock(&self.state);
            let Some(job) = state.jobs.get_mut(id).filter(|job| job.record.state == JobState::Queued) else {
                return;
            };
            let Some(request) = job.request.clone() else { return };
            job.record.state = JobState::Running;
            job.record.started_at = Some(now());
            (job.record.clone(), request, Arc::clone(&job.progress))
        };
        let (record, request, progress) = started;
        // A record that cannot be written now says `queued`; after a crash that means the same: run it again.
        if let Err(error) = self.save(&record).await {
            tracing::warn!(job = id.as_str(), ?error, "start of the job is not recorded");
        }
        tracing::info!(job = id.as_str(), vocab = %record.name, "job started");
        let outcome = worker::run(self.setting.clone(), request, id.as_str(), progress).await;
        let stays_running = {
            let state = lock(&self.state);
            let cancelled = state.jobs.get(id).is_some_and(|job| job.cancelled);
            state.closing && !cancelled && matches!(outcome, Outcome::Stopped)
        };
        if stays_running {
            return;
        }
        self.end(id, |record| match outcome {
            Outcome::Succeeded(result, stop_reason) => {
                record.state = JobState::Succeeded;
                record.result = Some(result);
                record.stop_reason = Some(stop_reason.to_owned());
            }
            Outcome::Failed(failure) => {
                record.state = JobState::Failed;
                record.error = Some(failure);
            }
            Outcome::Stopped => record.state = JobState::Cancelled,
        })
        .await;
    }

    /// Records the end of a job and lets go of what it held.
    async fn end(&self, id: &JobId, change: impl FnOnce(&mut JobRecord)) {
        let (record, too_many) = {
            let mut state = lock(&self.state);
            state.waiting.retain(|waiting| waiting != id);
            let Some(job) = state.jobs.get_mut(id) else { return };
            change(&mut job.record);
            job.record.finished_at = Some(now());
            job.request = None;
            job.progress.enter(JobStage::Done);
            let merges = u64::from(job.progress.view().merges_done);
            let record = job.record.clone();
            state.merges_of_ended += merges;
            let ended: Vec<JobId> =
                state.jobs.values().filter(|j| j.record.state.ended()).map(|j| j.record.id.clone()).collect();
            let over = ended.len().saturating_sub(self.settings.max_records);
            for old in &ended[..over] {
                state.jobs.remove(old);
            }
            (record, ended[..over].to_vec())
        };
        if let Some(upload) = record.upload.as_deref().and_then(UploadId::parse) {
            self.setting.uploads.release(&upload);
        }
        match &record.error {
            Some(failure) => tracing::warn!(job = id.as_str(), code = failure.code, "job failed"),
            None => tracing::info!(job = id.as_str(), state = record.state.name(), "job ended"),
        }
        if let Err(error) = self.save(&record).await {
            tracing::error!(
                job = id.as_str(),
                ?error,
                "end of the job is not recorded; a restart runs it again"
            );
            return;
        }
        let _ = self.store.delete(&Key::job_request(&id.segment())).await;
        for old in too_many {
            let _ = self.store.delete(&Key::job(&old.segment())).await;
        }
    }
}
