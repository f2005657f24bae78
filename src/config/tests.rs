use toml::{Table, Value};

use super::layers::{LIMITS, is_service_link, variable_name};
use super::*;

type Cli = Vec<(&'static str, String)>;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, env(pairs), Vec::new())
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vocabd.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), [], Vec::new())
}

/// The error's text has every one of `parts`.
fn check_error(outcome: Result<Config, ConfigError>, parts: &[&str]) {
    let message = outcome.expect_err("must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn keys() -> Vec<(String, Value)> {
    DEFAULT_TOML.parse::<Table>().unwrap().into_iter().collect()
}

/// Another valid value than the default of `key`.
fn other_value(key: &str, default: &Value) -> Value {
    match default {
        // A share has no more than all of it.
        Value::Integer(100) if key.ends_with("_percent") => Value::Integer(99),
        Value::Integer(n) => Value::Integer(n + 1),
        Value::Boolean(b) => Value::Boolean(!b),
        Value::Table(_) => Value::Table([("gpt-*".to_owned(), "other".into())].into_iter().collect()),
        _ => Value::String(
            match key {
                "listen" | "admin_listen" => "[::1]:9",
                "store" => "s3://other",
                "otlp_endpoint" => "http://other:4318",
                "cors_origins" => "https://other.example",
                "log_level" => "warn",
                "log_format" => "text",
                _ => "other",
            }
            .into(),
        ),
    }
}

fn text_of(value: &Value) -> String {
    if let Some(table) = value.as_table() {
        let pairs = table.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
        return pairs.collect::<Vec<_>>().join(", ");
    }
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn value_in(config: &Config, key: &str) -> Value {
    Table::try_from(config).unwrap()[key].clone()
}

#[test]
fn the_defaults_file_fills_every_field_and_is_commented() {
    let from_file: Config = toml::from_str(DEFAULT_TOML).unwrap();
    assert_eq!(from_file, Config::default());
    let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[i - 1].starts_with("# "), "{line} has no comment above it");
        }
    }
}

#[test]
fn defaults_are_the_promised_ones() {
    let c = Config::default();
    assert_eq!(c.listen_addr(), "127.0.0.1:8080".parse().unwrap());
    assert_eq!((c.max_body_bytes, c.max_upload_bytes, c.max_vocab_bytes), (16 << 20, 16 << 30, 256 << 20));
    assert_eq!((c.max_resident_bytes, c.min_free_bytes), (1 << 30, 256 << 20));
    assert_eq!((c.corpus_root(), c.keep_versions(), c.watch()), (None, None, None));
    assert_eq!(c.upload_ttl(), Duration::from_secs(24 * 3600));
    assert!(c.train_threads() >= 1 && c.encode_threads() >= 1 && c.log_json() && !c.allow_unauthenticated);
}

#[test]
fn every_number_has_limits_and_its_default_is_within() {
    for (key, value) in keys() {
        let limits: Vec<_> = LIMITS.iter().filter(|(name, _, _)| *name == key).collect();
        let Value::Integer(n) = value else {
            assert!(limits.is_empty(), "{key} is no number");
            continue;
        };
        let [(_, min, max)] = limits[..] else { panic!("{key} has {} limits", limits.len()) };
        assert!((*min..=*max).contains(&n), "{key}");
        let edge = |value: i64| load_env(&[(&variable_name(&key), &value.to_string())]);
        assert!(edge(*min).is_ok() && edge(*max).is_ok(), "{key} refuses its own limits");
        let variable = variable_name(&key);
        for beyond in [min - 1, max + 1] {
            check_error(
                edge(beyond),
                &[&key, &min.to_string(), &max.to_string(), &beyond.to_string(), &variable],
            );
        }
    }
    assert_eq!(LIMITS.len(), keys().iter().filter(|(_, v)| v.is_integer()).count());
}

#[test]
fn every_key_is_set_by_variable_flag_and_file() {
    for (key, default) in keys() {
        let other = other_value(&key, &default);
        // Of two settings none is good without the other.
        let pair = match key.as_str() {
            "tls_cert" => vec![(key.as_str(), &other), ("tls_key", &other)],
            "tls_key" => vec![(key.as_str(), &other), ("tls_cert", &other)],
            _ => vec![(key.as_str(), &other)],
        };
        let variables = pair.iter().map(|(key, value)| (variable_name(key), text_of(value)));
        let by_env = Config::load(None, variables, Vec::new()).unwrap();
        assert_eq!(value_in(&by_env, &key), other, "{key}");
        let lines: String = pair.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        assert_eq!(load_file(&lines).unwrap(), by_env, "{key}");
        let flags = pair.iter().map(|(key, value)| (&*key.to_string().leak(), text_of(value)));
        assert_eq!(Config::load(None, [], flags.collect()).unwrap(), by_env, "{key}");
        assert_ne!(by_env, Config::default(), "{key} changes nothing");
    }
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "max_queued_jobs = 3\nmax_running_jobs = 3\ndrain_seconds = 3\n").unwrap();
    let vars = env(&[("VOCABD_MAX_RUNNING_JOBS", "4"), ("VOCABD_DRAIN_SECONDS", " 4 "), ("PATH", "/bin")]);
    let cli: Cli = vec![("drain_seconds", "5".into())];
    let c = Config::load(Some(&file), vars, cli.clone()).unwrap();
    assert_eq!((c.max_queued_jobs, c.max_running_jobs, c.drain_seconds), (3, 4, 5));

    // The variable names a file only where the flag names none.
    let named = env(&[("VOCABD_CONFIG", file.to_str().unwrap())]);
    assert_eq!(Config::load(None, named, Vec::new()).unwrap().max_queued_jobs, 3);
    let missing = env(&[("VOCABD_CONFIG", "/nowhere/c.toml")]);
    assert_eq!(Config::load(Some(&file), missing.clone(), cli).unwrap().max_queued_jobs, 3);
    check_error(Config::load(None, missing, Vec::new()), &["/nowhere/c.toml", "cannot read"]);
}

