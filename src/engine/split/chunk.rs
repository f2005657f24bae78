//! A stretch of text as bitmaps: what the quick way to split works on.
//!
//! The text is taken in chunks of up to [`CHUNK`] bytes that end where [`super::Pattern::safe_cut`] allows it, so that a chunk splits
//! as a text of its own. Of every class there is a bitmap over the *characters*: a rule such as "a word starts at a letter behind none" is
//! one operation on 64 characters, and hardly a branch depends on the text. What bitmaps do not say (contractions) is mended afterwards,
//! character by character.
//!
//! Bitmaps split English twice as quickly as the scanner that goes from piece to piece; one pass over them, and chunks of 4 KiB, took a
//! tenth off the time of known English, code and JSON, where five passes and chunks of 2 KiB were before.

use super::class::{Class, Classes, NEWLINE, PUNCT};
use super::planes::{self, AsciiClasses, Planes};

/// Most bytes of a chunk, and so most characters.
pub(super) const CHUNK: usize = 4096;

/// Room for the borders of pieces of a chunk, and for what [`planes::positions`] writes over.
const MOST_BORDERS: usize = CHUNK + 64;

/// Bitmaps of 64 characters.
pub(super) const BLOCKS: usize = CHUNK / 64;

/// ASCII characters among others that are read at once.
const ASCII_STRETCH: usize = 16;

/// Classes of ASCII characters in a chunk. They are those of [`super::class`], but that a blank is a space and punctuation at once, and an apostrophe (or
/// what else a family sets apart) has the bit of line ends without that of spaces.
pub(super) static ASCII_CLASSES: AsciiClasses = ascii_classes(b"'");

/// The same with other characters in the place of the apostrophe.
pub(super) const fn ascii_classes(apart: &[u8]) -> AsciiClasses {
    let mut classes = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = super::class::ASCII[byte];
        byte += 1;
    }
    classes[b' ' as usize] |= PUNCT;
    let mut i = 0;
    while i < apart.len() {
        classes[apart[i] as usize] |= NEWLINE;
        i += 1;
    }
    classes
}

/// A chunk. Large: made once, and used for all chunks of a text.
pub(super) struct Chunk {
    /// Number of characters.
    len: usize,
    /// Whether a character is a byte.
    ascii: bool,
    /// The class of each character; not kept where all are ASCII.
    classes: [Class; CHUNK],
    /// The byte at which each character starts, counted from the start of the chunk; not kept where all are ASCII.
    offsets: [u16; CHUNK + 1],
    /// By block and bit of the class.
    planes: [Planes; BLOCKS],
    /// The characters at which a piece starts.
    starts: [u64; BLOCKS],
}

/// The characters of a block by class: bit `i` stands for character `64 * block + i`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kinds {
    pub(super) upper: u64,
    pub(super) lower: u64,
    pub(super) caseless: u64,
    pub(super) mark: u64,
    pub(super) number: u64,
    /// `\p{P}` and `\p{S}`.
    pub(super) punct: u64,
    /// White space, line ends included.
    pub(super) space: u64,
    pub(super) newline: u64,
    /// U+0020.
    pub(super) blank: u64,
    /// The apostrophe, or what the family sets apart.
    pub(super) apart: u64,
    /// There is a character.
    pub(super) valid: u64,
}

impl Kinds {
    /// `\p{L}`.
    pub(super) fn letter(&self) -> u64 {
        self.upper | self.lower | self.caseless
    }
}

/// The bitmap of which the characters one further on are those of `map`.
#[inline(always)]
pub(super) fn behind(map: u64, map_before: u64) -> u64 {
    map << 1 | map_before >> 63
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            len: 0,
            ascii: true,
            classes: [0; CHUNK],
            offsets: [0; CHUNK + 1],
            planes: [[0; 8]; BLOCKS],
            starts: [0; BLOCKS],
        }
    }
}

impl Chunk {
    /// Takes a text of up to [`CHUNK`] bytes, which is valid UTF-8.
    pub(super) fn read(&mut self, text: &[u8], ascii: &AsciiClasses, classes: &Classes) {
        debug_assert!(text.len() <= CHUNK, "a chunk fits into its tables");
        self.ascii = planes::of_ascii(text, ascii, &mut self.planes);
        if self.ascii {
            self.len = text.len();
        } else {
            self.len = self.read_chars(text, ascii, classes);
            planes::of_classes(&self.classes[..self.len], &mut self.planes);
        }
    }

