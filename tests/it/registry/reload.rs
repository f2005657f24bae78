//! Reading the store again, and the import folder.

use super::{
    alias, at, embedded, in_memory, name, native, open, publish, publish_as, settings, tokens, vref,
};
use base64::Engine as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabd::registry::{Precondition, Registry, ReloadReport, ResolveError, VocabRef};
use vocabd::store::{Key, Segment, Store};

pub(super) fn failed(report: &ReloadReport) -> Vec<&str> {
    report.failed.iter().map(|failure| failure.what.as_str()).collect()
}

pub(super) fn refs(texts: &[&str]) -> Vec<VocabRef> {
    texts.iter().map(|text| vref(text)).collect()
}

fn record(dir: &Path, vocab: &str, version: u32) -> PathBuf {
    dir.join(Key::version(&Segment::parse(vocab).unwrap(), version).to_string())
}

fn blob(dir: &Path, word: &str) -> PathBuf {
    dir.join(Key::blob(&vocabd::registry::Digest::of(&native(word))).to_string())
}

/// A tiktoken file: the bytes, then `words`, each split in two by a rank that exists.
pub(super) fn tiktoken(words: &[&str]) -> String {
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for word in words {
        tokens.extend((2..=word.len()).map(|end| word.as_bytes()[..end].to_vec()));
    }
    tokens.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", base64.encode(token))).collect()
}

#[tokio::test]
async fn what_another_process_published_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tool) = (open(dir.path()).await, open(dir.path()).await);
    publish(&server, "zh", "aaaa").await;
    assert_eq!(tool.reload().await.loaded, refs(&["zh@1"]));
    publish_as(&tool, "zh", "bbbb", &["prod"]).await.unwrap();
    publish(&tool, "new", "cccc").await;
    assert_eq!(at(&server, "zh").await, Ok(1));

    let report = server.reload().await;
    assert_eq!(report.loaded, refs(&["new@1", "zh@2", "zh@prod"]));
    assert_eq!((report.unchanged, report.failed.len(), report.removed.len()), (2, 0, 0));
    assert_eq!((at(&server, "zh").await, at(&server, "zh@prod").await), (Ok(2), Ok(2)));

    tool.set_alias(&name("zh"), &alias("prod"), 1, Precondition::None).await.unwrap();
    tool.delete_version(&name("new"), 1).await.unwrap();
    let report = server.reload().await;
    assert_eq!((report.loaded, report.removed), (refs(&["zh@prod"]), refs(&["new@1"])));
    assert_eq!(at(&server, "zh@prod").await, Ok(1));
    let report = server.reload().await;
    assert_eq!((report.loaded, report.removed, report.unchanged), (vec![], vec![], 3));
}

#[tokio::test]
async fn an_alias_to_nothing_keeps_the_old_target() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish_as(&registry, "zh", "aaaa", &["prod"]).await.unwrap();
    let file = dir.path().join("vocabs/zh/aliases/prod.json");
    for bad in ["{\"version\": 7}", "{\"version\": -1}", "{", "", "\u{0}"] {
        std::fs::write(&file, bad).unwrap();
        let report = registry.reload().await;
        assert_eq!(failed(&report), ["zh@prod"], "{bad:?}");
        assert_eq!(*registry.failed(), report.failed);
        assert_eq!(at(&registry, "zh@prod").await, Ok(1));
        assert!(registry.ready());
    }
    // Without an old state the alias is known and says what is wrong.
    std::fs::write(&file, "{\"version\": 7}").unwrap();
    let fresh = open(dir.path()).await;
    assert!(matches!(at(&fresh, "zh@prod").await, Err(ResolveError::Unavailable { .. })));
    assert_eq!(at(&fresh, "zh").await, Ok(1));
    assert!(fresh.ready());
    // Setting it puts the file right.
    fresh.set_alias(&name("zh"), &alias("prod"), 1, Precondition::None).await.unwrap();
    assert!(fresh.failed().is_empty());
    assert_eq!(failed(&registry.reload().await), [""; 0]);
}

#[tokio::test]
async fn a_damaged_record_keeps_the_old_state_and_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish(&registry, "zh", "aaaa").await;
    publish(&registry, "zh", "bbbb").await;
    let file = record(dir.path(), "zh", 2);
    let good = std::fs::read(&file).unwrap();
    let other = std::fs::read(record(dir.path(), "zh", 1)).unwrap();
    for bad in [&good[..good.len() / 2], b"", b"null", b"[[[[", &other] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(failed(&registry.reload().await), ["zh@2"]);
        assert_eq!(at(&registry, "zh").await, Ok(2));
    }
    let fresh = open(dir.path()).await;
    assert_eq!(at(&fresh, "zh").await, Ok(1));
    assert_eq!(fresh.failed()[0].what, "zh@2");
    assert_eq!(publish(&fresh, "zh", "cccc").await.facts.version, 3);
    // The content of the damaged version was not swept away: mending the record brings it back.
    std::fs::write(&file, good).unwrap();
    let fresh = open(dir.path()).await;
    assert_eq!(at(&fresh, "zh@2").await, Ok(2));
    assert!(fresh.failed().is_empty());
}

