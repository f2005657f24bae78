//! A loaded tokenizer: normalizer, pre-tokenizer, vocabulary, merges, special tokens, decoder.
//!
//! Immutable once made. Holds for every [`Tokenizer`]: each merge's result has the bytes of its two parts; where the
//! model sees bytes, each of the 256 is a token, so that no text is out of vocabulary, or the parts say what becomes
//! of those that are none.

use super::alphabet::{spell, spelt_bytes};
use super::decode::Surfaces;
use super::merges::DuplicatePair;
use super::model::{Model, Rules, Running};
use super::quick::{LONGEST_TEXT, Quick, Quickly};
use super::special::SpecialError;
use super::{
    ChatTemplates, DecodeStep, Decoder, Merge, MergeTable, Normalizer, Pattern, Pretokenizer, Rank, Special,
    SpecialTokens, SplitError, Template, TokenId, Vocab, VocabError,
};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What a tokenizer is made of.
#[derive(Debug, Clone)]
pub struct TokenizerParts {
    /// Ordinary tokens: id and bytes (for a model over characters: of the string).
    pub tokens: Vec<(TokenId, Vec<u8>)>,
    /// Tokens that no text leads to but that can be decoded: of SentencePiece those for single bytes, control and
    /// unknown; of byte-level vocabularies strings that are not all letters of the byte alphabet.
    pub unreached: Vec<(TokenId, Vec<u8>)>,
    /// Merges in order of priority.
    pub merges: Vec<Merge>,
    /// The rank of each merge, where it is not its position: merges of one rank go from left to right.
    pub ranks: Option<Vec<Rank>>,
    /// Special and added tokens.
    pub specials: Vec<Special>,
    /// How text is cut before merging.
    pub pretokenizer: Pretokenizer,
    /// What happens to text before it is cut.
    pub normalizer: Normalizer,
    /// What a pretoken is merged from, and what becomes of what is in no token.
    pub model: Model,
    /// Whether a pretoken that is a token as a whole is taken as it is, whatever the merges say. Semantics for
    /// tiktoken vocabularies (some hold tokens that no merge reaches) and where a file asks for it (`ignore_merges`), a
    /// shortcut for those trained here.
    pub whole_pretokens: bool,
    /// What is put around a text, and done to its offsets.
    pub template: Template,
    /// How tokens become text.
    pub decoder: Decoder,
    /// Chat templates; carried along.
    pub chat: ChatTemplates,
}

impl TokenizerParts {
    /// Parts of a plain byte-level tokenizer: bytes merge as `merges` say within the pieces of `pattern`.
    pub fn byte_level(tokens: Vec<(TokenId, Vec<u8>)>, merges: Vec<Merge>, pattern: Pattern) -> Self {
        Self {
            tokens,
            unreached: Vec::new(),
            merges,
            ranks: None,
            specials: Vec::new(),
            pretokenizer: Pretokenizer::Pattern(pattern),
            normalizer: Normalizer::None,
            model: Model::Bytes { missing: None },
            whole_pretokens: false,
            template: Template::default(),
            decoder: Decoder::Bytes,
            chat: ChatTemplates::default(),
        }
    }
}

/// Why parts do not make a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The tokens are at fault.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// The special tokens are at fault.
    #[error(transparent)]
    Special(#[from] SpecialError),
    /// A pair is merged twice.
    #[error(transparent)]
    Merges(#[from] DuplicatePair),
    /// A regex of the decoder used up its steps on a token.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// One of the 256 bytes is no token.
    #[error("byte 0x{byte:02x} is no token; a byte-level vocabulary needs all 256")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A merge names an id that is no ordinary token, or its result is not its parts joined.
    #[error("merge {index} ({left}, {right}) does not spell token {id}")]
    BadMerge {
        /// Position in the list.
        index: usize,
        /// Left part.
        left: TokenId,
        /// Right part.
        right: TokenId,
        /// The result it names.
        id: TokenId,
    },
    /// The model and the pre-tokenizer do not speak of the same: bytes, or characters.
    #[error("the model and the pre-tokenizer must both see bytes or both see characters")]
    Alphabet,
    /// A token that is put around texts, or stands for what is unknown, is none of the vocabulary.
    #[error("token {id}, which the vocabulary puts into texts, is not in it")]
    NoSuchToken {
        /// Its id.
        id: TokenId,
    },
    /// There is not a rank for each merge.
    #[error("{merges} merges have {ranks} ranks")]
    Ranks {
        /// Number of merges.
        merges: usize,
        /// Number of ranks.
        ranks: usize,
    },
}

/// Bytes of texts that are encoded before the tables of the quick way are made.
const UNPREPARED_BYTES: usize = 64 << 10;

/// A loaded tokenizer. `Send + Sync`, cheap to use from many threads at once.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    merges: Vec<Merge>,
    ranks: Option<Vec<Rank>>,
    table: MergeTable,
    specials: SpecialTokens,
    /// By id: whether the token is flagged special. As long as the highest special id.
    special_ids: Vec<bool>,
    byte_ids: Box<[Option<TokenId>; 256]>,
    pretokenizer: Pretokenizer,
    normalizer: Normalizer,
    model: Model,
    /// Ids of the characters that merge without being tokens; see [`Rules::SentencePiece`].
    joining: HashMap<char, TokenId, FixedState>,
    whole_pretokens: bool,
    template: Template,
    decoder: Decoder,
    surfaces: Surfaces,
    chat: ChatTemplates,
    /// The quick way to encode, where there is one; see [`Tokenizer::prepare`].
    quick: OnceLock<Option<Box<Quick>>>,
    /// Bytes of texts encoded without it.
    encoded: AtomicUsize,
    /// Whether somebody makes it.
    preparing: AtomicBool,
}

