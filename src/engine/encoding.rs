//! A text to ids: special tokens, normalizer, pre-tokenizer, model, template, in this order.

mod show;

pub use show::Shown;

use super::model::{Missing, Model};
use super::pretokenize::Pretoken;
use super::quick::Quickly;
use super::special::{Found, Matcher, SpecialError};
use super::tracked::Tracked;
use super::{OffsetUnit, Scratch, Span, SpecialPolicy, SplitError, Template, TokenId, Tokenizer, offsets};
use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

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
    /// Nobody waits for the ids any more.
    #[error("encoding was stopped")]
    Stopped,
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
    /// Whether the tokens that the vocabulary puts around a text are wanted.
    pub add_special: bool,
    /// Whether spans are wanted, and in which unit.
    pub offsets: Option<OffsetUnit>,
    /// At most so many tokens, those around the text among them.
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

/// A stretch of text between special tokens, or such a token.
enum Part<'p> {
    Text(&'p Tracked<'p>),
    Token(TokenId, Span, &'p str),
}

/// What a token of an encoding began and ended with, for the trimming of its span.
type Spaces = (usize, usize);

impl Template {
    fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

impl Tokenizer {
    /// Makes a policy on special tokens ready for many texts; [`Tokenizer::encode`] does so for one.
    ///
    /// # Errors
    /// It names a token that the vocabulary does not have.
    pub fn matcher(&self, policy: &SpecialPolicy<'_>) -> Result<Matcher<'_>, SpecialError> {
        self.specials().matcher(policy)
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
        let around = if options.add_special { self.template() } else { &Template::default() };
        // The tokens around a text count, and are not what is cut off.
        let max = options.max_tokens.map_or(usize::MAX, |max| max.saturating_sub(around.len()));
        // Only what is cut on the right can be left unread.
        let stop = if options.keep == Keep::Start { max } else { usize::MAX };
        match options.offsets {
            None => self.encode_into(text, matcher, stop, scratch, &mut encoding.ids)?,
            Some(unit) => {
                let mut spaces = Vec::new();
                self.encode_with_spans(text, matcher, stop, scratch, &mut encoding, &mut spaces)?;
                offsets::convert(text, &mut encoding.spans, unit);
                for trim in &self.template().trims {
                    for (index, (span, &(leading, trailing))) in
                        encoding.spans.iter_mut().zip(&spaces).enumerate()
                    {
                        trim.apply(index, leading, trailing, span);
                    }
                }
            }
        }
        let Encoding { ids, spans, truncated } = &mut encoding;
        if ids.len() > max {
            *truncated = true;
            match options.keep {
                Keep::Start => {
                    ids.truncate(max);
                    spans.truncate(max);
                }
                Keep::End => {
                    let over = ids.len() - max;
                    ids.drain(..over);
                    spans.drain(..over.min(spans.len()));
                }
            }
        }
        if around.len() > 0 {
            ids.splice(0..0, around.before.iter().copied());
            ids.extend_from_slice(&around.after);
            if options.offsets.is_some() {
                let nowhere = Span { start: 0, end: 0 };
                spans.splice(0..0, around.before.iter().map(|_| nowhere));
                spans.extend(around.after.iter().map(|_| nowhere));
            }
            // Where even those are more than wanted, they are all that there is.
            ids.truncate(options.max_tokens.unwrap_or(usize::MAX));
            spans.truncate(options.max_tokens.unwrap_or(usize::MAX));
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
        self.ids(text, matcher, scratch, out, |out| over(out.len() - start, stop))
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
        self.count_matched(text, &self.matcher(special)?, false, limit, scratch)
    }

    /// The same with a policy made ready before; `add_special` counts the tokens that the vocabulary puts around.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn count_matched(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        add_special: bool,
        limit: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Count, EncodeError> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut tokens = if add_special { self.template().len() } else { 0 };
        let mut ids = std::mem::take(&mut scratch.ids);
        ids.clear();
        let outcome = self.ids(text, matcher, scratch, &mut ids, |ids| {
            tokens += ids.len();
            ids.clear();
            over(tokens, limit)
        });
        scratch.ids = ids;
        outcome.map(|()| Count { tokens, exceeded: tokens > limit })
    }

    /// Ids of a text; `look` is called with them after every pretoken and says whether to go on.
    fn ids(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
        mut look: impl FnMut(&mut Vec<TokenId>) -> ControlFlow<()>,
    ) -> Result<(), EncodeError> {
        let stopped = scratch.stopped();
        let mut look = |ids: &mut Vec<TokenId>| if stopped() { ControlFlow::Break(()) } else { look(ids) };
        self.parts(text, matcher, self.pretokenizer().needs_place(), |part| {
            let text = match part {
                Part::Token(id, ..) => {
                    out.push(id);
                    return Ok(look(out));
                }
                Part::Text(text) => text,
            };
            let running = self.running();
            match self.quick(text.text().len()) {
                Some(Quickly::Pattern(quick, pattern)) => {
                    return Ok(quick.encode(&running, pattern, text.text(), scratch, out, &mut look)?);
                }
                Some(Quickly::Chars(quick, _)) => {
                    return Ok(self.pretokenizer().for_each(text, &mut |pretoken| {
                        quick.encode_pretoken(&running, pretoken.text.text(), scratch, out, &mut look)
                    })?);
                }
                None => {}
            }
            Ok(self.pretokenizer().for_each(text, &mut |pretoken| {
                self.each_token(&pretoken, scratch, &mut |id, _| out.push(id));
                look(out)
            })?)
        })?;
        if stopped() { Err(EncodeError::Stopped) } else { Ok(()) }
    }

    /// The tokens of a pretoken, each with the bytes of the pretoken's text that it stands for.
    fn each_token(
        &self,
        pretoken: &Pretoken<'_>,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(TokenId, Range<usize>),
    ) {
        let running = self.running();
        let text = pretoken.text.text();
        let missing = match self.model() {
            Model::Chars(chars) => return running.chars(text, chars, scratch, take),
            Model::Unigram(unigram) => return unigram.encode(text, &mut scratch.unigram, take),
            Model::Bytes { missing } => *missing,
        };
        let mut at = 0;
        if missing == Some(Missing::LeftOut) {
            return self.each_token_slipping(pretoken, scratch, take);
        }
        if !pretoken.spelt {
            let mut in_order = |id, len| {
                take(id, at..at + len);
                at += len;
            };
            return match missing {
                Some(missing) => running.gappy_bytes(text.as_bytes(), missing, scratch, in_order),
                None => {
                    let mut ids = std::mem::take(&mut scratch.ids);
                    ids.clear();
                    running.bytes(text.as_bytes(), scratch, &mut ids);
                    ids.iter().for_each(|&id| in_order(id, self.vocab().bytes(id).map_or(0, <[u8]>::len)));
                    scratch.ids = ids;
                }
            };
        }
        // Each letter stands for a byte: a token of so many bytes reaches over so many letters.
        let bytes: Vec<u8> = text.chars().filter_map(super::char_byte).collect();
        let mut letters = text.chars();
        running.gappy_bytes(&bytes, missing.unwrap_or(Missing::LeftOut), scratch, |id, len| {
            let end = at + letters.by_ref().take(len).map(char::len_utf8).sum::<usize>();
            take(id, at..end);
            at = end;
        });
    }

    /// The same where bytes that are no token are left out. In the reference the tokens behind them then stand where they
    /// would if those bytes were not there, counted in bytes of the letters that stand for bytes.
    fn each_token_slipping(
        &self,
        pretoken: &Pretoken<'_>,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(TokenId, Range<usize>),
    ) {
        let text = pretoken.text.text();
        let width = |byte: &u8| super::byte_char(*byte).len_utf8();
        // Of each byte of a letter the byte that it stands for, by position.
        let mut stands_for = Vec::new();
        let bytes: Cow<'_, [u8]> = match pretoken.spelt {
            true => text.chars().filter_map(super::char_byte).collect(),
            false => {
                let letters = text.bytes().enumerate();
                stands_for.extend(letters.flat_map(|(i, byte)| std::iter::repeat_n(i, width(&byte))));
                text.as_bytes().into()
            }
        };
        let mut at = 0;
        self.running().gappy_bytes(&bytes, Missing::LeftOut, scratch, |id, _| {
            let end = at + self.vocab().bytes(id).map_or(0, |bytes| bytes.iter().map(width).sum());
            let (first, last) = (stands_for.get(at), stands_for.get(end.saturating_sub(1)));
            match (first, last) {
                (Some(&first), Some(&last)) => take(id, first..last + 1),
                _ => take(id, at..end.min(text.len())),
            }
            at = end;
        });
    }

