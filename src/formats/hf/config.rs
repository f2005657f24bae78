//! `tokenizer_config.json`: the chat templates and the names of special tokens that they use.

use super::json::At;
use super::{Companions, file};
use crate::engine::ChatTemplates;
use crate::formats::FormatError;
use crate::formats::sentencepiece::Around;
use serde_json::Value;

/// The largest template.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// The templates in the companions of a `tokenizer.json`.
pub(in crate::formats) fn chat_templates(companions: Companions<'_>) -> Result<ChatTemplates, FormatError> {
    let mut chat = ChatTemplates::default();
    if let Some(config) = companions.config {
        let config: Value = file::parse(config).map_err(in_config)?;
        read_config(&At::new(&config, ""), &mut chat).map_err(in_config)?;
    }
    if let Some(template) = companions.template {
        let reason = "the chat template is not UTF-8".to_owned();
        let text = std::str::from_utf8(template)
            .map_err(|e| FormatError::Malformed { offset: e.valid_up_to(), reason })?;
        insert(&At::new(&Value::Null, "chat_template.jinja"), &mut chat, "default", text)?;
    }
    Ok(chat)
}

/// What a `tokenizer_config.json` says of the tokens around a text, and the chat templates, for a SentencePiece model.
///
/// # Errors
/// The place in the config that is at fault.
pub(in crate::formats) fn around(companions: Companions<'_>) -> Result<Around, FormatError> {
    let mut around = Around { chat: chat_templates(companions)?, ..Around::default() };
    if let Some(config) = companions.config {
        let config: Value = file::parse(config).map_err(in_config)?;
        let at = At::new(&config, "");
        around.bos = at.get("add_bos_token").map(|flag| flag.bool()).transpose().map_err(in_config)?;
        around.eos = at.get("add_eos_token").map(|flag| flag.bool()).transpose().map_err(in_config)?;
    }
    Ok(around)
}

fn in_config(error: FormatError) -> FormatError {
    match error {
        FormatError::Json { pointer, reason } => {
            FormatError::Json { pointer, reason: format!("{reason} (in tokenizer_config.json)") }
        }
        other => other,
    }
}

fn read_config(config: &At<'_>, chat: &mut ChatTemplates) -> Result<(), FormatError> {
    let Some(members) = config.value.as_object() else { return config.fail("must be an object") };
    for name in members.keys().filter(|name| name.ends_with("_token")) {
        let Some(token) = config.get(name) else { continue };
        // A string, or an added token with its flags.
        let content = token.get("content").unwrap_or(token);
        if let Some(content) = content.value.as_str() {
            chat.tokens.insert(name.clone(), content.to_owned());
        }
    }
    let Some(template) = config.get("chat_template") else { return Ok(()) };
    if let Some(text) = template.value.as_str() {
        return insert(&template, chat, "default", text);
    }
    for named in template.list()? {
        insert(&named, chat, named.want("name")?.str()?, named.want("template")?.str()?)?;
    }
    Ok(())
}

fn insert(at: &At<'_>, chat: &mut ChatTemplates, name: &str, text: &str) -> Result<(), FormatError> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return at.fail(format!("the template has over {MAX_TEMPLATE_BYTES} bytes"));
    }
    chat.sources.insert(name.to_owned(), text.to_owned());
    Ok(())
}
