//! Chat templates as text. The engine carries them with a tokenizer, because they are part of what a vocabulary is;
//! it does not know how to render them.

use std::collections::BTreeMap;

/// The templates of a vocabulary, and the names of special tokens that they speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// Jinja sources by name. The one that is used when nothing else is asked for is called `default`.
    pub sources: BTreeMap<String, String>,
    /// What templates know as `bos_token`, `eos_token` and so on: the variable's name and the token's text.
    pub tokens: BTreeMap<String, String>,
}

impl ChatTemplates {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.tokens.is_empty()
    }
}
