//! Merges and their counts against the reference trainer: all of them, for every golden.

use crate::data;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use vocabd::engine::{Counter, Pattern, StopReason, TieBreak, TrainConfig, Trained, WordCounts, train};

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
        golden.check(name, &train(counts, &config, &mut ()).unwrap());
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

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