#[tokio::test]
async fn damaged_content_never_replaces_a_good_version() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tool) = (open(dir.path()).await, open(dir.path()).await);
    publish_as(&server, "zh", "aaaa", &["prod"]).await.unwrap();
    tool.reload().await;
    publish_as(&tool, "zh", "bbbb", &["prod"]).await.unwrap();
    let file = blob(dir.path(), "bbbb");
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [&good[..good.len() - 1], b"", &flipped] {
        std::fs::write(&file, bad).unwrap();
        let report = server.reload().await;
        assert_eq!(failed(&report), ["zh@prod", "zh@2"]);
        assert_eq!((at(&server, "zh").await, at(&server, "zh@prod").await), (Ok(1), Ok(1)));
        assert!(matches!(at(&server, "zh@2").await, Err(ResolveError::Unavailable { .. })));
    }
    // A restart sees the same: the bare name means the good version, the alias says what is wrong.
    let fresh = open(dir.path()).await;
    assert_eq!(at(&fresh, "zh").await, Ok(1));
    assert!(matches!(at(&fresh, "zh@prod").await, Err(ResolveError::Unavailable { .. })));
    assert!(fresh.ready());
    // Publishing the content again mends it.
    let mended = publish(&fresh, "zh", "bbbb").await;
    assert_eq!((mended.facts.version, mended.created), (2, false));
    assert_eq!((at(&fresh, "zh").await, at(&fresh, "zh@prod").await), (Ok(2), Ok(2)));
    assert_eq!(failed(&server.reload().await), [""; 0]);
    assert_eq!(at(&server, "zh@prod").await, Ok(2));
}

#[tokio::test]
async fn an_empty_store_does_not_take_everything_away() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish_as(&registry, "zh", "aaaa", &["prod"]).await.unwrap();
    std::fs::rename(dir.path().join("vocabs"), dir.path().join("elsewhere")).unwrap();
    assert_eq!(failed(&registry.reload().await), ["store"]);
    assert_eq!(at(&registry, "zh@prod").await, Ok(1));
    std::fs::rename(dir.path().join("elsewhere"), dir.path().join("vocabs")).unwrap();
    assert_eq!(failed(&registry.reload().await), [""; 0]);
}

#[tokio::test]
async fn a_store_whose_versions_were_all_deleted_is_another_matter() {
    let store = Arc::new(Store::memory());
    let server = Registry::open(Arc::clone(&store), settings(), None).await.unwrap();
    publish(&server, "zh", "aaaa").await;
    let tool = Registry::open(store, settings(), None).await.unwrap();
    tool.delete_version(&name("zh"), 1).await.unwrap();
    assert_eq!(server.reload().await.removed, refs(&["zh@1"]));
    assert!(at(&server, "zh").await.is_err());
}

#[tokio::test]
async fn content_without_a_version_is_swept_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let orphan = blob(dir.path(), "orphan");
    std::fs::write(&orphan, native("orphan")).unwrap();
    let registry = open(dir.path()).await;
    assert!(!orphan.exists());
    // While others may be about to name it, it stays for a while.
    std::fs::write(&orphan, native("orphan")).unwrap();
    registry.reload().await;
    drop(open(dir.path()).await);
    assert!(orphan.exists());
}

#[tokio::test]
async fn a_file_put_in_by_hand_becomes_a_version_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    let import = dir.path().join("import");
    std::fs::create_dir(&import).unwrap();
    std::fs::write(import.join("zh-32k.tiktoken"), tiktoken(&["hello"])).unwrap();
    std::fs::write(import.join("zh-32k.toml"), SIDECAR).unwrap();
    std::fs::write(import.join("nat.native"), native("native")).unwrap();
    std::fs::write(import.join(".hidden.tiktoken"), "x").unwrap();
    std::fs::write(import.join("zh-32k.tiktoken.part"), "x").unwrap();

    let report = registry.reload().await;
    assert_eq!(report.failed, []);
    assert_eq!(report.loaded, refs(&["nat@1", "zh-32k@1", "zh-32k@prod"]));
    let loaded = registry.resolve(Some(&vref("zh-32k@prod"))).await.unwrap();
    assert_eq!(tokens(&loaded.tokenizer, "hello"), 1);
    assert_eq!(
        (loaded.facts.format.as_str(), loaded.facts.source.as_str()),
        ("tiktoken", "import/zh-32k.tiktoken")
    );
    assert_eq!((loaded.facts.special_tokens, loaded.facts.normalizer.as_str()), (1, "nfc"));

    let report = registry.reload().await;
    assert_eq!((report.loaded, report.failed.len(), report.unchanged), (vec![], 0, 5));
    drop(registry);
    let registry = open(dir.path()).await;
    assert_eq!(registry.vocab(&name("zh-32k")).unwrap().versions.len(), 1);

    // An alias moved since stays where it was put.
    std::fs::write(import.join("zh-32k.tiktoken"), tiktoken(&["hello", "world"])).unwrap();
    assert_eq!(registry.reload().await.loaded, refs(&["zh-32k@2", "zh-32k@prod"]));
    registry.set_alias(&name("zh-32k"), &alias("prod"), 1, Precondition::None).await.unwrap();
    registry.reload().await;
    drop(registry);
    let registry = open(dir.path()).await;
    assert_eq!(at(&registry, "zh-32k@prod").await, Ok(1));
    assert_eq!(at(&registry, "zh-32k").await, Ok(2));
}

