//! Cohere: `/v1/tokenize`, `/v1/detokenize` of its API.

use super::{Call, How, message, status};
use crate::engine::{Encoding, TokenId};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most characters of a text, as the API has it.
const MAX_CHARACTERS: usize = 65_536;

#[derive(Debug, Deserialize)]
struct Tokenize {
    text: String,
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    tokens: Vec<TokenId>,
    model: Option<String>,
}

pub(super) fn meta() -> Value {
    json!({"api_version": {"version": "1"}})
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    if request.text.is_empty()
        || request.text.len() > MAX_CHARACTERS && request.text.chars().count() > MAX_CHARACTERS
    {
        return Err(Problem::invalid("/text", format!("must have 1 to {MAX_CHARACTERS} characters")));
    }
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How { add_special: false, parse_special: true, offsets: None, pointer: "/text" };
    let reply = |loaded: &Loaded, _: &[String], all: &[Encoding]| {
        let ids = &all[0].ids;
        let strings = ids.iter().map(|&id| {
            let bytes = loaded.tokenizer.token_bytes(id).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        json!({"tokens": ids, "token_strings": strings.collect::<Vec<_>>(), "meta": meta()})
    };
    call.encoded(loaded, vec![request.text], how, reply).await
}

pub(super) async fn detokenize(call: Call) -> Result<Made, Problem> {
    let request: Detokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let reply = |mut texts: Vec<String>| json!({"text": texts.pop(), "meta": meta()});
    call.decoded(loaded, vec![request.tokens], true, reply).await
}

pub(super) fn error(problem: &Problem, request_id: &str) -> (u16, Value) {
    (status(problem), json!({"id": request_id, "message": message(problem)}))
}
