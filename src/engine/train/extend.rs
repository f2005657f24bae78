//! Extension: a vocabulary of bytes carried on with a corpus, all of its ids staying what they are.
//!
//! Each distinct pretoken is encoded with the base, and the same loop goes on from there. New ids follow the highest
//! one that the base uses, special tokens included. A pair that spells a token which is there already is never merged:
//! the base had its reasons, and a second id for the same bytes would be one that no text leads to.
//!
//! [`Words`] is another rule, that of Qwen's published extension: words with frequencies, merged until each is one
//! token.

use super::merge::{ById, Limits, Order};
use super::scripts::Scripts;
use super::start::{self, Made, Start};
use super::words::{WordSums, Words};
use super::{LearnedMerge, MAX_VOCAB_SIZE, Observer, StopReason, TrainConfig, TrainError, merging_bytes};
use crate::engine::{
    Merge, Model, Pattern, Pretokenizer, Scratch, Special, TokenId, TokenScript, Tokenizer, TokenizerParts,
};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::ops::ControlFlow;

/// A base that can be extended, and how.
#[derive(Debug)]
pub struct Extension<'b> {
    base: &'b Tokenizer,
    scripts: Option<Scripts>,
}

/// What an extension learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// The bytes of the new tokens, one for each merge, in order.
    pub tokens: Vec<Vec<u8>>,
    /// The new merges, in order; they come after those of the base.
    pub merges: Vec<LearnedMerge>,
    /// Special tokens that the base has not, with the ids after the new tokens.
    pub special_tokens: Vec<(String, TokenId)>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How many different pretokens the corpus has.
    pub distinct_pretokens: u64,
    /// How many pretokens the corpus has.
    pub total_pretokens: u64,
    /// How many bytes these have together.
    pub total_bytes: u64,
    /// By id, how often the corpus as merged has each token, those of the base included.
    pub frequencies: Vec<u64>,
    /// How many tokens the corpus has with the base alone.
    pub tokens_before: u64,
}

/// Why a vocabulary cannot be a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It is no byte-level BPE.
    #[error("is not a byte-level BPE vocabulary, and only such can be extended")]
    NotByteLevel,
    /// Its merges have ranks of their own.
    #[error("has merges that share ranks, which cannot be extended")]
    Ranks,
    /// Its way to cut texts is more than a pattern.
    #[error("cuts texts by more than a split pattern; name one with split")]
    Pretokenizer,
}

impl<'b> Extension<'b> {
    /// Of this base; with `scripts` new tokens are made of characters of these only.
    pub fn new(base: &'b Tokenizer, scripts: Option<Scripts>) -> Result<Self, BaseError> {
        match base.model() {
            Model::Bytes { missing: None } => {}
            _ => return Err(BaseError::NotByteLevel),
        }
        if base.ranks().is_some() {
            return Err(BaseError::Ranks);
        }
        Ok(Self { base, scripts })
    }

    /// The split pattern of the base.
    pub fn pattern(&self) -> Result<Pattern, BaseError> {
        match self.base.pretokenizer() {
            Pretokenizer::Pattern(pattern) => Ok(pattern.clone()),
            _ => Err(BaseError::Pretokenizer),
        }
    }

    /// Checks the config for this base. Its special tokens are all names that end a record; those which the base has
    /// not get new ids.
    pub fn validate(&self, config: &TrainConfig) -> Result<(), TrainError> {
        config.validate_counting()?;
        let base = self.base.vocab_size() as u64 + self.new_specials(config).count() as u64;
        match (config.vocab_size, config.num_merges) {
            (None, None) => return Err(TrainError::NoStopRule),
            (Some(vocab_size), _) if u64::from(vocab_size) <= base => {
                return Err(TrainError::VocabSizeBelowBase { vocab_size, base });
            }
            (Some(vocab_size), _) if vocab_size > MAX_VOCAB_SIZE => {
                return Err(TrainError::VocabSizeTooLarge { vocab_size, limit: MAX_VOCAB_SIZE });
            }
            (_, Some(0)) => return Err(TrainError::NoMerges),
            (None, Some(n)) if u64::from(n) + base > u64::from(MAX_VOCAB_SIZE) => {
                let limit = u64::from(MAX_VOCAB_SIZE).saturating_sub(base);
                return Err(TrainError::NumMergesTooLarge { num_merges: n, limit });
            }
            _ => {}
        }
        match config.max_token_bytes {
            Some(max_token_bytes @ 0..2) => Err(TrainError::MaxTokenBytesTooSmall { max_token_bytes }),
            _ => Ok(()),
        }
    }

