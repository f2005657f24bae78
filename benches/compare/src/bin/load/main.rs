//! Requests per second, start-to-ready time and resident memory of `vocabd serve`.
//!
//! The server runs on a core of its own and this program on another (`benches/http/run.sh` pins both). Texts rotate, so
//! that none stays hot; sizes and languages take turns, run by run.

mod client;
mod server;

use clap::Parser;
use serde::Serialize;
use server::Server;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Why a measurement ended: a line for a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Different texts of each size and language.
const TEXTS: usize = 64;

#[derive(Debug, Parser)]
#[command(name = "load", about = "Measures a vocabd server over HTTP")]
struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/vocabd")]
    vocabd: PathBuf,
    /// A vocabulary file that is imported and made the default; without it the embedded default is used.
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
    /// Texts to cut requests from.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Sizes of the texts in bytes.
    #[arg(long, num_args = 1.., default_values_t = [100, 2048, 65536])]
    size: Vec<usize>,
    /// Shapes of requests and answers; text alone with packed ids is measured as well as JSON if both are named.
    #[arg(long, num_args = 1.., default_values = ["json"])]
    shape: Vec<client::Shape>,
    /// Texts of a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seconds that each size and corpus is measured, in each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs; the figures are their median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Connections for texts under 16 KiB; longer ones get a quarter of them.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Cores of the server, as taskset takes them.
    #[arg(long, default_value = "0")]
    server_cores: String,
    /// Starts to measure; 0 leaves that out.
    #[arg(long, default_value_t = 10)]
    starts: usize,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// Requests of one size and language.
#[derive(Debug, Serialize)]
struct Row {
    vocab: String,
    corpus: String,
    shape: String,
    text_bytes: usize,
    connections: usize,
    requests_per_s: f64,
    min: f64,
    max: f64,
    mb_per_s: f64,
    /// Requests per second of processor time that the server used: the figure of a quiet machine, nearly.
    per_core_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Share of one core that the server used.
    server_cpu: f64,
    /// Share of one core that this program used. Near 1 it is the limit, not the server.
    client_cpu: f64,
}

/// From exec to the first 200 of /readyz, in a fresh data directory or in one that a server has used.
#[derive(Debug, Serialize)]
struct StartRow {
    vocab: String,
    data_dir: &'static str,
    ready_ms: f64,
    min: f64,
    max: f64,
    starts: usize,
}

/// Resident memory in MB (10^6 bytes).
#[derive(Debug, Serialize)]
struct MemoryRow {
    vocab: String,
    rss_ready_mb: f64,
    rss_after_mb: f64,
    rss_peak_mb: f64,
}

