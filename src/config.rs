//! Settings: the embedded `config/default.toml`, then a file, then `VOCABD_*` variables, then command-line values.
//!
//! The defaults file is the one list of keys and types: a layer can only change what it has. A [`Config`] that
//! exists has passed every check here, and nothing is read from the process but what [`Config::load`] is given.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

#[cfg(test)]
mod tests;

/// The defaults file, with a comment for every setting.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// What every variable of the server starts with.
const ENV_PREFIX: &str = "VOCABD_";
/// Names the configuration file when no flag does; the one variable that is not a setting.
const ENV_FILE: &str = "VOCABD_CONFIG";

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const TIB: i64 = 1 << 40;
const DAY: i64 = 24 * 60 * 60;

/// Least and greatest value of every whole-number setting.
const LIMITS: &[(&str, i64, i64)] = &[
    ("max_body_bytes", KIB, 4 * GIB),
    ("max_upload_bytes", KIB, 1024 * TIB),
    ("max_vocab_bytes", KIB, 4 * GIB),
    ("max_batch_texts", 1, 10_000_000),
    ("max_resident_bytes", MIB, 1024 * TIB),
    ("keep_versions", 0, u32::MAX as i64),
    ("min_free_bytes", 0, 1024 * TIB),
    ("upload_ttl_hours", 1, 100 * 366 * 24),
    ("max_job_records", 1, 1_000_000),
    ("max_running_jobs", 1, 256),
    ("max_queued_jobs", 1, 100_000),
    ("train_threads", 0, 1024),
    ("inline_bytes", 0, 16 * MIB),
    ("encode_threads", 0, 1024),
    ("max_waiting_encodes", 1, 1_000_000),
    ("max_connections", 1, 1_000_000),
    ("header_timeout_seconds", 1, DAY),
    ("body_timeout_seconds", 1, DAY),
    ("idle_timeout_seconds", 1, DAY),
    ("drain_seconds", 0, DAY),
    ("watch_seconds", 0, DAY),
];

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
const LOG_FORMATS: &[&str] = &["json", "text"];

/// Every setting; `config/default.toml` says more about each and has its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; [`Config::listen_addr`] has it parsed.
    pub listen: String,
    /// Serve callers on other machines although nobody is asked for a key.
    pub allow_unauthenticated: bool,
    /// Directory of everything that the server keeps.
    pub data_dir: PathBuf,
    /// Directory whose files training requests may name; empty for none, see [`Config::corpus_root`].
    pub corpus_root: PathBuf,
    /// Vocabulary of requests that name none. Only known here not to be empty.
    pub default_vocab: String,
    /// Largest request body that is held in memory, in bytes.
    pub max_body_bytes: usize,
    /// Largest upload, in bytes.
    pub max_upload_bytes: u64,
    /// Largest vocabulary file that is imported, in bytes.
    pub max_vocab_bytes: usize,
    /// Most texts in one batch request.
    pub max_batch_texts: usize,
    /// Memory for loaded vocabularies, in bytes.
    pub max_resident_bytes: u64,
    /// Versions of a vocabulary to keep, 0 for all; see [`Config::keep_versions`].
    pub keep_versions: u32,
    /// Free disk space below which uploads and training are refused, in bytes.
    pub min_free_bytes: u64,
    /// Hours after its last use at which an upload is deleted.
    pub upload_ttl_hours: u64,
    /// Records of finished jobs to keep.
    pub max_job_records: usize,
    /// Jobs that run at the same time.
    pub max_running_jobs: usize,
    /// Jobs that may wait.
    pub max_queued_jobs: usize,
    /// Threads of one job, 0 for one a core; see [`Config::train_threads`].
    pub train_threads: usize,
    /// Texts up to this many bytes are encoded on the async threads.
    pub inline_bytes: usize,
    /// Encode threads, 0 for one a core; see [`Config::encode_threads`].
    pub encode_threads: usize,
    /// Requests that may wait for an encode thread.
    pub max_waiting_encodes: usize,
    /// Open connections.
    pub max_connections: usize,
    /// Seconds in which a request's headers must have arrived.
    pub header_timeout_seconds: u64,
    /// Seconds without a byte after which a request body is given up.
    pub body_timeout_seconds: u64,
    /// Seconds after which a connection without requests is closed.
    pub idle_timeout_seconds: u64,
    /// Seconds that open requests have to end after SIGTERM.
    pub drain_seconds: u64,
    /// Seconds between looks into the import folder, 0 for none; see [`Config::watch`].
    pub watch_seconds: u64,
    /// Least level that is logged.
    pub log_level: String,
    /// `json` or `text`; see [`Config::log_json`].
    pub log_format: String,
}