    /// Learns new merges from counted pretokens. The first may be known from a run that was not brought to its end, as
    /// in [`super::resume`].
    pub fn train<W: Words>(
        &self,
        words: &W,
        config: &TrainConfig,
        done: &[LearnedMerge],
        observer: &mut impl Observer,
    ) -> Result<Extended, W::Error> {
        self.validate(config)?;
        let new_specials = self.new_specials(config).count() as u64;
        let base = self.base.vocab_size() as u64 + new_specials;
        let by_size = config.vocab_size.map(|n| (n - base as u32, StopReason::VocabSize));
        let by_merges = config.num_merges.map(|n| (n, StopReason::NumMerges));
        let (wanted, when_done) = [by_size, by_merges]
            .into_iter()
            .flatten()
            .min_by_key(|(n, _)| *n)
            .unwrap_or((0, StopReason::NumMerges));
        let limits = Limits {
            wanted,
            least_count: config.least_count(),
            max_token_bytes: config.max_token_bytes.unwrap_or(u32::MAX),
        };
        self.learn(words, config, (&limits, ById), done, when_done, observer)
    }

    fn learn<W: Words, O: Order + Copy>(
        &self,
        words: &W,
        config: &TrainConfig,
        (limits, order): (&Limits, O),
        done: &[LearnedMerge],
        when_done: StopReason,
        observer: &mut impl Observer,
    ) -> Result<Extended, W::Error> {
        let totals = words.totals();
        if totals.distinct == 0 {
            return Err(TrainError::EmptyCorpus.into());
        }
        let vocab = self.base.vocab();
        let first = vocab.id_bound();
        let mut tokens: Vec<Vec<u8>> =
            (0..first).map(|id| vocab.bytes(id as TokenId).unwrap_or_default().to_vec()).collect();
        super::add_tokens(&mut tokens, done, limits.wanted)?;
        let running = self.base.running();
        let whole = |word: &[u8]| running.whole_token(word).filter(|&id| vocab.is_ordinary(id));
        let start = Start {
            byte_ids: *running.byte_ids,
            merges: self.base.merges().iter().copied().chain(done.iter().map(Merge::from)).collect(),
            done: done.len() as u32,
            whole: Some(&whole),
        };
        let mut made: HashSet<Vec<u8>, FixedState> = tokens[first..].iter().cloned().collect();
        let allowed = |token: &[u8]| {
            self.scripts.as_ref().is_none_or(|scripts| scripts.allow(token))
                && vocab.id(token).is_none()
                && made.insert(token.to_vec())
        };
        let learned =
            start::learn(words, &start, &mut tokens, (limits, order), config.max_memory, allowed, observer)?;
        let Made { merges: more, mut frequencies } = learned;
        let merges = [done, &more].concat();
        let new_specials = self.new_specials(config).count();
        frequencies.resize(tokens.len() + new_specials, 0);
        let tokens_after: u64 = frequencies.iter().sum();
        let new = tokens.split_off(first);
        let ids = (first + new.len()) as TokenId..;
        Ok(Extended {
            stop_reason: if merges.len() as u32 == limits.wanted {
                when_done
            } else {
                StopReason::NothingFrequent
            },
            special_tokens: self.new_specials(config).cloned().zip(ids).collect(),
            tokens_before: tokens_after + merges.iter().map(|merge| merge.made).sum::<u64>(),
            tokens: new,
            merges,
            frequencies,
            distinct_pretokens: totals.distinct,
            total_pretokens: totals.pretokens,
            total_bytes: totals.bytes,
        })
    }

    fn new_specials<'c>(&self, config: &'c TrainConfig) -> impl Iterator<Item = &'c String> {
        config.special_tokens.iter().filter(|name| self.base.specials().by_name(name).is_none())
    }

    /// The base with what was learned: everything that it has stays. `pattern` is how texts are cut from now on.
    pub fn parts(&self, extended: &Extended, pretokenizer: Pretokenizer) -> TokenizerParts {
        let base = self.base;
        let vocab = base.vocab();
        let owned = |(id, bytes): (TokenId, &[u8])| (id, bytes.to_vec());
        let named: HashSet<TokenId, FixedState> = base.specials().list().iter().map(|t| t.id).collect();
        let unreached = vocab.iter().filter(|(id, _)| !vocab.is_ordinary(*id) && !named.contains(id));
        let new = extended.merges.iter().map(|merge| merge.id).zip(extended.tokens.iter().cloned());
        let specials = extended.special_tokens.iter().map(|(name, id)| Special::new(name.clone(), *id, true));
        TokenizerParts {
            tokens: vocab.ordinary().map(owned).chain(new).collect(),
            unreached: unreached.map(owned).collect(),
            merges: base.merges().iter().copied().chain(extended.merges.iter().map(Merge::from)).collect(),
            ranks: None,
            specials: base.specials().list().iter().cloned().chain(specials).collect(),
            pretokenizer,
            normalizer: base.normalizer().clone(),
            model: base.model().clone(),
            whole_pretokens: base.whole_pretokens(),
            template: base.template().clone(),
            decoder: base.decoder().clone(),
            chat: base.chat().clone(),
        }
    }
}

