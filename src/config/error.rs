//! Why settings are refused. Every error names the setting and where its value came from.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The embedded defaults.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command-line flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default.toml"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration file is not TOML.
    #[error("{file} is not valid TOML: {message}")]
    Syntax {
        /// The file.
        file: Source,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A key that is no setting.
    #[error("unknown setting {key:?} ({origin}){}", did_you_mean(near))]
    Unknown {
        /// The key as it was written.
        key: String,
        /// Where it is.
        origin: Source,
        /// The settings with the nearest names, nearest first.
        near: Vec<String>,
    },
    /// A value of another type than the default's.
    #[error("{key} must be {expected} ({origin})")]
    Type {
        /// The setting.
        key: String,
        /// The type it has.
        expected: &'static str,
        /// Where the value came from.
        origin: Source,
    },
    /// A number out of its range.
    #[error("{key} must be from {min} to {max}, not {value} ({origin})")]
    Range {
        /// The setting.
        key: String,
        /// Its value.
        value: i64,
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
        /// Where the value came from.
        origin: Source,
    },
    /// A string that the setting does not know.
    #[error("{key} must be {expected}, not {value:?} ({origin})")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
        /// Where the value came from.
        origin: Source,
    },
    /// An address that other machines reach, while nobody is asked for a key.
    #[error(
        "{key} is {listen} ({origin}), which other machines can reach, and callers are not asked for a key: listen on \
         127.0.0.1, or name a file of keys (setting keys_file, `vocabd key` makes one), or set allow_unauthenticated to \
         true (VOCABD_ALLOW_UNAUTHENTICATED=true) if the network around the server is trusted"
    )]
    Open {
        /// The setting.
        key: &'static str,
        /// The address.
        listen: SocketAddr,
        /// Where it came from.
        origin: Source,
    },
    /// A variable that is not UTF-8.
    #[error("environment variable {0} is not valid UTF-8")]
    NotUnicode(String),
    /// The defaults file and `Config` disagree: a fault of the build.
    #[error("the settings do not fit together: {0}")]
    Mismatch(String),
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}
