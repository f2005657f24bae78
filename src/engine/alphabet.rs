//! GPT-2's byte alphabet: a letter for each byte, so that byte-level tokens can be written as text.
//!
//! Printable bytes stand for themselves, the others are U+0100 and on, in order (openai/gpt-2, `encoder.py`).

/// The bytes that stand for themselves.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// The letter of a byte.
pub fn byte_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = match byte {
        0..=32 => byte,
        127..=160 => byte - 127 + 33,
        _ => 67,
    };
    char::from_u32(0x100 + u32::from(before)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a letter, if it is one of the alphabet.
pub fn char_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        low @ 0..=0xff => u8::try_from(low).ok().filter(|&byte| is_printable(byte)),
        high @ 0x100..=0x120 => Some((high - 0x100) as u8),
        high @ 0x121..=0x142 => Some((high - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// The bytes that a text spells; `None` if it has a letter that is not of the alphabet.
pub fn spelt_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(char_byte).collect()
}

/// The letters of bytes.
pub fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte_char(byte)).collect()
}

/// The 256 bytes in the order of their letters' code points: the printable ones first.
pub(super) fn bytes_by_letter() -> impl Iterator<Item = u8> {
    (0..=255).filter(|&b| is_printable(b)).chain((0..=255).filter(|&b| !is_printable(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_bytes_are_one_to_one() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=u8::MAX {
            assert!(seen.insert(byte_char(byte)));
            assert_eq!(char_byte(byte_char(byte)), Some(byte));
        }
        assert_eq!(
            (byte_char(b' '), byte_char(b'\n'), byte_char(b'a'), byte_char(0xad)),
            ('Ġ', 'Ċ', 'a', 'Ń')
        );
        assert_eq!((char_byte(' '), char_byte('中'), char_byte('\u{144}')), (None, None, None));
        assert_eq!(bytes_by_letter().map(byte_char).collect::<Vec<_>>(), {
            let mut letters: Vec<char> = seen.into_iter().collect();
            letters.sort_unstable();
            letters
        });
    }
}
