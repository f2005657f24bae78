//! The registry over a real directory or memory: publishing, refs, aliases, deleting, residency.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod faults;
mod folders;
mod reload;
mod rivals;
mod swap;

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use vocabd::engine::{Merge, Pattern, Scratch, Tokenizer, TokenizerParts};
use vocabd::registry::{
    AliasName, ChangeError, Digest, Embedded, Pick, Precondition, Provenance, PublishError, Published,
    Registry, RegistrySettings, ResolveError, VocabName, VocabRef,
};
use vocabd::store::Store;

/// 256 bytes and one token per prefix of `word`: different words give different vocabularies.
pub(super) fn tiny(word: &str) -> Tokenizer {
    let mut tokens: Vec<(u32, Vec<u8>)> = (0..=255).map(|byte| (u32::from(byte), vec![byte])).collect();
    let mut merges = Vec::new();
    for end in 2..=word.len() {
        let left = if end == 2 { u32::from(word.as_bytes()[0]) } else { tokens.last().unwrap().0 };
        let id = tokens.last().unwrap().0 + 1;
        merges.push(Merge { left, right: u32::from(word.as_bytes()[end - 1]), id });
        tokens.push((id, word.as_bytes()[..end].to_vec()));
    }
    let pattern = Pattern::parse("cl100k").unwrap();
    Tokenizer::new(TokenizerParts::byte_level(tokens, merges, pattern)).unwrap()
}

pub(super) fn native(word: &str) -> Vec<u8> {
    vocabd::formats::native::write(&tiny(word))
}

/// How many tokens `word` has: one in the vocabulary made for it.
pub(super) fn tokens(tokenizer: &Tokenizer, word: &str) -> usize {
    tokenizer.encode(word, &Default::default(), &mut Scratch::default()).unwrap().ids.len()
}

pub(super) fn name(text: &str) -> VocabName {
    text.parse().unwrap()
}

pub(super) fn alias(text: &str) -> AliasName {
    text.parse().unwrap()
}

pub(super) fn vref(text: &str) -> VocabRef {
    text.parse().unwrap()
}

pub(super) fn settings() -> RegistrySettings {
    RegistrySettings { default_vocab: vref("default"), max_resident_bytes: 1 << 30, keep_versions: None }
}

pub(super) fn embedded() -> Option<Embedded> {
    Some(Embedded { name: name("default"), native: native("default").into() })
}

pub(super) async fn open(dir: &Path) -> Registry {
    let store = Arc::new(Store::open_local(dir).await.unwrap());
    Registry::open(store, settings(), embedded()).await.unwrap()
}

pub(super) async fn in_memory() -> Registry {
    Registry::open(Arc::new(Store::memory()), settings(), embedded()).await.unwrap()
}

pub(super) async fn publish(registry: &Registry, vocab: &str, word: &str) -> Published {
    publish_as(registry, vocab, word, &[]).await.unwrap()
}

pub(super) async fn publish_as(
    registry: &Registry,
    vocab: &str,
    word: &str,
    aliases: &[&str],
) -> Result<Published, PublishError> {
    let aliases: Vec<AliasName> = aliases.iter().map(|text| alias(text)).collect();
    let from = Provenance { format: "trained".into(), source: "a test".into(), ..Provenance::default() };
    registry.publish(&name(vocab), tiny(word), from, &aliases).await
}

/// The version that a ref leads to; the error's name otherwise.
pub(super) async fn at(registry: &Registry, wanted: &str) -> Result<u32, ResolveError> {
    registry.resolve(Some(&vref(wanted))).await.map(|loaded| loaded.facts.version)
}

async fn set(registry: &Registry, vocab: &str, to: &str, version: u32) -> Result<bool, ChangeError> {
    let change = registry.set_alias(&name(vocab), &alias(to), version, Precondition::None).await?;
    Ok(change.created)
}

