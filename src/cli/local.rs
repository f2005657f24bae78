//! Commands on vocabularies: import, export, encode, decode, count, inspect.

use super::{Failure, Outcome, open, print, print_line, write_file};
use crate::config::Config;
use crate::engine::{EncodeOptions, OnSpecial, Scratch, SpecialPolicy, TokenId};
use crate::fetch::{self, FetchError};
use crate::formats::{Format, ImportOptions};
use crate::registry::{AliasName, Provenance, Registry, VocabName, VocabRef};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A format by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FormatArg {
    /// The store's own.
    Native,
    /// `tokenizer.json`, with its `tokenizer_config.json`.
    Hf,
    /// `base64 rank` lines.
    Tiktoken,
    /// `vocab.json` and `merges.txt`.
    Gpt2,
    /// Mistral's `tekken.json`.
    Tekken,
    /// The tokenizer in a GGUF file.
    Gguf,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Native => Self::Native,
            FormatArg::Hf => Self::Hf,
            FormatArg::Tiktoken => Self::Tiktoken,
            FormatArg::Gpt2 => Self::Gpt2,
            FormatArg::Tekken => Self::Tekken,
            FormatArg::Gguf => Self::Gguf,
        }
    }
}

/// What a file does not say of itself.
#[derive(Debug, Args)]
pub(super) struct FileOptions {
    /// Format of the file [default: told by its content].
    #[arg(long)]
    format: Option<FormatArg>,
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
    fn read(&self) -> Result<(Option<Format>, ImportOptions), Failure> {
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
        Ok((self.format.map(Format::from), options))
    }

    /// The same for a file that may have a sidecar, which an export wrote beside it: taken where no flag is given.
    fn read_for(&self, source: &str) -> Result<(Option<Format>, ImportOptions), Failure> {
        let (format, options) = self.read()?;
        let sidecar = Path::new(source).with_extension("toml");
        if format.is_some() || options != ImportOptions::default() || is_url(source) || !sidecar.is_file() {
            return Ok((format, options));
        }
        let text = read_file(&sidecar, MAX_SIDECAR_BYTES)?;
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
    /// A file, or an http(s) URL.
    #[arg(value_name = "FILE-OR-URL")]
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
    let (format, options) = args.options.read_for(&args.source)?;
    let bytes = read_source(&args.source, config.max_vocab_bytes).await?;
    let tokenizer = crate::formats::import(&bytes, format, &options).map_err(Failure::of(&args.source))?;
    let format = format.or_else(|| Format::detect(&bytes)).map_or("unknown", Format::name);
    let source = name_of(&args.source).to_owned();
    let from = Provenance { format: format.to_owned(), source, ..Provenance::default() };
    let published = open::registry(config).await?.publish(&name, tokenizer, from, &aliases).await?;
    let facts = &published.facts;
    let state = if published.created { "new" } else { "there already" };
    print_line(&format!(
        "{}@{} {} ({} tokens, {state})",
        facts.name, facts.version, facts.digest, facts.tokens
    ))
}

/// The last part of a path or of a URL, without its query: that may hold a key, and the source of a version is public.
fn name_of(source: &str) -> &str {
    let path = if is_url(source) { source.split(['?', '#']).next().unwrap_or_default() } else { source };
    path.rsplit('/').next().unwrap_or_default()
}

fn is_url(source: &str) -> bool {
    source.contains("://")
}

pub(super) fn aliases(names: &[String]) -> Result<Vec<AliasName>, Failure> {
    names.iter().map(|a| a.parse().map_err(Failure::of(format!("--alias {a}")))).collect()
}

/// A file's bytes, or what a URL gives, with a bar on a terminal.
async fn read_source(source: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    if !is_url(source) {
        return read_file(Path::new(source), limit);
    }
    let bar = ProgressBar::new(0).with_style(bytes_style());
    let bytes = fetch::download(source, limit, |so_far, total| {
        bar.set_length(total.unwrap_or(so_far));
        bar.set_position(so_far);
    });
    let bytes = bytes.await.map_err(|e| match e {
        FetchError::TooLarge { limit } => too_large(source, limit),
        e => Failure::of(source)(e),
    })?;
    bar.finish_and_clear();
    Ok(bytes.to_vec())
}

pub(super) fn bytes_style() -> ProgressStyle {
    let template = "{msg:12} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure(format!("{}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(too_large(path.display(), limit));
    }
    Ok(bytes)
}

fn too_large(source: impl std::fmt::Display, limit: usize) -> Failure {
    Failure(format!("{source}: has over {limit} bytes (setting max_vocab_bytes)"))
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// `name`, `name@3` or `name@alias`.
    #[arg(value_name = "REF")]
    vocab: String,
    /// Format to write.
    #[arg(long)]
    format: FormatArg,
    /// Where to write [default: standard output]. What a format cannot hold (split, special tokens) is written beside
    /// it as FILE with the extension .toml, which an import takes back.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn export(config: &Config, args: ExportArgs) -> Outcome {
    let loaded = resolve(&open::registry_to_read(config).await?, Some(&args.vocab)).await?;
    let format = Format::from(args.format);
    let bytes = crate::formats::export(&loaded.tokenizer, format)?;
    let Some(path) = args.output else { return print(&bytes) };
    if format != Format::Tiktoken {
        return write_file(&path, &bytes);
    }
    let sidecar = path.with_extension("toml");
    if sidecar == path {
        return Err(Failure(format!(
            "{}: the sidecar would have the same name; name the file .tiktoken",
            path.display()
        )));
    }
    let options = toml::to_string(&crate::formats::sidecar(&loaded.tokenizer)?)?;
    write_file(&path, &bytes)?;
    write_file(&sidecar, options.as_bytes())
}

