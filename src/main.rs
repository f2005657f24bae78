//! The program: parse the command line, run one command, turn its outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    vocabd::cli::main()
}
