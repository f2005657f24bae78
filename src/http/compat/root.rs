//! The usual paths of other servers. Where two of them meet on one, the body's own key says whose request it is; none of the
//! keys, or two, is an error.

use super::openai::unescaped;
use super::{
    Call, Dialect, IdLists, Key, answered, anthropic, cohere, google, litellm, llamacpp, ollama, openai,
    ovms, refuse, sglang, speak, target, tei, tgi, vllm, watsonx, xai,
};
use crate::http::decode::{Room, lossy};
use crate::http::problem::Problem;
use crate::http::reply::Made;
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;

/// The keys that tell dialects apart.
#[derive(Debug, Deserialize)]
struct Keys {
    prompt: Option<OneOrManyKey>,
    messages: Key,
    content: Key,
    inputs: Key,
    text: Option<OneOrManyKey>,
}

/// Whether a prompt or text is a list, of which it is enough to know the kind.
#[derive(Debug)]
enum OneOrManyKey {
    One,
    Many,
}

impl<'de> Deserialize<'de> for OneOrManyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kind;
        impl<'de> Visitor<'de> for Kind {
            type Value = OneOrManyKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<OneOrManyKey, E> {
                Ok(OneOrManyKey::One)
            }

            fn visit_i64<E>(self, _: i64) -> Result<OneOrManyKey, E> {
                Ok(OneOrManyKey::One)
            }

            fn visit_u64<E>(self, _: u64) -> Result<OneOrManyKey, E> {
                Ok(OneOrManyKey::One)
            }

            fn visit_f64<E>(self, _: f64) -> Result<OneOrManyKey, E> {
                Ok(OneOrManyKey::One)
            }

            fn visit_str<E>(self, _: &str) -> Result<OneOrManyKey, E> {
                Ok(OneOrManyKey::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrManyKey, A::Error> {
                IgnoredAny.visit_map(map)?;
                Ok(OneOrManyKey::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrManyKey, A::Error> {
                IgnoredAny.visit_seq(seq)?;
                Ok(OneOrManyKey::Many)
            }
        }
        deserializer.deserialize_any(Kind)
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

/// Tokenize as `SGLang`, Cohere, `LocalAI` or `OpenVINO`'s model server do.
///
/// `prompt` or `messages` is a request of `SGLang`'s, `text` one of Cohere's (a list of texts one of `OpenVINO`'s), `content` one of
/// `LocalAI`'s. The same is at `/compat/sglang/v1/tokenize`, `/compat/cohere/v1/tokenize`, `/compat/ovms/v1/tokenize` and
/// `/compat/localai/v1/tokenize`.
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
            ("content", keys.content.is_some()),
        ];
        let key = only(&there, "prompt, messages, text, content")?;
        Ok((key, matches!(keys.text, Some(OneOrManyKey::Many))))
    };
    match keys.await {
        Err(problem) => refuse(Dialect::Sglang, problem),
        Ok(("text", false)) => speak(Dialect::Cohere, cohere::tokenize(call).await),
        Ok(("text", true)) => speak(Dialect::Ovms, ovms::tokenize(call).await),
        Ok(("content", _)) => speak(Dialect::OpenAi, ollama::tokenize(call).await),
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
        let mut room = Room::of(&call.app);
        let work = move || {
            let mut text = |skip| lossy(&loaded.tokenizer, &ids, skip, "/tokens", &mut room);
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
    answered(Dialect::LlamaCpp, app, request, llamacpp::apply_template).await
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
    answered(Dialect::Anthropic, app, request, anthropic::count_tokens).await
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
    answered(Dialect::OpenAi, app, request, openai::input_tokens).await
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
    answered(Dialect::LiteLlm, app, request, litellm::token_counter).await
}

/// Render messages and tokenize the text as Text Generation Inference does.
#[utoipa::path(post, path = "/chat_tokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"messages": [{"role": "user", "content": "Hello"}]})),
    responses((status = 200, description = "`{tokenize_response, templated_text}`", body = Object),
        (status = "4XX", description = "Refused, as Text Generation Inference does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn chat_tokenize(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Tgi, app, request, tgi::chat_tokenize).await
}

/// Count the tokens of a chat completion as llama.cpp does.
#[utoipa::path(post, path = "/v1/chat/completions/input_tokens", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"messages": [{"role": "user", "content": "Hello"}]})),
    responses((status = 200, description = "`{object, input_tokens}`", body = Object),
        (status = "4XX", description = "Refused, as llama.cpp does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn chat_input_tokens(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::LlamaCpp, app, request, llamacpp::input_tokens).await
}

/// Tokenize a text as xAI does.
#[utoipa::path(post, path = "/v1/tokenize-text", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "text": "Hello"})),
    responses((status = 200, description = "`{token_ids}`", body = Object),
        (status = "4XX", description = "Refused, as xAI does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn tokenize_text(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Xai, app, request, xai::tokenize_text).await
}

/// Tokenize a text as watsonx does.
#[utoipa::path(post, path = "/ml/v1/text/tokenization", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model_id": "default", "input": "Hello", "parameters": {"return_tokens": true}})),
    responses((status = 200, description = "`{model_id, result}`", body = Object),
        (status = "4XX", description = "Refused, as watsonx does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn tokenization(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Watsonx, app, request, watsonx::tokenization).await
}

/// Tokenize as `OpenVINO`'s model server does.
#[utoipa::path(post, path = "/v3/tokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "text": "Hello"})),
    responses((status = 200, description = "`{tokens}`", body = Object),
        (status = "4XX", description = "Refused, as `OpenVINO`'s model server does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn v3_tokenize(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Ovms, app, request, ovms::tokenize).await
}

/// Tokenize as is proposed for Ollama.
#[utoipa::path(post, path = "/api/tokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "content": "Hello"})),
    responses((status = 200, description = "`{tokens}`", body = Object),
        (status = "4XX", description = "Refused, as Ollama does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn api_tokenize(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Ollama, app, request, ollama::tokenize).await
}

/// Detokenize as is proposed for Ollama.
#[utoipa::path(post, path = "/api/detokenize", tag = "compat",
    request_body(content = Object, content_type = "application/json", example = json!({"model": "default", "tokens": [72, 105]})),
    responses((status = 200, description = "`{content}`", body = Object),
        (status = "4XX", description = "Refused, as Ollama does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn api_detokenize(State(app): State<AppState>, request: Request) -> Response {
    answered(Dialect::Ollama, app, request, ollama::detokenize).await
}

/// Count the tokens of contents as Google does.
///
/// By the vocabulary's chat template; without one by the formula that is published for `OpenAI`'s models.
#[utoipa::path(post, path = "/v1/models/{*model}", tag = "compat", operation_id = "v1_count_tokens_of",
    params(("model" = String, Path, description = "The name of the model, and `:countTokens` behind it")),
    request_body(content = Object, content_type = "application/json", example = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]})),
    responses((status = 200, description = "`{totalTokens, promptTokensDetails}`", body = Object),
        (status = "4XX", description = "Refused, as Google does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn v1_count_tokens_of(State(app): State<AppState>, request: Request) -> Response {
    let path = request.uri().path();
    let model = path.split_once("/models/").and_then(|(_, call)| call.strip_suffix(":countTokens"));
    let model = model.map(unescaped);
    let made = async {
        let model = model.ok_or_else(Problem::unknown_route)?;
        google::count_tokens(Call::of(app, request).await?, &model).await
    };
    speak(Dialect::Google, made.await)
}

/// The same at the other version of that interface.
#[utoipa::path(post, path = "/v1beta/models/{call}", tag = "compat", operation_id = "v1beta_count_tokens_of",
    params(("call" = String, Path, description = "The name of the model, and `:countTokens` behind it")),
    request_body(content = Object, content_type = "application/json", example = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]})),
    responses((status = 200, description = "`{totalTokens, promptTokensDetails}`", body = Object),
        (status = "4XX", description = "Refused, as Google does it", body = Object),
        (status = "5XX", description = "Overloaded", body = Object)))]
pub(in crate::http) async fn v1beta_count_tokens_of(state: State<AppState>, request: Request) -> Response {
    v1_count_tokens_of(state, request).await
}
