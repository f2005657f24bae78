//! What each error of the domain means over HTTP. The matches name every variant, so that a new one must be decided.

use super::{Problem, StatusCode, json};
use crate::analysis::chunk::ChunkError;
use crate::analysis::explain::ExplainError;
use crate::chat::{ChatError, MAX_OUTPUT_BYTES};
use crate::engine::{EncodeError, SpecialError};
use crate::fetch::FetchError;
use crate::fetch::hub::{HubError, HubRefError};
use crate::formats::FormatError;
use crate::jobs::{CorpusError, DocumentsError, JobError, UploadError};
use crate::registry::{ChangeError, NameError, OverQuota, PublishError, ResolveError};
use crate::store::StoreError;

impl Problem {
    /// An unusable name or ref in the field at `pointer`.
    pub fn name(pointer: impl Into<String>, error: &NameError) -> Self {
        Self::invalid(pointer, error.to_string())
    }

    /// A file that is no vocabulary: 422 with the line or the option at fault; `options` points to what holds those.
    pub fn format(error: &FormatError, options: &str) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_vocabulary", error.to_string());
        match error {
            FormatError::Line { line, .. } => problem.with("line", *line),
            FormatError::Json { pointer, .. } => problem.at(pointer.clone()),
            FormatError::Malformed { offset, .. } => problem.with("offset", *offset),
            FormatError::Option { option, .. } => problem.at(format!("{options}/{option}")),
            FormatError::Inexpressible { .. } => problem.at(format!("{options}/format")),
            FormatError::Unknown | FormatError::Tokenizer(_) | FormatError::SelfCheck(_) => problem,
        }
    }

    /// A reference to a model on the hub that is none, in the field at `pointer`.
    pub fn hub_ref(pointer: &str, error: HubRefError) -> Self {
        Self::invalid(pointer, error.to_string())
    }

    /// A model that was not fetched: 422 where another source, 5xx where another time could help.
    pub fn hub(pointer: &str, error: &HubError) -> Self {
        let refused = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string()).at(pointer);
        let failed = |status, code| Self::new(status, code, error.to_string()).at(pointer);
        match error {
            HubError::NotFound { .. } => refused("source_not_found"),
            HubError::Denied { .. } => refused("source_denied"),
            HubError::NoFiles { .. } => refused("source_without_vocabulary"),
            HubError::TooLarge { limit, .. } => refused("source_too_large").with("limit", *limit),
            HubError::RateLimited { retry_after } => {
                failed(StatusCode::SERVICE_UNAVAILABLE, "source_busy").retry_in(*retry_after)
            }
            HubError::Timeout { .. } => failed(StatusCode::GATEWAY_TIMEOUT, "source_timeout"),
            HubError::Mismatch { .. } | HubError::Answer { .. } | HubError::Transfer { .. } => {
                failed(StatusCode::BAD_GATEWAY, "source_failed")
            }
            HubError::Setting { .. } => {
                tracing::error!(%error, "the hub cannot be asked");
                Self::internal()
            }
        }
    }

    /// A file that was not fetched from its URL; as [`Problem::hub`].
    pub fn fetch(pointer: &str, error: &FetchError) -> Self {
        let refused = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string()).at(pointer);
        let failed = |status, code| Self::new(status, code, error.to_string()).at(pointer);
        match error {
            FetchError::Scheme | FetchError::Off | FetchError::Url | FetchError::Host => {
                Self::invalid(pointer, error.to_string())
            }
            FetchError::Status { status: 404 | 410 } => refused("source_not_found"),
            FetchError::Status { status: 401 | 403 } => refused("source_denied"),
            FetchError::TooLarge { limit } => refused("source_too_large").with("limit", *limit),
            FetchError::Status { .. } | FetchError::Transfer(_) | FetchError::Unreachable => {
                failed(StatusCode::BAD_GATEWAY, "source_failed")
            }
            FetchError::Timeout { .. } => failed(StatusCode::GATEWAY_TIMEOUT, "source_timeout"),
            FetchError::NoRoom => failed(StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
        }
    }

    /// A text that cannot be encoded: 422 at `pointer`.
    pub fn encode(pointer: &str, error: &EncodeError) -> Self {
        let unprocessable =
            |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string()).at(pointer);
        match error {
            EncodeError::SpecialNotAllowed { offset } => {
                unprocessable("special_not_allowed").with("offset", *offset)
            }
            EncodeError::Special(SpecialError::UnknownName { index }) => {
                unprocessable("unknown_special").at(format!("/allowed_special/{index}"))
            }
            EncodeError::Special(_) => unprocessable("unknown_special").at("/allowed_special"),
            EncodeError::Split(_) => unprocessable("split_too_costly"),
            EncodeError::TooLong { limit } => unprocessable("text_too_long").with("limit", *limit),
            // Its client has gone: nobody reads this.
            EncodeError::Stopped => Self::overloaded(),
        }
    }

    /// A text that cannot be cut into chunks: 422.
    pub fn chunk(error: &ChunkError) -> Self {
        let unprocessable = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string());
        match error {
            ChunkError::Overlap => Self::invalid("/overlap", error.to_string()),
            ChunkError::SizeTooSmall { offset } => {
                unprocessable("size_too_small").at("/size").with("offset", *offset)
            }
            ChunkError::TooMany { limit } => {
                unprocessable("too_many_chunks").at("/size").with("limit", *limit)
            }
            ChunkError::TooLong { limit } => {
                unprocessable("overlap_too_costly").at("/overlap").with("limit", *limit)
            }
            ChunkError::Encode(error) => Self::encode("/text", error),
        }
    }

    /// A text that is not explained: 422.
    pub fn explain(error: &ExplainError) -> Self {
        match error {
            ExplainError::TooLong { limit } => Self::text_too_long("/text", *limit),
            ExplainError::NormalizedTooLong { limit } => {
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "text_too_long", error.to_string());
                problem.at("/text").with("limit", *limit)
            }
            ExplainError::Encode(error) => Self::encode("/text", error),
        }
    }

    /// An upload that cannot be read as documents: 422, or 404 where there is none.
    pub fn documents(error: DocumentsError) -> Self {
        let detail = error.to_string();
        let refused = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail.clone()).at("/upload");
        match error {
            DocumentsError::Upload(error) => Self::from(error).at("/upload"),
            DocumentsError::TooLong { limit } | DocumentsError::DocumentTooLong { limit, .. } => {
                refused("corpus_too_long").with("limit", limit)
            }
            DocumentsError::Corpus(error) => match error {
                CorpusError::NotUtf8 { offset, .. } => refused("corpus_not_utf8").with("offset", offset),
                CorpusError::Jsonl { line, .. } => refused("corpus_bad_jsonl").with("line", line),
                CorpusError::Compression { .. } => refused("corpus_bad_compression"),
                CorpusError::RecordTooLong { limit, .. } => {
                    refused("corpus_record_too_long").with("limit", limit)
                }
                // A value that is no text is told as a line of counts is.
                CorpusError::Parquet { .. } | CorpusError::Column { .. } | CorpusError::Counts { .. } => {
                    refused("corpus_bad_parquet")
                }
                CorpusError::TooLarge { limit, .. } | CorpusError::PartTooLarge { limit, .. } => {
                    refused("corpus_too_long").with("limit", limit)
                }
                CorpusError::DiskFull { min_free_bytes } => {
                    Self::from(UploadError::DiskFull { min_free_bytes })
                }
                // Nothing was counted before.
                CorpusError::Io { .. } | CorpusError::Mismatch { .. } | CorpusError::Stopped => {
                    tracing::error!(error = detail, "an upload cannot be read");
                    Self::internal()
                }
            },
        }
    }

    /// Messages that cannot be rendered: 422.
    pub fn chat(error: &ChatError) -> Self {
        let unprocessable = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string());
        match error {
            ChatError::NoTemplate => unprocessable("no_chat_template"),
            ChatError::UnknownTemplate { known } => {
                unprocessable("unknown_chat_template").at("/chat_template").with("known", json!(known))
            }
            ChatError::Raised { .. } => unprocessable("chat_refused").at("/messages"),
            ChatError::Syntax { line } => unprocessable("bad_chat_template").with("line", *line),
            ChatError::SourceTooLarge { limit, line, .. } => {
                unprocessable("bad_chat_template").with("line", *line).with("limit", *limit)
            }
            ChatError::Failed { line, .. } => {
                unprocessable("chat_template_failed").at("/messages").with("line", *line)
            }
            ChatError::TooCostly => unprocessable("chat_too_costly").at("/messages"),
            ChatError::OutputTooLarge => {
                unprocessable("chat_too_long").at("/messages").with("limit", MAX_OUTPUT_BYTES)
            }
            ChatError::NotCountable { pointer, kind } => {
                unprocessable("not_countable").at(pointer.clone()).with("kind", *kind)
            }
            ChatError::Invalid { pointer, reason } => Self::invalid(pointer.clone(), reason.clone()),
            ChatError::NotContinuable { .. } => {
                unprocessable("not_continuable").at("/continue_final_message")
            }
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let missing = |code| Self::new(StatusCode::NOT_FOUND, code, error.to_string());
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string()).retry();
        match &error {
            ResolveError::UnknownVocab { near } => missing("unknown_vocab").with("near", json!(near)),
            ResolveError::UnknownVersion { known, .. } => {
                missing("unknown_version").with("known", json!(known))
            }
            ResolveError::UnknownAlias { known, .. } => missing("unknown_alias").with("known", json!(known)),
            ResolveError::Unavailable { .. } => unavailable("vocab_unavailable"),
            ResolveError::NoRoom { limit, .. } => unavailable("no_memory").with("limit", *limit),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let failed = |status, code, detail: &str| {
            tracing::error!(?error, code, "storage failed");
            Self::new(status, code, detail).retry()
        };
        match &error {
            StoreError::Changed => {
                let detail = "another change came between; nothing was changed";
                Self::new(StatusCode::CONFLICT, "changed_meanwhile", detail).retry()
            }
            StoreError::Full(_) => {
                failed(StatusCode::INSUFFICIENT_STORAGE, "storage_full", "the storage is full")
            }
            StoreError::ReadOnly(_) => {
                failed(StatusCode::SERVICE_UNAVAILABLE, "storage_read_only", "the storage cannot be written")
            }
            StoreError::NotFound | StoreError::AlreadyExists | StoreError::Other(_) => {
                failed(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "the storage failed")
            }
        }
    }
}

