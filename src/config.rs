//! Settings: the embedded `config/default.toml`, then a file, then `VOCABD_*` variables, then command-line values.
//!
//! The defaults file is the one list of keys and types: a layer can only change what it has. A [`Config`] that
//! exists has passed every check here, and nothing is read from the process but what [`Config::load`] is given.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use layers::Layers;

pub use error::{ConfigError, Source};

mod error;
mod layers;
#[cfg(test)]
mod tests;

/// The defaults file, with a comment for every setting.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// What every variable of the server starts with.
const ENV_PREFIX: &str = "VOCABD_";
/// Names the configuration file when no flag does; the one variable that is not a setting.
const ENV_FILE: &str = "VOCABD_CONFIG";

/// Every setting; `config/default.toml` says more about each and has its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; [`Config::listen_addr`] has it parsed.
    pub listen: String,
    /// The same for operators alone; empty for none, see [`Config::admin_addr`].
    pub admin_listen: String,
    /// Serve callers on other machines although nobody is asked for a key.
    pub allow_unauthenticated: bool,
    /// File of the keys that callers are asked for; empty for none, see [`Config::keys_file`].
    pub keys_file: PathBuf,
    /// File of the certificates that clients are shown; empty for no TLS, see [`Config::tls`].
    pub tls_cert: PathBuf,
    /// File of the private key of the first of them.
    pub tls_key: PathBuf,
    /// Origins whose pages may call: none, `*`, or some separated by commas; see [`Config::allows_origin`].
    pub cors_origins: String,
    /// Directory of everything that the server keeps.
    pub data_dir: PathBuf,
    /// Where vocabularies and jobs are kept; empty for `data_dir`, see [`Config::bucket`].
    pub store: String,
    /// Directory of the user's model cards; empty for one in `data_dir`, see [`Config::models_dir`].
    pub models_dir: PathBuf,
    /// Directory whose files training requests may name; empty for none, see [`Config::corpus_root`].
    pub corpus_root: PathBuf,
    /// Vocabulary of requests that name none. Only known here not to be empty.
    pub default_vocab: String,
    /// Fetch from a model hub for callers over HTTP.
    pub allow_hub: bool,
    /// URLs that callers over HTTP may import from: none, `*`, or hosts separated by commas.
    pub import_urls: String,
    /// Largest request body that is held in memory, in bytes.
    pub max_body_bytes: usize,
    /// Most bytes that a compressed request body may become for each byte of it.
    pub max_decompress_ratio: usize,
    /// Least size of answers that are compressed, 0 for none; see [`Config::compresses`].
    pub compress_min_bytes: usize,
    /// Largest upload, in bytes.
    pub max_upload_bytes: u64,
    /// Largest vocabulary file that is imported, in bytes.
    pub max_vocab_bytes: usize,
    /// Most texts in one batch request.
    pub max_batch_texts: usize,
    /// Most names in `allowed_special`.
    pub max_allowed_special: usize,
    /// Most bytes that the ids of one decode request may stand for.
    pub max_decoded_bytes: u64,
    /// Most chunks of one request.
    pub max_chunks: usize,
    /// Most vocabularies of one comparison.
    pub max_compare_vocabs: usize,
    /// Most models of one comparison.
    pub max_compare_models: usize,
    /// Longest text whose tokens a comparison tells, in bytes.
    pub max_compare_span_bytes: usize,
    /// Largest upload that is compared, decompressed, in bytes.
    pub max_compare_bytes: u64,
    /// Longest text that is explained, in bytes.
    pub max_explain_bytes: usize,
    /// Most entries of a page.
    pub max_page: usize,
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
    /// Memory for the counts of one job, in bytes.
    pub train_max_memory_bytes: u64,
    /// Seconds of work after which a job keeps what it would go on from.
    pub train_checkpoint_seconds: u64,
    /// Seconds of silence after which a job of another replica is taken over.
    pub take_over_seconds: u64,
    /// URLs that training requests may name, as [`Config::import_urls`].
    pub corpus_urls: String,
    /// Texts up to this many bytes are encoded on the async threads.
    pub inline_bytes: usize,
    /// Encode threads, 0 for one a core; see [`Config::encode_threads`].
    pub encode_threads: usize,
    /// Requests that may wait for an encode thread.
    pub max_waiting_encodes: usize,
    /// Run chat templates that requests bring.
    pub allow_chat_template: bool,
    /// Requests taken on at once.
    pub max_requests_in_flight: u64,
    /// Bytes of their bodies and of answers on their way; see [`Config::bytes_in_flight`].
    pub max_bytes_in_flight: u64,
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
    /// URL of the collector of traces; empty for none, see [`Config::otlp_endpoint`].
    pub otlp_endpoint: String,
    /// Of a hundred requests without a trace of their caller's, how many are traced.
    pub otlp_sample_percent: u64,
    /// Vocabularies by the names of models; see [`Config::vocab_of_model`]. The last, as TOML has tables behind values.
    pub models: BTreeMap<String, String>,
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
            layers.put_flag(key, &value)?;
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

    /// The parsed `admin_listen`, if there is one.
    ///
    /// # Panics
    /// As [`Config::listen_addr`].
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        let parsed =
            || self.admin_listen.parse().expect("loading checks that admin_listen is a socket address");
        (!self.admin_listen.is_empty()).then(parsed)
    }

    /// Whether only callers that address this machine as such are answered: on loopback and without keys, a web page whose
    /// name is made to lead to this machine could otherwise drive the server as its own.
    #[must_use]
    pub fn guards_loopback(&self) -> bool {
        let loopback = self.listen_addr().ip().to_canonical().is_loopback();
        loopback && !self.allow_unauthenticated && self.keys_file().is_none()
    }

    /// The file of the keys that callers are asked for, if they are.
    #[must_use]
    pub fn keys_file(&self) -> Option<&Path> {
        (!self.keys_file.as_os_str().is_empty()).then_some(self.keys_file.as_path())
    }

    /// The files of certificates and key, if TLS is spoken.
    #[must_use]
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        (!self.tls_cert.as_os_str().is_empty()).then_some((&self.tls_cert, &self.tls_key))
    }

    /// The origins whose pages may call, or `*` for all.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.cors_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty())
    }

    /// Whether pages of that origin may call.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins().any(|allowed| allowed == "*" || allowed == origin)
    }

    /// The `s3://` URL of the store, if it is no directory.
    #[must_use]
    pub fn bucket(&self) -> Option<&str> {
        (!self.store.is_empty()).then_some(self.store.as_str())
    }

    /// Bytes of bodies that are taken on at once: no less than what lets the largest body in where nothing else is.
    #[must_use]
    pub fn bytes_in_flight(&self) -> u64 {
        let largest = self.max_body_bytes.max(self.max_vocab_bytes) as u64;
        self.max_bytes_in_flight.max(largest.saturating_add(largest / 3 + 1))
    }

    /// The directory of the user's model cards.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        if self.models_dir.as_os_str().is_empty() {
            self.data_dir.join("models")
        } else {
            self.models_dir.clone()
        }
    }

    /// The directory whose files training requests may name, if any.
    #[must_use]
    pub fn corpus_root(&self) -> Option<&Path> {
        (!self.corpus_root.as_os_str().is_empty()).then_some(self.corpus_root.as_path())
    }

    /// Whether an answer of so many bytes is worth compressing.
    #[must_use]
    pub fn compresses(&self, bytes: usize) -> bool {
        self.compress_min_bytes > 0 && bytes >= self.compress_min_bytes
    }

    /// The vocabulary that the setting `models` has for a model: under its whole name, else under the longest beginning of it
    /// that ends in `*`.
    #[must_use]
    pub fn vocab_of_model(&self, model: &str) -> Option<&str> {
        if let Some(vocab) = self.models.get(model) {
            return Some(vocab);
        }
        let patterns = self.models.iter().filter_map(|(name, vocab)| Some((name.strip_suffix('*')?, vocab)));
        let fitting = patterns.filter(|(beginning, _)| model.starts_with(beginning));
        fitting.max_by_key(|(beginning, _)| beginning.len()).map(|(_, vocab)| vocab.as_str())
    }

    /// Versions of a vocabulary to keep; `None` keeps all.
    #[must_use]
    pub fn keep_versions(&self) -> Option<u32> {
        (self.keep_versions > 0).then_some(self.keep_versions)
    }

    /// Threads of one training job, at least 1.
    #[must_use]
    pub fn train_threads(&self) -> usize {
        // As many as the trainer takes.
        threads_or_cores(self.train_threads).min(256)
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

    /// The URL of the collector that spans are sent to, if they are.
    #[must_use]
    pub fn otlp_endpoint(&self) -> Option<&str> {
        (!self.otlp_endpoint.is_empty()).then_some(self.otlp_endpoint.as_str())
    }

    /// Every setting that is a number, by name: the limits. What counts threads is in effect, not 0 for one a core.
    #[must_use]
    pub fn limits(&self) -> BTreeMap<String, u64> {
        let effective = Self {
            train_threads: self.train_threads(),
            encode_threads: self.encode_threads(),
            ..self.clone()
        };
        let settings = toml::Table::try_from(effective).unwrap_or_default();
        let numbers = settings.into_iter().filter_map(|(key, value)| {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            Some((key, number?))
        });
        numbers.collect()
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

fn threads_or_cores(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}