#[derive(Debug, Args)]
pub(super) struct EncodeArgs {
    /// The text [default: standard input].
    text: Option<String>,
    /// `name`, `name@3` or `name@alias` [default: setting `default_vocab`].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
    /// Take the names of special tokens in the text as those tokens.
    #[arg(long)]
    parse_special: bool,
    /// Print the tokens as text, one a line with its id, instead of a JSON array of ids.
    #[arg(long)]
    tokens: bool,
}

pub(super) async fn encode(config: &Config, args: EncodeArgs) -> Outcome {
    let text = match args.text {
        Some(text) => text,
        None => read_stdin()?,
    };
    let loaded = resolve(&open::registry_to_read(config).await?, args.vocab.as_deref()).await?;
    let others = if args.parse_special { OnSpecial::Parse } else { OnSpecial::Text };
    let options =
        EncodeOptions { special: SpecialPolicy { allowed: &[], others }, ..EncodeOptions::default() };
    let ids = loaded.tokenizer.encode(&text, &options, &mut Scratch::default())?.ids;
    if !args.tokens {
        return print_line(&serde_json::to_string(&ids)?);
    }
    let bytes = |id: &TokenId| loaded.tokenizer.token_bytes(*id).unwrap_or_default();
    let lines: Vec<String> =
        ids.iter().map(|id| format!("{id}\t{:?}\n", String::from_utf8_lossy(&bytes(id)))).collect();
    print(lines.concat().as_bytes())
}

#[derive(Debug, Args)]
pub(super) struct DecodeArgs {
    /// The ids [default: standard input, with spaces, commas or as a JSON array].
    #[arg(allow_negative_numbers = true)]
    ids: Vec<String>,
    /// `name`, `name@3` or `name@alias` [default: setting `default_vocab`].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
    /// Leave special tokens out.
    #[arg(long)]
    skip_special: bool,
}

pub(super) async fn decode(config: &Config, args: DecodeArgs) -> Outcome {
    let text = if args.ids.is_empty() { read_stdin()? } else { args.ids.join(" ") };
    let words =
        text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|w| !w.is_empty());
    let ids = words.enumerate().map(|(index, word)| {
        word.parse::<TokenId>()
            .map_err(|_| Failure(format!("{word} (id {index}) is not a whole number below 4294967296")))
    });
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let loaded = resolve(&open::registry_to_read(config).await?, args.vocab.as_deref()).await?;
    print(&loaded.tokenizer.decode_bytes(&ids, args.skip_special)?)
}

#[derive(Debug, Args)]
pub(super) struct CountArgs {
    /// Files [default: standard input].
    files: Vec<PathBuf>,
    /// `name`, `name@3` or `name@alias` [default: setting `default_vocab`].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
}

pub(super) async fn count(config: &Config, args: CountArgs) -> Outcome {
    let loaded = resolve(&open::registry_to_read(config).await?, args.vocab.as_deref()).await?;
    let mut scratch = Scratch::default();
    let mut count = |text: &str| loaded.tokenizer.count(text, &SpecialPolicy::default(), None, &mut scratch);
    if args.files.is_empty() {
        return print_line(&count(&read_stdin()?)?.tokens.to_string());
    }
    let mut total = 0;
    for path in &args.files {
        let text = std::fs::read_to_string(path).map_err(|e| Failure(format!("{}: {e}", path.display())))?;
        let tokens = count(&text).map_err(Failure::of(path.display()))?.tokens;
        total += tokens;
        print_line(&format!("{tokens}\t{}", path.display()))?;
    }
    if args.files.len() > 1 { print_line(&format!("{total}\ttotal")) } else { Ok(()) }
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// `name`, `name@3`, `name@alias`, or a file.
    #[arg(value_name = "REF-OR-FILE")]
    what: String,
    #[command(flatten)]
    options: FileOptions,
}

pub(super) async fn inspect(config: &Config, args: InspectArgs) -> Outcome {
    let registry = open::registry_to_read(config).await?;
    if Path::new(&args.what).is_file() {
        let (format, options) = args.options.read_for(&args.what)?;
        let bytes = read_file(Path::new(&args.what), config.max_vocab_bytes)?;
        let tokenizer = crate::formats::import(&bytes, format, &options).map_err(Failure::of(&args.what))?;
        // The facts of a file are those that it would be published with.
        let scratch =
            Registry::open(Arc::new(crate::store::Store::memory()), registry.settings().clone(), None)
                .await?;
        let format = format.or_else(|| Format::detect(&bytes)).map_or("unknown", Format::name).to_owned();
        let from = Provenance { format, source: args.what.clone(), ..Provenance::default() };
        let facts = scratch.publish(&"file".parse()?, tokenizer, from, &[]).await?.facts;
        return print_line(&serde_json::to_string_pretty(&*facts)?);
    }
    let wanted: VocabRef = args.what.parse().map_err(Failure::of(format!("{}: no file, and", args.what)))?;
    let facts = registry.facts(Some(&wanted)).map_err(Failure::of(&args.what))?;
    print_line(&serde_json::to_string_pretty(&*facts)?)
}

async fn resolve(registry: &Registry, vocab: Option<&str>) -> Result<Arc<crate::registry::Loaded>, Failure> {
    let shown = vocab.map_or_else(|| registry.settings().default_vocab.to_string(), str::to_owned);
    let wanted: Option<VocabRef> = vocab.map(|v| v.parse().map_err(Failure::of(&shown))).transpose()?;
    registry.resolve(wanted.as_ref()).await.map_err(Failure::of(shown))
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|e| Failure(format!("standard input is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}