fn main() -> ExitCode {
    let measured = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(measure(&Args::parse())));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let vocab = match &args.vocab {
        Some(file) => stem(file),
        None => "default".to_owned(),
    };
    if args.starts > 0 {
        for data_dir in ["fresh", "used"] {
            print(&starts(args, &vocab, data_dir)?, args.json)?;
        }
    }
    let data = server::DataDir::new()?;
    let server = Server::start(args, &data)?;
    let rss_ready_mb = server.status_mb("VmRSS");

    let mut cells = Vec::new();
    for path in &args.corpus {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for &size in &args.size {
            for &shape in &args.shape {
                let texts = if shape == client::Shape::Batch { args.batch } else { 1 };
                let requests = requests(&text, size, texts, shape, server.port)?;
                cells.push(((path, shape), size, requests, Vec::new()));
            }
        }
    }
    let duration = Duration::from_secs_f64(args.seconds);
    for _ in 0..args.runs.max(1) {
        for (_, size, requests, runs) in &mut cells {
            let connections = connections(args, *size);
            client::run(server.port, requests, connections, duration / 4).await?;
            let cpu = (server.cpu_seconds(), server::cpu_seconds("self"));
            let mut run = client::run(server.port, requests, connections, duration).await?;
            run.server_cpu = (server.cpu_seconds() - cpu.0) / run.seconds;
            run.client_cpu = (server::cpu_seconds("self") - cpu.1) / run.seconds;
            runs.push(run);
        }
    }
    for ((path, shape), size, requests, runs) in &cells {
        let of = |value: fn(&client::Run) -> f64| median(runs.iter().map(value));
        let rates = || runs.iter().map(|run| run.requests as f64 / run.seconds);
        let mean_bytes = requests.iter().map(|r| r.text_bytes).sum::<usize>() as f64 / requests.len() as f64;
        let rate = median(rates());
        let row = Row {
            vocab: vocab.clone(),
            corpus: stem(path),
            shape: format!("{shape:?}").to_lowercase(),
            text_bytes: *size,
            connections: connections(args, *size),
            requests_per_s: rate.round(),
            min: rates().fold(f64::INFINITY, f64::min).round(),
            max: rates().fold(0.0, f64::max).round(),
            mb_per_s: rounded(rate * mean_bytes / 1e6, 1),
            per_core_s: median(runs.iter().map(|run| run.requests as f64 / run.seconds / run.server_cpu))
                .round(),
            p50_ms: rounded(of(|run| run.percentile(0.50)), 2),
            p99_ms: rounded(of(|run| run.percentile(0.99)), 2),
            server_cpu: rounded(of(|run| run.server_cpu), 2),
            client_cpu: rounded(of(|run| run.client_cpu), 2),
        };
        print(&row, args.json)?;
    }
    let memory = MemoryRow {
        vocab,
        rss_ready_mb: rounded(rss_ready_mb, 1),
        rss_after_mb: rounded(server.status_mb("VmRSS"), 1),
        rss_peak_mb: rounded(server.status_mb("VmHWM"), 1),
    };
    print(&memory, args.json)
}

fn connections(args: &Args, size: usize) -> usize {
    if size < 16 << 10 { args.connections } else { args.connections.div_ceil(4) }
}

fn starts(args: &Args, vocab: &str, data_dir: &'static str) -> Result<StartRow, Failure> {
    let used = server::DataDir::new()?;
    drop(Server::start(args, &used)?);
    let mut times = Vec::new();
    for _ in 0..args.starts {
        let fresh = server::DataDir::new()?;
        let server = Server::start(args, if data_dir == "fresh" { &fresh } else { &used })?;
        times.push(server.ready_ms);
    }
    Ok(StartRow {
        vocab: vocab.to_owned(),
        data_dir,
        ready_ms: rounded(median(times.iter().copied()), 1),
        min: rounded(times.iter().copied().fold(f64::INFINITY, f64::min), 1),
        max: rounded(times.iter().copied().fold(0.0, f64::max), 1),
        starts: args.starts,
    })
}

/// Requests with texts of `size` bytes (less the end of a character), from places spread evenly over the corpus.
fn requests(
    corpus: &str,
    size: usize,
    texts: usize,
    shape: client::Shape,
    port: u16,
) -> Result<Arc<[client::Request]>, Failure> {
    if corpus.len() < size * 2 {
        return Err(format!("a corpus of {} bytes is too small for texts of {size}", corpus.len()).into());
    }
    let step = (corpus.len() - size) / (TEXTS * texts);
    let text = |at: usize| {
        let start = corpus.ceil_char_boundary(at * step);
        &corpus[start..corpus.floor_char_boundary(start + size)]
    };
    let request = |at: usize| {
        let texts: Vec<&str> = (0..texts).map(|n| text(at * texts + n)).collect();
        client::Request::encode(&texts, shape, port)
    };
    (0..TEXTS).map(request).collect()
}

/// A line of JSON, or `name value` pairs for a person.
fn print(row: &impl Serialize, json: bool) -> Result<(), Failure> {
    let value = serde_json::to_value(row)?;
    if json {
        println!("{}", serde_json::to_string(row)?);
    } else {
        let fields = value.as_object().into_iter().flatten().map(|(name, value)| format!("{name} {value}"));
        println!("{}", fields.collect::<Vec<_>>().join("  "));
    }
    Ok(())
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// A file's name without folder and extension.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
