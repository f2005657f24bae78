//! The quick way to encode: for vocabularies of bytes, whose texts are cut by a pattern, and for those of characters.
//!
//! Pretokens that are a word ([`super::words`]) are looked up in groups, so that memory is asked for all of them before the first is read;
//! longer ones are cut first where no token reaches over ([`super::cuts`]). Words that are not among the recent ones are filled in some
//! dozens at a time, and what no table knows is merged.

use self::chars::CharTokens;
pub(super) use self::chars::RankedPairs;
use super::cuts::Cuts;
use super::linear::{LONGEST_WORD, Linear};
use super::model::{Chars, Running};
use super::windows::LOOK;
use super::words::{
    Caches, LANES, LONGEST, LONGEST_LONG, LONGEST_LONGER, Place, Recent, Word, WordCache, WordTable,
};
use super::{Merge, MergeTable, Pattern, Scratch, SplitError, TokenId};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::ops::{ControlFlow, Range};

/// What a tokenizer has for it.
#[derive(Debug, Default)]
pub(super) struct Quick {
    table: WordTable,
    cuts: Cuts,
    /// The merges, where they can be carried out in linear time.
    linear: Option<Linear>,
    /// Where the model is over characters.
    chars: Option<CharTokens>,
    /// Tokens that merging does not lead to.
    unreached: HashSet<TokenId, FixedState>,
    caches: Caches,
}

/// A way to encode quickly.
pub(super) enum Quickly<'t> {
    /// Bytes, in pretokens that a pattern cuts.
    Pattern(&'t Quick, &'t Pattern),
    /// Characters, in whatever pretokens there are.
    Chars(&'t Quick, &'t Chars),
}

/// A part of a text that has ids of its own: a pretoken, or a stretch of one that no token reaches out of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// None for one that is too long for a word.
    word: Word,
    start: u32,
    /// Its length, with [`IS_WHOLE`] where it is a pretoken and not a part of one.
    len: u32,
}

impl Part {
    /// Where it stands in its text.
    fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + (self.len & !IS_WHOLE) as usize
    }
}

/// Set in the length of a part that is a whole pretoken.
const IS_WHOLE: u32 = 1 << 31;

/// Most bytes of a text that is encoded so: lengths leave one bit of 32 free.
pub(super) const LONGEST_TEXT: usize = IS_WHOLE as usize - 1;

/// Set in the id of a token that a pretoken may be, but that merging does not lead to. No id is as high.
const ONLY_WHOLE: TokenId = 1 << 31;

/// Most words of a group.
const MOST_WORDS: usize = 64;

/// Most ids that wait for those between them, and most parts that are missed: enough for memory to answer, few enough for the first
/// cache. A group has room behind that.
const MOST_FOUND: usize = 512;
const MOST_MISSED: usize = 32 + MOST_WORDS;

/// Parts of a long pretoken that are looked up together.
const MOST_PARTS: usize = 32;

/// What the tables take however few tokens there are: those by two bytes and by character.
const LEAST_BYTES: usize = 704 << 10;

/// Bytes after which it is asked whether to go on.
const LOOK_BYTES: usize = 2048;

// Work that is stopped inside a piece leaves less than all of it: none of those pieces is remembered.
const _: () = assert!(LONGEST_LONGER < LOOK);

/// What of a text was found, and what was not and goes where.
struct Found {
    ids: [TokenId; MOST_FOUND],
    len: usize,
    missed: [(Part, u32); MOST_MISSED],
    misses: usize,
    group: Group,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            ids: [0; MOST_FOUND],
            len: 0,
            missed: [Default::default(); MOST_MISSED],
            misses: 0,
            group: Group::default(),
        }
    }
}

impl Found {
    /// Whether there is no room for the parts of another group.
    fn is_full(&self) -> bool {
        self.len > MOST_FOUND - MOST_WORDS * LANES || self.misses > MOST_MISSED - MOST_WORDS
    }

    /// Takes the ids of the words of the group from number `from` on for as long as they are among the recent ones; gives the first one
    /// that is not, or `to`.
    #[inline(never)]
    fn known(&mut self, recent: &Recent, from: usize, to: usize) -> usize {
        let mut len = self.len;
        let mut at = from;
        let (words, places) = (&self.group.words[..to], &self.group.places[..to]);
        while at < to {
            let Some(entry) = recent.get(words[at], places[at]) else { break };
            let Some(after) = entry.write(&mut self.ids, len) else { break };
            len = after;
            at += 1;
        }
        self.len = len;
        at
    }
}

