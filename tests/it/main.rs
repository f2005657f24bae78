//! The integration tests: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "what cannot be read or made fails the test")]

mod cli;
mod data;
mod house;
mod parity;
mod process;
mod registry;
mod train_golden;
