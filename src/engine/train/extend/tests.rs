use super::super::{TieBreak, Trained, WordCounts, resume, train};
use super::*;

/// A vocabulary as a trained one becomes.
fn tokenizer(trained: &Trained, pattern: &Pattern) -> Tokenizer {
    let tokens = (0..).zip(trained.tokens.iter().cloned()).collect();
    let merges = trained.merges.iter().map(Merge::from).collect();
    Tokenizer::new(TokenizerParts::byte_level(tokens, merges, pattern.clone())).unwrap()
}

fn counts() -> WordCounts {
    let text = "the then there these thin aaaa aaa aaaaaaaaab banana bandana 中文 中文字 文字 中国人 日本 "
        .repeat(3)
        + "xyxyx yxy zzzz zzz 的的的 lower lowest newest widest";
    let mut counter = std::collections::BTreeMap::new();
    text.split(' ').filter(|word| !word.is_empty()).for_each(|word| *counter.entry(word).or_insert(0) += 1);
    WordCounts::from_pairs(counter).unwrap()
}

fn config(merges: u32) -> TrainConfig {
    TrainConfig { num_merges: Some(merges), min_frequency: 1, ..TrainConfig::new(Pattern::whole()) }
}

#[test]
fn a_run_goes_on_from_any_of_its_merges() {
    for tie_break in [TieBreak::Hf, TieBreak::Bytes] {
        let config = TrainConfig { tie_break, special_tokens: vec!["<s>".to_owned()], ..config(60) };
        let whole = train(&counts(), &config, &mut ()).unwrap();
        for done in 0..=whole.merges.len() {
            let resumed = resume(&counts(), &config, &whole.merges[..done], &mut ()).unwrap();
            assert_eq!(resumed, whole, "after {done} merges");
        }
        let mut wrong = whole.merges.clone();
        wrong[7].id += 1;
        assert_eq!(resume(&counts(), &config, &wrong, &mut ()), Err(TrainError::BadResume { index: 7 }));
        let config = TrainConfig { num_merges: Some(3), ..config };
        let too_many = resume(&counts(), &config, &whole.merges, &mut ());
        assert_eq!(too_many, Err(TrainError::BadResume { index: 3 }));
    }
}

#[test]
fn extending_a_vocabulary_with_its_own_corpus_goes_on_where_it_stopped() {
    let whole = train(&counts(), &config(60), &mut ()).unwrap();
    for done in [0, 1, 7, 30, 59] {
        let start = if done == 0 {
            let none = Trained { tokens: whole.tokens[..256].to_vec(), merges: Vec::new(), ..whole.clone() };
            tokenizer(&none, &Pattern::whole())
        } else {
            tokenizer(&train(&counts(), &config(done), &mut ()).unwrap(), &Pattern::whole())
        };
        let extension = Extension::new(&start, None).unwrap();
        let extended = extension.train(&counts(), &config(60 - done), &[], &mut ()).unwrap();
        assert_eq!(extended.merges, whole.merges[done as usize..]);
        assert_eq!(extended.tokens, whole.tokens[256 + done as usize..]);
        let half = &extended.merges[..extended.merges.len() / 2];
        assert_eq!(extension.train(&counts(), &config(60 - done), half, &mut ()).unwrap(), extended);

        let parts = extension.parts(&extended, Pretokenizer::Pattern(Pattern::whole()));
        let made = Tokenizer::new(parts).unwrap();
        assert_eq!(made.vocab_size(), whole.tokens.len());
        assert_eq!(made.merges().len(), whole.merges.len());
    }
}

