//! The usual paths of other servers. Where two of them meet on one, the body's own key says whose request it is; none of the
//! keys, or two, is an error.

use super::OneOrMany;
use super::{
    Call, Dialect, IdLists, Key, anthropic, cohere, litellm, llamacpp, openai, refuse, sglang, speak, target,
    tei, vllm,
};
use crate::http::decode::lossy;
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

/// The keys that tell dialects apart.
#[derive(Debug, Deserialize)]
struct Keys {
    prompt: Option<OneOrManyKey>,
    messages: Key,
    content: Key,
    inputs: Key,
    text: Key,
}

/// Whether a prompt is a list, of which it is enough to know the kind.
#[derive(Debug)]
enum OneOrManyKey {
    One,
    Many,
}

impl<'de> Deserialize<'de> for OneOrManyKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match OneOrMany::<String>::deserialize(deserializer)? {
            OneOrMany::One(_) => Self::One,
            OneOrMany::Many(_) => Self::Many,
        })
    }
}

/// The one key of those that is there.
fn only<'k>(keys: &[(&'k str, bool)], known: &str) -> Result<&'k str, Problem> {
    let mut there = keys.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    match (there.next(), there.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(Problem::dialect(&format!("the body has none of the keys {known}"))),
        (Some(_), Some(_)) => Err(Problem::dialect(&format!(
            "the body has several of the keys {known}, of which one says whose request it is"
        ))),
    }
}

