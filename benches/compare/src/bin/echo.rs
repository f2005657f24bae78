//! The bare server that vocabd is compared with: axum alone, bodies of the same shapes, and no engine. What it takes for a
//! request is what HTTP and JSON cost. It takes the arguments of `vocabd serve`, so that `load` can start either.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::error::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of text that become a token: about what cl100k has for English.
const BYTES_PER_TOKEN: usize = 4;

#[derive(Deserialize)]
struct One {
    text: String,
}

#[derive(Deserialize)]
struct Many {
    texts: Vec<String>,
}

#[derive(Serialize)]
struct Vocab {
    name: &'static str,
    version: u32,
    digest: &'static str,
}

const VOCAB: Vocab = Vocab {
    name: "default",
    version: 1,
    digest: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
};

#[derive(Serialize)]
struct OneReply {
    vocab: Vocab,
    count: usize,
    ids: Vec<u32>,
    truncated: bool,
}

#[derive(Serialize)]
struct ManyReply {
    vocab: Vocab,
    counts: Vec<usize>,
    ids: Vec<Vec<u32>>,
    truncated: Vec<bool>,
}

/// As many ids as the text would have, of about the usual lengths.
fn ids(text: &str) -> Vec<u32> {
    let count = text.len().div_ceil(BYTES_PER_TOKEN) as u32;
    (0..count).map(|n| n.wrapping_mul(2_654_435_761) % 50_000).collect()
}

fn json(reply: &impl Serialize) -> Response {
    let body = serde_json::to_vec(reply).expect("strings and numbers");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn encode(headers: HeaderMap, body: Bytes) -> Response {
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/plain") {
        let text = std::str::from_utf8(&body).expect("the texts of the measurement");
        let packed: Vec<u8> = ids(text).into_iter().flat_map(u32::to_le_bytes).collect();
        return ([(header::CONTENT_TYPE, "application/octet-stream")], packed).into_response();
    }
    let One { text } = serde_json::from_slice(&body).expect("the bodies of the measurement");
    let ids = ids(&text);
    json(&OneReply { vocab: VOCAB, count: ids.len(), ids, truncated: false })
}

async fn batch(body: Bytes) -> Response {
    let Many { texts } = serde_json::from_slice(&body).expect("the bodies of the measurement");
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| ids(text)).collect();
    let counts = ids.iter().map(Vec::len).collect();
    json(&ManyReply { vocab: VOCAB, counts, truncated: vec![false; ids.len()], ids })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().skip_while(|argument| argument != "--listen").nth(1);
    let listener = tokio::net::TcpListener::bind(address.ok_or("no --listen")?).await?;
    let limit = axum::extract::DefaultBodyLimit::max(16 << 20);
    let router = Router::new()
        .route("/encode", post(encode))
        .route("/encode/batch", post(batch))
        .route("/readyz", get(|| async { "ok" }))
        .layer(limit);
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router).await?;
    Ok(())
}
