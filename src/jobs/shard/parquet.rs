//! Parquet: a file of counts, in and out, and one column of text, in.
//!
//! Files come from anywhere, so nothing in them is believed: a fault of the reader is a damaged file, not one of the
//! program.

use super::pages::{Pages, Parts};
use super::{Meta, each_written};
use crate::engine::Words;
use crate::jobs::corpus::{CorpusError, Source};
use crate::jobs::disk::Unpacking;
use crate::jobs::progress::Progress;
use parquet::basic::{Compression, Encoding, Repetition, Type as Physical, ZstdLevel};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io::{self, Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What every Parquet file begins with.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// The part of the memory for a page that the footer may have, which takes some ten times its bytes when it is read.
const FOOTER_SHARE: u64 = 8;

/// Rows that are read at a time, at most.
const ROWS: usize = 4096;

/// Rows of a row group that is written; they are in memory meanwhile.
const GROUP_ROWS: usize = 1 << 17;

/// The key of the metadata.
const META: &str = "vocabd";

/// Whether a file begins as Parquet does; it is at its beginning afterwards.
pub(in crate::jobs) fn is_parquet(source: &Source) -> Result<bool, CorpusError> {
    let mut file = &source.file;
    let failed = |e: io::Error| CorpusError::Io { file: source.name.clone(), kind: e.kind() };
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(head == MAGIC)
}

/// Writes counts in the order in which they come.
pub(super) fn write<W: Words>(counts: &W, meta: &str, out: &mut (impl Write + Send)) -> Result<(), W::Error>
where
    W::Error: From<io::Error>,
{
    let schema = "message counts { REQUIRED BYTE_ARRAY pretoken; REQUIRED INT64 count; }";
    let schema = Arc::new(parse_message_type(schema).map_err(io::Error::other)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![KeyValue::new(META.to_owned(), meta.to_owned())]))
        .build();
    let mut writer =
        SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(io::Error::other)?;
    let (mut words, mut numbers) = (Vec::new(), Vec::new());
    each_written(counts, |word, count| {
        words.push(ByteArray::from(word.to_vec()));
        numbers.push(i64::try_from(count).map_err(io::Error::other)?);
        if words.len() == GROUP_ROWS {
            write_group(&mut writer, &words, &numbers).map_err(io::Error::other)?;
            words.clear();
            numbers.clear();
        }
        Ok(())
    })?;
    if !words.is_empty() {
        write_group(&mut writer, &words, &numbers).map_err(io::Error::other)?;
    }
    writer.close().map_err(io::Error::other)?;
    Ok(())
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    words: &[ByteArray],
    counts: &[i64],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let mut first = true;
    while let Some(mut column) = group.next_column()? {
        if first {
            column.typed::<ByteArrayType>().write_batch(words, None, None)?;
        } else {
            column.typed::<Int64Type>().write_batch(counts, None, None)?;
        }
        first = false;
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// Reads a file of counts.
pub(super) fn read_counts(
    source: Source,
    unpacking: &Unpacking,
    progress: &Progress,
    agree: impl Fn(&Meta) -> Result<(), CorpusError>,
    mut take: impl FnMut(&[u8], u64) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    let file = Parquet::open(source, unpacking, progress)?;
    if let Some(meta) = file.metadata(META) {
        let meta = serde_json::from_str(&meta).map_err(|_| file.damaged())?;
        agree(&meta)?;
    }
    let words = file.column("pretoken", &[Physical::BYTE_ARRAY], "binary or string")?;
    let counts = file.column("count", &[Physical::INT64, Physical::INT32], "int64")?;
    let mut row = 0u64;
    file.each_group(|group| {
        let mut words = group.column(words)?;
        let mut counts = group.column(counts)?;
        loop {
            let (read, texts) = words.texts()?;
            let numbers = counts.numbers(words.rows)?;
            if read == 0 && numbers.is_empty() {
                return Ok(());
            }
            if texts.len() != read || numbers.len() != read {
                return Err(file.wrong(row, "has no pretoken, or no count"));
            }
            for (word, count) in texts.iter().zip(numbers) {
                row += 1;
                let Ok(count) = u64::try_from(count) else {
                    return Err(file.wrong(row, "has a negative count"));
                };
                if word.data().is_empty() {
                    return Err(file.wrong(row, "has an empty pretoken"));
                }
                take(word.data(), count)?;
            }
        }
    })
}

/// Reads one column of text, a record a row; rows without a value are left out.
pub(in crate::jobs) fn read_column(
    source: Source,
    name: &str,
    unpacking: &Unpacking,
    progress: &Progress,
    mut take: impl FnMut(&[u8]) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    let file = Parquet::open(source, unpacking, progress)?;
    let column = file.column(name, &[Physical::BYTE_ARRAY], "string or binary")?;
    file.each_group(|group| {
        let mut column = group.column(column)?;
        loop {
            let (read, texts) = column.texts()?;
            if read == 0 {
                return Ok(());
            }
            texts.iter().try_for_each(|text| take(text.data()))?;
        }
    })
}

/// An opened file.
struct Parquet<'p> {
    name: String,
    bytes: u64,
    reader: SerializedFileReader<Parts>,
    pages: Parts,
    unpacking: &'p Unpacking,
    progress: &'p Progress,
}

impl<'p> Parquet<'p> {
    fn open(source: Source, unpacking: &'p Unpacking, progress: &'p Progress) -> Result<Self, CorpusError> {
        let bytes = source.bytes();
        let Source { name, file } = source;
        let max_bytes = unpacking.max_page_bytes;
        let pages = Parts { file: Arc::new(file), name: name.as_str().into(), part: "page", max_bytes };
        let footer = Parts { part: "footer", max_bytes: max_bytes / FOOTER_SHARE, ..pages.clone() };
        let reader = guarded(&name, || SerializedFileReader::new(footer))?;
        Ok(Self { name, bytes, reader, pages, unpacking, progress })
    }

    fn metadata(&self, key: &str) -> Option<String> {
        let metadata = self.reader.metadata().file_metadata().key_value_metadata()?;
        metadata.iter().find(|pair| pair.key == key)?.value.clone()
    }

    /// The place of a column that is not nested and of one of these types.
    fn column(&self, name: &str, types: &[Physical], named: &str) -> Result<usize, CorpusError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let place = (0..schema.num_columns()).find(|&at| schema.column(at).path().string() == name);
        let wrong = |reason: String| CorpusError::Column { file: self.name.clone(), reason };
        let at = place.ok_or_else(|| wrong("has no column of the name that was asked for".to_owned()))?;
        let column = schema.column(at);
        let is_flat = column.max_rep_level() == 0
            && column.max_def_level() <= 1
            && column.self_type().get_basic_info().repetition() != Repetition::REPEATED;
        if is_flat && types.contains(&column.physical_type()) {
            Ok(at)
        } else {
            Err(wrong(format!("has a column of another type than {named}")))
        }
    }

    fn each_group(
        &self,
        mut read: impl FnMut(&Group<'_>) -> Result<(), CorpusError>,
    ) -> Result<(), CorpusError> {
        let groups = self.reader.num_row_groups();
        let mut told = 0;
        for (at, meta) in self.reader.metadata().row_groups().iter().enumerate() {
            read(&Group { file: self, meta })?;
            let done = self.bytes * (at as u64 + 1) / groups as u64;
            self.progress.read(done - told);
            told = done;
        }
        self.progress.read(self.bytes - told);
        Ok(())
    }

    fn wrong(&self, row: u64, reason: &str) -> CorpusError {
        let place = format!("row {row}");
        CorpusError::Counts { file: self.name.clone(), place, reason: reason.to_owned() }
    }

    fn damaged(&self) -> CorpusError {
        CorpusError::Parquet { file: self.name.clone() }
    }
}

struct Group<'f> {
    file: &'f Parquet<'f>,
    meta: &'f RowGroupMetaData,
}