#[test]
fn the_printed_settings_load_as_themselves() {
    let c = load_env(&[("VOCABD_CORPUS_ROOT", "/a \"b\"\n"), ("VOCABD_INLINE_BYTES", "7")]).unwrap();
    assert_eq!(load_file(&c.to_toml().unwrap()).unwrap(), c);
}

#[test]
fn a_collector_is_a_url_and_a_certificate_has_a_key() {
    for bad in ["collector", "ftp://a", "http://", "http://a/?b", "http://a/#b", "grpc://a:4317"] {
        check_error(load_env(&[("VOCABD_OTLP_ENDPOINT", bad)]), &["otlp_endpoint", "http://127.0.0.1:4318"]);
    }
    for good in ["http://a:4318", "https://a.example/base/", ""] {
        load_env(&[("VOCABD_OTLP_ENDPOINT", good)]).unwrap();
    }
    check_error(
        load_env(&[("VOCABD_TLS_CERT", "c")]),
        &["tls_key must be the path of a file, as tls_cert is one"],
    );
    check_error(
        load_env(&[("VOCABD_TLS_KEY", "k")]),
        &["tls_cert must be the path of a file, as tls_key is one"],
    );
    let both = load_env(&[("VOCABD_TLS_CERT", "c"), ("VOCABD_TLS_KEY", "k")]).unwrap();
    assert_eq!(both.tls(), Some((Path::new("c"), Path::new("k"))));
}

#[test]
fn unknown_keys_are_refused_with_near_ones() {
    check_error(load_file("max_body_byte = 5"), &["max_body_byte\"", "vocabd.toml", "mean max_body_bytes"]);
    check_error(load_env(&[("VOCABD_LOGLEVEL", "info")]), &["VOCABD_LOGLEVEL", "mean VOCABD_LOG_LEVEL"]);
    check_error(load_env(&[("VOCABD_listen", "[::1]:1")]), &["VOCABD_listen", "mean VOCABD_LISTEN"]);
    check_error(Config::load(None, [], vec![("lisen", "x".into())]), &["--lisen", "mean listen"]);
    check_error(load_file("[server]\nlisten = \"[::1]:1\""), &["\"server\""]);
    assert!(!load_env(&[("VOCABD_", "")]).unwrap_err().to_string().contains("did you mean"));
}

#[test]
fn service_links_of_a_container_platform_are_no_settings() {
    let links = [
        "VOCABD_PORT",
        "VOCABD_PORT_8080_TCP",
        "VOCABD_PORT_8080_TCP_ADDR",
        "VOCABD_SERVICE_HOST",
        "VOCABD_SERVICE_PORT",
        "VOCABD_SERVICE_PORT_HTTP",
        "VOCABD_BLUE_PORT",
        "VOCABD_BLUE_SERVICE_HOST",
    ];
    for link in links {
        assert_eq!(load_env(&[(link, "tcp://10.0.0.1:8080")]).unwrap(), Config::default(), "{link}");
    }
    for (key, _) in keys() {
        assert!(!is_service_link(&key.to_ascii_uppercase()), "{key}");
    }
    check_error(load_env(&[("VOCABD_REPORT", "1")]), &["VOCABD_REPORT"]);
}

#[test]
fn wrong_types_name_key_type_and_source() {
    check_error(load_file("max_body_bytes = \"16\""), &["max_body_bytes", "whole number", "vocabd.toml"]);
    check_error(load_file("max_body_bytes = 1.5"), &["max_body_bytes", "whole number"]);
    check_error(load_file("listen = 8080"), &["listen", "a string"]);
    check_error(load_file("data_dir = [\"a\"]"), &["data_dir", "a string"]);
    let huge = "99999999999999999999";
    check_error(load_env(&[("VOCABD_DRAIN_SECONDS", huge)]), &["drain_seconds", "whole number"]);
    check_error(load_env(&[("VOCABD_DRAIN_SECONDS", "")]), &["drain_seconds", "VOCABD_DRAIN_SECONDS"]);
    check_error(load_env(&[("VOCABD_ALLOW_UNAUTHENTICATED", "yes")]), &["true or false"]);
    check_error(Config::load(None, [], vec![("inline_bytes", "1k".into())]), &["--inline-bytes"]);
    check_error(load_file("listen = "), &["vocabd.toml", "not valid TOML", "line 1"]);
    check_error(load_file(&format!("drain_seconds = {huge}")), &["vocabd.toml"]);
}

