//! An upload as documents, one after the other, for those who measure texts and do not train on them.
//!
//! Only one batch of the reader is held in memory, with the document that is looked at.

use super::corpus::{self, CorpusError, Reading, Source};
use super::disk::Unpacking;
use super::progress::Progress;
use super::request::{CorpusFormat, InvalidUtf8, Records};
use super::uploads::{UploadError, UploadId, Uploads};
use crate::engine::{Family, Pattern, SafeCuts, TrainConfig, TrainError};
use std::fs::File;
use std::sync::Arc;

/// What the upload holds.
#[derive(Debug, Clone)]
pub struct DocumentsFormat {
    /// Text, JSONL or Parquet.
    pub format: CorpusFormat,
    /// The JSONL field or Parquet column that holds the text.
    pub field: String,
    /// What of a text file is a document: its lines, or its paragraphs. A whole file is no document, as it may be of any size.
    pub records: Records,
    /// What happens to bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Most bytes of text in all.
    pub max_bytes: u64,
    /// Most bytes of one document.
    pub max_document_bytes: u64,
}

/// Why an upload cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// It is not there.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// It cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// It has more text than wanted.
    #[error("the upload has over {limit} bytes of text")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// It has a longer document than wanted.
    #[error("document {number} of the upload has over {limit} bytes")]
    DocumentTooLong {
        /// Counted from one.
        number: u64,
        /// The limit.
        limit: u64,
    },
}

/// An opened upload.
#[derive(Debug)]
pub struct Documents {
    file: File,
    /// How a compressed Parquet file is unpacked.
    unpacking: Unpacking,
    how: DocumentsFormat,
    progress: Arc<Progress>,
}

/// Ends the reading soon when it is dropped.
#[derive(Debug)]
pub struct StopReading(Arc<Progress>);

impl Drop for StopReading {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Documents {
    /// Opens an upload; that counts as a use.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], or the disk refuses.
    pub fn open(uploads: &Uploads, id: &UploadId, how: DocumentsFormat) -> Result<Self, UploadError> {
        Ok(Self {
            file: uploads.open(id)?,
            unpacking: uploads.unpacking(),
            how,
            progress: Arc::new(Progress::new()),
        })
    }

    /// What ends the reading when it is dropped.
    pub fn stop_on_drop(&self) -> StopReading {
        StopReading(Arc::clone(&self.progress))
    }

    /// Calls `take` with each document in order and returns the number of ill-formed parts that became U+FFFD. Blank lines
    /// are no documents of JSONL, and empty texts are none at all.
    ///
    /// # Errors
    /// See [`DocumentsError`], or what `take` returns.
    pub fn read<E: From<DocumentsError>>(
        self,
        mut take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Self { file, unpacking, how, progress } = self;
        // No document is a whole file, which alone would be cut.
        let config = TrainConfig::new(Pattern::of(Family::Cl100k));
        let cuts =
            SafeCuts::new(&config).map_err(|_: TrainError| DocumentsError::Corpus(CorpusError::Stopped))?;
        // In JSON a byte may be written as six.
        let written = if how.format == CorpusFormat::Jsonl { 8 } else { 1 };
        let reading = Reading {
            format: how.format,
            field: how.field,
            records: how.records,
            invalid_utf8: how.invalid_utf8,
            // A document that is over its limit is refused before the end of it is read.
            max_record_bytes: usize::try_from(how.max_document_bytes)
                .unwrap_or(usize::MAX)
                .saturating_mul(written),
            unpacking: &unpacking,
            cuts: &cuts,
        };
        let (mut left, mut number, mut failed) = (how.max_bytes, 0, None);
        let source = Source { name: "the upload".to_owned(), file };
        let outcome = corpus::read(vec![source], &reading, &progress, |batch| {
            for document in batch.records() {
                number += 1;
                let bytes = document.len() as u64;
                let taken = if progress.stopped() {
                    Err(DocumentsError::Corpus(CorpusError::Stopped).into())
                } else if bytes > how.max_document_bytes {
                    Err(DocumentsError::DocumentTooLong { number, limit: how.max_document_bytes }.into())
                } else if let Some(rest) = left.checked_sub(bytes) {
                    left = rest;
                    take(document)
                } else {
                    Err(DocumentsError::TooLong { limit: how.max_bytes }.into())
                };
                if let Err(error) = taken {
                    failed = Some(error);
                    return Err(CorpusError::Stopped);
                }
            }
            Ok(batch.emptied())
        });
        match (failed, outcome) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(DocumentsError::Corpus(error).into()),
            (None, Ok(replaced)) => Ok(replaced),
        }
    }
}
