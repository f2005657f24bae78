//! Small files whose answers are those of Hugging Face's tokenizers 0.23.3. Each is something that random files found
//! (tests/cross/components.py).

use crate::engine::{
    EncodeOptions, OffsetUnit, OnSpecial, Scratch, SpecialPolicy, TokenId, Tokenizer, byte_char,
};
use crate::formats::{Format, ImportOptions, export, import};
use serde_json::{Map, Value, json};

/// A file over characters.
fn chars() -> Value {
    let tokens = ["<unk>", "a", "b", " ", "\n", "ab", "▁", "é"];
    let vocab: Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
    json!({
        "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": [["a", "b"]]},
    })
}

fn byte_level(trim: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": false})
}

/// A file over bytes: these letters, with ids in order.
fn letters(letters: &[char]) -> Value {
    let vocab: Map<String, Value> =
        letters.iter().zip(0..).map(|(letter, id)| (letter.to_string(), json!(id))).collect();
    json!({
        "added_tokens": [], "normalizer": null, "pre_tokenizer": byte_level(false), "post_processor": null,
        "decoder": null, "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

/// The same with all 256, sorted by their letters as the library does.
fn all_bytes() -> Value {
    let mut all: Vec<char> = (0..=255).map(byte_char).collect();
    all.sort_unstable();
    letters(&all)
}

fn added(content: &str, id: TokenId, flags: &[&str]) -> Value {
    let mut token = json!({"id": id, "content": content});
    for flag in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
        token[flag] = json!(flags.contains(&flag));
    }
    token
}

/// The tokenizer of a file, which has to survive the store.
fn read(file: &Value) -> Tokenizer {
    let text = serde_json::to_vec(file).unwrap();
    let first = import(&text, Some(Format::Hf), &ImportOptions::default()).unwrap();
    let stored = export(&first, Format::Native).unwrap();
    let again = import(&stored, Some(Format::Native), &ImportOptions::default()).unwrap();
    assert!(export(&again, Format::Native).unwrap() == stored);
    again
}

#[track_caller]
fn refused(file: &Value, reason: &str) {
    let text = serde_json::to_vec(file).unwrap();
    let error = import(&text, Some(Format::Hf), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[track_caller]
fn encodes(file: &Value, text: &str, ids: &[TokenId], offsets: &[(usize, usize)]) {
    let special = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
    let options = EncodeOptions { special, offsets: Some(OffsetUnit::Char), ..Default::default() };
    let encoding = read(file).encode(text, &options, &mut Scratch::default()).unwrap();
    let spans: Vec<_> = encoding.spans.iter().map(|span| (span.start, span.end)).collect();
    assert_eq!((&encoding.ids[..], &spans[..]), (ids, offsets));
}

#[track_caller]
fn decodes(file: &Value, ids: &[TokenId], text: &str) {
    assert_eq!(read(file).decode(ids, false).unwrap().text, text);
}

#[test]
fn without_a_pre_tokenizer_a_text_is_one_pretoken_also_from_the_store() {
    encodes(&chars(), "ab a", &[5, 3, 1], &[(0, 2), (2, 3), (3, 4)]);
}

#[test]
fn white_space_of_tokens_over_characters_is_trimmed() {
    let mut file = chars();
    file["post_processor"] = byte_level(true);
    encodes(&file, "a\nb", &[1, 4, 2], &[(0, 1), (2, 2), (2, 3)]);
}

#[test]
fn offsets_slip_behind_bytes_that_are_left_out() {
    let file = letters(&['a', 'b', 'Ġ', 'é', '¸', 'Ń']);
    encodes(&file, "a中b", &[0, 4, 5, 1], &[(0, 1), (1, 2), (1, 2), (1, 2)]);
    encodes(&file, "中中é", &[4, 5, 4, 5], &[(0, 1), (0, 1), (0, 1), (1, 2)]);
}

#[test]
fn without_a_decoder_tokens_are_told_as_they_are_spelt() {
    let mut file = letters(&['a', 'b', 'Ġ', 'é', '¸', 'Ń']);
    file["model"]["vocab"]["ไทย"] = json!(6);
    decodes(&file, &[0, 2, 3, 6], "a Ġ é ไทย");
    file["decoder"] = json!({"type": "Fuse"});
    decodes(&file, &[0, 2, 3, 6], "aĠéไทย");
}

/// The added token is the model's token for the byte 0xE9.
#[test]
fn an_added_token_may_be_named_by_a_letter_for_a_byte() {
    let mut file = all_bytes();
    file["decoder"] = byte_level(true);
    file["added_tokens"] = json!([added("é", 165, &[]), added("<x>", 256, &["lstrip"])]);
    encodes(&file, "aé <x>", &[64, 165, 256], &[(0, 1), (1, 2), (2, 6)]);
    decodes(&file, &[64, 165], "a\u{fffd}");
    file["normalizer"] = json!({"type": "NFD"});
    file["added_tokens"] = json!([added("é", 165, &["normalized"])]);
    encodes(&file, "aé", &[64, 165], &[(0, 1), (1, 2)]);
    decodes(&file, &[64, 165], "ae\u{301}");
    file["added_tokens"] = json!([added("각", 256, &["normalized"])]);
    decodes(&file, &[256], "\u{1100}\u{1161}\u{11a8}");
    // The same where it is a token of the model that no text leads to.
    file["model"]["vocab"]["각"] = json!(256);
    decodes(&file, &[256], "\u{1100}\u{1161}\u{11a8}");
}

#[test]
fn an_added_token_of_which_normalizing_leaves_nothing_is_refused() {
    let mut file = chars();
    file["normalizer"] = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    file["added_tokens"] = json!([added("\n", 4, &["normalized"])]);
    refused(&file, "nothing is left of the name of token 4");
}

#[test]
fn post_processors_go_around_every_part_that_a_template_made() {
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [8], "tokens": ["<s>"]}},
    });
    let around =
        |kind: &str| json!({"type": kind, "sep": ["</s>", 9], "cls": ["<s>", 8], "trim_offsets": false});
    let check = |steps: [&Value; 2], expect: &[TokenId]| {
        let mut file = chars();
        file["added_tokens"] = json!([added("<s>", 8, &["special"]), added("</s>", 9, &["special"])]);
        file["post_processor"] = json!({"type": "Sequence", "processors": steps});
        let options = EncodeOptions { add_special: true, ..Default::default() };
        assert_eq!(read(&file).encode("a", &options, &mut Scratch::default()).unwrap().ids, expect);
        file
    };
    check([&template, &around("BertProcessing")], &[8, 8, 9, 1, 9]);
    check([&around("BertProcessing"), &template], &[8, 8, 1, 9]);
    check([&template, &around("RobertaProcessing")], &[8, 8, 9, 9, 1, 9]);
    let mut file = check([&around("RobertaProcessing"), &template], &[8, 8, 1, 9]);
    file["post_processor"]["processors"] = json!([template, template]);
    refused(&file, "/post_processor/processors/1: stands behind another one that adds tokens");
}

