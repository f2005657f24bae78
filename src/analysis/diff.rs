//! How two vocabularies differ: tokens by their bytes, merges by the bytes of their parts, special tokens by name, and how
//! they are set up.

use super::tokens::rank;
use crate::engine::{Merge, Model, Rank, TokenId, Tokenizer};

/// A list of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Tokens of the first vocabulary that the second has not, by id.
    OnlyA,
    /// Tokens of the second that the first has not, by id.
    OnlyB,
    /// Tokens of both that have two ids, by id in the first.
    Moved,
    /// Merges of the first that the second has not, by rank.
    MergesOnlyA,
    /// Merges of the second that the first has not, by rank.
    MergesOnlyB,
    /// Merges of both that have two ranks, by rank in the first.
    MergesMoved,
    /// Special and added tokens that one of them has not, or that have two ids or are special in one of them only.
    Specials,
}

impl Section {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OnlyA,
        Self::OnlyB,
        Self::Moved,
        Self::MergesOnlyA,
        Self::MergesOnlyB,
        Self::MergesMoved,
        Self::Specials,
    ];

    /// Its name in options and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyA => "only_a",
            Self::OnlyB => "only_b",
            Self::Moved => "moved",
            Self::MergesOnlyA => "merges_only_a",
            Self::MergesOnlyB => "merges_only_b",
            Self::MergesMoved => "merges_moved",
            Self::Specials => "specials",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.name() == name)
    }
}

/// Which entries of a section are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Entries to pass over.
    pub skip: usize,
    /// Most entries.
    pub limit: usize,
}

/// Some entries of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// How many there are in all.
    pub total: usize,
    /// Those in the window.
    pub entries: Vec<T>,
    window: Window,
}

impl<T> Listed<T> {
    fn new(window: Window) -> Self {
        Self { total: 0, entries: Vec::new(), window }
    }

    fn add(&mut self, entry: impl FnOnce() -> T) {
        if self.total >= self.window.skip && self.entries.len() < self.window.limit {
            self.entries.push(entry());
        }
        self.total += 1;
    }

    /// What to pass over to see more; none where there is no more.
    pub fn next(&self) -> Option<usize> {
        let seen = self.window.skip.saturating_add(self.entries.len());
        (seen < self.total).then_some(seen)
    }
}

/// A token that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenChange<'v> {
    /// Its bytes.
    pub bytes: &'v [u8],
    /// Its id in the first.
    pub a: Option<TokenId>,
    /// Its id in the second.
    pub b: Option<TokenId>,
}

/// A merge that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeChange<'v> {
    /// Bytes of the left part.
    pub left: &'v [u8],
    /// Bytes of the right part.
    pub right: &'v [u8],
    /// Its rank in the first.
    pub a: Option<Rank>,
    /// Its rank in the second.
    pub b: Option<Rank>,
}

/// A special or added token that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialChange<'v> {
    /// Its name.
    pub name: &'v str,
    /// Its id in the first, and whether it is flagged special.
    pub a: Option<(TokenId, bool)>,
    /// The same in the second.
    pub b: Option<(TokenId, bool)>,
}

/// All that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff<'v> {
    /// Tokens that have one id in both.
    pub same: usize,
    /// See [`Section::OnlyA`].
    pub only_a: Listed<TokenChange<'v>>,
    /// See [`Section::OnlyB`].
    pub only_b: Listed<TokenChange<'v>>,
    /// See [`Section::Moved`].
    pub moved: Listed<TokenChange<'v>>,
    /// Merges that have one rank in both.
    pub merges_same: usize,
    /// See [`Section::MergesOnlyA`].
    pub merges_only_a: Listed<MergeChange<'v>>,
    /// See [`Section::MergesOnlyB`].
    pub merges_only_b: Listed<MergeChange<'v>>,
    /// See [`Section::MergesMoved`].
    pub merges_moved: Listed<MergeChange<'v>>,
    /// See [`Section::Specials`].
    pub specials: Listed<SpecialChange<'v>>,
    /// What is set up in two ways: its name, and how it is in each.
    pub settings: Vec<(&'static str, String, String)>,
}

