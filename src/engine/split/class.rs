//! Unicode classes of characters, as the split patterns see them.
//!
//! The table is made once from the regex library's own classes, so a scanner and the regex it stands for always
//! read the same Unicode version. A class is a set of bits: no character has two of them, but for line ends, which
//! are white space too.

use std::sync::LazyLock;

use crate::engine::scalars::{SCALARS, ScalarTable, ranges};

/// What a character is: one of the bits below, or none (control, format, private, unassigned).
pub(super) type Class = u8;

/// `\p{Lu}` and `\p{Lt}`.
pub(super) const UPPER: Class = 1;
/// `\p{Ll}`.
pub(super) const LOWER: Class = 1 << 1;
/// `\p{Lm}` and `\p{Lo}`: letters without case, in both of o200k's classes.
pub(super) const CASELESS: Class = 1 << 2;
/// `\p{M}`.
pub(super) const MARK: Class = 1 << 3;
/// `\p{N}`.
pub(super) const NUMBER: Class = 1 << 4;
/// `\p{P}` and `\p{S}`.
pub(super) const PUNCT: Class = 1 << 5;
/// `\s`, the Unicode property `White_Space`.
pub(super) const SPACE: Class = 1 << 6;
/// `[\r\n]`, with [`SPACE`].
pub(super) const NEWLINE: Class = 1 << 7;
/// `\p{L}`.
pub(super) const LETTER: Class = UPPER | LOWER | CASELESS;

/// The table, made at the first use (under 1 ms).
pub(super) fn classes() -> &'static Classes {
    static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::from_regex_syntax);
    &CLASSES
}

/// The same with two more bits for the Han and Kana that DeepSeek's pattern names, which no character has both otherwise.
pub(super) fn classes_with_han_kana() -> &'static Classes {
    static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
        let mut flat = Classes::flat();
        for range in [0x3040..=0x30ff, 0x4e00..=0x9fa5] {
            flat[range].iter_mut().for_each(|class| *class |= HAN_KANA);
        }
        Classes(ScalarTable::new(&flat))
    });
    &CLASSES
}

/// See [`classes_with_han_kana`]: upper and lower case at once.
pub(super) const HAN_KANA: Class = UPPER | LOWER;

/// Classes of ASCII bytes; bytes of longer characters have none.
pub(super) static ASCII: [Class; 256] = ascii();

/// Class of every scalar value.
pub(super) struct Classes(ScalarTable);

impl Classes {
    /// The class of the character that starts at byte `at`, and its length in bytes; `(0, 0)` at the end.
    #[inline(always)]
    pub(super) fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        match text.get(at) {
            None => (0, 0),
            Some(&byte) if byte < 0x80 => (ASCII[usize::from(byte)], 1),
            Some(_) => {
                let (scalar, len) = decode(text, at);
                (self.of(scalar), len)
            }
        }
    }

    /// The end of the longest run of characters with one of the bits of `mask`, starting at `at`.
    #[inline(always)]
    pub(super) fn run(&self, text: &[u8], mut at: usize, mask: Class) -> usize {
        loop {
            while text.get(at).is_some_and(|&byte| ASCII[usize::from(byte)] & mask != 0) {
                at += 1;
            }
            if text.get(at).is_none_or(|&byte| byte < 0x80) {
                return at;
            }
            let (scalar, len) = decode(text, at);
            if self.of(scalar) & mask == 0 {
                return at;
            }
            at += len;
        }
    }

    /// The end of the longest run of characters with none of the bits of `mask`, starting at `at`.
    #[inline(always)]
    pub(super) fn run_without(&self, text: &[u8], mut at: usize, mask: Class) -> usize {
        loop {
            let (class, len) = self.at(text, at);
            if len == 0 || class & mask != 0 {
                return at;
            }
            at += len;
        }
    }

    #[inline(always)]
    pub(super) fn of(&self, scalar: u32) -> Class {
        self.0.of(scalar)
    }

    /// The same for a character of these three bytes.
    #[inline(always)]
    pub(super) fn of_three(&self, bytes: [u8; 3]) -> Class {
        self.0.of_three(bytes)
    }

    fn from_regex_syntax() -> Self {
        Self(ScalarTable::new(&Self::flat()))
    }

    /// The class of every scalar value.
    fn flat() -> Vec<Class> {
        let mut flat = vec![0; SCALARS];
        for (regex, bits) in [
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", CASELESS),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"[\p{P}\p{S}]", PUNCT),
            (r"\s", SPACE),
            (r"[\r\n]", NEWLINE),
        ] {
            for (first, last) in ranges(regex) {
                for class in &mut flat[first..=last] {
                    *class |= bits;
                }
            }
        }
        flat
    }
}

