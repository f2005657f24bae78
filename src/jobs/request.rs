//! What a training job is asked to do, checked before it is accepted.

use super::JobError;
use crate::engine::{
    Digits, Extension, Form, Normalizer, Pattern, Scripts, Tables, TieBreak, Tokenizer, TrainConfig,
    TrainError,
};
use crate::registry::{AliasName, VocabName, VocabRef};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;
use utoipa::ToSchema;

/// A training request. One of `vocab_size` and `num_merges` is required (not with `words`); with both the first reached stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    /// The vocabulary that gets a new version.
    #[schema(value_type = String, example = "zh")]
    pub name: VocabName,
    /// What to train on.
    #[serde(deserialize_with = "object")]
    pub corpus: CorpusRequest,
    /// Stop at this many tokens: special tokens, 256 bytes and merges together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 32000)]
    pub vocab_size: Option<u32>,
    /// Stop at this many merges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_merges: Option<u32>,
    /// Stop when the best pair occurs less often than this.
    #[serde(default = "default_min_frequency")]
    #[schema(default = 2)]
    pub min_frequency: u64,
    /// The longest token that a merge may make, in bytes, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_token_bytes: Option<u32>,
    /// The vocabulary (`name`, `name@3`, `name@alias`) to extend: all of its ids stay, new ones follow its highest. Byte-level
    /// BPE only. Fixed to its version when the job is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "cl100k@1")]
    pub base: Option<VocabRef>,
    /// Unicode scripts (`Han`, ...) of which alone new tokens are made; needs `base`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<String>,
    /// `corpus.counts` is a list of words with frequencies, each of which becomes one token, as in Qwen's published
    /// extension; needs `base`. `min_frequency` and `tie_break` have no say then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub words: bool,
    /// Pretokens that occur less often than this are dropped before merging; the result tells how many these were. 1 keeps all.
    #[serde(default = "one")]
    #[schema(default = 1)]
    pub prune_count: u64,
    /// Share of the records, 0 to 0.5, that is not trained on; with `base` the result's bytes per token are measured there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = 0.0)]
    pub hold_back: Option<f64>,
    /// How text is cut before counting: `gpt2`, `cl100k`, `o200k`, `qwen2`, `llama3`, `deepseek`, or a regex; as the base where
    /// there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "cl100k")]
    pub split: Option<String>,
    /// Replaces the number rule of a split family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<DigitsName>,
    /// Unicode normalization before the cut; as the base where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = json!("none"))]
    pub normalizer: Option<NormalizerName>,
    /// Names that get an id, end the record where they occur in a text, and are never counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special_tokens: Vec<String>,
    /// How ids are numbered, and so which of several equally frequent pairs is merged first.
    #[serde(default)]
    #[schema(default = json!("hf"))]
    pub tie_break: TieBreakName,
    /// Aliases to move to the new version when the job succeeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<AliasName>,
}

/// What to train on: exactly one of `texts`, `files`, `upload`, `urls`, `counts` and `sources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorpusRequest {
    /// Texts in the request itself; each is one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Vec<String>>,
    /// Files under the configured corpus root, as paths relative to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// The id of an upload made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Files by http(s) URL; off until the setting `corpus_urls` allows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Pretokens with counts that were made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsRequest>,
    /// Several corpora, each as if it were alone but with a `weight` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    pub sources: Option<Vec<CorpusRequest>>,
    /// One of `sources`: what its counts are multiplied by (rounded to whole numbers), over 0 and at most 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = 1.0)]
    pub weight: Option<f64>,
    /// What files, uploads and URLs hold. gzip and zstd are told by their first bytes.
    #[serde(default)]
    #[schema(default = json!("text"))]
    pub format: CorpusFormat,
    /// The JSONL field or Parquet column that holds the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "text")]
    pub field: Option<String>,
    /// How a text file is parted into records (the file, its lines with their line feeds, its paragraphs); no pretoken crosses from one into the next.
    #[serde(default)]
    #[schema(default = json!("whole"))]
    pub records: Records,
    /// What happens to bytes that are not UTF-8: the job fails and names their place, or they become U+FFFD.
    #[serde(default)]
    #[schema(default = json!("error"))]
    pub invalid_utf8: InvalidUtf8,
    /// Share of the records that is read, over 0 and at most 1. Which ones depends on their content alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = 1.0)]
    pub sample: Option<f64>,
}

/// Where counts are: exactly one of `files` and `upload`.
///
/// Parquet with the columns `pretoken` and `count`, NDJSON, or lines of
/// pretoken, tab, count; told by the content. Counts of the same pretoken are added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CountsRequest {
    /// Files under the configured corpus root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// The id of an upload made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
}

/// What corpus files hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CorpusFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object a line, one record each.
    Jsonl,
    /// A column of a Parquet file, one record a row.
    Parquet,
}

