//! What is put around an encoded text, and what is done to its offsets.

use super::{Span, TokenId};

/// The tokens that a vocabulary puts around a text when they are asked for, such as BOS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// Before it.
    pub before: Vec<TokenId>,
    /// After it.
    pub after: Vec<TokenId>,
    /// Takes spaces at the ends of tokens out of their offsets, once for each entry.
    pub trims: Vec<Trim>,
}

/// Spaces at the ends of tokens are not part of their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// A single space at the very beginning of the text is one that was put there, and so no part of the offsets
    /// anyway.
    pub prefix_space: bool,
}

impl Trim {
    /// Trims the span of the token at position `index`, which begins with `leading` spaces and ends with `trailing`.
    pub(super) fn apply(self, index: usize, leading: usize, trailing: usize, span: &mut Span) {
        if leading > 0 {
            let first = index == 0 || span.start == 0;
            let leading = if first && self.prefix_space && leading == 1 { 0 } else { leading };
            span.start = (span.start + leading).min(span.end);
        }
        if trailing > 0 && span.end >= trailing {
            span.end = (span.end - trailing).max(span.start);
        }
    }
}
