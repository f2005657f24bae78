//! watsonx: `/ml/v1/text/tokenization` of its API.

use super::{Call, How, message, spelt, status};
use crate::engine::Encoding;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Tokenization {
    model_id: String,
    input: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    return_tokens: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Tokenized {
    model_id: String,
    result: Counted,
}

#[derive(Debug, Serialize)]
struct Counted {
    token_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<String>>,
}

pub(super) async fn tokenization(call: Call) -> Result<Made, Problem> {
    let request: Tokenization = call.read().await?;
    let Tokenization { model_id, input, parameters } = request;
    let loaded = call.vocabulary(Some(&model_id)).await?;
    let strings = parameters.return_tokens.unwrap_or(false);
    let how = How { add_special: true, parse_special: true, offsets: None, pointer: "/input" };
    let reply = move |loaded: &Loaded, _: &[String], all: &[Encoding]| {
        let ids = &all[0].ids;
        let tokens = strings.then(|| ids.iter().map(|&id| spelt(&loaded.tokenizer, id)).collect());
        Tokenized { model_id, result: Counted { token_count: ids.len(), tokens } }
    };
    call.encoded(loaded, vec![input], how, reply).await
}

pub(super) fn error(problem: &Problem, request_id: &str) -> (u16, Value) {
    let status = status(problem);
    let code = match status {
        404 => "model_not_supported",
        413 => "request_too_large",
        429 | 503 => "too_many_requests",
        500.. => "internal_error",
        _ => "invalid_input_argument",
    };
    let error = json!({"code": code, "message": message(problem)});
    (status, json!({"errors": [error], "trace": request_id, "status_code": status}))
}
