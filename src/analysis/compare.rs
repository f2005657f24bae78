//! How a vocabulary cuts texts: the figures by which vocabularies are compared.
//!
//! Figures are sums, so that a corpus of any size is measured document by document. Those of the texts alone
//! ([`Texts`]) are the same for all vocabularies; those of a vocabulary are a [`Measure`].

use crate::engine::{
    EncodeError, EncodeOptions, Encoding, Model, OffsetUnit, Scratch, Script, Span, TokenId, Tokenizer,
    byte_of,
};
use std::collections::BTreeMap;
use unicode_segmentation::UnicodeSegmentation;

/// What texts are, whatever vocabulary cuts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Texts {
    /// Number of texts.
    pub documents: u64,
    /// UTF-8 bytes of all.
    pub bytes: u64,
    /// Unicode scalar values of all.
    pub characters: u64,
    /// Words of all (Unicode Standard Annex 29), but for those without a letter or a digit. Chinese characters are one each.
    pub words: u64,
}

impl Texts {
    /// Adds a text.
    pub fn add(&mut self, text: &str) {
        self.documents += 1;
        self.bytes += text.len() as u64;
        self.characters += text.chars().count() as u64;
        self.words += text.unicode_words().count() as u64;
    }
}

/// How the characters of one script were cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fragmentation {
    /// Characters of the script.
    pub characters: u64,
    /// Those that lie in one token as a whole.
    pub whole: u64,
    /// Those that several tokens share.
    pub split: u64,
    /// Those in place of which the unknown token stands. The rest was left out on the way, by a normalizer for one.
    pub unknown: u64,
    /// Tokens whose last character is of the script.
    pub tokens: u64,
}

/// What one vocabulary makes of texts.
#[derive(Debug, Clone)]
pub struct Measure<'t> {
    tokenizer: &'t Tokenizer,
    /// By id: what a token is besides text.
    kinds: Kinds,
    /// Tokens of all texts.
    pub tokens: u64,
    /// How many texts have so many tokens. Where tokens are `t` in all, these are fewer than `2 * sqrt(t)` numbers.
    by_tokens: BTreeMap<u64, u64>,
    /// Tokens that a word is in, summed up over all words.
    word_tokens: u64,
    /// Words that lie in one token as a whole.
    whole_words: u64,
    words: u64,
    fragments: [Fragmentation; Script::ALL.len()],
    /// A bit for each id that was seen.
    seen: Vec<u64>,
}

/// Tokens that are not their bytes: they stand for single bytes of a character, or for what is unknown.
#[derive(Debug, Clone, Default)]
struct Kinds {
    bytes: Vec<TokenId>,
    unknown: Option<TokenId>,
}

impl Kinds {
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut kinds = match tokenizer.model() {
            Model::Bytes { missing: Some(crate::engine::Missing::Unknown(unknown)) } => {
                Self { bytes: Vec::new(), unknown: Some(unknown.id) }
            }
            Model::Bytes { .. } => Self::default(),
            Model::Chars(chars) => Self {
                bytes: chars.bytes.iter().flat_map(|ids| ids.iter().flatten().copied()).collect(),
                unknown: chars.unknown.map(|unknown| unknown.id),
            },
            Model::Unigram(unigram) => {
                let is_byte =
                    |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|name| byte_of(name).is_some());
                let bytes =
                    tokenizer.vocab().iter().filter(|(_, bytes)| unigram.byte_fallback() && is_byte(bytes));
                Self { bytes: bytes.map(|(id, _)| id).collect(), unknown: unigram.unk() }
            }
        };
        kinds.bytes.sort_unstable();
        kinds
    }

    fn is_byte(&self, id: TokenId) -> bool {
        self.bytes.binary_search(&id).is_ok()
    }

    fn is_text(&self, id: TokenId) -> bool {
        Some(id) != self.unknown && !self.is_byte(id)
    }
}

