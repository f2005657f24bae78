//! Counting pretokens, in batches and on several threads.
//!
//! Each thread fills tables of its own, parted by hash, so nothing is shared while texts are read and the tables are
//! added up part by part at the end. Beside the tables a batch takes little memory: the list of its parts, and for each
//! thread the stretch in hand as the normalizer has it.

use super::table::{Table, Tally, WordHasher};
use super::words::WordCounts;
use super::{Observer, Stage, TrainConfig, TrainError};
use crate::engine::split::Ends;
use crate::engine::tracked::Tracked;
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// A thread takes about this many bytes of text at a time.
const UNIT_BYTES: usize = 32 << 10;

/// The observer hears of progress after this many bytes of text.
const REPORT_BYTES: u64 = 32 << 10;

/// Counts the pretokens of texts, batch by batch.
pub struct Counter<'c> {
    texts: Texts<'c>,
    /// By thread.
    hands: Vec<Hand>,
    bytes: u64,
    pretokens: u64,
}

/// What one thread counts with.
struct Hand {
    tally: Tally,
    ends: Ends,
}

/// Finds where a record that is read bit by bit may be cut.
pub struct SafeCuts<'c>(Texts<'c>);

impl<'c> SafeCuts<'c> {
    /// For records that are counted with the same config.
    pub fn new(config: &'c TrainConfig) -> Result<Self, TrainError> {
        Texts::new(config).map(Self)
    }

    /// Where a record that begins with `text` may be cut: counted as two records, both parts give the pretokens of
    /// the whole, whatever follows `text`. The last such place that is found and is not 0; `None` where there is
    /// none, as for a pattern that is a free regex.
    pub fn last_in(&self, text: &str) -> Option<usize> {
        self.0.safe_cut(text)
    }
}

/// What it takes to find the pretokens of a text.
struct Texts<'c> {
    config: &'c TrainConfig,
    special_tokens: Option<AhoCorasick>,
    hasher: WordHasher,
}

impl<'c> Counter<'c> {
    /// Nothing counted yet. Of the config it checks and uses what texts are cut by: `pattern`, `normalizer`,
    /// `special_tokens` and `threads`.
    pub fn new(config: &'c TrainConfig) -> Result<Self, TrainError> {
        let texts = Texts::new(config)?;
        let hand = || Hand { tally: Tally::new(config.threads), ends: Ends::default() };
        Ok(Self { texts, hands: (0..config.threads).map(|_| hand()).collect(), bytes: 0, pretokens: 0 })
    }

    /// Counts records: texts that no pretoken crosses from one to the next. After an error, a cancel too, some of
    /// the batch is counted and some is not: drop the counter.
    pub fn add_batch(&mut self, records: &[&str], observer: &mut impl Observer) -> Result<(), TrainError> {
        let result = match self.hands.as_mut_slice() {
            [hand] => {
                let mut report = |bytes, pretokens| {
                    self.bytes += bytes;
                    self.pretokens += pretokens;
                    observer.counting(self.bytes, self.pretokens)
                };
                self.texts.count(&Unit::Records(records), hand, &mut report)
            }
            _ => self.add_on_threads(records, observer),
        };
        result?.is_continue().then_some(()).ok_or(TrainError::Cancelled)
    }