/// The scalar value that starts at byte `at` of valid UTF-8, and its length in bytes; `(0, 0)` at the end.
#[inline(always)]
pub(super) fn decode(text: &[u8], at: usize) -> (u32, usize) {
    let low = |byte: u8| u32::from(byte & 0x3f);
    match text.get(at..).unwrap_or_default() {
        [a, ..] if *a < 0x80 => (u32::from(*a), 1),
        [a, b, ..] if *a < 0xe0 => (u32::from(a & 0x1f) << 6 | low(*b), 2),
        [a, b, c, ..] if *a < 0xf0 => (u32::from(a & 0x0f) << 12 | low(*b) << 6 | low(*c), 3),
        [a, b, c, d, ..] => (u32::from(a & 0x07) << 18 | low(*b) << 12 | low(*c) << 6 | low(*d), 4),
        rest => (0, rest.len()),
    }
}

/// Where the character that ends at byte `end` starts.
#[inline]
pub(super) fn char_before(text: &[u8], end: usize) -> usize {
    let mut start = end.saturating_sub(1);
    while start > 0 && text[start] & 0xc0 == 0x80 {
        start -= 1;
    }
    start
}

const fn ascii() -> [Class; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 0x80u8 {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b'\t' | 0x0b | 0x0c | b' ' => SPACE,
            b'!'..=b'~' => PUNCT,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_table_agrees_with_the_regex_library() {
        for byte in 0..0x80u8 {
            assert_eq!(ASCII[usize::from(byte)], classes().of(u32::from(byte)), "byte {byte:#x}");
        }
        assert!(ASCII[0x80..].iter().all(|&class| class == 0));
    }

    #[test]
    fn every_scalar_has_the_class_of_its_regex() {
        for (regex, bits) in [
            (r"\p{L}", LETTER),
            (r"[\p{Lu}\p{Lt}]", UPPER),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"[\p{P}\p{S}]", PUNCT),
            (r"\s", SPACE),
            (r"[\r\n]", NEWLINE),
        ] {
            let regex = regex_automata::meta::Regex::new(&format!("^(?:{regex})$")).unwrap();
            let mut buffer = [0; 4];
            for scalar in '\0'..=char::MAX {
                let text = scalar.encode_utf8(&mut buffer);
                let (class, len) = classes().at(text.as_bytes(), 0);
                assert_eq!(len, text.len());
                assert_eq!(class & bits != 0, regex.is_match(&*text), "U+{:04X} {bits:#x}", scalar as u32);
            }
        }
    }

    #[test]
    fn no_character_has_two_classes_but_line_ends() {
        for scalar in '\0'..=char::MAX {
            let class = classes().of(scalar as u32);
            assert!(class.count_ones() <= 1 || class == SPACE | NEWLINE, "U+{:04X}", scalar as u32);
        }
    }

    #[test]
    fn decoding_agrees_with_the_standard_library() {
        let mut buffer = [0; 4];
        for scalar in '\0'..=char::MAX {
            let text = scalar.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(decode(text, 0), (scalar as u32, text.len()));
            assert_eq!(char_before(text, text.len()), 0);
        }
    }
}
