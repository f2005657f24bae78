//! A storage that fails at every call in turn: whatever fails, nothing half-done is seen, and the same works later.

use super::{alias, at, embedded, name, publish_as, settings, tokens, vref};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, once};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use vocabd::registry::{ChangeError, Precondition, PublishError, Registry, ResolveError};
use vocabd::store::{Store, StoreError};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing happens but the error.
    Refused,
    /// It takes place and reports an error all the same, as a failed sync after a rename does.
    Reported,
    /// It takes place twice, as where a client of S3 tries again that lost the first answer.
    Repeated,
    /// A listing leaves out the last object, as that of a directory does whose file cannot be looked at.
    LeftOut,
}

/// Memory that fails at one call, or from one call on.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    fault: Fault,
    errno: i32,
    /// Whether the calls after the failing one fail too.
    lasting: bool,
    writes_only: bool,
    /// The call that fails; none if negative.
    fails_at: AtomicI64,
    calls: AtomicI64,
    gets: AtomicU64,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

impl Faulty {
    fn new(fault: Fault, lasting: bool) -> Self {
        let (fails_at, calls, gets) = (AtomicI64::new(-1), AtomicI64::new(0), AtomicU64::new(0));
        Self { inner: InMemory::new(), fault, errno: EIO, lasting, writes_only: false, fails_at, calls, gets }
    }

    /// Lets call number `call` from now fail.
    fn arm(&self, call: i64) {
        self.calls.store(0, Ordering::SeqCst);
        self.fails_at.store(call, Ordering::SeqCst);
    }

    /// Lets nothing fail any more; answers whether anything did.
    fn disarm(&self) -> bool {
        let call = self.fails_at.swap(-1, Ordering::SeqCst);
        call >= 0 && self.calls.load(Ordering::SeqCst) > call
    }

    /// Whether this call fails, of those that the fault is about.
    fn fails(&self, write: bool) -> bool {
        (write || !self.writes_only) && self.fault != Fault::LeftOut && self.is_hit()
    }

