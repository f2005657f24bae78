//! Files that are wrong, cut off, or made to hurt: each is refused by its place, in bounded time and memory, and what
//! was there before serves on.

use crate::data;
use crate::support::TestServer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vocabd::engine::{EncodeError, EncodeOptions, Scratch, Tokenizer};
use vocabd::formats::{Files, Format, FormatError, ImportOptions, import, import_files};

/// Nothing here may take longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small byte-level `tokenizer.json`, changed by `edit`.
fn file(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255u8).map(|b| (vocabd::engine::byte_char(b).to_string(), json!(b))).collect();
    vocab.insert("ab".to_owned(), json!(256));
    vocab.insert("abc".to_owned(), json!(257));
    let mut file = json!({
        "version": "1.0",
        "added_tokens": [{"id": 258, "content": "<s>", "special": true, "normalized": false}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", "ab c"]},
    });
    edit(&mut file);
    serde_json::to_vec(&file).unwrap()
}

fn read(bytes: &[u8]) -> Result<Tokenizer, FormatError> {
    let begin = Instant::now();
    let outcome = import(bytes, Some(Format::Hf), &ImportOptions::default());
    assert!(begin.elapsed() < PATIENCE);
    outcome
}

#[track_caller]
fn refused(edit: impl FnOnce(&mut Value), pointer: &str, what: &str) {
    match read(&file(edit)).unwrap_err() {
        FormatError::Json { pointer: at, reason } => {
            assert_eq!(at, pointer, "{reason}");
            assert!(reason.contains(what), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_that_the_others_are_made_from_is_taken() {
    let t = read(&file(|_| ())).unwrap();
    assert_eq!(
        t.encode("abc d", &EncodeOptions::default(), &mut Scratch::default()).unwrap().ids,
        [257, 32, 100]
    );
}

#[test]
fn ids_that_cannot_be_are_refused_by_their_place() {
    refused(|f| f["model"]["vocab"]["ab"] = json!(4_000_000_000_u32), "/model/vocab/ab", "over the limit");
    refused(|f| f["model"]["vocab"]["ab"] = json!(-1), "/model/vocab/ab", "u32");
    refused(|f| f["model"]["vocab"]["ab"] = json!(5_000_000_000_u64), "/model/vocab/ab", "u32");
    refused(|f| f["model"]["vocab"]["ab"] = json!(1.5), "/model/vocab/ab", "u32");
    refused(|f| f["model"]["vocab"]["ab"] = json!("7"), "/model/vocab/ab", "u32");
    refused(|f| f["model"]["vocab"]["ab"] = json!(97), "/model/vocab/ab", "given twice");
    let far = read(&file(|f| f["added_tokens"][0]["id"] = json!(4_000_000_000_u32))).unwrap_err();
    assert!(far.to_string().contains("over the limit"), "{far}");
}

#[test]
fn holes_between_ids_stay_holes() {
    let t = read(&file(|f| {
        f["model"]["vocab"]["abc"] = json!(900);
        f["added_tokens"][0]["id"] = json!(1000);
    }))
    .unwrap();
    assert_eq!((t.vocab_size(), t.vocab().bytes(500)), (1001, None));
    assert!(t.decode(&[500], false).is_err());
    assert_eq!(t.decode(&[1000, 900], false).unwrap().text, "<s>abc");
}

#[test]
fn tokens_that_are_no_tokens_are_refused() {
    refused(|f| f["model"]["vocab"][""] = json!(259), "/model/vocab/", "empty");
    let twice = String::from_utf8(file(|_| ())).unwrap().replacen("\"ab\":256", "\"ab\":256,\"ab\":300", 1);
    assert!(
        matches!(read(twice.as_bytes()), Err(FormatError::Json { pointer, .. }) if pointer == "/model/vocab/ab")
    );
}

#[test]
fn merges_of_what_is_not_there_are_refused_by_their_number() {
    refused(|f| f["model"]["merges"][1] = json!("ab zz"), "/model/merges/1", "no token");
    refused(|f| f["model"]["merges"][1] = json!("a c"), "/model/merges/1", "no token");
    refused(|f| f["model"]["merges"][0] = json!("ab"), "/model/merges/0", "two tokens");
    refused(|f| f["model"]["merges"][0] = json!("a b c"), "/model/merges/0", "two tokens");
    refused(|f| f["model"]["merges"][0] = json!(["a"]), "/model/merges/0", "two parts");
    refused(|f| f["model"]["merges"][0] = json!(7), "/model/merges/0", "merge");
    // A token is never made of itself and nothing.
    refused(|f| f["model"]["merges"][0] = json!(["ab", ""]), "/model/merges/0", "no token");
    assert!(read(&file(|f| f["model"]["merges"][1] = json!("a b"))).is_err(), "a pair merged twice");
}

#[test]
fn ten_million_merges_are_refused_or_read_in_bounded_time() {
    let merges = r#""a b","#.repeat(10_000_001);
    let text = String::from_utf8(file(|f| f["model"]["merges"] = json!(["MERGES"]))).unwrap();
    let text = text.replace("\"MERGES\"", merges.trim_end_matches(','));
    let error = read(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("10000000 merges"), "{error}");
}

#[test]
fn what_is_not_supported_is_named() {
    let unsupported = |f: &mut Value, component: &str, kind: &str| f[component] = json!({"type": kind});
    refused(|f| unsupported(f, "normalizer", "BertNormalizer"), "/normalizer", "BertNormalizer");
    refused(|f| unsupported(f, "pre_tokenizer", "UnicodeScripts"), "/pre_tokenizer", "UnicodeScripts");
    refused(|f| unsupported(f, "post_processor", "Exotic"), "/post_processor", "Exotic");
    refused(|f| unsupported(f, "decoder", "CTC"), "/decoder", "CTC");
    for kind in ["WordPiece", "WordLevel"] {
        refused(|f| f["model"]["type"] = json!(kind), "/model/type", kind);
    }
    refused(|f| f["model"]["dropout"] = json!(0.1), "/model/dropout", "not supported");
    refused(
        |f| f["model"]["end_of_word_suffix"] = json!("</w>"),
        "/model/end_of_word_suffix",
        "not supported",
    );
    let nested = |f: &mut Value| {
        f["normalizer"] =
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]});
    };
    refused(nested, "/normalizer/normalizers/1", "StripAccents");
}

#[test]
fn sequences_without_end_are_refused() {
    let mut nested = json!({"type": "NFC"});
    for _ in 0..60 {
        nested = json!({"type": "Sequence", "normalizers": [nested]});
    }
    let text = serde_json::to_vec(
        &json!({"normalizer": nested, "model": {"type": "BPE", "vocab": {}, "merges": []}}),
    );
    assert!(read(&text.unwrap()).unwrap_err().to_string().contains("nested over 8 deep"));
    let deep = format!("{{\"normalizer\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(deep.as_bytes()).is_err());
}

#[test]
fn a_regex_that_backtracks_without_end_gives_up_on_the_text() {
    let t = read(&file(|f| {
        f["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a+)+$(?!b)"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]});
    }))
    .unwrap();
    let text = format!("{}!", "a".repeat(50_000));
    let begin = Instant::now();
    let outcome = t.encode(&text, &EncodeOptions::default(), &mut Scratch::default());
    assert!(matches!(outcome, Err(EncodeError::Split(_))), "{outcome:?}");
    assert!(begin.elapsed() < PATIENCE);
    // Without look-around it runs on an automaton, and ends.
    let t = read(&file(|f| {
        f["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]});
    }))
    .unwrap();
    assert!(t.encode(&text, &EncodeOptions::default(), &mut Scratch::default()).is_ok());
}

#[test]
fn regexes_that_cannot_be_are_refused_by_their_place() {
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
    };
    let place = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
    refused(|f| f["pre_tokenizer"] = split("("), place, "split pattern");
    refused(|f| f["pre_tokenizer"] = split(r"(\p{L}{200}){200}(\p{L}{200}){200}"), place, "bytes");
    refused(|f| f["pre_tokenizer"] = split(&"a".repeat(5000)), place, "4096");
    refused(|f| f["pre_tokenizer"] = split(r"(?<name>a)\k<name>"), place, "named group");
}

