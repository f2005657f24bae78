//! SentencePiece's compiled replacement rules (`precompiled_charsmap`), looked up as SentencePiece does and as
//! Hugging Face's `Precompiled` normalizer does.
//!
//! The blob is a little-endian `u32` with the size of a trie in bytes, the trie as units of a Darts-clone double array,
//! and the replacements, each ended by a NUL; the trie's values are offsets among them. Holds for every [`Charsmap`]:
//! from no text can a look-up leave the trie, run longer than the longest rule, or meet a replacement that is not a
//! whole one. All of that is checked once, in [`Charsmap::new`].

use unicode_segmentation::UnicodeSegmentation;

/// A trie of Darts-clone grows by blocks of 256 units, so that no step can leave the block that it starts in.
const BLOCK: usize = 256;
/// Most rules that begin with each other: what SentencePiece's normalizer has room for.
const MAX_NESTED: u32 = 32;
/// Longest left side of a rule in bytes, which bounds the work for one character.
const MAX_RULE_BYTES: u32 = 1024;

/// Why a blob is not a set of replacement rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharsmapError {
    /// Too short to hold the size of the trie.
    #[error("the charsmap has {len} bytes: not even the size of its trie")]
    Short {
        /// Bytes there are.
        len: usize,
    },
    /// The trie is cut off, or is not whole blocks.
    #[error(
        "the charsmap's trie of {size} bytes is not a multiple of 1024 that leaves room for replacements"
    )]
    TrieSize {
        /// The size that the blob tells.
        size: u32,
    },
    /// The replacements are not NUL-ended UTF-8.
    #[error("the charsmap's replacements are not UTF-8 that ends with a NUL, from byte {offset} of them on")]
    Replacements {
        /// Where it goes wrong, counted from the first replacement.
        offset: usize,
    },
    /// A unit leads out of the trie.
    #[error("unit {unit} of the charsmap's trie leads out of it")]
    Offset {
        /// Its position.
        unit: u32,
    },
    /// A rule's replacement is none.
    #[error("unit {unit} of the charsmap's trie has the replacement at {value}, where none begins")]
    Value {
        /// Its position.
        unit: u32,
        /// Offset among the replacements.
        value: u32,
    },
    /// A rule whose left side ends inside a character.
    #[error("a rule of the charsmap ends inside a character, at unit {unit} of its trie")]
    InsideCharacter {
        /// Its position.
        unit: u32,
    },
    /// Units that lead round in a circle, or rules beyond the limits.
    #[error("the charsmap has rules without end, of over 1024 bytes, or over 32 that begin with each other")]
    Deep,
}

/// Replacement rules: what a stretch of text becomes.
#[derive(Clone, PartialEq, Eq)]
pub struct Charsmap {
    bytes: Vec<u8>,
    /// Where the replacements begin in `bytes`.
    replacements: usize,
}

/// A unit of the double array, as Darts-clone packs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit(u32);

impl Unit {
    /// Whether a rule ends where this unit leads to.
    fn has_leaf(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    /// Offset of a leaf's replacement.
    fn value(self) -> u32 {
        self.0 & 0x7fff_ffff
    }

    /// The byte that leads to this unit; above 255 for a leaf, which no byte leads to.
    fn label(self) -> u32 {
        self.0 & 0x8000_00ff
    }

    /// Distance, by exclusive or, to the units that follow.
    fn offset(self) -> u32 {
        (self.0 >> 10) << ((self.0 & 1 << 9) >> 6)
    }
}

/// The units, four bytes each.
#[derive(Clone, Copy)]
struct Trie<'b>(&'b [[u8; 4]]);

impl Trie<'_> {
    /// The unit at a position: beyond the last, one that nothing leads to.
    fn at(self, position: u32) -> Unit {
        self.0.get(position as usize).map_or(Unit(u32::MAX), |&unit| Unit(u32::from_le_bytes(unit)))
    }

    fn len(self) -> usize {
        self.0.len()
    }
}

