//! Routes of other servers, so that their clients only change their host. Requests and answers have the shapes of those
//! servers' own code, errors too; unknown fields are passed over as they do it. Each lives under `/compat/NAME`; on the usual
//! paths the body's own key says whose request it is.

use super::decode::{Room, lossy};
use super::encode::with_scratch;
use super::extract::list::{self, TEXTS, limits, within};
use super::extract::{json, whole};
use super::problem::Problem;
use super::reply::{Made, check_if_match};
use super::state::AppState;
use crate::engine::{
    EncodeOptions, Encoding, OffsetUnit, OnSpecial, SpecialPolicy, TokenId, Tokenizer, spell,
};
use crate::registry::{Loaded, VocabRef};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use serde::Serialize;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

mod anthropic;
mod cohere;
mod counting;
mod google;
mod litellm;
mod llamacpp;
mod ollama;
mod openai;
mod ovms;
pub(super) mod root;
mod sglang;
mod tei;
mod tgi;
mod vllm;
mod watsonx;
mod xai;

/// Whose requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Vllm,
    Sglang,
    Tei,
    LlamaCpp,
    Cohere,
    Anthropic,
    OpenAi,
    LiteLlm,
    Tgi,
    Ovms,
    Ollama,
    Google,
    Watsonx,
    Xai,
}

impl Dialect {
    /// Whose route it is, for errors that come before its body is read. Where several meet on one, it is the one whose errors
    /// that route tells anyway.
    pub(super) fn of_route(method: &Method, route: &str) -> Option<Self> {
        let own = |name: &str| {
            Some(match name {
                "vllm" => Self::Vllm,
                "sglang" => Self::Sglang,
                "tei" => Self::Tei,
                "llamacpp" => Self::LlamaCpp,
                "cohere" => Self::Cohere,
                "anthropic" => Self::Anthropic,
                "openai" => Self::OpenAi,
                "litellm" => Self::LiteLlm,
                "tgi" => Self::Tgi,
                "ovms" => Self::Ovms,
                "ollama" => Self::Ollama,
                "localai" => Self::OpenAi,
                "watsonx" => Self::Watsonx,
                "xai" => Self::Xai,
                _ => return None,
            })
        };
        match route {
            "/tokenize" | "/detokenize" | "/tokenizer_info" => Some(Self::Vllm),
            "/v1/tokenize" | "/v1/detokenize" => Some(Self::Sglang),
            "/apply-template" | "/v1/chat/completions/input_tokens" => Some(Self::LlamaCpp),
            "/v1/messages/count_tokens" => Some(Self::Anthropic),
            "/v1/responses/input_tokens" => Some(Self::OpenAi),
            "/utils/token_counter" => Some(Self::LiteLlm),
            "/chat_tokenize" => Some(Self::Tgi),
            "/v3/tokenize" => Some(Self::Ovms),
            "/api/tokenize" | "/api/detokenize" => Some(Self::Ollama),
            "/v1beta/models/{call}" => Some(Self::Google),
            "/v1/models/{*model}" if method == Method::POST => Some(Self::Google),
            "/ml/v1/text/tokenization" => Some(Self::Watsonx),
            "/v1/tokenize-text" => Some(Self::Xai),
            _ if route.starts_with("/compat/google") => Some(Self::Google),
            _ if route.ends_with("/v1/models") || route.ends_with("/v1/models/{*model}") => {
                Some(Self::OpenAi)
            }
            _ => own(route.strip_prefix("/compat/")?.split('/').next()?),
        }
    }

    /// An error as the server of the dialect tells it: its status and its body.
    pub(super) fn error(self, problem: &Problem, request_id: &str) -> (u16, Value) {
        match self {
            Self::Vllm => vllm::error(problem),
            Self::Sglang => sglang::error(problem),
            Self::Tei => tei::error(problem),
            Self::LlamaCpp => llamacpp::error(problem),
            Self::Cohere => cohere::error(problem, request_id),
            Self::Anthropic => anthropic::error(problem, request_id),
            Self::OpenAi => openai::error(problem),
            Self::LiteLlm => litellm::error(problem),
            Self::Tgi => tgi::error(problem),
            Self::Ovms => ovms::error(problem),
            Self::Ollama => ollama::error(problem),
            Self::Google => google::error(problem),
            Self::Watsonx => watsonx::error(problem, request_id),
            Self::Xai => xai::error(problem),
        }
    }
}

