//! The quick way to encode: for vocabularies of bytes, whose texts are cut by a pattern, and for those of characters.
//!
//! Pretokens that are a word ([`super::words`]) are looked up in groups, so that memory is asked for all of them before the first is read;
//! longer ones are cut first where no token reaches over ([`super::cuts`]). Words that are not among the recent ones are filled in some
//! dozens at a time, and what no table knows is merged.

use self::chars::CharTokens;
pub(super) use self::chars::RankedPairs;
use self::group::{Found, IS_WHOLE, Missed, Part};
use super::cuts::Cuts;
use super::linear::{LONGEST_WORD, Linear};
use super::model::{Chars, Running};
use super::windows::LOOK;
use super::words::{Caches, LONGEST, LONGEST_LONG, LONGEST_LONGER, Recent, Word, WordCache, WordTable};
use super::{Merge, MergeTable, Pattern, Scratch, SplitError, TokenId};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::ops::ControlFlow;

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

/// Most bytes of a text that is encoded so: lengths leave one bit of 32 free.
pub(super) const LONGEST_TEXT: usize = IS_WHOLE as usize - 1;

/// Set in the id of a token that a pretoken may be, but that merging does not lead to. No id is as high.
const ONLY_WHOLE: TokenId = 1 << 31;

/// Parts of a long pretoken that are looked up together.
const MOST_PARTS: usize = 32;

/// What the tables take however few tokens there are: those by two bytes and by character.
const LEAST_BYTES: usize = 896 << 10;

/// Bytes after which it is asked whether to go on.
const LOOK_BYTES: usize = 2048;

