//! Ollama: `/api/tokenize`, `/api/detokenize` as its users propose them; no release of it has routes of this kind. `LocalAI`'s
//! `/v1/tokenize` has the same request and answer.

use super::{Call, How, message, status};
use crate::engine::{Encoding, TokenId};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Tokenize {
    content: String,
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    tokens: Vec<TokenId>,
    model: Option<String>,
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How { add_special: false, parse_special: true, offsets: None, pointer: "/content" };
    let reply = |_: &Loaded, _: &[String], all: &[Encoding]| json!({"tokens": all[0].ids});
    call.encoded(loaded, vec![request.content], how, reply).await
}

pub(super) async fn detokenize(call: Call) -> Result<Made, Problem> {
    let request: Detokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    call.decoded(loaded, vec![request.tokens], false, |mut texts| json!({"content": texts.pop()})).await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    (status(problem), json!({"error": message(problem)}))
}
