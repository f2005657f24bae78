//! Google: `/v1/models/MODEL:countTokens` of the Gemini API, and the same at `/v1beta`.

use super::counting::{By, Conversation, count};
use super::litellm::from_contents;
use super::{Call, message, status};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use serde::Deserialize;
use serde_json::{Value, json};

/// Contents, or a whole request to generate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountTokens {
    contents: Option<Vec<Value>>,
    generate_content_request: Option<Generate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generate {
    #[serde(default)]
    contents: Vec<Value>,
    system_instruction: Option<Value>,
    #[serde(default)]
    tools: Vec<Tools>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tools {
    #[serde(default)]
    function_declarations: Vec<Value>,
}

pub(super) async fn count_tokens(call: Call, model: &str) -> Result<Made, Problem> {
    let request: CountTokens = call.read().await?;
    let (generate, root) = match (request.contents, request.generate_content_request) {
        (Some(contents), None) => (Generate { contents, ..Generate::default() }, ""),
        (None, Some(generate)) => (generate, "/generateContentRequest"),
        _ => return Err(Problem::invalid("", "needs exactly one of contents and generateContentRequest")),
    };
    let loaded = call.vocabulary(Some(model)).await?;
    let mut messages = Vec::new();
    if let Some(system) = generate.system_instruction {
        for mut message in from_contents(&[system], &format!("{root}/systemInstruction"))? {
            message["role"] = "system".into();
            messages.push(message);
        }
    }
    messages.append(&mut from_contents(&generate.contents, &format!("{root}/contents"))?);
    let functions = generate.tools.into_iter().flat_map(|tools| tools.function_declarations);
    let tools = functions.map(|function| json!({"type": "function", "function": function})).collect();
    let reply = |_: &_, tokens: usize| {
        let details = json!([{"modality": "TEXT", "tokenCount": tokens}]);
        json!({"totalTokens": tokens, "promptTokensDetails": details})
    };
    count(&call, loaded, Conversation { messages, tools }, By::Template, reply).await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let code = status(problem);
    let status = match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    (code, json!({"error": {"code": code, "message": message(problem), "status": status}}))
}
