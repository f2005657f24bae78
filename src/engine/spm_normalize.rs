//! SentencePiece's normalizer: replacement rules, then white space as `▁`, with the way back to the original bytes.
//!
//! It works on a whole text in one pass and is followed here to the byte, so that offsets too are SentencePiece's:
//! for each byte of the normalized text, where the stretch of original text begins that it was made from.

use super::charsmap::Charsmap;
use super::find::replaced;
use super::trie::{MAX_TOTAL_BYTES, Trie};

/// What stands for a space in normalized text.
const SPACE: &str = "\u{2581}";

/// Stretches of text that no normalization changes, and at which it begins anew: the user-defined pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDefined {
    /// In order, each once.
    pieces: Vec<String>,
    trie: Option<Trie>,
}

/// Why there can be no matcher of user-defined pieces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserDefinedError {
    /// Too many or too long ones.
    #[error("the user-defined pieces have over {MAX_TOTAL_BYTES} bytes in all")]
    TooLarge,
    /// One without text.
    #[error("user-defined piece {index} is empty")]
    Empty {
        /// Its position among them.
        index: usize,
    },
}

impl UserDefined {
    /// A matcher of these pieces; the same one may come twice.
    ///
    /// # Errors
    /// See [`UserDefinedError`].
    pub fn new<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Result<Self, UserDefinedError> {
        let mut keys: Vec<&str> = pieces.into_iter().collect();
        if let Some(index) = keys.iter().position(|key| key.is_empty()) {
            return Err(UserDefinedError::Empty { index });
        }
        if keys.iter().map(|key| key.len()).sum::<usize>() > MAX_TOTAL_BYTES {
            return Err(UserDefinedError::TooLarge);
        }
        keys.sort_unstable();
        keys.dedup();
        let pieces = keys.iter().map(ToString::to_string).collect();
        if keys.is_empty() {
            return Ok(Self { pieces, trie: None });
        }
        // Equal keys are gone, which is the one error there can be.
        Ok(Self { pieces, trie: Trie::new(keys.into_iter().map(|key| (key.as_bytes(), 0))).ok() })
    }

    /// The pieces, in order, each once.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// Length of the longest piece that `text` begins with.
    pub fn longest_prefix(&self, text: &str) -> Option<usize> {
        Some(self.trie.as_ref()?.prefixes(text.as_bytes()).last()?.0)
    }

    /// Bytes of heap that the matcher holds.
    pub fn memory_bytes(&self) -> usize {
        self.trie.as_ref().map_or(0, Trie::memory_bytes)
    }
}

/// The normalizer of a SentencePiece model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentencePieceNormalizer {
    /// Replacement rules.
    pub charsmap: Option<Charsmap>,
    /// Whether a space is put before the text (after it with `treat_whitespace_as_suffix`).
    pub add_dummy_prefix: bool,
    /// Whether spaces at both ends are dropped, and of several in a row all but one.
    pub remove_extra_whitespaces: bool,
    /// Whether a space becomes `▁`.
    pub escape_whitespaces: bool,
    /// Whether the space of `add_dummy_prefix` goes behind the text.
    pub treat_whitespace_as_suffix: bool,
    /// Pieces that pass unchanged.
    pub user_defined: UserDefined,
}

impl SentencePieceNormalizer {
    /// The normalized text. `origins` gets, for each of its bytes, where in `text` the stretch begins that the byte
    /// comes from and where that of the next byte begins; a token over the bytes `b..e` stands at
    /// `origins[b].0..origins[e - 1].1`. A text of four gigabytes or more has no origins beyond that.
    pub fn normalize(&self, text: &str, origins: Option<&mut Vec<(u32, u32)>>) -> String {
        if origins.is_none() && self.only_spaces() && !text.is_empty() {
            let space = if self.escape_whitespaces { SPACE } else { " " };
            let around =
                |is_suffix| match self.add_dummy_prefix && self.treat_whitespace_as_suffix == is_suffix {
                    true => space,
                    false => "",
                };
            let changed = replaced(around(false), text, b' ', space, usize::MAX);
            return changed.unwrap_or_default() + around(true);
        }
        let Some(origins) = origins else {
            let mut out = Output::<false> { text: String::with_capacity(text.len() + 8), starts: Vec::new() };
            self.run(text, &mut out);
            return out.text;
        };
        let mut out = Output::<true> { text: String::with_capacity(text.len() + 8), starts: Vec::new() };
        let end = self.run(text, &mut out);
        origins.clear();
        origins.reserve(out.starts.len());
        let next = out.starts.iter().skip(1).copied().chain([end as u32]);
        origins.extend(out.starts.iter().copied().zip(next));
        out.text
    }

    /// Whether nothing but spaces is ever changed, each of them by itself.
    fn only_spaces(&self) -> bool {
        self.charsmap.is_none() && !self.remove_extra_whitespaces
    }

    /// Bytes of heap that the normalizer holds.
    pub fn memory_bytes(&self) -> usize {
        self.charsmap.as_ref().map_or(0, Charsmap::memory_bytes) + self.user_defined.memory_bytes()
    }

