//! `key`: a new key and its entry in the file of keys.

use super::{Failure, Outcome, print, write_file};
use crate::keys::{self, Keys, Limits, Scope};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Name of its holder, as it stands in the file and in logs.
    name: String,
    /// What it may do: encode, train, publish, admin (everything), with commas between. Without any it only reads /health,
    /// /info and /metrics.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    scopes: Vec<Scope>,
    /// Requests in a second, in the long run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    requests_per_second: Option<u32>,
    /// Requests at once after a rest [default: as many as in a second].
    #[arg(long, value_name = "N", requires = "requests_per_second",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    burst: Option<u32>,
    /// Requests in a day of UTC.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    requests_per_day: Option<u32>,
    /// Bytes of request bodies, as they are sent, in a day of UTC.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000_000_000))]
    bytes_per_day: Option<u64>,
    /// Versions of vocabularies that it may keep.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    kept_versions: Option<u32>,
    /// Bytes that those may have in the store.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000_000_000))]
    kept_bytes: Option<u64>,
    /// Training jobs that may wait or run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    open_jobs: Option<u32>,
    /// Add the entry to this file, which is made where it is missing, and print the key alone.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn scope(name: &str) -> Result<Scope, &'static str> {
    Scope::parse(name).ok_or("is none of encode, train, publish, admin")
}

pub(super) fn key(args: &KeyArgs) -> Outcome {
    if !keys::is_name(&args.name) {
        return Err(Failure(format!("the name must be {}", keys::NAME)));
    }
    let (key, hash) = keys::generate()?;
    let limits = Limits {
        requests_per_second: args.requests_per_second,
        burst: args.burst,
        requests_per_day: args.requests_per_day,
        bytes_per_day: args.bytes_per_day,
        kept_versions: args.kept_versions,
        kept_bytes: args.kept_bytes,
        open_jobs: args.open_jobs,
    };
    let entry = keys::entry(&args.name, &hash, &args.scopes, limits);
    let Some(file) = &args.file else {
        return print(format!("{key}\n\n{entry}").as_bytes());
    };
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text + "\n",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::of(file.display())(error)),
    };
    let text = before.clone() + &entry;
    Keys::check(&text).map_err(Failure::of(file.display()))?;
    write_file(file, text.as_bytes())?;
    print(format!("{key}\n").as_bytes())
}
