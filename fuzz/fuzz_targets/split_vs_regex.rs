//! Every family's scanner, with every digits rule, against its own regexes; and the safe cut.
#![no_main]

use std::ops::ControlFlow;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vocabd::engine::{Digits, Family, Pattern, oracle_pieces};

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut bases: Vec<Pattern> = Family::ALL.map(Pattern::of).into();
    bases.push(Pattern::parse(tekken).expect("a published pattern"));
    bases
        .iter()
        .flat_map(|base| Digits::ALL.map(|digits| base.with_digits(digits).expect("it has a scanner")))
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for pattern in PATTERNS.iter() {
        let found = pieces(pattern, &text);
        if let Some(expected) = oracle_pieces(pattern.regexes(), &text) {
            assert_eq!(found, expected, "{pattern:?}");
        }
        // Whatever part of the text is known yet, its safe cut must hold for all of it.
        let known = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
        if let Some(cut) = pattern.safe_cut(&text[..known]) {
            let apart = [pieces(pattern, &text[..cut]), pieces(pattern, &text[cut..])].concat();
            assert_eq!(found, apart, "{pattern:?} cut at {cut}");
        }
    }
});

fn pieces<'t>(pattern: &Pattern, text: &'t str) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    pattern
        .for_each(text, |piece| {
            pieces.push(piece);
            ControlFlow::Continue(())
        })
        .expect("a scanner never gives up");
    pieces
}
