//! The unigram model: of all ways to cut a text into pieces, the one whose scores have the highest sum.
//!
//! Two references give two answers here and there, and each is followed to the bit ([`UnigramFlavour`]): Hugging Face
//! sums in `f64` and finds every piece in a text, `<unk>` and `<0x0A>` too; SentencePiece (as 0.2.3 has
//! it: in 0.2.1 some sums were in `f64` and none was ever set back, and user-defined pieces scored otherwise) sums in `f32`, finds only normal
//! and user-defined pieces, and prefers the latter. Holds for every [`Unigram`]: all scores are finite, no two
//! pieces that can stand in a text are equal, and there are pieces for what is unknown. Encoding takes time in the
//! length of the text times that of the longest piece, and holds no more of a text than the stretch since the last
//! place that no piece can cross.

use super::TokenId;
use super::trie::{self, Trie};
use std::ops::Range;

/// Most pieces of a model.
const MAX_PIECES: usize = 2_000_000;
const _: () = assert!(MAX_PIECES <= trie::MAX_VALUE as usize);
/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;
/// What a user-defined piece scores in SentencePiece for each byte beyond the first.
const USER_DEFINED_BONUS: f64 = 0.1;
/// Beyond this, either side of zero, SentencePiece sets its sums back to zero, or `f32` would lose the differences.
const SUM_LIMIT: f64 = 100_000.0;

/// Which implementation the ids must be equal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnigramFlavour {
    /// `tokenizers`: the model of a `tokenizer.json`.
    HuggingFace,
    /// `sentencepiece`: a `.model` file.
    SentencePiece,
}

/// What a piece is for, in the words of SentencePiece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PieceKind {
    /// Text.
    #[default]
    Normal,
    /// Stands for what no piece spells.
    Unknown,
    /// Steers a model; is never found in a text.
    Control,
    /// Text that is one token wherever it stands, as far as its bonus in the score goes.
    UserDefined,
    /// One byte of a character that no piece spells, named `<0xE4>`.
    Byte,
    /// Has an id and is never found.
    Unused,
}

/// A piece of the vocabulary; its id is its position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnigramPiece<'a> {
    /// Its text.
    pub text: &'a str,
    /// Logarithm of its probability. For the flavour SentencePiece it is rounded to `f32`, as the file has it.
    pub score: f64,
    /// What it is for. The flavour Hugging Face knows no kinds: give [`PieceKind::Normal`].
    pub kind: PieceKind,
}

/// What a model is made of.
#[derive(Debug, Clone)]
pub struct UnigramParts<'a> {
    /// All pieces by id.
    pub pieces: Vec<UnigramPiece<'a>>,
    /// The piece for what is unknown. Only SentencePiece can do without, with byte fallback.
    pub unk: Option<TokenId>,
    /// Whether unknown characters become the pieces of their bytes.
    pub byte_fallback: bool,
    /// Which implementation to be equal to.
    pub flavour: UnigramFlavour,
}

/// Why pieces do not make a unigram model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnigramError {
    /// Too many pieces.
    #[error("{count} pieces are over the limit of {MAX_PIECES}")]
    TooManyPieces {
        /// How many there are.
        count: usize,
    },
    /// Too many bytes in all pieces together.
    #[error("the pieces have over {} bytes in all", trie::MAX_TOTAL_BYTES)]
    TooManyBytes,
    /// A piece without text.
    #[error("piece {id} is empty")]
    Empty {
        /// Its id.
        id: TokenId,
    },
    /// A score that cannot be added and compared.
    #[error("the score of piece {id} is not a finite number")]
    Score {
        /// The id of the piece.
        id: TokenId,
    },
    /// Two pieces that can stand in a text are equal.
    #[error("piece {id} has the text of piece {other}")]
    Duplicate {
        /// The later id.
        id: TokenId,
        /// The earlier id.
        other: TokenId,
    },
    /// No piece for what is unknown: the references then fail on some texts.
    #[error("no piece is named for unknown characters")]
    NoUnknown,
    /// The piece for what is unknown is none of the pieces.
    #[error("piece {id}, which is to stand for unknown characters, is not among the {count} pieces")]
    Unknown {
        /// The id given.
        id: TokenId,
        /// How many pieces there are.
        count: usize,
    },
    /// SentencePiece needs all the 256 byte pieces for its byte fallback.
    #[error("byte fallback needs a byte piece <0x{byte:02X}>")]
    NoByte {
        /// The first byte without one.
        byte: u8,
    },
}

