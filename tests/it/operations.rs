//! What is in deploy/ for operators, against the server that it is for.

use crate::support::TestServer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const DASHBOARD: &str = include_str!("../../deploy/grafana.json");
const ALERTS: &str = include_str!("../../deploy/alerts.yaml");
const README: &str = include_str!("../../deploy/README.md");

/// The figures of a server that has some of each.
async fn figures() -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let server = TestServer::with(|config| {
        (config.tls_cert, config.tls_key) = (path("cert.pem"), path("key.pem"));
    })
    .await;
    server.goes_on().await;
    String::from_utf8(server.get("/metrics").await.bytes.to_vec()).unwrap()
}

/// The metrics that a text of expressions names; of a histogram its own name.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("vocabd_") || word.starts_with("process_"));
    metrics.map(|word| word.strip_suffix("_bucket").or(word.strip_suffix("_count")).unwrap_or(word)).collect()
}

fn expressions() -> String {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions += target["expr"].as_str().unwrap();
            expressions.push('\n');
        }
    }
    expressions
}

#[tokio::test]
async fn the_dashboard_shows_every_metric_and_the_alerts_know_no_other() {
    let figures = figures().await;
    let there = figures.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let shown = expressions();
    assert_eq!(named(&shown), there);
    let alerts = named(ALERTS);
    assert!(alerts.len() > 10 && alerts.is_subset(&there), "{:?}", alerts.difference(&there));
    // The settings that both hold figures against.
    for text in [&shown, ALERTS] {
        let settings: Vec<&str> =
            text.split("setting=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(settings.len() > 3, "{settings:?}");
        for setting in settings {
            assert!(figures.contains(&format!("vocabd_limit{{setting=\"{setting}\"}}")), "{setting}");
        }
    }
}

#[test]
fn every_alert_is_explained() {
    let alerts: Vec<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = README.split("## What each alert means").nth(1).unwrap().split("\n## ").next().unwrap();
    let explained = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert!(alerts.len() > 10);
    assert_eq!(explained.collect::<Vec<_>>(), alerts);
}

/// The Rust files of the tree, one behind the other.
fn code(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *all += &std::fs::read_to_string(path).unwrap();
        }
    }
}

/// What a reviewer follows from a promise to its test: each test and each long step that the page names is there.
#[test]
fn proofs_name_tests_and_steps_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("tests/proofs/README.md")).unwrap();
    let long = std::fs::read_to_string(root.join(".ci/long")).unwrap();
    let mut sources = String::new();
    ["src", "tests"].into_iter().for_each(|folder| code(&root.join(folder), &mut sources));
    let rows = page.lines().filter(|line| line.starts_with("| P") || line.starts_with("| - "));
    let mut steps = 0;
    for row in rows.clone() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, command, _, verdict] = cells[..] else { panic!("{row}") };
        for step in command.split("`.ci/long ").skip(1) {
            steps += 1;
            let name = step.split(['`', ' ']).next().unwrap();
            // A step that is not there yet cannot have been run.
            let there = long.contains(&format!("\n{name}() {{"));
            assert!(there || verdict == "not run yet", "{row}");
        }
        for test in command.split("`cargo test ").skip(1) {
            let name = test.split('`').next().unwrap().rsplit("::").next().unwrap();
            // Names of modules lead to all of their tests.
            let there = sources.contains(&format!("mod {name};")) || sources.contains(&format!("fn {name}"));
            assert!(there, "{row}");
        }
    }
    assert!(rows.count() >= 20 && steps > 8);
}
