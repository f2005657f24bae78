//! Which two symbols merge into which, and whether two tokens can stand side by side.
//!
//! A slot of the hash table holds a pair and what it becomes in one word, so that a pair is looked up by one access to memory. Holds: a
//! symbol's parts have lower numbers than it has.

use super::{BYTES, NONE, SYMBOL_BITS, SYMBOL_MASK, Symbol};

/// Slots behind the last home, so that a walk need not wrap around. A table that needs more is not built.
const SLACK: usize = 1 << 10;

/// No slot that is taken: it has all 64 bits, of which a pair and a symbol leave one.
const EMPTY: u64 = u64::MAX;

const _: () = assert!(3 * SYMBOL_BITS < u64::BITS);

/// The pairs, by their parts and by what they become.
pub(super) struct Pairs {
    /// By symbol, from the highest bit: its left part, its right part, what matters of the right part when it stands at
    /// a border to the right, and of the left part at one to the left. Of a byte there are no parts.
    parts: Vec<u64>,
    /// By symbol: the longest token that is a prefix of it, and above that bit the same of the symbol as of parts, for
    /// the right border and the left one, less exact.
    ends: Vec<u32>,
    slots: Vec<u64>,
    homes: u64,
    /// Two bits for each pair in one word, little enough for the second cache. Where one is not set the pair does not merge.
    filter: Vec<u64>,
    filter_shift: u32,
    /// What two bytes become: the pairs that every text begins with.
    of_bytes: Box<[Symbol]>,
}

/// What matters of a symbol at a border.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End(u16);

impl End {
    const BITS: u32 = 11;
    /// Whether no merge of what it is made of comes before it that crosses the border.
    const QUIET: u16 = 1 << 10;
    /// It merges with nothing across the border.
    const NEVER: u16 = Self::QUIET - 1;

    fn new(becomes: u16, quiet: bool) -> Self {
        Self(becomes | if quiet { Self::QUIET } else { 0 })
    }

    /// A lower bound of what it becomes across the border; see [`rough`].
    #[inline]
    fn becomes(self) -> u16 {
        self.0 & Self::NEVER
    }

    #[inline]
    fn is_quiet(self) -> bool {
        self.0 & Self::QUIET != 0
    }
}

/// Pairs that more are added to.
pub(super) struct PairsBuilder {
    pairs: Pairs,
    /// By symbol: at a border to the right, and to the left.
    ends: Vec<[End; 2]>,
}

impl PairsBuilder {
    /// Room for so many pairs. The bytes are there.
    pub(super) fn new(pairs: usize) -> Self {
        let symbols = pairs + BYTES as usize;
        let homes = pairs + pairs * 2 / 3 + 16;
        let (mut parts, mut ends) = (Vec::with_capacity(symbols), Vec::with_capacity(symbols));
        parts.resize(BYTES as usize, 0);
        ends.resize(BYTES as usize, [End::new(End::NEVER, true); 2]);
        let slots = vec![EMPTY; homes + SLACK];
        // At eight to sixteen bits a pair it errs on one pair in 20 to 70.
        let words = (pairs / 8).next_power_of_two().max(16);
        let pairs = Pairs {
            parts,
            ends: Vec::new(),
            slots,
            homes: homes as u64,
            filter: vec![0; words],
            filter_shift: u64::BITS - words.ilog2(),
            of_bytes: vec![NONE; (BYTES * BYTES) as usize].into(),
        };
        Self { pairs, ends }
    }

