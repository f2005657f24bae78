//! Rounds against one layout: the same merges with the same counts, whatever the memory.

use super::super::tests::{any_words, config};
use super::super::{TakeWord, TieBreak, Totals, TrainConfig, Trained, resume, train};
use super::*;
use proptest::prelude::*;

/// Counts that are not in memory, as far as the trainer can tell.
struct Elsewhere<'c>(&'c WordCounts);

impl Words for Elsewhere<'_> {
    type Error = TrainError;

    fn each(&self, take: &mut TakeWord<'_>) -> Result<(), TrainError> {
        self.0.each(take)
    }

    fn totals(&self) -> Totals {
        self.0.totals()
    }

    fn loaded(&self) -> Option<&WordCounts> {
        None
    }
}

fn in_rounds(counts: &WordCounts, config: &TrainConfig, max_memory: usize) -> Result<Trained, TrainError> {
    train(&Elsewhere(counts), &TrainConfig { max_memory, ..config.clone() }, &mut ())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 200 }))]

    #[test]
    fn rounds_make_the_same_merges(
        pairs in any_words(),
        hf in any::<bool>(),
        max_token_bytes in proptest::option::of(2..9u32),
        min_frequency in 0..4u64,
        num_merges in 1..60u32,
        max_memory in prop_oneof![Just(usize::MAX), 2_000..20_000usize],
        done in any::<prop::sample::Index>(),
    ) {
        let config = TrainConfig {
            tie_break: if hf { TieBreak::Hf } else { TieBreak::Bytes },
            special_tokens: vec!["<|end|>".into()],
            min_frequency,
            max_token_bytes,
            ..config(num_merges)
        };
        // Counts far apart, so that there are many rounds.
        let pairs = pairs.iter().zip(0u32..).map(|((word, count), n)| (word, count << (n % 5 * 7)));
        let counts = WordCounts::from_pairs(pairs).unwrap();
        let expect = train(&counts, &config, &mut ()).unwrap();
        match in_rounds(&counts, &config, max_memory) {
            Err(TrainError::Memory { max_memory: limit }) => prop_assert_eq!(limit, max_memory as u64),
            made => prop_assert_eq!(made.as_ref(), Ok(&expect)),
        }
        let done = &expect.merges[..done.index(expect.merges.len() + 1)];
        let more = resume(&Elsewhere(&counts), &config, done, &mut ());
        prop_assert_eq!(more.as_ref(), Ok(&expect));
    }
}

/// Words that all share a few frequent parts, most of them once.
fn long_tail() -> WordCounts {
    let part = |n: u64| ["the", "ing", "tion", "一只", "世界"][(n % 5) as usize];
    let word = |n: u64| {
        let x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (a, b, c) = (part(x), part(x / 5), part(x / 25));
        format!("{a}{}{b}{}{c}{}", x % 97, x % 89, x % 83)
    };
    WordCounts::from_pairs((0..5_000).map(|n| (word(n), 1 + n % 97 / 96))).unwrap()
}

#[test]
fn a_long_tail_is_merged_in_little_memory() {
    let counts = long_tail();
    let config = TrainConfig { min_frequency: 2, ..config(500) };
    let expect = train(&counts, &config, &mut ()).unwrap();
    let mut worked = Vec::new();
    for max_memory in [1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 20] {
        match in_rounds(&counts, &config, max_memory) {
            Err(error) => assert_eq!(error, TrainError::Memory { max_memory: max_memory as u64 }),
            Ok(made) => {
                assert!(made == expect, "within {max_memory}");
                worked.push(max_memory);
            }
        }
    }
    // Too little is told and does no harm.
    let at_once = super::super::merging_bytes(&counts.totals());
    assert!(worked.first().is_some_and(|&least| (least as u64) < at_once / 2), "{worked:?} of {at_once}");
    assert!(in_rounds(&counts, &config, 1 << 10).is_err());
}

#[test]
fn counts_beyond_32_bits_are_right_in_rounds() {
    let pairs = [("ab", 3_000_000_000), ("abc", 3_000_000_000), ("zaby", 3_000_000_000), ("c", 7)];
    let counts = WordCounts::from_pairs(pairs).unwrap();
    let made = in_rounds(&counts, &config(5), usize::MAX).unwrap();
    assert_eq!(made.merges[0].count, 9_000_000_000);
    assert_eq!(made, train(&counts, &config(5), &mut ()).unwrap());
    let most = WordCounts::from_pairs([("a", 1 << 62), ("bc", 1 << 60)]).unwrap();
    assert_eq!(in_rounds(&most, &config(5), usize::MAX), train(&most, &config(5), &mut ()));
}

#[test]
fn rounds_can_be_cancelled() {
    struct BreakAt(u64);
    impl Observer for BreakAt {
        fn poll(&mut self, _: Stage) -> std::ops::ControlFlow<()> {
            self.0 = self.0.saturating_sub(1);
            if self.0 == 0 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        }
    }
    let counts = long_tail();
    let config = TrainConfig { max_memory: 1 << 20, ..config(50) };
    for at in [1, 5, 1_300, 1_700, 2_500] {
        let cancelled = train(&Elsewhere(&counts), &config, &mut BreakAt(at));
        assert_eq!(cancelled, Err(TrainError::Cancelled), "at poll {at}");
    }
}