    fn is_hit(&self) -> bool {
        let at = self.fails_at.load(Ordering::SeqCst);
        if at < 0 {
            return false;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        call == at || self.lasting && call > at
    }

    fn error(&self) -> object_store::Error {
        let source = Box::new(io::Error::from_raw_os_error(self.errno));
        object_store::Error::Generic { store: "faulty", source }
    }

    async fn call<T>(&self, write: bool, outcome: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.fails(write) {
            return outcome.await;
        }
        if self.fault == Fault::Reported {
            outcome.await?;
        }
        Err(self.error())
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.fault == Fault::Repeated {
            if self.fails(true) {
                self.inner.put_opts(at, payload.clone(), PutOptions::default()).await?;
            }
            return self.inner.put_opts(at, payload, options).await;
        }
        self.call(true, self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.call(false, self.inner.get_opts(at, options)).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let error = self.fails(true).then(|| self.error());
        match (error, self.fault) {
            (None, _) => self.inner.delete_stream(at),
            (Some(error), Fault::Refused | Fault::Repeated | Fault::LeftOut) => {
                once(async { Err(error) }).boxed()
            }
            (Some(error), Fault::Reported) => {
                let deleted = self.inner.delete_stream(at);
                once(async {
                    deleted.count().await;
                    Err(error)
                })
                .boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let left_out = self.fault == Fault::LeftOut && self.is_hit();
        let error = self.fails(false).then(|| self.error());
        match error {
            None if left_out => {
                let listing = self.inner.list(prefix).collect::<Vec<_>>();
                once(async { futures_util::stream::iter(listing.await.into_iter().rev().skip(1)) })
                    .flatten()
                    .boxed()
            }
            None => self.inner.list(prefix),
            Some(error) => once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn over(faulty: &Arc<Faulty>) -> Registry {
    let objects: Arc<dyn ObjectStore> = Arc::clone(faulty) as _;
    Registry::open(Arc::new(Store::over(objects)), settings(), embedded()).await.unwrap()
}

/// What a reader sees: every name, its versions and aliases; and that each version can be used.
async fn state(registry: &Registry) -> String {
    let mut state = String::new();
    for vocab in registry.list() {
        let numbers: Vec<u32> = vocab.versions.iter().map(|facts| facts.version).collect();
        state += &format!("{} {numbers:?} {:?} {:?};", vocab.name, vocab.latest, vocab.aliases);
        for facts in &vocab.versions {
            let loaded = registry.resolve(Some(&vocab.name.at(facts.version))).await.unwrap();
            assert_eq!(
                vocabd::registry::Digest::of(&vocabd::formats::native::write(&loaded.tokenizer)),
                facts.digest
            );
        }
    }
    state
}

/// Runs `change` on a storage that fails at call 0, 1, 2, ... until the change is through before that.
async fn check(change: impl AsyncFn(&Registry) -> bool) {
    for (fault, lasting) in [(Fault::Refused, false), (Fault::Reported, false), (Fault::Refused, true)] {
        let mut failures = 0;
        for call in 0.. {
            let faulty = Arc::new(Faulty::new(fault, lasting));
            let registry = over(&faulty).await;
            for (word, aliases) in [("one", &["prod"][..]), ("two", &[]), ("three", &[])] {
                publish_as(&registry, "zh", word, aliases).await.unwrap();
            }
            let before = state(&registry).await;
            let context = format!("{fault:?}, lasting {lasting}, call {call}");

            faulty.arm(call);
            let succeeded = change(&registry).await;
            let hit = faulty.disarm();
            let after = state(&registry).await;
            if !succeeded {
                failures += 1;
                assert!(hit, "{context}: failed without a fault");
                assert_eq!(before, after, "{context}");
            }
            // A restart sees the old or the new state, whole; then the same change works.
            let restarted = state(&over(&faulty).await).await;
            assert!(change(&registry).await || succeeded, "{context}");
            let done = state(&registry).await;
            assert_ne!(before, done, "{context}");
            let old_or_new =
                if succeeded { restarted == done } else { restarted == before || restarted == done };
            assert!(old_or_new, "{context}: {restarted}");
            assert_eq!(registry.reload().await.failed, [], "{context}");
            assert_eq!(state(&registry).await, done, "{context}");
            assert_eq!(state(&over(&faulty).await).await, done, "{context}");
            if !hit {
                break;
            }
        }
        assert!(failures > 0, "{fault:?}: no call failed");
    }
}

#[tokio::test]
async fn a_publish_is_whole_or_not_there_wherever_the_storage_fails() {
    check(async |registry| publish_as(registry, "zh", "new", &[]).await.is_ok()).await;
}

#[tokio::test]
async fn a_publish_and_its_aliases_become_true_together() {
    check(async |registry| publish_as(registry, "zh", "new", &["prod"]).await.is_ok()).await;
    check(async |registry| publish_as(registry, "zh", "new", &["first"]).await.is_ok()).await;
}

#[tokio::test]
async fn an_alias_moves_or_stays_wherever_the_storage_fails() {
    let set = async |registry: &Registry, to: &str, version| {
        registry.set_alias(&name("zh"), &alias(to), version, Precondition::None).await.is_ok()
    };
    check(async |registry| set(registry, "prod", 2).await).await;
    check(async |registry| set(registry, "new", 2).await).await;
    check(async |registry| {
        registry.remove_alias(&name("zh"), &alias("prod"), Precondition::None).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_move_whose_first_answer_is_lost_is_made_and_not_taken_for_that_of_somebody_else() {
    let faulty = Arc::new(Faulty { writes_only: true, ..Faulty::new(Fault::Repeated, false) });
    let registry = over(&faulty).await;
    let one = publish_as(&registry, "zh", "one", &["prod"]).await.unwrap();
    publish_as(&registry, "zh", "two", &[]).await.unwrap();
    faulty.arm(0);
    let from_one = Precondition::IfMatch(vec![one.facts.digest]);
    registry.set_alias(&name("zh"), &alias("prod"), 2, from_one).await.unwrap();
    assert!(faulty.disarm());
    assert_eq!(at(&over(&faulty).await, "zh@prod").await, Ok(2));
}

#[tokio::test]
async fn what_a_listing_leaves_out_for_once_is_still_there() {
    let faulty = Arc::new(Faulty::new(Fault::LeftOut, false));
    let registry = over(&faulty).await;
    for word in ["one", "two", "three"] {
        publish_as(&registry, "zh", word, &[]).await.unwrap();
    }
    let before = state(&registry).await;
    let mut hits = 0;
    for listing in 0.. {
        faulty.arm(listing);
        registry.set_alias(&name("zh"), &alias("prod"), 3, Precondition::None).await.unwrap();
        registry.remove_alias(&name("zh"), &alias("prod"), Precondition::None).await.unwrap();
        assert_eq!(registry.reload().await.failed, [], "listing {listing}");
        assert_eq!(state(&registry).await, before, "listing {listing}");
        if !faulty.disarm() {
            break;
        }
        hits += 1;
    }
    assert!(hits >= 3, "a removal lists the records, a reload these and the content");
}

#[tokio::test]
async fn a_version_is_deleted_or_stays_wherever_the_storage_fails() {
    // One that failed may have taken place all the same, where the storage did not let it be taken back.
    let delete = async |registry: &Registry, version| {
        let outcome = registry.delete_version(&name("zh"), version).await;
        matches!(outcome, Ok(_) | Err(ChangeError::Resolve(ResolveError::UnknownVersion { .. })))
    };
    check(async |registry| delete(registry, 2).await).await;
    check(async |registry| delete(registry, 3).await).await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    for call in 0.. {
        let faulty = Arc::new(Faulty::new(Fault::Refused, false));
        let registry = over(&faulty).await;
        let other = over(&faulty).await;
        publish_as(&registry, "zh", "one", &["prod"]).await.unwrap();
        other.reload().await;
        publish_as(&other, "zh", "two", &["prod"]).await.unwrap();
        faulty.arm(call);
        let report = registry.reload().await;
        let hit = faulty.disarm();
        let seen = (at(&registry, "zh").await.unwrap(), at(&registry, "zh@prod").await.unwrap());
        if report.failed.is_empty() {
            assert_eq!(seen, (2, 2), "call {call}");
        } else {
            assert!(hit && matches!(seen, (1, 1) | (2, 1) | (2, 2)), "call {call}: {seen:?} {report:?}");
        }
        assert!(registry.ready());
        assert_eq!(registry.reload().await.failed, []);
        assert_eq!(at(&registry, "zh@prod").await, Ok(2));
        if !hit {
            break;
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_broken_one() {
    for (errno, full) in [(ENOSPC, true), (EIO, false)] {
        let faulty = Arc::new(Faulty { errno, ..Faulty::new(Fault::Refused, true) });
        let registry = over(&faulty).await;
        faulty.arm(0);
        let error = publish_as(&registry, "zh", "one", &[]).await.unwrap_err();
        assert_eq!(matches!(error, PublishError::Store(StoreError::Full(_))), full, "{error:?}");
        assert!(registry.resolve(None).await.is_ok());
        faulty.disarm();
        publish_as(&registry, "zh", "one", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_storage_that_cannot_be_written_serves_the_embedded_vocabulary() {
    let faulty = Arc::new(Faulty { errno: EROFS, writes_only: true, ..Faulty::new(Fault::Refused, true) });
    faulty.arm(0);
    let registry = over(&faulty).await;
    let loaded = registry.resolve(None).await.unwrap();
    assert_eq!((loaded.facts.version, tokens(&loaded.tokenizer, "default")), (1, 1));
    assert!(registry.ready());
    assert_eq!(registry.reload().await.failed, []);
    assert!(registry.resolve(None).await.is_ok());
    let error = publish_as(&registry, "zh", "one", &[]).await.unwrap_err();
    assert!(matches!(error, PublishError::Store(StoreError::ReadOnly(_))), "{error:?}");

    // Once it can be written again, the next number is free.
    faulty.disarm();
    publish_as(&registry, "default", "mine", &[]).await.unwrap();
    assert_eq!(registry.resolve(None).await.unwrap().facts.version, 2);
    assert_eq!(at(&registry, "default@1").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_is_loaded_once_for_all_who_ask_at_once() {
    let faulty = Arc::new(Faulty::new(Fault::Refused, false));
    publish_as(&over(&faulty).await, "zh", "one", &[]).await.unwrap();
    publish_as(&over(&faulty).await, "zh", "two", &[]).await.unwrap();
    let registry = over(&faulty).await;
    let before = faulty.gets.load(Ordering::SeqCst);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let registry = registry.clone();
        calls.spawn(async move { registry.resolve(Some(&vref("zh@1"))).await.unwrap() });
    }
    let loaded = calls.join_all().await;
    assert!(loaded.iter().all(|version| Arc::ptr_eq(version, &loaded[0])));
    assert_eq!(faulty.gets.load(Ordering::SeqCst) - before, 1);
}
