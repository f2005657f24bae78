//! Reading the store: at the start, and again on request, on SIGHUP and at intervals.
//!
//! What reads well is taken; what does not is reported, and the state before stays in its place.

use super::change::Draft;
use super::error::PublishError;
use super::facts::{AliasRecord, Loaded, Provenance, Record, VersionFacts};
use super::import::Seen;
use super::name::{AliasName, VocabName};
use super::residency::LoadError;
use super::snapshot::{Slot, Vocabs, Vocabulary, default_pick};
use super::sync::Mutex;
use super::{Embedded, Failure, LOADS_AT_ONCE, ReloadReport, Shared, off_thread};
use crate::formats::native;
use crate::store::Digest;
use crate::store::Key;
use crate::store::Listed;
use crate::store::StoreError;
use crate::store::Tag;
use crate::store::VocabKey;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::DerefMut;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// So many records are read at once.
const READS_AT_ONCE: usize = 16;

/// Content that no record names is left alone for so long, as its record may be about to be written elsewhere.
const SWEEP_AFTER: Duration = Duration::from_secs(60 * 60);

/// What the store holds.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// How many records there are, good or not, deleted versions included.
    records: usize,
    pub(super) vocabs: Vocabs,
    pub(super) failed: Vec<Failure>,
    /// The content of deleted versions, and when they were deleted.
    deleted: Vec<(Digest, String)>,
}

impl Shared {
    pub(super) async fn open(&self, embedded: Option<Embedded>) -> Result<(), StoreError> {
        let mut seen = self.changes.lock().await;
        let mut report = ReloadReport::default();
        let grace = if self.store.was_alone() { Duration::ZERO } else { SWEEP_AFTER };
        self.take_store(&mut report, grace).await?;
        if let Some(embedded) = embedded {
            self.take_embedded(embedded, &mut report).await;
        }
        self.finish(&mut seen, &mut report).await;
        Ok(())
    }

    pub(super) async fn reload(&self) -> ReloadReport {
        let mut seen = self.changes.lock().await;
        let mut report = ReloadReport::default();
        if let Err(error) = self.take_store(&mut report, SWEEP_AFTER).await {
            report.fail("store", error);
        }
        self.finish(&mut seen, &mut report).await;
        report
    }

    async fn finish(&self, seen: &mut Seen, report: &mut ReloadReport) {
        self.take_imports(seen, report).await;
        let default = &self.settings.default_vocab;
        let named = default.to_string();
        if self.snapshot.load().default.is_none()
            && !report.failed.iter().any(|failure| failure.what == named)
        {
            let problem = match self.snapshot.load().find(default) {
                Ok(_) => "it could not be loaded".to_owned(),
                Err(error) => error.to_string(),
            };
            report.fail(&named, problem);
        }
        self.settle();
        self.failed.store(Arc::new(report.failed.clone()));
    }

    /// Takes over what the store holds.
    async fn take_store(&self, report: &mut ReloadReport, grace: Duration) -> Result<(), StoreError> {
        let base = self.snapshot.load().vocabs.clone();
        let mut read = self.read_store(&base, None).await?;
        let mut known = base.values().flat_map(|vocab| vocab.slots.values());
        if read.records == 0 && known.any(|slot| slot.stored) {
            // A volume that is not mounted looks just so.
            report.fail("store", "it holds no vocabulary any more; all stay as they were");
            return Ok(());
        }
        if read.failed.is_empty() {
            self.sweep(&read, grace).await;
        }
        report.failed.append(&mut read.failed);
        self.warm_all(&base, &mut read.vocabs, report).await;
        compare(&base, &read.vocabs, report);
        self.swap(read.vocabs);
        Ok(())
    }

