//! Commands on versions in the store: export, encode, decode, count.

use super::{Failure, Outcome, open, print, print_line, write_file};
use crate::config::Config;
use crate::engine::{EncodeOptions, OnSpecial, Scratch, SpecialPolicy, TokenId};
use crate::formats::{Format, SIDECAR, tiktoken};
use crate::registry::{Registry, VocabRef};
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// `name`, `name@3` or `name@alias`.
    #[arg(value_name = "REF")]
    vocab: String,
    /// Format to write.
    #[arg(long, value_parser = super::import::format_parser())]
    format: Format,
    /// Where to write [default: standard output]: a file, which gets the main file of the format, or a folder (one that
    /// is there, or a path that ends in /), which gets all of them, such as `tokenizer.json` and `tokenizer_config.json`.
    /// What a tiktoken file cannot hold (split, special tokens) is written beside it as FILE with the extension .toml,
    /// which an import takes back, and as FILE with the extension .py, which loads both in Python.
    #[arg(long, short, value_name = "FILE-OR-FOLDER")]
    output: Option<PathBuf>,
}

pub(super) async fn export(config: &Config, args: ExportArgs) -> Outcome {
    let loaded = resolve(&open::registry_to_read(config).await?, Some(&args.vocab)).await?;
    let files = crate::formats::export_files(&loaded.tokenizer, args.format)?;
    let Some(path) = args.output else {
        return files.iter().next().map_or(Ok(()), |(_, bytes)| print(bytes));
    };
    if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        std::fs::create_dir_all(&path).map_err(Failure::of(path.display()))?;
        return files.iter().try_for_each(|(name, bytes)| write_file(&path.join(name), bytes));
    }
    if args.format == Format::Gpt2 {
        // The ids without the merges are no vocabulary.
        return Err(Failure(format!("{}: is no folder, and gpt2 has two files", path.display())));
    }
    let sidecar = files.iter().find(|(name, _)| *name == SIDECAR);
    let beside = path.with_extension("toml");
    if sidecar.is_some() && beside == path {
        return Err(Failure(format!(
            "{}: the sidecar would have the same name; name the file .tiktoken",
            path.display()
        )));
    }
    files.iter().next().map_or(Ok(()), |(_, bytes)| write_file(&path, bytes))?;
    let Some((_, sidecar)) = sidecar else { return Ok(()) };
    write_file(&beside, sidecar)?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match tiktoken::python(&loaded.tokenizer, &name) {
        Ok(module) => write_file(&path.with_extension("py"), module.as_bytes()),
        Err(_) => Ok(()),
    }
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

pub(super) async fn resolve(
    registry: &Registry,
    vocab: Option<&str>,
) -> Result<Arc<crate::registry::Loaded>, Failure> {
    let shown = vocab.map_or_else(|| registry.settings().default_vocab.to_string(), str::to_owned);
    let wanted: Option<VocabRef> = vocab.map(|v| v.parse().map_err(Failure::of(&shown))).transpose()?;
    registry.resolve(wanted.as_ref()).await.map_err(Failure::of(shown))
}

pub(super) fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|e| Failure(format!("standard input is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}
