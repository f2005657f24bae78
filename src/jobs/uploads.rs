//! Uploads: corpora sent ahead of the job that reads them, kept in the data directory for a while.
//!
//! A file appears under its id only when it is whole and on the disk.

use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use utoipa::ToSchema;

use super::disk::{self, CHECK_ROOM_EVERY, Unpacking};
use super::progress::lock;
use crate::store::Segment;

/// The id of an upload: chosen by the client, by the same rule as the name of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(Segment);

impl UploadId {
    /// The id that a text is, if it follows the rule.
    pub fn parse(text: &str) -> Option<Self> {
        let first = text.bytes().next()?.is_ascii_alphanumeric();
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        (first && rest).then(|| Segment::parse(text).map(Self)).flatten()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// What is told of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UploadFacts {
    /// Its id.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// When it goes unless it is used, RFC 3339.
    pub expires_at: String,
}

/// Why an upload is not taken or not there.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of that id.
    #[error("there is no such upload")]
    Unknown,
    /// A job reads it.
    #[error("a job still needs the upload")]
    InUse,
    /// It is over the limit.
    #[error("the upload has over {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It ended before all announced bytes had come.
    #[error("the upload ended after {got} of {announced} bytes")]
    CutOff {
        /// Bytes received.
        got: u64,
        /// Bytes announced.
        announced: u64,
    },
    /// Too little room on the disk.
    #[error("the disk has less than {min_free_bytes} bytes free")]
    DiskFull {
        /// The setting.
        min_free_bytes: u64,
    },
    /// The operating system says so.
    #[error("the upload cannot be stored: {}", .0.kind())]
    Io(#[from] io::Error),
}

/// What uploads may take, and how long they stay.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// The most bytes of one, as it is sent and as it is unpacked to the disk.
    pub max_bytes: u64,
    /// The most bytes that one may be unpacked to for each byte of it.
    pub max_ratio: u64,
    /// What stays free on the disk.
    pub min_free_bytes: u64,
    /// How long one stays after its last use.
    pub ttl: Duration,
}

/// The uploads of one data directory.
#[derive(Debug, Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    limits: UploadLimits,
    /// How many jobs need each.
    held: Mutex<HashMap<UploadId, usize>>,
}

impl Uploads {
    /// The uploads in `dir`, which is made on first use. What interrupted uploads left behind is removed.
    pub fn new(dir: PathBuf, limits: UploadLimits) -> Self {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Self { shared: Arc::new(Shared { dir, limits, held: Mutex::default() }) }
    }

    /// Begins an upload, which takes the place of one with the same id when it is finished.
    ///
    /// # Errors
    /// The announced size is over the limit, the disk is (nearly) full, or a job needs the upload of that id.
    pub async fn begin(&self, id: UploadId, announced: Option<u64>) -> Result<UploadWriter, UploadError> {
        let limit = self.shared.limits.max_bytes;
        if announced.is_some_and(|n| n > limit) {
            return Err(UploadError::TooLarge { limit });
        }
        if self.is_held(&id) {
            return Err(UploadError::InUse);
        }
        tokio::fs::create_dir_all(&self.shared.dir).await?;
        self.check_room(announced.unwrap_or(0))?;
        let part = self.shared.dir.join(format!(".{}.{}", id.as_str(), uuid::Uuid::new_v4().simple()));
        let file = tokio::fs::File::create_new(&part).await?;
        let part = Part(Some(part));
        Ok(UploadWriter { uploads: self.clone(), id, file, part, announced, written: 0, checked: 0 })
    }

    /// One upload.
    ///
    /// # Errors
    /// [`UploadError::Unknown`].
    pub fn facts(&self, id: &UploadId) -> Result<UploadFacts, UploadError> {
        let meta = std::fs::metadata(self.path(id)).map_err(unknown)?;
        let expires = meta.modified()? + self.shared.limits.ttl;
        let expires_at =
            jiff::Timestamp::try_from(expires).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Ok(UploadFacts {
            id: id.as_str().to_owned(),
            bytes: meta.len(),
            expires_at: expires_at.unwrap_or_default(),
        })
    }

    /// Removes an upload.
    ///
    /// # Errors
    /// It is not there, or a job needs it.
    pub fn remove(&self, id: &UploadId) -> Result<(), UploadError> {
        let held = lock(&self.shared.held);
        if held.contains_key(id) {
            return Err(UploadError::InUse);
        }
        std::fs::remove_file(self.path(id)).map_err(unknown)
    }

