//! Places in a text that no token reaches over.
//!
//! Where no token of the vocabulary has one character and then the other inside it, no merge ever joins what is on both sides: the
//! parts of a long pretoken encode by themselves. In Chinese, where a pretoken is half a sentence and a token a word at most, that
//! makes of every pretoken some words that a table knows. With the table of words it took Chinese with cl100k from 23 to 61 MB/s.
//!
//! Which pairs of characters tokens hold is kept as bits under the pair's hash: a chance hit is a cut that is not made, and
//! costs nothing but time. Tokens may also begin or end in the middle of a character. Those are kept by the bytes that they
//! have of it, and looked for only next to a character that some such token holds.

use std::ops::ControlFlow;

/// The pairs of characters that tokens hold.
#[derive(Clone, Default)]
pub(super) struct Cuts {
    bits: Box<[u64]>,
    shift: u32,
    /// Characters that stand beside a part of another one in some token, as bits under their hash.
    beside_parts: Box<[u64]>,
    /// By the first byte of a character and the last one of that before: whether these stand together in a token which has neither
    /// character whole.
    both_parts: Box<[u64]>,
    /// By two codes, the left one above: whether tokens hold such characters side by side, or a part of the mark beside one.
    codes: Box<[u64]>,
}

/// A character's bytes, the first one lowest; or some of them, with a mark that tells them from whole ones.
type Char = u32;

/// What a character or a part of it is in a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole(Char),
    /// The last bytes of a character.
    End(u8),
    /// The first bytes of a character.
    Beginning(Char),
}

/// What a hash is of.
const PAIR: u64 = 0;
const ENDS_BEFORE: u64 = 0x5bd1_e995_0000_0001;
const BEGINS_AFTER: u64 = 0x1b87_3593_0000_0003;

