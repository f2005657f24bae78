//! Byte-level vocabularies (`tokenizer.ggml.model` is `gpt2`): tokens in the byte alphabet, and merges.

use super::metadata::Metadata;
use super::{ADD_BOS, ADD_EOS, BOS, EOS, Tokens, pre, shown};
use crate::engine::{
    Decoder, Form, Merge, Missing, Model, Normalizer, PieceKind, Pretokenizer, Special, Tables, Template,
    TokenId, Tokenizer, TokenizerError, TokenizerParts, VocabError, spelt_bytes,
};
use crate::formats::hf::has_all_bytes;
use crate::formats::{FormatError, ImportOptions};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub(super) fn read(metadata: &Metadata<'_>, options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    if !options.special.is_empty() {
        let reason = "cannot be given: a GGUF file has its own".to_owned();
        return Err(FormatError::Option { option: "special", reason });
    }
    let tokens = Tokens::read(metadata)?;
    let merges = merges(metadata, &tokens)?;
    let name = metadata.get("tokenizer.ggml.pre");
    let pre = name.map(|entry| entry.text()).transpose()?.and_then(pre::find);
    let known = pre.map(|pre| pre.pattern()).transpose();
    let known = known.map_err(|e| FormatError::Option { option: "split", reason: e.to_string() })?;
    let Some(pattern) = options.pattern(known)? else {
        let why = match name {
            Some(entry) => format!("tokenizer.ggml.pre is {}, which is not known here", shown(entry.text()?)),
            None => "the file has no tokenizer.ggml.pre that would say it".to_owned(),
        };
        return Err(FormatError::Option { option: "split", reason: format!("must be given: {why}") });
    };
    let nfc = Normalizer::Unicode(Form::Nfc, Tables::Reference);
    let form = if pre.is_some_and(|pre| pre.nfc) { nfc } else { Normalizer::None };

    let Sorted { ordinary, unreached, mut specials } = sorted(&tokens, &merges)?;
    for special in &mut specials {
        special.place.lstrip = pre.is_some_and(|pre| pre.lstrip == Some(special.name.as_str()));
    }
    let missing = if has_all_bytes(&ordinary) { None } else { Some(Missing::LeftOut) };
    let (bos, eos) = (tokens.named(metadata, BOS)?, tokens.named(metadata, EOS)?);
    let before = tokens.around(metadata, ADD_BOS, pre.is_some_and(|pre| pre.bos), bos)?;
    let after = tokens.around(metadata, ADD_EOS, false, eos)?;
    let parts = TokenizerParts {
        tokens: ordinary,
        unreached,
        merges,
        ranks: None,
        specials,
        pretokenizer: Pretokenizer::Pattern(pattern),
        normalizer: options.normalizer(form)?,
        model: Model::Bytes { missing },
        whole_pretokens: pre.is_some_and(|pre| pre.whole),
        template: Template {
            before: before.into_iter().collect(),
            after: after.into_iter().collect(),
            ..Template::default()
        },
        decoder: Decoder::ByteLevel,
        chat: tokens.chat(metadata)?,
    };
    Tokenizer::new(parts).or_else(|error| match error {
        TokenizerError::BadMerge { .. } | TokenizerError::Merges(_) => {
            metadata.want(MERGES)?.fail(format!("do not fit the tokens: {error}"))
        }
        TokenizerError::Vocab(VocabError::DuplicateBytes { .. }) | TokenizerError::Special(_) => {
            tokens.entry.fail(format!("cannot be used: {error}"))
        }
        error => Err(error.into()),
    })
}

const MERGES: &str = "tokenizer.ggml.merges";

/// The merges. The two parts of each are joined by a space, which the byte alphabet does not have.
fn merges(metadata: &Metadata<'_>, tokens: &Tokens<'_>) -> Result<Vec<Merge>, FormatError> {
    let entry = metadata.want(MERGES)?;
    let (count, lines) = entry.texts()?;
    let mut ids: HashMap<&str, TokenId, FixedState> =
        HashMap::with_capacity_and_hasher(tokens.len(), FixedState::default());
    for (id, text) in (0..).zip(&tokens.texts) {
        if let (Some(other), false) = (ids.insert(text, id), text.is_empty()) {
            return tokens.entry.fail(format!("{id} has the text of token {other}"));
        }
    }
    let mut joined = String::new();
    // The count was checked against the file.
    let mut merges = Vec::with_capacity(count);
    for (index, line) in lines.enumerate() {
        let text = std::str::from_utf8(line).ok();
        // A space in the first place would belong to the left part.
        let space = line.get(1..).and_then(|rest| memchr::memchr(b' ', rest));
        let parts =
            text.zip(space).and_then(|(text, space)| Some((text.get(..=space)?, text.get(space + 2..)?)));
        let Some((left, right)) = parts else { return entry.fail(format!("{index} is not two tokens")) };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let find = |part: &str, what: &str| match ids.get(part).filter(|_| !part.is_empty()) {
            Some(&id) => Ok(id),
            None => entry.fail(format!("{index}: {what} is no token")),
        };
        let (left, right) = (find(left, "the left part")?, find(right, "the right part")?);
        merges.push(Merge { left, right, id: find(&joined, "what it makes")? });
    }
    Ok(merges)
}

struct Sorted {
    ordinary: Vec<(TokenId, Vec<u8>)>,
    unreached: Vec<(TokenId, Vec<u8>)>,
    specials: Vec<Special>,
}

/// Which tokens texts lead to, which none does, and which are found by their names.
fn sorted(tokens: &Tokens<'_>, merges: &[Merge]) -> Result<Sorted, FormatError> {
    let mut merged = vec![false; tokens.len()];
    merges.iter().flat_map(|m| [m.left, m.right, m.id]).for_each(|id| merged[id as usize] = true);
    let mut sorted =
        Sorted { ordinary: Vec::with_capacity(tokens.len()), unreached: Vec::new(), specials: Vec::new() };
    for ((id, &text), &kind) in (0..).zip(&tokens.texts).zip(&tokens.kinds) {
        if text.is_empty() {
            // The name that llama.cpp gives it.
            sorted.unreached.push((id, format!("[EMPTY_{id}]").into_bytes()));
            continue;
        }
        let special = matches!(kind, PieceKind::Unknown | PieceKind::Control);
        match (kind, spelt_bytes(text)) {
            (PieceKind::Byte, _) => {
                return tokens.entry.fail(format!("{id} is of the type byte, which gpt2 does not have"));
            }
            (PieceKind::Normal, Some(bytes)) => sorted.ordinary.push((id, bytes)),
            (PieceKind::Normal | PieceKind::Unused, _) => {
                sorted.unreached.push((id, text.as_bytes().to_vec()))
            }
            (PieceKind::Unknown | PieceKind::Control | PieceKind::UserDefined, bytes) => {
                // An added token that was an ordinary one before is that still.
                let ordinary = bytes.filter(|bytes| merged[id as usize] || is_needed(bytes));
                sorted.ordinary.extend(ordinary.map(|bytes| (id, bytes)));
                sorted.specials.push(Special::new(text, id, special));
            }
        }
    }
    Ok(sorted)
}

/// Whether a token is a byte that a text may have. Those that no text has are found in some files as added tokens, by
/// letters that texts do have; nothing but the name leads to them.
fn is_needed(bytes: &[u8]) -> bool {
    matches!(bytes, [byte] if !matches!(byte, 0xc0 | 0xc1 | 0xf5..))
}
