//! Patterns without a scanner: the linear engine, the backtracking one, and what neither takes.

use super::*;

#[test]
fn stretches_between_matches_are_pieces_and_empty_matches_cut() {
    check("b+", "abbac", &["a", "bb", "ac"]);
    check("b*", "abbac", &["a", "bb", "a", "c"]);
    check("(?=[A-Z])", "oneTwoThree", &["one", "Two", "Three"]);
    check("(?:)", "aé中", &["a", "é", "中"]);
    // Such a match claims to start behind its end; it counts as empty at its end.
    check(r"(?=a+\K)", "aaab", &["a", "a", "ab"]);
    check(r"\b", "ab, cd", &["ab", ", ", "cd"]);
}

#[test]
fn a_sequence_splits_the_pieces_of_the_one_before() {
    let pattern = Pattern::from_regexes(&[r"\p{N}", r"\w+(?!!)|\W+", r"b"]).unwrap();
    assert_eq!(pieces(&pattern, "abc1abc!"), ["a", "b", "c", "1", "a", "b", "c", "!"]);
    assert_eq!(pattern.with_digits(Digits::Single), Err(SplitError::DigitsInRegex));
    assert_eq!(pattern.safe_cut("one two"), None);
}

/// Small changes of published patterns, as users make them.
const MODIFIED: &[&str] = &[
    r"\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s",
    r"[a-z]+|\t+ ?|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,2}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"(?<=\d)[a-z]+|\d+",
    r"(\w)\1",
    r"\s*|b",
];

#[test]
fn a_free_regex_matches_the_backtracking_engine() {
    let patterns: Vec<_> = MODIFIED.iter().map(|regex| Pattern::parse(regex).unwrap()).collect();
    let two = Pattern::from_regexes(&MODIFIED[..2]).unwrap();
    let star_coder = Pattern::from_regexes(&[r"\p{N}", gpt2::OLDER.regexes[0]]).unwrap();
    run_cases(2_000, text(10), |text| {
        patterns.iter().chain([&two, &star_coder]).for_each(|pattern| check_matches_oracle(pattern, &text));
    });
}

#[test]
fn a_regex_that_ends_in_the_usual_look_ahead_takes_linear_time() {
    let pattern = Pattern::parse(MODIFIED[0]).unwrap();
    let spaces = " ".repeat(1 << 20) + "a";
    assert_eq!(
        pieces(&pattern, &spaces).iter().map(|piece| piece.len()).collect::<Vec<_>>(),
        [(1 << 20) - 1, 1, 1]
    );
}

#[test]
fn a_possessive_quantifier_is_no_repetition_of_repetitions() {
    check(r"\p{N}{1,2}+", "12345", &["12", "34", "5"]);
}

#[test]
fn a_costly_match_is_an_error_and_a_sparse_one_is_not() {
    let costly = Pattern::parse(r"(?:a|a)*(?=b)\1?(x)").map(|_| ());
    assert!(costly.is_ok() || matches!(costly, Err(SplitError::Invalid(_))));
    let pattern = Pattern::parse(r"(?:(?=a)a|a)+(?=b)").unwrap();
    let result = pattern.for_each(&"a".repeat(10_000), |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(SplitError::TooCostly { .. })), "{result:?}");
    let sparse = Pattern::parse(r"(?<=needle)!").unwrap();
    let text = "!hay ".repeat(100_000) + "needle!";
    assert_eq!(pieces(&sparse, &text), [&text[..text.len() - 1], "!"]);
}

#[test]
fn unusable_patterns_are_refused_with_a_short_reason() {
    for name in ["cl10k", "qwen3", "o200k-base", "ab"] {
        assert_eq!(Pattern::parse(name).err(), Some(SplitError::UnknownFamily), "{name}");
    }
    let nested = "(".repeat(2_000) + "(?!x)" + &")".repeat(2_000);
    let long = "a?".repeat(2_500);
    for regex in [r"[", r"(a", r"\p{Nope}", r"a{99999}{99999}", r"(?!", &nested, &long] {
        match Pattern::parse(regex) {
            Err(SplitError::Invalid(reason)) => {
                assert!(reason.len() <= 200 && !reason.contains('\n') && !reason.is_empty(), "{reason:?}");
            }
            other => panic!("{regex:.20} is taken: {other:?}"),
        }
    }
}
