//! SentencePiece models (`tokenizer.model`, `.spm`): a protocol buffer of pieces with scores, of how text is normalized,
//! and of how the model was trained. Read only.
//!
//! The messages are those of `sentencepiece_model.proto`, of which only the fields are read that change what a model
//! does to a text; all others are skipped. What SentencePiece refuses to load is refused here, and so is the little
//! that is not supported (models of words and of characters, rules for denormalizing, unused pieces in BPE).
//! SentencePiece's self-test samples are skipped.

mod tokenizer;

pub(super) use tokenizer::{Around, tokenizer};

use super::{FormatError, hf};
use crate::engine::Tokenizer;
use crate::engine::{
    Charsmap, PieceKind, SentencePieceDecoder, SentencePieceNormalizer, TokenId, Unigram, UnigramError,
    UnigramFlavour, UnigramParts, UnigramPiece, UserDefined, UserDefinedError, byte_of,
};
use prost::Message;
use std::collections::HashMap;
use std::ops::Range;

/// Most pieces taken. The largest of the published models have about 260,000.
pub const MAX_PIECES: usize = 2_000_000;
/// Longest piece taken, in bytes: what SentencePiece takes.
pub const MAX_PIECE_BYTES: usize = 7_999;
/// Most bytes of all pieces together.
pub const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// What SentencePiece decodes the unknown piece to, unless a model says otherwise.
pub(super) const UNK_SURFACE: &str = " \u{2047} ";

/// The one piece that may have a NUL in it, and only if it is unused; with byte fallback it is so whatever its type.
const NUL: &str = "\0";

/// How a model cuts text into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Merges two neighbours whose joined text is a normal or user-defined piece, the piece of the highest score first
    /// (-0 is below 0), of equal scores the leftmost. Begins with characters, and with user-defined pieces (the longest
    /// at a place), which never merge. What is no such piece in the end is unknown.
    Bpe,
    /// Takes the pieces whose scores have the highest sum: [`Model::unigram`].
    Unigram,
}

/// One piece; its id is its position in [`Model::pieces`].
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its text, with `▁` for a space; never empty.
    pub piece: String,
    /// Finite. In a BPE model the priority of the merge (highest first), else a logarithm of its probability.
    pub score: f32,
    /// What it is for.
    pub kind: PieceKind,
}

/// How a model normalizes text before it cuts it.
#[derive(Debug, Clone)]
pub struct NormalizerSpec {
    /// The name of the rules, such as `nmt_nfkc` or `identity`; says nothing that `charsmap` does not.
    pub name: String,
    /// Replacement rules, if any.
    pub charsmap: Option<Charsmap>,
    /// Whether a space is put before the text (after it with [`Model::treat_whitespace_as_suffix`]).
    pub add_dummy_prefix: bool,
    /// Whether spaces at both ends are dropped, and of several in a row all but one.
    pub remove_extra_whitespaces: bool,
    /// Whether a space becomes `▁`.
    pub escape_whitespaces: bool,
}

/// A model as the file describes it.
///
/// Holds: every piece has a text of its own; one at most is of the kind unknown,
/// [`Model::unk`]; there are byte pieces if and only if `byte_fallback`, and then one for each byte.
///
/// To encode as SentencePiece does: normalize the whole text ([`Model::normalizer`]); cut all of it, without
/// pretokens, into pieces; neighbouring unknown pieces become one token, or with `byte_fallback` the tokens of their
/// bytes. (`Unigram::encode` does the last two.) Control pieces and the unknown piece are never found in a text,
/// user-defined ones always are. To decode: [`Model::decoder`] with [`Piece::piece`] and [`Piece::kind`] of each id.
#[derive(Debug, Clone)]
pub struct Model {
    /// How text is cut.
    pub kind: ModelKind,
    /// All pieces by id.
    pub pieces: Vec<Piece>,
    /// The piece for what is unknown; none only with `byte_fallback`, which then leaves nothing unknown.
    pub unk: Option<TokenId>,
    /// The control piece for the beginning of a sequence. As all of these it is found by its name, not by the
    /// number that the trainer noted, as SentencePiece does it.
    pub bos: Option<TokenId>,
    /// The control piece for the end.
    pub eos: Option<TokenId>,
    /// The control piece for padding.
    pub pad: Option<TokenId>,
    /// What the unknown piece is decoded to.
    pub unk_surface: String,
    /// Whether what is unknown becomes the pieces of its bytes.
    pub byte_fallback: bool,
    /// Whether the space that the normalizer adds goes behind the text.
    pub treat_whitespace_as_suffix: bool,
    /// How text is normalized.
    pub normalizer: NormalizerSpec,
}

