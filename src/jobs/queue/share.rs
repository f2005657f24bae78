//! Many replicas over one store of jobs.
//!
//! Whoever runs a job has put `jobs/ID.claim.json` there, by a conditional put, and puts it again every few seconds with how far
//! it is. Nobody compares clocks: a claim counts as given up when it was seen unchanged for `take_over_after` by the clock of who
//! looks. Two that run one job all the same (one was cut off and did not know) make the same version, so that nothing is lost but work.
//!
//! Uploads are on the disk of the replica that got them. A job that reads one waits for a replica that has it.

use super::super::progress::{Progress, ProgressView, lock};
use super::super::record::{JobFailure, JobId, JobRecord, JobState, JobView};
use super::super::uploads::UploadId;
use super::super::{JobError, worker};
use super::restore::request_lost;
use super::{Job, Shared, cancelled};
use crate::store::{Key, Segment, Store, StoreError, Tag};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// So many beats come in the time after which their absence counts.
const BEATS: u32 = 5;

/// The longest time between two looks at what the others do.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// A request without a record may be about to get one for so long.
const REQUEST_GRACE: Duration = Duration::from_secs(60 * 60);

/// What this replica knows of the others.
#[derive(Debug)]
pub(super) struct Share {
    me: String,
    take_over_after: Duration,
    seen: Mutex<Seen>,
    /// Held by the one look that is taken.
    looking: tokio::sync::Mutex<()>,
}

/// States of objects by their tags.
#[derive(Debug, Default)]
struct Seen {
    records: HashMap<JobId, String>,
    /// And since when they are so.
    claims: HashMap<JobId, (String, Instant)>,
}

/// Who runs a job, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    holder: String,
    /// So that no two states are alike.
    beat: u64,
    progress: ProgressView,
}

impl Share {
    pub(super) fn new(take_over_after: Duration) -> Self {
        let me = uuid::Uuid::new_v4().simple().to_string();
        Self { me, take_over_after, seen: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Whether that state of the claim on a job was seen for so long that its holder is gone.
    fn is_given_up(&self, id: &JobId, etag: Option<&str>) -> bool {
        let seen = lock(&self.seen);
        let since = seen.claims.get(id).filter(|(seen, _)| Some(seen.as_str()) == etag);
        since.is_some_and(|(_, since)| since.elapsed() >= self.take_over_after)
    }
}

/// A job that this process may run.
#[derive(Debug)]
pub(super) struct Claimed(Option<Holding>);

#[derive(Debug)]
struct Holding {
    key: Key,
    me: String,
    every: Duration,
}

/// Keeps a claim until it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    lost: Arc<AtomicBool>,
    _beats: Option<AbortOnDropHandle<()>>,
}

impl Kept {
    /// Whether another replica runs the job now.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }
}

impl Claimed {
    /// Says every few seconds that the job is being run. Stops the run where another replica has taken it over.
    pub(super) fn keep(self, store: &Arc<Store>, progress: &Arc<Progress>) -> Kept {
        let lost = Arc::new(AtomicBool::new(false));
        let beats = self.0.map(|holding| {
            let (store, progress, lost) = (Arc::clone(store), Arc::clone(progress), Arc::clone(&lost));
            AbortOnDropHandle::new(tokio::spawn(async move {
                for beat in 1.. {
                    tokio::time::sleep(holding.every).await;
                    // A storage that fails now may be back for the next beat.
                    if let Ok(false) = holding.beat(&store, beat, progress.view()).await {
                        lost.store(true, Relaxed);
                        return progress.stop();
                    }
                }
            }))
        });
        Kept { lost, _beats: beats }
    }
}

impl Holding {
    /// Whether the claim is this process's still.
    async fn beat(&self, store: &Store, beat: u64, progress: ProgressView) -> Result<bool, StoreError> {
        let Some((claim, tag)) = store.get_tagged(&self.key).await? else { return Ok(false) };
        if holder(&claim).as_deref() != Some(&self.me) {
            return Ok(false);
        }
        let claim = Claim { holder: self.me.clone(), beat, progress };
        match store.put_if(&self.key, to_json(&claim), Some(&tag)).await {
            Err(StoreError::Changed) => Ok(false),
            outcome => outcome.map(|_| true),
        }
    }
}

/// Takes up what the store has and goes on looking, on the current runtime.
pub(super) async fn watch(shared: &Arc<Shared>) -> Result<(), StoreError> {
    shared.look().await?;
    let runs = |id: &JobId| lock(&shared.state).jobs.get(id).is_some_and(|job| !job.record.state.ended());
    worker::tidy(&shared.settings.scratch, runs);
    for object in shared.store.list(&Key::jobs()).await? {
        let key = &object.key;
        let of = key.as_job_request().or_else(|| key.as_job_claim()).or_else(|| key.as_job_cancel());
        let Some(id) = of.and_then(|segment| JobId::parse(segment.as_str())) else { continue };
        let known = lock(&shared.state).jobs.contains_key(&id);
        if !runs(&id) && (known || object.age > REQUEST_GRACE) {
            let _ = shared.store.delete(key).await;
        }
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let every = (shared.settings.take_over_after / (2 * BEATS)).min(LOOK_AT_LEAST_EVERY);
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = shared.look().await {
                tracing::debug!(%error, "the jobs of other replicas are not seen");
            }
        }
    });
    Ok(())
}

