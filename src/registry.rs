//! The registry: which vocabularies there are, which version a ref means now, and the tokenizers in memory.
//!
//! - Readers load one snapshot and look one thing up; they never wait for a change. A request keeps the version that
//!   it resolved for as long as it likes.
//! - Changes run one after the other, to their end even if the caller goes away: checked, written to the store, and
//!   only then swapped in. One that fails has changed nothing that anyone can see.
//! - A bad vocabulary never replaces a good one; it is listed in [`Registry::failed`] and the old state stays.

mod change;
mod error;
mod facts;
mod import;
#[cfg(all(test, shuttle))]
mod model;
mod name;
mod quota;
mod reload;
mod residency;
mod snapshot;
mod sync;

pub use crate::store::Digest;
pub use error::{ChangeError, PublishError, ResolveError};
pub use facts::{Loaded, Provenance, SplitFacts, VersionFacts};
pub use name::{AliasName, NameError, Pick, VocabName, VocabRef};
pub use quota::{OverQuota, Publisher};

use crate::engine::Tokenizer;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;
use bytes::Bytes;
use serde::Serialize;
use snapshot::{Snapshot, Vocabs};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use sync::{ArcSwap, off_thread, to_end};
use tokio::sync::Semaphore;

/// How a registry behaves.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// What a request that names no vocabulary gets.
    pub default_vocab: VocabRef,
    /// Bytes that loaded tokenizers may take together.
    pub max_resident_bytes: u64,
    /// After a publish only so many of the newest versions of that name stay, and those that an alias names; `None`
    /// keeps all.
    pub keep_versions: Option<u32>,
}

/// A vocabulary that comes with the program, published where the store has none of its name.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Its name.
    pub name: VocabName,
    /// Its canonical native bytes.
    pub native: Bytes,
}

/// What a publish made.
#[derive(Debug, Clone)]
pub struct Published {
    /// The version that now holds the content.
    pub facts: Arc<VersionFacts>,
    /// Whether it is new; `false` where a version of that name had the same content already.
    pub created: bool,
}

/// What must hold for an alias to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// The alias exists and is at one of these digests (`If-Match`).
    IfMatch(Vec<Digest>),
    /// The alias exists (`If-Match: *`).
    IfMatchAny,
    /// The alias does not exist (`If-None-Match: *`).
    IfNoneMatchAny,
}

/// What a change of an alias did.
#[derive(Debug, Clone)]
pub struct AliasChange {
    /// Where it was; `None` where it did not exist, or named a version that was not there.
    pub old: Option<Arc<VersionFacts>>,
    /// Where it is now.
    pub new: Arc<VersionFacts>,
    /// Whether it did not exist before.
    pub created: bool,
}

/// One vocabulary in a listing.
#[derive(Debug, Clone)]
pub struct VocabListing {
    /// Its name.
    pub name: VocabName,
    /// The version that the bare name means; `None` where none can be loaded.
    pub latest: Option<u32>,
    /// Its versions, ascending.
    pub versions: Vec<Arc<VersionFacts>>,
    /// Where its aliases are.
    pub aliases: BTreeMap<AliasName, u32>,
}

/// What a reload did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadReport {
    /// Versions that are new and aliases that moved, as refs.
    pub loaded: Vec<VocabRef>,
    /// How many versions and files in the import folder are as they were.
    pub unchanged: u64,
    /// Versions and aliases that are gone.
    pub removed: Vec<VocabRef>,
    /// What could not be taken; the state before stays in its place.
    pub failed: Vec<Failure>,
}

/// Something that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// A ref, a file in the import folder, `store`, `keys`, or the file of a model card.
    pub what: String,
    /// Why, without paths.
    pub problem: String,
}

/// Figures for health and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Vocabularies with at least one version.
    pub vocabs: u64,
    /// Versions not deleted.
    pub versions: u64,
    /// Versions in memory.
    pub resident_versions: u64,
    /// Bytes they take.
    pub resident_bytes: u64,
}

/// The registry. A handle: clones share one state.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    settings: RegistrySettings,
    snapshot: ArcSwap<Snapshot>,
    failed: ArcSwap<Vec<Failure>>,
    /// Held by the one change that runs.
    changes: tokio::sync::Mutex<import::Seen>,
    /// The records that were read, by key, with the tag of the state that they are; never held across an await.
    records: sync::Mutex<HashMap<Key, (String, Bytes)>>,
    /// Taken by each load of a version that is not in lasting use: a few at once, so that a burst of requests for
    /// cold versions cannot take all memory and threads.
    loads: Arc<Semaphore>,
    /// Held while versions are dropped from memory to make room; never across an await.
    room: sync::Mutex<()>,
    /// Ticks at each use of a version that may leave memory.
    clock: AtomicU64,
}

const LOADS_AT_ONCE: usize = 2;

