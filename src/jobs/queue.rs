//! The queue: which jobs there are, which run, which wait.
//!
//! Locks are std's and never held across an await. A job's record is in the store before its submission is answered.

use super::progress::{Merging, Progress, ProgressView, lock};
use super::record::{JobId, JobRecord, JobState, JobView, now};
use super::request::TrainRequest;
use super::uploads::{HeldUpload, UploadId, Uploads};
use super::worker::{self, Outcome, Setting};
use super::{JobError, disk, files};
use crate::fetch::UrlPolicy;
use crate::registry::{Pick, Publisher, Registry, VocabRef};
use crate::store::{Digest, Key, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

mod restore;
mod share;

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
    /// Where a running job keeps what it goes on from after a crash, and counts that do not fit in memory.
    pub scratch: Arc<Path>,
    /// Memory for the counts of one job, in bytes.
    pub max_memory: usize,
    /// Most work that a crash costs, about.
    pub checkpoint_every: Duration,
    /// How long the replica that runs a job may be silent before another takes the job over.
    pub take_over_after: Duration,
    /// Which URLs `corpus.urls` may name.
    pub urls: UrlPolicy,
    /// The most bytes of one of them.
    pub max_url_bytes: u64,
}

/// How often a worker looks for work even if nothing woke it: a lost wake-up costs no more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a record that could not be written is tried again.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often uploads past their time are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// How long the end of the server waits for its jobs to stop.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Who submits a job.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// As whom the job publishes.
    pub publisher: Publisher,
    /// Jobs that may wait or run at once; none is no limit.
    pub open_jobs: Option<u32>,
}

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
    /// Where other processes run jobs of the same store.
    share: Option<share::Share>,
    /// Held by the one submission that is being stored.
    submitting: tokio::sync::Mutex<()>,
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
    /// The uploads that it reads, kept until it has ended.
    uploads: Vec<HeldUpload>,
    progress: Arc<Progress>,
    cancelled: bool,
    /// How far it is where another replica runs it.
    elsewhere: Option<ProgressView>,
}

