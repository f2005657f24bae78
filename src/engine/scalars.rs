//! A byte for every scalar value, as the classes of the split patterns and the scripts of characters are.

use regex_syntax::hir::{Class, HirKind};

const BLOCK: usize = 256;

/// How many there are, the surrogates among them.
pub(super) const SCALARS: usize = 0x11_0000;

/// The table: blocks of 256 values, of which equal ones are stored once.
pub(super) struct ScalarTable {
    block_of: Box<[u16; SCALARS / BLOCK]>,
    blocks: Vec<[u8; BLOCK]>,
}

impl ScalarTable {
    /// The table of these bytes, one for each of the [`SCALARS`].
    pub(super) fn new(flat: &[u8]) -> Self {
        debug_assert_eq!(flat.len(), SCALARS);
        let mut known: hashbrown::HashMap<&[u8; BLOCK], u16, foldhash::fast::FixedState> =
            hashbrown::HashMap::default();
        let mut blocks = Vec::new();
        let mut block_of = Box::new([0; SCALARS / BLOCK]);
        for (number, block) in block_of.iter_mut().zip(flat.as_chunks().0) {
            *number = *known.entry(block).or_insert_with(|| {
                blocks.push(*block);
                u16::try_from(blocks.len() - 1).expect("there are 4352 blocks")
            });
        }
        Self { block_of, blocks }
    }

    /// The byte of a scalar value; that of U+0000's block for what is none.
    #[inline(always)]
    pub(super) fn of(&self, scalar: u32) -> u8 {
        let scalar = scalar as usize;
        let block = self.block_of.get(scalar / BLOCK).copied().unwrap_or(0);
        self.blocks[usize::from(block)][scalar % BLOCK]
    }

    /// The same for a character of these three bytes, which every way through Chinese and Korean takes.
    #[inline(always)]
    pub(super) fn of_three(&self, bytes: [u8; 3]) -> u8 {
        let [first, second, third] = bytes.map(usize::from);
        let block = self.block_of[(first & 0x0f) << 4 | (second & 0x3f) >> 2];
        self.blocks[usize::from(block)][(second & 3) << 6 | third & 0x3f]
    }
}

/// First and last scalar values of the ranges of a character class that stands in the source.
pub(super) fn ranges(class: &str) -> Vec<(usize, usize)> {
    let hir = regex_syntax::parse(class).expect("the class is written in this program");
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().map(|range| (range.start() as usize, range.end() as usize)).collect()
        }
        _ => unreachable!("a class of several characters parses as a class"),
    }
}
