//! Changes: publishing a version, moving an alias, deleting a version.
//!
//! Each is checked first, then written, then swapped in. A write that fails takes back the ones before it, so that a
//! later reload does not show what the caller was told had failed.

use super::error::{ChangeError, PublishError, ResolveError};
use super::facts::{AliasRecord, Loaded, Provenance, Record, VersionFacts, agrees, to_json};
use super::name::{AliasName, VocabName};
use super::residency::checked;
use super::snapshot::{Slot, Snapshot, Vocabs, Vocabulary};
use super::sync::ahead;
use super::{AliasChange, Precondition, Published, Shared, off_thread};
use crate::engine::Tokenizer;
use crate::formats::native;
use crate::store::Digest;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;
use bytes::Bytes;
use std::sync::Arc;

/// So often another process may change the alias or the version that this one is about to change.
const ATTEMPTS: usize = 8;

/// So often another process may take the version number that this one was about to use.
const NUMBER_ATTEMPTS: usize = 16;

/// A tokenizer and its canonical bytes.
#[derive(Debug)]
pub(super) struct Draft {
    tokenizer: Arc<Tokenizer>,
    native: Bytes,
    digest: Digest,
}

impl Draft {
    pub(super) async fn new(tokenizer: Tokenizer) -> Self {
        off_thread(move || {
            let native = Bytes::from(native::write(&tokenizer));
            Self { digest: Digest::of(&native), tokenizer: Arc::new(tokenizer), native }
        })
        .await
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The tokenizer, and what identifies it: digest and size.
    pub(super) fn into_tokenizer(self) -> (Option<Tokenizer>, (Digest, u64)) {
        (Arc::into_inner(self.tokenizer), (self.digest, self.native.len() as u64))
    }
}

impl Shared {
    pub(super) async fn publish(
        &self,
        name: &VocabName,
        tokenizer: Tokenizer,
        from: Provenance,
        aliases: &[AliasName],
    ) -> Result<Published, PublishError> {
        let draft = Draft::new(tokenizer).await;
        let _changing = self.changes.lock().await;
        self.catch_up(name).await?;
        self.publish_draft(name, &draft, &from, aliases).await
    }

    /// Publishes; the caller holds `changes`.
    pub(super) async fn publish_draft(
        &self,
        name: &VocabName,
        draft: &Draft,
        from: &Provenance,
        aliases: &[AliasName],
    ) -> Result<Published, PublishError> {
        let mut undo = Undo::default();
        match self.write_draft(name, draft, from, aliases, &mut undo).await {
            Ok((vocabs, published)) => {
                self.swap(vocabs);
                self.forget_failures(name, published.facts.version, aliases);
                self.prune(name).await;
                self.settle();
                Ok(published)
            }
            Err(error) => {
                undo.roll_back(&self.store).await;
                self.settle();
                Err(error)
            }
        }
    }

