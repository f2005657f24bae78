//! Pages of a Parquet column, none of which takes more memory than it may.
//!
//! The crate that reads Parquet believes what a page says of itself: how far it unpacks, how many values it has. So pages are
//! unpacked here, under a limit, and are checked before it gets them.

use super::super::corpus::CorpusError;
use super::super::disk::Unpacking;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;

/// A file of which no part of over `max_bytes` is read at once.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) file: Arc<File>,
    /// As the request names it.
    pub(super) name: Arc<str>,
    /// What is read: pages, or the footer.
    pub(super) part: &'static str,
    pub(super) max_bytes: u64,
}

impl Parts {
    fn check(&self, bytes: u64) -> Result<(), ParquetError> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        let (file, part, limit) = (self.name.to_string(), self.part, self.max_bytes);
        Err(ParquetError::External(Box::new(CorpusError::PartTooLarge { file, part, limit })))
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Parts {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.check(length as u64)?;
        self.file.get_bytes(start, length)
    }
}

/// The pages of one column of a row group.
pub(super) struct Pages {
    parts: Parts,
    /// Gives pages as they are stored.
    stored: SerializedPageReader<Parts>,
    codec: Compression,
    /// Those that the file says the column has.
    encodings: EncodingMask,
    /// Whether values may be missing.
    is_optional: bool,
    unpacking: Unpacking,
}

impl Pages {
    pub(super) fn open(
        parts: Parts,
        column: &ColumnChunkMetaData,
        rows: i64,
        unpacking: &Unpacking,
    ) -> Result<Self, ParquetError> {
        let stored = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Self {
            stored: SerializedPageReader::new(
                Arc::new(parts.clone()),
                &stored,
                usize::try_from(rows)?,
                None,
            )?,
            parts,
            codec: column.compression(),
            encodings: *column.encodings_mask(),
            is_optional: column.column_descr().max_def_level() > 0,
            unpacking: unpacking.clone(),
        })
    }

    /// The content of a page of which the first `levels` bytes are never packed.
    fn unpacked(&self, page: &Bytes, levels: usize) -> Result<Bytes, ParquetError> {
        if self.codec == Compression::UNCOMPRESSED {
            return Ok(page.clone());
        }
        let (levels, packed) = page.split_at_checked(levels).ok_or_else(damaged)?;
        let mut content = levels.to_vec();
        // Where no row has a value there is nothing to unpack.
        if packed.is_empty() {
            return Ok(content.into());
        }
        let earned = self.unpacking.earned(packed.len() as u64);
        let limit = self.parts.max_bytes.min(earned);
        let over = |bytes: u64| match bytes > limit {
            true if limit == earned => {
                let (file, setting) = (self.parts.name.to_string(), "max_decompress_ratio");
                let error = CorpusError::TooLarge { file, limit, setting };
                Err(ParquetError::External(Box::new(error)))
            }
            _ => self.parts.check(bytes),
        };
        let unpacked: Box<dyn Read + '_> = match self.codec {
            Compression::SNAPPY => {
                // It says in front how long it is, and is not unpacked where it says anything else than what is true.
                over(snap::raw::decompress_len(packed)? as u64)?;
                Box::new(Cursor::new(snap::raw::Decoder::new().decompress_vec(packed)?))
            }
            Compression::GZIP(_) => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Compression::ZSTD(_) => Box::new(zstd::Decoder::with_buffer(packed)?),
            other => return Err(ParquetError::NYI(other.to_string())),
        };
        let bytes = unpacked.take(limit + 1).read_to_end(&mut content)?;
        over(bytes as u64)?;
        Ok(content.into())
    }

    /// Checks how many values a page without its levels has: lists of their lengths are laid out at once.
    fn check_lengths(
        &self,
        data: Option<&[u8]>,
        values: u32,
        encoding: Encoding,
    ) -> Result<(), ParquetError> {
        let lists = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            // Rows of such columns are read one by one.
            Encoding::DELTA_BYTE_ARRAY if self.encodings.is_set(encoding) => 2,
            Encoding::DELTA_BYTE_ARRAY => return Err(damaged()),
            _ => return Ok(()),
        };
        let mut data = data.ok_or_else(damaged)?;
        self.parts.check(data.len() as u64 + lists * u64::from(values) * size_of::<i32>() as u64)?;
        for _ in 0..lists {
            data = after_deltas(data, values).ok_or_else(damaged)?;
        }
        Ok(())
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let Some(mut page) = self.stored.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DictionaryPage { buf, num_values, .. } => {
                *buf = self.unpacked(buf, 0)?;
                let (bytes, values) = (buf.len() as u64, u64::from(*num_values));
                // No value takes less than four bytes: a number, or the length of a text.
                if values > bytes / 4 {
                    return Err(damaged());
                }
                self.parts.check(bytes + values * size_of::<ByteArray>() as u64)?;
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                *buf = self.unpacked(buf, 0)?;
                let levels = match def_level_encoding {
                    _ if !self.is_optional => 0,
                    Encoding::RLE => {
                        let length = buf.first_chunk().ok_or_else(damaged)?;
                        u32::from_le_bytes(*length) as usize + length.len()
                    }
                    _ => num_values.div_ceil(8) as usize,
                };
                self.check_lengths(buf.get(levels..), *num_values, *encoding)?;
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                if *is_compressed {
                    *buf = self.unpacked(buf, levels)?;
                }
                self.check_lengths(buf.get(levels..), *num_values, *encoding)?;
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.stored.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.stored.skip_next_page()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

fn damaged() -> ParquetError {
    ParquetError::General("a page is not what it says".to_owned())
}

/// What follows a list of numbers in the encoding `DELTA_BINARY_PACKED` that has `most` of them at most. The list may be of any
/// length however short its bytes are.
fn after_deltas(mut data: &[u8], most: u32) -> Option<&[u8]> {
    let block = varint(&mut data)?;
    let miniblocks = varint(&mut data)?;
    let count = varint(&mut data)?;
    let _first = varint(&mut data)?;
    if count > u64::from(most) {
        return None;
    }
    let per_miniblock = block.checked_div(miniblocks)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let _least = varint(&mut data)?;
        let (widths, deltas) = data.split_at_checked(usize::try_from(miniblocks).ok()?)?;
        let mut bytes = 0u64;
        for &bits in widths {
            // Of those that no number is in the width means nothing.
            if left > 0 {
                bytes = bytes.checked_add(u64::from(bits).checked_mul(per_miniblock)? / 8)?;
            }
            left = left.saturating_sub(per_miniblock);
        }
        data = deltas.get(usize::try_from(bytes).ok()?..)?;
    }
    Some(data)
}

