//! Corpora as documents of the size that a service sees.
//!
//! The documents joined are the corpus, byte for byte, and are the same in every process.

use crate::Failure;
use std::path::Path;

/// Documents have at least so many bytes, but for the last one.
const LEAST: usize = 2_000;
/// And hardly more than this, but where one line is longer.
const MOST: usize = 10_000;

/// What warms an engine and what it is measured on.
pub struct Corpus {
    pub warm: Vec<String>,
    pub measured: Vec<String>,
}

impl Corpus {
    /// Reads a corpus. Without a text to warm with it is cut in two: the first half of its bytes warms.
    pub fn read(path: &Path, warmup: Option<&Path>) -> Result<Self, Failure> {
        let mut all = documents(&read(path)?);
        if let Some(warmup) = warmup {
            return Ok(Self { warm: documents(&read(warmup)?), measured: all });
        }
        let half = all.iter().map(String::len).sum::<usize>() / 2;
        let mut bytes = 0;
        let before_half = |document: &String| {
            bytes += document.len();
            bytes <= half
        };
        let at = all.iter().map(before_half).take_while(|&before| before).count();
        let measured = all.split_off(at);
        Ok(Self { warm: all, measured })
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Cuts behind blank lines, or behind a line where there is no blank one in reach.
fn documents(text: &str) -> Vec<String> {
    let mut documents = Vec::new();
    let mut rest = text;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while !rest.is_empty() {
        // Sizes spread evenly over the range, always the same ones.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let wanted = LEAST + (state % (MOST - LEAST) as u64) as usize;
        let at = cut(rest, wanted);
        documents.push(rest[..at].to_owned());
        rest = &rest[at..];
    }
    documents
}

fn cut(text: &str, wanted: usize) -> usize {
    if text.len() <= wanted {
        return text.len();
    }
    let window = |range: std::ops::Range<usize>, part: &str| {
        let range = text.ceil_char_boundary(range.start)..text.floor_char_boundary(range.end.min(text.len()));
        text[range.clone()].find(part).map(|at| range.start + at + part.len())
    };
    window(wanted..MOST, "\n\n")
        .or_else(|| window(LEAST..MOST, "\n\n"))
        .or_else(|| window(wanted..MOST, "\n"))
        .or_else(|| window(LEAST..MOST, "\n"))
        .unwrap_or_else(|| text.ceil_char_boundary(wanted))
}

/// Adds to a hash of answers. Order matters; it tells engines apart, it does not protect.
pub fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}