    /// Takes over what other processes have made of one vocabulary, so that a change starts from what is true now; the
    /// caller holds `changes`.
    pub(super) async fn catch_up(&self, name: &VocabName) -> Result<(), StoreError> {
        let base = self.snapshot.load().vocabs.clone();
        let mut read = self.read_store(&base, Some(name)).await?;
        let mut known = base.get(name).into_iter().flat_map(|vocab| vocab.slots.values());
        if read.records == 0 && known.any(|slot| slot.stored) {
            // As in `take_store`.
            return Ok(());
        }
        if !same(base.get(name), read.vocabs.get(name)) {
            self.warm_all(&base, &mut read.vocabs, &mut ReloadReport::default()).await;
            self.swap(read.vocabs);
        }
        Ok(())
    }

    /// Loads what is to stay in memory: aliased versions first, as clients named them on purpose.
    async fn warm_all(&self, base: &Vocabs, vocabs: &mut Vocabs, report: &mut ReloadReport) {
        self.warm_ahead(vocabs).await;
        let mut room = self.settings.max_resident_bytes;
        for with_latest in [false, true] {
            for (name, vocab) in vocabs.iter_mut() {
                let failed = self.warm(name, vocab, with_latest, &mut room).await;
                if failed.is_empty() {
                    continue;
                }
                let vocab = Arc::make_mut(vocab);
                let before = base.get(name).map(|before| &before.aliases);
                for (version, problem) in failed {
                    for alias in vocab.aliases_of(version).cloned().collect::<Vec<_>>() {
                        report.fail(&name.alias(&alias), &problem);
                        vocab.keep_alias(&alias, before);
                    }
                    report.fail(&name.at(version), problem);
                }
            }
        }
    }

    /// Loads several versions at a time, if all of them are sure to fit: a start should not be longer than it must.
    /// What fails here fails again in its turn, and is reported then.
    async fn warm_ahead(&self, vocabs: &Vocabs) {
        /// No tokenizer was seen to take more in memory than so many times its stored size.
        const GROWTH: u64 = 4;
        let pinned = vocabs.iter().flat_map(|(name, vocab)| {
            let pinned = vocab.pinned(default_pick(&self.settings.default_vocab, name));
            pinned.into_iter().map(|version| Arc::clone(&vocab.slots[&version]))
        });
        let pinned: Vec<Arc<Slot>> = pinned.collect();
        let likely =
            pinned.iter().fold(0_u64, |sum, slot| sum.saturating_add(slot.weight().saturating_mul(GROWTH)));
        if likely <= self.settings.max_resident_bytes {
            let load = async |slot: Arc<Slot>| drop(self.load_to_pin(&slot).await);
            stream::iter(pinned).for_each_concurrent(LOADS_AT_ONCE, load).await;
        }
    }

    /// Loads the versions of a vocabulary that stay in memory and are not there yet, as far as `room` goes, and takes
    /// what they need from it. Answers those that failed. A broken latest version makes the one below the latest.
    pub(super) async fn warm(
        &self,
        name: &VocabName,
        vocab: &Vocabulary,
        with_latest: bool,
        room: &mut u64,
    ) -> Vec<(u32, String)> {
        let limit = self.settings.max_resident_bytes;
        let default = default_pick(&self.settings.default_vocab, name);
        let mut failed: Vec<(u32, String)> = Vec::new();
        let mut done = BTreeSet::new();
        loop {
            let mut wanted = vocab.pinned(default);
            if !with_latest && default.is_none() {
                wanted = vocab.aliases.values().filter(|v| vocab.slots.contains_key(v)).copied().collect();
            }
            let Some(version) = wanted.into_iter().find(|version| !done.contains(version)) else {
                return failed;
            };
            done.insert(version);
            let slot = &vocab.slots[&version];
            let fits = slot.weight() <= *room;
            let outcome = match slot.loaded.load().is_some() {
                true => Ok(()),
                false if fits => self.load_to_pin(slot).await.map(drop),
                false => Err(LoadError::NoRoom { needed: slot.weight(), pinned: limit - (*room).min(limit) }),
            };
            match outcome {
                Ok(()) => *room = room.saturating_sub(slot.weight()),
                Err(error) => failed.push((version, error.problem(limit))),
            }
        }
    }

