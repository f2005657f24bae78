//! Commands that read the files of a vocabulary: import and inspect.

use super::{Failure, Outcome, open, print_line};
use crate::config::Config;
use crate::engine::Tokenizer;
use crate::fetch::hub::{self, Hub, HubError, HubRef};
use crate::fetch::{self, FetchError};
use crate::formats::naming::{self, Name};
use crate::formats::{Files, Format, ImportOptions};
use crate::registry::{AliasName, Provenance, Registry, VocabName, VocabRef};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads the name of a format.
pub(super) fn format_parser() -> impl TypedValueParser<Value = Format> {
    let known = |name: String| Format::from_name(&name).ok_or("is no format");
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(known)
}

/// What a file does not say of itself.
#[derive(Debug, Args)]
pub(super) struct FileOptions {
    /// Format of the files [default: told by their content and names].
    #[arg(long, value_parser = format_parser())]
    format: Option<Format>,
    /// Split pattern, for a file that does not hold it: a family name (gpt2, cl100k, o200k, qwen2, llama3, deepseek) or a regex.
    #[arg(long, value_name = "PATTERN")]
    split: Option<String>,
    /// Replace the split's number rule: single, group3 or run.
    #[arg(long)]
    digits: Option<String>,
    /// Normalizer: none, nfc, nfd, nfkc or nfkd.
    #[arg(long)]
    normalizer: Option<String>,
    /// A special token and its id; may be repeated.
    #[arg(long, value_name = "NAME=ID")]
    special: Vec<String>,
}

impl FileOptions {
    /// The options; those of a sidecar, which an export wrote beside the file, where no flag is given.
    fn read(&self, sidecar: Option<&Path>) -> Result<(Option<Format>, ImportOptions), Failure> {
        let mut options = ImportOptions {
            split: self.split.clone(),
            digits: self.digits.clone(),
            normalizer: self.normalizer.clone(),
            ..ImportOptions::default()
        };
        for special in &self.special {
            let parsed =
                special.rsplit_once('=').and_then(|(name, id)| Some((name.to_owned(), id.parse().ok()?)));
            let (name, id) =
                parsed.ok_or_else(|| Failure(format!("--special {special}: must be NAME=ID")))?;
            options.special.insert(name, id);
        }
        let Some(sidecar) = sidecar.filter(|_| self.format.is_none() && options == ImportOptions::default())
        else {
            return Ok((self.format, options));
        };
        let text = read_file(sidecar, MAX_SIDECAR_BYTES)?;
        let text =
            String::from_utf8(text).map_err(|_| Failure(format!("{}: is not UTF-8", sidecar.display())))?;
        let options = toml::from_str(&text).map_err(Failure::of(sidecar.display().to_string()))?;
        Ok((None, options))
    }
}

/// The largest sidecar.
const MAX_SIDECAR_BYTES: usize = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The vocabulary that gets the new version.
    name: String,
    /// A file (with those beside it that belong to it: `gpt2.encoder.json` to `gpt2.vocab.bpe`, `x.tokenizer_config.json`
    /// to `x.tokenizer.json`), a folder with the files of one vocabulary, an http(s) URL, or `hf://ORG/MODEL[@REVISION]`
    /// for the tokenizer of a model on the hub (variables `HF_ENDPOINT`, `HF_TOKEN`).
    #[arg(value_name = "FILE-OR-FOLDER-OR-URL")]
    source: String,
    #[command(flatten)]
    options: FileOptions,
    /// Alias to move to the version; may be repeated.
    #[arg(long)]
    alias: Vec<String>,
}

pub(super) async fn import(config: &Config, args: ImportArgs) -> Outcome {
    let name: VocabName = args.name.parse().map_err(Failure::of(&args.name))?;
    let aliases = aliases(&args.alias)?;
    let (tokenizer, from) = read(&args.source, &args.options, config.max_vocab_bytes).await?;
    let published = open::registry(config).await?.publish(&name, tokenizer, from, &aliases).await?;
    let facts = &published.facts;
    let state = if published.created { "new" } else { "there already" };
    print_line(&format!(
        "{}@{} {} ({} tokens, {state})",
        facts.name, facts.version, facts.digest, facts.tokens
    ))
}

pub(super) fn aliases(names: &[String]) -> Result<Vec<AliasName>, Failure> {
    names.iter().map(|a| a.parse().map_err(Failure::of(format!("--alias {a}")))).collect()
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// `name`, `name@3`, `name@alias`, or a file or folder as for import.
    #[arg(value_name = "REF-OR-FILE-OR-FOLDER")]
    what: String,
    #[command(flatten)]
    options: FileOptions,
}

pub(super) async fn inspect(config: &Config, args: InspectArgs) -> Outcome {
    let registry = open::registry_to_read(config).await?;
    let path = Path::new(&args.what);
    let wanted = args.what.parse::<VocabRef>();
    let published = || wanted.as_ref().is_ok_and(|wanted| registry.facts(Some(wanted)).is_ok());
    // A folder that happens to have the name of a vocabulary is meant only if there is none.
    if path.is_file() || (path.is_dir() && !published()) {
        let (tokenizer, mut from) = read(&args.what, &args.options, config.max_vocab_bytes).await?;
        from.source.clone_from(&args.what);
        // The facts of a file are those that it would be published with.
        let scratch =
            Registry::open(Arc::new(crate::store::Store::memory()), registry.settings().clone(), None)
                .await?;
        let facts = scratch.publish(&"file".parse()?, tokenizer, from, &[]).await?.facts;
        return print_line(&serde_json::to_string_pretty(&*facts)?);
    }
    let wanted = wanted.map_err(Failure::of(format!("{}: no file or folder, and", args.what)))?;
    let facts = registry.facts(Some(&wanted)).map_err(Failure::of(&args.what))?;
    print_line(&serde_json::to_string_pretty(&*facts)?)
}