    /// Adds the next symbol. `None` where the pairs happen to pile up in one place of the table.
    pub(super) fn push(&mut self, left: Symbol, right: Symbol) -> Option<()> {
        let pairs = &mut self.pairs;
        let symbol = pairs.parts.len() as Symbol;
        let rough = rough(symbol);
        // What the parts are at a border while they are there. Of two merges of one rank the left one is first, so
        // across the border to the left this one itself counts, across the one to the right it does not.
        let [right_end, _] = self.ends[right as usize];
        let [becomes, _] = &mut self.ends[left as usize];
        *becomes = End::new(becomes.becomes().min(rough), becomes.is_quiet());
        let [_, becomes] = &mut self.ends[right as usize];
        *becomes = End::new(becomes.becomes().min(rough), becomes.is_quiet());
        let [_, left_end] = self.ends[left as usize];
        let is_quiet = |end: End| end.is_quiet() && end.becomes() == End::NEVER;
        self.ends.push([End::new(End::NEVER, is_quiet(right_end)), End::new(End::NEVER, is_quiet(left_end))]);
        let ends = u64::from(right_end.0) << End::BITS | u64::from(left_end.0);
        pairs.parts.push(pair(left, right) << (2 * End::BITS) | ends);
        let home = pairs.home(left, right);
        // The last slot stays empty: it ends every walk.
        let last = pairs.slots.len() - 1;
        let free = pairs.slots[home..last].iter_mut().find(|slot| **slot == EMPTY)?;
        *free = slot(left, right, symbol);
        let (word, bits) = pairs.filtered(left, right);
        pairs.filter[word] |= bits;
        if let Some(becomes) = bytes_place(left, right).and_then(|place| pairs.of_bytes.get_mut(place)) {
            *becomes = symbol;
        }
        Some(())
    }

    /// See [`Pairs::compatible`].
    pub(super) fn compatible(&self, left: Symbol, right: Symbol) -> bool {
        let ([left_end, _], [_, right_end]) = (self.ends[left as usize], self.ends[right as usize]);
        self.pairs.are_compatible((left, left_end), (right, right_end))
    }

    /// The pairs, with the longest prefix of each symbol that is a token itself.
    pub(super) fn finish(self, shorter: &[Symbol]) -> Pairs {
        let mut pairs = self.pairs;
        let flags = |end: End| u32::from(end.becomes() != End::NEVER) | u32::from(end.is_quiet()) << 1;
        let ends = shorter.iter().zip(&self.ends);
        pairs.ends = ends
            .map(|(shorter, [right, left])| (flags(*right) | flags(*left) << 2) << SYMBOL_BITS | shorter)
            .collect();
        pairs.parts.shrink_to_fit();
        pairs
    }
}

impl Pairs {
    /// The longest token that is a proper prefix of this one.
    #[inline]
    pub(super) fn shorter(&self, symbol: Symbol) -> Symbol {
        self.ends[symbol as usize] & SYMBOL_MASK as Symbol
    }

    /// Whether merging leaves these two, both reachable, side by side as they are.
    #[inline]
    pub(super) fn compatible(&self, left: Symbol, right: Symbol) -> bool {
        let end = |symbol: Symbol, shift: u32| {
            let flags = self.ends[symbol as usize] >> (SYMBOL_BITS + shift);
            End::new(if flags & 1 != 0 { 0 } else { End::NEVER }, flags & 2 != 0)
        };
        self.are_compatible((left, end(left, 0)), (right, end(right, 2)))
    }

    /// The stages of both are gone through backwards in time. `limit` is the merge that was undone last: while the two
    /// symbols stood at the border, merges up to that one were carried out, so theirs must not be among them. Of two
    /// merges of one rank the left one is carried out first, hence a right part is undone first, and a merge of its rank
    /// across the border would have come before it.
    #[inline]
    fn are_compatible(&self, left: (Symbol, End), right: (Symbol, End)) -> bool {
        let ((mut left, mut left_end), (mut right, mut right_end)) = (left, right);
        let (mut limit, mut bound) = (NONE, End::NEVER - 1);
        loop {
            if left_end.becomes().max(right_end.becomes()) <= bound && self.get(left, right) < limit {
                return false;
            }
            // Without branches where the way of two spines through each other has no rule.
            let is_left = left > right;
            let undone = left.max(right);
            if (if is_left { left_end } else { right_end }).is_quiet() {
                return true;
            }
            let parts = self.parts[undone as usize];
            limit = undone + Symbol::from(!is_left);
            bound = rough(limit - 1);
            let (first, second) = split(parts >> (2 * End::BITS));
            let part = if is_left { second } else { first };
            let end = End((parts >> if is_left { End::BITS } else { 0 } & END_MASK) as u16);
            (left, left_end) = if is_left { (part, end) } else { (left, left_end) };
            (right, right_end) = if is_left { (right, right_end) } else { (part, end) };
        }
    }