    /// Reads all records, or those of one name; what cannot be read is taken from `base` where that has it.
    pub(super) async fn read_store(
        &self,
        base: &Vocabs,
        only: Option<&VocabName>,
    ) -> Result<Read, StoreError> {
        let listed = self.listed(base, only).await?;
        let listed =
            listed.into_iter().filter_map(|object| object.key.as_vocab().map(|about| (object, about)));
        let records: Vec<(VocabKey, Result<Bytes, StoreError>)> = stream::iter(listed)
            .map(|(object, about)| async move { (about, self.record(object).await) })
            .buffered(READS_AT_ONCE)
            .collect()
            .await;

        let mut read = Read { records: records.len(), ..Read::default() };
        let mut aliases: Vec<(VocabName, AliasName, Result<AliasRecord, String>)> = Vec::new();
        for (about, record) in records {
            match about {
                // Removed between listing and reading.
                _ if matches!(record, Err(StoreError::NotFound)) => {}
                VocabKey::Version(name, version) => read.version(base, name.into(), version, record),
                VocabKey::Alias(name, alias) => match AliasName::try_from(alias) {
                    Ok(alias) => aliases.push((name.into(), alias, alias_record(record))),
                    Err(error) => read.fail(VocabName::from(name), error),
                },
            }
        }
        for (name, alias, target) in aliases {
            read.alias(base, &name, &alias, target);
        }
        keep_unstored(base, &mut read.vocabs);
        if let Some(only) = only {
            let mut vocabs = base.clone();
            vocabs.remove(only);
            vocabs.append(&mut read.vocabs);
            read.vocabs = vocabs;
        }
        Ok(read)
    }

    /// The records of all names, or of one. Those that `base` stems from and the listing has not are looked at by themselves: a listing
    /// leaves out what it cannot look at, and a version that a disk fails to show for a moment has not gone.
    async fn listed(&self, base: &Vocabs, only: Option<&VocabName>) -> Result<Vec<Listed>, StoreError> {
        let folder = only.map_or_else(Key::vocabs, |name| Key::vocab(name.segment()));
        let mut listed = self.store.list(&folder).await?;
        let there: HashSet<&Key> = listed.iter().map(|object| &object.key).collect();
        if only.is_none() {
            lock(&self.records).retain(|key, _| there.contains(key));
        }
        let wanted = base.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let records = wanted.flat_map(|(name, vocab)| {
            let stored = vocab.slots.iter().filter(|(_, slot)| slot.stored);
            let versions = stored.map(|(version, _)| Key::version(name.segment(), *version));
            versions.chain(vocab.aliases.keys().map(|alias| Key::alias(name.segment(), alias.segment())))
        });
        let missing: Vec<Key> = records.filter(|key| !there.contains(key)).collect();
        for key in missing {
            listed.extend(self.store.look(&key).await?);
        }
        Ok(listed)
    }

