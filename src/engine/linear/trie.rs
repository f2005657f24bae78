//! The longest token that a text begins with.
//!
//! A trie whose steps are characters, so that one of three bytes is one look-up, and single bytes where a token begins
//! or ends within a character. All steps are in one hash table, a word each: `mixed key | leaf | target`. The key, which
//! is the node a step begins at and the character, is mixed by a bijection, so a match of the mixed key is exact, and the
//! table is sorted by it, so a walk ends as soon as it meets a higher one.
//!
//! A node with steps onwards has a number ("inner"), in which order parents come before children. One without is a token
//! and a leaf; the target of the step to it is the symbol.

use super::{NONE, SYMBOL_BITS, SYMBOL_MASK, Symbol};

/// A character, or [`RAW`] and a byte that is none by itself.
type Code = u32;

const CODE_BITS: u32 = 21;
const RAW: Code = 0x11_0000;

const KEY_BITS: u32 = 41;
const KEY_MASK: u64 = (1 << KEY_BITS) - 1;

/// Most inner nodes.
const MAX_INNER: usize = 1 << (KEY_BITS - CODE_BITS);

/// Odd, so that multiplying by it is a bijection of the keys.
const MIX: u64 = 0x13c_6ef3_72ff;

const UNMIX: u64 = inverse(MIX);

const TARGET_BITS: u32 = 64 - KEY_BITS;
const LEAF: u64 = 1 << SYMBOL_BITS;

/// Higher than each step; that no step is this one is checked below.
const EMPTY: u64 = u64::MAX;

// What `EMPTY` would be a step of has a code that no text has.
const _: () = assert!((KEY_MASK.wrapping_mul(UNMIX) & ((1 << CODE_BITS) - 1)) as Code > RAW + 255);
const _: () = assert!(TARGET_BITS > SYMBOL_BITS);

const ROOT: u32 = 0;

/// Set in [`Trie::best`] of a node from which a step leads into a character: only there it is tried.
const PARTIAL: u32 = 1 << 31;

/// The trie.
pub(super) struct Trie {
    slots: Vec<u64>,
    homes: u64,
    /// By inner node: the longest token that its bytes begin with, `NONE` for the root, and [`PARTIAL`].
    best: Vec<u32>,
    /// Where the first step leads, by character of the first plane.
    first: Vec<u32>,
    /// Where the first two steps lead, by two characters of ASCII.
    ascii: Vec<u32>,
}

/// In the tables of first steps: there is no such step.
const NO_STEP: u32 = u32::MAX;

const PLANE: usize = 1 << 16;
const ASCII: usize = 1 << 7;

impl Trie {
    /// The longest token that `text`, which is not empty, begins with.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Symbol {
        let (mut node, mut at) = match self.begin(text) {
            Ok(begun) => begun,
            Err(symbol) => return symbol,
        };
        while let Some((code, len)) = decode(&text[at..]) {
            let mut target = find(&self.slots, self.homes, node, code);
            at += len;
            if target.is_none() && len > 1 && self.best[node as usize] & PARTIAL != 0 {
                at = at + 1 - len;
                target = find(&self.slots, self.homes, node, RAW + Code::from(text[at - 1]));
            }
            match target {
                Some(Target::Leaf(symbol)) => return symbol,
                Some(Target::Inner(inner)) => node = inner,
                None => break,
            }
        }
        self.best[node as usize] & !PARTIAL
    }

    /// The node that the first steps lead to and how long they are, or the token where no other follows.
    #[inline]
    fn begin(&self, text: &[u8]) -> Result<(u32, usize), Symbol> {
        let (to, len) = match *text {
            [first @ 0..0x80, second @ 0..0x80, ..] => {
                match self.ascii[usize::from(first) * ASCII + usize::from(second)] {
                    NO_STEP => return Err(Symbol::from(first)),
                    to => (to, 2),
                }
            }
            _ => match decode(text) {
                Some((code, len)) if (code as usize) < PLANE => (self.first[code as usize], len),
                _ => (NO_STEP, 0),
            },
        };
        match to {
            NO_STEP => Ok((ROOT, 0)),
            to => match target(u64::from(to)) {
                Target::Inner(inner) => Ok((inner, len)),
                Target::Leaf(symbol) => Err(symbol),
            },
        }
    }

    /// Bytes of heap held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * 8 + (self.best.capacity() + self.first.capacity() + self.ascii.capacity()) * 4
    }
}

