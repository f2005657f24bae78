//! The quick way to encode against the definition, with the default vocabulary and with one over characters that the input makes:
//! ids, counts and offsets.
#![no_main]

use std::ops::ControlFlow;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vocabd::engine::{
    Chars, EncodeOptions, Encoding, Merge, Model, OffsetUnit, Pattern, Pretokenizer, Rules, Scratch, Tokenizer,
    TokenizerParts, merge_by,
};
use vocabd::formats::{ImportOptions, import};

static DEFAULT: LazyLock<Tokenizer> = LazyLock::new(|| {
    let file = vocabd::cli::open::embedded();
    let tokenizer = import(&file, None, &ImportOptions::default()).expect("the embedded vocabulary");
    tokenizer.prepare();
    tokenizer
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let expected = by_definition(&DEFAULT, &text);
    assert_eq!(encode(&DEFAULT, &text).ids, expected);
    let count = DEFAULT.count(&text, &Default::default(), None, &mut Scratch::default()).expect("no limits");
    assert_eq!(count.tokens, expected.len());

    // The first bytes say which neighbours become tokens, the rest is the text.
    let (picks, text) = data.split_at(data.len() / 4);
    let text = String::from_utf8_lossy(text);
    let (quick, slow) = (over_characters(picks, &text), over_characters(picks, &text));
    quick.prepare();
    // A tokenizer is not prepared by itself before it has seen 64 KiB.
    if text.len() < 32 << 10 {
        assert_eq!(encode(&quick, &text), encode(&slow, &text));
    }
});

fn encode(tokenizer: &Tokenizer, text: &str) -> Encoding {
    let options = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..Default::default() };
    tokenizer.encode(text, &options, &mut Scratch::default()).expect("a scanner never gives up")
}

fn by_definition(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let pattern = tokenizer.pretokenizer().pattern().expect("bytes cut by a pattern");
    let (mut ids, mut scratch) = (Vec::new(), Scratch::default());
    let each = |piece: &str| {
        match tokenizer.vocab().id(piece.as_bytes()).filter(|_| tokenizer.whole_pretokens()) {
            Some(id) => ids.push(id),
            None => {
                let bytes = piece.bytes().map(|byte| tokenizer.vocab().id(&[byte]).expect("each byte is a token"));
                merge_by(&|left, right| tokenizer.table().get(left, right), bytes, &mut scratch, &mut ids);
            }
        }
        ControlFlow::Continue(())
    };
    pattern.for_each(text, each).expect("a scanner never gives up");
    ids
}

/// Every other character of the text is a token, the others become bytes; neighbours at the places of `picks` are merged.
fn over_characters(picks: &[u8], text: &str) -> Tokenizer {
    let bytes = (0..256).map(|byte| (byte, format!("<0x{byte:02X}>").into_bytes())).collect();
    let mut tokens: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut add = |token: &str| match tokens.iter().find(|(_, known)| known == token.as_bytes()) {
        Some(_) => None,
        None => {
            tokens.push((256 + tokens.len() as u32, token.as_bytes().to_vec()));
            tokens.last().map(|(id, _)| *id)
        }
    };
    let mut pieces: Vec<(String, Option<u32>)> = Vec::new();
    let mut ids = std::collections::HashMap::new();
    for c in text.chars().take(64) {
        if u32::from(c) % 2 == 0 && !ids.contains_key(&c) {
            ids.extend(add(&c.to_string()).map(|id| (c, id)));
        }
        pieces.push((c.to_string(), ids.get(&c).copied()));
    }
    let mut merges: Vec<Merge> = Vec::new();
    for &pick in picks {
        let Some(at) = usize::from(pick).checked_rem(pieces.len().saturating_sub(1)) else { break };
        let (Some(left), Some(right)) = (pieces[at].1, pieces[at + 1].1) else { continue };
        let joined = [&*pieces[at].0, &*pieces[at + 1].0].concat();
        if let Some(id) = add(&joined) {
            merges.push(Merge { left, right, id });
            pieces.splice(at..at + 2, [(joined, Some(id))]);
        }
    }
    let by_byte = Some(Box::new(std::array::from_fn(|byte| Some(byte as u32))));
    let pattern = Pattern::of(vocabd::engine::Family::Cl100k);
    Tokenizer::new(TokenizerParts {
        unreached: bytes,
        pretokenizer: Pretokenizer::new(Vec::new()).expect("no steps"),
        model: Model::Chars(Chars { bytes: by_byte, unknown: None, rules: Rules::HuggingFace }),
        ..TokenizerParts::byte_level(tokens, merges, pattern)
    })
    .expect("parts that fit")
}
