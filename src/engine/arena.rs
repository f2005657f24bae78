//! Strings by id, one behind the other in one piece of memory.
//!
//! Holds for every [`Arena`]: the string of an id lies between its start and the next one's, so four bytes an id are
//! all that it takes to find it; [`HEAD`] bytes more are there behind the last one. So a short string, as most tokens
//! are, is copied as a whole head whatever its length, and what is too much is written over: with copies of just their
//! lengths decoding is three times as slow (English by cl100k: 530 MB/s for 1,600), as lengths are hard to predict.

use super::TokenId;

/// How many bytes are copied at once.
pub(super) const HEAD: usize = 16;

/// The strings; see the module's head. An id that has none has an empty one.
#[derive(Debug, Clone)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// One more than there are ids.
    starts: Vec<u32>,
}

impl Default for Arena {
    fn default() -> Self {
        Self { bytes: vec![0; HEAD], starts: vec![0] }
    }
}

impl Arena {
    /// Strings of these lengths by id, all zeros for now. `lens` has their lengths from its second place on, and
    /// together they must be below 2^32.
    pub(super) fn of_lens(mut lens: Vec<u32>) -> Self {
        let mut end = 0;
        for len in &mut lens {
            end += *len;
            *len = end;
        }
        Self { bytes: vec![0; end as usize + HEAD], starts: lens }
    }

    /// The strings of all ids, the first one's first; together they must be below 2^32 bytes.
    pub(super) fn gather<E>(strings: impl Iterator<Item = Result<Vec<u8>, E>>) -> Result<Self, E> {
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for string in strings {
            bytes.extend_from_slice(&string?);
            starts.push(bytes.len() as u32);
        }
        bytes.extend_from_slice(&[0; HEAD]);
        Ok(Self { bytes, starts })
    }

    /// Writes the string of an id, which must have the length that was said.
    pub(super) fn fill(&mut self, id: TokenId, string: &[u8]) {
        let range = self.range(id as usize);
        self.bytes[range].copy_from_slice(string);
    }

    fn range(&self, id: usize) -> std::ops::Range<usize> {
        self.starts[id] as usize..self.starts[id + 1] as usize
    }

    /// The string of an id, empty where there is none.
    #[inline]
    pub(super) fn get(&self, id: TokenId) -> &[u8] {
        let (start, len) = self.place(id);
        &self.bytes[start..start + len]
    }

    /// How long it is, zero where there is none.
    #[inline]
    pub(super) fn len_of(&self, id: TokenId) -> usize {
        self.place(id).1
    }

    /// Where it begins and how long it is.
    #[inline(always)]
    fn place(&self, id: TokenId) -> (usize, usize) {
        let id = id as usize;
        match self.starts.get(id..id + 2) {
            Some(&[start, end]) => (start as usize, (end - start) as usize),
            _ => (0, 0),
        }
    }

    /// Whether the string of `whole` is those of `left` and `right`, and neither of them is empty.
    pub(super) fn is_joined(&self, whole: TokenId, left: TokenId, right: TokenId) -> bool {
        let ((w, whole), (l, left), (r, right)) = (self.place(whole), self.place(left), self.place(right));
        if left == 0 || right == 0 || left + right != whole {
            return false;
        }
        let is_same =
            |at: usize, part: usize, len: usize| self.bytes[at..at + len] == self.bytes[part..part + len];
        if whole > HEAD {
            return is_same(w, l, left) && is_same(w + left, r, right);
        }
        // Heads as numbers, the first byte lowest. Of a difference only the bytes that are the string's count.
        let is_none = |difference: u128, len: usize| difference << (8 * (HEAD - len)) == 0;
        let (w, l, r) = (self.head(w), self.head(l), self.head(r));
        is_none(w ^ l, left) && is_none(w >> (8 * left) ^ r, right)
    }

    #[inline]
    fn head(&self, at: usize) -> u128 {
        u128::from_le_bytes(self.bytes[at..].first_chunk().copied().unwrap_or_default())
    }

    /// One more than the highest id.
    pub(super) fn bound(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.starts.capacity() * 4
    }
}

/// Strings of an [`Arena`] one behind the other, in memory of just their length.
pub(super) struct Joined {
    /// What is behind `at` counts for nothing and is written over.
    bytes: Vec<u8>,
    at: usize,
}

impl Joined {
    /// Nothing yet, with room for so many bytes, beyond which nothing may be written.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes + HEAD], at: 0 }
    }

    /// Appends the string of an id.
    #[inline(always)]
    pub(super) fn push(&mut self, arena: &Arena, id: TokenId) {
        let (start, len) = arena.place(id);
        self.bytes[self.at..self.at + HEAD].copy_from_slice(&arena.bytes[start..start + HEAD]);
        if len > HEAD {
            let rest = &arena.bytes[start + HEAD..start + len];
            self.bytes[self.at + HEAD..self.at + len].copy_from_slice(rest);
        }
        self.at += len;
    }

    /// Appends a string from elsewhere.
    pub(super) fn push_bytes(&mut self, string: &[u8]) {
        self.bytes[self.at..self.at + string.len()].copy_from_slice(string);
        self.at += string.len();
    }

    /// What was joined.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arena(strings: &[Vec<u8>]) -> Arena {
        Arena::gather(strings.iter().map(|string| Ok::<_, ()>(string.clone()))).unwrap()
    }

    proptest! {
        #[test]
        fn joining_matches_concatenation(
            strings in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..40), 1..8),
            ids in proptest::collection::vec(0u32..10, 0..30),
        ) {
            let arena = arena(&strings);
            let expect = ids.iter().filter_map(|&id| strings.get(id as usize)).flatten().copied();
            let expect: Vec<u8> = expect.collect();
            let mut joined = Joined::with_room(expect.len());
            ids.iter().for_each(|&id| joined.push(&arena, id));
            prop_assert_eq!(joined.into_bytes(), expect);
        }

        #[test]
        fn what_is_joined_of_two_is_told(
            left in proptest::collection::vec(0u8..2, 0..20),
            right in proptest::collection::vec(0u8..2, 0..20),
            other in proptest::collection::vec(0u8..2, 0..4),
            is_same: bool,
        ) {
            let whole = if is_same { [left.clone(), right.clone()].concat() } else { other };
            let expect = !left.is_empty() && !right.is_empty() && whole == [left.clone(), right.clone()].concat();
            let arena = arena(&[left, right, whole]);
            prop_assert_eq!(arena.is_joined(2, 0, 1), expect);
        }
    }

    #[test]
    fn an_id_beyond_the_last_has_no_string() {
        let mut arena = Arena::of_lens(vec![0, 2, 0, 1]);
        arena.fill(0, b"ab");
        arena.fill(2, b"c");
        let strings = [0, 1, 2, 3, u32::MAX].map(|id| arena.get(id));
        assert_eq!(strings, [&b"ab"[..], b"", b"c", b"", b""]);
        assert_eq!((arena.bound(), arena.is_joined(0, 2, 3)), (3, false));
    }
}
