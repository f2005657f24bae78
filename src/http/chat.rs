//! `/chat/render`, `/chat/encode`: messages to the text that a model reads, and to its ids.

use super::encode::answer::{Bytes, Offsets, Tokens};
use super::encode::{
    OffsetUnitName, Parts, Return, Side, at_least_one, check_packed, default_return, keep, unit, with_scratch,
};
use super::extract::{Payload, announced_length, packed};
use super::media::{OBJECTS, OBJECTS_OR_IDS, Width};
use super::openapi::PackedBody;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, Ask, Made, Maker, json::Object};
use super::state::AppState;
use super::wanted::wanted;
use crate::chat::{Chat, ChatParts, Json, Rendered, Wanted, is_object, reads_parts, render};
use crate::engine::{EncodeOptions, Encoding, OnSpecial, SpecialPolicy, TokenId, Tokenizer};
use crate::registry::Loaded;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Messages to render.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRenderRequest {
    /// The messages, at least one. Templates see every key of them. Contents are strings, null or arrays of parts; parts
    /// that are no text are refused.
    #[schema(value_type = Vec<Object>, min_items = 1, example = json!([{"role": "user", "content": "Hello!"}]))]
    messages: Vec<Json>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Tools that the model may call, as JSON schemas.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Json>>,
    /// Documents to answer from.
    #[schema(value_type = Option<Vec<Object>>)]
    documents: Option<Vec<Json>>,
    /// End the text where the model's answer begins. True unless `continue_final_message` is set.
    #[schema(default = true)]
    add_generation_prompt: Option<bool>,
    /// End the text inside the last message, for the model to go on with it.
    #[serde(default)]
    #[schema(default = false)]
    continue_final_message: bool,
    /// The name of one of the vocabulary's templates; or, where the setting `allow_chat_template` is on, a template.
    chat_template: Option<String>,
    /// Further variables for the template, such as `enable_thinking`.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Json>,
}

/// Messages to render and encode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatEncodeRequest {
    /// The messages, at least one. Templates see every key of them. Contents are strings, null or arrays of parts; parts
    /// that are no text are refused.
    #[schema(value_type = Vec<Object>, min_items = 1, example = json!([{"role": "user", "content": "Hello!"}]))]
    messages: Vec<Json>,
    /// The vocabulary: `name`, `name@3` or `name@alias`. Without it the default one.
    vocab: Option<String>,
    /// The same as `vocab`; only one of the two may be given.
    model: Option<String>,
    /// Tools that the model may call, as JSON schemas.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Json>>,
    /// Documents to answer from.
    #[schema(value_type = Option<Vec<Object>>)]
    documents: Option<Vec<Json>>,
    /// End the text where the model's answer begins. True unless `continue_final_message` is set.
    #[schema(default = true)]
    add_generation_prompt: Option<bool>,
    /// End the text inside the last message, for the model to go on with it.
    #[serde(default)]
    #[schema(default = false)]
    continue_final_message: bool,
    /// The name of one of the vocabulary's templates; or, where the setting `allow_chat_template` is on, a template.
    chat_template: Option<String>,
    /// Further variables for the template, such as `enable_thinking`.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Json>,
    /// What the names of special tokens inside messages, tools, documents and variables mean: the tokens, or plain text.
    /// Those that the template writes are tokens in any case.
    #[serde(default)]
    #[schema(default = json!("parse"))]
    content_special: ContentSpecial,
    /// Add the tokens that the vocabulary puts around a text (such as BOS). Templates write them themselves.
    #[serde(default)]
    #[schema(default = false)]
    add_special_tokens: bool,
    /// What to answer beside `count` and `text`: ids, tokens as text, their bytes in base64, offsets in `text`.
    #[serde(default = "default_return", rename = "return")]
    #[schema(default = json!(["ids"]))]
    wanted: Vec<Return>,
    /// The unit of offsets: UTF-8 bytes, Unicode scalar values, or UTF-16 code units.
    #[serde(default)]
    #[schema(default = json!("byte"))]
    offset_unit: OffsetUnitName,
    /// At most so many tokens, at least 1.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// The end that is cut off when there are more.
    #[serde(default)]
    #[schema(default = json!("right"))]
    truncation_side: Side,
}

/// What the name of a special token inside a message means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ContentSpecial {
    /// The special token, as in the reference implementation.
    #[default]
    Parse,
    /// Plain text.
    Text,
}

