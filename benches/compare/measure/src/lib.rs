//! One measurement of one engine, in a process of its own.
//!
//! `compare` starts a program with a [`Task`] and reads the [`Once`] that it prints. The programs are `compare` itself,
//! `compare-rc` (its engine cannot be linked into the same program) and `peers.py`, which does in Python what is here.

mod clock;
mod documents;

pub use clock::Clock;
pub use documents::Documents;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Instant;

/// Why a measurement ended: a line for a person.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Documents encoded one by one.
    Docs,
    /// All of them as one text.
    Big,
    /// Their tokens counted.
    Count,
    /// Their ids decoded to bytes.
    Decode,
    /// Encoded in batches of [`BATCH_DOCUMENTS`], on all cores that the process may use.
    Batch,
    /// Encoded one by one, with the place of every token.
    Offsets,
    /// Nothing but loaded.
    Load,
}

/// What a process is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Which engine, where a program has several.
    pub engine: String,
    /// The file that the engine reads; for engines with built-in vocabularies only its name counts.
    pub file: PathBuf,
    /// The name by which engines with built-in vocabularies know it.
    pub name: String,
    /// The split pattern, for engines whose file has none.
    pub pattern: Option<String>,
    pub mode: Mode,
    /// The texts, as [`Documents`] writes them.
    pub documents: PathBuf,
    /// Threads in [`Mode::Batch`]; the process is pinned to as many cores.
    pub threads: usize,
}

/// What a process found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Once {
    /// 10^6 bytes of UTF-8 a second: of processor time of all threads, in [`Mode::Batch`] of wall time.
    pub mb_per_s: f64,
    /// The time that this is computed from, in milliseconds.
    pub ms: f64,
    /// Processor time as a share of the wall's: how quiet the machine was.
    pub core_share: f64,
    /// From the file to the ids of a first text, wall time.
    pub load_ms: f64,
    /// By how much loading and warming made the process grow, in 10^6 bytes.
    pub rss_mb: f64,
    /// What it takes to count all texts as one up to [`LIMIT`] tokens, in microseconds; in [`Mode::Count`] where an engine
    /// has a call for it.
    pub limit_us: Option<f64>,
    /// Digest of all that was answered while the clock ran, in hexadecimal; in [`Mode::Load`] of the first text's ids.
    pub answers: String,
    /// Digest of how many tokens each text had; not in [`Mode::Decode`].
    pub counts: String,
}

/// Tokens after which counting may end.
pub const LIMIT: usize = 1_000;

/// Documents in a batch.
pub const BATCH_DOCUMENTS: usize = 64;

/// Documents between two looks at the clock, which costs as much as some hundred bytes of text.
const STRIDE: usize = 32;

/// What every engine encodes first.
const FIRST: &str = "Hello, 世界! 1234 times; it's the first text.";

/// A loaded tokenizer. What an engine has no call for, it refuses.
pub trait Engine {
    /// The ids of a text.
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure>;

    /// The bytes that ids stand for.
    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure>;

    /// How many tokens a text has.
    fn count(&mut self, _text: &str) -> Result<usize, Failure> {
        Err("has no call that counts".into())
    }

    /// Counts no further than to a limit.
    fn count_within(&mut self, _text: &str, _limit: usize) -> Result<(), Failure> {
        Err("has no call that counts to a limit".into())
    }

    /// The ids of several texts, on so many threads.
    fn encode_batch(&mut self, _texts: &[&str], _threads: usize) -> Result<Box<dyn Batch>, Failure> {
        Err("has no call for a batch".into())
    }

    /// The ids of a text; where they stand is computed too, in whatever form the engine has it.
    fn encode_with_offsets(&mut self, _text: &str) -> Result<Vec<u32>, Failure> {
        Err("has no call that gives offsets".into())
    }
}

/// The ids of several texts as an engine hands them out.
pub trait Batch {
    /// The ids of each text, in the order of the texts.
    fn each(&self, answer: &mut dyn FnMut(&[u32]));
}

impl Batch for Vec<Vec<u32>> {
    fn each(&self, answer: &mut dyn FnMut(&[u32])) {
        self.iter().for_each(|ids| answer(ids));
    }
}

