//! The integration tests: one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "what cannot be read or made fails the test")]

mod chat;
mod cli;
mod data;
mod gguf;
mod hostile;
mod house;
mod http_analysis;
mod http_bad_input;
mod http_bodies;
mod http_browse;
mod http_chat;
mod http_compat;
mod http_compat_more;
mod http_encode;
mod http_faults;
mod http_keys;
mod http_models;
mod http_overload;
mod http_stream;
mod http_train;
mod http_train_ends;
mod http_train_inputs;
mod http_vocabs;
mod hub;
mod openapi;
mod operations;
mod parity;
mod process;
mod registry;
mod replicas;
mod sentencepiece;
mod support;
mod train_golden;
mod twin;
