//! From a corpus to the counts of its pretokens, in bounded memory.
//!
//! Counts that grow over their share of memory go to the disk, sorted, and are added up when all was read; so do those
//! of a run that takes long, so that one that is killed goes on from there. What is counted does not depend on where
//! that happened.

use super::checkpoint::{Checkpoint, Counted, Facts};
use super::corpus::{self, Batch, CorpusError, Reading, Source};
use super::progress::{Progress, Watch};
use super::request::{CorpusRequest, TrainRequest};
use super::shard::{self, Meta};
use super::wordfile::{self, Merged};
use super::worker::RunError;
use crate::engine::{Counter, SafeCuts, TrainConfig, TrainError, WordCounts, WordSums};
use std::io;
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
    pub(super) whole: WordCounts,
    /// Of records that were held back.
    pub(super) held: WordCounts,
    pub(super) facts: Facts,
}

/// Where a run works.
pub(super) struct Room<'r> {
    pub(super) checkpoint: &'r mut Checkpoint,
    /// Memory for counts, in bytes.
    pub(super) max_memory: usize,
    pub(super) progress: &'r Progress,
}

/// Counts the whole corpus, or takes up the counts of a run before.
pub(super) fn count(
    config: &TrainConfig,
    request: &TrainRequest,
    inputs: Vec<Input>,
    room: &mut Room<'_>,
) -> Result<Counts, RunError> {
    if let Some((whole, held, facts)) = room.checkpoint.whole() {
        return Ok(Counts { whole, held, facts });
    }
    let groups = request.corpus.groups();
    let mut facts = Facts::default();
    let mut spilled = false;
    let (mut wholes, mut helds) = (Vec::new(), Vec::new());
    for (at, ((_, corpus), input)) in groups.into_iter().zip(inputs).enumerate() {
        let mut group = Group::new(at, config, request, corpus, room)?;
        match input {
            Input::Texts => group.count_texts(corpus.texts.as_deref().unwrap_or_default())?,
            Input::Files(sources) => facts.replaced += group.count_files(sources)?,
            Input::Counts(sources) => group.add_counts(sources)?,
        }
        spilled |= !group.counted.parts.is_empty();
        let (whole, held) = group.finish()?;
        let weight = corpus.weight.unwrap_or(1.0);
        let weighted = |counts: WordCounts| if weight == 1.0 { Ok(counts) } else { counts.scaled(weight) };
        wholes.push(weighted(whole)?);
        helds.push(weighted(held)?);
    }
    let (whole, held) = (added_up(wholes)?, added_up(helds)?);
    let (whole, distinct, pretokens) = whole.pruned(request.prune_count);
    (facts.pruned_distinct, facts.pruned_pretokens) = (distinct, pretokens);
    if spilled || room.checkpoint.is_due() {
        room.checkpoint.keep_whole(&whole, &held, facts)?;
    }
    Ok(Counts { whole, held, facts })
}

fn added_up(mut all: Vec<WordCounts>) -> Result<WordCounts, TrainError> {
    if all.len() < 2 {
        return Ok(all.pop().unwrap_or_default());
    }
    WordCounts::from_pairs(all.iter().flat_map(WordCounts::iter))
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
        let scratch = self.room.checkpoint.folder().to_owned();
        let how = Reading {
            format: self.corpus.format,
            field: self.corpus.field.clone().unwrap_or_else(|| "text".to_owned()),
            records: self.corpus.records,
            invalid_utf8: self.corpus.invalid_utf8,
            scratch: &scratch,
            cuts: &SafeCuts::new(self.config)?,
        };
        let progress = self.room.progress;
        let known = self.counted.batches;
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Batch>(1);
            let how = &how;
            let reader = scope.spawn(move || {
                corpus::read(sources, how, progress, |batch| {
                    let stop = progress.stopped() || send.send(batch).is_err();
                    if stop { Err(CorpusError::Stopped) } else { Ok(()) }
                })
            });
            let mut batches = 0;
            for batch in &receive {
                batches += 1;
                // The same content gives the same batches: these are in the files already.
                if batches <= known {
                    continue;
                }
                self.add(&batch.records())?;
                let memory = self.counter.memory_bytes() * SHARE;
                if memory > self.room.max_memory || self.room.checkpoint.is_due() {
                    self.spill(batches)?;
                }
            }
            // A panic in the reader goes on here and is caught where the run began.
            Ok(reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        })
    }

    fn add_counts(&mut self, sources: Vec<Source>) -> Result<(), RunError> {
        let meta = Meta::of(self.config);
        let scratch = self.room.checkpoint.folder().to_owned();
        // Not gone on with in the middle: reading counts is quick, and they may come in any order.
        (self.counted, self.next) = (Counted::default(), 0);
        for source in sources {
            let progress = self.room.progress;
            let (mut failed, mut rows) = (None, 0u64);
            let result = shard::read(source, &meta, &scratch, progress, |word, count| {
                let added = self.sums.add(word, count).map_err(RunError::from).and_then(|()| {
                    rows += 1;
                    let full =
                        rows.is_multiple_of(4096) && self.sums.memory_bytes() * SHARE > self.room.max_memory;
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
        let watch = &mut Watch(self.room.progress);
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
        let watch = &mut Watch(self.room.progress);
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
    fn keep(&mut self, kind: &str, counts: &WordCounts) -> io::Result<Vec<std::path::PathBuf>> {
        let checkpoint = &*self.room.checkpoint;
        let numbers = if kind == "held" { &mut self.counted.held } else { &mut self.counted.parts };
        wordfile::write(&checkpoint.part(self.at, kind, self.next), counts)?;
        numbers.push(self.next);
        self.next += 1;
        if numbers.len() < MOST_PARTS {
            return Ok(Vec::new());
        }
        let old: Vec<_> = numbers.iter().map(|n| checkpoint.part(self.at, kind, *n)).collect();
        wordfile::write_sorted(&checkpoint.part(self.at, kind, self.next), Merged::open(&old)?)?;
        *numbers = vec![self.next];
        self.next += 1;
        Ok(old)
    }

    /// The counts, and those held back.
    fn finish(mut self) -> Result<(WordCounts, WordCounts), RunError> {
        let watch = &mut Watch(self.room.progress);
        let counter = self.counter.take(watch)?;
        let whole = if self.sums.memory_bytes() == 0 { counter } else { self.sums.take()? };
        let held = match &mut self.held {
            Some(counter) => counter.take(watch)?,
            None => WordCounts::default(),
        };
        Ok((self.sum("part", whole)?, self.sum("held", held)?))
    }

    /// The counts in memory and those on the disk.
    fn sum(&mut self, kind: &str, counts: WordCounts) -> Result<WordCounts, RunError> {
        let numbers = if kind == "held" { &self.counted.held } else { &self.counted.parts };
        if numbers.is_empty() {
            return Ok(counts);
        }
        let mut paths: Vec<_> =
            numbers.iter().map(|n| self.room.checkpoint.part(self.at, kind, *n)).collect();
        // Not among those that the position names: it is of this run only.
        let last = self.room.checkpoint.part(self.at, kind, self.next);
        self.next += 1;
        wordfile::write(&last, &counts)?;
        drop(counts);
        paths.push(last);
        let progress = self.room.progress;
        WordCounts::from_distinct(Merged::open(&paths)?.enumerate().map(|(n, pair)| {
            if n.is_multiple_of(1 << 16) && progress.stopped() {
                return Err(RunError::Corpus(CorpusError::Stopped));
            }
            Ok(pair?)
        }))
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
