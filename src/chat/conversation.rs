//! What a template is given: messages, tools, documents and further variables, checked.

use super::environment::MARKS;
use super::marks::Marks;
use super::{ChatError, Json, is_object};
use minijinja::value::ValueKind;
use std::collections::BTreeMap;

/// The fields of a [`Chat`] before they are checked.
#[derive(Debug, Clone, Default)]
pub struct ChatParts {
    /// The messages: objects, at least one.
    pub messages: Vec<Json>,
    /// Tools as JSON schemas: objects. An empty list is not the same as none: templates see the difference.
    pub tools: Option<Vec<Json>>,
    /// Documents to answer from: objects.
    pub documents: Option<Vec<Json>>,
    /// Whether the text ends where the model's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the text ends inside the last message, for the model to go on with it.
    pub continue_final_message: bool,
    /// Further variables: an object, or undefined.
    pub variables: Json,
}

/// Messages to render, and what else the template may look at.
#[derive(Debug, Clone)]
pub struct Chat(ChatParts);

/// Variables that a request cannot set, as it has fields for them.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// Names under which models' reasoning goes; templates look at the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What stands after the text of a message that is continued, so that its end is found in the text. The reference's.
const CONTINUE: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

impl ChatParts {
    /// Makes one text, with line feeds between, of contents that are arrays of texts: what servers do for templates that
    /// know contents as strings alone.
    pub fn join_texts(&mut self) {
        for message in &mut self.messages {
            let content = attribute(message, "content");
            if content.kind() != ValueKind::Seq {
                continue;
            }
            let text = |part: Json| {
                let kind = attribute(&part, "type");
                let text = attribute(&part, "text");
                (kind.as_str() == Some("text")).then(|| text.as_str().map(str::to_owned)).flatten()
            };
            let texts: Option<Vec<String>> = content.try_iter().into_iter().flatten().map(text).collect();
            if let Some(texts) = texts {
                *message = with(message, "content", &Json::from(texts.join("\n")));
            }
        }
    }
}

impl Chat {
    /// Checks the fields, and prepares the messages as transformers does: keys without a value are left out, and
    /// reasoning is put under every name that templates know for it.
    ///
    /// # Errors
    /// [`ChatError::Invalid`], [`ChatError::NotCountable`].
    pub fn new(mut parts: ChatParts) -> Result<Self, ChatError> {
        if parts.messages.is_empty() {
            return invalid("/messages", "must have at least one message");
        }
        for (field, list) in [
            ("messages", Some(&parts.messages)),
            ("tools", parts.tools.as_ref()),
            ("documents", parts.documents.as_ref()),
        ] {
            if let Some(at) = list.and_then(|list| list.iter().position(|item| !is_object(item))) {
                return invalid(format!("/{field}/{at}"), "must be an object");
            }
        }
        if parts.continue_final_message && parts.add_generation_prompt {
            return invalid(
                "/continue_final_message",
                "cannot be combined with add_generation_prompt: the final message is continued, or a new one begins",
            );
        }
        for (key, _) in pairs(&parts.variables) {
            if let Some(name) = RESERVED.into_iter().find(|name| key.as_str() == Some(name)) {
                let reason = "is a field of the request, not a variable of the template";
                return invalid(format!("/chat_template_kwargs/{name}"), reason);
            }
        }
        for (at, message) in parts.messages.iter().enumerate() {
            check_content(&attribute(message, "content"), &format!("/messages/{at}/content"))?;
        }
        for message in &mut parts.messages {
            *message = prepared(message);
        }
        Ok(Self(parts))
    }

    /// Whether tools are given.
    pub(super) fn has_tools(&self) -> bool {
        self.0.tools.is_some()
    }

