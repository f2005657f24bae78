//! The tokenizer in a GGUF file, the format of llama.cpp and its kin.
//!
//! All of it is in the metadata at the head of the file. Tensors are not looked at, so that a file cut behind its
//! metadata will do.
//!
//! What a file means is what llama.cpp makes of it, as long as that is what the model's own `tokenizer.json` says. Where
//! llama.cpp is known to differ from it, the model's own way is taken: texts of models that normalize are normalized,
//! names of special tokens are found from left to right, and no token becomes special by its name alone.

mod bpe;
mod metadata;
mod pre;
mod spm;
#[cfg(test)]
mod tests;

use super::{FormatError, ImportOptions, sentencepiece};
use crate::engine::{ChatTemplates, PieceKind, TokenId, Tokenizer};
use metadata::{CHAT_TEMPLATE, Entry, MAGIC, Metadata, Stop};

/// Most tokens.
const MAX_TOKENS: usize = 4_000_000;

/// Whether a file is of this format.
pub fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the tokenizer of a file; what lies behind the metadata need not be there.
///
/// # Errors
/// [`FormatError::Malformed`] with the place and the key, [`FormatError::Option`] for a name of `tokenizer.ggml.pre`
/// that is not known here.
pub fn read(bytes: &[u8], options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    let metadata = Metadata::read(bytes)?;
    let model = metadata.want("tokenizer.ggml.model")?;
    match model.text()? {
        "gpt2" => bpe::read(&metadata, options),
        name @ ("llama" | "t5") => {
            options.refuse("cannot be given: a GGUF file of a SentencePiece model has its own")?;
            let (model, around) = spm::parse(&metadata, name)?;
            sentencepiece::tokenizer(&model, around)
        }
        name => model.fail(format!("{} is not supported (gpt2, llama and t5 are)", shown(name))),
    }
}

/// How many bytes from the beginning of a file [`read`] needs: those of its metadata.
///
/// `None` where they go on beyond the bytes given. So a caller can read the head of a large file: a piece, and more
/// until there is a number.
///
/// # Errors
/// [`FormatError::Malformed`] where no further bytes could make it a file of this format.
pub fn metadata_len(head: &[u8]) -> Result<Option<usize>, FormatError> {
    match Metadata::read(head) {
        Ok(metadata) => Ok(Some(metadata.end)),
        Err(Stop::Cut { .. }) => Ok(None),
        Err(bad) => Err(bad.into()),
    }
}

/// A string of the file, for an error.
fn shown(name: &str) -> String {
    let cut: String = name.chars().take(64).collect();
    format!("{cut:?}")
}

/// The tokens, their kinds, and what stands beside them.
struct Tokens<'b> {
    entry: Entry<'b>,
    texts: Vec<&'b str>,
    /// By `tokenizer.ggml.token_type`, whose numbers are those of SentencePiece.
    kinds: Vec<PieceKind>,
}

impl<'b> Tokens<'b> {
    fn read(metadata: &Metadata<'b>) -> Result<Self, FormatError> {
        let entry = *metadata.want("tokenizer.ggml.tokens")?;
        let (count, strings) = entry.texts()?;
        if count > MAX_TOKENS {
            return entry.fail(format!("has {count} tokens, over the limit of {MAX_TOKENS}"));
        }
        let mut texts = Vec::with_capacity(count);
        for (id, text) in strings.enumerate() {
            let text = std::str::from_utf8(text).or_else(|_| entry.fail(format!("{id} is not UTF-8")))?;
            texts.push(text);
        }
        Ok(Self { kinds: kinds(metadata, count)?, entry, texts })
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    /// The token that a key names.
    fn named(&self, metadata: &Metadata<'b>, key: &str) -> Result<Option<TokenId>, FormatError> {
        let Some(entry) = metadata.get(key) else { return Ok(None) };
        match entry.id()? {
            id if (id as usize) < self.len() => Ok(Some(id)),
            id => entry.fail(format!("is {id}, and there are {} tokens", self.len())),
        }
    }

    /// The token that goes before or after each text, where `flag` (or in its absence `default`) says so.
    fn around(
        &self,
        metadata: &Metadata<'b>,
        flag: &str,
        default: bool,
        token: Option<TokenId>,
    ) -> Result<Option<TokenId>, FormatError> {
        let entry = metadata.get(flag);
        let wanted = entry.map_or(Ok(default), Entry::flag)?;
        match (wanted, token, entry) {
            (false, ..) => Ok(None),
            (true, None, Some(entry)) => entry.fail("is true, and no key says which token that is"),
            // llama.cpp takes a default id there, which is the right one for few models.
            (true, token, _) => Ok(token),
        }
    }

    /// Chat templates, and the tokens that they speak of.
    fn chat(&self, metadata: &Metadata<'b>) -> Result<ChatTemplates, FormatError> {
        let mut chat = ChatTemplates::default();
        for entry in metadata.iter() {
            let name = match entry.key.strip_prefix(CHAT_TEMPLATE) {
                Some("") => "default",
                // `tokenizer.chat_templates` lists the names of the others.
                Some(rest) => match rest.strip_prefix('.') {
                    Some(name) => name,
                    None => continue,
                },
                None => continue,
            };
            chat.sources.insert(name.to_owned(), entry.text()?.to_owned());
        }
        if chat.is_empty() {
            return Ok(chat);
        }
        let roles = [("bos_token", BOS), ("eos_token", EOS), ("unk_token", UNKNOWN), ("pad_token", PADDING)];
        for (variable, key) in roles {
            if let Some(id) = self.named(metadata, key)? {
                chat.tokens.insert(variable.to_owned(), self.texts[id as usize].to_owned());
            }
        }
        Ok(chat)
    }
}

const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const PADDING: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

/// The kind of each token; all are normal where the file does not say.
fn kinds(metadata: &Metadata<'_>, count: usize) -> Result<Vec<PieceKind>, FormatError> {
    let Some(entry) = metadata.get("tokenizer.ggml.token_type") else {
        return Ok(vec![PieceKind::Normal; count]);
    };
    let types = entry.ints()?;
    if types.len() != count {
        return entry.fail(format!("has {} elements for {count} tokens", types.len()));
    }
    let kind = |(id, number): (usize, &i32)| match number {
        1 => Ok(PieceKind::Normal),
        2 => Ok(PieceKind::Unknown),
        3 => Ok(PieceKind::Control),
        4 => Ok(PieceKind::UserDefined),
        5 => Ok(PieceKind::Unused),
        6 => Ok(PieceKind::Byte),
        other => entry.fail(format!("of token {id} is {other}, which is no type of a token")),
    };
    types.iter().enumerate().map(kind).collect()
}
