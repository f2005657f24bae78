//! A trie over bytes, for the pieces of a vocabulary: which of them does a text begin with?
//!
//! A double array: each node is a unit, and the child of a node by byte `b` is the unit at `base ^ b`, if that unit's
//! label is `b`. Holds: no two nodes have the same base, so a label alone tells whose child a unit is; no node has
//! base 0, so that a node without children can have it. One step of a look-up is one load.

/// Highest value that a key can have.
pub(super) const MAX_VALUE: u32 = (1 << 23) - 2;
/// Most bytes of all keys together: each may cost a node.
pub(super) const MAX_TOTAL_BYTES: usize = 1 << 26;

/// The label of a unit that is no node: no byte.
const NO_LABEL: u32 = 256;
/// Units are handed out by blocks, out of which `base ^ byte` cannot lead.
const BLOCK: usize = 256;
/// Blocks with free units that are tried for a node. With 16, an array of 270,000 pieces was smaller by two parts in a
/// thousand, and building it took half as long again.
const OPEN_BLOCKS: usize = 4;

/// A node: where its children are, the byte that leads to it, and the value of the key that ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    base: u32,
    /// The label in the lowest nine bits, above it one more than the value, or 0 where no key ends.
    label_value: u32,
}

impl Unit {
    const FREE: Self = Self { base: 0, label_value: NO_LABEL };

    fn label(self) -> u32 {
        self.label_value & 0x1ff
    }

    fn value(self) -> Option<u32> {
        (self.label_value >> 9).checked_sub(1)
    }
}

/// Keys and their values.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Trie {
    units: Vec<Unit>,
}

impl Trie {
    /// Builds a trie. Keys must be neither empty nor equal to one another, values at most [`MAX_VALUE`], and all keys
    /// together at most [`MAX_TOTAL_BYTES`]: the caller has checked that, to say which piece is at fault.
    ///
    /// # Errors
    /// The values of two keys that are equal.
    pub(super) fn new<'k>(keys: impl IntoIterator<Item = (&'k [u8], u32)>) -> Result<Self, (u32, u32)> {
        let mut keys: Vec<Key<'k>> = keys.into_iter().map(|(bytes, value)| Key::new(bytes, value)).collect();
        keys.sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| a.bytes.cmp(b.bytes)));
        if let Some(same) = keys.windows(2).find(|pair| pair[0].bytes == pair[1].bytes) {
            return Err((same[0].value, same[1].value));
        }
        let mut builder = Builder::default();
        builder.add_block();
        builder.take(0, 0, Unit::FREE);
        // Nodes whose children have no place yet: unit, keys that lead through it, length of the way to it.
        let mut open = vec![(0, 0..keys.len(), 0)];
        let mut children: Vec<(u8, std::ops::Range<usize>)> = Vec::with_capacity(256);
        while let Some((unit, range, depth)) = open.pop() {
            let mut from = range.start;
            if keys.get(from).is_some_and(|key| key.bytes.len() == depth) {
                builder.units[unit].label_value |= (keys[from].value + 1) << 9;
                from += 1;
            }
            children.clear();
            while from < range.end {
                let label = keys[from].byte(depth);
                // Most stretches are short: look near before looking far.
                let mut near = 1;
                while from + near < range.end && keys[from + near].byte(depth) == label {
                    near *= 2;
                }
                let (low, high) = (from + near / 2, range.end.min(from + near));
                let same = low - from + keys[low..high].partition_point(|key| key.byte(depth) == label);
                children.push((label, from..from + same));
                from += same;
            }
            if children.is_empty() {
                continue;
            }
            let base = builder.place(&children);
            builder.units[unit].base = base as u32;
            for (label, keys) in children.drain(..) {
                let child = base ^ usize::from(label);
                builder.take(child, base, Unit { base: 0, label_value: u32::from(label) });
                open.push((child, keys, depth + 1));
            }
        }
        builder.units.shrink_to_fit();
        Ok(Self { units: builder.units })
    }

    /// The keys that `text` begins with, shortest first: length and value.
    #[inline]
    pub(super) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut base = self.units[0].base;
        let mut steps = text.iter().enumerate();
        std::iter::from_fn(move || {
            for (at, &byte) in steps.by_ref() {
                let unit = self.units[(base ^ u32::from(byte)) as usize];
                if unit.label() != u32::from(byte) {
                    return None;
                }
                base = unit.base;
                if let Some(value) = unit.value() {
                    return Some((at + 1, value));
                }
            }
            None
        })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        let (len, value) = self.prefixes(key).last()?;
        (len == key.len()).then_some(value)
    }

    /// Bytes of heap that the trie holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.units.capacity() * size_of::<Unit>()
    }
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} units)", self.units.len())
    }
}

/// A key to be sorted. Its first eight bytes are compared as one number, which decides most comparisons.
struct Key<'k> {
    head: u64,
    bytes: &'k [u8],
    value: u32,
}

impl<'k> Key<'k> {
    fn new(bytes: &'k [u8], value: u32) -> Self {
        let mut head = [0; 8];
        let len = bytes.len().min(8);
        head[..len].copy_from_slice(&bytes[..len]);
        Self { head: u64::from_be_bytes(head), bytes, value }
    }

    /// One of its bytes, if possible without going to where they are.
    fn byte(&self, at: usize) -> u8 {
        if at < 8 { self.head.to_be_bytes()[at] } else { self.bytes[at] }
    }
}

/// A set of the 256 places of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places([u64; 4]);

impl Places {
    const ALL: Self = Self([u64::MAX; 4]);

