//! The quick way against the definition: each pretoken by itself, whole if it is a token, else merged lowest pair first.

use crate::engine::encode::tests::naive;
use crate::engine::{
    Chars, EncodeOptions, Family, Find, Merge, MergeTable, Model, Normalizer, OffsetUnit, Pattern,
    Pretokenizer, Rules, Scratch, Span, TokenId, Tokenizer, TokenizerParts, Vocab,
};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// A vocabulary of which the merges come from joining neighbours in `text` at the places of `picks`, as training does, and whose
/// other tokens are whatever stands at `extra` in it.
fn parts(text: &str, picks: &[usize], extra: &[(usize, usize)], whole: bool) -> TokenizerParts {
    let mut tokens: Vec<(TokenId, Vec<u8>)> = (0..=255u8).map(|byte| (byte.into(), vec![byte])).collect();
    let mut merges = Vec::new();
    let mut ids: Vec<TokenId> = text.bytes().map(TokenId::from).collect();
    for &pick in picks {
        if ids.len() < 2 {
            break;
        }
        let at = pick % (ids.len() - 1);
        let (left, right) = (ids[at], ids[at + 1]);
        let bytes = [&*tokens[left as usize].1, &*tokens[right as usize].1].concat();
        if tokens.iter().any(|(_, known)| *known == bytes) {
            continue;
        }
        let id = tokens.len() as TokenId;
        tokens.push((id, bytes));
        merges.push(Merge { left, right, id });
        let table = MergeTable::new(&merges).unwrap();
        ids = naive(&table, text.bytes().map(TokenId::from).collect());
    }
    for &(from, len) in extra {
        let bytes = text.as_bytes();
        let from = from % bytes.len().max(1);
        let bytes = bytes[from..(from + len + 2).min(bytes.len())].to_vec();
        if !bytes.is_empty() && tokens.iter().all(|(_, known)| *known != bytes) {
            tokens.push((tokens.len() as TokenId, bytes));
        }
    }
    let pattern = Pattern::of(Family::Cl100k);
    TokenizerParts { whole_pretokens: whole, ..TokenizerParts::byte_level(tokens, merges, pattern) }
}