/// Tokenize as vLLM, `SGLang`, llama.cpp or TEI do.
///
/// `prompt` or `messages` is a request of vLLM's (a list of prompts one of `SGLang`'s), `content` one of llama.cpp's, `inputs` one of
/// TEI's. Request, answer and errors have the shape that the server in question has; the same is at `/compat/vllm/tokenize`,
/// `/compat/sglang/tokenize`, `/compat/llamacpp/tokenize` and `/compat/tei/tokenize`.
#[utoipa::path(post, path = "/tokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"prompt": "Hello"})),
    responses((status = 200, description = "As the server answers", body = Object),
        (status = "4XX", description = "Refused, as the server does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn tokenize(State(app): State<AppState>, request: Request) -> Response {
    let call = match Call::of(app, request).await {
        Ok(call) => call,
        Err(problem) => return refuse(Dialect::Vllm, problem),
    };
    let keys = async {
        let keys: Keys = call.read().await?;
        let there = [
            ("prompt", keys.prompt.is_some()),
            ("messages", keys.messages.is_some()),
            ("content", keys.content.is_some()),
            ("inputs", keys.inputs.is_some()),
        ];
        let key = only(&there, "prompt, messages, content, inputs")?;
        Ok((key, matches!(keys.prompt, Some(OneOrManyKey::Many))))
    };
    match keys.await {
        Err(problem) => refuse(Dialect::Vllm, problem),
        Ok(("content", _)) => speak(Dialect::LlamaCpp, llamacpp::tokenize(call).await),
        Ok(("inputs", _)) => speak(Dialect::Tei, tei::tokenize(call).await),
        Ok((_, true)) => speak(Dialect::Sglang, sglang::tokenize(call).await),
        Ok((_, false)) => speak(Dialect::Vllm, vllm::tokenize(call).await),
    }
}

/// Tokenize as `SGLang` or Cohere do.
///
/// `prompt` or `messages` is a request of `SGLang`'s, `text` one of Cohere's. The same is at `/compat/sglang/v1/tokenize` and
/// `/compat/cohere/v1/tokenize`.
#[utoipa::path(post, path = "/v1/tokenize", operation_id = "v1_tokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"text": "Hello"})),
    responses((status = 200, description = "As the server answers", body = Object),
        (status = "4XX", description = "Refused, as the server does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn v1_tokenize(State(app): State<AppState>, request: Request) -> Response {
    let call = match Call::of(app, request).await {
        Ok(call) => call,
        Err(problem) => return refuse(Dialect::Sglang, problem),
    };
    let keys = async {
        let keys: Keys = call.read().await?;
        let there = [
            ("prompt", keys.prompt.is_some()),
            ("messages", keys.messages.is_some()),
            ("text", keys.text.is_some()),
        ];
        only(&there, "prompt, messages, text")
    };
    match keys.await {
        Err(problem) => refuse(Dialect::Sglang, problem),
        Ok("text") => speak(Dialect::Cohere, cohere::tokenize(call).await),
        Ok(_) => speak(Dialect::Sglang, sglang::tokenize(call).await),
    }
}

#[derive(Debug, Deserialize)]
struct Detokenize {
    model: Option<String>,
    tokens: IdLists,
    skip_special_tokens: Option<bool>,
}

/// Detokenize as vLLM, llama.cpp and `SGLang` do.
///
/// The answer has the key of each: `prompt` (vLLM) and `content` (llama.cpp), which keep special tokens, and `text` (`SGLang`), which
/// leaves them out unless `skip_special_tokens` is false. A list of lists is `SGLang`'s alone.
#[utoipa::path(post, path = "/detokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"tokens": [72, 105]})),
    responses((status = 200, description = "The text, by each server's key", body = Object),
        (status = "4XX", description = "Refused, as vLLM does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn detokenize(State(app): State<AppState>, request: Request) -> Response {
    let made = async {
        let call = Call::of(app, request).await?;
        let request: Detokenize = call.read().await?;
        let skip = request.skip_special_tokens.unwrap_or(true);
        let loaded = call.vocabulary(sglang::named(request.model.as_deref())).await?;
        let (mut lists, many) = request.tokens.0.into_all();
        if many {
            return call.decoded(loaded, lists, skip, |texts| json!({ "text": texts })).await;
        }
        let ids = lists.pop().unwrap_or_default();
        let mut left = call.app.config.max_decoded_bytes;
        let work = move || {
            let mut text = |skip| lossy(&loaded.tokenizer, &ids, skip, "/tokens", &mut left);
            let (kept, skipped) = (text(false)?, text(skip)?);
            let body: Value = json!({"prompt": kept, "content": kept, "text": skipped});
            Ok::<_, Problem>(Made::by(&loaded.facts, &body))
        };
        call.app.cpu.run(call.body.len(), work).await?
    };
    speak(Dialect::Vllm, made.await)
}

/// Detokenize as `SGLang` and Cohere do.
#[utoipa::path(post, path = "/v1/detokenize", operation_id = "v1_detokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"tokens": [72, 105]})),
    responses((status = 200, description = "The text, and Cohere's `meta`", body = Object),
        (status = "4XX", description = "Refused, as `SGLang` does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn v1_detokenize(State(app): State<AppState>, request: Request) -> Response {
    let made = async {
        let call = Call::of(app, request).await?;
        let request: Detokenize = call.read().await?;
        let skip = request.skip_special_tokens.unwrap_or(true);
        let loaded = call.vocabulary(sglang::named(request.model.as_deref())).await?;
        let (lists, many) = request.tokens.0.into_all();
        let reply = move |mut texts: Vec<String>| {
            let text = if many { json!(texts) } else { json!(texts.pop()) };
            json!({"text": text, "meta": cohere::meta()})
        };
        call.decoded(loaded, lists, skip, reply).await
    };
    speak(Dialect::Sglang, made.await)
}

/// What the tokenizer is, as vLLM tells it.
///
/// The vocabulary's `tokenizer_config.json`; of the model that the query field `model` names, if it does.
#[utoipa::path(get, path = "/tokenizer_info", tag = "compat",
    params(("model" = Option<String>, Query, description = "A model or a vocabulary")),
    responses((status = 200, description = "The configuration", body = Object),
        (status = "4XX", description = "Refused, as vLLM does it", body = Object)))]
pub(in crate::http) async fn tokenizer_info(State(app): State<AppState>, request: Request) -> Response {
    speak(Dialect::Vllm, vllm::tokenizer_info(app, target(&request)).await)
}

/// Render messages as llama.cpp does.
#[utoipa::path(post, path = "/apply-template", tag = "compat",
    request_body(content = Object, content_type = "application/json",
        example = json!({"messages": [{"role": "user", "content": "Hello"}]})),
    responses((status = 200, description = "`{prompt}`", body = Object),
        (status = "4XX", description = "Refused, as llama.cpp does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn apply_template(State(app): State<AppState>, request: Request) -> Response {
    let made = async { llamacpp::apply_template(Call::of(app, request).await?).await };
    speak(Dialect::LlamaCpp, made.await)
}

/// Count the tokens of messages as Anthropic does.
///
/// By the vocabulary's chat template; without one by the formula that is published for `OpenAI`'s models.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "compat",
    request_body(content = Object, content_type = "application/json",
        example = json!({"model": "default", "messages": [{"role": "user", "content": "Hello"}]})),
    responses((status = 200, description = "`{input_tokens}`", body = Object),
        (status = "4XX", description = "Refused, as Anthropic does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn count_tokens(State(app): State<AppState>, request: Request) -> Response {
    let made = async { anthropic::count_tokens(Call::of(app, request).await?).await };
    speak(Dialect::Anthropic, made.await)
}

/// Count the tokens of an input as `OpenAI` does.
///
/// By the vocabulary's chat template; without one by the formula that is published for `OpenAI`'s models.
#[utoipa::path(post, path = "/v1/responses/input_tokens", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "input": "Hello"})),
    responses((status = 200, description = "`{object, input_tokens}`", body = Object),
        (status = "4XX", description = "Refused, as `OpenAI` does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn input_tokens(State(app): State<AppState>, request: Request) -> Response {
    let made = async { openai::input_tokens(Call::of(app, request).await?).await };
    speak(Dialect::OpenAi, made.await)
}

/// Models as `OpenAI` lists them.
///
/// The vocabularies, and the names of models that the setting `models` has.
#[utoipa::path(get, path = "/v1/models", tag = "compat", operation_id = "v1_models",
    responses((status = 200, description = "`{object, data}`", body = Object)))]
pub(in crate::http) async fn models(State(app): State<AppState>, request: Request) -> Response {
    speak(Dialect::OpenAi, openai::models(app, target(&request)).await)
}

/// A model as `OpenAI` tells of it.
#[utoipa::path(get, path = "/v1/models/{*model}", tag = "compat", operation_id = "v1_model",
    params(("model" = String, Path, description = "Its name, which may have slashes")),
    responses((status = 200, description = "`{id, object, created, owned_by}`", body = Object),
        (status = "4XX", description = "There is none, as `OpenAI` says it", body = Object)))]
pub(in crate::http) async fn model(State(app): State<AppState>, request: Request) -> Response {
    speak(Dialect::OpenAi, openai::model(app, target(&request)).await)
}

/// Count tokens as `LiteLLM`'s proxy does.
#[utoipa::path(post, path = "/utils/token_counter", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "prompt": "Hello"})),
    responses((status = 200, description = "`{total_tokens, request_model, model_used, tokenizer_type}`", body = Object),
        (status = "4XX", description = "Refused, as `LiteLLM` does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn token_counter(State(app): State<AppState>, request: Request) -> Response {
    let made = async { litellm::token_counter(Call::of(app, request).await?).await };
    speak(Dialect::LiteLlm, made.await)
}
