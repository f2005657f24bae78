//! What is kept of a job, and what is told of it.

use super::progress::ProgressView;
use super::report::TrainReport;
use crate::registry::{VersionFacts, VocabName};
use crate::store::Segment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The id of a job: 128 bits that cannot be guessed, in order of creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl TryFrom<String> for JobId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a job id is 32 lower-case hex digits")
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl JobId {
    pub(super) fn new() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// The id that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn segment(&self) -> Segment {
        Segment::parse(&self.0).expect("32 hex digits make a key segment")
    }
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Runs.
    Running,
    /// Ended with a vocabulary.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended because it was told to.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The name used in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A version of a vocabulary, as answers name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VocabTriple {
    /// Its vocabulary.
    #[schema(example = "zh")]
    pub name: String,
    /// Its number.
    #[schema(example = 1)]
    pub version: u32,
    /// `sha256:` and the digest of its content.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub digest: String,
}

impl From<&VersionFacts> for VocabTriple {
    fn from(facts: &VersionFacts) -> Self {
        Self { name: facts.name.to_string(), version: facts.version, digest: facts.digest.to_string() }
    }
}

/// What a job that succeeded made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobResult {
    /// The version.
    pub vocab: VocabTriple,
    /// Whether the version is new; `false` where the vocabulary had the same content already.
    pub created: bool,
    /// Tokens, special ones included.
    pub vocab_size: u64,
    /// Merges made.
    pub merges: u64,
    /// Distinct pretokens of the corpus.
    pub distinct_pretokens: u64,
    /// Pretokens of the corpus.
    pub pretokens: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Ill-formed parts of the corpus that were replaced by U+FFFD.
    pub replaced: u64,
    /// Seconds from start to the published version.
    pub seconds: f64,
    /// What the corpus says of the new tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<TrainReport>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobFailure {
    /// A stable word for programs.
    #[schema(example = "corpus_not_utf8")]
    pub code: String,
    /// The same for people.
    pub detail: String,
}

/// What is stored of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JobRecord {
    pub(super) id: JobId,
    pub(super) name: VocabName,
    pub(super) state: JobState,
    pub(super) created_at: String,
    pub(super) started_at: Option<String>,
    pub(super) finished_at: Option<String>,
    pub(super) result: Option<JobResult>,
    pub(super) stop_reason: Option<String>,
    pub(super) error: Option<JobFailure>,
    /// The uploads that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) uploads: Vec<String>,
    /// The same of a record of an earlier version of the program, which had one at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<String>,
    /// Digest of the client's idempotency key, and of the request it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) idempotency: Option<(String, String)>,
    /// Whose it is: the name of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    /// Runs that were begun and whose end is not known.
    #[serde(default)]
    pub(super) starts: u32,
    /// What was kept for the last of them to go on from; see [`worker::kept`](super::worker::kept).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
    /// The last of them that had the same to go on from.
    #[serde(default)]
    pub(super) stuck: u32,
}

/// What is told of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The vocabulary that it trains.
    #[schema(value_type = String)]
    pub name: VocabName,
    /// Its state.
    pub state: JobState,
    /// When it was accepted, RFC 3339.
    pub created_at: String,
    /// When it (last) started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How far it is; of a job that ended in an earlier life of the server only the stage is known.
    pub progress: ProgressView,
    /// What it made.
    pub result: Option<JobResult>,
    /// Why training ended: `vocab_size`, `num_merges` or `nothing_frequent`.
    pub stop_reason: Option<String>,
    /// Why it failed.
    pub error: Option<JobFailure>,
}

pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_as_they_are_made_and_nothing_else() {
        let id = JobId::new();
        assert_eq!(JobId::parse(id.as_str()), Some(id));
        for bad in ["", "../x", "0123", &"g".repeat(32), &"A".repeat(32)] {
            assert_eq!(JobId::parse(bad), None);
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let ids: Vec<JobId> = (0..100).map(|_| JobId::new()).collect();
        assert!(ids.is_sorted());
    }
}