/// A unigram model, ready to encode.
#[derive(Debug, Clone, PartialEq)]
pub struct Unigram {
    flavour: UnigramFlavour,
    trie: Trie,
    /// Of each piece, as it enters the sums.
    scores: Vec<f64>,
    /// Of each piece, in bytes.
    lengths: Vec<u32>,
    /// Of each piece as given, for the flavour that has kinds.
    kinds: Vec<PieceKind>,
    /// The scores that were given and do not enter the sums: those of user-defined pieces, by ascending id.
    given: Vec<(TokenId, f64)>,
    unk: Option<TokenId>,
    unk_score: f64,
    byte_fallback: bool,
    /// The pieces of the 256 bytes; without byte fallback none.
    bytes: Vec<Option<TokenId>>,
    longest: usize,
}

/// Buffers that encoding uses again and again.
#[derive(Debug, Default)]
pub struct UnigramScratch {
    /// The best score of a way to each place, at its position modulo the length (a power of two).
    scores: Vec<f64>,
    /// The last piece on the best way to each place since the last one that all ways pass.
    back: Vec<u32>,
    /// One best way, from its end.
    path: Vec<u32>,
}

/// In `back`: no way leads to this place.
const NO_WAY: u32 = u32::MAX;
/// In `back`: the last thing on the way is one unknown character.
const UNKNOWN: u32 = u32::MAX - 1;

impl UnigramScratch {
    /// Bytes of heap that the buffers hold.
    pub fn memory_bytes(&self) -> usize {
        self.scores.capacity() * 8 + (self.back.capacity() + self.path.capacity()) * 4
    }
}

impl Unigram {
    /// Makes a model of its pieces.
    ///
    /// # Errors
    /// See [`UnigramError`].
    pub fn new(parts: &UnigramParts<'_>) -> Result<Self, UnigramError> {
        let UnigramParts { pieces, flavour, byte_fallback, .. } = parts;
        let count = pieces.len();
        if count > MAX_PIECES {
            return Err(UnigramError::TooManyPieces { count });
        }
        let hugging_face = *flavour == UnigramFlavour::HuggingFace;
        if parts.unk.is_none() && (hugging_face || !byte_fallback) {
            return Err(UnigramError::NoUnknown);
        }
        if let Some(id) = parts.unk.filter(|&id| id as usize >= count) {
            return Err(UnigramError::Unknown { id, count });
        }
        if pieces.iter().map(|piece| piece.text.len()).sum::<usize>() > trie::MAX_TOTAL_BYTES {
            return Err(UnigramError::TooManyBytes);
        }
        let by_id = || (0..).zip(pieces);
        if let Some((id, _)) = by_id().find(|(_, piece)| piece.text.is_empty()) {
            return Err(UnigramError::Empty { id });
        }
        let finite = |score: f64| match flavour {
            UnigramFlavour::HuggingFace => score.is_finite(),
            UnigramFlavour::SentencePiece => (score as f32).is_finite(),
        };
        if let Some((id, _)) = by_id().find(|(_, piece)| !finite(piece.score)) {
            return Err(UnigramError::Score { id });
        }
        let in_text = |kind| hugging_face || matches!(kind, PieceKind::Normal | PieceKind::UserDefined);
        let found = by_id().filter(|(_, piece)| in_text(piece.kind));
        let trie = Trie::new(found.map(|(id, piece)| (piece.text.as_bytes(), id)))
            .map_err(|(a, b)| UnigramError::Duplicate { id: a.max(b), other: a.min(b) })?;
        let mut model = Self {
            flavour: *flavour,
            scores: pieces.iter().map(|piece| piece.score).collect(),
            lengths: pieces.iter().map(|piece| piece.text.len() as u32).collect(),
            kinds: Vec::new(),
            given: Vec::new(),
            unk: parts.unk,
            unk_score: 0.0,
            byte_fallback: *byte_fallback,
            bytes: Vec::new(),
            longest: by_id().filter(|(_, p)| in_text(p.kind)).map(|(_, p)| p.text.len()).max().unwrap_or(0),
            trie,
        };
        match flavour {
            UnigramFlavour::HuggingFace => {
                let least = model.scores.iter().fold(f64::INFINITY, |least, &score| least.min(score));
                model.unk_score = least - f64::from(UNKNOWN_PENALTY);
            }
            UnigramFlavour::SentencePiece => {
                model.kinds = pieces.iter().map(|piece| piece.kind).collect();
                model.score_as_sentencepiece();
            }
        }
        if *byte_fallback {
            model.bytes = byte_pieces(pieces, hugging_face);
            if let (false, Some(byte)) = (hugging_face, model.bytes.iter().position(Option::is_none)) {
                return Err(UnigramError::NoByte { byte: byte as u8 });
            }
        }
        Ok(model)
    }