impl Tokenizer {
    /// Checks and indexes the parts.
    ///
    /// # Errors
    /// See [`TokenizerError`].
    pub fn new(mut parts: TokenizerParts) -> Result<Self, TokenizerError> {
        let tokens = std::mem::take(&mut parts.tokens);
        Self::with_tokens(parts, tokens.iter().map(|(id, bytes)| (*id, bytes.as_slice())))
    }

    /// The same with ordinary tokens that lie somewhere else, in the place of those among the parts: a file has them
    /// side by side, and to gather them one by one costs more than all the rest.
    ///
    /// # Errors
    /// See [`TokenizerError`].
    pub fn with_tokens<'t>(
        parts: TokenizerParts,
        tokens: impl Iterator<Item = (TokenId, &'t [u8])> + Clone,
    ) -> Result<Self, TokenizerError> {
        let specials = SpecialTokens::new(parts.specials, &parts.normalizer)?;
        // What a special token stands for when it is decoded: its name, or, as in the reference, the normalized name, which
        // may spell bytes.
        let read_names = parts.decoder == Decoder::ByteLevel;
        let name_bytes = |(token, pattern): (&Special, &str)| match read_names {
            true => spelt_bytes(pattern).unwrap_or_else(|| pattern.as_bytes().to_vec()),
            false => token.name.as_bytes().to_vec(),
        };
        let is_byte_level = parts.model.is_byte_level();
        let spelt = if is_byte_level { spelt_names(tokens.clone(), &specials) } else { HashSet::default() };
        let unspelt = specials.patterns().filter(|(token, _)| !spelt.contains(&token.id));
        let names: Vec<(TokenId, Vec<u8>)> = unspelt.map(|named| (named.0.id, name_bytes(named))).collect();
        let mut decoder = parts.decoder;
        if read_names && specials.patterns().any(|(t, pattern)| spelt.contains(&t.id) && t.name != pattern) {
            // The bytes of an ordinary token when texts are encoded, and others when it is decoded.
            decoder = Decoder::Steps(vec![DecodeStep::ByteLevel]);
        }
        // A special token may be one of those as well, and is then decoded as it.
        let is_named = |(id, bytes): &&(TokenId, Vec<u8>)| {
            std::str::from_utf8(bytes).is_ok_and(|name| specials.by_name(name).is_some_and(|t| t.id == *id))
        };
        let unreached = parts.unreached.iter().filter(|token| !is_named(token));
        let others = unreached.chain(&names).map(|(id, bytes)| (*id, bytes.as_slice()));
        let vocab = Vocab::new(tokens, others)?;
        if is_byte_level != parts.pretokenizer.is_byte_level() {
            return Err(TokenizerError::Alphabet);
        }
        let mut byte_ids = Box::new([None; 256]);
        if let Model::Bytes { missing } = &parts.model {
            for byte in 0..=u8::MAX {
                let id = vocab.id(&[byte]);
                if id.is_none() && missing.is_none() {
                    return Err(TokenizerError::MissingByte { byte });
                }
                byte_ids[usize::from(byte)] = id;
            }
        }
        let joining = joining(&parts.model, vocab.id_bound());
        check_ids(&vocab, &parts.model, &parts.template)?;
        check_merges(&vocab, &parts.model, &parts.merges)?;
        if let Some(ranks) = parts.ranks.as_ref().filter(|ranks| ranks.len() != parts.merges.len()) {
            return Err(TokenizerError::Ranks { merges: parts.merges.len(), ranks: ranks.len() });
        }
        let table = MergeTable::with_ranks(&parts.merges, parts.ranks.as_deref())?;
        // As in the reference what is left out is what is decoded to the name of a special token, and so not a special token
        // that is decoded as something else.
        let special_name = |name| specials.by_name(name).is_some_and(|token| token.special);
        let flagged = || specials.patterns().filter(|(_, pattern)| special_name(pattern));
        let flagged = || flagged().map(|(t, _)| t.id as usize);
        let mut special_ids = vec![false; flagged().max().map_or(0, |id| id + 1)];
        flagged().for_each(|id| special_ids[id] = true);

        let patterns: HashMap<TokenId, &str> =
            specials.patterns().map(|(t, pattern)| (t.id, pattern)).collect();
        let surfaces = Surfaces::new(&decoder, vocab.id_bound(), |id| match patterns.get(&id) {
            Some(pattern) => Some((*pattern).to_owned()),
            None if is_byte_level && vocab.is_ordinary(id) => vocab.bytes(id).map(spell),
            None => vocab.bytes(id).map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        })?;
        drop(patterns);
        Ok(Self {
            quick: OnceLock::new(),
            encoded: AtomicUsize::new(0),
            preparing: AtomicBool::new(false),
            vocab,
            merges: parts.merges,
            ranks: parts.ranks,
            table,
            special_ids,
            byte_ids,
            pretokenizer: parts.pretokenizer,
            normalizer: parts.normalizer,
            model: parts.model,
            joining,
            whole_pretokens: parts.whole_pretokens,
            template: parts.template,
            decoder,
            surfaces,
            chat: parts.chat,
            specials,
        })
    }

