//! The reader by bytes made by hand, and what files are made of them.

use super::*;
use crate::engine::{EncodeOptions, Form, Normalizer, OnSpecial, Scratch, SpecialPolicy, Tables, spell};
use crate::formats::sentencepiece::{Around, Model};

/// A value to write.
#[derive(Clone)]
enum Give<'s> {
    U32(u32),
    Bool(bool),
    Text(&'s str),
    Texts(Vec<String>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    /// The number of a type, and bytes as they are.
    Raw(u32, Vec<u8>),
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn array(out: &mut Vec<u8>, kind: u32, len: usize) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

fn write_as(version: u32, pairs: &[(&str, Give<'_>)]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        text(&mut out, key.as_bytes());
        match value {
            Give::U32(number) => out.extend([4u32.to_le_bytes(), number.to_le_bytes()].concat()),
            Give::Bool(flag) => out.extend([&7u32.to_le_bytes()[..], &[u8::from(*flag)]].concat()),
            Give::Text(string) => {
                out.extend(8u32.to_le_bytes());
                text(&mut out, string.as_bytes());
            }
            Give::Texts(strings) => {
                array(&mut out, 8, strings.len());
                strings.iter().for_each(|string| text(&mut out, string.as_bytes()));
            }
            Give::Ints(numbers) => {
                array(&mut out, 5, numbers.len());
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Give::Floats(numbers) => {
                array(&mut out, 6, numbers.len());
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Give::Raw(kind, bytes) => {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            }
        }
    }
    out
}

fn write(pairs: &[(&str, Give<'_>)]) -> Vec<u8> {
    write_as(3, pairs)
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const MODEL: (&str, Give<'static>) = ("tokenizer.ggml.model", Give::Text("gpt2"));

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The 256 bytes, two merges, and one token of each other kind.
fn small() -> Vec<(&'static str, Give<'static>)> {
    let mut tokens: Vec<String> = (0..=255).map(|byte| spell(&[byte])).collect();
    tokens.extend(strings(&["ab", "Ġab", "<|end|>", "<tool>", "[PAD260]", ""]));
    let types = [vec![1; 258], vec![3, 4, 5, 1]].concat();
    vec![
        MODEL,
        ("tokenizer.ggml.pre", Give::Text("gpt-2")),
        (TOKENS, Give::Texts(tokens)),
        (TYPES, Give::Ints(types)),
        (MERGES, Give::Texts(strings(&["a b", "Ġ ab"]))),
        ("tokenizer.ggml.eos_token_id", Give::U32(258)),
        ("tokenizer.ggml.bos_token_id", Give::U32(258)),
        ("tokenizer.ggml.add_eos_token", Give::Bool(true)),
        ("tokenizer.chat_template", Give::Text("{{ eos_token }}")),
        ("tokenizer.chat_template.rag", Give::Text("rag")),
        ("tokenizer.chat_templates", Give::Texts(strings(&["rag"]))),
        // Keys of no concern here, of every type.
        ("general.name", Give::Text("x")),
        ("a.u8", Give::Raw(0, vec![1])),
        ("a.i16", Give::Raw(3, vec![1, 2])),
        ("a.f32", Give::Raw(6, vec![0; 4])),
        ("a.u64", Give::Raw(10, vec![0; 8])),
        ("a.f64s", Give::Raw(9, [&12u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 8]].concat())),
    ]
}

fn with(key: &str, value: Give<'static>) -> Vec<(&'static str, Give<'static>)> {
    let mut pairs = small();
    let place = pairs.iter().position(|(other, _)| *other == key).unwrap();
    pairs[place].1 = value;
    pairs
}

fn without(key: &str) -> Vec<(&'static str, Give<'static>)> {
    small().into_iter().filter(|(other, _)| *other != key).collect()
}

fn open(bytes: &[u8]) -> Result<Tokenizer, FormatError> {
    read(bytes, &ImportOptions::default())
}

#[track_caller]
fn check_refused(bytes: &[u8], expect: &str) {
    let error = open(bytes).unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

fn ids(tokenizer: &Tokenizer, text: &str, others: OnSpecial, add_special: bool) -> Vec<u32> {
    let special = SpecialPolicy { others, ..Default::default() };
    let options = EncodeOptions { special, add_special, ..Default::default() };
    tokenizer.encode(text, &options, &mut Scratch::default()).unwrap().ids
}

#[test]
fn a_file_becomes_a_tokenizer() {
    for version in [2, 3] {
        let t = open(&write_as(version, &small())).unwrap();
        assert_eq!(t.vocab_size(), 262);
        assert_eq!(ids(&t, "ab ab<|end|>", OnSpecial::Parse, true), [256, 257, 258, 258]);
        assert_eq!(ids(&t, "a<tool>", OnSpecial::Text, false), [97, 259]);
        assert!(ids(&t, "<|end|>", OnSpecial::Text, false).len() > 1);
        assert_eq!(t.decode(&[256, 257, 260, 258], true).unwrap().text, "ab ab[PAD260]");
        assert_eq!(t.chat().sources.keys().collect::<Vec<_>>(), ["default", "rag"]);
        assert_eq!(t.chat().tokens["eos_token"], "<|end|>");
    }
}

#[test]
fn a_file_that_is_cut_is_refused_wherever_it_is_cut() {
    let bytes = write(&small());
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len]).is_err(), "{len}");
        assert_eq!(metadata_len(&bytes[..len]), Ok(None), "{len}");
    }
    assert_eq!(metadata_len(&bytes), Ok(Some(bytes.len())));
    let with_tensors = [&bytes[..], &[0xff; 100]].concat();
    assert_eq!(metadata_len(&with_tensors), Ok(Some(bytes.len())));
    assert!(open(&with_tensors).is_ok());
}

#[test]
fn no_byte_of_a_file_can_be_so_that_reading_panics() {
    let bytes = write(&small());
    for at in 0..bytes.len() {
        for value in [0, 1, 9, 0x7f, 0x80, 0xff] {
            let mut other = bytes.clone();
            other[at] = value;
            let _refused_or_not = open(&other);
        }
    }
}

#[test]
fn versions_and_kinds_that_are_not_read_are_refused_by_name() {
    check_refused(b"GGML\x03\0\0\0", "does not begin with GGUF");
    check_refused(&write_as(1, &small()), "version 1 of GGUF is not supported");
    check_refused(&write_as(3u32.swap_bytes(), &small()), "big-endian");
    check_refused(&write_as(4, &small()), "version 4 of GGUF is not known");
    check_refused(
        &write(&with("tokenizer.ggml.model", Give::Text("bert"))),
        r#"model "bert" is not supported"#,
    );
    check_refused(
        &write(&with("tokenizer.ggml.pre", Give::Text("superb"))),
        r#"pre is "superb", which is not known"#,
    );
    check_refused(&write(&without("tokenizer.ggml.pre")), "split must be given");
    check_refused(&write(&without("tokenizer.ggml.model")), "tokenizer.ggml.model is missing");
    check_refused(&write(&without(MERGES)), "tokenizer.ggml.merges is missing");
}

#[test]
fn counts_out_of_nowhere_are_refused_before_anything_is_done() {
    let huge = 1u64 << 60;
    let mut bytes = write(&small());
    bytes[16..24].copy_from_slice(&huge.to_le_bytes());
    check_refused(&bytes, "keys, over the limit");
    for kind in [8u32, 5] {
        let array = [&kind.to_le_bytes()[..], &huge.to_le_bytes()].concat();
        check_refused(&write(&with(TOKENS, Give::Raw(9, array.clone()))), "elements, over the limit");
        check_refused(&write(&[("a.b", Give::Raw(9, array))]), "the value of key 0 is cut off");
    }
    let million = [&8u32.to_le_bytes()[..], &4_000_001u64.to_le_bytes()].concat();
    check_refused(
        &write(&with(TOKENS, Give::Raw(9, million))),
        "the value of tokenizer.ggml.tokens is cut off",
    );
    check_refused(
        &write(&[("a", Give::Raw(8, huge.to_le_bytes().to_vec()))]),
        "the value of key 0 is cut off",
    );
    check_refused(
        &write(&with("tokenizer.ggml.pre", Give::Raw(8, huge.to_le_bytes().to_vec()))),
        "over the limit of",
    );
    let mut bytes = write(&small());
    bytes[24..32].copy_from_slice(&huge.to_le_bytes());
    check_refused(&bytes, "key 0 has 1152921504606846976 bytes, over the limit");
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_key() {
    let nested =
        [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &8u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    check_refused(&write(&[("a", Give::Raw(9, nested))]), "array of arrays");
    check_refused(&write(&[("a", Give::Raw(13, vec![]))]), "of the unknown type 13");
    check_refused(&write(&[MODEL, MODEL]), r#"the key "tokenizer.ggml.model" is given twice"#);
    check_refused(
        &write(&with("tokenizer.ggml.model", Give::U32(1))),
        "tokenizer.ggml.model must be a string",
    );
    check_refused(
        &write(&with(TOKENS, Give::Ints(vec![1]))),
        "tokenizer.ggml.tokens must be an array of strings",
    );
    check_refused(&write(&with(TYPES, Give::Floats(vec![1.0]))), "must be an array of int32");
    check_refused(&write(&with(TYPES, Give::Ints(vec![1]))), "has 1 elements for 262 tokens");
    check_refused(&write(&with(TYPES, Give::Ints(vec![7; 262]))), "of token 0 is 7");
    check_refused(&write(&with(TYPES, Give::Ints(vec![6; 262]))), "0 is of the type byte");
    check_refused(&write(&with("tokenizer.ggml.add_eos_token", Give::U32(1))), "must be a bool");
    check_refused(
        &write(&with("tokenizer.ggml.eos_token_id", Give::U32(262))),
        "is 262, and there are 262 tokens",
    );
    check_refused(&write(&with("tokenizer.ggml.eos_token_id", Give::Text("x"))), "must be an integer");
    check_refused(&write(&with("tokenizer.ggml.eos_token_id", Give::Raw(5, vec![0xff; 4]))), "is no id");
    check_refused(&write(&without("tokenizer.ggml.eos_token_id")), "add_eos_token is true, and no key says");
    let merges = |merge: &str| write(&with(MERGES, Give::Texts(strings(&["a b", merge]))));
    check_refused(&merges("ab"), "tokenizer.ggml.merges 1 is not two tokens");
    check_refused(&merges(""), "tokenizer.ggml.merges 1 is not two tokens");
    check_refused(&merges("a "), "1: the right part is no token");
    check_refused(&merges("zz b"), "1: the left part is no token");
    check_refused(&merges("b a"), "1: what it makes is no token");
    check_refused(&merges("a b"), "tokenizer.ggml.merges do not fit the tokens");
    let double = strings(&["a", "a"]);
    let pairs = [MODEL, (TOKENS, Give::Texts(double)), (MERGES, Give::Texts(vec![]))];
    check_refused(&write(&pairs), "tokenizer.ggml.tokens 1 has the text of token 0");
}

#[test]
fn a_byte_that_no_text_has_may_be_an_added_token_of_a_letter() {
    let mut tokens: Vec<String> = (0..=255).map(|byte| spell(&[byte])).collect();
    tokens.push("<|x|>".to_owned());
    let mut types = vec![1; 257];
    // The letter of the byte 0xFC is one that texts have.
    types[0xfc] = 4;
    types[usize::from(b'a')] = 4;
    let pairs = [
        MODEL,
        ("tokenizer.ggml.pre", Give::Text("default")),
        (TOKENS, Give::Texts(tokens)),
        (TYPES, Give::Ints(types)),
        (MERGES, Give::Texts(vec![])),
    ];
    let t = open(&write(&pairs)).unwrap();
    assert_eq!(ids(&t, "aü", OnSpecial::Text, false), [97, 0xfc]);
    assert_eq!(ids(&t, "b\u{fd}", OnSpecial::Text, false), [98, 0xc3, 0xbd]);
}

#[test]
fn options_take_the_place_of_what_a_name_stands_for() {
    let options = |split: &str| ImportOptions { split: Some(split.to_owned()), ..Default::default() };
    let t = read(&write(&with("tokenizer.ggml.pre", Give::Text("superb"))), &options("cl100k")).unwrap();
    assert_eq!(ids(&t, "ab ab", OnSpecial::Text, false), [256, 257]);
    let qwen = write(&with("tokenizer.ggml.pre", Give::Text("qwen2")));
    assert_eq!(*open(&qwen).unwrap().normalizer(), Normalizer::Unicode(Form::Nfc, Tables::Reference));
    let plain = ImportOptions { normalizer: Some("none".to_owned()), ..Default::default() };
    assert_eq!(*read(&qwen, &plain).unwrap().normalizer(), Normalizer::None);
    let special = ImportOptions { special: [("<x>".to_owned(), 1)].into(), ..Default::default() };
    assert!(read(&qwen, &special).is_err());
}

/// A SentencePiece model with a piece of each kind.
fn pieces(model: &'static str) -> Vec<(&'static str, Give<'static>)> {
    let mut texts = strings(&["<unk>", "<s>", "</s>", "a", "b", "ab"]);
    texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    texts.extend(strings(&["[PAD]", "  "]));
    let types = [vec![2, 3, 3, 1, 1, 1], vec![6; 256], vec![5, 4]].concat();
    vec![
        ("tokenizer.ggml.model", Give::Text(model)),
        (TOKENS, Give::Texts(texts)),
        (SCORES, Give::Floats((0..264u16).map(|id| -f32::from(id)).collect())),
        (TYPES, Give::Ints(types)),
    ]
}

fn parse_pieces(pairs: &[(&str, Give<'_>)]) -> Result<(Model, Around), FormatError> {
    let bytes = write(pairs);
    let metadata = Metadata::read(&bytes)?;
    let model = metadata.want("tokenizer.ggml.model")?.text()?;
    spm::parse(&metadata, model)
}

#[test]
fn sentencepiece_models_are_read_with_the_defaults_of_their_kind() {
    let (llama, around) = parse_pieces(&pieces("llama")).unwrap();
    let spec = &llama.normalizer;
    assert_eq!(
        (spec.add_dummy_prefix, spec.remove_extra_whitespaces, llama.byte_fallback),
        (true, false, true)
    );
    assert_eq!((llama.unk, llama.bos, llama.eos, llama.pad), (Some(0), Some(1), Some(2), None));
    assert_eq!((around.bos, around.eos), (Some(true), Some(false)));
    let kinds = |ids: std::ops::Range<usize>| llama.pieces[ids].iter().map(|p| p.kind).collect::<Vec<_>>();
    assert_eq!(kinds(3..6), [PieceKind::Normal; 3]);
    assert_eq!(
        kinds(262..264),
        [PieceKind::Control, PieceKind::UserDefined],
        "[PAD] cannot be made of pieces"
    );
    assert_eq!((&*llama.pieces[263].piece, llama.pieces[263].score), ("\u{2581}\u{2581}", -263.0));
    let (t5, around) = parse_pieces(&pieces("t5")).unwrap();
    assert_eq!((t5.normalizer.add_dummy_prefix, t5.bos, t5.eos), (false, None, Some(1)));
    assert_eq!((around.bos, around.eos), (Some(false), Some(true)));
    assert_eq!(t5.pieces[262].kind, PieceKind::Unused);
    let mut double = pieces("llama");
    double[3].1 = Give::Ints([vec![2, 3, 3, 1, 1, 1], vec![6; 256], vec![2, 4]].concat());
    let double = parse_pieces(&double).unwrap().0;
    assert_eq!(
        (double.unk, double.pieces[262].kind),
        (Some(0), PieceKind::Control),
        "padding of the type unknown"
    );
    let mut untyped = pieces("llama");
    untyped.retain(|(key, _)| *key != TYPES);
    untyped.push(("tokenizer.ggml.unknown_token_id", Give::U32(0)));
    assert_eq!(parse_pieces(&untyped).unwrap().0.unk, Some(0));
}

#[test]
fn sentencepiece_models_become_tokenizers() {
    let t = open(&write(&pieces("llama"))).unwrap();
    assert_eq!(ids(&t, "ab<s>", OnSpecial::Parse, true), [1, 6 + 0xe2, 6 + 0x96, 6 + 0x81, 5, 1]);
    assert_eq!(ids(&t, "a  bc", OnSpecial::Text, false)[3..], [3, 263, 4, 6 + 0x63]);
    assert_eq!(ids(&t, "<unk>a", OnSpecial::Parse, false)[0], 0);
    assert_ne!(ids(&t, "<unk>a", OnSpecial::Text, false)[0], 0);
    assert!(open(&write(&pieces("t5"))).is_ok());
    let mut phi = pieces("llama");
    phi.push(("general.name", Give::Text("Phi-3 mini")));
    let phi = open(&write(&phi)).unwrap();
    assert_eq!(ids(&phi, "</s> \n</s>", OnSpecial::Parse, false), [2, 2]);
    assert!(ids(&phi, "<s> \n<s>", OnSpecial::Parse, false).len() > 2);
}

#[test]
fn sentencepiece_models_that_are_not_whole_are_refused() {
    let put = |key: &'static str, value| {
        let mut pairs = pieces("llama");
        pairs.retain(|(other, _)| *other != key);
        pairs.push((key, value));
        parse_pieces(&pairs).unwrap_err().to_string()
    };
    let nan = (0..264u16).map(|id| if id == 3 { f32::NAN } else { 0.0 }).collect();
    assert!(put(SCORES, Give::Floats(nan)).contains("tokenizer.ggml.tokens: piece 3 has the score NaN"));
    assert!(put(SCORES, Give::Floats(vec![0.0; 9])).contains("scores has 9 elements for 264 tokens"));
    assert!(put(SCORES, Give::Texts(vec![])).contains("must be an array of float32 or int32"));
    assert!(
        put(TOKENS, Give::Texts(vec!["a".to_owned(); 264]))
            .contains("tokens: piece 1 has the text of piece 0")
    );
    assert!(put(TYPES, Give::Ints(vec![1; 264])).contains("no piece is of the type UNKNOWN"));
    assert!(put("tokenizer.ggml.eos_token_id", Give::U32(264)).contains("there are 264 tokens"));
    assert!(put("tokenizer.ggml.add_space_prefix", Give::U32(1)).contains("add_space_prefix must be a bool"));
    assert!(parse_pieces(&pieces("llama")[..2]).unwrap_err().to_string().contains("scores is missing"));
    let mut rules = pieces("t5");
    rules.push((
        "tokenizer.ggml.precompiled_charsmap",
        Give::Raw(9, [&[0; 4][..], &1u64.to_le_bytes(), &[1]].concat()),
    ));
    assert!(parse_pieces(&rules).unwrap_err().to_string().contains("precompiled_charsmap cannot be used"));
}
