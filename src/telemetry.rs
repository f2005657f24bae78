//! Logs and metrics: every metric's name, labels and meaning are in this file.
//!
//! A metric costs an answer a table look-up and some atomic additions, and no lock. Label values come from bounded
//! sets: route patterns, statuses, and vocabularies that exist. Texts never reach logs, so libraries, whose debug
//! output may hold them, log from `warn` up whatever the level is.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tracing_subscriber::EnvFilter;

/// Sends log lines of `level` (`off`, `error`, `warn`, `info`, `debug` or `trace`) and above to standard error, as
/// JSON or as text.
///
/// The first call in a process counts; later ones change nothing.
pub fn init_logging(level: &str, json: bool) {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(log_filter(level))
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written would be reported on standard error, which is where it could not be written:
        // that report panics, and with it the connection whose request was logged.
        .log_internal_errors(false);
    // An error says that logging was set up before, which is what later calls are told above.
    let _set_before = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}

fn log_filter(level: &str) -> EnvFilter {
    let libraries = if matches!(level, "off" | "error") { level } else { "warn" };
    EnvFilter::new(format!("{libraries},vocabd={level}"))
}

/// Logs where a thread panics, and not what the panic says: slicing a string, for one, quotes it, and texts must never
/// be in a log. Replaces the default hook, which prints the message.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        let thread = std::thread::current();
        tracing::error!(at, thread = thread.name().unwrap_or("unnamed"), "panic");
    }));
}

/// The media type of [`Metrics::render`].
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds of the request histogram: from one short encode to the longest answers.
const DURATION_BUCKETS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Pairs of route and status, and vocabularies, beyond which new ones are counted as [`OTHER`]: guards against a
/// caller that lets requests choose them.
const MAX_ROUTES: usize = 1024;
const MAX_VOCABS: usize = 4096;
const OTHER: &str = "other";

/// The histogram of every route and status that was answered.
type Routes = HashMap<Box<str>, Vec<(u16, Histogram)>>;

/// The metrics of one server, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    durations: HistogramVec,
    in_flight: IntGauge,
    encode_bytes: IntCounterVec,
    encode_tokens: IntCounterVec,
    decode_tokens: IntCounterVec,
    vocab_info: IntGaugeVec,
    resident_bytes: IntGauge,
    reloads_ok: IntCounter,
    reloads_failed: IntCounter,
    train_jobs: IntGaugeVec,
    train_merges: IntCounter,
    inflight_bytes: IntGauge,
    admitted_bytes: IntGauge,
    shed: IntCounterVec,
    connections: IntGauge,
    process_memory: IntGauge,
    /// Handles by route, so that an answer neither hashes label values twice nor takes the vector's lock.
    routes: ArcSwap<Routes>,
    vocabs: ArcSwap<HashMap<Box<str>, Arc<VocabMetrics>>>,
    /// Held while a table and the vector behind it change, and while a scrape is written.
    changing: Mutex<()>,
}

/// The counters of one vocabulary.
#[derive(Debug)]
pub struct VocabMetrics {
    encode_bytes: IntCounter,
    encode_tokens: IntCounter,
    decode_tokens: IntCounter,
}

/// What a scrape reads from the server's parts at that moment.
#[derive(Debug, Default)]
pub struct Scrape<'a> {
    /// Name, version and digest of every version. Counters of vocabularies that are not here are dropped.
    pub vocabs: Vec<(&'a str, u32, &'a str)>,
    /// Memory of the loaded vocabularies, in bytes.
    pub resident_bytes: u64,
    /// Training jobs by state.
    pub jobs: &'a [(&'static str, u64)],
    /// Merges learned since the start. It never falls: a lower value than before changes nothing.
    pub train_merges: u64,
    /// Bytes of texts that are worked on or wait for that.
    pub inflight_bytes: u64,
    /// Bytes of request bodies that room was taken for.
    pub admitted_bytes: u64,
    /// Open connections.
    pub connections: u64,
}

/// Counts a request as in flight until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl VocabMetrics {
    /// Counts a text of `bytes` bytes that became `tokens` tokens.
    pub fn encoded(&self, bytes: u64, tokens: u64) {
        self.encode_bytes.inc_by(bytes);
        self.encode_tokens.inc_by(tokens);
    }

    /// Counts `tokens` tokens that became text.
    pub fn decoded(&self, tokens: u64) {
        self.decode_tokens.inc_by(tokens);
    }
}