    /// The set with every place moved to its exclusive or with `by`.
    fn xor(self, by: u8) -> Self {
        let words = usize::from(by >> 6);
        Self(std::array::from_fn(|word| {
            let mut bits = self.0[word ^ words];
            for (swap, mask) in [
                (1, 0x5555_5555_5555_5555),
                (2, 0x3333_3333_3333_3333),
                (4, 0x0f0f_0f0f_0f0f_0f0f),
                (8, 0x00ff_00ff_00ff_00ff),
                (16, 0x0000_ffff_0000_ffff),
                (32, 0x0000_0000_ffff_ffff_u64),
            ] {
                if by & swap as u8 != 0 {
                    bits = (bits & mask) << swap | (bits >> swap) & mask;
                }
            }
            bits
        }))
    }

    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    fn first(self) -> Option<usize> {
        let word = self.0.iter().position(|&bits| bits != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }
}

/// A block that still has free units.
struct OpenBlock {
    start: usize,
    /// Places whose unit is no node yet.
    free: Places,
    /// Places that are no node's base yet.
    bases: Places,
}

impl OpenBlock {
    fn place(&self, children: &[(u8, std::ops::Range<usize>)]) -> Option<usize> {
        let mut bases = self.bases;
        for (label, _) in children {
            bases = bases.and(self.free.xor(*label));
            if bases.is_empty() {
                return None;
            }
        }
        Some(self.start + bases.first()?)
    }
}

#[derive(Default)]
struct Builder {
    units: Vec<Unit>,
    open: Vec<OpenBlock>,
}

impl Builder {
    /// A base whose units for all these labels are free. A lone child fills the oldest gap that there is; several find
    /// their place sooner where there is most room. The time is bounded by labels times open blocks.
    fn place(&mut self, children: &[(u8, std::ops::Range<usize>)]) -> usize {
        let found = if children.len() == 1 {
            self.open.iter().find_map(|block| block.place(children))
        } else {
            self.open.iter().rev().find_map(|block| block.place(children))
        };
        // In a new block every base serves.
        found.unwrap_or_else(|| self.add_block())
    }

    fn add_block(&mut self) -> usize {
        let start = self.units.len();
        self.units.resize(start + BLOCK, Unit::FREE);
        if self.open.len() == OPEN_BLOCKS {
            self.open.remove(0);
        }
        self.open.push(OpenBlock { start, free: Places::ALL, bases: Places::ALL });
        start
    }

    /// Makes a unit a node and its parent's base taken.
    fn take(&mut self, at: usize, base: usize, unit: Unit) {
        self.units[at] = unit;
        let start = at - at % BLOCK;
        if let Some(index) = self.open.iter().rposition(|block| block.start == start) {
            let block = &mut self.open[index];
            block.free.remove(at - start);
            block.bases.remove(base - start);
            if block.free.is_empty() {
                self.open.remove(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn trie(keys: &BTreeMap<Vec<u8>, u32>) -> Trie {
        Trie::new(keys.iter().map(|(key, &value)| (key.as_slice(), value))).unwrap()
    }

    /// The twin: looks every beginning of the text up.
    fn naive(keys: &BTreeMap<Vec<u8>, u32>, text: &[u8]) -> Vec<(usize, u32)> {
        (1..=text.len()).filter_map(|len| Some((len, *keys.get(&text[..len])?))).collect()
    }

    fn check(keys: &BTreeMap<Vec<u8>, u32>, text: &[u8]) {
        let trie = trie(keys);
        assert_eq!(trie.prefixes(text).collect::<Vec<_>>(), naive(keys, text), "{text:?}");
        assert_eq!(trie.get(text), keys.get(text).copied());
    }

    #[test]
    fn no_key_leads_nowhere() {
        check(&BTreeMap::new(), b"ab\0");
    }

    #[test]
    fn every_pair_of_bytes_is_found() {
        let pairs = (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| vec![a, b]));
        let keys: BTreeMap<_, _> = pairs.chain((0..=255).map(|a| vec![a])).zip(0..).collect();
        let trie = trie(&keys);
        for (key, value) in &keys {
            assert_eq!(trie.get(key), Some(*value));
            let mut longer = key.clone();
            longer.push(key[0]);
            assert_eq!(trie.get(&longer), keys.get(&longer).copied());
        }
        assert!(
            trie.units.len() < 2 * keys.len() + BLOCK,
            "{} units for {} nodes",
            trie.units.len(),
            keys.len()
        );
    }

    #[test]
    fn equal_keys_are_told() {
        let keys: [(&[u8], u32); 3] = [(b"a\0", 0), (b"a", 1), (b"a\0", 2)];
        let mut values = Trie::new(keys).unwrap_err();
        if values.0 > values.1 {
            values = (values.1, values.0);
        }
        assert_eq!(values, (0, 2));
    }

    #[test]
    fn the_highest_value_and_a_long_key_are_kept() {
        let long = vec![b'x'; 70_000];
        let trie = Trie::new([(&long[..], MAX_VALUE), (b"x", 0)]).unwrap();
        assert_eq!(trie.prefixes(&long).collect::<Vec<_>>(), [(1, 0), (70_000, MAX_VALUE)]);
    }

    proptest! {
        #[test]
        fn prefixes_match_naive(
            keys in proptest::collection::btree_map(proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 1..6), 0..1000u32, 0..400),
            texts in proptest::collection::vec(proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..9), 1..40),
        ) {
            let trie = trie(&keys);
            for text in texts.iter().chain(keys.keys()) {
                prop_assert_eq!(trie.prefixes(text).collect::<Vec<_>>(), naive(&keys, text));
                prop_assert_eq!(trie.get(text), keys.get(text).copied());
            }
        }
    }
}