/// Compares two vocabularies; of each section only what lies in its window is listed.
pub fn diff<'v>(a: &'v Tokenizer, b: &'v Tokenizer, window: impl Fn(Section) -> Window) -> Diff<'v> {
    let mut diff = Diff {
        same: 0,
        only_a: Listed::new(window(Section::OnlyA)),
        only_b: Listed::new(window(Section::OnlyB)),
        moved: Listed::new(window(Section::Moved)),
        merges_same: 0,
        merges_only_a: Listed::new(window(Section::MergesOnlyA)),
        merges_only_b: Listed::new(window(Section::MergesOnlyB)),
        merges_moved: Listed::new(window(Section::MergesMoved)),
        specials: Listed::new(window(Section::Specials)),
        settings: settings(a, b),
    };
    for (id, bytes) in a.vocab().ordinary() {
        match b.vocab().id(bytes) {
            Some(other) if other == id => diff.same += 1,
            Some(other) => diff.moved.add(|| TokenChange { bytes, a: Some(id), b: Some(other) }),
            None => diff.only_a.add(|| TokenChange { bytes, a: Some(id), b: None }),
        }
    }
    for (id, bytes) in b.vocab().ordinary().filter(|(_, bytes)| a.vocab().id(bytes).is_none()) {
        diff.only_b.add(|| TokenChange { bytes, a: None, b: Some(id) });
    }
    for (position, left, right) in parts(a) {
        let (rank, other) = (rank(a, position), rank_in(b, left, right));
        match other {
            Some(other) if other == rank => diff.merges_same += 1,
            Some(other) => {
                diff.merges_moved.add(|| MergeChange { left, right, a: Some(rank), b: Some(other) })
            }
            None => diff.merges_only_a.add(|| MergeChange { left, right, a: Some(rank), b: None }),
        }
    }
    for (position, left, right) in parts(b).filter(|(_, left, right)| rank_in(a, left, right).is_none()) {
        diff.merges_only_b.add(|| MergeChange { left, right, a: None, b: Some(rank(b, position)) });
    }
    let in_a = a.specials().list().iter().map(|token| token.name.as_str());
    let in_b = b.specials().list().iter().map(|token| token.name.as_str());
    for name in in_a.chain(in_b.filter(|name| a.specials().by_name(name).is_none())) {
        let of = |t: &Tokenizer| t.specials().by_name(name).map(|token| (token.id, token.special));
        if of(a) != of(b) {
            diff.specials.add(|| SpecialChange { name, a: of(a), b: of(b) });
        }
    }
    diff
}

/// Positions of merges, with the bytes of their parts. SentencePiece's merges of characters that are no tokens have none.
fn parts(tokenizer: &Tokenizer) -> impl Iterator<Item = (usize, &[u8], &[u8])> {
    let bytes = |id| tokenizer.vocab().bytes(id);
    let merges = tokenizer.merges().iter().enumerate();
    merges.filter_map(move |(at, &Merge { left, right, .. })| Some((at, bytes(left)?, bytes(right)?)))
}

fn rank_in(tokenizer: &Tokenizer, left: &[u8], right: &[u8]) -> Option<Rank> {
    let (left, right) = (tokenizer.vocab().id(left)?, tokenizer.vocab().id(right)?);
    tokenizer.table().get(left, right).map(|(rank, _)| rank)
}

fn settings(a: &Tokenizer, b: &Tokenizer) -> Vec<(&'static str, String, String)> {
    let described = |t: &Tokenizer| {
        [
            ("model", model(t).to_owned()),
            ("normalizer", t.normalizer().name().into_owned()),
            ("split", t.pretokenizer().describe().join(" then ")),
            ("whole_pretokens", t.whole_pretokens().to_string()),
            ("tokens_before", format!("{:?}", t.template().before)),
            ("tokens_after", format!("{:?}", t.template().after)),
            ("vocab_size", t.vocab_size().to_string()),
        ]
    };
    let pairs = described(a).into_iter().zip(described(b));
    pairs.filter(|(a, b)| a.1 != b.1).map(|((name, a), (_, b))| (name, a, b)).collect()
}

