//! Finding a literal or a regex in a text, for the normalizers and pre-tokenizers that take either.

use super::SplitError;
use super::split::Regex;
use std::ops::Range;

/// What is looked for. Two are equal when their texts are.
#[derive(Clone)]
pub enum Find {
    /// These characters.
    Literal(String),
    /// Matches of a regex, in the syntax of the `regex` crate and its look-around extensions.
    Regex(Regex),
}

impl Find {
    /// Exactly these characters, of which there must be some.
    ///
    /// # Errors
    /// None are given.
    pub fn literal(text: impl Into<String>) -> Result<Self, SplitError> {
        let text = text.into();
        if text.is_empty() {
            return Err(SplitError::Invalid("there is nothing to look for".to_owned()));
        }
        Ok(Self::Literal(text))
    }

    /// A regex.
    ///
    /// # Errors
    /// It cannot run here.
    pub fn regex(regex: &str) -> Result<Self, SplitError> {
        Regex::new(regex).map(Self::Regex)
    }

    /// All matches in order. Empty ones are among them, but none right behind another match.
    ///
    /// # Errors
    /// The regex backtracks and used up its steps.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, SplitError> {
        match self {
            Self::Literal(literal) => Ok(memchr::memmem::find_iter(text.as_bytes(), literal)
                .map(|at| at..at + literal.len())
                .collect()),
            Self::Regex(regex) => regex.matches(text),
        }
    }

    fn text(&self) -> (&str, bool) {
        match self {
            Self::Literal(literal) => (literal, false),
            Self::Regex(regex) => (regex.text(), true),
        }
    }
}

impl PartialEq for Find {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Find {}

impl std::fmt::Debug for Find {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(literal) => f.debug_tuple("Literal").field(literal).finish(),
            Self::Regex(regex) => f.debug_tuple("Regex").field(&regex.text()).finish(),
        }
    }
}