    fn add_on_threads(
        &mut self,
        records: &[&str],
        observer: &mut impl Observer,
    ) -> Result<ControlFlow<()>, TrainError> {
        let Self { texts, hands, bytes, pretokens } = self;
        let Some((units, name_bytes)) = texts.units(records, observer) else {
            return Ok(ControlFlow::Break(()));
        };
        *bytes += name_bytes;
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, reports) = mpsc::channel();
        thread::scope(|scope| {
            let (texts, units, next, stopped) = (&*texts, &units, &next, &stopped);
            let workers: Vec<_> = hands
                .iter_mut()
                .take(units.len())
                .map(|hand| {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        let mut report = |bytes: u64, pretokens: u64| {
                            // The receiver outlives the workers; if it did not, there would be nobody to tell.
                            let _ = sender.send((bytes, pretokens));
                            flow(!stopped.load(Ordering::Relaxed))
                        };
                        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                            give_way();
                            let result = texts.count(unit, hand, &mut report);
                            if !matches!(result, Ok(ControlFlow::Continue(()))) {
                                stopped.store(true, Ordering::Relaxed);
                                return result;
                            }
                        }
                        Ok(ControlFlow::Continue(()))
                    })
                })
                .collect();
            drop(sender);
            // Ends when the last worker has dropped its end.
            for (more_bytes, more_pretokens) in reports {
                *bytes += more_bytes;
                *pretokens += more_pretokens;
                if observer.counting(*bytes, *pretokens).is_break() {
                    stopped.store(true, Ordering::Relaxed);
                }
            }
            let results =
                workers.into_iter().map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            let results: Vec<_> = results.collect();
            // An error outranks the breaks that it caused in the other workers. Without one it was the observer
            // who stopped, and that holds even where the workers were done before they could see it.
            results.into_iter().try_for_each(|result| result.map(|_| ()))?;
            Ok(flow(!stopped.load(Ordering::Relaxed)))
        })
    }

    /// Bytes of text and pretokens counted so far.
    pub fn counted(&self) -> (u64, u64) {
        (self.bytes, self.pretokens)
    }

    /// The counts, by an observer that watches nothing.
    pub fn finish(self) -> Result<WordCounts, TrainError> {
        self.finish_watched(&mut ())
    }

    /// The counts. Adding up the threads' tables goes on several threads again; the observer is polled.
    pub fn finish_watched(mut self, observer: &mut impl Observer) -> Result<WordCounts, TrainError> {
        self.take(observer)
    }

    /// Bytes of heap that the counts take.
    pub fn memory_bytes(&self) -> usize {
        self.hands.iter().map(|hand| hand.tally.memory_bytes()).sum()
    }

    /// What was counted since the last call; the counter goes on with empty tables. The sums over several of these are
    /// the counts of the whole.
    pub fn take(&mut self, observer: &mut impl Observer) -> Result<WordCounts, TrainError> {
        let hasher = &self.texts.hasher;
        let mut by_part: Vec<Vec<Table>> = self.hands.iter().map(|_| Vec::new()).collect();
        for hand in &mut self.hands {
            let tables = hand.tally.take_tables(hasher)?;
            by_part.iter_mut().zip(tables).for_each(|(part, table)| part.push(table));
        }
        let stopped = AtomicBool::new(false);
        let sums: Result<Vec<Table>, TrainError> = thread::scope(|scope| {
            let first = by_part.pop();
            let others: Vec<_> = by_part
                .into_iter()
                .map(|part| {
                    scope.spawn(|| {
                        let mut go_on = || {
                            give_way();
                            flow(!stopped.load(Ordering::Relaxed))
                        };
                        sum(hasher, part, &mut go_on)
                    })
                })
                .collect();
            // The parts are about equal, so asking while adding up the first one is asking all along.
            let first = first.map(|part| {
                sum(hasher, part, &mut || {
                    let go_on = observer.poll(Stage::Counting);
                    stopped.fetch_or(go_on.is_break(), Ordering::Relaxed);
                    go_on
                })
            });
            let others =
                others.into_iter().map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            others.chain(first).collect()
        });
        WordCounts::from_tables(&sums?, &mut || observer.poll(Stage::Counting))
    }
}

/// One table of all that are for the same part of the hashes.
fn sum(
    hasher: &WordHasher,
    mut part: Vec<Table>,
    go_on: &mut impl FnMut() -> ControlFlow<()>,
) -> Result<Table, TrainError> {
    part.sort_by_key(Table::len);
    let mut sum = part.pop().unwrap_or_default();
    part.iter().try_for_each(|table| sum.absorb(hasher, table, go_on))?;
    Ok(sum)
}

/// Who waits for this core, a request most likely, waits for the work in hand and not for the rest of a time slice. An
/// observer does as much for the thread that calls it.
fn give_way() {
    thread::yield_now();
}

fn flow(go_on: bool) -> ControlFlow<()> {
    if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// What a thread takes at a time.
enum Unit<'r> {
    /// Some records, whole.
    Records(&'r [&'r str]),
    /// A part of a record without special tokens that splits as it does within the record.
    Stretch(&'r str),
}

/// Takes bytes of text and pretokens counted since the last call.
type Report<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

