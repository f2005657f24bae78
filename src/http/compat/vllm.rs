//! vLLM: `/tokenize`, `/detokenize`, `/tokenizer_info` (`vllm/entrypoints/serve/tokenize`). Token strings are as the
//! vocabulary's file spells them; special tokens in a prompt are always those tokens, as transformers has it.

use super::super::chat::{Asked, parts};
use super::{Call, How, message, param, spelt, status, vocabulary};
use crate::chat::Json;
use crate::engine::{Encoding, TokenId};
use crate::formats::hf;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::http::state::AppState;
use crate::registry::Loaded;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A prompt, or messages.
#[derive(Debug, Deserialize)]
struct Tokenize {
    model: Option<String>,
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
}

/// Messages with what their template takes.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizeChat {
    pub(super) model: Option<String>,
    pub(super) messages: Vec<Json>,
    pub(super) tools: Option<Vec<Json>>,
    pub(super) add_generation_prompt: Option<bool>,
    pub(super) continue_final_message: Option<bool>,
    pub(super) chat_template: Option<String>,
    pub(super) chat_template_kwargs: Option<Json>,
    pub(super) add_special_tokens: Option<bool>,
    pub(super) return_token_strs: Option<bool>,
}

/// Ids to decode.
#[derive(Debug, Deserialize)]
struct Detokenize {
    model: Option<String>,
    tokens: Vec<TokenId>,
}

/// What transformers has for a length that nobody states.
pub(super) const NO_LENGTH: i64 = -1;

/// Encoded text.
#[derive(Debug, Serialize)]
pub(super) struct Tokenized {
    count: usize,
    max_model_len: i64,
    tokens: Vec<TokenId>,
    /// Null unless asked for: the server writes what is not there.
    token_strs: Option<Vec<String>>,
}

impl Tokenized {
    pub(super) fn of(loaded: &Loaded, encoding: &Encoding, strings: bool) -> Self {
        let spelt = |id: &TokenId| spelt(&loaded.tokenizer, *id);
        Self {
            count: encoding.ids.len(),
            max_model_len: NO_LENGTH,
            tokens: encoding.ids.clone(),
            token_strs: strings.then(|| encoding.ids.iter().map(spelt).collect()),
        }
    }
}

pub(super) async fn tokenize(call: Call) -> Result<Made, Problem> {
    let request: Tokenize = call.read().await?;
    let Some(prompt) = request.prompt else {
        let request: TokenizeChat = call.read().await?;
        return tokenize_chat(call, request).await;
    };
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    let how = How {
        add_special: request.add_special_tokens.unwrap_or(true),
        parse_special: true,
        offsets: None,
        pointer: "/prompt",
    };
    let strings = request.return_token_strs.unwrap_or(false);
    let reply =
        move |loaded: &Loaded, _: &[String], all: &[Encoding]| Tokenized::of(loaded, &all[0], strings);
    call.encoded(loaded, vec![prompt], how, reply).await
}

async fn tokenize_chat(call: Call, request: TokenizeChat) -> Result<Made, Problem> {
    let (add_special, strings) = (request.add_special_tokens, request.return_token_strs);
    let (loaded, text) = rendered(&call, request).await?;
    let how = How {
        add_special: add_special.unwrap_or(false),
        parse_special: true,
        offsets: None,
        pointer: "/messages",
    };
    let strings = strings.unwrap_or(false);
    let reply =
        move |loaded: &Loaded, _: &[String], all: &[Encoding]| Tokenized::of(loaded, &all[0], strings);
    call.encoded(loaded, vec![text], how, reply).await
}

/// The text that messages become, and the vocabulary whose template made it.
pub(super) async fn rendered(
    call: &Call,
    request: TokenizeChat,
) -> Result<(std::sync::Arc<Loaded>, String), Problem> {
    let continues = request.continue_final_message.unwrap_or(false);
    if continues && request.add_generation_prompt == Some(true) {
        let both = "cannot be true together with continue_final_message";
        return Err(Problem::invalid("/add_generation_prompt", both));
    }
    let mut asked = Asked {
        parts: parts(
            (request.messages, request.tools, None),
            (request.add_generation_prompt, continues),
            request.chat_template_kwargs,
        )?,
        template: request.chat_template,
        any_template: call.app.config.allow_chat_template,
    };
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    asked.join_texts_for(&loaded.tokenizer);
    let with = std::sync::Arc::clone(&loaded);
    let text =
        call.app.cpu.run_elsewhere(call.body.len(), move || asked.render(&with.tokenizer, None)).await??;
    Ok((loaded, text.text))
}

pub(super) async fn detokenize(call: Call) -> Result<Made, Problem> {
    let request: Detokenize = call.read().await?;
    let loaded = call.vocabulary(request.model.as_deref()).await?;
    call.decoded(loaded, vec![request.tokens], false, |mut texts| json!({"prompt": texts.pop()})).await
}

pub(super) async fn tokenizer_info(app: AppState, target: String) -> Result<Response, Problem> {
    let model = super::openai::query_model(&target);
    let loaded = vocabulary(&app, model.as_deref()).await?;
    let body = hf::write_config(&loaded.tokenizer);
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

pub(super) fn error(problem: &Problem) -> (u16, Value) {
    let status = status(problem);
    let kind = match status {
        404 => "NotFoundError",
        429 | 503 => "ServiceUnavailableError",
        500.. => "InternalServerError",
        _ => "BadRequestError",
    };
    let error = json!({"message": message(problem), "type": kind, "param": param(problem), "code": status});
    (status, json!({ "error": error }))
}
