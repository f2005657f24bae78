//! `tokenizer.json` of Hugging Face's tokenizers, with what belongs to it: `tokenizer_config.json` and chat templates.
//!
//! What the file asks for is done as version 0.23 of their library does it; where that is not possible here the file is
//! refused with the place. Three things are otherwise: declared ids of added tokens hold, also across gaps (the library
//! closes them up); `truncation` and `padding` are left alone, as transformers does unless it is told; and a pair of
//! tokens that is merged twice is an error.

mod components;
mod config;
mod file;
mod json;
#[cfg(test)]
mod reference_tests;
mod regex;
mod write;

pub(super) use components::{
    Dialect, decoder, decoder_json, normalizer, normalizer_json, pretokenizer, pretokenizer_json,
};
pub(super) use config::{around, chat_templates};
pub(super) use file::parse as parse_json;
pub(super) use json::At;
pub(super) use write::Strings;
pub use write::{write, write_config};

use super::FormatError;
use crate::engine::{
    ByteTokens, Chars, ChatTemplates, Decoder, Merge, Missing, Model, Normalizer, PieceKind, Place,
    Pretokenizer, Rules, Special, Template, TokenId, Tokenizer, TokenizerError, TokenizerParts, Unigram,
    UnigramError, UnigramFlavour, UnigramParts, UnigramPiece, Unknown, VocabError, spelt_bytes,
};
use file::{AddedToken, File, ModelFile, VocabFile, escaped};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::borrow::Cow;

/// The companions of a `tokenizer.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Companions<'f> {
    /// `tokenizer_config.json`.
    pub config: Option<&'f [u8]>,
    /// `chat_template.jinja`, which goes before the template in the config.
    pub template: Option<&'f [u8]>,
}

/// Whether a file is a `tokenizer.json`: an object with one of the members that only those have, of the right kind. (A
/// list of tokens and ids may have tokens of these names.)
pub fn looks_like(bytes: &[u8]) -> bool {
    // The others stand before the model, which may be large.
    let head = &bytes[..bytes.len().min(1 << 16)];
    let is_object = head.trim_ascii_start().starts_with(b"{");
    is_object
        && (has_member(head, b"\"added_tokens\"", b"[")
            || has_member(head, b"\"pre_tokenizer\"", b"{n")
            || has_member(bytes, b"\"model\"", b"{"))
}

