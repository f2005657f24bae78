//! `train`: the same run as a job's, with a bar instead of events.

use super::{Failure, Outcome, open, print_line};
use crate::config::Config;
use crate::jobs::{
    self, CorpusFormat, CorpusRequest, CountsRequest, DigitsName, InvalidUtf8, JobStage, NormalizerName,
    ProgressView, Records, TieBreakName, TrainRequest,
};
use crate::registry::VocabRef;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// The vocabulary that gets the new version.
    name: String,
    /// Corpus files, plain or compressed (.gz, .zst).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Stop at this many tokens: special tokens, 256 bytes and merges together.
    #[arg(long)]
    vocab_size: Option<u32>,
    /// Stop at this many merges.
    #[arg(long)]
    num_merges: Option<u32>,
    /// Stop when the best pair occurs less often than this.
    #[arg(long, default_value_t = 2)]
    min_frequency: u64,
    /// Longest token in bytes, itself included.
    #[arg(long)]
    max_token_bytes: Option<u32>,
    /// Vocabulary in the data directory to extend: all of its ids stay.
    #[arg(long, value_name = "REF")]
    base: Option<VocabRef>,
    /// Of an extension: a Unicode script (Han, ...) of which alone new tokens are made; may be repeated.
    #[arg(long, value_name = "SCRIPT", requires = "base")]
    script: Vec<String>,
    /// The files are pretokens with counts (Parquet, NDJSON or TSV, as `wordcount` writes them), not text.
    #[arg(long)]
    counts: bool,
    /// The files are words with frequencies, each of which becomes one token, as in Qwen's extension.
    #[arg(long, requires = "base")]
    words: bool,
    /// Drop pretokens that occur less often than this; 1 keeps all.
    #[arg(long, default_value_t = 1)]
    prune_count: u64,
    /// Share of the records not to train on, but to measure an extension on.
    #[arg(long)]
    hold_back: Option<f64>,
    /// Share of the records to read.
    #[arg(long)]
    sample: Option<f64>,
    /// Memory in bytes, about; the disk takes counts that are more, and merging goes in rounds [setting `train_max_memory_bytes`].
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<usize>,
    /// How text is cut: gpt2, cl100k, o200k, qwen2, llama3, deepseek, or a regex [default: as the base, or cl100k].
    #[arg(long, value_name = "PATTERN")]
    split: Option<String>,
    /// Replace the split's number rule: single, group3 or run.
    #[arg(long, value_parser = word::<DigitsName>)]
    digits: Option<DigitsName>,
    /// Normalizer: none, nfc, nfd, nfkc or nfkd [default: as the base, or none].
    #[arg(long, value_parser = word::<NormalizerName>)]
    normalizer: Option<NormalizerName>,
    /// A special token; may be repeated.
    #[arg(long, value_name = "NAME")]
    special_token: Vec<String>,
    /// How ids are numbered: hf or bytes.
    #[arg(long, value_parser = word::<TieBreakName>, default_value = "hf")]
    tie_break: TieBreakName,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Threads that count [setting `train_threads`, default all cores].
    #[arg(long)]
    threads: Option<usize>,
    /// Alias to move to the version; may be repeated.
    #[arg(long)]
    alias: Vec<String>,
    /// Write a native file instead of publishing in the data directory.
    #[arg(long, short, value_name = "FILE", conflicts_with = "alias")]
    output: Option<PathBuf>,
}

/// How the files of a corpus are read.
#[derive(Debug, Args)]
pub(super) struct ReadingArgs {
    /// What the files hold: text, jsonl or parquet.
    #[arg(long, value_parser = word::<CorpusFormat>, default_value = "text")]
    format: CorpusFormat,
    /// The JSONL field or Parquet column that holds the text [default: text].
    #[arg(long)]
    field: Option<String>,
    /// How text files are parted: whole, lines or paragraphs.
    #[arg(long, value_parser = word::<Records>, default_value = "whole")]
    records: Records,
    /// What happens to bytes that are not UTF-8: error or replace.
    #[arg(long, value_parser = word::<InvalidUtf8>, default_value = "error")]
    invalid_utf8: InvalidUtf8,
}

