//! The command line: the same calls as over HTTP, without a server.

mod analysis;
mod import;
mod key;
mod local;
mod model;
pub mod open;
mod serve;
mod train;
mod wordcount;

use crate::config::{self, Config};
use crate::shutdown;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A vocabulary server: trains, serves and hot-swaps byte-level BPE vocabularies over HTTP.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Common {
    /// Settings file (TOML); config/default.toml in the sources lists every setting.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where vocabularies, uploads and jobs are kept [setting `data_dir`, default ./data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what a bare `vocabd` does).
    Serve(ServeArgs),
    /// Import the files of a vocabulary, or those of a model on the hub, as its next version.
    Import(import::ImportArgs),
    /// Write a version as a file.
    Export(local::ExportArgs),
    /// Train a vocabulary on files.
    Train(train::TrainArgs),
    /// Count the pretokens of files, for training elsewhere.
    Wordcount(wordcount::WordcountArgs),
    /// Encode a text (or standard input) to ids, as JSON.
    Encode(local::EncodeArgs),
    /// Decode ids (or standard input) to text.
    Decode(local::DecodeArgs),
    /// Count the tokens of files (or standard input).
    Count(local::CountArgs),
    /// Cut a text into chunks of at most so many tokens, as JSON lines.
    Chunk(analysis::ChunkArgs),
    /// Compare how vocabularies cut files (or standard input), as a table.
    Compare(analysis::CompareArgs),
    /// Show merge by merge how a text (or standard input) becomes its tokens.
    Explain(analysis::ExplainArgs),
    /// Tell what is known of a version or of the files of a vocabulary, as JSON.
    Inspect(import::InspectArgs),
    /// Cards of base models: list and show them, make one of a config.json.
    Model(model::ModelArgs),
    /// Print the `OpenAPI` document.
    Openapi,
    /// Make a key for callers of a server, and its entry in the file of keys.
    Key(key::KeyArgs),
    /// Ask a running server whether it is ready; for container health checks.
    Health(serve::HealthArgs),
}

#[derive(Debug, Args, Default)]
struct ServeArgs {
    /// Address and port [setting listen, default 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Print the settings in effect, as a settings file, and end.
    #[arg(long)]
    print_config: bool,
}

/// What goes wrong on the command line, as a line for a person.
#[derive(Debug)]
pub struct Failure(String);

/// With the causes that the message does not tell itself.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let told = inner.to_string();
            if !message.contains(&told) {
                message = format!("{message}: {told}");
            }
            cause = inner.source();
        }
        Self(message)
    }
}

impl Failure {
    /// The error of something that the caller named: its name comes first.
    fn of<E: std::error::Error>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{what}: {}", Self::from(error).0))
    }
}

type Outcome = Result<(), Failure>;

/// How long work that nobody waits for any more may go on after the command has ended.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Runs the program; `listening` is called when a server has loaded what it begins with.
#[must_use]
pub fn main(listening: fn()) -> ExitCode {
    let cli = Cli::parse();
    match run(cli, listening) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, listening: fn()) -> Outcome {
    let mut flags = Vec::new();
    if let Some(dir) = &cli.common.data_dir {
        flags.push(("data_dir", dir.clone()));
    }
    let command = cli.command.unwrap_or_else(|| Command::Serve(ServeArgs::default()));
    if let Command::Serve(ServeArgs { listen: Some(listen), .. }) = &command {
        flags.push(("listen", listen.clone()));
    }
    match &command {
        Command::Openapi => return print(crate::http::OPENAPI_YAML.as_bytes()),
        Command::Key(args) => return key::key(args),
        _ => {}
    }
    let config = Config::load(cli.common.config.as_deref(), config::process_env()?, flags)?;
    if matches!(command, Command::Serve(ServeArgs { print_config: true, .. })) {
        return print(config.to_toml()?.as_bytes());
    }
    if let Command::Model(args) = &command {
        return model::model(&config, args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async move {
        shutdown::survive_file_size_limit()?;
        match command {
            Command::Serve(_) => serve::serve(config, listening).await,
            Command::Import(args) => import::import(&config, args).await,
            Command::Export(args) => local::export(&config, args).await,
            Command::Train(args) => train::train(&config, args).await,
            Command::Wordcount(args) => wordcount::wordcount(&config, args).await,
            Command::Encode(args) => local::encode(&config, args).await,
            Command::Decode(args) => local::decode(&config, args).await,
            Command::Count(args) => local::count(&config, args).await,
            Command::Chunk(args) => analysis::chunk(&config, args).await,
            Command::Compare(args) => analysis::compare(&config, args).await,
            Command::Explain(args) => analysis::explain(&config, args).await,
            Command::Inspect(args) => import::inspect(&config, args).await,
            Command::Openapi | Command::Key(_) | Command::Model(_) => Ok(()),
            Command::Health(args) => serve::health(&config, args).await,
        }
    });
    // Work on the blocking pool that does not stop when it is told to does not hold up the end.
    runtime.shutdown_timeout(LEFT_BEHIND);
    outcome
}

/// Writes to standard output. A reader that has gone (`vocabd ... | head`) is no error.
fn print(bytes: &[u8]) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn print_line(line: &str) -> Outcome {
    print(format!("{line}\n").as_bytes())
}

/// Writes a file that is whole or not there; what was there before stays until then. What is no regular file (a pipe, a
/// terminal) is written to as it is.
fn write_file(path: &Path, bytes: &[u8]) -> Outcome {
    let written = match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => std::fs::write(path, bytes),
        _ => replace_file(path, bytes),
    };
    written.map_err(Failure::of(path.display()))
}

fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Through links, so that it is the file behind them that changes.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", uuid::Uuid::new_v4().simple()));
    let written = std::fs::File::create_new(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

#[expect(clippy::print_stderr, reason = "the one place where a command complains to a person")]
fn complain(message: &str) {
    eprintln!("vocabd: {message}");
}