fn by_definition(tokenizer: &Tokenizer, pattern: &Pattern, text: &str) -> Vec<TokenId> {
    let mut ids = Vec::new();
    pattern
        .for_each(text, |piece| {
            match tokenizer.vocab().id(piece.as_bytes()).filter(|_| tokenizer.whole_pretokens()) {
                Some(id) => ids.push(id),
                None => ids.extend(naive(tokenizer.table(), piece.bytes().map(TokenId::from).collect())),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    ids
}

fn spans(vocab: &Vocab, ids: &[TokenId]) -> Vec<Span> {
    let mut start = 0;
    let span = |&id: &TokenId| {
        let end = start + vocab.bytes(id).unwrap().len();
        let span = Span { start, end };
        start = end;
        span
    };
    ids.iter().map(span).collect()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    tokenizer.encode(text, &EncodeOptions::default(), &mut Scratch::default()).unwrap().ids
}

#[track_caller]
fn check(parts: TokenizerParts, texts: &[String]) {
    let pattern = Pattern::of(Family::Cl100k);
    let tokenizer = Tokenizer::new(parts).unwrap();
    let slow: Vec<_> = texts.iter().map(|text| encode(&tokenizer, text)).collect();
    tokenizer.prepare();
    assert_eq!(texts.iter().map(|text| encode(&tokenizer, text)).collect::<Vec<_>>(), slow);
    let mut scratch = Scratch::default();
    let in_bytes = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..EncodeOptions::default() };
    // The second time words come from the caches.
    for text in texts.iter().chain(texts) {
        let expected = by_definition(&tokenizer, &pattern, text);
        let found = tokenizer.encode(text, &EncodeOptions::default(), &mut scratch).unwrap();
        assert_eq!(found.ids, expected, "{text:?}");
        let found = tokenizer.encode(text, &in_bytes, &mut scratch).unwrap();
        assert_eq!((&found.spans, &found.ids), (&spans(tokenizer.vocab(), &expected), &expected), "{text:?}");
    }
}

proptest! {
    #[test]
    fn the_quick_way_is_the_definition(
        text in "( ?[abc]{1,12}| ?[中文字]{1,9}|é|😀|[ \n]{1,3}|[-=]{1,80}|1|'s){1,30}",
        picks in proptest::collection::vec(any::<usize>(), 0..40),
        extra in proptest::collection::vec((any::<usize>(), 0usize..20), 0..6),
        whole in any::<bool>(),
        texts in proptest::collection::vec("( ?[abc]{1,20}| ?[中文字]{1,30}|é|😀|[ \n]{1,3}|[-=]{1,100}|1|'s){0,20}", 1..4),
    ) {
        let texts = [vec![text.clone()], texts].concat();
        check(parts(&text, &picks, &extra, whole), &texts);
    }
}

/// A vocabulary of characters. Those of `text` but for `missing` are tokens; merges join neighbours in it as above. By SentencePiece's rules
/// every way to make a token counts, and merges of some ranks go together.
fn parts_of_chars(
    text: &str,
    missing: &str,
    picks: &[usize],
    sentencepiece: bool,
    whole: bool,
) -> TokenizerParts {
    let unreached: Vec<(TokenId, Vec<u8>)> =
        (0..256).map(|byte| (byte, format!("<0x{byte:02X}>").into_bytes())).collect();
    let mut tokens: Vec<(TokenId, Vec<u8>)> = Vec::new();
    let add = |tokens: &mut Vec<(TokenId, Vec<u8>)>, token: &str| {
        let id = 256 + tokens.len() as TokenId;
        let is_new = tokens.iter().all(|(_, known)| known != token.as_bytes());
        is_new.then(|| tokens.push((id, token.as_bytes().to_vec()))).map(|()| id)
    };
    for c in text.chars().filter(|&c| !missing.contains(c)) {
        add(&mut tokens, c.encode_utf8(&mut [0; 4]));
    }
    let mut merges = Vec::new();
    let mut pieces: Vec<String> = text.chars().map(String::from).collect();
    let mut joining: Vec<char> = Vec::new();
    let mut ways = Vec::new();
    for &pick in picks {
        if pieces.len() < 2 {
            break;
        }
        let at = pick % (pieces.len() - 1);
        let joined = [&*pieces[at], &*pieces[at + 1]].concat();
        let is_token = |piece: &str| !missing.contains(piece);
        if !(sentencepiece || is_token(&pieces[at]) && is_token(&pieces[at + 1])) {
            continue;
        }
        if let Some(id) = add(&mut tokens, &joined) {
            ways.push((pieces[at].clone(), pieces[at + 1].clone(), id));
        }
        pieces.splice(at..at + 2, [joined]);
    }
    let bound = 256 + tokens.len() as TokenId;
    for (left, right, id) in ways {
        let mut symbol = |piece: &str| {
            if let Some((id, _)) = tokens.iter().find(|(_, token)| token == piece.as_bytes()) {
                return *id;
            }
            let c = piece.chars().next().unwrap();
            let at = joining.iter().position(|&known| known == c).unwrap_or_else(|| {
                joining.push(c);
                joining.len() - 1
            });
            bound + at as TokenId
        };
        merges.push(Merge { left: symbol(&left), right: symbol(&right), id });
    }
    let bytes = Some(Box::new(std::array::from_fn(|byte| Some(byte as TokenId))));
    let rules = if sentencepiece { Rules::SentencePiece { joining } } else { Rules::HuggingFace };
    TokenizerParts {
        ranks: sentencepiece.then(|| (0..merges.len() as u32).map(|rank| rank / 2).collect()),
        unreached,
        whole_pretokens: whole,
        pretokenizer: Pretokenizer::Steps(Vec::new()),
        model: Model::Chars(Chars { bytes, unknown: None, rules }),
        normalizer: Normalizer::Replace(Find::literal(" ").unwrap(), "▁".to_owned()),
        ..TokenizerParts::byte_level(tokens, merges, Pattern::of(Family::Cl100k))
    }
}

proptest! {
    #[test]
    fn the_quick_way_over_characters_is_the_slow_one(
        text in "( ?[abc]{1,12}| ?[中文字]{1,9}|é|😀|[ \n]{1,3}|[-=]{1,40}|1|'s){1,30}",
        missing in "[b字é😀\n]{0,3}",
        picks in proptest::collection::vec(any::<usize>(), 0..60),
        sentencepiece in any::<bool>(),
        whole in any::<bool>(),
        texts in proptest::collection::vec("( ?[abcx]{1,20}| ?[中文字国]{1,30}|é|😀|\u{7f}|[ \n▁]{1,3}|[-=]{1,100}|1|'s){0,40}", 1..4),
    ) {
        let made = parts_of_chars(&text, &missing, &picks, sentencepiece, whole);
        let (quick, slow) = (Tokenizer::new(made.clone()).unwrap(), Tokenizer::new(made).unwrap());
        quick.prepare();
        let mut scratch = Scratch::default();
        let in_bytes = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..EncodeOptions::default() };
        for text in texts.iter().chain([&text]).chain(&texts) {
            prop_assert!(quick.quick(text.len()).is_some());
            let expected = slow.encode(text, &in_bytes, &mut scratch).unwrap();
            let found = quick.encode(text, &in_bytes, &mut scratch).unwrap();
            prop_assert_eq!(&found, &expected, "{:?}", text);
            let found = quick.encode(text, &EncodeOptions::default(), &mut scratch).unwrap();
            prop_assert_eq!(&found.ids, &expected.ids, "{:?}", text);
            let stop = expected.ids.len() / 2;
            let count = quick.count(text, &Default::default(), Some(stop), &mut scratch).unwrap();
            prop_assert_eq!(count.exceeded, expected.ids.len() > stop);
        }
    }
}

#[test]
fn a_token_that_merging_does_not_lead_to_is_found_as_a_whole_pretoken_only() {
    let text = "中文字";
    // All of it is a token, and no merge makes it.
    let made = parts(text, &[], &[(0, 7)], true);
    let whole = made.tokens.len() as TokenId - 1;
    let tokenizer = Tokenizer::new(made).unwrap();
    tokenizer.prepare();
    let mut scratch = Scratch::default();
    let mut ids = |text: &str| tokenizer.encode(text, &EncodeOptions::default(), &mut scratch).unwrap().ids;
    for _ in 0..2 {
        assert_eq!(ids(text), [whole]);
        assert_eq!(ids("字中文字中文字").len(), 21);
        assert_eq!(ids("中文字国中文字国中文字").len(), 33, "parts of a pretoken are no pretokens");
    }
}

#[test]
fn merges_with_ranks_of_their_own_go_by_them() {
    let text = "abcabc abcab";
    let mut made = parts(text, &[0, 0, 1, 2, 0, 3], &[], false);
    made.ranks = Some((0..made.merges.len() as u32).rev().collect());
    check(made, &[text.to_owned(), text.repeat(20)]);
}

#[test]
fn threads_that_encode_at_once_do_not_disturb_each_other() {
    let text = "abc abcabc 中文字中文 ".repeat(500);
    let tokenizer = Tokenizer::new(parts(&text, &[3, 8, 1, 30, 7, 22], &[], true)).unwrap();
    let expected = by_definition(&tokenizer, &Pattern::of(Family::Cl100k), &text);
    // One of them makes the tables while the others go on without.
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                for _ in 0..20 {
                    let found = tokenizer.encode(&text, &EncodeOptions::default(), &mut scratch).unwrap();
                    assert_eq!(found.ids, expected);
                }
            });
        }
    });
}
