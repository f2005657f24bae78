//! What a run leaves on the disk so that another one can go on from there: the counts of parts of the corpus, then the
//! counts of the whole, then the merges so far.
//!
//! A folder per job, removed when the job has ended. Everything in it is derived: one that does not fit the request or
//! the sources (their sizes and times are in the fingerprint), or is damaged, is forgotten and made again.

use super::whole::Whole;
use super::wordfile;
use crate::engine::LearnedMerge;
use crate::store::Digest;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of one run.
#[derive(Debug)]
pub(super) struct Checkpoint {
    folder: PathBuf,
    every: Duration,
    last: Instant,
}

/// How far counting was when its counts were last put on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Batches of the source that are in the files.
    pub(super) batches: u64,
    /// Numbers of the files of counts.
    pub(super) parts: Vec<u32>,
    /// Numbers of the files of counts of records held back.
    pub(super) held: Vec<u32>,
}

/// What is known beside the counts of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Ill-formed parts replaced.
    pub(super) replaced: u64,
    /// Distinct pretokens dropped for their count.
    pub(super) pruned_distinct: u64,
    /// All pretokens dropped for their count.
    pub(super) pruned_pretokens: u64,
}

/// Bytes of a merge in its file.
const MERGE_BYTES: usize = 28;

impl Checkpoint {
    /// The folder, emptied unless what is in it was made for the same `fingerprint`.
    pub(super) fn open(folder: PathBuf, every: Duration, fingerprint: &Digest) -> io::Result<Self> {
        let named = folder.join("fingerprint");
        let fingerprint = fingerprint.to_string();
        if !std::fs::read_to_string(&named).is_ok_and(|known| known == fingerprint) {
            remove(&folder)?;
            std::fs::create_dir_all(&folder)?;
            wordfile::replace(&named, |file| file.write_all(fingerprint.as_bytes()))?;
        }
        Ok(Self { folder, every, last: Instant::now() })
    }

    /// Whether it is time to put on the disk what was done.
    pub(super) fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// How far the counting of a group was; zero where nothing is known.
    pub(super) fn counted(&self, group: usize) -> Counted {
        let known = std::fs::read(self.path(group, "position")).ok();
        let known: Counted = known.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let parts = known.parts.iter().map(|n| self.part(group, "part", *n));
        let held = known.held.iter().map(|n| self.part(group, "held", *n));
        if parts.chain(held).all(|path| path.is_file()) { known } else { Counted::default() }
    }

    /// The parts of a group are those of so many batches.
    pub(super) fn keep_position(&mut self, group: usize, counted: &Counted) -> io::Result<()> {
        let json = serde_json::to_vec(counted).map_err(io::Error::other)?;
        wordfile::replace(&self.path(group, "position"), |file| file.write_all(&json))?;
        self.last = Instant::now();
        Ok(())
    }

    /// The path of a part of a group: `kind` is `part`, or `held` for records held back.
    pub(super) fn part(&self, group: usize, kind: &str, n: u32) -> PathBuf {
        self.path(group, &format!("{kind}-{n}"))
    }

    /// The folder, for what else the run needs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of counts of several groups, of this run only.
    pub(super) fn sum(&self, kind: &str, n: u32) -> PathBuf {
        self.folder.join(format!("groups-{kind}-{n}"))
    }

    /// The counts of everything, if they were made, with those held back; each in memory where what follows fits in so
    /// much.
    pub(super) fn whole(&self, max_memory: usize) -> Option<(Whole, Whole, Facts)> {
        let facts = std::fs::read(self.folder.join("facts")).ok()?;
        let facts = serde_json::from_slice(&facts).ok()?;
        let open = |name: &str| Whole::open(&self.folder.join(name), max_memory).ok();
        Some((open("whole")?, open("held")?, facts))
    }

    /// Puts the counts of everything on the disk where they are not there yet; the parts are not needed any more.
    pub(super) fn keep_whole(&mut self, whole: &Whole, held: &Whole, facts: Facts) -> io::Result<()> {
        for (name, counts) in [("whole", whole), ("held", held)] {
            if let Whole::Loaded(counts) = counts {
                wordfile::write(&self.folder.join(name), counts)?;
            }
        }
        let json = serde_json::to_vec(&facts).map_err(io::Error::other)?;
        wordfile::replace(&self.folder.join("facts"), |file| file.write_all(&json))?;
        for entry in std::fs::read_dir(&self.folder)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("group") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.last = Instant::now();
        Ok(())
    }

    /// The merges so far; none where they are damaged.
    pub(super) fn merges(&self) -> Vec<LearnedMerge> {
        let Ok(bytes) = std::fs::read(self.folder.join("merges")) else { return Vec::new() };
        let Some((body, digest)) = bytes.split_last_chunk::<8>() else { return Vec::new() };
        if Digest::of(body).to_string().as_bytes().get(7..15) != Some(digest.as_slice()) {
            return Vec::new();
        }
        let (merges, _) = body.as_chunks::<MERGE_BYTES>();
        merges.iter().map(read_merge).collect()
    }

