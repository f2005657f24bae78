//! One run of a job: corpus to counts, counts to merges, merges to a published version.

use super::checkpoint::{self, Checkpoint};
use super::corpus::{CorpusError, Source};
use super::counting::{self, Counts, Input, Room};
use super::disk::{self, Unpacking};
use super::progress::{JobStage, Progress, Watch};
use super::record::{JobFailure, JobId, JobResult, VocabTriple};
use super::report::{Gain, Pruned, ScriptGain, TrainReport, WordsLeftOut};
use super::request::{CorpusRequest, TrainRequest};
use super::uploads::{UploadId, Uploads};
use super::whole::Whole;
use super::{JobError, files};
use crate::engine::{
    LearnedMerge, Merge, Normalizer, Observer, Pretokenizer, Special, Stage, Tokenizer, TokenizerError,
    TokenizerParts, TrainConfig, TrainError, Trained, Words as _, resume, tokens_by_script, train,
};
use crate::fetch::{self, FetchError, UrlPolicy};
use crate::registry::{Provenance, PublishError, Published, Publisher, Registry, ResolveError};
use crate::store::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Succeeded(Box<JobResult>, &'static str),
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
    /// Where each job has a folder.
    pub(super) scratch: Arc<Path>,
    /// Memory for one run, in bytes.
    pub(super) max_memory: usize,
    pub(super) checkpoint_every: Duration,
    pub(super) urls: UrlPolicy,
    pub(super) max_url_bytes: u64,
}

/// What came out of training, before it is published.
#[derive(Debug)]
pub struct Learned {
    request: Arc<TrainRequest>,
    tokenizer: Tokenizer,
    merges: u64,
    /// By id.
    frequencies: Vec<u64>,
    report: TrainReport,
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
    #[error("base: {0}")]
    Base(#[from] ResolveError),
    #[error("url {index}: {error}")]
    Fetch { index: usize, error: FetchError },
    /// Of the folder that the run works in.
    #[error("what a run keeps on the disk cannot be written or read: {}", .0.kind())]
    Scratch(#[from] std::io::Error),
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
            Self::Corpus(CorpusError::Parquet { .. } | CorpusError::Column { .. }) => "corpus_bad_parquet",
            Self::Corpus(CorpusError::Counts { .. }) => "corpus_bad_counts",
            Self::Corpus(CorpusError::Mismatch { .. }) => "corpus_counts_mismatch",
            Self::Corpus(CorpusError::TooLarge { .. } | CorpusError::PartTooLarge { .. }) => {
                "corpus_too_large"
            }
            Self::Corpus(CorpusError::DiskFull { .. }) => "storage_full",
            Self::Base(_) => "base_unusable",
            Self::Fetch { .. } => "corpus_not_fetched",
            Self::Scratch(_) => "storage_failed",
            Self::Train(TrainError::EmptyCorpus) => "corpus_empty",
            Self::Train(TrainError::Memory { .. }) => "memory_exceeded",
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
    owner: Option<String>,
    progress: Arc<Progress>,
) -> Outcome {
    // On a task of its own: a panic of the registry or the storage reaches whoever awaits them, and the worker that
    // awaits this has other jobs to run.
    let run =
        tokio::spawn(learn_and_publish(setting, request, job.to_owned(), owner, progress, Instant::now()));
    match run.await.unwrap_or(Err(RunError::Panicked)) {
        Ok((result, stop_reason)) => Outcome::Succeeded(Box::new(result), stop_reason),
        Err(error) if error.is_stop() => Outcome::Stopped,
        Err(error) => Outcome::Failed(error.failure()),
    }
}

async fn learn_and_publish(
    setting: Setting,
    request: Arc<TrainRequest>,
    job: String,
    owner: Option<String>,
    progress: Arc<Progress>,
    started: Instant,
) -> Result<(JobResult, &'static str), RunError> {
    let registry = setting.registry.clone();
    let base = match &request.base {
        Some(base) => Some(registry.resolve(Some(base)).await?),
        None => None,
    };
    let fetched = fetch_urls(&setting, &request, &job, &progress).await?;
    let (blocking_request, blocking_progress) = (Arc::clone(&request), Arc::clone(&progress));
    let blocking_job = job.clone();
    let learned = tokio::task::spawn_blocking(move || {
        let base = base.as_ref().map(|loaded| &loaded.tokenizer);
        let learn = || learn(&setting, &blocking_request, base, &blocking_job, &fetched, &blocking_progress);
        behind_others(learn)
    });
    let learned = learned.await.map_err(|_| RunError::Panicked)??;
    progress.enter(JobStage::Publishing);
    let mut result = learned.result();
    let stop_reason = learned.stop_reason;
    // Its place was counted when the job was taken on.
    let publisher = owner.map(|name| Publisher { name, ..Publisher::default() });
    let published = learned.publish(&registry, &format!("job {job}"), publisher).await?;
    result.vocab = VocabTriple::from(&*published.facts);
    result.created = published.created;
    result.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok((result, stop_reason))
}

/// Runs on a thread, and so with threads, that those which serve requests go before: a thread of the blocking pool itself
/// could not be given back as it was.
fn behind_others<T: Send>(work: impl FnOnce() -> Result<T, RunError> + Send) -> Result<T, RunError> {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            // Where the system does not let it, it runs as the others do.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::setpriority_process(None, NICENESS);
            work()
        });
        // What a panic says may quote a text.
        run.join().unwrap_or(Err(RunError::Panicked))
    })
}