/// A rendered text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatRenderReply {
    /// The version whose template made this.
    vocab: Maker,
    /// The text.
    text: String,
}

/// A rendered text and its tokens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatEncodeReply)]
pub(super) struct ChatEncodeReply<'a> {
    /// The version that made this.
    vocab: Maker,
    /// Number of tokens answered.
    count: usize,
    /// Token ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<u32>, required = false)]
    ids: Option<&'a [TokenId]>,
    /// Tokens as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    tokens: Option<Tokens<'a>>,
    /// Tokens as base64 of their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    bytes_b64: Option<Bytes<'a>>,
    /// Start and end of each token in `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<[usize; 2]>, required = false)]
    offsets: Option<Offsets<'a>>,
    /// The rendered text, whole.
    text: &'a str,
    /// Whether `max_tokens` cut something off.
    truncated: bool,
}

impl Answer for ChatRenderReply {}

impl Answer for ChatEncodeReply<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let Self { ids, tokens, bytes_b64, offsets, .. } = self;
        let mut object = Object::begin(out);
        object.raw("vocab", &self.vocab.0.told.json);
        object.value("count", &self.count);
        Parts { ids: *ids, tokens: *tokens, bytes_b64: *bytes_b64, offsets: *offsets }
            .write_json(&mut object);
        object.value("text", &self.text);
        object.value("truncated", &self.truncated);
        object.end();
    }

    fn write_packed(&self, width: Width, out: &mut Vec<u8>) {
        packed::write(self.ids.unwrap_or_default(), width, out);
    }

    fn truncated(&self) -> bool {
        self.truncated
    }
}

