//! How many tokens a conversation takes. Where the vocabulary has a chat template, those of the text that it makes; where it has
//! none, by the formula that is published for `OpenAI`'s models, in the form that `LiteLLM` counts by.

use super::super::chat::{Asked, parts};
use super::{Call, How, encode};
use crate::chat::{ChatError, Json};
use crate::engine::Tokenizer;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Messages and tools in the form of chat completions.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Value>,
    pub(super) tools: Vec<Value>,
}

/// By which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The template where there is one.
    Template,
    /// The formula in any case.
    Formula,
}

/// Tokens that a message takes beside its texts, and that a name does, and that the beginning of the answer does.
const PER_MESSAGE: usize = 3;
const PER_NAME: usize = 1;
const PER_ANSWER: usize = 3;
/// Tokens around the definitions of tools, and how many fewer where a message of the system is there to hold them.
const PER_TOOLS: usize = 9;
const IN_SYSTEM: usize = 4;

/// Counts and answers with what `reply` makes of the number.
pub(super) async fn count<T: Serialize>(
    call: &Call,
    loaded: Arc<Loaded>,
    conversation: Conversation,
    by: By,
    reply: impl FnOnce(&Loaded, usize) -> T + Send + 'static,
) -> Result<Made, Problem> {
    let vocab = call.app.metrics.vocab(loaded.facts.name.as_str());
    let bytes = call.body.len();
    let work = move || {
        let tokenizer = &loaded.tokenizer;
        let tokens = if by == By::Template && !tokenizer.chat().sources.is_empty() {
            by_template(tokenizer, conversation)?
        } else {
            by_formula(tokenizer, &conversation)?
        };
        vocab.encoded(bytes as u64, tokens as u64);
        Ok::<_, Problem>(Made::by(&loaded.facts, &reply(&loaded, tokens)))
    };
    // Never here: how long a template takes is up to the template.
    call.app.cpu.run_elsewhere(bytes, work).await?
}

fn by_template(tokenizer: &Tokenizer, conversation: Conversation) -> Result<usize, Problem> {
    let json = |values: Vec<Value>| -> Result<Vec<Json>, Problem> {
        let all = values.into_iter().map(Json::deserialize).collect::<Result<_, _>>();
        all.map_err(|_| Problem::internal())
    };
    let tools = Some(json(conversation.tools)?).filter(|tools| !tools.is_empty());
    let parts = parts((json(conversation.messages)?, tools, None), (None, false), None)?;
    let mut asked = Asked { parts, template: None, any_template: false };
    asked.join_texts_for(tokenizer);
    let text = asked.render(tokenizer, None)?.text;
    let how = How { add_special: false, parse_special: true, offsets: None, pointer: "/messages" };
    Ok(encode(tokenizer, &[text], how)?.iter().map(|e| e.ids.len()).sum())
}

fn by_formula(tokenizer: &Tokenizer, conversation: &Conversation) -> Result<usize, Problem> {
    let mut texts = Vec::new();
    let (mut tokens, mut system) = (0, false);
    for (at, message) in conversation.messages.iter().enumerate() {
        let pointer = format!("/messages/{at}");
        let Some(message) = message.as_object() else {
            return Err(Problem::invalid(pointer, "must be an object"));
        };
        tokens += PER_MESSAGE + PER_NAME * usize::from(message.get("name").is_some_and(Value::is_string));
        system |= message.get("role").is_some_and(|role| role == "system");
        for (key, value) in message {
            match value {
                Value::String(text) => texts.push(text.clone()),
                Value::Array(all) if key == "tool_calls" => texts.extend(all.iter().filter_map(arguments)),
                Value::Array(all) if key == "content" => {
                    for (n, part) in all.iter().enumerate() {
                        texts.extend(text_of(part, &format!("{pointer}/content/{n}"))?);
                    }
                }
                _ => {}
            }
        }
    }
    if !conversation.tools.is_empty() {
        texts.push(definitions(&conversation.tools));
        tokens += PER_TOOLS - if system { IN_SYSTEM } else { 0 };
    }
    tokens += PER_ANSWER;
    let how = How { add_special: false, parse_special: false, offsets: None, pointer: "/messages" };
    Ok(tokens + encode(tokenizer, &texts, how)?.iter().map(|e| e.ids.len()).sum::<usize>())
}