impl Config {
    /// Puts the layers over each other and checks the outcome.
    ///
    /// `env` is the environment (others' variables are skipped; [`process_env`] reads the real one), `cli` has pairs
    /// of setting and value. Without `file`, `VOCABD_CONFIG` names one.
    ///
    /// # Errors
    /// An unreadable file, an unknown key or variable, a value of the wrong type or out of its range, or an address
    /// beyond this machine without `allow_unauthenticated`. Each names the setting and where its value came from.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        cli: Vec<(&'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new()?;
        let mut env: Vec<_> = env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        // So that of several faults the same one is reported each time.
        env.sort();
        let env_file = env.iter().find(|(name, value)| name == ENV_FILE && !value.is_empty());
        if let Some(file) = file.or(env_file.map(|(_, value)| Path::new(value))) {
            layers.put_file(file)?;
        }
        for (name, value) in &env {
            layers.put_variable(name, value)?;
        }
        for (key, value) in cli {
            layers.put_text(key, &value, Source::Flag(flag_name(key)))?;
        }
        layers.finish()
    }

    /// The parsed `listen`.
    ///
    /// # Panics
    /// Never for a loaded configuration. A test that sets `listen` by hand sets an address.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen.parse().expect("loading checks that listen is a socket address")
    }

    /// The directory whose files training requests may name, if any.
    #[must_use]
    pub fn corpus_root(&self) -> Option<&Path> {
        (!self.corpus_root.as_os_str().is_empty()).then_some(self.corpus_root.as_path())
    }

    /// Versions of a vocabulary to keep; `None` keeps all.
    #[must_use]
    pub fn keep_versions(&self) -> Option<u32> {
        (self.keep_versions > 0).then_some(self.keep_versions)
    }

    /// Threads of one training job, at least 1.
    #[must_use]
    pub fn train_threads(&self) -> usize {
        threads_or_cores(self.train_threads)
    }

    /// Encode threads, at least 1.
    #[must_use]
    pub fn encode_threads(&self) -> usize {
        threads_or_cores(self.encode_threads)
    }

    /// How long an upload is kept after its last use.
    #[must_use]
    pub fn upload_ttl(&self) -> Duration {
        Duration::from_secs(self.upload_ttl_hours.saturating_mul(60 * 60))
    }

    /// The time in which a request's headers must have arrived.
    #[must_use]
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    /// The time without a byte after which a request body is given up.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }

    /// The time after which a connection without requests is closed.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    /// The time that open requests have to end at a shutdown.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// The time between looks into the import folder; `None` never looks by itself.
    #[must_use]
    pub fn watch(&self) -> Option<Duration> {
        (self.watch_seconds > 0).then(|| Duration::from_secs(self.watch_seconds))
    }

    /// Whether log lines are JSON rather than text.
    #[must_use]
    pub fn log_json(&self) -> bool {
        self.log_format == "json"
    }

    /// The settings in effect as a configuration file, without comments.
    ///
    /// # Errors
    /// [`ConfigError::Mismatch`] for a path that is not UTF-8 or a number beyond TOML's; none is in a loaded one.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Mismatch(e.to_string()))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::load(None, [], Vec::new()).expect("the embedded defaults are valid, as a test checks")
    }
}

/// The process's `VOCABD_*` variables, for [`Config::load`].
///
/// # Errors
/// [`ConfigError::NotUnicode`] for a value that is not UTF-8.
pub fn process_env() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::NotUnicode(name)),
        })
        .collect()
}

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
        "listen is {listen} ({origin}), which other machines can reach, and callers are not asked for a key: listen on \
         127.0.0.1, or set allow_unauthenticated to true (VOCABD_ALLOW_UNAUTHENTICATED=true) if the network around \
         the server is trusted"
    )]
    Open {
        /// The address.
        listen: SocketAddr,
        /// Where it came from.
        origin: Source,
    },
    /// A variable that is not UTF-8.
    #[error("environment variable {0} is not valid UTF-8")]
    NotUnicode(String),
    /// The defaults file and [`Config`] disagree: a fault of the build.
    #[error("the settings do not fit together: {0}")]
    Mismatch(String),
}

/// The layers so far: a value and its source for every key of the defaults file.
struct Layers {
    defaults: Table,
    values: Table,
    sources: BTreeMap<String, Source>,
}

impl Layers {
    fn new() -> Result<Self, ConfigError> {
        let defaults = parse_toml(DEFAULT_TOML, &Source::Default)?;
        Ok(Self { values: defaults.clone(), defaults, sources: BTreeMap::new() })
    }

    fn put_file(&mut self, file: &Path) -> Result<(), ConfigError> {
        let origin = Source::File(file.to_owned());
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        for (key, value) in parse_toml(&text, &origin)? {
            let default = self.default_of(&key, &origin)?;
            if !value.same_type(default) {
                return Err(type_error(&key, default, origin));
            }
            self.put(&key, value, origin.clone());
        }
        Ok(())
    }

