//! `synth`: a text of any size from some corpora, made distinct by edits, the same for the same seed.
//!
//! Sentences of all corpora in random order, parted into documents by blank lines; in about every third a few
//! characters are replaced by others of the corpora, so that the number of distinct words goes on growing with the text as it
//! does in the world, rather than stopping at what the corpora have.

use crate::{Failure, texts};
use clap::Args;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// The corpora.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Size of the text, about.
    #[arg(long)]
    bytes: u64,
    /// Another seed, another text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where it goes.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// What stands between blank lines, as vocabd's `records = paragraphs` has it.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (mut end, mut next) = (rest.len(), rest.len());
            let mut at = 0;
            for line in rest.split_inclusive('\n') {
                if line.trim_end_matches(['\r', '\n']).is_empty() {
                    (end, next) = (at, at + line.len());
                    break;
                }
                at += line.len();
            }
            let paragraph = rest[..end].strip_suffix('\n').unwrap_or(&rest[..end]);
            let paragraph = paragraph.strip_suffix('\r').unwrap_or(paragraph);
            rest = &rest[next..];
            if !paragraph.is_empty() {
                return Some(paragraph);
            }
        }
    })
}

/// Writes the text.
pub fn write(args: &SynthArgs) -> Result<(), Failure> {
    let mut sentences: Vec<&str> = Vec::new();
    for path in &args.corpus {
        for line in texts::read(path)?.lines().filter(|line| !line.trim().is_empty()) {
            sentences.extend(line.split_inclusive(['.', '!', '?', ';', '。', '！', '？', '；']));
        }
    }
    if sentences.is_empty() {
        return Err("the corpora hold no text".into());
    }
    let mut random = Random(args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(&args.output)?);
    let mut written = 0;
    let mut document = String::new();
    while written < args.bytes {
        document.clear();
        for _ in 0..3 + random.below(12) {
            let sentence = sentences[random.below(sentences.len())];
            if random.below(3) > 0 {
                document.push_str(sentence);
            } else {
                edit(sentence, &sentences, &mut random, &mut document);
            }
            if random.below(4) == 0 {
                document.push('\n');
            }
        }
        document.push_str("\n\n");
        out.write_all(document.as_bytes())?;
        written += document.len() as u64;
    }
    Ok(out.flush()?)
}

/// One to three characters of a sentence become characters of the same kind from others.
fn edit(sentence: &str, sentences: &[&str], random: &mut Random, out: &mut String) {
    let length = sentence.chars().count();
    let places: Vec<usize> = (0..1 + random.below(3)).map(|_| random.below(length.max(1))).collect();
    for (at, c) in sentence.chars().enumerate() {
        if !places.contains(&at) || !c.is_alphanumeric() {
            out.push(c);
            continue;
        }
        // A few tries find a letter of the same script in most corpora.
        let other = (0..8).find_map(|_| {
            let from = sentences[random.below(sentences.len())];
            let other = from.chars().nth(random.below(40))?;
            (other.is_alphanumeric() && other.len_utf8() == c.len_utf8()).then_some(other)
        });
        out.push(other.unwrap_or(c));
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::paragraphs;

    #[test]
    fn paragraphs_are_those_of_the_trainer() {
        let found: Vec<&str> = paragraphs("a\nb\r\n\n\nc\n \n\r\nd").collect();
        assert_eq!(found, ["a\nb", "c\n ", "d"]);
    }
}