    async fn write_draft(
        &self,
        name: &VocabName,
        draft: &Draft,
        from: &Provenance,
        aliases: &[AliasName],
        undo: &mut Undo,
    ) -> Result<(Vocabs, Published), PublishError> {
        let mut vocabs = self.snapshot.load().vocabs.clone();
        let mut stored = None;
        for _ in 0..NUMBER_ATTEMPTS {
            if let Some(slot) = holding(&vocabs, name, &draft.digest) {
                let (facts, version) = (Arc::clone(&slot.facts), slot.facts.version);
                let healthy = slot.broken.get().is_none();
                if !healthy || (slot.loaded.load().is_none() && !aliases.is_empty()) {
                    // The same content again mends a version whose stored content was damaged.
                    let tokenizer = self.put_content(draft).await?;
                    let loaded = Loaded::new(Arc::clone(&facts), tokenizer);
                    insert(&mut vocabs, name, Slot::warm(loaded, true));
                }
                let next = self.with_aliases(vocabs.clone(), name, version, aliases)?;
                self.put_aliases(&vocabs, &facts, aliases, undo).await?;
                match self.still_there(&slot).await {
                    Err(StoreError::Changed) => {
                        vocabs = self.read_store(&vocabs, Some(name)).await?.vocabs;
                        continue;
                    }
                    outcome => outcome?,
                }
                return Ok((next, Published { facts, created: false }));
            }
            let tokenizer = match stored.take() {
                Some(tokenizer) => tokenizer,
                None => self.put_content(draft).await?,
            };
            let highest = vocabs.get(name).map_or(0, |vocab| vocab.highest);
            let version = highest.checked_add(1).ok_or(PublishError::NoNumber)?;
            let native = (draft.digest, draft.native.len() as u64);
            if let Some(publisher) = &from.publisher {
                publisher.check(&vocabs, 1, native.1)?;
            }
            let facts = Arc::new(VersionFacts::new(name, version, &tokenizer, native, from));
            let loaded = Loaded::new(Arc::clone(&facts), tokenizer);
            let mut next = vocabs.clone();
            insert(&mut next, name, Slot::warm(Arc::clone(&loaded), true));
            let next = self.with_aliases(next, name, version, aliases)?;
            self.put_aliases(&vocabs, &facts, aliases, undo).await?;
            match self.put_record(&facts, undo).await {
                Ok(()) => {
                    self.keep_content(draft).await?;
                    return Ok((next, Published { facts, created: true }));
                }
                Err(StoreError::AlreadyExists) => {
                    drop(next);
                    stored = Arc::into_inner(loaded).map(|loaded| loaded.tokenizer);
                    vocabs = self.read_store(&vocabs, Some(name)).await?.vocabs;
                    // A number that the listing does not show yet is taken all the same.
                    let vocab = Arc::make_mut(vocabs.entry(name.clone()).or_default());
                    vocab.highest = vocab.highest.max(version);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(PublishError::NoNumber)
    }

    /// Puts the content and takes it back out: what is published is what the store gives, not what was handed in.
    async fn put_content(&self, draft: &Draft) -> Result<Tokenizer, PublishError> {
        let key = Key::blob(&draft.digest);
        match self.store.create(&key, draft.native.clone()).await {
            Ok(()) | Err(StoreError::AlreadyExists) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stored = self.store.get(&key).await?;
        if stored != draft.native {
            self.store.put(&key, draft.native.clone()).await?;
            stored = self.store.get(&key).await?;
        }
        let (original, digest) = (Arc::clone(&draft.tokenizer), draft.digest);
        let outcome = off_thread(move || {
            let tokenizer = checked(&stored, &digest)?;
            if !agrees(&original, &tokenizer) {
                return Err("it encodes differently".to_owned());
            }
            // Before a request is sent to it: the first ones would go the slow way.
            ahead(|| tokenizer.prepare());
            Ok(tokenizer)
        });
        outcome.await.map_err(|problem| PublishError::Unfaithful { problem })
    }

    /// Another process may have removed the content as unused before the record named it.
    async fn keep_content(&self, draft: &Draft) -> Result<(), StoreError> {
        let key = Key::blob(&draft.digest);
        match self.store.size(&key).await? {
            Some(_) => Ok(()),
            None => self.store.put(&key, draft.native.clone()).await,
        }
    }

    async fn put_record(&self, facts: &VersionFacts, undo: &mut Undo) -> Result<(), StoreError> {
        let key = Key::version(facts.name.segment(), facts.version);
        let record = Bytes::from(to_json(&Record::live(facts)));
        match self.store.create(&key, record.clone()).await {
            Err(StoreError::AlreadyExists) => Err(StoreError::AlreadyExists),
            outcome => {
                undo.wrote(key, record, None);
                outcome
            }
        }
    }

    async fn put_aliases(
        &self,
        vocabs: &Vocabs,
        facts: &VersionFacts,
        aliases: &[AliasName],
        undo: &mut Undo,
    ) -> Result<(), StoreError> {
        let vocab = vocabs.get(&facts.name);
        for alias in aliases {
            self.put_alias(vocab.map(Arc::as_ref), facts, alias, undo).await?;
        }
        Ok(())
    }

    /// Writes that `alias` is at the version of `facts`, coming from where it is at that moment.
    async fn put_alias(
        &self,
        vocab: Option<&Vocabulary>,
        facts: &VersionFacts,
        alias: &AliasName,
        undo: &mut Undo,
    ) -> Result<(), StoreError> {
        let key = Key::alias(facts.name.segment(), alias.segment());
        for _ in 0..ATTEMPTS {
            let (before, tag) = self.store.get_tagged(&key).await?.unzip();
            let now = before.as_ref().and_then(|before| serde_json::from_slice(before).ok());
            let previous = vocab.zip(now).and_then(|(vocab, now)| vocab.target(&now)).flatten();
            let record = AliasRecord::new(facts.version, Some(facts.digest), previous);
            let record = Bytes::from(to_json(&record));
            undo.wrote(key.clone(), record.clone(), before);
            match self.store.put_if(&key, record, tag.as_ref()).await {
                Err(StoreError::Changed) => {}
                outcome => return outcome.map(drop),
            }
        }
        Err(StoreError::Changed)
    }

    /// `vocabs` with the aliases moved, if all that is to stay in memory then fits.
    fn with_aliases(
        &self,
        mut vocabs: Vocabs,
        name: &VocabName,
        version: u32,
        aliases: &[AliasName],
    ) -> Result<Vocabs, PublishError> {
        if let Some(vocab) = vocabs.get_mut(name) {
            Arc::make_mut(vocab).aliases.extend(aliases.iter().map(|alias| (alias.clone(), version)));
        }
        match self.excess(&vocabs) {
            None => Ok(vocabs),
            Some((needed, pinned)) => {
                Err(PublishError::NoRoom { needed, pinned, limit: self.settings.max_resident_bytes })
            }
        }
    }

    /// What `vocabs` would add to the memory in lasting use and what that is now, if it would pass the limit.
    fn excess(&self, vocabs: &Vocabs) -> Option<(u64, u64)> {
        let now = self.snapshot.load().pinned_bytes;
        let then = Snapshot::new(vocabs.clone(), &self.settings.default_vocab).pinned_bytes;
        (then > self.settings.max_resident_bytes && then > now).then(|| (then - now, now))
    }

    pub(super) async fn set_alias(
        &self,
        name: &VocabName,
        alias: &AliasName,
        version: u32,
        precondition: &Precondition,
    ) -> Result<AliasChange, ChangeError> {
        let _changing = self.changes.lock().await;
        for _ in 1..ATTEMPTS {
            match self.move_alias(name, alias, version, precondition).await {
                Err(ChangeError::Store(StoreError::Changed)) => {}
                outcome => return outcome,
            }
        }
        self.move_alias(name, alias, version, precondition).await
    }

    /// Moves an alias unless somebody else does at that moment, or deletes the version: of the two each writes and then looks, so that
    /// at least one sees the other. The caller holds `changes`.
    async fn move_alias(
        &self,
        name: &VocabName,
        alias: &AliasName,
        version: u32,
        precondition: &Precondition,
    ) -> Result<AliasChange, ChangeError> {
        // The tag before the state that is checked: what changes after the check changes the tag.
        let key = Key::alias(name.segment(), alias.segment());
        let (before, tag) = self.record_now(&key).await?.unzip();
        if !self.knows(name, alias, version, before.as_ref()).await {
            self.catch_up(name).await?;
        }
        let snapshot = self.snapshot.load_full();
        let vocab = snapshot.vocab(name)?;
        let slot = vocab.slots.get(&version).ok_or_else(|| vocab.unknown_version(name))?;
        let old_version = vocab.aliases.get(alias).copied();
        let old = old_version.and_then(|old| vocab.slots.get(&old)).map(|slot| Arc::clone(&slot.facts));
        precondition.check(old_version.is_some(), old.as_deref())?;
        let limit = self.settings.max_resident_bytes;
        if let Err(error) = self.load_to_pin(slot).await {
            return Err(
                ResolveError::Unavailable { name: name.clone(), problem: error.problem(limit) }.into()
            );
        }
        let mut vocabs = snapshot.vocabs.clone();
        if let Some(vocab) = vocabs.get_mut(name) {
            Arc::make_mut(vocab).aliases.insert(alias.clone(), version);
        }
        if let Some((needed, pinned)) = self.excess(&vocabs) {
            self.settle();
            return Err(ResolveError::NoRoom { name: name.clone(), needed, pinned, limit }.into());
        }
        let mut undo = Undo::default();
        let record = AliasRecord::new(version, Some(slot.facts.digest), old_version);
        let record = Bytes::from(to_json(&record));
        undo.wrote(key.clone(), record.clone(), before);
        let outcome = match self.store.put_if(&key, record.clone(), tag.as_ref()).await {
            Ok(tag) => {
                self.remember(key, tag.etag(), record);
                self.still_there(slot).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            undo.roll_back(&self.store).await;
            self.settle();
            return Err(error.into());
        }
        self.swap(vocabs);
        self.forget_failures(name, version, std::slice::from_ref(alias));
        self.settle();
        Ok(AliasChange { old, new: Arc::clone(&slot.facts), created: old_version.is_none() })
    }

    /// Whether all that a move depends on is here as the store has it: where the alias is, by its record `now`, and the version. Then
    /// nothing else need be looked at, of which a vocabulary may have much.
    async fn knows(&self, name: &VocabName, alias: &AliasName, version: u32, now: Option<&Bytes>) -> bool {
        let snapshot = self.snapshot.load_full();
        let Some(vocab) = snapshot.vocabs.get(name) else { return false };
        let at = vocab.aliases.get(alias);
        let is_there = match now.map(|now| serde_json::from_slice::<AliasRecord>(now)) {
            None => at.is_none(),
            Some(Ok(now)) => at == Some(&now.version) && vocab.target(&now) == Some(Some(now.version)),
            Some(Err(_)) => false,
        };
        match vocab.slots.get(&version) {
            Some(slot) if is_there => self.still_there(slot).await.is_ok(),
            _ => false,
        }
    }

    pub(super) async fn remove_alias(
        &self,
        name: &VocabName,
        alias: &AliasName,
        precondition: &Precondition,
    ) -> Result<Option<Arc<VersionFacts>>, ChangeError> {
        let _changing = self.changes.lock().await;
        self.catch_up(name).await?;
        let snapshot = self.snapshot.load_full();
        let vocab = snapshot.vocab(name)?;
        let old_version = vocab.aliases.get(alias).copied();
        let old = old_version.and_then(|old| vocab.slots.get(&old)).map(|slot| Arc::clone(&slot.facts));
        precondition.check(old_version.is_some(), old.as_deref())?;
        let (Some(old_version), Some(record)) = (old_version, vocab.alias_record(alias)) else {
            return Err(vocab.unknown_alias(name).into());
        };
        let mut vocabs = snapshot.vocabs.clone();
        if let Some(vocab) = vocabs.get_mut(name) {
            Arc::make_mut(vocab).aliases.remove(alias);
        }
        self.keeps_default(&snapshot, &vocabs)?;
        let key = Key::alias(name.segment(), alias.segment());
        if let Err(error) = self.store.delete(&key).await {
            // The file may be gone although the call failed; nobody else writes it while this change runs.
            let _ = self.store.create(&key, to_json(&record)).await;
            return Err(error.into());
        }
        self.swap(vocabs);
        self.forget_failures(name, old_version, std::slice::from_ref(alias));
        Ok(old)
    }

    pub(super) async fn delete_version(
        &self,
        name: &VocabName,
        version: u32,
    ) -> Result<Arc<VersionFacts>, ChangeError> {
        let _changing = self.changes.lock().await;
        for _ in 1..ATTEMPTS {
            match self.delete(name, version).await {
                Err(ChangeError::Store(StoreError::Changed)) => {}
                outcome => return outcome,
            }
        }
        self.delete(name, version).await
    }

    /// Deletes a version unless somebody else does at that moment, or moves an alias to it: see `move_alias`. The caller holds `changes`.
    async fn delete(&self, name: &VocabName, version: u32) -> Result<Arc<VersionFacts>, ChangeError> {
        let key = Key::version(name.segment(), version);
        let (before, tag) = self.store.get_tagged(&key).await?.unzip();
        self.catch_up(name).await?;
        let snapshot = self.snapshot.load_full();
        let vocab = snapshot.vocab(name)?;
        let slot = vocab.slots.get(&version).ok_or_else(|| vocab.unknown_version(name))?;
        let aliases: Vec<AliasName> = vocab.aliases_of(version).cloned().collect();
        if !aliases.is_empty() {
            return Err(ChangeError::InUse { aliases });
        }
        let mut vocabs = snapshot.vocabs.clone();
        if let Some(vocab) = vocabs.get_mut(name) {
            let vocab = Arc::make_mut(vocab);
            vocab.slots.remove(&version);
            // The next lower one becomes the latest; if it cannot be loaded now, requests for it say why.
            let mut room = u64::MAX;
            self.warm(name, vocab, true, &mut room).await;
        }
        self.keeps_default(&snapshot, &vocabs)?;
        let deleted = Bytes::from(to_json(&Record::deleted(&slot.facts)));
        let mut undo = Undo::default();
        undo.wrote(key.clone(), deleted.clone(), before);
        let outcome = match self.store.put_if(&key, deleted, tag.as_ref()).await {
            Ok(_) => self.naming(vocab, &slot.facts).await,
            Err(error) => Err(error),
        };
        let refused = match outcome {
            Ok(aliases) if aliases.is_empty() => None,
            Ok(aliases) => Some(ChangeError::InUse { aliases }),
            Err(error) => Some(error.into()),
        };
        if let Some(error) = refused {
            undo.roll_back(&self.store).await;
            self.settle();
            return Err(error);
        }
        self.swap(vocabs);
        self.forget_failures(name, version, &[]);
        self.settle();
        self.drop_content(&slot.facts.digest).await;
        Ok(Arc::clone(&slot.facts))
    }

    /// Removes content that no version of any name has any more. The store itself is asked, as another process may
    /// have published; where that or the removal fails the content stays until a later sweep. So it does in a shared store, where
    /// another replica may be about to give it to a version.
    async fn drop_content(&self, digest: &Digest) {
        if !self.store.is_shared() && !self.has_version(digest).await {
            self.remove_content(digest).await;
        }
    }

    /// Deletes versions beyond `keep_versions`. The publish before it has succeeded whatever happens here.
    async fn prune(&self, name: &VocabName) {
        let Some(keep) = self.settings.keep_versions else { return };
        let snapshot = self.snapshot.load_full();
        let Some(vocab) = snapshot.vocabs.get(name) else { return };
        let over = vocab.slots.keys().rev().skip(keep.max(1) as usize).copied();
        let pinned = vocab.pinned(super::snapshot::default_pick(&self.settings.default_vocab, name));
        for version in over.filter(|version| !pinned.contains(version)) {
            if let Err(error) = self.delete(name, version).await {
                tracing::warn!(%name, version, %error, "a version beyond keep_versions was not removed");
            }
        }
    }

    fn keeps_default(&self, snapshot: &Snapshot, next: &Vocabs) -> Result<(), ChangeError> {
        let default = &self.settings.default_vocab;
        let found = |vocabs: &Vocabs| {
            let vocab = vocabs.get(&default.name);
            vocab.is_some_and(|vocab| vocab.pick(&default.pick).is_some_and(|v| vocab.slots.contains_key(&v)))
        };
        if found(&snapshot.vocabs) && !found(next) { Err(ChangeError::IsDefault) } else { Ok(()) }
    }

    /// What was just put right is not a failure any more.
    fn forget_failures(&self, name: &VocabName, version: u32, aliases: &[AliasName]) {
        let mended: Vec<String> = std::iter::once(name.at(version))
            .chain(aliases.iter().map(|alias| name.alias(alias)))
            .map(|wanted| wanted.to_string())
            .collect();
        let failed = self.failed.load_full();
        if failed.iter().any(|failure| mended.contains(&failure.what)) {
            let left = failed.iter().filter(|failure| !mended.contains(&failure.what)).cloned().collect();
            self.failed.store(Arc::new(left));
        }
    }
}

impl Precondition {
    fn check(&self, exists: bool, current: Option<&VersionFacts>) -> Result<(), ChangeError> {
        let current = current.map(|facts| facts.digest);
        let holds = match self {
            Self::None => true,
            Self::IfMatch(digests) => current.is_some_and(|current| digests.contains(&current)),
            Self::IfMatchAny => exists,
            Self::IfNoneMatchAny => !exists,
        };
        if holds { Ok(()) } else { Err(ChangeError::Precondition { current }) }
    }
}

impl Vocabulary {
    /// The record that says where an alias is now.
    fn alias_record(&self, alias: &AliasName) -> Option<AliasRecord> {
        let version = *self.aliases.get(alias)?;
        let digest = self.slots.get(&version).map(|slot| slot.facts.digest);
        Some(AliasRecord::new(version, digest, None))
    }
}

/// The newest version of `name` with that content, a healthy one before a damaged one.
fn holding(vocabs: &Vocabs, name: &VocabName, digest: &Digest) -> Option<Arc<Slot>> {
    let slots = || vocabs.get(name).into_iter().flat_map(|vocab| vocab.slots.values().rev());
    let mut same = slots().filter(|slot| slot.facts.digest == *digest);
    let healthy = same.clone().find(|slot| slot.broken.get().is_none());
    healthy.or_else(|| same.next()).cloned()
}

fn insert(vocabs: &mut Vocabs, name: &VocabName, slot: Arc<Slot>) {
    let vocab = Arc::make_mut(vocabs.entry(name.clone()).or_default());
    vocab.highest = vocab.highest.max(slot.facts.version);
    vocab.slots.insert(slot.facts.version, slot);
}

/// What a change has written so far, to take it back should it fail.
///
/// A put that failed is listed too: storage may report an error for a write that took place all the same.
#[derive(Debug, Default)]
struct Undo(Vec<(Key, Bytes, Option<Bytes>)>);

impl Undo {
    fn wrote(&mut self, key: Key, ours: Bytes, before: Option<Bytes>) {
        self.0.push((key, ours, before));
    }

    /// Puts back what was there before, wherever what is there now is what this change wrote. If the storage refuses
    /// that too, the next reload shows the change as if it had come from elsewhere: whole, never torn.
    async fn roll_back(self, store: &Store) {
        for (key, ours, before) in self.0.into_iter().rev() {
            let Ok(Some((now, tag))) = store.get_tagged(&key).await else { continue };
            if now == ours {
                let _ = match before {
                    Some(before) => store.put_if(&key, before, Some(&tag)).await.map(drop),
                    None => store.delete(&key).await,
                };
            }
        }
    }
}
