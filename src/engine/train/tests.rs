//! The trainer against its naive twin, and what it promises beside.

use super::*;
use crate::engine::Tables;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A merge as the twin has it: left, right and count.
type NaiveMerge = (TokenId, TokenId, u64);

/// The twin: counts every pair anew before every merge. Gives the merges and the bytes of all tokens.
fn naive(pairs: &[(Vec<u8>, u64)], config: &TrainConfig) -> (Vec<NaiveMerge>, Vec<Vec<u8>>) {
    let specials = config.special_tokens.len() as TokenId;
    let mut bytes: Vec<u8> = (0..=255).collect();
    let mut tokens = Vec::new();
    if config.tie_break == TieBreak::Hf {
        bytes.sort_by_key(|&b| (!matches!(b, 33..=126 | 161..=172 | 174..), b));
        tokens.extend(config.special_tokens.iter().map(|name| name.clone().into_bytes()));
    }
    let first = tokens.len() as TokenId;
    tokens.extend(bytes.iter().map(|&b| vec![b]));
    let id = |b: &u8| first + bytes.iter().position(|x| x == b).unwrap() as TokenId;
    let mut words: Vec<(Vec<TokenId>, u64)> =
        pairs.iter().map(|(word, count)| (word.iter().map(id).collect(), *count)).collect();
    let by_size = config.vocab_size.map_or(u32::MAX, |n| n - 256 - specials);
    let wanted = config.num_merges.unwrap_or(u32::MAX).min(by_size);
    let mut merges = Vec::new();
    while (merges.len() as u32) < wanted {
        let mut counts = BTreeMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                *counts.entry((pair[0], pair[1])).or_insert(0) += count;
            }
        }
        let length = |id: TokenId| tokens[id as usize].len();
        let limit = config.max_token_bytes.unwrap_or(u32::MAX) as usize;
        counts.retain(|pair, &mut count| {
            length(pair.0) + length(pair.1) <= limit && count >= config.min_frequency.max(1)
        });
        // Pairs come in ascending order and the last of equal keys wins: so from the other end.
        let Some(((left, right), count)) = counts.into_iter().rev().max_by_key(|(_, count)| *count) else {
            break;
        };
        let new = tokens.len() as TokenId;
        tokens.push([tokens[left as usize].clone(), tokens[right as usize].clone()].concat());
        merges.push((left, right, count));
        for (word, _) in &mut words {
            let mut merged = Vec::new();
            let mut rest = word.as_slice();
            while let Some((&one, others)) = rest.split_first() {
                if one == left && others.first() == Some(&right) {
                    merged.push(new);
                    rest = &others[1..];
                } else {
                    merged.push(one);
                    rest = others;
                }
            }
            *word = merged;
        }
    }
    if config.tie_break == TieBreak::Bytes {
        tokens.extend(config.special_tokens.iter().map(|name| name.clone().into_bytes()));
    }
    (merges, tokens)
}

/// Whitespace and what is between, each a pretoken.
fn pattern() -> Pattern {
    Pattern::from_regexes(&[r"\S+|\s+"]).unwrap()
}

pub(super) fn config(num_merges: u32) -> TrainConfig {
    TrainConfig { num_merges: Some(num_merges), min_frequency: 0, ..TrainConfig::new(pattern()) }
}

fn count(config: &TrainConfig, records: &[&str]) -> WordCounts {
    let mut counter = Counter::new(config).unwrap();
    counter.add_batch(records, &mut ()).unwrap();
    counter.finish().unwrap()
}

