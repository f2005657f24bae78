//! SentencePiece models: normalized texts, ids, byte offsets and decoded texts as the references give them.

use crate::data;
use serde::Deserialize;
use std::collections::HashMap;
use vocabd::engine::{
    PieceKind, SentencePieceNormalizer, Unigram, UnigramFlavour, UnigramParts, UnigramPiece, UnigramScratch,
};
use vocabd::formats::sentencepiece::{Model, ModelKind, looks_like, parse};

const MODELS: [&str; 3] = ["nfkc-bytes", "rules-suffix", "identity"];

#[derive(Deserialize)]
struct Case {
    n: Option<u64>,
    text: Option<String>,
    times: Option<usize>,
    norm: Option<String>,
    ids: Vec<u32>,
    offsets: Vec<i64>,
    hf_norm: Option<String>,
    hf: Option<Vec<u32>>,
    hf_offsets: Option<Vec<i64>>,
}

#[derive(Deserialize)]
struct DecodeCase {
    ids: Vec<u32>,
    decoded: String,
}

fn lines<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Vec<T> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers whose differences these are, in pairs.
fn spans(differences: &[i64]) -> Vec<(usize, usize)> {
    let mut sum = 0;
    let numbers: Vec<usize> = differences
        .iter()
        .map(|d| {
            sum += d;
            usize::try_from(sum).unwrap()
        })
        .collect();
    numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Ids and offsets in the original text, through the normalizer and back.
fn encode(
    normalizer: &SentencePieceNormalizer,
    unigram: &Unigram,
    text: &str,
) -> (Vec<u32>, Vec<(usize, usize)>) {
    let mut origins = Vec::new();
    let normalized = normalizer.normalize(text, Some(&mut origins));
    let (mut ids, mut spans) = (Vec::new(), Vec::new());
    unigram.encode(&normalized, &mut UnigramScratch::default(), |id, range| {
        let start = origins[range.start].0;
        let end = if range.is_empty() { start } else { origins[range.end - 1].1 };
        ids.push(id);
        spans.push((start as usize, end as usize));
    });
    (ids, spans)
}

/// The same pieces as a model of a `tokenizer.json`.
fn hugging_face(model: &Model) -> Unigram {
    let pieces = model.pieces.iter();
    let piece = |text, score| UnigramPiece { text, score: f64::from(score), kind: PieceKind::Normal };
    Unigram::new(&UnigramParts {
        pieces: pieces.map(|p| piece(p.piece.as_str(), p.score)).collect(),
        unk: model.unk,
        byte_fallback: model.byte_fallback,
        flavour: UnigramFlavour::HuggingFace,
    })
    .unwrap()
}

/// Plays changes back onto a text: what is left of it is the normalized text.
fn hf_normalized(model: &Model, text: &str) -> String {
    let Some(charsmap) = &model.normalizer.charsmap else { return text.to_owned() };
    let mut normalized = String::new();
    if charsmap.hf_changes(text, |c, _| normalized.push(c)) { normalized } else { text.to_owned() }
}

#[test]
fn small_models_give_what_both_references_give() {
    #[derive(Deserialize)]
    struct Text {
        n: u64,
        text: String,
    }
    let texts = lines::<Text>(&data::local("golden/cl100k_base.jsonl"));
    let texts: HashMap<u64, String> = texts.into_iter().map(|t| (t.n, t.text)).collect();
    let mut differ = Vec::new();
    for name in MODELS {
        let file = data::local(&format!("vocabs/spm-{name}.model"));
        assert!(looks_like(&file));
        let model = parse(&file).unwrap();
        assert_eq!(model.kind, ModelKind::Unigram);
        let (normalizer, unigram) = (model.normalizer().unwrap(), model.unigram().unwrap());
        let hugging_face = hugging_face(&model);
        let cases: Vec<Case> = lines(&data::local(&format!("golden/spm-{name}.jsonl")));
        assert!(cases.len() > 400);
        for (line, case) in (1..).zip(&cases) {
            let text = case.text.as_ref().unwrap_or_else(|| &texts[&case.n.unwrap()]);
            let text = text.repeat(case.times.unwrap_or(1));
            let mut check = |what: &str, same: bool| {
                if !same {
                    differ.push(format!("{name} line {line}: {what}"));
                }
            };
            let norm = normalizer.normalize(&text, None);
            check("normalized text", case.norm.as_ref().is_none_or(|expect| *expect == norm));
            let (ids, found) = encode(&normalizer, &unigram, &text);
            check("ids", ids == case.ids);
            check("offsets", found == spans(&case.offsets));
            let (Some(expect), Some(offsets)) = (&case.hf, &case.hf_offsets) else { continue };
            let norm = hf_normalized(&model, &text);
            check("normalized text of Hugging Face", norm == *case.hf_norm.as_ref().unwrap_or(&text));
            let mut tokens = Vec::new();
            hugging_face.encode(&text, &mut UnigramScratch::default(), |id, range| {
                tokens.push((id, (range.start, range.end)));
            });
            let expect: Vec<_> = expect.iter().copied().zip(spans(offsets)).collect();
            check("tokens of Hugging Face", tokens == expect);
        }
        let decode: Vec<DecodeCase> = lines(&data::local(&format!("golden/spm-{name}.decode.jsonl")));
        differ.extend(decode_differences(name, &model, &decode));
    }
    assert!(differ.is_empty(), "{} differences, first: {:?}", differ.len(), &differ[..differ.len().min(10)]);
}

fn decode_differences(name: &str, model: &Model, cases: &[DecodeCase]) -> Vec<String> {
    assert!(!cases.is_empty());
    let decoder = model.decoder();
    let same = |case: &DecodeCase| {
        let pieces = case.ids.iter().map(|&id| &model.pieces[id as usize]);
        let pieces = pieces.map(|p| (p.piece.as_str(), p.kind));
        let (text, valid) = decoder.decode(pieces.clone(), false);
        let (raw, raw_valid) = decoder.decode(pieces, true);
        text == case.decoded.as_bytes() && valid == raw_valid && (raw == text || !valid)
    };
    let differ = (1..).zip(cases).filter(|(_, case)| !same(case));
    differ.map(|(line, _)| format!("{name} line {line}: decoded text")).collect()
}

/// The published BPE models: what is in the file, and what its ids decode to. How they cut text is the engine's.
#[test]
fn published_models_are_read_whole() {
    #[derive(Deserialize)]
    struct Facts {
        vocab: String,
        format: String,
        #[serde(default)]
        vocab_size: usize,
        #[serde(default)]
        piece_types: HashMap<String, usize>,
        #[serde(default)]
        first_pieces: Vec<String>,
        #[serde(default)]
        user_defined: Vec<String>,
        #[serde(default)]
        control: Vec<String>,
        #[serde(default)]
        add_dummy_prefix: bool,
        #[serde(default)]
        remove_extra_whitespaces: bool,
        #[serde(default)]
        escape_whitespaces: bool,
        byte_fallback: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Golden {
        ids: Vec<u32>,
        text: Option<String>,
        decoded: Option<String>,
        lossy: Option<String>,
        error: Option<serde_json::Value>,
    }
    let Some(facts) = data::shared("vocabs/vocabs.json") else { return };
    let facts: Vec<Facts> = serde_json::from_slice(&facts).unwrap();
    let facts: Vec<_> = facts.into_iter().filter(|facts| facts.format == "spm").collect();
    assert_eq!(facts.len(), 2);
    for facts in facts {
        let file = data::shared(&format!("vocabs/{}.tokenizer.model", facts.vocab)).unwrap();
        assert!(looks_like(&file));
        let model = parse(&file).unwrap();
        assert_eq!((model.kind, model.pieces.len()), (ModelKind::Bpe, facts.vocab_size));
        let count = |kind| model.pieces.iter().filter(|p| p.kind == kind).count();
        for (name, kind) in [
            ("unknown", PieceKind::Unknown),
            ("control", PieceKind::Control),
            ("user_defined", PieceKind::UserDefined),
            ("byte", PieceKind::Byte),
            ("normal", PieceKind::Normal),
        ] {
            assert_eq!(
                count(kind),
                facts.piece_types.get(name).copied().unwrap_or(0),
                "{} {name}",
                facts.vocab
            );
        }
        let first: Vec<_> = model.pieces.iter().take(facts.first_pieces.len()).map(|p| &p.piece).collect();
        assert_eq!(first, facts.first_pieces.iter().collect::<Vec<_>>());
        assert_eq!(model.user_defined().collect::<Vec<_>>(), facts.user_defined);
        let control = model.pieces.iter().filter(|p| p.kind == PieceKind::Control);
        let control: Vec<_> = control.take(facts.control.len()).map(|p| &p.piece).collect();
        assert_eq!(control, facts.control.iter().collect::<Vec<_>>());
        assert_eq!((model.unk, model.bos, model.eos, model.pad), (Some(0), Some(1), Some(2), None));
        assert_eq!(Some(model.byte_fallback), facts.byte_fallback);
        let normalizer = &model.normalizer;
        assert!(normalizer.charsmap.is_none() && normalizer.name == "identity");
        assert_eq!(normalizer.add_dummy_prefix, facts.add_dummy_prefix);
        assert_eq!(normalizer.remove_extra_whitespaces, facts.remove_extra_whitespaces);
        assert_eq!(normalizer.escape_whitespaces, facts.escape_whitespaces);
        let mut cases = Vec::new();
        for file in ["jsonl", "decode.jsonl"] {
            let goldens: Vec<Golden> =
                lines(&data::shared(&format!("golden/{}.{file}", facts.vocab)).unwrap());
            cases.extend(goldens.into_iter().filter(|golden| golden.error.is_none()).map(|golden| {
                DecodeCase {
                    ids: golden.ids,
                    decoded: golden.decoded.or(golden.lossy).or(golden.text).unwrap(),
                }
            }));
        }
        assert!(cases.len() > 692);
        let differ = decode_differences(&facts.vocab, &model, &cases);
        assert!(
            differ.is_empty(),
            "{} differences, first: {:?}",
            differ.len(),
            &differ[..differ.len().min(10)]
        );
    }
}

/// Bytes of published files of other formats are not taken for a model.
#[test]
fn tiktoken_files_are_no_models() {
    assert!(!looks_like(&data::local("vocabs/cl100k_base.tiktoken")));
    for name in data::shared_names("vocabs").iter().filter(|name| !name.ends_with(".tokenizer.model")) {
        assert!(!looks_like(&data::shared(&format!("vocabs/{name}")).unwrap()), "{name}");
    }
}
