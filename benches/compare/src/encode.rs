//! `encode`: speed on text that the process has not seen, after a warm-up on other text of the same kind.

use crate::Failure;
use crate::engines::{self, Vocabulary};
use crate::process::{self, median, rounded};
use crate::texts::{Corpus, mix};
use clap::{Args, ValueEnum};
use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mode {
    /// Documents of 2 to 10 KB, encoded one by one.
    Docs,
    /// All of them as one text.
    Big,
    /// The tokens of documents counted.
    Count,
    /// The ids of documents decoded to bytes.
    Decode,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Docs => "docs",
            Self::Big => "big",
            Self::Count => "count",
            Self::Decode => "decode",
        }
    }
}

#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A vocabulary file, or the name of one in --vocab-dir.
    #[arg(long, value_name = "NAME-OR-FILE")]
    vocab: String,
    /// Where names of vocabularies are looked up: a folder with NAME.tiktoken.
    #[arg(long, env = "VOCABD_BENCH_VOCABS", value_name = "DIR")]
    vocab_dir: Option<PathBuf>,
    /// Texts; each gives a line of its own per engine.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Text that warms every engine [default: the first half of each corpus, whose second half is then measured].
    #[arg(long, value_name = "FILE")]
    warmup: Option<PathBuf>,
    /// What is measured.
    #[arg(long, value_enum, default_value = "docs")]
    mode: Mode,
    /// Processes per engine; the figures are their median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Engines to compare [default: all that know the vocabulary].
    #[arg(long, num_args = 1.., value_parser = engines::ALL)]
    engine: Vec<String>,
    /// Print JSON, a line per engine and corpus, instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct OnceArgs {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    vocab: String,
    #[arg(long)]
    corpus: PathBuf,
    #[arg(long)]
    warmup: Option<PathBuf>,
    #[arg(long)]
    mode: Mode,
}

/// What one process found.
#[derive(Debug, Serialize, Deserialize)]
struct Once {
    mb_per_s: f64,
    core_share: f64,
    load_ms: f64,
    rss_mb: f64,
    /// Hash of all that was answered while the clock ran.
    answers: u64,
}

/// A line of the result.
#[derive(Debug, Serialize)]
struct Row<'a> {
    engine: &'a str,
    version: String,
    vocab: &'a str,
    corpus: String,
    mode: &'a str,
    mb_per_s: f64,
    min: f64,
    max: f64,
    /// Whether every run answered as the reference did; `None` where no reference took part.
    ids_ok: Option<bool>,
    load_ms: f64,
    rss_mb: f64,
    /// Share of the time for which the engine had the core: how quiet the machine was.
    core_share: f64,
}

/// Compares engines on every corpus.
pub fn compare(args: &EncodeArgs) -> Result<(), Failure> {
    let vocabulary = Vocabulary::find(&args.vocab, args.vocab_dir.as_deref())?;
    let wanted = |engine: &&str| args.engine.is_empty() || args.engine.iter().any(|e| e == engine);
    let taking_part: Vec<&str> =
        engines::ALL.into_iter().filter(wanted).filter(|e| engines::knows(e, &vocabulary)).collect();
    process::describe_machine();
    if !args.json {
        println!(
            "{:12} {:10} {:14} {:10} {:7} {:>8} {:>8} {:>8} {:>6} {:>8} {:>7} {:>10}",
            "engine",
            "version",
            "vocab",
            "corpus",
            "mode",
            "MB/s",
            "min",
            "max",
            "ids_ok",
            "load_ms",
            "rss_mb",
            "core_share"
        );
    }
    for corpus in &args.corpus {
        let mut found: Vec<Vec<Once>> = taking_part.iter().map(|_| Vec::new()).collect();
        for run in 0..args.runs.max(1) {
            for turn in 0..taking_part.len() {
                // Who was first is last in the next run.
                let at = if run % 2 == 0 { turn } else { taking_part.len() - 1 - turn };
                found[at].push(ask(taking_part[at], &vocabulary, corpus, args)?);
            }
        }
        let reference = taking_part.iter().position(|e| *e == engines::REFERENCE && taking_part.len() > 1);
        let right = reference.and_then(|at| found[at].first()).map(|once| once.answers);
        for (engine, runs) in taking_part.iter().zip(&found) {
            let speeds = || runs.iter().map(|once| once.mb_per_s);
            let row = Row {
                engine,
                version: engines::version(engine),
                vocab: &vocabulary.name,
                corpus: stem(corpus),
                mode: args.mode.name(),
                mb_per_s: rounded(median(speeds()), 1),
                min: rounded(speeds().fold(f64::INFINITY, f64::min), 1),
                max: rounded(speeds().fold(0.0, f64::max), 1),
                ids_ok: right.map(|right| runs.iter().all(|once| once.answers == right)),
                load_ms: rounded(median(runs.iter().map(|once| once.load_ms)), 1),
                rss_mb: rounded(median(runs.iter().map(|once| once.rss_mb)), 1),
                core_share: rounded(median(runs.iter().map(|once| once.core_share)), 2),
            };
            print(&row, args.json)?;
        }
    }
    Ok(())
}

