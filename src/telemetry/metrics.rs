//! Every metric's name, labels and meaning.
//!
//! A metric costs an answer a table look-up and some atomic additions, and no lock. Label values come from bounded
//! sets: route patterns, statuses, and vocabularies that exist.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::process;

#[cfg(test)]
mod tests;

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
    ready: IntGauge,
    load_failures: IntGauge,
    disk_free: IntGauge,
    limits: IntGaugeVec,
    certificate_expiry: IntGaugeVec,
    spans: SpansCounted,
    process_memory: IntGauge,
    process_cpu: Counter,
    process_fds: IntGauge,
    process_max_fds: IntGauge,
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

/// Spans of requests that went to the collector, and that did not.
#[derive(Debug, Clone)]
pub struct SpansCounted {
    pub(super) sent: IntCounter,
    pub(super) dropped: IntCounter,
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
    /// Whether requests may be sent here.
    pub ready: bool,
    /// How many vocabularies and files could not be loaded when that was last tried.
    pub load_failures: u64,
    /// Free bytes on the disk of the data directory.
    pub disk_free: u64,
    /// Limits that the figures above are to be held against, by the name of their setting.
    pub limits: &'a [(&'static str, u64)],
    /// When the certificate ends that clients are shown, in seconds since 1970.
    pub certificate_expiry: Option<i64>,
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
        start.set(process::seconds_since_1970());
        let spans = counters(
            &r,
            "vocabd_trace_spans_total",
            "Spans of requests, by result: sent to the collector or dropped.",
            &["result"],
        )?;

        Ok(Self {
            durations: add(
                &r,
                HistogramVec::new(
                    HistogramOpts::new(
                        "vocabd_http_request_duration_seconds",
                        "Time from a request's headers to those of its answer, by route and status.",
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
                "Bytes of the request bodies taken on, and of answers until they are sent; max_bytes_in_flight is the limit.",
            )?,
            shed,
            connections: gauge(&r, "vocabd_connections", "Open connections.")?,
            ready: gauge(&r, "vocabd_ready", "1 while requests may be sent here, else 0.")?,
            load_failures: gauge(
                &r,
                "vocabd_load_failures",
                "What could not be loaded when it was last tried; /health lists it.",
            )?,
            disk_free: gauge(&r, "vocabd_disk_free_bytes", "Free bytes on the disk of data_dir.")?,
            limits: gauges(&r, "vocabd_limit", "Limits by the name of their setting.", &["setting"])?,
            certificate_expiry: gauges(
                &r,
                "vocabd_certificate_expiry_timestamp_seconds",
                "End of the certificate that clients are shown, in seconds since 1970.",
                &["setting"],
            )?,
            spans: SpansCounted {
                sent: spans.with_label_values(&["sent"]),
                dropped: spans.with_label_values(&["dropped"]),
            },
            process_memory: gauge(&r, "process_resident_memory_bytes", "Memory of the process.")?,
            process_cpu: add(
                &r,
                Counter::new("process_cpu_seconds_total", "Time on processors, the kernel's included.")?,
            )?,
            process_fds: gauge(&r, "process_open_fds", "Open file descriptors.")?,
            process_max_fds: gauge(&r, "process_max_fds", "Most file descriptors that may be open.")?,
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

    /// What counts spans.
    pub fn spans(&self) -> SpansCounted {
        self.spans.clone()
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
        self.ready.set(i64::from(scrape.ready));
        self.load_failures.set(to_gauge(scrape.load_failures));
        self.disk_free.set(to_gauge(scrape.disk_free));
        for (setting, limit) in scrape.limits {
            self.limits.with_label_values(&[setting]).set(to_gauge(*limit));
        }
        if let Some(expiry) = scrape.certificate_expiry {
            self.certificate_expiry.with_label_values(&["tls_cert"]).set(expiry);
        }
        self.process_memory.set(to_gauge(process::memory_bytes()));
        self.process_cpu.inc_by((process::cpu_seconds() - self.process_cpu.get()).max(0.0));
        self.process_fds.set(to_gauge(process::open_fds()));
        self.process_max_fds.set(to_gauge(process::max_fds()));

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
