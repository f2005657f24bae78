//! What is in memory: loading a version from the store, and letting the least recently used ones go.
//!
//! Aliased, latest and default versions are pinned by the snapshot; all others share what is left of
//! `max_resident_bytes`.

use super::error::ResolveError;
use super::facts::Loaded;
use super::snapshot::{Slot, Snapshot, default_pick};
use super::{Residency, Shared, off_thread};
use crate::formats::native;
use crate::store::Digest;
use crate::store::Key;
use crate::store::StoreError;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Why a version did not get into memory.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The stored bytes are not the version; a repeat would find the same.
    Broken(String),
    /// The store could not be read.
    Store(StoreError),
    /// It does not fit.
    NoRoom { needed: u64, pinned: u64 },
}

impl LoadError {
    pub(super) fn problem(&self, limit: u64) -> String {
        match self {
            Self::Broken(problem) => problem.clone(),
            Self::Store(error) => error.to_string(),
            Self::NoRoom { needed, pinned } => {
                format!(
                    "it needs {needed} bytes of memory; {limit} are set, of which {pinned} are in lasting use"
                )
            }
        }
    }
}

impl Shared {
    /// The version in `slot`, loaded on first use. Of many that ask at once one loads and the others wait.
    pub(super) async fn load(&self, slot: &Arc<Slot>) -> Result<Arc<Loaded>, ResolveError> {
        slot.touch(self.clock.fetch_add(1, Ordering::Relaxed));
        if let Some(loaded) = slot.loaded.load_full() {
            return Ok(loaded);
        }
        let _loading = slot.loading.lock().await;
        if let Some(loaded) = slot.loaded.load_full() {
            return Ok(loaded);
        }
        let loaded = async {
            // What can be known not to fit is not read at all.
            self.check_room(slot.weight())?;
            let loaded = self.read(slot).await?;
            self.admit(slot, &loaded)?;
            Ok(loaded)
        };
        loaded.await.map_err(|error: LoadError| {
            let name = slot.facts.name.clone();
            match error {
                LoadError::NoRoom { needed, pinned } => {
                    ResolveError::NoRoom { name, needed, pinned, limit: self.settings.max_resident_bytes }
                }
                error => ResolveError::Unavailable { name, problem: error.problem(0) },
            }
        })
    }

    /// Reads and checks a version and keeps it in its slot, whatever room there is: for versions that are about to be
    /// pinned, whose room is checked for all of them at once.
    pub(super) async fn load_to_pin(&self, slot: &Arc<Slot>) -> Result<Arc<Loaded>, LoadError> {
        let _loading = slot.loading.lock().await;
        if let Some(loaded) = slot.loaded.load_full() {
            return Ok(loaded);
        }
        let loaded = self.read(slot).await?;
        slot.fill(Arc::clone(&loaded));
        Ok(loaded)
    }

    async fn read(&self, slot: &Arc<Slot>) -> Result<Arc<Loaded>, LoadError> {
        if let Some(problem) = slot.broken.get() {
            return Err(LoadError::Broken(problem.clone()));
        }
        let permit = Arc::clone(&self.loads).acquire_owned().await;
        let outcome = match self.store.get(&Key::blob(&slot.facts.digest)).await {
            Ok(bytes) => {
                let facts = Arc::clone(&slot.facts);
                // The permit goes along: when the caller goes away, the work does not end, and must still be counted.
                off_thread(move || {
                    let _permit = permit;
                    checked(&bytes, &facts.digest).map(|tokenizer| Loaded::new(facts, tokenizer))
                })
                .await
            }
            Err(StoreError::NotFound) => Err("its content is missing from the store".to_owned()),
            Err(error) => return Err(LoadError::Store(error)),
        };
        outcome.map_err(|problem| {
            let _ = slot.broken.set(problem.clone());
            LoadError::Broken(problem)
        })
    }

    fn check_room(&self, needed: u64) -> Result<(), LoadError> {
        let pinned = self.snapshot.load().pinned_bytes;
        if pinned.saturating_add(needed) > self.settings.max_resident_bytes {
            return Err(LoadError::NoRoom { needed, pinned });
        }
        Ok(())
    }

    /// Keeps a version in memory after dropping, least recently used first, what does not fit beside it.
    fn admit(&self, slot: &Slot, loaded: &Arc<Loaded>) -> Result<(), LoadError> {
        slot.weigh(loaded);
        self.check_room(slot.weight())?;
        let _room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(slot.weight());
        slot.fill(Arc::clone(loaded));
        Ok(())
    }

    /// Drops versions that are not pinned until `more` bytes fit beside the rest. Called after a swap as well: what a
    /// change has pinned may leave less for the others.
    fn make_room(&self, more: u64) {
        let snapshot = self.snapshot.load();
        let mut leaving = self.unpinned(&snapshot);
        leaving.sort_unstable_by_key(|slot| slot.last_used());
        let unpinned: u64 = leaving.iter().map(|slot| slot.weight()).sum();
        let mut total = snapshot.pinned_bytes.saturating_add(unpinned).saturating_add(more);
        for slot in leaving {
            if total <= self.settings.max_resident_bytes {
                break;
            }
            total -= slot.weight();
            slot.loaded.store(None);
        }
    }

    /// Brings memory back under its limit after a swap.
    pub(super) fn settle(&self) {
        let _room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(0);
    }

    /// What is in memory and may leave it.
    fn unpinned<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Arc<Slot>> {
        let mut slots = Vec::new();
        for (name, vocab) in &snapshot.vocabs {
            let pinned = vocab.pinned(default_pick(&self.settings.default_vocab, name));
            let free = vocab.slots.iter().filter(|(version, _)| !pinned.contains(version));
            slots.extend(free.map(|(_, slot)| slot).filter(|slot| slot.evictable()));
        }
        slots
    }

    pub(super) fn residency(&self) -> Residency {
        let snapshot = self.snapshot.load();
        let mut figures = Residency::default();
        for vocab in snapshot.vocabs.values().filter(|vocab| !vocab.slots.is_empty()) {
            figures.vocabs += 1;
            for slot in vocab.slots.values() {
                figures.versions += 1;
                if slot.loaded.load().is_some() {
                    figures.resident_versions += 1;
                    figures.resident_bytes += slot.weight();
                }
            }
        }
        figures
    }
}

/// The tokenizer that canonical bytes hold, if they are the ones with that digest.
pub(super) fn checked(bytes: &[u8], digest: &Digest) -> Result<crate::engine::Tokenizer, String> {
    if Digest::of(bytes) != *digest {
        return Err("its stored content does not have its digest".to_owned());
    }
    native::read(bytes).map_err(|error| format!("its stored content cannot be read: {error}"))
}
