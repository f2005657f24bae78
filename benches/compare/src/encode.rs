//! `encode`: speed on text that the process has not seen, after a warm-up on other text of the same kind.

use crate::peers::{self, AGAINST, Runner};
use crate::process::{self, median, rounded};
use crate::vocabulary::Vocabulary;
use crate::{Failure, texts, worst};
use clap::{Args, ValueEnum};
use measure::{Documents, Mode, Once, Task};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measured {
    /// Documents of 2 to 10 KB, encoded one by one.
    Docs,
    /// All of them as one text.
    Big,
    /// The tokens of documents counted.
    Count,
    /// The ids of documents decoded to bytes.
    Decode,
    /// Batches of 64 documents on two cores, and on one.
    Batch,
    /// Runs without end and the like, and half as much of each; needs no corpus.
    Adversarial,
    /// Documents with the place of every token, and without.
    Offsets,
}

impl Measured {
    fn mode(self) -> Mode {
        match self {
            Self::Docs | Self::Adversarial => Mode::Docs,
            Self::Big => Mode::Big,
            Self::Count => Mode::Count,
            Self::Decode => Mode::Decode,
            Self::Batch => Mode::Batch,
            Self::Offsets => Mode::Offsets,
        }
    }
}

#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A vocabulary file, or the name of one in --vocab-dir.
    #[arg(long, value_name = "NAME-OR-FILE")]
    vocab: String,
    /// Where names of vocabularies are looked up.
    #[arg(long, env = "VOCABD_BENCH_VOCABS", value_name = "DIR")]
    vocab_dir: Option<PathBuf>,
    /// Texts; each gives a line of its own per engine.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "mode")]
    corpus: Vec<PathBuf>,
    /// Text that warms every engine [default: the first half of each corpus, whose second half is then measured].
    #[arg(long, value_name = "FILE")]
    warmup: Option<PathBuf>,
    /// What is measured.
    #[arg(long, value_enum, default_value = "docs")]
    mode: Measured,
    /// Processes per engine; the figures are their median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Engines to compare [default: all that can].
    #[arg(long, num_args = 1.., value_parser = peers::ALL)]
    engine: Vec<String>,
    /// Another build of this program, whose vocabd takes part as `vocabd-against`.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Engines that one process is enough for: slow ones.
    #[arg(long, num_args = 1.., value_parser = peers::ALL)]
    once: Vec<String>,
    /// Print JSON, a line per engine and corpus, instead of a table.
    #[arg(long)]
    json: bool,
}

/// Texts that are measured together, and what they are compared with in the same line.
struct Cell {
    corpus: String,
    bytes: usize,
    task: Task,
    other: Option<Task>,
    /// What the reference is asked where it does not take part.
    check: Task,
}

/// Compares engines on every corpus.
pub fn compare(args: &EncodeArgs) -> Result<(), Failure> {
    let folder = process::Folder::new()?;
    let vocabulary = Vocabulary::prepare(&args.vocab, args.vocab_dir.as_deref(), folder.path())?;
    let runner = Runner::new(args.against.clone());
    process::describe_machine();
    if !args.json {
        println!("{}", HEAD);
    }
    let mut engines = Vec::new();
    let all = peers::ALL.into_iter().chain(args.against.is_some().then_some(AGAINST));
    for engine in all {
        if engine != AGAINST && !args.engine.is_empty() && !args.engine.iter().any(|e| e == engine) {
            continue;
        }
        match peers::can(engine, args.mode.mode()).and_then(|()| peers::source(engine, &vocabulary)) {
            Ok(file) => engines.push((engine, file)),
            Err(reason) => eprintln!("compare: {engine} sits out: {reason}"),
        }
    }
    let name = args.mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    for cell in cells(args, &vocabulary, folder.path())? {
        let mut found: Vec<Runs> = engines.iter().map(|_| Runs::default()).collect();
        for run in 0..args.runs.max(1) {
            for turn in 0..engines.len() {
                // Who was first is last in the next run.
                let at = if run % 2 == 0 { turn } else { engines.len() - 1 - turn };
                let (engine, file) = &engines[at];
                if run == 0 || !args.once.iter().any(|e| e == engine) {
                    found[at].add(engine, file, &cell, &runner);
                }
            }
        }
        let right = right(&cell, &vocabulary, &engines, &found, &runner);
        if let Err(failure) = &right {
            eprintln!("compare: {}: the reference failed: {failure}", cell.corpus);
        }
        for ((engine, _), runs) in engines.iter().zip(&found) {
            let mut line = Line::default();
            line.set("engine", json!(engine));
            line.set("version", json!(peers::version(engine)));
            line.set("vocab", json!(vocabulary.name));
            line.set("corpus", json!(cell.corpus));
            line.set("mode", json!(name));
            runs.fill(&mut line, args.mode, cell.bytes, right.as_ref().ok());
            line.set("target_cpu", json!(peers::target_cpu(engine)));
            print(&line, args.json)?;
        }
    }
    Ok(())
}

