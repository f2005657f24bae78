//! `wordcount`: the counts that training needs, made on their own, on as many machines as there are.

use super::train::{ReadingArgs, show, style, word};
use super::{Failure, Outcome};
use crate::config::Config;
use crate::jobs::{self, DigitsName, NormalizerName, ShardFormat, TrainRequest};
use clap::Args;
use indicatif::ProgressBar;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct WordcountArgs {
    /// Corpus files, plain or compressed (.gz, .zst); - is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the counts go; - is standard output.
    #[arg(long, short, value_name = "SHARD")]
    output: PathBuf,
    /// Form of the counts: parquet, ndjson or tsv [default: as the output's extension says, tsv for standard output].
    #[arg(long, value_parser = form)]
    to: Option<ShardFormat>,
    /// How text is cut: gpt2, cl100k, o200k, qwen2, llama3, deepseek, or a regex.
    #[arg(long, default_value = "cl100k", value_name = "PATTERN")]
    split: String,
    /// Replace the split's number rule: single, group3 or run.
    #[arg(long, value_parser = word::<DigitsName>)]
    digits: Option<DigitsName>,
    /// Normalizer: none, nfc, nfd, nfkc or nfkd.
    #[arg(long, value_parser = word::<NormalizerName>, default_value = "none")]
    normalizer: NormalizerName,
    /// A special token, whose name ends a record; may be repeated.
    #[arg(long, value_name = "NAME")]
    special_token: Vec<String>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Leave out pretokens that occur less often than this; 1 keeps all.
    #[arg(long, default_value_t = 1)]
    prune_count: u64,
    /// Threads that count [setting `train_threads`, default all cores].
    #[arg(long)]
    threads: Option<usize>,
    /// Memory for counts in bytes, about; the disk takes what is more [setting `train_max_memory_bytes`].
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<usize>,
}

fn form(name: &str) -> Result<ShardFormat, String> {
    ShardFormat::from_name(name).ok_or_else(|| "expected one of parquet, ndjson, tsv".to_owned())
}

/// Memory for counts, as the settings have it.
pub(super) fn max_memory(config: &Config) -> usize {
    usize::try_from(config.train_max_memory_bytes).unwrap_or(usize::MAX)
}

pub(super) async fn wordcount(config: &Config, args: WordcountArgs) -> Outcome {
    let to_stdout = args.output == Path::new("-");
    let by_extension = || args.output.extension().and_then(|e| e.to_str()).and_then(ShardFormat::from_name);
    let format = match args.to.or_else(by_extension) {
        Some(format) => format,
        None if to_stdout => ShardFormat::Tsv,
        None => {
            let what = args.output.display();
            return Err(Failure(format!("{what}: name the form with --to parquet, ndjson or tsv")));
        }
    };
    let name = "counts".parse().map_err(Failure::of("counts"))?;
    let request = TrainRequest {
        num_merges: Some(1),
        split: Some(args.split),
        digits: args.digits,
        normalizer: Some(args.normalizer),
        special_tokens: args.special_token,
        prune_count: args.prune_count,
        ..TrainRequest::new(name, args.reading.corpus())
    };
    let threads = args.threads.unwrap_or_else(|| config.train_threads());
    let max_memory = args.max_memory.unwrap_or_else(|| max_memory(config));
    let bar = ProgressBar::new(1000).with_style(style());
    bar.enable_steady_tick(Duration::from_millis(200));
    let watched = bar.clone();
    let see = move |view: &_| show(&watched, view);
    // Beside its place and moved there: one that is cut off must not pass for a whole.
    let part = args.output.with_extension("part");
    let out: Box<dyn Write + Send> = if to_stdout {
        Box::new(std::io::stdout())
    } else {
        let file = std::fs::File::create(&part).map_err(Failure::of(part.display()))?;
        Box::new(std::io::BufWriter::with_capacity(1 << 18, file))
    };
    let room = (max_memory, config.min_free_bytes);
    let counted = jobs::count_files(request, args.files, threads, room, format, out, see).await;
    bar.finish_and_clear();
    if to_stdout {
        return counted.map_err(Failure);
    }
    if let Err(problem) = counted {
        let _ = std::fs::remove_file(&part);
        return Err(Failure(problem));
    }
    std::fs::rename(&part, &args.output).map_err(Failure::of(args.output.display()))
}