/// Every route under `/compat`. The document describes them where they stand on their usual paths.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/compat/vllm/tokenize", asked(Dialect::Vllm, vllm::tokenize))
        .route("/compat/vllm/detokenize", asked(Dialect::Vllm, vllm::detokenize))
        .route("/compat/vllm/tokenizer_info", looked(Dialect::Vllm, vllm::tokenizer_info))
        .route("/compat/vllm/v1/models", looked(Dialect::OpenAi, openai::models))
        .route("/compat/sglang/tokenize", asked(Dialect::Sglang, sglang::tokenize))
        .route("/compat/sglang/detokenize", asked(Dialect::Sglang, sglang::detokenize))
        .route("/compat/sglang/v1/tokenize", asked(Dialect::Sglang, sglang::tokenize))
        .route("/compat/sglang/v1/detokenize", asked(Dialect::Sglang, sglang::detokenize))
        .route("/compat/sglang/v1/models", looked(Dialect::OpenAi, openai::models))
        .route("/compat/tei/tokenize", asked(Dialect::Tei, tei::tokenize))
        .route("/compat/tei/decode", asked(Dialect::Tei, tei::decode))
        .route("/compat/tei/info", looked(Dialect::Tei, tei::info))
        .route("/compat/llamacpp/tokenize", asked(Dialect::LlamaCpp, llamacpp::tokenize))
        .route("/compat/llamacpp/detokenize", asked(Dialect::LlamaCpp, llamacpp::detokenize))
        .route("/compat/llamacpp/apply-template", asked(Dialect::LlamaCpp, llamacpp::apply_template))
        .route(
            "/compat/llamacpp/v1/chat/completions/input_tokens",
            asked(Dialect::LlamaCpp, llamacpp::input_tokens),
        )
        .route("/compat/llamacpp/v1/responses/input_tokens", asked(Dialect::LlamaCpp, openai::input_tokens))
        .route("/compat/llamacpp/v1/messages/count_tokens", asked(Dialect::LlamaCpp, anthropic::count_tokens))
        .route("/compat/llamacpp/v1/models", looked(Dialect::OpenAi, openai::models))
        .route("/compat/cohere/v1/tokenize", asked(Dialect::Cohere, cohere::tokenize))
        .route("/compat/cohere/v1/detokenize", asked(Dialect::Cohere, cohere::detokenize))
        .route(
            "/compat/anthropic/v1/messages/count_tokens",
            asked(Dialect::Anthropic, anthropic::count_tokens),
        )
        .route("/compat/openai/v1/responses/input_tokens", asked(Dialect::OpenAi, openai::input_tokens))
        .route("/compat/openai/v1/models", looked(Dialect::OpenAi, openai::models))
        .route("/compat/openai/v1/models/{*model}", looked(Dialect::OpenAi, openai::model))
        .route("/compat/litellm/utils/token_counter", asked(Dialect::LiteLlm, litellm::token_counter))
        .route("/compat/tgi/tokenize", asked(Dialect::Tgi, tgi::tokenize))
        .route("/compat/tgi/chat_tokenize", asked(Dialect::Tgi, tgi::chat_tokenize))
        .route("/compat/ovms/v1/tokenize", asked(Dialect::Ovms, ovms::tokenize))
        .route("/compat/ovms/v3/tokenize", asked(Dialect::Ovms, ovms::tokenize))
        .route("/compat/ollama/api/tokenize", asked(Dialect::Ollama, ollama::tokenize))
        .route("/compat/ollama/api/detokenize", asked(Dialect::Ollama, ollama::detokenize))
        .route("/compat/localai/v1/tokenize", asked(Dialect::OpenAi, ollama::tokenize))
        .route("/compat/google/v1/models/{*model}", post(root::v1_count_tokens_of))
        .route("/compat/google/v1beta/models/{call}", post(root::v1beta_count_tokens_of))
        .route("/compat/watsonx/ml/v1/text/tokenization", asked(Dialect::Watsonx, watsonx::tokenization))
        .route("/compat/xai/v1/tokenize-text", asked(Dialect::Xai, xai::tokenize_text))
}

/// A route whose body says what is asked.
fn asked<F, Fut>(dialect: Dialect, answer: F) -> MethodRouter<AppState>
where
    F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Made, Problem>> + Send,
{
    post(async move |State(app): State<AppState>, request: Request| {
        answered(dialect, app, request, &answer).await
    })
}

