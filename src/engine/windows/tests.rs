//! Windows against the definition.

use super::*;
use crate::engine::encode::tests::naive;
use crate::engine::{Merge, MergeTable};
use proptest::prelude::*;
use std::collections::HashSet;

/// Symbols that a table merges. What was looked up is counted: it says how much was merged.
struct ByTable<'t> {
    table: &'t MergeTable,
    symbols: &'t [TokenId],
    looked_up: usize,
}

impl Merging for ByTable<'_> {
    fn begin(&self, at: usize) -> Option<(TokenId, usize)> {
        self.symbols.get(at).map(|&symbol| (symbol, at + 1))
    }

    fn pair(&mut self, left: TokenId, right: TokenId) -> (Rank, TokenId) {
        self.looked_up += 1;
        self.table.get(left, right).unwrap_or((NEVER, 0))
    }

    fn repeated(&self, at: usize, period: usize) -> usize {
        let others = self.symbols[at - period..].iter();
        self.symbols[at..].iter().zip(others).take_while(|(symbol, other)| symbol == other).count()
    }
}

/// What windows leave, if they lead to it, and how many pairs were looked up. The places are those of the symbols.
fn windows(table: &MergeTable, symbols: &[TokenId]) -> (Option<Vec<TokenId>>, usize) {
    let mut by_table = ByTable { table, symbols, looked_up: 0 };
    let (mut ids, mut at) = (Vec::new(), 0);
    let whole = merge(
        &mut by_table,
        &mut Stretch::default(),
        || false,
        |id, range| {
            assert_eq!(range.start, at);
            at = range.end;
            ids.push(id);
        },
    );
    assert!(!whole || at == symbols.len());
    (whole.then_some(ids), by_table.looked_up)
}

fn by_heap(table: &MergeTable, symbols: &[TokenId]) -> Vec<TokenId> {
    let pair = &mut |left, right| table.get(left, right).unwrap_or((NEVER, 0));
    Stretch::default().merge(pair, symbols.iter().copied()).map(|(_, id)| id).collect()
}

#[track_caller]
fn check(table: &MergeTable, symbols: &[TokenId]) {
    let expected = if symbols.len() < 300 { naive(table, symbols.to_vec()) } else { by_heap(table, symbols) };
    if let (Some(found), _) = windows(table, symbols) {
        assert_eq!(found, expected, "{symbols:?}");
    }
}

/// Merges in any order over few symbols, so that ties, overlaps and chains abound; `ranked` has several share a rank.
fn merges(ranked: bool) -> impl Strategy<Value = MergeTable> {
    proptest::collection::vec((any::<u16>(), any::<u16>()), 0..60).prop_map(move |pairs| {
        let mut seen = HashSet::new();
        let mut merges = Vec::new();
        for (left, right) in pairs {
            // The youngest are taken most often, so that chains get long.
            let known = 4 + merges.len() as u32;
            let pick = |n: u16| {
                let n = u32::from(n) % (known * 2);
                if n < known { n } else { known - 1 - (n - known) / 4 }
            };
            let (left, right) = (pick(left), pick(right));
            if seen.insert((left, right)) {
                merges.push(Merge { left, right, id: known });
            }
        }
        let ranks: Vec<Rank> = (0..merges.len() as u32).map(|at| at / 3).collect();
        MergeTable::with_ranks(&merges, ranked.then_some(&ranks[..])).unwrap()
    })
}

/// Symbols at random, or some that repeat themselves, with others around.
fn symbols() -> impl Strategy<Value = Vec<TokenId>> {
    let random = |len| proptest::collection::vec(0u32..4, 0..len);
    let repeated = (random(12), random(6), 1..400usize, random(200));
    prop_oneof![
        random(2_000),
        repeated.prop_map(|(before, part, times, behind)| [before, part.repeat(times), behind].concat())
    ]
}

proptest! {
    #[test]
    fn windows_match_naive(table in any::<bool>().prop_flat_map(merges), symbols in symbols()) {
        check(&table, &symbols);
    }
}

#[test]
fn nothing_is_left_of_an_empty_text() {
    check(&doubling(3), &[]);
}

/// Merges that double a symbol again and again.
fn doubling(times: u32) -> MergeTable {
    let merges: Vec<Merge> = (0..times).map(|at| Merge { left: at, right: at, id: at + 1 }).collect();
    MergeTable::new(&merges).unwrap()
}

#[test]
fn tokens_that_outgrow_a_narrow_window_are_found_in_wide_ones() {
    for len in [63, 64, 65, 1000, 4095, 4096, 5000, 70_000] {
        for times in [3, 5, 6, 8] {
            let run = vec![0; len];
            let behind_another = [&[99], &run[..]].concat();
            for symbols in [run, behind_another] {
                let expected = by_heap(&doubling(times), &symbols);
                assert_eq!(windows(&doubling(times), &symbols).0, Some(expected), "{len} {times}");
            }
        }
    }
}

#[test]
fn tokens_that_outgrow_every_window_are_left_to_another_way() {
    assert_eq!(windows(&doubling(14), &[0; 100_000]).0, None);
}

/// What a window's end changes reaches back over all of the text: each pair merges later than the one behind it, so that one symbol
/// behind it decides how all of it is paired.
#[test]
fn a_chain_back_through_the_whole_text_is_followed_or_left_to_another_way() {
    let count = 3_000;
    let merges: Vec<Merge> =
        (0..count).rev().map(|at| Merge { left: at, right: at + 1, id: 10_000 + at }).collect();
    let table = MergeTable::new(&merges).unwrap();
    let all: Vec<TokenId> = (0..=count).collect();
    for len in [100, 101, 200, 201, 3_000, 3_001] {
        check(&table, &all[..len]);
    }
}

fn random(len: usize) -> Vec<TokenId> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 30
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

#[test]
fn what_is_merged_grows_as_the_text_does() {
    // Random symbols, and ones that repeat themselves.
    let pairs = (0..4u32).flat_map(|left| (0..4u32).map(move |right| (left, right)));
    let merges: Vec<Merge> =
        pairs.zip(4..).map(|((left, right), id)| Merge { left, right, id }).step_by(2).collect();
    let table = MergeTable::new(&merges).unwrap();
    let symbols = random(100_000);
    let (found, looked_up) = windows(&table, &symbols);
    assert_eq!(found, Some(by_heap(&table, &symbols)));
    assert!(looked_up < 4 * symbols.len(), "{looked_up}");
    let symbols = [0, 1, 2, 0, 3].repeat(20_000);
    let (found, looked_up) = windows(&table, &symbols);
    assert_eq!(found, Some(by_heap(&table, &symbols)));
    assert!(looked_up < symbols.len() / 10, "{looked_up}");
}

#[test]
fn nothing_more_is_done_when_nobody_waits_any_more() {
    let table = doubling(1);
    let symbols = random(200_000);
    let mut by_table = ByTable { table: &table, symbols: &symbols, looked_up: 0 };
    let mut handed_on = 0;
    assert!(merge(&mut by_table, &mut Stretch::default(), || true, |_, _| handed_on += 1));
    assert!(handed_on < symbols.len() / 5, "{handed_on}");
}