/// What a listing has of jobs.
#[derive(Debug, Default)]
struct Listing {
    records: Vec<(JobId, Option<String>)>,
    claims: HashMap<JobId, Option<String>>,
    cancels: HashSet<JobId>,
}

impl Shared {
    /// Looks at what the other replicas have done: new jobs, ends, claims, cancellations. What nobody runs may be run here.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(share) = &self.share else { return Ok(()) };
        let _one = share.looking.lock().await;
        let listing = self.listing().await?;
        {
            let mut seen = lock(&share.seen);
            seen.claims.retain(|id, _| listing.claims.contains_key(id));
            for (id, etag) in &listing.claims {
                let etag = etag.clone().unwrap_or_default();
                let known = seen.claims.get(id).is_some_and(|(known, _)| *known == etag);
                if !known {
                    seen.claims.insert(id.clone(), (etag, Instant::now()));
                }
            }
            seen.records.retain(|id, _| listing.records.iter().any(|(listed, _)| listed == id));
        }
        for (id, etag) in &listing.records {
            self.look_at(share, &listing, id, etag.as_deref()).await?;
        }
        let there: HashSet<&JobId> = listing.records.iter().map(|(id, _)| id).collect();
        lock(&self.state).jobs.retain(|id, job| !job.record.state.ended() || there.contains(id));
        Ok(())
    }

    async fn listing(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let id = |segment: Option<Segment>| segment.and_then(|segment| JobId::parse(segment.as_str()));
        for object in self.store.list(&Key::jobs()).await? {
            if let Some(id) = id(object.key.as_job()) {
                listing.records.push((id, object.etag));
            } else if let Some(id) = id(object.key.as_job_claim()) {
                listing.claims.insert(id, object.etag);
            } else if let Some(id) = id(object.key.as_job_cancel()) {
                listing.cancels.insert(id);
            }
        }
        Ok(listing)
    }

    async fn look_at(
        self: &Arc<Self>,
        share: &Share,
        listing: &Listing,
        id: &JobId,
        etag: Option<&str>,
    ) -> Result<(), StoreError> {
        let wanted = listing.cancels.contains(id);
        let (known, mine) = match lock(&self.state).jobs.get_mut(id) {
            None => (false, false),
            Some(job) if job.record.state.ended() => return Ok(()),
            Some(job) if job.is_mine() => {
                if wanted && !job.cancelled {
                    job.cancelled = true;
                    job.progress.stop();
                }
                (true, true)
            }
            Some(_) => (true, false),
        };
        if mine {
            return Ok(());
        }
        let claim = listing.claims.get(id);
        let given_up = claim.is_none_or(|etag| share.is_given_up(id, etag.as_deref()));
        // One that waits here and is claimed elsewhere is about to change, or was taken while this replica wanted it.
        let waits = lock(&self.state).jobs.get(id).is_some_and(|job| job.record.state == JobState::Queued);
        let same_tag = etag.is_some() && lock(&share.seen).records.get(id).map(String::as_str) == etag;
        let unchanged = known && same_tag && (given_up || !waits);
        if !unchanged {
            let Some(record) = self.record(id).await? else { return Ok(()) };
            self.adopt(record);
            if let Some(etag) = etag {
                lock(&share.seen).records.insert(id.clone(), etag.to_owned());
            }
        }
        let Some(record) = lock(&self.state).jobs.get(id).map(|job| job.record.clone()) else {
            return Ok(());
        };
        if record.state.ended() {
            return Ok(());
        }
        if !given_up {
            return self.look_how_far(id).await;
        }
        if wanted {
            self.end_here(id, cancelled).await;
        } else if let Some(failure) = self.crashed(&record) {
            self.fail_here(id, failure).await;
        } else if self.store.size(&Key::job_request(&id.segment())).await?.is_none() {
            self.fail_here(id, request_lost("it is gone")).await;
        } else {
            self.make_ready(&record).await;
        }
        Ok(())
    }

    /// A record of the store; `None` where there is none that can be read.
    async fn record(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        match self.store.get(&Key::job(&id.segment())).await {
            Ok(bytes) => {
                let record: Option<JobRecord> = serde_json::from_slice(&bytes).ok();
                Ok(record.filter(|record| record.id == *id))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes over what another replica says of a job.
    fn adopt(&self, record: JobRecord) {
        let mut state = lock(&self.state);
        let id = record.id.clone();
        let fresh = !state.jobs.contains_key(&id);
        let job = state.jobs.entry(id.clone()).or_insert_with(|| Job::new(record.clone()));
        if !fresh && (job.is_mine() || job.record.state.ended()) {
            return;
        }
        job.record = record;
        match job.record.state {
            JobState::Queued => job.elsewhere = None,
            JobState::Running => {
                job.elsewhere.get_or_insert_with(|| Progress::new().view());
            }
            ended => {
                (job.elsewhere, job.request, job.uploads) = (None, None, Vec::new());
                job.progress.end(ended == JobState::Succeeded);
            }
        }
        if job.record.state != JobState::Queued {
            state.waiting.retain(|waiting| *waiting != id);
        }
    }

    async fn look_how_far(&self, id: &JobId) -> Result<(), StoreError> {
        let Some((claim, _)) = self.store.get_tagged(&Key::job_claim(&id.segment())).await? else {
            return Ok(());
        };
        let Ok(claim) = serde_json::from_slice::<Claim>(&claim) else { return Ok(()) };
        if let Some(job) = lock(&self.state).jobs.get_mut(id)
            && job.elsewhere.is_some()
        {
            job.elsewhere = Some(claim.progress);
        }
        Ok(())
    }

    /// Puts a job that nobody runs among those that wait here, if this replica has what it reads.
    async fn make_ready(&self, record: &JobRecord) {
        let id = &record.id;
        if lock(&self.state).waiting.contains(id) {
            return;
        }
        let named = record.uploads.iter().chain(&record.upload).filter_map(|upload| UploadId::parse(upload));
        let held: Vec<_> = named.map(|upload| self.setting.uploads.hold(upload)).collect();
        if held.iter().any(|upload| self.setting.uploads.facts(upload.id()).is_err()) {
            return;
        }
        let Ok(request) = self.stored_request(id).await else { return };
        let mut state = lock(&self.state);
        if state.closing {
            return;
        }
        let Some(job) = state.jobs.get_mut(id).filter(|job| !job.record.state.ended() && !job.is_mine())
        else {
            return;
        };
        job.record.state = JobState::Queued;
        job.record.started_at = None;
        (job.elsewhere, job.request, job.uploads) = (None, Some(Arc::new(request)), held);
        job.progress = Arc::new(Progress::new());
        state.waiting.push_back(id.clone());
        self.wake.notify_one();
    }

    /// Claims a job; `None` where another replica has it, or it has ended.
    pub(super) async fn claim(&self, id: &JobId) -> Option<Claimed> {
        let Some(share) = &self.share else { return Some(Claimed(None)) };
        match self.try_claim(share, id).await {
            Ok(true) => {
                let every = share.take_over_after / BEATS;
                let key = Key::job_claim(&id.segment());
                Some(Claimed(Some(Holding { key, me: share.me.clone(), every })))
            }
            Ok(false) => None,
            Err(error) => {
                // The next look finds it waiting.
                tracing::warn!(job = id.as_str(), %error, "the job cannot be claimed");
                None
            }
        }
    }

    async fn try_claim(&self, share: &Share, id: &JobId) -> Result<bool, StoreError> {
        let key = Key::job_claim(&id.segment());
        let found = self.store.get_tagged(&key).await?;
        if let Some((claim, tag)) = &found {
            let mine = holder(claim).is_some_and(|holder| holder == share.me);
            if !mine && !share.is_given_up(id, tag.etag()) {
                return Ok(false);
            }
        }
        let claim = Claim { holder: share.me.clone(), beat: 0, progress: Progress::new().view() };
        let tag: Option<&Tag> = found.as_ref().map(|(_, tag)| tag);
        match self.store.put_if(&key, to_json(&claim), tag).await {
            Ok(_) => {}
            Err(StoreError::Changed) => return Ok(false),
            Err(error) => return Err(error),
        }
        // It may have been run to its end between the last look and the claim.
        match self.record(id).await? {
            Some(record) if !record.state.ended() => {
                if let Some(job) = lock(&self.state).jobs.get_mut(id) {
                    let JobRecord { starts, kept, stuck, .. } = record;
                    job.record = JobRecord { starts, kept, stuck, ..job.record.clone() };
                }
                Ok(true)
            }
            ended => {
                ended.into_iter().for_each(|record| self.adopt(record));
                self.release(id).await?;
                Ok(false)
            }
        }
    }

    /// Gives up a claim and what was asked of its holder.
    pub(super) async fn release(&self, id: &JobId) -> Result<(), StoreError> {
        if self.share.is_some() {
            self.store.delete(&Key::job_claim(&id.segment())).await?;
            self.store.delete(&Key::job_cancel(&id.segment())).await?;
        }
        Ok(())
    }

    /// Leaves a job to the replica that has taken it over.
    pub(super) fn leave(&self, id: &JobId) {
        if let Some(job) = lock(&self.state).jobs.get_mut(id) {
            job.elsewhere = Some(job.progress.view());
        }
    }

    /// Has the replica that runs a job, or is about to, cancel it; `None` where that is this one.
    pub(super) async fn cancel_elsewhere(self: &Arc<Self>, id: &JobId) -> Result<Option<JobView>, JobError> {
        let Some(share) = &self.share else { return Ok(None) };
        if !lock(&self.state).jobs.contains_key(id) {
            self.look().await?;
        }
        let elsewhere = match lock(&self.state).jobs.get(id) {
            Some(job) if !job.is_mine() && !job.record.state.ended() => job.elsewhere.is_some(),
            _ => return Ok(None),
        };
        if !elsewhere && self.try_claim(share, id).await? {
            return Ok(None);
        }
        self.store.put(&Key::job_cancel(&id.segment()), "{}").await?;
        Ok(lock(&self.state).jobs.get(id).map(Job::view))
    }

    async fn fail_here(self: &Arc<Self>, id: &JobId, failure: JobFailure) {
        let fail = |record: &mut JobRecord| {
            record.state = JobState::Failed;
            record.error = Some(failure);
        };
        self.end_here(id, fail).await;
    }

    /// Ends a job that nobody runs, unless another replica does so at this moment.
    async fn end_here(self: &Arc<Self>, id: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if self.claim(id).await.is_none() {
            return;
        }
        let ended = lock(&self.state).end(id, self.settings.max_records, change);
        let shared = Arc::clone(self);
        tokio::spawn(async move { shared.record_end(ended).await });
    }
}

impl Job {
    /// Whether this process runs it.
    fn is_mine(&self) -> bool {
        self.record.state == JobState::Running && self.elsewhere.is_none()
    }
}

fn holder(claim: &[u8]) -> Option<String> {
    serde_json::from_slice::<Claim>(claim).ok().map(|claim| claim.holder)
}

fn to_json(claim: &Claim) -> Vec<u8> {
    serde_json::to_vec(claim).expect("a claim has string keys only")
}