impl Model {
    /// The normalizer, user-defined pieces and all.
    ///
    /// # Errors
    /// None that a model read by [`parse`] could cause.
    pub fn normalizer(&self) -> Result<SentencePieceNormalizer, UserDefinedError> {
        Ok(SentencePieceNormalizer {
            charsmap: self.normalizer.charsmap.clone(),
            add_dummy_prefix: self.normalizer.add_dummy_prefix,
            remove_extra_whitespaces: self.normalizer.remove_extra_whitespaces,
            escape_whitespaces: self.normalizer.escape_whitespaces,
            treat_whitespace_as_suffix: self.treat_whitespace_as_suffix,
            user_defined: UserDefined::new(self.user_defined())?,
        })
    }

    /// The decoder.
    pub fn decoder(&self) -> SentencePieceDecoder {
        SentencePieceDecoder {
            add_dummy_prefix: self.normalizer.add_dummy_prefix,
            remove_extra_whitespaces: self.normalizer.remove_extra_whitespaces,
            unk_surface: self.unk_surface.clone(),
        }
    }

    /// The pieces as a unigram model.
    ///
    /// # Errors
    /// None that a model read by [`parse`] could cause.
    pub fn unigram(&self) -> Result<Unigram, UnigramError> {
        let pieces = self.pieces.iter();
        let pieces = pieces.map(|p| UnigramPiece { text: &p.piece, score: f64::from(p.score), kind: p.kind });
        Unigram::new(&UnigramParts {
            pieces: pieces.collect(),
            unk: self.unk,
            byte_fallback: self.byte_fallback,
            flavour: UnigramFlavour::SentencePiece,
        })
    }

    /// Texts of the user-defined pieces by ascending id.
    pub fn user_defined(&self) -> impl Iterator<Item = &str> {
        let user_defined = self.pieces.iter().filter(|piece| piece.kind == PieceKind::UserDefined);
        user_defined.map(|piece| piece.piece.as_str())
    }
}

