//! `load`: from the file to the first ids, and by how much the process has grown then.
//!
//! Every engine reads what it would be given: vocabd the file as it is published (`vocabd`) and its native form
//! (`vocabd-native`). The file is in the page cache for all of them.

use crate::Failure;
use crate::peers::{self, Runner};
use crate::process::{self, answer, median, rounded};
use crate::vocabulary::Vocabulary;
use clap::Args;
use measure::{Documents, Mode, Once, Task};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Vocabulary files, or names of some in --vocab-dir.
    #[arg(long, required = true, num_args = 1..)]
    vocab: Vec<String>,
    /// Where names of vocabularies are looked up.
    #[arg(long, env = "VOCABD_BENCH_VOCABS", value_name = "DIR")]
    vocab_dir: Option<PathBuf>,
    /// Measurements of each.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Engines to compare [default: all that can].
    #[arg(long, num_args = 1..)]
    engine: Vec<String>,
    /// One JSON line for each engine and vocabulary instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    engine: &'a str,
    version: String,
    vocab: &'a str,
    mode: &'a str,
    load_ms: f64,
    min: f64,
    max: f64,
    rss_mb: f64,
    ids_ok: Option<bool>,
}

/// Compares engines on every vocabulary.
pub fn compare(args: &LoadArgs) -> Result<(), Failure> {
    process::describe_machine();
    let folder = process::Folder::new()?;
    let runner = Runner::new(None);
    let documents = folder.path().join("none");
    Documents::default().write(&documents)?;
    if !args.json {
        println!("{:<16} {:<14} {:>8} {:>8}  ids", "vocabulary", "engine", "ms", "MB");
    }
    for vocab in &args.vocab {
        let vocabulary = Vocabulary::prepare(vocab, args.vocab_dir.as_deref(), folder.path())?;
        let mut tasks = Vec::new();
        for engine in std::iter::once("vocabd-native").chain(peers::ALL) {
            if !args.engine.is_empty() && !args.engine.iter().any(|e| e == engine) {
                continue;
            }
            match peers::source(engine, &vocabulary) {
                Ok(file) => tasks.push(Task {
                    engine: engine.to_owned(),
                    file,
                    name: vocabulary.name.clone(),
                    pattern: vocabulary.pattern.clone(),
                    mode: Mode::Load,
                    documents: documents.clone(),
                    threads: 1,
                }),
                Err(reason) => eprintln!("compare: {engine} sits out: {reason}"),
            }
        }
        let mut found: Vec<Result<Vec<Once>, Failure>> = tasks.iter().map(|_| Ok(Vec::new())).collect();
        for _ in 0..args.runs.max(1) {
            for (task, found) in tasks.iter().zip(&mut found) {
                let Ok(runs) = found else { continue };
                match runner.ask(task) {
                    Ok(once) => runs.push(once),
                    Err(failure) => *found = Err(failure),
                }
            }
        }
        let reference = tasks.iter().position(|task| task.engine == peers::reference(&vocabulary));
        let right =
            reference.and_then(|at| found[at].as_ref().ok()?.first().map(|once| once.answers.clone()));
        for (task, runs) in tasks.iter().zip(&found) {
            let runs = match runs {
                Ok(runs) => runs,
                Err(failure) => {
                    eprintln!("compare: {} failed: {failure}", task.engine);
                    continue;
                }
            };
            let times = || runs.iter().map(|once| once.load_ms);
            let row = Row {
                engine: &task.engine,
                version: peers::version(&task.engine),
                vocab: &vocabulary.name,
                mode: "load",
                load_ms: rounded(median(times()), 1),
                min: rounded(times().fold(f64::INFINITY, f64::min), 1),
                max: rounded(times().fold(0.0, f64::max), 1),
                rss_mb: rounded(median(runs.iter().map(|once| once.rss_mb)), 1),
                ids_ok: right.as_ref().map(|right| runs.iter().all(|once| once.answers == *right)),
            };
            if args.json {
                answer(&row)?;
            } else {
                let ok = row.ids_ok.map_or("-", |ok| if ok { "same" } else { "DIFFER" });
                println!(
                    "{:<16.16} {:<14} {:>8.1} {:>8.1}  {ok}",
                    row.vocab, row.engine, row.load_ms, row.rss_mb
                );
            }
        }
    }
    Ok(())
}
