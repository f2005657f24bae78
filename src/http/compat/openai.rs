//! `OpenAI`: `/v1/responses/input_tokens`, `/v1/models`. Models are the vocabularies and the names that the setting `models` has.

use super::counting::{By, Conversation, count, text_of};
use super::{Call, message, param, status};
use crate::http::problem::Problem;
use crate::http::reply::{Json, Made};
use crate::http::state::AppState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct InputTokens {
    model: Option<String>,
    input: Option<Value>,
    instructions: Option<String>,
    tools: Option<Vec<Value>>,
    conversation: Option<Value>,
    previous_response_id: Option<Value>,
}

pub(super) async fn input_tokens(call: Call) -> Result<Made, Problem> {
    let request: InputTokens = call.read().await?;
    for (field, value) in
        [("/conversation", &request.conversation), ("/previous_response_id", &request.previous_response_id)]
    {
        if value.as_ref().is_some_and(|value| !value.is_null()) {
            return Err(Problem::invalid(field, "is not known here: no conversations are kept"));
        }
    }
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let mut conversation = Conversation::default();
    if let Some(instructions) = request.instructions {
        conversation.messages.push(json!({"role": "system", "content": instructions}));
    }
    match request.input {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => conversation.messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                conversation.messages.extend(message_of(&item, &format!("/input/{at}"))?);
            }
        }
        Some(_) => return Err(Problem::invalid("/input", "must be a string or an array of items")),
    }
    let function = |tool: Value| match tool["type"].as_str() {
        Some("function") if tool.get("function").is_none() => json!({"type": "function", "function": tool}),
        _ => tool,
    };
    conversation.tools = request.tools.unwrap_or_default().into_iter().map(function).collect();
    let reply = |_: &_, tokens| json!({"object": "response.input_tokens", "input_tokens": tokens});
    count(&call, loaded, conversation, By::Template, reply).await
}

/// An item of an input as a message; none for items that hold nothing which a model reads as text.
fn message_of(item: &Value, pointer: &str) -> Result<Option<Value>, Problem> {
    let texts = |content: &Value, name: &str| match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts =
                parts.iter().enumerate().map(|(n, part)| text_of(part, &format!("{pointer}/{name}/{n}")));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect::<Vec<_>>().join("\n"))
        }
        _ => Err(Problem::invalid(format!("{pointer}/{name}"), "must be a string or an array of parts")),
    };
    match item["type"].as_str() {
        None | Some("message") => {
            let role = match item["role"].as_str() {
                Some("developer") => "system",
                Some(role @ ("user" | "assistant" | "system")) => role,
                _ => {
                    let roles = "must be user, assistant, system or developer";
                    return Err(Problem::invalid(format!("{pointer}/role"), roles));
                }
            };
            Ok(Some(json!({"role": role, "content": texts(&item["content"], "content")?})))
        }
        Some("function_call") => {
            let function = json!({"name": item["name"], "arguments": item["arguments"]});
            let call = json!({"id": item["call_id"], "type": "function", "function": function});
            Ok(Some(json!({"role": "assistant", "content": "", "tool_calls": [call]})))
        }
        Some("function_call_output") => {
            let text = texts(&item["output"], "output")?;
            Ok(Some(json!({"role": "tool", "tool_call_id": item["call_id"], "content": text})))
        }
        Some("reasoning") => Ok(None),
        Some(_) => Err(Problem::invalid(format!("{pointer}/type"), "is no kind of item that is known here")),
    }
}

/// A model of the list.
#[derive(Debug, Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    owned_by: &'static str,
}

impl Model {
    fn new(id: String, created_at: &str) -> Self {
        let created = created_at.parse().map_or(0, jiff::Timestamp::as_second);
        Self { id, object: "model", created, owned_by: "vocabd" }
    }
}

/// Vocabularies by their names, and the names of models that lead to one.
fn all(app: &AppState) -> Vec<Model> {
    let listings = app.registry.list();
    let newest = listings.iter().filter_map(|listing| listing.versions.last());
    let mut all: Vec<Model> =
        newest.map(|facts| Model::new(facts.name.to_string(), &facts.created_at)).collect();
    for (name, vocab) in app.config.models.iter().filter(|(name, _)| !name.ends_with('*')) {
        let facts = vocab.parse().ok().and_then(|wanted| app.registry.facts(Some(&wanted)).ok());
        all.extend(facts.map(|facts| Model::new(name.clone(), &facts.created_at)));
    }
    all
}

pub(super) async fn models(app: AppState, _: String) -> Result<Response, Problem> {
    Ok(Json(StatusCode::OK, json!({"object": "list", "data": all(&app)})).into_response())
}

/// One model; its name, which may have slashes, is the rest of the path.
pub(super) async fn model(app: AppState, target: String) -> Result<Response, Problem> {
    let path = target.split('?').next().unwrap_or_default();
    let name = path.split_once("/v1/models/").map_or("", |(_, name)| name);
    let name = unescaped(name);
    let found = all(&app).into_iter().find(|model| model.id == name);
    let found = match found {
        Some(found) => found,
        // A name that only a pattern has.
        None => {
            let loaded = super::vocabulary(&app, Some(&name)).await?;
            Model::new(name, &loaded.facts.created_at)
        }
    };
    Ok(Json(StatusCode::OK, found).into_response())
}

pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, more) {
            (b'%', [a, b, after @ ..]) if hex(&[*a, *b]).is_some() => {
                bytes.extend(hex(&[*a, *b]));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The field `model` of a query.
pub(super) fn query_model(target: &str) -> Option<String> {
    let query = target.split_once('?')?.1;
    query.split('&').find_map(|field| field.strip_prefix("model=")).map(unescaped)
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = status(problem);
    let (kind, code) = match status {
        404 if problem.code() == "unknown_model" => ("invalid_request_error", Some("model_not_found")),
        401 => ("invalid_request_error", Some("invalid_api_key")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let error = json!({"message": message(problem), "type": kind, "param": param(problem), "code": code});
    (status, json!({ "error": error }))
}
