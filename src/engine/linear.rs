//! Merging in linear time: the tokens of a text are found from left to right, longest first, with steps back where two
//! neighbours would not have been left side by side. For byte-level vocabularies whose merges meet the premises below.
//!
//! The idea is that of Hendrik van Antwerpen and Alexander Neubeck, "So many tokens, so little time" (GitHub blog,
//! 2024) and the README of `bpe` in github/rust-gems. What has to hold for it, and why it does:
//!
//! - *A border that is never crossed splits the work.* Up to the first merge across a border both sides are merged as
//!   they would be alone, since the choice of the lowest, leftmost pair within a stretch does not depend on the others.
//! - So a sequence of tokens is what merging leaves of its bytes **iff each two neighbours are what merging leaves of
//!   the bytes of those two** ("compatible") and the tokens are reachable, each from its own bytes alone: the first
//!   merge across a border would happen among the two tokens beside it as well.
//! - So the last token of each prefix of a text is determined, a place in the text is reached in one way or none, and a
//!   place that was given up ("dead") need not be tried again: one bit a place. Each place is left at most once for each
//!   token that begins there, so the time for a text of `n` bytes is at most `n * (longest + prefixes * depth)`:
//!   `longest` the length of the longest token, `prefixes` the number of tokens that are prefixes of one token, `depth`
//!   the merges on the border of two tokens. All three are facts of the vocabulary; what is common is
//!   `n / 4 * (5 + 1.3 * 4)`.
//! - *Compatible* is decided without merging: the last merge on either side of the border is undone, the later one first,
//!   and at each stage the two symbols at the border must not have a merge that comes before the one that was undone
//!   last. That needs merges that come after those of their parts, which is the premise.
//!
//! Premises, checked by [`Linear::new`]: every byte is a token; a merge comes later than the merges that make its parts.
//! Two kinds of merges that break it are harmless, as they are never carried out: those of unreachable parts, and, of
//! several merges into one token, all but the one to which the token's own bytes lead. They are left out here. One that
//! comes before its parts and would be carried out is not harmless: its token is an exception, and a text in which the bytes
//! of an exception stand is left to the heap ([`Linear::applies`]), as are vocabularies with more than a few of them.
//! (Llama 3 has 82 in 127,305 tokens, `.:.:` among them.)

mod long;
mod pairs;
mod run;
mod trie;
mod word;

use super::windows::common_prefix;
use super::{Merge, TokenId, Vocab};
use aho_corasick::AhoCorasick;
use pairs::{Pairs, PairsBuilder};
use trie::{Trie, TrieBuilder};
pub(super) use word::{LONGEST_WORD, PairCache};

/// A token's number in here: a byte is its value, the others follow in order of rank. So of two symbols the one with
/// the higher number was made later.
type Symbol = u32;

/// Bits of a symbol; three of them and a flag fit into a word.
const SYMBOL_BITS: u32 = 21;

const SYMBOL_MASK: u64 = (1 << SYMBOL_BITS) - 1;

/// No symbol.
const NONE: Symbol = SYMBOL_MASK as Symbol;

const BYTES: Symbol = 256;

/// Longest token, in bytes: what fits beside an id.
const MAX_LEN: usize = (1 << (32 - SYMBOL_BITS)) - 1;

/// Most symbols of which repetition is looked for: those of one character that is no token.
const MAX_PERIOD: usize = 4;

/// At how many symbols it is looked for again.
const LOOK_EVERY: usize = 16;

/// Most tokens whose merges come before those of their parts and would be carried out.
const MAX_EXCEPTIONS: usize = 256;

/// What [`Linear::encode`] works in; reused from text to text.
#[derive(Debug, Default)]
pub(super) struct LinearScratch {
    stack: Vec<Symbol>,
    /// A bit for each place in the text, set where no valid sequence that ends there can be carried on.
    dead: Vec<u64>,
}

impl LinearScratch {
    /// Bytes of heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.stack.capacity() * size_of::<Symbol>() + self.dead.capacity() * 8
    }
}

/// Merges, arranged for encoding in linear time. Immutable.
pub(super) struct Linear {
    trie: Trie,
    pairs: Pairs,
    /// By symbol: the id of the token and its length.
    tokens: Vec<IdLen>,
    /// By id: whether the token is reachable.
    reachable: Vec<u64>,
    /// Length of the longest reachable token, in bytes.
    longest: usize,
    /// The bytes of tokens made by merges that come before those of their parts.
    exceptions: Option<AhoCorasick>,
    /// By character from U+0080 to U+FFFF: the symbol of the token that it is, `NONE` where it is none.
    chars: Box<[Symbol]>,
}

