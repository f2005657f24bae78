//! Vocabularies put into the import folder by hand: `NAME.EXT`, with an optional sidecar `NAME.toml` beside it.
//!
//! Each file becomes the next version of its name unless that name has its content already. One that cannot be taken
//! is reported and left where it is. Only regular files inside the folder are read, and nothing is written there.

use super::change::Draft;
use super::facts::Provenance;
use super::name::{AliasName, VocabName};
use super::{Failure, ReloadReport, Shared, off_thread};
use crate::engine::Tokenizer;
use crate::formats::{self, Format, ImportOptions};
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
/// The largest file read.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The largest sidecar read.
const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// What earlier looks at the folder found, so that a file that did not change is not read again.
pub(super) type Seen = HashMap<PathBuf, (Stamps, Finding)>;

/// Identity, size and times of a file and of its sidecar.
type Stamps = (Stamp, Option<Stamp>);

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

/// A file that may be a vocabulary.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    /// Its name in the folder.
    file: String,
    sidecar: Option<PathBuf>,
    stamps: Stamps,
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

/// A file and its sidecar, read.
#[derive(Debug)]
struct Source {
    name: VocabName,
    format: Option<Format>,
    bytes: Vec<u8>,
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
            let (path, stamps, shown) = (candidate.path.clone(), candidate.stamps, candidate.shown());
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
            format: format.name().to_owned(),
            source: shown,
            source_digest: Some(source_digest),
            training: None,
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

/// The files in the folder that are to be taken, in order of their names, and those that never can be.
fn candidates(folder: &Path) -> (Vec<Candidate>, Vec<Failure>) {
    let mut failed = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return (Vec::new(), failed) };
    let mut files: Vec<String> = Vec::new();
    for entry in entries.flatten() {
        match entry.file_name().into_string() {
            Ok(file) if is_temporary(&file) => {}
            Ok(file) => files.push(file),
            Err(_) => failed.push(failure(FOLDER, "a file's name is not valid UTF-8")),
        }
    }
    files.sort_unstable();
    let mut taken = Vec::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for file in files.iter().filter(|file| !file.ends_with(".toml")) {
        let shown = format!("{FOLDER}/{file}");
        let (stem, _) = stem_and_format(file);
        if let Some(other) = names.insert(stem, file) {
            failed.push(failure(&shown, &format!("{FOLDER}/{other} has the same name")));
            continue;
        }
        let sidecar = format!("{stem}.toml");
        let sidecar = files.binary_search(&sidecar).is_ok().then(|| folder.join(sidecar));
        let path = folder.join(file);
        let stamps = inside(folder, &path).and_then(|main| {
            Ok((main, sidecar.as_deref().map(|sidecar| inside(folder, sidecar)).transpose()?))
        });
        match stamps {
            Ok(stamps) => taken.push(Candidate { path, file: file.clone(), sidecar, stamps }),
            Err(problem) => failed.push(failure(&shown, &problem)),
        }
    }
    for sidecar in files.iter().filter_map(|file| file.strip_suffix(".toml")) {
        if !names.contains_key(sidecar) {
            failed
                .push(failure(&format!("{FOLDER}/{sidecar}.toml"), "there is no vocabulary file beside it"));
        }
    }
    (taken, failed)
}

fn failure(what: &str, problem: &str) -> Failure {
    Failure { what: what.to_owned(), problem: problem.to_owned() }
}

/// Names that editors, browsers and copying programs give to what is not finished.
fn is_temporary(file: &str) -> bool {
    const ENDINGS: [&str; 7] = ["~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp"];
    file.starts_with(['.', '#']) || ENDINGS.iter().any(|ending| file.ends_with(ending))
}

/// The name that a file gives its vocabulary, and its format: it ends before the first extension that is known.
fn stem_and_format(file: &str) -> (&str, Option<Format>) {
    for (at, _) in file.match_indices('.').filter(|(at, _)| *at > 0) {
        let extension = file[at + 1..].split('.').next().unwrap_or_default();
        let known = |format: &Format| extension == format.extension() || extension == format.name();
        if let Some(format) = Format::ALL.into_iter().find(known) {
            return (&file[..at], Some(format));
        }
    }
    (file.rsplit_once('.').map_or(file, |(stem, _)| stem), None)
}

/// The stamp of a regular file that lies in the folder, be it through a link within the folder (as a mounted
/// Kubernetes volume has them).
fn inside(folder: &Path, path: &Path) -> Result<Stamp, String> {
    let cannot = |_| "it cannot be read".to_owned();
    let (folder, path) = (folder.canonicalize().map_err(cannot)?, path.canonicalize().map_err(cannot)?);
    if !path.starts_with(folder) {
        return Err("it is a link that leads out of the folder".to_owned());
    }
    let metadata = path.symlink_metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    Ok(Stamp::of(&metadata))
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
        let (stem, format) = stem_and_format(&self.file);
        let name = stem.parse::<VocabName>().map_err(|error| error.to_string())?;
        let sidecar = match (&self.sidecar, self.stamps.1) {
            (Some(path), Some(stamp)) => read_file(path, stamp, MAX_SIDECAR_BYTES)?,
            _ => Vec::new(),
        };
        let bytes = read_file(&self.path, self.stamps.0, MAX_FILE_BYTES)?;
        let digest = Digest::of_parts([&(sidecar.len() as u64).to_le_bytes()[..], &sidecar, &bytes]);
        let text = std::str::from_utf8(&sidecar).map_err(|_| "its sidecar is not UTF-8".to_owned())?;
        let sidecar: Sidecar = toml::from_str(text)
            .map_err(|error| format!("its sidecar cannot be read: {}", error.message()))?;
        let format = sidecar.format.or(format);
        if format.is_none() && Format::detect(&bytes).is_none() {
            return Err("neither its extension, its content nor a sidecar says its format".to_owned());
        }
        Ok(Source { name, format, bytes, sidecar, digest })
    }
}

impl Source {
    fn import(self) -> Result<(Tokenizer, Format), String> {
        let Sidecar { split, digits, normalizer, special, .. } = self.sidecar;
        let options = ImportOptions { split, digits, normalizer, special };
        let format = self.format.or_else(|| Format::detect(&self.bytes)).unwrap_or(Format::Native);
        let tokenizer =
            formats::import(&self.bytes, Some(format), &options).map_err(|error| error.to_string())?;
        Ok((tokenizer, format))
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
    fn the_name_ends_before_the_first_known_extension() {
        #[track_caller]
        fn check(file: &str, stem: &str, format: Option<Format>) {
            assert_eq!(stem_and_format(file), (stem, format), "{file}");
        }
        check("zh-32k.tiktoken", "zh-32k", Some(Format::Tiktoken));
        check("zh.32k.tiktoken", "zh.32k", Some(Format::Tiktoken));
        check("zh.tiktoken.native", "zh", Some(Format::Tiktoken));
        check("zh.native", "zh", Some(Format::Native));
        check("zh.vocabd", "zh", Some(Format::Native));
        check("zh.bin", "zh", None);
        check("zh", "zh", None);
    }

    #[test]
    fn unfinished_files_are_passed_over() {
        for file in [".zh.tiktoken.swp", "zh.tiktoken~", "zh.tiktoken.part", "#zh.tiktoken#", ".tiktoken"] {
            assert!(is_temporary(file), "{file}");
        }
        assert!(!is_temporary("zh.tiktoken"));
    }
}
