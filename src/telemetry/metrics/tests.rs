//! Names, types, values, and that label sets stay bounded.

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
    ("vocabd_ready", "gauge"),
    ("vocabd_load_failures", "gauge"),
    ("vocabd_disk_free_bytes", "gauge"),
    ("vocabd_limit", "gauge"),
    ("vocabd_certificate_expiry_timestamp_seconds", "gauge"),
    ("vocabd_trace_spans_total", "counter"),
    ("vocabd_build_info", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_max_fds", "gauge"),
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
    let (limits, certificate_expiry) = ([("max_connections", 7)], Some(9));
    let text =
        metrics.render(&Scrape { jobs: &jobs, limits: &limits, certificate_expiry, ..scrape_of(&["a"]) });

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
    for (name, least) in
        [("process_resident_memory_bytes", 1e6), ("process_open_fds", 3.0), ("process_max_fds", 10.0)]
    {
        assert!(sample(&text, name).unwrap() > least, "{name}");
    }
    check(&text, r#"vocabd_limit{setting="max_connections"}"#, 7.0);
    check(&text, r#"vocabd_certificate_expiry_timestamp_seconds{setting="tls_cert"}"#, 9.0);
}

#[test]
#[cfg(target_os = "linux")]
fn time_on_processors_grows_with_work() {
    let before = process::cpu_seconds();
    let started = std::time::Instant::now();
    while process::cpu_seconds() < before + 0.05 {
        assert!(started.elapsed() < Duration::from_secs(60), "{before}");
    }
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
    let of = |part: &str, labels: &str| format!("vocabd_http_request_duration_seconds_{part}{{{labels}}}");
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
