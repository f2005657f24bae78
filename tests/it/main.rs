//! The integration tests: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "what cannot be read or made fails the test")]

mod data;
mod house;
mod http_encode;
mod parity;
mod registry;
mod support;
mod train_golden;
