//! How far a job is: written by the thread that trains, read by anybody, without a lock between them.

use super::report::{CurvePoint, ratio};
use crate::engine::{LearnedMerge, Observer, Stage};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStage {
    /// Waiting for its turn.
    Waiting,
    /// Reading the corpus and counting its pretokens.
    Counting,
    /// Laying out the pairs of the counted pretokens.
    Preparing,
    /// Merging.
    Merging,
    /// Checking and storing the vocabulary.
    Publishing,
    /// Nothing any more.
    Done,
}

const STAGES: [JobStage; 6] = [
    JobStage::Waiting,
    JobStage::Counting,
    JobStage::Preparing,
    JobStage::Merging,
    JobStage::Publishing,
    JobStage::Done,
];

/// Share of the whole at the end of each stage: what corpora of 10 MB to 32k tokens take, roughly.
const SHARE_AT_END: [f64; 6] = [0.0, 0.35, 0.40, 0.98, 1.0, 1.0];

/// A merge that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastMerge {
    /// The new token's id.
    pub id: u32,
    /// Id of its left part.
    pub left: u32,
    /// Id of its right part.
    pub right: u32,
    /// How often the pair occurred.
    pub count: u64,
    /// The new token as text; bytes that are not UTF-8 are replaced.
    pub token: String,
}

/// What merging has made since it was last told of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Merging {
    /// The latest merges, oldest first: all of them, or the last 32 where there were more.
    pub merges: Vec<LastMerge>,
    /// New points of the compression curve, about 200 over the whole of a job. Of an extension there are none before its end: what
    /// the base makes of the corpus is not known until then. Nor are there of merges that an earlier life of the server made.
    pub curve: Vec<CurvePoint>,
}

/// The most merges that are told of at once.
const MOST_LATEST: usize = 32;
/// The points of the curve of a job, about.
const CURVE_POINTS: u32 = 200;

/// What merging has made so far, for [`Merging`].
#[derive(Debug, Default)]
struct Made {
    /// The latest of `done` merges, oldest first.
    latest: VecDeque<LastMerge>,
    done: u32,
    curve: Vec<CurvePoint>,
    /// Bytes of the corpus, and tokens that it has with the merges so far; `None` where that is not known.
    corpus: Option<(u64, u64)>,
}

/// Where a job is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// What it is doing.
    pub stage: JobStage,
    /// Bytes of the corpus read, as stored (compressed bytes of a compressed file).
    pub bytes_read: u64,
    /// Bytes of the corpus in all, as stored.
    pub bytes_total: u64,
    /// Pretokens counted.
    pub pretokens: u64,
    /// Merges made.
    pub merges_done: u32,
    /// Merges wanted; fewer are made when nothing frequent is left.
    pub merges_total: u32,
    /// The merge made last.
    pub last_merge: Option<LastMerge>,
    /// Bytes of the corpus per token with the merges so far; absent before there are any, and of an extension.
    #[serde(default)]
    pub bytes_per_token: Option<f64>,
    /// Share of the work done, 0 to 1; never falls.
    pub fraction: f64,
    /// Seconds that the rest will take at the speed so far; absent before there is a speed.
    pub eta_seconds: Option<f64>,
}

/// The shared state of one run.
#[derive(Debug)]
pub(super) struct Progress {
    stage: AtomicU8,
    bytes_read: AtomicU64,
    bytes_total: AtomicU64,
    pretokens: AtomicU64,
    prepared: AtomicU64,
    to_prepare: AtomicU64,
    merges_done: AtomicU32,
    merges_total: AtomicU32,
    made: Mutex<Made>,
    started: Mutex<Option<Instant>>,
    stop: AtomicBool,
    over: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            stage: AtomicU8::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            pretokens: AtomicU64::new(0),
            prepared: AtomicU64::new(0),
            to_prepare: AtomicU64::new(0),
            merges_done: AtomicU32::new(0),
            merges_total: AtomicU32::new(0),
            made: Mutex::new(Made::default()),
            started: Mutex::new(None),
            stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Begins the run: the clock for the rest of the time starts here.
    pub(super) fn start(&self, bytes_total: u64) {
        self.bytes_total.store(bytes_total, Relaxed);
        *lock(&self.started) = Some(Instant::now());
        self.enter(JobStage::Counting);
    }

    pub(super) fn enter(&self, stage: JobStage) {
        let index = STAGES.iter().position(|s| *s == stage).unwrap_or(0);
        self.stage.fetch_max(index as u8, Relaxed);
    }

