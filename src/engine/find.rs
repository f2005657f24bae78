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

    /// All matches in order. Empty ones are among them, but none right behind another match, and, as in the reference,
    /// none in an empty text.
    ///
    /// # Errors
    /// The regex backtracks and used up its steps.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, SplitError> {
        match self {
            Self::Literal(literal) => Ok(memchr::memmem::find_iter(text.as_bytes(), literal)
                .map(|at| at..at + literal.len())
                .collect()),
            Self::Regex(_) if text.is_empty() => Ok(Vec::new()),
            Self::Regex(regex) => regex.matches(text),
        }
    }

    /// The ASCII character that is looked for, if that is all.
    pub(super) fn ascii(&self) -> Option<u8> {
        match self {
            Self::Literal(literal) => match literal.as_bytes() {
                [byte] => Some(*byte),
                _ => None,
            },
            Self::Regex(_) => None,
        }
    }

    fn text(&self) -> (&str, bool) {
        match self {
            Self::Literal(literal) => (literal, false),
            Self::Regex(regex) => (regex.text(), true),
        }
    }
}

/// `text` behind `before`, with `with` in the place of each `byte`, which is an ASCII character: what is done to every text of the
/// SentencePiece families, in one pass. `None` where it would have over `limit` bytes.
pub(super) fn replaced(before: &str, text: &str, byte: u8, with: &str, limit: usize) -> Option<String> {
    debug_assert!(byte.is_ascii(), "a part of a character");
    let found = text.bytes().filter(|&b| b == byte).count();
    let len = found.checked_mul(with.len())?.checked_add(text.len() - found)?.checked_add(before.len())?;
    if len > limit {
        return None;
    }
    let Some(padded) = padded(with) else {
        let with_more = text.replace(char::from(byte), with);
        return Some([before, &with_more].concat());
    };
    // Eight bytes are written at a time, of which those count that are before the next match.
    let mut out = vec![0; len + EIGHT];
    out[..before.len()].copy_from_slice(before.as_bytes());
    let (mut from, mut to) = (0, before.len());
    let all = u64::from_ne_bytes([byte; EIGHT]);
    while let (Some(read), Some(written)) =
        (text.as_bytes()[from..].first_chunk::<EIGHT>(), out[to..].first_chunk_mut())
    {
        *written = *read;
        let other = u64::from_le_bytes(*read) ^ all;
        // The lowest bit that is set is in the first byte that is zero.
        let zeros = other.wrapping_sub(0x0101_0101_0101_0101) & !other & 0x8080_8080_8080_8080;
        if zeros == 0 {
            (from, to) = (from + EIGHT, to + EIGHT);
            continue;
        }
        let kept = zeros.trailing_zeros() as usize / 8;
        (from, to) = (from + kept + 1, to + kept);
        if let Some(written) = out[to..].first_chunk_mut() {
            *written = padded;
        }
        to += with.len();
    }
    for &last in &text.as_bytes()[from..] {
        let new: &[u8] = if last == byte { with.as_bytes() } else { &[last] };
        out[to..to + new.len()].copy_from_slice(new);
        to += new.len();
    }
    debug_assert_eq!(to, len, "the length was counted");
    out.truncate(len);
    debug_assert!(std::str::from_utf8(&out).is_ok(), "a text was put in the place of characters");
    #[expect(unsafe_code, reason = "to check it again takes an eighth of the time of encoding English")]
    // SAFETY: the bytes are those of a text in which one of a whole character, as it is ASCII, became those of another text.
    Some(unsafe { String::from_utf8_unchecked(out) })
}

const EIGHT: usize = 8;

/// A text of up to eight bytes with zeros behind.
fn padded(text: &str) -> Option<[u8; EIGHT]> {
    let mut padded = [0; EIGHT];
    padded.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(padded)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn replaced_is_the_obvious_replacement(
            text in "[ ab中é▁]{0,80}",
            before in "[ ▁]{0,2}",
            with in "[▁x ]{0,4}",
            limit in 0usize..400,
        ) {
            let expected = before.clone() + &text.replace(' ', &with);
            let found = replaced(&before, &text, b' ', &with, limit);
            prop_assert_eq!(found, (expected.len() <= limit).then_some(expected));
        }
    }
}