    /// Rounds all scores to `f32` and gives user-defined pieces theirs. Only normal pieces count for how bad an unknown
    /// character is.
    fn score_as_sentencepiece(&mut self) {
        let normal = self.scores.iter().zip(&self.kinds).filter(|(_, kind)| **kind == PieceKind::Normal);
        let least = normal.fold(f32::MAX, |least, (&score, _)| least.min(score as f32));
        self.unk_score = f64::from(least - UNKNOWN_PENALTY);
        for (id, score) in self.scores.iter_mut().enumerate() {
            let rounded = f64::from(*score as f32);
            *score = rounded;
            if self.kinds[id] == PieceKind::UserDefined {
                self.given.push((id as TokenId, rounded));
                *score = f64::from((USER_DEFINED_BONUS * f64::from(self.lengths[id] - 1)) as f32);
            }
        }
    }

    /// Which implementation the ids are equal to.
    pub fn flavour(&self) -> UnigramFlavour {
        self.flavour
    }

    /// Number of pieces; ids are below it.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there is no piece: never, as one stands for what is unknown.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The piece for what is unknown; none only where bytes stand for all that is.
    pub fn unk(&self) -> Option<TokenId> {
        self.unk
    }

    /// Whether unknown characters become the pieces of their bytes.
    pub fn byte_fallback(&self) -> bool {
        self.byte_fallback
    }

    /// The score of a piece as it was given.
    pub fn score(&self, id: TokenId) -> Option<f64> {
        match self.given.binary_search_by_key(&id, |&(id, _)| id) {
            Ok(at) => Some(self.given[at].1),
            Err(_) => self.scores.get(id as usize).copied(),
        }
    }

    /// What a piece adds to the sum of a way that it is on: its score, and for user-defined pieces of SentencePiece their
    /// bonus.
    pub fn weight(&self, id: TokenId) -> Option<f64> {
        self.scores.get(id as usize).copied()
    }

    /// What an unknown character adds to the sum.
    pub fn unknown_weight(&self) -> f64 {
        self.unk_score
    }

    /// What a piece is for; for the flavour Hugging Face always [`PieceKind::Normal`].
    pub fn kind(&self, id: TokenId) -> Option<PieceKind> {
        self.scores.get(id as usize)?;
        Some(self.kinds.get(id as usize).copied().unwrap_or_default())
    }