#[test]
fn decoders_see_the_strings_of_the_step_before() {
    let replace = |regex: &str, content: &str| json!({"type": "Replace", "pattern": {"Regex": regex}, "content": content});
    let mut file = chars();
    file["model"]["vocab"]["<0xE4>"] = json!(8);
    file["model"]["vocab"]["<0xB8>"] = json!(9);
    // Bytes that are no text are a string each.
    file["decoder"] =
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, replace(r"\S+", "x")]});
    decodes(&file, &[1, 8, 9, 2], "xxxx");
    // Nothing is found in an empty string.
    let strip = json!({"type": "Strip", "content": "a", "start": 1, "stop": 0});
    file["decoder"] = json!({"type": "Sequence", "decoders": [strip, replace(r"\s*$", ".")]});
    decodes(&file, &[1, 2], "b.");
    // What is no text is replaced before the steps behind it.
    let mut file = all_bytes();
    let metaspace =
        json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never", "split": true});
    file["decoder"] =
        json!({"type": "Sequence", "decoders": [byte_level(true), replace(r"\n", ""), metaspace]});
    decodes(&file, &[116, 198, 62, 64], "\u{fffd} a");
    let mut file = chars();
    file["model"]["vocab"] = json!({"ä": 0, "<0xB8>": 1, "<0xAD>": 2});
    file["model"]["merges"] = json!([]);
    file["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, byte_level(true)]});
    decodes(&file, &[0, 1, 2], "\u{fffd}\u{fffd}\u{fffd}");
    assert!(!read(&file).decode(&[0, 1, 2], false).unwrap().valid);
}

#[test]
fn bytes_of_two_runs_make_no_character_of_the_text() {
    let mut file = chars();
    file["model"] = json!({
        "type": "BPE", "byte_fallback": true, "merges": [],
        "vocab": {"ç": 0, "<0x99>": 1, "a": 2, "<0xE7>": 3},
    });
    file["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, byte_level(false)]});
    decodes(&file, &[0, 1, 1, 2], "\u{fffd}\u{fffd}\u{fffd}a");
    decodes(&file, &[3, 1, 1, 2], "癙a");
    decodes(&file, &[2, 1, 2], "a\u{fffd}a");
    let t = read(&file);
    // The bytes themselves are there for who asks for them, and are a character.
    assert_eq!(t.decode_bytes(&[0, 1, 1, 2], false).unwrap(), "癙a".as_bytes());
    assert!(!t.decode(&[0, 1, 1, 2], false).unwrap().valid);
}

#[test]
fn what_decodes_to_the_name_of_a_special_token_is_left_out_with_them() {
    let mut file = chars();
    file["normalizer"] = json!({"type": "Lowercase"});
    file["added_tokens"] = json!([
        added("<s>", 8, &["special"]),
        added("<S>", 9, &["normalized"]),
        added("<P>", 10, &["normalized", "special"]),
    ]);
    decodes(&file, &[1, 8, 9, 10, 2], "a <s> <s> <p> b");
    assert_eq!(read(&file).decode(&[1, 8, 9, 10, 2], true).unwrap().text, "a <p> b");
}
