//! Counts that travel: pretokens with how often each occurs, made by one machine and read by another.
//!
//! Three forms, told by their content: Parquet with the columns `pretoken` (binary or string) and `count` (int64); NDJSON,
//! `{"t": base64, "c": n}` a line (or `pretoken` as text and `count`); lines of pretoken, tab, count. What was counted by
//! is in the metadata of the file, its first line in the latter two, and must agree with the job that reads it: counts by
//! another split would give merges that no text leads to. Files made elsewhere may lack it, and are then believed.

mod pages;
mod parquet;

pub(super) use self::parquet::{is_parquet, read_column};

use super::corpus::{CorpusError, Source, open, read_error};
use super::disk::Unpacking;
use super::progress::Progress;
use crate::engine::{Form, Pattern, TrainConfig, TrainError, Words};
use crate::store::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};

/// Longest line of NDJSON or of text, whatever memory a job has.
const MAX_LINE_BYTES: usize = 256 << 20;

/// The form of a file of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFormat {
    /// Parquet, zstd-compressed.
    Parquet,
    /// A JSON object a line.
    Ndjson,
    /// Pretoken, tab, count; with `\\t`, `\\n`, `\\r` and `\\\\` for those characters.
    Tsv,
}

impl ShardFormat {
    /// The form of a name: `parquet`, `ndjson` or `tsv`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "parquet" => Some(Self::Parquet),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }
}

/// What counts were made by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The family, or the regexes one after the other.
    pub(super) split: String,
    /// SHA-256 of the regexes, a line each.
    pub(super) split_sha256: String,
    pub(super) normalizer: String,
    /// The names that ended a record.
    #[serde(default)]
    pub(super) special_tokens: Vec<String>,
    /// The program that made it.
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) text_bytes: u64,
    #[serde(default)]
    pub(super) pretokens: u64,
}

impl Meta {
    pub(super) fn of(config: &TrainConfig) -> Self {
        Self {
            split: split_name(&config.pattern),
            split_sha256: Digest::of(config.pattern.regexes().join("\n").as_bytes()).to_string(),
            normalizer: config.normalizer.map_or("none", Form::name).to_owned(),
            special_tokens: config.special_tokens.clone(),
            version: concat!("vocabd ", env!("CARGO_PKG_VERSION")).to_owned(),
            text_bytes: 0,
            pretokens: 0,
        }
    }

    /// What keeps counts made by `self` from being those of `wanted`.
    fn mismatch(&self, wanted: &Self) -> Option<&'static str> {
        if self.split_sha256 != wanted.split_sha256 {
            Some("split (or digits)")
        } else if self.normalizer != wanted.normalizer {
            Some("normalizer")
        } else {
            None
        }
    }
}

fn split_name(pattern: &Pattern) -> String {
    pattern.family().map_or_else(|| pattern.regexes().join("\n"), |family| family.name().to_owned())
}

/// Writes counts with what they were made by.
pub(super) fn write<W: Words>(
    counts: &W,
    config: &TrainConfig,
    format: ShardFormat,
    out: &mut (impl Write + Send),
) -> Result<(), W::Error>
where
    W::Error: From<io::Error>,
{
    let totals = counts.totals();
    let meta = Meta { text_bytes: totals.bytes, pretokens: totals.pretokens, ..Meta::of(config) };
    let json = serde_json::to_string(&meta).map_err(io::Error::other)?;
    match format {
        ShardFormat::Parquet => parquet::write(counts, &json, out),
        ShardFormat::Ndjson => {
            writeln!(out, "{{\"vocabd\":{json}}}")?;
            each_written(counts, |word, count| {
                writeln!(out, "{{\"t\":\"{}\",\"c\":{count}}}", STANDARD.encode(word))
            })
        }
        ShardFormat::Tsv => {
            writeln!(out, "{TSV_HEAD}{json}")?;
            let mut line = Vec::new();
            each_written(counts, |word, count| {
                line.clear();
                for &byte in word {
                    match byte {
                        b'\\' => line.extend_from_slice(b"\\\\"),
                        b'\t' => line.extend_from_slice(b"\\t"),
                        b'\n' => line.extend_from_slice(b"\\n"),
                        b'\r' => line.extend_from_slice(b"\\r"),
                        _ => line.push(byte),
                    }
                }
                line.extend_from_slice(format!("\t{count}\n").as_bytes());
                out.write_all(&line)
            })
        }
    }
}