impl<'c> Texts<'c> {
    fn new(config: &'c TrainConfig) -> Result<Self, TrainError> {
        config.validate_counting()?;
        let special_tokens = match config.special_tokens.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(&config.special_tokens)
                    .map_err(|_| TrainError::SpecialTokensTooLarge)?,
            ),
        };
        Ok(Self { config, special_tokens, hasher: WordHasher::default() })
    }

    /// Parts a batch into units of about equal size; `None` when the observer ended it. A record that is larger
    /// than a unit is cut where nothing crosses; where no such place is known it stays whole. With them come the
    /// bytes of special tokens that are in none of the units.
    fn units<'r>(
        &self,
        records: &'r [&'r str],
        observer: &mut impl Observer,
    ) -> Option<(Vec<Unit<'r>>, u64)> {
        let (mut units, mut first, mut size, mut name_bytes) = (Vec::new(), 0, 0, 0);
        for (i, record) in records.iter().enumerate() {
            if size + record.len() > UNIT_BYTES && first < i {
                units.push(Unit::Records(&records[first..i]));
                (first, size) = (i, 0);
            }
            size += record.len();
            if record.len() > UNIT_BYTES {
                name_bytes += record.len() as u64;
                for stretch in self.stretches(record) {
                    name_bytes -= stretch.len() as u64;
                    self.cut(stretch, &mut units, observer)?;
                }
                (first, size) = (i + 1, 0);
            }
        }
        if first < records.len() {
            units.push(Unit::Records(&records[first..]));
        }
        Some((units, name_bytes))
    }

    fn cut<'r>(
        &self,
        stretch: &'r str,
        units: &mut Vec<Unit<'r>>,
        observer: &mut impl Observer,
    ) -> Option<()> {
        let mut rest = stretch;
        let mut window = UNIT_BYTES;
        while window < rest.len() {
            if observer.poll(Stage::Counting).is_break() {
                return None;
            }
            let end = rest.floor_char_boundary(window);
            match self.safe_cut_of_stretch(&rest[..end]) {
                Some(cut) => {
                    units.push(Unit::Stretch(&rest[..cut]));
                    rest = &rest[cut..];
                    window = UNIT_BYTES;
                }
                None => window *= 2,
            }
        }
        units.push(Unit::Stretch(rest));
        Some(())
    }

    /// See [`SafeCuts::last_in`].
    fn safe_cut(&self, text: &str) -> Option<usize> {
        // A special token that begins in `held` bytes from the end may be there once more text has come, or may be
        // a longer one. The stretch to cut begins after the last one that is certain.
        let longest = self.config.special_tokens.iter().map(String::len).max().unwrap_or(1);
        let mut limit = text.floor_char_boundary((text.len() + 1).saturating_sub(longest));
        let mut start = 0;
        for name in self.special_tokens.iter().flat_map(|names| names.find_iter(text)) {
            if name.start() >= limit {
                break;
            }
            start = name.end();
            limit = limit.max(start);
        }
        let cut = self.safe_cut_of_stretch(&text[start..limit]).map(|cut| start + cut);
        // Where a special token ends a record ends too.
        cut.or((start > 0).then_some(start))
    }

    /// The same of a text without special tokens.
    fn safe_cut_of_stretch(&self, stretch: &str) -> Option<usize> {
        let mut normalized = Tracked::new(stretch, 0, true);
        if let Some(form) = self.config.normalizer {
            form.run(self.config.tables, &mut normalized);
        }
        let text = normalized.text();
        let mut window = text;
        loop {
            let cut = self.config.pattern.safe_cut(window).filter(|&cut| cut > 0)?;
            if self.config.normalizer.is_none() {
                return Some(cut);
            }
            // The pattern's promise is about normalized text. It holds for the original one where the cut is between
            // two characters of both, the second one such that normalization leaves it alone whatever follows.
            let inert = |b: &&u8| b.is_ascii() && !b.is_ascii_alphanumeric() && !b"<=>".contains(b);
            let after = text.as_bytes().get(cut).filter(inert);
            let original = normalized.original(cut - 1..cut).end;
            let between = normalized.original(cut..cut + 1).start == original;
            if after.is_some() && between && stretch.as_bytes().get(original) == after {
                return Some(original);
            }
            window = &text[..cut];
        }
    }

    /// The parts of a record between its special tokens.
    fn stretches<'r>(&self, record: &'r str) -> impl Iterator<Item = &'r str> {
        let mut names = self.special_tokens.as_ref().map(|names| names.find_iter(record));
        let mut start = Some(0);
        std::iter::from_fn(move || {
            let from = start?;
            let name = names.as_mut().and_then(|names| names.next());
            start = name.map(|name| name.end());
            Some(&record[from..name.map_or(record.len(), |name| name.start())])
        })
        .filter(|stretch| !stretch.is_empty())
    }

    fn count(
        &self,
        unit: &Unit<'_>,
        hand: &mut Hand,
        report: &mut Report<'_>,
    ) -> Result<ControlFlow<()>, TrainError> {
        let mut counting = Counting { texts: self, hand, report, bytes: 0, pretokens: 0 };
        match unit {
            Unit::Stretch(stretch) => {
                if counting.stretch(stretch)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Unit::Records(records) => {
                for record in *records {
                    let mut names = record.len();
                    for stretch in self.stretches(record) {
                        names -= stretch.len();
                        if counting.stretch(stretch)?.is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                    counting.bytes += names as u64;
                }
            }
        }
        Ok(counting.tell())
    }

    /// The stretch as the normalizer has it; `None` when `report` ended it.
    ///
    /// Done in parts, so that a cancel need not wait for the whole. ASCII characters begin a new part safely: they
    /// take no part in compositions with what precedes them, in any of the normalization forms.
    fn normalized<'t>(&self, stretch: &'t str, report: &mut Report<'_>) -> Option<Cow<'t, str>> {
        let Some(form) = self.config.normalizer else { return Some(Cow::Borrowed(stretch)) };
        if stretch.len() <= UNIT_BYTES {
            return Some(form.apply(self.config.tables, stretch));
        }
        let mut whole = String::with_capacity(stretch.len());
        let mut rest = stretch;
        while !rest.is_empty() {
            if report(0, 0).is_break() {
                return None;
            }
            let after = rest.as_bytes().iter().skip(UNIT_BYTES).position(u8::is_ascii);
            let (part, others) = rest.split_at(after.map_or(rest.len(), |n| n + UNIT_BYTES));
            whole.push_str(&form.apply(self.config.tables, part));
            rest = others;
        }
        Some(Cow::Owned(whole))
    }
}

/// A unit being counted by one thread.
struct Counting<'a> {
    texts: &'a Texts<'a>,
    hand: &'a mut Hand,
    report: &'a mut Report<'a>,
    /// Counted and not reported yet.
    bytes: u64,
    pretokens: u64,
}

