//! The unigram model against its naive twin, and the corners in which the references differ.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

type Token = (TokenId, Range<usize>);

fn piece(text: &str, score: f64) -> UnigramPiece<'_> {
    UnigramPiece { text, score, kind: PieceKind::Normal }
}

fn of_kind(text: &str, score: f64, kind: PieceKind) -> UnigramPiece<'_> {
    UnigramPiece { text, score, kind }
}

fn parts<'a>(pieces: &[UnigramPiece<'a>], byte_fallback: bool, flavour: UnigramFlavour) -> UnigramParts<'a> {
    UnigramParts { pieces: pieces.to_vec(), unk: Some(0), byte_fallback, flavour }
}

fn encode(model: &Unigram, text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    model.encode(text, &mut UnigramScratch::default(), |id, range| tokens.push((id, range)));
    tokens
}

/// The twin: the textbook search over a table of the whole text, pieces looked up in a map.
fn naive(parts: &UnigramParts<'_>, text: &str) -> Vec<Token> {
    let hugging_face = parts.flavour == UnigramFlavour::HuggingFace;
    let unk = parts.unk.unwrap();
    let ids: HashMap<&str, TokenId> = parts
        .pieces
        .iter()
        .zip(0..)
        .filter(|(p, _)| hugging_face || matches!(p.kind, PieceKind::Normal | PieceKind::UserDefined))
        .map(|(p, id)| (p.text, id))
        .collect();
    let normal: Vec<f32> =
        parts.pieces.iter().filter(|p| p.kind == PieceKind::Normal).map(|p| p.score as f32).collect();
    let least = normal.iter().copied().fold(f32::MAX, f32::min);
    let least_f64 = parts.pieces.iter().map(|p| p.score).fold(f64::INFINITY, f64::min);
    // The sum of the best way to each place, where it comes from, and its last piece (none: an unknown character).
    let mut table: Vec<Option<(f64, usize, Option<TokenId>)>> = vec![None; text.len() + 1];
    table[0] = Some((0.0, 0, None));
    for (start, c) in text.char_indices() {
        let mut here = table[start].unwrap().0;
        if !hugging_face && here.abs() > 1e5 {
            for (sum, ..) in table[start..].iter_mut().flatten() {
                *sum = f64::from(*sum as f32 - here as f32);
            }
            here = 0.0;
        }
        let mut ways = Vec::new();
        for end in start + 1..=text.len() {
            let Some(&id) = text.get(start..end).and_then(|t| ids.get(t)) else { continue };
            let piece = parts.pieces[id as usize];
            let sum = match (hugging_face, piece.kind) {
                (true, _) => piece.score + here,
                (false, PieceKind::UserDefined) => {
                    f64::from((0.1 * (end - start - 1) as f64) as f32 + here as f32)
                }
                (false, _) => f64::from(piece.score as f32 + here as f32),
            };
            ways.push((end, sum, Some(id)));
        }
        let one = start + c.len_utf8();
        if !ways.iter().any(|&(end, ..)| end == one) {
            let sum =
                if hugging_face { least_f64 - 10.0 + here } else { f64::from((least - 10.0) + here as f32) };
            ways.push((one, sum, None));
        }
        for (end, sum, last) in ways {
            if table[end].is_none_or(|(best, ..)| sum > best) {
                table[end] = Some((sum, start, last));
            }
        }
    }
    let mut way = Vec::new();
    let mut end = text.len();
    while end > 0 {
        let (_, start, last) = table[end].unwrap();
        way.push((last, start..end));
        end = start;
    }
    way.reverse();
    let byte = |b: u8| {
        let name = format!("<0x{b:02X}>");
        let named = |p: &UnigramPiece<'_>| p.text == name && (hugging_face || p.kind == PieceKind::Byte);
        parts.pieces.iter().position(named).map(|id| id as TokenId)
    };
    let mut tokens: Vec<Token> = Vec::new();
    let mut unknown: Option<Range<usize>> = None;
    // A last piece that is known makes sure that what is unknown at the end comes out.
    for (last, range) in way.into_iter().map(Some).chain([None]).map(|w| w.unwrap_or((Some(unk + 1), 0..0))) {
        let known = last.filter(|&id| id != unk);
        if known.is_none() {
            let so_far = unknown.get_or_insert(range.start..range.start);
            so_far.end = range.end;
            if hugging_face || !parts.byte_fallback {
                continue;
            }
        }
        if let Some(run) = unknown.take() {
            let bytes = text.as_bytes()[run.clone()].iter().map(|&b| byte(b));
            match ids.get(&text[run.clone()]) {
                Some(&id) if hugging_face => tokens.push((id, run)),
                _ if parts.byte_fallback && bytes.clone().all(|id| id.is_some()) => {
                    for (at, id) in run.clone().zip(bytes.flatten()) {
                        let whole = hugging_face || at + 1 == run.end;
                        tokens.push((id, if whole { run.clone() } else { run.start..run.start }));
                    }
                }
                _ => tokens.push((unk, run)),
            }
        }
        if let (Some(id), false) = (known, range.is_empty()) {
            tokens.push((id, range));
        }
    }
    tokens
}