#[inline(always)]
fn hash(left: Char, right: Char, what: u64) -> u64 {
    let mixed = (u64::from(left) << 32 | u64::from(right)) ^ what;
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A hash below 4096.
#[inline(always)]
fn small_hash(char: Char) -> usize {
    (char.wrapping_mul(0x9e37_79b1) >> 20) as usize
}

/// The mark that SentencePiece puts in the place of a space.
const MARK: Char = packed(&MARK_BYTES);
const MARK_BYTES: [u8; 3] = *b"\xe2\x96\x81";

/// Whether some first bytes of a character are those of the mark.
fn begins_mark(part: Char) -> bool {
    part == Char::from(MARK_BYTES[0]) || part == packed(&MARK_BYTES[..2])
}

/// What ASCII characters and the mark for a space are in a table small enough to be always at hand: the mark shares the code of a
/// character that no text has.
const MARK_CODE: usize = 0x7f;

#[inline(always)]
fn code(char: Char) -> Option<usize> {
    match char {
        ..0x80 => Some(char as usize),
        MARK => Some(MARK_CODE),
        _ => None,
    }
}

/// The last byte of a character and the first one of the next as a number. Those of one script are close by.
#[inline(always)]
fn both(last: u8, first: u8) -> usize {
    usize::from(first) << 8 | usize::from(last)
}

/// Length in bytes of the character that begins with this byte; 1 for a byte that begins none.
#[inline(always)]
fn char_len(first: u8) -> usize {
    // By the four highest bits, four bits each.
    (0x4322_1111_1111_1111_u64 >> (first >> 4 << 2)) as usize & 7
}

#[inline(always)]
fn is_inside(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Bytes as a number.
#[inline(always)]
const fn packed(bytes: &[u8]) -> Char {
    let (mut packed, mut at) = (0, bytes.len());
    while at > 0 {
        at -= 1;
        packed = packed << 8 | bytes[at] as Char;
    }
    packed
}

/// The character at `at`, and where it ends.
#[inline(always)]
fn char_at(piece: &[u8], at: usize) -> (Char, usize) {
    let end = (at + char_len(piece[at])).min(piece.len());
    let char = match piece.get(at..at + 4) {
        Some(&[a, b, c, d]) => {
            let unused = 8 * (4 - (end - at) as u32);
            Char::from_le_bytes([a, b, c, d]) << unused >> unused
        }
        _ => packed(&piece[at..end]),
    };
    (char, end)
}

impl Cuts {
    /// What these tokens hold.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hashes = Vec::new();
        let mut cuts = Self {
            both_parts: vec![0; 1 << 10].into(),
            beside_parts: vec![0; 64].into(),
            codes: vec![0; 256].into(),
            ..Self::default()
        };
        for token in tokens.filter(|token| token.len() > 1) {
            let mut before = None;
            let mut at = 0;
            while at < token.len() {
                let (part, len) = part(&token[at..]);
                if let Some(before) = before {
                    cuts.note(before, part, &mut hashes);
                }
                before = Some(part);
                at += len;
            }
        }
        let bits = (hashes.len() * 24).next_power_of_two().max(1024);
        cuts.shift = 64 - bits.trailing_zeros();
        cuts.bits = vec![0; bits / 64].into();
        for hash in hashes {
            let bit = hash >> cuts.shift;
            cuts.bits[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        cuts
    }

    fn note(&mut self, before: Part, after: Part, hashes: &mut Vec<u64>) {
        match (before, after) {
            (Part::Whole(left), Part::Whole(right)) => match (code(left), code(right)) {
                (Some(left), Some(right)) => self.join_codes(left, right),
                _ => hashes.push(hash(left, right, PAIR)),
            },
            (Part::End(left), Part::Whole(right)) => {
                if let Some(right) = code(right).filter(|_| left == MARK_BYTES[2]) {
                    self.join_codes(MARK_CODE, right);
                }
                hashes.push(hash(left.into(), right, ENDS_BEFORE));
                self.set_beside_part(right);
            }
            (Part::Whole(left), Part::Beginning(right)) => {
                if let Some(left) = code(left).filter(|_| begins_mark(right)) {
                    self.join_codes(left, MARK_CODE);
                }
                hashes.push(hash(left, right, BEGINS_AFTER));
                self.set_beside_part(left);
            }
            (Part::End(left), Part::Beginning(right)) => {
                if left == MARK_BYTES[2] && begins_mark(right) {
                    self.join_codes(MARK_CODE, MARK_CODE);
                }
                let pair = both(left, right as u8);
                self.both_parts[pair / 64] |= 1 << (pair % 64);
            }
            // Parts of one and the same character.
            (_, Part::End(_)) | (Part::Beginning(_), _) => {}
        }
    }

    fn join_codes(&mut self, left: usize, right: usize) {
        let pair = left << 7 | right;
        self.codes[pair / 64] |= 1 << (pair % 64);
    }

    fn set_beside_part(&mut self, char: Char) {
        let bit = small_hash(char);
        self.beside_parts[bit / 64 % 64] |= 1 << (bit % 64);
    }

    #[inline(always)]
    fn is_beside_part(&self, char: Char) -> bool {
        let bit = small_hash(char);
        self.beside_parts[bit / 64 % 64] >> (bit % 64) & 1 == 1
    }

    #[inline(always)]
    fn has(&self, hash: u64) -> bool {
        let bit = hash >> self.shift;
        self.bits.get((bit / 64) as usize).is_none_or(|bits| bits >> (bit % 64) & 1 == 1)
    }

    /// Calls `take` with the bounds of each part of `piece` that encodes by itself, in order, until it has enough.
    #[inline(always)]
    pub(super) fn each_part(
        &self,
        piece: &[u8],
        mut take: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if piece.is_empty() {
            return ControlFlow::Continue(());
        }
        let mut from = 0;
        let (mut before, mut at) = char_at(piece, 0);
        while let Some(&first) = piece.get(at) {
            let (here, end) = match first {
                ..0x80 => (Char::from(first), at + 1),
                _ => char_at(piece, at),
            };
            let joins = match (code(before), code(here)) {
                (Some(before), Some(here)) => {
                    let pair = before << 7 | here;
                    self.codes.get(pair / 64).is_none_or(|bits| bits >> (pair % 64) & 1 == 1)
                }
                _ => self.joins(before, here, piece, at),
            };
            if !joins {
                take(from, at)?;
                from = at;
            }
            (before, at) = (here, end);
        }
        take(from, piece.len())
    }

    /// Whether a token may reach over the border at byte `at` between two characters.
    #[inline(always)]
    fn joins(&self, before: Char, here: Char, piece: &[u8], at: usize) -> bool {
        self.has(hash(before, here, PAIR)) || self.joins_part(before, here, piece, at)
    }

    /// Whether a token may reach over that border that has only a part of one of the two characters.
    #[inline(always)]
    fn joins_part(&self, before: Char, here: Char, piece: &[u8], at: usize) -> bool {
        let last = piece[at - 1];
        let first = here as u8;
        let pair = both(last, first);
        if self.both_parts.get(pair / 64).is_none_or(|bits| bits >> (pair % 64) & 1 == 1) {
            return true;
        }
        if self.is_beside_part(here) && self.has(hash(last.into(), here, ENDS_BEFORE)) {
            return true;
        }
        self.is_beside_part(before)
            && [0xff, 0xffff, 0x00ff_ffff]
                .into_iter()
                .any(|mask| self.has(hash(before, here & mask, BEGINS_AFTER)))
    }

    /// Whether no token reaches over a border between characters in this piece with only a part of one of them: what the bytes
    /// of a character merge into does not depend on what is beside it.
    pub(super) fn has_whole_chars(&self, piece: &[u8]) -> bool {
        if piece.is_empty() {
            return true;
        }
        let (mut before, mut at) = char_at(piece, 0);
        while at < piece.len() {
            let (here, end) = char_at(piece, at);
            if self.joins_part(before, here, piece, at) {
                return false;
            }
            (before, at) = (here, end);
        }
        true
    }

    /// Bytes of heap.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.bits.len() + self.codes.len() + self.both_parts.len() + self.beside_parts.len()) * 8
    }
}

impl std::fmt::Debug for Cuts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuts({} bits)", self.bits.len() * 64)
    }
}

