use super::*;
use crate::engine::{Merge, OnSpecial, Pattern, Special, SpecialPolicy, TokenizerParts};
use proptest::prelude::*;

/// A byte-level vocabulary: the bytes, then each prefix of each word, merged from the left.
fn tokenizer(words: &[&str], pattern: &str) -> Tokenizer {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut merges = Vec::new();
    for word in words {
        for end in 2..=word.len() {
            let token = word.as_bytes()[..end].to_vec();
            if !tokens.contains(&token) {
                let left = tokens.iter().position(|t| *t == word.as_bytes()[..end - 1]).unwrap() as u32;
                let right = u32::from(word.as_bytes()[end - 1]);
                merges.push(Merge { left, right, id: tokens.len() as u32 });
                tokens.push(token);
            }
        }
    }
    let tokens = (0..).zip(tokens).collect();
    let parts = TokenizerParts::byte_level(tokens, merges, Pattern::parse(pattern).unwrap());
    let specials = vec![Special::new("<end>", 9000, true)];
    Tokenizer::new(TokenizerParts { specials, whole_pretokens: true, ..parts }).unwrap()
}

fn words() -> Tokenizer {
    tokenizer(&["hello", " hello", " help", "世界", " 12", "...", "aaaa", "ab", "\n\n"], "cl100k")
}

fn cut(
    tokenizer: &Tokenizer,
    text: &str,
    size: usize,
    overlap: usize,
    boundary: Boundary,
) -> Result<Vec<Chunk>, ChunkError> {
    let matcher = tokenizer.matcher(&SpecialPolicy::default()).unwrap();
    let options =
        ChunkOptions { size, overlap, boundary, add_special: false, matcher: &matcher, max_chunks: 1 << 20 };
    chunks(tokenizer, text, &options, &mut Scratch::default())
}

/// That the promises hold, by counting each chunk anew.
#[track_caller]
fn holds(tokenizer: &Tokenizer, text: &str, size: usize, overlap: usize, chunks: &[Chunk]) {
    let count = |text: &str| {
        tokenizer.encode(text, &EncodeOptions::default(), &mut Scratch::default()).unwrap().ids.len()
    };
    let (mut start, mut end) = (0, 0);
    for (index, chunk) in chunks.iter().enumerate() {
        assert!(text.is_char_boundary(chunk.start) && text.is_char_boundary(chunk.end));
        assert!(chunk.end > end && (index == 0 || chunk.start > start), "{chunk:?} behind {start}..{end}");
        assert!(chunk.start <= end, "a gap before {chunk:?}");
        let own = &text[chunk.start..chunk.end];
        assert_eq!(chunk.count, count(own), "{own:?}");
        assert!(chunk.count <= size, "{own:?} has {} tokens", chunk.count);
        assert_eq!(chunk.char_start, text[..chunk.start].chars().count());
        assert_eq!(chunk.char_end, text[..chunk.end].chars().count());
        let repeated = count(&text[chunk.start..end]);
        assert!(repeated <= overlap, "{repeated} tokens are repeated");
        (start, end) = (chunk.start, chunk.end);
    }
    assert_eq!(end, text.len());
    if overlap == 0 {
        let joined: String = chunks.iter().map(|c| &text[c.start..c.end]).collect();
        assert_eq!(joined, text);
    }
}

#[track_caller]
fn check(text: &str, size: usize, overlap: usize, boundary: Boundary, expect: &[&str]) {
    let tokenizer = words();
    let made = cut(&tokenizer, text, size, overlap, boundary).unwrap();
    holds(&tokenizer, text, size, overlap, &made);
    let found: Vec<&str> = made.iter().map(|c| &text[c.start..c.end]).collect();
    assert_eq!(found, expect);
}

#[test]
fn chunks_are_as_long_as_they_may_be() {
    check("", 3, 0, Boundary::Token, &[]);
    check("hello", 1, 0, Boundary::Token, &["hello"]);
    check("hello hello hello", 2, 0, Boundary::Token, &["hello hello", " hello"]);
    check("hello hello hello", 9, 0, Boundary::Token, &["hello hello hello"]);
    check("hello hello hello hello", 3, 1, Boundary::Token, &["hello hello hello", " hello hello"]);
    // Each of these is four bytes of its own: a cut inside one would be no cut between characters.
    check("😀😀😀", 9, 0, Boundary::Token, &["😀😀", "😀"]);
    check("😀世界", 5, 0, Boundary::Token, &["😀世界"]);
}

#[test]
fn wider_boundaries_are_kept_where_they_fit_and_give_way_where_they_do_not() {
    let text = "hello hello. hello\nhello help";
    // The line is over the size and has no sentences: a small letter follows the full stop.
    check(text, 4, 0, Boundary::Line, &["hello hello. hello", "\nhello help"]);
    check(text, 6, 0, Boundary::Line, &["hello hello. hello\n", "hello help"]);
    check("世界。世界 hello. 世 help.", 6, 0, Boundary::Line, &["世界。", "世界 hello. ", "世 help."]);
    check("世界。世界 hello. 世 help.", 6, 0, Boundary::Sentence, &["世界。", "世界 hello. ", "世 help."]);
    // `xhello` is one word of two tokens and more.
    check("hello xhello", 3, 0, Boundary::Token, &["hello x", "hello"]);
    check("hello xhello", 3, 0, Boundary::Word, &["hello ", "xhello"]);
    check("xhellox", 2, 0, Boundary::Word, &["xhello", "x"]);
}