/// What is measured, one cell per line and engine.
fn cells(args: &EncodeArgs, vocabulary: &Vocabulary, folder: &Path) -> Result<Vec<Cell>, Failure> {
    let task = |documents: &Documents, file: &str, mode: Mode| -> Result<Task, Failure> {
        let path = folder.join(file);
        documents.write(&path)?;
        Ok(Task {
            engine: String::new(),
            file: PathBuf::new(),
            name: vocabulary.name.clone(),
            pattern: vocabulary.pattern.clone(),
            mode,
            documents: path,
            threads: 1,
        })
    };
    let mode = args.mode.mode();
    let mut cells = Vec::new();
    if args.mode == Measured::Adversarial {
        let warmup = match &args.warmup {
            Some(file) => texts::read(file)?,
            None => worst::warmup().leak(),
        };
        for (name, text) in worst::CASES {
            let of = |bytes: usize| Documents {
                warm: texts::documents(warmup),
                measured: vec![&*text(bytes).leak()],
            };
            let (full, half) = (of(worst::FULL), of(worst::FULL / 2));
            let cold = Documents { warm: Vec::new(), measured: full.measured.clone() };
            cells.push(Cell {
                corpus: name.to_owned(),
                bytes: full.measured[0].len(),
                task: task(&full, &format!("{name}.full"), mode)?,
                other: Some(task(&half, &format!("{name}.half"), mode)?),
                check: task(&cold, &format!("{name}.cold"), mode)?,
            });
        }
        return Ok(cells);
    }
    for path in &args.corpus {
        let mut documents = texts::corpus(path, args.warmup.as_deref())?;
        // Some engines look for special tokens and some take them as text; of these documents all must say the same.
        let special = |text: &&str| vocabulary.specials.iter().any(|name| text.contains(&**name));
        let before = documents.measured.len();
        documents.measured.retain(|text| !special(text));
        if documents.measured.len() < before {
            let left_out = before - documents.measured.len();
            eprintln!(
                "compare: {}: {left_out} documents have special tokens and are left out",
                path.display()
            );
        }
        if args.mode == Measured::Big {
            documents.measured = vec![&*documents.measured.concat().leak()];
        }
        let cold = Documents { warm: Vec::new(), measured: documents.measured.clone() };
        let corpus = stem(path);
        let one = task(&documents, &format!("{corpus}.warm"), mode)?;
        let (task_, other) = match args.mode {
            Measured::Batch => (Task { threads: 2, ..one.clone() }, Some(one)),
            Measured::Offsets => (one.clone(), Some(Task { mode: Mode::Docs, ..one })),
            _ => (one, None),
        };
        // One by one they have the same ids; only decoding is asked for as such.
        let check = if mode == Mode::Decode { Mode::Decode } else { Mode::Docs };
        cells.push(Cell {
            bytes: documents.measured.iter().map(|text| text.len()).sum(),
            task: task_,
            other,
            check: task(&cold, &format!("{corpus}.cold"), check)?,
            corpus,
        });
    }
    Ok(cells)
}

/// What the reference answers: while it is measured, or else in a process of its own.
fn right(
    cell: &Cell,
    vocabulary: &Vocabulary,
    engines: &[(&str, PathBuf)],
    found: &[Runs],
    runner: &Runner,
) -> Result<Once, Failure> {
    let reference = peers::reference(vocabulary);
    let at = engines.iter().position(|(engine, _)| *engine == reference);
    if let Some(once) = at.and_then(|at| found[at].once.first()) {
        return Ok(once.clone());
    }
    let file = peers::source(reference, vocabulary)?;
    runner.ask(&Task { engine: reference.to_owned(), file, ..cell.check.clone() })
}

/// What the processes of one engine found.
#[derive(Default)]
struct Runs {
    once: Vec<Once>,
    other: Vec<Once>,
    failed: Option<String>,
}

