//! A model: the registry as it is, on locks and tasks of shuttle, which goes on with another thread at each use of them, as chance
//! has it, many thousand times. `RUSTFLAGS="--cfg shuttle"` makes it (.ci/long model); VOCABD_MODEL_RUNS says how often.
//!
//! What holds in every order: a reader never fails and never goes back; what was acknowledged is what the next reader sees; of
//! changes that exclude each other one wins; an alias names a version that is there; and memory comes back under its limit.
//!
//! That it can fail is tried too: over a store that writes whatever is there by then, and by a reader that looks twice.

use super::{AliasName, Loaded, Precondition, Provenance, Registry, RegistrySettings, VocabName, VocabRef};
use crate::engine::{EncodeOptions, OnSpecial, Scratch, SpecialPolicy};
use crate::formats::{Files, Format, ImportOptions, import_files};
use crate::store::Store;
use async_trait::async_trait;
use base64::Engine as _;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, once};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use shuttle::future::{block_on, spawn, spawn_local, yield_now};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Memory before whose calls another thread may go on.
#[derive(Debug, Default)]
struct Yielding {
    memory: Arc<InMemory>,
    /// Whether a write is made whatever is there by then, which no store may do.
    blind: bool,
}

impl fmt::Display for Yielding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("yielding")
    }
}

