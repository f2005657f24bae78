//! The linear way against the definition and the heap.

use super::super::encode::{merge, tests::naive};
use super::*;
use crate::engine::cuts::Cuts;
use crate::engine::{MergeTable, Scratch};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// What a vocabulary is made of, as the engine has it.
#[derive(Debug)]
struct Parts {
    vocab: Vocab,
    merges: Vec<Merge>,
    table: MergeTable,
    byte_ids: [Option<TokenId>; 256],
}

impl Parts {
    fn new(tokens: &[(TokenId, Vec<u8>)], merges: Vec<Merge>) -> Self {
        let vocab = Vocab::new(tokens.iter().map(|(id, bytes)| (*id, &bytes[..])), []).unwrap();
        let byte_ids = std::array::from_fn(|byte| vocab.id(&[byte as u8]));
        Self { table: MergeTable::new(&merges).unwrap(), vocab, merges, byte_ids }
    }

    fn linear(&self) -> Option<Linear> {
        Linear::new(&self.vocab, &self.merges, &self.byte_ids)
    }

    fn bytes(&self, text: &[u8]) -> impl Iterator<Item = TokenId> {
        text.iter().map(|&byte| self.byte_ids[usize::from(byte)].unwrap())
    }

    fn heap(&self, text: &[u8]) -> Vec<TokenId> {
        let mut out = vec![];
        merge(&self.table, self.bytes(text), &mut Scratch::default(), &mut out);
        out
    }
}

fn linear(linear: &Linear, text: &[u8]) -> Vec<TokenId> {
    let mut out = vec![];
    linear.encode(text, &mut LinearScratch::default(), &mut out);
    out
}

/// Letters of which texts are made: few, so that ties, overlaps and chains abound; characters of each length, which
/// tokens may cut, and bytes that are none.
const ALPHABETS: [&[u8]; 3] = [b"ab", b"abcd", b"a\xc3\xa9\xe4\xbd\xa0\xa1\xf0\x9f\x98\xff"];

/// Whole characters of the last alphabet, and one that is written longer than need be.
const CHARS: [&[u8]; 6] =
    [b"a", "é".as_bytes(), "你".as_bytes(), "佡".as_bytes(), "😀".as_bytes(), b"\xc1\xa1"];

fn text(alphabet: &'static [u8], len: usize) -> impl Strategy<Value = Vec<u8>> {
    let chars = if alphabet.len() > 4 { &CHARS[..] } else { &CHARS[..1] };
    let letter = prop_oneof![
        4 => proptest::sample::select(alphabet).prop_map(|byte| vec![byte]),
        1 => proptest::sample::select(chars).prop_map(<[u8]>::to_vec),
    ];
    proptest::collection::vec(letter, 0..len).prop_map(|letters| letters.concat())
}

/// Random merges; `order` 0 has them in order of their making, so that the premises hold, others swap some of them.
fn parts(alphabet: &'static [u8], order: usize) -> impl Strategy<Value = Parts> {
    let pairs = proptest::collection::vec((any::<u16>(), any::<u16>()), 0..60);
    let swaps = proptest::collection::vec((any::<u16>(), any::<u16>()), order);
    (pairs, swaps).prop_map(move |(pairs, swaps)| {
        let mut tokens: Vec<(TokenId, Vec<u8>)> = (0..=255).map(|b| (700 - u32::from(b), vec![b])).collect();
        let mut known: Vec<usize> = alphabet.iter().map(|&b| usize::from(b)).collect();
        let mut by_bytes: HashMap<Vec<u8>, TokenId> =
            tokens.iter().map(|(id, bytes)| (bytes.clone(), *id)).collect();
        let (mut merges, mut seen) = (vec![], HashSet::new());
        for (left, right) in pairs {
            // The youngest tokens are taken most often, so that chains get long.
            let pick = |n: u16| {
                let n = usize::from(n) % (known.len() * 2);
                known[if n < known.len() { n } else { known.len() - 1 - (n - known.len()) / 4 }]
            };
            let (left, right) = (&tokens[pick(left)], &tokens[pick(right)]);
            let bytes = [&left.1[..], &right.1].concat();
            if !seen.insert((left.0, right.0)) || bytes.len() > 40 {
                continue;
            }
            let (left, right) = (left.0, right.0);
            let id = *by_bytes.entry(bytes.clone()).or_insert_with(|| {
                let id = 1000 + tokens.len() as TokenId * 7 % 1009;
                known.push(tokens.len());
                tokens.push((id, bytes));
                id
            });
            merges.push(Merge { left, right, id });
        }
        for (a, b) in swaps {
            if !merges.is_empty() {
                let len = merges.len();
                merges.swap(usize::from(a) % len, usize::from(b) % len);
            }
        }
        Parts::new(&tokens, merges)
    })
}

fn parts_and_text(orders: &'static [usize]) -> impl Strategy<Value = (Parts, Vec<u8>)> {
    (proptest::sample::select(&ALPHABETS[..]), proptest::sample::select(orders))
        .prop_flat_map(|(alphabet, order)| (parts(alphabet, order), text(alphabet, 120)))
}

