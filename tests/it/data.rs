//! Test data: the full set beside the project (`../shared/data`, or where `SHARED_DATA_DIR` says) and the small
//! part of it in `tests/data`, which is always there.

use std::path::{Path, PathBuf};

/// A file of the full set, decompressed; `None` where the set is not there. A set that is there but lacks the file
/// is an error in itself.
pub(crate) fn shared(path: &str) -> Option<Vec<u8>> {
    let root = shared_root();
    root.is_dir().then(|| read(&root, path).unwrap_or_else(|| panic!("{path} is not in {}", root.display())))
}

/// A file of `tests/data`, decompressed.
pub(crate) fn local(path: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    read(&root, path).unwrap_or_else(|| panic!("{path} is not in tests/data"))
}

/// Names of the files of a folder of the full set, without `.zst`, sorted; empty where the set is not there.
pub(crate) fn shared_names(folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(shared_root().join(folder)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .map(|n| n.strip_suffix(".zst").map_or(n.clone(), str::to_owned))
        .collect();
    names.sort();
    names
}

fn shared_root() -> PathBuf {
    std::env::var_os("SHARED_DATA_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from)
}

fn read(root: &Path, path: &str) -> Option<Vec<u8>> {
    if let Ok(bytes) = std::fs::read(root.join(path)) {
        return Some(bytes);
    }
    let packed = std::fs::read(root.join(format!("{path}.zst"))).ok()?;
    Some(zstd::decode_all(&packed[..]).unwrap())
}

/// A file of the full set where that is, else the same of `tests/data`, if it is there.
pub(crate) fn shared_or_local(path: &str) -> Option<Vec<u8>> {
    shared(path).or_else(|| read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), path))
}

/// A vocabulary that may not be passed on, from the folder that `VOCABD_RESTRICTED_DIR` names or from beside the
/// others.
pub(crate) fn restricted(file: &str) -> Option<Vec<u8>> {
    let beside = shared_root().join("vocabs");
    let named = std::env::var_os("VOCABD_RESTRICTED_DIR").map(PathBuf::from);
    named.into_iter().chain([beside]).find_map(|folder| read(&folder, file))
}
