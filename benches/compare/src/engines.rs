//! The engines, each behind the same few calls.
//!
//! A peer is used as its documentation shows, by its quickest call that takes the names of special tokens as text.

use crate::Failure;
use std::path::{Path, PathBuf};
use vocabd::engine::{EncodeOptions, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{self, ImportOptions};

/// Names of the engines, vocabd first.
pub const ALL: [&str; 2] = ["vocabd", "tiktoken-rs"];

/// The engine whose answers are taken as right, where it knows the vocabulary.
pub const REFERENCE: &str = "tiktoken-rs";

/// A loaded tokenizer.
pub trait Engine {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure>;
    fn count(&mut self, text: &str) -> Result<usize, Failure>;
    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure>;
}

/// A vocabulary, by the name that peers know it by and the file that vocabd reads.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    pub name: String,
    pub file: PathBuf,
}

impl Vocabulary {
    /// A path to a file, or the name of one in `dir`.
    pub fn find(name_or_file: &str, dir: Option<&Path>) -> Result<Self, Failure> {
        let given = Path::new(name_or_file);
        let file = if given.is_file() {
            given.to_owned()
        } else {
            let dir = dir.ok_or_else(|| format!("{name_or_file} is no file, and there is no --vocab-dir"))?;
            let candidates =
                [".tiktoken", ".vocabd", ""].map(|extension| dir.join(format!("{name_or_file}{extension}")));
            let found = candidates.into_iter().find(|file| file.is_file());
            found.ok_or_else(|| format!("{name_or_file}: no such file in {}", dir.display()))?
        };
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file })
    }
}

/// Whether an engine can load a vocabulary.
pub fn knows(engine: &str, vocabulary: &Vocabulary) -> bool {
    match engine {
        "vocabd" => true,
        "tiktoken-rs" => tiktoken(&vocabulary.name).is_some(),
        _ => false,
    }
}

/// Loads a vocabulary from where a user would have it.
pub fn load(engine: &str, vocabulary: &Vocabulary) -> Result<Box<dyn Engine>, Failure> {
    match engine {
        "vocabd" => {
            let bytes = std::fs::read(&vocabulary.file)?;
            let tokenizer = formats::import(&bytes, None, &ImportOptions::default())?;
            Ok(Box::new(Vocabd { tokenizer, scratch: Scratch::default() }))
        }
        "tiktoken-rs" => {
            let make = tiktoken(&vocabulary.name).ok_or("tiktoken-rs does not know that vocabulary")?;
            Ok(Box::new(Tiktoken(make().map_err(|e| e.to_string())?)))
        }
        _ => Err(format!("{engine} is none of {ALL:?}").into()),
    }
}

/// The version that this program is built with.
pub fn version(engine: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let name = format!("name = \"{engine}\"\nversion = \"");
    let version = lock.split_once(&name).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

struct Vocabd {
    tokenizer: Tokenizer,
    scratch: Scratch,
}

impl Engine for Vocabd {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.tokenizer.encode(text, &EncodeOptions::default(), &mut self.scratch)?.ids)
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.tokenizer.count(text, &SpecialPolicy::default(), None, &mut self.scratch)?.tokens)
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.tokenizer.decode_bytes(ids, false)?)
    }
}

type MakeTiktoken = fn() -> Result<tiktoken_rs::CoreBPE, anyhow::Error>;

fn tiktoken(vocabulary: &str) -> Option<MakeTiktoken> {
    match vocabulary {
        "cl100k_base" => Some(tiktoken_rs::cl100k_base),
        "o200k_base" => Some(tiktoken_rs::o200k_base),
        "r50k_base" => Some(tiktoken_rs::r50k_base),
        "p50k_base" => Some(tiktoken_rs::p50k_base),
        _ => None,
    }
}

struct Tiktoken(tiktoken_rs::CoreBPE);

impl Engine for Tiktoken {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode_ordinary(text))
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.0.count_ordinary(text))
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        self.0.decode_bytes(ids).map_err(|e| format!("{e:?}").into())
    }
}