impl Charsmap {
    /// Takes the blob as it stands in a SentencePiece model (or, in base64, in a `tokenizer.json`).
    ///
    /// # Errors
    /// See [`CharsmapError`]: everything is checked that a look-up relies on.
    pub fn new(bytes: Vec<u8>) -> Result<Self, CharsmapError> {
        let (size, rest) = bytes.split_first_chunk().ok_or(CharsmapError::Short { len: bytes.len() })?;
        let size = u32::from_le_bytes(*size);
        let whole = size > 0 && (size as usize).is_multiple_of(4 * BLOCK);
        let (trie, replacements) = rest
            .split_at_checked(size as usize)
            .filter(|(_, replacements)| whole && !replacements.is_empty())
            .ok_or(CharsmapError::TrieSize { size })?;
        let text = std::str::from_utf8(replacements)
            .map_err(|e| CharsmapError::Replacements { offset: e.valid_up_to() })?;
        if !text.ends_with('\0') {
            return Err(CharsmapError::Replacements { offset: text.len() });
        }
        check(Trie(trie.as_chunks().0), text)?;
        Ok(Self { replacements: 4 + size as usize, bytes })
    }

    /// The blob, as it was given.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of heap that the rules hold.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The longest rule that `text` begins with, as SentencePiece looks it up: how many bytes of `text` it replaces
    /// (at least one) and by what (perhaps nothing).
    pub fn longest_prefix(&self, text: &str) -> Option<(usize, &str)> {
        let (len, leaf) = self.prefixes(text.as_bytes()).last()?;
        Some((len, self.replacement(leaf)))
    }

    /// What Hugging Face takes for the replacement of a whole `chunk`: that of the **shortest** rule which it begins
    /// with, though that rule may cover only a part of it. Beyond a NUL it does not look.
    pub fn whole(&self, chunk: &str) -> Option<&str> {
        let until_nul = chunk.as_bytes().split(|&b| b == 0).next().unwrap_or_default();
        let (_, leaf) = self.prefixes(until_nul).next()?;
        Some(self.replacement(leaf))
    }

    /// What Hugging Face's `Precompiled` normalizer makes of `text`: characters, each with its change (1: inserted;
    /// 0: stands for the next character of `text`; -n: so too, and the n characters after that one are gone). Gives
    /// whether any rule applied: where none did, that normalizer leaves the text alone.
    ///
    /// It looks up grapheme clusters below six bytes whole, and of others (and of those without a rule) each character.
    /// Where a removed character is the first of the text, the removal is lost: the changes then tell of fewer
    /// characters than `text` has.
    pub fn hf_changes(&self, text: &str, mut sink: impl FnMut(char, isize)) -> bool {
        let mut changes = Changes { last: None, sink: &mut sink };
        let mut modified = false;
        for cluster in text.graphemes(true) {
            if let Some(new) = (cluster.len() < 6).then(|| self.whole(cluster)).flatten() {
                changes.replace(cluster, new);
                modified = true;
                continue;
            }
            for (at, c) in cluster.char_indices() {
                let part = &cluster[at..at + c.len_utf8()];
                if let Some(new) = self.whole(part) {
                    changes.replace(part, new);
                    modified = true;
                } else {
                    changes.push(c, 0);
                }
            }
        }
        if let Some((c, change)) = changes.last {
            sink(c, change);
        }
        modified
    }

    /// The rules that `text` begins with, shortest first: length of the left side, and the leaf.
    fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, Unit)> {
        let trie = Trie(self.bytes[4..self.replacements].as_chunks().0);
        let mut base = trie.at(0).offset();
        let mut steps = text.iter().enumerate();
        std::iter::from_fn(move || {
            for (at, &byte) in steps.by_ref() {
                let position = base ^ u32::from(byte);
                let unit = trie.at(position);
                if unit.label() != u32::from(byte) {
                    return None;
                }
                base = position ^ unit.offset();
                if unit.has_leaf() {
                    return Some((at + 1, trie.at(base)));
                }
            }
            None
        })
    }

    /// The replacement of a leaf; the value was checked to be the offset of one.
    fn replacement(&self, leaf: Unit) -> &str {
        let from = self.replacements + leaf.value() as usize;
        let rest = self.bytes.get(from..).unwrap_or_default();
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Charsmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charsmap({} bytes)", self.bytes.len())
    }
}

/// Hands on changes with a delay of one, as a removal is added to the change before it.
struct Changes<'s, F> {
    last: Option<(char, isize)>,
    sink: &'s mut F,
}

impl<F: FnMut(char, isize)> Changes<'_, F> {
    fn push(&mut self, c: char, change: isize) {
        if let Some((c, change)) = self.last.replace((c, change)) {
            (self.sink)(c, change);
        }
    }

    /// The last of the new characters carry the difference in number, and where there are none, what came before.
    fn replace(&mut self, old: &str, new: &str) {
        let (old, count) = (old.chars().count(), new.chars().count());
        for (n, c) in new.chars().enumerate() {
            self.push(c, isize::from(n >= old));
        }
        if let Some((_, change)) = self.last.as_mut().filter(|_| count < old) {
            *change -= (old - count) as isize;
        }
    }
}

