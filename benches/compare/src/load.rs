//! `load`: from the file to the first ids, and what is then resident.
//!
//! vocabd reads the file as it is published (`vocabd`) and its native form (`vocabd-native`, written by an untimed
//! process); Hugging Face's tokenizers reads the `tokenizer.json`. The file is in the page cache for all of them.

use crate::process::{self, answer, ask, median, rounded, status_mb};
use crate::{Failure, engines};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;
use vocabd::engine::{EncodeOptions, Scratch};
use vocabd::formats::{self, Format, ImportOptions};

/// What is encoded first; the time is that until its ids are there.
const FIRST: &str = "Hello, 世界! 1234 times; it's the first text.";

const ENGINES: [&str; 3] = ["vocabd", "vocabd-native", "tokenizers"];

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Vocabulary files.
    #[arg(long, required = true, num_args = 1..)]
    vocab: Vec<PathBuf>,
    /// Measurements of each.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One JSON line for each engine and vocabulary instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct OnceArgs {
    engine: String,
    file: PathBuf,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
struct Once {
    load_ms: f64,
    rss_mb: f64,
    ids: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Row {
    engine: &'static str,
    version: String,
    vocab: String,
    load_ms: f64,
    rss_mb: f64,
    ids_ok: bool,
}

pub fn compare(args: &LoadArgs) -> Result<(), Failure> {
    process::describe_machine();
    if !args.json {
        println!("{:<16} {:<14} {:>8} {:>8}  ids", "vocabulary", "engine", "ms", "MB");
    }
    for file in &args.vocab {
        let native = std::env::temp_dir().join(format!("compare-load-{}.vocabd", std::process::id()));
        let tokenizer = formats::import(&std::fs::read(file)?, None, &ImportOptions::default())?;
        std::fs::write(&native, formats::export(&tokenizer, Format::Native)?)?;
        drop(tokenizer);
        let is_hf = Format::detect(&std::fs::read(file)?) == Some(Format::Hf);
        let engines: Vec<&'static str> = ENGINES.into_iter().filter(|e| *e != "tokenizers" || is_hf).collect();
        let mut measured: Vec<Vec<Once>> = engines.iter().map(|_| Vec::new()).collect();
        for _ in 0..args.runs {
            for (engine, measured) in engines.iter().zip(&mut measured) {
                let file = if *engine == "vocabd-native" { &native } else { file };
                let words = ["load-once", engine, &file.to_string_lossy()].map(str::to_owned);
                measured.push(ask(&words)?);
            }
        }
        let reference = measured.last().and_then(|runs| runs.first()).map(|once| once.ids.clone());
        let vocab = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (engine, runs) in engines.into_iter().zip(measured) {
            let row = Row {
                engine,
                version: engines::version(engine.trim_end_matches("-native")),
                vocab: vocab.clone(),
                load_ms: rounded(median(runs.iter().map(|once| once.load_ms)), 1),
                rss_mb: rounded(median(runs.iter().map(|once| once.rss_mb)), 1),
                ids_ok: runs.iter().all(|once| Some(&once.ids) == reference.as_ref()),
            };
            if args.json {
                answer(&row)?;
            } else {
                let ok = if row.ids_ok { "same" } else { "DIFFER" };
                println!("{:<16.16} {engine:<14} {:>8.1} {:>8.1}  {ok}", row.vocab, row.load_ms, row.rss_mb);
            }
        }
        std::fs::remove_file(&native)?;
    }
    Ok(())
}

pub fn once(args: &OnceArgs) -> Result<(), Failure> {
    let begin = Instant::now();
    let (ids, load_ms, rss_mb) = match args.engine.as_str() {
        "tokenizers" => with_tokenizers(&args.file, begin)?,
        _ => with_vocabd(&args.file, begin)?,
    };
    answer(&Once { load_ms, rss_mb, ids })
}

type Measured = (Vec<u32>, f64, f64);

fn with_vocabd(file: &Path, begin: Instant) -> Result<Measured, Failure> {
    let bytes = std::fs::read(file)?;
    let tokenizer = formats::import(&bytes, None, &ImportOptions::default())?;
    drop(bytes);
    let ids = tokenizer.encode(FIRST, &EncodeOptions::default(), &mut Scratch::default())?.ids;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    Ok((ids, ms, status_mb("VmRSS")))
}

fn with_tokenizers(file: &Path, begin: Instant) -> Result<Measured, Failure> {
    let tokenizer = tokenizers::Tokenizer::from_file(file)?;
    let ids = tokenizer.encode_fast(FIRST, false)?.get_ids().to_vec();
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    Ok((ids, ms, status_mb("VmRSS")))
}