/// How often a run that waits for others looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A tenth of a core's time where a request wants the same core. With 19, a seventieth, a job beside clients that never pause hardly goes on.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Fetches the files of URLs into the folder of the job, those that an earlier run has not fetched.
async fn fetch_urls(
    setting: &Setting,
    request: &TrainRequest,
    job: &str,
    progress: &Progress,
) -> Result<Fetched, RunError> {
    let mut fetched = Fetched::new();
    if !request.corpus.urls().is_empty() {
        progress.start(0);
    }
    let folder = setting.scratch.join("fetched").join(job);
    let unpacking = setting.uploads.unpacking_in(folder.clone());
    // Where the system does not say, writing does.
    let has_room = |more| disk::has_room(&unpacking.folder, more, unpacking.min_free_bytes).unwrap_or(true);
    let urls = request.corpus.urls().into_iter().flat_map(|(_, urls)| urls);
    for (index, url) in urls.enumerate() {
        tokio::fs::create_dir_all(&folder).await?;
        let path = folder.join(Digest::of(url.as_bytes()).to_string().replace(':', "-"));
        if !path.exists() {
            let part = path.with_extension("part");
            let stop = async {
                while !progress.stopped() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            let done = tokio::select! {
                done = fetch::download_to(url, &setting.urls, setting.max_url_bytes, &part, has_room) => done,
                () = stop => return Err(RunError::Corpus(CorpusError::Stopped)),
            };
            done.map_err(|error| match error {
                FetchError::NoRoom => {
                    CorpusError::DiskFull { min_free_bytes: unpacking.min_free_bytes }.into()
                }
                error => RunError::Fetch { index, error },
            })?;
            tokio::fs::rename(&part, &path).await?;
        }
        fetched.insert(url.clone(), path);
    }
    Ok(fetched)
}

/// Says what a job has on the disk to go on from: the same as long as it has not got further.
pub(super) fn kept(scratch: &Path, id: &JobId) -> String {
    let fetched =
        std::fs::read_dir(scratch.join("fetched").join(id.as_str())).into_iter().flatten().flatten();
    let whole = fetched.filter(|entry| entry.path().extension().is_none()).count();
    let kept = format!("{whole} files fetched\n{}", checkpoint::kept(&scratch.join(id.as_str())));
    Digest::of(kept.as_bytes()).to_string()
}

/// Removes what jobs that are not `needed` left in their folders.
pub(super) fn tidy(scratch: &Path, needed: impl Fn(&JobId) -> bool) {
    for folder in [scratch.to_owned(), scratch.join("fetched")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str().and_then(JobId::parse)
                && !needed(&id)
            {
                forget(scratch, id.as_str());
            }
        }
    }
}

