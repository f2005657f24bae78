use super::*;
use crate::models::card::{Benchmark, Licence};

fn card(context: Option<u64>, tools: Option<bool>) -> Card {
    Card { context_length: context, tool_calling: tools, ..Card::default() }
}

fn ranked(cards: &[(&str, Card)], weights: &[(&str, f64)]) -> Vec<Ranking> {
    let weights: BTreeMap<String, f64> =
        weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    let derived: Vec<Derived> = cards.iter().map(|(_, card)| Derived::of(card)).collect();
    let candidates: Vec<Candidate<'_>> = (cards.iter().zip(&derived))
        .map(|((name, card), derived)| Candidate {
            name,
            card,
            derived,
            on_texts: None,
            weight_bytes: None,
            memory: None,
            languages: &[],
        })
        .collect();
    rank(&candidates, &Weights::new(&weights).unwrap())
}

#[test]
fn the_best_by_the_weights_comes_first_and_says_why() {
    let cards = [("a", card(Some(4096), Some(true))), ("b", card(Some(131_072), Some(false)))];
    let by_context = ranked(&cards, &[("context", 1.0)]);
    assert_eq!((by_context[0].rank, by_context[1].rank), (Some(2), Some(1)));
    assert_eq!(
        by_context[0].factors[0].explanation,
        "4,096 tokens, the most is 131,072 tokens: value / most = 0.031"
    );
    let both = ranked(&cards, &[("context", 1.0), ("tools", 2.0)]);
    assert_eq!((both[0].rank, both[1].rank), (Some(1), Some(2)));
    assert!((both[0].score.unwrap() - (2.0 + 4096.0 / 131_072.0) / 3.0).abs() < 1e-12);
    assert_eq!(both[1].factors[1].explanation, "no: 0.000");
}

#[test]
fn what_is_unknown_counts_neither_for_nor_against() {
    let cards = [
        ("known", card(Some(100), Some(false))),
        ("unknown", card(Some(90), None)),
        ("nothing", card(None, None)),
    ];
    let all = ranked(&cards, &[("context", 1.0), ("tools", 1.0)]);
    // 0.5 for the first, of whom it is known that it cannot; 0.9 for the second, of which half is known.
    assert_eq!(all.iter().map(|r| r.rank).collect::<Vec<_>>(), [Some(2), Some(1), None]);
    assert_eq!((all[1].score, all[1].known_weight, all[1].range), (Some(0.9), 0.5, [0.45, 0.95]));
    assert_eq!((all[2].score, all[2].range), (None, [0.0, 1.0]));
    assert_eq!((all[1].factors[1].score, &all[1].factors[1].value), (None, &None));
    assert_eq!(all[1].factors[1].explanation, "unknown: it counts neither for nor against");
    // Of the second less than half is known now, and one good fact does not make it the best.
    let less = ranked(&cards, &[("context", 1.0), ("tools", 1.5)]);
    assert_eq!(less.iter().map(|r| r.rank).collect::<Vec<_>>(), [Some(1), Some(2), None]);
    // A weight of 0 asks for nothing.
    let one = ranked(&cards, &[("context", 1.0), ("tools", 0.0)]);
    assert_eq!(one.iter().map(|r| r.rank).collect::<Vec<_>>(), [Some(1), Some(2), None]);
}

#[test]
fn dates_licences_and_benchmarks_have_scores() {
    let with = |released: &str, commercial, score| Card {
        released: Some(released.to_owned()),
        licence: Some(Licence { name: "L".to_owned(), commercial: Some(commercial) }),
        benchmarks: vec![Benchmark {
            name: "MMLU".to_owned(),
            score,
            setting: Some("5-shot".to_owned()),
            source: "x".to_owned(),
        }],
        ..Card::default()
    };
    let cards = [
        ("old", with("2023-07-18", Commercial::Allowed, 80.0)),
        ("mid", with("2024", Commercial::Conditions, 40.0)),
        ("new", with("2024-12-26", Commercial::Forbidden, 60.0)),
    ];
    let all = ranked(&cards, &[("released", 1.0), ("licence", 1.0), ("benchmark:mmlu", 1.0)]);
    let scores = |at: usize| -> Vec<f64> { all.iter().map(|r| r.factors[at].score.unwrap()).collect() };
    assert_eq!(scores(0), [1.0, 0.5, 0.75]);
    assert_eq!(scores(1), [1.0, 0.5, 0.0]);
    let dates = scores(2);
    assert!(dates[0] == 0.0 && dates[2] == 1.0 && dates[1] > 0.5 && dates[1] < 0.8, "{dates:?}");
    assert_eq!(
        all[0].factors[0].explanation,
        "80 points (5-shot), the most is 80 points: value / most = 1.000"
    );
    assert_eq!(all[2].factors[2].explanation, "2024-12-26, between 2023-07-18 (0) and 2024-12-26 (1): 1.000");
}

#[test]
fn weights_that_say_nothing_or_make_no_sense_are_refused() {
    let new = |pairs: &[(&str, f64)]| {
        let weights = pairs.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        Weights::new(&weights).map(|weights| weights.0.len())
    };
    assert_eq!(new(&[("context", 1.0), ("cost", 0.0)]), Ok(2));
    assert_eq!(new(&[]), Err(WeightsError::Zero));
    assert_eq!(new(&[("context", 0.0), ("cost", -0.0)]), Err(WeightsError::Zero));
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e10] {
        assert_eq!(new(&[("cost", bad)]), Err(WeightsError::Range { factor: "cost".to_owned() }), "{bad}");
    }
    let error = new(&[("costs", 1.0)]).unwrap_err();
    assert!(error.to_string().contains("context, tools, licence"), "{error}");
}

#[test]
fn nothing_of_it_anywhere_is_no_division_by_zero() {
    let cards = [("a", Card::default()), ("b", Card::default())];
    let derived = Derived::default();
    let candidates = cards.each_ref().map(|(name, card)| Candidate {
        name,
        card,
        derived: &derived,
        on_texts: Some(OnTexts { tokens: 0, characters: 0, whole: 0 }),
        weight_bytes: Some(0),
        memory: Some(0),
        languages: &[],
    });
    let weights =
        BTreeMap::from(["size", "tokenizer", "cost", "kept_whole"].map(|name| (name.to_owned(), 1.0)));
    let all = rank(&candidates, &Weights::new(&weights).unwrap());
    assert_eq!((all[0].score, all[0].known_weight), (Some(1.0), 0.25));
}

#[test]
fn every_factor_has_a_name_of_its_own_and_is_found_by_it() {
    for (at, factor) in FACTORS.iter().enumerate() {
        assert_eq!(Factor::parse(factor.name), Some(Factor::Fixed(at)));
    }
    assert_eq!(Factor::parse("speed:vLLM"), Some(Factor::Speed("vLLM".to_owned())));
    assert_eq!(Factor::parse("Context"), None);
}