#[test]
fn strings_are_checked() {
    check_error(load_env(&[("VOCABD_LISTEN", "localhost")]), &["listen", "127.0.0.1:8080", "\"localhost\""]);
    check_error(load_env(&[("VOCABD_LOG_LEVEL", "loud")]), &["log_level", "debug", "\"loud\""]);
    check_error(load_env(&[("VOCABD_LOG_FORMAT", "xml")]), &["log_format", "json, text"]);
    for bad in ["data", "s3://", "gs://bucket"] {
        check_error(load_env(&[("VOCABD_STORE", bad)]), &["store", bad, "s3://BUCKET/PREFIX"]);
    }
    assert_eq!(load_env(&[("VOCABD_STORE", "s3://bucket/a")]).unwrap().bucket(), Some("s3://bucket/a"));
    check_error(load_env(&[("VOCABD_DATA_DIR", "")]), &["data_dir", "VOCABD_DATA_DIR"]);
    check_error(load_env(&[("VOCABD_DEFAULT_VOCAB", "")]), &["default_vocab"]);
}

#[test]
fn other_machines_are_served_only_on_request() {
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80"] {
        let parts = [listen, "VOCABD_LISTEN", "VOCABD_ALLOW_UNAUTHENTICATED=true", "127.0.0.1"];
        check_error(load_env(&[("VOCABD_LISTEN", listen)]), &parts);
        let allowed = [("VOCABD_LISTEN", listen), ("VOCABD_ALLOW_UNAUTHENTICATED", "true")];
        assert_eq!(load_env(&allowed).unwrap().listen, listen);
        let asked = load_env(&[("VOCABD_LISTEN", listen), ("VOCABD_KEYS_FILE", "keys.toml")]).unwrap();
        assert_eq!(asked.keys_file(), Some(Path::new("keys.toml")));
    }
    for listen in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(load_env(&[("VOCABD_LISTEN", listen)]).unwrap().guards_loopback(), "{listen}");
    }
}

#[test]
fn the_largest_body_always_has_room() {
    let c = load_env(&[("VOCABD_MAX_BYTES_IN_FLIGHT", "1024"), ("VOCABD_MAX_VOCAB_BYTES", "3000")]).unwrap();
    let most = c.bytes_in_flight();
    assert!(most - most / 4 >= c.max_body_bytes as u64, "{most}");
    let c = load_env(&[("VOCABD_MAX_BYTES_IN_FLIGHT", "1000000000")]).unwrap();
    assert_eq!(c.bytes_in_flight(), 1_000_000_000);
}

#[test]
fn origins_are_those_that_browsers_send() {
    let c = load_env(&[("VOCABD_CORS_ORIGINS", " https://a.example, http://localhost:3000,")]).unwrap();
    assert!(c.allows_origin("https://a.example") && c.allows_origin("http://localhost:3000"));
    assert!(
        !c.allows_origin("http://a.example")
            && !c.allows_origin("https://a.example.evil")
            && !c.allows_origin("")
    );
    assert!(!Config::default().allows_origin("http://localhost"));
    assert!(load_env(&[("VOCABD_CORS_ORIGINS", "*")]).unwrap().allows_origin("https://any.example"));
    for bad in
        ["a.example", "https://", "https://a.example/", "https://*.example", "https://A.example", "null"]
    {
        check_error(load_env(&[("VOCABD_CORS_ORIGINS", bad)]), &["cors_origins", bad, "https://example.org"]);
    }
}

#[test]
fn process_env_has_only_own_variables() {
    assert!(process_env().unwrap().iter().all(|(name, _)| name.starts_with("VOCABD_")));
}

#[test]
fn models_are_found_by_name_and_by_the_longest_beginning() {
    let c = load_file("[models]\n\"gpt-4o\" = \"exact\"\n\"gpt-*\" = \"short\"\n\"gpt-4*\" = \"long\"\n")
        .unwrap();
    let check = |model: &str, expect: Option<&str>| assert_eq!(c.vocab_of_model(model), expect, "{model}");
    check("gpt-4o", Some("exact"));
    check("gpt-4o-mini", Some("long"));
    check("gpt-3.5", Some("short"));
    check("claude", None);
    check("", None);
    let any = load_env(&[("VOCABD_MODELS", " *=default , a/b=c@3")]).unwrap();
    assert_eq!((any.vocab_of_model("x"), any.vocab_of_model("a/b")), (Some("default"), Some("c@3")));
    check_error(load_env(&[("VOCABD_MODELS", "a")]), &["models", "NAME=VALUE", "VOCABD_MODELS"]);
    check_error(load_env(&[("VOCABD_MODELS", "a=")]), &["models", "with a vocabulary"]);
    check_error(load_file("models = 1"), &["models", "a table"]);
    check_error(load_file("[models]\na = 1"), &["models", "string"]);
}
