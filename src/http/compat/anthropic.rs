//! Anthropic: `/v1/messages/count_tokens`. Blocks of content become the messages that chat templates know: uses of tools are
//! calls, their results messages of the role `tool`.

use super::counting::{By, Conversation, count, text_of};
use super::{Call, message, status};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct CountTokens {
    model: Option<String>,
    messages: Vec<Message>,
    system: Option<Value>,
    tools: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: Role,
    content: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
    System,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

pub(super) async fn count_tokens(call: Call) -> Result<Made, Problem> {
    let request: CountTokens = call.read().await?;
    if request.messages.is_empty() {
        return Err(Problem::invalid("/messages", "must have at least one message"));
    }
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let mut conversation = Conversation::default();
    if let Some(system) = request.system.filter(|system| !system.is_null()) {
        let text = joined(&system, "/system")?;
        conversation.messages.push(json!({"role": "system", "content": text}));
    }
    for (at, message) in request.messages.into_iter().enumerate() {
        add(message, &format!("/messages/{at}/content"), &mut conversation.messages)?;
    }
    let function = |tool: Value| match tool.get("input_schema") {
        Some(schema) => {
            let description = tool["description"].as_str().unwrap_or_default();
            json!({"type": "function",
                "function": {"name": tool["name"], "description": description, "parameters": schema}})
        }
        None => tool,
    };
    conversation.tools = request.tools.unwrap_or_default().into_iter().map(function).collect();
    count(&call, loaded, conversation, By::Template, |_, tokens| json!({"input_tokens": tokens})).await
}

/// The texts of a string, or of blocks that all are text.
fn joined(content: &Value, pointer: &str) -> Result<String, Problem> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let texts = blocks.iter().enumerate().map(|(n, block)| text_of(block, &format!("{pointer}/{n}")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect::<Vec<_>>().join("\n"))
        }
        _ => Err(Problem::invalid(pointer, "must be a string or an array of blocks")),
    }
}

fn add(message: Message, pointer: &str, messages: &mut Vec<Value>) -> Result<(), Problem> {
    let role = message.role.name();
    let blocks = match message.content {
        Value::String(text) => {
            messages.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        _ => return Err(Problem::invalid(pointer, "must be a string or an array of blocks")),
    };
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for (n, block) in blocks.iter().enumerate() {
        let pointer = format!("{pointer}/{n}");
        match block["type"].as_str() {
            Some("tool_use" | "server_tool_use") => {
                let function = json!({"name": block["name"], "arguments": block["input"].to_string()});
                calls.push(json!({"id": block["id"], "type": "function", "function": function}));
            }
            Some("tool_result") => {
                let text = match &block["content"] {
                    Value::Null => String::new(),
                    content => joined(content, &format!("{pointer}/content"))?,
                };
                messages.push(json!({"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}));
            }
            _ => texts.extend(text_of(block, &pointer)?),
        }
    }
    if texts.is_empty() && calls.is_empty() {
        return Ok(());
    }
    let mut message = json!({"role": role, "content": texts.join("\n")});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    messages.push(message);
    Ok(())
}

pub(super) fn error(problem: &Problem, request_id: &str) -> (u16, Value) {
    let status = match status(problem) {
        503 => 529,
        status => status,
    };
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let error = json!({"type": kind, "message": message(problem)});
    (status, json!({"type": "error", "error": error, "request_id": request_id}))
}