impl Metrics {
    /// Metrics that have counted nothing. `version` is the server's, for `vocabd_build_info`.
    ///
    /// # Panics
    /// Never: names and labels are constants that a test registers.
    #[must_use]
    pub fn new(version: &str) -> Self {
        Self::register(version).expect("names and labels are constants, registered by a test")
    }

    fn register(version: &str) -> prometheus::Result<Self> {
        let r = Registry::new();
        let reloads = counters(&r, "vocabd_reload_total", "Reloads by result: ok or failed.", &["result"])?;
        let build = gauges(&r, "vocabd_build_info", "1, labelled with the server's version.", &["version"])?;
        build.with_label_values(&[version]).set(1);
        let shed = counters(
            &r,
            "vocabd_shed_total",
            "Requests told to come back as too much was going on, by kind: encode or bulk.",
            &["load"],
        )?;
        // There from the start, so that a rate can be told from nothing.
        for load in ["encode", "bulk"] {
            shed.with_label_values(&[load]);
        }
        let start = gauge(&r, "process_start_time_seconds", "Start of the process, in seconds since 1970.")?;
        start.set(seconds_since_1970());

        Ok(Self {
            durations: add(
                &r,
                HistogramVec::new(
                    HistogramOpts::new(
                        "vocabd_http_request_duration_seconds",
                        "Time from a request's headers to the end of its answer, by route and status.",
                    )
                    .buckets(DURATION_BUCKETS.to_vec()),
                    &["route", "status"],
                )?,
            )?,
            in_flight: gauge(&r, "vocabd_http_requests_in_flight", "Requests being answered.")?,
            encode_bytes: counters(&r, "vocabd_encode_bytes_total", "Bytes of text encoded.", &["vocab"])?,
            encode_tokens: counters(&r, "vocabd_encode_tokens_total", "Tokens of encoded text.", &["vocab"])?,
            decode_tokens: counters(&r, "vocabd_decode_tokens_total", "Tokens decoded.", &["vocab"])?,
            vocab_info: gauges(
                &r,
                "vocabd_vocab_info",
                "1 for every version of a vocabulary.",
                &["vocab", "version", "digest"],
            )?,
            resident_bytes: gauge(&r, "vocabd_resident_bytes", "Memory of the loaded vocabularies.")?,
            reloads_ok: reloads.with_label_values(&["ok"]),
            reloads_failed: reloads.with_label_values(&["failed"]),
            train_jobs: gauges(&r, "vocabd_train_jobs", "Training jobs by state.", &["state"])?,
            train_merges: add(
                &r,
                IntCounter::new("vocabd_train_merges_total", "Merges learned by training jobs.")?,
            )?,
            inflight_bytes: gauge(
                &r,
                "vocabd_inflight_bytes",
                "Bytes of texts that are worked on or wait for that.",
            )?,
            admitted_bytes: gauge(
                &r,
                "vocabd_admitted_bytes",
                "Bytes of the request bodies taken on; max_bytes_in_flight is the limit.",
            )?,
            shed,
            connections: gauge(&r, "vocabd_connections", "Open connections.")?,
            process_memory: gauge(&r, "process_resident_memory_bytes", "Memory of the process.")?,
            routes: ArcSwap::default(),
            vocabs: ArcSwap::default(),
            changing: Mutex::new(()),
            registry: r,
        })
    }

    /// Counts a request as in flight until the outcome is dropped.
    pub fn request_in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts an answer. `route` is the pattern of the route (`/v1/vocabs/{name}`), never a request's path.
    pub fn answered(&self, route: &str, status: u16, elapsed: Duration) {
        let routes = self.routes.load();
        let statuses = routes.get(route).map_or(&[][..], Vec::as_slice);
        match statuses.iter().find(|(known, _)| *known == status) {
            Some((_, histogram)) => histogram.observe(elapsed.as_secs_f64()),
            None => self.new_route(route, status).observe(elapsed.as_secs_f64()),
        }
    }

