//! xAI: `/v1/tokenize-text` of its API.

use super::{Call, How, message, status};
use crate::engine::{Encoding, TokenId};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct TokenizeText {
    text: String,
    model: Option<String>,
}

#[derive(Debug, Serialize)]
struct Tokenized {
    token_ids: Vec<Token>,
}

#[derive(Debug, Serialize)]
struct Token {
    token_id: TokenId,
    string_token: String,
    token_bytes: Vec<u8>,
}

pub(super) async fn tokenize_text(call: Call) -> Result<Made, Problem> {
    let request: TokenizeText = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How { add_special: false, parse_special: true, offsets: None, pointer: "/text" };
    let reply = |loaded: &Loaded, _: &[String], all: &[Encoding]| {
        let tokens = all[0].ids.iter().map(|&token_id| {
            let token_bytes = loaded.tokenizer.token_bytes(token_id).unwrap_or_default().into_owned();
            Token { token_id, string_token: String::from_utf8_lossy(&token_bytes).into_owned(), token_bytes }
        });
        Tokenized { token_ids: tokens.collect() }
    };
    call.encoded(loaded, vec![request.text], how, reply).await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = status(problem);
    let code = match status {
        404 => "The requested resource was not found",
        429 | 503 => "The service is currently unavailable",
        500.. => "Internal error",
        _ => "Client specified an invalid argument",
    };
    (status, json!({"code": code, "error": message(problem)}))
}
