//! From a corpus to the counts of its pretokens, in bounded memory.
//!
//! Counts that grow over their share of memory go to the disk, sorted, and are added up when all was read; so do those
//! of a run that takes long, so that one that is killed goes on from there. What is counted does not depend on where
//! that happened.

use super::checkpoint::{Checkpoint, Counted, Facts};
use super::corpus::{self, Batch, CorpusError, Reading, Source};
use super::disk::{self, Unpacking};
use super::progress::{Progress, Watch};
use super::request::{CorpusRequest, TrainRequest};
use super::shard::{self, Meta};
use super::whole::Whole;
use super::wordfile::{self, Merged};
use super::worker::RunError;
use crate::engine::{Counter, SafeCuts, TrainConfig, WordCounts, WordSums, scaled_count};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

/// Taking counts out of their tables needs memory again, up to twice what the tables have.
const SHARE: usize = 3;

/// Files of counts that are open at once when they are added up.
const MOST_PARTS: usize = 24;

/// What is read of one source of the request.
pub(super) enum Input {
    /// Texts of the request itself.
    Texts,
    /// Files of text.
    Files(Vec<Source>),
    /// Files of counts.
    Counts(Vec<Source>),
}

/// A corpus, counted.
pub(super) struct Counts {
    pub(super) whole: Whole,
    /// Of records that were held back.
    pub(super) held: Whole,
    pub(super) facts: Facts,
}

/// Where a run works.
pub(super) struct Room<'r> {
    pub(super) checkpoint: &'r mut Checkpoint,
    /// Memory for the run, in bytes.
    pub(super) max_memory: usize,
    /// How much of the disk it may take.
    pub(super) unpacking: Unpacking,
    pub(super) progress: &'r Progress,
}

impl Room<'_> {
    /// Whether so many bytes of counts in memory should rather be on the disk.
    fn is_full(&self, memory: usize) -> bool {
        memory.saturating_mul(SHARE) > self.max_memory
    }

    /// The longest record, in bytes. There are up to four of one at once: it grows by doubling, and is counted while the next
    /// one is read.
    fn max_record_bytes(&self) -> usize {
        (self.max_memory / 4).clamp(corpus::MIN_RECORD_BYTES, corpus::MAX_RECORD_BYTES)
    }

    /// A file with counts of a group that nothing has so far.
    fn write(&self, path: PathBuf, counts: &WordCounts) -> Result<PathBuf, RunError> {
        self.check_disk()?;
        wordfile::write(&path, counts)?;
        Ok(path)
    }

    /// The same of the sums of other files.
    fn write_sums(
        &self,
        path: PathBuf,
        sums: impl Iterator<Item = Result<(Vec<u8>, u64), RunError>>,
    ) -> Result<PathBuf, RunError> {
        self.check_disk()?;
        wordfile::write_sorted(&path, sums)?;
        self.check_stopped()?;
        Ok(path)
    }

    /// The sums of files, until the run is to stop.
    fn merged(
        &self,
        files: &[PathBuf],
    ) -> Result<impl Iterator<Item = Result<(Vec<u8>, u64), RunError>>, RunError> {
        Ok(Merged::open(files)?.enumerate().map(|(n, pair)| {
            if n.is_multiple_of(1 << 14) {
                self.check_stopped()?;
            }
            Ok(pair?)
        }))
    }

    fn check_stopped(&self) -> Result<(), RunError> {
        if self.progress.stopped() { Err(CorpusError::Stopped.into()) } else { Ok(()) }
    }

    fn check_disk(&self) -> Result<(), RunError> {
        let min_free_bytes = self.unpacking.min_free_bytes;
        match disk::has_room(self.checkpoint.folder(), 0, min_free_bytes)? {
            true => Ok(()),
            false => Err(CorpusError::DiskFull { min_free_bytes }.into()),
        }
    }
}

