//! Vocabularies put into the import folder by hand: `NAME.EXT`, with what belongs to it beside it, or a folder `NAME`
//! with the files of one vocabulary; either with an optional sidecar `NAME.toml`. `formats::naming` says which files
//! belong together.
//!
//! Each becomes the next version of its name unless that name has its content already. One that cannot be taken is
//! reported and left where it is. Only regular files inside the folder are read, and nothing is written there.

use super::change::Draft;
use super::facts::Provenance;
use super::name::{AliasName, VocabName};
use super::{Failure, ReloadReport, Shared, off_thread};
use crate::engine::Tokenizer;
use crate::formats::naming::{self, Name};
use crate::formats::{self, Files, Format, FormatError, ImportOptions};
use crate::store::Digest;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder in the data directory.
const FOLDER: &str = "import";
/// Most bytes of the files of one vocabulary.
const MAX_FILES_BYTES: u64 = 1 << 30;
/// The largest sidecar read.
const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// What earlier looks at the folder found, so that a file that did not change is not read again.
pub(super) type Seen = HashMap<PathBuf, (Stamps, Finding)>;

/// Every file of a vocabulary: its own first, those that belong to it, and its sidecar.
type Stamps = Vec<(PathBuf, Stamp)>;

/// Identity, size and times of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// A vocabulary of that name whose canonical bytes have this digest.
    Content(VocabName, Digest),
    /// Nothing that can be taken, whatever the state of the store.
    Bad(String),
}

/// What may be a vocabulary: a file with those that belong to it, or a folder.
#[derive(Debug)]
struct Candidate {
    /// Of the file or the folder.
    path: PathBuf,
    /// Its name in the import folder.
    file: String,
    /// What it names its vocabulary.
    stem: String,
    /// The files, that of the vocabulary first; the last one is the sidecar, if there is one.
    stamps: Stamps,
    has_sidecar: bool,
}

/// `NAME.toml`: what a file does not say of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sidecar {
    format: Option<Format>,
    split: Option<String>,
    digits: Option<String>,
    normalizer: Option<String>,
    special: BTreeMap<String, u32>,
    /// Moved to the version that the file becomes.
    aliases: Vec<AliasName>,
}

/// The files of a vocabulary and its sidecar, read.
#[derive(Debug)]
struct Source {
    name: VocabName,
    format: Option<Format>,
    files: Files,
    sidecar: Sidecar,
    digest: Digest,
}

impl Shared {
    /// Publishes what is new in the import folder; the caller holds `changes`.
    pub(super) async fn take_imports(&self, seen: &mut Seen, report: &mut ReloadReport) {
        let Some(folder) = self.store.local_path().map(|root| root.join(FOLDER)) else { return };
        let (candidates, mut failed) = off_thread(move || candidates(&folder)).await;
        report.failed.append(&mut failed);
        seen.retain(|path, _| candidates.iter().any(|candidate| candidate.path == *path));
        for candidate in candidates {
            if let Some((stamps, finding)) = seen.get(&candidate.path)
                && *stamps == candidate.stamps
            {
                match finding {
                    Finding::Bad(problem) => {
                        report.fail(&candidate.shown(), problem);
                        continue;
                    }
                    Finding::Content(name, digest) if self.has(name, |facts| facts.digest == *digest) => {
                        report.unchanged += 1;
                        continue;
                    }
                    Finding::Content(..) => {}
                }
            }
            let (path, stamps, shown) = (candidate.path.clone(), candidate.stamps.clone(), candidate.shown());
            match self.take_import(candidate, report).await {
                Ok(finding) => {
                    seen.insert(path, (stamps, finding));
                }
                // The store refused, not the file: the next look tries again.
                Err(problem) => {
                    seen.remove(&path);
                    report.fail(&shown, problem);
                }
            }
        }
    }

    async fn take_import(&self, candidate: Candidate, report: &mut ReloadReport) -> Result<Finding, String> {
        let shown = candidate.shown();
        let source = match off_thread(move || candidate.read()).await {
            Ok(source) => source,
            Err(problem) => {
                report.fail(&shown, &problem);
                return Ok(Finding::Bad(problem));
            }
        };
        let (name, source_digest) = (source.name.clone(), source.digest);
        if let Some(known) = self.content_of(&name, &source_digest) {
            report.unchanged += 1;
            return Ok(Finding::Content(name, known));
        }
        let aliases = source.sidecar.aliases.clone();
        let (tokenizer, format) = match off_thread(move || source.import()).await {
            Ok(imported) => imported,
            Err(problem) => {
                report.fail(&shown, &problem);
                return Ok(Finding::Bad(problem));
            }
        };
        let draft = Draft::new(tokenizer).await;
        let known = self.has(&name, |facts| facts.digest == draft.digest());
        // A file whose content is there already, under another sidecar or from elsewhere, makes aliases but moves
        // none: where they are now somebody may have decided since.
        let existing = |alias: &AliasName| {
            let snapshot = self.snapshot.load();
            snapshot.vocabs.get(&name).is_some_and(|vocab| vocab.aliases.contains_key(alias))
        };
        let aliases: Vec<AliasName> =
            aliases.into_iter().filter(|alias| !known || !existing(alias)).collect();
        let from = Provenance {
            format: format.to_owned(),
            source: shown,
            source_digest: Some(source_digest),
            ..Provenance::default()
        };
        let published = self.publish_draft(&name, &draft, &from, &aliases).await;
        let published = published.map_err(|error| error.to_string())?;
        if published.created {
            report.loaded.push(name.at(published.facts.version));
        } else {
            report.unchanged += 1;
        }
        report.loaded.extend(aliases.iter().map(|alias| name.alias(alias)));
        Ok(Finding::Content(name, draft.digest()))
    }