/// What `answer` makes of a request, or its error in the dialect's shape.
async fn answered<Fut>(
    dialect: Dialect,
    app: AppState,
    request: Request,
    answer: impl FnOnce(Call) -> Fut,
) -> Response
where
    Fut: Future<Output = Result<Made, Problem>>,
{
    let made = async { answer(Call::of(app, request).await?).await };
    speak(dialect, made.await)
}

/// A route that is only looked at.
fn looked<F, Fut>(dialect: Dialect, answer: F) -> MethodRouter<AppState>
where
    F: Fn(AppState, String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Problem>> + Send,
{
    get(async move |State(app): State<AppState>, request: Request| {
        speak(dialect, answer(app, target(&request)).await)
    })
}

/// Path and query of a request as they came.
fn target(request: &Request) -> String {
    request.uri().path_and_query().map_or_else(String::new, ToString::to_string)
}

/// An answer, or an error in the dialect's shape.
fn speak(dialect: Dialect, answer: Result<impl IntoResponse, Problem>) -> Response {
    match answer {
        Ok(answer) => answer.into_response(),
        Err(problem) => refuse(dialect, problem),
    }
}

fn refuse(dialect: Dialect, problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.extensions_mut().insert(dialect);
    response
}

/// A request of a dialect.
#[derive(Debug)]
struct Call {
    app: AppState,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    async fn of(app: AppState, request: Request) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let body = whole(request, &app).await?;
        Ok(Self { app, headers, body })
    }

    /// The body as an object that may have more members than these.
    async fn read<T: DeserializeOwned + Send + 'static>(&self) -> Result<T, Problem> {
        let (body, limits) = (self.body.clone(), limits(&self.app.config));
        self.app.cpu.run(body.len(), move || within(limits, || json::parse(&body))).await?
    }

    /// The vocabulary of a model.
    async fn vocabulary(&self, model: Option<&str>) -> Result<Arc<Loaded>, Problem> {
        let loaded = vocabulary(&self.app, model).await?;
        check_if_match(&self.headers, &loaded.facts)?;
        Ok(loaded)
    }

    /// Encodes texts and answers with what `reply` makes of them, all off the async threads where that is long work.
    async fn encoded<T: Serialize>(
        &self,
        loaded: Arc<Loaded>,
        texts: Vec<String>,
        how: How,
        reply: impl FnOnce(&Loaded, &[String], &[Encoding]) -> T + Send + 'static,
    ) -> Result<Made, Problem> {
        let bytes: usize = texts.iter().map(String::len).sum();
        let vocab = self.app.metrics.vocab(loaded.facts.name.as_str());
        let work = move || {
            let encodings = encode(&loaded.tokenizer, &texts, how)?;
            let tokens: usize = encodings.iter().map(|e| e.ids.len()).sum();
            Ok::<_, Problem>((Made::by(&loaded.facts, &reply(&loaded, &texts, &encodings)), tokens))
        };
        let (made, tokens) = self.app.cpu.run(bytes + 64, work).await??;
        vocab.encoded(bytes as u64, tokens as u64);
        Ok(made)
    }

    /// Decodes sequences of ids and answers with what `reply` makes of their texts.
    async fn decoded<T: Serialize>(
        &self,
        loaded: Arc<Loaded>,
        sequences: Vec<Vec<TokenId>>,
        skip_special: bool,
        reply: impl FnOnce(Vec<String>) -> T + Send + 'static,
    ) -> Result<Made, Problem> {
        let tokens: usize = sequences.iter().map(Vec::len).sum();
        let vocab = self.app.metrics.vocab(loaded.facts.name.as_str());
        let mut room = Room::of(&self.app);
        let work = move || {
            let texts =
                sequences.iter().map(|ids| lossy(&loaded.tokenizer, ids, skip_special, "/tokens", &mut room));
            Ok::<_, Problem>(Made::by(&loaded.facts, &reply(texts.collect::<Result<_, _>>()?)))
        };
        let made = self.app.cpu.run(tokens * 8, work).await??;
        vocab.decoded(tokens as u64);
        Ok(made)
    }
}