/// How a text file is parted into records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// A file is one record.
    #[default]
    Whole,
    /// Each line, with its line feed.
    Lines,
    /// The lines between blank lines; the line feed before a blank line is not part of the record.
    Paragraphs,
}

/// What happens to bytes of a corpus that are not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvalidUtf8 {
    /// The job fails and names the file and the byte.
    #[default]
    Error,
    /// Each ill-formed part becomes U+FFFD; the result tells how many.
    Replace,
}

/// How digits are cut: one by one, in groups of one to three, or whole runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DigitsName {
    /// One by one.
    Single,
    /// In groups of one to three.
    Group3,
    /// Whole runs.
    Run,
}

/// A Unicode normalization form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NormalizerName {
    /// The text as it is.
    #[default]
    None,
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

/// `hf`: special tokens, then the bytes by GPT-2 code point, then merges. `bytes`: bytes by value, merges, special
/// tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TieBreakName {
    /// Special tokens first, then the bytes by GPT-2 code point, then merges; as Hugging Face's trainer.
    #[default]
    Hf,
    /// Bytes by value, then merges, then special tokens; as rustbpe.
    Bytes,
}

/// Takes an object only: serde reads an array as the fields in their order, and that order is no part of the contract.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(PhantomData))
}

fn default_min_frequency() -> u64 {
    2
}

fn one() -> u64 {
    1
}

/// How texts are cut where neither the request nor a base says it.
const DEFAULT_SPLIT: &str = "cl100k";

/// The largest weight of a source.
const MAX_WEIGHT: f64 = 1e6;

/// The most sources of one corpus, URLs of one source, and scripts.
const MAX_SOURCES: usize = 1000;
const MAX_URLS: usize = 10_000;
const MAX_SCRIPTS: usize = 64;

/// The most aliases that one job may move.
const MAX_ALIASES: usize = 16;

/// The most bytes that the name of a special token may have, and the most of them.
const MAX_SPECIAL_BYTES: usize = 256;
const MAX_SPECIALS: usize = 10_000;

impl TrainRequest {
    /// A request for `name` with every default, and no stop rule yet.
    pub fn new(name: VocabName, corpus: CorpusRequest) -> Self {
        Self {
            name,
            corpus,
            vocab_size: None,
            num_merges: None,
            min_frequency: default_min_frequency(),
            max_token_bytes: None,
            base: None,
            scripts: Vec::new(),
            words: false,
            prune_count: 1,
            hold_back: None,
            split: None,
            digits: None,
            normalizer: None,
            special_tokens: Vec::new(),
            tie_break: TieBreakName::Hf,
            aliases: Vec::new(),
        }
    }