    /// Removes uploads not used for their time.
    pub fn expire(&self) {
        let held = lock(&self.shared.held);
        for entry in std::fs::read_dir(&self.shared.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = UploadId::parse(&name).filter(|id| !held.contains_key(id)) else { continue };
            let old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > self.shared.limits.ttl);
            if entry.metadata().and_then(|m| m.modified()).is_ok_and(old) {
                let _ = std::fs::remove_file(self.path(&id));
            }
        }
    }

    /// How an upload is unpacked whose content has to be read from its end: no further than it might have been sent.
    pub(super) fn unpacking(&self) -> Unpacking {
        self.unpacking_in(self.shared.dir.clone())
    }

    /// The same in another folder, for files that are no uploads.
    pub(super) fn unpacking_in(&self, folder: PathBuf) -> Unpacking {
        let UploadLimits { max_bytes, max_ratio, min_free_bytes, .. } = self.shared.limits;
        Unpacking { folder, max_bytes, max_ratio, max_page_bytes: disk::MAX_PAGE_BYTES, min_free_bytes }
    }

    /// Opens an upload for reading; that counts as a use.
    pub(super) fn open(&self, id: &UploadId) -> Result<File, UploadError> {
        let file = File::open(self.path(id)).map_err(unknown)?;
        // On a disk that cannot be written the old time stays, and nothing is removed there either.
        let _ =
            File::options().append(true).open(self.path(id)).and_then(|f| f.set_modified(SystemTime::now()));
        Ok(file)
    }

    /// Keeps an upload, there or not, for as long as the guard lives.
    pub(super) fn hold(&self, id: UploadId) -> HeldUpload {
        *lock(&self.shared.held).entry(id.clone()).or_default() += 1;
        HeldUpload { uploads: self.clone(), id }
    }

    fn is_held(&self, id: &UploadId) -> bool {
        lock(&self.shared.held).contains_key(id)
    }

    fn path(&self, id: &UploadId) -> PathBuf {
        self.shared.dir.join(id.as_str())
    }

    /// Refuses where `more` bytes would leave less than the least free room.
    fn check_room(&self, more: u64) -> Result<(), UploadError> {
        let min_free_bytes = self.shared.limits.min_free_bytes;
        match disk::has_room(&self.shared.dir, more, min_free_bytes)? {
            true => Ok(()),
            false => Err(UploadError::DiskFull { min_free_bytes }),
        }
    }
}

fn unknown(error: io::Error) -> UploadError {
    if error.kind() == io::ErrorKind::NotFound { UploadError::Unknown } else { error.into() }
}

/// Keeps an upload from being removed or replaced.
#[derive(Debug)]
pub(super) struct HeldUpload {
    uploads: Uploads,
    id: UploadId,
}

impl HeldUpload {
    pub(super) fn id(&self) -> &UploadId {
        &self.id
    }
}

impl Drop for HeldUpload {
    fn drop(&mut self) {
        let mut held = lock(&self.uploads.shared.held);
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}

/// An upload coming in. Dropped before it is finished it leaves nothing behind.
#[derive(Debug)]
pub struct UploadWriter {
    uploads: Uploads,
    id: UploadId,
    file: tokio::fs::File,
    part: Part,
    announced: Option<u64>,
    written: u64,
    checked: u64,
}

/// A file that goes when this does, unless it was moved to its place.
#[derive(Debug)]
struct Part(Option<PathBuf>);

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl UploadWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// The limit is passed, or the disk is full.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let limit = self.uploads.shared.limits.max_bytes;
        self.written += bytes.len() as u64;
        if self.written > limit {
            return Err(UploadError::TooLarge { limit });
        }
        if self.written - self.checked >= CHECK_ROOM_EVERY {
            self.uploads.check_room(0)?;
            self.checked = self.written;
        }
        Ok(self.file.write_all(bytes).await?)
    }

    /// Puts the upload in its place, safe on the disk.
    ///
    /// # Errors
    /// Fewer bytes came than announced, or the disk refuses.
    pub async fn finish(mut self) -> Result<UploadFacts, UploadError> {
        if let Some(announced) = self.announced.filter(|&n| n != self.written) {
            return Err(UploadError::CutOff { got: self.written, announced });
        }
        self.file.flush().await?;
        self.file.sync_all().await?;
        let target = self.uploads.path(&self.id);
        let part = self.part.0.clone().unwrap_or_default();
        {
            let held = lock(&self.uploads.shared.held);
            if held.contains_key(&self.id) {
                return Err(UploadError::InUse);
            }
            std::fs::rename(&part, &target)?;
            self.part.0 = None;
        }
        let dir = self.uploads.shared.dir.clone();
        let synced = tokio::task::spawn_blocking(move || File::open(dir)?.sync_all()).await;
        synced.map_err(io::Error::other)??;
        self.uploads.facts(&self.id)
    }
}