enum Target {
    Leaf(Symbol),
    Inner(u32),
}

#[inline]
fn mix(node: u32, code: Code) -> u64 {
    (u64::from(node) << CODE_BITS | u64::from(code)).wrapping_mul(MIX) & KEY_MASK
}

#[inline]
fn unmix(mixed: u64) -> (u32, Code) {
    let key = mixed.wrapping_mul(UNMIX) & KEY_MASK;
    ((key >> CODE_BITS) as u32, key as Code & ((1 << CODE_BITS) - 1))
}

#[inline]
fn home(mixed: u64, homes: u64) -> usize {
    ((mixed * homes) >> KEY_BITS) as usize
}

/// Looks a step up in a sorted table.
#[inline]
fn find(slots: &[u64], homes: u64, node: u32, code: Code) -> Option<Target> {
    let mixed = mix(node, code);
    let wanted = mixed << TARGET_BITS;
    let mut at = home(mixed, homes);
    // How far a walk goes has no rule; four slots are cheaper than one branch that is guessed wrong.
    let slot = loop {
        let lower = |i: usize| usize::from(slots[at + i] < wanted);
        let lower = lower(0) + lower(1) + lower(2) + lower(3);
        at += lower;
        if lower < 4 {
            break slots[at];
        }
    };
    let found = slot ^ wanted;
    (found >> TARGET_BITS == 0).then(|| target(found))
}

#[inline]
fn target(slot: u64) -> Target {
    let to = (slot & SYMBOL_MASK) as u32;
    if slot & LEAF != 0 { Target::Leaf(to) } else { Target::Inner(to) }
}

/// The first step of a text and its length in bytes.
///
/// What is no whole well-formed character is taken byte by byte. A prefix of a text has the same steps, but for the
/// character that it may end within.
#[inline]
fn decode(text: &[u8]) -> Option<(Code, usize)> {
    let &first = text.first()?;
    if first < 0x80 {
        return Some((Code::from(first), 1));
    }
    let following = |i: usize| text.get(i).filter(|&&b| b & 0xc0 == 0x80).map(|&b| Code::from(b & 0x3f));
    let lead = Code::from(first);
    // The least value that has this length: what is written longer than need be is not a character.
    let whole = match first {
        0xe0..=0xef => (|| Some((lead & 15) << 12 | following(1)? << 6 | following(2)?))()
            .filter(|&code| code >= 0x800)
            .map(|code| (code, 3)),
        0xc0..=0xdf => {
            following(1).map(|b| (lead & 31) << 6 | b).filter(|&code| code >= 0x80).map(|code| (code, 2))
        }
        0xf0..=0xf4 => {
            (|| Some((lead & 7) << 18 | following(1)? << 12 | following(2)? << 6 | following(3)?))()
                .filter(|code| (0x1_0000..0x11_0000).contains(code))
                .map(|code| (code, 4))
        }
        _ => None,
    };
    Some(whole.unwrap_or((RAW + lead, 1)))
}

/// The bytes of a character but the last, by the rule of [`decode`]; none for a byte.
fn leading(code: Code) -> impl Iterator<Item = u8> {
    let (lead, following) = match code {
        0..0x80 | RAW.. => (0, 0),
        0x80..0x800 => (0xc0, 1),
        0x800..0x1_0000 => (0xe0, 2),
        0x1_0000..RAW => (0xf0, 3),
    };
    (1..=following).rev().map(move |i| {
        let bits = code >> (6 * i);
        if i == following { (lead | bits) as u8 } else { (0x80 | bits & 0x3f) as u8 }
    })
}

/// Whether bytes end within a character.
fn is_cut(bytes: &[u8]) -> bool {
    let lens = |b: &u8| match b {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
        _ => 0,
    };
    bytes.iter().rev().take(3).zip(1..).any(|(b, to_end)| lens(b) > to_end)
}