#[tokio::test]
async fn versions_count_up_and_equal_content_makes_none() {
    let registry = in_memory().await;
    let first = publish(&registry, "zh", "hello").await;
    assert_eq!((first.facts.version, first.created), (1, true));
    let second = publish(&registry, "zh", "world").await;
    assert_eq!((second.facts.version, second.created), (2, true));
    let again = publish(&registry, "zh", "hello").await;
    assert_eq!((again.facts.version, again.created), (1, false));
    assert_eq!(again.facts.digest, first.facts.digest);

    let elsewhere = publish(&registry, "other", "hello").await;
    assert_eq!((elsewhere.facts.version, elsewhere.created), (1, true));
    for (wanted, version) in [("zh", 2), ("zh@latest", 2), ("zh@1", 1), ("zh@2", 2)] {
        assert_eq!(at(&registry, wanted).await, Ok(version), "{wanted}");
    }
    let loaded = registry.resolve(Some(&vref("zh@1"))).await.unwrap();
    assert_eq!(tokens(&loaded.tokenizer, "hello"), 1);
    assert_eq!(loaded.facts.digest, Digest::of(&native("hello")));
    assert_eq!((loaded.facts.tokens, loaded.facts.merges, loaded.facts.vocab_size), (260, 4, 260));
    assert_eq!(loaded.facts.longest_token_bytes, 5);
    assert_eq!(loaded.facts.native_bytes, native("hello").len() as u64);
}

#[tokio::test]
async fn a_version_is_published_with_the_tables_of_its_quick_way_made() {
    let registry = in_memory().await;
    publish(&registry, "zh", "prepared").await;
    assert!(registry.resolve(Some(&vref("zh"))).await.unwrap().tokenizer.is_prepared());
}

#[tokio::test]
async fn no_ref_means_the_default() {
    let registry = in_memory().await;
    let loaded = registry.resolve(None).await.unwrap();
    assert_eq!((loaded.facts.name.as_str(), loaded.facts.version), ("default", 1));
    assert_eq!(loaded.facts.format, "embedded");
    assert!(registry.ready());
    assert!(registry.failed().is_empty());
}

#[tokio::test]
async fn a_default_that_is_not_there_is_listed_as_failed() {
    let registry = Registry::open(Arc::new(Store::memory()), settings(), None).await.unwrap();
    assert_eq!(registry.failed()[0].what, "default");
    assert!(registry.ready());
    assert!(matches!(registry.resolve(None).await, Err(ResolveError::UnknownVocab { .. })));
}

#[tokio::test]
async fn refs_that_lead_nowhere_say_what_there_is() {
    let registry = in_memory().await;
    publish_as(&registry, "qwen-zh", "hello", &["prod"]).await.unwrap();
    publish(&registry, "qwen-zh", "world").await;
    let near = vec![name("qwen-zh")];
    assert_eq!(at(&registry, "qwen_zh").await, Err(ResolveError::UnknownVocab { near }));
    assert_eq!(at(&registry, "xyz").await, Err(ResolveError::UnknownVocab { near: vec![] }));
    let known = vec![2, 1];
    assert_eq!(
        at(&registry, "qwen-zh@3").await,
        Err(ResolveError::UnknownVersion { name: name("qwen-zh"), known })
    );
    let known = vec![alias("prod")];
    let error = at(&registry, "qwen-zh@test").await.unwrap_err();
    assert_eq!(error, ResolveError::UnknownAlias { name: name("qwen-zh"), known });
    assert_eq!(error.to_string(), "qwen-zh has no such alias; it has prod");
}

