//! The quick way to encode: for vocabularies of bytes, whose texts are cut by a pattern.
//!
//! Pretokens come in batches. Those that are a word ([`super::words`]) are looked up, all of a batch asked for before the first
//! is used; longer ones are cut first where no token reaches over ([`super::cuts`]); what no table knows is merged.

use super::cuts::Cuts;
use super::model::Running;
use super::words::{Caches, LONGEST, MOST_IDS, Word, WordCache, WordTable};
use super::{Pattern, Scratch, SplitError, TokenId, Vocab};
use std::ops::ControlFlow;

/// What a tokenizer has for it.
#[derive(Debug, Default)]
pub(super) struct Quick {
    table: WordTable,
    cuts: Cuts,
    caches: Caches,
}

/// A part of a text that waits for its ids.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// None for one that is too long for a word.
    word: Word,
    /// Where a cache has it.
    home: u32,
    start: u32,
    /// Its length, with [`IS_WHOLE`] where it is a pretoken and not a part of one.
    len: u32,
}

/// Set in the length of a part that is a whole pretoken. Longer than any pretoken that is not all of its text.
const IS_WHOLE: u32 = 1 << 31;

/// Set in the id of a token that a pretoken may be, but that merging does not lead to. No id is as high.
const ONLY_WHOLE: TokenId = 1 << 31;

/// Parts that wait at once: enough for memory to answer, few enough for the first cache.
const WAITING: usize = 64;

impl Quick {
    /// What these tokens need. `whole` says that a pretoken which is a token is that token, `is_reached` whether merging leads from a
    /// token's bytes to it.
    pub(super) fn new(vocab: &Vocab, whole: bool, is_reached: impl Fn(TokenId, &[u8]) -> bool) -> Self {
        let ordinary = || vocab.iter().filter(|(id, bytes)| vocab.id(bytes) == Some(*id));
        let words: Vec<(Word, TokenId)> = ordinary()
            .filter(|(_, bytes)| bytes.len() <= LONGEST)
            .filter_map(|(id, bytes)| match (is_reached(id, bytes), whole) {
                (true, _) => Some((Word::of(bytes), id)),
                (false, true) => Some((Word::of(bytes), id | ONLY_WHOLE)),
                (false, false) => None,
            })
            .collect();
        Self {
            table: WordTable::new(words.into_iter()),
            cuts: Cuts::new(ordinary().map(|(_, bytes)| bytes)),
            caches: Caches::default(),
        }
    }

    /// Bytes of heap; the caches of threads, [`WordCache::MEMORY_BYTES`] each, come when they are needed.
    pub(super) fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.cuts.memory_bytes() + WordCache::MEMORY_BYTES
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
        let bytes = text.as_bytes();
        let mut guard = self.caches.take(&mut scratch.cache_hint);
        let mut cache = guard.as_mut().map(|cache| &mut **cache.get_or_insert_default());
        let mut ends = std::mem::take(&mut scratch.ends);
        let mut flow = ControlFlow::Continue(());
        let split = pattern.for_each_batch(text, &mut ends, |start, ends| {
            let mut batch = Batch { quick: self, running, text: bytes, cache: cache.as_deref_mut(), scratch, out };
            batch.encode(start, ends);
            flow = look(out);
            flow
        });
        scratch.ends = ends;
        split.map(|()| flow)
    }
}

/// A batch on its way.
struct Batch<'a> {
    quick: &'a Quick,
    running: &'a Running<'a>,
    text: &'a [u8],
    cache: Option<&'a mut WordCache>,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<TokenId>,
}

impl Batch<'_> {
    fn encode(&mut self, start: usize, ends: &[u32]) {
        let mut waiting = std::mem::take(&mut self.scratch.waiting);
        waiting.resize(WAITING, Part::default());
        let mut len = 0;
        let mut from = start;
        for &end in ends {
            let end = end as usize;
            if len == WAITING {
                self.resolve(&waiting[..len]);
                len = 0;
            }
            if end - from <= LONGEST {
                waiting[len] = part(self.text, from, end, IS_WHOLE);
                len += 1;
            } else {
                let piece = &self.text[from..end];
                let (quick, text) = (self.quick, self.text);
                quick.cuts.each_part(piece, |first, last| {
                    let whole = if last - first == piece.len() { IS_WHOLE } else { 0 };
                    if len == WAITING {
                        self.resolve(&waiting[..len]);
                        len = 0;
                    }
                    waiting[len] = part(text, from + first, from + last, whole);
                    len += 1;
                });
            }
            from = end;
        }
        self.resolve(&waiting[..len]);
        self.scratch.waiting = waiting;
    }

    #[inline(always)]
    fn resolve(&mut self, parts: &[Part]) {
        self.out.reserve(parts.len() * MOST_IDS);
        for part in parts {
            let Some(entry) = self.cache.as_deref().and_then(|cache| cache.get(part.word, part.home)) else {
                self.miss(part);
                continue;
            };
            let [first, second, third] = entry.ids;
            self.out.push(first);
            if entry.len > 1 {
                self.out.push(second);
                if entry.len > 2 {
                    self.out.push(third);
                }
            }
        }
    }

    #[inline(never)]
    fn miss(&mut self, part: &Part) {
        let before = self.out.len();
        let bytes = &self.text[part.start as usize..][..(part.len & !IS_WHOLE) as usize];
        let is_whole = part.len & IS_WHOLE != 0;
        if part.word.is_none() {
            if is_whole {
                self.running.bytes(bytes, self.scratch, self.out);
            } else {
                self.running.merged_bytes(bytes, self.scratch, self.out);
            }
            return;
        }
        match self.quick.table.get(part.word, part.word.hash()) {
            // Not to be remembered: it depends on where the word stands.
            Some(id) if id & ONLY_WHOLE != 0 && is_whole => return self.out.push(id & !ONLY_WHOLE),
            Some(id) if id & ONLY_WHOLE != 0 => return self.running.merged_bytes(bytes, self.scratch, self.out),
            Some(id) => self.out.push(id),
            None => self.running.merged_bytes(bytes, self.scratch, self.out),
        }
        if let Some(cache) = self.cache.as_deref_mut() {
            cache.insert(part.word, part.home, &self.out[before..]);
        }
    }
}

#[inline(always)]
fn part(text: &[u8], start: usize, end: usize, whole: u32) -> Part {
    let len = end - start;
    let (start, marked) = (start as u32, len as u32 | whole);
    if len > LONGEST {
        return Part { word: Word::NONE, home: 0, start, len: marked };
    }
    let word = match text[start as usize..].first_chunk::<16>() {
        Some(bytes) => Word::new(bytes, len),
        None => Word::of(&text[start as usize..end]),
    };
    Part { word, home: WordCache::home(word.hash()), start, len: marked }
}
