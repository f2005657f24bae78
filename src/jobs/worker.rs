//! One run of a job: corpus to counts, counts to merges, merges to a published version.

use super::corpus::{self, CorpusError, Reading, Source};
use super::progress::{JobStage, Progress, ProgressView, Watch};
use super::record::{JobFailure, JobResult, VocabTriple};
use super::request::TrainRequest;
use super::uploads::{UploadId, Uploads};
use super::{JobError, files};
use crate::engine::{
    Counter, Merge, Normalizer, SafeCuts, Special, Tables, Tokenizer, TokenizerError, TokenizerParts,
    TrainConfig, TrainError, Trained, WordCounts, train,
};
use crate::registry::{Provenance, PublishError, Published, Registry};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// How a run ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Succeeded(JobResult, &'static str),
    Failed(JobFailure),
    /// The progress was told to stop.
    Stopped,
}

/// What a run needs.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) registry: Registry,
    pub(super) uploads: Uploads,
    pub(super) corpus_root: Option<Arc<Path>>,
    pub(super) threads: usize,
}

/// What came out of training, before it is published.
#[derive(Debug)]
pub struct Learned {
    request: Arc<TrainRequest>,
    tokenizer: Tokenizer,
    stop_reason: &'static str,
    distinct_pretokens: u64,
    pretokens: u64,
    text_bytes: u64,
    replaced: u64,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Request(#[from] JobError),
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Where, is in the log; what the panic said may quote a text.
    #[error("the job ended by a fault of the program; its log has more")]
    Panicked,
}

impl RunError {
    fn failure(&self) -> JobFailure {
        let code = match self {
            Self::Request(_) => "invalid_request",
            Self::Corpus(CorpusError::NotUtf8 { .. }) => "corpus_not_utf8",
            Self::Corpus(CorpusError::Jsonl { .. }) => "corpus_bad_jsonl",
            Self::Corpus(CorpusError::Compression { .. }) => "corpus_bad_compression",
            Self::Corpus(CorpusError::RecordTooLong { .. }) => "corpus_record_too_long",
            Self::Corpus(CorpusError::Io { .. } | CorpusError::Stopped) => "corpus_unreadable",
            Self::Train(TrainError::EmptyCorpus) => "corpus_empty",
            Self::Train(TrainError::Split(_)) => "split_too_costly",
            Self::Train(_) => "training_failed",
            Self::Tokenizer(_) => "internal",
            Self::Publish(PublishError::Store(_)) => "storage_failed",
            Self::Publish(_) => "publish_failed",
            Self::Panicked => "internal",
        };
        JobFailure { code: code.to_owned(), detail: self.to_string() }
    }

    fn is_stop(&self) -> bool {
        matches!(self, Self::Corpus(CorpusError::Stopped) | Self::Train(TrainError::Cancelled))
    }
}

/// Runs a job to its end. The heavy part is on the blocking pool.
pub(super) async fn run(
    setting: Setting,
    request: Arc<TrainRequest>,
    job: &str,
    progress: Arc<Progress>,
) -> Outcome {
    // On a task of its own: a panic of the registry or the storage reaches whoever awaits them, and the worker that
    // awaits this has other jobs to run.
    let run = tokio::spawn(learn_and_publish(setting, request, job.to_owned(), progress, Instant::now()));
    match run.await.unwrap_or(Err(RunError::Panicked)) {
        Ok((result, stop_reason)) => Outcome::Succeeded(result, stop_reason),
        Err(error) if error.is_stop() => Outcome::Stopped,
        Err(error) => Outcome::Failed(error.failure()),
    }
}

async fn learn_and_publish(
    setting: Setting,
    request: Arc<TrainRequest>,
    job: String,
    progress: Arc<Progress>,
    started: Instant,
) -> Result<(JobResult, &'static str), RunError> {
    let registry = setting.registry.clone();
    let (blocking_request, blocking_progress) = (Arc::clone(&request), Arc::clone(&progress));
    let learned = tokio::task::spawn_blocking(move || {
        let learn = || learn(&setting, &blocking_request, &blocking_progress);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(learn)).unwrap_or(Err(RunError::Panicked))
    });
    let learned = learned.await.map_err(|_| RunError::Panicked)??;
    progress.enter(JobStage::Publishing);
    let mut result = learned.result();
    let stop_reason = learned.stop_reason;
    let published = learned.publish(&registry, &format!("job {job}")).await?;
    result.vocab = VocabTriple::from(&*published.facts);
    result.created = published.created;
    result.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok((result, stop_reason))
}