/// Removes what a job has on the disk, when it has ended.
pub(super) fn forget(scratch: &Path, job: &str) {
    for folder in [scratch.join(job), scratch.join("fetched").join(job)] {
        if let Err(error) = checkpoint::remove(&folder) {
            tracing::warn!(job, ?error, "the folder of the job is not removed");
        }
    }
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
    pub async fn publish(
        self,
        registry: &Registry,
        source: &str,
        publisher: Option<Publisher>,
    ) -> Result<Published, PublishError> {
        let JobResult { merges, distinct_pretokens, pretokens, text_bytes, replaced, .. } = self.result();
        let training = serde_json::json!({
            "stop_reason": self.stop_reason, "merges": merges, "distinct_pretokens": distinct_pretokens,
            "pretokens": pretokens, "text_bytes": text_bytes, "replaced": replaced,
            "tie_break": self.request.tie_break, "min_frequency": self.request.min_frequency,
            "max_token_bytes": self.request.max_token_bytes, "base": self.request.base,
            "report": self.report, "frequencies": self.frequencies,
        });
        let from = Provenance {
            format: "trained".to_owned(),
            source: source.to_owned(),
            training: Some(training),
            publisher,
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
            merges: self.merges,
            distinct_pretokens: self.distinct_pretokens,
            pretokens: self.pretokens,
            text_bytes: self.text_bytes,
            replaced: self.replaced,
            seconds: 0.0,
            report: Some(self.report.clone()),
        }
    }
}

/// What is trained, where, and on what.
pub(super) struct Run<'r> {
    pub(super) request: Arc<TrainRequest>,
    pub(super) base: Option<&'r Tokenizer>,
    pub(super) config: TrainConfig,
    pub(super) inputs: Vec<Input>,
    pub(super) max_memory: usize,
    pub(super) unpacking: Unpacking,
    pub(super) progress: &'r Progress,
}

/// Files that were fetched before the run, by URL as the request has it.
type Fetched = HashMap<String, PathBuf>;

fn learn(
    setting: &Setting,
    request: &Arc<TrainRequest>,
    base: Option<&Tokenizer>,
    job: &str,
    fetched: &Fetched,
    progress: &Progress,
) -> Result<Learned, RunError> {
    let config = request.config(setting.threads, base)?;
    let mut named = String::new();
    let mut bytes_total = 0;
    let mut inputs = Vec::new();
    for (at, corpus) in request.corpus.groups() {
        let input = open_input(setting, &at, corpus, fetched)?;
        let counts_uploaded = corpus.counts.as_ref().is_some_and(|counts| counts.upload.is_some());
        let is_upload = corpus.upload.is_some() || counts_uploaded;
        match &input {
            Input::Texts => {
                bytes_total += corpus.texts.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
            }
            Input::Files(sources) | Input::Counts(sources) => {
                for source in sources {
                    let meta = source.file.metadata().ok();
                    let len = meta.as_ref().map_or(0, std::fs::Metadata::len);
                    // Opening an upload changes its time; it is the same one for as long as the job holds it.
                    let changed = meta.filter(|_| !is_upload).and_then(|meta| meta.modified().ok());
                    bytes_total += len;
                    named += &format!("{at} {} {len} {changed:?}\n", source.name);
                }
            }
        }
        inputs.push(input);
    }
    progress.start(bytes_total);
    let folder = setting.scratch.join(job);
    let stored = serde_json::to_string(&**request).map_err(std::io::Error::other)?;
    let fingerprint = Digest::of(format!("{} {named}{stored}", env!("CARGO_PKG_VERSION")).as_bytes());
    let mut checkpoint = Checkpoint::open(folder, setting.checkpoint_every, &fingerprint)?;
    let request = Arc::clone(request);
    let unpacking = setting.uploads.unpacking_in(checkpoint.folder().to_owned()).within(setting.max_memory);
    let run = Run { request, base, config, inputs, max_memory: setting.max_memory, unpacking, progress };
    learn_in(run, &mut checkpoint)
}

