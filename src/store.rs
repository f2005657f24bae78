//! The store: what survives a restart. Keys and atomic puts over `object_store`.
//!
//! - `blobs/sha256/HEX`: canonical native bytes of a vocabulary, named by their content, written once.
//! - `vocabs/NAME/versions/NUMBER.json`: the record of a version. It is created after its blob and is the commit
//!   point: two writers cannot make the same number, and a version exists when its record does.
//! - `vocabs/NAME/aliases/ALIAS.json`: which version an alias names.
//! - `jobs/ID.json`, `jobs/ID.request.json`: the record of a job and the request it was made from.
//!
//! A put that returned is durable and whole; one that failed left nothing that a reader could take for an object.

mod error;
mod key;
mod s3;

pub use error::{Source, StoreError};
pub use key::{Digest, Key, Segment, VocabKey};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// Objects by key, in a local directory, in memory or in whatever else `object_store` reaches.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    local: Option<Local>,
}

/// Which state of an object was read.
#[derive(Debug, Clone)]
pub struct Tag(UpdateVersion);

impl Tag {
    /// What a listing has as the state's tag.
    pub fn etag(&self) -> Option<&str> {
        self.0.e_tag.as_deref()
    }
}

/// What a local directory needs beyond `object_store`.
#[derive(Debug)]
struct Local {
    root: PathBuf,
    /// A shared lock on the directory while this store lives; whoever gets it exclusively is alone.
    _lock: Option<File>,
    was_alone: bool,
    /// Folders that were synced with all above them: no loss of power takes them away. Syncing a folder in which nothing has changed still
    /// has the disk write out all that it has in its own memory.
    lasting: Mutex<HashSet<PathBuf>>,
}

/// One object of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it lies.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
    /// How long ago it was written; zero where the clocks disagree.
    pub age: Duration,
    /// Differs from that of any other state of the object; `None` where the backend has no such thing.
    pub etag: Option<String>,
}

impl Listed {
    fn new(meta: ObjectMeta, now: SystemTime) -> Self {
        Self {
            key: Key(meta.location),
            bytes: meta.size,
            age: now.duration_since(meta.last_modified.into()).unwrap_or_default(),
            etag: meta.e_tag,
        }
    }
}

/// The folders that belong to the store; whatever else lies in the directory (uploads, import) is left alone.
const FOLDERS: [&str; 3] = ["blobs/sha256", "vocabs", "jobs"];

impl Store {
    /// A store in the directory `root`, which is created where it is missing. What interrupted puts left behind is
    /// removed, unless another process has the directory open. A directory that can only be read opens all the same.
    pub async fn open_local(root: &Path) -> Result<Self, StoreError> {
        let root = root.to_owned();
        blocking(move || {
            make_root(&root)?;
            let root = root.canonicalize()?;
            let (lock, was_alone) = prepare(&root);
            let objects = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
            Ok(Self {
                objects: Arc::new(objects),
                local: Some(Local { root, _lock: lock, was_alone, lasting: Mutex::default() }),
            })
        })
        .await
    }

