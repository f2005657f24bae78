//! Corpora as documents of the size that a service sees.
//!
//! The documents joined are the corpus, byte for byte, and are the same in every process.

use crate::Failure;
use measure::Documents;
use std::path::Path;

/// Documents have at least so many bytes, but for the last one.
const LEAST: usize = 2_000;
/// And hardly more than this, but where one line is longer.
const MOST: usize = 10_000;

/// Reads a corpus. Without a text to warm with it is cut in two: the first half of its bytes warms.
pub fn corpus(path: &Path, warmup: Option<&Path>) -> Result<Documents, Failure> {
    let text = read(path)?;
    if let Some(warmup) = warmup {
        return Ok(Documents { warm: documents(read(warmup)?), measured: documents(text) });
    }
    let mut all = documents(text);
    let mut bytes = 0;
    let before_half = |document: &&&str| {
        bytes += document.len();
        bytes <= text.len() / 2
    };
    let at = all.iter().take_while(before_half).count();
    let measured = all.split_off(at);
    Ok(Documents { warm: all, measured })
}

/// Reads a text, for as long as the process lasts.
pub fn read(path: &Path) -> Result<&'static str, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.leak())
}

/// Cuts behind blank lines, or behind a line where there is no blank one in reach.
pub fn documents(text: &'static str) -> Vec<&'static str> {
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
        documents.push(&rest[..at]);
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
        text.get(range.clone())?.find(part).map(|at| range.start + at + part.len())
    };
    window(wanted..MOST, "\n\n")
        .or_else(|| window(LEAST..MOST, "\n\n"))
        .or_else(|| window(wanted..MOST, "\n"))
        .or_else(|| window(LEAST..MOST, "\n"))
        .unwrap_or_else(|| text.ceil_char_boundary(wanted))
}
