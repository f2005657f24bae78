//! The way from a text to its tokens, for those who want to look at each step. It is the way of [`Tokenizer::encode`] with
//! offsets and no other: the parts of a text, the normalized text, pretokens, and what the model makes of each.

use super::{EncodeError, Part};
use crate::engine::pretokenize::Pretoken;
use crate::engine::special::Matcher;
use crate::engine::tracked::Tracked;
use crate::engine::{Scratch, Span, TokenId, Tokenizer};
use std::ops::{ControlFlow, Range};

/// Something that a text becomes on its way.
#[derive(Debug)]
pub enum Shown<'s> {
    /// A special or added token.
    Token {
        /// Its id.
        id: TokenId,
        /// Where it stands in the text.
        span: Span,
    },
    /// A stretch of text between such tokens, normalized; its pretokens come next.
    Stretch {
        /// The normalized text.
        text: &'s str,
        /// Where it stands in the text.
        span: Span,
    },
    /// A pretoken.
    Pretoken {
        /// What the model sees: of the normalized text, or letters that stand for bytes.
        text: &'s str,
        /// Where it stands in the text.
        span: Span,
        /// Whether each character stands for a byte, as in GPT-2's alphabet.
        spelt: bool,
        /// Its tokens, each with the bytes of `text` that it stands for.
        tokens: &'s [(TokenId, Range<usize>)],
    },
}

impl Tokenizer {
    /// Calls `see` with what a text becomes, in order. What a template puts around a text is not among them.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn show(
        &self,
        text: &str,
        matcher: &Matcher<'_>,
        scratch: &mut Scratch,
        see: &mut dyn FnMut(Shown<'_>) -> ControlFlow<()>,
    ) -> Result<(), EncodeError> {
        let mut tokens = Vec::new();
        self.parts(text, matcher, true, |part| {
            let text = match part {
                Part::Token(id, span, _) => return Ok(see(Shown::Token { id, span })),
                Part::Text(text) => text,
            };
            let whole = |text: &Tracked<'_>| text.original(0..text.text().len());
            if see(Shown::Stretch { text: text.text(), span: whole(text) }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            Ok(self.pretokenizer().for_each(text, &mut |pretoken| {
                tokens.clear();
                self.each_token(&pretoken, scratch, &mut |id, range| tokens.push((id, range)));
                let Pretoken { text, spelt } = &pretoken;
                see(Shown::Pretoken { text: text.text(), span: whole(text), spelt: *spelt, tokens: &tokens })
            })?)
        })
    }

    /// What the model makes of a text that is a pretoken.
    pub fn model_tokens(
        &self,
        pretoken: &str,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(TokenId, Range<usize>),
    ) {
        let pretoken = Pretoken { text: Tracked::new(pretoken, 0, false), spelt: false };
        self.each_token(&pretoken, scratch, take);
    }
}
