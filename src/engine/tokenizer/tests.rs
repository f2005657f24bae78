use super::*;
use crate::engine::OnSpecial;
use crate::engine::{
    Count, DecodeError, DecodeStream, EncodeError, EncodeOptions, Keep, OffsetUnit, Scratch, SpecialPolicy,
};
use proptest::prelude::*;

/// All bytes, a few merges, a gap at 300 and special tokens on both sides of it.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<(TokenId, Vec<u8>)> = (0..=255u8).map(|b| (u32::from(b), vec![b])).collect();
    let mut merges = vec![];
    for (i, (left, right)) in [("a", "b"), ("ab", "ab"), (" ", "a"), ("c", "c")].into_iter().enumerate() {
        let id = |s: &str, tokens: &[(u32, Vec<u8>)]| tokens.iter().find(|t| t.1 == s.as_bytes()).unwrap().0;
        let (l, r) = (id(left, &tokens), id(right, &tokens));
        let merged = 256 + i as u32;
        tokens.push((merged, format!("{left}{right}").into_bytes()));
        merges.push(Merge { left: l, right: r, id: merged });
    }
    Tokenizer::new(TokenizerParts {
        specials: vec![
            Special::new("<s>", 260, true),
            Special::new("</s>", 301, true),
            Special::new("<tool>", 302, false),
        ],
        normalizer: Normalizer::NFC,
        whole_pretokens: true,
        ..TokenizerParts::byte_level(tokens, merges, Pattern::parse("cl100k").unwrap())
    })
    .unwrap()
}

const PARSE: SpecialPolicy<'static> = SpecialPolicy { allowed: &[], others: OnSpecial::Parse };

#[track_caller]
fn check(text: &str, options: &EncodeOptions<'_>, ids: &[TokenId]) {
    let t = tokenizer();
    let encoding = t.encode(text, options, &mut Scratch::default()).unwrap();
    assert_eq!(encoding.ids, ids);
}

#[test]
fn merges_and_specials_are_applied() {
    let parse = EncodeOptions { special: PARSE, ..Default::default() };
    check("", &parse, &[]);
    check("abab ab", &parse, &[257, 32, 256]);
    check("<s>ab</s>", &parse, &[260, 256, 301]);
    check("<s>", &EncodeOptions::default(), &[60, 115, 62]);
    check("a<tool>b", &EncodeOptions::default(), &[97, 302, 98]);
}

#[test]
fn max_tokens_keeps_either_end() {
    let t = tokenizer();
    let encode = |keep, max| {
        let o = EncodeOptions {
            max_tokens: Some(max),
            keep,
            offsets: Some(OffsetUnit::Byte),
            ..Default::default()
        };
        t.encode("ab x cc", &o, &mut Scratch::default()).unwrap()
    };
    let all = encode(Keep::Start, 100);
    assert!(!all.truncated);
    let first = encode(Keep::Start, 2);
    assert_eq!((&first.ids[..], &first.spans[..], first.truncated), (&all.ids[..2], &all.spans[..2], true));
    let last = encode(Keep::End, 2);
    let tail = all.ids.len() - 2;
    assert_eq!(
        (&last.ids[..], &last.spans[..], last.truncated),
        (&all.ids[tail..], &all.spans[tail..], true)
    );
    let exact = encode(Keep::Start, all.ids.len());
    assert_eq!((exact.ids.len(), exact.truncated), (all.ids.len(), false));
}

#[test]
fn encoding_stops_when_it_is_told_to() {
    let (t, text) = (tokenizer(), "ab x cc ".repeat(10_000));
    let scratch = &mut Scratch::default();
    for offsets in [None, Some(OffsetUnit::Byte)] {
        let options = EncodeOptions { offsets, ..EncodeOptions::default() };
        scratch.stop_on(Some(std::sync::Arc::new(true.into())));
        assert_eq!(t.encode(&text, &options, scratch), Err(EncodeError::Stopped));
        assert_eq!(t.count(&text, &options.special, None, scratch), Err(EncodeError::Stopped));
        scratch.stop_on(None);
        assert!(t.encode(&text, &options, scratch).is_ok());
    }
}

#[test]
fn a_name_that_is_not_allowed_is_an_error_wherever_it_stands() {
    let t = tokenizer();
    let special = SpecialPolicy { allowed: &[], others: OnSpecial::Error };
    let options = EncodeOptions { special, max_tokens: Some(1), ..Default::default() };
    let error = t.encode("ab ab ab </s>", &options, &mut Scratch::default()).unwrap_err();
    assert_eq!(error, EncodeError::SpecialNotAllowed { offset: 9 });
}

#[test]
fn offsets_lead_to_the_original_text_through_normalization() {
    let t = tokenizer();
    let options = EncodeOptions { offsets: Some(OffsetUnit::Char), special: PARSE, ..Default::default() };
    let encoding = t.encode("ae\u{301}<s>b", &options, &mut Scratch::default()).unwrap();
    let spans: Vec<_> = encoding.spans.iter().map(|s| (s.start, s.end)).collect();
    // a, the two bytes of é (both with the whole sequence e + accent), <s>, b
    assert_eq!(spans, [(0, 1), (1, 2), (1, 2), (3, 6), (6, 7)]);
}

#[test]
fn counting_stops_at_its_limit() {
    let t = tokenizer();
    t.prepare();
    let text = "x y z ab ".repeat(1000);
    let count = |limit| t.count(&text, &PARSE, limit, &mut Scratch::default()).unwrap();
    let all = count(None);
    assert_eq!((count(Some(all.tokens)).exceeded, all.exceeded), (false, false));
    let stopped = count(Some(2));
    assert!(stopped.exceeded && stopped.tokens > 2 && stopped.tokens < all.tokens);
    // What is long does not wait for what comes behind it.
    let text = format!("{} ", "ab".repeat(3000)).repeat(40);
    let count = |limit| t.count(&text, &PARSE, limit, &mut Scratch::default()).unwrap();
    let (all, stopped) = (count(None), count(Some(2)));
    assert!(stopped.exceeded && stopped.tokens < all.tokens / 4, "{stopped:?} {all:?}");
}

