//! SentencePiece's decoder: pieces back to text.
//!
//! Followed to the letter, with its rule for white space at the beginning (a `▁` is dropped from the first piece that
//! has one, as long as there is no text yet) and its way with ill-formed bytes (one U+FFFD for each).

use super::unigram::{PieceKind, byte_of};

/// What stands for a space in a piece.
const SPACE: &str = "\u{2581}";

/// What a decoder needs to know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentencePieceDecoder {
    /// Whether the normalizer puts a space before the text: a first `▁` is then dropped.
    pub add_dummy_prefix: bool,
    /// Whether the normalizer drops spaces: a `▁` is then dropped from each piece until there is text.
    pub remove_extra_whitespaces: bool,
    /// What the piece for the unknown becomes.
    pub unk_surface: String,
}

impl SentencePieceDecoder {
    /// The text of a sequence of pieces, and whether their bytes were well-formed UTF-8. Where they were not, each
    /// byte that is no part of a character is U+FFFD, or with `raw` itself.
    ///
    /// Bytes are judged run by run: a piece of another kind between them ends a character, even one that has no text.
    pub fn decode<'p>(
        &self,
        pieces: impl IntoIterator<Item = (&'p str, PieceKind)>,
        raw: bool,
    ) -> (Vec<u8>, bool) {
        let pieces = pieces.into_iter();
        let mut text = Vec::with_capacity(pieces.size_hint().1.unwrap_or(0) * 4);
        let mut run = Vec::new();
        let mut valid = true;
        let mut at_beginning = true;
        let mut space_dropped = false;
        for (piece, kind) in pieces {
            if let (PieceKind::Byte, Some(byte)) = (kind, byte_of(piece)) {
                run.push(byte);
                continue;
            }
            valid &= flush(&mut run, &mut text, raw);
            at_beginning &= !space_dropped && text.is_empty();
            space_dropped = false;
            match kind {
                PieceKind::Control => {}
                PieceKind::Unknown => text.extend_from_slice(self.unk_surface.as_bytes()),
                PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused | PieceKind::Byte => {
                    let drops = at_beginning && (self.add_dummy_prefix || self.remove_extra_whitespaces);
                    let rest = piece.strip_prefix(SPACE).filter(|_| drops);
                    space_dropped = rest.is_some() && !self.remove_extra_whitespaces;
                    push_spaced(rest.unwrap_or(piece), &mut text);
                }
            }
        }
        valid &= flush(&mut run, &mut text, raw);
        (text, valid)
    }
}

/// Appends a piece with spaces for what stands for them, which it mostly has at the beginning or nowhere.
fn push_spaced(mut piece: &str, text: &mut Vec<u8>) {
    while let Some(rest) = piece.strip_prefix(SPACE) {
        text.push(b' ');
        piece = rest;
    }
    if !piece.as_bytes().contains(&SPACE.as_bytes()[0]) {
        return text.extend_from_slice(piece.as_bytes());
    }
    let mut words = piece.split(SPACE);
    text.extend_from_slice(words.next().unwrap_or_default().as_bytes());
    for word in words {
        text.push(b' ');
        text.extend_from_slice(word.as_bytes());
    }
}

/// Ends a run of bytes; gives whether it was well-formed.
fn flush(run: &mut Vec<u8>, text: &mut Vec<u8>, raw: bool) -> bool {
    if run.is_empty() {
        return true;
    }
    let mut valid = true;
    for chunk in run.utf8_chunks() {
        valid &= chunk.invalid().is_empty();
        text.extend_from_slice(chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            text.extend_from_slice(if raw { std::slice::from_ref(byte) } else { "\u{fffd}".as_bytes() });
        }
    }
    run.clear();
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> (&str, PieceKind) {
        let kind = match text {
            "<s>" => PieceKind::Control,
            "<unk>" => PieceKind::Unknown,
            _ if byte_of(text).is_some() => PieceKind::Byte,
            _ => PieceKind::Normal,
        };
        (text, kind)
    }

    fn check(add_dummy_prefix: bool, remove_extra_whitespaces: bool, pieces: &str, expect: &str) {
        let decoder = SentencePieceDecoder {
            add_dummy_prefix,
            remove_extra_whitespaces,
            unk_surface: " ⁇ ".to_owned(),
        };
        let (text, valid) = decoder.decode(pieces.split(' ').map(piece), false);
        assert_eq!(String::from_utf8(text).unwrap(), expect, "{pieces}");
        let (raw, raw_valid) = decoder.decode(pieces.split(' ').map(piece), true);
        assert_eq!((valid, valid && raw != expect.as_bytes()), (raw_valid, false));
    }

    #[test]
    fn one_space_is_dropped_at_the_beginning() {
        check(true, false, "▁a ▁b", "a b");
        check(true, false, "▁ ▁b", " b");
        check(true, false, "▁▁a", " a");
        check(true, false, "<s> ▁a", "a");
        check(true, false, "a ▁b", "a b");
        check(true, false, "<unk> ▁b", " ⁇  b");
        check(true, false, "<0x41> ▁b", "A b");
        // One space is dropped and no more, though there is no text yet.
        check(true, false, "▁ <s> ▁b", " b");
    }

    #[test]
    fn spaces_are_dropped_from_each_piece_until_there_is_text() {
        check(true, true, "▁ ▁ ▁b", "b");
        check(false, true, "▁ ▁▁b ▁c", " b c");
        check(false, false, "▁ ▁b", "  b");
    }

    #[test]
    fn each_ill_formed_byte_is_a_replacement_character() {
        check(true, false, "<0xE4> <0xBD> <0xA0> <0xE4> <0xBD>", "你\u{fffd}\u{fffd}");
        check(true, false, "<0xE4> <0xBD> <s> <0xA0>", "\u{fffd}\u{fffd}\u{fffd}");
        check(true, false, "<0xED> <0xA0> <0x80> <0x41>", "\u{fffd}\u{fffd}\u{fffd}A");
        check(true, false, "<0xEF> <0xBF> <0xBD>", "\u{fffd}");
        let decoder = SentencePieceDecoder {
            add_dummy_prefix: true,
            remove_extra_whitespaces: false,
            unk_surface: String::new(),
        };
        let pieces = ["▁a", "<0xE4>", "<0xBD>"].map(piece);
        assert_eq!(decoder.decode(pieces, true), (b"a\xe4\xbd".to_vec(), false));
    }
}
