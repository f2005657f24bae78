//! Compares vocabd with its peers on real text: speed, ids, load time, memory, training.
//!
//! Every figure comes from a process of its own that loads one engine, warms it and measures once; engines take turns,
//! run by run, so that a disturbance of the machine meets all of them. What engines answer is compared in the same run.

mod encode;
mod engine;
mod load;
mod peers;
mod plot;
mod process;
mod synth;
mod texts;
mod train;
mod vocabulary;
mod worst;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The allocator that vocabd ships with, for every engine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use measure::Failure;

#[derive(Debug, Parser)]
#[command(about = "Compares vocabd with its peers", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Encoding, counting and decoding speed, one line per engine and corpus.
    Encode(encode::EncodeArgs),
    /// Training time and equal merges, one line per engine.
    Train(train::TrainArgs),
    /// A text of any size from some corpora.
    Synth(synth::SynthArgs),
    /// Load time and resident memory, one line per engine and vocabulary.
    Load(load::LoadArgs),
    /// A picture of a record.
    Plot(plot::PlotArgs),
    /// One measurement of `encode` or `load`, in this process.
    #[command(hide = true)]
    Once {
        /// The [`measure::Task`] as JSON.
        task: String,
    },
    /// One measurement of `train`, in this process.
    #[command(hide = true)]
    TrainOnce(train::OnceArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Encode(args) => encode::compare(&args),
        Command::Train(args) => train::compare(&args),
        Command::Synth(args) => synth::write(&args),
        Command::Load(args) => load::compare(&args),
        Command::Plot(args) => plot::draw(&args),
        Command::Once { task } => once(&task),
        Command::TrainOnce(args) => train::once(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the measurement that [`peers::ask`] asks for.
fn once(task: &str) -> Result<(), Failure> {
    process::answer(&measure::measure(&serde_json::from_str(task)?, engine::load)?)
}
