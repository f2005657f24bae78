//! Reading a corpus: files of any size, compressed or not, as batches of records in bounded memory.

use super::disk::Unpacking;
use super::progress::Progress;
use super::request::{CorpusFormat, InvalidUtf8, Records};
use super::shard;
use crate::engine::SafeCuts;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

/// Text is handed on in batches of about this size, and a file that is one record is cut after as much. Several are in memory
/// at once, so this is most of what reading takes.
const BATCH_BYTES: usize = 512 << 10;

/// So many bytes are read and checked at a time: they are still in the cache when they are appended to a batch.
const STEP_BYTES: usize = 64 << 10;

/// A record may have so many bytes whatever memory a job has: reading takes its own.
pub(super) const MIN_RECORD_BYTES: usize = 8 * BATCH_BYTES;

/// Longest record that is held in memory as a whole, in bytes, whatever memory a job has.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 30;

/// Why a corpus cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The operating system says so.
    #[error("{file} cannot be read: {kind}")]
    Io {
        /// As the request names it.
        file: String,
        /// The kind of error, without paths.
        kind: std::io::ErrorKind,
    },
    /// Compressed data that is not whole, or not compressed data after all.
    #[error("{file} is not valid {format} data")]
    Compression {
        /// As the request names it.
        file: String,
        /// gzip or zstd.
        format: &'static str,
    },
    /// Bytes that are not text.
    #[error("{file} is not UTF-8 at byte {offset} of its (uncompressed) content")]
    NotUtf8 {
        /// As the request names it.
        file: String,
        /// Offset of the first bad byte.
        offset: u64,
    },
    /// A line that is not what JSONL should be.
    #[error("{file}, line {line}: {reason}")]
    Jsonl {
        /// As the request names it.
        file: String,
        /// Counted from one.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A record that does not fit in memory.
    #[error("{file} has a record of over {limit} bytes; part it with records = lines or paragraphs")]
    RecordTooLong {
        /// As the request names it.
        file: String,
        /// The limit.
        limit: usize,
    },
    /// Not a Parquet file, or one that is cut off or damaged.
    #[error("{file} is not a valid Parquet file")]
    Parquet {
        /// As the request names it.
        file: String,
    },
    /// A Parquet file without the column that is needed.
    #[error("{file} {reason}")]
    Column {
        /// As the request names it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A line or row of counts that is none.
    #[error("{file}, {place}: {reason}")]
    Counts {
        /// As the request names it.
        file: String,
        /// The line or row, counted from one.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Counts that were made by other rules than the job's.
    #[error("{file} was counted with another {what} than that of the job")]
    Mismatch {
        /// As the request names it.
        file: String,
        /// Which rule.
        what: &'static str,
    },
    /// More content than may be put on the disk.
    #[error("{file} has over {limit} bytes when it is unpacked, which is the limit by {setting}")]
    TooLarge {
        /// As the request names it.
        file: String,
        /// The limit in bytes.
        limit: u64,
        /// The setting that it comes from.
        setting: &'static str,
    },
    /// A part of a Parquet file that is in memory as a whole, and takes more of it than it may.
    #[error("{file} has a {part} that takes over {limit} bytes of memory; write it with smaller ones")]
    PartTooLarge {
        /// As the request names it.
        file: String,
        /// A page or a footer.
        part: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// Too little room on the disk.
    #[error("the disk has less than {min_free_bytes} bytes free, which is the setting min_free_bytes")]
    DiskFull {
        /// The setting.
        min_free_bytes: u64,
    },
    /// The reader was told to stop.
    #[error("stopped")]
    Stopped,
}

/// One opened source.
#[derive(Debug)]
pub(super) struct Source {
    /// As the request names it.
    pub(super) name: String,
    pub(super) file: File,
}

impl Source {
    /// Its size as stored; 0 where it has none.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }
}

/// How sources are read.
pub(super) struct Reading<'p> {
    pub(super) format: CorpusFormat,
    pub(super) field: String,
    pub(super) records: Records,
    pub(super) invalid_utf8: InvalidUtf8,
    /// Most bytes of a record, or of a line that holds one, that are held in memory.
    pub(super) max_record_bytes: usize,
    /// How what has to be read from its end is unpacked.
    pub(super) unpacking: &'p Unpacking,
    /// Where a file that is one record may be cut.
    pub(super) cuts: &'p SafeCuts<'p>,
}

/// Some records, one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: String,
    /// Where each record lies in `text`.
    records: Vec<Range<usize>>,
}

impl Batch {
    pub(super) fn records(&self) -> Vec<&str> {
        self.records.iter().map(|range| &self.text[range.clone()]).collect()
    }

    fn push(&mut self, record: &str) {
        let start = self.text.len();
        self.text.push_str(record);
        self.mark(start..self.text.len());
    }

    /// That part of the text is a record, unless it is empty.
    fn mark(&mut self, record: Range<usize>) {
        if !record.is_empty() {
            self.records.push(record);
        }
    }

    /// With nothing in it, and the memory that it has.
    pub(super) fn emptied(mut self) -> Self {
        self.text.clear();
        self.records.clear();
        self
    }
}

/// Reads every source and gives its records to `take`, which gives back an empty batch for those that come next, best one
/// that was used before; returns the number of ill-formed parts replaced.
pub(super) fn read(
    sources: Vec<Source>,
    how: &Reading<'_>,
    progress: &Progress,
    mut take: impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<u64, CorpusError> {
    let (mut replaced, mut batch) = (0, Batch::default());
    for source in sources {
        if how.format == CorpusFormat::Parquet {
            replaced += read_parquet(source, how, progress, &mut take)?;
            continue;
        }
        let name = source.name;
        let content = open(&name, source.file, progress)?;
        let mut text =
            Utf8 { content, name: &name, pending: Vec::new(), offset: 0, how: how.invalid_utf8, replaced: 0 };
        batch = match (how.format, how.records) {
            (CorpusFormat::Jsonl, _) => read_jsonl(&mut text, batch, how, &mut take)?,
            (_, Records::Whole) => read_whole(&mut text, batch, how, &mut take)?,
            (_, records) => read_lines(&mut text, batch, records, how, &mut take)?,
        };
        replaced += text.replaced;
    }
    Ok(replaced)
}

/// The content, decompressed if its first bytes say that it is compressed.
pub(super) fn open<'p>(
    name: &str,
    file: File,
    progress: &'p Progress,
) -> Result<Box<dyn Read + 'p>, CorpusError> {
    let io = |e: std::io::Error| read_error(name, &e);
    let mut raw = BufReader::with_capacity(1 << 17, Counted { file, progress });
    let head = raw.fill_buf().map_err(io)?;
    Ok(match head {
        [0x1f, 0x8b, ..] => {
            Box::new(Packed { inner: flate2::bufread::MultiGzDecoder::new(raw), format: "gzip" })
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(Packed { inner: zstd::Decoder::with_buffer(raw).map_err(io)?, format: "zstd" })
        }
        _ => Box::new(raw),
    })
}