fn open_input(
    setting: &Setting,
    at: &str,
    corpus: &CorpusRequest,
    fetched: &Fetched,
) -> Result<Input, RunError> {
    let from_root = |names: &[String], below: &str| {
        let open = |(index, name): (usize, &String)| {
            files::open(setting.corpus_root.as_deref(), &format!("{at}{below}"), index, name)
        };
        names.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()
    };
    let from_upload = |id: &str, below: &str| {
        let opened = UploadId::parse(id).and_then(|id| setting.uploads.open(&id).ok());
        let gone = || JobError::invalid(format!("{at}{below}"), "there is no such upload any more");
        opened.map(|file| vec![Source { name: "the upload".to_owned(), file }]).ok_or_else(gone)
    };
    if let Some(counts) = &corpus.counts {
        return Ok(Input::Counts(match (&counts.files, &counts.upload) {
            (Some(names), _) => from_root(names, "/counts/files")?,
            (None, id) => from_upload(id.as_deref().unwrap_or_default(), "/counts/upload")?,
        }));
    }
    if let Some(names) = &corpus.files {
        return Ok(Input::Files(from_root(names, "/files")?));
    }
    if let Some(id) = &corpus.upload {
        return Ok(Input::Files(from_upload(id, "/upload")?));
    }
    if let Some(urls) = &corpus.urls {
        let open = |(index, url): (usize, &String)| {
            // Not the URL: it may hold a key.
            let name = format!("url {index}");
            let path = fetched.get(url).cloned().unwrap_or_default();
            let file =
                File::open(path).map_err(|e| CorpusError::Io { file: name.clone(), kind: e.kind() })?;
            Ok(Source { name, file })
        };
        let sources = urls.iter().enumerate().map(open).collect::<Result<Vec<_>, CorpusError>>();
        return Ok(Input::Files(sources?));
    }
    Ok(Input::Texts)
}

/// Counts and merges, or goes on from where a run before was.
pub(super) fn learn_in(run: Run<'_>, checkpoint: &mut Checkpoint) -> Result<Learned, RunError> {
    let Run { request, base, config, inputs, max_memory, unpacking, progress } = run;
    let config = TrainConfig { max_memory, ..config };
    let mut room = Room { checkpoint, max_memory, unpacking, progress };
    let Counts { whole, held, facts } = counting::count(&config, &request, inputs, &mut room)?;
    let mut keeping = Keeping::new(progress, checkpoint);
    let mut learned = match base {
        Some(base) => extended(&request, base, &config, &whole, &held, &mut keeping)?,
        None => {
            let done = keeping.earlier.clone();
            let bytes = whole.totals().bytes;
            let resumed = if done.is_empty() {
                None
            } else {
                let saved: u64 = done.iter().map(|merge| merge.made).sum();
                progress.begin_merging(done.len() as u32, bytes, bytes.saturating_sub(saved));
                match resume(&whole, &config, &done, &mut keeping) {
                    // Of no run like this one, whatever the folder says.
                    Err(RunError::Train(TrainError::BadResume { .. })) => None,
                    trained => Some(trained?),
                }
            };
            let trained = match resumed {
                Some(trained) => trained,
                None => {
                    keeping.earlier.clear();
                    progress.begin_merging(0, bytes, bytes);
                    train(whole, &config, &mut keeping)?
                }
            };
            learned(&request, trained, &config)?
        }
    };
    learned.replaced = facts.replaced;
    if request.prune_count > 1 {
        learned.report.pruned =
            Some(Pruned { distinct_pretokens: facts.pruned_distinct, pretokens: facts.pruned_pretokens });
    }
    Ok(learned)
}

/// Watches, and puts the merges so far on the disk now and then.
struct Keeping<'k> {
    watch: Watch<'k>,
    /// Those of the runs before.
    earlier: Vec<LearnedMerge>,
    checkpoint: &'k mut Checkpoint,
}

impl<'k> Keeping<'k> {
    fn new(progress: &'k Progress, checkpoint: &'k mut Checkpoint) -> Self {
        Self { watch: Watch::new(progress), earlier: checkpoint.merges(), checkpoint }
    }
}

