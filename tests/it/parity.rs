//! Ids, offsets and texts of the reference implementations, for the published tiktoken vocabularies.

use crate::data;
use base64::Engine as _;
use serde::Deserialize;
use vocabd::engine::{EncodeOptions, OffsetUnit, OnSpecial, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{Format, ImportOptions, export, import};

const TIKTOKEN: [&str; 5] = ["cl100k_base", "o200k_base", "r50k_base", "p50k_base", "qwen"];

#[derive(Deserialize)]
struct Case {
    n: u64,
    text: String,
    ids: Vec<u32>,
    ids_special: Option<Vec<u32>>,
    char_starts: Vec<usize>,
    decoded: Option<String>,
    nfc: Option<bool>,
    ids_no_nfc: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct DecodeCase {
    ids: Vec<u32>,
    decoded: Option<String>,
    decoded_b64: Option<String>,
    lossy: Option<String>,
    error: Option<serde_json::Value>,
}

fn lines<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Vec<T> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A tokenizer, the file it was read from, and its goldens.
type Reference = (Tokenizer, Vec<u8>, Vec<Case>, Vec<DecodeCase>);

/// The full set where it is, else the small one in the repository.
fn load(vocab: &str) -> Option<Reference> {
    let small = vocab == "cl100k_base";
    let read = |path: String| data::shared(&path).or_else(|| small.then(|| data::local(&path)));
    let file = read(format!("vocabs/{vocab}.tiktoken"))?;
    let tokenizer = import(&file, None, &ImportOptions::default()).unwrap();
    let cases = lines(&read(format!("golden/{vocab}.jsonl"))?);
    let decode = lines(&read(format!("golden/{vocab}.decode.jsonl"))?);
    Some((tokenizer, file, cases, decode))
}

/// Differences of one tokenizer from its goldens, by number of the case.
fn differences(t: &Tokenizer, cases: &[Case], decode: &[DecodeCase]) -> Vec<String> {
    let mut scratch = Scratch::default();
    let mut differ = Vec::new();
    let parse = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
    for case in cases {
        let mut check = |what: &str, same: bool| {
            if !same {
                differ.push(format!("{} of text {}", what, case.n));
            }
        };
        let plain = EncodeOptions { offsets: Some(OffsetUnit::Char), ..Default::default() };
        let encoding = t.encode(&case.text, &plain, &mut scratch).unwrap();
        check("ids", encoding.ids == case.ids);
        let unspanned = t.encode(&case.text, &EncodeOptions::default(), &mut scratch).unwrap();
        check("ids without offsets", unspanned.ids == case.ids);
        // The reference tells offsets in the normalized text; ours lead to the original. Same where nothing changed.
        let starts: Vec<usize> = encoding.spans.iter().map(|s| s.start).collect();
        check("offsets", case.nfc == Some(true) || starts == case.char_starts);
        let options = EncodeOptions { special: parse, ..Default::default() };
        let special = t.encode(&case.text, &options, &mut scratch).unwrap().ids;
        check("ids with specials", special == *case.ids_special.as_ref().unwrap_or(&case.ids));
        let decoded = String::from_utf8(t.decode_bytes(&case.ids, false).unwrap()).unwrap();
        check("decoded text", decoded == *case.decoded.as_ref().unwrap_or(&case.text));
        let count = t.count(&case.text, &parse, None, &mut scratch).unwrap();
        check("count", count.tokens == special.len());
    }
    for (n, case) in decode.iter().enumerate() {
        let bytes = t.decode_bytes(&case.ids, false);
        let same = match (&bytes, &case.error) {
            (Err(_), Some(_)) => true,
            (Ok(bytes), None) => {
                let engine = base64::engine::general_purpose::STANDARD;
                let expect = match (&case.decoded, &case.decoded_b64) {
                    (_, Some(b64)) => engine.decode(b64).unwrap(),
                    (Some(text), None) => text.clone().into_bytes(),
                    (None, None) => panic!("case {n} expects nothing"),
                };
                *bytes == expect && case.lossy.as_ref().is_none_or(|l| *l == String::from_utf8_lossy(bytes))
            }
            _ => false,
        };
        if !same {
            differ.push(format!("decoding of sequence {n}"));
        }
    }
    differ
}

#[test]
fn ids_of_the_published_vocabularies_equal_the_references() {
    let mut table = String::from("vocabulary   texts  decoded  differences\n");
    let mut all = Vec::new();
    let mut seen = 0;
    for vocab in TIKTOKEN {
        let Some((tokenizer, _, cases, decode)) = load(vocab) else { continue };
        let differ = differences(&tokenizer, &cases, &decode);
        assert!(!cases.is_empty() && !decode.is_empty());
        seen += 1;
        table += &format!("{vocab:<12} {:>5}  {:>7}  {:>11}\n", cases.len(), decode.len(), differ.len());
        all.extend(differ.into_iter().map(|d| format!("{vocab}: {d}")));
    }
    println!("{table}");
    let expect = if data::shared("SHA256SUMS").is_some() { TIKTOKEN.len() } else { 1 };
    assert_eq!(seen, expect, "vocabularies looked at");
    assert!(all.is_empty(), "{} differences, first: {:?}", all.len(), &all[..all.len().min(10)]);
}

#[test]
fn qwen_without_its_normalizer_gives_the_bare_ids() {
    let Some(file) = data::shared("vocabs/qwen.tiktoken") else {
        return assert!(data::shared("SHA256SUMS").is_none());
    };
    let options = ImportOptions { normalizer: Some("none".into()), ..Default::default() };
    let tokenizer = import(&file, Some(Format::Tiktoken), &options).unwrap();
    let cases: Vec<Case> = lines(&data::shared("golden/qwen.jsonl").unwrap());
    let bare: Vec<_> = cases.iter().filter_map(|c| Some((&c.text, c.ids_no_nfc.as_ref()?))).collect();
    assert!(!bare.is_empty());
    for (text, ids) in bare {
        let encoding = tokenizer.encode(text, &EncodeOptions::default(), &mut Scratch::default()).unwrap();
        assert_eq!(encoding.ids, *ids);
    }
}

#[test]
fn published_files_survive_export_and_import_byte_for_byte() {
    for vocab in TIKTOKEN {
        let Some((tokenizer, file, ..)) = load(vocab) else { continue };
        let written = export(&tokenizer, Format::Tiktoken).unwrap();
        let trimmed = |b: &[u8]| b.strip_suffix(b"\n").unwrap_or(b).to_vec();
        assert!(trimmed(&written) == trimmed(&file), "{vocab} as tiktoken");
        let native = export(&tokenizer, Format::Native).unwrap();
        let back = import(&native, None, &ImportOptions::default()).unwrap();
        assert!(export(&back, Format::Native).unwrap() == native, "{vocab} as native");
    }
}
