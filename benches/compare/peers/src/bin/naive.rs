//! A server as one writes it in an hour: axum in front of `tiktoken-rs`, cl100k only. It takes the arguments of `vocabd`, so that
//! `load` can start either; what `import` gives it is what it has built in.

use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::error::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct One {
    text: String,
}

#[derive(Deserialize)]
struct Many {
    texts: Vec<String>,
}

#[derive(Serialize)]
struct OneReply {
    count: usize,
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct ManyReply {
    counts: Vec<usize>,
    ids: Vec<Vec<u32>>,
}

fn ids(text: &str) -> Vec<u32> {
    tiktoken_rs::cl100k_base_singleton().encode_ordinary(text)
}

async fn encode(Json(One { text }): Json<One>) -> Json<OneReply> {
    let ids = ids(&text);
    Json(OneReply { count: ids.len(), ids })
}

async fn batch(Json(Many { texts }): Json<Many>) -> Json<ManyReply> {
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| ids(text)).collect();
    Json(ManyReply { counts: ids.iter().map(Vec::len).collect(), ids })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).is_some_and(|command| command == "import") {
        return Ok(());
    }
    let address = std::env::args().skip_while(|argument| argument != "--listen").nth(1);
    let listener = tokio::net::TcpListener::bind(address.ok_or("no --listen")?).await?;
    ids("ready");
    let router = Router::new()
        .route("/encode", post(encode))
        .route("/encode/batch", post(batch))
        .route("/readyz", get(|| async { "ok" }))
        .layer(axum::extract::DefaultBodyLimit::max(16 << 20));
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router).await?;
    Ok(())
}
