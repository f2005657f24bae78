//! Text Embeddings Inference: `/tokenize`, and `/decode` and `/info` where they do not meet ours (`router/src/http`). Answers
//! are always arrays of arrays; tokens that the vocabulary puts around a text have no place in it.

use super::{Call, How, IdLists, OneOrMany, message, spelt};
use crate::engine::{Encoding, OffsetUnit, Tokenizer};
use crate::http::problem::Problem;
use crate::http::reply::{Json, Made};
use crate::http::state::AppState;
use crate::registry::Loaded;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Tokenize {
    inputs: OneOrMany<String>,
    add_special_tokens: Option<bool>,
    /// Prompts belong to a model's card, which a vocabulary does not have.
    prompt_name: Option<String>,
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Decode {
    ids: IdLists,
    skip_special_tokens: Option<bool>,
    model: Option<String>,
}

/// A token. `start` and `stop` are bytes of the text.
#[derive(Debug, Serialize)]
struct SimpleToken {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    if request.prompt_name.is_some() {
        return Err(Problem::invalid("/prompt_name", "is not known: a vocabulary has no prompts"));
    }
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How {
        add_special: request.add_special_tokens.unwrap_or(true),
        parse_special: true,
        offsets: Some(OffsetUnit::Byte),
        pointer: "/inputs",
    };
    let (texts, _) = request.inputs.into_all();
    let reply = move |loaded: &Loaded, texts: &[String], all: &[Encoding]| {
        let tokens =
            texts.iter().zip(all).map(|(text, encoding)| tokens(&loaded.tokenizer, text, encoding, how));
        tokens.collect::<Vec<_>>()
    };
    call.encoded(loaded, texts, how, reply).await
}

fn tokens(tokenizer: &Tokenizer, text: &str, encoding: &Encoding, how: How) -> Vec<SimpleToken> {
    let template = tokenizer.template();
    let (before, after) =
        if how.add_special { (template.before.len(), template.after.len()) } else { (0, 0) };
    let inside = before..encoding.ids.len().saturating_sub(after);
    let all = encoding.ids.iter().zip(&encoding.spans).enumerate();
    all.map(|(at, (&id, span))| match inside.contains(&at) {
        false => SimpleToken { id, text: spelt(tokenizer, id), special: true, start: None, stop: None },
        true => {
            let bytes = text.as_bytes().get(span.start..span.end).unwrap_or_default();
            let (text, start, stop) =
                (String::from_utf8_lossy(bytes).into_owned(), Some(span.start), Some(span.end));
            SimpleToken { id, text, special: false, start, stop }
        }
    })
    .collect()
}

pub(super) async fn decode(call: Call) -> Result<Made, Problem> {
    let request: Decode = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let (lists, _) = request.ids.0.into_all();
    call.decoded(loaded, lists, request.skip_special_tokens.unwrap_or(true), |texts| texts).await
}

pub(super) async fn info(app: AppState, _: String) -> Result<Response, Problem> {
    let config = &app.config;
    let info = json!({
        "model_id": app.registry.settings().default_vocab.to_string(), "model_sha": null, "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "mean"}}, "max_concurrent_requests": config.max_waiting_encodes,
        "max_input_length": config.max_body_bytes, "max_batch_tokens": config.max_body_bytes,
        "max_batch_requests": null, "max_client_batch_size": config.max_batch_texts, "auto_truncate": false,
        "tokenization_workers": config.encode_threads(), "version": env!("CARGO_PKG_VERSION"), "sha": null,
        "docker_label": null,
    });
    Ok(Json(StatusCode::OK, info).into_response())
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = match problem.status().as_u16() {
        429 | 503 => 429,
        400 | 406 | 412 => 422,
        status => status,
    };
    let kind = match status {
        429 => "Overloaded",
        500.. => "Backend",
        _ if problem.code() == "split_too_costly" => "Tokenizer",
        _ => "Validation",
    };
    (status, json!({"error": message(problem), "error_type": kind}))
}
