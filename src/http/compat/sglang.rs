//! `SGLang`: `/v1/tokenize`, `/v1/detokenize` (`sglang/srt/entrypoints/openai/serving_tokenize.py`). A list of prompts is
//! answered with lists, of ids and of counts.

use super::vllm::{NO_LENGTH, TokenizeChat, rendered};
use super::{Call, How, IdLists, Key, OneOrMany, message, param, status};
use crate::engine::Encoding;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::registry::Loaded;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Tokenize {
    model: Option<String>,
    prompt: Option<OneOrMany<String>>,
    messages: Key,
    add_special_tokens: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    model: Option<String>,
    tokens: IdLists,
    skip_special_tokens: Option<bool>,
}

/// What the server takes for no name: its default.
pub(super) fn named(model: Option<&str>) -> Option<&str> {
    model.filter(|model| *model != "default")
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let how = How {
        add_special: request.add_special_tokens.unwrap_or(true),
        parse_special: true,
        offsets: None,
        pointer: "/prompt",
    };
    let (loaded, texts, many) = match (request.prompt, request.messages) {
        (Some(prompt), None) => {
            let (texts, many) = prompt.into_all();
            (call.vocabulary(named(request.model.as_deref())).await?, texts, many)
        }
        (None, Some(_)) => {
            let mut chat: TokenizeChat = call.read().await?;
            chat.model = named(chat.model.as_deref()).map(str::to_owned);
            let (loaded, text) = rendered(&call, chat).await?;
            // The template has written them already.
            let how = How { add_special: false, pointer: "/messages", ..how };
            return call.encoded(loaded, vec![text], how, one).await;
        }
        _ => return Err(Problem::invalid("", "needs exactly one of prompt and messages")),
    };
    if !many {
        return call.encoded(loaded, texts, how, one).await;
    }
    let lists = |_: &Loaded, _: &[String], all: &[Encoding]| {
        let tokens: Vec<_> = all.iter().map(|e| &e.ids).collect();
        let counts: Vec<_> = all.iter().map(|e| e.ids.len()).collect();
        json!({"tokens": tokens, "count": counts, "max_model_len": NO_LENGTH})
    };
    call.encoded(loaded, texts, how, lists).await
}

fn one(_: &Loaded, _: &[String], all: &[Encoding]) -> Value {
    json!({"tokens": all[0].ids, "count": all[0].ids.len(), "max_model_len": NO_LENGTH})
}

pub(super) async fn detokenize(call: Call) -> Result<Made, Problem> {
    let request: Detokenize = call.read().await?;
    let loaded = call.vocabulary(named(request.model.as_deref())).await?;
    let (lists, many) = request.tokens.0.into_all();
    let skip = request.skip_special_tokens.unwrap_or(true);
    call.decoded(loaded, lists, skip, move |mut texts| {
        if many { json!({ "text": texts }) } else { json!({"text": texts.pop()}) }
    })
    .await
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = status(problem);
    let kind = match status {
        404 => "NotFoundError",
        500.. => "InternalServerError",
        _ => "BadRequestError",
    };
    let error = json!({
        "object": "error", "message": message(problem), "type": kind, "param": param(problem), "code": status,
    });
    (status, error)
}