    /// The trainer's settings, checked; `base` is the vocabulary that the request extends.
    ///
    /// # Errors
    /// [`JobError::Invalid`] with a JSON pointer to the field at fault.
    pub fn config(&self, threads: usize, base: Option<&Tokenizer>) -> Result<TrainConfig, JobError> {
        self.check_extension()?;
        let extension = base.map(|base| self.extension(base)).transpose()?;
        let mut pattern = match (&self.split, &extension) {
            (Some(split), _) => {
                Pattern::parse(split).map_err(|e| JobError::invalid("/split", e.to_string()))?
            }
            (None, Some(extension)) => {
                extension.pattern().map_err(|e| JobError::invalid("/base", e.to_string()))?
            }
            (None, None) => Pattern::parse(DEFAULT_SPLIT).unwrap_or_default(),
        };
        if let Some(digits) = self.digits {
            let digits = match digits {
                DigitsName::Single => Digits::Single,
                DigitsName::Group3 => Digits::Group3,
                DigitsName::Run => Digits::Run,
            };
            pattern = pattern.with_digits(digits).map_err(|e| JobError::invalid("/digits", e.to_string()))?;
        }
        if self.special_tokens.len() > MAX_SPECIALS {
            return Err(JobError::invalid("/special_tokens", format!("has over {MAX_SPECIALS} entries")));
        }
        if let Some(index) = self.special_tokens.iter().position(|name| name.len() > MAX_SPECIAL_BYTES) {
            let pointer = format!("/special_tokens/{index}");
            return Err(JobError::invalid(pointer, format!("has over {MAX_SPECIAL_BYTES} bytes")));
        }
        if self.aliases.len() > MAX_ALIASES {
            return Err(JobError::invalid("/aliases", format!("has over {MAX_ALIASES} entries")));
        }
        let mut special_tokens: Vec<String> = match base {
            // Of a base all names end a record: none of them is ever part of a pretoken.
            Some(base) => base.specials().list().iter().map(|token| token.name.clone()).collect(),
            None => Vec::new(),
        };
        match base {
            Some(base) => {
                let new = self.special_tokens.iter().filter(|name| base.specials().by_name(name).is_none());
                special_tokens.extend(new.cloned());
            }
            None => special_tokens.clone_from(&self.special_tokens),
        }
        let config = TrainConfig {
            normalizer: match (self.normalizer, base.map(Tokenizer::normalizer)) {
                (Some(NormalizerName::None), _) | (None, None | Some(Normalizer::None)) => None,
                (Some(NormalizerName::Nfc), _) => Some(Form::Nfc),
                (Some(NormalizerName::Nfd), _) => Some(Form::Nfd),
                (Some(NormalizerName::Nfkc), _) => Some(Form::Nfkc),
                (Some(NormalizerName::Nfkd), _) => Some(Form::Nfkd),
                (None, Some(Normalizer::Unicode(form, _))) => Some(*form),
                (None, Some(_)) => {
                    let reason = "normalizes texts by more than a Unicode form; name one with normalizer";
                    return Err(JobError::invalid("/base", reason));
                }
            },
            tables: match base.map(Tokenizer::normalizer) {
                Some(Normalizer::Unicode(_, tables)) => *tables,
                _ => Tables::Reference,
            },
            special_tokens,
            vocab_size: self.vocab_size,
            num_merges: self.num_merges,
            min_frequency: self.min_frequency,
            max_token_bytes: self.max_token_bytes,
            tie_break: match self.tie_break {
                TieBreakName::Hf => TieBreak::Hf,
                TieBreakName::Bytes => TieBreak::Bytes,
            },
            threads,
            ..TrainConfig::new(pattern)
        };
        let checked = match &extension {
            // Lists of words stop by themselves.
            Some(_) if self.words && config.vocab_size.is_none() && config.num_merges.is_none() => Ok(()),
            Some(extension) => extension.validate(&config),
            None => config.validate(),
        };
        checked.map_err(|e: TrainError| {
            let pointer = match &e {
                TrainError::EmptySpecialToken { index } | TrainError::DuplicateSpecialToken { index } => {
                    format!("/special_tokens/{index}")
                }
                other => other.field().map_or(String::new(), |field| format!("/{field}")),
            };
            JobError::invalid(pointer, e.to_string())
        })?;
        Ok(config)
    }

    /// How the base is extended.
    pub(super) fn extension<'b>(&self, base: &'b Tokenizer) -> Result<Extension<'b>, JobError> {
        let scripts = match self.scripts.as_slice() {
            [] => None,
            names => Some(Scripts::parse(names).map_err(|index| {
                JobError::invalid(format!("/scripts/{index}"), "is not the name of a Unicode script")
            })?),
        };
        Extension::new(base, scripts).map_err(|e| JobError::invalid("/base", e.to_string()))
    }

    fn check_extension(&self) -> Result<(), JobError> {
        let needs_base = |pointer: &str| Err(JobError::invalid(pointer, "needs base"));
        if self.base.is_none() && self.words {
            return needs_base("/words");
        }
        if self.base.is_none() && !self.scripts.is_empty() {
            return needs_base("/scripts");
        }
        if self.scripts.len() > MAX_SCRIPTS {
            return Err(JobError::invalid("/scripts", format!("has over {MAX_SCRIPTS} entries")));
        }
        if self.words && self.corpus.counts.is_none() {
            return Err(JobError::invalid("/words", "needs corpus.counts: the words with their frequencies"));
        }
        if self.prune_count == 0 {
            return Err(JobError::invalid("/prune_count", "must be at least 1"));
        }
        match self.hold_back {
            Some(share) if !(0.0..=0.5).contains(&share) => {
                Err(JobError::invalid("/hold_back", "must be from 0 to 0.5"))
            }
            Some(share) if share > 0.0 => self.corpus.has_records("/corpus", "hold_back"),
            _ => Ok(()),
        }
    }
}

impl CorpusRequest {
    /// Itself, or its sources, each with where it is in the request.
    pub(super) fn groups(&self) -> Vec<(String, &Self)> {
        match &self.sources {
            None => vec![("/corpus".to_owned(), self)],
            Some(sources) => {
                sources.iter().enumerate().map(|(at, one)| (format!("/corpus/sources/{at}"), one)).collect()
            }
        }
    }

    /// The uploads that it reads.
    pub(super) fn uploads(&self) -> Vec<(String, &str)> {
        let groups = self.groups().into_iter().flat_map(|(at, one)| {
            let counts = one.counts.as_ref().and_then(|counts| counts.upload.as_deref());
            let upload = one.upload.as_deref().map(|id| (format!("{at}/upload"), id));
            upload.into_iter().chain(counts.map(|id| (format!("{at}/counts/upload"), id)))
        });
        groups.collect()
    }

