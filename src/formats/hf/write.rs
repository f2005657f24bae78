//! Writing a `tokenizer.json` that Hugging Face's tokenizers read to the same ids, and its `tokenizer_config.json`.

use super::components::{Dialect, decoder_json, normalizer_json, pretokenizer_json, template_json};
use crate::engine::{
    Missing, Model, Rules, Special, TokenId, Tokenizer, Unigram, UnigramFlavour, Unknown, spell,
};
use crate::formats::{FormatError, merges_reach_all};
use serde_json::{Map, Value, json};

fn inexpressible(reason: impl Into<String>) -> FormatError {
    FormatError::Inexpressible { format: "hf", reason: reason.into() }
}

/// The `tokenizer.json` of a tokenizer.
///
/// # Errors
/// [`FormatError::Inexpressible`] names what the format lacks.
pub fn write(tokenizer: &Tokenizer) -> Result<Vec<u8>, FormatError> {
    let strings = Strings::new(tokenizer);
    let string = |id: TokenId| strings.get(id).to_owned();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(tokenizer),
        "normalizer": normalizer_json(tokenizer.normalizer(), Dialect::Onig).map_err(inexpressible)?,
        "pre_tokenizer": pretokenizer_json(tokenizer.pretokenizer(), Dialect::Onig).map_err(inexpressible)?,
        "post_processor": template_json(tokenizer.template(), string),
        "decoder": decoder_json(tokenizer.decoder(), Dialect::Onig).map_err(inexpressible)?,
        "model": model(tokenizer, &strings)?,
    });
    Ok(serde_json::to_vec(&file).expect("strings, numbers and flags have a JSON form"))
}

/// How each token is written in a file: in the byte alphabet where the model has one, added tokens by their names.
pub(in crate::formats) struct Strings(Vec<Option<String>>);

impl Strings {
    pub(in crate::formats) fn new(tokenizer: &Tokenizer) -> Self {
        let vocab = tokenizer.vocab();
        let is_byte_level = tokenizer.model().is_byte_level();
        let mut strings = vec![None; vocab.id_bound()];
        for (id, bytes) in vocab.iter() {
            let spelt = is_byte_level && vocab.is_ordinary(id);
            let string = if spelt { spell(bytes) } else { String::from_utf8_lossy(bytes).into_owned() };
            strings[id as usize] = Some(string);
        }
        for special in tokenizer.specials().list() {
            strings[special.id as usize] = Some(special.name.clone());
        }
        Self(strings)
    }

    /// Empty for an id that no token has.
    pub(in crate::formats) fn get(&self, id: TokenId) -> &str {
        self.0.get(id as usize).and_then(Option::as_deref).unwrap_or_default()
    }
}

fn added_tokens(tokenizer: &Tokenizer) -> Vec<Value> {
    let mut list: Vec<&Special> = tokenizer.specials().list().iter().collect();
    list.sort_by_key(|token| token.id);
    let added = |token: &&Special| {
        json!({
            "id": token.id,
            "content": token.name,
            "single_word": token.place.single_word,
            "lstrip": token.place.lstrip,
            "rstrip": token.place.rstrip,
            "normalized": token.place.normalized,
            "special": token.special,
        })
    };
    list.iter().map(added).collect()
}

fn model(tokenizer: &Tokenizer, strings: &Strings) -> Result<Value, FormatError> {
    if tokenizer.ranks().is_some() {
        return Err(inexpressible(
            "in SentencePiece all merges into one piece have one rank; here each has its own, and texts would be cut otherwise",
        ));
    }
    let (unknown, byte_fallback) = match tokenizer.model() {
        Model::Bytes { missing: Some(Missing::Unknown(unknown)) } => (Some(*unknown), false),
        Model::Bytes { .. } => (None, false),
        Model::Chars(chars) if chars.rules == Rules::HuggingFace => (chars.unknown, chars.bytes.is_some()),
        Model::Chars(_) => return Err(inexpressible("it has SentencePiece's rules")),
        Model::Unigram(unigram) => return unigram_model(unigram, strings),
    };
    let merges: Vec<[&str; 2]> =
        tokenizer.merges().iter().map(|merge| [strings.get(merge.left), strings.get(merge.right)]).collect();
    Ok(json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown.map(|Unknown { id, .. }| strings.get(id)),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": unknown.is_some_and(|unknown| unknown.fused),
        "byte_fallback": byte_fallback,
        "ignore_merges": tokenizer.whole_pretokens() && !merges_reach_all(tokenizer),
        "vocab": vocab(tokenizer, strings)?,
        "merges": merges,
    }))
}

fn unigram_model(unigram: &Unigram, strings: &Strings) -> Result<Value, FormatError> {
    if unigram.flavour() != UnigramFlavour::HuggingFace {
        return Err(inexpressible(
            "SentencePiece sums its scores otherwise, and texts would be cut otherwise",
        ));
    }
    let piece = |id: TokenId| json!([strings.get(id), unigram.score(id)]);
    let vocab: Vec<Value> = (0..unigram.len() as TokenId).map(piece).collect();
    Ok(json!({
        "type": "Unigram",
        "unk_id": unigram.unk(),
        "vocab": vocab,
        "byte_fallback": unigram.byte_fallback(),
    }))
}

/// The tokens of the model. Those that are only added are among them where the library would not give them their ids:
/// it numbers them from the number of tokens on.
fn vocab(tokenizer: &Tokenizer, strings: &Strings) -> Result<Map<String, Value>, FormatError> {
    let vocab = tokenizer.vocab();
    let added: std::collections::BTreeSet<TokenId> =
        tokenizer.specials().list().iter().map(|t| t.id).collect();
    let only_added = |id: TokenId| added.contains(&id) && !vocab.is_ordinary(id);
    let model = vocab.iter().filter(|&(id, _)| !only_added(id)).count();
    let in_order = vocab.iter().filter(|&(id, _)| only_added(id)).map(|(id, _)| id as usize);
    let numbered = in_order.eq(model..vocab.len());
    let mut map = Map::new();
    for (id, _) in vocab.iter() {
        if numbered && only_added(id) {
            continue;
        }
        if map.insert(strings.get(id).to_owned(), Value::from(id)).is_some() {
            return Err(inexpressible(format!("token {id} would be written as another one is")));
        }
    }
    Ok(map)
}

/// The `tokenizer_config.json` that goes with it: what transformers loads it as, and the chat templates.
pub fn write_config(tokenizer: &Tokenizer) -> Vec<u8> {
    let chat = tokenizer.chat();
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    for (name, token) in &chat.tokens {
        config.insert(name.clone(), json!(token));
    }
    let template = match (chat.sources.len(), chat.sources.get("default")) {
        (0, _) => Value::Null,
        (1, Some(template)) => json!(template),
        _ => {
            let named = |(name, template)| json!({"name": name, "template": template});
            Value::Array(chat.sources.iter().map(named).collect())
        }
    };
    if !template.is_null() {
        config.insert("chat_template".to_owned(), template);
    }
    serde_json::to_vec_pretty(&config).expect("strings have a JSON form")
}
