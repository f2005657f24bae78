use super::*;
use crate::engine::{
    EncodeOptions, Merge, OnSpecial, Pattern, PreStep, Pretokenizer, Special, SpecialPolicy, TokenizerParts,
    UnigramFlavour, UnigramParts, UnigramPiece,
};
use proptest::prelude::*;

/// Bytes and the merges of these parts, in this order.
fn bytes(merges: &[(&str, &str)], whole_pretokens: bool) -> Tokenizer {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let id =
        |tokens: &[Vec<u8>], of: &str| tokens.iter().position(|t| t == of.as_bytes()).unwrap() as TokenId;
    let merges: Vec<Merge> = merges
        .iter()
        .map(|(left, right)| {
            let (left_id, right_id) = (id(&tokens, left), id(&tokens, right));
            tokens.push(format!("{left}{right}").into_bytes());
            Merge { left: left_id, right: right_id, id: tokens.len() as TokenId - 1 }
        })
        .collect();
    let tokens = (0..).zip(tokens).collect();
    let parts = TokenizerParts::byte_level(tokens, merges, Pattern::parse("cl100k").unwrap());
    let specials = vec![Special::new("<end>", 9000, true)];
    Tokenizer::new(TokenizerParts { specials, whole_pretokens, ..parts }).unwrap()
}

/// Most bytes of a text.
const MOST: usize = 4096;

fn explained(tokenizer: &Tokenizer, text: &str, others: OnSpecial) -> Result<Explanation, ExplainError> {
    let matcher = tokenizer.matcher(&SpecialPolicy { allowed: &[], others }).unwrap();
    explain(tokenizer, text, MOST, &matcher, &mut Scratch::default())
}

/// The pretokens of an explanation, all parts of which are text.
fn pretokens(made: &Explanation) -> Vec<&Pretoken> {
    let stretches = made.parts.iter().filter_map(|part| match part {
        Part::Stretch { pretokens, .. } => Some(pretokens),
        Part::Token { .. } => None,
    });
    stretches.flatten().collect()
}

/// That merging the symbols as the steps say gives the tokens.
#[track_caller]
fn leads_to_tokens(pretoken: &Pretoken) {
    let (start, steps) = match &pretoken.way {
        Way::Whole { start, steps } if !start.is_empty() => (start, steps),
        Way::Merges { start, steps } => (start, steps),
        Way::Whole { .. } | Way::Best { .. } => return,
    };
    let mut symbols = start.clone();
    for step in steps {
        let at = symbols.iter().position(|s| s.range.start == step.range.start).unwrap();
        let right = symbols.remove(at + 1);
        assert_eq!((symbols[at].id, right.id, right.range.end), (step.left, step.right, step.range.end));
        symbols[at] = Symbol { id: Some(step.id), range: step.range.clone() };
    }
    let found: Vec<_> = symbols.into_iter().map(|s| (s.id.unwrap(), s.range)).collect();
    assert_eq!(found, pretoken.tokens);
}

#[test]
fn merges_are_told_in_their_order() {
    let t = bytes(&[("l", "o"), ("h", "e"), ("he", "l"), ("hel", "lo")], false);
    let made = explained(&t, "hello!", OnSpecial::Text).unwrap();
    assert_eq!(made.ids, [259, u32::from(b'!')]);
    let [word, mark] = pretokens(&made)[..] else { panic!("{made:?}") };
    let Way::Merges { start, steps } = &word.way else { panic!("{word:?}") };
    assert_eq!(start.iter().map(|s| s.range.clone()).collect::<Vec<_>>(), [0..1, 1..2, 2..3, 3..4, 4..5]);
    let steps: Vec<_> = steps.iter().map(|s| (s.rank, s.id, s.range.clone())).collect();
    assert_eq!(steps, [(0, 256, 3..5), (1, 257, 0..2), (2, 258, 0..3), (3, 259, 0..5)]);
    assert_eq!((mark.span, &mark.text[..]), (Span { start: 5, end: 6 }, "!"));
    assert_eq!(mark.way, Way::Merges { start: vec![Symbol { id: Some(33), range: 0..1 }], steps: vec![] });
}

