//! Two registries over one store, of which one acts right before a chosen call of the other: nothing that either has
//! acknowledged is lost.

use super::{alias, at, embedded, name, native, open, publish, publish_as, set, settings};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vocabd::registry::{ChangeError, Digest, Precondition, Registry, RegistrySettings, ResolveError};
use vocabd::store::{Key, Store};

/// What somebody else does; where it fails, so does the call.
type Act = BoxFuture<'static, Result<()>>;

/// Memory in which somebody else acts right before certain writes, and in which everything is old.
#[derive(Default)]
struct Contested {
    inner: InMemory,
    /// What a key has in it whose next write waits for this; one after the other.
    acts: Arc<Mutex<VecDeque<(&'static str, Act)>>>,
}

impl Contested {
    fn before(&self, write: &'static str, act: impl Future<Output = Result<()>> + Send + 'static) {
        self.acts.lock().unwrap().push_back((write, act.boxed()));
    }

    /// Lets the write fail.
    fn refuse(&self, write: &'static str) {
        self.before(write, async {
            Err(object_store::Error::Generic { store: "contested", source: "no".into() })
        });
    }

    /// Whether all has happened.
    fn is_over(&self) -> bool {
        self.acts.lock().unwrap().is_empty()
    }
}

async fn act(acts: &Mutex<VecDeque<(&'static str, Act)>>, at: &Path) -> Result<()> {
    let due = acts.lock().unwrap().pop_front_if(|(write, _)| at.as_ref().contains(*write));
    match due {
        Some((_, act)) => act.await,
        None => Ok(()),
    }
}

impl fmt::Debug for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("contested")
    }
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("contested")
    }
}