    /// The tokens.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The merges in order of priority.
    pub fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The rank of each merge, where that is not its position.
    pub fn ranks(&self) -> Option<&[Rank]> {
        self.ranks.as_deref()
    }

    /// The merges by pair.
    pub fn table(&self) -> &MergeTable {
        &self.table
    }

    /// The special and added tokens.
    pub fn specials(&self) -> &SpecialTokens {
        &self.specials
    }

    /// How text is cut.
    pub fn pretokenizer(&self) -> &Pretokenizer {
        &self.pretokenizer
    }

    /// The normalizer.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// What pretokens are merged from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// See [`TokenizerParts::whole_pretokens`].
    pub fn whole_pretokens(&self) -> bool {
        self.whole_pretokens
    }

    /// What is put around a text.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// How tokens become text.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Makes the tables of the quick way to encode, for vocabularies that have it. Not done by [`Tokenizer::new`], as it takes
    /// several times as long (60 ms for 200,000 tokens): without this call it is done once some texts were encoded, on the thread
    /// of the text that is one too many. While it is done others go the slow way.
    pub fn prepare(&self) {
        if self.quick.get().is_some() || self.preparing.swap(true, Relaxed) {
            return;
        }
        let is_quick = match &self.model {
            // Ranks of their own are SentencePiece's; over bytes a merge's position is taken for its rank.
            Model::Bytes { missing: None } => {
                matches!(self.pretokenizer, Pretokenizer::Pattern(_)) && self.ranks.is_none()
            }
            Model::Chars(chars) => chars.encodes_by_parts(&self.merges),
            Model::Bytes { .. } | Model::Unigram(_) => false,
        };
        let make = || Box::new(Quick::new(&self.running(), &self.merges));
        let _made_once = self.quick.set(is_quick.then(make));
    }

    /// Whether that has been done.
    pub fn is_prepared(&self) -> bool {
        self.quick.get().is_some()
    }