fn print(row: &Row<'_>, json: bool) -> Result<(), Failure> {
    if json {
        return process::answer(row);
    }
    let ids_ok = row.ids_ok.map_or("-".to_owned(), |ok| ok.to_string());
    println!(
        "{:12} {:10} {:14} {:10} {:7} {:8.1} {:8.1} {:8.1} {:>6} {:8.1} {:7.1} {:10.2}",
        row.engine,
        row.version,
        row.vocab,
        row.corpus,
        row.mode,
        row.mb_per_s,
        row.min,
        row.max,
        ids_ok,
        row.load_ms,
        row.rss_mb,
        row.core_share
    );
    Ok(())
}

fn ask(engine: &str, vocabulary: &Vocabulary, corpus: &Path, args: &EncodeArgs) -> Result<Once, Failure> {
    let path = |path: &Path| path.display().to_string();
    let mut once = vec!["encode-once".to_owned(), "--engine".to_owned(), engine.to_owned()];
    once.extend(["--vocab".to_owned(), path(&vocabulary.file), "--corpus".to_owned(), path(corpus)]);
    once.extend(["--mode".to_owned(), args.mode.name().to_owned()]);
    if let Some(warmup) = &args.warmup {
        once.extend(["--warmup".to_owned(), path(warmup)]);
    }
    process::ask(&once)
}

/// One measurement, in this process.
pub fn once(args: &OnceArgs) -> Result<(), Failure> {
    let corpus = Corpus::read(&args.corpus, args.warmup.as_deref())?;
    let vocabulary = Vocabulary::find(&args.vocab, None)?;
    let one;
    let measured = match args.mode {
        Mode::Big => {
            one = corpus.measured.concat();
            vec![one.as_str()]
        }
        _ => corpus.measured,
    };
    let bytes: usize = measured.iter().map(|document| document.len()).sum();

    let rss_before = process::status_mb("VmRSS");
    let started = Instant::now();
    let mut engine = engines::load(&args.engine, &vocabulary)?;
    engine.encode("Hello, world")?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;

    for document in corpus.warm {
        match args.mode {
            Mode::Docs | Mode::Big => drop(engine.encode(document)?),
            Mode::Count => drop(engine.count(document)?),
            Mode::Decode => {
                let ids = engine.encode(document)?;
                engine.decode(&ids)?;
            }
        }
    }
    let rss_mb = process::status_mb("VmRSS") - rss_before;

    let mut clock = Clock::default();
    let mut answers = 0;
    for batch in measured.chunks(BATCH) {
        match args.mode {
            Mode::Docs | Mode::Big => {
                for ids in clock.time(batch, |document| engine.encode(document))? {
                    answers =
                        ids.iter().fold(mix(answers, ids.len() as u64), |hash, &id| mix(hash, id.into()));
                }
            }
            Mode::Count => {
                let counts = clock.time(batch, |document| engine.count(document))?;
                answers = counts.into_iter().fold(answers, |hash, count| mix(hash, count as u64));
            }
            Mode::Decode => {
                let ids =
                    batch.iter().map(|document| engine.encode(document)).collect::<Result<Vec<_>, _>>()?;
                for decoded in clock.time(&ids, |ids| engine.decode(ids))? {
                    answers = decoded.iter().fold(answers, |hash, &byte| mix(hash, byte.into()));
                }
            }
        }
    }
    process::answer(&Once {
        mb_per_s: bytes as f64 / 1e6 / clock.cpu.as_secs_f64(),
        core_share: clock.cpu.as_secs_f64() / clock.wall.as_secs_f64(),
        load_ms,
        rss_mb,
        answers,
    })
}

/// Documents between two looks at the clock, which costs as much as some hundred bytes of text.
const BATCH: usize = 32;

/// Time spent inside an engine; what is done with its answers is not counted.
#[derive(Default)]
struct Clock {
    /// Processor time of all threads. Unlike the wall's it does not count the times when others had the core.
    cpu: Duration,
    wall: Duration,
}

impl Clock {
    fn time<T, A>(
        &mut self,
        batch: &[T],
        mut work: impl FnMut(&T) -> Result<A, Failure>,
    ) -> Result<Vec<A>, Failure> {
        let mut done = Vec::with_capacity(batch.len());
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        for item in batch {
            done.push(work(item)?);
        }
        self.cpu += cpu.elapsed();
        self.wall += wall.elapsed();
        Ok(done)
    }
}

/// A file's name without folder and extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