impl ReadingArgs {
    /// A corpus that is read so, of no files yet.
    pub(super) fn corpus(self) -> CorpusRequest {
        let Self { format, field, records, invalid_utf8 } = self;
        CorpusRequest { format, field, records, invalid_utf8, ..CorpusRequest::default() }
    }
}

/// A word as requests spell it.
pub(super) fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|e| {
        let message = e.to_string();
        message
            .rsplit_once(", expected ")
            .map_or(message.clone(), |(_, expected)| format!("expected {expected}"))
    })
}

pub(super) async fn train(config: &Config, args: TrainArgs) -> Outcome {
    let name = args.name.parse().map_err(Failure::of(&args.name))?;
    let corpus = CorpusRequest {
        sample: args.sample,
        counts: (args.counts || args.words).then(CountsRequest::default),
        ..args.reading.corpus()
    };
    let request = TrainRequest {
        vocab_size: args.vocab_size,
        num_merges: args.num_merges,
        min_frequency: args.min_frequency,
        max_token_bytes: args.max_token_bytes,
        base: args.base,
        scripts: args.script,
        words: args.words,
        prune_count: args.prune_count,
        hold_back: args.hold_back,
        split: args.split,
        digits: args.digits,
        normalizer: args.normalizer,
        special_tokens: args.special_token,
        tie_break: args.tie_break,
        aliases: super::import::aliases(&args.alias)?,
        ..TrainRequest::new(name, corpus)
    };
    let threads = args.threads.unwrap_or_else(|| config.train_threads());
    let bar = ProgressBar::new(1000).with_style(style());
    bar.enable_steady_tick(Duration::from_millis(200));
    let base = request.base.clone();
    let max_memory = args.max_memory.unwrap_or_else(|| super::wordcount::max_memory(config));
    let mut run = jobs::train_files(request, args.files, threads).within(max_memory, config.min_free_bytes);
    if let Some(base) = base {
        let registry = open::registry_to_read(config).await?;
        run = run.extending(registry.resolve(Some(&base)).await?);
    }
    let watched = bar.clone();
    let learned = run.watch(move |view| show(&watched, view)).await.map_err(Failure)?;
    bar.finish_and_clear();
    match args.output {
        Some(path) => {
            let bytes = crate::formats::native::write(learned.tokenizer());
            super::write_file(&path, &bytes)?;
            print_line(&format!(
                "{} tokens, stopped by {}",
                learned.tokenizer().vocab().len(),
                learned.stop_reason()
            ))
        }
        None => {
            let stop_reason = learned.stop_reason();
            let registry = open::registry(config).await?;
            let published = learned.publish(&registry, "command line", None).await?;
            let facts = &published.facts;
            let state = if published.created { "new" } else { "there already" };
            let line = format!(
                "{}@{} {} ({} tokens, stopped by {stop_reason}, {state})",
                facts.name, facts.version, facts.digest, facts.tokens
            );
            print_line(&line)
        }
    }
}

pub(super) fn style() -> ProgressStyle {
    let template = "{prefix:10} [{bar:40}] {percent:>3}% {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

pub(super) fn show(bar: &ProgressBar, view: &ProgressView) {
    bar.set_position((view.fraction * 1000.0) as u64);
    let stage = match view.stage {
        JobStage::Waiting => "waiting",
        JobStage::Counting => "counting",
        JobStage::Preparing => "preparing",
        JobStage::Merging => "merging",
        JobStage::Publishing => "publishing",
        JobStage::Done => "done",
    };
    bar.set_prefix(stage);
    let eta = view.eta_seconds.map_or(String::new(), |s| format!("{s:.0} s left"));
    let merges = view
        .last_merge
        .as_ref()
        .map_or(String::new(), |m| format!("{} merges, last {:?} ", view.merges_done, m.token));
    bar.set_message(format!("{merges}{eta}"));
}