/// What pretokens of one script come to, in several vocabularies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptTokens {
    /// The name of the script, as [`TokenScript`] has it.
    pub script: &'static str,
    /// Bytes of its pretokens, each as often as it occurs.
    pub bytes: u64,
    /// Their tokens, by vocabulary.
    pub tokens: Vec<u64>,
}

/// What counted pretokens come to in vocabularies of bytes, by script, those with the most bytes first.
///
/// # Errors
/// The pretokens cannot be gone through.
pub fn tokens_by_script<W: Words>(
    words: &W,
    vocabularies: &[&Tokenizer],
) -> Result<Vec<ScriptTokens>, W::Error> {
    let mut all: Vec<ScriptTokens> = Vec::new();
    let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
    words.each(&mut |word, count| {
        let script = TokenScript::of(word).name();
        let at = all.iter().position(|known| known.script == script).unwrap_or_else(|| {
            all.push(ScriptTokens { script, bytes: 0, tokens: vec![0; vocabularies.len()] });
            all.len() - 1
        });
        all[at].bytes += count * word.len() as u64;
        for (tokens, vocabulary) in all[at].tokens.iter_mut().zip(vocabularies) {
            ids.clear();
            vocabulary.running().bytes(word, &mut scratch, &mut ids);
            *tokens += count * ids.len() as u64;
        }
        Ok(())
    })?;
    all.sort_by_key(|script| (std::cmp::Reverse(script.bytes), script.script));
    Ok(all)
}

impl From<&LearnedMerge> for Merge {
    fn from(merge: &LearnedMerge) -> Self {
        Self { left: merge.left, right: merge.right, id: merge.id }
    }
}

/// Of equally frequent pairs the one that makes the token of fewest characters, then of fewest bytes, then the first in
/// the order of texts, then of bytes; as the published extension of Qwen has it.
#[derive(Clone, Copy)]
struct ByText;

impl Order for ByText {
    type Key = (usize, usize, String, Vec<u8>);

    fn key(&self, tokens: &[Vec<u8>], left: TokenId, right: TokenId) -> Self::Key {
        let token = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
        let text = String::from_utf8_lossy(&token).into_owned();
        (text.chars().count(), token.len(), text, token)
    }
}

/// Words that were left out of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The split pattern cuts them.
    pub cut: u64,
    /// They are one token already.
    pub tokens: u64,
}

impl Extension<'_> {
    /// Learns the tokens that words with frequencies need to be one token each. Words that the pattern cuts, or that
    /// are one token already, are left out and counted. `vocab_size` and `num_merges` may stop it before that,
    /// `min_frequency` and tie breaks have no say.
    pub fn train_words<W: Words>(
        &self,
        words: &W,
        config: &TrainConfig,
        observer: &mut impl Observer,
    ) -> Result<(Extended, LeftOut), W::Error> {
        let mut config = config.clone();
        let when_done =
            if config.vocab_size.is_some() { StopReason::VocabSize } else { StopReason::NumMerges };
        if config.vocab_size.is_none() && config.num_merges.is_none() {
            let base = self.base.vocab_size() as u64 + self.new_specials(&config).count() as u64;
            config.num_merges = Some((u64::from(MAX_VOCAB_SIZE).saturating_sub(base) as u32).max(1));
        }
        self.validate(&config)?;
        if merging_bytes(&words.totals()) > config.max_memory as u64 {
            // A list of words is no corpus: all of it is laid out at once.
            return Err(TrainError::Memory { max_memory: config.max_memory as u64 }.into());
        }
        let mut left_out = LeftOut::default();
        let mut kept = WordSums::default();
        words.each(&mut |word, count| {
            let mut pieces = 0;
            if let Ok(text) = std::str::from_utf8(word) {
                config.pattern.for_each(text, |_| {
                    pieces += 1;
                    if pieces > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
            }
            if pieces != 1 {
                left_out.cut += 1;
            } else if self.base.vocab().id(word).is_some() {
                left_out.tokens += 1;
            } else {
                kept.add(word, count)?;
            }
            Ok(())
        })?;
        let words = kept.take()?;
        let base = self.base.vocab_size() as u32 + self.new_specials(&config).count() as u32;
        let wanted = [config.vocab_size.map(|n| n - base), config.num_merges];
        let limits = Limits {
            wanted: wanted.into_iter().flatten().min().unwrap_or(0),
            least_count: 1,
            max_token_bytes: config.max_token_bytes.unwrap_or(u32::MAX),
        };
        let extended = self.learn(&words, &config, (&limits, ByText), &[], when_done, observer)?;
        Ok((extended, left_out))
    }
}

#[cfg(test)]
mod tests;
