use super::*;

fn segment(text: &str) -> Segment {
    Segment::parse(text).unwrap()
}

/// The same facts hold for every backend.
async fn check_backend(store: &Store) {
    let (one, two) = (Key::version(&segment("zh"), 1), Key::version(&segment("zh"), 2));
    assert!(matches!(store.get(&one).await, Err(StoreError::NotFound)));
    assert_eq!(store.size(&one).await.unwrap(), None);
    assert!(store.list(&Key::vocabs()).await.unwrap().is_empty());

    store.create(&one, "first").await.unwrap();
    assert!(matches!(store.create(&one, "other").await, Err(StoreError::AlreadyExists)));
    assert_eq!(store.get(&one).await.unwrap(), "first");
    store.put(&one, "second").await.unwrap();
    store.put(&two, "").await.unwrap();
    assert_eq!(store.get(&one).await.unwrap(), "second");
    assert_eq!(store.size(&one).await.unwrap(), Some(6));

    let keys: Vec<Key> =
        store.list(&Key::vocab(&segment("zh"))).await.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(keys, [one.clone(), two.clone()]);
    store.delete(&one).await.unwrap();
    store.delete(&one).await.unwrap();
    assert!(matches!(store.get(&one).await, Err(StoreError::NotFound)));
    store.create(&one, "again").await.unwrap();
}

#[tokio::test]
async fn memory_and_directory_behave_alike() {
    check_backend(&Store::memory()).await;
    let dir = tempfile::tempdir().unwrap();
    check_backend(&Store::open_local(&dir.path().join("new/data")).await.unwrap()).await;
}

#[tokio::test]
async fn of_many_that_create_one_key_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open_local(dir.path()).await.unwrap());
    let key = Key::version(&segment("zh"), 1);
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (store, key) = (Arc::clone(&store), key.clone());
        calls.spawn(async move { store.create(&key, format!("{i}")).await.map(|()| i) });
    }
    let winners: Vec<i32> = calls.join_all().await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(&key).await.unwrap(), winners[0].to_string());
}

#[tokio::test]
async fn litter_is_removed_by_whoever_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_local(dir.path()).await.unwrap();
    let litter = dir.path().join("vocabs/zh/versions/0000000001.json#1");
    let upload = dir.path().join("uploads");
    std::fs::create_dir_all(litter.parent().unwrap()).unwrap();
    std::fs::create_dir_all(&upload).unwrap();
    std::fs::write(&litter, "{").unwrap();
    std::fs::write(upload.join("a#1"), "not ours").unwrap();
    assert!(store.list(&Key::vocabs()).await.unwrap().is_empty());

    // A second process must not take the first one's unfinished put for litter.
    let second = Store::open_local(dir.path()).await.unwrap();
    assert!(litter.exists());
    drop((store, second));
    Store::open_local(dir.path()).await.unwrap();
    assert!(!litter.exists());
    assert!(upload.join("a#1").exists());
}

#[tokio::test]
async fn free_bytes_are_known_for_a_directory_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_local(dir.path()).await.unwrap();
    assert!(store.free_bytes().unwrap().unwrap() > 0);
    assert_eq!(store.local_path(), Some(dir.path().canonicalize().unwrap().as_path()));
    assert_eq!(Store::memory().free_bytes().unwrap(), None);
    assert_eq!(Store::memory().local_path(), None);
}

#[tokio::test]
async fn a_root_that_is_a_file_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(Store::open_local(file.path()).await.is_err());
}