/// How a dialect encodes texts.
#[derive(Debug, Clone, Copy)]
struct How {
    add_special: bool,
    /// Whether the names of special tokens in texts are those tokens.
    parse_special: bool,
    offsets: Option<OffsetUnit>,
    /// The field that the texts are in.
    pointer: &'static str,
}

fn encode(tokenizer: &Tokenizer, texts: &[String], how: How) -> Result<Vec<Encoding>, Problem> {
    let others = if how.parse_special { OnSpecial::Parse } else { OnSpecial::Text };
    let options = EncodeOptions {
        special: SpecialPolicy { others, ..SpecialPolicy::default() },
        add_special: how.add_special,
        offsets: how.offsets,
        ..EncodeOptions::default()
    };
    let failed = |e| Problem::encode(how.pointer, &e);
    let matcher = tokenizer.matcher(&options.special).map_err(|e| failed(e.into()))?;
    with_scratch(|scratch| {
        let all = texts.iter().map(|text| tokenizer.encode_matched(text, &matcher, &options, scratch));
        all.collect::<Result<_, _>>().map_err(failed)
    })
}

/// The vocabulary of a model: by the setting `models`, else by its own name; the default one where no model is named.
async fn vocabulary(app: &AppState, model: Option<&str>) -> Result<Arc<Loaded>, Problem> {
    let Some(model) = model.filter(|model| !model.is_empty()) else {
        return Ok(app.registry.resolve(None).await?);
    };
    let name = app.config.vocab_of_model(model).unwrap_or(model);
    let wanted: VocabRef = name.parse().map_err(|_| Problem::unknown_model())?;
    app.registry.resolve(Some(&wanted)).await.map_err(|error| match Problem::from(error) {
        problem if problem.status() == axum::http::StatusCode::NOT_FOUND => Problem::unknown_model(),
        problem => problem,
    })
}

/// A token as the vocabulary's file spells it (`Ġworld`, `▁world`, `<0x0A>`): what transformers calls a token.
fn spelt(tokenizer: &Tokenizer, id: TokenId) -> String {
    let bytes = tokenizer.vocab().bytes(id).unwrap_or_default();
    if tokenizer.model().is_byte_level() && tokenizer.vocab().is_ordinary(id) {
        spell(bytes)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// The name of the field that a problem is about, for shapes with a place for it.
fn param(problem: &Problem) -> Option<String> {
    let pointer = problem.pointer()?.trim_start_matches('/');
    (!pointer.is_empty()).then(|| pointer.replace('/', "."))
}

/// What is wrong, in one sentence with the field.
fn message(problem: &Problem) -> String {
    match param(problem) {
        Some(field) => format!("{field}: {}", problem.detail()),
        None => problem.detail().to_owned(),
    }
}

/// The status that servers have which know no 422.
fn status(problem: &Problem) -> u16 {
    match problem.status().as_u16() {
        406 | 412 | 415 | 422 => 400,
        status => status,
    }
}

/// A value, or an array of such.
#[derive(Debug, Clone, PartialEq)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them, and whether they came as an array.
    fn into_all(self) -> (Vec<T>, bool) {
        match self {
            Self::One(one) => (vec![one], false),
            Self::Many(many) => (many, true),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                list::rest(Vec::new(), seq, list::most(TEXTS)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// A sequence of ids, or an array of such: told apart by the first entry.
#[derive(Debug, Clone, PartialEq)]
struct IdLists(OneOrMany<Vec<TokenId>>);

impl<'de> Deserialize<'de> for IdLists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = IdLists;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of ids, or of arrays of ids")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<IdLists, A::Error> {
                Ok(IdLists(match seq.next_element()? {
                    None => OneOrMany::One(Vec::new()),
                    Some(First::Id(id)) => OneOrMany::One(list::rest(vec![id], seq, usize::MAX)?),
                    Some(First::Ids(ids)) => OneOrMany::Many(list::rest(vec![ids], seq, list::most(TEXTS))?),
                }))
            }
        }
        deserializer.deserialize_seq(Lists)
    }
}

/// The first entry of [`IdLists`].
enum First {
    Id(TokenId),
    Ids(Vec<TokenId>),
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 4294967295 or an array of such")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<First, E> {
                let id = u32::try_from(id);
                id.map(First::Id).map_err(|_| E::invalid_value(de::Unexpected::Other("number"), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(First::Ids)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Whether a key is there and not null.
type Key = Option<IgnoredAny>;