/// Trains on the pairs, and checks merges, counts and tokens against the twin.
fn check(pairs: &[(Vec<u8>, u64)], config: &TrainConfig) -> Trained {
    let counts = WordCounts::from_pairs(pairs.iter().map(|(word, count)| (word, *count))).unwrap();
    let trained = train(&counts, config, &mut ()).unwrap();
    let (merges, tokens) = naive(pairs, config);
    assert_eq!(trained.merges.iter().map(|m| (m.left, m.right, m.count)).collect::<Vec<_>>(), merges);
    assert_eq!(trained.tokens, tokens);
    let first = tokens.len() - merges.len();
    let first = if config.tie_break == TieBreak::Bytes { first - config.special_tokens.len() } else { first };
    assert!(trained.merges.iter().zip(first as TokenId..).all(|(merge, id)| merge.id == id));
    for (name, id) in &trained.special_tokens {
        assert_eq!(tokens[*id as usize], name.as_bytes());
    }
    for (byte, &id) in (0..=255).zip(&trained.byte_ids) {
        assert_eq!(tokens[id as usize], [byte]);
    }
    trained
}

fn words(alphabet: &'static [u8]) -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
    let word = proptest::collection::vec(proptest::sample::select(alphabet), 1..24);
    proptest::collection::vec((word, 1..5u64), 1..12)
}

/// Few letters, so that ties and overlaps abound.
pub(super) fn any_words() -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
    prop_oneof![words(b"a"), words(b"ab"), words(b"aab "), words(b"abc\xe4\x00"), words(b"zyxw\xad\xff!0")]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 600 }))]

    #[test]
    fn merges_match_naive(
        pairs in any_words(),
        hf in any::<bool>(),
        specials in 0..3usize,
        max_token_bytes in proptest::option::of(2..9u32),
        min_frequency in 0..6u64,
        num_merges in 1..80u32,
        extra_size in proptest::option::of(1..80u32),
    ) {
        let special_tokens: Vec<String> = ["<|end|>", "zz"].map(String::from)[..specials.min(2)].to_vec();
        let config = TrainConfig {
            tie_break: if hf { TieBreak::Hf } else { TieBreak::Bytes },
            vocab_size: extra_size.map(|n| 256 + special_tokens.len() as u32 + n),
            special_tokens,
            max_token_bytes,
            min_frequency,
            ..config(num_merges)
        };
        let trained = check(&pairs, &config);
        let made = trained.merges.len() as u32;
        let reason = match trained.stop_reason {
            StopReason::VocabSize => Some(trained.tokens.len() as u32) == config.vocab_size,
            StopReason::NumMerges => made == num_merges,
            StopReason::NothingFrequent => made < num_merges && config.vocab_size.is_none_or(|n| trained.tokens.len() < n as usize),
        };
        prop_assert!(reason, "{:?} after {made} merges", trained.stop_reason);
        prop_assert!(trained.merges.is_sorted_by(|a, b| a.count >= b.count), "a count rose");
    }

    #[test]
    fn no_two_tokens_have_the_same_bytes(pairs in any_words(), max_token_bytes in proptest::option::of(2..9u32)) {
        let trained = check(&pairs, &TrainConfig { max_token_bytes, ..config(200) });
        let mut tokens = trained.tokens;
        let before = tokens.len();
        tokens.sort();
        tokens.dedup();
        prop_assert_eq!(tokens.len(), before);
    }

    #[test]
    fn threads_and_order_of_records_change_nothing(
        records in proptest::collection::vec("[ab <|>\n世]{0,40}", 1..20).prop_shuffle(),
        seed in any::<prop::sample::Index>(),
    ) {
        let one = TrainConfig { special_tokens: vec!["<|a|>".into(), "<".into()], ..config(50) };
        let three = TrainConfig { threads: 3, ..one.clone() };
        let expected = count(&one, &records.iter().map(String::as_str).collect::<Vec<_>>());
        let mut other: Vec<&str> = records.iter().map(String::as_str).collect();
        other.rotate_left(seed.index(records.len()));
        other.reverse();
        prop_assert_eq!(&count(&three, &other), &expected);
    }

    #[test]
    fn a_record_cut_where_it_may_be_counts_the_same(
        text in "(word|e\u{301}|世界| |\n|\r|<a>|<a>b|<|>|=\u{338}|'s|12|⑴|\\)|,|\u{301}|\u{327}|ﬁ|가\u{11a8}){0,24}",
        normalizer in prop::sample::select(vec![None, Some(Form::Nfc), Some(Form::Nfkd)]),
        specials in 0..3usize,
    ) {
        let special_tokens = ["<a>", "<a>b"].map(String::from)[..specials].to_vec();
        let cl100k = TrainConfig::new(Pattern::parse("cl100k").unwrap());
        let config = TrainConfig { normalizer, special_tokens, ..cl100k };
        let cuts = SafeCuts::new(&config).unwrap();
        let whole = count(&config, &[&text]);
        for (end, _) in text.char_indices() {
            if let Some(cut) = cuts.last_in(&text[..end]) {
                prop_assert!(0 < cut && cut <= end);
                prop_assert_eq!(&count(&config, &[&text[..cut], &text[cut..]]), &whole, "{:?} at {}", text, cut);
            }
        }
    }

    #[test]
    fn normalizing_in_parts_is_normalizing(text in "[a\u{301}\u{327}é가각ᄀ\u{1161}\u{11a8}㈱ﬁ\n]{1,30}", nfc in any::<bool>()) {
        let form = if nfc { Form::Nfc } else { Form::Nfkd };
        let cuts = text.char_indices().filter(|(_, c)| c.is_ascii());
        for (cut, _) in cuts {
            let (left, right) = text.split_at(cut);
            let apply = |text| form.apply(Tables::Reference, text);
            prop_assert_eq!(apply(left) + apply(right), apply(&text));
        }
    }
}