/// Words that are looked up together: memory is asked for all of them before the first one is read.
struct Group {
    words: [Word; MOST_WORDS],
    places: [Place; MOST_WORDS],
}

impl Default for Group {
    fn default() -> Self {
        Self { words: [Word::NONE; MOST_WORDS], places: [Place::default(); MOST_WORDS] }
    }
}

impl Group {
    /// Takes pretokens, the first of which begins at `from`, up to one that is longer than a word, and gives how many they are. Of its
    /// own, as what it has fits into the registers then.
    #[inline(never)]
    fn take(&mut self, recent: &Recent, text: &[u8], mut from: u32, ends: &[u32]) -> usize {
        let ends = &ends[..ends.len().min(MOST_WORDS)];
        for (i, &end) in ends.iter().enumerate() {
            let (at, size) = (from as usize, end.wrapping_sub(from) as usize);
            if size > LONGEST {
                return i;
            }
            let word = word_at(text, at, size);
            let place = Recent::place(word);
            recent.expect(place);
            self.words[i] = word;
            self.places[i] = place;
            from = end;
        }
        ends.len()
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

impl Quick {
    /// What the tokens of this model need.
    pub(super) fn new(running: &Running<'_>, merges: &[Merge]) -> Self {
        let (vocab, whole) = (running.vocab, running.whole);
        let linear = match running.chars {
            Some(_) => None,
            None => Linear::new(vocab, merges, running.byte_ids),
        };
        let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
        let mut is_reached = |id, bytes: &[u8]| match &linear {
            Some(linear) if linear.applies(bytes) => linear.reachable(id),
            _ => {
                ids.clear();
                running.merged(bytes, &mut scratch, &mut ids);
                *ids == [id]
            }
        };
        let unreached: HashSet<_, _> =
            vocab.ordinary().filter(|(id, bytes)| !is_reached(*id, bytes)).map(|(id, _)| id).collect();
        let words: Vec<(Word, TokenId)> = vocab
            .ordinary()
            .filter(|(_, bytes)| bytes.len() <= LONGEST)
            .filter_map(|(id, bytes)| match (unreached.contains(&id), whole) {
                (false, _) => Some((Word::of(bytes), id)),
                (true, true) => Some((Word::of(bytes), id | ONLY_WHOLE)),
                (true, false) => None,
            })
            .collect();
        Self {
            table: WordTable::new(words.into_iter()),
            cuts: Cuts::new(vocab.ordinary().map(|(_, bytes)| bytes)),
            linear,
            chars: running.chars.map(|_| CharTokens::new(running)),
            unreached,
            caches: Caches::default(),
        }
    }

    /// Bytes of heap; the caches of threads, [`WordCache::MEMORY_BYTES`] each, come when they are needed.
    pub(super) fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
            + self.cuts.memory_bytes()
            + self.linear.as_ref().map_or(0, Linear::memory_bytes)
            + self.unreached.allocation_size()
            + WordCache::MEMORY_BYTES
    }

    /// What it comes to for so many tokens of the usual kind.
    pub(super) fn usual_memory_bytes(tokens: usize) -> usize {
        90 * tokens + LEAST_BYTES + WordCache::MEMORY_BYTES
    }

    /// Ids of a text; `look` is called with them now and then and says whether to go on.
    pub(super) fn encode(
        &self,
        running: &Running<'_>,
        pattern: &Pattern,
        text: &str,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
        mut look: impl FnMut(&mut Vec<TokenId>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SplitError> {
        // Most texts have no more tokens than that; those which have grow it.
        out.reserve(text.len() / 4);
        let mut guard = self.caches.take(&mut scratch.cache_hint);
        let mut cache = guard.as_mut().map(|cache| &mut **cache.get_or_insert_default());
        let mut ends = std::mem::take(&mut scratch.ends);
        let mut found = Found::default();
        let mut flow = ControlFlow::Continue(());
        let split = pattern.for_each_batch(text, &mut ends, |start, ends| {
            let mut batch = Batch { quick: self, running, text, cache: cache.as_deref_mut(), scratch, out };
            flow = batch.encode(start, ends, Are::Pretokens, &mut found, &mut look);
            batch.settle(&mut found);
            if flow.is_continue() {
                flow = look(out);
            }
            flow
        });
        scratch.ends = ends;
        split.map(|()| flow)
    }

    /// Ids of a pretoken that may be a whole text; `look` as above.
    pub(super) fn encode_pretoken(
        &self,
        running: &Running<'_>,
        text: &str,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
        mut look: impl FnMut(&mut Vec<TokenId>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        out.reserve(text.len() / 4);
        let mut guard = self.caches.take(&mut scratch.cache_hint);
        let cache = guard.as_mut().map(|cache| &mut **cache.get_or_insert_default());
        let mut batch = Batch { quick: self, running, text, cache, scratch, out };
        let mut found = Found::default();
        batch.encode_long(0, text.len(), &mut found, &mut look)?;
        batch.settle(&mut found);
        look(out)
    }
}

/// What is called with the ids now and then, and says whether to go on.
type Look<'l> = &'l mut dyn FnMut(&mut Vec<TokenId>) -> ControlFlow<()>;

/// What there are ends of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Are {
    /// Pretokens that may be cut further.
    Pretokens,
    /// Parts of a pretoken.
    Parts,
    /// A pretoken that is not cut.
    AWhole,
}

/// A batch on its way.
struct Batch<'a> {
    quick: &'a Quick,
    running: &'a Running<'a>,
    text: &'a str,
    cache: Option<&'a mut WordCache>,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<TokenId>,
}

impl Batch<'_> {
    /// Ids of pretokens or of parts of one, the first of which begins at `start`.
    fn encode(
        &mut self,
        start: usize,
        ends: &[u32],
        are: Are,
        found: &mut Found,
        look: Look<'_>,
    ) -> ControlFlow<()> {
        let whole = if are == Are::Parts { 0 } else { IS_WHOLE };
        let (mut from, mut ends) = (start as u32, ends);
        loop {
            if found.is_full() {
                self.settle(found);
            }
            let taken = self.encode_group(from, ends, whole, found);
            if let Some(&last) = ends[..taken].last() {
                from = last;
            }
            ends = &ends[taken..];
            if taken == MOST_WORDS {
                continue;
            }
            let Some((&end, rest)) = ends.split_first() else { return ControlFlow::Continue(()) };
            if are == Are::Pretokens && (end - from) as usize > LONGEST {
                self.encode_long(from as usize, end as usize, found, look)?;
            } else {
                self.missed(self.part(from as usize, end as usize, whole), found);
            }
            (from, ends) = (end, rest);
        }
    }

    /// Ids of the next words, and how many they are: none before a part that is none.
    fn encode_group(&mut self, from: u32, ends: &[u32], whole: u32, found: &mut Found) -> usize {
        let Some(cache) = self.cache.as_deref() else { return 0 };
        let recent = cache.recent();
        let taken = found.group.take(recent, self.text.as_bytes(), from, ends);
        let mut done = 0;
        while done < taken {
            done = found.known(recent, done, taken);
            if done < taken {
                let (start, end) = (if done == 0 { from } else { ends[done - 1] }, ends[done]);
                let part = Part { word: found.group.words[done], start, len: (end - start) | whole };
                self.missed(part, found);
                done += 1;
            }
        }
        taken
    }

    /// The same for a pretoken that may be long, part by part.
    #[inline(never)]
    fn encode_long(
        &mut self,
        start: usize,
        end: usize,
        found: &mut Found,
        look: Look<'_>,
    ) -> ControlFlow<()> {
        let (text, quick) = (self.text, self.quick);
        let mut looked = start;
        let (mut from, mut ends, mut len) = (start, [0; MOST_PARTS], 0);
        quick.cuts.each_part(&text.as_bytes()[start..end], |_, last| {
            ends[len] = (start + last) as u32;
            len += 1;
            if len < MOST_PARTS {
                return ControlFlow::Continue(());
            }
            self.encode(from, &ends, Are::Parts, found, look)?;
            (from, len) = (start + last, 0);
            if from - looked < LOOK_BYTES {
                return ControlFlow::Continue(());
            }
            looked = from;
            self.settle(found);
            look(self.out)
        })?;
        let are = if from == start && len == 1 { Are::AWhole } else { Are::Parts };
        self.encode(from, &ends[..len], are, found, look)
    }

    /// Keeps a part in mind that is not among the recent words, and asks memory for where it may be.
    #[inline(never)]
    #[cold]
    fn missed(&self, part: Part, found: &mut Found) {
        self.quick.table.expect(part.word.hash());
        found.missed[found.misses % MOST_MISSED] = (part, found.len as u32);
        found.misses += 1;
    }

    /// Hands on what was found, and between it what was missed.
    #[inline(never)]
    fn settle(&mut self, found: &mut Found) {
        let mut from = 0;
        for (part, len) in &found.missed[..found.misses] {
            self.out.extend_from_slice(&found.ids[from..*len as usize]);
            from = *len as usize;
            self.miss(part);
        }
        self.out.extend_from_slice(&found.ids[from..found.len]);
        (found.len, found.misses) = (0, 0);
    }

    #[inline(never)]
    fn miss(&mut self, part: &Part) {
        let is_whole = part.len & IS_WHOLE != 0;
        if part.word.is_none() {
            return self.miss_long(part, is_whole);
        }
        let (word, hash, before) = (part.word, part.word.hash(), self.out.len());
        match self.quick.table.get(word, hash) {
            // Not to be remembered: it depends on where the word stands.
            Some(id) if id & ONLY_WHOLE != 0 && is_whole => return self.out.push(id & !ONLY_WHOLE),
            Some(id) if id & ONLY_WHOLE != 0 => return self.merge(part),
            Some(id) => self.out.push(id),
            None => {
                if let Some(cache) = self.cache.as_deref() {
                    // It may have come twice.
                    if let Some(entry) = cache.recent().get(word, Recent::place(word)) {
                        return self.out.extend_from_slice(entry.ids());
                    }
                    if let Some(ids) = cache.many(word, hash) {
                        return self.out.extend_from_slice(ids);
                    }
                }
                self.merge(part);
                if let Some(cache) = self.cache.as_deref_mut() {
                    cache.insert_many(word, hash, &self.out[before..]);
                }
            }
        }
        if let Some(cache) = self.cache.as_deref_mut() {
            cache.insert(word, &self.out[before..]);
        }
    }

    /// A piece longer than a word. One that is a token which merging does not lead to is that token only as a whole
    /// pretoken, and is not remembered.
    fn miss_long(&mut self, part: &Part, is_whole: bool) {
        let bytes = &self.text.as_bytes()[part.range()];
        let before = self.out.len();
        let mut place = None;
        if let Some(cache) = self.cache.as_deref() {
            if bytes.len() > LONGEST_LONG {
                if let Some(ids) = cache.longer(bytes) {
                    return self.out.extend_from_slice(ids);
                }
            } else {
                match cache.long(bytes) {
                    Ok(ids) => return self.out.extend_from_slice(ids),
                    Err(free) => place = Some(free),
                }
            }
        }
        match self.running.vocab.id(bytes) {
            Some(id) if !self.quick.unreached.contains(&id) => self.out.push(id),
            Some(id) if is_whole && self.running.whole => return self.out.push(id),
            Some(_) => return self.merge(part),
            None => self.merge(part),
        }
        if let Some(cache) = self.cache.as_deref_mut() {
            let ids = &self.out[before..];
            match place {
                Some(place) => cache.insert_long(place, bytes.len(), ids),
                None => cache.insert_longer(bytes, ids),
            }
        }
    }
}

impl Batch<'_> {
    /// The part from `start` to `end`, and where it may be among the recent words.
    #[inline(always)]
    fn part(&self, start: usize, end: usize, whole: u32) -> Part {
        let len = end - start;
        let (from, marked) = (start as u32, len as u32 | whole);
        if len > LONGEST {
            return Part { word: Word::NONE, start: from, len: marked };
        }
        Part { word: word_at(self.text.as_bytes(), start, len), start: from, len: marked }
    }