    /// The byte before white space near the end, where that follows something else and is no line end; none at the beginning.
    pub(super) fn blank_near_end(&self) -> Option<usize> {
        let last = self.blocks().checked_sub(1)?;
        [last, last.saturating_sub(1)].into_iter().find_map(|block| {
            let kinds = self.kinds(block);
            let space_before = if block > 0 { self.kinds(block - 1).space } else { 1 << 63 };
            let cuts = kinds.space & !kinds.newline & !behind(kinds.space, space_before);
            cuts.checked_ilog2().map(|bit| self.offset(block * 64 + bit as usize))
        })
    }

    /// Leaves out the characters from this byte on, at which one starts.
    pub(super) fn shorten(&mut self, end: usize) {
        self.len = match self.ascii {
            true => end,
            false => self.offsets[..self.len].partition_point(|&offset| usize::from(offset) < end),
        };
        self.offsets[self.len] = end as u16;
        if let Some(block) = self.blocks().checked_sub(1) {
            let valid = self.valid(block);
            self.planes[block].iter_mut().for_each(|plane| *plane &= valid);
        }
    }

    /// Number of characters.
    fn read_chars(&mut self, text: &[u8], ascii: &AsciiClasses, classes: &Classes) -> usize {
        let len = planes::of_chars(text, ascii, classes, &mut self.classes, &mut self.offsets)
            .unwrap_or_else(|| self.read_chars_plainly(text, ascii, classes));
        self.offsets[len] = text.len() as u16;
        len
    }

    /// The same one by one.
    fn read_chars_plainly(&mut self, text: &[u8], ascii: &AsciiClasses, classes: &Classes) -> usize {
        let (mut at, mut len) = (0, 0);
        while let (Some(rest @ &[byte, ..]), true) = (text.get(at..), len < CHUNK) {
            if byte < 0x80
                // Mostly it is not the only one.
                && let Some(bytes) = rest.first_chunk::<ASCII_STRETCH>()
                && bytes.is_ascii()
                && let Some(classes) = self.classes[len..].first_chunk_mut::<ASCII_STRETCH>()
                && let Some(offsets) = self.offsets[len..].first_chunk_mut::<ASCII_STRETCH>()
            {
                *classes = bytes.map(|byte| ascii[usize::from(byte & 0x7f)]);
                *offsets = std::array::from_fn(|i| (at + i) as u16);
                (at, len) = (at + ASCII_STRETCH, len + ASCII_STRETCH);
                continue;
            }
            self.offsets[len] = at as u16;
            let (class, bytes) = match ascii.get(usize::from(byte)) {
                Some(class) => (*class, 1),
                None => planes::of_char(text, at, classes),
            };
            self.classes[len] = class;
            (at, len) = (at + bytes, len + 1);
        }
        len
    }

    /// Number of characters.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of blocks that hold them.
    pub(super) fn blocks(&self) -> usize {
        self.len.div_ceil(64)
    }

    /// The class of a character; none beyond the last.
    pub(super) fn class(&self, at: usize) -> Class {
        if at >= self.len {
            return 0;
        }
        let bits = (0..).zip(&self.planes[at / 64]);
        bits.fold(0, |class, (bit, plane)| class | ((plane >> (at % 64) & 1) as Class) << bit)
    }

    /// The byte at which a character starts; for the number of characters that at which the chunk ends.
    pub(super) fn offset(&self, at: usize) -> usize {
        if self.ascii { at } else { usize::from(self.offsets[at.min(CHUNK)]) }
    }

    /// Classes of a block; none beyond the last.
    #[inline(always)]
    pub(super) fn kinds(&self, block: usize) -> Kinds {
        if block >= self.blocks() {
            return Kinds::default();
        }
        let [upper, lower, caseless, mark, number, punct, space, newline] = self.planes[block];
        Kinds {
            upper,
            lower,
            caseless,
            mark,
            number,
            punct: punct & !space,
            space,
            newline: newline & space,
            blank: punct & space,
            apart: newline & !space,
            valid: self.valid(block),
        }
    }

    /// The characters of a block that are there.
    #[inline(always)]
    fn valid(&self, block: usize) -> u64 {
        match self.len - block * 64 {
            64.. => u64::MAX,
            few => (1 << few) - 1,
        }
    }