    /// Puts the merges so far on the disk, those of runs before first.
    pub(super) fn keep_merges(&mut self, merges: &[&[LearnedMerge]]) -> io::Result<()> {
        let count: usize = merges.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(count * MERGE_BYTES + 8);
        for merge in merges.iter().copied().flatten() {
            for id in [merge.left, merge.right, merge.id] {
                bytes.extend_from_slice(&id.to_le_bytes());
            }
            bytes.extend_from_slice(&merge.count.to_le_bytes());
            bytes.extend_from_slice(&merge.made.to_le_bytes());
        }
        let digest = Digest::of(&bytes).to_string();
        bytes.extend_from_slice(digest.as_bytes().get(7..15).unwrap_or_default());
        wordfile::replace(&self.folder.join("merges"), |file| file.write_all(&bytes))?;
        self.last = Instant::now();
        Ok(())
    }

    fn path(&self, group: usize, name: &str) -> PathBuf {
        self.folder.join(format!("group-{group}-{name}"))
    }
}

fn read_merge(bytes: &[u8; MERGE_BYTES]) -> LearnedMerge {
    let id = |at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    LearnedMerge { left: id(0), right: id(4), id: id(8), count: number(12), made: number(20) }
}

/// Says how far the run of a folder was when it was last kept: the positions in all groups, and the merges.
pub(super) fn kept(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kept: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            match name.as_str() {
                "facts" | "merges" => Some(format!("{name} {}", entry.metadata().ok()?.len())),
                _ if name.ends_with("-position") => {
                    Some(format!("{name} {}", std::fs::read_to_string(entry.path()).ok()?))
                }
                _ => None,
            }
        })
        .collect();
    kept.sort();
    kept.join("\n")
}

/// Removes the folder of a run, if it is there.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{WordCounts, Words};

    fn open(folder: &Path, of: &[u8]) -> Checkpoint {
        Checkpoint::open(folder.to_owned(), Duration::ZERO, &Digest::of(of)).unwrap()
    }

    #[test]
    fn what_was_kept_is_there_for_the_same_run_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("job");
        let mut first = open(&folder, b"a");
        assert_eq!((first.counted(0), first.merges()), (Counted::default(), Vec::new()));
        let counts = WordCounts::from_pairs([("ab", 3), ("b", 1)]).unwrap();
        let none = WordCounts::default();
        let position = Counted { batches: 7, parts: vec![3], held: Vec::new() };
        wordfile::write(&first.part(2, "part", 3), &counts).unwrap();
        first.keep_position(2, &position).unwrap();
        assert_eq!(open(&folder, b"a").counted(2), position);
        let at_seven = kept(&folder);
        first.keep_position(2, &position).unwrap();
        assert_eq!(kept(&folder), at_seven, "it got no further");
        first.keep_position(2, &Counted { batches: 8, ..position.clone() }).unwrap();
        assert_ne!(kept(&folder), at_seven);
        assert_eq!(open(&folder, b"a").counted(1), Counted::default());
        std::fs::remove_file(first.part(2, "part", 3)).unwrap();
        assert_eq!(first.counted(2), Counted::default(), "a part is gone");

        let facts = Facts { replaced: 1, pruned_distinct: 2, pruned_pretokens: 3 };
        first.keep_whole(&Whole::Loaded(counts.clone()), &Whole::default(), facts).unwrap();
        let merges = vec![LearnedMerge { left: 1, right: 2, id: 300, count: 1 << 40, made: 5 }; 3];
        first.keep_merges(&[&merges[..1], &merges[1..]]).unwrap();
        let merged = kept(&folder);
        first.keep_merges(&[&merges, &merges]).unwrap();
        assert_ne!(kept(&folder), merged);
        first.keep_merges(&[&merges]).unwrap();
        let again = open(&folder, b"a");
        let (whole, held, known) = again.whole(usize::MAX).unwrap();
        assert_eq!((whole.loaded(), held.loaded(), known), (Some(&counts), Some(&none), facts));
        let (whole, ..) = again.whole(0).unwrap();
        assert_eq!((whole.loaded(), whole.totals()), (None, counts.totals()), "it stays on the disk");
        let mut seen = Vec::new();
        let mut see = |word: &[u8], count| {
            seen.push((word.to_vec(), count));
            Ok(())
        };
        whole.each(&mut see).unwrap();
        assert_eq!(WordCounts::from_pairs(seen), Ok(counts));
        assert_eq!(again.merges(), merges);
        assert_eq!(again.counted(2), Counted::default());

        let path = folder.join("merges");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(again.merges(), Vec::new(), "damaged");
        assert!(open(&folder, b"other").whole(usize::MAX).is_none());
        remove(&folder).unwrap();
        remove(&folder).unwrap();
    }
}
