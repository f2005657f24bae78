//! Text Generation Inference: `/tokenize` where it does not meet TEI's, and `/chat_tokenize` (`router/src/server.rs`). Tokens are
//! one flat array; `start` and `stop` are characters, and both 0 for tokens that stand for none of the text.

use super::vllm::{TokenizeChat, rendered};
use super::{Call, How, message};
use crate::engine::{Encoding, OffsetUnit, TokenId};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A request to generate, of which the input counts.
#[derive(Debug, Deserialize)]
struct Tokenize {
    inputs: String,
    add_special_tokens: Option<bool>,
    model: Option<String>,
}

#[derive(Debug, Serialize)]
struct SimpleToken {
    id: TokenId,
    text: String,
    start: usize,
    stop: usize,
}

/// What is answered to a chat.
#[derive(Debug, Serialize)]
struct ChatTokenized {
    tokenize_response: Vec<SimpleToken>,
    templated_text: String,
}

fn tokens(text: &str, encoding: &Encoding) -> Vec<SimpleToken> {
    // Where the characters begin, so that a token's text is found at once.
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let all = encoding.ids.iter().zip(&encoding.spans);
    all.map(|(&id, span)| {
        let own = starts.get(span.start).zip(starts.get(span.end));
        let text = own.and_then(|(&from, &to)| text.get(from..to)).unwrap_or_default().to_owned();
        let (start, stop) = if text.is_empty() { (0, 0) } else { (span.start, span.end) };
        SimpleToken { id, text, start, stop }
    })
    .collect()
}

const HOW: How =
    How { add_special: true, parse_special: true, offsets: Some(OffsetUnit::Char), pointer: "/inputs" };

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How { add_special: request.add_special_tokens.unwrap_or(true), ..HOW };
    let reply = |_: &Loaded, texts: &[String], all: &[Encoding]| tokens(&texts[0], &all[0]);
    call.encoded(loaded, vec![request.inputs], how, reply).await
}

pub(super) async fn chat_tokenize(call: Call) -> Result<Made, Problem> {
    let mut chat: TokenizeChat = call.read().await?;
    // What a client sends that talks to a server of one model.
    chat.model = chat.model.filter(|model| model != "tgi");
    let (loaded, text) = rendered(&call, chat).await?;
    // The template has written them already.
    let how = How { add_special: false, pointer: "/messages", ..HOW };
    let reply = |_: &Loaded, texts: &[String], all: &[Encoding]| ChatTokenized {
        tokenize_response: tokens(&texts[0], &all[0]),
        templated_text: texts[0].clone(),
    };
    call.encoded(loaded, vec![text], how, reply).await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let (status, kind) = match problem.status().as_u16() {
        429 | 503 => (429, "overloaded"),
        status @ 500.. => (status, "generation"),
        400 | 406 | 412 => (422, "validation"),
        status => (status, "validation"),
    };
    (status, json!({"error": message(problem), "error_type": kind}))
}