/// Render messages with the vocabulary's chat template.
#[utoipa::path(post, path = "/chat/render", tag = "chat", 
    request_body(content((ChatRenderRequest = "application/json"), (ChatRenderRequest = "application/msgpack"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The text",
        content((ChatRenderReply = "application/json"), (ChatRenderReply = "application/msgpack")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn chat_render(
    State(app): State<AppState>,
    ask: Ask,
    headers: HeaderMap,
    Payload(request): Payload<ChatRenderRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let asked = Asked {
        parts: parts(
            (request.messages, request.tools, request.documents),
            (request.add_generation_prompt, request.continue_final_message),
            request.chat_template_kwargs,
        )?,
        template: request.chat_template,
        any_template: app.config.allow_chat_template,
    };
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS)?;
    app.cpu
        .run_elsewhere(body_bytes(&headers), move || {
            let text = asked.render(&loaded.tokenizer, None)?.text;
            let reply = ChatRenderReply { vocab: Maker(Arc::clone(&loaded)), text };
            Ok(settled.made(&loaded, &reply))
        })
        .await?
}

/// Render messages and encode the text.
#[utoipa::path(post, path = "/chat/encode", tag = "chat", 
    request_body(content((ChatEncodeRequest = "application/json"), (ChatEncodeRequest = "application/msgpack"))),
    params(("If-Match" = Option<String>, Header,
        description = "Digests, in quotes: refused with 412 unless the vocabulary is at one of them")),
    responses(
    (status = 200, description = "The text and its ids; as application/octet-stream the ids alone",
        content((ChatEncodeReply<'_> = "application/json"), (ChatEncodeReply<'_> = "application/msgpack"),
            (PackedBody = "application/octet-stream")),
        headers(("Vocab" = String, description = "`name@version` of what made this"),
            ("ETag" = String, description = "Its digest, in quotes"))),
    (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", description = "Overloaded", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn chat_encode(
    State(app): State<AppState>,
    ask: Ask,
    headers: HeaderMap,
    Payload(request): Payload<ChatEncodeRequest>,
) -> Result<Made, Problem> {
    let vocab = wanted(request.vocab.as_deref(), request.model.as_deref())?;
    let max_tokens = at_least_one("/max_tokens", request.max_tokens)?;
    let asked = Asked {
        parts: parts(
            (request.messages, request.tools, request.documents),
            (request.add_generation_prompt, request.continue_final_message),
            request.chat_template_kwargs,
        )?,
        template: request.chat_template,
        any_template: app.config.allow_chat_template,
    };
    let loaded = app.registry.resolve(vocab.as_ref()).await?;
    let settled = ask.settle(&loaded, OBJECTS_OR_IDS)?;
    check_packed(&settled, &request.wanted)?;
    let version = loaded.facts.clone();
    let returns = request.wanted;
    let options = EncodeOptions {
        special: SpecialPolicy { others: OnSpecial::Parse, ..SpecialPolicy::default() },
        add_special: request.add_special_tokens,
        offsets: returns.contains(&Return::Offsets).then(|| unit(request.offset_unit)),
        max_tokens,
        keep: keep(request.truncation_side),
    };
    let content_is_text = request.content_special == ContentSpecial::Text;
    let (made, bytes, tokens) = app
        .cpu
        .run_elsewhere(body_bytes(&headers), move || {
            let tokenizer = &loaded.tokenizer;
            let rendered = asked.render(tokenizer, content_is_text.then_some(tokenizer))?;
            let encoding = encoded(&loaded, &rendered, &options)?;
            let Parts { ids, tokens, bytes_b64, offsets } = Parts::new(&encoding, tokenizer, &returns);
            let (count, text) = (encoding.ids.len(), &rendered.text[..]);
            let (vocab, truncated) = (Maker(Arc::clone(&loaded)), encoding.truncated);
            let reply = ChatEncodeReply { vocab, count, ids, tokens, bytes_b64, offsets, text, truncated };
            Ok::<_, Problem>((settled.made(&loaded, &reply), text.len(), count))
        })
        .await??;
    app.metrics.vocab(version.name.as_str()).encoded(bytes as u64, tokens as u64);
    Ok(made)
}

/// What both routes ask for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) parts: ChatParts,
    pub(super) template: Option<String>,
    /// Whether `template` may be a source.
    pub(super) any_template: bool,
}

impl Asked {
    /// Makes one text of contents that are arrays of texts, where no template reads arrays: what servers of models do.
    pub(super) fn join_texts_for(&mut self, tokenizer: &Tokenizer) {
        let own = tokenizer.chat().sources.values().map(String::as_str);
        if !own.chain(self.template.as_deref()).any(reads_parts) {
            self.parts.join_texts();
        }
    }

    pub(super) fn render(
        self,
        tokenizer: &Tokenizer,
        plain: Option<&Tokenizer>,
    ) -> Result<Rendered, Problem> {
        let templates = tokenizer.chat();
        let wanted = match self.template.as_deref() {
            None => Wanted::Usual,
            Some(name) if templates.sources.contains_key(name) => Wanted::Named(name),
            Some(source) if self.any_template => Wanted::Source(source),
            // Sources have tags; what has none can only be meant as a name.
            Some(source) if source.contains('{') => return Err(Problem::chat_template_not_allowed()),
            Some(name) => Wanted::Named(name),
        };
        let chat = Chat::new(self.parts).map_err(|e| Problem::chat(&e))?;
        render(templates, wanted, &chat, plain).map_err(|e| Problem::chat(&e))
    }
}

/// The request's fields as they are checked by [`Chat::new`].
pub(super) fn parts(
    (messages, tools, documents): (Vec<Json>, Option<Vec<Json>>, Option<Vec<Json>>),
    (add_generation_prompt, continue_final_message): (Option<bool>, bool),
    variables: Option<Json>,
) -> Result<ChatParts, Problem> {
    let variables = variables.unwrap_or_default();
    if !variables.is_undefined() && !variables.is_none() && !is_object(&variables) {
        return Err(Problem::invalid("/chat_template_kwargs", "must be an object"));
    }
    Ok(ChatParts {
        messages,
        tools,
        documents,
        add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final_message),
        continue_final_message,
        variables,
    })
}

fn encoded(loaded: &Loaded, rendered: &Rendered, options: &EncodeOptions<'_>) -> Result<Encoding, Problem> {
    let tokenizer = &loaded.tokenizer;
    let Rendered { text, plain } = rendered;
    let failed = |e| Problem::encode("/messages", &e);
    let matcher = tokenizer.matcher(&options.special).map_err(|e| failed(e.into()))?.sparing(plain);
    with_scratch(|scratch| tokenizer.encode_matched(text, &matcher, options, scratch)).map_err(failed)
}

/// How much of a request waits or is worked on. Rendering is never done on the async threads: how long it takes is up to
/// the template.
fn body_bytes(headers: &HeaderMap) -> usize {
    announced_length(headers).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
}