/// The characters that are kept: beyond are those of four bytes.
const CHARS: std::ops::Range<usize> = 0x80..0x1_0000;

/// Where a character is among those that are kept; beyond them all for others.
#[inline]
fn char_place(c: char) -> usize {
    (c as usize).wrapping_sub(CHARS.start)
}

/// The character that a text is.
fn only_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// An id and a length in one word.
#[derive(Clone, Copy)]
struct IdLen(u32);

impl IdLen {
    fn new(id: TokenId, len: usize) -> Self {
        debug_assert!(id < NONE && len <= MAX_LEN);
        Self(id << (32 - SYMBOL_BITS) | len as u32)
    }

    fn id(self) -> TokenId {
        self.0 >> (32 - SYMBOL_BITS)
    }

    fn len(self) -> usize {
        self.0 as usize & MAX_LEN
    }
}

impl Linear {
    /// Arranges `merges`, whose rank is their position and which spell their results.
    ///
    /// `None` where the premises do not hold (see the head of this module) or where something is beyond what is packed
    /// here: an id or a number of prefixes over two million, a token over 2047 bytes.
    pub(super) fn new(vocab: &Vocab, merges: &[Merge], byte_ids: &[Option<TokenId>; 256]) -> Option<Self> {
        let bound = vocab.id_bound();
        if bound >= NONE as usize || merges.len() >= (NONE - BYTES) as usize {
            return None;
        }
        let mut symbols = vec![NONE; bound];
        let mut tokens = Vec::with_capacity(merges.len() + BYTES as usize);
        let mut trie = TrieBuilder::new(merges.len());
        for byte in 0..=u8::MAX {
            let id = byte_ids[usize::from(byte)]?;
            *symbols.get_mut(id as usize)? = Symbol::from(byte);
            tokens.push(IdLen::new(id, 1));
            trie.insert(&[byte], None)?;
        }
        let mut pairs = PairsBuilder::new(merges.len());
        let mut longest = 1;
        let mut waiting = Vec::new();
        for merge in merges {
            let (left, right) = (*symbols.get(merge.left as usize)?, *symbols.get(merge.right as usize)?);
            if left == NONE || right == NONE {
                waiting.push(merge);
            } else if *symbols.get(merge.id as usize)? == NONE && pairs.compatible(left, right) {
                let bytes = vocab.bytes(merge.id)?;
                let len = tokens[left as usize].len();
                if bytes.len() != len + tokens[right as usize].len() || bytes.len() > MAX_LEN {
                    return None;
                }
                symbols[merge.id as usize] = tokens.len() as Symbol;
                tokens.push(IdLen::new(merge.id, bytes.len()));
                pairs.push(left, right)?;
                trie.insert(bytes, Some((left, len)))?;
                longest = longest.max(bytes.len());
            }
        }
        // Merges that came before their parts: would one be carried out? The first such would be in the bytes of its own
        // token, where up to then nothing but the merges taken above was carried out, and left its two parts.
        let mut exceptions = Vec::new();
        for merge in waiting {
            let (left, right) = (symbols[merge.left as usize], symbols[merge.right as usize]);
            if left != NONE && right != NONE && pairs.compatible(left, right) {
                if exceptions.len() == MAX_EXCEPTIONS {
                    return None;
                }
                exceptions.push(vocab.bytes(merge.id)?);
            }
        }
        let mut reachable = vec![0; bound.div_ceil(64)];
        for token in &tokens {
            reachable[token.id() as usize / 64] |= 1 << (token.id() % 64);
        }
        let exceptions = match exceptions.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&exceptions).ok()?),
        };
        let (trie, shorter) = trie.finish();
        let pairs = pairs.finish(&shorter);
        let mut chars = vec![NONE; CHARS.len()].into_boxed_slice();
        for (symbol, token) in (0..).zip(&tokens) {
            let text = vocab.bytes(token.id()).and_then(|bytes| std::str::from_utf8(bytes).ok());
            if let Some(place) = text.and_then(only_char).and_then(|c| chars.get_mut(char_place(c))) {
                *place = symbol;
            }
        }
        Some(Self { trie, pairs, tokens, reachable, longest, exceptions, chars })
    }

    /// The symbol of a character that is a token.
    #[inline]
    fn char(&self, c: char) -> Option<Symbol> {
        self.chars.get(char_place(c)).copied().filter(|&symbol| symbol != NONE)
    }

    /// Whether merging the bytes of this token alone gives this one token, if [`Linear::applies`] to them. Only such tokens come of
    /// merging at all.
    pub(super) fn reachable(&self, id: TokenId) -> bool {
        self.reachable.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 != 0)
    }

    /// Whether all merges that the bytes of `text` can have are among those that are arranged here: where the bytes of an
    /// exception stand in a text, its merge, or one that builds on it, might be carried out.
    #[inline]
    pub(super) fn applies(&self, text: &[u8]) -> bool {
        self.exceptions.as_ref().is_none_or(|exceptions| !exceptions.is_match(text))
    }

    /// Appends what merging leaves of the bytes of `text`.
    pub(super) fn encode(&self, text: &[u8], scratch: &mut LinearScratch, out: &mut Vec<TokenId>) {
        if text.is_empty() {
            return;
        }
        let LinearScratch { stack, dead } = scratch;
        stack.clear();
        dead.clear();
        dead.resize(text.len() / 64 + 1, 0);
        let (mut at, mut previous) = (0, NONE);
        let mut candidate = self.trie.longest(text);
        // The last place that was reached.
        let mut farthest = 0;
        // The stack spells the text up to `at`, and each two neighbours in it are compatible.
        loop {
            let end = at + self.tokens[candidate as usize].len();
            if !is_set(dead, end) && (previous == NONE || self.pairs.compatible(previous, candidate)) {
                stack.push(candidate);
                at = end;
                farthest = farthest.max(at);
                if stack.len() % LOOK_EVERY == 0
                    && let Some(period) = (1..=MAX_PERIOD).find(|&period| is_repeated(stack, period))
                {
                    at = self.repeat(text, at, farthest, period, stack, dead);
                    farthest = farthest.max(at);
                }
                if at == text.len() {
                    break;
                }
                previous = stack.last().copied().unwrap_or(NONE);
                candidate = self.trie.longest(&text[at..]);
                continue;
            }
            candidate = self.pairs.shorter(candidate);
            while candidate == NONE {
                dead[at / 64] |= 1 << (at % 64);
                let Some(last) = stack.pop() else {
                    debug_assert!(false, "every text has an encoding, and all ways to it were tried");
                    return;
                };
                at -= self.tokens[last as usize].len();
                candidate = self.pairs.shorter(last);
            }
            previous = stack.last().copied().unwrap_or(NONE);
        }
        out.extend(stack.iter().map(|&symbol| self.tokens[symbol as usize].id()));
    }

    /// Goes on with the last `period` symbols for as long as the text repeats itself, and gives the place where it no
    /// longer does.
    ///
    /// They are on the stack twice. What was tried and not taken among them the second time was refused for what is known
    /// from the symbols before and the text, or as it led to dead places; no more of the text was looked at than the
    /// longest token beyond `farthest`. So where the same text follows the same is refused and the same taken, unless that
    /// leads to a place known to be dead. This makes a run of one character cost what comparing memory costs.
    fn repeat(
        &self,
        text: &[u8],
        mut at: usize,
        farthest: usize,
        period: usize,
        stack: &mut Vec<Symbol>,
        dead: &[u64],
    ) -> usize {
        let len_of = |symbol: Symbol| self.tokens[symbol as usize].len();
        let len: usize = stack.iter().rev().take(period).copied().map(len_of).sum();
        // How far was looked from where they were put the second time.
        let reach = farthest + self.longest - (at - len);
        // No more than in proportion to the longest token is compared in vain.
        if reach > 8 * self.longest || text.get(at + reach - 1) != text.get(at + reach - 1 - len) {
            return at;
        }
        let end = at + common_prefix(&text[at..], &text[at - len..]);
        while at + reach <= end {
            for _ in 0..period {
                let symbol = stack[stack.len() - period];
                let next = at + len_of(symbol);
                if is_set(dead, next) {
                    return at;
                }
                stack.push(symbol);
                at = next;
            }
        }
        at
    }

    /// Bytes of heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.trie.memory_bytes()
            + self.pairs.memory_bytes()
            + self.tokens.capacity() * size_of::<IdLen>()
            + self.reachable.capacity() * 8
            + self.chars.len() * size_of::<Symbol>()
    }
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({} tokens)", self.tokens.len())
    }
}

/// Whether the last `period` symbols stand there twice.
#[inline]
fn is_repeated(stack: &[Symbol], period: usize) -> bool {
    let Some(first) = stack.len().checked_sub(2 * period) else { return false };
    stack[stack.len() - 1] == stack[stack.len() - 1 - period]
        && stack[first..first + period] == stack[first + period..]
}

#[inline]
fn is_set(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 != 0
}

#[cfg(test)]
mod tests;