impl Counting<'_> {
    fn stretch(&mut self, stretch: &str) -> Result<ControlFlow<()>, TrainError> {
        let Some(text) = self.texts.normalized(stretch, self.report) else {
            return Ok(ControlFlow::Break(()));
        };
        // Progress is told in bytes of the text as it came, which normalizing may have made longer or shorter.
        let mut untold = stretch.len() as u64;
        let mut flow = Ok(ControlFlow::Continue(()));
        let Texts { config, hasher, .. } = self.texts;
        let mut ends = std::mem::take(&mut self.hand.ends);
        let mut count = |start: usize, counted: Result<usize, TrainError>, end: usize| match counted {
            Err(error) => {
                flow = Err(error);
                ControlFlow::Break(())
            }
            Ok(pretokens) => {
                let bytes = untold.min((end - start) as u64);
                untold -= bytes;
                self.bytes += bytes;
                self.pretokens += pretokens as u64;
                if self.bytes < REPORT_BYTES {
                    return ControlFlow::Continue(());
                }
                let told =
                    (self.report)(std::mem::take(&mut self.bytes), std::mem::take(&mut self.pretokens));
                flow = Ok(told);
                told
            }
        };
        let tally = &mut self.hand.tally;
        let split = if text.len() <= u32::MAX as usize {
            config.pattern.for_each_batch(&text, &mut ends, |start, ends| {
                let counted = tally.add_all(hasher, text.as_bytes(), start, ends).map(|()| ends.len());
                count(start, counted, ends.last().map_or(start, |&end| end as usize))
            })
        } else {
            let mut start = 0;
            config.pattern.for_each(&text, |pretoken| {
                let counted = tally.add(hasher, pretoken.as_bytes()).map(|()| 1);
                start += pretoken.len();
                count(start - pretoken.len(), counted, start)
            })
        };
        self.hand.ends = ends;
        split?;
        self.bytes += untold;
        flow
    }

    fn tell(&mut self) -> ControlFlow<()> {
        (self.report)(std::mem::take(&mut self.bytes), std::mem::take(&mut self.pretokens))
    }
}