    /// The bytes of a listed record. What is as it was is not read again: a replica that looks every few seconds would
    /// otherwise ask for every record there is each time.
    async fn record(&self, object: Listed) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.remembered(&object.key, object.etag.as_deref()) {
            return Ok(bytes);
        }
        let bytes = self.store.get(&object.key).await?;
        self.remember(object.key, object.etag.as_deref(), bytes.clone());
        Ok(bytes)
    }

    /// The bytes of the record at `key` and their tag, or `None` where there is none; here too what is as it was is not read again.
    pub(super) async fn record_now(&self, key: &Key) -> Result<Option<(Bytes, Tag)>, StoreError> {
        let Some(tag) = self.store.tag(key).await? else { return Ok(None) };
        if let Some(bytes) = self.remembered(key, tag.etag()) {
            return Ok(Some((bytes, tag)));
        }
        let record = self.store.get_tagged(key).await?;
        if let Some((bytes, tag)) = &record {
            self.remember(key.clone(), tag.etag(), bytes.clone());
        }
        Ok(record)
    }

    fn remembered(&self, key: &Key, etag: Option<&str>) -> Option<Bytes> {
        let records = lock(&self.records);
        let (known, bytes) = records.get(key)?;
        (etag == Some(known.as_str())).then(|| bytes.clone())
    }

    /// Keeps what was read, or written, which need not be read then either.
    pub(super) fn remember(&self, key: Key, etag: Option<&str>, record: Bytes) {
        if let Some(etag) = etag {
            lock(&self.records).insert(key, (etag.to_owned(), record));
        }
    }

    /// Looks by itself whether a version is there: [`StoreError::Changed`] if somebody has deleted it since it was read here.
    pub(super) async fn still_there(&self, slot: &Slot) -> Result<(), StoreError> {
        if !slot.stored {
            return Ok(());
        }
        let key = Key::version(slot.facts.name.segment(), slot.facts.version);
        let Some((record, _)) = self.record_now(&key).await? else { return Err(StoreError::Changed) };
        match serde_json::from_slice(&record) {
            Ok(Record { deleted_at: Some(_), .. }) => Err(StoreError::Changed),
            _ => Ok(()),
        }
    }

    /// The aliases that lead to a version by what the store has now; `vocab` is the vocabulary with that version.
    pub(super) async fn naming(
        &self,
        vocab: &Vocabulary,
        facts: &VersionFacts,
    ) -> Result<Vec<AliasName>, StoreError> {
        let mut naming = Vec::new();
        for object in self.store.list(&Key::vocab(facts.name.segment())).await? {
            let Some(VocabKey::Alias(_, alias)) = object.key.as_vocab() else { continue };
            let record = match self.record(object).await {
                Err(StoreError::NotFound) => continue,
                record => serde_json::from_slice(&record?),
            };
            let target = record.ok().and_then(|record| vocab.target(&record)).flatten();
            if target == Some(facts.version) {
                naming.extend(AliasName::try_from(alias));
            }
        }
        Ok(naming)
    }

    /// Publishes the embedded vocabulary where no good one has its name. If the store does not take it, it is served
    /// from memory all the same: a server that cannot write can still encode.
    async fn take_embedded(&self, embedded: Embedded, report: &mut ReloadReport) {
        let Embedded { name, native } = embedded;
        let known = self.snapshot.load().vocabs.get(&name).cloned().unwrap_or_default();
        if known.latest().is_some() {
            return;
        }
        let bytes = native.clone();
        let tokenizer = match off_thread(move || native::read(&bytes)).await {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                return report.fail(&name, format!("the embedded vocabulary cannot be read: {error}"));
            }
        };
        let from = Provenance { format: "embedded".to_owned(), ..Provenance::default() };
        let draft = Draft::new(tokenizer).await;
        match self.publish_draft(&name, &draft, &from, &[]).await {
            Ok(published) => report.loaded.push(name.at(published.facts.version)),
            Err(PublishError::Store(error)) => {
                tracing::warn!(%name, %error, "the embedded vocabulary is served from memory");
                let Some(version) = known.highest.checked_add(1) else { return };
                let (tokenizer, identity) = draft.into_tokenizer();
                let Some(tokenizer) = tokenizer else { return };
                let facts = Arc::new(VersionFacts::new(&name, version, &tokenizer, identity, &from));
                let mut vocabs = self.snapshot.load().vocabs.clone();
                let vocab = Arc::make_mut(vocabs.entry(name.clone()).or_default());
                vocab.highest = version;
                vocab.slots.insert(version, Slot::warm(Loaded::new(facts, tokenizer), false));
                self.swap(vocabs);
                report.loaded.push(name.at(version));
            }
            Err(error) => report.fail(&name, error),
        }
    }

    /// Removes content that no version has: what a publish that failed or was killed left behind, and where the store is shared, what
    /// deleted versions had.
    async fn sweep(&self, read: &Read, grace: Duration) {
        // A deletion may still be taken back.
        let lately = read.deleted.iter().filter(|(_, at)| is_within(at, grace)).map(|(digest, _)| *digest);
        let named: HashSet<Digest> = read.slots().map(|slot| slot.facts.digest).chain(lately).collect();
        // A sweep that fails is no harm: the next one finds the same.
        for object in self.store.list(&Key::blobs()).await.unwrap_or_default() {
            let unnamed = object.key.as_blob().filter(|digest| !named.contains(digest));
            if let Some(digest) = unnamed.filter(|_| object.age >= grace) {
                self.remove_content(&digest).await;
            }
        }
    }

    /// Removes content that no version had just now. Another process may give it to one at that moment: that one writes the record and
    /// then looks for the content, this removes the content and then looks for a record, so that at least one puts it back.
    pub(super) async fn remove_content(&self, digest: &Digest) {
        let key = Key::blob(digest);
        let Ok(content) = self.store.get(&key).await else { return };
        let _ = self.store.delete(&key).await;
        if self.has_version(digest).await {
            let _ = self.store.create(&key, content).await;
        }
    }

    /// Whether a version of any name has that content by what the store has now; where that cannot be said, one may.
    pub(super) async fn has_version(&self, digest: &Digest) -> bool {
        let vocabs = self.snapshot.load().vocabs.clone();
        let Ok(read) = self.read_store(&vocabs, None).await else { return true };
        !read.failed.is_empty() || read.slots().any(|slot| slot.facts.digest == *digest)
    }
}