#[test]
fn whole_pretokens_tell_the_merges_that_lead_to_them_and_special_tokens_have_none() {
    let t = bytes(&[("a", "b")], true);
    let made = explained(&t, "ab<end>ab c", OnSpecial::Parse).unwrap();
    assert_eq!(made.ids, [256, 9000, 256, 32, 99]);
    assert_eq!(made.parts[1], Part::Token { id: 9000, span: Span { start: 2, end: 7 } });
    let shown = pretokens(&made);
    let is_whole = |p: &&Pretoken| matches!(p.way, Way::Whole { .. });
    assert_eq!(shown.iter().map(is_whole).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(shown[1].span, Span { start: 7, end: 9 });
    let Way::Whole { start, steps } = &shown[0].way else { panic!("{shown:?}") };
    assert_eq!((start.len(), steps[0].rank, steps[0].id), (2, 0, 256));

    // "abc" is a token, but "bc" goes first.
    let t = bytes(&[("b", "c"), ("a", "b"), ("ab", "c")], true);
    let made = explained(&t, "abc", OnSpecial::Text).unwrap();
    assert_eq!(made.ids, [258]);
    assert_eq!(pretokens(&made)[0].way, Way::Whole { start: vec![], steps: vec![] });
}

#[test]
fn letters_that_stand_for_bytes_keep_their_places() {
    let t = bytes(&[("é", "x")][..0], false);
    let parts = TokenizerParts {
        pretokenizer: Pretokenizer::new(vec![
            PreStep::ByteLevel { prefix_space: false, split: true },
            PreStep::Digits { single: true },
        ])
        .unwrap(),
        ..TokenizerParts::byte_level(
            t.vocab().ordinary().map(|(id, bytes)| (id, bytes.to_vec())).chain([(256, "é".into())]).collect(),
            vec![Merge { left: 0xc3, right: 0xa9, id: 256 }],
            Pattern::whole(),
        )
    };
    let t = Tokenizer::new(parts).unwrap();
    let made = explained(&t, "é12", OnSpecial::Text).unwrap();
    let pretokens = pretokens(&made);
    assert_eq!(pretokens.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(), ["Ã©", "1", "2"]);
    pretokens.into_iter().for_each(leads_to_tokens);
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let t = bytes(&[], false);
    let over = explained(&t, &"a".repeat(MOST + 1), OnSpecial::Text);
    assert_eq!(over, Err(ExplainError::TooLong { limit: MOST }));
    assert!(explained(&t, &"a".repeat(MOST), OnSpecial::Text).is_ok());
}

fn unigram(pieces: &[(&str, f64)], flavour: UnigramFlavour) -> Tokenizer {
    let mut all = vec![("<unk>".to_owned(), 0.0)];
    all.extend(pieces.iter().map(|(text, score)| ((*text).to_owned(), *score)));
    let parts = |all: &[(String, f64)]| {
        let kind = |id: usize| match (flavour, id) {
            (UnigramFlavour::SentencePiece, 0) => PieceKind::Unknown,
            _ => PieceKind::Normal,
        };
        let pieces = all.iter().enumerate().map(|(id, (text, score))| (id, text.as_str(), *score));
        let pieces: Vec<UnigramPiece<'_>> =
            pieces.map(|(id, text, score)| UnigramPiece { text, score, kind: kind(id) }).collect();
        Unigram::new(&UnigramParts { pieces, unk: Some(0), byte_fallback: false, flavour }).unwrap()
    };
    let model = Model::Unigram(Box::new(parts(&all)));
    let tokens = (0..).zip(&all).map(|(id, (text, _))| (id, text.as_bytes().to_vec())).collect();
    Tokenizer::new(TokenizerParts {
        model,
        pretokenizer: Pretokenizer::Steps(Vec::new()),
        ..TokenizerParts::byte_level(tokens, Vec::new(), Pattern::whole())
    })
    .unwrap()
}

const PIECES: [(&str, f64); 6] =
    [("a", -1.0), ("b", -1.5), ("ab", -2.0), ("aba", -3.5), ("世界", -2.5), ("b世", -4.0)];

/// The highest sum of any way, by trying all of them from the left.
fn naive_best(text: &str) -> f64 {
    let least = PIECES.iter().map(|p| p.1).fold(0.0_f64, f64::min);
    let mut best = vec![f64::NEG_INFINITY; text.len() + 1];
    best[0] = 0.0;
    for (at, c) in text.char_indices() {
        let mut relax = |end: usize, score: f64| best[end] = best[end].max(best[at] + score);
        for (piece, score) in PIECES {
            if text[at..].starts_with(piece) {
                relax(at + piece.len(), score);
            }
        }
        if !PIECES.iter().any(|(piece, _)| *piece == c.to_string()) {
            relax(at + c.len_utf8(), least - 10.0);
        }
    }
    best[text.len()]
}

#[test]
fn the_best_way_is_told_with_its_scores() {
    for flavour in [UnigramFlavour::HuggingFace, UnigramFlavour::SentencePiece] {
        let t = unigram(&PIECES, flavour);
        let made = explained(&t, "abaxy世界", OnSpecial::Text).unwrap();
        let Way::Best { pieces, score } = &pretokens(&made)[0].way else { panic!("{made:?}") };
        let told: Vec<_> = pieces.iter().map(|p| (&p.ids[..], p.range.clone(), p.score, p.unknown)).collect();
        assert_eq!(
            told,
            [
                (&[3][..], 0..2, -2.0, false),
                (&[1][..], 2..3, -1.0, false),
                (&[0][..], 3..5, -28.0, true),
                (&[5][..], 5..11, -2.5, false)
            ]
        );
        assert_eq!(*score, -33.5);
    }
}

proptest! {
    #[test]
    fn steps_lead_to_what_the_engine_gives(text in "(he|l|lo|ll|o|é| |1|世|\\PC){0,40}", whole: bool) {
        let t = bytes(&[("l", "o"), ("h", "e"), ("l", "l"), ("he", "l"), ("hel", "lo"), ("o", "o"), ("lo", "lo")], whole);
        let made = explained(&t, &text, OnSpecial::Text).unwrap();
        let encoded = t.encode(&text, &EncodeOptions::default(), &mut Scratch::default()).unwrap();
        prop_assert_eq!(&made.ids, &encoded.ids);
        for pretoken in pretokens(&made) {
            leads_to_tokens(pretoken);
        }
    }

    #[test]
    fn the_score_is_the_highest_of_all_ways(text in "(a|b|ab|世|世界|x){0,20}") {
        for flavour in [UnigramFlavour::HuggingFace, UnigramFlavour::SentencePiece] {
            let t = unigram(&PIECES, flavour);
            let made = explained(&t, &text, OnSpecial::Text).unwrap();
            let told: f64 = pretokens(&made).iter().map(|p| match &p.way {
                Way::Best { score, .. } => *score,
                _ => f64::NAN,
            }).sum();
            prop_assert!((told - naive_best(&text)).abs() < 1e-9, "{} for {}", told, naive_best(&text));
        }
    }
}
