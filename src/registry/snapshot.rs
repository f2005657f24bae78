//! What the registry knows at one moment. Never changed in place: a change builds the next one and swaps it in.

use super::error::ResolveError;
use super::facts::{Loaded, VersionFacts};
use super::name::{AliasName, Pick, VocabName, VocabRef};
use super::sync::ArcSwapOption;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// All vocabularies by name. Cheap to clone: a change copies the one vocabulary it is about.
pub(super) type Vocabs = BTreeMap<VocabName, Arc<Vocabulary>>;

/// The state that readers see.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) vocabs: Vocabs,
    /// Every ref that leads to a version which stays in memory: one look-up answers almost every request.
    pub(super) pinned: HashMap<VocabRef, Arc<Loaded>>,
    /// What a request without a ref gets, if it is in memory.
    pub(super) default: Option<Arc<Loaded>>,
    /// Memory of the pinned versions.
    pub(super) pinned_bytes: u64,
}

/// One vocabulary: its versions that are not deleted, and its aliases.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    pub(super) slots: BTreeMap<u32, Arc<Slot>>,
    /// An alias read from a store edited by hand may name a version that is not in `slots`.
    pub(super) aliases: BTreeMap<AliasName, u32>,
    /// The highest number ever used, deleted versions included.
    pub(super) highest: u32,
}

/// The place of one version: its facts, and its tokenizer while that is in memory.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) facts: Arc<VersionFacts>,
    pub(super) loaded: ArcSwapOption<Loaded>,
    /// Held by whoever loads the version; others wait for it.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Why the stored bytes are not this version. Loading is not tried again until a reload.
    pub(super) broken: OnceLock<String>,
    /// Whether the store has it; if not, memory is its only place.
    pub(super) stored: bool,
    /// Bytes it takes in memory; zero until it was loaded once.
    weight: AtomicU64,
    last_used: AtomicU64,
}

impl Slot {
    /// A version that is not in memory.
    pub(super) fn cold(facts: VersionFacts) -> Arc<Self> {
        Arc::new(Self::new(Arc::new(facts), None, true))
    }

    /// A version that is in memory.
    pub(super) fn warm(loaded: Arc<Loaded>, stored: bool) -> Arc<Self> {
        Arc::new(Self::new(Arc::clone(&loaded.facts), Some(loaded), stored))
    }

    fn new(facts: Arc<VersionFacts>, loaded: Option<Arc<Loaded>>, stored: bool) -> Self {
        let weight = loaded.as_deref().map_or(0, weight_of);
        Self {
            facts,
            loaded: ArcSwapOption::new(loaded),
            loading: tokio::sync::Mutex::default(),
            broken: OnceLock::new(),
            stored,
            weight: AtomicU64::new(weight),
            last_used: AtomicU64::new(0),
        }
    }

    /// Keeps a loaded version.
    pub(super) fn fill(&self, loaded: Arc<Loaded>) {
        self.weigh(&loaded);
        self.loaded.store(Some(loaded));
    }

    /// Remembers what the version takes in memory, so that one that does not fit is not read again to find out.
    pub(super) fn weigh(&self, loaded: &Loaded) {
        self.weight.store(weight_of(loaded), Ordering::Relaxed);
    }