impl Job {
    fn new(record: JobRecord) -> Self {
        let progress = Arc::new(Progress::new());
        Self { record, request: None, uploads: Vec::new(), progress, cancelled: false, elsewhere: None }
    }

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
        let progress = self.elsewhere.clone().unwrap_or_else(|| self.progress.view());
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
            scratch: Arc::clone(&settings.scratch),
            max_memory: settings.max_memory,
            checkpoint_every: settings.checkpoint_every,
            urls: settings.urls.clone(),
            max_url_bytes: settings.max_url_bytes,
        };
        let share = store.is_shared().then(|| share::Share::new(settings.take_over_after));
        let queue = Self {
            shared: Arc::new(Shared {
                store,
                setting,
                settings,
                state: Mutex::default(),
                wake: Notify::new(),
                running: AtomicUsize::new(0),
                share,
                submitting: tokio::sync::Mutex::new(()),
            }),
        };
        match queue.shared.share {
            Some(_) => share::watch(&queue.shared).await?,
            None => queue.shared.restore().await?,
        }
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
        owner: Option<Owner>,
    ) -> Result<Submitted, JobError> {
        let stored = serde_json::to_vec(&request).expect("a request has string keys only");
        let idempotency = idempotency_key
            .map(|key| (Digest::of(key.as_bytes()).to_string(), Digest::of(&stored).to_string()));
        // To the end even if the client goes away half-way. One submission at a time: a repeat with the same key
        // finds its job stored, or not there at all, and nobody sees a job before it is stored.
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _turn = shared.submitting.lock().await;
            if idempotency.is_some() {
                shared.look().await?;
            }
            if let Some(job) = lock(&shared.state).find_key(idempotency.as_ref())? {
                return Ok(Submitted { job: job.view(), created: false });
            }
            let limit = shared.settings.max_queued;
            if lock(&shared.state).waiting.len() >= limit {
                return Err(JobError::QueueFull { limit });
            }
            if let Some(owner) = &owner {
                shared.check_owner(owner)?;
            }
            let (request, uploads) = shared.check(request).await?;
            // With the base fixed to a version.
            let stored = serde_json::to_vec(&request).expect("a request has string keys only");
            let record = JobRecord {
                id: JobId::new(),
                name: request.name.clone(),
                state: JobState::Queued,
                created_at: now(),
                started_at: None,
                finished_at: None,
                result: None,
                stop_reason: None,
                error: None,
                uploads: uploads.iter().map(|u| u.id().as_str().to_owned()).collect(),
                upload: None,
                idempotency,
                owner: owner.map(|owner| owner.publisher.name),
                starts: 0,
                kept: None,
                stuck: 0,
            };
            shared.store_new(&record, stored).await?;
            let job = Job { request: Some(Arc::new(request)), uploads, ..Job::new(record) };
            let view = job.view();
            {
                let mut state = lock(&shared.state);
                // Another look may have found it in the store already.
                let id = job.record.id.clone();
                state.waiting.retain(|waiting| *waiting != id);
                state.waiting.push_back(id.clone());
                state.jobs.insert(id, job);
            }
            shared.wake.notify_one();
            Ok(Submitted { job: view, created: true })
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

    /// What a job that runs here has merged beyond `done` merges and `points` of its curve, and how many of both there are now.
    pub fn merging(&self, id: &JobId, done: u32, points: usize) -> Option<(Merging, u32, usize)> {
        lock(&self.shared.state).jobs.get(id).map(|job| job.progress.merging(done, points))
    }

    /// Cancels a job: one that waits at once, one that runs within a second.
    ///
    /// # Errors
    /// There is no such job, or it has ended.
    pub async fn cancel(&self, id: &JobId) -> Result<JobView, JobError> {
        if let Some(told) = self.shared.cancel_elsewhere(id).await? {
            return Ok(told);
        }
        let ended = {
            let mut state = lock(&self.shared.state);
            let job = state.jobs.get_mut(id).ok_or(JobError::Unknown)?;
            match job.record.state {
                JobState::Cancelled => return Ok(job.view()),
                JobState::Succeeded | JobState::Failed => return Err(JobError::Ended(job.record.state)),
                JobState::Running => {
                    job.cancelled = true;
                    job.progress.stop();
                    return Ok(job.view());
                }
                JobState::Queued => state.end(id, self.shared.settings.max_records, cancelled),
            }
        };
        self.shared.record_end(ended).await;
        self.get(id).ok_or(JobError::Unknown)
    }

    /// The uploads that jobs read.
    pub fn uploads(&self) -> &Uploads {
        &self.shared.setting.uploads
    }

    /// One job, also one that another replica has accepted a moment ago.
    ///
    /// # Errors
    /// It is not known here, and the store cannot be asked.
    pub async fn find(&self, id: &JobId) -> Result<Option<JobView>, StoreError> {
        if self.get(id).is_none() {
            self.shared.look().await?;
        }
        Ok(self.get(id))
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

    /// The one transition to an end: changes the record, lets go of what the job held, forgets the oldest ends.
    fn end(&mut self, id: &JobId, max_records: usize, change: impl FnOnce(&mut JobRecord)) -> Option<Ended> {
        self.waiting.retain(|waiting| waiting != id);
        let job = self.jobs.get_mut(id).filter(|job| !job.record.state.ended())?;
        change(&mut job.record);
        job.record.finished_at = Some(now());
        job.request = None;
        job.uploads = Vec::new();
        job.progress.end(job.record.state == JobState::Succeeded);
        let record = job.record.clone();
        self.merges_of_ended += u64::from(job.progress.view().merges_done);
        let mut ends: Vec<(Option<String>, JobId)> = (self.jobs.values())
            .filter(|job| job.record.state.ended() && job.record.id != *id)
            .map(|job| (job.record.finished_at.clone(), job.record.id.clone()))
            .collect();
        ends.sort();
        let over = (ends.len() + 1).saturating_sub(max_records.max(1));
        let forgotten: Vec<JobId> = ends.into_iter().take(over).map(|(_, id)| id).collect();
        forgotten.iter().for_each(|old| drop(self.jobs.remove(old)));
        Some(Ended { record, forgotten })
    }
}

fn cancelled(record: &mut JobRecord) {
    record.state = JobState::Cancelled;
}

/// A job that has just ended, to be recorded.
struct Ended {
    record: JobRecord,
    forgotten: Vec<JobId>,
}

impl Shared {
    /// What open jobs will make has its place among what is kept, whose size nobody knows before.
    fn check_owner(&self, owner: &Owner) -> Result<(), JobError> {
        let is_open = |job: &&Job| {
            !job.record.state.ended() && job.record.owner.as_deref() == Some(&owner.publisher.name)
        };
        let open = lock(&self.state).jobs.values().filter(is_open).count() as u64;
        if let Some(limit) = owner.open_jobs.filter(|limit| open >= u64::from(*limit)) {
            return Err(JobError::TooManyOpen { limit });
        }
        Ok(self.setting.registry.has_room(&owner.publisher, open + 1)?)
    }

    /// Everything that can be said of a request before it runs. The base is fixed to its version.
    async fn check(
        self: &Arc<Self>,
        mut request: TrainRequest,
    ) -> Result<(TrainRequest, Vec<HeldUpload>), JobError> {
        let base = match &request.base {
            Some(base) => {
                let found = self.setting.registry.resolve(Some(base)).await;
                Some(found.map_err(|e| JobError::invalid("/base", e.to_string()))?)
            }
            None => None,
        };
        if let Some(base) = &base {
            let pick = Pick::Version(base.facts.version);
            request.base = Some(VocabRef { name: base.facts.name.clone(), pick });
        }
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            request.corpus.check()?;
            request.config(shared.settings.threads.max(1), base.as_ref().map(|base| &base.tokenizer))?;
            let min_free_bytes = shared.settings.min_free_bytes;
            // What the job makes goes to the store; what it fetches and counts, to the disk of its folder.
            let scratch =
                shared.settings.scratch.ancestors().find_map(|folder| disk::free_bytes(folder).ok());
            if scratch.into_iter().chain(shared.store.free_bytes()?).any(|free| free < min_free_bytes) {
                return Err(JobError::DiskFull { min_free_bytes });
            }
            for (at, names) in request.corpus.files() {
                files::check(shared.settings.corpus_root.as_deref(), &at, names)?;
            }
            for (at, urls) in request.corpus.urls() {
                for (index, url) in urls.iter().enumerate() {
                    let checked = shared.settings.urls.check(url);
                    checked.map_err(|e| JobError::invalid(format!("{at}/{index}"), e.to_string()))?;
                }
            }
            let mut held = Vec::new();
            for (at, id) in request.corpus.uploads() {
                let unknown = || JobError::invalid(at.clone(), "there is no such upload");
                // Held first: one that is there then, stays.
                let one = shared.setting.uploads.hold(UploadId::parse(id).ok_or_else(unknown)?);
                shared.setting.uploads.facts(one.id()).map_err(|_| unknown())?;
                held.push(one);
            }
            Ok((request, held))
        })
        .await
        .map_err(|e| JobError::Store(StoreError::Other(Box::new(e))))?
    }

    async fn save(&self, record: &JobRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(record).expect("a record has string keys only");
        self.store.put(&Key::job(&record.id.segment()), json).await
    }

    /// Stores a new job: its request first, as the record is what a restart looks at.
    async fn store_new(&self, record: &JobRecord, request: Vec<u8>) -> Result<(), StoreError> {
        let (job, job_request) = (record.id.segment(), Key::job_request(&record.id.segment()));
        let stored = async {
            self.store.put(&job_request, request).await?;
            self.save(record).await
        };
        if let Err(error) = stored.await {
            let _ = self.store.delete(&job_request).await;
            let _ = self.store.delete(&Key::job(&job)).await;
            return Err(error);
        }
        Ok(())
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
        let Some(claim) = self.claim(id).await else { return };
        let kept = worker::kept(&self.settings.scratch, id);
        let started = {
            let mut state = lock(&self.state);
            let Some(job) = state.jobs.get_mut(id).filter(|job| job.record.state == JobState::Queued) else {
                return;
            };
            let Some(request) = job.request.clone() else { return };
            job.record.state = JobState::Running;
            job.record.started_at = Some(now());
            job.record.starts += 1;
            job.record.stuck = if job.record.kept.as_ref() == Some(&kept) { job.record.stuck + 1 } else { 1 };
            job.record.kept = Some(kept);
            (job.record.clone(), request, Arc::clone(&job.progress))
        };
        let (record, request, progress) = started;
        // A record that cannot be written now says `queued`; after a crash that means the same: run it again.
        if let Err(error) = self.save(&record).await {
            tracing::warn!(job = id.as_str(), ?error, "start of the job is not recorded");
        }
        tracing::info!(job = id.as_str(), vocab = %record.name, "job started");
        let claim = claim.keep(&self.store, &progress);
        let outcome =
            worker::run(self.setting.clone(), request, id.as_str(), record.owner.clone(), progress).await;
        if claim.is_lost() {
            tracing::warn!(job = id.as_str(), "another replica has taken the job over");
            return self.leave(id);
        }
        let goes_on_later = {
            let state = lock(&self.state);
            let cancelled = state.jobs.get(id).is_some_and(|job| job.cancelled);
            state.closing && !cancelled && matches!(outcome, Outcome::Stopped)
        };
        if goes_on_later {
            // The server goes down in good order: that is no start that ended in a crash.
            let state = if self.share.is_some() { JobState::Queued } else { record.state };
            let (starts, stuck) = (record.starts - 1, record.stuck - 1);
            let _ = self.save(&JobRecord { starts, stuck, state, ..record }).await;
            let _ = self.release(id).await;
            return;
        }
        // Before anybody is told that the job has ended.
        worker::forget(&self.settings.scratch, id.as_str());
        let ended = lock(&self.state).end(id, self.settings.max_records, |record| match outcome {
            Outcome::Succeeded(result, stop_reason) => {
                record.state = JobState::Succeeded;
                record.result = Some(*result);
                record.stop_reason = Some(stop_reason.to_owned());
            }
            Outcome::Failed(failure) => {
                record.state = JobState::Failed;
                record.error = Some(failure);
            }
            Outcome::Stopped => record.state = JobState::Cancelled,
        });
        self.record_end(ended).await;
    }

    /// Writes the end of a job down, trying again for as long as the process lives: without that a restart would run
    /// the job again and move its aliases.
    async fn record_end(&self, ended: Option<Ended>) {
        let Some(Ended { record, forgotten }) = ended else { return };
        let id = record.id.as_str();
        worker::forget(&self.settings.scratch, id);
        match &record.error {
            Some(failure) => tracing::warn!(job = id, code = failure.code, "job failed"),
            None => tracing::info!(job = id, state = record.state.name(), "job ended"),
        }
        while let Err(error) = self.put_end(&record).await {
            tracing::error!(job = id, ?error, "end of the job is not recorded; trying again");
            if lock(&self.state).closing {
                return;
            }
            tokio::time::sleep(SAVE_AGAIN_AFTER).await;
        }
        for old in forgotten {
            let _ = self.store.delete(&Key::job(&old.segment())).await;
        }
    }

    /// The record of an end; then what served the run goes, of which the request may hold all texts.
    async fn put_end(&self, record: &JobRecord) -> Result<(), StoreError> {
        self.save(record).await?;
        self.store.delete(&Key::job_request(&record.id.segment())).await?;
        self.release(&record.id).await
    }
}
