//! Who is compared: the program that runs each engine, and the form of a vocabulary that it reads.

use crate::vocabulary::Vocabulary;
use crate::{Failure, process};
use measure::{Mode, Once, Task};
use std::path::{Path, PathBuf};
use std::process::Command;
use vocabd::formats::Format;

/// Names of the engines, vocabd first.
pub const ALL: [&str; 10] = [
    "vocabd",
    "fastokens",
    "gigatoken",
    "tokenizers-rc",
    "toktok-rs",
    "bpe-openai",
    "tiktoken-rs",
    "kitoken",
    "sentencepiece",
    "tokenizers",
];

/// Which engine is right about a vocabulary.
pub fn reference(vocabulary: &Vocabulary) -> &'static str {
    match vocabulary.format {
        Format::Tiktoken => "tiktoken-rs",
        Format::Sentencepiece => "sentencepiece",
        _ => "tokenizers",
    }
}

/// The file that an engine reads of a vocabulary, or why it can read none.
pub fn source(engine: &str, vocabulary: &Vocabulary) -> Result<PathBuf, String> {
    let given = || Ok(vocabulary.given.clone());
    let of_openai = vocabulary.format == Format::Tiktoken
        && ["cl100k_base", "o200k_base", "r50k_base", "p50k_base"].contains(&&*vocabulary.name);
    let has_scanner = ["cl100k_base", "o200k_base"].contains(&&*vocabulary.name);
    match engine {
        "vocabd" | AGAINST => given(),
        "vocabd-native" => Ok(vocabulary.native.clone()),
        // They know the patterns of two tiktoken files.
        "fastokens" | "gigatoken" if of_openai && has_scanner => given(),
        "gigatoken" if vocabulary.format == Format::Sentencepiece => given(),
        "fastokens" | "gigatoken" | "tokenizers-rc" | "tokenizers" => vocabulary.hf.clone(),
        "toktok-rs" | "bpe-openai" if of_openai && has_scanner => given(),
        "toktok-rs" | "bpe-openai" => Err("it has built-in vocabularies only".to_owned()),
        "tiktoken-rs" if of_openai => given(),
        "tiktoken-rs" if vocabulary.pattern.is_some() && vocabulary.format == Format::Native => {
            vocabulary.tiktoken.clone()
        }
        "tiktoken-rs" => Err("it reads ranks of tiktoken with one pattern".to_owned()),
        "kitoken" => match vocabulary.format {
            Format::Tiktoken | Format::Hf | Format::Sentencepiece | Format::Tekken => given(),
            _ => vocabulary.hf.clone(),
        },
        "sentencepiece" if vocabulary.format == Format::Sentencepiece => given(),
        "sentencepiece" => Err("it reads its own models only".to_owned()),
        _ => Err(format!("it is none of {ALL:?}")),
    }
}

/// Whether an engine has a call for what is measured.
pub fn can(engine: &str, mode: Mode) -> Result<(), String> {
    let lacks = |what: &str| Err(format!("it has no call {what}"));
    match mode {
        Mode::Count if !["vocabd", AGAINST, "toktok-rs", "bpe-openai", "tiktoken-rs"].contains(&engine) => {
            lacks("that counts")
        }
        Mode::Batch if ["bpe-openai", "tiktoken-rs", "kitoken"].contains(&engine) => lacks("for a batch"),
        Mode::Offsets if !["vocabd", AGAINST, "toktok-rs", "tokenizers"].contains(&engine) => {
            lacks("that gives offsets")
        }
        _ => Ok(()),
    }
}

/// The version that is measured.
pub fn version(engine: &str) -> String {
    let (lock, name, from) = match engine {
        AGAINST => return "unknown".to_owned(),
        "vocabd" | "vocabd-native" => (include_str!("../Cargo.lock"), "vocabd", ""),
        "gigatoken" | "sentencepiece" => {
            let pins = include_str!("../peers.sh");
            let pin =
                pins.split_once(&format!("{engine}==")).and_then(|(_, rest)| rest.split_whitespace().next());
            return pin.unwrap_or("unknown").to_owned();
        }
        "tokenizers-rc" => (include_str!("../peers/Cargo.lock"), "tokenizers", "1."),
        _ => (include_str!("../peers/Cargo.lock"), engine, ""),
    };
    let entry = format!("name = \"{name}\"\nversion = \"{from}");
    let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next());
    version.map_or("unknown".to_owned(), |version| format!("{from}{version}"))
}

/// What processor an engine was built for: `native` is that of the machine, `baseline` any of its family.
pub fn target_cpu(engine: &str) -> &'static str {
    match engine {
        "gigatoken" | "sentencepiece" => "wheel",
        _ if cfg!(target_feature = "avx2") => "native",
        _ => "baseline",
    }
}

/// Has measurements made, each in a process of its own on cores of its own.
pub struct Runner {
    /// Cores by number, those to take first in front.
    cores: Vec<usize>,
    /// Another build of this program.
    against: Option<PathBuf>,
}

/// The engine of [`Runner::against`].
pub const AGAINST: &str = "vocabd-against";

/// After so many seconds a process is ended, and its engine has failed.
const PATIENCE: &str = "120";

impl Runner {
    /// On the cores that this process may use, the last one first: the first one has the machine's interrupts.
    pub fn new(against: Option<PathBuf>) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut cores = Vec::new();
        for range in list.unwrap_or("0").trim().split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(from), Ok(to)) = (from.parse(), to.parse::<usize>()) {
                cores.extend(from..=to);
            }
        }
        cores.reverse();
        Self { cores, against }
    }

    /// Has one measurement made.
    pub fn ask(&self, task: &Task) -> Result<Once, Failure> {
        let cores = self.cores.get(..task.threads).ok_or_else(|| {
            format!("{} cores are needed, this process may use {}", task.threads, self.cores.len())
        })?;
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let mut command = Command::new("timeout");
        command.arg(PATIENCE).arg("taskset").arg("-c").arg(cores.join(","));
        match &*task.engine {
            "vocabd" | "vocabd-native" => command.arg(std::env::current_exe()?).arg("once"),
            AGAINST => command.arg(self.against.as_deref().ok_or("there is no other build")?).arg("once"),
            "gigatoken" | "sentencepiece" => {
                command.arg(python()?).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers.py"))
            }
            _ => command.arg(beside("compare-peers")?),
        };
        command.arg(serde_json::to_string(task)?);
        // Settings of an engine that the shell may have.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FASTOKENS_")) {
            command.env_remove(name);
        }
        process::run(command)
    }
}

fn beside(program: &str) -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name(program);
    if !path.is_file() {
        return Err(format!("{} is not built: see benches/README.md", path.display()).into());
    }
    Ok(path)
}

/// The interpreter that `peers.sh` has made.
pub fn python() -> Result<PathBuf, Failure> {
    let folder = match std::env::var_os("VOCABD_BENCH_VENV") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv"),
    };
    let python = folder.join("bin/python");
    if !python.is_file() {
        return Err(format!("{} is not there: benches/compare/peers.sh makes it", python.display()).into());
    }
    Ok(python)
}