/// A trie that grows. Its table is not sorted, and a walk in it ends at an empty slot.
pub(super) struct TrieBuilder {
    slots: Vec<u64>,
    homes: u64,
    steps: usize,
    inner: Vec<Inner>,
    /// By symbol: where the step to it is.
    slot_of: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Inner {
    /// Where the step to it is; not for the root.
    slot: u32,
    /// The token it is, or `NONE`.
    symbol: Symbol,
    partial: bool,
}

/// Most homes of a table: times a mixed key, that is still a word.
const MAX_HOMES: u64 = 1 << (64 - KEY_BITS);

/// Slots behind the last home. A table that needs more gets more homes.
const SLACK: usize = 1 << 10;

impl TrieBuilder {
    /// An empty one for about so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        let homes = 3 * (tokens + 256);
        let mut inner = Vec::with_capacity(tokens + tokens / 2);
        inner.push(Inner { slot: 0, symbol: NONE, partial: false });
        Self {
            slots: vec![EMPTY; homes + SLACK],
            homes: homes as u64,
            steps: 0,
            inner,
            slot_of: Vec::with_capacity(tokens + 256),
        }
    }

    /// Inserts the next symbol. `left` is a symbol that its bytes begin with, and their number. `None` where there are
    /// too many nodes.
    pub(super) fn insert(&mut self, bytes: &[u8], left: Option<(Symbol, usize)>) -> Option<()> {
        let (mut node, mut at) = (ROOT, 0);
        // A token that ends within a character is not on the way to one that has the rest of it.
        if let Some((left, len)) = left.filter(|&(_, len)| !is_cut(&bytes[..len])) {
            node = self.inner_at(self.slot_of[left as usize])?;
            at = len;
        }
        let symbol = self.slot_of.len() as Symbol;
        while let Some((code, len)) = decode(&bytes[at..]) {
            at += len;
            if code >= RAW + 0xc0 {
                self.inner[node as usize].partial = true;
            }
            let slot = self.find_or_add(node, code)?;
            if at < bytes.len() {
                node = self.inner_at(slot)?;
                continue;
            }
            match target(self.slots[slot as usize]) {
                Target::Leaf(_) => {
                    let key = self.slots[slot as usize] >> TARGET_BITS << TARGET_BITS;
                    self.slots[slot as usize] = key | LEAF | u64::from(symbol);
                }
                Target::Inner(inner) => self.inner[inner as usize].symbol = symbol,
            }
            self.slot_of.push(slot);
        }
        Some(())
    }

    /// The number of the node that a step leads to.
    fn inner_at(&mut self, slot: u32) -> Option<u32> {
        let step = &mut self.slots[slot as usize];
        match target(*step) {
            Target::Inner(inner) => Some(inner),
            Target::Leaf(symbol) => {
                let inner = self.inner.len();
                if inner == MAX_INNER {
                    return None;
                }
                *step = *step >> TARGET_BITS << TARGET_BITS | inner as u64;
                self.inner.push(Inner { slot, symbol, partial: false });
                Some(inner as u32)
            }
        }
    }

    fn find(&self, node: u32, code: Code) -> Option<u64> {
        let mixed = mix(node, code);
        let steps = self.slots[home(mixed, self.homes)..].iter().take_while(|&&step| step != EMPTY);
        steps.copied().find(|step| step >> TARGET_BITS == mixed)
    }

    /// Where a step is; a new one leads to a leaf that is no symbol yet.
    fn find_or_add(&mut self, node: u32, code: Code) -> Option<u32> {
        let mixed = mix(node, code);
        loop {
            let last = self.slots.len() - 1;
            let mut at = home(mixed, self.homes);
            while self.slots[at] != EMPTY && self.slots[at] >> TARGET_BITS != mixed {
                at += 1;
            }
            if self.slots[at] != EMPTY {
                return Some(at as u32);
            }
            // The last slot stays empty: it ends every walk.
            if at < last && (self.steps as u64) < self.homes / 5 * 4 {
                self.steps += 1;
                self.slots[at] = mixed << TARGET_BITS | LEAF | SYMBOL_MASK;
                return Some(at as u32);
            }
            self.grow()?;
        }
    }