    /// The run is over. Only what succeeded is done; anything else stays where it stopped.
    pub(super) fn end(&self, succeeded: bool) {
        self.over.store(true, Relaxed);
        if succeeded {
            self.enter(JobStage::Done);
        }
    }

    pub(super) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    /// Merging begins, with `done` merges of an earlier run and a corpus of so many bytes, which are that many tokens with them.
    pub(super) fn begin_merging(&self, done: u32, bytes: u64, tokens: u64) {
        let point = CurvePoint { merges: done.into(), bytes_per_token: ratio(bytes, tokens) };
        *lock(&self.made) =
            Made { done, curve: vec![point], corpus: Some((bytes, tokens)), ..Made::default() };
    }

    /// What there is beyond `done` merges and `points` of the curve, and how much there is of both now.
    pub(super) fn merging(&self, done: u32, points: usize) -> (Merging, u32, usize) {
        let made = lock(&self.made);
        let new = made.done.saturating_sub(done) as usize;
        let merges = made.latest.iter().skip(made.latest.len().saturating_sub(new)).cloned().collect();
        let curve = made.curve.get(points..).unwrap_or_default().to_vec();
        (Merging { merges, curve }, made.done, made.curve.len())
    }

    /// Asks the run to end soon.
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(super) fn go_on(&self) -> ControlFlow<()> {
        if self.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub(super) fn view(&self) -> ProgressView {
        let at = usize::from(self.stage.load(Relaxed));
        let part =
            |done: u64, total: u64| if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) };
        let within = match STAGES[at] {
            JobStage::Counting => part(self.bytes_read.load(Relaxed), self.bytes_total.load(Relaxed)),
            JobStage::Preparing => part(self.prepared.load(Relaxed), self.to_prepare.load(Relaxed)),
            JobStage::Merging => {
                part(self.merges_done.load(Relaxed).into(), self.merges_total.load(Relaxed).into())
            }
            JobStage::Waiting | JobStage::Publishing | JobStage::Done => 0.0,
        };
        let before = if at == 0 { 0.0 } else { SHARE_AT_END[at - 1] };
        let fraction =
            if STAGES[at] == JobStage::Done { 1.0 } else { before + within * (SHARE_AT_END[at] - before) };
        let running = lock(&self.started).filter(|_| !self.over.load(Relaxed));
        let elapsed = running.map(|started| started.elapsed().as_secs_f64());
        let eta_seconds = elapsed.filter(|_| fraction > 0.01).map(|e| round(e * (1.0 - fraction) / fraction));
        let made = lock(&self.made);
        ProgressView {
            stage: STAGES[at],
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed),
            pretokens: self.pretokens.load(Relaxed),
            merges_done: self.merges_done.load(Relaxed),
            merges_total: self.merges_total.load(Relaxed),
            last_merge: made.latest.back().cloned(),
            bytes_per_token: made.corpus.map(|(bytes, tokens)| ratio(bytes, tokens)),
            fraction: round(fraction),
            eta_seconds,
        }
    }
}

impl Made {
    /// `fewer` tokens are left by the `done`th of `wanted` merges.
    fn merged(&mut self, merge: LastMerge, fewer: u64, done: u32, wanted: u32) {
        if self.latest.len() == MOST_LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(merge);
        self.done = done;
        if let Some((bytes, tokens)) = &mut self.corpus {
            *tokens = tokens.saturating_sub(fewer);
            if done.is_multiple_of((wanted / CURVE_POINTS).max(1)) || done == wanted {
                let bytes_per_token = ratio(*bytes, *tokens);
                self.curve.push(CurvePoint { merges: done.into(), bytes_per_token });
            }
        }
    }
}

/// Three digits are what a person reads.
fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// A thread that panicked while it held the lock left a whole value behind: every store is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Feeds what the trainer tells into a [`Progress`], and gives way to whoever waits for this core: a thread that is let run
/// goes on for a millisecond or more, its niceness notwithstanding, while a request needs a tenth of one.
pub(super) struct Watch<'p> {
    progress: &'p Progress,
    gave_way: Instant,
}

/// How long a run goes on before it gives way. Asking takes the system a third of a microsecond.
const GIVE_WAY_EVERY: Duration = Duration::from_micros(50);

impl<'p> Watch<'p> {
    pub(super) fn new(progress: &'p Progress) -> Self {
        Self { progress, gave_way: Instant::now() }
    }

    fn go_on(&mut self) -> ControlFlow<()> {
        if self.gave_way.elapsed() >= GIVE_WAY_EVERY {
            std::thread::yield_now();
            self.gave_way = Instant::now();
        }
        self.progress.go_on()
    }
}