impl Observer for Keeping<'_> {
    fn preparing(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        self.watch.preparing(done, total)
    }

    fn merged(&mut self, merge: &LearnedMerge, token: &[u8], done: u32, wanted: u32) -> ControlFlow<()> {
        self.watch.merged(merge, token, done, wanted)
    }

    fn so_far(&mut self, merges: &[LearnedMerge]) {
        // The run does not need it: on a full disk it goes on without.
        if self.checkpoint.is_due()
            && let Err(error) = self.checkpoint.keep_merges(&[&self.earlier, merges])
        {
            tracing::warn!(?error, "merges so far are not kept");
        }
    }

    fn poll(&mut self, stage: Stage) -> ControlFlow<()> {
        self.watch.poll(stage)
    }
}

fn learned(
    request: &Arc<TrainRequest>,
    trained: Trained,
    config: &TrainConfig,
) -> Result<Learned, TokenizerError> {
    let specials: Vec<Special> =
        trained.special_tokens.iter().map(|(name, id)| Special::new(name.clone(), *id, true)).collect();
    let special_ids: std::collections::HashSet<u32> = specials.iter().map(|s| s.id).collect();
    let tokens = (0..).zip(trained.tokens).filter(|(id, _)| !special_ids.contains(id)).collect();
    let merges = trained.merges.iter().map(Merge::from).collect();
    let normalizer = config.normalizer.map(|form| Normalizer::Unicode(form, config.tables));
    let parts = TokenizerParts {
        specials,
        normalizer: normalizer.unwrap_or_default(),
        // Every token was merged from bytes by the merges before it, so its bytes always lead to it.
        whole_pretokens: true,
        ..TokenizerParts::byte_level(tokens, merges, config.pattern.clone())
    };
    let tokenizer = Tokenizer::new(parts)?;
    let bytes = trained.total_bytes;
    Ok(Learned {
        request: Arc::clone(request),
        report: TrainReport::new(&tokenizer, &trained.merges, &trained.frequencies, bytes, bytes),
        tokenizer,
        merges: trained.merges.len() as u64,
        frequencies: trained.frequencies,
        stop_reason: trained.stop_reason.name(),
        distinct_pretokens: trained.distinct_pretokens,
        pretokens: trained.total_pretokens,
        text_bytes: trained.total_bytes,
        replaced: 0,
    })
}

fn extended(
    request: &Arc<TrainRequest>,
    base: &Tokenizer,
    config: &TrainConfig,
    whole: &Whole,
    held: &Whole,
    keeping: &mut Keeping<'_>,
) -> Result<Learned, RunError> {
    let extension = request.extension(base)?;
    let (made, left_out) = if request.words {
        let (made, left_out) = extension.train_words(whole, config, keeping)?;
        (made, Some(left_out))
    } else {
        let done = keeping.earlier.clone();
        match extension.train(whole, config, &done, keeping) {
            Err(RunError::Train(TrainError::BadResume { .. })) => {
                keeping.earlier.clear();
                (extension.train(whole, config, &[], keeping)?, None)
            }
            made => (made?, None),
        }
    };
    let pretokenizer = match request.split.is_some() || request.digits.is_some() {
        true => Pretokenizer::Pattern(config.pattern.clone()),
        false => base.pretokenizer().clone(),
    };
    let mut parts = extension.parts(&made, pretokenizer);
    if request.normalizer.is_some() {
        let normalizer = config.normalizer.map(|form| Normalizer::Unicode(form, config.tables));
        parts.normalizer = normalizer.unwrap_or_default();
    }
    let tokenizer = Tokenizer::new(parts)?;
    let mut report =
        TrainReport::new(&tokenizer, &made.merges, &made.frequencies, made.total_bytes, made.tokens_before);
    let scripts = tokens_by_script(if held.is_empty() { whole } else { held }, &[base, &tokenizer])?;
    report.gain =
        Some(Gain { held_back: !held.is_empty(), scripts: scripts.iter().map(ScriptGain::from).collect() });
    report.words_left_out = left_out.map(WordsLeftOut::from);
    Ok(Learned {
        request: Arc::clone(request),
        report,
        tokenizer,
        merges: made.merges.len() as u64,
        frequencies: made.frequencies,
        stop_reason: made.stop_reason.name(),
        distinct_pretokens: made.distinct_pretokens,
        pretokens: made.total_pretokens,
        text_bytes: made.total_bytes,
        replaced: 0,
    })
}
