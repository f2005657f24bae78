//! `train`: seconds from files to a tokenizer, reading included.

use crate::encode::stem;
use crate::process::{self, median, rounded};
use crate::{Failure, peers, texts};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;
use vocabd::formats::{self, Format};
use vocabd::jobs::{CorpusRequest, Learned, TieBreakName, TrainRequest, train_files};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Files; together they are one corpus.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Tokens: 256 bytes and merges together.
    #[arg(long)]
    vocab_size: u32,
    /// Split pattern: a family name or a regex.
    #[arg(long, default_value = "cl100k")]
    split: String,
    /// Threads, for engines that take more than one.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Processes per engine and tie break; the figures are their median.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Print JSON, a line per engine and tie break, instead of a table.
    #[arg(long)]
    json: bool,
    /// Compare nothing: train on the half of each corpus that `encode` warms with, and write the vocabulary as vocabd's
    /// native file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OnceArgs {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    tie_break: String,
    #[arg(long, num_args = 1..)]
    corpus: Vec<PathBuf>,
    #[arg(long)]
    vocab_size: u32,
    #[arg(long)]
    split: String,
    #[arg(long)]
    threads: usize,
}

/// Who is compared, by tie break; merges can only be equal where that is the same.
const ENTRIES: [(&str, &str); 2] = [("vocabd", "hf"), ("vocabd", "bytes")];

/// What one process found.
#[derive(Debug, Serialize, Deserialize)]
struct Once {
    seconds: f64,
    cpu_seconds: f64,
    peak_rss_mb: f64,
    tokens: usize,
}

/// A line of the result.
#[derive(Debug, Serialize)]
struct Row<'a> {
    engine: &'a str,
    version: String,
    tie_break: &'a str,
    corpus: String,
    bytes: u64,
    vocab_size: usize,
    split: &'a str,
    threads: usize,
    seconds: f64,
    min: f64,
    max: f64,
    cpu_seconds: f64,
    peak_rss_mb: f64,
}

/// Compares trainers on one corpus.
pub fn compare(args: &TrainArgs) -> Result<(), Failure> {
    process::describe_machine();
    if let Some(file) = &args.save {
        return save(args, file);
    }
    let mut bytes = 0;
    for path in &args.corpus {
        bytes += std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
    }
    let mut found: Vec<Vec<Once>> = ENTRIES.iter().map(|_| Vec::new()).collect();
    for run in 0..args.runs.max(1) {
        for turn in 0..ENTRIES.len() {
            let at = if run % 2 == 0 { turn } else { ENTRIES.len() - 1 - turn };
            found[at].push(ask(ENTRIES[at], args)?);
        }
    }
    if !args.json {
        println!(
            "{:12} {:10} {:9} {:10} {:>10} {:>10} {:8} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "engine",
            "version",
            "tie_break",
            "corpus",
            "bytes",
            "vocab_size",
            "split",
            "threads",
            "seconds",
            "min",
            "max",
            "cpu_s",
            "peak_mb"
        );
    }
    for ((engine, tie_break), runs) in ENTRIES.into_iter().zip(&found) {
        let seconds = || runs.iter().map(|once| once.seconds);
        let row = Row {
            engine,
            version: peers::version(engine),
            tie_break,
            corpus: args.corpus.iter().map(|path| stem(path)).collect::<Vec<_>>().join("+"),
            bytes,
            // As it came out: a small corpus may end before the size that was asked for.
            vocab_size: runs.first().map_or(0, |once| once.tokens),
            split: &args.split,
            threads: args.threads,
            seconds: rounded(median(seconds()), 2),
            min: rounded(seconds().fold(f64::INFINITY, f64::min), 2),
            max: rounded(seconds().fold(0.0, f64::max), 2),
            cpu_seconds: rounded(median(runs.iter().map(|once| once.cpu_seconds)), 2),
            peak_rss_mb: rounded(median(runs.iter().map(|once| once.peak_rss_mb)), 1),
        };
        print(&row, args.json)?;
    }
    Ok(())
}

fn print(row: &Row<'_>, json: bool) -> Result<(), Failure> {
    if json {
        return process::answer(row);
    }
    println!(
        "{:12} {:10} {:9} {:10} {:10} {:10} {:8} {:7} {:8.2} {:8.2} {:8.2} {:8.2} {:8.1}",
        row.engine,
        row.version,
        row.tie_break,
        row.corpus,
        row.bytes,
        row.vocab_size,
        row.split,
        row.threads,
        row.seconds,
        row.min,
        row.max,
        row.cpu_seconds,
        row.peak_rss_mb
    );
    Ok(())
}

fn ask((engine, tie_break): (&str, &str), args: &TrainArgs) -> Result<Once, Failure> {
    let mut once = ["train-once", "--engine", engine, "--tie-break", tie_break, "--split", &args.split]
        .map(str::to_owned)
        .to_vec();
    once.extend(["--vocab-size".to_owned(), args.vocab_size.to_string()]);
    once.extend(["--threads".to_owned(), args.threads.to_string(), "--corpus".to_owned()]);
    once.extend(args.corpus.iter().map(|path| path.display().to_string()));
    process::ask(&once)
}

/// One training, in this process.
pub fn once(args: &OnceArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let tokens = match args.engine.as_str() {
        "vocabd" => vocabd(args)?,
        other => return Err(format!("{other} does not train").into()),
    };
    process::answer(&Once {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: process::cpu_seconds(),
        peak_rss_mb: measure::status_mb("VmHWM"),
        tokens,
    })
}

fn save(args: &TrainArgs, file: &Path) -> Result<(), Failure> {
    let folder = process::Folder::new()?;
    let mut halves = Vec::new();
    for corpus in &args.corpus {
        let half = folder.path().join(format!("{}.txt", stem(corpus)));
        std::fs::write(&half, texts::corpus(corpus, None)?.warm.concat())?;
        halves.push(half);
    }
    let once = OnceArgs {
        engine: "vocabd".to_owned(),
        tie_break: "hf".to_owned(),
        corpus: halves,
        vocab_size: args.vocab_size,
        split: args.split.clone(),
        threads: args.threads,
    };
    let native = formats::export(learn(&once)?.tokenizer(), Format::Native)?;
    Ok(std::fs::write(file, native)?)
}

/// The run that a job and the command line make; returns the number of tokens.
fn vocabd(args: &OnceArgs) -> Result<usize, Failure> {
    Ok(learn(args)?.tokenizer().vocab().len())
}

fn learn(args: &OnceArgs) -> Result<Learned, Failure> {
    let tie_break = match args.tie_break.as_str() {
        "bytes" => TieBreakName::Bytes,
        _ => TieBreakName::Hf,
    };
    let request = TrainRequest {
        vocab_size: Some(args.vocab_size),
        split: args.split.clone(),
        tie_break,
        ..TrainRequest::new("compared".parse()?, CorpusRequest::default())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let run = train_files(request, args.corpus.clone(), args.threads);
    Ok(runtime.block_on(run.watch(|_| {}))?)
}
