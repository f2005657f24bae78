//! Any bytes as a corpus or as counts, in any of the forms that they may have: a job that ends well or says what is wrong, and an answer to
//! a comparison; never a panic, a hang, or more memory than the job may have.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;
use vocabd::config::Config;

const FORMATS: [&str; 3] = ["text", "jsonl", "parquet"];
const RECORDS: [&str; 3] = ["whole", "lines", "paragraphs"];

static SERVER: LazyLock<(Runtime, Router)> = LazyLock::new(|| {
    vocabd_fuzz::server(Config {
        max_upload_bytes: 1 << 20,
        train_max_memory_bytes: 16 << 20,
        ..Config::default()
    })
});

async fn ask(router: &Router, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let kind = if path.starts_with("/uploads") { "application/octet-stream" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("host", "localhost").header("content-type", kind);
    let Ok(answer) = router.clone().oneshot(request.body(Body::from(body)).expect("a request")).await;
    let status = answer.status().as_u16();
    assert_ne!(status, 500, "{method} {path}");
    let content = to_bytes(answer.into_body(), 64 << 20).await.expect("a whole answer");
    (status, serde_json::from_slice(&content).unwrap_or_default())
}

fuzz_target!(|data: &[u8]| {
    let Some((&[how, form], file)) = data.split_first_chunk() else { return };
    let (runtime, router) = &*SERVER;
    runtime.block_on(async {
        let (status, told) = ask(router, "PUT", "/uploads/fuzzed", file.to_vec()).await;
        assert!(matches!(status, 200 | 201), "{status} {told}");
        let (format, records) = (FORMATS[usize::from(form % 3)], RECORDS[usize::from(form / 3 % 3)]);
        let invalid = if form & 0x80 == 0 { "error" } else { "replace" };
        let mut corpus = json!({"upload": "fuzzed", "format": format, "invalid_utf8": invalid});
        if format == "text" {
            corpus["records"] = records.into();
        }
        match how % 3 {
            0 => {
                corpus["vocabs"] = json!(["default"]);
                if records == "whole" {
                    corpus.as_object_mut().map(|corpus| corpus.remove("records"));
                }
                let (status, told) = ask(router, "POST", "/compare", corpus.to_string().into_bytes()).await;
                assert!(status == 200 || told["code"].is_string(), "{status} {told}");
            }
            source => {
                if source == 2 {
                    corpus = json!({"counts": {"upload": "fuzzed"}});
                }
                let job = json!({"name": "fuzzed", "corpus": corpus, "vocab_size": 260, "words": how & 0x40 != 0 && source == 2});
                let (status, job) = ask(router, "POST", "/train", job.to_string().into_bytes()).await;
                if status != 202 {
                    assert!(job["code"].is_string(), "{status} {job}");
                    return;
                }
                let path = format!("/train/{}", job["id"].as_str().expect("an id"));
                loop {
                    let (_, job) = ask(router, "GET", &path, Vec::new()).await;
                    match job["state"].as_str().expect("a state") {
                        "succeeded" => break,
                        "failed" => {
                            let code = job["error"]["code"].as_str().expect("a code");
                            assert_ne!(code, "internal", "{job}");
                            break;
                        }
                        _ => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            }
        }
    });
});