    /// Spaces at the ends of a token of the model: of its string, so that in bytes only the letter for a space is one.
    fn spaces_of_token(&self, id: TokenId) -> Spaces {
        let bytes = self.vocab().bytes(id).unwrap_or_default();
        if matches!(self.model(), Model::Bytes { .. }) && self.vocab().is_ordinary(id) {
            let is_space = |byte: &&u8| **byte == b' ';
            return (
                bytes.iter().take_while(is_space).count(),
                bytes.iter().rev().take_while(is_space).count(),
            );
        }
        std::str::from_utf8(bytes).map_or((0, 0), spaces_of)
    }

    fn encode_with_spans(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        stop: usize,
        scratch: &mut Scratch,
        out: &mut Encoding,
        spaces: &mut Vec<Spaces>,
    ) -> Result<(), EncodeError> {
        let Encoding { ids, spans, .. } = out;
        let trims = !self.template().trims.is_empty();
        let stopped = scratch.stopped();
        let look = |tokens: usize| if stopped() { ControlFlow::Break(()) } else { over(tokens, stop) };
        self.parts(text, matcher, true, |part| {
            let text = match part {
                Part::Token(id, span, name) => {
                    ids.push(id);
                    spans.push(span);
                    spaces.extend(trims.then(|| spaces_of(name)));
                    return Ok(look(ids.len()));
                }
                Part::Text(text) => text,
            };
            let running = self.running();
            let look_at = |ids: &mut Vec<TokenId>| look(ids.len());
            match self.quick(text.text().len()) {
                Some(Quickly::Pattern(quick, pattern)) => {
                    // The bytes of the tokens, one after the other, are the text.
                    let (before, mut at) = (ids.len(), 0);
                    let flow = quick.encode(&running, pattern, text.text(), scratch, ids, look_at)?;
                    for &id in &ids[before..] {
                        let end = at + self.vocab().bytes(id).map_or(0, <[u8]>::len);
                        spans.push(text.original(at..end));
                        spaces.extend(trims.then(|| self.spaces_of_token(id)));
                        at = end;
                    }
                    return Ok(flow);
                }
                Some(Quickly::Chars(quick, chars)) => {
                    return Ok(self.pretokenizer().for_each(text, &mut |pretoken| {
                        let before = ids.len();
                        let whole = pretoken.text.text();
                        let flow = quick.encode_pretoken(&running, whole, scratch, ids, look_at);
                        running.places(&ids[before..], whole, chars, |id, range| {
                            spans.push(pretoken.text.original(range));
                            spaces.extend(trims.then(|| self.spaces_of_token(id)));
                        });
                        flow
                    })?);
                }
                None => {}
            }
            Ok(self.pretokenizer().for_each(text, &mut |pretoken| {
                self.each_token(&pretoken, scratch, &mut |id, range| {
                    ids.push(id);
                    spans.push(pretoken.text.original(range));
                    spaces.extend(trims.then(|| self.spaces_of_token(id)));
                });
                look(ids.len())
            })?)
        })?;
        if stopped() { Err(EncodeError::Stopped) } else { Ok(()) }
    }

