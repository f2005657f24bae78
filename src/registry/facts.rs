//! What is known about a version without loading it, and the record that keeps it in the store.

use super::name::VocabName;
use super::quota::Publisher;
use crate::engine::EncodeOptions;
use crate::engine::Pattern;
use crate::engine::Scratch;
use crate::engine::Tokenizer;
use crate::store::Digest;
use serde::{Deserialize, Serialize};

/// The facts of one published version. Immutable; the record in the store is this and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionFacts {
    /// The vocabulary.
    pub name: VocabName,
    /// Its number.
    pub version: u32,
    /// Of the canonical native bytes.
    pub digest: Digest,
    /// When it was published, RFC 3339 in UTC.
    pub created_at: String,
    /// What it came as: `embedded`, `trained` or the name of the imported format.
    pub format: String,
    /// Where it came from: a file name, a job id, ... Free text.
    pub source: String,
    /// Of the file it was imported from, with its sidecar: tells that a file was imported already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    /// One more than the highest token id.
    pub vocab_size: u64,
    /// Number of tokens, special ones included.
    pub tokens: u64,
    /// Number of merges.
    pub merges: u64,
    /// Number of special and added tokens.
    pub special_tokens: u64,
    /// The split pattern.
    pub split: SplitFacts,
    /// The normalizer.
    pub normalizer: String,
    /// Length of the longest token in bytes.
    pub longest_token_bytes: u64,
    /// Size of the canonical native bytes.
    pub native_bytes: u64,
    /// Figures of the training run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<serde_json::Value>,
    /// Whose quotas it is counted in: the name of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

/// A split pattern as facts name it: the family where it is one unchanged, the regexes otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SplitFacts {
    /// A family by name.
    Family(String),
    /// Regexes in the order in which they apply; for pre-tokenizers that do more, the names of their steps.
    Regexes(Vec<String>),
}

/// Where a version comes from.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// See [`VersionFacts::format`].
    pub format: String,
    /// See [`VersionFacts::source`].
    pub source: String,
    /// See [`VersionFacts::source_digest`].
    pub source_digest: Option<Digest>,
    /// See [`VersionFacts::training`].
    pub training: Option<serde_json::Value>,
    /// Who publishes it, where somebody was asked.
    pub publisher: Option<Publisher>,
}

/// A version in memory: what a request holds to its end, whatever is published, moved or deleted meanwhile.
#[derive(Debug)]
pub struct Loaded {
    /// What is known about it.
    pub facts: std::sync::Arc<VersionFacts>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The facts as answers have them.
    pub told: Told,
}

/// How answers name the version that made them. Every one does, so that it is written once.
#[derive(Debug)]
pub struct Told {
    /// `name@version`.
    pub version: bytes::Bytes,
    /// The digest.
    pub digest: String,
    /// The digest in quotes: an entity tag.
    pub etag: bytes::Bytes,
    /// `{"name","version","digest"}` as JSON.
    pub json: String,
}