impl Registry {
    /// Reads the store and the import folder, and loads what stays in memory. Single versions that cannot be read are
    /// listed in [`Registry::failed`].
    ///
    /// # Errors
    /// The store cannot be listed at all.
    pub async fn open(
        store: Arc<Store>,
        settings: RegistrySettings,
        embedded: Option<Embedded>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            store,
            settings,
            snapshot: ArcSwap::default(),
            failed: ArcSwap::default(),
            changes: tokio::sync::Mutex::default(),
            records: sync::Mutex::default(),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            room: sync::Mutex::default(),
            clock: AtomicU64::new(1),
        });
        sync::start();
        let opening = Arc::clone(&shared);
        let registry = Self { shared };
        registry.change(async move { opening.open(embedded).await }).await?;
        Ok(registry)
    }

    /// Runs a change of the store to its end, beside requests.
    fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        to_end(self.shared.store.local_path().is_some(), change)
    }

    /// The version that `wanted` means now, or the default one. In memory it costs one load of the snapshot, one
    /// look-up and one reference count; otherwise the version is loaded first, once for all who wait for it.
    pub async fn resolve(&self, wanted: Option<&VocabRef>) -> Result<Arc<Loaded>, ResolveError> {
        {
            let snapshot = self.shared.snapshot.load();
            let pinned = match wanted {
                Some(wanted) => snapshot.pinned.get(wanted),
                None => snapshot.default.as_ref(),
            };
            if let Some(loaded) = pinned {
                return Ok(Arc::clone(loaded));
            }
        }
        let slot = self.shared.find(wanted)?;
        self.shared.load(&slot).await
    }

    /// The facts of a version, without loading it.
    pub fn facts(&self, wanted: Option<&VocabRef>) -> Result<Arc<VersionFacts>, ResolveError> {
        self.shared.find(wanted).map(|slot| Arc::clone(&slot.facts))
    }

    /// All vocabularies by name.
    pub fn list(&self) -> Vec<VocabListing> {
        let snapshot = self.shared.snapshot.load();
        let vocabs = snapshot.vocabs.iter().filter(|(_, vocab)| !vocab.slots.is_empty());
        vocabs.map(|(name, vocab)| vocab.listing(name)).collect()
    }

    /// One vocabulary.
    pub fn vocab(&self, name: &VocabName) -> Result<VocabListing, ResolveError> {
        self.shared.snapshot.load().vocab(name).map(|vocab| vocab.listing(name))
    }

    /// Publishes a tokenizer as the next version of `name` and moves `aliases` to it, all at once for readers.
    /// Content that a version of that name has already makes no new one; the aliases move to that.
    pub async fn publish(
        &self,
        name: &VocabName,
        tokenizer: Tokenizer,
        from: Provenance,
        aliases: &[AliasName],
    ) -> Result<Published, PublishError> {
        let (shared, name, aliases) = (Arc::clone(&self.shared), name.clone(), aliases.to_vec());
        self.change(async move { shared.publish(&name, tokenizer, from, &aliases).await }).await
    }

    /// Looks whether so many versions more of `publisher` may be kept, whose sizes are not known yet.
    pub fn has_room(&self, publisher: &Publisher, versions: u64) -> Result<(), OverQuota> {
        publisher.check(&self.shared.snapshot.load().vocabs, versions, versions)
    }

    /// Moves an alias to a version, or makes it.
    pub async fn set_alias(
        &self,
        name: &VocabName,
        alias: &AliasName,
        version: u32,
        precondition: Precondition,
    ) -> Result<AliasChange, ChangeError> {
        let (shared, name, alias) = (Arc::clone(&self.shared), name.clone(), alias.clone());
        self.change(async move { shared.set_alias(&name, &alias, version, &precondition).await }).await
    }

    /// Removes an alias; answers where it was.
    pub async fn remove_alias(
        &self,
        name: &VocabName,
        alias: &AliasName,
        precondition: Precondition,
    ) -> Result<Option<Arc<VersionFacts>>, ChangeError> {
        let (shared, name, alias) = (Arc::clone(&self.shared), name.clone(), alias.clone());
        self.change(async move { shared.remove_alias(&name, &alias, &precondition).await }).await
    }

    /// Deletes a version that no alias names. Its number is never used again; requests that hold it go on.
    pub async fn delete_version(
        &self,
        name: &VocabName,
        version: u32,
    ) -> Result<Arc<VersionFacts>, ChangeError> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.change(async move { shared.delete_version(&name, version).await }).await
    }

    /// Reads the store again, and the import folder.
    pub async fn reload(&self) -> ReloadReport {
        let shared = Arc::clone(&self.shared);
        self.change(async move { shared.reload().await }).await
    }

    /// What could not be loaded when the store was last read.
    pub fn failed(&self) -> Arc<Vec<Failure>> {
        self.shared.failed.load_full()
    }

    /// Whether the default version and all aliased ones are in memory, or listed as failed.
    pub fn ready(&self) -> bool {
        self.shared.ready()
    }

    /// Figures for health and metrics.
    pub fn residency(&self) -> Residency {
        self.shared.residency()
    }

    /// How this registry was set up.
    pub fn settings(&self) -> &RegistrySettings {
        &self.shared.settings
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }
}

impl Shared {
    fn find(&self, wanted: Option<&VocabRef>) -> Result<Arc<snapshot::Slot>, ResolveError> {
        self.snapshot.load().find(wanted.unwrap_or(&self.settings.default_vocab)).cloned()
    }

    fn ready(&self) -> bool {
        let (snapshot, failed) = (self.snapshot.load(), self.failed.load());
        let excused = |wanted: &VocabRef| failed.iter().any(|failure| failure.what == wanted.to_string());
        let aliased = snapshot
            .vocabs
            .iter()
            .flat_map(|(name, vocab)| vocab.aliases.keys().map(move |alias| name.alias(alias)));
        (snapshot.default.is_some() || excused(&self.settings.default_vocab))
            && aliased.into_iter().all(|wanted| snapshot.pinned.contains_key(&wanted) || excused(&wanted))
    }

    /// Shows `vocabs` to readers.
    fn swap(&self, vocabs: Vocabs) {
        self.snapshot.store(Arc::new(Snapshot::new(vocabs, &self.settings.default_vocab)));
    }
}

impl snapshot::Vocabulary {
    fn listing(&self, name: &VocabName) -> VocabListing {
        VocabListing {
            name: name.clone(),
            latest: self.latest(),
            versions: self.slots.values().map(|slot| Arc::clone(&slot.facts)).collect(),
            aliases: self.aliases.clone(),
        }
    }
}
