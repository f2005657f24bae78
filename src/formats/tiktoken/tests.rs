use super::*;
use crate::engine::{EncodeOptions, Scratch};
use crate::formats::{Format, import};
use proptest::prelude::*;

/// A file of the 256 bytes, ranks by value.
pub(crate) fn bytes_only() -> String {
    (0..=255u8).map(|b| format!("{} {b}\n", STANDARD.encode([b]))).collect()
}

fn cl100k() -> ImportOptions {
    ImportOptions { split: Some("cl100k".into()), ..Default::default() }
}

fn file(tokens: &[&str]) -> String {
    let lines = tokens.iter().zip(256..).map(|(t, rank)| format!("{} {rank}\n", STANDARD.encode(t)));
    bytes_only() + &lines.collect::<String>()
}

#[track_caller]
fn refused(content: &str, expect: &str) {
    assert_eq!(read(content.as_bytes(), &cl100k()).unwrap_err().to_string(), expect);
}

#[test]
fn bad_lines_are_refused_with_their_number() {
    let base = bytes_only();
    refused(&(base.clone() + "YW!= 256\n"), "line 257: the token is not valid base64");
    refused(&(base.clone() + "YWI=256\n"), "line 257: is not `base64 rank`");
    refused(&(base.clone() + "YWI= 12x\n"), "line 257: the rank is not a whole number");
    refused(&(base.clone() + "YWI= -1\n"), "line 257: the rank is not a whole number");
    refused(&(base.clone() + "YWI= 4294967296\n"), "line 257: the rank is over 4294967295");
    refused(&(base.clone() + " 256\n"), "line 257: the token is empty");
    refused(&(base.clone() + "YWI= 255\n"), "line 257: rank 255 is given twice");
    refused(&(base.clone() + "YWI= 256\nYWI= 257\n"), "line 258: token 257 has the bytes of token 256");
    refused(&(base.clone() + "YWI= 300\nYWI= 257\n"), "line 258: token 257 has the bytes of token 300");
    refused(
        &(base + "YWI= 4000000000\n"),
        "line 257: token id 4000000000 is over the limit of 1000514 for this number of tokens",
    );
}

#[test]
fn a_missing_byte_is_named() {
    let without: String =
        bytes_only().lines().filter(|l| !l.ends_with(" 65")).map(|l| format!("{l}\n")).collect();
    refused(&without, "byte 0x41 is no token; a byte-level vocabulary needs all 256");
}

#[test]
fn a_file_not_known_needs_its_split() {
    let error = read(bytes_only().as_bytes(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, FormatError::Option { option: "split", .. }));
    let options = ImportOptions { split: Some("(".into()), ..Default::default() };
    assert!(matches!(
        read(bytes_only().as_bytes(), &options),
        Err(FormatError::Option { option: "split", .. })
    ));
}

#[test]
fn gaps_carriage_returns_and_blank_lines_survive() {
    let content = bytes_only().replace('\n', "\r\n") + "\r\nYWI= 400\r\n";
    let t = import(content.as_bytes(), None, &cl100k()).unwrap();
    assert_eq!((t.vocab().id(b"ab"), t.vocab_size(), t.vocab().len()), (Some(400), 401, 257));
    let written = write(&t).unwrap();
    assert_eq!(Format::detect(&written), Some(Format::Tiktoken));
    assert_eq!(write(&read(&written, &cl100k()).unwrap()).unwrap(), written);
    assert!(String::from_utf8(written).unwrap().ends_with("YWI= 400\n"));
}

/// Byte pair encoding straight from the definition in the tiktoken package: join the neighbours whose bytes have the
/// lowest rank, leftmost first; a whole pretoken that is a token is that token.
fn naive(vocab: &Vocab, text: &str) -> Vec<TokenId> {
    if let Some(id) = vocab.id(text.as_bytes()) {
        return vec![id];
    }
    let mut parts: Vec<Vec<u8>> = text.bytes().map(|b| vec![b]).collect();
    loop {
        let best =
            parts.windows(2).enumerate().filter_map(|(at, p)| Some((vocab.id(&p.concat())?, at))).min();
        let Some((_, at)) = best else { break };
        let joined = parts[at..at + 2].concat();
        parts.splice(at..at + 2, [joined]);
    }
    parts.iter().map(|p| vocab.id(p).unwrap()).collect()
}

proptest! {
    /// Any set of tokens in any order: among them tokens that no merge reaches, and some that rank before their parts.
    #[test]
    fn derived_merges_match_naive(tokens in proptest::collection::hash_set("[ab]{2,6}", 0..40), text in "[ab]{1,90}") {
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let t = read(file(&tokens).as_bytes(), &cl100k()).unwrap();
        let ids = t.encode(&text, &EncodeOptions::default(), &mut Scratch::default()).unwrap().ids;
        prop_assert_eq!(ids, naive(t.vocab(), &text));
        let written = write(&t).unwrap();
        prop_assert_eq!(written, file(&tokens).into_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = import(&bytes, Some(Format::Tiktoken), &cl100k());
        let _ = import(&bytes, None, &ImportOptions::default());
    }
}

fn of_split(split: &str, normalizer: Option<&str>) -> Tokenizer {
    let options = ImportOptions {
        split: Some(split.into()),
        normalizer: normalizer.map(str::to_owned),
        special: [("<|\"end\"|>".to_owned(), 256)].into(),
        ..Default::default()
    };
    read(bytes_only().as_bytes(), &options).unwrap()
}

/// What Python makes of it is in tests/cross/export.py.
#[test]
fn a_python_module_says_what_the_file_does_not() {
    let module = python(&of_split(r"\d+|\D", Some("nfc")), "my \"own\".tiktoken").unwrap();
    assert_eq!(
        module,
        r#"import base64
import pathlib
import unicodedata

import tiktoken

with open(pathlib.Path(__file__).with_name("my \"own\".tiktoken"), "rb") as file:
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, file)}

encoding = tiktoken.Encoding(
    name="my \"own\"",
    pat_str=r"""(?:\d+|\D)|(?s:.)+?(?=(?:\d+|\D)|\z)""",
    mergeable_ranks=ranks,
    special_tokens={
        "<|\"end\"|>": 256,
    },
)


def encode(text, **options):
    """Encodes a text in the form that the vocabulary is made for."""
    return encoding.encode(unicodedata.normalize("NFC", text), **options)
"#
    );
    let module = python(&of_split("gpt2", None), "x.tiktoken").unwrap();
    assert!(
        module.contains(r#"pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++|"#) && !module.contains("def encode")
    );
    assert!(python(&of_split("none", None), "x").unwrap().contains(r#"pat_str="(?s:.+)""#));
}

#[test]
fn a_split_that_tiktoken_cannot_have_has_no_python_module() {
    let refused = python(&of_split("deepseek", None), "x.tiktoken").unwrap_err();
    assert!(refused.to_string().contains("a sequence of patterns"), "{refused}");
}