    /// The quick way to encode a text of so many bytes.
    pub(super) fn quick(&self, bytes: usize) -> Option<Quickly<'_>> {
        if bytes > LONGEST_TEXT {
            return None;
        }
        if self.quick.get().is_none()
            && self.encoded.fetch_add(bytes, Relaxed).saturating_add(bytes) > UNPREPARED_BYTES
        {
            self.prepare();
        }
        let quick = self.quick.get()?.as_deref()?;
        match (&self.pretokenizer, &self.model) {
            (_, Model::Chars(chars)) => Some(Quickly::Chars(quick, chars)),
            (Pretokenizer::Pattern(pattern), _) => Some(Quickly::Pattern(quick, pattern)),
            (Pretokenizer::Steps(_), _) => None,
        }
    }

    pub(super) fn surfaces(&self) -> &Surfaces {
        &self.surfaces
    }

    /// Its chat templates, perhaps none.
    pub fn chat(&self) -> &ChatTemplates {
        &self.chat
    }

    /// The same with other chat templates.
    #[must_use]
    pub fn with_chat(self, chat: ChatTemplates) -> Self {
        Self { chat, ..self }
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab.id_bound()
    }

    /// Whether an id is a token flagged special.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special_ids.get(id as usize).copied().unwrap_or(false)
    }

    /// Bytes of heap that this tokenizer holds, or will once it is used.
    pub fn memory_bytes(&self) -> usize {
        self.vocab.memory_bytes()
            + self.table.memory_bytes()
            + self.merges.capacity() * size_of::<Merge>()
            + self.ranks.as_ref().map_or(0, |ranks| ranks.capacity() * size_of::<Rank>())
            + self.specials.memory_bytes()
            + self.special_ids.capacity()
            + self.surfaces.memory_bytes()
            + match (self.quick.get(), self.model.is_all_bytes() || self.model.chars().is_some()) {
                (Some(quick), _) => quick.as_deref().map_or(0, Quick::memory_bytes),
                (None, true) => Quick::usual_memory_bytes(self.vocab.len()),
                (None, false) => 0,
            }
            + match &self.model {
                Model::Unigram(unigram) => unigram.memory_bytes(),
                Model::Bytes { .. } | Model::Chars(_) => 0,
            }
    }

    pub(super) fn running(&self) -> Running<'_> {
        Running {
            vocab: &self.vocab,
            table: &self.table,
            byte_ids: &self.byte_ids,
            whole: self.whole_pretokens,
            joining: &self.joining,
            chars: self.model.chars(),
        }
    }
}

/// The special tokens that are ordinary ones as well, by the letters that stand for their bytes. What they stand for is
/// then those bytes.
fn spelt_names<'t>(
    tokens: impl Iterator<Item = (TokenId, &'t [u8])>,
    specials: &SpecialTokens,
) -> HashSet<TokenId, FixedState> {
    let names: HashMap<TokenId, &str, FixedState> =
        specials.list().iter().map(|t| (t.id, t.name.as_str())).collect();
    let Some((&first, &last)) = names.keys().min().zip(names.keys().max()) else { return HashSet::default() };
    let is_spelt = |id: TokenId, bytes| names.get(&id).is_some_and(|name| spell(bytes) == *name);
    // Special tokens mostly lie together, behind the others.
    let between = tokens.filter(|(id, _)| (first..=last).contains(id));
    between.filter(|&(id, bytes)| is_spelt(id, bytes)).map(|(id, _)| id).collect()
}

/// The ids of characters that merge without being tokens.
fn joining(model: &Model, bound: usize) -> HashMap<char, TokenId, FixedState> {
    let Model::Chars(chars) = model else { return HashMap::default() };
    let Rules::SentencePiece { joining } = &chars.rules else { return HashMap::default() };
    joining.iter().copied().zip(bound as TokenId..).collect()
}

fn check_ids(vocab: &Vocab, model: &Model, template: &Template) -> Result<(), TokenizerError> {
    let (unknown, bytes) = match model {
        Model::Bytes { missing: Some(super::Missing::Unknown(unknown)) } => (Some(unknown.id), None),
        Model::Bytes { .. } => (None, None),
        Model::Chars(chars) => (chars.unknown.map(|unknown| unknown.id), chars.bytes.as_deref()),
        // All of its pieces are tokens if the last one is.
        Model::Unigram(unigram) => (unigram.len().checked_sub(1).map(|last| last as TokenId), None),
    };
    let ids = template.before.iter().chain(&template.after).copied().chain(unknown);
    let ids = ids.chain(bytes.into_iter().flatten().flatten().copied());
    match ids.into_iter().find(|&id| vocab.bytes(id).is_none()) {
        Some(id) => Err(TokenizerError::NoSuchToken { id }),
        None => Ok(()),
    }
}

fn check_merges(vocab: &Vocab, model: &Model, merges: &[Merge]) -> Result<(), TokenizerError> {
    let bound = vocab.id_bound();
    let joining: Vec<String> = match model {
        Model::Chars(super::Chars { rules: Rules::SentencePiece { joining }, .. }) => {
            joining.iter().map(char::to_string).collect()
        }
        _ => Vec::new(),
    };
    let bytes = |id: TokenId| match (id as usize).checked_sub(bound) {
        None => vocab.bytes(id),
        Some(beyond) => joining.get(beyond).map(String::as_bytes),
    };
    for (index, &Merge { left, right, id }) in merges.iter().enumerate() {
        if vocab.arena().is_joined(id, left, right) {
            continue;
        }
        let spells = match (bytes(left), bytes(right), vocab.bytes(id)) {
            (Some(l), Some(r), Some(whole)) => whole.strip_prefix(l) == Some(r),
            _ => false,
        };
        if !spells {
            return Err(TokenizerError::BadMerge { index, left, right, id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