#[test]
fn what_cannot_be_is_told() {
    let tokenizer = words();
    let cut = |text, size, overlap| cut(&tokenizer, text, size, overlap, Boundary::Word).unwrap_err();
    assert_eq!(cut("a", 2, 2), ChunkError::Overlap);
    assert_eq!(cut("ab 😀", 3, 0), ChunkError::SizeTooSmall { offset: 3 });
    assert_eq!(cut("ab 😀", 3, 2), ChunkError::SizeTooSmall { offset: 3 });
    let matcher = tokenizer.matcher(&SpecialPolicy::default()).unwrap();
    let options = ChunkOptions {
        size: 1,
        overlap: 0,
        boundary: Boundary::Token,
        add_special: false,
        matcher: &matcher,
        max_chunks: 3,
    };
    let scratch = &mut Scratch::default();
    assert_eq!(chunks(&tokenizer, "xyzx", &options, scratch).unwrap_err(), ChunkError::TooMany { limit: 3 });
    assert_eq!(chunks(&tokenizer, "xyz", &options, scratch).unwrap().len(), 3);
    let long = "word ".repeat(1 << 15);
    let wide = ChunkOptions { size: 5000, overlap: 4999, max_chunks: 1 << 10, ..options };
    let error = chunks(&tokenizer, &long, &wide, scratch).unwrap_err();
    assert!(matches!(error, ChunkError::TooLong { .. }), "{error:?}");
    let policy = SpecialPolicy { others: OnSpecial::Error, ..SpecialPolicy::default() };
    let matcher = tokenizer.matcher(&policy).unwrap();
    let error = chunks(&tokenizer, "a <end>", &ChunkOptions { matcher: &matcher, ..options }, scratch);
    assert_eq!(error.unwrap_err(), ChunkError::Encode(EncodeError::SpecialNotAllowed { offset: 2 }));
}

#[test]
fn special_tokens_are_not_cut_where_they_are_parsed() {
    let tokenizer = words();
    let policy = SpecialPolicy { others: OnSpecial::Parse, ..SpecialPolicy::default() };
    let matcher = tokenizer.matcher(&policy).unwrap();
    let options = ChunkOptions {
        size: 2,
        overlap: 0,
        boundary: Boundary::Token,
        add_special: false,
        matcher: &matcher,
        max_chunks: 99,
    };
    let made = chunks(&tokenizer, "x<end>yz", &options, &mut Scratch::default()).unwrap();
    assert_eq!(made.iter().map(|c| (c.end, c.count)).collect::<Vec<_>>(), [(6, 2), (8, 2)]);
}

#[test]
fn hostile_texts_take_near_linear_time() {
    // Runs, and one pretoken as long as the text.
    for (pattern, unit) in [
        ("cl100k", "a"),
        ("cl100k", " "),
        ("cl100k", "aaaaab"),
        ("cl100k", "a. "),
        ("cl100k", "\n"),
        ("none", "hello "),
        ("none", "世界"),
    ] {
        let tokenizer = tokenizer(&["aaaa", "ab", "hello", "世界"], pattern);
        let text = unit.repeat((1 << 16) / unit.len());
        for boundary in [Boundary::Token, Boundary::Sentence] {
            for (size, overlap) in [(3, 0), (100, 0), (100, 20), (50_000, 10)] {
                let begin = std::time::Instant::now();
                let made = cut(&tokenizer, &text, size, overlap, boundary).unwrap();
                assert_eq!(made.last().unwrap().end, text.len());
                let took = begin.elapsed();
                assert!(took.as_secs() < 20, "{pattern} {unit:?} {size} {overlap} {boundary:?}: {took:?}");
            }
        }
    }
}

fn any_boundary() -> impl Strategy<Value = Boundary> {
    prop::sample::select(vec![Boundary::Token, Boundary::Word, Boundary::Sentence, Boundary::Line])
}

proptest! {
    #[test]
    fn the_promises_hold_for_any_text(
        text in "(hello| hello| help|世界|世|😀|e\u{301}|\\.\\.\\.|\\. |aaaa|a|b|\n|\r\n|  |12|'s| [a-z]{1,3}|\\PC){0,60}",
        size in 1usize..24,
        overlap in 0usize..24,
        boundary in any_boundary(),
        pattern in prop::sample::select(vec!["cl100k", "none", "gpt2", r"\S+|a+(?=b)|\s+"]),
    ) {
        let overlap = overlap % size;
        let tokenizer = tokenizer(&["hello", " hello", " help", "世界", " 12", "...", "aaaa", "ab", "\n\n"], pattern);
        match cut(&tokenizer, &text, size, overlap, boundary) {
            Ok(made) => holds(&tokenizer, &text, size, overlap, &made),
            Err(ChunkError::SizeTooSmall { offset }) => {
                let own = text[offset..].chars().next().unwrap().to_string();
                let count = tokenizer.encode(&own, &EncodeOptions::default(), &mut Scratch::default());
                prop_assert!(count.unwrap().ids.len() > size);
            }
            Err(error) => prop_assert!(false, "{:?}", error),
        }
    }
}