#[async_trait]
impl ObjectStore for Contested {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        act(&self.acts, at).await?;
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let acts = Arc::clone(&self.acts);
        let at = at.then(move |at| {
            let acts = Arc::clone(&acts);
            async move {
                let at = at?;
                act(&acts, &at).await.map(|()| at)
            }
        });
        self.inner.delete_stream(at.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let aged = |mut meta: ObjectMeta| {
            meta.last_modified -= Duration::from_secs(24 * 60 * 60);
            meta
        };
        self.inner.list(prefix).map(move |meta| meta.map(aged)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn over(store: &Arc<Contested>) -> Registry {
    over_with(store, None).await
}

async fn over_with(store: &Arc<Contested>, keep_versions: Option<u32>) -> Registry {
    let objects: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    let settings = RegistrySettings { keep_versions, ..settings() };
    Registry::open(Arc::new(Store::over(objects)), settings, embedded()).await.unwrap()
}

/// Two registries that know of zh@1, which is zh@prod, zh@2 and zh@3.
async fn two_registries() -> (Arc<Contested>, Registry, Registry) {
    let store = Arc::new(Contested::default());
    let one = over(&store).await;
    publish_as(&one, "zh", "one", &["prod"]).await.unwrap();
    publish(&one, "zh", "two").await;
    publish(&one, "zh", "three").await;
    let two = over(&store).await;
    (store, one, two)
}

/// What somebody sees who comes afterwards: where the alias is; and that all there is can be used.
async fn prod(store: &Arc<Contested>) -> u32 {
    assert!(store.is_over());
    let registry = over(store).await;
    assert_eq!(*registry.failed(), []);
    for facts in registry.vocab(&name("zh")).unwrap().versions {
        assert_eq!(at(&registry, &format!("zh@{}", facts.version)).await, Ok(facts.version));
    }
    at(&registry, "zh@prod").await.unwrap()
}

fn moves(registry: &Registry, version: u32) -> impl Future<Output = Result<()>> + Send + use<> {
    let registry = registry.clone();
    async move {
        set(&registry, "zh", "prod", version).await.unwrap();
        Ok(())
    }
}

fn deletes(registry: &Registry, version: u32) -> impl Future<Output = Result<()>> + Send + use<> {
    let registry = registry.clone();
    async move {
        registry.delete_version(&name("zh"), version).await.unwrap();
        Ok(())
    }
}

/// A move looks at its alias and its version alone, and at the rest where one of them is not as it was here.
#[tokio::test]
async fn a_move_starts_from_what_others_have_made_of_its_alias_and_its_version() {
    let (store, one, two) = two_registries().await;
    let move_to = async |version, guard| two.set_alias(&name("zh"), &alias("prod"), version, guard).await;
    let digest = |version: u32| one.vocab(&name("zh")).unwrap().versions[version as usize - 1].digest;

    set(&one, "zh", "prod", 2).await.unwrap();
    let outcome = move_to(3, Precondition::IfMatch(vec![digest(1)])).await;
    assert!(matches!(outcome, Err(ChangeError::Precondition { .. })), "{outcome:?}");
    set(&one, "zh", "prod", 3).await.unwrap();
    let change = move_to(1, Precondition::IfMatch(vec![digest(3)])).await.unwrap();
    assert_eq!((change.old.unwrap().version, change.new.version), (3, 1));

    one.remove_alias(&name("zh"), &alias("prod"), Precondition::None).await.unwrap();
    assert!(move_to(2, Precondition::IfMatchAny).await.is_err());
    assert!(move_to(1, Precondition::IfNoneMatchAny).await.unwrap().created);
    publish_as(&one, "zh", "four", &["prod"]).await.unwrap();
    assert_eq!(move_to(3, Precondition::None).await.unwrap().old.unwrap().version, 4);

    deletes(&one, 2).await.unwrap();
    let outcome = move_to(2, Precondition::None).await;
    let gone = |outcome: &std::result::Result<_, ChangeError>| {
        matches!(outcome, Err(ChangeError::Resolve(ResolveError::UnknownVersion { .. })))
    };
    assert!(gone(&outcome), "{outcome:?}");
    // By hand, without a trace.
    let file = Path::from("vocabs/zh/versions/0000000001.json");
    store.inner.delete(&file).await.unwrap();
    let outcome = move_to(1, Precondition::None).await;
    assert!(gone(&outcome), "{outcome:?}");
    assert_eq!(prod(&store).await, 3);
}

#[tokio::test]
async fn an_alias_does_not_move_to_a_version_that_is_deleted_at_that_moment() {
    let (store, one, two) = two_registries().await;
    store.before("aliases/prod", deletes(&one, 2));
    let outcome = set(&two, "zh", "prod", 2).await;
    let gone = matches!(outcome, Err(ChangeError::Resolve(ResolveError::UnknownVersion { .. })));
    assert!(gone, "{outcome:?}");
    assert_eq!(prod(&store).await, 1);
    for registry in [one, two] {
        assert_eq!(registry.reload().await.failed, []);
        assert_eq!(at(&registry, "zh@prod").await, Ok(1));
    }
}

#[tokio::test]
async fn a_version_is_not_deleted_to_which_an_alias_moves_at_that_moment() {
    let (store, one, two) = two_registries().await;
    store.before("versions/0000000002", moves(&one, 2));
    let outcome = two.delete_version(&name("zh"), 2).await;
    assert!(
        matches!(&outcome, Err(ChangeError::InUse { aliases }) if *aliases == [alias("prod")]),
        "{outcome:?}"
    );
    assert_eq!(prod(&store).await, 2);
    assert_eq!(at(&two, "zh@2").await, Ok(2));
}

#[tokio::test]
async fn pruning_leaves_a_version_to_which_an_alias_moves_at_that_moment() {
    let (store, one, _) = two_registries().await;
    let two = over_with(&store, Some(2)).await;
    store.before("versions/0000000002", moves(&one, 2));
    publish(&two, "zh", "four").await;
    assert_eq!(prod(&store).await, 2);
}

#[tokio::test]
async fn of_two_who_delete_a_version_one_finds_it_gone() {
    let (store, one, two) = two_registries().await;
    store.before("versions/0000000002", deletes(&one, 2));
    let outcome = two.delete_version(&name("zh"), 2).await;
    assert!(matches!(outcome, Err(ChangeError::Resolve(_))), "{outcome:?}");
    assert_eq!(prod(&store).await, 1);
}

#[tokio::test]
async fn content_published_again_while_its_version_is_deleted_becomes_another_version() {
    let (store, one, two) = two_registries().await;
    store.before("aliases/prod", deletes(&one, 2));
    let published = publish_as(&two, "zh", "two", &["prod"]).await.unwrap();
    assert_eq!((published.facts.version, published.created), (4, true));
    assert_eq!(prod(&store).await, 4);
}

#[tokio::test]
async fn a_publish_that_fails_leaves_an_alias_where_somebody_else_moved_it_before() {
    let (store, one, two) = two_registries().await;
    store.before("aliases/prod", moves(&one, 2));
    store.refuse("versions/0000000004");
    publish_as(&two, "zh", "four", &["prod"]).await.unwrap_err();
    assert_eq!(prod(&store).await, 2);
}

#[tokio::test]
async fn a_publish_that_fails_leaves_what_somebody_else_has_published_with_the_same_content() {
    let (store, one, two) = two_registries().await;
    store.before("versions/0000000004", async move {
        publish_as(&one, "zh", "four", &["prod"]).await.unwrap();
        Err(object_store::Error::Generic { store: "contested", source: "no".into() })
    });
    publish_as(&two, "zh", "four", &["prod"]).await.unwrap_err();
    assert_eq!(prod(&store).await, 4);
}

#[tokio::test]
async fn a_move_that_fails_leaves_a_publish_that_has_not_come_true_yet() {
    let (store, one, two) = two_registries().await;
    let failing = {
        let store = Arc::clone(&store);
        async move {
            store.refuse("aliases/prod");
            set(&two, "zh", "prod", 2).await.unwrap_err();
            Ok(())
        }
    };
    store.before("versions/0000000004", failing);
    publish_as(&one, "zh", "four", &["prod"]).await.unwrap();
    assert_eq!(prod(&store).await, 4);
}

/// Found by the model of the registry: the second one took the record of the first for its own, and undid it.
#[tokio::test]
async fn the_second_of_two_who_move_an_alias_to_the_same_version_does_not_undo_the_first() {
    let (store, one, two) = two_registries().await;
    let before = one.facts(Some(&name("zh").at(1))).unwrap().digest;
    store.before("aliases/prod", moves(&one, 2));
    let from_one = Precondition::IfMatch(vec![before]);
    let outcome = two.set_alias(&name("zh"), &alias("prod"), 2, from_one).await;
    assert!(matches!(outcome, Err(ChangeError::Precondition { .. })), "{outcome:?}");
    assert_eq!(prod(&store).await, 2);
}

#[tokio::test]
async fn in_a_shared_store_content_stays_for_a_while_after_its_last_version() {
    let (store, one, _) = two_registries().await;
    let digest = one.facts(Some(&name("zh").at(2))).unwrap().digest;
    one.delete_version(&name("zh"), 2).await.unwrap();
    // However old it is: the deletion is not.
    assert_eq!(one.reload().await.failed, []);
    assert!(one.store().size(&Key::blob(&digest)).await.unwrap().is_some());
    assert!(store.is_over());
}

#[tokio::test]
async fn content_that_gets_a_version_while_it_is_swept_is_put_back() {
    let (store, one, two) = two_registries().await;
    let orphan = native("orphan");
    let key = Key::blob(&Digest::of(&orphan));
    one.store().put(&key, orphan).await.unwrap();
    store.before("blobs", async move {
        publish(&two, "zh", "orphan").await;
        Ok(())
    });
    assert_eq!(one.reload().await.failed, []);
    assert_eq!(prod(&store).await, 1);
    assert!(one.store().size(&key).await.unwrap().is_some());
    // What nobody wants goes.
    let unwanted = native("unwanted");
    let key = Key::blob(&Digest::of(&unwanted));
    one.store().put(&key, unwanted).await.unwrap();
    assert_eq!(one.reload().await.failed, []);
    assert!(one.store().size(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn in_a_directory_content_goes_with_its_last_version() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    let digest = publish(&registry, "a", "hello").await.facts.digest;
    publish(&registry, "b", "hello").await;
    let kept = async || registry.store().size(&Key::blob(&digest)).await.unwrap().is_some();
    registry.delete_version(&name("a"), 1).await.unwrap();
    assert!(kept().await);
    registry.delete_version(&name("b"), 1).await.unwrap();
    assert!(!kept().await);
}