#[tokio::test]
async fn an_alias_moves_and_rolls_back() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish(&registry, "zh", "hello").await;
    publish(&registry, "zh", "world").await;
    assert!(set(&registry, "zh", "prod", 2).await.unwrap());
    assert_eq!(at(&registry, "zh@prod").await, Ok(2));
    assert!(!set(&registry, "zh", "prod", 1).await.unwrap());
    assert_eq!(at(&registry, "zh@prod").await, Ok(1));
    assert!(matches!(set(&registry, "zh", "prod", 3).await, Err(ChangeError::Resolve(_))));
    assert!(matches!(set(&registry, "zh2", "prod", 1).await, Err(ChangeError::Resolve(_))));
    assert_eq!(at(&registry, "zh@prod").await, Ok(1));

    drop(registry);
    let registry = open(dir.path()).await;
    assert_eq!(at(&registry, "zh@prod").await, Ok(1));
    let old = registry.remove_alias(&name("zh"), &alias("prod"), Precondition::None).await.unwrap();
    assert_eq!(old.unwrap().version, 1);
    assert!(at(&registry, "zh@prod").await.is_err());
    drop(registry);
    assert!(at(&open(dir.path()).await, "zh@prod").await.is_err());
}

#[tokio::test]
async fn a_precondition_guards_an_alias() {
    let registry = in_memory().await;
    let one = publish(&registry, "zh", "hello").await.facts.digest;
    let two = publish(&registry, "zh", "world").await.facts.digest;
    let try_set = async |version, precondition| {
        let outcome = registry.set_alias(&name("zh"), &alias("prod"), version, precondition).await;
        match outcome {
            Ok(change) => Ok(change.old.map(|facts| facts.version)),
            Err(ChangeError::Precondition { current }) => Err(current),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(try_set(1, Precondition::IfMatch(vec![one])).await, Err(None));
    assert_eq!(try_set(1, Precondition::IfMatchAny).await, Err(None));
    assert_eq!(try_set(1, Precondition::IfNoneMatchAny).await, Ok(None));
    assert_eq!(try_set(2, Precondition::IfNoneMatchAny).await, Err(Some(one)));
    assert_eq!(try_set(2, Precondition::IfMatch(vec![two])).await, Err(Some(one)));
    assert_eq!(try_set(2, Precondition::IfMatch(vec![two, one])).await, Ok(Some(1)));
    assert_eq!(try_set(1, Precondition::IfMatchAny).await, Ok(Some(2)));
    let removed = registry.remove_alias(&name("zh"), &alias("prod"), Precondition::IfMatch(vec![two])).await;
    assert!(matches!(removed, Err(ChangeError::Precondition { current: Some(current) }) if current == one));
}

#[tokio::test]
async fn a_deleted_number_is_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish(&registry, "zh", "hello").await;
    publish_as(&registry, "zh", "world", &["prod"]).await.unwrap();
    let held = registry.resolve(Some(&vref("zh@2"))).await.unwrap();

    let refused = registry.delete_version(&name("zh"), 2).await;
    assert!(matches!(refused, Err(ChangeError::InUse { aliases }) if aliases == [alias("prod")]));
    registry.remove_alias(&name("zh"), &alias("prod"), Precondition::None).await.unwrap();
    registry.delete_version(&name("zh"), 2).await.unwrap();
    assert_eq!(at(&registry, "zh").await, Ok(1));
    assert_eq!(tokens(&held.tokenizer, "world"), 1);
    assert!(matches!(registry.delete_version(&name("zh"), 2).await, Err(ChangeError::Resolve(_))));

    registry.delete_version(&name("zh"), 1).await.unwrap();
    assert!(matches!(at(&registry, "zh").await, Err(ResolveError::UnknownVocab { .. })));
    assert!(registry.list().iter().all(|vocab| vocab.name != name("zh")));
    drop(registry);
    let registry = open(dir.path()).await;
    let next = publish(&registry, "zh", "world").await;
    assert_eq!((next.facts.version, next.created), (3, true));
}

#[tokio::test]
async fn the_default_cannot_be_deleted_away() {
    let registry = in_memory().await;
    assert!(matches!(registry.delete_version(&name("default"), 1).await, Err(ChangeError::IsDefault)));
    publish(&registry, "default", "hello").await;
    registry.delete_version(&name("default"), 1).await.unwrap();
    assert_eq!(registry.resolve(None).await.unwrap().facts.version, 2);
}

#[tokio::test]
async fn only_so_many_versions_are_kept() {
    let store = Arc::new(Store::memory());
    let settings = RegistrySettings { keep_versions: Some(2), ..settings() };
    let registry = Registry::open(store, settings, embedded()).await.unwrap();
    publish_as(&registry, "zh", "aaaa", &["prod"]).await.unwrap();
    for word in ["bbbb", "cccc", "dddd"] {
        publish(&registry, "zh", word).await;
    }
    let listing = registry.vocab(&name("zh")).unwrap();
    assert_eq!(listing.versions.iter().map(|facts| facts.version).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!((listing.latest, listing.aliases[&alias("prod")]), (Some(4), 1));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish_as(&registry, "zh", "hello", &["prod", "test"]).await.unwrap();
    publish(&registry, "zh", "world").await;
    let before: Vec<_> =
        registry.list().into_iter().map(|v| (v.name, v.latest, v.versions, v.aliases)).collect();
    drop(registry);
    let registry = open(dir.path()).await;
    let after: Vec<_> =
        registry.list().into_iter().map(|v| (v.name, v.latest, v.versions, v.aliases)).collect();
    assert_eq!(before, after);
    // `zh@prod` is pinned, `zh@2` is the latest, and the default.
    assert_eq!(registry.residency().resident_versions, 3);
}

#[tokio::test]
async fn versions_without_lasting_use_load_on_demand_and_leave_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    for word in ["aaaa", "bbbb", "cccc", "dddd"] {
        publish(&registry, "zh", word).await;
    }
    let each = registry.residency().resident_bytes / 5;
    drop(registry);

    // Room for the default, the latest and one more.
    let store = Arc::new(Store::open_local(dir.path()).await.unwrap());
    let settings = RegistrySettings { max_resident_bytes: each * 3 + each / 2, ..settings() };
    let registry = Registry::open(store, settings, None).await.unwrap();
    assert_eq!(registry.residency().resident_versions, 2);
    for (wanted, version) in [("zh@1", 1), ("zh@2", 2), ("zh@1", 1), ("zh@3", 3), ("zh", 4)] {
        assert_eq!(at(&registry, wanted).await, Ok(version));
        let figures = registry.residency();
        assert!(figures.resident_bytes <= registry.settings().max_resident_bytes, "{figures:?}");
    }
    assert_eq!(registry.residency().resident_versions, 3);

    // An alias takes the last room for good.
    set(&registry, "zh", "prod", 1).await.unwrap();
    assert!(matches!(at(&registry, "zh@2").await, Err(ResolveError::NoRoom { .. })));
    assert_eq!(at(&registry, "zh@prod").await, Ok(1));
    let full = set(&registry, "zh", "test", 2).await;
    assert!(matches!(full, Err(ChangeError::Resolve(ResolveError::NoRoom { .. }))));
    assert!(matches!(publish_as(&registry, "new", "eeee", &[]).await, Err(PublishError::NoRoom { .. })));
    assert!(at(&registry, "new").await.is_err());
    assert_eq!(registry.residency().resident_versions, 3);
    // The next latest takes the place of the one before.
    assert_eq!(publish(&registry, "zh", "eeee").await.facts.version, 5);
}

#[tokio::test]
async fn a_publish_goes_on_when_its_caller_goes_away() {
    let registry = in_memory().await;
    let from = Provenance::default();
    let (vocab, aliases) = (name("zh"), [alias("prod")]);
    {
        let mut publishing = std::pin::pin!(registry.publish(&vocab, tiny("hello"), from, &aliases));
        let begun = std::future::poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx).is_pending()));
        assert!(begun.await);
    }
    while at(&registry, "zh@prod").await != Ok(1) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn refs_can_be_built_from_names() {
    assert_eq!(name("zh").at(3), vref("zh@3"));
    assert_eq!(name("zh").alias(&alias("prod")), vref("zh@prod"));
    assert_eq!(name("zh").latest().pick, Pick::Latest);
}