#[test]
fn a_text_that_a_normalizer_blows_up_is_refused() {
    let twice = json!({"type": "Replace", "pattern": {"String": "ѫ"}, "content": "ѫѫ"});
    let t = read(&file(|f| f["normalizer"] = json!({"type": "Sequence", "normalizers": vec![twice; 60]})))
        .unwrap();
    let outcome = t.encode(&"ѫ".repeat(1000), &EncodeOptions::default(), &mut Scratch::default());
    assert!(matches!(outcome, Err(EncodeError::Split(_))), "{outcome:?}");
    let blow = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "b".repeat(1 << 20)});
    let decoder = json!({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, blow]});
    let t = read(&file(|f| f["decoder"] = decoder));
    // The self-check decodes: such a decoder cannot be used at all.
    assert!(t.is_err());
}

#[test]
fn scores_that_are_no_numbers_are_refused() {
    let unigram = |vocab: &str| {
        format!(r#"{{"model": {{"type": "Unigram", "unk_id": 0, "vocab": {vocab}}}, "pre_tokenizer": null}}"#)
    };
    for bad in [r#"[["a", NaN]]"#, r#"[["a", 1e999]]"#, r#"[["a", "b"]]"#, r#"[["a"]]"#, r#"[["", 0.0]]"#] {
        assert!(read(unigram(bad).as_bytes()).is_err(), "{bad}");
    }
    let twice = read(unigram(r#"[["<unk>", 0.0], ["a", -1.0], ["a", -2.0]]"#).as_bytes()).unwrap_err();
    assert!(matches!(twice, FormatError::Json { pointer, .. } if pointer == "/model/vocab/2"));
    let none = read(br#"{"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}}"#).unwrap_err();
    assert!(matches!(none, FormatError::Json { pointer, .. } if pointer == "/model/unk_id"));
}

#[tokio::test]
async fn over_http_the_place_is_told_and_the_old_version_serves_on() {
    let server = TestServer::new().await;
    server.post("/vocabs?name=v&alias=prod", file(|_| ())).await.ok(201);
    let bad = [
        (file(|f| f["model"]["merges"][1] = json!("ab zz")), Some("/model/merges/1")),
        (file(|f| f["normalizer"] = json!({"type": "BertNormalizer"})), Some("/normalizer")),
        (file(|f| f["model"]["vocab"]["ab"] = json!(-1)), Some("/model/vocab/ab")),
        (file(|_| ())[..900].to_vec(), None),
    ];
    for (body, pointer) in bad {
        let answer = server.post("/vocabs?name=v&alias=prod&format=hf", body).await;
        match pointer {
            Some(_) => assert_eq!(answer.problem(422, "bad_vocabulary", pointer)["status"], 422),
            None => assert_eq!(answer.json()["code"], "bad_vocabulary"),
        }
        assert_eq!(server.ids("v@prod", "abc").await, [257]);
    }
    assert_eq!(server.get("/vocabs/v").await.ok(200)["version"], 1);
    let body = json!({"vocab": "v", "text": "abc<s>", "special": "parse", "return": ["ids", "offsets"]});
    let made = server.post_json("/encode", body).await.ok(200);
    assert_eq!((&made["ids"], &made["offsets"]), (&json!([257, 258]), &json!([[0, 3], [3, 6]])));
    server.goes_on().await;
}

/// A file of each format, from the small set.
fn small_files() -> Vec<(&'static str, Files)> {
    let tiktoken = data::local("vocabs/cl100k_base.tiktoken");
    let t = import(&tiktoken, None, &ImportOptions::default()).unwrap();
    let mut files = vec![("hf", Files::single("tokenizer.json", file(|_| ())))];
    let small = import(&file(|_| ()), None, &ImportOptions::default()).unwrap();
    for format in [Format::Native, Format::Gpt2] {
        files.push((format.name(), vocabd::formats::export_files(&small, format).unwrap()));
    }
    files.push((
        "tiktoken",
        Files::single("a.tiktoken", vocabd::formats::export(&t, Format::Tiktoken).unwrap()),
    ));
    files.push(("sentencepiece", Files::single("a.model", data::local("vocabs/spm-identity.model"))));
    files
}

#[test]
fn files_cut_off_anywhere_are_refused_or_smaller_vocabularies_but_never_a_panic() {
    for (format, files) in small_files() {
        let (name, bytes) = files.iter().next().map(|(n, b)| (n.to_owned(), b.clone())).unwrap();
        let step = (bytes.len() / 400).clamp(1, 1024);
        for cut in (0..bytes.len()).step_by(step) {
            let mut cut_off = Files::single(name.clone(), bytes.slice(..cut));
            files.iter().skip(1).for_each(|(name, bytes)| cut_off.push(name, bytes.clone()));
            let outcome = import_files(&cut_off, None, &ImportOptions::default());
            // A list of lines has no end to miss, but lacks tokens then.
            if !matches!(format, "tiktoken" | "gpt2" | "sentencepiece") {
                assert!(outcome.is_err(), "{format} cut at {cut}");
            }
        }
    }
}

#[test]
fn bytes_changed_anywhere_never_panic() {
    for (_, files) in small_files() {
        let (name, bytes) = files.iter().next().map(|(n, b)| (n.to_owned(), b.to_vec())).unwrap();
        let step = (bytes.len() / 300).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x15;
            let mut changed = Files::single(name.clone(), bad);
            files.iter().skip(1).for_each(|(name, bytes)| changed.push(name, bytes.clone()));
            let _ = import_files(&changed, None, &ImportOptions::default());
        }
    }
}

#[test]
fn lengths_of_gigabytes_in_a_model_are_refused_before_anything_is_allocated() {
    // A piece of 4 GB, a group within groups, and a field number of zero.
    let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x0a, 0x01, b'a'];
    let groups: Vec<u8> = std::iter::repeat_n(0x0b, 100_000).collect();
    for bytes in [&huge[..], &groups, &[0x00, 0x00], &[0x0a], &[0xff; 32]] {
        let outcome = import(bytes, Some(Format::Sentencepiece), &ImportOptions::default());
        assert!(matches!(outcome, Err(FormatError::Malformed { .. })), "{outcome:?}");
    }
}