    fn merge(&mut self, part: &Part) {
        let bytes = &self.text.as_bytes()[part.range()];
        match &self.quick.linear {
            Some(linear) if linear.applies(bytes) => {
                if let Some(cache) = self.cache.as_deref_mut() {
                    if bytes.len() <= LONGEST_WORD {
                        let word = self.text.get(part.range());
                        let by_chars = !bytes.is_ascii() && self.quick.cuts.has_whole_chars(bytes);
                        let word = word.filter(|_| by_chars);
                        return linear.encode_word(bytes, word, &mut cache.pairs, self.out);
                    }
                    if linear.encode_run(bytes, &mut cache.pairs, self.out) {
                        return;
                    }
                    let stopped = self.scratch.stopped();
                    let Scratch { stretch, linear: scratch, .. } = &mut *self.scratch;
                    return linear.encode_long(bytes, &mut cache.pairs, stretch, scratch, stopped, self.out);
                }
                linear.encode(bytes, &mut self.scratch.linear, self.out);
            }
            _ => {
                let word = self.text.get(part.range());
                if let (Some(chars), Some(cache), Some(word)) =
                    (&self.quick.chars, self.cache.as_deref_mut(), word)
                {
                    let pairs = &mut cache.ranked_pairs;
                    if chars.encode_word(self.running, word, pairs, self.out)
                        || chars.encode_long(self.running, word, pairs, self.scratch, self.out)
                    {
                        return;
                    }
                }
                self.running.merged(bytes, self.scratch, self.out);
            }
        }
    }
}

mod chars;
#[cfg(test)]
mod tests;
