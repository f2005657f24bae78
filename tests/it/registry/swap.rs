//! Readers while everything moves.

use super::{alias, embedded, name, open, publish, publish_as, settings, tokens, vref};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vocabd::registry::{Precondition, Registry};
use vocabd::store::Store;

/// A word without digits, so that no split pattern cuts it.
fn word(version: u32) -> String {
    version.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).chain("word".chars()).collect()
}

/// A reader never fails and what it gets is one version, whole: facts and tokenizer belong together.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_no_failure_and_no_mixture_while_versions_and_aliases_move() {
    let registry = Registry::open(Arc::new(Store::memory()), settings(), embedded()).await.unwrap();
    publish_as(&registry, "zh", &word(1), &["prod"]).await.unwrap();
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (registry, stop, reads) = (registry.clone(), Arc::clone(&stop), Arc::clone(&reads));
            tokio::spawn(async move {
                let (prod, latest) = (vref("zh@prod"), vref("zh"));
                let mut newest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let loaded = registry.resolve(Some(&prod)).await.unwrap();
                    assert_eq!(tokens(&loaded.tokenizer, &word(loaded.facts.version)), 1);
                    let now = registry.resolve(Some(&latest)).await.unwrap().facts.version;
                    assert!(now >= newest, "latest went back from {newest} to {now}");
                    newest = now;
                    reads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for version in 2..=40 {
        let aliases: &[&str] = if version % 2 == 0 { &["prod"] } else { &[] };
        publish_as(&registry, "zh", &word(version), aliases).await.unwrap();
        for target in [1, version, version - 1] {
            registry.set_alias(&name("zh"), &alias("prod"), target, Precondition::None).await.unwrap();
        }
        if version > 5 {
            registry.delete_version(&name("zh"), version - 4).await.unwrap();
        }
        if version % 10 == 0 {
            assert_eq!(registry.reload().await.failed, []);
        }
        // Not too quick for them: every version is read while it is in use. One that failed reads no more.
        let enough = reads.load(Ordering::Relaxed) + 3;
        while reads.load(Ordering::Relaxed) < enough && !readers.iter().any(|reader| reader.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_never_make_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let one = open(dir.path()).await;
    let two = open(dir.path()).await;
    let mut calls = tokio::task::JoinSet::new();
    for (writer, registry) in [("one", &one), ("two", &two)] {
        for i in 0..6 {
            let registry = registry.clone();
            calls.spawn(async move { publish(&registry, "zh", &format!("{writer}-{i}")).await.facts });
        }
    }
    let mut versions: Vec<u32> = calls.join_all().await.iter().map(|facts| facts.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
    assert_eq!(one.reload().await.failed, []);
    assert_eq!(one.vocab(&name("zh")).unwrap().versions.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishes_of_one_process_run_one_after_the_other() {
    let registry = Registry::open(Arc::new(Store::memory()), settings(), None).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..20 {
        let registry = registry.clone();
        // Each content twice: the later of the two makes no version.
        calls.spawn(async move { publish(&registry, "zh", &format!("word{}", i / 2)).await.created });
    }
    let created = calls.join_all().await.into_iter().filter(|created| *created).count();
    assert_eq!(created, 10);
    assert_eq!(registry.vocab(&name("zh")).unwrap().latest, Some(10));
}
