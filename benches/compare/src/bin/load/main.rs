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
    /// Measures short texts at a steady pace alone and beside a stream of texts of so many bytes, and probes, in place of all else.
    #[arg(long, value_name = "BYTES")]
    beside: Option<usize>,
    /// Encodes the same texts without a server, in this process, in place of all else.
    #[arg(long)]
    in_process: bool,
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

/// Short requests, and probes of /livez, at a steady pace; alone, and beside one long request after the other.
#[derive(Debug, Serialize)]
struct BesideRow {
    vocab: String,
    corpus: String,
    text_bytes: usize,
    long_bytes: usize,
    alone_p50_ms: f64,
    alone_p99_ms: f64,
    beside_p50_ms: f64,
    beside_p99_ms: f64,
    probe_alone_p99_ms: f64,
    probe_beside_p99_ms: f64,
    long_mb_per_s: f64,
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

/// What the engine alone does of the same texts.
#[derive(Debug, Serialize)]
struct EngineRow {
    vocab: String,
    corpus: String,
    /// Texts of a request: more of them are not in the processor's caches from the round before.
    texts: usize,
    text_bytes: usize,
    mb_per_s: f64,
    min: f64,
    max: f64,
}

fn in_process(args: &Args, vocab: &str) -> Result<(), Failure> {
    let file = args.vocab.as_ref().ok_or("--in-process wants --vocab")?;
    let tokenizer = vocabd::formats::import(&std::fs::read(file)?, None, &Default::default())?;
    let (options, mut scratch) = Default::default();
    for path in &args.corpus {
        let corpus = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for &size in &args.size {
            let of_each = if args.shape.contains(&client::Shape::Batch) { args.batch } else { 1 };
            let texts = texts(&corpus, size, TEXTS * of_each)?;
            let mut speeds = Vec::new();
            for _ in 0..=args.runs {
                let (started, mut bytes) = (std::time::Instant::now(), 0);
                while started.elapsed().as_secs_f64() < args.seconds / 2.0 {
                    for text in &texts {
                        std::hint::black_box(tokenizer.encode(text, &options, &mut scratch)?.ids);
                        bytes += text.len();
                    }
                }
                speeds.push(bytes as f64 / started.elapsed().as_secs_f64() / 1e6);
            }
            // The first run warms.
            let speeds = &speeds[1..];
            let row = EngineRow {
                vocab: vocab.to_owned(),
                corpus: stem(path),
                texts: of_each,
                text_bytes: size,
                mb_per_s: rounded(median(speeds.iter().copied()), 1),
                min: rounded(speeds.iter().copied().fold(f64::INFINITY, f64::min), 1),
                max: rounded(speeds.iter().copied().fold(0.0, f64::max), 1),
            };
            print(&row, args.json)?;
        }
    }
    Ok(())
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let vocab = match &args.vocab {
        Some(file) => stem(file),
        None => "default".to_owned(),
    };
    if args.in_process {
        return in_process(args, &vocab);
    }
    if args.starts > 0 {
        for data_dir in ["fresh", "used"] {
            print(&starts(args, &vocab, data_dir)?, args.json)?;
        }
    }
    let data = server::DataDir::new()?;
    let server = Server::start(args, &data)?;
    if let Some(long) = args.beside {
        return beside(args, &vocab, &server, long).await;
    }
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

async fn beside(args: &Args, vocab: &str, server: &Server, long_bytes: usize) -> Result<(), Failure> {
    const PACE: Duration = Duration::from_millis(4);
    let duration = Duration::from_secs_f64(args.seconds);
    for path in &args.corpus {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let port = server.port;
        let text_bytes = args.size.first().copied().unwrap_or(100);
        let short = requests(&text, text_bytes, 1, client::Shape::Json, port)?;
        let long = requests(&text, long_bytes, 1, client::Shape::Packed, port)?;
        let probes: Arc<[client::Request]> = [client::Request::probe(port)].into();
        let (mut alone, mut others) = (Vec::new(), Vec::new());
        for _ in 0..args.runs.max(1) {
            let both = async || {
                let short = client::paced(port, &short, PACE, duration);
                tokio::try_join!(short, client::paced(port, &probes, PACE, duration))
            };
            alone.push(both().await?);
            let stream = client::run(port, &long, 1, duration);
            let (measured, stream) = tokio::join!(both(), stream);
            others.push((measured?, stream?));
        }
        let p = |runs: &mut dyn Iterator<Item = &client::Run>, share| {
            rounded(median(runs.map(|run| run.percentile(share))), 2)
        };
        print(
            &BesideRow {
                vocab: vocab.to_owned(),
                corpus: stem(path),
                text_bytes,
                long_bytes,
                alone_p50_ms: p(&mut alone.iter().map(|(short, _)| short), 0.50),
                alone_p99_ms: p(&mut alone.iter().map(|(short, _)| short), 0.99),
                beside_p50_ms: p(&mut others.iter().map(|((short, _), _)| short), 0.50),
                beside_p99_ms: p(&mut others.iter().map(|((short, _), _)| short), 0.99),
                probe_alone_p99_ms: p(&mut alone.iter().map(|(_, probe)| probe), 0.99),
                probe_beside_p99_ms: p(&mut others.iter().map(|((_, probe), _)| probe), 0.99),
                long_mb_per_s: rounded(
                    median(others.iter().map(|(_, run)| run.requests as f64 * long_bytes as f64 / run.seconds / 1e6)),
                    1,
                ),
            },
            args.json,
        )?;
    }
    Ok(())
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

/// Texts of `size` bytes (less the end of a character), from places spread evenly over the corpus.
fn texts(corpus: &str, size: usize, texts: usize) -> Result<Vec<&str>, Failure> {
    if corpus.len() < size * 2 {
        return Err(format!("a corpus of {} bytes is too small for texts of {size}", corpus.len()).into());
    }
    let step = (corpus.len() - size) / texts;
    let text = |at: usize| {
        let start = corpus.ceil_char_boundary(at * step);
        &corpus[start..corpus.floor_char_boundary(start + size)]
    };
    Ok((0..texts).map(text).collect())
}

/// Requests with so many of those.
fn requests(
    corpus: &str,
    size: usize,
    of_each: usize,
    shape: client::Shape,
    port: u16,
) -> Result<Arc<[client::Request]>, Failure> {
    let texts = texts(corpus, size, TEXTS * of_each)?;
    texts.chunks(of_each).map(|texts| client::Request::encode(texts, shape, port)).collect()
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
