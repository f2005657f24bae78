//! Merges and their counts against the reference trainer: all of them, for every golden.

use crate::data;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use vocabd::engine::{
    Counter, Extension, Pattern, Pretokenizer, StopReason, TieBreak, Tokenizer, TrainConfig, Trained,
    WordCounts, train,
};
use vocabd::formats::{self, ImportOptions};

/// The goldens that are in the repository, all over one corpus.
const LOCAL: [&str; 3] = ["tiny-cl100k-300", "tiny-cl100k-1000", "tinywhole-cl100k-1000"];
const LOCAL_CORPUS: &str = "corpora/train-dev-tiny.txt";

#[derive(Deserialize)]
struct Golden {
    slice: Vec<(String, usize)>,
    slice_sha256: String,
    records: Records,
    pattern: String,
    vocab_size: u32,
    min_frequency: u64,
    special_tokens: Vec<String>,
    max_token_length: Option<u32>,
    distinct_pieces: u64,
    pieces: u64,
    merges: Vec<String>,
    counts: Vec<u64>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Records {
    Lines,
    Whole,
}

impl Golden {
    fn config(&self, threads: usize) -> TrainConfig {
        TrainConfig {
            special_tokens: self.special_tokens.clone(),
            vocab_size: Some(self.vocab_size),
            min_frequency: self.min_frequency,
            // The reference allows one byte less than it says.
            max_token_bytes: self.max_token_length.map(|n| n - 1),
            tie_break: TieBreak::Hf,
            threads,
            ..TrainConfig::new(Pattern::from_regexes(&[&self.pattern]).unwrap())
        }
    }

    fn count(&self, corpus: &str, config: &TrainConfig) -> WordCounts {
        let records: Vec<&str> = match self.records {
            Records::Lines => corpus.split_inclusive('\n').collect(),
            Records::Whole => vec![corpus],
        };
        let mut counter = Counter::new(config).unwrap();
        counter.add_batch(&records, &mut ()).unwrap();
        counter.finish().unwrap()
    }

