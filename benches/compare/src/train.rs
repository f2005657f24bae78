//! `train`: seconds from documents to a vocabulary, and whether all make the same merges.
//!
//! A document is what stands between two blank lines. vocabd reads them from the files, inside the clock; a peer gets
//! the same ones in memory, outside of it. Every figure is from a process of its own, engines take turns.

use crate::encode::stem;
use crate::process::{self, median, rounded};
use crate::{Failure, peers, synth, texts};
use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use vocabd::engine::Pattern;
use vocabd::formats::{self, Format};
use vocabd::jobs::{CorpusRequest, Learned, Records, TieBreakName, TrainRequest, train_files};

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
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Leave the peers out.
    #[arg(long)]
    alone: bool,
    /// Leave a peer out; may be repeated.
    #[arg(long, value_name = "ENGINE")]
    without: Vec<String>,
    /// Print JSON, a line per engine, instead of a table.
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
    /// A file is one document.
    #[arg(long)]
    whole: bool,
}

/// The rule for ties that each engine has; vocabd has both, and the slower one counts.
const PEERS: [(&str, &str); 3] = [("tokenizers", "hf"), ("rustbpe", "bytes"), ("ffbpe", "bytes")];
const TIE_BREAKS: [&str; 2] = ["hf", "bytes"];

/// What one process found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Once {
    version: String,
    seconds: f64,
    cpu_seconds: f64,
    /// By how much the process grew.
    peak_rss_mb: f64,
    merges: usize,
    /// Of the new tokens in order.
    digest: String,
}

/// A line of the result.
#[derive(Debug, Serialize)]
struct Row<'a> {
    engine: &'a str,
    version: String,
    corpus: String,
    bytes: u64,
    vocab_size: u32,
    split: &'a str,
    threads: usize,
    seconds: f64,
    cpu_seconds: f64,
    peak_rss_mb: f64,
    /// Whether the merges are the same as those of vocabd by the same rule; of vocabd, as those of tokenizers and rustbpe.
    merges_ok: Option<bool>,
    merges: usize,
    /// How many times as long as vocabd it takes.
    ratio: f64,
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
    let folder = process::Folder::new()?;
    let documents = folder.path().join("documents");
    let mut entries: Vec<(&str, &str)> = TIE_BREAKS.map(|tie_break| ("vocabd", tie_break)).to_vec();
    if !args.alone {
        write_documents(&args.corpus, &documents)?;
        entries.extend(PEERS.iter().filter(|(engine, _)| !args.without.iter().any(|left| left == engine)));
    }
    let mut found: BTreeMap<(&str, &str), Vec<Once>> = BTreeMap::new();
    for run in 0..args.runs.max(1) {
        let mut turn = entries.clone();
        if run % 2 == 1 {
            turn.reverse();
        }
        for entry in turn {
            let once = match entry.0 {
                "vocabd" => ask(entry, args),
                peer => ask_peer(peer, &documents, args),
            };
            match once {
                Ok(once) => found.entry(entry).or_default().push(once),
                Err(error) => eprintln!("{}: {error}", entry.0),
            }
        }
    }
    let digest = |entry| found.get(&entry).and_then(|runs| runs.first()).map(|once| once.digest.clone());
    let same = |engine, tie_break| Some(digest((engine, tie_break))? == digest(("vocabd", tie_break))?);
    let all = |runs: &[Once], of: fn(&Once) -> f64| median(runs.iter().map(of));
    let ours = TIE_BREAKS.iter().filter_map(|tie_break| found.get(&("vocabd", *tie_break)));
    let slower = ours.max_by(|a, b| all(a, |o| o.seconds).total_cmp(&all(b, |o| o.seconds)));
    let slower = slower.ok_or("vocabd did not train")?.clone();
    let base = all(&slower, |once| once.seconds);
    let rows = std::iter::once(("vocabd", &slower))
        .chain(PEERS.iter().filter_map(|entry| found.get(entry).map(|runs| (entry.0, runs))));
    if !args.json {
        println!(
            "{:11} {:8} {:12} {:>10} {:>7} {:>8} {:>8} {:>8} {:>6} {:>9}",
            "engine",
            "version",
            "corpus",
            "bytes",
            "threads",
            "seconds",
            "cpu_s",
            "peak_mb",
            "ratio",
            "merges_ok"
        );
    }
    for (engine, runs) in rows {
        let merges_ok = match PEERS.iter().find(|(peer, _)| *peer == engine) {
            Some((_, tie_break)) => same(engine, tie_break),
            None => match (same("tokenizers", "hf"), same("rustbpe", "bytes")) {
                (None, None) => None,
                (hf, bytes) => Some(hf.unwrap_or(true) && bytes.unwrap_or(true)),
            },
        };
        let seconds = all(runs, |once| once.seconds);
        let row = Row {
            engine,
            version: match engine {
                "vocabd" => peers::version(engine),
                _ => runs.first().map_or(String::new(), |once| once.version.clone()),
            },
            corpus: args.corpus.iter().map(|path| stem(path)).collect::<Vec<_>>().join("+"),
            bytes,
            vocab_size: args.vocab_size,
            split: &args.split,
            threads: args.threads,
            seconds: rounded(seconds, 3),
            cpu_seconds: rounded(all(runs, |once| once.cpu_seconds), 2),
            peak_rss_mb: rounded(all(runs, |once| once.peak_rss_mb), 1),
            merges_ok,
            merges: runs.first().map_or(0, |once| once.merges),
            ratio: rounded(seconds / base, 2),
        };
        if args.json {
            process::answer(&row)?;
            continue;
        }
        println!(
            "{:11} {:8} {:12} {:10} {:7} {:8.3} {:8.2} {:8.1} {:6.2} {:>9}",
            row.engine,
            row.version,
            row.corpus,
            row.bytes,
            row.threads,
            row.seconds,
            row.cpu_seconds,
            row.peak_rss_mb,
            row.ratio,
            row.merges_ok.map_or("-".to_owned(), |ok| ok.to_string())
        );
    }
    Ok(())
}

