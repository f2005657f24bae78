//! `model`: cards of base models.

use super::{Failure, Outcome, complain, print, print_line, write_file};
use crate::config::Config;
use crate::models::card::{Card, VocabSource};
use crate::models::derive::Derived;
use crate::models::import::{Naming, from_config};
use crate::models::{Model, Models};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// List the models that there are cards of, as a table.
    List,
    /// Show a model's card and what follows from it, as JSON.
    Show(ShowArgs),
    /// Make a card of a Hugging Face config.json; put it into the folder of the setting `models_dir`.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Its name.
    name: String,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The config.json of the model.
    #[arg(value_name = "CONFIG")]
    file: PathBuf,
    /// Name of the card [default: that of the model in the config, else of the folder that the config is in].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its vocabulary, `name`, `name@3` or `name@alias` [default: the name of the card].
    #[arg(long, value_name = "REF")]
    vocab: Option<String>,
    /// Where the vocabulary can be imported from, `hf://ORG/MODEL` or a URL.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// File to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The largest config.json that is read; published ones have some kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

pub(super) fn model(config: &Config, args: &ModelArgs) -> Outcome {
    match &args.command {
        ModelCommand::List => list(&Models::with_folder(&config.models_dir())),
        ModelCommand::Show(args) => show(&Models::with_folder(&config.models_dir()), &args.name),
        ModelCommand::Import(args) => import(args),
    }
}

fn list(models: &Models) -> Outcome {
    print_line(&format!(
        "{:<20} {:>10} {:>10} {:>9} {:>9} {:>8}  {}",
        "model", "parameters", "active", "context", "KV/token", "tokens", "vocabulary"
    ))?;
    models.iter().try_for_each(|model| print_line(&line(model)))?;
    for refused in &models.failed {
        complain(&format!("{}: {}", refused.file, refused.problem));
    }
    Ok(())
}

fn line(model: &Model) -> String {
    let Model { card, derived, .. } = model;
    let tokens = card.training_data.as_ref().and_then(|data| data.tokens);
    format!(
        "{:<20} {:>10} {:>10} {:>9} {:>9} {:>8}  {}",
        card.name,
        short(derived.parameters),
        short(derived.active_parameters),
        card.context_length.map_or_else(|| "?".to_owned(), |length| length.to_string()),
        derived.kv_bytes_per_token.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string()),
        short(tokens),
        card.vocab.reference,
    )
}

/// Three digits and a letter; a question mark for what is not known.
fn short(number: Option<u64>) -> String {
    let Some(number) = number else { return "?".to_owned() };
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let number = number as f64;
    let (by, unit) = units.into_iter().find(|(by, _)| number >= *by).unwrap_or((1.0, ""));
    let digits = match number / by {
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    format!("{:.digits$}{unit}", number / by)
}

fn show(models: &Models, name: &str) -> Outcome {
    let Some(model) = models.get(name) else {
        let near = models.near(name);
        let near =
            if near.is_empty() { String::new() } else { format!("; near ones are {}", near.join(", ")) };
        return Err(Failure(format!("there is no card of such a model{near}")));
    };
    let Model { card, derived, own } = &**model;
    let import_command = card.import_command();
    let shown = Shown { name, vocab: &card.vocab.reference, import_command, own: *own, card, derived };
    print_line(&serde_json::to_string_pretty(&shown)?)
}

/// What `GET /models/{name}` answers, but for what a store has.
#[derive(Debug, Serialize)]
struct Shown<'m> {
    name: &'m str,
    vocab: &'m str,
    import_command: Option<String>,
    own: bool,
    card: &'m Card,
    derived: &'m Derived,
}

fn import(args: &ImportArgs) -> Outcome {
    let named = args.file.display();
    let mut text = String::new();
    let file = File::open(&args.file).map_err(Failure::of(&named))?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(Failure::of(&named))?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Failure(format!("{}: has over {MAX_CONFIG_BYTES} bytes", args.file.display())));
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => own_name(&args.file, &text).ok_or_else(|| {
            Failure(format!("{}: the config names no model; name the card with --name", args.file.display()))
        })?,
    };
    let vocab = VocabSource {
        reference: args.vocab.clone().unwrap_or_else(|| name.clone()),
        source: args.source.clone(),
    };
    let from = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let card = from_config(&text, Naming { name, vocab, from }).map_err(Failure::of(&named))?;
    let made = card.to_toml();
    match &args.output {
        Some(output) => write_file(output, made.as_bytes()),
        None => print(made.as_bytes()),
    }
}

/// The last part of the model's name in the config, else the name of the config's folder, as a card may be called.
fn own_name(path: &Path, config: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let named = config["_name_or_path"].as_str().filter(|name| !name.is_empty());
    let folder = path.canonicalize().ok();
    let folder = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
    let name = match named {
        Some(name) => name.trim_end_matches('/').rsplit('/').next()?.to_owned(),
        None => folder?.to_str()?.to_owned(),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c.to_ascii_lowercase() } else { '-' }
    };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    (!name.is_empty()).then(|| name.to_owned())
}
