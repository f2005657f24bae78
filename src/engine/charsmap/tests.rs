//! Replacement rules against a map of them, and blobs that are none.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Rules = BTreeMap<String, String>;

/// A blob of rules, with a block of units for each node: wasteful, and simple.
fn blob(rules: &Rules) -> Vec<u8> {
    let mut nodes: Vec<&[u8]> = vec![b""];
    for key in rules.keys().map(String::as_bytes) {
        nodes.extend((1..=key.len()).map(|len| &key[..len]));
    }
    nodes.sort_unstable();
    nodes.dedup();
    let base = |node: &[u8]| (nodes.binary_search(&node).unwrap() as u32 + 1) * 256;
    let mut units = vec![u32::from_le_bytes([0, 0, 0, 0x80]); (nodes.len() + 1) * 256];
    units[0] = base(b"") << 10;
    let mut replacements = Vec::new();
    for node in &nodes {
        let rule = std::str::from_utf8(node).ok().and_then(|key| rules.get(key));
        if let Some((&label, parent)) = node.split_last() {
            let unit = base(parent) ^ u32::from(label);
            let leaf = u32::from(rule.is_some()) << 8;
            units[unit as usize] = (unit ^ base(node)) << 10 | leaf | u32::from(label);
        }
        if let Some(new) = rule {
            units[base(node) as usize] = 1 << 31 | replacements.len() as u32;
            replacements.extend_from_slice(new.as_bytes());
            replacements.push(0);
        }
    }
    replacements.push(0);
    let size = (units.len() * 4) as u32;
    let units = units.into_iter().flat_map(u32::to_le_bytes);
    size.to_le_bytes().into_iter().chain(units).chain(replacements).collect()
}

fn charsmap(rules: &[(&str, &str)]) -> Charsmap {
    let rules = rules.iter().map(|&(old, new)| (old.to_owned(), new.to_owned())).collect();
    Charsmap::new(blob(&rules)).unwrap()
}

fn changes(map: &Charsmap, text: &str) -> (Vec<(char, isize)>, bool) {
    let mut changes = Vec::new();
    let modified = map.hf_changes(text, |c, change| changes.push((c, change)));
    (changes, modified)
}

#[test]
fn the_longest_rule_counts_and_the_shortest_for_hugging_face() {
    let map = charsmap(&[("a", "x"), ("ab", "yz"), ("é", ""), ("é\u{301}", "e")]);
    assert_eq!(map.longest_prefix("abc"), Some((2, "yz")));
    assert_eq!(map.longest_prefix("ac"), Some((1, "x")));
    assert_eq!(map.longest_prefix("é"), Some((2, "")));
    assert_eq!(map.longest_prefix("b"), None);
    assert_eq!(map.longest_prefix(""), None);
    assert_eq!(map.whole("abc"), Some("x"));
    assert_eq!(map.whole("é\u{301}"), Some(""));
    assert_eq!(map.whole("\0a"), None);
}

#[test]
fn changes_are_those_of_hugging_face() {
    let map = charsmap(&[("ﬁ", "fi"), ("\u{200b}", ""), ("e\u{301}", "é"), ("①", "1")]);
    assert_eq!(changes(&map, "ab"), (vec![('a', 0), ('b', 0)], false));
    assert_eq!(changes(&map, "①ﬁ"), (vec![('1', 0), ('f', 0), ('i', 1)], true));
    assert_eq!(changes(&map, "e\u{301}x"), (vec![('é', -1), ('x', 0)], true));
    // A removal is added to the change before it, be it of an insertion; at the beginning it is lost.
    assert_eq!(changes(&map, "ﬁ\u{200b}x"), (vec![('f', 0), ('i', 0), ('x', 0)], true));
    assert_eq!(changes(&map, "\u{200b}x"), (vec![('x', 0)], true));
    // A cluster of six bytes is looked up character by character.
    assert!(!changes(&map, "e\u{301}\u{301}\u{301}").1);
}