/// Counts the whole corpus, or takes up the counts of a run before.
pub(super) fn count(
    config: &TrainConfig,
    request: &TrainRequest,
    inputs: Vec<Input>,
    room: &mut Room<'_>,
) -> Result<Counts, RunError> {
    if let Some((whole, held, facts)) = room.checkpoint.whole(room.max_memory) {
        return Ok(Counts { whole, held, facts });
    }
    let groups = request.corpus.groups();
    let mut facts = Facts::default();
    let (mut wholes, mut helds) = (Sum::new("whole"), Sum::new("held"));
    for (at, ((_, corpus), input)) in groups.into_iter().zip(inputs).enumerate() {
        let mut group = Group::new(at, config, request, corpus, room)?;
        match input {
            Input::Texts => group.count_texts(corpus.texts.as_deref().unwrap_or_default())?,
            Input::Files(sources) => facts.replaced += group.count_files(sources)?,
            Input::Counts(sources) => group.add_counts(sources)?,
        }
        let (whole, held) = group.finish()?;
        let weight = corpus.weight.unwrap_or(1.0);
        wholes.add(whole, weight, room)?;
        helds.add(held, weight, room)?;
    }
    let spilled = !wholes.files.is_empty() || !helds.files.is_empty();
    let (whole, distinct, pretokens) = wholes.finish(request.prune_count, room)?;
    let (held, _, _) = helds.finish(1, room)?;
    (facts.pruned_distinct, facts.pruned_pretokens) = (distinct, pretokens);
    if spilled || room.checkpoint.is_due() {
        room.check_disk()?;
        room.checkpoint.keep_whole(&whole, &held, facts)?;
    }
    Ok(Counts { whole, held, facts })
}

/// The counts of one source.
enum Part {
    Loaded(WordCounts),
    /// In files that add up to them.
    Files(Vec<PathBuf>),
}

/// The counts of several sources, being added up: in memory while they are small, else in files.
struct Sum {
    /// Of the file that the whole becomes.
    name: &'static str,
    loaded: Vec<WordCounts>,
    files: Vec<PathBuf>,
    next: u32,
}

impl Sum {
    fn new(name: &'static str) -> Self {
        Self { name, loaded: Vec::new(), files: Vec::new(), next: 0 }
    }

    fn path(&mut self, room: &Room<'_>) -> PathBuf {
        self.next += 1;
        room.checkpoint.sum(self.name, self.next)
    }

    fn add(&mut self, part: Part, weight: f64, room: &Room<'_>) -> Result<(), RunError> {
        match part {
            Part::Loaded(counts) => {
                self.loaded.push(if weight == 1.0 { counts } else { counts.scaled(weight)? });
                if room.is_full(self.loaded.iter().map(WordCounts::memory_bytes).sum()) {
                    self.unload(room)?;
                }
            }
            Part::Files(paths) if weight == 1.0 => self.files.extend(paths),
            Part::Files(paths) => {
                let path = self.path(room);
                let scaled = room.merged(&paths)?.filter_map(|pair| {
                    let scaled = pair.and_then(|(word, count)| {
                        Ok(scaled_count(count, weight)?.map(|count| (word, count)))
                    });
                    scaled.transpose()
                });
                self.files.push(room.write_sums(path, scaled)?);
            }
        }
        if self.files.len() >= MOST_PARTS {
            let path = self.path(room);
            let sum = room.write_sums(path, room.merged(&self.files)?)?;
            self.files = vec![sum];
        }
        Ok(())
    }

    fn unload(&mut self, room: &Room<'_>) -> Result<(), RunError> {
        for counts in std::mem::take(&mut self.loaded) {
            let path = self.path(room);
            self.files.push(room.write(path, &counts)?);
        }
        Ok(())
    }

    /// All of it without pretokens that occur less often than `least`; and how many these were, distinct and all.
    fn finish(mut self, least: u64, room: &Room<'_>) -> Result<(Whole, u64, u64), RunError> {
        if self.files.is_empty() {
            let (whole, distinct, pretokens) = added_up(self.loaded)?.pruned(least);
            return Ok((Whole::Loaded(whole), distinct, pretokens));
        }
        self.unload(room)?;
        room.check_disk()?;
        let (mut distinct, mut pretokens) = (0, 0u64);
        let kept = room.merged(&self.files)?.filter(|pair| match pair {
            Ok((_, count)) if *count < least => {
                distinct += 1;
                pretokens = pretokens.saturating_add(*count);
                false
            }
            _ => true,
        });
        let whole = Whole::store(&room.checkpoint.folder().join(self.name), kept, room.max_memory)?;
        room.check_stopped()?;
        Ok((whole, distinct, pretokens))
    }
}