    /// The files that it reads.
    pub(super) fn files(&self) -> Vec<(String, &[String])> {
        let groups = self.groups().into_iter().flat_map(|(at, one)| {
            let counts = one.counts.as_ref().and_then(|counts| counts.files.as_deref());
            let files = one.files.as_deref().map(|files| (format!("{at}/files"), files));
            files.into_iter().chain(counts.map(|files| (format!("{at}/counts/files"), files)))
        });
        groups.collect()
    }

    /// The URLs that it reads.
    pub(super) fn urls(&self) -> Vec<(String, &[String])> {
        let groups = self.groups().into_iter();
        groups.filter_map(|(at, one)| Some((format!("{at}/urls"), one.urls.as_deref()?))).collect()
    }

    /// Whether records can be left out of it.
    fn has_records(&self, at: &str, what: &str) -> Result<(), JobError> {
        for (at, one) in
            self.groups().into_iter().map(|(below, one)| (at.to_owned() + &below["/corpus".len()..], one))
        {
            let whole =
                one.texts.is_none() && one.format == CorpusFormat::Text && one.records == Records::Whole;
            if whole || one.counts.is_some() {
                let reason =
                    format!("{what} leaves out records: part the text with records = lines or paragraphs");
                return Err(JobError::invalid(format!("{at}/records"), reason));
            }
        }
        Ok(())
    }

    /// Checks what can be said without looking at a file.
    pub(super) fn check(&self) -> Result<(), JobError> {
        if let Some(sources) = &self.sources {
            let alone = Self { sources: Some(sources.clone()), ..Self::default() };
            if *self != alone {
                return Err(JobError::invalid("/corpus", "has sources, and so no other field"));
            }
            if sources.is_empty() || sources.len() > MAX_SOURCES {
                return Err(JobError::invalid(
                    "/corpus/sources",
                    format!("needs 1 to {MAX_SOURCES} entries"),
                ));
            }
            for (at, source) in self.groups() {
                if source.sources.is_some() {
                    return Err(JobError::invalid(format!("{at}/sources"), "a source has no sources"));
                }
                source.check_one(&at)?;
            }
            return Ok(());
        }
        if self.weight.is_some() {
            return Err(JobError::invalid("/corpus/weight", "is for one of sources"));
        }
        self.check_one("/corpus")
    }

    fn check_one(&self, at: &str) -> Result<(), JobError> {
        let invalid =
            |pointer: &str, reason: &str| Err(JobError::invalid(format!("{at}{pointer}"), reason.to_owned()));
        let sources = [
            self.texts.is_some(),
            self.files.is_some(),
            self.upload.is_some(),
            self.urls.is_some(),
            self.counts.is_some(),
        ];
        if sources.into_iter().filter(|there| *there).count() != 1 {
            return invalid("", "needs exactly one of texts, files, upload, urls and counts");
        }
        if self.weight.is_some_and(|weight| !(weight > 0.0 && weight <= MAX_WEIGHT)) {
            return invalid("/weight", "must be over 0 and at most 1000000");
        }
        if self.sample.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return invalid("/sample", "must be over 0 and at most 1");
        }
        if self.sample.is_some_and(|share| share < 1.0) {
            self.has_records(at, "sample")?;
        }
        if self.texts.as_ref().is_some_and(|t| t.iter().all(String::is_empty)) {
            return invalid("/texts", "holds no text");
        }
        if self.files.as_ref().is_some_and(Vec::is_empty) {
            return invalid("/files", "names no file");
        }
        if self.urls.as_ref().is_some_and(|urls| urls.is_empty() || urls.len() > MAX_URLS) {
            return invalid("/urls", "needs 1 to 10000 URLs");
        }
        if let Some(counts) = &self.counts {
            if counts.files.is_some() == counts.upload.is_some() {
                return invalid("/counts", "needs exactly one of files and upload");
            }
            if counts.files.as_ref().is_some_and(Vec::is_empty) {
                return invalid("/counts/files", "names no file");
            }
        }
        let is_text = self.format == CorpusFormat::Text;
        if (self.texts.is_some() || self.counts.is_some()) && (!is_text || self.records != Records::Whole) {
            let pointer = if self.records == Records::Whole { "/format" } else { "/records" };
            let of_texts = "is for files and uploads; each of texts is one record";
            let of_counts = "is for files and uploads of text; what counts are is told by their content";
            return invalid(pointer, if self.texts.is_some() { of_texts } else { of_counts });
        }
        if !is_text && self.records != Records::Whole {
            return invalid(
                "/records",
                "is for text files; each line of JSONL, or row of Parquet, is one record",
            );
        }
        if self.field.is_some() && is_text {
            return invalid("/field", "needs format jsonl or parquet");
        }
        Ok(())
    }
}