fn text_pairs(words: &[(&str, u64)]) -> Vec<(Vec<u8>, u64)> {
    words.iter().map(|(word, count)| (word.as_bytes().to_vec(), *count)).collect()
}

#[test]
fn runs_overlap_when_counted_and_merge_from_the_left() {
    let trained = check(&text_pairs(&[("aaaaa", 1), ("ababab", 1)]), &config(20));
    assert_eq!(trained.merges[0].count, 4, "five equal letters are four pairs");
    for n in 2..40 {
        check(&text_pairs(&[(&"a".repeat(n), 3), (&"ab".repeat(n), 2), (&"aab".repeat(n), 2)]), &config(100));
    }
}

#[test]
fn counts_beyond_32_bits_are_right() {
    let pairs =
        text_pairs(&[("ab", 3_000_000_000), ("abc", 3_000_000_000), ("zaby", 3_000_000_000), ("c", 7)]);
    let trained = check(&pairs, &config(5));
    assert_eq!(trained.merges[0].count, 9_000_000_000);
    assert_eq!(trained.total_pretokens, 9_000_000_007);
}

#[test]
fn sums_that_do_not_fit_are_an_error() {
    let overflow = |pairs: &[(&str, u64)]| {
        matches!(WordCounts::from_pairs(pairs.iter().copied()), Err(TrainError::Overflow { .. }))
    };
    assert!(overflow(&[("a", u64::MAX), ("a", 1)]));
    assert!(overflow(&[("ab", u64::MAX / 2)]));
    assert!(overflow(&[("a", 1 << 62), ("b", 1 << 62)]));
    assert!(!overflow(&[("a", 1 << 62), ("b", 1 << 61)]));
    assert_eq!(WordCounts::from_pairs([("", 1)]), Err(TrainError::EmptyPretoken));
    let twice = WordCounts::from_pairs([("b", 1), ("ab", 2), ("b", 4), ("c", 0), ("a", 2)]).unwrap();
    let expected: [(&[u8], u64); 3] = [(b"b", 5), (b"a", 2), (b"ab", 2)];
    assert_eq!(twice.iter().collect::<Vec<_>>(), expected);
    assert_eq!((twice.total_pretokens(), twice.total_bytes()), (9, 11));
}