const SIDECAR: &str = r#"
split = "cl100k"
normalizer = "nfc"
special = { "<|end|>" = 1000 }
aliases = ["prod"]
"#;

#[tokio::test]
async fn files_that_cannot_be_taken_are_listed_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await;
    publish(&registry, "good", "aaaa").await;
    let import = dir.path().join("import");
    std::fs::create_dir(&import).unwrap();
    let outside = dir.path().join("outside.native");
    std::fs::write(&outside, native("outside")).unwrap();
    std::os::unix::fs::symlink(&outside, import.join("link.native")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", import.join("zero.native")).unwrap();
    std::os::unix::fs::symlink("nowhere", import.join("dangling.native")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        import.join("pipe.native"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    std::fs::create_dir(import.join("folder.native")).unwrap();
    std::fs::File::create(import.join("huge.native")).unwrap().set_len((1 << 30) + 1).unwrap();
    for (file, content) in [
        ("good.native", &b"VOCABD\x00\x01"[..]),
        ("-bad.native", &native("x")),
        ("readme.txt", b"what is this"),
        ("empty.tiktoken", b""),
        ("broken.tiktoken", b"!!!! 0\n"),
        ("alone.toml", b""),
        ("side.tiktoken", tiktoken(&["hello"]).as_bytes()),
        ("side.toml", b"splt = \"cl100k\""),
        ("alias.native", &native("alias")),
        ("alias.toml", b"aliases = [\"latest\"]"),
        ("twice.native", &native("twice")),
        ("twice.tiktoken", tiktoken(&["twice"]).as_bytes()),
    ] {
        std::fs::write(import.join(file), content).unwrap();
    }
    // Twice: what is remembered of a file gives the same as looking at it.
    for _ in 0..2 {
        let report = registry.reload().await;
        let mut names = failed(&report);
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "import/-bad.native",
                "import/alias.native",
                "import/alone.toml",
                "import/broken.tiktoken",
                "import/dangling.native",
                "import/empty.tiktoken",
                "import/folder.native",
                "import/good.native",
                "import/huge.native",
                "import/link.native",
                "import/pipe.native",
                "import/readme.txt",
                "import/side.tiktoken",
                "import/twice.tiktoken",
                "import/zero.native",
            ]
        );
        assert!(report.failed.iter().all(|failure| !failure.problem.contains(dir.path().to_str().unwrap())));
        assert_eq!(at(&registry, "good").await, Ok(1));
        assert_eq!(at(&registry, "twice").await, Ok(1));
    }
    assert!(import.join("broken.tiktoken").exists());
    // Mending a file is enough.
    std::fs::write(import.join("broken.tiktoken"), tiktoken(&["hello"])).unwrap();
    std::fs::write(import.join("broken.toml"), "split = \"cl100k\"").unwrap();
    assert!(registry.reload().await.loaded.contains(&vref("broken@1")));
}

#[tokio::test]
async fn links_within_the_import_folder_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let import = dir.path().join("import");
    std::fs::create_dir_all(import.join("..2026_11_24")).unwrap();
    std::fs::write(import.join("..2026_11_24/zh.native"), native("hello")).unwrap();
    std::os::unix::fs::symlink("..2026_11_24", import.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/zh.native", import.join("zh.native")).unwrap();
    let registry = open(dir.path()).await;
    assert_eq!(at(&registry, "zh").await, Ok(1));
    assert!(registry.failed().is_empty());
}

#[tokio::test]
async fn a_reload_without_a_directory_has_no_import_folder() {
    let registry = in_memory().await;
    let report = registry.reload().await;
    assert_eq!((report.unchanged, report.failed.len()), (1, 0));
}

#[tokio::test]
async fn the_embedded_vocabulary_does_not_replace_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open_local(dir.path()).await.unwrap());
    let registry = Registry::open(Arc::clone(&store), settings(), None).await.unwrap();
    publish(&registry, "default", "mine").await;
    let registry = Registry::open(store, settings(), embedded()).await.unwrap();
    assert_eq!(tokens(&registry.resolve(None).await.unwrap().tokenizer, "mine"), 1);
    assert_eq!(registry.vocab(&name("default")).unwrap().versions.len(), 1);
}