fn model(tokenizer: &Tokenizer) -> &'static str {
    match tokenizer.model() {
        Model::Bytes { .. } => "merges of bytes",
        Model::Chars(_) => "merges of characters",
        Model::Unigram(_) => "unigram",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tests::tokenizer;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const ALL: Window = Window { skip: 0, limit: usize::MAX };

    #[test]
    fn nothing_differs_from_itself() {
        let t = tokenizer(&[(b"a", b"b"), (b"ab", b"c")], &[("<end>", 300, true)]);
        let made = diff(&t, &t, |_| ALL);
        assert_eq!((made.same, made.merges_same), (258, 2));
        let totals = [made.only_a.total, made.only_b.total, made.moved.total, made.specials.total];
        assert_eq!((totals, made.settings), ([0; 4], vec![]));
    }

    #[test]
    fn what_differs_is_listed_where_it_belongs() {
        let a = tokenizer(
            &[(b"a", b"b"), (b"ab", b"c"), (b"x", b"y")],
            &[("<end>", 300, true), ("<x>", 301, false)],
        );
        let b = tokenizer(
            &[(b"x", b"y"), (b"a", b"b"), (b"b", b"c")],
            &[("<end>", 300, true), ("<x>", 301, true)],
        );
        let made = diff(&a, &b, |_| ALL);
        assert_eq!(made.only_a.entries, [TokenChange { bytes: b"abc", a: Some(257), b: None }]);
        assert_eq!(made.only_b.entries, [TokenChange { bytes: b"bc", a: None, b: Some(258) }]);
        let moved: Vec<_> =
            made.moved.entries.iter().map(|change| (change.bytes, change.a, change.b)).collect();
        assert_eq!(moved, [(&b"ab"[..], Some(256), Some(257)), (b"xy", Some(258), Some(256))]);
        let merge = |change: &MergeChange<'_>| (change.left.to_vec(), change.a, change.b);
        assert_eq!(
            made.merges_only_a.entries.iter().map(merge).collect::<Vec<_>>(),
            [(b"ab".to_vec(), Some(1), None)]
        );
        assert_eq!(
            made.merges_only_b.entries.iter().map(merge).collect::<Vec<_>>(),
            [(b"b".to_vec(), None, Some(2))]
        );
        let moved: Vec<_> = made.merges_moved.entries.iter().map(merge).collect();
        assert_eq!(moved, [(b"a".to_vec(), Some(0), Some(1)), (b"x".to_vec(), Some(2), Some(0))]);
        let change = SpecialChange { name: "<x>", a: Some((301, false)), b: Some((301, true)) };
        assert_eq!(made.specials.entries, [change]);
    }

    #[test]
    fn windows_show_a_part_and_tell_the_next() {
        let a = tokenizer(&[(b"a", b"b"), (b"b", b"c"), (b"c", b"d")], &[]);
        let b = tokenizer(&[], &[]);
        let look = |skip, limit| {
            let only = diff(&a, &b, |_| Window { skip, limit }).only_a;
            (only.entries.iter().map(|change| change.a.unwrap()).collect::<Vec<_>>(), only.next(), only.total)
        };
        assert_eq!(look(0, 2), (vec![256, 257], Some(2), 3));
        assert_eq!(look(2, 2), (vec![258], None, 3));
        assert_eq!(look(9, 2), (vec![], None, 3));
        assert_eq!(look(0, 3), (vec![256, 257, 258], None, 3));
    }

    fn vocabulary() -> impl Strategy<Value = Tokenizer> {
        proptest::sample::subsequence(
            vec![(b"a", b"b"), (b"b", b"c"), (b"c", b"d"), (b"d", b"a"), (b"a", b"a")],
            0..=5,
        )
        .prop_shuffle()
        .prop_map(|merged| {
            let merged: Vec<(&[u8], &[u8])> = merged.iter().map(|(l, r)| (&l[..], &r[..])).collect();
            tokenizer(&merged, &[])
        })
    }

    proptest! {
        #[test]
        fn differences_match_naive(a in vocabulary(), b in vocabulary()) {
            let made = diff(&a, &b, |_| ALL);
            let map = |t: &Tokenizer| -> BTreeMap<Vec<u8>, TokenId> {
                t.vocab().ordinary().map(|(id, bytes)| (bytes.to_vec(), id)).collect()
            };
            let (of_a, of_b) = (map(&a), map(&b));
            let bytes = |list: &Listed<TokenChange<'_>>| -> BTreeSet<Vec<u8>> {
                list.entries.iter().map(|change| change.bytes.to_vec()).collect()
            };
            let naive = |keep: &dyn Fn(&Vec<u8>) -> bool| -> BTreeSet<Vec<u8>> {
                of_a.keys().chain(of_b.keys()).filter(|key| keep(key)).cloned().collect()
            };
            prop_assert_eq!(bytes(&made.only_a), naive(&|key| !of_b.contains_key(key)));
            prop_assert_eq!(bytes(&made.only_b), naive(&|key| !of_a.contains_key(key)));
            let moved = |key: &Vec<u8>| matches!((of_a.get(key), of_b.get(key)), (Some(a), Some(b)) if a != b);
            prop_assert_eq!(bytes(&made.moved), naive(&moved));
            prop_assert_eq!(made.same + made.moved.total + made.only_a.total, of_a.len());
            prop_assert_eq!(made.same + made.moved.total + made.only_b.total, of_b.len());
            let known = made.merges_same + made.merges_moved.total;
            prop_assert_eq!(known + made.merges_only_a.total, a.merges().len());
            prop_assert_eq!(known + made.merges_only_b.total, b.merges().len());
        }
    }
}
