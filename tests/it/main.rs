//! The integration tests: one binary, a module per subject.

mod data;
mod parity;
mod train_golden;