/// Whether a member of that quoted name is there whose value begins with one of these bytes.
fn has_member(json: &[u8], name: &[u8], begins: &[u8]) -> bool {
    memchr::memmem::find_iter(json, name).any(|at| {
        let value =
            json[at + name.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.and_then(<[u8]>::first).is_some_and(|first| begins.contains(first))
    })
}

/// Reads a file.
///
/// # Errors
/// [`FormatError::Json`] with the place, or what is wrong with the parts.
pub fn read(bytes: &[u8], companions: Companions<'_>) -> Result<Tokenizer, FormatError> {
    let file: File<'_> = file::parse(bytes)?;
    let normalizer = match &file.normalizer {
        Some(value) => normalizer(&At::new(value, "/normalizer"), Dialect::Onig)?,
        None => Default::default(),
    };
    let pretokenizer = match &file.pre_tokenizer {
        Some(value) => pretokenizer(&At::new(value, "/pre_tokenizer"), Dialect::Onig)?,
        None => Pretokenizer::Steps(Vec::new()),
    };
    let template = match &file.post_processor {
        Some(value) => components::template(&At::new(value, "/post_processor"))?,
        None => Template::default(),
    };
    let is_byte_level = pretokenizer.is_byte_level();
    let decoder_at = file.decoder.as_ref().map(|value| At::new(value, "/decoder"));
    let decoder = decoder(decoder_at.as_ref(), is_byte_level, Dialect::Onig)?;
    let chat = chat_templates(companions)?;

    let vocab = match &file.model.vocab {
        VocabFile::Ids(vocab) => vocab,
        VocabFile::Scores(pieces) => {
            let read = Around { normalizer, pretokenizer, template, decoder, chat };
            return unigram(&file, pieces, read);
        }
    };
    check_model(&file.model)?;
    let ids = ids(vocab)?;
    let specials = specials(&file.added_tokens, &ids)?;
    let (tokens, unreached) = tokens(vocab, is_byte_level)?;
    let merges = merges(&file.model, &ids)?;
    let unknown = match &file.model.unk_token {
        Some(token) => ids.get(token.as_str()).map(|&id| Unknown { id, fused: file.model.fuse_unk }),
        None => None,
    };
    let model = if is_byte_level {
        Model::Bytes { missing: Some(unknown.map_or(Missing::LeftOut, Missing::Unknown)) }
    } else {
        let bytes = file.model.byte_fallback.then(|| byte_tokens(|name| ids.get(name).copied()));
        Model::Chars(Chars { bytes, unknown, rules: Rules::HuggingFace })
    };
    let model = if is_byte_level && has_all_bytes(&tokens) { Model::Bytes { missing: None } } else { model };
    if is_byte_level && file.model.byte_fallback && !model.is_all_bytes() {
        return fail("/model/byte_fallback", "is not supported where ByteLevel lacks some of the 256 bytes");
    }
    let parts = TokenizerParts {
        tokens,
        unreached,
        merges,
        ranks: None,
        specials,
        pretokenizer,
        normalizer,
        model,
        whole_pretokens: file.model.ignore_merges,
        template,
        decoder,
        chat,
    };
    Tokenizer::new(parts).map_err(|error| placed(error, vocab))
}

/// What is around the model of a file.
struct Around {
    normalizer: Normalizer,
    pretokenizer: Pretokenizer,
    template: Template,
    decoder: Decoder,
    chat: ChatTemplates,
}

/// A file whose model is of pieces with scores.
fn unigram(
    file: &File<'_>,
    pieces: &[(Cow<'_, str>, f64)],
    around: Around,
) -> Result<Tokenizer, FormatError> {
    match file.model.kind.as_deref() {
        Some("Unigram") | None => {}
        Some(_) => return fail("/model/vocab", "must be an object of tokens and ids"),
    }
    if around.pretokenizer.is_byte_level() {
        return fail("/pre_tokenizer", "ByteLevel before a Unigram model is not supported");
    }
    let parts = UnigramParts {
        pieces: pieces
            .iter()
            .map(|(text, score)| UnigramPiece { text, score: *score, kind: PieceKind::Normal })
            .collect(),
        unk: file.model.unk_id,
        byte_fallback: file.model.byte_fallback,
        flavour: UnigramFlavour::HuggingFace,
    };
    let model = Unigram::new(&parts).or_else(|error| {
        let pointer = match &error {
            UnigramError::Empty { id } | UnigramError::Score { id } | UnigramError::Duplicate { id, .. } => {
                format!("/model/vocab/{id}")
            }
            UnigramError::NoUnknown | UnigramError::Unknown { .. } => "/model/unk_id".to_owned(),
            _ => "/model/vocab".to_owned(),
        };
        fail(pointer, error.to_string())
    })?;
    let ids: Ids<'_> = pieces.iter().zip(0..).map(|((text, _), id)| (&**text, id)).collect();
    let parts = TokenizerParts {
        tokens: pieces.iter().zip(0..).map(|((text, _), id)| (id, text.as_bytes().to_vec())).collect(),
        unreached: Vec::new(),
        merges: Vec::new(),
        ranks: None,
        specials: specials(&file.added_tokens, &ids)?,
        pretokenizer: around.pretokenizer,
        normalizer: around.normalizer,
        model: Model::Unigram(Box::new(model)),
        whole_pretokens: false,
        template: around.template,
        decoder: around.decoder,
        chat: around.chat,
    };
    Tokenizer::new(parts).map_err(|error| placed(error, &[]))
}

fn fail<T>(pointer: impl Into<String>, reason: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::Json { pointer: pointer.into(), reason: reason.into() })
}

/// What is asked of the model and not supported.
fn check_model(model: &ModelFile<'_>) -> Result<(), FormatError> {
    match model.kind.as_deref() {
        Some("BPE") => {}
        // Old files do not say what they are; only this kind has merges.
        None if model.merges.is_some() => {}
        None => return fail("/model/type", "is missing"),
        Some(kind) => return fail("/model/type", format!("the model {kind:?} is not supported")),
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return fail("/model/dropout", "is not supported: the same text would get other tokens each time");
    }
    let affixes = [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (name, affix) in affixes {
        if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
            return fail(format!("/model/{name}"), "is not supported");
        }
    }
    Ok(())
}

type Ids<'f> = HashMap<&'f str, TokenId, FixedState>;

fn ids<'f>(vocab: &'f [(Cow<'f, str>, TokenId)]) -> Result<Ids<'f>, FormatError> {
    let mut ids = Ids::with_capacity_and_hasher(vocab.len(), FixedState::default());
    for (token, id) in vocab {
        if ids.insert(token, *id).is_some() {
            return fail(format!("/model/vocab/{}", escaped(token)), "is given twice");
        }
    }
    Ok(ids)
}

/// The added tokens. One that is a token of the model must have that token's id.
fn specials(added: &[AddedToken<'_>], ids: &Ids<'_>) -> Result<Vec<Special>, FormatError> {
    let mut specials: Vec<Special> = Vec::with_capacity(added.len());
    let mut seen: HashMap<&str, usize, FixedState> = HashMap::default();
    for (index, token) in added.iter().enumerate() {
        if token.content.is_empty() {
            continue; // as the reference does
        }
        let id = match ids.get(&*token.content) {
            // The reference takes the model's id, and warns.
            Some(&id) => id,
            None => token.id,
        };
        // As the reference does with one that it has already.
        let place = Place {
            normalized: token.normalized,
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
        };
        let special = Special { name: token.content.clone().into_owned(), id, special: token.special, place };
        match seen.insert(&*token.content, index) {
            Some(first) if specials[first] == special => {
                seen.insert(&*token.content, first);
                continue;
            }
            Some(_) => {
                return fail(format!("/added_tokens/{index}"), "has the content of another added token");
            }
            None => {}
        }
        seen.insert(&*token.content, specials.len());
        specials.push(special);
    }
    Ok(specials)
}

/// Ids and their bytes.
type Tokens = Vec<(TokenId, Vec<u8>)>;

/// The tokens that texts lead to, and those that none does: in a byte-level model those that are not all letters of
/// the byte alphabet.
fn tokens(vocab: &[(Cow<'_, str>, TokenId)], is_byte_level: bool) -> Result<(Tokens, Tokens), FormatError> {
    let (mut tokens, mut unreached) = (Vec::with_capacity(vocab.len()), Vec::new());
    for (token, id) in vocab {
        if token.is_empty() {
            return fail("/model/vocab/", format!("token {id} is empty"));
        }
        let bytes = if is_byte_level { spelt_bytes(token) } else { Some(token.as_bytes().to_vec()) };
        match bytes {
            Some(bytes) => tokens.push((*id, bytes)),
            None => unreached.push((*id, token.as_bytes().to_vec())),
        }
    }
    Ok((tokens, unreached))
}

/// Whether each of the 256 bytes is a token.
pub(super) fn has_all_bytes(tokens: &[(TokenId, Vec<u8>)]) -> bool {
    let mut seen = [false; 256];
    tokens
        .iter()
        .filter(|(_, bytes)| bytes.len() == 1)
        .for_each(|(_, bytes)| seen[usize::from(bytes[0])] = true);
    seen.iter().all(|&seen| seen)
}

/// The tokens `<0x00>` to `<0xFF>`, where they are.
pub(super) fn byte_tokens(id: impl Fn(&str) -> Option<TokenId>) -> ByteTokens {
    let mut tokens = Box::new([None; 256]);
    for byte in 0..=u8::MAX {
        tokens[usize::from(byte)] = id(&format!("<0x{byte:02X}>"));
    }
    tokens
}

fn merges(model: &ModelFile<'_>, ids: &Ids<'_>) -> Result<Vec<Merge>, FormatError> {
    let Some(pairs) = &model.merges else { return fail("/model/merges", "is missing") };
    let mut joined = String::new();
    let mut merges = Vec::with_capacity(pairs.0.len());
    for (index, pair) in pairs.0.iter().enumerate() {
        let pointer = || format!("/model/merges/{index}");
        let Some((left, right)) = pair.parts() else { return fail(pointer(), "is not two tokens") };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let find = |token: &str, what| match ids.get(token) {
            Some(&id) => Ok(id),
            None => fail(pointer(), format!("{what} is no token of /model/vocab")),
        };
        let (left, right) = (find(left, "the left part")?, find(right, "the right part")?);
        merges.push(Merge { left, right, id: find(&joined, "what it makes")? });
    }
    Ok(merges)
}

/// Tells an error by the place of the token at fault, where one is.
fn placed(error: TokenizerError, vocab: &[(Cow<'_, str>, TokenId)]) -> FormatError {
    let id = match &error {
        TokenizerError::Vocab(
            VocabError::IdTooLarge { id, .. }
            | VocabError::DuplicateId { id }
            | VocabError::DuplicateBytes { id, .. }
            | VocabError::Empty { id },
        ) => Some(*id),
        _ => None,
    };
    let token = id.and_then(|id| vocab.iter().rev().find(|(_, other)| *other == id));
    match (&error, token) {
        (_, Some((token, _))) => FormatError::Json {
            pointer: format!("/model/vocab/{}", escaped(token)),
            reason: error.to_string(),
        },
        (TokenizerError::BadMerge { index, .. }, None) => {
            FormatError::Json { pointer: format!("/model/merges/{index}"), reason: error.to_string() }
        }
        (_, None) => FormatError::Tokenizer(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_members() {
        let check = |text: &str, expect| assert_eq!(looks_like(text.as_bytes()), expect, "{text}");
        check(r#"{"version": "1.0", "added_tokens": []}"#, true);
        check(r#"{ "pre_tokenizer" : null, "x": 1}"#, true);
        check(r#"{"model": {"type": "BPE"}}"#, true);
        check(r#"{"!": 0, "model": 7, "added_tokens": 8, "pre_tokenizer": 9}"#, false);
        check(r#"{"chat_template": "...", "model_max_length": 5}"#, false);
        check("[1]", false);
    }
}