impl Read {
    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.vocabs.values().flat_map(|vocab| vocab.slots.values())
    }

    fn version(&mut self, base: &Vocabs, name: VocabName, version: u32, record: Result<Bytes, StoreError>) {
        let known = base.get(&name).and_then(|vocab| vocab.slots.get(&version));
        let slot = match version_record(&name, version, record) {
            Ok(Record { deleted_at: Some(at), facts, .. }) => {
                self.deleted.push((facts.digest, at));
                None
            }
            Ok(Record { facts, .. }) => Some(match known {
                Some(known) if *known.facts == facts && known.broken.get().is_none() => Arc::clone(known),
                _ => Slot::cold(facts),
            }),
            Err(problem) => {
                self.fail(name.at(version), problem);
                known.cloned()
            }
        };
        let vocab = Arc::make_mut(self.vocabs.entry(name).or_default());
        vocab.highest = vocab.highest.max(version);
        vocab.slots.extend(slot.map(|slot| (version, slot)));
    }

    fn alias(
        &mut self,
        base: &Vocabs,
        name: &VocabName,
        alias: &AliasName,
        record: Result<AliasRecord, String>,
    ) {
        let vocab = Arc::make_mut(self.vocabs.entry(name.clone()).or_default());
        let before = base.get(name).map(|before| &before.aliases);
        let problem = match record {
            Ok(record) => match vocab.target(&record) {
                Some(target) => {
                    vocab.aliases.extend(target.map(|target| (alias.clone(), target)));
                    return;
                }
                None => {
                    vocab.aliases.insert(alias.clone(), record.version);
                    format!("it names version {}, which is not there", record.version)
                }
            },
            Err(problem) => problem,
        };
        vocab.keep_alias(alias, before);
        self.fail(name.alias(alias), problem);
    }

    fn fail(&mut self, what: impl ToString, problem: impl ToString) {
        self.failed.push(Failure { what: what.to_string(), problem: problem.to_string() });
    }
}

impl ReloadReport {
    pub(super) fn fail(&mut self, what: &(impl ToString + ?Sized), problem: impl ToString) {
        self.failed.push(Failure { what: what.to_string(), problem: problem.to_string() });
    }
}

impl Vocabulary {
    /// Where the record of an alias leads: to its version, or to where it was before if that version was never
    /// published (which may be nowhere); `None` if it leads to what should be there and is not.
    pub(super) fn target(&self, record: &AliasRecord) -> Option<Option<u32>> {
        let live = |version: &u32| self.slots.contains_key(version);
        match self.slots.get(&record.version) {
            Some(slot) if record.digest.is_none_or(|digest| digest == slot.facts.digest) => {
                Some(Some(record.version))
            }
            Some(_) => record.previous.filter(live).map(Some),
            None if record.digest.is_some() && record.version > self.highest => {
                Some(record.previous.filter(live))
            }
            None => None,
        }
    }