    /// Whether there is such a character.
    pub(super) fn is_there(&self, at: usize) -> bool {
        at < self.len
    }

    /// Whether a character has any of the classes; not for the one beyond the last.
    pub(super) fn is(&self, at: usize, mask: Class) -> bool {
        self.class(at) & mask != 0
    }

    /// The bit in front of a block: whether the first character of the next block is there and is no space.
    #[inline(always)]
    pub(super) fn text_follows(&self, block: usize) -> u64 {
        let next = self.kinds(block + 1);
        (next.valid & !next.space) << 63
    }

    pub(super) fn set_starts(&mut self, block: usize, starts: u64) {
        self.starts[block] = starts;
    }

    /// A piece starts at this character.
    pub(super) fn start_at(&mut self, at: usize) {
        if at < self.len {
            self.starts[at / 64] |= 1 << (at % 64);
        }
    }

    /// No piece starts at this character.
    pub(super) fn no_start_at(&mut self, at: usize) {
        if at < self.len {
            self.starts[at / 64] &= !(1 << (at % 64));
        }
    }

    /// Whether a piece starts at this character.
    pub(super) fn starts(&self, at: usize) -> bool {
        at < self.len && self.starts[at / 64] >> (at % 64) & 1 == 1
    }

    /// Writes the bytes at which pieces start, and where the last one ends, counted from `base` before the chunk, to the front of
    /// `borders`, and gives how many they are. The list is not cut off behind them: it would have to be cleared again.
    pub(super) fn borders(&self, base: u32, borders: &mut Vec<u32>) -> usize {
        debug_assert!(self.len == 0 || self.starts[0] & 1 == 1, "a chunk starts with a piece");
        if borders.len() < MOST_BORDERS {
            borders.resize(MOST_BORDERS, 0);
        }
        let first = if self.ascii { base } else { 0 };
        let len = planes::positions(&self.starts[..self.blocks()], first, borders);
        if !self.ascii {
            for border in &mut borders[..len] {
                *border = base + u32::from(self.offsets[*border as usize % CHUNK]);
            }
        }
        borders[len] = base + self.offset(self.len) as u32;
        len + 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::classes;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The way of this machine, one by one, and what the standard library says.
        #[test]
        fn all_ways_read_the_same_characters(text in "([ -~]{0,40}|\\PC{0,30}|[é中文字😀한글\\n]{0,30}){0,9}") {
            let text = &text[..text.floor_char_boundary(CHUNK)];
            let (mut chunk, mut plain) = (Chunk::default(), Chunk::default());
            // Something else was there before.
            chunk.read(&[b'a'; CHUNK], &ASCII_CLASSES, classes());
            chunk.read(text.as_bytes(), &ASCII_CLASSES, classes());
            plain.len = plain.read_chars_plainly(text.as_bytes(), &ASCII_CLASSES, classes());
            prop_assert_eq!(chunk.len(), text.chars().count());
            prop_assert_eq!(plain.len, chunk.len());
            for (at, (byte, c)) in text.char_indices().enumerate() {
                let expected = match u8::try_from(c) {
                    Ok(ascii @ ..0x80) => ASCII_CLASSES[usize::from(ascii)],
                    _ => classes().of(c as u32),
                };
                prop_assert_eq!((chunk.offset(at), chunk.class(at)), (byte, expected));
                prop_assert_eq!((usize::from(plain.offsets[at]), plain.classes[at]), (byte, expected));
            }
            prop_assert_eq!(chunk.offset(chunk.len()), text.len());
            let starts: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
            for (at, &byte) in starts.iter().enumerate().rev() {
                chunk.shorten(byte);
                prop_assert_eq!((chunk.len(), chunk.offset(at), chunk.class(at)), (at, byte, 0));
                if let Some(block) = at.checked_sub(1).map(|last| last / 64) {
                    let kinds = chunk.kinds(block);
                    let all = kinds.letter() | kinds.mark | kinds.number | kinds.punct | kinds.space;
                    prop_assert_eq!(all & !kinds.valid, 0);
                    prop_assert_eq!(kinds.valid.count_ones() as usize, at - block * 64);
                }
                prop_assert_eq!(chunk.kinds(at.div_ceil(64)).valid, 0);
            }
        }
    }
}