    fn new_route(&self, route: &str, status: u16) -> Histogram {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routes = HashMap::clone(&self.routes.load());
        if routes.values().map(Vec::len).sum::<usize>() >= MAX_ROUTES {
            return self.durations.with_label_values(&[OTHER, OTHER]);
        }
        let histogram = self.durations.with_label_values(&[route, &status.to_string()]);
        let statuses = routes.entry(route.into()).or_default();
        // Another request may have been first between the look-up and the lock.
        if !statuses.iter().any(|(known, _)| *known == status) {
            statuses.push((status, histogram.clone()));
            self.routes.store(Arc::new(routes));
        }
        histogram
    }

    /// The counters of the vocabulary `name`, which exists.
    #[must_use]
    pub fn vocab(&self, name: &str) -> Arc<VocabMetrics> {
        if let Some(known) = self.vocabs.load().get(name) {
            return Arc::clone(known);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vocabs = HashMap::clone(&self.vocabs.load());
        let name = if vocabs.len() < MAX_VOCABS { name } else { OTHER };
        let counters = vocabs.entry(name.into()).or_insert_with(|| {
            Arc::new(VocabMetrics {
                encode_bytes: self.encode_bytes.with_label_values(&[name]),
                encode_tokens: self.encode_tokens.with_label_values(&[name]),
                decode_tokens: self.decode_tokens.with_label_values(&[name]),
            })
        });
        let counters = Arc::clone(counters);
        self.vocabs.store(Arc::new(vocabs));
        counters
    }

    /// Counts a request that was not taken on; `load` is a word of the program's.
    pub fn shed(&self, load: &str) {
        self.shed.with_label_values(&[load]).inc();
    }

    /// Counts a reload.
    pub fn reloaded(&self, ok: bool) {
        if ok { self.reloads_ok.inc() } else { self.reloads_failed.inc() }
    }

    /// All metrics in the Prometheus text format 0.0.4, with the values of `scrape`.
    #[must_use]
    pub fn render(&self, scrape: &Scrape<'_>) -> String {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_vocabs_but(scrape.vocabs.iter().map(|(name, _, _)| *name).chain([OTHER]).collect());

        self.vocab_info.reset();
        for (name, version, digest) in &scrape.vocabs {
            self.vocab_info.with_label_values(&[name, version.to_string().as_str(), digest]).set(1);
        }
        self.train_jobs.reset();
        for (state, jobs) in scrape.jobs {
            self.train_jobs.with_label_values(&[state]).set(to_gauge(*jobs));
        }
        self.train_merges.inc_by(scrape.train_merges.saturating_sub(self.train_merges.get()));
        self.resident_bytes.set(to_gauge(scrape.resident_bytes));
        self.inflight_bytes.set(to_gauge(scrape.inflight_bytes));
        self.admitted_bytes.set(to_gauge(scrape.admitted_bytes));
        self.connections.set(to_gauge(scrape.connections));
        self.process_memory.set(to_gauge(process_memory_bytes()));

        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            // Writing to a string does not fail, and a metric without a sample is not gathered.
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }

    /// Forgets the counters of deleted vocabularies. Called with `changing` held.
    fn drop_vocabs_but(&self, names: HashSet<&str>) {
        let known = self.vocabs.load();
        let gone: Vec<_> = known.keys().filter(|name| !names.contains(&***name)).collect();
        if gone.is_empty() {
            return;
        }
        let kept = known.iter().filter(|(name, _)| names.contains(&***name));
        self.vocabs
            .store(Arc::new(kept.map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()));
        for name in gone {
            for counters in [&self.encode_bytes, &self.encode_tokens, &self.decode_tokens] {
                // All three are there: they are made together.
                let _absent = counters.remove_label_values(&[name]);
            }
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    add(registry, IntGauge::new(name, help)?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    add(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn to_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| to_gauge(since.as_secs()))
}

/// Resident memory of this process; 0 where the system does not say. `status` has it in kB where `statm` counts
/// pages of a size to be asked for.
fn process_memory_bytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[(&str, &str)] = &[
        ("vocabd_http_request_duration_seconds", "histogram"),
        ("vocabd_http_requests_in_flight", "gauge"),
        ("vocabd_encode_bytes_total", "counter"),
        ("vocabd_encode_tokens_total", "counter"),
        ("vocabd_decode_tokens_total", "counter"),
        ("vocabd_vocab_info", "gauge"),
        ("vocabd_resident_bytes", "gauge"),
        ("vocabd_reload_total", "counter"),
        ("vocabd_train_jobs", "gauge"),
        ("vocabd_train_merges_total", "counter"),
        ("vocabd_inflight_bytes", "gauge"),
        ("vocabd_admitted_bytes", "gauge"),
        ("vocabd_shed_total", "counter"),
        ("vocabd_connections", "gauge"),
        ("vocabd_build_info", "gauge"),
        ("process_start_time_seconds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
    ];

    /// The value of the sample `series` (name and labels as rendered), if it is there.
    fn sample(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    fn check(text: &str, series: &str, value: f64) {
        assert_eq!(sample(text, series), Some(value), "{series} in\n{text}");
    }

    fn scrape_of<'a>(names: &[&'a str]) -> Scrape<'a> {
        Scrape { vocabs: names.iter().map(|name| (*name, 1, "sha256:00")).collect(), ..Scrape::default() }
    }

    #[test]
    fn every_metric_has_help_and_type_and_every_line_parses() {
        let metrics = Metrics::new("1.2.3");
        metrics.answered("/encode", 200, Duration::from_micros(70));
        metrics.vocab("a").encoded(10, 3);
        let jobs = [("queued", 2), ("running", 1)];
        let text = metrics.render(&Scrape { jobs: &jobs, ..scrape_of(&["a"]) });

        for (name, kind) in ALL {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
        }
        assert_eq!(text.matches("# TYPE ").count(), ALL.len(), "a metric is not in the list of this test");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(ALL.iter().any(|(known, _)| name.starts_with(known)), "{line}");
            assert!(series.ends_with('}') || series == name, "{line}");
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
        }
        check(&text, r#"vocabd_build_info{version="1.2.3"}"#, 1.0);
        check(&text, r#"vocabd_train_jobs{state="queued"}"#, 2.0);
        check(&text, r#"vocabd_reload_total{result="failed"}"#, 0.0);
        assert!(sample(&text, "process_start_time_seconds").unwrap() > 1.7e9);
        #[cfg(target_os = "linux")]
        assert!(sample(&text, "process_resident_memory_bytes").unwrap() > 1e6);
    }

    #[test]
    fn answers_are_counted_by_route_and_status() {
        let metrics = Metrics::new("0");
        for micros in [60, 90, 20_000_000] {
            metrics.answered("/encode", 200, Duration::from_micros(micros));
        }
        metrics.answered("/encode", 422, Duration::from_secs(40));
        metrics.answered("/decode", 200, Duration::ZERO);
        let text = metrics.render(&Scrape::default());
        let of =
            |part: &str, labels: &str| format!("vocabd_http_request_duration_seconds_{part}{{{labels}}}");
        let ok = r#"route="/encode",status="200""#;
        check(&text, &of("count", ok), 3.0);
        check(&text, &of("bucket", &format!(r#"{ok},le="0.00005""#)), 0.0);
        check(&text, &of("bucket", &format!(r#"{ok},le="0.0001""#)), 2.0);
        check(&text, &of("bucket", &format!(r#"{ok},le="30""#)), 3.0);
        check(&text, &of("sum", r#"route="/encode",status="422""#), 40.0);
        check(&text, &of("bucket", r#"route="/encode",status="422",le="30""#), 0.0);
        check(&text, &of("count", r#"route="/decode",status="200""#), 1.0);
    }

    #[test]
    fn requests_are_in_flight_until_dropped() {
        let metrics = Metrics::new("0");
        let first = metrics.request_in_flight();
        let second = metrics.request_in_flight();
        check(&metrics.render(&Scrape::default()), "vocabd_http_requests_in_flight", 2.0);
        drop(first);
        drop(second);
        check(&metrics.render(&Scrape::default()), "vocabd_http_requests_in_flight", 0.0);
    }

    #[test]
    fn vocabularies_count_until_they_are_gone() {
        let metrics = Metrics::new("0");
        metrics.vocab("a").encoded(10, 3);
        metrics.vocab("a").encoded(1, 1);
        metrics.vocab("a").decoded(7);
        metrics.vocab("b").decoded(5);
        let text = metrics.render(&scrape_of(&["a", "b"]));
        check(&text, r#"vocabd_encode_bytes_total{vocab="a"}"#, 11.0);
        check(&text, r#"vocabd_encode_tokens_total{vocab="a"}"#, 4.0);
        check(&text, r#"vocabd_decode_tokens_total{vocab="a"}"#, 7.0);
        check(&text, r#"vocabd_decode_tokens_total{vocab="b"}"#, 5.0);
        check(&text, r#"vocabd_vocab_info{digest="sha256:00",version="1",vocab="b"}"#, 1.0);

        let text = metrics.render(&scrape_of(&["a"]));
        assert!(!text.contains(r#"vocab="b""#), "{text}");
        check(&text, r#"vocabd_encode_bytes_total{vocab="a"}"#, 11.0);
        // One of the same name starts again.
        metrics.vocab("b").decoded(1);
        check(&metrics.render(&scrape_of(&["b"])), r#"vocabd_decode_tokens_total{vocab="b"}"#, 1.0);
    }

    #[test]
    fn a_scrape_sets_what_it_is_given() {
        let metrics = Metrics::new("0");
        metrics.reloaded(true);
        metrics.reloaded(false);
        metrics.reloaded(true);
        let scrape = |train_merges| Scrape {
            resident_bytes: 1 << 30,
            train_merges,
            inflight_bytes: 5,
            connections: u64::MAX,
            ..Scrape::default()
        };
        let text = metrics.render(&scrape(9));
        check(&text, r#"vocabd_reload_total{result="ok"}"#, 2.0);
        check(&text, r#"vocabd_reload_total{result="failed"}"#, 1.0);
        check(&text, "vocabd_resident_bytes", f64::from(1 << 30));
        check(&text, "vocabd_inflight_bytes", 5.0);
        check(&text, "vocabd_connections", i64::MAX as f64);
        check(&text, "vocabd_train_merges_total", 9.0);
        check(&metrics.render(&scrape(4)), "vocabd_train_merges_total", 9.0);
        check(&metrics.render(&scrape(12)), "vocabd_train_merges_total", 12.0);
    }

    #[test]
    fn label_sets_are_bounded_and_label_values_escaped() {
        let metrics = Metrics::new("0");
        for i in 0..MAX_ROUTES + 50 {
            metrics.answered(&format!("/r{i}"), 200, Duration::ZERO);
        }
        metrics.answered("/r\"\n0", 200, Duration::ZERO);
        let text = metrics.render(&Scrape::default());
        check(&text, r#"vocabd_http_request_duration_seconds_count{route="other",status="other"}"#, 51.0);
        assert_eq!(text.matches("duration_seconds_count{").count(), MAX_ROUTES + 1);

        let metrics = Metrics::new("a\"b\nc");
        check(&metrics.render(&Scrape::default()), r#"vocabd_build_info{version="a\"b\nc"}"#, 1.0);
    }

    #[test]
    fn threads_lose_no_count() {
        let metrics = Metrics::new("0");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..500_u64 {
                        metrics.answered(["/a", "/b"][usize::from(i % 2 == 0)], 200, Duration::ZERO);
                        metrics.vocab(if i % 3 == 0 { "x" } else { "y" }).encoded(1, 1);
                    }
                });
            }
            scope.spawn(|| (0..20).for_each(|_| drop(metrics.render(&scrape_of(&["x", "y"])))));
        });
        let text = metrics.render(&scrape_of(&["x", "y"]));
        let total = |a: &str, b: &str| sample(&text, a).unwrap() + sample(&text, b).unwrap();
        let count =
            |route| format!(r#"vocabd_http_request_duration_seconds_count{{route="{route}",status="200"}}"#);
        assert_eq!(total(&count("/a"), &count("/b")), 2000.0);
        let bytes = |vocab| format!(r#"vocabd_encode_bytes_total{{vocab="{vocab}"}}"#);
        assert_eq!(total(&bytes("x"), &bytes("y")), 2000.0);
    }

    #[test]
    fn libraries_log_from_warn_up() {
        for (level, filter) in
            [("trace", "vocabd=trace,warn"), ("info", "vocabd=info,warn"), ("error", "vocabd=error,error")]
        {
            assert_eq!(log_filter(level).to_string(), filter);
        }
        init_logging("info", true);
        init_logging("debug", false);
    }
}