    /// Puts an alias whose new target is no good back to where it was, if that is still there.
    fn keep_alias(&mut self, alias: &AliasName, before: Option<&BTreeMap<AliasName, u32>>) {
        let old = before.and_then(|aliases| aliases.get(alias)).filter(|old| self.slots.contains_key(old));
        if let Some(&old) = old {
            self.aliases.insert(alias.clone(), old);
        }
    }
}

/// Whether the time of a record is no further away than `grace`.
fn is_within(at: &str, grace: Duration) -> bool {
    at.parse().is_ok_and(|at| Timestamp::now().duration_since(at).unsigned_abs() < grace)
}

fn lock<T>(mutex: &Mutex<T>) -> impl DerefMut<Target = T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version_record(
    name: &VocabName,
    version: u32,
    record: Result<Bytes, StoreError>,
) -> Result<Record, String> {
    let record = record.map_err(|error| error.to_string())?;
    let record: Record = serde_json::from_slice(&record).map_err(|error| unreadable(&error))?;
    if record.facts.name != *name || record.facts.version != version {
        return Err("its record is that of another version".to_owned());
    }
    Ok(record)
}

fn alias_record(record: Result<Bytes, StoreError>) -> Result<AliasRecord, String> {
    let record = record.map_err(|error| error.to_string())?;
    serde_json::from_slice(&record).map_err(|error| unreadable(&error))
}

/// Where the record is wrong, without repeating what stands there.
fn unreadable(error: &serde_json::Error) -> String {
    format!("its record cannot be read (line {}, column {})", error.line(), error.column())
}

/// Versions that are only in memory are not in the store and yet not gone.
fn keep_unstored(base: &Vocabs, vocabs: &mut Vocabs) {
    for (name, vocab) in base {
        for (version, slot) in vocab.slots.iter().filter(|(_, slot)| !slot.stored) {
            let vocab = Arc::make_mut(vocabs.entry(name.clone()).or_default());
            vocab.highest = vocab.highest.max(*version);
            vocab.slots.entry(*version).or_insert_with(|| Arc::clone(slot));
        }
    }
}

/// Whether two states of a vocabulary have the same versions and aliases.
fn same(old: Option<&Arc<Vocabulary>>, new: Option<&Arc<Vocabulary>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let facts = |vocab: &'_ Vocabulary| -> Vec<Arc<VersionFacts>> {
        vocab.slots.values().map(|slot| Arc::clone(&slot.facts)).collect()
    };
    old.highest == new.highest && old.aliases == new.aliases && facts(old) == facts(new)
}

/// Reports what is new, moved, gone and as it was.
fn compare(base: &Vocabs, vocabs: &Vocabs, report: &mut ReloadReport) {
    let empty = Arc::default();
    let names: BTreeSet<&VocabName> = base.keys().chain(vocabs.keys()).collect();
    for name in names {
        let old: &Vocabulary = base.get(name).unwrap_or(&empty);
        let new: &Vocabulary = vocabs.get(name).unwrap_or(&empty);
        for (&version, slot) in &new.slots {
            match old.slots.get(&version) {
                Some(before) if before.facts == slot.facts => report.unchanged += 1,
                _ if slot.broken.get().is_some() => {}
                _ => report.loaded.push(name.at(version)),
            }
        }
        let moved = new.aliases.iter().filter(|(alias, target)| old.aliases.get(*alias) != Some(target));
        let moved = moved
            .filter(|(_, target)| new.slots.get(target).is_some_and(|slot| slot.loaded.load().is_some()));
        report.loaded.extend(moved.map(|(alias, _)| name.alias(alias)));
        report.removed.extend(gone(&old.slots, &new.slots).map(|version| name.at(*version)));
        report.removed.extend(gone(&old.aliases, &new.aliases).map(|alias| name.alias(alias)));
    }
}

fn gone<'m, K: Ord, V, W>(old: &'m BTreeMap<K, V>, new: &'m BTreeMap<K, W>) -> impl Iterator<Item = &'m K> {
    old.keys().filter(|key| !new.contains_key(key))
}