fn check(parts: &UnigramParts<'_>, text: &str, expect: &[Token]) {
    let model = Unigram::new(parts).unwrap();
    assert_eq!(encode(&model, text), expect, "{text:?}");
    assert_eq!(naive(parts, text), expect, "the twin on {text:?}");
}

const BOTH: [UnigramFlavour; 2] = [UnigramFlavour::HuggingFace, UnigramFlavour::SentencePiece];

#[test]
fn the_best_sum_wins_and_unknown_characters_are_one_token() {
    let scores = [
        ("a", 0.0),
        ("b", 0.0),
        ("c", 0.0),
        ("d", 0.0),
        ("cd", 1.0),
        ("ab", 2.0),
        ("abc", 5.0),
        ("abcd", 10.0),
    ];
    let pieces: Vec<_> = [of_kind("<unk>", 0.0, PieceKind::Unknown)]
        .into_iter()
        .chain(scores.map(|(text, score)| piece(text, score)))
        .collect();
    for flavour in BOTH {
        check(&parts(&pieces, false, flavour), "abcdacdxx", &[(8, 0..4), (1, 4..5), (5, 5..7), (0, 7..9)]);
        check(&parts(&pieces, false, flavour), "", &[]);
        check(&parts(&pieces, false, flavour), "é日a", &[(0, 0..5), (1, 5..6)]);
    }
}

#[test]
fn equal_sums_keep_the_way_that_is_found_first() {
    let pieces = [
        of_kind("<unk>", 0.0, PieceKind::Unknown),
        piece("ab", -2.0),
        piece("a", -1.0),
        piece("b", -1.0),
        piece("bc", -2.0),
        piece("c", -1.0),
    ];
    for flavour in BOTH {
        check(&parts(&pieces, false, flavour), "ab", &[(1, 0..2)]);
        check(&parts(&pieces, false, flavour), "abc", &[(2, 0..1), (4, 1..3)]);
    }
}

#[test]
fn names_of_pieces_in_a_text_are_pieces_only_for_hugging_face() {
    let pieces = [
        of_kind("<unk>", 0.0, PieceKind::Unknown),
        of_kind("<s>", 0.0, PieceKind::Control),
        piece("a", -1.0),
    ];
    check(
        &parts(&pieces, false, UnigramFlavour::HuggingFace),
        "<s>a<unk>",
        &[(1, 0..3), (2, 3..4), (0, 4..9)],
    );
    check(&parts(&pieces, false, UnigramFlavour::HuggingFace), "é<unk>é", &[(0, 0..9)]);
    check(&parts(&pieces, false, UnigramFlavour::SentencePiece), "<s>a", &[(0, 0..3), (2, 3..4)]);
}

#[test]
fn byte_fallback_tells_the_bytes_as_each_reference_does() {
    let names: Vec<String> = (0..=255u8).map(|b| format!("<0x{b:02X}>")).collect();
    let mut pieces = vec![of_kind("<unk>", 0.0, PieceKind::Unknown)];
    pieces.extend(names.iter().map(|name| of_kind(name, 0.0, PieceKind::Byte)));
    pieces.push(piece("a", -1.0));
    let id = |b: u32| b + 1;
    let hf = [(id(0xc3), 0..4), (id(0xa9), 0..4), (id(0xc3), 0..4), (id(0xa9), 0..4), (257, 4..5)];
    check(&parts(&pieces, true, UnigramFlavour::HuggingFace), "ééa", &hf);
    let spm = [(id(0xc3), 0..0), (id(0xa9), 0..2), (id(0xc3), 2..2), (id(0xa9), 2..4), (257, 4..5)];
    check(&parts(&pieces, true, UnigramFlavour::SentencePiece), "ééa", &spm);
    // Hugging Face does without some of the bytes, SentencePiece does not.
    let few = [&pieces[..0xc4], &pieces[257..]].concat();
    check(&parts(&few, true, UnigramFlavour::HuggingFace), "éa", &[(0, 0..2), (0xc4, 2..3)]);
    let refused = Unigram::new(&parts(&few, true, UnigramFlavour::SentencePiece)).unwrap_err();
    assert_eq!(refused, UnigramError::NoByte { byte: 0xc3 });
}

#[test]
fn kinds_count_for_sentencepiece() {
    let pieces = [
        of_kind("<unk>", 0.0, PieceKind::Unknown),
        piece("a", -1.0),
        piece("b", -1.0),
        of_kind("ab", 0.0, PieceKind::Unused),
        of_kind("abab", 0.0, PieceKind::UserDefined),
    ];
    let spm = parts(&pieces, false, UnigramFlavour::SentencePiece);
    check(&spm, "ab", &[(1, 0..1), (2, 1..2)]);
    check(&spm, "ababa", &[(4, 0..4), (1, 4..5)]);
    let model = Unigram::new(&spm).unwrap();
    assert_eq!((model.score(4), model.score(1), model.score(5)), (Some(0.0), Some(-1.0), None));
    assert_eq!((model.kind(3), model.kind(5)), (Some(PieceKind::Unused), None));
    // A character whose only piece is unused is unknown.
    let unused = [pieces[0], piece("a", -1.0), of_kind("b", 0.0, PieceKind::Unused)];
    check(&parts(&unused, false, UnigramFlavour::SentencePiece), "ab", &[(1, 0..1), (0, 1..2)]);
}