#[test]
fn blobs_that_are_none_are_refused() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expect: CharsmapError| {
        let rules = [("a", "x"), ("é", "y")].map(|(old, new)| (old.to_owned(), new.to_owned()));
        let mut blob = blob(&rules.into());
        change(&mut blob);
        assert_eq!(Charsmap::new(blob).unwrap_err(), expect);
    };
    let unit = |position: usize| 4 + 4 * position;
    let set = |blob: &mut Vec<u8>, position: usize, value: u32| {
        blob[unit(position)..][..4].copy_from_slice(&value.to_le_bytes());
    };
    // Blocks: root unit, "", "a", "\xc3", "\xc3\xa9".
    let (a, c3) = (256 + 0x61, 256 + 0xc3);
    check(&|b| b.truncate(3), CharsmapError::Short { len: 3 });
    check(&|b| b[0] = 4, CharsmapError::TrieSize { size: 5 * 1024 + 4 });
    check(&|b| b.truncate(b.len() - 5), CharsmapError::TrieSize { size: 5 * 1024 });
    check(&|b| b.truncate(b.len() - 1000), CharsmapError::TrieSize { size: 5 * 1024 });
    check(&|b| b.push(b'x'), CharsmapError::Replacements { offset: 6 });
    check(&|b| *b.last_mut().unwrap() = 0xff, CharsmapError::Replacements { offset: 4 });
    check(&|b| set(b, 0, (5 * 256) << 10), CharsmapError::Offset { unit: 0 });
    check(&|b| set(b, a, 0x7fff_fc00 | 0x61), CharsmapError::Offset { unit: a as u32 });
    check(&|b| set(b, 2 * 256, 1 << 31 | 5), CharsmapError::Value { unit: a as u32, value: 5 });
    let inside = CharsmapError::InsideCharacter { unit: c3 as u32 };
    check(&|b| set(b, c3, (c3 as u32 ^ (2 * 256)) << 10 | 1 << 8 | 0xc3), inside);
    // "a" leads back to the root.
    check(&|b| set(b, a, (a as u32 ^ 256) << 10 | 0x61), CharsmapError::Deep);
    let nested = (1..40).map(|n| ("a".repeat(n), String::new())).collect();
    assert_eq!(Charsmap::new(blob(&nested)).unwrap_err(), CharsmapError::Deep);
    let long = Rules::from([("a".repeat(1025), String::new())]);
    assert_eq!(Charsmap::new(blob(&long)).unwrap_err(), CharsmapError::Deep);
}

proptest! {
    #[test]
    fn look_ups_match_naive(
        rules in proptest::collection::btree_map("[ab日é\u{301}\u{200b}]{1,4}", "[xy▁ é]{0,3}", 0..12),
        texts in proptest::collection::vec("[ab日é\u{301}\u{200b}\u{0}]{0,7}", 1..20),
    ) {
        let map = Charsmap::new(blob(&rules)).unwrap();
        for text in &texts {
            let rule = |len: usize| Some((len, rules.get(text.get(..len)?)?.as_str()));
            let longest = (1..=text.len()).rev().find_map(rule);
            prop_assert_eq!(map.longest_prefix(text), longest);
            let nul = text.find('\0').unwrap_or(text.len());
            let shortest = (1..=nul).find_map(rule).map(|(_, new)| new);
            prop_assert_eq!(map.whole(text), shortest);
        }
    }

    /// Whatever a blob is: it is refused, or its look-ups end and give whole characters.
    #[test]
    fn damaged_blobs_do_no_harm(
        rules in proptest::collection::btree_map("[ab日é]{1,3}", "[xyé]{0,3}", 1..8),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u32>(), 0..32u32), 1..8),
        text in "[ab日é]{0,40}",
    ) {
        let mut blob = blob(&rules);
        for (at, value, keep) in damage {
            let at = at.index(blob.len() - 4);
            let old = u32::from_le_bytes(blob[at..][..4].try_into().unwrap());
            // Some bits only, or nearly every blob would be refused at once.
            let new = if keep == 0 { value } else { old ^ (1 << keep) };
            blob[at..][..4].copy_from_slice(&new.to_le_bytes());
        }
        if let Ok(map) = Charsmap::new(blob) {
            for (at, _) in text.char_indices() {
                if let Some((len, new)) = map.longest_prefix(&text[at..]) {
                    prop_assert!(text.is_char_boundary(at + len));
                    prop_assert!(!new.contains('\0'));
                }
            }
            map.hf_changes(&text, |_, _| {});
        }
    }
}
