//! Runs outside the queue, on files that the caller may read: what the command line does.

use super::checkpoint::{self, Checkpoint};
use super::corpus::{CorpusError, Source};
use super::counting::{self, Input, Room};
use super::disk::{self, Unpacking};
use super::progress::{Progress, ProgressView};
use super::request::TrainRequest;
use super::shard::{self, ShardFormat};
use super::worker::{Learned, Run, RunError, learn_in};
use crate::engine::TrainConfig;
use crate::registry::Loaded;
use crate::store::Digest;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A run outside the queue, on files that the caller may read: what the command line does.
pub struct FilesRun {
    request: TrainRequest,
    files: Vec<PathBuf>,
    threads: usize,
    base: Option<Arc<Loaded>>,
    max_memory: usize,
    min_free_bytes: u64,
}

/// Trains on files without a queue; see [`FilesRun::watch`]. The corpus of the request says what they hold; where it has
/// `counts`, they are counts.
pub fn train_files(request: TrainRequest, files: Vec<PathBuf>, threads: usize) -> FilesRun {
    FilesRun { request, files, threads, base: None, max_memory: usize::MAX, min_free_bytes: 0 }
}

impl FilesRun {
    /// Extends this version; the request's `base` is the one that was resolved to it.
    #[must_use]
    pub fn extending(self, base: Arc<Loaded>) -> Self {
        Self { base: Some(base), ..self }
    }

    /// The run takes about so many bytes of memory at most, and the disk for what is more, of which it leaves
    /// `min_free_bytes` free.
    #[must_use]
    pub fn within(self, max_memory: usize, min_free_bytes: u64) -> Self {
        Self { max_memory, min_free_bytes, ..self }
    }

    /// Runs, telling several times a second how far it is. The error is a line for a person.
    ///
    /// # Errors
    /// The request or the corpus is at fault.
    pub async fn watch(self, see: impl FnMut(&ProgressView)) -> Result<Learned, String> {
        watched(see, move |progress| {
            let FilesRun { request, files, threads, base, max_memory, min_free_bytes } = self;
            let base = base.as_ref().map(|loaded| &loaded.tokenizer);
            let config = request.config(threads, base)?;
            let sources = open_files(&files, progress)?;
            let inputs = match request.corpus.counts {
                Some(_) => Input::Counts(sources),
                None => Input::Files(sources),
            };
            let mut folder = Temporary::new()?;
            let (request, inputs) = (Arc::new(request), vec![inputs]);
            let unpacking = folder.unpacking(min_free_bytes).within(max_memory);
            learn_in(Run { request, base, config, inputs, max_memory, unpacking, progress }, &mut folder.0)
        })
        .await
    }
}

/// Counts the pretokens of files, as a job with that request would, and writes them to `out`.
///
/// # Errors
/// The request or the corpus is at fault, or the output cannot be written.
pub async fn count_files(
    request: TrainRequest,
    files: Vec<PathBuf>,
    threads: usize,
    (max_memory, min_free_bytes): (usize, u64),
    format: ShardFormat,
    mut out: impl std::io::Write + Send + 'static,
    see: impl FnMut(&ProgressView),
) -> Result<(), String> {
    let written = watched(see, move |progress| {
        let config = TrainConfig { num_merges: Some(1), ..request.config(threads, None)? };
        let inputs = vec![Input::Files(open_files(&files, progress)?)];
        let mut folder = Temporary::new()?;
        let unpacking = folder.unpacking(min_free_bytes).within(max_memory);
        let mut room = Room { checkpoint: &mut folder.0, max_memory, unpacking, progress };
        let counts = counting::count(&config, &request, inputs, &mut room)?;
        shard::write(&counts.whole, &config, format, &mut out)?;
        Ok(out.flush()?)
    });
    written.await
}

/// Runs work on the blocking pool, telling several times a second how far it is.
async fn watched<T: Send + 'static>(
    mut see: impl FnMut(&ProgressView),
    work: impl FnOnce(&Progress) -> Result<T, RunError> + Send + 'static,
) -> Result<T, String> {
    let progress = Arc::new(Progress::new());
    let shared = Arc::clone(&progress);
    let mut run = tokio::task::spawn_blocking(move || work(&shared));
    loop {
        match tokio::time::timeout(std::time::Duration::from_millis(100), &mut run).await {
            Ok(done) => return done.map_err(|e| e.to_string())?.map_err(|e: RunError| e.to_string()),
            Err(_) => see(&progress.view()),
        }
    }
}

/// Opens files that the caller may read; `-` is standard input.
fn open_files(files: &[PathBuf], progress: &Progress) -> Result<Vec<Source>, CorpusError> {
    let sources = files.iter().map(|path| {
        let name = path.display().to_string();
        let failed = |e: std::io::Error| CorpusError::Io { file: name.clone(), kind: e.kind() };
        let path = if name == "-" { Path::new("/dev/stdin") } else { path };
        let file = File::open(path).map_err(failed)?;
        Ok(Source { name, file })
    });
    let sources = sources.collect::<Result<Vec<_>, CorpusError>>()?;
    progress.start(sources.iter().map(|s| s.file.metadata().map_or(0, |m| m.len())).sum());
    Ok(sources)
}

/// A folder for a run outside the queue, which nothing goes on from.
struct Temporary(Checkpoint);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("vocabd-{}", uuid::Uuid::new_v4().simple()));
        Checkpoint::open(folder, Duration::MAX, &Digest::of(b"")).map(Self)
    }

    /// The caller's own files may be of any size that the disk takes.
    fn unpacking(&self, min_free_bytes: u64) -> Unpacking {
        let folder = self.0.folder().to_owned();
        let max_page_bytes = disk::MAX_PAGE_BYTES;
        Unpacking { folder, max_bytes: u64::MAX, max_ratio: u64::MAX, max_page_bytes, min_free_bytes }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = checkpoint::remove(self.0.folder());
    }
}