#[derive(Clone, PartialEq, Message)]
struct PieceMessage {
    #[prost(bytes = "vec", optional, tag = "1")]
    piece: Option<Vec<u8>>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerMessage {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(string, optional, tag = "44")]
    unk_surface: Option<String>,
    #[prost(string, optional, tag = "46")]
    bos_piece: Option<String>,
    #[prost(string, optional, tag = "47")]
    eos_piece: Option<String>,
    #[prost(string, optional, tag = "48")]
    pad_piece: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerMessage {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

impl PieceMessage {
    fn piece_kind(&self) -> Result<PieceKind, String> {
        Ok(match self.kind {
            None | Some(1) => PieceKind::Normal,
            Some(2) => PieceKind::Unknown,
            Some(3) => PieceKind::Control,
            Some(4) => PieceKind::UserDefined,
            Some(5) => PieceKind::Unused,
            Some(6) => PieceKind::Byte,
            Some(other) => return Err(format!("has the unknown type {other}")),
        })
    }
}

/// Whether the file begins as a model does: with pieces, each of which has a text, a score and a known type.
///
/// Neither text (a tiktoken file, whatever it is called) nor protocol buffers of other kinds do. What comes later in
/// the file is not looked at, so that [`parse`] can say what is wrong with it.
pub fn looks_like(bytes: &[u8]) -> bool {
    let mut fields = Fields { bytes, at: 0 };
    let mut pieces = 0;
    while pieces < 4 && fields.at < bytes.len() {
        let Ok(field) = fields.next_field() else { return false };
        if field.number != 1 {
            break;
        }
        let Some(content) = field.content else { return false };
        let mut inner = Fields { bytes: &bytes[content.clone()], at: 0 };
        while inner.at < inner.bytes.len() {
            let Ok(field) = inner.next_field() else { return false };
            if !matches!((field.number, field.wire_type), (1, 2) | (2, 5) | (3, 0) | (200.., _)) {
                return false;
            }
        }
        let Ok(piece) = PieceMessage::decode(&bytes[content]) else { return false };
        let text = piece.piece.as_deref().and_then(|text| std::str::from_utf8(text).ok());
        if text.is_none_or(str::is_empty) || piece.score.is_none() || piece.piece_kind().is_err() {
            return false;
        }
        pieces += 1;
    }
    pieces > 0
}

/// Reads a model and what is beside it into a tokenizer.
///
/// # Errors
/// As [`parse`], and [`FormatError::Json`] for what is beside it.
pub fn read(bytes: &[u8], companions: hf::Companions<'_>) -> Result<Tokenizer, FormatError> {
    tokenizer(&parse(bytes)?, hf::around(companions)?)
}

/// Reads a model.
///
/// # Errors
/// [`FormatError::Malformed`] with the offset of the message at fault and, for pieces, with their ids.
pub fn parse(bytes: &[u8]) -> Result<Model, FormatError> {
    let mut pieces = Pieces::default();
    let mut trainer = (0, TrainerMessage::default());
    let mut normalizer = (0, NormalizerMessage::default());
    let mut denormalizer = (0, NormalizerMessage::default());
    let mut fields = Fields { bytes, at: 0 };
    while fields.at < bytes.len() {
        let offset = fields.at;
        let field = fields.next_field()?;
        let Some(content) = field.content else { continue };
        let content = &bytes[content];
        // A message in several parts is their union, as ever in protocol buffers.
        match field.number {
            1 => pieces.push(offset, content)?,
            2 => merge(&mut trainer, offset, content, "trainer_spec")?,
            3 => merge(&mut normalizer, offset, content, "normalizer_spec")?,
            5 => merge(&mut denormalizer, offset, content, "denormalizer_spec")?,
            _ => {}
        }
    }
    let (offset, denormalizer) = denormalizer;
    if !denormalizer.precompiled_charsmap.unwrap_or_default().is_empty() {
        return Err(malformed(offset, "denormalizer_spec: rules for denormalizing are not supported"));
    }
    let (offset, trainer) = trainer;
    let kind = match trainer.model_type.unwrap_or(1) {
        1 => ModelKind::Unigram,
        2 => ModelKind::Bpe,
        3 => return Err(malformed(offset, "trainer_spec: models of the type WORD are not supported")),
        4 => return Err(malformed(offset, "trainer_spec: models of the type CHAR are not supported")),
        other => return Err(malformed(offset, format!("trainer_spec: {other} is no model type"))),
    };
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    if let Some(&id) = pieces.by_text.get(NUL).filter(|_| byte_fallback) {
        pieces.list[id as usize].kind = PieceKind::Unused;
    }
    let unk = pieces.check(kind, byte_fallback)?;
    let control = |name: Option<String>, default: &str| {
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| default.to_owned());
        pieces.id(&name).filter(|&id| pieces.list[id as usize].kind == PieceKind::Control)
    };
    let (bos, eos, pad) = (
        control(trainer.bos_piece, "<s>"),
        control(trainer.eos_piece, "</s>"),
        control(trainer.pad_piece, "<pad>"),
    );
    let (offset, normalizer) = normalizer;
    let charsmap = normalizer.precompiled_charsmap.filter(|blob| !blob.is_empty()).map(Charsmap::new);
    Ok(Model {
        kind,
        pieces: pieces.list,
        unk,
        bos,
        eos,
        pad,
        unk_surface: trainer.unk_surface.unwrap_or_else(|| UNK_SURFACE.to_owned()),
        byte_fallback,
        treat_whitespace_as_suffix: trainer.treat_whitespace_as_suffix.unwrap_or(false),
        normalizer: NormalizerSpec {
            name: normalizer.name.unwrap_or_default(),
            charsmap: charsmap.transpose().map_err(|e| malformed(offset, format!("normalizer_spec: {e}")))?,
            add_dummy_prefix: normalizer.add_dummy_prefix.unwrap_or(true),
            remove_extra_whitespaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
            escape_whitespaces: normalizer.escape_whitespaces.unwrap_or(true),
        },
    })
}

fn malformed(offset: usize, reason: impl Into<String>) -> FormatError {
    FormatError::Malformed { offset, reason: reason.into() }
}

fn merge<M: Message>(
    (first, message): &mut (usize, M),
    offset: usize,
    content: &[u8],
    name: &str,
) -> Result<(), FormatError> {
    *first = offset;
    message.merge(content).map_err(|e| malformed(offset, format!("{name}: {e}")))
}

/// The pieces so far, and where each stands in the file.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) list: Vec<Piece>,
    offsets: Vec<usize>,
    by_text: HashMap<String, TokenId>,
    bytes: usize,
}

impl Pieces {
    fn push(&mut self, offset: usize, content: &[u8]) -> Result<(), FormatError> {
        let id = self.list.len();
        let fail = |reason: String| malformed(offset, format!("piece {id} {reason}"));
        let message = PieceMessage::decode(content).map_err(|e| fail(format!("cannot be read: {e}")))?;
        let kind = message.piece_kind().map_err(fail)?;
        self.add(offset, message.piece.unwrap_or_default(), message.score.unwrap_or(0.0), kind)
    }

