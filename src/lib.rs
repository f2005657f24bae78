//! vocabd trains, serves and hot-swaps byte-level BPE vocabularies over HTTP.
//!
//! The crate is one binary with its parts as modules; the arrows between them are fixed (see
//! ARCHITECTURE.md) and checked by a test. Start reading at [`engine`].

pub mod analysis;
pub mod chat;
pub mod cli;
pub mod config;
pub mod engine;
pub mod fetch;
pub mod formats;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod models;
pub mod registry;
pub mod reread;
pub mod shutdown;
pub mod store;
pub mod telemetry;