/// Both ways on one text and on the bytes of each token.
fn check(parts: &Parts, text: &[u8]) {
    check_words(parts, text);
    let Some(by_linear) = parts.linear() else { return };
    let expect = naive(&parts.table, parts.bytes(text).collect());
    if by_linear.applies(text) {
        assert_eq!(linear(&by_linear, text), expect, "{:?} on {text:?}", parts.merges);
    }
    for (id, bytes) in parts.vocab.iter() {
        let alone = naive(&parts.table, parts.bytes(bytes).collect());
        if by_linear.applies(bytes) {
            assert_eq!(by_linear.reachable(id), alone == [id], "{bytes:?} in {:?}", parts.merges);
            assert_eq!(linear(&by_linear, bytes), alone, "{bytes:?} in {:?}", parts.merges);
        }
    }
    assert!(!by_linear.reachable(TokenId::MAX) && !by_linear.reachable(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn linear_matches_naive_where_the_premises_hold((parts, text) in parts_and_text(&[0])) {
        // Several merges into one token can break them even so.
        let mut made = HashSet::new();
        if parts.merges.iter().all(|merge| made.insert(merge.id)) {
            prop_assert!(parts.linear().is_some());
        }
        check(&parts, &text);
    }

    #[test]
    fn linear_matches_naive_or_refuses_where_merges_come_before_their_parts(
        (parts, text) in parts_and_text(&[1, 2, 3, 8, 40])
    ) {
        check(&parts, &text);
    }

    #[test]
    fn repeated_stretches_are_skipped_exactly(
        (parts, texts) in (parts(b"ab", 0), proptest::collection::vec((text(b"ab", 8), 0usize..90), 1..5))
    ) {
        let text: Vec<u8> = texts.iter().flat_map(|(text, times)| text.repeat(*times)).collect();
        if let Some(by_linear) = parts.linear().filter(|linear| linear.applies(&text)) {
            prop_assert_eq!(linear(&by_linear, &text), parts.heap(&text));
        }
    }

    #[test]
    fn a_character_repeated_is_merged_as_one_by_one(
        (parts, first, rest) in (parts(b"ab", 0), "[ab]", "[ab]"),
        times in proptest::collection::vec(1usize..300, 1..12),
    ) {
        let Some(by_linear) = parts.linear() else { return Ok(()) };
        let mut cache = PairCache::default();
        for times in times {
            let text = [first.as_bytes(), &rest.as_bytes().repeat(times)].concat();
            let mut ids = vec![];
            if by_linear.applies(&text) {
                prop_assert!(by_linear.encode_run(&text, &mut cache, &mut ids), "{:?}", parts.merges);
                prop_assert_eq!(ids, parts.heap(&text), "{:?} on {:?}", parts.merges, text);
            }
        }
        for no_run in [&b""[..], b"a", b"aab", b"abba", b"abbc"] {
            let mut ids = vec![];
            prop_assert!(!by_linear.encode_run(no_run, &mut cache, &mut ids) && ids.is_empty());
        }
    }

    #[test]
    fn compatible_is_what_merging_two_tokens_says(parts in parts(b"abc", 0)) {
        let Some(linear) = parts.linear() else { return Ok(()) };
        let known = linear.tokens.iter().enumerate().filter(|(symbol, _)| *symbol >= 256 || (97..100).contains(symbol));
        for (left, left_token) in known.clone() {
            for (right, right_token) in known.clone() {
                let (left_id, right_id) = (left_token.id(), right_token.id());
                let both = [parts.vocab.bytes(left_id).unwrap(), parts.vocab.bytes(right_id).unwrap()].concat();
                if !linear.applies(&both) {
                    continue;
                }
                let expect = naive(&parts.table, parts.bytes(&both).collect()) == [left_id, right_id];
                prop_assert_eq!(linear.pairs.compatible(left as Symbol, right as Symbol), expect);
            }
        }
    }

    #[test]
    fn the_trie_finds_the_longest_token(
        tokens in proptest::collection::hash_set(text(ALPHABETS[2], 5), 0..60),
        texts in proptest::collection::vec(text(ALPHABETS[2], 12), 1..20)
    ) {
        let mut trie = TrieBuilder::new(0);
        let mut all: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        all.extend(tokens.into_iter().filter(|token| token.len() > 1));
        for token in &all {
            // From the longest token that is there and that it begins with, as merging does.
            let left = all.iter().take_while(|t| *t != token).enumerate();
            let left = left.filter(|(_, t)| token.starts_with(t)).max_by_key(|(_, t)| t.len());
            trie.insert(token, left.map(|(symbol, t)| (symbol as Symbol, t.len()))).unwrap();
        }
        let (trie, shorter) = trie.finish();
        let longest = |text: &[u8], below: usize| {
            let fits = all.iter().enumerate().filter(|(_, t)| t.len() < below && text.starts_with(t));
            fits.max_by_key(|(_, t)| t.len()).map_or(NONE, |(symbol, _)| symbol as Symbol)
        };
        for text in texts.iter().filter(|text| !text.is_empty()) {
            prop_assert_eq!(trie.longest(text), longest(text, usize::MAX), "{:?}", text);
        }
        for (token, shorter) in all.iter().zip(shorter) {
            prop_assert_eq!(trie.longest(token), longest(token, usize::MAX));
            prop_assert_eq!(shorter, longest(token, token.len()), "{:?}", token);
        }
    }
}

/// The way for short pieces, twice, so that pairs come from the cache.
fn check_words(parts: &Parts, text: &[u8]) {
    let Some(linear) = parts.linear() else { return };
    let cuts = Cuts::new(parts.vocab.ordinary().map(|(_, bytes)| bytes));
    let mut cache = PairCache::default();
    for piece in text.chunks(LONGEST_WORD).chain(text.chunks(7)).chain(text.chunks(LONGEST_WORD)) {
        if linear.applies(piece) {
            let expected = naive(&parts.table, parts.bytes(piece).collect());
            let chars = std::str::from_utf8(piece).ok().filter(|_| cuts.has_whole_chars(piece));
            for chars in [None].into_iter().chain([chars]) {
                let mut ids = vec![];
                linear.encode_word(piece, chars, &mut cache, &mut ids);
                assert_eq!(ids, expected, "{:?} on {piece:?}, {chars:?}", parts.merges);
            }
        }
    }
}
