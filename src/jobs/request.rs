//! What a training job is asked to do, checked before it is accepted.

use super::JobError;
use crate::engine::{Digits, Form, Pattern, TieBreak, TrainConfig, TrainError};
use crate::registry::{AliasName, VocabName};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;
use utoipa::ToSchema;

/// A training request. One of `vocab_size` and `num_merges` is required; with both the first reached stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// How text is cut before counting: `gpt2`, `cl100k`, `o200k`, `qwen2`, `llama3`, `deepseek`, or a regex.
    #[serde(default = "default_split")]
    #[schema(default = "cl100k")]
    pub split: String,
    /// Replaces the number rule of a split family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<DigitsName>,
    /// Unicode normalization before the cut.
    #[serde(default)]
    #[schema(default = json!("none"))]
    pub normalizer: NormalizerName,
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

/// What to train on: exactly one of `texts`, `files` and `upload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// What files and uploads hold. gzip and zstd are told by their first bytes.
    #[serde(default)]
    #[schema(default = json!("text"))]
    pub format: CorpusFormat,
    /// The JSONL field that holds the text.
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

fn default_split() -> String {
    "cl100k".to_owned()
}

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
            split: default_split(),
            digits: None,
            normalizer: NormalizerName::None,
            special_tokens: Vec::new(),
            tie_break: TieBreakName::Hf,
            aliases: Vec::new(),
        }
    }

    /// The trainer's settings, checked.
    ///
    /// # Errors
    /// [`JobError::Invalid`] with a JSON pointer to the field at fault.
    pub fn config(&self, threads: usize) -> Result<TrainConfig, JobError> {
        let mut pattern =
            Pattern::parse(&self.split).map_err(|e| JobError::invalid("/split", e.to_string()))?;
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
        let config = TrainConfig {
            normalizer: match self.normalizer {
                NormalizerName::None => None,
                NormalizerName::Nfc => Some(Form::Nfc),
                NormalizerName::Nfd => Some(Form::Nfd),
                NormalizerName::Nfkc => Some(Form::Nfkc),
                NormalizerName::Nfkd => Some(Form::Nfkd),
            },
            special_tokens: self.special_tokens.clone(),
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
        config.validate().map_err(|e: TrainError| {
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
}

impl CorpusRequest {
    /// Checks what can be said without looking at a file.
    pub(super) fn check(&self) -> Result<(), JobError> {
        let invalid = |pointer: &str, reason: &str| Err(JobError::invalid(pointer, reason.to_owned()));
        let sources = usize::from(self.texts.is_some())
            + usize::from(self.files.is_some())
            + usize::from(self.upload.is_some());
        if sources != 1 {
            return invalid("/corpus", "needs exactly one of texts, files and upload");
        }
        if self.texts.as_ref().is_some_and(|t| t.iter().all(String::is_empty)) {
            return invalid("/corpus/texts", "holds no text");
        }
        if self.files.as_ref().is_some_and(Vec::is_empty) {
            return invalid("/corpus/files", "names no file");
        }
        if self.texts.is_some() && (self.format != CorpusFormat::Text || self.records != Records::Whole) {
            let pointer = if self.records == Records::Whole { "/corpus/format" } else { "/corpus/records" };
            return invalid(pointer, "is for files and uploads; each of texts is one record");
        }
        if self.format == CorpusFormat::Jsonl && self.records != Records::Whole {
            return invalid("/corpus/records", "is for text files; each line of JSONL is one record");
        }
        if self.field.is_some() && self.format != CorpusFormat::Jsonl {
            return invalid("/corpus/field", "needs format jsonl");
        }
        Ok(())
    }
}