    /// Bytes of heap that the model holds.
    pub fn memory_bytes(&self) -> usize {
        self.trie.memory_bytes()
            + self.scores.capacity() * size_of::<f64>()
            + self.lengths.capacity() * size_of::<u32>()
            + self.kinds.capacity() * size_of::<PieceKind>()
            + self.given.capacity() * size_of::<(TokenId, f64)>()
            + self.bytes.capacity() * size_of::<Option<TokenId>>()
    }

    /// Cuts `text` (one pretoken, or a whole normalized text) into its best pieces, in order, each with the bytes of
    /// `text` that the reference says it stands for.
    ///
    /// Neighbouring unknown characters are one token. With byte fallback a token of a byte has, for Hugging Face,
    /// the bytes of all the neighbouring unknown characters; for SentencePiece only the last byte of each character
    /// has the whole character, and those before it have nothing, at its beginning.
    pub fn encode(
        &self,
        text: &str,
        scratch: &mut UnigramScratch,
        mut out: impl FnMut(TokenId, Range<usize>),
    ) {
        let mut emission = Emission { model: self, text, unknown: None, out: &mut out };
        match self.flavour {
            UnigramFlavour::HuggingFace => self.viterbi::<true>(text, scratch, &mut emission),
            UnigramFlavour::SentencePiece => self.viterbi::<false>(text, scratch, &mut emission),
        }
        emission.flush_unknown();
    }

    /// Goes over the places of the text from left to right and hands each piece that begins there its chance to be
    /// the last one on the best way to the place where it ends. Of ways that are equally good the first one found
    /// stays. A place that no piece crosses ends the search so far: all ways pass it.
    fn viterbi<const HUGGING_FACE: bool>(
        &self,
        text: &str,
        scratch: &mut UnigramScratch,
        emission: &mut Emission<'_, impl FnMut(TokenId, Range<usize>)>,
    ) {
        let bytes = text.as_bytes();
        let ring = (self.longest.max(4) + 1).next_power_of_two();
        let UnigramScratch { scores, back, path } = scratch;
        scores.clear();
        scores.resize(ring, 0.0);
        back.clear();
        // `back[i]` is for the place `passed + i + 1`: none leads to `passed` itself any more.
        let mut passed = 0;
        let mut at = 0;
        while at < bytes.len() {
            if back.len() == at - passed && at > passed {
                emission.emit(passed..at, back, path);
                back.clear();
                passed = at;
            }
            if !HUGGING_FACE && scores[at & (ring - 1)].abs() > SUM_LIMIT {
                let offset = scores[at & (ring - 1)];
                let ways = back.iter().zip(passed + 1..).filter(|&(&last, end)| end > at && last != NO_WAY);
                for end in ways.map(|(_, end)| end).chain([at]) {
                    let sum = &mut scores[end & (ring - 1)];
                    *sum = add::<HUGGING_FACE>(*sum, -offset);
                }
                // Also where the sum was infinite.
                scores[at & (ring - 1)] = 0.0;
            }
            let here = scores[at & (ring - 1)];
            let mut relax = |end: usize, last: u32, sum: f64| {
                let index = end - passed - 1;
                if index >= back.len() {
                    back.resize(index + 1, NO_WAY);
                }
                let best = &mut scores[end & (ring - 1)];
                if back[index] == NO_WAY || sum > *best {
                    back[index] = last;
                    *best = sum;
                }
            };
            let character = character_len(bytes[at]);
            let mut spelled = false;
            for (len, id) in self.trie.prefixes(&bytes[at..]) {
                relax(at + len, id, add::<HUGGING_FACE>(self.scores[id as usize], here));
                spelled |= len == character;
            }
            if !spelled {
                relax(at + character, UNKNOWN, add::<HUGGING_FACE>(self.unk_score, here));
            }
            at += character;
        }
        emission.emit(passed..at, back, path);
    }
}

