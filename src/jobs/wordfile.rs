//! Counts on the disk: what was counted so far, in the order of the pretokens' bytes.
//!
//! For this program alone (counts that travel are [`super::shard`]s). A file is written beside its place, synced and
//! moved there, so one that is there is whole; it is checked all the same when it is read.

use crate::engine::WordCounts;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// What every file begins with.
const MAGIC: &[u8; 8] = b"vocabdW1";

/// Stands where the length of a pretoken would, after the last one; the number of pretokens follows.
const END: u32 = u32::MAX;

/// Quick rather than small: it is written once and read once.
const LEVEL: i32 = 1;

/// Writes counts; returns when they are on the disk.
pub(super) fn write(path: &Path, counts: &WordCounts) -> io::Result<()> {
    let mut order: Vec<(&[u8], u64)> = counts.iter().collect();
    order.sort_unstable();
    write_sorted(path, order.into_iter().map(Ok::<_, io::Error>))
}

/// Writes counts that come in the order of their pretokens, none of them twice; ends at the first error that comes instead.
pub(super) fn write_sorted<B: AsRef<[u8]>, E: From<io::Error>>(
    path: &Path,
    counts: impl Iterator<Item = Result<(B, u64), E>>,
) -> Result<(), E> {
    replace(path, |file| {
        let mut packed = zstd::Encoder::new(file, LEVEL)?;
        packed.include_checksum(true)?;
        packed.write_all(MAGIC)?;
        let mut written = 0u64;
        for pair in counts {
            let (word, count) = pair?;
            let word = word.as_ref();
            packed.write_all(&(word.len() as u32).to_le_bytes())?;
            packed.write_all(&count.to_le_bytes())?;
            packed.write_all(word)?;
            written += 1;
        }
        packed.write_all(&END.to_le_bytes())?;
        packed.write_all(&written.to_le_bytes())?;
        packed.finish()?;
        Ok(())
    })
}

/// Writes a file beside its place, syncs it and moves it there.
pub(super) fn replace<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let part = path.with_extension("part");
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&part)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// The sums of several files, pretoken by pretoken in the order of their bytes, in little memory.
pub(super) struct Merged {
    files: Vec<WordsOf>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize, u64)>>,
}

impl Merged {
    pub(super) fn open<P: AsRef<Path>>(paths: &[P]) -> io::Result<Self> {
        let mut merged = Self { files: Vec::new(), heads: BinaryHeap::new() };
        for (at, path) in paths.iter().enumerate() {
            let mut words = WordsOf::open(path.as_ref())?;
            merged.heads.extend(words.next()?.map(|(word, count)| Reverse((word, at, count))));
            merged.files.push(words);
        }
        Ok(merged)
    }

    fn pop(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
        let Some(Reverse((word, at, count))) = self.heads.pop() else { return Ok(None) };
        if let Some((next, count)) = self.files[at].next()? {
            self.heads.push(Reverse((next, at, count)));
        }
        Ok(Some((word, count)))
    }
}

impl Iterator for Merged {
    type Item = io::Result<(Vec<u8>, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (word, mut sum) = match self.pop() {
            Ok(first) => first?,
            Err(error) => return Some(Err(error)),
        };
        while self.heads.peek().is_some_and(|Reverse((next, ..))| *next == word) {
            match self.pop() {
                // The largest number is no count: whoever adds these up finds that it does not fit.
                Ok(Some((_, count))) => sum = sum.saturating_add(count),
                Ok(None) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok((word, sum)))
    }
}

/// The counts of one file.
pub(super) fn read(path: &Path) -> io::Result<WordCounts> {
    WordCounts::from_distinct(Merged::open(&[path])?.map(|pair| pair.map_err(Wrong::Io))).map_err(|wrong| {
        match wrong {
            Wrong::Io(error) => error,
            Wrong::Counts => damaged(),
        }
    })
}

enum Wrong {
    Io(io::Error),
    Counts,
}

impl From<crate::engine::TrainError> for Wrong {
    fn from(_: crate::engine::TrainError) -> Self {
        Self::Counts
    }
}

/// One file, from the front.
pub(super) struct WordsOf {
    content: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    read: u64,
}

impl WordsOf {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Pretokens are far shorter than what the decoder gives at a time.
        let mut content = BufReader::with_capacity(1 << 16, zstd::Decoder::new(File::open(path)?)?);
        let mut magic = [0; 8];
        content.read_exact(&mut magic)?;
        if magic == *MAGIC { Ok(Self { content, read: 0 }) } else { Err(damaged()) }
    }

    fn next(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
        let mut word = Vec::new();
        Ok(self.next_into(&mut word)?.map(|count| (word, count)))
    }

    /// The next pretoken takes the place of what `word` holds; gives its count.
    pub(super) fn next_into(&mut self, word: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let (mut len, mut count) = ([0; 4], [0; 8]);
        self.content.read_exact(&mut len)?;
        self.content.read_exact(&mut count)?;
        let (len, count) = (u32::from_le_bytes(len), u64::from_le_bytes(count));
        if len == END {
            // The checksum of the frame is seen at its end.
            let at_end = self.content.read(&mut [0])? == 0;
            return if count == self.read && at_end { Ok(None) } else { Err(damaged()) };
        }
        word.clear();
        (&mut self.content).take(len.into()).read_to_end(word)?;
        if word.len() != len as usize || word.is_empty() {
            return Err(damaged());
        }
        self.read += 1;
        Ok(Some(count))
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "counts on the disk are damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> WordCounts {
        WordCounts::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn files_are_read_back_and_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (a, b) = (counts(&[("b", 2), ("a", u64::MAX / 1000), ("ccc", 1)]), counts(&[("b", 5), ("d", 1)]));
        write(&path("a"), &a).unwrap();
        write(&path("b"), &b).unwrap();
        write(&path("none"), &WordCounts::default()).unwrap();
        assert_eq!(read(&path("a")).unwrap(), a);
        assert_eq!(read(&path("none")).unwrap(), WordCounts::default());
        let merged = Merged::open(&[path("a"), path("none"), path("b")]).unwrap();
        let merged: Vec<_> = merged.map(|pair| pair.unwrap()).collect();
        let expect =
            [("a", u64::MAX / 1000), ("b", 7), ("ccc", 1), ("d", 1)].map(|(w, c)| (w.as_bytes().to_vec(), c));
        assert_eq!(merged, expect);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let pairs: Vec<(String, u64)> = (0..1000).map(|n| (format!("word{n}"), n + 1)).collect();
        write(&path, &WordCounts::from_pairs(pairs).unwrap()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 4, 9, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path).is_err(), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(97) {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
        }
    }
}