/// The character, or the part of one, at the beginning of some bytes of a token, and its length.
fn part(bytes: &[u8]) -> (Part, usize) {
    let inside = bytes.iter().take_while(|&&byte| is_inside(byte)).count();
    if inside > 0 {
        return (Part::End(bytes[inside - 1]), inside);
    }
    let len = char_len(bytes[0]);
    match bytes.get(..len) {
        Some(whole) => (Part::Whole(packed(whole)), len),
        None => (Part::Beginning(packed(bytes)), bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(tokens: &[Vec<u8>], text: &str) -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let _all = Cuts::new(tokens.iter().map(Vec::as_slice)).each_part(text.as_bytes(), |from, to| {
            parts.push((from, to));
            ControlFlow::Continue(())
        });
        parts
    }

    #[test]
    fn a_text_is_cut_between_characters_that_no_token_holds_side_by_side() {
        let tokens = ["中文", "文字", "a", "ab"].map(|token| token.as_bytes().to_vec());
        let found = parts(&tokens, "中文字ab字中");
        assert_eq!(found, [(0, 9), (9, 11), (11, 14), (14, 17)]);
    }

    #[test]
    fn a_part_of_a_character_in_a_token_keeps_what_is_beside_it() {
        // The end of one character before another, the beginning of one behind another, and both.
        for token in [&b"\xad\xe6\x96\x87"[..], b"\xe4\xb8\xad\xe6\x96", b"\xe4\xb8\xad\xe6", b"\xad\xe6"] {
            assert_eq!(parts(&[token.to_vec()], "中文"), [(0, 6)], "{token:?}");
            assert_eq!(parts(&[token.to_vec()], "中国"), [(0, 3), (3, 6)], "{token:?}");
        }
        // The same beside the mark for a space, which has a code.
        for (token, text) in
            [(&b" \xe2\x96"[..], " ▁"), (b"a\xe2", "a▁"), (b"\x81a", "▁a"), (b"\x81\xe2", "▁▁")]
        {
            assert_eq!(parts(&[token.to_vec()], text), [(0, text.len())], "{token:?}");
        }
    }

    proptest! {
        #[test]
        fn no_token_reaches_over_a_cut(
            texts in proptest::collection::vec("[ a中文é😀字ж▁]{1,6}", 1..8),
            ranges in proptest::collection::vec((0usize..24, 0usize..12), 1..8),
            text in "[ a中文é😀字ж▁]{0,40}",
        ) {
            // Tokens are any bytes that stand in some text.
            let tokens: Vec<Vec<u8>> = texts
                .iter()
                .zip(ranges.iter().cycle())
                .map(|(text, &(from, len))| {
                    let from = from % text.len();
                    text.as_bytes()[from..(from + len + 1).min(text.len())].to_vec()
                })
                .collect();
            let parts = parts(&tokens, &text);
            prop_assert_eq!(parts.iter().map(|(from, to)| to - from).sum::<usize>(), text.len());
            for &(_, cut) in &parts[..parts.len().saturating_sub(1)] {
                prop_assert!(text.is_char_boundary(cut));
                for token in &tokens {
                    for start in 0..text.len() {
                        let over = start < cut && start + token.len() > cut;
                        prop_assert!(!(over && text.as_bytes()[start..].starts_with(token)), "{:?} at {}", token, start);
                    }
                }
            }
        }
    }
}
