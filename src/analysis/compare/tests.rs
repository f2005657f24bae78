use super::*;
use crate::engine::{
    Decoder, Merge, Normalizer, Pattern, Pretokenizer, TokenizerParts, UnigramFlavour, UnigramParts,
    UnigramPiece,
};
use crate::engine::{PieceKind, Unigram};
use proptest::prelude::*;

/// Bytes, and some words as whole pretokens.
fn bytes(words: &[&str]) -> Tokenizer {
    let mut tokens: Vec<(TokenId, Vec<u8>)> = (0..=255u8).map(|byte| (u32::from(byte), vec![byte])).collect();
    tokens.extend((256..).zip(words).map(|(id, word)| (id, word.as_bytes().to_vec())));
    let pattern = Pattern::parse("cl100k").unwrap();
    let merges: Vec<Merge> = Vec::new();
    let parts =
        TokenizerParts { whole_pretokens: true, ..TokenizerParts::byte_level(tokens, merges, pattern) };
    Tokenizer::new(parts).unwrap()
}

fn pieces(byte_fallback: bool, flavour: UnigramFlavour) -> Tokenizer {
    let mut names = vec!["<unk>".to_owned(), "a".to_owned(), "世".to_owned(), "abc".to_owned()];
    names.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let kind = |id: usize| match id {
        _ if flavour == UnigramFlavour::HuggingFace => PieceKind::Normal,
        0 => PieceKind::Unknown,
        1..4 => PieceKind::Normal,
        _ => PieceKind::Byte,
    };
    let pieces =
        names.iter().enumerate().map(|(id, text)| UnigramPiece { text, score: -1.0, kind: kind(id) });
    let parts = UnigramParts { pieces: pieces.collect(), unk: Some(0), byte_fallback, flavour };
    let tokens = (0..).zip(&names).map(|(id, name)| (id, name.as_bytes().to_vec())).collect();
    Tokenizer::new(TokenizerParts {
        model: Model::Unigram(Box::new(Unigram::new(&parts).unwrap())),
        pretokenizer: Pretokenizer::Steps(Vec::new()),
        normalizer: Normalizer::None,
        decoder: Decoder::Bytes,
        ..TokenizerParts::byte_level(tokens, Vec::new(), Pattern::whole())
    })
    .unwrap()
}

#[track_caller]
fn check(tokenizer: &Tokenizer, text: &str, expect: &[(Script, [u64; 5])]) {
    let mut measure = Measure::new(tokenizer);
    measure.add(text, &mut Scratch::default()).unwrap();
    let found: Vec<_> = measure
        .fragmentation()
        .map(|(script, f)| (script, [f.characters, f.whole, f.split, f.unknown, f.tokens]))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn characters_are_whole_split_or_unknown() {
    let t = bytes(&["hello", " hello", "世", "世界"]);
    check(
        &t,
        "hello 世",
        &[(Script::Han, [1, 0, 1, 0, 3]), (Script::Latin, [5, 5, 0, 0, 1]), (Script::Space, [1, 1, 0, 0, 1])],
    );
    check(&t, "世界", &[(Script::Han, [2, 2, 0, 0, 1])]);
    check(&t, "😀1", &[(Script::Digit, [1, 1, 0, 0, 1]), (Script::Emoji, [1, 0, 1, 0, 4])]);
    for flavour in [UnigramFlavour::HuggingFace, UnigramFlavour::SentencePiece] {
        let t = pieces(true, flavour);
        let expect = [(Script::Han, [2, 1, 1, 0, 4]), (Script::Latin, [1, 1, 0, 0, 1])];
        check(&t, "a世界", &expect);
        // The token of a byte is the whole of a character of one byte.
        check(&t, "\n", &[(Script::Space, [1, 1, 0, 0, 1])]);
        let t = pieces(false, flavour);
        let expect = [(Script::Han, [3, 1, 0, 2, 2]), (Script::Latin, [1, 1, 0, 0, 1])];
        check(&t, "a世界界", &expect);
    }
}

#[test]
fn words_are_told_by_the_tokens_that_they_are_in() {
    let t = bytes(&["hello", " hello"]);
    let mut measure = Measure::new(&t);
    assert_eq!((measure.tokens_per_word(), measure.one_token_words()), (None, None));
    measure.add("hello hello, xy!", &mut Scratch::default()).unwrap();
    assert_eq!(measure.tokens_per_word(), Some(4.0 / 3.0));
    assert_eq!(measure.one_token_words(), Some(2.0 / 3.0));
}

#[test]
fn percentiles_are_those_of_the_nearest_rank() {
    let t = bytes(&[]);
    let mut measure = Measure::new(&t);
    assert_eq!(measure.percentile(50), None);
    for len in 1..=20 {
        measure.add(&"x".repeat(len), &mut Scratch::default()).unwrap();
    }
    assert_eq!([0, 1, 50, 95, 96, 100].map(|p| measure.percentile(p).unwrap()), [1, 1, 10, 19, 20, 20]);
    assert_eq!((measure.most(), measure.tokens), (Some(20), 210));
}

#[test]
fn a_long_run_of_unknown_characters_takes_linear_time() {
    for flavour in [UnigramFlavour::HuggingFace, UnigramFlavour::SentencePiece] {
        let t = pieces(true, flavour);
        let begin = std::time::Instant::now();
        let mut measure = Measure::new(&t);
        measure.add(&"界".repeat(100_000), &mut Scratch::default()).unwrap();
        assert!(begin.elapsed().as_secs() < 10, "{flavour:?}: {:?}", begin.elapsed());
    }
}

proptest! {
    /// Figures of bytes against the definition: which tokens hold which bytes.
    #[test]
    fn figures_match_naive(text in "(hello| hello|世界|世|界|é|😀| |\n|12|[a-z]{1,4}|\\PC){0,40}") {
        let t = bytes(&["hello", " hello", "世", "世界", "12"]);
        let mut measure = Measure::new(&t);
        let encoding = measure.add(&text, &mut Scratch::default()).unwrap();
        let mut owner = Vec::new();
        for (index, &id) in encoding.ids.iter().enumerate() {
            owner.extend(vec![index; t.vocab().bytes(id).unwrap().len()]);
        }
        let mut expect = [Fragmentation::default(); Script::ALL.len()];
        for (at, c) in text.char_indices() {
            let f = &mut expect[Script::ALL.iter().position(|s| *s == Script::of(c)).unwrap()];
            let (start, end) = (at, at + c.len_utf8());
            f.characters += 1;
            f.whole += u64::from(owner[start] == owner[end - 1]);
            f.split += u64::from(owner[start] != owner[end - 1]);
            let last = |index: usize| owner.iter().rposition(|&o| o == index).unwrap() + 1;
            f.tokens += (0..encoding.ids.len()).filter(|&index| start < last(index) && last(index) <= end).count() as u64;
        }
        prop_assert_eq!(measure.fragments, expect);
        let words: Vec<(usize, usize)> =
            text.unicode_word_indices().map(|(at, word)| (at, at + word.len())).collect();
        let touching = |&(start, end): &(usize, usize)| (owner[end - 1] - owner[start] + 1) as u64;
        prop_assert_eq!(measure.word_tokens, words.iter().map(touching).sum::<u64>());
        prop_assert_eq!(measure.whole_words, words.iter().filter(|word| touching(word) == 1).count() as u64);
        prop_assert_eq!(measure.words, words.len() as u64);
        prop_assert_eq!(measure.fragmentation().map(|(_, f)| f.tokens).sum::<u64>(), measure.tokens);
    }
}
