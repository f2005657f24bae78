//! GGUF files built of vocabularies of the test data: the same ids as from the vocabulary's own file.

use crate::data;
use serde::Deserialize;
use vocabd::engine::{
    EncodeOptions, OnSpecial, Pattern, PieceKind, Scratch, Special, SpecialPolicy, Tokenizer, TokenizerParts,
    spell,
};
use vocabd::formats::sentencepiece::{ModelKind, parse};
use vocabd::formats::{Format, ImportOptions, export, gguf, import};

/// A file in the making: its keys and values one after the other.
struct Gguf {
    keys: u64,
    body: Vec<u8>,
}

impl Gguf {
    fn new(model: &str) -> Self {
        Self { keys: 0, body: Vec::new() }.put("model", 8, &string(model))
    }

    fn put(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys += 1;
        self.body.extend(string(&format!("tokenizer.ggml.{key}")));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(value);
        self
    }

    fn list(self, key: &str, kind: u32, count: usize, elements: &[u8]) -> Self {
        let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
        self.put(key, 9, &[&head, elements].concat())
    }

    fn strings(self, key: &str, strings: &[String]) -> Self {
        let elements: Vec<u8> = strings.iter().flat_map(|text| string(text)).collect();
        self.list(key, 8, strings.len(), &elements)
    }

