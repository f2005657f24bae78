//! Unicode scripts of which alone new tokens may be made.

use regex_syntax::hir::{Class, HirKind};

/// A set of characters, of one or more Unicode scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    /// Ascending, apart from each other.
    ranges: Vec<(char, char)>,
}

/// The most bytes of the name of a script.
const MAX_NAME: usize = 40;

impl Scripts {
    /// The scripts of these names, as Unicode has them (`Han`, `Latin`, `Common`, ...); the error is the place of a name
    /// that is none.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, usize> {
        let mut ranges = Vec::new();
        for (index, name) in names.iter().enumerate() {
            ranges.extend(ranges_of(name.as_ref()).ok_or(index)?);
        }
        ranges.sort_unstable();
        Ok(Self { ranges })
    }

    /// Whether a character is of them.
    pub fn contains(&self, c: char) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= c);
        // Ranges of several scripts do not overlap, but a script may be named twice.
        after.checked_sub(1).is_some_and(|at| c <= self.ranges[at].1)
    }

    /// Whether a token may be made: its characters are of the scripts, and where it begins or ends inside of a
    /// character, that can be one of them.
    pub(super) fn allow(&self, token: &[u8]) -> bool {
        // The end of a character whose beginning is elsewhere says nothing of it.
        let begin = token.iter().take(3).take_while(|&&b| b & 0xc0 == 0x80).count();
        let rest = &token[begin..];
        let whole = |text: &[u8]| String::from_utf8_lossy(text).chars().all(|c| self.contains(c));
        match std::str::from_utf8(rest) {
            Ok(_) => whole(rest),
            // No character at all: it stays what it is.
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let (good, open) = rest.split_at(error.valid_up_to());
                whole(good) && self.may_begin(open)
            }
        }
    }

    /// Whether these bytes begin one of the characters.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let (lead, len) = match bytes.first() {
            Some(b @ 0xc2..=0xdf) => (u32::from(b & 0x1f), 2),
            Some(b @ 0xe0..=0xef) => (u32::from(b & 0x0f), 3),
            Some(b @ 0xf0..=0xf4) => (u32::from(b & 0x07), 4),
            _ => return false,
        };
        let known = bytes.iter().skip(1).fold(lead, |c, b| c << 6 | u32::from(b & 0x3f));
        let open = 6 * (len - bytes.len().min(len)) as u32;
        let (low, high) = (known << open, (known << open) + (1 << open) - 1);
        self.ranges.iter().any(|&(first, last)| u32::from(first) <= high && low <= u32::from(last))
    }
}

fn ranges_of(name: &str) -> Option<Vec<(char, char)>> {
    let plain = !name.is_empty() && name.len() <= MAX_NAME;
    if !plain || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b' ' | b'-')) {
        return None;
    }
    let hir = regex_syntax::parse(&format!(r"\p{{sc={name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => {
            Some(class.iter().map(|range| (range.start(), range.end())).collect())
        }
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            text.chars().next().map(|c| vec![(c, c)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_allowed_by_their_characters_and_what_may_become_one() {
        let han = Scripts::parse(&["Han"]).unwrap();
        let check = |token: &[u8], allowed| assert_eq!(han.allow(token), allowed, "{token:x?}");
        check("中文".as_bytes(), true);
        check("中a".as_bytes(), false);
        check("，中".as_bytes(), false);
        check(b"\xe4\xb8", true);
        check(b"\xb8\xad\xe4", true);
        check(b"\xc3", false);
        check(b"\xe2\x80", false);
        check(b"\xb8\xad\xff", false);
        assert_eq!(Scripts::parse(&["Latin", "Elvish"]), Err(1));
        assert_eq!(Scripts::parse(&["Han}|a{"]), Err(0));
    }
}