/// Calls `write` with each pretoken and its count.
fn each_written<W: Words>(
    counts: &W,
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> Result<(), W::Error>
where
    W::Error: From<io::Error>,
{
    let mut failed = None;
    let done = counts.each(&mut |word, count| {
        write(word, count).map_err(|error| {
            failed = Some(error);
            TrainError::Cancelled
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => done,
    }
}

/// The first line of our own files of that form; their pretokens are escaped.
const TSV_HEAD: &str = "#vocabd\t";

/// Reads the counts of a file and gives each to `take`; no line may be longer than `max_line_bytes`.
pub(super) fn read(
    source: Source,
    wanted: &Meta,
    (max_line_bytes, unpacking): (usize, &Unpacking),
    progress: &Progress,
    mut take: impl FnMut(&[u8], u64) -> Result<(), CorpusError>,
) -> Result<(), CorpusError> {
    let name = source.name.clone();
    let agree = |meta: &Meta| match meta.mismatch(wanted) {
        Some(what) => Err(CorpusError::Mismatch { file: name.clone(), what }),
        None => Ok(()),
    };
    if is_parquet(&source)? {
        return parquet::read_counts(source, unpacking, progress, agree, take);
    }
    let stored = source.bytes();
    let mut content = BufReader::with_capacity(1 << 17, open(&source.name, source.file, progress)?);
    let head = content.fill_buf().map_err(|e| read_error(&name, &e))?;
    if head.starts_with(parquet::MAGIC) {
        let file = unpacking.unpack(&mut content, stored, &name)?;
        let source = Source { name: name.clone(), file };
        return parquet::read_counts(source, unpacking, progress, agree, take);
    }
    let is_json = head.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let wrong = |line: u64, reason: &str| CorpusError::Counts {
        file: name.clone(),
        place: format!("line {line}"),
        reason: reason.to_owned(),
    };
    let limit = max_line_bytes.min(MAX_LINE_BYTES);
    let (mut line, mut number, mut escaped) = (Vec::new(), 0, false);
    loop {
        line.clear();
        number += 1;
        let limited = (&mut content).take(limit as u64 + 1).read_until(b'\n', &mut line);
        if limited.map_err(|e| read_error(&name, &e))? == 0 {
            return Ok(());
        }
        if line.len() > limit {
            return Err(wrong(number, &format!("is over {limit} bytes")));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        if is_json {
            let parsed: Line = serde_json::from_slice(text).map_err(|_| {
                wrong(number, "is not an object with t (base64) and c (a whole number from 0)")
            })?;
            match parsed {
                Line { vocabd: Some(meta), .. } if number == 1 => agree(&meta)?,
                Line { t: Some(t), pretoken: None, c: Some(count), .. } => {
                    let word = STANDARD.decode(t).map_err(|_| wrong(number, "has a t that is not base64"))?;
                    take_one(&word, count, &mut take, &|reason| wrong(number, reason))?;
                }
                Line { pretoken: Some(word), t: None, c: Some(count), .. } => {
                    take_one(word.as_bytes(), count, &mut take, &|reason| wrong(number, reason))?;
                }
                _ => return Err(wrong(number, "needs t (base64) or pretoken (text), and c or count")),
            }
            continue;
        }
        if let (1, Some(json)) = (number, text.strip_prefix(TSV_HEAD.as_bytes())) {
            let meta = serde_json::from_slice(json).map_err(|_| wrong(1, "is damaged"))?;
            agree(&meta)?;
            escaped = true;
            continue;
        }
        let Some(tab) = text.iter().rposition(|&b| b == b'\t') else {
            return Err(wrong(number, "is not a pretoken, a tab and a count"));
        };
        let count = std::str::from_utf8(&text[tab + 1..]).ok().and_then(|digits| digits.parse::<i128>().ok());
        let count = match count {
            Some(..0) => return Err(wrong(number, "has a negative count")),
            Some(count) => u64::try_from(count).map_err(|_| wrong(number, "has a count over 64 bits"))?,
            None => return Err(wrong(number, "has a count that is not a whole number")),
        };
        match escaped {
            true => {
                let word = unescaped(&text[..tab]).ok_or_else(|| wrong(number, "has an unknown escape"))?;
                take_one(&word, count, &mut take, &|reason| wrong(number, reason))?;
            }
            false => take_one(&text[..tab], count, &mut take, &|reason| wrong(number, reason))?,
        }
    }
}

/// A line of NDJSON.
#[derive(Deserialize)]
struct Line {
    vocabd: Option<Meta>,
    t: Option<String>,
    pretoken: Option<String>,
    #[serde(alias = "count")]
    c: Option<u64>,
}

fn take_one(
    word: &[u8],
    count: u64,
    take: &mut impl FnMut(&[u8], u64) -> Result<(), CorpusError>,
    wrong: &dyn Fn(&str) -> CorpusError,
) -> Result<(), CorpusError> {
    if word.is_empty() {
        return Err(wrong("has an empty pretoken"));
    }
    take(word, count)
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut word = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        word.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(word)
}

#[cfg(test)]
mod tests;