#[async_trait]
impl ObjectStore for Yielding {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        yield_now().await;
        if self.blind {
            options.mode = PutMode::Overwrite;
        }
        self.memory.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        yield_now().await;
        self.memory.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let yielding = at.then(async |at| {
            yield_now().await;
            at
        });
        self.memory.delete_stream(yielding.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (memory, prefix) = (Arc::clone(&self.memory), prefix.cloned());
        let listing = async move {
            yield_now().await;
            memory.list(prefix.as_ref())
        };
        once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

/// A vocabulary of which only "ab" and the special token with this number are more than bytes.
fn file(number: u32) -> (Files, ImportOptions) {
    let line = |bytes: &[u8], id: usize| {
        format!("{} {id}\n", base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let bytes: String = (0..=255_u8).map(|byte| line(&[byte], byte.into())).collect();
    let special = [("<n>".to_owned(), 1000 + number)].into();
    let options = ImportOptions { split: Some("cl100k".to_owned()), special, ..ImportOptions::default() };
    (Files::single("x.tiktoken", bytes), options)
}

async fn publish(registry: &Registry, number: u32, aliases: &[&str]) -> u32 {
    let (files, options) = file(number);
    let tokenizer = import_files(&files, Some(Format::Tiktoken), &options).unwrap();
    let aliases: Vec<AliasName> = aliases.iter().map(|alias| alias.parse().unwrap()).collect();
    let from = Provenance { format: "tiktoken".to_owned(), ..Provenance::default() };
    registry.publish(&name(), tokenizer, from, &aliases).await.unwrap().facts.version
}

fn name() -> VocabName {
    "v".parse().unwrap()
}

fn prod() -> AliasName {
    "prod".parse().unwrap()
}

fn vref(text: &str) -> VocabRef {
    text.parse().unwrap()
}

/// Facts and tokenizer belong together: version n was published with special token 1000 + n.
fn is_whole(loaded: &Loaded) -> u32 {
    let special = SpecialPolicy { allowed: &[], others: OnSpecial::Parse };
    let options = EncodeOptions { special, ..EncodeOptions::default() };
    let ids = loaded.tokenizer.encode("<n>", &options, &mut Scratch::default()).unwrap().ids;
    assert_eq!(ids, [1000 + loaded.facts.version], "facts of one version, tokenizer of another");
    loaded.facts.version
}

async fn registry(store: Arc<Store>, max_resident_bytes: u64) -> Registry {
    let settings = RegistrySettings { default_vocab: vref("v"), max_resident_bytes, keep_versions: None };
    Registry::open(store, settings, None).await.unwrap()
}

fn check(threads: impl AsyncFn() + Send + Sync + Copy + 'static) {
    let runs = std::env::var("VOCABD_MODEL_RUNS").map_or(400, |runs| runs.parse().unwrap());
    // By chance among all threads, and by few changes of the thread at chosen places: each finds what the other hardly does.
    Runner::new(RandomScheduler::new(runs / 2), config()).run(move || block_on(threads()));
    Runner::new(PctScheduler::new(3, runs / 2), config()).run(move || block_on(threads()));
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 4 << 20; // a vocabulary is built on it
    config
}

/// The other way round, so that it is known that the model can fail: something is wrong, and it comes out as `problem`.
fn finds(problem: &str, threads: impl AsyncFn() + Send + Sync + Copy + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| check(threads))).expect_err("it was not found");
    let found = found.downcast_ref::<String>().expect("a message");
    assert!(found.contains(problem), "{found}");
}

fn store() -> Arc<Store> {
    Arc::new(Store::over(Arc::new(Yielding::default())))
}

fn blind_store() -> Arc<Store> {
    Arc::new(Store::over(Arc::new(Yielding { blind: true, ..Yielding::default() })))
}

/// While a version is published, given up again and deleted, a reader of its alias goes on.
async fn readers_and_changes(read: impl AsyncFn(&Registry) + Send + Copy + 'static) {
    let registry = registry(store(), u64::MAX).await;
    assert_eq!(publish(&registry, 1, &["prod"]).await, 1);
    let publishing = spawn({
        let registry = registry.clone();
        async move {
            assert_eq!(publish(&registry, 2, &["prod"]).await, 2);
            // What was acknowledged is what everybody sees.
            assert_eq!(is_whole(&registry.resolve(Some(&vref("v@prod"))).await.unwrap()), 2);
            registry.set_alias(&name(), &prod(), 1, Precondition::None).await.unwrap();
            assert_eq!(is_whole(&registry.resolve(Some(&vref("v@prod"))).await.unwrap()), 1);
            registry.delete_version(&name(), 2).await.unwrap();
            assert!(registry.resolve(Some(&vref("v@2"))).await.is_err());
        }
    });
    let reading = spawn_local({
        let registry = registry.clone();
        async move {
            // Longer than the changes take in most orders.
            for _ in 0..20 {
                read(&registry).await;
            }
        }
    });
    let adding = spawn({
        let registry = registry.clone();
        async move { registry.reload().await }
    });
    publishing.await.unwrap();
    reading.await.unwrap();
    assert_eq!(adding.await.unwrap().failed, []);
    assert_eq!(is_whole(&registry.resolve(None).await.unwrap()), 1);
}

#[test]
fn readers_see_no_failure_no_mixture_and_no_way_back() {
    check(async || {
        readers_and_changes(async |registry| {
            is_whole(&registry.resolve(Some(&vref("v@prod"))).await.unwrap());
            is_whole(&registry.resolve(None).await.unwrap());
            let highest = registry.list()[0].versions.iter().map(|facts| facts.version).max();
            assert!(highest.unwrap() <= 2);
        })
        .await;
    });
}

#[test]
fn a_reader_that_looks_twice_is_found() {
    finds("two looks, two versions", async || {
        readers_and_changes(async |registry| {
            let facts = registry.facts(Some(&vref("v@prod"))).unwrap();
            let loaded = registry.resolve(Some(&vref("v@prod"))).await.unwrap();
            assert_eq!(facts.version, is_whole(&loaded), "two looks, two versions");
        })
        .await;
    });
}

async fn moves_that_exclude_each_other(store: Arc<Store>) {
    let one = registry(Arc::clone(&store), u64::MAX).await;
    publish(&one, 1, &["prod"]).await;
    publish(&one, 2, &[]).await;
    publish(&one, 3, &[]).await;
    let two = registry(Arc::clone(&store), u64::MAX).await;
    let before = one.facts(Some(&vref("v@1"))).unwrap().digest;
    let wins = Arc::new(AtomicU32::new(0));
    let moves = [(&one, 2), (&one, 3), (&two, 3)].map(|(registry, version)| {
        let (registry, wins) = (registry.clone(), Arc::clone(&wins));
        spawn(async move {
            let guard = Precondition::IfMatch(vec![before]);
            if registry.set_alias(&name(), &prod(), version, guard).await.is_ok() {
                wins.fetch_add(1, SeqCst);
            }
        })
    });
    for each in moves {
        each.await.unwrap();
    }
    assert_eq!(wins.load(SeqCst), 1, "of three moves from version 1 so many won");
    for registry in [&one, &two] {
        assert_eq!(registry.reload().await.failed, []);
    }
    let at = async |registry: &Registry| is_whole(&registry.resolve(Some(&vref("v@prod"))).await.unwrap());
    assert_eq!(at(&one).await, at(&two).await);
}

#[test]
fn of_moves_that_exclude_each_other_one_wins_on_one_registry_and_on_two() {
    check(async || moves_that_exclude_each_other(store()).await);
}

#[test]
fn two_winners_over_a_store_that_writes_blindly_are_found() {
    finds("so many won", async || moves_that_exclude_each_other(blind_store()).await);
}

async fn a_move_and_a_deletion(store: Arc<Store>) {
    let one = registry(Arc::clone(&store), u64::MAX).await;
    publish(&one, 1, &["prod"]).await;
    publish(&one, 2, &[]).await;
    publish(&one, 3, &[]).await;
    let two = registry(Arc::clone(&store), u64::MAX).await;
    let moving = spawn({
        let one = one.clone();
        async move { one.set_alias(&name(), &prod(), 2, Precondition::None).await.is_ok() }
    });
    let deleting = spawn({
        let two = two.clone();
        async move { two.delete_version(&name(), 2).await.is_ok() }
    });
    let (moved, deleted) = (moving.await.unwrap(), deleting.await.unwrap());
    assert!(!(moved && deleted), "an alias was moved to a version that was deleted");
    let later = registry(store, u64::MAX).await;
    for registry in [&one, &two, &later] {
        assert_eq!(registry.reload().await.failed, []);
        let at = is_whole(&registry.resolve(Some(&vref("v@prod"))).await.unwrap());
        assert_eq!(at, if moved { 2 } else { 1 });
        assert_eq!(registry.resolve(Some(&name().at(2))).await.is_err(), deleted);
    }
}

#[test]
fn of_a_move_and_a_deletion_on_two_registries_at_most_one_is_done() {
    check(async || a_move_and_a_deletion(store()).await);
}

async fn publications_at_once(store: Arc<Store>) {
    let (one, two) = (registry(Arc::clone(&store), u64::MAX).await, registry(store, u64::MAX).await);
    let made = [(&one, 11), (&one, 12), (&two, 13)].map(|(registry, number)| {
        let registry = registry.clone();
        spawn(async move { publish(&registry, number, &[]).await })
    });
    let mut numbers = BTreeSet::new();
    for each in made {
        numbers.insert(each.await.unwrap());
    }
    assert_eq!(numbers, BTreeSet::from([1, 2, 3]), "the numbers given");
    for registry in [&one, &two] {
        registry.reload().await;
        assert_eq!(registry.list()[0].versions.len(), 3);
    }
}

#[test]
fn publications_at_once_get_numbers_of_their_own_and_none_is_lost() {
    check(async || publications_at_once(store()).await);
}

#[test]
fn a_number_given_twice_by_a_store_that_writes_blindly_is_found() {
    finds("the numbers given", async || publications_at_once(blind_store()).await);
}

#[test]
fn versions_leave_memory_and_come_back_and_memory_stays_under_its_limit() {
    check(async || {
        let store = store();
        let filling = registry(Arc::clone(&store), u64::MAX).await;
        for number in 1..=4 {
            publish(&filling, number, &[]).await;
        }
        let each = filling.residency().resident_bytes / 4;
        // Room for the latest one, the aliased one, and one more.
        let limit = each * 7 / 2;
        let registry = registry(store, limit).await;
        let reading = [[1, 2], [2, 1], [3, 1]].map(|versions| {
            let registry = registry.clone();
            spawn(async move {
                for version in versions {
                    let loaded = registry.resolve(Some(&name().at(version))).await.unwrap();
                    assert_eq!(is_whole(&loaded), version);
                }
            })
        });
        let moving = spawn({
            let registry = registry.clone();
            async move {
                registry.set_alias(&name(), &prod(), 1, Precondition::None).await.unwrap();
                registry.remove_alias(&name(), &prod(), Precondition::None).await.unwrap();
            }
        });
        for each in reading {
            each.await.unwrap();
        }
        moving.await.unwrap();
        let residency = registry.residency();
        assert!(residency.resident_bytes <= limit, "{residency:?} of {limit}");
        assert!(residency.resident_versions >= 1, "{residency:?}");
    });
}