#[test]
fn a_merge_costs_its_places_not_the_length_of_pretokens() {
    // Walking through the long pretoken for each of the merges would be 10^9 steps.
    let letter = |n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 20 & n & 15) as u8);
    let text: String = (0..300_000).map(letter).collect();
    let counts = WordCounts::from_pairs([(text.as_bytes(), 1), (&text.as_bytes()[1..9000], 2)]).unwrap();
    let trained = train(&counts, &config(3000), &mut ()).unwrap();
    let (merges, _) =
        naive(&[(text.as_bytes().to_vec(), 1), (text.as_bytes()[1..9000].to_vec(), 2)], &config(40));
    assert_eq!(trained.merges[..40].iter().map(|m| (m.left, m.right, m.count)).collect::<Vec<_>>(), merges);
}

#[test]
fn counts_come_most_frequent_first_then_by_bytes() {
    let mut words: Vec<(String, u64)> =
        (0..2000u64).map(|n| (format!("pretoken {}", n * 7919 % 2000), 1 + n % 7)).collect();
    let counts = WordCounts::from_pairs(words.iter().map(|(word, count)| (word, *count))).unwrap();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    assert!(counts.iter().eq(words.iter().map(|(word, count)| (word.as_bytes(), *count))));
}

#[test]
fn the_best_count_under_min_frequency_stops() {
    let pairs = text_pairs(&[("ab", 5), ("cd", 4), ("e", 100)]);
    for (min_frequency, merges) in [(0, 2), (1, 2), (4, 2), (5, 1), (6, 0)] {
        let trained = check(&pairs, &TrainConfig { min_frequency, ..config(10) });
        assert_eq!(trained.merges.len(), merges);
        assert_eq!(trained.stop_reason, StopReason::NothingFrequent);
    }
}

#[test]
fn max_token_bytes_is_inclusive() {
    for max_token_bytes in 2..7 {
        let config = TrainConfig { max_token_bytes: Some(max_token_bytes), ..config(100) };
        let trained = check(&text_pairs(&[("abcdefgh", 9), ("cdefg", 3)]), &config);
        let longest = trained.tokens.iter().map(Vec::len).max();
        assert_eq!(longest, Some(max_token_bytes as usize));
    }
}

#[test]
fn ties_go_to_the_smaller_ids() {
    // The probe of the reference trainers: six pairs that occur equally often.
    let pairs = text_pairs(&[("zb", 1), ("ab", 1), ("cd", 1), (" k", 1), ("é", 1), ("dc", 1)]);
    for (tie_break, expected) in [
        (TieBreak::Hf, ["ab", "cd", "dc", "zb", "é", " k"]),
        (TieBreak::Bytes, [" k", "ab", "cd", "dc", "zb", "é"]),
    ] {
        let trained = check(&pairs, &TrainConfig { tie_break, ..config(6) });
        let made: Vec<_> = trained.merges.iter().map(|m| trained.tokens[m.id as usize].as_slice()).collect();
        assert_eq!(made, expected.map(str::as_bytes));
    }
}

#[test]
fn a_special_token_ends_the_record_and_is_not_counted() {
    let config = TrainConfig { special_tokens: vec!["<e>".into(), "<e>>".into(), "b".into()], ..config(5) };
    let counts = count(&config, &["aa<e>aa x<e>>yba", "<e><e>", "c", "c<e"]);
    let expected: [(&[u8], u64); 6] = [(b"aa", 2), (b"c", 1), (b" ", 1), (b"a", 1), (b"c<e", 1), (b"x", 1)];
    let mut expected = expected.to_vec();
    expected.push((b"y", 1));
    expected.sort_by_key(|(word, count)| (Reverse(*count), word.to_vec()));
    assert_eq!(counts.iter().collect::<Vec<_>>(), expected);
    let trained = train(&counts, &config, &mut ()).unwrap();
    assert_eq!(trained.special_tokens[1], ("<e>>".to_owned(), 1));
}

