//! Ids, offsets and texts of the reference implementations, for every published vocabulary of the test data.
//!
//! A vocabulary whose licence does not let it be passed on is looked for beside the others and in the folder that
//! `VOCABD_RESTRICTED_DIR` names (tests/cross/fetch.sh fills one); where it is not, the table says so.

use crate::data;
use base64::Engine as _;
use serde::Deserialize;
use vocabd::engine::{EncodeOptions, OffsetUnit, OnSpecial, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{Files, Format, ImportOptions, export, export_files, import, import_files};

/// Whose goldens they are, and so what they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reference {
    Tiktoken,
    Tokenizers,
    SentencePiece,
    Tekken,
}

/// A vocabulary, its files, its reference, and whether it may be passed on.
type Published = (&'static str, &'static [&'static str], Reference, bool);

#[rustfmt::skip]
const PUBLISHED: [Published; 20] = [
    ("cl100k_base", &["cl100k_base.tiktoken"], Reference::Tiktoken, true),
    ("o200k_base", &["o200k_base.tiktoken"], Reference::Tiktoken, true),
    ("r50k_base", &["r50k_base.tiktoken"], Reference::Tiktoken, true),
    ("p50k_base", &["p50k_base.tiktoken"], Reference::Tiktoken, true),
    ("qwen", &["qwen.tiktoken"], Reference::Tiktoken, true),
    ("gpt2-bpe", &["gpt2.vocab.bpe", "gpt2.encoder.json"], Reference::Tokenizers, true),
    ("qwen2.5", &["qwen2.5.tokenizer.json", "qwen2.5.tokenizer_config.json"], Reference::Tokenizers, true),
    ("qwen3", &["qwen3.tokenizer.json", "qwen3.tokenizer_config.json"], Reference::Tokenizers, true),
    ("deepseek-v3", &["deepseek-v3.tokenizer.json", "deepseek-v3.tokenizer_config.json"], Reference::Tokenizers, true),
    ("deepseek-v4", &["deepseek-v4.tokenizer.json", "deepseek-v4.tokenizer_config.json"], Reference::Tokenizers, true),
    ("yi", &["yi.tokenizer.json", "yi.tokenizer_config.json"], Reference::Tokenizers, true),
    ("mistral-nemo", &["mistral-nemo.tokenizer.json", "mistral-nemo.tokenizer_config.json"], Reference::Tokenizers, true),
    ("mistral-v1-hf", &["mistral-v1-hf.tokenizer.json", "mistral-v1-hf.tokenizer_config.json"], Reference::Tokenizers, true),
    ("tekken-240718", &["tekken_240718.json"], Reference::Tekken, true),
    ("mistral-v1", &["mistral-v1.tokenizer.model"], Reference::SentencePiece, true),
    ("mistral-v3", &["mistral-v3.tokenizer.model"], Reference::SentencePiece, true),
    ("llama2", &["llama2.tokenizer.json"], Reference::Tokenizers, false),
    ("llama3", &["llama3.tokenizer.json", "llama3.tokenizer_config.json"], Reference::Tokenizers, false),
    ("llama3-tiktoken", &["llama3.tokenizer.model"], Reference::Tiktoken, false),
    ("gemma3", &["gemma3.tokenizer.json", "gemma3.tokenizer_config.json"], Reference::Tokenizers, false),
];

#[derive(Deserialize)]
struct Case {
    n: u64,
    text: String,
    ids: Vec<u32>,
    ids_special: Option<Vec<u32>>,
    ids_add_special: Option<Vec<u32>>,
    ids_no_special: Option<Vec<u32>>,
    char_starts: Option<Vec<usize>>,
    offsets: Option<Vec<(usize, usize)>>,
    byte_offsets: Option<Vec<(usize, usize)>>,
    decoded: Option<String>,
    decoded_skip_special: Option<String>,
    nfc: Option<bool>,
    ids_no_nfc: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct DecodeCase {
    ids: Vec<u32>,
    decoded: Option<String>,
    decoded_skip_special: Option<String>,
    decoded_b64: Option<String>,
    lossy: Option<String>,
    error: Option<serde_json::Value>,
}

fn lines<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Vec<T> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file of the full set, of the small one in the repository, or of those that may not be passed on.
fn find(folder: &str, file: &str, passed_on: bool) -> Option<Vec<u8>> {
    let path = format!("{folder}/{file}");
    if passed_on || folder == "golden" {
        return data::shared_or_local(&path);
    }
    data::restricted(file)
}

fn files_of((_, files, _, passed_on): Published) -> Option<Files> {
    let mut found = Files::default();
    for file in files {
        found.push(*file, find("vocabs", file, passed_on)?);
    }
    Some(found)
}

fn tokenizer_of(published: Published) -> Option<Tokenizer> {
    let tokenizer = import_files(&files_of(published)?, None, &ImportOptions::default()).unwrap();
    // The first texts would go the slow way, which the slow twins take care of.
    tokenizer.prepare();
    Some(tokenizer)
}

/// Every vocabulary that is here, by name.
pub(crate) fn vocabularies() -> impl Iterator<Item = (&'static str, Tokenizer)> {
    PUBLISHED.into_iter().filter_map(|published| Some((published.0, tokenizer_of(published)?)))
}

struct Checked {
    texts: usize,
    decoded: usize,
    differences: Vec<String>,
}

impl Checked {
    fn check(&mut self, what: &str, n: u64, same: bool) {
        if !same {
            self.differences.push(format!("{what} of {n}"));
        }
    }
}

fn check_texts(t: &Tokenizer, reference: Reference, cases: &[Case], out: &mut Checked) {
    let scratch = &mut Scratch::default();
    let parse = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
    // What the goldens call plain ids: names of special tokens are text to tiktoken, and tokens to tokenizers.
    let plain = if reference == Reference::Tokenizers { parse } else { SpecialPolicy::default() };
    for case in cases {
        out.texts += 1;
        let mut encode = |special, add_special, offsets| {
            let options = EncodeOptions { special, add_special, offsets, ..Default::default() };
            t.encode(&case.text, &options, scratch).unwrap()
        };
        let chars = encode(plain, false, Some(OffsetUnit::Char));
        out.check("ids", case.n, encode(plain, false, None).ids == case.ids);
        out.check("ids with offsets", case.n, chars.ids == case.ids);
        let spans: Vec<_> = chars.spans.iter().map(|s| (s.start, s.end)).collect();
        if let Some(starts) = &case.char_starts {
            // tiktoken tells offsets in the normalized text; ours lead to the original. Same where nothing changed.
            let same = spans.iter().map(|s| s.0).eq(starts.iter().copied());
            out.check("offsets", case.n, case.nfc == Some(true) || same);
        }
        if let Some(offsets) = &case.offsets {
            out.check("offsets", case.n, spans == *offsets);
        }
        if let Some(offsets) = &case.byte_offsets {
            let bytes = encode(plain, false, Some(OffsetUnit::Byte));
            let spans: Vec<_> = bytes.spans.iter().map(|s| (s.start, s.end)).collect();
            out.check("byte offsets", case.n, spans == *offsets);
        }
        if reference == Reference::Tokenizers {
            let added = encode(plain, true, None).ids;
            out.check(
                "ids with those around",
                case.n,
                added == *case.ids_add_special.as_ref().unwrap_or(&case.ids),
            );
            let text = encode(SpecialPolicy::default(), false, None).ids;
            out.check(
                "ids without specials",
                case.n,
                text == *case.ids_no_special.as_ref().unwrap_or(&case.ids),
            );
            let decoded = case.decoded.as_ref().unwrap_or(&case.text);
            let skipped = case.decoded_skip_special.as_ref().unwrap_or(decoded);
            out.check("text without specials", case.n, t.decode(&case.ids, true).unwrap().text == *skipped);
        }
        if reference == Reference::Tiktoken {
            let special = encode(parse, false, None).ids;
            out.check(
                "ids with specials",
                case.n,
                special == *case.ids_special.as_ref().unwrap_or(&case.ids),
            );
        }
        if reference != Reference::Tekken {
            let decoded = case.decoded.as_ref().unwrap_or(&case.text);
            out.check("text", case.n, t.decode(&case.ids, false).unwrap().text == *decoded);
        }
        let count = t.count(&case.text, &plain, None, scratch).unwrap();
        out.check("count", case.n, count.tokens == case.ids.len());
    }
}

fn check_decoding(t: &Tokenizer, cases: &[DecodeCase], out: &mut Checked) {
    for (n, case) in (0..).zip(cases) {
        out.decoded += 1;
        // An id that is none is an error here. tiktoken raises too; tokenizers leaves it out.
        let known = case.ids.iter().all(|&id| t.vocab().bytes(id).is_some());
        let ids: Vec<u32> = match (known, &case.error) {
            (true, None) => case.ids.clone(),
            (false, Some(_)) => {
                out.check("error", n, t.decode(&case.ids, false).is_err());
                continue;
            }
            (false, None) if case.decoded.is_some() => {
                out.check("error", n, t.decode(&case.ids, false).is_err());
                case.ids.iter().copied().filter(|&id| t.vocab().bytes(id).is_some()).collect()
            }
            _ => {
                out.check("error", n, false);
                continue;
            }
        };
        let decoded = t.decode(&ids, false).unwrap();
        if let Some(b64) = &case.decoded_b64 {
            let bytes = base64::engine::general_purpose::STANDARD.decode(b64).unwrap();
            out.check("decoded bytes", n, t.decode_bytes(&ids, false).unwrap() == bytes);
        }
        for text in case.decoded.iter().chain(&case.lossy) {
            out.check("decoded text", n, decoded.text == *text);
        }
        if let Some(text) = &case.decoded_skip_special {
            out.check("decoded text without specials", n, t.decode(&ids, true).unwrap().text == *text);
        }
    }
}

#[test]
fn published_vocabularies_equal_their_references() {
    let mut table = String::from("vocabulary      texts  decoded  differences\n");
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for published in PUBLISHED {
        let (name, _, reference, passed_on) = published;
        let Some(t) = tokenizer_of(published) else {
            missing.push((name, passed_on));
            table += &format!("{name:<15} not here\n");
            continue;
        };
        let cases = lines(&find("golden", &format!("{name}.jsonl"), passed_on).unwrap());
        let mut checked = Checked { texts: 0, decoded: 0, differences: Vec::new() };
        check_texts(&t, reference, &cases, &mut checked);
        if reference != Reference::Tekken {
            let decode: Vec<DecodeCase> =
                lines(&find("golden", &format!("{name}.decode.jsonl"), passed_on).unwrap());
            check_decoding(&t, &decode, &mut checked);
            assert!(checked.decoded > 0);
        }
        assert!(checked.texts > 0);
        let Checked { texts, decoded, differences } = checked;
        table += &format!("{name:<15} {texts:>5}  {decoded:>7}  {:>11}\n", differences.len());
        all.extend(differences.into_iter().map(|d| format!("{name}: {d}")));
    }
    println!("{table}");
    // Where the full set is not, there is the small one.
    let complete = data::shared("SHA256SUMS").is_some();
    let small = ["cl100k_base", "gpt2-bpe", "mistral-v1-hf"];
    missing.retain(|(name, passed_on)| *passed_on && (complete || small.contains(name)));
    assert!(missing.is_empty(), "vocabularies that are not here: {missing:?}");
    assert!(all.is_empty(), "{} differences\n{table}\nfirst: {:#?}", all.len(), &all[..all.len().min(20)]);
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

/// What a tokenizer makes of a text.
#[derive(Debug, PartialEq)]
struct Behaviour {
    parsed: Vec<u32>,
    plain: Vec<u32>,
    added: Vec<u32>,
    spans: Vec<(usize, usize)>,
    decoded: String,
}

fn behaviour(t: &Tokenizer, texts: &[String]) -> Vec<Behaviour> {
    let scratch = &mut Scratch::default();
    let parse = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
    let of = |text: &String| {
        let mut encode = |special, add_special, offsets| {
            let options = EncodeOptions { special, add_special, offsets, ..Default::default() };
            t.encode(text, &options, scratch).unwrap()
        };
        let spanned = encode(parse, true, Some(OffsetUnit::Utf16));
        let parsed = encode(parse, false, None).ids;
        Behaviour {
            plain: encode(SpecialPolicy::default(), false, None).ids,
            spans: spanned.spans.iter().map(|s| (s.start, s.end)).collect(),
            decoded: t.decode(&parsed, false).unwrap().text,
            added: spanned.ids,
            parsed,
        }
    };
    texts.iter().map(of).collect()
}

#[test]
fn export_then_import_is_the_identity_on_ids_for_every_vocabulary_and_format() {
    let mut table = String::from("vocabulary      native hf tiktoken gpt2\n");
    for published in PUBLISHED {
        let Some(t) = tokenizer_of(published) else { continue };
        let name = published.0;
        let cases: Vec<Case> = lines(&find("golden", &format!("{name}.jsonl"), published.3).unwrap());
        let texts: Vec<String> = cases.into_iter().map(|case| case.text).collect();
        let expect = behaviour(&t, &texts);
        table += &format!("{name:<15}");
        for format in [Format::Native, Format::Hf, Format::Tiktoken, Format::Gpt2] {
            let files = match export_files(&t, format) {
                Ok(files) => files,
                Err(refused) => {
                    assert!(
                        matches!(format, Format::Tiktoken | Format::Gpt2)
                            || published.2 == Reference::SentencePiece,
                        "{name} as {format:?}: {refused}"
                    );
                    table += " refused";
                    continue;
                }
            };
            let complete = matches!(format, Format::Native | Format::Hf);
            let options = if complete {
                ImportOptions::default()
            } else {
                vocabd::formats::sidecar(&t).unwrap_or_default()
            };
            if options == ImportOptions::default() && !complete {
                table += " no-sidecar";
                continue;
            }
            let back = import_files(&files, None, &options).unwrap();
            let got = behaviour(&back, &texts);
            let differ = got.iter().zip(&expect).filter(|(a, b)| {
                // Neither of the smaller formats says what is put around a text or trimmed off its offsets.
                if complete {
                    a != b
                } else {
                    a.parsed != b.parsed || a.plain != b.plain || a.decoded != b.decoded
                }
            });
            assert_eq!(differ.count(), 0, "{name} as {format:?}");
            assert_eq!(back.chat(), if complete { t.chat() } else { back.chat() }, "{name} as {format:?}");
            table += " same";
            if format == Format::Native {
                let written = export(&t, Format::Native).unwrap();
                assert!(export(&back, Format::Native).unwrap() == written, "{name} as native is canonical");
            }
        }
        table += "\n";
    }
    println!("{table}");
}

#[test]
fn published_tiktoken_files_survive_export_and_import_byte_for_byte() {
    for published in PUBLISHED.into_iter().filter(|p| p.2 == Reference::Tiktoken) {
        let (Some(t), Some(files)) = (tokenizer_of(published), files_of(published)) else { continue };
        let file = files.iter().next().unwrap().1.to_vec();
        let written = export(&t, Format::Tiktoken).unwrap();
        let trimmed = |b: &[u8]| b.strip_suffix(b"\n").unwrap_or(b).to_vec();
        assert!(trimmed(&written) == trimmed(&file), "{} as tiktoken", published.0);
    }
}
