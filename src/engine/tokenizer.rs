//! A loaded tokenizer: normalizer, split pattern, vocabulary, merges, special tokens.
//!
//! Immutable once made. Holds for every [`Tokenizer`]: each of the 256 bytes is a token, so that no text is out of
//! vocabulary; each merge's result has the bytes of its two parts.

use super::encode::merge;
use super::merges::DuplicatePair;
use super::special::{Found, Matcher, SpecialError};
use super::{
    ChatTemplates, Merge, MergeTable, Normalizer, OffsetUnit, Pattern, Scratch, Span, Special, SpecialPolicy,
    SpecialTokens, SplitError, TokenId, Vocab, VocabError, offsets,
};
use std::ops::{ControlFlow, Range};

/// What a tokenizer is made of.
#[derive(Debug, Clone)]
pub struct TokenizerParts {
    /// Ordinary tokens: id and bytes.
    pub tokens: Vec<(TokenId, Vec<u8>)>,
    /// Merges in order of priority.
    pub merges: Vec<Merge>,
    /// Special and added tokens.
    pub specials: Vec<Special>,
    /// How text is cut before merging.
    pub pattern: Pattern,
    /// What happens to text before it is cut.
    pub normalizer: Normalizer,
    /// Whether a pretoken that is a token as a whole is taken as it is, whatever the merges say. Semantics for
    /// tiktoken vocabularies (some hold tokens that no merge reaches), a shortcut for those trained here.
    pub whole_pretokens: bool,
    /// Chat templates; carried along.
    pub chat: ChatTemplates,
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
}

/// Why a text cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The name of a special token stands in a text in which it is not allowed.
    #[error("the text holds the name of a special token at byte {offset}, which is not allowed here")]
    SpecialNotAllowed {
        /// Byte offset of the name.
        offset: usize,
    },
    /// The policy names an unknown token.
    #[error(transparent)]
    Special(#[from] SpecialError),
    /// The split pattern gave up.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// More bytes than offsets of 32 bits can tell.
    #[error("the text has over {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// The end of a text that is kept when it has more tokens than wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The first tokens (what is over is cut on the right).
    #[default]
    Start,
    /// The last tokens.
    End,
}

/// How to encode.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncodeOptions<'a> {
    /// Special tokens inside the text.
    pub special: SpecialPolicy<'a>,
    /// Whether spans are wanted, and in which unit.
    pub offsets: Option<OffsetUnit>,
    /// At most so many tokens.
    pub max_tokens: Option<usize>,
    /// Which of them, if there are more.
    pub keep: Keep,
}

/// An encoded text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<TokenId>,
    /// Where each token stands in the original text; empty unless offsets were asked for.
    pub spans: Vec<Span>,
    /// Whether `max_tokens` cut something off.
    pub truncated: bool,
}

/// A number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Tokens counted; with `exceeded` a lower bound.
    pub tokens: usize,
    /// Whether counting stopped because the limit was passed.
    pub exceeded: bool,
}

/// A loaded tokenizer. `Send + Sync`, cheap to use from many threads at once.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    merges: Vec<Merge>,
    table: MergeTable,
    specials: SpecialTokens,
    /// By id: whether the token is flagged special. As long as the highest special id.
    special_ids: Vec<bool>,
    byte_ids: Box<[TokenId; 256]>,
    pattern: Pattern,
    normalizer: Normalizer,
    whole_pretokens: bool,
    chat: ChatTemplates,
}

/// A stretch of text between special tokens, or such a token.
enum Part<'t> {
    Text(&'t str, usize),
    Token(TokenId, Range<usize>),
}