// Work that is stopped inside a piece leaves less than all of it: none of those pieces is remembered.
const _: () = assert!(LONGEST_LONGER < LOOK);

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
        out.reserve(text.len() * 3 / 8);
        let mut guard = self.caches.take(&mut scratch.cache_hint);
        let mut cache = guard.as_mut().map(|cache| &mut **cache.get_or_insert_default());
        let mut ends = std::mem::take(&mut scratch.ends);
        let mut found = Found::default();
        let mut flow = ControlFlow::Continue(());
        let mut settled = 0;
        let split = pattern.for_each_batch(text, &mut ends, |start, ends| {
            let mut batch = Batch { quick: self, running, text, cache: cache.as_deref_mut(), scratch, out };
            flow = batch.encode(start, ends, Are::Pretokens, &mut found, &mut look);
            let end = ends.last().map_or(start, |&end| end as usize);
            // What waits can be as long as the text, where its pieces are.
            if end - settled >= LOOK {
                settled = end;
                batch.settle(&mut found);
            }
            if flow.is_continue() {
                flow = look(out);
            }
            flow
        });
        scratch.ends = ends;
        split?;
        if flow.is_continue() {
            Batch { quick: self, running, text, cache, scratch, out }.settle(&mut found);
            flow = look(out);
        }
        Ok(flow)
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
        out.reserve(text.len() * 3 / 8);
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
    /// Ids of pretokens or of parts of one, the first of which begins at `start`. The last of them wait for [`Batch::settle`].
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
            if let Some(cache) = self.cache.as_deref() {
                let taken = found.group.take(cache.recent(), self.text.as_bytes(), from, ends, whole);
                if let Some(&last) = ends[..taken].last() {
                    from = last;
                }
                ends = &ends[taken..];
                if found.group.is_full() {
                    self.look_up(found);
                    continue;
                }
            }
            let Some((&end, rest)) = ends.split_first() else { return ControlFlow::Continue(()) };
            // Hardly one of ASCII can be cut, and that of a usual length comes again.
            let is_cut =
                |bytes: &[u8]| bytes.len() > LONGEST && (bytes.len() > LONGEST_LONG || !bytes.is_ascii());
            if are == Are::Pretokens && is_cut(&self.text.as_bytes()[from as usize..end as usize]) {
                self.encode_long(from as usize, end as usize, found, look)?;
            } else {
                self.encode_part(Part::new(from, end - from, whole), found);
            }
            (from, ends) = (end, rest);
        }
    }

    /// Ids of a pretoken that may be long, part by part.
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

    /// The same of a part by itself: one longer than a word, or any where nothing is remembered.
    fn encode_part(&mut self, part: Part, found: &mut Found) {
        let word = Word::of_piece(&self.text.as_bytes()[part.range()]);
        match self.cache.as_deref() {
            Some(cache) => found.group.push(cache.recent(), word, part),
            None => found.missed(word, part),
        }
        if found.group.is_full() || self.cache.is_none() {
            self.look_up(found);
        }
    }

    /// Looks up what is in the group.
    fn look_up(&mut self, found: &mut Found) {
        if found.is_full() {
            self.hand_on(found);
        }
        if let Some(cache) = self.cache.as_deref() {
            let table = &self.quick.table;
            found.look_up(cache, self.text.as_bytes(), |word| table.expect(word.hash()));
        }
    }

    /// Hands on all that is on its way.
    fn settle(&mut self, found: &mut Found) {
        self.look_up(found);
        self.hand_on(found);
    }

    /// Hands on what was found, and between it what was missed.
    #[inline(never)]
    fn hand_on(&mut self, found: &mut Found) {
        found.settle(
            self,
            |batch, ids| batch.out.extend_from_slice(ids),
            |batch, missed| batch.miss(*missed),
        );
    }

    /// Ids of a part that is not known, or was not when it was looked up. One that is a token which merging does not lead to is that
    /// token only as a whole pretoken, and is not remembered: it depends on where it stands.
    #[inline(never)]
    fn miss(&mut self, Missed { word, part, .. }: Missed) {
        let bytes = &self.text.as_bytes()[part.range()];
        if bytes.len() > LONGEST {
            return self.miss_long(word, part, bytes);
        }
        let before = self.out.len();
        match self.quick.table.get(word, word.hash()) {
            Some(id) if id & ONLY_WHOLE != 0 && part.is_whole() => return self.out.push(id & !ONLY_WHOLE),
            Some(id) if id & ONLY_WHOLE != 0 => return self.merge(part),
            Some(id) => self.out.push(id),
            None if self.again(word, bytes) => return,
            None => self.merge(part),
        }
        if let Some(cache) = self.cache.as_deref_mut() {
            cache.insert(word, bytes, &self.out[before..]);
        }
    }

    /// The ids of a word that has become known since it was missed, and whether it has: it may have come twice.
    fn again(&mut self, word: Word, bytes: &[u8]) -> bool {
        let known = self.cache.as_deref().and_then(|cache| cache.get(word, Recent::place(word), bytes));
        known.map(|ids| self.out.extend_from_slice(ids)).is_some()
    }

    /// The same for a piece longer than a word.
    fn miss_long(&mut self, word: Word, part: Part, bytes: &[u8]) {
        let before = self.out.len();
        if word.is_none() {
            if let Some(ids) = self.cache.as_deref().and_then(|cache| cache.longer(bytes)) {
                return self.out.extend_from_slice(ids);
            }
        } else if self.again(word, bytes) {
            return;
        }
        match self.running.vocab.id(bytes) {
            Some(id) if !self.quick.unreached.contains(&id) => self.out.push(id),
            Some(id) if part.is_whole() && self.running.whole => return self.out.push(id),
            Some(_) => return self.merge(part),
            None => self.merge(part),
        }
        if let Some(cache) = self.cache.as_deref_mut() {
            let ids = &self.out[before..];
            match word.is_none() {
                false => cache.insert(word, bytes, ids),
                true => cache.insert_longer(bytes, ids),
            }
        }
    }

    /// Ids of a part by merging its bytes.
    fn merge(&mut self, part: Part) {
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
mod group;
#[cfg(test)]
mod tests;