    /// Where a walk for a pair begins.
    #[inline]
    fn home(&self, left: Symbol, right: Symbol) -> usize {
        let hash = pair(left, right).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((hash * self.homes) >> 32) as usize
    }

    /// The word of the filter that has the bits of a pair, and these.
    #[inline]
    fn filtered(&self, left: Symbol, right: Symbol) -> (usize, u64) {
        let product = pair(left, right).wrapping_mul(0xf135_7aea_2e62_a9c5);
        let bit = |shift: u32| 1 << (product >> shift & 63);
        ((product >> self.filter_shift) as usize, bit(38) | bit(32))
    }

    /// What a pair of bytes merges into; `None` if it is none.
    #[inline(always)]
    pub(super) fn of_bytes(&self, left: Symbol, right: Symbol) -> Option<Symbol> {
        self.of_bytes.get(bytes_place(left, right)?).copied()
    }

    /// Whether a pair may merge; no if it surely does not.
    #[inline]
    pub(super) fn may_merge(&self, left: Symbol, right: Symbol) -> bool {
        let (word, bits) = self.filtered(left, right);
        self.filter.get(word).is_none_or(|word| word & bits == bits)
    }

    /// What a pair merges into, `NONE` if it does not.
    #[inline]
    pub(super) fn get(&self, left: Symbol, right: Symbol) -> Symbol {
        let (home, pair) = (self.home(left, right), pair(left, right));
        for slot in &self.slots[home..] {
            if slot >> SYMBOL_BITS == pair {
                return (slot & SYMBOL_MASK) as Symbol;
            }
            if *slot == EMPTY {
                break;
            }
        }
        NONE
    }

    /// Bytes of heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.parts.capacity() * 8
            + self.ends.capacity() * 4
            + (self.slots.capacity() + self.filter.capacity()) * 8
            + self.of_bytes.len() * 4
    }
}

const END_MASK: u64 = (1 << End::BITS) - 1;

const _: () = assert!(2 * SYMBOL_BITS + 2 * End::BITS == 64);

#[inline]
pub(super) fn pair(left: Symbol, right: Symbol) -> u64 {
    u64::from(left) << SYMBOL_BITS | u64::from(right)
}

/// A pair, and below it what it becomes.
#[inline]
pub(super) fn slot(left: Symbol, right: Symbol, becomes: Symbol) -> u64 {
    pair(left, right) << SYMBOL_BITS | u64::from(becomes)
}

/// Where the pair is in the table of those of bytes.
#[inline(always)]
fn bytes_place(left: Symbol, right: Symbol) -> Option<usize> {
    ((left | right) < BYTES).then_some((left << BYTES.ilog2() | right) as usize)
}

#[inline]
fn split(pair: u64) -> (Symbol, Symbol) {
    ((pair >> SYMBOL_BITS) as Symbol, (pair & SYMBOL_MASK) as Symbol)
}

/// The symbol of a pair in ten bits, below 1023: its magnitude and the six bits below the highest one. Never falls where
/// the symbol rises.
#[inline]
fn rough(symbol: Symbol) -> u16 {
    let symbol = symbol.max(BYTES);
    let magnitude = symbol.ilog2();
    ((magnitude - 8) << 6 | symbol >> (magnitude - 6) & 63) as u16
}
