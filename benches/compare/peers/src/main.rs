//! The peers that are crates, each behind the same few calls.
//!
//! A peer is used as its documentation shows, by its quickest call that takes the names of special tokens as text.

mod rc;

use base64::Engine as _;
use measure::{Batch, Engine, Failure, Task};
use std::process::ExitCode;

/// The allocator that vocabd ships with, for every engine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare-peers: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<(), Failure> {
    let task = std::env::args().nth(1).ok_or("usage: compare-peers TASK, as `compare` starts it")?;
    let once = measure::measure(&serde_json::from_str(&task)?, load)?;
    println!("{}", serde_json::to_string(&once)?);
    Ok(())
}

/// Loads a vocabulary from where a user would have it.
fn load(task: &Task) -> Result<Box<dyn Engine>, Failure> {
    Ok(match &*task.engine {
        "fastokens" => {
            Box::new(Fastokens(match fastokens::tiktoken::TiktokenConfig::from_preset(&task.name) {
                Some(preset) if task.file.extension().is_some_and(|e| e == "tiktoken") => {
                    fastokens::Tokenizer::from_tiktoken_file(&task.file, preset)?
                }
                _ => fastokens::Tokenizer::from_file(&task.file)?,
            }))
        }
        "toktok-rs" => Box::new(Toktok(toktok::Tokenizer::builtin(&task.name).map_err(|e| e.to_string())?)),
        "bpe-openai" => Box::new(BpeOpenai(match &*task.name {
            "cl100k_base" => bpe_openai::cl100k_base(),
            "o200k_base" => bpe_openai::o200k_base(),
            _ => return Err("bpe-openai does not know that vocabulary".into()),
        })),
        "tiktoken-rs" => Box::new(Tiktoken(tiktoken(task)?)),
        "kitoken" => Box::new(Kitoken(kitoken::Kitoken::from_file(&task.file).map_err(|e| e.to_string())?)),
        "tokenizers" => {
            let mut tokenizer = tokenizers::Tokenizer::from_file(&task.file)?;
            tokenizer.set_encode_special_tokens(true);
            Box::new(Tokenizers(tokenizer))
        }
        "tokenizers-rc" => rc::load(task)?,
        other => return Err(format!("this program has no engine {other}").into()),
    })
}

struct Fastokens(fastokens::Tokenizer);

impl Engine for Fastokens {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode_ordinary(text)?)
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.decode(ids, false)?.into_bytes())
    }

    fn encode_batch(&mut self, texts: &[&str], _threads: usize) -> Result<Box<dyn Batch>, Failure> {
        let policy = fastokens::AddedTokenPolicy::None;
        Ok(Box::new(self.0.encode_batch_with_policy(texts, false, policy)?))
    }
}

struct Toktok(toktok::Tokenizer);

impl Engine for Toktok {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode(text.as_bytes()))
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.0.count(text.as_bytes()))
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.decode(ids))
    }

    fn encode_with_offsets(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        let (ids, bounds) = self.0.encode_with_offsets(text.as_bytes());
        std::hint::black_box(bounds);
        Ok(ids)
    }

    fn encode_batch(&mut self, texts: &[&str], threads: usize) -> Result<Box<dyn Batch>, Failure> {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        Ok(Box::new(self.0.encode_batch(&texts, threads, false)))
    }
}

struct BpeOpenai(&'static bpe_openai::Tokenizer);

impl Engine for BpeOpenai {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode(text))
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.0.count(text))
    }

    fn count_within(&mut self, text: &str, limit: usize) -> Result<(), Failure> {
        self.0.count_till_limit(&self.0.normalize(text), limit);
        Ok(())
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.bpe.decode_tokens(ids))
    }
}

fn tiktoken(task: &Task) -> Result<tiktoken_rs::CoreBPE, Failure> {
    let tokenizer = match (&*task.name, &task.pattern) {
        ("cl100k_base", _) => tiktoken_rs::cl100k_base(),
        ("o200k_base", _) => tiktoken_rs::o200k_base(),
        ("r50k_base", _) => tiktoken_rs::r50k_base(),
        ("p50k_base", _) => tiktoken_rs::p50k_base(),
        (_, Some(pattern)) => {
            let file = std::fs::read_to_string(&task.file)?;
            let ranks = file.lines().map(rank).collect::<Option<_>>();
            let ranks = ranks.ok_or_else(|| format!("{}: no ranks of tiktoken", task.file.display()))?;
            tiktoken_rs::CoreBPE::new(ranks, Default::default(), pattern)
        }
        _ => return Err("tiktoken-rs needs a pattern".into()),
    };
    Ok(tokenizer.map_err(|e| e.to_string())?)
}

/// A line of a file of ranks.
fn rank(line: &str) -> Option<(Vec<u8>, u32)> {
    let (bytes, rank) = line.split_once(' ')?;
    Some((base64::engine::general_purpose::STANDARD.decode(bytes).ok()?, rank.parse().ok()?))
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

struct Kitoken(kitoken::Kitoken);

impl Engine for Kitoken {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode(text, false).map_err(|e| e.to_string())?)
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.decode(ids, true).map_err(|e| e.to_string())?)
    }
}

struct Tokenizers(tokenizers::Tokenizer);

impl Engine for Tokenizers {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.0.encode_fast(text, false)?.get_ids().to_vec())
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.0.decode(ids, false)?.into_bytes())
    }

    fn encode_with_offsets(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        let encoding = self.0.encode(text, false)?;
        std::hint::black_box(encoding.get_offsets());
        Ok(encoding.get_ids().to_vec())
    }

    fn encode_batch(&mut self, texts: &[&str], _threads: usize) -> Result<Box<dyn Batch>, Failure> {
        Ok(Box::new(Encodings(self.0.encode_batch_fast(texts.to_vec(), false)?)))
    }
}

struct Encodings(Vec<tokenizers::Encoding>);

impl Batch for Encodings {
    fn each(&self, answer: &mut dyn FnMut(&[u32])) {
        self.0.iter().for_each(|encoding| answer(encoding.get_ids()));
    }
}