    fn put_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { return Ok(()) };
        let key = rest.to_ascii_lowercase();
        // Upper case only: two spellings of one variable would have no order between them.
        let known = self.defaults.contains_key(&key) && rest == rest.to_ascii_uppercase();
        if known {
            self.put_text(&key, value, Source::Variable(name.to_owned()))
        } else if name == ENV_FILE || is_service_link(rest) {
            Ok(())
        } else {
            let near = near_keys(&key, &self.defaults);
            let near = near.into_iter().map(|key| variable_name(&key)).collect();
            Err(ConfigError::Unknown {
                key: name.to_owned(),
                origin: Source::Variable(name.to_owned()),
                near,
            })
        }
    }

    /// Sets `key` from text, read as the type of its default.
    fn put_text(&mut self, key: &str, text: &str, origin: Source) -> Result<(), ConfigError> {
        let default = self.default_of(key, &origin)?;
        let value = match default {
            Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
            Value::Boolean(_) => match text.trim() {
                "true" | "1" => Some(Value::Boolean(true)),
                "false" | "0" => Some(Value::Boolean(false)),
                _ => None,
            },
            _ => Some(Value::String(text.to_owned())),
        };
        let value = value.ok_or_else(|| type_error(key, default, origin.clone()))?;
        self.put(key, value, origin);
        Ok(())
    }

    fn default_of(&self, key: &str, origin: &Source) -> Result<&Value, ConfigError> {
        self.defaults.get(key).ok_or_else(|| ConfigError::Unknown {
            key: key.to_owned(),
            origin: origin.clone(),
            near: near_keys(key, &self.defaults),
        })
    }

    fn put(&mut self, key: &str, value: Value, origin: Source) {
        self.values.insert(key.to_owned(), value);
        self.sources.insert(key.to_owned(), origin);
    }

    fn source_of(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    fn finish(self) -> Result<Config, ConfigError> {
        // Before the struct is filled, so that a number that does not fit a field is a range error.
        for &(key, min, max) in LIMITS {
            if let Some(value) = self.values.get(key).and_then(Value::as_integer)
                && !(min..=max).contains(&value)
            {
                let key = key.to_owned();
                return Err(ConfigError::Range { origin: self.source_of(&key), key, value, min, max });
            }
        }
        let config: Config = self
            .values
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Mismatch(e.to_string()))?;
        self.validate(&config)?;
        Ok(config)
    }

    /// The checks of settings that are not numbers.
    fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        let refuse = |key: &'static str, value: &str, expected: String| {
            Err(ConfigError::Value { key, value: value.to_owned(), expected, origin: self.source_of(key) })
        };
        let Ok(listen) = config.listen.parse::<SocketAddr>() else {
            return refuse("listen", &config.listen, "an IP address with a port, like 127.0.0.1:8080".into());
        };
        if !listen.ip().to_canonical().is_loopback() && !config.allow_unauthenticated {
            return Err(ConfigError::Open { listen, origin: self.source_of("listen") });
        }
        if config.data_dir.as_os_str().is_empty() {
            return refuse("data_dir", "", "the path of a directory".into());
        }
        if config.default_vocab.is_empty() {
            return refuse("default_vocab", "", "the name of a vocabulary".into());
        }
        if !LOG_LEVELS.contains(&config.log_level.as_str()) {
            return refuse("log_level", &config.log_level, format!("one of {}", LOG_LEVELS.join(", ")));
        }
        if !LOG_FORMATS.contains(&config.log_format.as_str()) {
            return refuse("log_format", &config.log_format, format!("one of {}", LOG_FORMATS.join(", ")));
        }
        Ok(())
    }
}

fn parse_toml(text: &str, origin: &Source) -> Result<Table, ConfigError> {
    text.parse()
        .map_err(|e: toml::de::Error| ConfigError::Syntax { file: origin.clone(), message: e.to_string() })
}

fn type_error(key: &str, default: &Value, origin: Source) -> ConfigError {
    let expected = match default {
        Value::Integer(_) => "a whole number below 2^63",
        Value::Boolean(_) => "true or false",
        _ => "a string",
    };
    ConfigError::Type { key: key.to_owned(), expected, origin }
}

/// Whether a container platform made this variable for a service named `vocabd`, or `vocabd-` and more: Kubernetes
/// sets `VOCABD_PORT`, `VOCABD_SERVICE_HOST`, `VOCABD_PORT_8080_TCP_ADDR` and their like in every pod beside one.
/// No setting may be named so.
fn is_service_link(rest: &str) -> bool {
    let words: HashSet<&str> = rest.split('_').collect();
    let service = words.contains("SERVICE") && (words.contains("HOST") || words.contains("PORT"));
    service || rest == "PORT" || rest.ends_with("_PORT") || (words.contains("PORT") && has_protocol(&words))
}

fn has_protocol(words: &HashSet<&str>) -> bool {
    ["TCP", "UDP", "SCTP"].iter().any(|protocol| words.contains(protocol))
}

/// Up to three settings whose names are near `key`, nearest first.
fn near_keys(key: &str, defaults: &Table) -> Vec<String> {
    // Found by trying misspellings: below this, words that only share `max_` and `_bytes` come up.
    const LEAST: f64 = 0.6;
    let mut near: Vec<(f64, &String)> = defaults
        .keys()
        .map(|known| (strsim::normalized_damerau_levenshtein(&key.to_ascii_lowercase(), known), known))
        .filter(|(similarity, _)| *similarity >= LEAST)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(3).map(|(_, known)| known.clone()).collect()
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn variable_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_ascii_uppercase())
}

fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn threads_or_cores(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}