/// The number that some bytes begin with, of which seven bits of each are used; they are left without it.
fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::parquet::read_column;
    use super::*;
    use crate::jobs::corpus::Source;
    use crate::jobs::progress::Progress;
    use parquet::basic::{GzipLevel, Type, ZstdLevel};
    use parquet::data_type::ByteArrayType;
    use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;
    use std::io::{Seek, Write};

    const PAGE: u64 = 1 << 20;

    fn unpacking() -> Unpacking {
        let folder = std::path::PathBuf::new();
        Unpacking { folder, max_bytes: 0, max_ratio: u64::MAX, max_page_bytes: PAGE, min_free_bytes: 0 }
    }

    fn temporary(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    /// What is read of a file with these texts in one page.
    fn read_back(
        texts: &[Vec<u8>],
        how: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
    ) -> Result<Vec<Vec<u8>>, String> {
        let schema = Arc::new(parse_message_type("message m { required binary text; }").unwrap());
        let properties = WriterProperties::builder().set_dictionary_enabled(false);
        let properties = how(properties.set_data_page_size_limit(1 << 30).set_write_batch_size(1 << 20));
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.clone())).collect();
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let source = Source { name: "a.parquet".to_owned(), file: temporary(&bytes) };
        let mut read = Vec::new();
        let take = |text: &[u8]| {
            read.push(text.to_vec());
            Ok(())
        };
        let outcome = read_column(source, "text", &unpacking(), &Progress::new(), take);
        outcome.map(|()| read).map_err(|error| error.to_string())
    }

    #[test]
    fn pages_are_unpacked_up_to_what_they_may_take() {
        let codecs = [
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        let texts = |bytes: usize| vec![b"a".repeat(bytes), b"b".to_vec()];
        for codec in [Compression::UNCOMPRESSED].into_iter().chain(codecs) {
            let read = |bytes: usize| read_back(&texts(bytes), |how| how.set_compression(codec));
            // Two lengths of four bytes are in the page as well.
            let most = PAGE as usize - 9;
            assert_eq!(read(most), Ok(texts(most)), "{codec}");
            let error =
                "a.parquet has a page that takes over 1048576 bytes of memory; write it with smaller ones";
            assert_eq!(read(most + 1), Err(error.to_owned()), "{codec}");
        }
    }

    #[test]
    fn long_prefixes_do_not_add_up() {
        let texts: Vec<Vec<u8>> =
            (0..300).map(|n| [&b"a".repeat(100_000)[..], &[n as u8]].concat()).collect();
        let read = read_back(&texts, |how| how.set_encoding(Encoding::DELTA_BYTE_ARRAY));
        assert_eq!(read.as_ref(), Ok(&texts));
        let read = read_back(&texts[..2], |how| how.set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY));
        assert_eq!(read, Ok(texts[..2].to_vec()));
    }

    /// A page as its header says that it is: `numbers` are those of the part of it that `field` has.
    fn page(kind: u8, field: u8, numbers: &[u32], stored: &[u8]) -> Vec<u8> {
        fn number(page: &mut Vec<u8>, number: u32) {
            let mut zigzag = u64::from(number) << 1;
            page.push(0x15);
            while zigzag >= 0x80 {
                page.push(zigzag as u8 | 0x80);
                zigzag >>= 7;
            }
            page.push(zigzag as u8);
        }
        let mut page = Vec::new();
        for part in [u32::from(kind), stored.len() as u32, stored.len() as u32] {
            number(&mut page, part);
        }
        page.push((field - 3) << 4 | 0x0c);
        numbers.iter().for_each(|part| number(&mut page, *part));
        page.extend([0, 0]);
        page.extend_from_slice(stored);
        page
    }

    /// What is said of the page of a required column of texts, uncompressed, in a file that says nothing of its encodings.
    #[track_caller]
    fn check(page: &[u8], expect: Result<u32, &str>) {
        let schema = parse_message_type("message m { required binary text; }").unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        assert_eq!(column.physical_type(), Type::BYTE_ARRAY);
        let meta = ColumnChunkMetaData::builder(column).set_total_compressed_size(page.len() as i64);
        let file = Arc::new(temporary(page));
        let parts = Parts { file, name: "a.parquet".into(), part: "page", max_bytes: PAGE };
        let mut pages = Pages::open(parts, &meta.build().unwrap(), 1, &unpacking()).unwrap();
        let got = pages.get_next_page().map(|page| page.unwrap().num_values()).map_err(|error| match error {
            ParquetError::External(error) => error.to_string(),
            error => error.to_string(),
        });
        assert_eq!(got.as_ref().map_err(String::as_str).copied(), expect);
    }

    #[test]
    fn a_page_does_not_have_more_values_than_fit_in_it() {
        const DELTA_LENGTH: u32 = 6;
        const DELTA: u32 = 7;
        let lie = Err("Parquet error: a page is not what it says");
        let large =
            Err("a.parquet has a page that takes over 1048576 bytes of memory; write it with smaller ones");
        let dictionary = |values: u32, bytes: usize| page(2, 7, &[values, 0], &vec![0; bytes]);
        check(&dictionary(2, 8), Ok(2));
        check(&dictionary(3, 8), lie);
        check(&dictionary(i32::MAX as u32, 8), lie);
        check(&dictionary(100_000, 400_000), large);
        let data = |values: u32, encoding: u32, stored: &[u8]| page(0, 5, &[values, encoding, 3, 3], stored);
        // In one block of 128, in 4 parts: all lengths are those of the first.
        let lengths = |count: &[u8]| [&[0x80, 1, 4], count, &[0, 0, 0, 0, 0, 0]].concat();
        check(&data(100, DELTA_LENGTH, &lengths(&[100])), Ok(100));
        check(&data(100, DELTA_LENGTH, &lengths(&[101])), lie);
        check(&data(100, DELTA_LENGTH, &lengths(&[0xff, 0xff, 0xff, 0xff, 0x7f])), lie);
        check(&data(1 << 30, DELTA_LENGTH, &lengths(&[100])), large);
        check(&data(100, DELTA, &[lengths(&[100]), lengths(&[100])].concat()), lie);
    }

    #[test]
    fn lists_end_where_the_reader_ends_them() {
        let run = |count: usize, widths: [u8; 4], rest: usize| {
            let mut list = vec![0x80, 1, 4, count as u8, 5, 1];
            list.extend(widths);
            list.extend(vec![0xaa; rest]);
            list
        };
        // Of four parts of 32 numbers each; those that no number is in have no bytes, whatever their widths say.
        for (count, bytes) in [(2, 4), (33, 4), (34, 4 * 3), (97, 4 * 6), (98, 4 * 10), (127, 4 * 10)] {
            let list = run(count, [1, 2, 3, 4], 50);
            assert_eq!(after_deltas(&list, 127).map(<[u8]>::len), Some(50 - bytes), "{count}");
        }
        assert_eq!(after_deltas(&[0x80, 1, 4, 1, 5, 9], 1), Some(&[9][..]), "the first alone");
        assert_eq!(after_deltas(&run(98, [1, 2, 3, 4], 39), 127), None, "cut off");
        assert_eq!(after_deltas(&run(98, [1, 2, 3, 4], 40), 97), None, "too many");
        assert_eq!(after_deltas(&[0x80, 1, 0, 9, 5], 127), None, "no parts");
    }
}