impl Tokenizer {
    /// Checks and indexes the parts.
    ///
    /// # Errors
    /// See [`TokenizerError`].
    pub fn new(parts: TokenizerParts) -> Result<Self, TokenizerError> {
        let specials = SpecialTokens::new(parts.specials)?;
        let vocab = Vocab::new(
            parts.tokens.iter().map(|(id, bytes)| (*id, bytes.as_slice())),
            specials.list().iter().map(|t| (t.id, t.name.as_bytes())),
        )?;
        let mut byte_ids = Box::new([0; 256]);
        for byte in 0..=u8::MAX {
            byte_ids[usize::from(byte)] = vocab.id(&[byte]).ok_or(TokenizerError::MissingByte { byte })?;
        }
        check_merges(&vocab, &parts.merges)?;
        let table = MergeTable::new(&parts.merges)?;
        let flagged = || specials.list().iter().filter(|t| t.special).map(|t| t.id as usize);
        let mut special_ids = vec![false; flagged().max().map_or(0, |id| id + 1)];
        flagged().for_each(|id| special_ids[id] = true);
        Ok(Self {
            vocab,
            merges: parts.merges,
            table,
            specials,
            special_ids,
            byte_ids,
            pattern: parts.pattern,
            normalizer: parts.normalizer,
            whole_pretokens: parts.whole_pretokens,
            chat: parts.chat,
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

    /// The merges by pair.
    pub fn table(&self) -> &MergeTable {
        &self.table
    }

    /// The special and added tokens.
    pub fn specials(&self) -> &SpecialTokens {
        &self.specials
    }

    /// The split pattern.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The normalizer.
    pub fn normalizer(&self) -> Normalizer {
        self.normalizer
    }

    /// See [`TokenizerParts::whole_pretokens`].
    pub fn whole_pretokens(&self) -> bool {
        self.whole_pretokens
    }

    /// Its chat templates, perhaps none.
    pub fn chat(&self) -> &ChatTemplates {
        &self.chat
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab.id_bound()
    }

    /// Whether an id is a token flagged special.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special_ids.get(id as usize).copied().unwrap_or(false)
    }

    /// Bytes of heap that this tokenizer holds.
    pub fn memory_bytes(&self) -> usize {
        self.vocab.memory_bytes()
            + self.table.memory_bytes()
            + self.merges.capacity() * size_of::<Merge>()
            + self.specials.memory_bytes()
            + self.special_ids.capacity()
    }

    /// Makes a policy on special tokens ready for many texts; [`Tokenizer::encode`] does so for one.
    ///
    /// # Errors
    /// It names a token that the vocabulary does not have.
    pub fn matcher(&self, policy: &SpecialPolicy<'_>) -> Result<Matcher<'_>, SpecialError> {
        self.specials.matcher(policy)
    }

    /// Encodes a text.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode(
        &self,
        text: &str,
        options: &EncodeOptions<'_>,
        scratch: &mut Scratch,
    ) -> Result<Encoding, EncodeError> {
        self.encode_matched(text, &self.matcher(&options.special)?, options, scratch)
    }

    /// The same with a policy made ready before, which stands in for that of the options.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode_matched(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        options: &EncodeOptions<'_>,
        scratch: &mut Scratch,
    ) -> Result<Encoding, EncodeError> {
        let mut encoding = Encoding::default();
        let max = options.max_tokens.unwrap_or(usize::MAX);
        // Only what is cut on the right can be left unread.
        let stop = if options.keep == Keep::Start { max } else { usize::MAX };
        match options.offsets {
            None => self.encode_into(text, matcher, stop, scratch, &mut encoding.ids)?,
            Some(unit) => {
                self.encode_with_spans(text, matcher, stop, scratch, &mut encoding)?;
                offsets::convert(text, &mut encoding.spans, unit);
            }
        }
        if encoding.ids.len() > max {
            encoding.truncated = true;
            match options.keep {
                Keep::Start => {
                    encoding.ids.truncate(max);
                    encoding.spans.truncate(max);
                }
                Keep::End => {
                    let over = encoding.ids.len() - max;
                    encoding.ids.drain(..over);
                    encoding.spans.drain(..over.min(encoding.spans.len()));
                }
            }
        }
        Ok(encoding)
    }

    /// Appends the ids of a text to `out`; stops soon after more than `stop` of them are there.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode_into(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        stop: usize,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        self.parts(text, matcher, |part| {
            match part {
                Part::Token(id, _) => out.push(id),
                Part::Text(text, _) => self.pattern.for_each(&self.normalizer.apply(text), |piece| {
                    self.encode_pretoken(piece.as_bytes(), scratch, out);
                    over(out.len() - start, stop)
                })?,
            }
            Ok(over(out.len() - start, stop))
        })
    }

    /// Counts the tokens of a text, reading only so far as is needed to see that there are more than `limit`.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn count(
        &self,
        text: &str,
        special: &SpecialPolicy<'_>,
        limit: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Count, EncodeError> {
        self.count_matched(text, &self.matcher(special)?, limit, scratch)
    }

    /// The same with a policy made ready before.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn count_matched(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        limit: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Count, EncodeError> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut tokens = 0;
        let mut ids = std::mem::take(&mut scratch.ids);
        let outcome = self.parts(text, matcher, |part| {
            match part {
                Part::Token(..) => tokens += 1,
                Part::Text(text, _) => self.pattern.for_each(&self.normalizer.apply(text), |piece| {
                    ids.clear();
                    self.encode_pretoken(piece.as_bytes(), scratch, &mut ids);
                    tokens += ids.len();
                    over(tokens, limit)
                })?,
            }
            Ok(over(tokens, limit))
        });
        scratch.ids = ids;
        outcome.map(|()| Count { tokens, exceeded: tokens > limit })
    }

    fn encode_with_spans(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        stop: usize,
        scratch: &mut Scratch,
        out: &mut Encoding,
    ) -> Result<(), EncodeError> {
        let Encoding { ids, spans, .. } = out;
        self.parts(text, matcher, |part| {
            match part {
                Part::Token(id, range) => {
                    ids.push(id);
                    spans.push(Span { start: range.start, end: range.end });
                }
                Part::Text(text, base) => {
                    let (normalized, alignment) = self.normalizer.apply_aligned(text);
                    let first = ids.len();
                    self.pattern.for_each(&normalized, |piece| {
                        self.encode_pretoken(piece.as_bytes(), scratch, ids);
                        over(ids.len(), stop)
                    })?;
                    let mut at = 0;
                    for &id in &ids[first..] {
                        let end = at + self.vocab.bytes(id).map_or(0, <[u8]>::len);
                        let span = alignment.original(Span { start: at, end });
                        spans.push(Span { start: base + span.start, end: base + span.end });
                        at = end;
                    }
                }
            }
            Ok(over(ids.len(), stop))
        })
    }

    /// Cuts a text at its special tokens.
    fn parts<'t>(
        &self,
        text: &'t str,
        matcher: &Matcher<'_>,
        mut take: impl FnMut(Part<'t>) -> Result<ControlFlow<()>, EncodeError>,
    ) -> Result<(), EncodeError> {
        let limit = u32::MAX as usize - 1;
        if text.len() > limit {
            return Err(EncodeError::TooLong { limit });
        }
        // A name that is not allowed is an error wherever it stands, even behind the tokens that are wanted.
        if matcher.denies() {
            deny(matcher, text)?;
        }
        let mut from = 0;
        loop {
            let (end, token) = match matcher.next(text, from) {
                Some(Found::Token(range, id)) => (range.start, Some((range, id))),
                Some(Found::Denied(range)) => {
                    return Err(EncodeError::SpecialNotAllowed { offset: range.start });
                }
                None => (text.len(), None),
            };
            if end > from && take(Part::Text(&text[from..end], from))?.is_break() {
                return Ok(());
            }
            let Some((range, id)) = token else { return Ok(()) };
            from = range.end;
            if take(Part::Token(id, range))?.is_break() {
                return Ok(());
            }
        }
    }

    #[inline]
    fn encode_pretoken(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        if let [byte] = bytes {
            out.push(self.byte_ids[usize::from(*byte)]);
        } else if let Some(id) = self.vocab.id(bytes).filter(|_| self.whole_pretokens) {
            out.push(id);
        } else {
            merge(&self.table, bytes.iter().map(|&b| self.byte_ids[usize::from(b)]), scratch, out);
        }
    }
}

fn over(tokens: usize, limit: usize) -> ControlFlow<()> {
    if tokens > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn deny(matcher: &Matcher<'_>, text: &str) -> Result<(), EncodeError> {
    let mut from = 0;
    while let Some(found) = matcher.next(text, from) {
        match found {
            Found::Token(range, _) => from = range.end,
            Found::Denied(range) => return Err(EncodeError::SpecialNotAllowed { offset: range.start }),
        }
    }
    Ok(())
}

fn check_merges(vocab: &Vocab, merges: &[Merge]) -> Result<(), TokenizerError> {
    for (index, &Merge { left, right, id }) in merges.iter().enumerate() {
        let spells = match (vocab.bytes(left), vocab.bytes(right), vocab.bytes(id)) {
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