/// The sum as the flavour makes it: in `f64`, or of numbers that are all `f32` in `f32`.
fn add<const HUGGING_FACE: bool>(a: f64, b: f64) -> f64 {
    if HUGGING_FACE { a + b } else { f64::from(a as f32 + b as f32) }
}

/// Turns best ways into tokens.
struct Emission<'m, F> {
    model: &'m Unigram,
    text: &'m str,
    /// Unknown characters that are not out yet: more may follow.
    unknown: Option<Range<usize>>,
    out: &'m mut F,
}

impl<F: FnMut(TokenId, Range<usize>)> Emission<'_, F> {
    /// Follows the best way back from the end of `stretch`, and puts its pieces out from the beginning.
    fn emit(&mut self, stretch: Range<usize>, back: &[u32], path: &mut Vec<u32>) {
        path.clear();
        let mut end = stretch.end;
        while end > stretch.start {
            let last = back[end - stretch.start - 1];
            path.push(last);
            end -= match last {
                UNKNOWN => character_len_before(self.text.as_bytes(), end),
                id => self.model.lengths[id as usize] as usize,
            };
        }
        let mut start = stretch.start;
        for &piece in path.iter().rev() {
            let len = match piece {
                UNKNOWN => character_len(self.text.as_bytes()[start]),
                id => self.model.lengths[id as usize] as usize,
            };
            self.piece(piece, start..start + len);
            start += len;
        }
    }

    fn piece(&mut self, piece: u32, range: Range<usize>) {
        // Hugging Face finds `<unk>` spelled in a text, and joins it to unknown characters beside it.
        if piece != UNKNOWN && Some(piece) != self.model.unk {
            self.flush_unknown();
            (self.out)(piece, range);
        } else if self.model.byte_fallback && self.model.flavour == UnigramFlavour::SentencePiece {
            for at in range.clone() {
                let surface = if at + 1 == range.end { range.clone() } else { range.start..range.start };
                let byte = usize::from(self.text.as_bytes()[at]);
                if let Some(id) = self.model.bytes[byte].or(self.model.unk) {
                    (self.out)(id, surface);
                }
            }
        } else {
            self.unknown.get_or_insert(range.clone()).end = range.end;
        }
    }

    fn flush_unknown(&mut self) {
        let Some(range) = self.unknown.take() else { return };
        let model = self.model;
        if model.flavour == UnigramFlavour::HuggingFace {
            // A stretch that was unknown bit by bit may still be a piece as a whole: `<unk>` is.
            let bytes = &self.text.as_bytes()[range.clone()];
            if let Some(id) = model.trie.get(bytes) {
                return (self.out)(id, range);
            }
            let id_of = |&byte: &u8| model.bytes.get(usize::from(byte)).copied().flatten();
            if model.byte_fallback && bytes.iter().all(|byte| id_of(byte).is_some()) {
                return bytes.iter().filter_map(id_of).for_each(|id| (self.out)(id, range.clone()));
            }
        }
        if let Some(unk) = model.unk {
            (self.out)(unk, range);
        }
    }
}

/// The pieces named `<0x00>` to `<0xFF>`: for Hugging Face whatever has that name, for SentencePiece those of the kind.
fn byte_pieces(pieces: &[UnigramPiece<'_>], any_kind: bool) -> Vec<Option<TokenId>> {
    let mut bytes = vec![None; 256];
    for (id, piece) in (0..).zip(pieces).filter(|(_, piece)| any_kind || piece.kind == PieceKind::Byte) {
        if let Some(byte) = byte_of(piece.text) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    bytes
}

/// The byte that a piece of the form `<0xE4>` (two upper-case digits) names.
pub fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    (digits.len() == 2 && digits.bytes().all(upper)).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Length of the character that begins with this byte.
fn character_len(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

/// Length of the character that ends before `end`.
fn character_len_before(text: &[u8], end: usize) -> usize {
    1 + text[..end].iter().rev().take_while(|&&byte| byte & 0xc0 == 0x80).count()
}

#[cfg(test)]
mod tests;