    fn has(&self, name: &VocabName, wanted: impl Fn(&super::VersionFacts) -> bool) -> bool {
        let snapshot = self.snapshot.load();
        snapshot.vocabs.get(name).is_some_and(|vocab| vocab.slots.values().any(|slot| wanted(&slot.facts)))
    }

    /// The content of the version of `name` that was imported from just this file.
    fn content_of(&self, name: &VocabName, source: &Digest) -> Option<Digest> {
        let snapshot = self.snapshot.load();
        let mut slots = snapshot.vocabs.get(name)?.slots.values();
        slots.find(|slot| slot.facts.source_digest == Some(*source)).map(|slot| slot.facts.digest)
    }
}

/// What is in the folder that is to be taken, in order of the names, and what never can be.
fn candidates(folder: &Path) -> (Vec<Candidate>, Vec<Failure>) {
    let mut failed = Vec::new();
    let (files, folders) = entries(folder, FOLDER, &mut failed);
    let (files, folders): (Vec<&str>, Vec<&str>) =
        (files.iter().map(String::as_str).collect(), folders.iter().map(String::as_str).collect());
    let (sets, faults) = naming::sort(&files, &folders);
    failed.extend(faults.iter().map(|(file, problem)| failure(&format!("{FOLDER}/{file}"), problem)));
    let mut taken = Vec::new();
    for set in sets {
        let path = folder.join(set.main);
        let sidecar = set.sidecar.map(|sidecar| folder.join(sidecar));
        let files = if folders.binary_search(&set.main).is_ok() {
            files_in(folder, &path, set.main, &mut failed)
        } else {
            let beside = [set.main].into_iter().chain(set.companions);
            Ok((beside.map(|file| folder.join(file)).collect(), None))
        };
        let stamped = files.and_then(|(mut files, inner)| {
            let sidecar = sidecar.or(inner);
            let has_sidecar = sidecar.is_some();
            files.extend(sidecar);
            let stamp = |path: PathBuf| inside(folder, &path).map(|stamp| (path, stamp));
            Ok((files.into_iter().map(stamp).collect::<Result<Stamps, _>>()?, has_sidecar))
        });
        let (file, stem) = (set.main.to_owned(), set.stem.to_owned());
        match stamped {
            Ok((stamps, has_sidecar)) => taken.push(Candidate { path, file, stem, stamps, has_sidecar }),
            Err(problem) => failed.push(failure(&format!("{FOLDER}/{file}"), &problem)),
        }
    }
    (taken, failed)
}

