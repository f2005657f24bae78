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

    let (read, tag) = store.get_tagged(&two).await.unwrap().unwrap();
    assert_eq!(read, "");
    store.put_if(&two, "mine", Some(&tag)).await.unwrap();
    assert!(matches!(store.put_if(&two, "other", Some(&tag)).await, Err(StoreError::Changed)));
    assert!(matches!(store.put_if(&two, "other", None).await, Err(StoreError::Changed)));
    let three = Key::version(&segment("zh"), 3);
    assert!(store.get_tagged(&three).await.unwrap().is_none());
    assert!(matches!(store.put_if(&three, "x", Some(&tag)).await, Err(StoreError::Changed)));
    store.put_if(&three, "x", None).await.unwrap();
    let (_, gone) = store.get_tagged(&three).await.unwrap().unwrap();
    store.delete(&three).await.unwrap();
    assert!(matches!(store.put_if(&three, "x", Some(&gone)).await, Err(StoreError::Changed)));
    assert_eq!(store.get(&two).await.unwrap(), "mine");
    let etags = async || {
        let listed = store.list(&Key::vocab(&segment("zh"))).await.unwrap();
        listed.into_iter().map(|object| object.etag.unwrap()).collect::<Vec<_>>()
    };
    let before = etags().await;
    let (_, tag) = store.get_tagged(&two).await.unwrap().unwrap();
    let put = store.put_if(&two, "mind", Some(&tag)).await.unwrap();
    let after = etags().await;
    assert!(before[0] == after[0] && before[1] != after[1], "{before:?} {after:?}");
    // Reading, asking, writing and listing have the same tag of one state.
    assert_eq!((tag.etag(), put.etag()), (Some(&*before[1]), Some(&*after[1])));
    assert_eq!(store.tag(&two).await.unwrap().unwrap().etag(), put.etag());
    assert!(store.tag(&three).await.unwrap().is_none());

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

/// As two processes on one directory do it.
#[tokio::test]
async fn of_many_that_change_one_state_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::version(&segment("zh"), 1);
    let directories =
        [Store::open_local(dir.path()).await.unwrap(), Store::open_local(dir.path()).await.unwrap()];
    let memory = Arc::new(Store::memory());
    let directories = directories.map(Arc::new);
    for stores in [&directories[..], &[Arc::clone(&memory), memory][..]] {
        stores[0].put(&key, "0").await.unwrap();
        for round in 1..20 {
            let (_, tag) = stores[0].get_tagged(&key).await.unwrap().unwrap();
            let mut calls = tokio::task::JoinSet::new();
            for i in 0..8 {
                let (store, key, tag) = (Arc::clone(&stores[i % 2]), key.clone(), tag.clone());
                calls.spawn(async move {
                    store.put_if(&key, format!("{round} by {i}"), Some(&tag)).await.map(|_| i)
                });
            }
            let winners: Vec<usize> = calls.join_all().await.into_iter().filter_map(Result::ok).collect();
            assert_eq!(winners.len(), 1);
            assert_eq!(stores[1].get(&key).await.unwrap(), format!("{round} by {}", winners[0]));
        }
    }
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