fn added_up(mut all: Vec<WordCounts>) -> Result<WordCounts, RunError> {
    if all.len() < 2 {
        return Ok(all.pop().unwrap_or_default());
    }
    Ok(WordCounts::from_pairs(all.iter().flat_map(WordCounts::iter))?)
}

/// One source, being counted.
struct Group<'g, 'r> {
    at: usize,
    config: &'g TrainConfig,
    corpus: &'g CorpusRequest,
    room: &'g mut Room<'r>,
    /// Shares of records that are read, and of those that are held back.
    sample: f64,
    hold_back: f64,
    counter: Counter<'g>,
    held: Option<Counter<'g>>,
    sums: WordSums,
    /// What is on the disk.
    counted: Counted,
    /// The number of the next file.
    next: u32,
}

impl<'g, 'r> Group<'g, 'r> {
    fn new(
        at: usize,
        config: &'g TrainConfig,
        request: &TrainRequest,
        corpus: &'g CorpusRequest,
        room: &'g mut Room<'r>,
    ) -> Result<Self, RunError> {
        let hold_back = request.hold_back.unwrap_or(0.0);
        let counted = room.checkpoint.counted(at);
        Ok(Self {
            at,
            config,
            corpus,
            sample: corpus.sample.unwrap_or(1.0),
            hold_back,
            counter: Counter::new(config)?,
            held: (hold_back > 0.0).then(|| Counter::new(config)).transpose()?,
            sums: WordSums::default(),
            next: counted.parts.iter().chain(&counted.held).map(|n| n + 1).max().unwrap_or(0),
            counted,
            room,
        })
    }

    fn count_texts(&mut self, texts: &[String]) -> Result<(), RunError> {
        // In portions, so that the share of bytes read moves.
        for portion in texts.chunks(1024) {
            let records: Vec<&str> = portion.iter().map(String::as_str).collect();
            self.add(&records)?;
            self.room.progress.read(portion.iter().map(|t| t.len() as u64).sum());
        }
        Ok(())
    }