/// Tells how much of the stored file was read, and stops when the job is to stop.
struct Counted<'p> {
    file: File,
    progress: &'p Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.progress.stopped() {
            return Err(std::io::Error::other(Stop));
        }
        let n = self.file.read(into)?;
        self.progress.read(n as u64);
        Ok(n)
    }
}

/// Says that reading ended because the job is to stop.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stop;

/// Marks errors of a decompressor, so that they can be told from those of the disk.
struct Packed<R> {
    inner: R,
    format: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("not valid {0} data")]
struct NotPacked(&'static str);

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(into).map_err(|e| match e.raw_os_error() {
            Some(_) => e,
            None if e.get_ref().is_some_and(|e| e.is::<Stop>()) => e,
            None => std::io::Error::other(NotPacked(self.format)),
        })
    }
}

/// What an error of reading means: the job is to stop, the data is damaged, or the disk says so.
pub(super) fn read_error(name: &str, error: &std::io::Error) -> CorpusError {
    let file = name.to_owned();
    match error.get_ref() {
        Some(e) if e.is::<Stop>() => CorpusError::Stopped,
        Some(e) => match e.downcast_ref::<NotPacked>() {
            Some(NotPacked(format)) => CorpusError::Compression { file, format },
            None => CorpusError::Io { file, kind: error.kind() },
        },
        None => CorpusError::Io { file, kind: error.kind() },
    }
}