impl Learned {
    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Why training ended.
    pub fn stop_reason(&self) -> &'static str {
        self.stop_reason
    }

    /// Publishes it as the next version of the vocabulary that the request names, with the aliases moved.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(self, registry: &Registry, source: &str) -> Result<Published, PublishError> {
        let JobResult { merges, distinct_pretokens, pretokens, text_bytes, replaced, .. } = self.result();
        let training = serde_json::json!({
            "stop_reason": self.stop_reason, "merges": merges, "distinct_pretokens": distinct_pretokens,
            "pretokens": pretokens, "text_bytes": text_bytes, "replaced": replaced,
            "tie_break": self.request.tie_break, "min_frequency": self.request.min_frequency,
            "max_token_bytes": self.request.max_token_bytes,
        });
        let from = Provenance {
            format: "trained".to_owned(),
            source: source.to_owned(),
            training: Some(training),
            ..Provenance::default()
        };
        registry.publish(&self.request.name, self.tokenizer, from, &self.request.aliases).await
    }

    /// Its figures; the version is not known yet.
    fn result(&self) -> JobResult {
        JobResult {
            vocab: VocabTriple { name: self.request.name.to_string(), version: 0, digest: String::new() },
            created: false,
            vocab_size: self.tokenizer.vocab_size() as u64,
            merges: self.tokenizer.merges().len() as u64,
            distinct_pretokens: self.distinct_pretokens,
            pretokens: self.pretokens,
            text_bytes: self.text_bytes,
            replaced: self.replaced,
            seconds: 0.0,
        }
    }
}

/// A run outside the queue, on files that the caller may read: what the command line does.
pub struct FilesRun {
    request: TrainRequest,
    files: Vec<PathBuf>,
    threads: usize,
}

/// Trains on files without a queue; see [`FilesRun::watch`].
pub fn train_files(request: TrainRequest, files: Vec<PathBuf>, threads: usize) -> FilesRun {
    FilesRun { request, files, threads }
}

impl FilesRun {
    /// Runs, telling several times a second how far it is. The error is a line for a person.
    ///
    /// # Errors
    /// The request or the corpus is at fault.
    pub async fn watch(self, mut see: impl FnMut(&ProgressView)) -> Result<Learned, String> {
        let progress = Arc::new(Progress::new());
        let shared = Arc::clone(&progress);
        let mut run = tokio::task::spawn_blocking(move || {
            let request = Arc::new(self.request);
            let config = request.config(self.threads)?;
            let sources = self.files.iter().map(|path| {
                let name = path.display().to_string();
                let failed = |e: std::io::Error| CorpusError::Io { file: name.clone(), kind: e.kind() };
                let file = std::fs::File::open(path).map_err(failed)?;
                Ok(Source { name, file })
            });
            let sources = sources.collect::<Result<Vec<_>, CorpusError>>()?;
            let (counts, replaced) = count_sources(&config, &request, sources, &shared)?;
            learn_counts(request, &config, &counts, replaced, &shared)
        });
        loop {
            match tokio::time::timeout(std::time::Duration::from_millis(100), &mut run).await {
                Ok(done) => return done.map_err(|e| e.to_string())?.map_err(|e: RunError| e.to_string()),
                Err(_) => see(&progress.view()),
            }
        }
    }
}

