//! The contract: the committed file is what the code says, and every route in it exists.

use crate::support::{TestServer, request};
use axum::http::Method;
use std::path::Path;

#[test]
fn the_committed_contract_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml");
    let yaml = vocabd::http::openapi_of_code();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &yaml).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == yaml,
        "openapi.yaml is out of step; UPDATE=1 cargo test --test it openapi rewrites it"
    );
    assert!(yaml.starts_with("openapi: 3.1."));
}

/// Method and path of every operation, from the lines of the YAML.
fn operations() -> Vec<(Method, String)> {
    let yaml = vocabd::http::OPENAPI_YAML;
    let paths = yaml.split_once("\npaths:\n").unwrap().1.split("\ncomponents:\n").next().unwrap();
    let (mut path, mut operations) = (String::new(), Vec::new());
    for line in paths.lines() {
        let depth = line.len() - line.trim_start().len();
        let Some(key) = line.trim().strip_suffix(':') else { continue };
        match depth {
            2 => path = key.to_owned(),
            4 => operations.push((key.to_uppercase().parse().unwrap(), path.clone())),
            _ => {}
        }
    }
    operations
}

#[tokio::test]
async fn every_documented_operation_exists() {
    let server = TestServer::new().await;
    let operations = operations();
    assert!(operations.len() >= 27, "{operations:?}");
    for (method, path) in operations {
        let filled = path
            .replace("{ref}", "default")
            .replace("{name}", "default")
            .replace("{version}", "9")
            .replace("{alias}", "none")
            .replace("{id}", "none")
            .replace("{file}", "app.js")
            .replace("{a}", "default")
            .replace("{b}", "default")
            .replace("{model}", "default")
            .replace("{call}", "default:countTokens");
        assert!(!filled.contains('{'), "{path}");
        let answer = server.send(request(method.clone(), &filled)).await;
        assert_ne!(answer.status, 405, "{method} {path}");
        if answer.status >= 400 {
            let code = answer.json()["code"].clone();
            assert!(answer.status < 500 && code != "unknown_route", "{method} {path}: {code}");
        }
    }
    server.goes_on().await;
}

#[tokio::test]
async fn the_server_hands_out_the_same_contract() {
    let server = TestServer::new().await;
    let answer = server.get("/openapi.yaml").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/yaml"));
    assert_eq!(answer.bytes, vocabd::http::OPENAPI_YAML);
}

#[tokio::test]
async fn the_page_for_people_needs_no_other_host() {
    let server = TestServer::new().await;
    let answer = server.get("/docs").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    let page = String::from_utf8(answer.bytes.to_vec()).unwrap();
    for (method, path) in operations() {
        assert!(page.contains(&format!("<b class=\"m\">{method}</b><code>{path}</code>")), "{method} {path}");
    }
}

#[test]
fn everything_is_described() {
    let yaml = vocabd::http::OPENAPI_YAML;
    let operations = operations().len();
    assert_eq!(yaml.matches("\n      summary: ").count(), operations, "each operation says what it does");
    let mut ids: Vec<&str> =
        yaml.split("\n      operationId: ").skip(1).filter_map(|at| at.lines().next()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), operations, "each has a name of its own");
    assert!(!yaml.contains("[`"), "a link of the code's own documentation");
    let lines: Vec<&str> = yaml.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("      - name: ")) {
        let own = lines[at + 1..].iter().take_while(|next| next.starts_with("        "));
        assert!(own.clone().any(|next| next.starts_with("        description:")), "line {}: {line}", at + 1);
    }
}

/// The ids in the README are those that the built-in vocabulary gives.
#[tokio::test]
async fn the_answers_in_the_readme_are_true() {
    let server = crate::support::TestServer::new().await;
    let answer = server.post_json("/encode", serde_json::json!({ "text": "Hello, 世界! 😀" })).await;
    let ids = answer.ok(200)["ids"].to_string();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(&format!("\"ids\":{ids}")), "{ids}");
}