#[test]
fn decoding_names_the_unknown_id() {
    let t = tokenizer();
    assert_eq!(t.decode_bytes(&[97, 300], false).unwrap_err(), DecodeError::UnknownId { index: 1, id: 300 });
    assert_eq!(
        t.decode_bytes(&[4_000_000_000], false).unwrap_err(),
        DecodeError::UnknownId { index: 0, id: 4_000_000_000 }
    );
    assert_eq!(t.decode_bytes(&[260, 97, 302, 301], false).unwrap(), b"<s>a<tool></s>");
    assert_eq!(t.decode_bytes(&[260, 97, 302, 301], true).unwrap(), b"a<tool>");
}

#[test]
fn bad_parts_are_refused() {
    let bytes = || (0..=255u8).map(|b| (u32::from(b), vec![b])).collect();
    let parts = || TokenizerParts::byte_level(bytes(), vec![], Pattern::parse("cl100k").unwrap());
    let mut p = parts();
    p.tokens.remove(0x41);
    assert_eq!(Tokenizer::new(p).unwrap_err(), TokenizerError::MissingByte { byte: 0x41 });
    for (left, right, id) in [(97, 98, 400), (97, 98, 256), (97, 256, 256)] {
        let mut p = parts();
        p.tokens.push((256, b"ba".to_vec()));
        p.merges.push(Merge { left, right, id });
        assert_eq!(Tokenizer::new(p).unwrap_err(), TokenizerError::BadMerge { index: 0, left, right, id });
    }
}

proptest! {
    #[test]
    fn decoding_gives_back_the_normalized_text(text in "(\\PC|[ab c\\u{301}\\n]|<s>|</s>){0,40}") {
        let t = tokenizer();
        for special in [PARSE, SpecialPolicy::default()] {
            let ids = t.encode(&text, &EncodeOptions { special, ..Default::default() }, &mut Scratch::default()).unwrap().ids;
            // Text between special tokens is normalized apart from them.
            let expect = match special.others {
                OnSpecial::Text => Normalizer::NFC.apply(&text).unwrap().into_owned(),
                _ => String::from_utf8(t.decode_bytes(&ids, false).unwrap()).unwrap(),
            };
            prop_assert_eq!(String::from_utf8(t.decode_bytes(&ids, false).unwrap()).unwrap(), expect);
            let counted = t.count(&text, &special, None, &mut Scratch::default()).unwrap();
            prop_assert_eq!(counted, Count { tokens: ids.len(), exceeded: false });
        }
    }

    #[test]
    fn spans_cover_the_text_in_order(text in "([ab c\\u{301}\\n中😀é]|<s>){0,40}") {
        let t = tokenizer();
        let options = EncodeOptions { offsets: Some(OffsetUnit::Byte), special: PARSE, ..Default::default() };
        let encoding = t.encode(&text, &options, &mut Scratch::default()).unwrap();
        prop_assert_eq!(encoding.ids.len(), encoding.spans.len());
        // Of characters that were composed the first one has the place of all: the others are in no span.
        let unchanged = Normalizer::NFC.apply(&text).unwrap() == text;
        prop_assert!(!unchanged || encoding.spans.last().map_or(0, |s| s.end) == text.len());
        prop_assert_eq!(encoding.spans.first().map_or(0, |s| s.start), 0);
        for pair in encoding.spans.windows(2) {
            prop_assert!(pair[0].start <= pair[1].start);
            prop_assert!(!unchanged || pair[1].start <= pair[0].end);
        }
    }

    #[test]
    fn decoding_matches_naive(
        ids in proptest::collection::vec(prop_oneof![0u32..262, 97u32..100, 0xe4u32..0xe6, 0x80u32..0xc0], 0..60),
        skip: bool,
    ) {
        let t = tokenizer();
        let known = ids.iter().position(|&id| t.vocab().bytes(id).is_none());
        if let Some(index) = known {
            let unknown = DecodeError::UnknownId { index, id: ids[index] };
            prop_assert_eq!(t.decode(&ids, skip).unwrap_err(), unknown.clone());
            prop_assert_eq!(t.decoded_len(&ids, skip).unwrap_err(), unknown);
            return Ok(());
        }
        let told = ids.iter().filter(|&&id| !(skip && t.is_special(id)));
        let bytes: Vec<u8> = told.flat_map(|&id| t.vocab().bytes(id).unwrap().to_vec()).collect();
        prop_assert_eq!(t.decoded_len(&ids, skip).unwrap(), bytes.len() as u64);
        let decoded = t.decode(&ids, skip).unwrap();
        prop_assert_eq!(decoded.valid, std::str::from_utf8(&bytes).is_ok());
        prop_assert_eq!(decoded.text, String::from_utf8_lossy(&bytes));
        prop_assert_eq!(t.decode_bytes(&ids, skip).unwrap(), bytes);
    }

    #[test]
    fn a_stream_gives_the_lossy_text_and_never_half_a_character(ids in proptest::collection::vec(0u32..256, 0..40)) {
        let t = tokenizer();
        let whole = String::from_utf8_lossy(&t.decode_bytes(&ids, false).unwrap()).into_owned();
        let mut stream = DecodeStream::new(&t, false);
        let mut joined = String::new();
        for &id in &ids {
            joined.push_str(&stream.push(id).unwrap());
        }
        joined.push_str(&stream.finish());
        prop_assert_eq!(joined, whole);
    }
}