    /// The variables of the template. Those of the request come after the vocabulary's tokens, as in the reference.
    pub(super) fn variables(&self, tokens: &BTreeMap<String, String>, marks: Option<&Marks>) -> Json {
        let list =
            |list: &Option<Vec<Json>>| list.as_ref().map_or(Json::from(()), |list| list.clone().into());
        let tokens = tokens.iter().map(|(name, token)| (Json::from(name.as_str()), token.as_str().into()));
        let marks = marks.map(|marks| (Json::from(MARKS), Json::from(marks.pair())));
        let own = [
            ("messages", self.0.messages.clone().into()),
            ("tools", list(&self.0.tools)),
            ("documents", list(&self.0.documents)),
            ("add_generation_prompt", self.0.add_generation_prompt.into()),
        ];
        let own = own.into_iter().map(|(name, value)| (Json::from(name), value));
        Json::from_pairs(tokens.chain(pairs(&self.0.variables)).chain(own).chain(marks))
    }

    /// The same with every text changed.
    pub(super) fn map_texts(&self, change: &mut impl FnMut(&str) -> Option<String>) -> Self {
        let mut list = |list: &[Json]| list.iter().map(|item| map_texts(item, change)).collect::<Vec<_>>();
        Self(ChatParts {
            messages: list(&self.0.messages),
            tools: self.0.tools.as_deref().map(&mut list),
            documents: self.0.documents.as_deref().map(&mut list),
            variables: map_texts(&self.0.variables, change),
            ..self.0
        })
    }

    /// If the final message is to be continued: the chat with a tag at its end, and how the text is cut there.
    ///
    /// # Errors
    /// [`ChatError::NotContinuable`] if there is no text to go on with, or the template never looks at contents.
    pub(super) fn continued(&self, source: &str) -> Result<Option<(Self, Ending)>, ChatError> {
        let (true, Some((last, before))) = (self.0.continue_final_message, self.0.messages.split_last())
        else {
            return Ok(None);
        };
        let content = attribute(last, "content");
        if content.is_undefined() {
            return Err(ChatError::NotContinuable { reason: "it has no content" });
        }
        if !source.contains("content") {
            return Err(ChatError::NotContinuable { reason: "the template does not read contents" });
        }
        let tagged = |text: &Json| Json::from(format!("{}{CONTINUE}", text.as_str().unwrap_or_default()));
        let (text, content) = match content.as_str() {
            Some(text) => (text.to_owned(), tagged(&content)),
            None => {
                let mut parts: Vec<Json> = content.try_iter().into_iter().flatten().collect();
                let Some(at) = parts.iter().rposition(|part| attribute(part, "text").as_str().is_some())
                else {
                    return Err(ChatError::NotContinuable { reason: "it has no part with text" });
                };
                let text = attribute(&parts[at], "text");
                parts[at] = with(&parts[at], "text", &tagged(&text));
                (text.as_str().unwrap_or_default().to_owned(), parts.into())
            }
        };
        let mut messages = before.to_vec();
        messages.push(with(last, "content", &content));
        let chat = Self(ChatParts { messages, ..self.0.clone() });
        Ok(Some((chat, Ending { text })))
    }
}

/// How the text of a continued message ends.
#[derive(Debug)]
pub(super) struct Ending {
    text: String,
}

impl Ending {
    /// The rendered text up to the end of the final message. Where the template cut white space off that message, the
    /// text ends without it.
    ///
    /// # Errors
    /// [`ChatError::NotContinuable`] if the message is not in the text.
    pub(super) fn cut(self, mut text: String) -> Result<String, ChatError> {
        let (wanted, tag) = (super::methods::strip(&self.text, None, true, true), CONTINUE.trim_end());
        let at = text.rfind(tag).filter(|_| text.contains(wanted));
        let at =
            at.ok_or(ChatError::NotContinuable { reason: "the template does not repeat it as it is" })?;
        let whole = text[at..].starts_with(CONTINUE);
        text.truncate(at);
        if !whole {
            text.truncate(super::methods::strip(&text, None, false, true).len());
        }
        Ok(text)
    }
}

fn invalid<T>(pointer: impl Into<String>, reason: &str) -> Result<T, ChatError> {
    Err(ChatError::Invalid { pointer: pointer.into(), reason: reason.to_owned() })
}