/// Walks all units that some text leads to, parents before children, and checks each.
fn check(trie: Trie<'_>, replacements: &str) -> Result<(), CharsmapError> {
    let len = trie.len();
    let next = |unit: u32| {
        let base = unit ^ trie.at(unit).offset();
        if (base as usize) < len { Ok(base) } else { Err(CharsmapError::Offset { unit }) }
    };
    let children = Children::new(trie);
    let root = next(0)?;
    // How many edges from reachable units lead to each base: a base is done once all of them are.
    let mut waiting = vec![0u32; len];
    let mut seen = vec![false; len];
    let mut undone = 0;
    let mut open = vec![root];
    seen[root as usize] = true;
    while let Some(base) = open.pop() {
        undone += 1;
        for &unit in children.of(base) {
            let next = next(unit)?;
            waiting[next as usize] += 1;
            if !std::mem::replace(&mut seen[next as usize], true) {
                open.push(next);
            }
        }
    }
    let mut ways = vec![Way::default(); len];
    ways[root as usize].lacking = 1;
    open.extend((waiting[root as usize] == 0).then_some(root));
    while let Some(base) = open.pop() {
        undone -= 1;
        let way = ways[base as usize];
        for &unit in children.of(base) {
            let (from, next) = (trie.at(unit), next(unit)?);
            let lacking = after(way.lacking, from.label() as u8);
            if from.has_leaf() && lacking != 0 {
                let value = trie.at(next).value();
                if value as usize >= replacements.len() || !replacements.is_char_boundary(value as usize) {
                    return Err(CharsmapError::Value { unit, value });
                }
                if lacking != 1 {
                    return Err(CharsmapError::InsideCharacter { unit });
                }
            }
            let to = &mut ways[next as usize];
            to.bytes = to.bytes.max(way.bytes + 1);
            to.rules = to.rules.max(way.rules + u32::from(from.has_leaf()));
            to.lacking |= lacking;
            if to.bytes > MAX_RULE_BYTES || to.rules > MAX_NESTED {
                return Err(CharsmapError::Deep);
            }
            waiting[next as usize] -= 1;
            open.extend((waiting[next as usize] == 0).then_some(next));
        }
    }
    if undone == 0 { Ok(()) } else { Err(CharsmapError::Deep) }
}

/// What is known of the ways from the root to a base.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// The longest of them.
    bytes: u32,
    /// Most rules that end on one of them.
    rules: u32,
    /// How many bytes the last character may lack: bit n stands for n bytes. None where no valid text leads there.
    lacking: u8,
}

/// How many bytes the character lacks after one more byte; bit n of the set stands for n bytes.
fn after(lacking: u8, byte: u8) -> u8 {
    match byte {
        0x80..=0xbf => lacking >> 1,
        _ if lacking & 1 == 0 => 0,
        0..=0x7f => 1,
        0xc2..=0xdf => 1 << 1,
        0xe0..=0xef => 1 << 2,
        0xf0..=0xf4 => 1 << 3,
        _ => 0,
    }
}

/// The units that each base leads to: those whose position is the base, exclusive or their own label.
struct Children {
    starts: Vec<u32>,
    units: Vec<u32>,
}

impl Children {
    fn new(trie: Trie<'_>) -> Self {
        let len = trie.len();
        let edges = || {
            let labels = (0..len as u32).map(|at| (at, trie.at(at).label()));
            labels.filter(|&(_, label)| label < 256).map(|(at, label)| (at ^ label, at))
        };
        let mut starts = vec![0u32; len + 1];
        edges().for_each(|(base, _)| starts[base as usize + 1] += 1);
        for at in 0..len {
            starts[at + 1] += starts[at];
        }
        let mut free = starts.clone();
        let mut sorted = vec![0; starts[len] as usize];
        for (base, unit) in edges() {
            sorted[free[base as usize] as usize] = unit;
            free[base as usize] += 1;
        }
        Self { starts, units: sorted }
    }

    fn of(&self, base: u32) -> &[u32] {
        &self.units[self.starts[base as usize] as usize..self.starts[base as usize + 1] as usize]
    }
}

#[cfg(test)]
mod tests;