#[test]
fn what_is_no_model_is_refused_with_the_id() {
    let check = |change: &dyn Fn(&mut UnigramParts<'static>), expect: UnigramError| {
        for flavour in BOTH {
            let mut parts = parts(&[piece("<unk>", 0.0), piece("a", -1.0), piece("b", -2.0)], false, flavour);
            change(&mut parts);
            assert_eq!(Unigram::new(&parts).unwrap_err(), expect);
        }
    };
    check(&|p| p.pieces[2].score = f64::NAN, UnigramError::Score { id: 2 });
    check(&|p| p.pieces[1].score = f64::NEG_INFINITY, UnigramError::Score { id: 1 });
    check(&|p| p.pieces[1].text = "", UnigramError::Empty { id: 1 });
    check(&|p| p.pieces[2].text = "a", UnigramError::Duplicate { id: 2, other: 1 });
    check(&|p| p.unk = None, UnigramError::NoUnknown);
    check(&|p| p.unk = Some(3), UnigramError::Unknown { id: 3, count: 3 });
    check(
        &|p| p.pieces = vec![piece("a", 0.0); MAX_PIECES + 1],
        UnigramError::TooManyPieces { count: MAX_PIECES + 1 },
    );
}

#[test]
fn names_of_bytes_are_told_from_others() {
    let names = ["<0x00>", "<0xFF>", "<0xaf>", "<0x1>", "<0x001>", "<0x+1>", "<0xG0>", "0x00"];
    assert_eq!(names.map(byte_of), [Some(0), Some(255), None, None, None, None, None, None]);
}

/// A text of one long pretoken that no place parts, and one that falls apart everywhere.
#[test]
fn megabytes_in_one_pretoken_are_linear() {
    let pieces = [piece("<unk>", 0.0), piece("a", -1.0), piece("aa", -1.5), piece("aaaaaaaaaaaaaaaa", -9.0)];
    for flavour in BOTH {
        let model = Unigram::new(&parts(&pieces, false, flavour)).unwrap();
        let mut covered = 0;
        let mut scratch = UnigramScratch::default();
        for text in ["a".repeat(1 << 20), "日".repeat(1 << 18), "ab".repeat(1 << 19)] {
            model.encode(&text, &mut scratch, |_, range| covered += range.len());
            assert_eq!(covered, text.len());
            covered = 0;
        }
    }
}

/// Scores of few values, so that ties are common; and some that only `f32` takes for equal.
fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4i32..2).prop_map(f64::from),
        -12.0..1.0f64,
        (0..4).prop_map(|n| -3.0 - f64::from(n) * 1e-8),
        // Beyond the limit of SentencePiece's sums after a few pieces.
        (1..9).prop_map(|n| f64::from(n) * -30_000.1),
    ]
}

proptest! {
    #[test]
    fn encoding_matches_naive(
        texts in proptest::collection::btree_set("[ab▁é日]{1,4}|<s>|<0x41>", 1..14),
        scores in proptest::collection::vec(score(), 14),
        kinds in proptest::collection::vec(prop_oneof![
            6 => Just(PieceKind::Normal),
            1 => Just(PieceKind::UserDefined),
            1 => Just(PieceKind::Unused),
            1 => Just(PieceKind::Control),
        ], 14),
        unk_score in score(),
        byte_fallback: bool,
        inputs in proptest::collection::vec("([ab▁é日😀]|<s>|<unk>|<0x41>){0,24}", 1..8),
    ) {
        let names: Vec<String> = (0..=255u8).map(|b| format!("<0x{b:02X}>")).collect();
        for flavour in BOTH {
            let mut pieces = vec![of_kind("<unk>", unk_score, PieceKind::Unknown)];
            pieces.extend(texts.iter().zip(&scores).zip(&kinds).map(|((t, &s), &k)| of_kind(t, s, k)));
            if byte_fallback {
                let named = names.iter().filter(|name| !texts.contains(*name) || flavour == UnigramFlavour::SentencePiece);
                pieces.extend(named.map(|name| of_kind(name, 0.0, PieceKind::Byte)));
            }
            let parts = parts(&pieces, byte_fallback, flavour);
            let model = Unigram::new(&parts).unwrap();
            let mut scratch = UnigramScratch::default();
            for text in &inputs {
                let mut tokens = Vec::new();
                model.encode(text, &mut scratch, |id, range| tokens.push((id, range)));
                prop_assert_eq!(&tokens, &naive(&parts, text), "{:?} {:?}", flavour, text);
            }
        }
    }
}