impl Group<'_> {
    fn column(&self, at: usize) -> Result<Column<'_>, CorpusError> {
        let Parquet { name, pages, unpacking, .. } = self.file;
        let column = self.meta.column(at);
        let reader = guarded(name, || {
            let pages = Pages::open(pages.clone(), column, self.meta.num_rows(), unpacking)?;
            Ok(get_column_reader(column.column_descr_ptr(), Box::new(pages)))
        })?;
        // There each value is a copy of its own, which may be nearly as long as the page.
        let is_copied = column.encodings_mask().is_set(Encoding::DELTA_BYTE_ARRAY);
        Ok(Column { file: self.file, reader, rows: if is_copied { 1 } else { ROWS } })
    }
}

struct Column<'f> {
    file: &'f Parquet<'f>,
    reader: ColumnReader,
    /// How many are read at a time.
    rows: usize,
}

impl Column<'_> {
    /// The next rows: how many, and the values of those that have one.
    fn texts(&mut self) -> Result<(usize, Vec<ByteArray>), CorpusError> {
        if self.file.progress.stopped() {
            return Err(CorpusError::Stopped);
        }
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let rows = self.rows;
        let read = guarded(&self.file.name, || match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                reader.read_records(rows, Some(&mut levels), None, &mut values)
            }
            _ => Err(ParquetError::General("another type than the schema says".to_owned())),
        })?;
        Ok((read.0, values))
    }

    /// The values of so many of the next rows.
    fn numbers(&mut self, rows: usize) -> Result<Vec<i64>, CorpusError> {
        let mut levels = Vec::new();
        guarded(&self.file.name, || match &mut self.reader {
            ColumnReader::Int64ColumnReader(reader) => {
                let mut values = Vec::new();
                reader.read_records(rows, Some(&mut levels), None, &mut values)?;
                Ok(values)
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let mut values: Vec<i32> = Vec::new();
                reader.read_records(rows, Some(&mut levels), None, &mut values)?;
                Ok(values.into_iter().map(i64::from).collect())
            }
            _ => Err(ParquetError::General("another type than the schema says".to_owned())),
        })
    }
}

/// Runs a step of the reader; whatever goes wrong in it, the file is at fault.
fn guarded<T>(name: &str, step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, CorpusError> {
    let damaged = || CorpusError::Parquet { file: name.to_owned() };
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(done)) => Ok(done),
        // What was found here, on the way through the reader.
        Ok(Err(ParquetError::External(error))) => {
            Err(error.downcast().map_or_else(|_| damaged(), |error| *error))
        }
        Ok(Err(_)) | Err(_) => Err(damaged()),
    }
}