fn learn(setting: &Setting, request: &Arc<TrainRequest>, progress: &Progress) -> Result<Learned, RunError> {
    let config = request.config(setting.threads)?;
    let sources = match (&request.corpus.files, &request.corpus.upload) {
        (Some(names), _) => names
            .iter()
            .enumerate()
            .map(|(index, name)| files::open(setting.corpus_root.as_deref(), index, name))
            .collect::<Result<Vec<_>, _>>()?,
        (None, Some(id)) => {
            let opened = UploadId::parse(id).and_then(|id| setting.uploads.open(&id).ok());
            let file = opened
                .ok_or_else(|| JobError::invalid("/corpus/upload", "there is no such upload any more"))?;
            vec![Source { name: "the upload".to_owned(), file }]
        }
        (None, None) => Vec::new(),
    };
    let (counts, replaced) = match &request.corpus.texts {
        Some(texts) => {
            progress.start(texts.iter().map(|t| t.len() as u64).sum());
            (count_texts(&config, texts, progress)?, 0)
        }
        None => count_sources(&config, request, sources, progress)?,
    };
    learn_counts(Arc::clone(request), &config, &counts, replaced, progress)
}

fn learn_counts(
    request: Arc<TrainRequest>,
    config: &TrainConfig,
    counts: &WordCounts,
    replaced: u64,
    progress: &Progress,
) -> Result<Learned, RunError> {
    let trained = train(counts, config, &mut Watch(progress))?;
    Ok(learned(request, trained, config, replaced)?)
}

fn count_texts(
    config: &TrainConfig,
    texts: &[String],
    progress: &Progress,
) -> Result<WordCounts, TrainError> {
    let mut counter = Counter::new(config)?;
    // In portions, so that the share of bytes read moves.
    for portion in texts.chunks(1024) {
        let records: Vec<&str> = portion.iter().map(String::as_str).collect();
        counter.add_batch(&records, &mut Watch(progress))?;
        progress.read(portion.iter().map(|t| t.len() as u64).sum());
    }
    counter.finish_watched(&mut Watch(progress))
}

/// Reads on a thread of its own while the batch before is counted.
fn count_sources(
    config: &TrainConfig,
    request: &TrainRequest,
    sources: Vec<Source>,
    progress: &Progress,
) -> Result<(WordCounts, u64), RunError> {
    let bytes_total = sources.iter().map(|s| s.file.metadata().map_or(0, |m| m.len())).sum();
    progress.start(bytes_total);
    let how = Reading {
        format: request.corpus.format,
        field: request.corpus.field.clone().unwrap_or_else(|| "text".to_owned()),
        records: request.corpus.records,
        invalid_utf8: request.corpus.invalid_utf8,
        cuts: &SafeCuts::new(config)?,
    };
    let mut counter = Counter::new(config)?;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        let how = &how;
        let reader = scope.spawn(move || {
            corpus::read(sources, how, progress, |batch| {
                let stop = progress.stopped() || send.send(batch).is_err();
                if stop { Err(CorpusError::Stopped) } else { Ok(()) }
            })
        });
        for batch in &receive {
            counter.add_batch(&batch.records(), &mut Watch(progress))?;
        }
        // A panic in the reader goes on here and is caught where the run began.
        let replaced = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((counter.finish_watched(&mut Watch(progress))?, replaced))
    })
}

fn learned(
    request: Arc<TrainRequest>,
    trained: Trained,
    config: &TrainConfig,
    replaced: u64,
) -> Result<Learned, TokenizerError> {
    let specials: Vec<Special> =
        trained.special_tokens.iter().map(|(name, id)| Special::new(name.clone(), *id, true)).collect();
    let special_ids: std::collections::HashSet<u32> = specials.iter().map(|s| s.id).collect();
    let tokens = (0..).zip(trained.tokens).filter(|(id, _)| !special_ids.contains(id)).collect();
    let merges = trained.merges.iter().map(|m| Merge { left: m.left, right: m.right, id: m.id }).collect();
    let normalizer = config.normalizer.map(|form| Normalizer::Unicode(form, Tables::Reference));
    let parts = TokenizerParts {
        specials,
        normalizer: normalizer.unwrap_or_default(),
        // Every token was merged from bytes by the merges before it, so its bytes always lead to it.
        whole_pretokens: true,
        ..TokenizerParts::byte_level(tokens, merges, config.pattern.clone())
    };
    Ok(Learned {
        request,
        tokenizer: Tokenizer::new(parts)?,
        stop_reason: trained.stop_reason.name(),
        distinct_pretokens: trained.distinct_pretokens,
        pretokens: trained.total_pretokens,
        text_bytes: trained.total_bytes,
        replaced,
    })
}