/// Another time does not help, so the status is not one that clients try again by themselves.
impl From<OverQuota> for Problem {
    fn from(over: OverQuota) -> Self {
        let problem = Self::new(StatusCode::FORBIDDEN, "key_quota", over.to_string());
        problem.with("setting", over.limit).with("limit", over.value).with("used", over.used)
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Store(error) => error.into(),
            PublishError::NoRoom { limit, .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_memory", detail).with("limit", limit)
            }
            PublishError::Quota(over) => over.into(),
            PublishError::NoNumber => Self::new(StatusCode::CONFLICT, "no_version_number", detail).retry(),
            PublishError::Unfaithful { problem } => {
                tracing::error!(problem, "a vocabulary did not pass its check");
                Self::internal()
            }
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::Resolve(error) => error.into(),
            ChangeError::Store(error) => error.into(),
            ChangeError::Precondition { current } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "alias_changed", detail)
                    .with("digest", json!(current))
            }
            ChangeError::InUse { aliases } => {
                Self::new(StatusCode::CONFLICT, "version_in_use", detail).with("aliases", json!(aliases))
            }
            ChangeError::IsDefault => Self::new(StatusCode::CONFLICT, "version_in_use", detail),
        }
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        let detail = error.to_string();
        match error {
            JobError::Invalid { pointer, reason } => Self::invalid(pointer, reason),
            JobError::QueueFull { limit } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with("limit", limit).retry()
            }
            JobError::TooManyOpen { limit } => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "key_limit", detail).retry();
                problem.with("setting", "open_jobs").with("limit", limit)
            }
            JobError::Quota(over) => over.into(),
            JobError::KeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            JobError::Unknown => Self::not_found("job"),
            JobError::Ended(state) => {
                Self::new(StatusCode::CONFLICT, "job_ended", detail).with("state", state.name())
            }
            JobError::DiskFull { min_free_bytes } => Self::disk_full(detail, min_free_bytes),
            JobError::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let detail = error.to_string();
        match error {
            UploadError::Unknown => Self::not_found("upload"),
            UploadError::InUse => Self::new(StatusCode::CONFLICT, "upload_in_use", detail),
            UploadError::TooLarge { limit } => Self::body_too_large(limit),
            UploadError::CutOff { .. } => Self::body_cut_off(),
            UploadError::DiskFull { min_free_bytes } => Self::disk_full(detail, min_free_bytes),
            UploadError::Io(error) => StoreError::from(error).into(),
        }
    }
}