/// The documents of the files, as train_peers.py reads them.
fn write_documents(files: &[PathBuf], to: &Path) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::fs::File::create(to)?);
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for document in synth::paragraphs(&text) {
            out.write_all(&(document.len() as u32).to_le_bytes())?;
            out.write_all(document.as_bytes())?;
        }
    }
    Ok(out.flush()?)
}

fn ask((engine, tie_break): (&str, &str), args: &TrainArgs) -> Result<Once, Failure> {
    let mut once = ["train-once", "--engine", engine, "--tie-break", tie_break, "--split", &args.split]
        .map(str::to_owned)
        .to_vec();
    once.extend(["--vocab-size".to_owned(), args.vocab_size.to_string()]);
    once.extend(["--threads".to_owned(), args.threads.to_string(), "--corpus".to_owned()]);
    once.extend(args.corpus.iter().map(|path| path.display().to_string()));
    let mut command = Command::new(std::env::current_exe()?);
    // As the program has its allocator set (main.rs).
    command.args(once).env("MIMALLOC_PURGE_DELAY", "0");
    process::run(command)
}

fn ask_peer(engine: &str, documents: &Path, args: &TrainArgs) -> Result<Once, Failure> {
    let pattern = Pattern::parse(&args.split)?.plain();
    let [pattern] = pattern.regexes() else { return Err("it takes one regex as a split".into()) };
    let mut command = Command::new(peers::python()?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("train_peers.py"));
    command.arg(engine).arg(documents).arg(args.vocab_size.to_string()).arg(pattern);
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    process::run(command)
}

/// One training, in this process.
pub fn once(args: &OnceArgs) -> Result<(), Failure> {
    let before = measure::status_mb("VmRSS");
    let started = Instant::now();
    if args.engine != "vocabd" {
        return Err(format!("{} does not train", args.engine).into());
    }
    let learned = learn(args)?;
    let seconds = started.elapsed().as_secs_f64();
    let (cpu_seconds, peak) = (process::cpu_seconds(), measure::status_mb("VmHWM"));
    let tokenizer = learned.tokenizer();
    let mut digest = Sha256::new();
    for merge in tokenizer.merges() {
        let token = tokenizer.vocab().bytes(merge.id).unwrap_or_default();
        digest.update((token.len() as u32).to_le_bytes());
        digest.update(token);
    }
    process::answer(&Once {
        version: String::new(),
        seconds,
        cpu_seconds,
        peak_rss_mb: peak - before,
        merges: tokenizer.merges().len(),
        digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
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
        whole: true,
    };
    let native = formats::export(learn(&once)?.tokenizer(), Format::Native)?;
    Ok(std::fs::write(file, native)?)
}

/// The run that a job and the command line make.
fn learn(args: &OnceArgs) -> Result<Learned, Failure> {
    let tie_break = match args.tie_break.as_str() {
        "bytes" => TieBreakName::Bytes,
        _ => TieBreakName::Hf,
    };
    let records = if args.whole { Records::Whole } else { Records::Paragraphs };
    let request = TrainRequest {
        vocab_size: Some(args.vocab_size),
        split: Some(args.split.clone()),
        tie_break,
        // rustbpe and ffbpe have no least frequency; tokenizers is asked for 2.
        min_frequency: if tie_break == TieBreakName::Bytes { 1 } else { 2 },
        ..TrainRequest::new("compared".parse()?, CorpusRequest { records, ..CorpusRequest::default() })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let run = train_files(request, args.corpus.clone(), args.threads);
    Ok(runtime.block_on(run.watch(|_| {}))?)
}