impl Told {
    fn new(facts: &VersionFacts) -> Self {
        let digest = facts.digest.to_string();
        Self {
            version: format!("{}@{}", facts.name, facts.version).into(),
            etag: format!("\"{digest}\"").into(),
            // Names and digests have no character that JSON would write in another way.
            json: format!(r#"{{"name":"{}","version":{},"digest":"{digest}"}}"#, facts.name, facts.version),
            digest,
        }
    }
}

impl Loaded {
    /// A version that is in memory from now on. The tables that make encoding quick take several times as long as loading, so they
    /// are made beside it where they are not made yet: neither a start nor a request waits for them.
    pub(super) fn new(facts: std::sync::Arc<VersionFacts>, tokenizer: Tokenizer) -> std::sync::Arc<Self> {
        let loaded = std::sync::Arc::new(Self { told: Told::new(&facts), facts, tokenizer });
        if !loaded.tokenizer.is_prepared() {
            let unprepared = std::sync::Arc::clone(&loaded);
            super::sync::aside(move || unprepared.tokenizer.prepare());
        }
        loaded
    }
}

/// A version record. A deleted version leaves its record behind, so that its number is never used again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) facts: VersionFacts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deleted_at: Option<String>,
    /// See [`AliasRecord::change`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

/// An alias record.
///
/// One that moves with a publish is written before the version's record, so that the version and the move become
/// true in one moment: until the record is there, the alias is where it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AliasRecord {
    pub(super) version: u32,
    /// Of that version: another process may have got the number for other content. Files made by hand may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    /// Where the alias was, if that version never came to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<u32>,
    /// Which change wrote the record: no two write the same bytes, so that one which fails takes back its own and never
    /// that of another to the same effect. The tags of S3 do not tell these apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

impl VersionFacts {
    /// The only place that reads facts off a tokenizer.
    pub(super) fn new(
        name: &VocabName,
        version: u32,
        tokenizer: &Tokenizer,
        native: (Digest, u64),
        from: &Provenance,
    ) -> Self {
        let pretokenizer = tokenizer.pretokenizer();
        Self {
            name: name.clone(),
            version,
            digest: native.0,
            created_at: now(),
            format: from.format.clone(),
            source: from.source.clone(),
            source_digest: from.source_digest,
            vocab_size: tokenizer.vocab_size() as u64,
            tokens: tokenizer.vocab().len() as u64,
            merges: tokenizer.merges().len() as u64,
            special_tokens: tokenizer.specials().list().len() as u64,
            split: match pretokenizer.pattern().and_then(Pattern::family) {
                Some(family) => SplitFacts::Family(family.name().to_owned()),
                None => SplitFacts::Regexes(pretokenizer.describe()),
            },
            normalizer: tokenizer.normalizer().name().into_owned(),
            longest_token_bytes: tokenizer.vocab().longest() as u64,
            native_bytes: native.1,
            training: from.training.clone(),
            publisher: from.publisher.as_ref().map(|publisher| publisher.name.clone()),
        }
    }
}

impl Record {
    pub(super) fn live(facts: &VersionFacts) -> Self {
        Self { facts: facts.clone(), deleted_at: None, change: a_change() }
    }

    pub(super) fn deleted(facts: &VersionFacts) -> Self {
        Self { facts: facts.clone(), deleted_at: Some(now()), change: a_change() }
    }
}

impl AliasRecord {
    pub(super) fn new(version: u32, digest: Option<Digest>, previous: Option<u32>) -> Self {
        Self { version, digest, previous, change: a_change() }
    }
}

fn a_change() -> Option<String> {
    Some(uuid::Uuid::new_v4().simple().to_string())
}

/// The bytes of a record. Indented: people read and repair these files.
pub(super) fn to_json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("records have string keys and no failing serializer")
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a tokenizer read back from its canonical bytes does what the original does, tried on a few texts.
pub(super) fn agrees(original: &Tokenizer, stored: &Tokenizer) -> bool {
    let scratch = &mut Scratch::default();
    PROBES.iter().all(|text| {
        let options = EncodeOptions::default();
        let (before, after) =
            (original.encode(text, &options, scratch), stored.encode(text, &options, scratch));
        match (before, after) {
            (Ok(before), Ok(after)) => {
                before == after
                    && stored.decode_bytes(&after.ids, false) == original.decode_bytes(&before.ids, false)
            }
            (before, after) => before == after,
        }
    })
}

/// Letters of several scripts, digits, spaces in every position, emoji with joiners, combining marks.
const PROBES: [&str; 5] = [
    "The quick brown fox doesn't jump over 1234567890 lazy dogs.\n\n  def f(x):\n\treturn x  \r\n",
    "训练一个中文词表，然后比较：今天天气怎么样？２０２６年。",
    "👩‍👩‍👧‍👦 e\u{301} ﬁ Å 한국어 日本語 العربية हिन्दी ไทย",
    " ",
    "",
];
