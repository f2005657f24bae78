//! Compares vocabd with its peers on real text: speed, ids, load time, memory, training.
//!
//! Every figure comes from a process of its own that loads one engine, warms it and measures once; engines take turns,
//! run by run, so that a disturbance of the machine meets all of them. What engines answer is compared in the same run.

mod encode;
mod engines;
mod load;
mod process;
mod texts;
mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The allocator that vocabd ships with, for every engine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a comparison ended: a line for a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    /// Training time, one line per engine and tie break.
    Train(train::TrainArgs),
    /// Load time and resident memory, one line per engine and vocabulary.
    Load(load::LoadArgs),
    /// One measurement of `load`, in this process.
    #[command(hide = true)]
    LoadOnce(load::OnceArgs),
    /// One measurement of `encode`, in this process.
    #[command(hide = true)]
    EncodeOnce(encode::OnceArgs),
    /// One measurement of `train`, in this process.
    #[command(hide = true)]
    TrainOnce(train::OnceArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Encode(args) => encode::compare(&args),
        Command::Train(args) => train::compare(&args),
        Command::Load(args) => load::compare(&args),
        Command::LoadOnce(args) => load::once(&args),
        Command::EncodeOnce(args) => encode::once(&args),
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