    /// A store that is gone with the process.
    pub fn memory() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// A store over any backend that can create an object atomically.
    pub fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, local: None }
    }

    /// The bytes at `key`.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        Ok(self.objects.get(&key.0).await?.bytes().await?)
    }

    /// Puts `bytes` at `key`, in place of what may be there.
    pub async fn put(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        self.write(key, bytes.into(), PutMode::Overwrite).await.map(drop)
    }

    /// Puts `bytes` at `key` where nothing is yet; [`StoreError::AlreadyExists`] otherwise, and of two that create the
    /// same key at once exactly one gets that.
    pub async fn create(&self, key: &Key, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        self.write(key, bytes.into(), PutMode::Create).await.map(drop)
    }

    /// Which state of the object at `key` is there now, for [`Store::put_if`]; `None` where there is no object.
    pub async fn tag(&self, key: &Key) -> Result<Option<Tag>, StoreError> {
        let meta = self.head(key).await?;
        Ok(meta.map(|meta| Tag(UpdateVersion { e_tag: meta.e_tag, version: meta.version })))
    }

    /// The bytes at `key` and their tag, for [`Store::put_if`]; `None` where there is no object.
    pub async fn get_tagged(&self, key: &Key) -> Result<Option<(Bytes, Tag)>, StoreError> {
        match self.objects.get(&key.0).await.map_err(StoreError::from) {
            Ok(got) => {
                let tag =
                    Tag(UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() });
                Ok(Some((got.bytes().await?, tag)))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` at `key` if what is there is what `before` was read of (`None`: nothing), and gives the tag of what is there then;
    /// [`StoreError::Changed`] otherwise, and of several that do so at once exactly one does not get that.
    pub async fn put_if(
        &self,
        key: &Key,
        bytes: impl Into<Bytes>,
        before: Option<&Tag>,
    ) -> Result<Tag, StoreError> {
        let bytes = bytes.into();
        let Some(Tag(before)) = before else {
            return match self.write(key, bytes, PutMode::Create).await {
                Err(StoreError::AlreadyExists) => Err(StoreError::Changed),
                outcome => outcome,
            };
        };
        let Some(local) = &self.local else {
            return self.write(key, bytes, PutMode::Update(before.clone())).await;
        };
        // A directory has no conditional rename: whoever comes here, of this process or another, takes the same lock.
        let _lock = local.alone().await?;
        match self.tag(key).await? {
            Some(now) if now.0.e_tag == before.e_tag => self.write(key, bytes, PutMode::Overwrite).await,
            _ => Err(StoreError::Changed),
        }
    }

    /// Removes the object at `key`; that there is none is no error.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.objects.delete(&key.0).await.map_err(StoreError::from) {
            Ok(()) | Err(StoreError::NotFound) => self.sync_folders(key).await,
            Err(error) => Err(error),
        }
    }

    /// The size of the object at `key`, or `None` where there is none.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.look(key).await?.map(|object| object.bytes))
    }

    /// What a listing has of the object at `key`, or `None` where there is none.
    pub async fn look(&self, key: &Key) -> Result<Option<Listed>, StoreError> {
        Ok(self.head(key).await?.map(|meta| Listed::new(meta, SystemTime::now())))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>, StoreError> {
        match self.objects.head(&key.0).await.map_err(StoreError::from) {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything under `folder`, sorted by key. Unfinished puts are not among it, and a directory leaves out what it cannot look at.
    pub async fn list(&self, folder: &Key) -> Result<Vec<Listed>, StoreError> {
        let now = SystemTime::now();
        let listing = self.objects.list(Some(&folder.0)).map_ok(|meta| Listed::new(meta, now));
        let mut objects: Vec<Listed> = listing.try_collect().await?;
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// The directory of a local store: uploads and the import folder lie beside the objects.
    pub fn local_path(&self) -> Option<&Path> {
        self.local.as_ref().map(|local| local.root.as_path())
    }

    /// How many bytes the file system of a local store has left for us; `None` for other backends. One system call
    /// that does not touch the disk, so it may be asked from an async thread.
    pub fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        let Some(local) = &self.local else { return Ok(None) };
        let stat = rustix::fs::statvfs(&local.root)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    /// Whether other machines may run servers over the same store. A directory is one machine's.
    pub fn is_shared(&self) -> bool {
        self.local.is_none()
    }

    /// Whether no other process had the local directory open when this store was opened.
    pub fn was_alone(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.was_alone)
    }

    async fn write(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<Tag, StoreError> {
        let put = self.objects.put_opts(&key.0, PutPayload::from_bytes(bytes), mode.into()).await?;
        // The backend has synced the file and its folder.
        if let Some(local) = &self.local
            && !local.lasts(&local.folder_of(key))
        {
            self.sync_folders(key).await?;
        }
        Ok(Tag(UpdateVersion { e_tag: put.e_tag, version: put.version }))
    }

    /// Syncs the folder of `key`, and once in the life of this store all above it. The backend syncs those that the very call made which
    /// put something there. A folder made by a call that failed afterwards, or by one still running, is not its business: so what is not
    /// known to last is synced before anything in it is acknowledged.
    async fn sync_folders(&self, key: &Key) -> Result<(), StoreError> {
        let Some(local) = &self.local else { return Ok(()) };
        let (root, folder) = (local.root.clone(), local.folder_of(key));
        let most = if local.lasts(&folder) { 1 } else { usize::MAX };
        let synced = folder.clone();
        let all_there = blocking(move || {
            let mut all_there = true;
            for folder in folder.ancestors().take_while(|folder| folder.starts_with(&root)).take(most) {
                match File::open(folder).and_then(|folder| folder.sync_all()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => all_there = false,
                    result => result?,
                }
            }
            Ok(all_there)
        });
        if all_there.await? {
            lock(&local.lasting).insert(synced);
        }
        Ok(())
    }
}

impl Local {
    fn folder_of(&self, key: &Key) -> PathBuf {
        let mut file = self.root.join(key.0.as_ref());
        file.pop();
        file
    }

    /// A lock on a folder until it is dropped. Some network file systems have none.
    async fn alone(&self) -> Result<File, StoreError> {
        let folder = File::open(self.root.join(FOLDERS[0]))?;
        if !matches!(folder.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(folder);
        }
        blocking(move || {
            let _ = folder.lock();
            Ok(folder)
        })
        .await
    }

    fn lasts(&self, folder: &Path) -> bool {
        lock(&self.lasting).contains(folder)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the root where it is missing, and its way there, to last.
fn make_root(root: &Path) -> Result<(), StoreError> {
    if root.is_dir() {
        return Ok(());
    }
    let root = std::path::absolute(root)?;
    let missing: Vec<&Path> = root.ancestors().take_while(|folder| !folder.exists()).collect();
    // Not as an object that is missing or there already: the cause is what helps.
    std::fs::create_dir_all(&root).map_err(|e| StoreError::from_source(Box::new(e)))?;
    for parent in missing.iter().filter_map(|folder| folder.parent()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Makes the folders, removes litter if this process is alone, and returns the lock to hold and whether it was.
fn prepare(root: &Path) -> (Option<File>, bool) {
    // A read-only directory has no litter of ours to remove, and serving from it is fine.
    let made = FOLDERS.iter().try_for_each(|folder| std::fs::create_dir_all(root.join(folder)));
    let Ok(lock) = File::open(root) else { return (None, false) };
    let alone = made.is_ok() && lock.try_lock().is_ok();
    if alone {
        FOLDERS.iter().for_each(|folder| remove_litter(root.join(folder)));
    }
    // Some network file systems have no locks; then nothing is ever cleaned there but by hand.
    (lock.lock_shared().is_ok().then_some(lock), alone)
}

/// Removes the staging files (`NAME#NUMBER`) of interrupted puts below `folder`. What cannot be removed stays: it is
/// in nobody's way.
fn remove_litter(folder: PathBuf) {
    let mut folders = vec![folder];
    while let Some(entries) = folders.pop().map(std::fs::read_dir) {
        for entry in entries.into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && is_staging(&entry.file_name().to_string_lossy()) => {
                    let _ = std::fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
    }
}

fn is_staging(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs work that blocks: beside the runtime, or here where there is none.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let Ok(runtime) = Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(StoreError::Other(Box::new(stopped))),
    }
}

#[cfg(test)]
mod tests;