#[test]
fn no_pretoken_crosses_records_and_the_normalizer_sees_each_stretch() {
    let base = config(5);
    assert_eq!(count(&base, &["ab", "cd"]).len(), 2);
    let nfc = TrainConfig { normalizer: Some(Form::Nfc), special_tokens: vec!["x".into()], ..base };
    // The accent after the special token is a stretch of its own and composes with nothing.
    let counts = count(&nfc, &["e\u{301}", "é", "ex\u{301}"]);
    let expected: [(&[u8], u64); 3] = [("é".as_bytes(), 2), (b"e", 1), ("\u{301}".as_bytes(), 1)];
    assert_eq!(counts.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_large_record_counts_the_same_on_any_number_of_threads() {
    let line = "the same words, 世界 e\u{301} again and <|end|> again\n\n  and again";
    let text: String = (0..9000).map(|n| format!("{n}{line}")).collect();
    for normalizer in [None, Some(Form::Nfc)] {
        let cl100k = TrainConfig::new(Pattern::parse("cl100k").unwrap());
        let one = TrainConfig { normalizer, special_tokens: vec!["<|end|>".into()], ..cl100k };
        let expected = count(&one, &[&text, "x", &text[..900]]);
        assert_eq!(count(&TrainConfig { threads: 2, ..one.clone() }, &[&text, "x", &text[..900]]), expected);
        assert_eq!(count(&TrainConfig { threads: 5, ..one.clone() }, &["x", &text[..900], &text]), expected);
    }
}

#[test]
fn safe_cuts_are_found() {
    #[track_caller]
    fn check(normalizer: Option<Form>, text: &str, before: &str) {
        let special_tokens = vec!["<eot>".to_owned(), "</eot>".to_owned()];
        let cl100k = TrainConfig::new(Pattern::parse("cl100k").unwrap());
        let config = TrainConfig { normalizer, special_tokens, ..cl100k };
        assert_eq!(SafeCuts::new(&config).unwrap().last_in(text).map_or("", |cut| &text[..cut]), before);
    }
    check(None, "one two three", "one two");
    check(None, "one two three and more", "one two three");
    check(None, "one two</eot", "one");
    check(None, "onetwo<eot>", "");
    check(None, "onetwo<eot>.", "onetwo<eot>");
    check(None, "one<eot>twothree", "one<eot>");
    check(None, "one two<eot>three four, five", "one two<eot>three four");
    check(
        Some(Form::Nfc),
        "e\u{301}t e\u{301}t\u{301}, and so on, toolong",
        "e\u{301}t e\u{301}t\u{301}, and so on,",
    );
    // Normalized, the sign is two letters that join the word.
    check(None, "a word™, too long", "a word™,");
    check(Some(Form::Nfkc), "a word™toolong", "a");
    check(None, "a word™toolong", "a word");
    check(None, "onelongword", "");
}

#[test]
fn an_empty_corpus_is_an_error() {
    for counts in [WordCounts::default(), count(&config(1), &[]), count(&config(1), &["", ""])] {
        assert_eq!(train(&counts, &config(1), &mut ()), Err(TrainError::EmptyCorpus));
    }
    // One byte is no empty corpus: there is just nothing to merge.
    let trained = check(&text_pairs(&[("a", 9)]), &config(1));
    assert_eq!((trained.merges.len(), trained.stop_reason), (0, StopReason::NothingFrequent));
}

#[test]
fn errors_of_the_pattern_come_through() {
    let pattern = Pattern::parse(r"(?:a|a|aa)+(?=b)|\s+").unwrap();
    let text = "a".repeat(200);
    for threads in [1, 2] {
        let config = TrainConfig { threads, ..TrainConfig::new(pattern.clone()) };
        let result = Counter::new(&config).unwrap().add_batch(&["a few words", &text], &mut ());
        assert!(matches!(result, Err(TrainError::Split(SplitError::TooCostly { .. }))), "{result:?}");
    }
}

/// Breaks at the nth call, whichever it is, and counts calls after that.
struct BreakAt {
    calls: u64,
    at: u64,
}

impl BreakAt {
    fn call(&mut self) -> ControlFlow<()> {
        self.calls += 1;
        if self.calls >= self.at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Observer for BreakAt {
    fn counting(&mut self, _: u64, _: u64) -> ControlFlow<()> {
        self.call()
    }
    fn preparing(&mut self, _: u64, _: u64) -> ControlFlow<()> {
        self.call()
    }
    fn merged(&mut self, _: &LearnedMerge, _: &[u8], _: u32, _: u32) -> ControlFlow<()> {
        self.call()
    }
    fn poll(&mut self, _: Stage) -> ControlFlow<()> {
        self.call()
    }
}

#[test]
fn a_break_at_any_call_cancels() {
    let mut text = "aaab abab cdcd ".repeat(12_000);
    (0..100).for_each(|n| text += &format!(" {n}"));
    for threads in [1, 2] {
        let config = TrainConfig { threads, ..config(6) };
        let run = |observer: &mut BreakAt| {
            let mut counter = Counter::new(&config)?;
            counter.add_batch(&[&text, &text[..7]], observer)?;
            counter.add_batch(&[&text], observer)?;
            train(&counter.finish_watched(observer)?, &config, observer)
        };
        let mut never = BreakAt { calls: 0, at: u64::MAX };
        run(&mut never).unwrap();
        assert!(never.calls > 15, "{} calls", never.calls);
        for at in 1..=never.calls {
            let mut observer = BreakAt { calls: 0, at };
            // On threads the number of reports may differ, the total of merges does not: the last call is certain.
            let result = run(&mut observer);
            if threads == 1 || observer.calls >= at {
                assert_eq!(result, Err(TrainError::Cancelled), "at call {at}");
            }
            assert!(observer.calls <= at + 8, "went on for {} calls after {at}", observer.calls - at);
        }
    }
}

#[test]
fn a_break_at_the_last_report_of_a_batch_cancels_it() {
    for threads in [1, 4] {
        let config = TrainConfig { threads, ..config(6) };
        let result = Counter::new(&config).unwrap().add_batch(&["a b"], &mut BreakAt { calls: 0, at: 1 });
        assert_eq!(result, Err(TrainError::Cancelled));
    }
}

#[test]
fn one_huge_merge_can_be_cancelled() {
    struct InMerge(u32);
    impl Observer for InMerge {
        fn poll(&mut self, stage: Stage) -> ControlFlow<()> {
            assert_eq!(stage, Stage::Merging);
            self.0 += 1;
            if self.0 == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        fn merged(&mut self, _: &LearnedMerge, _: &[u8], _: u32, _: u32) -> ControlFlow<()> {
            panic!("the first merge has over 500,000 places and was not left")
        }
    }
    let counts = WordCounts::from_pairs([("ab".repeat(500_000), 1)]).unwrap();
    assert_eq!(train(&counts, &config(3), &mut InMerge(0)), Err(TrainError::Cancelled));
}

#[test]
fn progress_reaches_the_end() {
    #[derive(Default)]
    struct Seen {
        counted: (u64, u64),
        prepared: Vec<(u64, u64)>,
        merged: Vec<(u32, u32)>,
        made: Vec<Vec<u8>>,
    }
    impl Observer for Seen {
        fn counting(&mut self, bytes: u64, pretokens: u64) -> ControlFlow<()> {
            assert!(bytes >= self.counted.0 && pretokens >= self.counted.1);
            self.counted = (bytes, pretokens);
            ControlFlow::Continue(())
        }
        fn preparing(&mut self, done: u64, total: u64) -> ControlFlow<()> {
            self.prepared.push((done, total));
            ControlFlow::Continue(())
        }
        fn merged(&mut self, _: &LearnedMerge, token: &[u8], done: u32, wanted: u32) -> ControlFlow<()> {
            self.merged.push((done, wanted));
            self.made.push(token.to_vec());
            ControlFlow::Continue(())
        }
    }
    let text = "e\u{301} e <x> ".repeat(40_000);
    for threads in [1, 2] {
        let special_tokens = vec!["<x>".to_owned()];
        let config = TrainConfig { threads, normalizer: Some(Form::Nfc), special_tokens, ..config(2) };
        let mut seen = Seen::default();
        let mut counter = Counter::new(&config).unwrap();
        counter.add_batch(&[&text, "<x>"], &mut seen).unwrap();
        assert_eq!(counter.counted(), seen.counted);
        assert_eq!(seen.counted.0, text.len() as u64 + 3);
        let counts = counter.finish().unwrap();
        assert_eq!(seen.counted.1, counts.total_pretokens());
        let trained = train(&counts, &config, &mut seen).unwrap();
        assert!(seen.prepared.is_sorted() && seen.prepared.last().is_some_and(|(done, total)| done == total));
        assert_eq!(seen.merged.last(), Some(&(trained.merges.len() as u32, 2)));
        assert_eq!(seen.made, trained.tokens[257..]);
    }
}

#[test]
fn bad_configs_are_refused_by_the_field() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut TrainConfig), field: Option<&str>, message: &str) {
        let mut config = TrainConfig::new(pattern());
        config.vocab_size = Some(300);
        change(&mut config);
        let result = config.validate();
        assert_eq!(result.as_ref().err().and_then(TrainError::field), field);
        assert_eq!(result.err().map(|e| e.to_string()).unwrap_or_default(), message);
    }
    let specials = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    check(|_| {}, None, "");
    check(|c| c.vocab_size = Some(257), None, "");
    check(|c| c.vocab_size = Some(MAX_VOCAB_SIZE), None, "");
    check(|c| c.max_token_bytes = Some(2), None, "");
    check(|c| c.vocab_size = None, Some("vocab_size"), "one of vocab_size and num_merges is required");
    let least = "vocab_size is 10; it must be over 256 (256 bytes and the special tokens)";
    check(|c| c.vocab_size = Some(10), Some("vocab_size"), least);
    let exactly = |c: &mut TrainConfig| (c.vocab_size, c.special_tokens) = (Some(258), specials(&["a", "b"]));
    let least = "vocab_size is 258; it must be over 258 (256 bytes and the special tokens)";
    check(exactly, Some("vocab_size"), least);
    let most = "vocab_size is 4000001; it must be at most 4000000";
    check(|c| c.vocab_size = Some(4_000_001), Some("vocab_size"), most);
    check(|c| c.num_merges = Some(0), Some("num_merges"), "num_merges is 0; it must be at least 1");
    let most = "num_merges is 3999745; it must be at most 3999744";
    check(|c| (c.vocab_size, c.num_merges) = (None, Some(3_999_745)), Some("num_merges"), most);
    let least = "max_token_bytes is 1; it must be at least 2";
    check(|c| c.max_token_bytes = Some(1), Some("max_token_bytes"), least);
    check(|c| c.threads = 0, Some("threads"), "threads is 0; it must be from 1 to 256");
    check(|c| c.threads = 257, Some("threads"), "threads is 257; it must be from 1 to 256");
    let empty = "special_tokens[1] is empty";
    check(|c| c.special_tokens = specials(&["a", ""]), Some("special_tokens"), empty);
    let twice = "special_tokens[2] is in the list already";
    check(|c| c.special_tokens = specials(&["a", "b", "a"]), Some("special_tokens"), twice);

    let config = TrainConfig { threads: 0, ..config(1) };
    assert!(matches!(Counter::new(&config), Err(TrainError::Threads { .. })));
    let counts = WordCounts::from_pairs([("ab", 2)]).unwrap();
    assert!(matches!(train(&counts, &config, &mut ()), Err(TrainError::Threads { .. })));
}

#[test]
fn names_of_tie_breaks_are_read_back() {
    for tie_break in [TieBreak::Hf, TieBreak::Bytes] {
        assert_eq!(TieBreak::from_name(tie_break.name()), Some(tie_break));
    }
    assert_eq!(TieBreak::from_name("HF"), None);
}