    /// Bytes in memory, or what is likely before the first load: never less than the stored size.
    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed).max(self.facts.native_bytes)
    }

    pub(super) fn touch(&self, tick: u64) {
        self.last_used.store(tick, Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Whether the version may leave memory.
    pub(super) fn evictable(&self) -> bool {
        self.stored && self.loaded.load().is_some()
    }
}

fn weight_of(loaded: &Loaded) -> u64 {
    (loaded.tokenizer.memory_bytes() as u64).max(loaded.facts.native_bytes)
}

impl Vocabulary {
    /// The highest version that is not deleted and not known to be broken: a bad one never replaces a good one.
    pub(super) fn latest(&self) -> Option<u32> {
        self.slots.iter().rev().find(|(_, slot)| slot.broken.get().is_none()).map(|(&version, _)| version)
    }

    /// The version that `pick` means now.
    pub(super) fn pick(&self, pick: &Pick) -> Option<u32> {
        match pick {
            Pick::Latest => self.latest(),
            Pick::Version(version) => Some(*version),
            Pick::Alias(alias) => self.aliases.get(alias).copied(),
        }
    }

    /// The versions that stay in memory.
    pub(super) fn pinned(&self, default: Option<&Pick>) -> BTreeSet<u32> {
        let picks = self.latest().into_iter().chain(self.aliases.values().copied());
        let picks = picks.chain(default.and_then(|pick| self.pick(pick)));
        picks.filter(|version| self.slots.contains_key(version)).collect()
    }

    /// The aliases that name `version`.
    pub(super) fn aliases_of(&self, version: u32) -> impl Iterator<Item = &AliasName> {
        self.aliases.iter().filter(move |(_, target)| **target == version).map(|(alias, _)| alias)
    }
}

impl Snapshot {
    /// Indexes what is in memory of the versions that are to stay there.
    pub(super) fn new(vocabs: Vocabs, default: &VocabRef) -> Self {
        let mut pinned = HashMap::new();
        let mut pinned_bytes = 0_u64;
        for (name, vocab) in &vocabs {
            let latest = vocab.latest();
            for version in vocab.pinned(default_pick(default, name)) {
                let slot = &vocab.slots[&version];
                let Some(loaded) = slot.loaded.load_full() else { continue };
                pinned_bytes = pinned_bytes.saturating_add(slot.weight());
                pinned.insert(name.at(version), Arc::clone(&loaded));
                if latest == Some(version) {
                    pinned.insert(name.latest(), Arc::clone(&loaded));
                }
                for alias in vocab.aliases_of(version) {
                    pinned.insert(name.alias(alias), Arc::clone(&loaded));
                }
            }
        }
        let default = pinned.get(default).cloned();
        Self { vocabs, pinned, default, pinned_bytes }
    }

    /// The slot that a ref leads to.
    pub(super) fn find(&self, wanted: &VocabRef) -> Result<&Arc<Slot>, ResolveError> {
        let name = &wanted.name;
        let vocab = self.vocab(name)?;
        match vocab.pick(&wanted.pick) {
            Some(version) => vocab.slots.get(&version).ok_or_else(|| match wanted.pick {
                Pick::Alias(_) => ResolveError::Unavailable {
                    name: name.clone(),
                    problem: "the alias names a version that is not there".to_owned(),
                },
                _ => vocab.unknown_version(name),
            }),
            None => Err(match wanted.pick {
                Pick::Alias(_) => vocab.unknown_alias(name),
                _ => self.broken(name, vocab),
            }),
        }
    }

    /// The vocabulary of that name. One whose versions are all deleted is as good as unknown.
    pub(super) fn vocab(&self, name: &VocabName) -> Result<&Arc<Vocabulary>, ResolveError> {
        let vocab = self.vocabs.get(name).filter(|vocab| !vocab.slots.is_empty());
        vocab.ok_or_else(|| ResolveError::UnknownVocab { near: self.near(name) })
    }

    fn broken(&self, name: &VocabName, vocab: &Vocabulary) -> ResolveError {
        let problem = vocab.slots.values().next_back().and_then(|slot| slot.broken.get()).cloned();
        ResolveError::Unavailable { name: name.clone(), problem: problem.unwrap_or_default() }
    }

    /// Up to three known names that look like `name`, best first.
    fn near(&self, name: &VocabName) -> Vec<VocabName> {
        let wanted = name.as_str().to_ascii_lowercase();
        let known = self.vocabs.iter().filter(|(_, vocab)| !vocab.slots.is_empty()).map(|(known, _)| known);
        let mut scored: Vec<(f64, &VocabName)> = known
            .map(|known| (strsim::jaro_winkler(&wanted, &known.as_str().to_ascii_lowercase()), known))
            .filter(|(score, _)| *score >= 0.75)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        scored.into_iter().take(3).map(|(_, known)| known.clone()).collect()
    }
}

/// So many known versions or aliases stand in an error at most.
const NAMED_IN_ERRORS: usize = 10;

impl Vocabulary {
    pub(super) fn unknown_version(&self, name: &VocabName) -> ResolveError {
        let known = self.slots.keys().rev().take(NAMED_IN_ERRORS).copied().collect();
        ResolveError::UnknownVersion { name: name.clone(), known }
    }

    pub(super) fn unknown_alias(&self, name: &VocabName) -> ResolveError {
        let known = self.aliases.keys().take(NAMED_IN_ERRORS).cloned().collect();
        ResolveError::UnknownAlias { name: name.clone(), known }
    }
}

/// The part of the default ref that concerns the vocabulary `name`.
pub(super) fn default_pick<'a>(default: &'a VocabRef, name: &VocabName) -> Option<&'a Pick> {
    (default.name == *name).then_some(&default.pick)
}