impl<'t> Measure<'t> {
    /// Of no text yet.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            kinds: Kinds::of(tokenizer),
            tokens: 0,
            by_tokens: BTreeMap::new(),
            word_tokens: 0,
            whole_words: 0,
            words: 0,
            fragments: [Fragmentation::default(); Script::ALL.len()],
            seen: vec![0; tokenizer.vocab_size().div_ceil(64)],
        }
    }

    /// Adds a text, in which names of special tokens are plain text, and answers how it was cut: ids, and spans in bytes.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn add(&mut self, text: &str, scratch: &mut Scratch) -> Result<Encoding, EncodeError> {
        let options = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..EncodeOptions::default() };
        let encoding = self.tokenizer.encode(text, &options, scratch)?;
        let tokens = encoding.ids.len() as u64;
        self.tokens += tokens;
        *self.by_tokens.entry(tokens).or_default() += 1;
        for &id in &encoding.ids {
            self.seen[id as usize / 64] |= 1 << (id % 64);
        }
        self.add_characters(text, &encoding);
        self.add_words(text, &encoding);
        Ok(encoding)
    }

    fn add_characters(&mut self, text: &str, encoding: &Encoding) {
        // Tokens stand in the order of the text: `first` is the first one that may reach over the character, `ended` the
        // first that ends behind those before.
        let (mut first, mut ended) = (0, 0);
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            let fragment = &mut self.fragments[Script::of(c) as usize];
            fragment.characters += 1;
            while encoding.spans.get(ended).is_some_and(|span| span.end <= end) {
                fragment.tokens += 1;
                ended += 1;
            }
            while encoding.spans.get(first).is_some_and(|span| is_before(span, at)) {
                first += 1;
            }
            match self.kinds.cut(encoding, first, at, end) {
                Cut::Whole => fragment.whole += 1,
                Cut::Split => fragment.split += 1,
                Cut::Unknown => fragment.unknown += 1,
                Cut::Gone => {}
            }
        }
    }

    fn add_words(&mut self, text: &str, encoding: &Encoding) {
        let (mut first, mut behind) = (0, 0);
        for (at, word) in text.unicode_word_indices() {
            let end = at + word.len();
            while encoding.spans.get(first).is_some_and(|span| is_before(span, at)) {
                first += 1;
            }
            behind = first.max(behind);
            while encoding.spans.get(behind).is_some_and(|span| span.start < end) {
                behind += 1;
            }
            self.words += 1;
            self.word_tokens += (behind - first) as u64;
            let whole = behind - first == 1 && {
                let (span, id) = (encoding.spans[first], encoding.ids[first]);
                span.start <= at && end <= span.end && self.kinds.is_text(id)
            };
            self.whole_words += u64::from(whole);
        }
    }

    /// How many tokens of the vocabulary were used.
    pub fn distinct_tokens(&self) -> u64 {
        self.seen.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// Tokens that a word is in, on average; none where there is no word.
    pub fn tokens_per_word(&self) -> Option<f64> {
        ratio(self.word_tokens, self.words)
    }

    /// The share of the words that lie in one token as a whole; none where there is no word.
    pub fn one_token_words(&self) -> Option<f64> {
        ratio(self.whole_words, self.words)
    }

    /// The least number of tokens that `percent` of a hundred texts do not exceed (the nearest rank); none where there is no text.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let texts: u64 = self.by_tokens.values().sum();
        let rank = (u128::from(texts) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        self.by_tokens.iter().find_map(|(&tokens, &number)| {
            seen += u128::from(number);
            (seen >= rank).then_some(tokens)
        })
    }

    /// The most tokens of a text; none where there is no text.
    pub fn most(&self) -> Option<u64> {
        self.by_tokens.last_key_value().map(|(&tokens, _)| tokens)
    }

    /// Numbers of tokens, ascending, and how many texts have so many.
    pub fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_tokens.iter().map(|(&tokens, &number)| (tokens, number))
    }

    /// How many texts have more than so many tokens.
    pub fn longer_than(&self, tokens: u64) -> u64 {
        self.by_tokens.iter().rev().take_while(|(most, _)| **most > tokens).map(|(_, number)| number).sum()
    }

    /// By script, those of which there were characters.
    pub fn fragmentation(&self) -> impl Iterator<Item = (Script, Fragmentation)> {
        Script::ALL.into_iter().zip(self.fragments).filter(|(_, fragment)| fragment.characters > 0)
    }
}

/// What became of a character.
enum Cut {
    Whole,
    Split,
    Unknown,
    Gone,
}

impl Kinds {
    /// What became of the character at `at..end`; no token before `first` is of it. It looks at few tokens, however many
    /// claim the character.
    fn cut(&self, encoding: &Encoding, first: usize, at: usize, end: usize) -> Cut {
        let mut cut = Cut::Gone;
        let tokens = encoding.spans[first..].iter().zip(&encoding.ids[first..]);
        for (span, &id) in tokens.take_while(|(span, _)| span.start < end) {
            if Some(id) == self.unknown {
                return Cut::Unknown;
            }
            let is_byte = self.is_byte(id);
            // The token of a byte may claim the whole character.
            if span.start <= at && end <= span.end && (end - at == 1 || !is_byte) {
                return Cut::Whole;
            }
            cut = Cut::Split;
            if is_byte || span.end > at {
                return cut;
            }
        }
        cut
    }
}

/// Whether a token is of the text before `at`. One of no text is where the text behind it begins.
fn is_before(span: &Span, at: usize) -> bool {
    span.end <= at && span.start < at
}

/// A share or an average; none of nothing.
pub fn ratio(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests;
