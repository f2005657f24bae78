//! The program: parse the command line, run one command, turn its outcome into an exit code.

use std::process::ExitCode;

/// The system's allocator of a static binary is slow and keeps what threads free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vocabd::cli::main()
}