    /// Reads on a thread of its own while the batch before is counted. Gives how many ill-formed parts were replaced.
    fn count_files(&mut self, sources: Vec<Source>) -> Result<u64, RunError> {
        let unpacking = self.room.unpacking.clone();
        let how = Reading {
            format: self.corpus.format,
            field: self.corpus.field.clone().unwrap_or_else(|| "text".to_owned()),
            records: self.corpus.records,
            invalid_utf8: self.corpus.invalid_utf8,
            max_record_bytes: self.room.max_record_bytes(),
            unpacking: &unpacking,
            cuts: &SafeCuts::new(self.config)?,
        };
        let progress = self.room.progress;
        let known = self.counted.batches;
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Batch>(1);
            // The way back: the memory of batches that were counted is used again.
            let (give_back, emptied) = sync_channel::<Batch>(2);
            let how = &how;
            let reader = scope.spawn(move || {
                corpus::read(sources, how, progress, |batch| {
                    let stop = progress.stopped() || send.send(batch).is_err();
                    if stop { Err(CorpusError::Stopped) } else { Ok(emptied.try_recv().unwrap_or_default()) }
                })
            });
            let mut batches = 0;
            for batch in &receive {
                batches += 1;
                // The same content gives the same batches: these are in the files already.
                if batches > known {
                    self.add(&batch.records())?;
                }
                let _ = give_back.try_send(batch.emptied());
                if batches <= known {
                    continue;
                }
                if self.room.is_full(self.counter.memory_bytes()) || self.room.checkpoint.is_due() {
                    self.spill(batches)?;
                }
            }
            // A panic in the reader goes on here and is caught where the run began.
            Ok(reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        })
    }

    fn add_counts(&mut self, sources: Vec<Source>) -> Result<(), RunError> {
        let meta = Meta::of(self.config);
        let (max_line_bytes, unpacking) = (self.room.max_record_bytes(), self.room.unpacking.clone());
        // Not gone on with in the middle: reading counts is quick, and they may come in any order.
        (self.counted, self.next) = (Counted::default(), 0);
        for source in sources {
            let progress = self.room.progress;
            let (mut failed, mut rows) = (None, 0u64);
            let result = shard::read(source, &meta, (max_line_bytes, &unpacking), progress, |word, count| {
                let added = self.sums.add(word, count).map_err(RunError::from).and_then(|()| {
                    rows += 1;
                    let full = rows.is_multiple_of(4096) && self.room.is_full(self.sums.memory_bytes());
                    if full { self.spill_sums() } else { Ok(()) }
                });
                added.map_err(|error| {
                    failed = Some(error);
                    CorpusError::Stopped
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            result?;
        }
        Ok(())
    }

    fn add(&mut self, records: &[&str]) -> Result<(), RunError> {
        let watch = &mut Watch::new(self.room.progress);
        if self.sample >= 1.0 && self.held.is_none() {
            return Ok(self.counter.add_batch(records, watch)?);
        }
        let read = |record: &&&str| self.sample >= 1.0 || share_of(record, 1) < self.sample;
        let (held, kept): (Vec<&str>, Vec<&str>) =
            records.iter().filter(read).partition(|record| share_of(record, 2) < self.hold_back);
        self.counter.add_batch(&kept, watch)?;
        if let Some(counter) = &mut self.held {
            counter.add_batch(&held, watch)?;
        }
        Ok(())
    }

    /// Puts what is in memory on the disk.
    fn spill(&mut self, batches: u64) -> Result<(), RunError> {
        let watch = &mut Watch::new(self.room.progress);
        let counts = self.counter.take(watch)?;
        let mut old = Vec::new();
        if !counts.is_empty() {
            old.extend(self.keep("part", &counts)?);
        }
        if let Some(counter) = &mut self.held {
            let counts = counter.take(watch)?;
            if !counts.is_empty() {
                old.extend(self.keep("held", &counts)?);
            }
        }
        self.counted.batches = batches;
        self.room.checkpoint.keep_position(self.at, &self.counted)?;
        // Nothing leads to these any more.
        old.iter().for_each(|path| drop(std::fs::remove_file(path)));
        Ok(())
    }

    fn spill_sums(&mut self) -> Result<(), RunError> {
        let counts = self.sums.take()?;
        let old = self.keep("part", &counts)?;
        old.iter().for_each(|path| drop(std::fs::remove_file(path)));
        Ok(())
    }

    /// One more file of counts. Where there are many they become one; gives those that it takes the place of.
    fn keep(&mut self, kind: &str, counts: &WordCounts) -> Result<Vec<PathBuf>, RunError> {
        let Self { at, room, counted, next, .. } = self;
        let numbers = if kind == "held" { &mut counted.held } else { &mut counted.parts };
        let mut number = || {
            *next += 1;
            *next - 1
        };
        let path = |n| room.checkpoint.part(*at, kind, n);
        let new = number();
        numbers.push(new);
        room.write(path(new), counts)?;
        if numbers.len() < MOST_PARTS {
            return Ok(Vec::new());
        }
        let old: Vec<_> = numbers.iter().map(|n| path(*n)).collect();
        let sum = number();
        room.write_sums(path(sum), room.merged(&old)?)?;
        *numbers = vec![sum];
        Ok(old)
    }

    /// The counts, and those held back.
    fn finish(mut self) -> Result<(Part, Part), RunError> {
        let watch = &mut Watch::new(self.room.progress);
        let counter = self.counter.take(watch)?;
        let whole = if self.sums.is_empty() { counter } else { self.sums.take()? };
        let held = match &mut self.held {
            Some(counter) => counter.take(watch)?,
            None => WordCounts::default(),
        };
        Ok((self.part("part", whole)?, self.part("held", held)?))
    }

    /// The counts in memory and those on the disk.
    fn part(&mut self, kind: &str, counts: WordCounts) -> Result<Part, RunError> {
        let numbers = if kind == "held" { &self.counted.held } else { &self.counted.parts };
        if numbers.is_empty() {
            return Ok(Part::Loaded(counts));
        }
        let mut paths: Vec<_> =
            numbers.iter().map(|n| self.room.checkpoint.part(self.at, kind, *n)).collect();
        // Not among those that the position names: it is of this run only.
        paths.push(self.room.write(self.room.checkpoint.part(self.at, kind, self.next), &counts)?);
        self.next += 1;
        Ok(Part::Files(paths))
    }
}

/// A number from 0 to 1 that depends on the record alone; another one for each `turn`.
fn share_of(record: &str, turn: u64) -> f64 {
    // FNV-1a with a good last step: the same in every version of this program.
    let hash = record.bytes().fold(0xcbf2_9ce4_8422_2325 ^ turn, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29) >> 11) as f64 / (1u64 << 53) as f64
}