fn arguments(call: &Value) -> Option<String> {
    match &call["function"]["arguments"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The text of a part of a message.
///
/// # Errors
/// 422 for parts whose tokens only a model's own processor knows.
pub(super) fn text_of(part: &Value, pointer: &str) -> Result<Option<String>, Problem> {
    if let Value::String(text) = part {
        return Ok(Some(text.clone()));
    }
    let kind = part["type"].as_str().unwrap_or_default();
    let text = |name: &str| Ok(part[name].as_str().map(str::to_owned));
    let not_countable = |kind| {
        let pointer = pointer.to_owned();
        Err(Problem::chat(&ChatError::NotCountable { pointer, kind }))
    };
    match kind {
        "text" | "input_text" | "output_text" => text("text"),
        "thinking" | "redacted_thinking" => text("thinking"),
        "refusal" => text("refusal"),
        "image" | "image_url" | "input_image" => not_countable("image"),
        "audio" | "input_audio" | "audio_url" => not_countable("audio"),
        "video" | "video_url" => not_countable("video"),
        "document" | "file" | "input_file" => not_countable("file"),
        _ => Err(Problem::invalid(format!("{pointer}/type"), "is no kind of content that is known here")),
    }
}

/// Definitions of tools as the models read them: a namespace of types.
fn definitions(tools: &[Value]) -> String {
    let mut lines = vec!["namespace functions {".to_owned(), String::new()];
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        let Some(name) = function["name"].as_str() else { continue };
        if let Some(description) = function["description"].as_str().filter(|text| !text.is_empty()) {
            lines.push(format!("// {description}"));
        }
        let parameters =
            [&function["parameters"], &function["input_schema"]].into_iter().find(|p| p.is_object());
        let properties = parameters.map_or(&Value::Null, |p| &p["properties"]);
        match (parameters, properties.as_object().filter(|all| !all.is_empty())) {
            (Some(parameters), Some(properties)) => {
                lines.push(format!("type {name} = (_: {{"));
                lines.push(members(properties, &parameters["required"], 0));
                lines.push("}) => any;".to_owned());
            }
            _ => lines.push(format!("type {name} = () => any;")),
        }
        lines.push(String::new());
    }
    lines.push("} // namespace functions".to_owned());
    lines.join("\n")
}

fn members(properties: &Map<String, Value>, required: &Value, indent: usize) -> String {
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.iter().any(|other| other == name));
    let mut lines = Vec::new();
    for (name, member) in properties {
        if let Some(description) = member["description"].as_str().filter(|text| !text.is_empty()) {
            lines.push(format!("{:indent$}// {description}", ""));
        }
        let question = if is_required(name) { "" } else { "?" };
        lines.push(format!("{:indent$}{name}{question}: {},", "", kind(member, indent)));
    }
    lines.join("\n")
}

/// The type of a member. Calls itself for what is inside, no deeper than the parser of the body lets values be: 128 levels.
fn kind(member: &Value, indent: usize) -> String {
    let choices = |usual: &str| {
        let quoted = |item: &Value| match item {
            Value::String(text) => format!("\"{text}\""),
            other => format!("\"{other}\""),
        };
        let all = member["enum"].as_array().map(|all| all.iter().map(quoted).collect::<Vec<_>>().join(" | "));
        all.unwrap_or_else(|| usual.to_owned())
    };
    match member["type"].as_str() {
        Some("string") => choices("string"),
        Some("integer" | "number") => choices("number"),
        Some("boolean") => "boolean".to_owned(),
        Some("null") => "null".to_owned(),
        Some("array") => format!("{}[]", kind(&member["items"], indent)),
        Some("object") => {
            let inner = member["properties"].as_object().filter(|all| !all.is_empty());
            let inner = inner.map_or_else(String::new, |all| members(all, &member["required"], indent + 2));
            format!("{{\n{inner}\n}}")
        }
        _ => "any".to_owned(),
    }
}
