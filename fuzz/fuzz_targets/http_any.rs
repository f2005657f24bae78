//! Any bytes as the body of any request, in any of the forms that a route may take: an answer, never a 500, a panic or a hang; and
//! every refusal but those of the dialects is a problem.
#![no_main]

use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use vocabd::config::Config;

/// Method and path; what a body of their own kind looks like stands in `fuzz/seeds.py`.
const ROUTES: &[(&str, &str)] = &[
    ("POST", "/encode"),
    ("POST", "/encode/batch"),
    ("POST", "/encode/stream"),
    ("POST", "/count"),
    ("POST", "/decode"),
    ("POST", "/decode/batch"),
    ("POST", "/chunk"),
    ("POST", "/compare"),
    ("POST", "/explain"),
    ("POST", "/chat/encode"),
    ("POST", "/chat/render"),
    ("POST", "/train"),
    ("POST", "/vocabs?name=fuzzed"),
    ("POST", "/vocabs?name=fuzzed&split=gpt2&format=tiktoken"),
    ("POST", "/vocabs"),
    ("PUT", "/uploads/fuzzed"),
    ("PUT", "/vocabs/default/aliases/fuzzed"),
    ("POST", "/apply-template"),
    ("POST", "/chat_tokenize"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/v1/chat/completions/input_tokens"),
    ("POST", "/compat/tei/tokenize"),
    ("POST", "/compat/tei/decode"),
    ("POST", "/compat/llamacpp/tokenize"),
    ("POST", "/compat/llamacpp/detokenize"),
    ("POST", "/compat/llamacpp/apply-template"),
    ("POST", "/v1/tokenize"),
    ("POST", "/v1/detokenize"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1beta/models/default:countTokens"),
    ("POST", "/utils/token_counter"),
    ("POST", "/v1/tokenize-text"),
    ("POST", "/ml/v1/text/tokenization"),
    ("POST", "/v3/tokenize"),
    ("POST", "/api/tokenize"),
    ("POST", "/api/detokenize"),
    ("POST", "/models/compare"),
    ("POST", "/compat/tgi/tokenize"),
    ("POST", "/compat/tgi/chat_tokenize"),
    ("POST", "/compat/sglang/tokenize"),
    ("POST", "/compat/sglang/detokenize"),
    ("POST", "/compat/sglang/v1/tokenize"),
    ("POST", "/compat/sglang/v1/detokenize"),
    ("POST", "/compat/cohere/v1/tokenize"),
    ("POST", "/compat/cohere/v1/detokenize"),
    ("POST", "/compat/vllm/tokenize"),
    ("POST", "/compat/vllm/detokenize"),
    ("POST", "/compat/localai/v1/tokenize"),
    ("POST", "/compat/ovms/v1/tokenize"),
];

const KINDS: &[&str] = &[
    "application/json",
    "application/msgpack",
    "text/plain",
    "application/octet-stream",
    "application/x-ndjson",
    "multipart/form-data; boundary=XX",
    "application/octet-stream; bits=16",
];

const ACCEPTS: &[&str] = &["*/*", "application/msgpack", "application/octet-stream", "application/x-ndjson"];

const CODINGS: &[&str] = &["", "gzip", "zstd"];

static SERVER: LazyLock<(Runtime, Router)> = LazyLock::new(|| {
    vocabd_fuzz::server(Config {
        max_upload_bytes: 1 << 20,
        max_queued_jobs: 4,
        max_body_bytes: 1 << 20,
        max_vocab_bytes: 1 << 20,
        allow_chat_template: true,
        ..Config::default()
    })
});

fuzz_target!(|data: &[u8]| {
    let Some((&[route, kind, how], body)) = data.split_first_chunk() else { return };
    let (method, path) = ROUTES[usize::from(route) % ROUTES.len()];
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", KINDS[usize::from(kind) % KINDS.len()])
        .header("accept", ACCEPTS[usize::from(how) % ACCEPTS.len()]);
    let coding = CODINGS[usize::from(how / 4) % CODINGS.len()];
    if !coding.is_empty() {
        request = request.header("content-encoding", coding);
    }
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let (runtime, router) = &*SERVER;
    runtime.block_on(async {
        let Ok(answer) = router.clone().oneshot(request).await;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        assert_ne!(status, 500, "{method} {path}");
        let content = to_bytes(answer.into_body(), 64 << 20).await;
        if status >= 400 {
            let content = content.expect("a whole refusal");
            assert!(kind.contains("json") || kind.contains("text"), "{method} {path}: {status} {kind}");
            assert!(content.len() < 16 << 10, "{method} {path}: a refusal of {} bytes", content.len());
        }
    });
});