/// Text, nothing, or a list of parts.
fn check_content(content: &Json, pointer: &str) -> Result<(), ChatError> {
    match content.kind() {
        ValueKind::Undefined | ValueKind::None | ValueKind::String => Ok(()),
        ValueKind::Seq => {
            for (at, part) in content.try_iter().into_iter().flatten().enumerate() {
                let pointer = format!("{pointer}/{at}");
                match part.kind() {
                    ValueKind::String => {}
                    ValueKind::Map => {
                        if let Some(kind) = medium(&part) {
                            return Err(ChatError::NotCountable { pointer, kind });
                        }
                        // Results of tools hold contents of their own.
                        if attribute(&part, "content").kind() == ValueKind::Seq {
                            check_content(&attribute(&part, "content"), &format!("{pointer}/content"))?;
                        }
                    }
                    _ => return invalid(pointer, "must be a string or an object"),
                }
            }
            Ok(())
        }
        _ => invalid(pointer, "must be a string, null or an array of parts"),
    }
}

/// What a part of a content is, if it is no text. Types have many names (`image_url`, `input_image`, `video`, ...);
/// parts without a type are told by their keys.
fn medium(part: &Json) -> Option<&'static str> {
    const WORDS: [(&str, &str); 9] = [
        ("image", "image"),
        ("audio", "audio"),
        ("speech", "audio"),
        ("video", "video"),
        ("file", "file"),
        ("document", "file"),
        ("pdf", "file"),
        ("pixel", "image"),
        ("media", "file"),
    ];
    let of = |text: &str| WORDS.iter().find(|(word, _)| text.contains(word)).map(|(_, kind)| *kind);
    let of_key = || {
        let keys = [
            "image",
            "image_url",
            "input_image",
            "audio",
            "audio_url",
            "input_audio",
            "video",
            "video_url",
            "file",
        ];
        keys.into_iter()
            .find(|key| !matches!(attribute(part, key).kind(), ValueKind::Undefined | ValueKind::None))
    };
    let kind = attribute(part, "type");
    kind.as_str().and_then(|kind| of(&kind.to_ascii_lowercase())).or_else(|| of_key().and_then(of))
}

/// A message as templates get it.
fn prepared(message: &Json) -> Json {
    let kept: Vec<(Json, Json)> = pairs(message).filter(|(_, value)| !value.is_none()).collect();
    let find = |name: &str| kept.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
    match REASONING.into_iter().find_map(find).cloned() {
        None => Json::from_pairs(kept),
        Some(reasoning) => {
            let first = [(Json::from("thinking"), reasoning.clone())];
            Json::from_pairs(first.into_iter().chain(kept).chain([(Json::from(REASONING[0]), reasoning)]))
        }
    }
}

/// An object with one value replaced, or added at its end.
fn with(object: &Json, name: &str, value: &Json) -> Json {
    Json::from_pairs(pairs(object).chain([(name.into(), value.clone())]))
}

fn attribute(object: &Json, name: &str) -> Json {
    object.as_object().and_then(|object| object.get_value(&name.into())).unwrap_or_default()
}

fn pairs(object: &Json) -> impl Iterator<Item = (Json, Json)> + use<> {
    let pairs: Vec<(Json, Json)> =
        object.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten().collect();
    pairs.into_iter()
}

/// Every text of a value changed; JSON has at most 128 levels, so the recursion ends. Keys that look like names of
/// variables are what templates look for and stay.
fn map_texts(value: &Json, change: &mut impl FnMut(&str) -> Option<String>) -> Json {
    if let Some(text) = value.as_str() {
        return change(text).map_or_else(|| value.clone(), Json::from);
    }
    match value.kind() {
        ValueKind::Seq => {
            value.try_iter().into_iter().flatten().map(|item| map_texts(&item, change)).collect()
        }
        ValueKind::Map => Json::from_pairs(pairs(value).map(|(key, item)| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let plain = key.as_str().is_none_or(|key| key.chars().all(word));
            let key = if plain { key } else { map_texts(&key, change) };
            (key, map_texts(&item, change))
        })),
        _ => value.clone(),
    }
}
