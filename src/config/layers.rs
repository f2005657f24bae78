//! The layers of settings over each other, and the checks of what comes out.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_TOML, ENV_FILE, ENV_PREFIX, Source};

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const TIB: i64 = 1 << 40;
const DAY: i64 = 24 * 60 * 60;

/// Least and greatest value of every whole-number setting.
pub(super) const LIMITS: &[(&str, i64, i64)] = &[
    ("max_body_bytes", KIB, 4 * GIB),
    ("max_decompress_ratio", 1, 1_000_000),
    ("compress_min_bytes", 0, GIB),
    ("max_upload_bytes", KIB, 1024 * TIB),
    ("max_vocab_bytes", KIB, 4 * GIB),
    ("max_batch_texts", 1, 10_000_000),
    ("max_allowed_special", 1, 1_000_000),
    ("max_decoded_bytes", 1, 1 << 40),
    ("max_chunks", 1, 100_000_000),
    ("max_compare_vocabs", 1, 10_000),
    ("max_compare_models", 1, 10_000),
    ("max_compare_span_bytes", 0, GIB),
    ("max_compare_bytes", 1, 1024 * TIB),
    ("max_explain_bytes", 1, 16 * MIB),
    ("max_page", 1, 1_000_000),
    ("max_resident_bytes", MIB, 1024 * TIB),
    ("keep_versions", 0, u32::MAX as i64),
    ("min_free_bytes", 0, 1024 * TIB),
    ("upload_ttl_hours", 1, 100 * 366 * 24),
    ("max_job_records", 1, 1_000_000),
    ("max_running_jobs", 1, 256),
    ("max_queued_jobs", 1, 100_000),
    ("train_threads", 0, 1024),
    ("train_max_memory_bytes", 1 << 20, 1 << 50),
    ("train_checkpoint_seconds", 0, 86_400),
    ("take_over_seconds", 1, DAY),
    ("inline_bytes", 0, 16 * MIB),
    ("encode_threads", 0, 1024),
    ("max_waiting_encodes", 1, 1_000_000),
    ("max_requests_in_flight", 1, 10_000_000),
    ("max_bytes_in_flight", KIB, 1024 * TIB),
    ("max_connections", 1, 1_000_000),
    ("header_timeout_seconds", 1, DAY),
    ("body_timeout_seconds", 1, DAY),
    ("idle_timeout_seconds", 1, DAY),
    ("drain_seconds", 0, DAY),
    ("watch_seconds", 0, DAY),
    ("otlp_sample_percent", 0, 100),
];

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
const LOG_FORMATS: &[&str] = &["json", "text"];

/// The layers so far: a value and its source for every key of the defaults file.
pub(super) struct Layers {
    defaults: Table,
    values: Table,
    sources: BTreeMap<String, Source>,
}

impl Layers {
    pub(super) fn new() -> Result<Self, ConfigError> {
        let defaults = parse_toml(DEFAULT_TOML, &Source::Default)?;
        Ok(Self { values: defaults.clone(), defaults, sources: BTreeMap::new() })
    }

    pub(super) fn put_file(&mut self, file: &Path) -> Result<(), ConfigError> {
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

    pub(super) fn put_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
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

    pub(super) fn put_flag(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        self.put_text(key, value, Source::Flag(format!("--{}", key.replace('_', "-"))))
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
            Value::Table(_) => pairs(text).map(Value::Table),
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

    pub(super) fn finish(self) -> Result<Config, ConfigError> {
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
        for (key, value) in [("listen", &config.listen), ("admin_listen", &config.admin_listen)] {
            if key == "admin_listen" && value.is_empty() {
                continue;
            }
            let Ok(listen) = value.parse::<SocketAddr>() else {
                return refuse(key, value, "an IP address with a port, like 127.0.0.1:8080".into());
            };
            if !listen.ip().to_canonical().is_loopback()
                && !config.allow_unauthenticated
                && config.keys_file().is_none()
            {
                return Err(ConfigError::Open { key, listen, origin: self.source_of(key) });
            }
        }
        for (key, path, other, given) in [
            ("tls_key", &config.tls_key, "tls_cert", &config.tls_cert),
            ("tls_cert", &config.tls_cert, "tls_key", &config.tls_key),
        ] {
            if path.as_os_str().is_empty() && !given.as_os_str().is_empty() {
                return refuse(key, "", format!("the path of a file, as {other} is one"));
            }
        }
        if config.data_dir.as_os_str().is_empty() {
            return refuse("data_dir", "", "the path of a directory".into());
        }
        if config.bucket().is_some_and(|url| url.strip_prefix("s3://").is_none_or(|rest| rest.len() < 3)) {
            return refuse("store", &config.store, "empty, or s3://BUCKET/PREFIX".into());
        }
        if config.otlp_endpoint().is_some_and(|url| !is_endpoint(url)) {
            let expected = "empty, or the URL of a collector, like http://127.0.0.1:4318";
            return refuse("otlp_endpoint", &config.otlp_endpoint, expected.into());
        }
        if config.default_vocab.is_empty() {
            return refuse("default_vocab", "", "the name of a vocabulary".into());
        }
        if let Some(bad) = config.origins().find(|origin| !is_origin(origin)) {
            let expected = "origins like https://example.org, with commas between, or * for all";
            return refuse("cors_origins", bad, expected.into());
        }
        for (model, vocab) in &config.models {
            if model.is_empty() || vocab.is_empty() {
                return refuse(
                    "models",
                    &format!("{model} = {vocab}"),
                    "names of models, each with a vocabulary".into(),
                );
            }
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

/// Whether it is `*` or as browsers send an origin: scheme and host, with a port or without one, and no more.
fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
    origin == "*" || host.is_some_and(|host| !host.is_empty() && host.chars().all(fits))
}

/// Whether spans can be sent below a URL.
fn is_endpoint(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    })
}

/// `NAME=VALUE,NAME=VALUE` as a table.
fn pairs(text: &str) -> Option<Table> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let pair = |entry: &str| {
        let (name, value) = entry.split_once('=')?;
        Some((name.trim().to_owned(), Value::String(value.trim().to_owned())))
    };
    entries.map(pair).collect()
}

fn parse_toml(text: &str, origin: &Source) -> Result<Table, ConfigError> {
    text.parse()
        .map_err(|e: toml::de::Error| ConfigError::Syntax { file: origin.clone(), message: e.to_string() })
}

fn type_error(key: &str, default: &Value, origin: Source) -> ConfigError {
    let expected = match default {
        Value::Integer(_) => "a whole number below 2^63",
        Value::Boolean(_) => "true or false",
        Value::Table(_) => "a table, or NAME=VALUE with commas between,",
        _ => "a string",
    };
    ConfigError::Type { key: key.to_owned(), expected, origin }
}

/// Whether a container platform made this variable for a service named `vocabd`, or `vocabd-` and more: Kubernetes
/// sets `VOCABD_PORT`, `VOCABD_SERVICE_HOST`, `VOCABD_PORT_8080_TCP_ADDR` and their like in every pod beside one.
/// No setting may be named so.
pub(super) fn is_service_link(rest: &str) -> bool {
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

pub(super) fn variable_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_ascii_uppercase())
}