    fn ints(self, key: &str, numbers: &[i32]) -> Self {
        let elements: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 5, numbers.len(), &elements)
    }

    /// The file, with what stands behind the metadata in a real one.
    fn file(self) -> Vec<u8> {
        let head =
            [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &self.keys.to_le_bytes()].concat();
        [head, self.body, b"tensors".to_vec()].concat()
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn texts() -> Vec<String> {
    #[derive(Deserialize)]
    struct Case {
        text: String,
    }
    let file = data::local("golden/cl100k_base.jsonl");
    let lines = std::str::from_utf8(&file).unwrap().lines();
    lines.map(|line| serde_json::from_str::<Case>(line).unwrap().text).collect()
}

fn ids(t: &Tokenizer, text: &str, others: OnSpecial, add_special: bool) -> Vec<u32> {
    let special = SpecialPolicy { others, ..Default::default() };
    let options = EncodeOptions { special, add_special, ..Default::default() };
    t.encode(text, &options, &mut Scratch::default()).unwrap().ids
}

#[track_caller]
fn check_same_ids(ours: &Tokenizer, expect: &Tokenizer, is_sentencepiece: bool) {
    let texts = texts();
    assert!(texts.len() > 100);
    for (n, text) in texts.iter().enumerate() {
        for others in [OnSpecial::Text, OnSpecial::Parse] {
            // To SentencePiece itself the name of the unknown piece is text, to llama.cpp it is that piece.
            if is_sentencepiece && others == OnSpecial::Parse && text.contains("<unk>") {
                continue;
            }
            let same = ids(ours, text, others, true) == ids(expect, text, others, true);
            assert!(same, "text {n} with {others:?}");
        }
    }
}

/// cl100k as a GGUF file whose split has the name `pre`.
fn cl100k(t: &Tokenizer, pre: &str) -> Vec<u8> {
    let special = |id| t.specials().list().iter().find(|token| token.id == id);
    let (mut tokens, mut types) = (Vec::new(), Vec::new());
    for id in 0..t.vocab_size() as u32 {
        let (text, kind) = match (special(id), t.vocab().bytes(id)) {
            (Some(token), _) => (token.name.clone(), 3),
            (None, Some(bytes)) => (spell(bytes), 1),
            (None, None) => (format!("[PAD{id}]"), 5),
        };
        tokens.push(text);
        types.push(kind);
    }
    let part = |id| spell(t.vocab().bytes(id).unwrap());
    let merges: Vec<String> =
        t.merges().iter().map(|merge| format!("{} {}", part(merge.left), part(merge.right))).collect();
    let file =
        Gguf::new("gpt2").put("pre", 8, &string(pre)).strings("tokens", &tokens).ints("token_type", &types);
    file.strings("merges", &merges).file()
}

#[test]
fn a_byte_level_vocabulary_gives_the_same_ids() {
    let t = import(&data::local("vocabs/cl100k_base.tiktoken"), None, &ImportOptions::default()).unwrap();
    // The split of dbrx is that of Llama 3.
    let parts = TokenizerParts {
        specials: t.specials().list().iter().map(|s| Special::new(s.name.clone(), s.id, true)).collect(),
        ..TokenizerParts::byte_level(
            t.vocab()
                .iter()
                .filter(|(id, b)| t.vocab().id(b) == Some(*id))
                .map(|(id, b)| (id, b.to_vec()))
                .collect(),
            t.merges().to_vec(),
            Pattern::parse("llama3").unwrap(),
        )
    };
    let file = cl100k(&t, "dbrx");
    let ours = import(&file, None, &ImportOptions::default()).unwrap();
    check_same_ids(&ours, &Tokenizer::new(parts).unwrap(), false);
    let options = ImportOptions { split: Some("cl100k".into()), ..Default::default() };
    let ours = import(&cl100k(&t, "no such name"), Some(Format::Gguf), &options).unwrap();
    check_same_ids(&ours, &t, false);
    // What it was made into can be kept and exported; a GGUF file cannot be made of it.
    let native = export(&ours, Format::Native).unwrap();
    check_same_ids(&import(&native, None, &ImportOptions::default()).unwrap(), &t, false);
    assert!(export(&ours, Format::Gguf).unwrap_err().to_string().contains("read"));
    assert_eq!(gguf::metadata_len(&file), Ok(Some(file.len() - "tensors".len())));
}

#[test]
fn sentencepiece_models_give_the_same_ids() {
    for name in ["nfkc-bytes", "identity"] {
        let source = data::local(&format!("vocabs/spm-{name}.model"));
        let model = parse(&source).unwrap();
        assert_eq!(model.kind, ModelKind::Unigram);
        let texts: Vec<String> = model.pieces.iter().map(|piece| piece.piece.clone()).collect();
        let scores: Vec<u8> = model.pieces.iter().flat_map(|piece| piece.score.to_le_bytes()).collect();
        let types = model.pieces.iter().map(|piece| match piece.kind {
            PieceKind::Normal => 1,
            PieceKind::Unknown => 2,
            PieceKind::Control => 3,
            PieceKind::UserDefined => 4,
            PieceKind::Unused => 5,
            PieceKind::Byte => 6,
        });
        let flag = |flag: bool| [u8::from(flag)];
        let mut file = Gguf::new("t5")
            .strings("tokens", &texts)
            .list("scores", 6, texts.len(), &scores)
            .ints("token_type", &types.collect::<Vec<_>>())
            .put("add_space_prefix", 7, &flag(model.normalizer.add_dummy_prefix))
            .put("remove_extra_whitespaces", 7, &flag(model.normalizer.remove_extra_whitespaces))
            .put("bos_token_id", 4, &model.bos.unwrap().to_le_bytes())
            .put("eos_token_id", 4, &model.eos.unwrap().to_le_bytes())
            .put("add_eos_token", 7, &flag(false));
        // The rules for characters are a field of their own in the model's normalizer.
        if name == "nfkc-bytes" {
            let rules = charsmap(&source);
            file = file.list("precompiled_charsmap", 0, rules.len(), rules);
        }
        let ours = import(&file.file(), None, &ImportOptions::default()).unwrap();
        check_same_ids(&ours, &import(&source, None, &ImportOptions::default()).unwrap(), true);
    }
}

/// Field 2 of the message in field 3, walked over by hand.
fn charsmap(model: &[u8]) -> &[u8] {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let len = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let (number, rest) = bytes.split_at(len);
        *bytes = rest;
        number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    fn field(mut bytes: &[u8], wanted: u64) -> &[u8] {
        loop {
            let key = varint(&mut bytes);
            let len = match key & 7 {
                0 => {
                    varint(&mut bytes);
                    0
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                _ => 4,
            };
            let (content, rest) = bytes.split_at(len);
            if key == wanted << 3 | 2 {
                return content;
            }
            bytes = rest;
        }
    }
    field(field(model, 3), 2)
}