/// Measures: loads, warms, and has the clock run over what was not seen before.
pub fn measure(
    task: &Task,
    load: impl FnOnce(&Task) -> Result<Box<dyn Engine>, Failure>,
) -> Result<Once, Failure> {
    let documents = Documents::read(&task.documents)?;
    let rss_before = resident_mb();
    let started = Instant::now();
    let mut engine = load(task)?;
    let first = engine.encode(FIRST)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;

    warm(&mut *engine, task, &documents.warm)?;
    let rss_mb = resident_mb() - rss_before;

    let mut clock = Clock::default();
    let (mut answers, mut counts) = (Answers::default(), Answers::default());
    let mut both = |ids: &[u32]| {
        answers.ids(ids);
        counts.number(ids.len());
    };
    let measured = &documents.measured[..];
    match task.mode {
        Mode::Docs | Mode::Big | Mode::Offsets => {
            for stride in measured.chunks(STRIDE) {
                let ids = if task.mode == Mode::Offsets {
                    clock.time(stride, |text| engine.encode_with_offsets(text))?
                } else {
                    clock.time(stride, |text| engine.encode(text))?
                };
                ids.iter().for_each(|ids| both(ids));
            }
        }
        Mode::Count => {
            for stride in measured.chunks(STRIDE) {
                let counted = clock.time(stride, |text| engine.count(text))?;
                counted.into_iter().for_each(|count| counts.number(count));
            }
        }
        Mode::Decode => {
            for stride in measured.chunks(STRIDE) {
                let ids = stride.iter().map(|text| engine.encode(text)).collect::<Result<Vec<_>, _>>()?;
                let decoded = clock.time(&ids, |ids| engine.decode(ids))?;
                decoded.iter().for_each(|bytes| answers.bytes(bytes));
            }
        }
        Mode::Batch => {
            for batch in measured.chunks(BATCH_DOCUMENTS) {
                let batches = clock.time(&[batch], |batch| engine.encode_batch(batch, task.threads))?;
                batches.iter().for_each(|batch| batch.each(&mut both));
            }
        }
        Mode::Load => both(&first),
    }
    let limit_us = if task.mode == Mode::Count { limit_us(&mut *engine, &measured.concat()) } else { None };
    let bytes: usize = measured.iter().map(|text| text.len()).sum();
    let time = if task.mode == Mode::Batch { clock.wall } else { clock.cpu };
    // Where nothing was timed there is no speed.
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    Ok(Once {
        mb_per_s: share(bytes as f64 / 1e6, time.as_secs_f64()),
        ms: time.as_secs_f64() * 1e3,
        core_share: share(clock.cpu.as_secs_f64(), clock.wall.as_secs_f64()),
        load_ms,
        rss_mb,
        limit_us,
        answers: answers.digest(),
        counts: counts.digest(),
    })
}

fn warm(engine: &mut dyn Engine, task: &Task, documents: &[&str]) -> Result<(), Failure> {
    match task.mode {
        Mode::Batch => {
            for batch in documents.chunks(BATCH_DOCUMENTS) {
                engine.encode_batch(batch, task.threads)?;
            }
        }
        Mode::Count => {
            for text in documents {
                engine.count(text)?;
            }
        }
        Mode::Decode => {
            for text in documents {
                let ids = engine.encode(text)?;
                engine.decode(&ids)?;
            }
        }
        Mode::Offsets => {
            for text in documents {
                engine.encode_with_offsets(text)?;
            }
        }
        Mode::Docs | Mode::Big | Mode::Load => {
            for text in documents {
                engine.encode(text)?;
            }
        }
    }
    Ok(())
}

/// The middle of five.
fn limit_us(engine: &mut dyn Engine, text: &str) -> Option<f64> {
    let mut times = [0.0; 5];
    for time in &mut times {
        let started = Instant::now();
        engine.count_within(text, LIMIT).ok()?;
        *time = started.elapsed().as_secs_f64() * 1e6;
    }
    times.sort_by(f64::total_cmp);
    Some(times[2])
}

/// The digest of answers. Where one ends and the next begins is part of it.
#[derive(Default)]
struct Answers(Sha256);

impl Answers {
    fn ids(&mut self, ids: &[u32]) {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.bytes(&bytes);
    }

    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn digest(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is resident of this process, in 10^6 bytes.
pub fn resident_mb() -> f64 {
    status_mb("VmRSS")
}

/// A field of `/proc/self/status` that is given in kB, in 10^6 bytes.
pub fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) * 1024.0 / 1e6
}
