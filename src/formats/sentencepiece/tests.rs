//! Models made field by field: what is read, and what is refused with which words.

use super::*;

fn piece(text: &[u8], score: f32, kind: i32) -> PieceMessage {
    PieceMessage { piece: Some(text.to_vec()), score: Some(score), kind: Some(kind) }
}

struct File {
    pieces: Vec<PieceMessage>,
    trainer: TrainerMessage,
    normalizer: NormalizerMessage,
    denormalizer: NormalizerMessage,
}

impl File {
    fn new() -> Self {
        Self {
            pieces: vec![
                piece(b"<unk>", 0.0, 2),
                piece(b"<s>", 0.0, 3),
                piece(b"</s>", 0.0, 3),
                piece("▁a".as_bytes(), -1.5, 1),
                piece(b"[X]", 0.0, 4),
            ],
            trainer: TrainerMessage { model_type: Some(1), ..Default::default() },
            normalizer: NormalizerMessage::default(),
            denormalizer: NormalizerMessage::default(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |number: u8, content: Vec<u8>| {
            bytes.push(number << 3 | 2);
            prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
            bytes.extend_from_slice(&content);
        };
        self.pieces.iter().for_each(|piece| field(1, piece.encode_to_vec()));
        field(2, self.trainer.encode_to_vec());
        field(3, self.normalizer.encode_to_vec());
        // Self-test samples, whatever they are.
        field(4, b"\xff\xff".to_vec());
        field(5, self.denormalizer.encode_to_vec());
        bytes
    }
}

fn byte_pieces() -> impl Iterator<Item = PieceMessage> {
    (0..=255u8).map(|byte| piece(format!("<0x{byte:02X}>").as_bytes(), 0.0, 6))
}

#[test]
fn pieces_and_facts_are_read() {
    let mut file = File::new();
    let model = parse(&file.bytes()).unwrap();
    assert_eq!(model.kind, ModelKind::Unigram);
    assert_eq!((model.unk, model.bos, model.eos, model.pad), (Some(0), Some(1), Some(2), None));
    let kinds: Vec<_> = model.pieces.iter().map(|p| p.kind).collect();
    let expect = [
        PieceKind::Unknown,
        PieceKind::Control,
        PieceKind::Control,
        PieceKind::Normal,
        PieceKind::UserDefined,
    ];
    assert_eq!(kinds, expect);
    assert_eq!(model.pieces[3], Piece { piece: "▁a".into(), score: -1.5, kind: PieceKind::Normal });
    assert_eq!(model.unk_surface, " ⁇ ");
    assert!(model.normalizer.charsmap.is_none() && !model.byte_fallback && !model.treat_whitespace_as_suffix);
    let flags = |n: &NormalizerSpec| (n.add_dummy_prefix, n.remove_extra_whitespaces, n.escape_whitespaces);
    assert_eq!(flags(&model.normalizer), (true, true, true), "the defaults");

    file.trainer = TrainerMessage {
        model_type: Some(2),
        treat_whitespace_as_suffix: Some(true),
        byte_fallback: Some(true),
        unk_surface: Some("?".into()),
        bos_piece: Some("</s>".into()),
        eos_piece: Some("[X]".into()),
        pad_piece: None,
    };
    file.normalizer = NormalizerMessage {
        name: Some("identity".into()),
        add_dummy_prefix: Some(false),
        remove_extra_whitespaces: Some(false),
        escape_whitespaces: Some(false),
        precompiled_charsmap: Some(Vec::new()),
    };
    file.pieces.extend(byte_pieces());
    let model = parse(&file.bytes()).unwrap();
    assert_eq!(
        (model.kind, model.bos, model.eos),
        (ModelKind::Bpe, Some(2), None),
        "[X] is no control piece"
    );
    assert!(model.byte_fallback && model.treat_whitespace_as_suffix && model.unk_surface == "?");
    assert_eq!(flags(&model.normalizer), (false, false, false));
}

#[test]
fn a_model_without_an_unknown_piece_needs_bytes() {
    let mut file = File::new();
    file.pieces.remove(0);
    assert!(parse(&file.bytes()).is_err());
    file.trainer.byte_fallback = Some(true);
    file.pieces.extend(byte_pieces());
    let model = parse(&file.bytes()).unwrap();
    assert_eq!(model.unk, None);
    let mut ids = Vec::new();
    model.unigram().unwrap().encode("▁aé", &mut Default::default(), |id, _| ids.push(id));
    assert_eq!(ids, [2, 4 + 0xc3, 4 + 0xa9]);
}

#[test]
fn a_lone_nul_is_unused_where_bytes_stand_for_it() {
    let mut file = File::new();
    file.pieces.push(piece(b"\0", -3.0, 1));
    assert!(parse(&file.bytes()).is_err());
    file.trainer = TrainerMessage { model_type: Some(2), byte_fallback: Some(true), ..Default::default() };
    file.pieces.extend(byte_pieces());
    assert_eq!(parse(&file.bytes()).unwrap().pieces[5].kind, PieceKind::Unused);
}

#[test]
fn what_is_wrong_is_told_with_piece_and_place() {
    // The pieces of `File::new` begin at 0, 16, 30, 45 and 60; 74 bytes in all.
    let check = |change: &dyn Fn(&mut File), offset: usize, reason: &str| {
        let mut file = File::new();
        change(&mut file);
        let expect = FormatError::Malformed { offset, reason: reason.to_owned() };
        assert_eq!(parse(&file.bytes()).unwrap_err(), expect);
    };
    check(
        &|f| f.pieces[3].score = Some(f32::NAN),
        45,
        "piece 3 has the score NaN, which is not a finite number",
    );
    check(
        &|f| f.pieces[1].score = Some(f32::INFINITY),
        16,
        "piece 1 has the score inf, which is not a finite number",
    );
    check(&|f| f.pieces[3].piece = None, 45, "piece 3 is empty");
    check(&|f| f.pieces[3].piece = Some(b"\xff".to_vec()), 45, "piece 3 is not UTF-8");
    check(&|f| f.pieces[3].piece = Some(b"a\0".to_vec()), 45, "piece 3 has a NUL in it");
    check(&|f| f.pieces[3].kind = Some(7), 45, "piece 3 has the unknown type 7");
    check(&|f| f.pieces[3].piece = Some(b"[X]".to_vec()), 59, "piece 4 has the text of piece 3");
    check(
        &|f| f.pieces[3].piece = Some(vec![b'a'; MAX_PIECE_BYTES + 1]),
        45,
        "piece 3 has 8000 bytes, over the limit of 7999",
    );
    check(
        &|f| f.pieces[1].kind = Some(2),
        16,
        "piece 1 is of the type UNKNOWN, as is piece 0: there must be one",
    );
    check(&|f| f.pieces[0].kind = Some(3), 60, "no piece is of the type UNKNOWN");
    check(&|f| f.pieces[3].kind = Some(6), 45, "piece 3 is a byte piece without a name like <0xE4>");
    check(
        &|f| f.pieces[3] = byte_pieces().next().unwrap(),
        45,
        "piece 3 is a byte piece in a model without byte fallback",
    );
    check(
        &|f| f.trainer.byte_fallback = Some(true),
        60,
        "byte fallback needs a byte piece <0x00>, and there is none",
    );
    check(&|f| f.trainer.model_type = Some(3), 74, "trainer_spec: models of the type WORD are not supported");
    check(&|f| f.trainer.model_type = Some(4), 74, "trainer_spec: models of the type CHAR are not supported");
    check(&|f| f.trainer.model_type = Some(9), 74, "trainer_spec: 9 is no model type");
    check(
        &|f| f.normalizer.precompiled_charsmap = Some(vec![1, 2, 3]),
        78,
        "normalizer_spec: the charsmap has 3 bytes: not even the size of its trie",
    );
    check(
        &|f| f.denormalizer.precompiled_charsmap = Some(vec![1]),
        84,
        "denormalizer_spec: rules for denormalizing are not supported",
    );
    let mut unused = File::new();
    unused.pieces[3].kind = Some(5);
    parse(&unused.bytes()).unwrap();
    unused.trainer.model_type = Some(2);
    let error = parse(&unused.bytes()).unwrap_err().to_string();
    assert!(error.starts_with("at byte 45: piece 3 is unused, which is not supported in BPE"), "{error}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused_or_lacks_something() {
    let bytes = File::new().bytes();
    for len in 0..bytes.len() {
        let Ok(model) = parse(&bytes[..len]) else { continue };
        assert!(model.pieces.len() <= 5 && model.unk == Some(0));
    }
    // The last piece has no length.
    assert_eq!(
        parse(&bytes[..61]).unwrap_err(),
        FormatError::Malformed { offset: 61, reason: "a number is cut off".into() }
    );
}

#[test]
fn models_are_told_from_other_files() {
    let check = |bytes: &[u8], expect: bool| assert_eq!(looks_like(bytes), expect, "{bytes:?}");
    check(&File::new().bytes(), true);
    check(&File::new().bytes()[..16], true);
    check(b"", false);
    check(b"IQ== 0\nIg== 1\nIw== 2\n", false);
    check(b"\n\nIQ== 0\nIg== 1\n", false);
    check(b"{\"model\": {}}", false);
    check(b"\x1f\x8b\x08\0\0\0\0\0", false);
    // Other protocol buffers: a number first, a string first, a message of a string, one of other types.
    check(b"\x08\x07\x12\x04test", false);
    check(b"\x0a\x04test\x10\x01", false);
    check(b"\x0a\x06\x0a\x04test", false);
    check(b"\x0a\x08\x0a\x04test\x10\x01", false);
    // A trainer's spec without pieces.
    check(b"\x12\x02\x18\x01", false);
}

#[test]
fn no_bytes_make_it_panic() {
    let bytes = File::new().bytes();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x0a, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            looks_like(&damaged);
            if let Ok(model) = parse(&damaged) {
                model.normalizer().unwrap();
                model.unigram().unwrap();
            }
        }
    }
}
