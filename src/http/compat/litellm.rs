//! `LiteLLM`: `/utils/token_counter` of its proxy. Messages are always counted by the formula, as its own counter does.

use super::counting::{By, Conversation, count, text_of};
use super::{Call, How, message, param, status};
use crate::engine::Encoding;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct TokenCounter {
    model: String,
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    contents: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
}

pub(super) async fn token_counter(call: Call) -> Result<Made, Problem> {
    let request: TokenCounter = call.read().await?;
    let loaded = call.vocabulary(Some(&request.model)).await?;
    let model = request.model;
    if let Some(prompt) = request.prompt {
        let how = How { add_special: false, parse_special: false, offsets: None, pointer: "/prompt" };
        let reply =
            move |loaded: &Loaded, _: &[String], all: &[Encoding]| told(loaded, &model, all[0].ids.len());
        return call.encoded(loaded, vec![prompt], how, reply).await;
    }
    let messages = match (request.messages, request.contents) {
        (Some(messages), _) => messages,
        (None, Some(contents)) => from_contents(&contents, "/contents")?,
        (None, None) => return Err(Problem::invalid("", "prompt or messages or contents must be provided")),
    };
    let conversation = Conversation { messages, tools: request.tools.unwrap_or_default() };
    count(&call, loaded, conversation, By::Formula, move |loaded, tokens| told(loaded, &model, tokens)).await
}

/// Google's contents, which stand at `pointer`, as messages.
pub(super) fn from_contents(contents: &[Value], pointer: &str) -> Result<Vec<Value>, Problem> {
    let message = |(at, content): (usize, &Value)| {
        let role = if content["role"] == "model" { "assistant" } else { "user" };
        let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |(n, part): (usize, &Value)| match part["text"].as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None if part.get("inlineData").or(part.get("fileData")).is_some() => {
                text_of(&json!({"type": "file"}), &format!("{pointer}/{at}/parts/{n}"))
            }
            None => Ok(None),
        };
        let texts = parts.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({"role": role, "content": texts.into_iter().flatten().collect::<String>()}))
    };
    contents.iter().enumerate().map(message).collect()
}

fn told(loaded: &Loaded, model: &str, tokens: usize) -> Value {
    let kind = if loaded.facts.format == "hf" { "huggingface_tokenizer" } else { "openai_tokenizer" };
    json!({
        "total_tokens": tokens, "request_model": model, "model_used": loaded.facts.name.as_str(), "tokenizer_type": kind,
        "original_response": null, "error": false, "error_message": null, "status_code": null,
    })
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = status(problem);
    let kind = match status {
        401 => "auth_error",
        404 => "not_found_error",
        500.. => "internal_server_error",
        _ => "invalid_request_error",
    };
    let error = json!({
        "message": message(problem), "type": kind, "param": param(problem), "code": status.to_string(),
    });
    (status, json!({ "error": error }))
}