    /// Takes the next piece, which stands at `offset`.
    pub(super) fn add(
        &mut self,
        offset: usize,
        text: Vec<u8>,
        score: f32,
        kind: PieceKind,
    ) -> Result<(), FormatError> {
        let id = self.list.len();
        let fail = |reason: String| malformed(offset, format!("piece {id} {reason}"));
        if id == MAX_PIECES {
            return Err(malformed(offset, format!("there are over {MAX_PIECES} pieces")));
        }
        if text.is_empty() {
            return Err(fail("is empty".to_owned()));
        }
        if text.len() > MAX_PIECE_BYTES {
            return Err(fail(format!("has {} bytes, over the limit of {MAX_PIECE_BYTES}", text.len())));
        }
        self.bytes += text.len();
        if self.bytes > MAX_TOTAL_BYTES {
            return Err(malformed(offset, format!("the pieces have over {MAX_TOTAL_BYTES} bytes in all")));
        }
        if !score.is_finite() {
            return Err(fail(format!("has the score {score}, which is not a finite number")));
        }
        let piece = String::from_utf8(text).map_err(|_| fail("is not UTF-8".to_owned()))?;
        if kind == PieceKind::Byte && byte_of(&piece).is_none() {
            return Err(fail("is a byte piece without a name like <0xE4>".to_owned()));
        }
        if let Some(other) = self.by_text.insert(piece.clone(), id as TokenId) {
            return Err(fail(format!("has the text of piece {other}")));
        }
        self.list.push(Piece { piece, score, kind });
        self.offsets.push(offset);
        Ok(())
    }

    fn id(&self, text: &str) -> Option<TokenId> {
        self.by_text.get(text).copied()
    }

    /// Checks what depends on the rest of the model; gives the piece for the unknown.
    pub(super) fn check(&self, kind: ModelKind, byte_fallback: bool) -> Result<Option<TokenId>, FormatError> {
        let mut unk = None;
        let mut bytes = [false; 256];
        for ((id, piece), &offset) in (0..).zip(&self.list).zip(&self.offsets) {
            let fail = |reason: &str| Err(malformed(offset, format!("piece {id} {reason}")));
            match piece.kind {
                PieceKind::Unknown => {
                    if let Some(other) = unk.replace(id) {
                        return fail(&format!(
                            "is of the type UNKNOWN, as is piece {other}: there must be one"
                        ));
                    }
                }
                PieceKind::Byte if !byte_fallback => {
                    return fail("is a byte piece in a model without byte fallback");
                }
                PieceKind::Byte => bytes[byte_of(&piece.piece).map_or(0, usize::from)] = true,
                PieceKind::Unused if piece.piece == NUL => {}
                _ if piece.piece.contains('\0') => return fail("has a NUL in it"),
                PieceKind::Unused if kind == ModelKind::Bpe => {
                    return fail(
                        "is unused, which is not supported in BPE models: SentencePiece takes such a piece apart as \
                         it was last put together, which depends on the text around it",
                    );
                }
                PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused | PieceKind::Control => {}
            }
        }
        let end = self.offsets.last().copied().unwrap_or(0);
        let missing = bytes.iter().position(|found| !found).filter(|_| byte_fallback);
        if let Some(byte) = missing {
            return Err(malformed(
                end,
                format!("byte fallback needs a byte piece <0x{byte:02X}>, and there is none"),
            ));
        }
        if unk.is_none() && !byte_fallback {
            return Err(malformed(end, "no piece is of the type UNKNOWN"));
        }
        Ok(unk)
    }
}

/// Reads the fields of a message one by one, without looking into them.
struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

struct Field {
    number: u64,
    wire_type: u8,
    /// Where the content of a length-delimited field stands.
    content: Option<Range<usize>>,
}

impl Fields<'_> {
    fn next_field(&mut self) -> Result<Field, FormatError> {
        let offset = self.at;
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        let mut content = None;
        let len = match wire_type {
            0 => {
                self.varint()?;
                0
            }
            1 => 8,
            2 => self.varint()?,
            5 => 4,
            _ => return Err(malformed(offset, format!("no field of a model has the wire type {wire_type}"))),
        };
        let rest = self.bytes.len() - self.at;
        let len = usize::try_from(len).ok().filter(|&len| len <= rest);
        let len = len.ok_or_else(|| malformed(offset, "the field goes on beyond the end of the file"))?;
        if wire_type == 2 {
            content = Some(self.at..self.at + len);
        }
        if number == 0 {
            return Err(malformed(offset, "0 is no number of a field"));
        }
        self.at += len;
        Ok(Field { number, wire_type, content })
    }

    fn varint(&mut self) -> Result<u64, FormatError> {
        let offset = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| malformed(offset, "a number is cut off"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(offset, "a number has over ten bytes"))
    }
}

#[cfg(test)]
mod tests;
