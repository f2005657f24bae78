//! Words that are looked up together: memory is asked for all of them before the first one is read. What is found waits for what is
//! missed in between, for which memory is asked as well.

use super::TokenId;
use crate::engine::words::{LANES, LONGEST, Place, Recent, Word, WordCache};
use std::ops::Range;

/// A part of a text that has ids of its own: a pretoken, or a stretch of one that no token reaches out of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    start: u32,
    /// Its length, with [`IS_WHOLE`] where it is a pretoken and not a part of one.
    len: u32,
}

/// Set in the length of a part that is a whole pretoken.
pub(super) const IS_WHOLE: u32 = 1 << 31;

impl Part {
    /// The part that begins at `start`; `whole` is [`IS_WHOLE`] or zero.
    #[inline(always)]
    pub(super) fn new(start: u32, len: u32, whole: u32) -> Self {
        Self { start, len: len | whole }
    }

    /// Where it stands in its text.
    pub(super) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + (self.len & !IS_WHOLE) as usize
    }

    /// Whether it is a whole pretoken.
    pub(super) fn is_whole(self) -> bool {
        self.len & IS_WHOLE != 0
    }
}

/// Most words of a group.
const MOST_WORDS: usize = 64;

/// Words to be looked up, in the order of the text.
pub(super) struct Group {
    words: [Word; MOST_WORDS],
    places: [Place; MOST_WORDS],
    parts: [Part; MOST_WORDS],
    len: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            words: [Word::NONE; MOST_WORDS],
            places: [Place::default(); MOST_WORDS],
            parts: [Part::default(); MOST_WORDS],
            len: 0,
        }
    }
}

impl Group {
    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.len == MOST_WORDS
    }

    /// Takes parts, the first of which begins at `from`, up to one that is longer than a word or for which there is no room, and gives
    /// how many they are. Of its own, as what it has fits into the registers then.
    #[inline(never)]
    pub(super) fn take(
        &mut self,
        recent: &Recent,
        text: &[u8],
        mut from: u32,
        ends: &[u32],
        whole: u32,
    ) -> usize {
        let before = self.len;
        let places = self.words.iter_mut().zip(&mut self.places).zip(&mut self.parts).skip(before);
        let mut len = before;
        for (&end, ((word, place), part)) in ends.iter().zip(places) {
            let size = end.wrapping_sub(from);
            if size as usize > LONGEST {
                break;
            }
            *word = word_at(text, from as usize, size as usize);
            *place = Recent::place(*word);
            *part = Part::new(from, size, whole);
            recent.expect(*place);
            len += 1;
            from = end;
        }
        self.len = len;
        len - before
    }

    /// Takes one more part, for which `word` stands; there is room.
    pub(super) fn push(&mut self, recent: &Recent, word: Word, part: Part) {
        let (at, place) = (self.len % MOST_WORDS, Recent::place(word));
        recent.expect(place);
        (self.words[at], self.places[at], self.parts[at]) = (word, place, part);
        self.len = at + 1;
    }
}

/// The word of `size` bytes, 1 to [`LONGEST`], at byte `at`.
#[inline(always)]
fn word_at(text: &[u8], at: usize, size: usize) -> Word {
    match text.get(at..at + 16).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => Word::new(bytes, size),
        None => last_word(text, at, size),
    }
}

/// The same where fewer than 16 bytes are left of the text.
#[cold]
#[inline(never)]
fn last_word(text: &[u8], at: usize, size: usize) -> Word {
    Word::of(&text[at..at + size])
}

/// Most ids that wait for those between them, and most parts that are missed: enough for memory to answer, few enough for the first
/// cache. A group has room behind that.
const MOST_FOUND: usize = 512;
const MOST_MISSED: usize = 32 + MOST_WORDS;

/// A part that was not found: where its ids go among those found.
#[derive(Clone, Copy, Default)]
pub(super) struct Missed {
    pub(super) word: Word,
    pub(super) part: Part,
    before: u32,
}

/// What of a text was found, and what was not and goes where; and what is to be looked up next.
pub(super) struct Found {
    pub(super) group: Group,
    ids: [TokenId; MOST_FOUND],
    len: usize,
    missed: [Missed; MOST_MISSED],
    misses: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            group: Group::default(),
            ids: [0; MOST_FOUND],
            len: 0,
            missed: [Missed::default(); MOST_MISSED],
            misses: 0,
        }
    }
}

impl Found {
    /// Whether there is no room for the parts of another group.
    pub(super) fn is_full(&self) -> bool {
        self.len > MOST_FOUND - MOST_WORDS * LANES || self.misses > MOST_MISSED - MOST_WORDS
    }

    /// Looks the words of the group up, for which there is room; `miss` is called for each that is not known.
    pub(super) fn look_up(&mut self, cache: &WordCache, text: &[u8], mut miss: impl FnMut(Word)) {
        let mut at = 0;
        while let Some(unknown) = self.known(cache.recent(), at) {
            let Group { words, places, parts, .. } = &self.group;
            let (word, place, part) = (words[unknown], places[unknown], parts[unknown]);
            if !self.rest_known(cache, word, place, &text[part.range()]) {
                self.missed(word, part);
                miss(word);
            }
            at = unknown + 1;
        }
        self.group.len = 0;
    }

    /// Takes the ids of the words of the group from number `from` on for as long as they are among the recent ones and have few; gives
    /// the first one that is not or has more.
    #[inline(never)]
    fn known(&mut self, recent: &Recent, from: usize) -> Option<usize> {
        let mut len = self.len;
        let mut at = from;
        let to = self.group.len.min(MOST_WORDS);
        let (words, places) = (&self.group.words[..to], &self.group.places[..to]);
        while at < to {
            let Some(entry) = recent.few(words[at], places[at]) else { break };
            let Some(after) = entry.write(&mut self.ids, len) else { break };
            len = after;
            at += 1;
        }
        self.len = len;
        (at < to).then_some(at)
    }

    /// Takes the ids of a word that has more of them, and whether it did: if it is known and there is room.
    #[inline(never)]
    fn rest_known(&mut self, cache: &WordCache, word: Word, place: Place, bytes: &[u8]) -> bool {
        let Some(ids) = cache.get(word, place, bytes) else { return false };
        let Some(room) = self.ids[self.len..].get_mut(..ids.len()) else { return false };
        room.copy_from_slice(ids);
        self.len += ids.len();
        true
    }

    /// Keeps a part in mind that is not known; there is room.
    pub(super) fn missed(&mut self, word: Word, part: Part) {
        self.missed[self.misses % MOST_MISSED] = Missed { word, part, before: self.len as u32 };
        self.misses += 1;
    }

    /// Calls `found` with ids and `missed` with what is between them, in order, and has nothing then.
    pub(super) fn settle<T>(
        &mut self,
        to: &mut T,
        found: impl Fn(&mut T, &[TokenId]),
        missed: impl Fn(&mut T, &Missed),
    ) {
        let mut from = 0;
        for miss in &self.missed[..self.misses] {
            let before = miss.before as usize;
            found(to, &self.ids[from..before]);
            missed(to, miss);
            from = before;
        }
        found(to, &self.ids[from..self.len]);
        (self.len, self.misses) = (0, 0);
    }
}