    /// Cuts a text at its special tokens: those that stand in it as it came, and, once it is normalized, the others.
    fn parts(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        track: bool,
        mut take: impl FnMut(Part<'_>) -> Result<ControlFlow<()>, EncodeError>,
    ) -> Result<(), EncodeError> {
        let limit = u32::MAX as usize - 1;
        if text.len() > limit {
            return Err(EncodeError::TooLong { limit });
        }
        // A name that is not allowed is an error wherever it stands, even behind the tokens that are wanted.
        if matcher.denies() {
            self.deny(text, matcher)?;
        }
        let mut from = 0;
        for found in matcher.find(text).map(Some).chain([None]) {
            let (range, id) = match found {
                Some(Found::Token(range, id)) => (range, Some(id)),
                Some(Found::Denied(range)) => {
                    return Err(EncodeError::SpecialNotAllowed { offset: range.start });
                }
                None => (text.len()..text.len(), None),
            };
            if range.start > from
                && self.stretch(&text[from..range.start], from, matcher, track, &mut take)?.is_break()
            {
                return Ok(());
            }
            from = range.end;
            let Some(id) = id else { return Ok(()) };
            let span = Span { start: range.start, end: range.end };
            if take(Part::Token(id, span, &text[range]))?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A stretch that begins at byte `from` of the text, normalized, and cut at the special tokens that are looked for
    /// there.
    fn stretch(
        &self,
        stretch: &str,
        from: usize,
        matcher: &Matcher<'_>,
        track: bool,
        take: &mut impl FnMut(Part<'_>) -> Result<ControlFlow<()>, EncodeError>,
    ) -> Result<ControlFlow<()>, EncodeError> {
        let track = track || matcher.looks_at_normalized() && matcher.spares();
        let mut normalized = Tracked::new(stretch, from, track);
        self.normalizer().run(&mut normalized)?;
        if !matcher.looks_at_normalized() {
            return if normalized.text().is_empty() {
                Ok(ControlFlow::Continue(()))
            } else {
                take(Part::Text(&normalized))
            };
        }
        let whole = normalized.text();
        let mut at = 0;
        let original = |range| {
            let span = normalized.original(range);
            span.start..span.end
        };
        for found in matcher.find_normalized(whole, original).map(Some).chain([None]) {
            let (range, id) = match found {
                Some(Found::Token(range, id)) => (range, Some(id)),
                Some(Found::Denied(range)) => {
                    let offset = normalized.original(range).start;
                    return Err(EncodeError::SpecialNotAllowed { offset });
                }
                None => (whole.len()..whole.len(), None),
            };
            if range.start > at && take(Part::Text(&normalized.slice(at..range.start)))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at = range.end;
            let Some(id) = id else { break };
            let span = normalized.original(range.clone());
            if take(Part::Token(id, span, &whole[range]))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn deny(&self, text: &str, matcher: &Matcher<'_>) -> Result<(), EncodeError> {
        for found in matcher.find(text) {
            if let Found::Denied(range) = found {
                return Err(EncodeError::SpecialNotAllowed { offset: range.start });
            }
        }
        if matcher.looks_at_normalized() {
            self.parts_allowed(text, matcher)?;
        }
        Ok(())
    }

    /// The same for names in the normalized text.
    fn parts_allowed(&self, text: &str, matcher: &Matcher<'_>) -> Result<(), EncodeError> {
        let mut from = 0;
        let ranges = matcher.find(text).map(|found| match found {
            Found::Token(range, _) | Found::Denied(range) => range,
        });
        for range in ranges.chain(std::iter::once(text.len()..text.len())) {
            if range.start > from {
                let ignore = &mut |_: Part<'_>| Ok(ControlFlow::Continue(()));
                let _flow = self.stretch(&text[from..range.start], from, matcher, true, ignore)?;
            }
            from = range.end;
        }
        Ok(())
    }
}

/// Spaces at the ends of a special token's stretch, where the letter for a space counts as one.
fn spaces_of(text: &str) -> Spaces {
    let is_space = |c: &char| c.is_whitespace() || *c == super::byte_char(b' ');
    (text.chars().take_while(is_space).count(), text.chars().rev().take_while(is_space).count())
}

fn over(tokens: usize, limit: usize) -> ControlFlow<()> {
    if tokens > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
