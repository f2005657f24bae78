//! What jobs and uploads may take of the disk.

use super::corpus::CorpusError;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// How often the disk is asked for its free room while something is written.
pub(super) const CHECK_ROOM_EVERY: u64 = 64 << 20;

/// The most bytes of memory that a page of a Parquet file takes, whatever memory a job has: those that write large ones (`DuckDB`)
/// stop at 100 MB.
pub(super) const MAX_PAGE_BYTES: u64 = 128 << 20;

/// A page may take so much whatever memory a job has: most writers stop at 1 MiB, and reading takes its own.
const MIN_PAGE_BYTES: u64 = 2 << 20;

/// Unpacked bytes that are free of the ratio.
const FREE_BYTES: u64 = 1 << 20;

/// Free bytes on the disk of a folder, as far as this process may have them.
///
/// # Errors
/// The system does not say, as for a folder that is not there.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder).map_err(io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether `more` bytes would leave at least `min_free_bytes` free on the disk of a folder.
pub(super) fn has_room(folder: &Path, more: u64, min_free_bytes: u64) -> io::Result<bool> {
    let free = free_bytes(folder)?;
    Ok(free.saturating_sub(more) >= min_free_bytes)
}

/// Where a file is unpacked that has to be read from its end, and how far.
#[derive(Debug, Clone)]
pub(super) struct Unpacking {
    pub(super) folder: PathBuf,
    /// The most bytes that it may become.
    pub(super) max_bytes: u64,
    /// The most bytes that it may become for each byte that is stored; the first MiB is free.
    pub(super) max_ratio: u64,
    /// The most bytes of memory that a page of a Parquet file may take.
    pub(super) max_page_bytes: u64,
    /// What stays free on the disk.
    pub(super) min_free_bytes: u64,
}

impl Unpacking {
    /// The same for a job of so many bytes of memory. Some five times a page are there at once: packed, unpacked, as a dictionary,
    /// and its longest value before and after.
    pub(super) fn within(self, max_memory: usize) -> Self {
        Self { max_page_bytes: (max_memory as u64 / 8).clamp(MIN_PAGE_BYTES, MAX_PAGE_BYTES), ..self }
    }

    /// The most bytes that what is stored in so many may become.
    pub(super) fn earned(&self, stored: u64) -> u64 {
        // What comes through a pipe is of no size.
        stored.max(1).saturating_mul(self.max_ratio).max(FREE_BYTES)
    }

    /// A file without a name that has all of `content`; `stored` is how many bytes that is packed, `name` what the request
    /// calls it. Where it fails the file is gone, as it is when it is closed.
    pub(super) fn unpack(
        &self,
        content: &mut impl Read,
        stored: u64,
        name: &str,
    ) -> Result<File, CorpusError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.disk_full(),
            kind => CorpusError::Io { file: name.to_owned(), kind },
        };
        let mut file = self.unnamed().map_err(failed)?;
        let mut buffer = vec![0; 1 << 17];
        let (mut written, mut checked) = (0u64, None);
        loop {
            let n = content.read(&mut buffer).map_err(|e| super::corpus::read_error(name, &e))?;
            if n == 0 {
                file.rewind().map_err(failed)?;
                return Ok(file);
            }
            written += n as u64;
            let too_large = |limit, setting| CorpusError::TooLarge { file: name.to_owned(), limit, setting };
            if written > self.max_bytes {
                return Err(too_large(self.max_bytes, "max_upload_bytes"));
            }
            let earned = self.earned(stored);
            if written > earned {
                return Err(too_large(earned, "max_decompress_ratio"));
            }
            if checked.is_none_or(|checked| written - checked >= CHECK_ROOM_EVERY) {
                if !has_room(&self.folder, n as u64, self.min_free_bytes).map_err(failed)? {
                    return Err(self.disk_full());
                }
                checked = Some(written);
            }
            file.write_all(&buffer[..n]).map_err(failed)?;
        }
    }

    fn unnamed(&self) -> io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        // Hidden, as uploads that are not whole are, so that what a crash between these two lines leaves is removed.
        let path = self.folder.join(format!(".unpacked-{}", uuid::Uuid::new_v4().simple()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    fn disk_full(&self) -> CorpusError {
        CorpusError::DiskFull { min_free_bytes: self.min_free_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Unpacking), bytes: usize, stored: u64, expect: Result<u64, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made");
        let mut how = Unpacking {
            folder,
            max_bytes: 1 << 30,
            max_ratio: 100,
            max_page_bytes: MAX_PAGE_BYTES,
            min_free_bytes: 0,
        };
        change(&mut how);
        let unpacked = how.unpack(&mut std::io::repeat(7).take(bytes as u64), stored, "a.zst");
        let got = unpacked.map(|file| file.metadata().unwrap().len()).map_err(|e| e.to_string());
        assert_eq!(got, expect.map_err(str::to_owned));
        assert_eq!(std::fs::read_dir(how.folder).unwrap().count(), 0, "a file is left");
    }

    #[test]
    fn a_file_is_unpacked_up_to_its_limits() {
        check(|_| (), 3 << 20, 40 << 10, Ok(3 << 20));
        check(|how| how.max_bytes = 1000, 1000, 10, Ok(1000));
        let error = "a.zst has over 1000 bytes when it is unpacked, which is the limit by max_upload_bytes";
        check(|how| how.max_bytes = 1000, 1001, 10, Err(error));
        check(|_| (), 1 << 20, 10, Ok(1 << 20));
        check(|how| how.max_ratio = u64::MAX, 3 << 20, 0, Ok(3 << 20));
        let error =
            "a.zst has over 2048000 bytes when it is unpacked, which is the limit by max_decompress_ratio";
        check(|_| (), 3 << 20, 20_480, Err(error));
        let error =
            "the disk has less than 18446744073709551615 bytes free, which is the setting min_free_bytes";
        check(|how| how.min_free_bytes = u64::MAX, 10, 10, Err(error));
    }
}
