//! Scanners against their regexes, free regexes, and the cut of streams.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

mod regexes;

use super::oracle::oracle_pieces;
use super::*;

fn spellings() -> impl Iterator<Item = &'static Spelling> {
    Family::ALL.into_iter().map(Family::published).chain([&gpt2::OLDER, &cl100k::PLAIN, &o200k::TEKKEN])
}

/// Every spelling that has a scanner, as it was published.
fn published() -> Vec<Pattern> {
    spellings().map(|spelling| Pattern::spelt(spelling, spelling.digits)).collect()
}

/// The same with every digits rule.
fn scanned() -> Vec<Pattern> {
    spellings().flat_map(|spelling| Digits::ALL.map(|digits| Pattern::spelt(spelling, digits))).collect()
}

fn pieces<'t>(pattern: &Pattern, text: &'t str) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let result = pattern.for_each(text, |piece| {
        pieces.push(piece);
        ControlFlow::Continue(())
    });
    assert_eq!(result, Ok(()));
    pieces
}

/// The same by batches.
fn batched<'t>(pattern: &Pattern, text: &'t str) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut ends = Ends::default();
    let result = pattern.for_each_batch(text, &mut ends, |mut start, ends| {
        for &end in ends {
            pieces.push(&text[start..end as usize]);
            start = end as usize;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(result, Ok(()));
    pieces
}

#[track_caller]
fn check(pattern: &str, text: &str, expected: &[&str]) {
    let pattern = Pattern::parse(pattern).unwrap();
    assert_eq!(pieces(&pattern, text), expected, "{text:?}");
    assert_eq!(batched(&pattern, text), expected, "in batches: {text:?}");
}

#[track_caller]
fn check_matches_oracle(pattern: &Pattern, text: &str) {
    let expected = oracle_pieces(pattern.regexes(), text).unwrap();
    let by_batch = batched(pattern, text);
    let found = if by_batch == expected { pieces(pattern, text) } else { by_batch };
    if found != expected {
        let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let from = |pieces: &[&str]| format!("{:?}", &pieces[at.saturating_sub(2)..pieces.len().min(at + 4)]);
        panic!("{pattern:?} cuts {} where its regexes cut {}", from(&found), from(&expected));
    }
}

fn cases(few: u32) -> u32 {
    std::env::var("VOCABD_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

fn run_cases<S: Strategy>(few: u32, strategy: S, test: impl Fn(S::Value)) {
    let config = Config { cases: cases(few), failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Parts of texts, half of them chosen for being hard: every class, and what families treat apart.
fn part() -> impl Strategy<Value = String> {
    const HARD: &[&str] = &[
        " ",
        " ",
        "  ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\u{b}",
        "\u{c}",
        "\u{85}",
        "\u{a0}",
        "\u{1680}",
        "\u{180e}",
        "\u{2003}",
        "\u{2028}",
        "\u{2029}",
        "\u{202f}",
        "\u{205f}",
        "\u{3000}",
        "\u{200b}",
        "\u{feff}",
        "'",
        "'",
        "''",
        "'s",
        "'S",
        "'ſ",
        "'t",
        "'T",
        "'re",
        "'RE",
        "'rE",
        "'ve",
        "'VE",
        "'m",
        "'M",
        "'ll",
        "'LL",
        "'lL",
        "'d",
        "'D",
        "'l",
        "'r",
        "'v",
        "’s",
        "ʼs",
        "s",
        "S",
        "ſ",
        "t",
        "a",
        "Z",
        "ab",
        "AB",
        "Ab",
        "aB",
        "ı",
        "İ",
        "K",
        "ß",
        "ẞ",
        "1",
        "12",
        "123",
        "1234",
        "٣",
        "९",
        "Ⅷ",
        "½",
        "²",
        "〇",
        "〡",
        "①",
        "𝟘",
        "১২",
        "\u{301}",
        "\u{301}\u{302}",
        "\u{20dd}",
        "\u{93f}",
        "\u{fe0f}",
        "\u{e0100}",
        "ǅ",
        "ǈ",
        "ᾈ",
        "ʰ",
        "ˇ",
        "ª",
        "ƻ",
        "ː",
        "א",
        "ا",
        "ก",
        "é",
        "É",
        "e\u{301}",
        "E\u{301}",
        "Ω",
        "ж",
        "Ж",
        "中",
        "文",
        "啊",
        "龥",
        "龦",
        "㐀",
        "𠀀",
        "一",
        "ぁ",
        "ア",
        "・",
        "゠",
        "ー",
        "゛",
        "ゝ",
        "\u{3040}",
        "\u{3097}",
        "\u{3099}",
        "ｱ",
        "가",
        "ᄀ",
        "ힿ",
        "，",
        "。",
        "「",
        "!",
        "?",
        ".",
        ",",
        "-",
        "_",
        "/",
        "//",
        "/\n",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "|",
        "~",
        "^",
        "`",
        "\"",
        "#",
        "$",
        "€",
        "+",
        "=",
        "©",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "\u{ad}",
        "\u{200d}",
        "👩‍🚀",
        "🏽",
        "🇩🇪",
        "😀",
        "❤️",
        "\u{e000}",
        "\u{378}",
        "\u{fffe}",
        "\u{10ffff}",
        "𐐀",
        "𐐨",
        "ᎣᏏᏲ",
        "ꭰ",
        "Ⴀ",
        "ა",
        "Ა",
    ];
    prop_oneof![
        6 => select(HARD).prop_map(str::to_owned),
        1 => any::<char>().prop_map(|c| c.to_string()),
        1 => "[a-zA-Z]{1,9}",
        1 => "\\PC{0,4}",
    ]
}

fn text(parts: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 0..parts).prop_map(|parts| parts.concat())
}

/// The characters of a sweep: both sides of every change of class, all of the low blocks, some of the rest, and
/// all there are where `VOCABD_FUZZ_CASES` asks for length. (That each has the class of the regexes is tested for
/// all of them, in `class.rs`.)
fn sweep() -> Vec<char> {
    let all = std::env::var_os("VOCABD_FUZZ_CASES").is_some();
    let class = |c: char| classes().of(c as u32);
    let mut before = '\0';
    let mut chosen = BTreeSet::from(['一', '龥', '龦', '\u{3040}', 'ヿ', '\u{303f}', '\u{3100}']);
    for c in '\0'..=char::MAX {
        if class(c) != class(before) {
            chosen.extend([before, c]);
        }
        if all || u32::from(c) < 0x400 || u32::from(c) % 1021 == 0 {
            chosen.insert(c);
        }
        before = c;
    }
    chosen.into_iter().collect()
}

#[test]
fn a_scanner_matches_its_regexes_on_every_character() {
    let chars = sweep();
    // A line end after a letter ends every piece, so each character has its contexts to itself.
    let contexts: &[fn(char) -> String] = &[
        |c| format!("1{c} '{c}s x12{c}34{c} {c}{c}5{c}/x\n"),
        |c| format!("a{c}b {c}{c}x\n"),
        |c| format!("Aa{c}{c}B{c}A'{c} '{c}e 'l{c}x\n"),
        |c| format!("!{c}!!{c}\n{c} {c}1x\n"),
        |c| format!("A{c}\u{301}中{c}中\u{1}{c}\u{1}\u{1}{c}x\n"),
        |c| format!("\t{c}a \t{c}\u{a0}{c}  \n {c}x\n"),
    ];
    let texts: Vec<String> =
        contexts.iter().map(|context| chars.iter().map(|&c| context(c)).collect()).collect();
    for pattern in &scanned() {
        // Other number rules than a pattern's own change nothing where there are no numbers.
        let own = !matches!(&pattern.inner.engine, Engine::Scanner { spelling, .. } if spelling.regexes != pattern.regexes());
        for text in if own { &texts[..] } else { &texts[..1] } {
            check_matches_oracle(pattern, text);
        }
    }
}

#[test]
fn a_scanner_matches_its_regexes_on_characters_at_the_end() {
    let mut seen = BTreeSet::new();
    let chars: Vec<char> = sweep()
        .into_iter()
        .filter(|&c| {
            c < '\u{180}' || c == 'ſ' || seen.insert((classes().of(c as u32), u32::from(c) / 0x1000))
        })
        .collect();
    for pattern in &scanned() {
        for c in &chars {
            for before in ["", " ", "a", "A", "!", "1", "'", "\n", "\u{301}", "中", "\n "] {
                check_matches_oracle(pattern, &format!("{before}{c}"));
            }
        }
    }
}

#[test]
fn a_scanner_matches_its_regexes_on_short_texts_of_hard_characters() {
    let patterns = scanned();
    run_cases(3_000, text(9), |text| {
        patterns.iter().for_each(|pattern| check_matches_oracle(pattern, &text))
    });
}

#[test]
fn a_scanner_matches_its_regexes_on_longer_texts() {
    let patterns = scanned();
    run_cases(300, text(80), |text| patterns.iter().for_each(|pattern| check_matches_oracle(pattern, &text)));
}

/// Every text of up to four characters, each of a class of its own or one that a rule names.
#[test]
fn a_scanner_matches_its_regexes_on_all_short_texts_over_the_classes() {
    let alphabet = ['a', 'B', '中', 'ǅ', '\u{301}', '1', '!', '/', '\'', ' ', '\t', '\n', '\u{1}', 's'];
    let (published, scanned) = (published(), scanned());
    for length in 0..=4u32 {
        // The other number rules show all they do in three characters, but for runs, which other tests have.
        let patterns = if length < 4 { &scanned } else { &published };
        for number in 0..alphabet.len().pow(length) {
            let digit = |place| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let text: String = (0..length).map(digit).collect();
            patterns.iter().for_each(|pattern| check_matches_oracle(pattern, &text));
        }
    }
}

#[test]
fn texts_of_many_chunks_are_split_as_texts_of_one() {
    let parts = proptest::collection::vec(part(), 1..40);
    let words = proptest::collection::vec("[a-z]{1,9} ", 0..20);
    run_cases(60, (parts, words, 1usize..60), |(parts, words, times)| {
        let text = [parts.concat(), words.concat()].concat().repeat(times);
        for pattern in scanned() {
            assert_eq!(batched(&pattern, &text), pieces(&pattern, &text), "{pattern:?}");
        }
    });
}

#[test]
fn groups_of_numbers_go_on_over_blocks() {
    let part = prop_oneof!["[0-9]{1,9}", "[0-9]{50,200}", "[a-z]{1,70}", "[٠-٩]{1,80}", "[ ,\n]{1,3}"];
    run_cases(300, prop::collection::vec(part, 1..20), |parts| {
        let text = parts.concat();
        for pattern in scanned() {
            assert_eq!(batched(&pattern, &text), pieces(&pattern, &text), "{pattern:?}");
        }
    });
}

#[test]
fn both_parts_of_a_safe_cut_split_apart_are_the_whole() {
    let patterns = scanned();
    run_cases(3_000, (text(12), text(6)), |(text, continuation)| {
        let whole = text.clone() + &continuation;
        for pattern in &patterns {
            let Some(cut) = pattern.safe_cut(&text) else { continue };
            assert!(0 < cut && cut < text.len());
            let apart = [pieces(pattern, &whole[..cut]), pieces(pattern, &whole[cut..])].concat();
            assert_eq!(pieces(pattern, &whole), apart, "{pattern:?} {text:?} {continuation:?} {cut}");
        }
    });
}

#[test]
fn ordinary_text_has_a_safe_cut_near_its_end() {
    for pattern in &scanned() {
        for (text, cut) in [
            ("one two", Some(3)),
            ("one two ", Some(7)),
            ("one\ntwo", Some(3)),
            ("fn a() {\n    b", Some(6)),
            ("नमस्ते दुनिया", Some(18)),
            ("中文，中文。", Some(15)),
            ("it's", None),
            ("aaaa", None),
            ("!!\n", None),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(pattern.safe_cut(text), cut, "{pattern:?} {text:?}");
        }
    }
}

#[test]
fn long_runs_of_one_character_match_the_regexes_and_take_linear_time() {
    for unit in [
        "a", "A", " ", "\n", "'", "1", "!", "啊", "é", "\u{301}", "\u{1}", "\u{a0}", "/", "\n ", "\u{301}A",
        "'A", " '",
    ] {
        let (short, long) = (unit.repeat(20_000 / unit.len()), unit.repeat(1_000_000 / unit.len()));
        for pattern in &published() {
            for text in [short.clone(), short.clone() + "x", short.clone() + "!", short.clone() + "\n x"] {
                check_matches_oracle(pattern, &text);
            }
            assert_eq!(pieces(pattern, &long).concat().len(), long.len());
        }
    }
}

#[test]
fn cl100k_keeps_white_space_at_the_end_in_one_piece() {
    check("cl100k", "a \n  ", &["a", " \n  "]);
    check("llama3", "a \n  ", &["a", " \n", "  "]);
    check("cl100k", "a \n  b", &["a", " \n", " ", " b"]);
}

#[test]
fn contractions_fold_case_as_unicode_does() {
    check("cl100k", "it'S HE'ſ we'LL", &["it", "'S", " HE", "'ſ", " we", "'LL"]);
    check("gpt2", "it'S it's", &["it", "'", "S", " it", "'s"]);
    check("o200k", "it'S HE'ſ", &["it'S", " HE'ſ"]);
}

#[test]
fn o200k_cuts_at_a_change_of_case_and_after_caseless_letters() {
    check("o200k", "camelCase HTMLParser", &["camel", "Case", " HTMLParser"]);
    check("o200k", "A中B", &["A中", "B"]);
    check("o200k", "\u{301}AB", &["\u{301}", "AB"]);
}

#[test]
fn deepseek_isolates_numbers_and_han_and_leaves_control_characters() {
    check("deepseek", "第1234章 x", &["第", "123", "4", "章", " x"]);
    check("deepseek", "a.b\u{1}\u{1}\u{1}c", &["a", ".b", "\u{1}\u{1}", "\u{1}c"]);
}

#[test]
fn digits_replace_the_number_rule_in_scanner_and_text() {
    let cl100k = Pattern::of(Family::Cl100k);
    let single = cl100k.with_digits(Digits::Single).unwrap();
    assert_eq!(pieces(&single, "a 1234"), ["a", " ", "1", "2", "3", "4"]);
    assert!(single.regexes()[0].contains(r"|\p{N}| "));
    assert_eq!(single.family(), None);
    assert_eq!(single.with_digits(Digits::Group3).unwrap(), cl100k);
    let gpt2 = Pattern::of(Family::Gpt2).with_digits(Digits::Single).unwrap();
    assert_eq!(pieces(&gpt2, "a 12"), ["a", " 1", "2"]);
    // Qwen2 with groups is Llama 3, to the letter.
    let grouped = Pattern::of(Family::Qwen2).with_digits(Digits::Group3).unwrap();
    assert_eq!(grouped.family(), Some(Family::Llama3));
}

#[test]
fn a_pattern_comes_back_from_its_regexes_with_its_scanner() {
    for pattern in scanned() {
        let regexes: Vec<&str> = pattern.regexes().iter().map(String::as_str).collect();
        let again = Pattern::from_regexes(&regexes).unwrap();
        assert_eq!(again, pattern);
        assert!(matches!(again.inner.engine, Engine::Scanner { .. }), "{pattern:?}");
    }
    for family in Family::ALL {
        assert_eq!(Pattern::of(family).family(), Some(family));
        assert_eq!(Pattern::parse(family.name()).unwrap(), Pattern::of(family));
    }
    assert_eq!(Pattern::of(Family::Qwen2).regexes()[0].matches(r"|\p{N}|").count(), 1);
}

#[test]
fn the_plain_spelling_has_the_same_pieces_and_no_possessive_quantifier() {
    let patterns = scanned();
    run_cases(500, text(9), |text| {
        for pattern in &patterns {
            assert_eq!(pieces(&pattern.plain(), &text), pieces(pattern, &text));
        }
    });
    for pattern in &patterns {
        let plain = pattern.plain();
        let is_plain = |regex: &String| free::is_regular(&regex.replace(r"\s+(?!\S)", "x"));
        assert!(plain.regexes().iter().all(is_plain), "{plain:?}");
    }
}

#[test]
fn a_pattern_is_shared_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: &T) {}
    check(&Pattern::default());
}

#[test]
fn whole_is_one_piece_and_the_empty_text_none() {
    check("none", "a b", &["a b"]);
    check("none", "", &[]);
    check("cl100k", "", &[]);
    check("[a]", "", &[]);
    assert!(Pattern::whole().regexes().is_empty());
    assert_eq!(Pattern::from_regexes(&[]).unwrap(), Pattern::whole());
}

#[test]
fn a_break_stops_the_pieces() {
    for pattern in ["cl100k", "deepseek", r"\w+", r"\w+(?= )", "none"] {
        let mut seen = 0;
        let stop = |_: &str| {
            seen += 1;
            ControlFlow::Break(())
        };
        assert_eq!(Pattern::parse(pattern).unwrap().for_each("a b c", stop), Ok(()));
        assert_eq!(seen, 1, "{pattern}");
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_regex_is_taken_or_refused_and_its_pieces_are_the_text(regex in r"([a-c.*+?|^$]|\\[dswbBKGhRX1]|\(\?[=!:>]|\(\?<[=!]|[()]|\{[0-3],?[0-3]?\}|\[\^?[ab\\s]\]){0,9}", text in text(6)) {
        if let Ok(pattern) = Pattern::parse(&regex) {
            let mut joined = String::new();
            let result = pattern.for_each(&text, |piece| {
                assert!(!piece.is_empty());
                joined += piece;
                ControlFlow::Continue(())
            });
            prop_assert!(result.is_err() || joined == text);
        }
    }

    #[test]
    fn a_cut_of_the_safe_cut_is_a_character_border(text in text(9), index in any::<Index>()) {
        let pattern = &scanned()[index.index(27)];
        prop_assert!(pattern.safe_cut(&text).is_none_or(|cut| text.is_char_boundary(cut)));
    }
}