/// Bytes as text, in steps.
struct Utf8<'n, 'p> {
    content: Box<dyn Read + 'p>,
    name: &'n str,
    /// The beginning of a character whose end was not read yet.
    pending: Vec<u8>,
    /// Bytes of content before `pending`.
    offset: u64,
    how: InvalidUtf8,
    replaced: u64,
}

impl Utf8<'_, '_> {
    /// Appends about `want` bytes of text to `out`; `false` at the end.
    fn fill(&mut self, out: &mut String, want: usize) -> Result<bool, CorpusError> {
        let until = out.len() + want.max(1);
        // Once, and not step by step: a string that grows is there twice for a while.
        out.reserve(want + STEP_BYTES);
        while out.len() < until {
            if !self.step(out)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends the next few bytes.
    fn step(&mut self, out: &mut String) -> Result<bool, CorpusError> {
        let limit = STEP_BYTES as u64;
        self.pending.reserve_exact(STEP_BYTES);
        let n = (&mut self.content).take(limit).read_to_end(&mut self.pending).map_err(|e| self.io(&e))?;
        let at_end = n == 0;
        let mut from = 0;
        loop {
            match std::str::from_utf8(&self.pending[from..]) {
                Ok(text) => {
                    out.push_str(text);
                    from = self.pending.len();
                    break;
                }
                Err(e) => {
                    let good = from + e.valid_up_to();
                    out.push_str(std::str::from_utf8(&self.pending[from..good]).unwrap_or_default());
                    let bad = match e.error_len() {
                        Some(len) => len,
                        None if at_end => self.pending.len() - good,
                        None => {
                            from = good;
                            break;
                        }
                    };
                    if self.how == InvalidUtf8::Error {
                        let offset = self.offset + good as u64;
                        return Err(CorpusError::NotUtf8 { file: self.name.to_owned(), offset });
                    }
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.replaced += 1;
                    from = good + bad;
                }
            }
        }
        self.offset += from as u64;
        self.pending.drain(..from);
        Ok(!at_end)
    }

    fn io(&self, error: &std::io::Error) -> CorpusError {
        read_error(self.name, error)
    }

    fn too_long(&self, how: &Reading<'_>) -> CorpusError {
        CorpusError::RecordTooLong { file: self.name.to_owned(), limit: how.max_record_bytes }
    }
}

/// Hands on a batch without its text from byte `rest` on, with which the next one begins.
fn handed_on(
    mut batch: Batch,
    rest: usize,
    take: &mut impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<Batch, CorpusError> {
    let rest = batch.text.split_off(rest);
    let mut next = take(batch)?;
    next.text.push_str(&rest);
    Ok(next)
}

/// A file as one record, cut where no pretoken can join, so that it need not fit in memory.
fn read_whole(
    text: &mut Utf8<'_, '_>,
    mut batch: Batch,
    how: &Reading<'_>,
    take: &mut impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<Batch, CorpusError> {
    let mut wanted = BATCH_BYTES;
    loop {
        let missing = wanted.saturating_sub(batch.text.len());
        if !text.fill(&mut batch.text, missing)? {
            batch.mark(0..batch.text.len());
            return take(batch);
        }
        match how.cuts.last_in(&batch.text).filter(|&at| at > 0) {
            Some(at) => {
                batch.mark(0..at);
                batch = handed_on(batch, at, take)?;
                wanted = BATCH_BYTES.max(batch.text.len() + BATCH_BYTES / 2);
            }
            // Nowhere to cut: ask again when twice as much is there, so that the search stays linear in all.
            None => wanted = batch.text.len() * 2,
        }
        if wanted > how.max_record_bytes {
            return Err(text.too_long(how));
        }
    }
}

/// Lines or paragraphs.
fn read_lines(
    text: &mut Utf8<'_, '_>,
    mut batch: Batch,
    records: Records,
    how: &Reading<'_>,
    take: &mut impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<Batch, CorpusError> {
    // Where the record in hand begins, and where the line does that was not read to its end.
    let (mut record, mut line) = (0, 0);
    loop {
        let more = text.fill(&mut batch.text, BATCH_BYTES)?;
        let end = match batch.text[line..].rfind('\n') {
            _ if !more => batch.text.len(),
            Some(at) => line + at + 1,
            None => line,
        };
        while line < end {
            let left = &batch.text[line..end];
            let next = line + left.find('\n').map_or(left.len(), |at| at + 1);
            if records == Records::Lines {
                batch.mark(record..next);
                record = next;
            } else if batch.text[line..next].trim_end_matches(['\r', '\n']).is_empty() {
                batch.mark(record..record + without_line_end(&batch.text[record..line]).len());
                record = next;
            }
            line = next;
        }
        if !more {
            batch.mark(record..record + without_line_end(&batch.text[record..]).len());
            return take(batch);
        }
        if batch.text.len() - record > how.max_record_bytes {
            return Err(text.too_long(how));
        }
        if !batch.records.is_empty() {
            batch = handed_on(batch, record, take)?;
            (record, line) = (0, line - record);
        }
    }
}

fn without_line_end(paragraph: &str) -> &str {
    let without = paragraph.strip_suffix('\n').unwrap_or(paragraph);
    without.strip_suffix('\r').unwrap_or(without)
}

/// One JSON object a line.
fn read_jsonl(
    text: &mut Utf8<'_, '_>,
    mut batch: Batch,
    how: &Reading<'_>,
    take: &mut impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<Batch, CorpusError> {
    let (mut held, mut line_number) = (String::new(), 0);
    loop {
        let more = text.fill(&mut held, BATCH_BYTES)?;
        let whole = if more { held.rfind('\n').map_or(0, |at| at + 1) } else { held.len() };
        for line in held[..whole].lines() {
            line_number += 1;
            if line.trim().is_empty() {
                continue;
            }
            let record = field(line, &how.field).map_err(|reason| CorpusError::Jsonl {
                file: text.name.to_owned(),
                line: line_number,
                reason: reason.to_owned(),
            })?;
            batch.push(&record);
        }
        held.drain(..whole);
        batch = take(batch)?;
        if !more {
            return Ok(batch);
        }
        if held.len() > how.max_record_bytes {
            return Err(text.too_long(how));
        }
    }
}

/// A column of a Parquet file, one record a row.
fn read_parquet(
    source: Source,
    how: &Reading<'_>,
    progress: &Progress,
    take: &mut impl FnMut(Batch) -> Result<Batch, CorpusError>,
) -> Result<u64, CorpusError> {
    let name = source.name.clone();
    let source = if shard::is_parquet(&source)? {
        source
    } else {
        // Compressed as a whole: it is read from its end, so it has to be unpacked first.
        let stored = source.bytes();
        let mut content = open(&name, source.file, progress)?;
        let file = how.unpacking.unpack(&mut content, stored, &name)?;
        Source { name: name.clone(), file }
    };
    let (mut batch, mut replaced, mut row) = (Batch::default(), 0, 0u64);
    shard::read_column(source, &how.field, how.unpacking, progress, |bytes| {
        row += 1;
        for chunk in bytes.utf8_chunks() {
            if !chunk.invalid().is_empty() && how.invalid_utf8 == InvalidUtf8::Error {
                let place = format!("value {row}");
                let reason = "is not UTF-8".to_owned();
                return Err(CorpusError::Counts { file: name.clone(), place, reason });
            }
            replaced += u64::from(!chunk.invalid().is_empty());
        }
        batch.push(&String::from_utf8_lossy(bytes));
        if batch.text.len() >= BATCH_BYTES {
            batch = take(std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    take(batch)?;
    Ok(replaced)
}

/// The text of a field of a JSON object.
fn field(line: &str, name: &str) -> Result<String, &'static str> {
    let no_object = "is not a JSON object";
    let mut json = serde_json::Deserializer::from_str(line);
    let found = json.deserialize_map(Field(name)).and_then(|found| json.end().map(|()| found));
    match found.map_err(|_| no_object)?.map(RawValue::get) {
        Some(text) if text.starts_with('"') => serde_json::from_str(text).map_err(|_| no_object),
        Some(_) => Err("the field named by corpus.field is not a string"),
        None => Err("has no field of the name given by corpus.field"),
    }
}

/// Looks for the field of a name, as it is written. The others become no values, which would take many times their bytes.
struct Field<'n>(&'n str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = object.next_key::<String>()? {
            if name == self.0 {
                found = Some(object.next_value()?);
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