    fn grow(&mut self) -> Option<()> {
        // Keys made up to pile up in one place are not worth more room.
        if self.homes > MAX_HOMES / 2 || self.homes > 16 * (self.steps as u64 + 256) {
            return None;
        }
        self.homes *= 2;
        let old = std::mem::take(&mut self.slots);
        self.slots = sorted(&old, self.homes);
        for (at, &step) in self.slots.iter().enumerate().filter(|(_, step)| **step != EMPTY) {
            let symbol = match target(step) {
                Target::Leaf(symbol) => symbol,
                Target::Inner(inner) => {
                    self.inner[inner as usize].slot = at as u32;
                    self.inner[inner as usize].symbol
                }
            };
            if symbol != NONE {
                self.slot_of[symbol as usize] = at as u32;
            }
        }
        Some(())
    }

    /// The trie, and by symbol the longest token that is a proper prefix of it.
    pub(super) fn finish(self) -> (Trie, Vec<Symbol>) {
        let mut best = vec![NONE; self.inner.len()];
        for (node, inner) in self.inner.iter().enumerate().skip(1) {
            best[node] = if inner.symbol == NONE { self.above(inner.slot, &best) } else { inner.symbol };
        }
        let shorter = self.slot_of.iter().map(|&slot| self.above(slot, &best)).collect();
        for (best, inner) in best.iter_mut().zip(&self.inner) {
            *best |= if inner.partial { PARTIAL } else { 0 };
        }
        let homes = (self.steps + self.steps / 3 + 16) as u64;
        let slots = sorted(&self.slots, homes);
        let (first, ascii) = self.first_steps();
        (Trie { slots, homes, best, first, ascii }, shorter)
    }

    fn first_steps(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut first, mut ascii) = (vec![NO_STEP; PLANE], vec![NO_STEP; ASCII * ASCII]);
        let word = |step: u64| (step & (LEAF | SYMBOL_MASK)) as u32;
        for &step in self.slots.iter().filter(|step| **step != EMPTY) {
            let (node, code) = unmix(step >> TARGET_BITS);
            if node == ROOT && (code as usize) < PLANE {
                first[code as usize] = word(step);
            }
        }
        for (steps, &to) in ascii.chunks_exact_mut(ASCII).zip(&first) {
            if let Target::Inner(node) = target(u64::from(to)) {
                for (to, code) in steps.iter_mut().zip(0..) {
                    *to = self.find(node, code).map_or(NO_STEP, word);
                }
            }
        }
        (first, ascii)
    }

    /// The longest token that is a proper prefix of where a step leads: within the character that the step is, or where
    /// the step begins.
    fn above(&self, slot: u32, best: &[u32]) -> Symbol {
        let (mut node, code) = unmix(self.slots[slot as usize] >> TARGET_BITS);
        let mut found = best[node as usize];
        if !self.inner[node as usize].partial {
            return found;
        }
        for byte in leading(code) {
            match self.find(node, RAW + Code::from(byte)).map(target) {
                Some(Target::Leaf(symbol)) => return symbol,
                Some(Target::Inner(inner)) => {
                    let symbol = self.inner[inner as usize].symbol;
                    found = if symbol == NONE { found } else { symbol };
                    node = inner;
                }
                None => break,
            }
        }
        found
    }
}

/// The steps of a table that is sorted but for what stands together between two empty slots, sorted, in a table with
/// `homes` homes.
fn sorted(steps: &[u64], homes: u64) -> Vec<u64> {
    let mut slots = Vec::with_capacity(homes as usize + SLACK);
    let mut run = Vec::new();
    for steps in steps.split(|&step| step == EMPTY).filter(|steps| !steps.is_empty()) {
        run.clear();
        run.extend_from_slice(steps);
        run.sort_unstable();
        for &step in &run {
            let home = home(step >> TARGET_BITS, homes);
            if slots.len() < home {
                slots.resize(home, EMPTY);
            }
            slots.push(step);
        }
    }
    // Some more, which end every walk.
    let len = slots.len().max(homes as usize) + 4;
    slots.resize(len, EMPTY);
    slots
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
const fn inverse(odd: u64) -> u64 {
    let mut found = odd;
    let mut correct_bits = 3;
    while correct_bits < 64 {
        found = found.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(found)));
        correct_bits *= 2;
    }
    found
}