/// What a source turned out to be.
struct Source {
    files: Files,
    /// How records name it.
    shown: String,
    sidecar: Option<PathBuf>,
}

/// The tokenizer at a source, and where it comes from.
async fn read(source: &str, options: &FileOptions, limit: usize) -> Result<(Tokenizer, Provenance), Failure> {
    // Faulty options are told before anything is fetched.
    options.read(None)?;
    let Source { files, shown, sidecar } = match source {
        _ if source.starts_with(hub::SCHEME) => from_hub(source, limit).await?,
        _ if is_url(source) => from_url(source, limit).await?,
        _ => from_path(Path::new(source), limit)?,
    };
    let (format, options) = options.read(sidecar.as_deref())?;
    let tokenizer = crate::formats::import_files(&files, format, &options).map_err(Failure::of(source))?;
    let format = naming::format_name(&files, format).to_owned();
    Ok((tokenizer, Provenance { format, source: shown, ..Provenance::default() }))
}

fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// The files of a model's tokenizer, with a bar on a terminal.
async fn from_hub(source: &str, limit: usize) -> Result<Source, Failure> {
    let model: HubRef = source.parse().map_err(Failure::of(source))?;
    let bar = ProgressBar::new(0).with_style(bytes_style());
    let seen = |progress: hub::Progress<'_>| {
        bar.set_message(progress.file.to_owned());
        bar.set_length(progress.total.unwrap_or(progress.bytes));
        bar.set_position(progress.bytes);
    };
    let fetched = Hub::from_env()?.fetch(&model, limit, naming::choose, seen).await;
    let fetched = fetched.map_err(|error| match error {
        HubError::TooLarge { limit, .. } => too_large(source, limit),
        error => Failure::of(source)(error),
    })?;
    bar.finish_and_clear();
    let mut files = Files::default();
    fetched.files.into_iter().for_each(|(name, bytes)| files.push(name, bytes));
    Ok(Source { files, shown: fetched.source.to_string(), sidecar: None })
}

/// What a URL gives, with a bar on a terminal.
async fn from_url(source: &str, limit: usize) -> Result<Source, Failure> {
    let bar = ProgressBar::new(0).with_style(bytes_style());
    let bytes = fetch::download(source, limit, |so_far, total| {
        bar.set_length(total.unwrap_or(so_far));
        bar.set_position(so_far);
    });
    let bytes = bytes.await.map_err(|error| match error {
        FetchError::TooLarge { limit } => too_large(source, limit),
        error => Failure::of(source)(error),
    })?;
    bar.finish_and_clear();
    let shown = fetch::file_name(source).to_owned();
    Ok(Source { files: Files::single(&shown, bytes), shown, sidecar: None })
}

/// A file with what belongs to it, or the vocabulary in a folder.
fn from_path(path: &Path, limit: usize) -> Result<Source, Failure> {
    let is_folder = path.is_dir();
    let named = if is_folder { path.canonicalize() } else { Ok(path.to_owned()) };
    let named = named.map_err(Failure::of(path.display()))?;
    let shown = named.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = if is_folder { Some(&*named) } else { named.parent() };
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = match is_folder {
        true => file_names(folder).map_err(Failure::of(path.display()))?,
        // A file can be read where its folder cannot.
        false => file_names(folder).unwrap_or_default(),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chosen = match is_folder {
        true => naming::choose(&names).map_err(Failure::of(path.display()))?,
        false => naming::beside(&shown, &names),
    };
    let (mut files, mut left) = (Files::default(), limit);
    for name in &chosen {
        let file = if is_folder || *name != shown { folder.join(name) } else { path.to_owned() };
        let bytes = read_at_most(&file, left)?.ok_or_else(|| too_large(path.display(), limit))?;
        left -= bytes.len();
        files.push(*name, bytes);
    }
    let stem = Some(Name::of(chosen[0]).stem).filter(|stem| !stem.is_empty());
    let stem = stem.unwrap_or(if is_folder { &shown } else { "tokenizer" });
    let inside = folder.join(format!("{stem}.toml"));
    let beside = is_folder.then(|| named.with_file_name(format!("{shown}.toml")));
    let sidecar = beside.into_iter().chain([inside]).find(|sidecar| sidecar.is_file());
    Ok(Source { files, shown, sidecar })
}

/// Names of the files in a folder, sorted.
fn file_names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && folder.join(&name).is_file()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn bytes_style() -> ProgressStyle {
    let template = "{msg:12} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    read_at_most(path, limit)?.ok_or_else(|| too_large(path.display(), limit))
}

/// `None` for a file that is longer.
fn read_at_most(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |e: std::io::Error| Failure(format!("{}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

fn too_large(source: impl std::fmt::Display, limit: usize) -> Failure {
    Failure(format!("{source}: has over {limit} bytes (setting max_vocab_bytes)"))
}