    /// Gives where the text ends of which something is left: before the spaces that were dropped there.
    fn run<const ORIGINS: bool>(&self, text: &str, out: &mut Output<ORIGINS>) -> usize {
        let space = if self.escape_whitespaces { SPACE } else { " " };
        let mut at = 0;
        if self.remove_extra_whitespaces {
            while let Some((" ", len)) = self.prefix(&text[at..]) {
                at += len;
            }
        }
        if at == text.len() {
            return at;
        }
        if self.add_dummy_prefix && !self.treat_whitespace_as_suffix {
            out.push(space, at);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while let Some((mut new, len)) = self.prefix(&text[at..]) {
            if after_space {
                new = new.trim_start_matches(' ');
            }
            // What became nothing leaves `after_space` as it was.
            if !new.is_empty() {
                let mut words = new.split(' ');
                out.push(words.next().unwrap_or_default(), at);
                for word in words {
                    out.push(space, at);
                    out.push(word, at);
                }
                after_space = new.ends_with(' ');
            }
            at += len;
            after_space &= self.remove_extra_whitespaces;
        }
        if self.remove_extra_whitespaces {
            // Drops a `▁` that was in the text as well, and the one put before it where nothing else is left.
            while out.text.ends_with(space) {
                let len = out.text.len() - space.len();
                out.text.truncate(len);
                if ORIGINS {
                    at = out.starts[len] as usize;
                    out.starts.truncate(len);
                }
            }
        }
        if self.add_dummy_prefix && self.treat_whitespace_as_suffix {
            out.push(space, at);
        }
        at
    }

    /// What the beginning of `text` becomes, and how many bytes of it that takes.
    fn prefix<'t>(&'t self, text: &'t str) -> Option<(&'t str, usize)> {
        let first = text.chars().next()?;
        if let Some(len) = self.user_defined.longest_prefix(text) {
            return Some((&text[..len], len));
        }
        if let Some((len, new)) = self.charsmap.as_ref().and_then(|map| map.longest_prefix(text)) {
            return Some((new, len));
        }
        let len = first.len_utf8();
        Some((&text[..len], len))
    }
}

/// The normalized text so far and, where wanted, the origin of each of its bytes.
struct Output<const ORIGINS: bool> {
    text: String,
    starts: Vec<u32>,
}

impl<const ORIGINS: bool> Output<ORIGINS> {
    fn push(&mut self, new: &str, origin: usize) {
        self.text.push_str(new);
        if ORIGINS {
            self.starts.resize(self.text.len(), u32::try_from(origin).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> SentencePieceNormalizer {
        SentencePieceNormalizer {
            charsmap: None,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            treat_whitespace_as_suffix: false,
            user_defined: UserDefined::new([]).unwrap(),
        }
    }

    fn check(normalizer: &SentencePieceNormalizer, text: &str, expect: &str, origins: &[(u32, u32)]) {
        let mut found = Vec::new();
        assert_eq!(normalizer.normalize(text, Some(&mut found)), expect);
        assert_eq!(found, origins, "origins of {text:?}");
        assert_eq!(normalizer.normalize(text, None), expect, "without origins");
    }

    #[test]
    fn spaces_are_dropped_and_escaped() {
        let n = plain();
        check(&n, "", "", &[]);
        check(&n, "  ", "", &[]);
        let origins = [(1, 1), (1, 1), (1, 1), (1, 2), (2, 2), (2, 2), (2, 4), (4, 5)];
        check(&n, " a  b  ", "▁a▁b", &origins);
    }

    #[test]
    fn a_suffix_stands_where_the_dropped_spaces_began() {
        let n = SentencePieceNormalizer { treat_whitespace_as_suffix: true, ..plain() };
        check(&n, "a  ", "a▁", &[(0, 1), (1, 1), (1, 1), (1, 1)]);
    }

    #[test]
    fn every_option_can_be_off() {
        let n = SentencePieceNormalizer {
            add_dummy_prefix: false,
            remove_extra_whitespaces: false,
            escape_whitespaces: false,
            ..plain()
        };
        check(&n, " a ", " a ", &[(0, 1), (1, 2), (2, 3)]);
        check(&n, "", "", &[]);
    }

    #[test]
    fn user_defined_pieces_pass_the_longest_first() {
        let n = SentencePieceNormalizer {
            user_defined: UserDefined::new(["<x>", "<x>  <y>", "<x>"]).unwrap(),
            ..plain()
        };
        assert_eq!(n.normalize("<x>  <y>  z", None), "▁<x>▁▁<y>▁z");
        assert_eq!(n.normalize("<x>  <x>", None), "▁<x>▁<x>");
    }

    #[test]
    fn a_text_of_dropped_spaces_takes_linear_time() {
        let n = SentencePieceNormalizer { treat_whitespace_as_suffix: true, ..plain() };
        let text = format!("a{}", "▁".repeat(1 << 19));
        let mut origins = Vec::new();
        assert_eq!(n.normalize(&text, Some(&mut origins)), "a▁");
    }
}