#[test]
fn new_ids_follow_the_highest_and_special_tokens_come_last() {
    let first = train(&counts(), &config(5), &mut ()).unwrap();
    let mut parts = {
        let tokens = (0..).zip(first.tokens.iter().cloned()).collect();
        TokenizerParts::byte_level(tokens, first.merges.iter().map(Merge::from).collect(), Pattern::whole())
    };
    parts.specials.push(Special::new("<end>", 1000, true));
    let base = Tokenizer::new(parts).unwrap();
    let extension = Extension::new(&base, None).unwrap();
    let special_tokens = vec!["<end>".to_owned(), "<new>".to_owned()];
    let config = TrainConfig { vocab_size: Some(1010), special_tokens, ..config(50) };
    let extended = extension.train(&counts(), &config, &[], &mut ()).unwrap();
    assert_eq!(extended.stop_reason, StopReason::VocabSize);
    assert_eq!(extended.merges.first().unwrap().id, 1001);
    assert_eq!(extended.merges.last().unwrap().id, 1008);
    assert_eq!(extended.special_tokens, [("<new>".to_owned(), 1009)]);
    let made = Tokenizer::new(extension.parts(&extended, Pretokenizer::Pattern(Pattern::whole()))).unwrap();
    assert_eq!(made.vocab_size(), 1010);
    assert_eq!(made.specials().by_name("<end>").unwrap().id, 1000);
    for id in 0..1001 {
        assert_eq!(made.vocab().bytes(id), base.vocab().bytes(id));
    }

    let config = TrainConfig { vocab_size: Some(1002), ..config };
    let below = TrainError::VocabSizeBelowBase { vocab_size: 1002, base: 1002 };
    assert_eq!(extension.validate(&config), Err(below));
}

#[test]
fn only_the_scripts_asked_for_get_tokens() {
    let base = train(&counts(), &config(1), &mut ()).unwrap();
    let base = tokenizer(&base, &Pattern::whole());
    let han = Scripts::parse(&["Han"]).unwrap();
    let extended = Extension::new(&base, Some(han.clone()))
        .unwrap()
        .train(&counts(), &config(100), &[], &mut ())
        .unwrap();
    assert!(extended.tokens.iter().any(|token| token == "中文".as_bytes()));
    assert!(extended.tokens.iter().all(|token| token.iter().all(|b| *b >= 0x80) && han.allow(token)));
    assert_eq!(extended.stop_reason, StopReason::NothingFrequent);
}

#[test]
fn a_pair_that_spells_a_token_of_the_base_is_left_alone() {
    // "ab" is a token that no merge leads to.
    let mut tokens: Vec<(TokenId, Vec<u8>)> = (0..=255).map(|b| (TokenId::from(b), vec![b])).collect();
    tokens.push((256, b"ab".to_vec()));
    let base = Tokenizer::new(TokenizerParts::byte_level(tokens, Vec::new(), Pattern::whole())).unwrap();
    let counts = WordCounts::from_pairs([("abc", 10), ("bd", 3)]).unwrap();
    let extended = Extension::new(&base, None).unwrap().train(&counts, &config(9), &[], &mut ()).unwrap();
    assert_eq!(extended.tokens, [b"bc".to_vec(), b"abc".to_vec(), b"bd".to_vec()]);
}

#[test]
fn words_become_one_token_each() {
    let base = tokenizer(&train(&counts(), &config(1), &mut ()).unwrap(), &Pattern::parse("qwen2").unwrap());
    let words = WordCounts::from_pairs([("hello", 5), ("help", 5), ("a b", 9), ("a", 1)]).unwrap();
    let config = TrainConfig { num_merges: None, ..TrainConfig::new(Pattern::parse("qwen2").unwrap()) };
    let extension = Extension::new(&base, None).unwrap();
    let (extended, left_out) = extension.train_words(&words, &config, &mut ()).unwrap();
    assert_eq!(left_out, LeftOut { cut: 1, tokens: 1 });
    let tokens: Vec<&str> = extended.tokens.iter().map(|t| std::str::from_utf8(t).unwrap()).collect();
    assert_eq!(tokens, ["el", "hel", "lo", "help", "hello"]);
    assert_eq!(extended.stop_reason, StopReason::NothingFrequent);
}