impl Observer for Watch<'_> {
    fn counting(&mut self, _bytes: u64, pretokens: u64) -> ControlFlow<()> {
        self.progress.pretokens.store(pretokens, Relaxed);
        self.go_on()
    }

    fn preparing(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        self.progress.to_prepare.store(total, Relaxed);
        self.progress.prepared.store(done, Relaxed);
        self.progress.enter(JobStage::Preparing);
        self.go_on()
    }

    fn merged(&mut self, merge: &LearnedMerge, token: &[u8], done: u32, wanted: u32) -> ControlFlow<()> {
        let LearnedMerge { left, right, id, count, made: fewer } = *merge;
        let token = String::from_utf8_lossy(token).into_owned();
        lock(&self.progress.made).merged(LastMerge { id, left, right, count, token }, fewer, done, wanted);
        self.progress.merges_total.store(wanted, Relaxed);
        self.progress.merges_done.store(done, Relaxed);
        self.progress.enter(JobStage::Merging);
        self.go_on()
    }

    fn poll(&mut self, _stage: Stage) -> ControlFlow<()> {
        self.go_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_never_falls_and_ends_at_one() {
        let progress = Progress::new();
        let mut last = progress.view().fraction;
        let mut step = |act: &dyn Fn()| {
            act();
            let now = progress.view().fraction;
            assert!(now >= last, "{now} after {last}");
            last = now;
        };
        step(&|| progress.start(100));
        step(&|| progress.read(50));
        step(&|| progress.read(50));
        let merge = LearnedMerge { left: 1, right: 2, id: 300, count: 7, made: 7 };
        step(&|| assert!(Watch::new(&progress).counting(0, 9).is_continue()));
        step(&|| assert!(Watch::new(&progress).preparing(1, 2).is_continue()));
        step(&|| assert!(Watch::new(&progress).merged(&merge, b"ab", 5, 10).is_continue()));
        // A late word from an earlier stage does not lead back.
        step(&|| assert!(Watch::new(&progress).preparing(1, 2).is_continue()));
        step(&|| progress.enter(JobStage::Publishing));
        step(&|| progress.enter(JobStage::Done));
        let view = progress.view();
        assert_eq!((view.fraction, view.pretokens, view.merges_done, view.merges_total), (1.0, 9, 5, 10));
        assert_eq!(view.last_merge.unwrap().token, "ab");
        assert_eq!(view.bytes_per_token, None, "nobody said how much there is");
    }

    #[test]
    fn what_merging_made_is_told_once() {
        let progress = Progress::new();
        progress.begin_merging(0, 10_000, 10_000);
        let merge = LearnedMerge { left: 1, right: 2, id: 300, count: 10, made: 10 };
        let merged = |from: u32, to: u32| {
            for done in from..=to {
                let token = done.to_string();
                assert!(Watch::new(&progress).merged(&merge, token.as_bytes(), done, 400).is_continue());
            }
        };
        let tokens = |told: &Merging| told.merges.iter().map(|m| m.token.clone()).collect::<Vec<_>>();
        merged(1, 3);
        let (first, done, points) = progress.merging(0, 0);
        assert_eq!((tokens(&first), done), (["1", "2", "3"].map(str::to_owned).to_vec(), 3));
        // Every second of 400 merges is a point, beside the first.
        assert_eq!(first.curve.iter().map(|p| p.merges).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((progress.merging(done, points).0, points), (Merging::default(), 2));
        merged(4, 100);
        let (more, done, points) = progress.merging(done, points);
        assert_eq!((tokens(&more).len(), tokens(&more)[0].as_str(), done), (MOST_LATEST, "69", 100));
        assert_eq!((more.curve.len(), points), (49, 51));
        assert_eq!(more.curve.last().unwrap().bytes_per_token, 1.1111);
        assert_eq!(progress.view().bytes_per_token, Some(1.1111));
        // A run that goes on begins where the one before was.
        progress.begin_merging(50, 10_000, 9_500);
        assert_eq!(progress.merging(0, 0).0.curve.len(), 1);
    }

    #[test]
    fn a_stop_reaches_the_trainer_at_every_stage() {
        let progress = Progress::new();
        progress.stop();
        let merge = LearnedMerge { left: 1, right: 2, id: 300, count: 7, made: 7 };
        assert!(Watch::new(&progress).counting(1, 1).is_break());
        assert!(Watch::new(&progress).preparing(1, 1).is_break());
        assert!(Watch::new(&progress).merged(&merge, b"ab", 1, 1).is_break());
        assert!(Watch::new(&progress).poll(Stage::Merging).is_break());
    }
}