impl Runs {
    fn add(&mut self, engine: &str, file: &Path, cell: &Cell, runner: &Runner) {
        let ask = |task: &Task| {
            runner.ask(&Task { engine: engine.to_owned(), file: file.to_owned(), ..task.clone() })
        };
        if self.failed.is_some() {
            return;
        }
        let mut add = || -> Result<(), Failure> {
            self.once.push(ask(&cell.task)?);
            if let Some(other) = &cell.other {
                self.other.push(ask(other)?);
            }
            Ok(())
        };
        if let Err(failure) = add() {
            self.failed = Some(failure.to_string());
        }
    }

    fn fill(&self, line: &mut Line, measured: Measured, bytes: usize, right: Option<&Once>) {
        if let Some(failed) = &self.failed {
            return line.set("failed", json!(failed));
        }
        let mut set = |name: &'static str, value: Value| line.set(name, value);
        let middle = |of: &[Once], value: fn(&Once) -> f64| median(of.iter().map(value));
        let speeds = || self.once.iter().map(|once| once.mb_per_s);
        let speed = median(speeds());
        set("mb_per_s", json!(rounded(speed, 1)));
        set("min", json!(rounded(speeds().fold(f64::INFINITY, f64::min), 1)));
        set("max", json!(rounded(speeds().fold(0.0, f64::max), 1)));
        let same = |once: &Once, right: &Once| match measured {
            Measured::Count => once.counts == right.counts,
            _ => once.answers == right.answers,
        };
        set("ids_ok", json!(right.map(|right| self.once.iter().all(|once| same(once, right)))));
        set("load_ms", json!(rounded(middle(&self.once, |once| once.load_ms), 1)));
        set("rss_mb", json!(rounded(middle(&self.once, |once| once.rss_mb), 1)));
        set("core_share", json!(rounded(middle(&self.once, |once| once.core_share), 2)));
        set("runs", json!(self.once.len()));
        set("bytes", json!(bytes));
        match measured {
            Measured::Adversarial => {
                let (ms, half) = (middle(&self.once, |once| once.ms), middle(&self.other, |once| once.ms));
                set("ms", json!(rounded(ms, 2)));
                set("half_ms", json!(rounded(half, 2)));
                set("ratio", json!(rounded(ms / half, 2)));
            }
            Measured::Batch => {
                let one = middle(&self.other, |once| once.mb_per_s);
                set("one_core", json!(rounded(one, 1)));
                set("speedup", json!(rounded(speed / one, 2)));
            }
            Measured::Offsets => {
                let without = middle(&self.other, |once| once.mb_per_s);
                set("without", json!(rounded(without, 1)));
                set("ratio", json!(rounded(without / speed, 2)));
            }
            Measured::Count => {
                let times = self.once.iter().filter_map(|once| once.limit_us);
                if let Some(time) = Some(median(times)).filter(|time| time.is_finite()) {
                    set("limit_us", json!(rounded(time, 1)));
                }
            }
            _ => {}
        }
    }
}

/// A line of the result: names and values in the order in which they are printed.
#[derive(Default)]
struct Line(Vec<(&'static str, Value)>);

impl Line {
    fn set(&mut self, name: &'static str, value: Value) {
        self.0.push((name, value));
    }

    /// A value as a table shows it, where there is one.
    fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(has, _)| *has == name)?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            value => Some(value.to_string()),
        }
    }
}

impl Serialize for Line {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

const HEAD: &str = "engine        version     vocab          corpus     mode            MB/s      min      max ids_ok  load_ms  rss_mb core_share";

fn print(line: &Line, json: bool) -> Result<(), Failure> {
    if json {
        return process::answer(line);
    }
    let text = |name: &str| line.text(name).unwrap_or("-".to_owned());
    let extra = ["ms", "half_ms", "one_core", "speedup", "without", "ratio", "limit_us", "failed"];
    let extra: Vec<String> =
        extra.iter().filter_map(|name| Some(format!("{name} {}", line.text(name)?))).collect();
    println!(
        "{:13} {:11} {:14} {:10} {:11} {:>8} {:>8} {:>8} {:>6} {:>8} {:>7} {:>10}  {}",
        text("engine"),
        text("version"),
        text("vocab"),
        text("corpus"),
        text("mode"),
        text("mb_per_s"),
        text("min"),
        text("max"),
        text("ids_ok"),
        text("load_ms"),
        text("rss_mb"),
        text("core_share"),
        extra.join("  ")
    );
    Ok(())
}

/// A file's name without folder and extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