/// Names of the files and of the folders in a folder, each sorted; what is not finished yet is passed over.
fn entries(folder: &Path, shown: &str, failed: &mut Vec<Failure>) -> (Vec<String>, Vec<String>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let Ok(entries) = std::fs::read_dir(folder) else { return (files, folders) };
    for entry in entries.flatten() {
        match entry.file_name().into_string() {
            Ok(name) if is_temporary(&name) => {}
            Ok(name) if folder.join(&name).is_dir() => folders.push(name),
            Ok(name) => files.push(name),
            Err(_) => failed.push(failure(shown, "a file's name is not valid UTF-8")),
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    (files, folders)
}

/// The files of the vocabulary in a folder of its own, and the sidecar in there.
fn files_in(
    root: &Path,
    folder: &Path,
    name: &str,
    failed: &mut Vec<Failure>,
) -> Result<(Vec<PathBuf>, Option<PathBuf>), String> {
    within(root, folder)?;
    let (files, _) = entries(folder, &format!("{FOLDER}/{name}"), failed);
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let chosen = naming::choose(&names).map_err(|error| error.to_string())?;
    let stem = Some(Name::of(chosen[0]).stem).filter(|stem| !stem.is_empty()).unwrap_or(name);
    let sidecar = format!("{stem}.toml");
    let sidecar = names.contains(&sidecar.as_str()).then(|| folder.join(sidecar));
    Ok((chosen.into_iter().map(|file| folder.join(file)).collect(), sidecar))
}

fn failure(what: &str, problem: &str) -> Failure {
    Failure { what: what.to_owned(), problem: problem.to_owned() }
}

/// Names that editors, browsers and copying programs give to what is not finished.
fn is_temporary(file: &str) -> bool {
    const ENDINGS: [&str; 7] = ["~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp"];
    file.starts_with(['.', '#']) || ENDINGS.iter().any(|ending| file.ends_with(ending))
}

/// The stamp of a regular file that lies in the folder, be it through a link within the folder (as a mounted
/// Kubernetes volume has them).
fn inside(folder: &Path, path: &Path) -> Result<Stamp, String> {
    let metadata = within(folder, path)?.symlink_metadata().map_err(|_| "it cannot be read".to_owned())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    Ok(Stamp::of(&metadata))
}

/// Where a path leads, which must be in the folder.
fn within(folder: &Path, path: &Path) -> Result<PathBuf, String> {
    let cannot = |_| "it cannot be read".to_owned();
    let (folder, path) = (folder.canonicalize().map_err(cannot)?, path.canonicalize().map_err(cannot)?);
    if path.starts_with(folder) {
        Ok(path)
    } else {
        Err("it is a link that leads out of the folder".to_owned())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Candidate {
    fn shown(&self) -> String {
        format!("{FOLDER}/{}", self.file)
    }

    fn read(&self) -> Result<Source, String> {
        let name = self.stem.parse::<VocabName>().map_err(|error| error.to_string())?;
        let (files, sidecar) = self.stamps.split_at(self.stamps.len() - usize::from(self.has_sidecar));
        let sidecar = match sidecar {
            [(path, stamp)] => read_file(path, *stamp, MAX_SIDECAR_BYTES)?,
            _ => Vec::new(),
        };
        let total = files.iter().fold(0_u64, |sum, (_, stamp)| sum.saturating_add(stamp.bytes));
        if total > MAX_FILES_BYTES {
            return Err(format!("it has {total} bytes; {MAX_FILES_BYTES} are taken at most"));
        }
        let mut read = Files::default();
        for (path, stamp) in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            read.push(name, read_file(path, *stamp, MAX_FILES_BYTES)?);
        }
        let digest = source_digest(&sidecar, &read);
        let text = std::str::from_utf8(&sidecar).map_err(|_| "its sidecar is not UTF-8".to_owned())?;
        let sidecar: Sidecar = toml::from_str(text)
            .map_err(|error| format!("its sidecar cannot be read: {}", error.message()))?;
        let main = read.iter().next().map(|(name, _)| name).unwrap_or_default();
        let format = sidecar.format.or(Name::of(main).role.format());
        Ok(Source { name, format, files: read, sidecar, digest })
    }
}

/// Of everything that a vocabulary is made from.
fn source_digest(sidecar: &[u8], files: &Files) -> Digest {
    let length = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes().to_vec();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name, &bytes[..])).collect();
    match files[..] {
        // One file, as it always was.
        [(_, file)] => Digest::of_parts([&length(sidecar), sidecar, file]),
        // No sidecar has this length, so that no single file has the digest of several.
        _ => {
            let mut lengths = vec![u64::MAX.to_le_bytes().to_vec(), length(sidecar)];
            let parts = files.iter().flat_map(|(name, bytes)| [name.as_bytes(), *bytes]);
            lengths.extend(parts.clone().map(length));
            Digest::of_parts(lengths.iter().map(Vec::as_slice).chain([sidecar]).chain(parts))
        }
    }
}

impl Source {
    /// The tokenizer, and the name of the format that it was in.
    fn import(self) -> Result<(Tokenizer, &'static str), String> {
        let Sidecar { split, digits, normalizer, special, .. } = self.sidecar;
        let options = ImportOptions { split, digits, normalizer, special };
        let tokenizer = formats::import_files(&self.files, self.format, &options);
        let tokenizer = tokenizer.map_err(|error| match error {
            FormatError::Unknown => {
                "neither its extension, its content nor a sidecar says its format".to_owned()
            }
            error => error.to_string(),
        })?;
        Ok((tokenizer, naming::format_name(&self.files, self.format)))
    }
}

/// A whole file, if it is still the one that was looked at and does not change while it is read: one that is being
/// copied in is left for the next look.
fn read_file(path: &Path, stamp: Stamp, limit: u64) -> Result<Vec<u8>, String> {
    if stamp.bytes > limit {
        return Err(format!("it has {} bytes; {limit} are taken at most", stamp.bytes));
    }
    let cannot = "it cannot be read";
    let path = path.canonicalize().map_err(|_| cannot)?;
    // Neither a link nor a pipe put in its place since can lead elsewhere or make us wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(&path, flags, Mode::empty()).map_err(|_| cannot)?);
    let still = |file: &File| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && Stamp::of(&metadata) == stamp)
    };
    let mut bytes = Vec::new();
    let unchanged = still(&file)
        && (&file).take(stamp.bytes + 1).read_to_end(&mut bytes).map_err(|_| cannot)? as u64 == stamp.bytes
        && still(&file);
    if unchanged { Ok(bytes) } else { Err("it changed while it was read".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_files_are_passed_over() {
        for file in [".zh.tiktoken.swp", "zh.tiktoken~", "zh.tiktoken.part", "#zh.tiktoken#", ".tiktoken"] {
            assert!(is_temporary(file), "{file}");
        }
        assert!(!is_temporary("zh.tiktoken"));
    }
}