    fn check(&self, name: &str, trained: &Trained) {
        assert_eq!(
            (trained.distinct_pretokens, trained.total_pretokens),
            (self.distinct_pieces, self.pieces)
        );
        let token = |id: u32| byte_level(&trained.tokens[id as usize]);
        for (i, (merge, expected)) in trained.merges.iter().zip(&self.merges).enumerate() {
            let made = format!("{} {}", token(merge.left), token(merge.right));
            assert_eq!((&made, merge.count), (expected, self.counts[i]), "{name}: merge {i}");
        }
        assert_eq!(trained.merges.len(), self.merges.len(), "{name}");
        let full = trained.tokens.len() == self.vocab_size as usize;
        let reason = if full { StopReason::VocabSize } else { StopReason::NothingFrequent };
        assert_eq!(trained.stop_reason, reason, "{name}");
    }
}

/// The characters that stand for bytes in GPT-2's files.
fn byte_level(bytes: &[u8]) -> String {
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let others: Vec<u8> = (0..=255).filter(|b| !printable(b)).collect();
    let place = |b: &u8| others.iter().position(|other| other == b);
    bytes
        .iter()
        .map(|b| place(b).map_or(char::from(*b), |n| char::from_u32(256 + n as u32).unwrap()))
        .collect()
}

/// Checks goldens against the slices of the corpora that they name.
fn check(names: &[String], golden: impl Fn(&str) -> Vec<u8>, mut corpus: impl FnMut(&Golden) -> Vec<u8>) {
    // The larger goldens ask more of the same counts, so these are made once for each setting.
    let mut counted: HashMap<(String, String, Vec<String>, bool), WordCounts> = HashMap::new();
    for name in names {
        let golden: Golden = serde_json::from_slice(&golden(name)).unwrap();
        let config = golden.config(2);
        let lines = golden.records == Records::Lines;
        let key = (golden.slice_sha256.clone(), golden.pattern.clone(), golden.special_tokens.clone(), lines);
        let counts = counted.entry(key).or_insert_with(|| {
            let corpus = corpus(&golden);
            let digest = Sha256::digest(&corpus).iter().map(|b| format!("{b:02x}")).collect::<String>();
            assert_eq!(digest, golden.slice_sha256, "{name}: the corpus is another");
            golden.count(std::str::from_utf8(&corpus).unwrap(), &config)
        });
        golden.check(name, &train(&*counts, &config, &mut ()).unwrap());
    }
}

#[test]
fn merges_and_counts_are_those_of_the_reference() {
    let golden = |name: &str| data::local(&format!("golden/train/{name}"));
    let local: Vec<String> = LOCAL.iter().map(|name| format!("train-dev-{name}.json")).collect();
    check(&local, golden, |_| data::local(LOCAL_CORPUS));

    let names = data::shared_names("golden/train");
    let names: Vec<String> =
        names.into_iter().filter(|name| name.starts_with("train-") && name.ends_with(".json")).collect();
    assert_eq!(
        names.is_empty(),
        data::shared_names("golden").is_empty(),
        "the full set has training goldens"
    );
    let golden = |name: &str| data::shared(&format!("golden/train/{name}")).unwrap();
    let mut corpora: HashMap<String, Vec<u8>> = HashMap::new();
    check(&names, golden, |golden| {
        let mut whole = Vec::new();
        for (name, size) in &golden.slice {
            let corpus = corpora
                .entry(name.clone())
                .or_insert_with(|| data::shared(&format!("corpora/{name}.txt")).unwrap());
            let slice = &corpus[..*size];
            let end = slice.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
            whole.extend_from_slice(&slice[..end]);
        }
        whole
    });
}

#[test]
fn one_thread_and_shuffled_records_give_the_same() {
    let golden: Golden =
        serde_json::from_slice(&data::local("golden/train/train-dev-tiny-cl100k-1000.json")).unwrap();
    let corpus = data::local(LOCAL_CORPUS);
    let corpus = std::str::from_utf8(&corpus).unwrap();
    let (one, two) = (golden.config(1), golden.config(2));
    let expected = golden.count(corpus, &two);
    assert_eq!(golden.count(corpus, &one), expected);

    // A fixed shuffle: every line, in steps that share no factor with their number.
    let lines: Vec<&str> = corpus.split_inclusive('\n').collect();
    let step = (lines.len() / 3..).find(|step| gcd(*step, lines.len()) == 1).unwrap();
    let shuffled: Vec<&str> = (0..lines.len()).map(|i| lines[i * step % lines.len()]).collect();
    let mut counter = Counter::new(&two).unwrap();
    for batch in shuffled.chunks(100) {
        counter.add_batch(batch, &mut ()).unwrap();
    }
    assert_eq!(counter.finish().unwrap(), expected);
    let shuffled = WordCounts::from_pairs(expected.iter().collect::<Vec<_>>().into_iter().rev()).unwrap();
    assert_eq!(shuffled, expected);
}

#[derive(Deserialize)]
struct ExtensionGolden {
    slice: Vec<(String, usize)>,
    pattern: String,
    base: String,
    first_new_id: u32,
    min_frequency: u64,
    distinct_new: u32,
    /// Token, left id, right id, count.
    new: Vec<(String, u32, u32, u64)>,
}

fn base(file: &str, split: &str) -> Tokenizer {
    let bytes = data::shared(&format!("vocabs/{file}")).unwrap();
    let options = ImportOptions { split: Some(split.to_owned()), ..ImportOptions::default() };
    formats::import(&bytes, None, &options).unwrap()
}

#[test]
fn extensions_are_those_of_the_reference() {
    use base64::Engine;
    let names = data::shared_names("golden/train");
    for name in names.iter().filter(|name| name.starts_with("extend-")) {
        let golden: ExtensionGolden =
            serde_json::from_slice(&data::shared(&format!("golden/train/{name}")).unwrap()).unwrap();
        let base = base(&golden.base, "qwen2");
        let mut corpus = Vec::new();
        for (file, size) in &golden.slice {
            let whole = data::shared(&format!("corpora/{file}.txt")).unwrap();
            let end = whole[..*size].iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
            corpus.extend_from_slice(&whole[..end]);
        }
        let lines: Vec<&str> = std::str::from_utf8(&corpus).unwrap().split_inclusive('\n').collect();
        for threads in [1, 2] {
            let config = TrainConfig {
                num_merges: Some(golden.distinct_new),
                min_frequency: golden.min_frequency,
                threads,
                ..TrainConfig::new(Pattern::from_regexes(&[&golden.pattern]).unwrap())
            };
            let mut counter = Counter::new(&config).unwrap();
            counter.add_batch(&lines, &mut ()).unwrap();
            let extension = Extension::new(&base, None).unwrap();
            let extended = extension.train(&counter.finish().unwrap(), &config, &[], &mut ()).unwrap();
            // The golden counts its ids on from the ranks, below the special tokens.
            let first = base.vocab_size() as u32;
            let as_golden = |id: u32| if id < first { id } else { id - first + golden.first_new_id };
            let made = extended.tokens.iter().zip(&extended.merges).map(|(token, merge)| {
                let token = base64::engine::general_purpose::STANDARD.encode(token);
                (token, as_golden(merge.left), as_golden(merge.right), merge.count)
            });
            for (i, (made, expected)) in made.zip(&golden.new).enumerate() {
                assert_eq!(made, *expected, "{name}: merge {i}");
            }
            assert_eq!(extended.merges.len(), golden.new.len());
            let parts = extension.parts(&extended, Pretokenizer::Pattern(config.pattern.clone()));
            let made = Tokenizer::new(parts).unwrap();
            assert_eq!(made.vocab_size() as u32, first + golden.distinct_new);
            assert!((0..first).all(|id| made.vocab().bytes(id) == base.vocab().bytes(id)));
        }
    }
}

#[test]
fn words_with_frequencies_give_the_published_extension_of_qwen() {
    let Some(words) = data::shared("golden/train/qwen_extra_vocab.txt") else { return };
    let published = data::shared("golden/train/qwen_extra.tiktoken").unwrap();
    let base = base("qwen.tiktoken", "qwen2");
    let words = std::str::from_utf8(&words).unwrap().lines().map(|line| {
        let (word, count) = line.split_once('\t').unwrap();
        (word, count.parse::<u64>().unwrap())
    });
    let counts = WordCounts::from_pairs(words).unwrap();
    let config = TrainConfig::new(Pattern::parse("qwen2").unwrap());
    let extension = Extension::new(&base, None).unwrap();
    let (extended, left_out) = extension.train_words(&counts, &config, &mut ()).unwrap();
    let lines = extended.tokens.iter().zip(&extended.merges).map(|(token, merge)| {
        use base64::Engine;
        format!("{} {}\n", base64::engine::general_purpose::STANDARD.encode(token), merge.id)
    });
    assert_eq!(lines.collect::<String>(), std::str::from_utf8(&published).unwrap());
    assert_eq!(left_out.cut, 1, "a word with a space in it");
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
