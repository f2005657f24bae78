//! Ids back to bytes and text.
//!
//! Byte-level vocabularies: the bytes of the tokens, joined, are the truth; text is those bytes as UTF-8, ill-formed
//! parts replaced by U+FFFD as the Unicode standard recommends (one per maximal subpart). Others have steps that work
//! on the tokens' strings, each as the decoder of that name in Hugging Face's tokenizers; there it is a step that says
//! what becomes of bytes which are no text.

mod steps;
mod stream;

pub use stream::DecodeStream;

use super::arena::{Arena, Joined};
use super::find::Find;
use super::{PieceKind, SentencePieceDecoder, SplitError, TokenId, Tokenizer};
use std::borrow::Cow;
use std::sync::Arc;
use steps::{spaced, unspelt};

/// How tokens become text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Decoder {
    /// Their bytes joined, as in tiktoken.
    #[default]
    Bytes,
    /// The same, where the names of special tokens, too, are read in the byte alphabet if they can be.
    ByteLevel,
    /// Their strings with a space between.
    Spaced,
    /// Their strings through steps, and then joined.
    Steps(Vec<DecodeStep>),
    /// As SentencePiece does it, with what each piece is for, by id.
    SentencePiece(SentencePieceDecoder, Arc<[PieceKind]>),
}

/// A step from tokens to text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeStep {
    /// Everything joined, each string read in the byte alphabet if it can be.
    ByteLevel,
    /// Runs of `<0x41>` become the bytes they name; if those are no text, one U+FFFD for each of them.
    ByteFallback,
    /// Everything joined.
    Fuse,
    /// Up to so many of a character are left out at the ends of each string.
    Strip {
        /// The character.
        content: char,
        /// At the beginning.
        start: usize,
        /// At the end.
        stop: usize,
    },
    /// Matches in each string become other characters.
    Replace(Find, String),
    /// The mark becomes a space, but for those of the first string where one was put before the text.
    Metaspace {
        /// The mark.
        mark: char,
        /// Whether one was put before the text.
        prepended: bool,
    },
}

/// Most bytes that the strings of all tokens may have, as the decoder has them.
const MAX_SURFACE_BYTES: usize = 256 << 20;

/// Why ids cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An id that is not a token of the vocabulary.
    #[error("id {id} at position {index} is not a token of this vocabulary")]
    UnknownId {
        /// Position in the sequence.
        index: usize,
        /// The id.
        id: TokenId,
    },
    /// A regex of the decoder used up its steps.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// Decoded ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text, with U+FFFD for what is none.
    pub text: String,
    /// Whether all of it was text.
    pub valid: bool,
}

/// What becomes of bytes that are no text where a step makes a string of bytes. Later steps see what became of them.
#[derive(Debug, PartialEq, Eq)]
enum Loss {
    /// They stay.
    None,
    /// They are replaced, and whether there were any is told.
    Allowed { met: bool },
}

impl Loss {
    /// Whether bytes stay as they are.
    fn spares(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Allowed { met } => {
                let is_text = std::str::from_utf8(bytes).is_ok();
                *met |= !is_text;
                is_text
            }
        }
    }
}

/// What tokens stand for, by id, where that is not their bytes in the vocabulary: their strings after those steps of
/// the decoder that look at one token alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Surfaces {
    strings: Arena,
    /// How many steps are done.
    done: usize,
}

impl Surfaces {
    /// The string of each id below `bound`.
    pub(super) fn new(
        decoder: &Decoder,
        bound: usize,
        string: impl Fn(TokenId) -> Option<String>,
    ) -> Result<Self, SplitError> {
        let steps = match decoder {
            Decoder::Steps(steps) => &steps[..],
            Decoder::Spaced => &[],
            Decoder::Bytes | Decoder::ByteLevel | Decoder::SentencePiece(..) => return Ok(Self::default()),
        };
        let alone = |step: &&DecodeStep| matches!(step, DecodeStep::Strip { .. } | DecodeStep::Replace(..));
        let done = steps.iter().take_while(alone).count();
        let mut total = 0;
        let strings = (0..bound as TokenId).map(|id| {
            let mut string = string(id).unwrap_or_default().into_bytes();
            for step in &steps[..done] {
                string = step.alone(string)?;
            }
            total += string.len();
            if total > MAX_SURFACE_BYTES {
                return Err(SplitError::Grows { limit: MAX_SURFACE_BYTES });
            }
            Ok(string)
        });
        Ok(Self { strings: Arena::gather(strings)?, done })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.strings.memory_bytes()
    }
}

impl Tokenizer {
    /// What a token stands for by itself: its bytes, and for `<0x41>` where that is a byte the byte. `None` for an
    /// unknown id.
    pub fn token_bytes(&self, id: TokenId) -> Option<Cow<'_, [u8]>> {
        let bytes = self.vocab().bytes(id)?;
        let steps = match self.decoder() {
            Decoder::Bytes | Decoder::ByteLevel | Decoder::Spaced => return Some(Cow::Borrowed(bytes)),
            Decoder::SentencePiece(_, kinds) => {
                let byte = byte_of(bytes).filter(|_| kinds.get(id as usize) == Some(&PieceKind::Byte));
                return Some(Cow::Owned(byte.map_or_else(|| spaced(bytes, '\u{2581}'), |byte| vec![byte])));
            }
            Decoder::Steps(steps) => steps,
        };
        let mut surface = Cow::Borrowed(self.surfaces().strings.get(id));
        for step in &steps[self.surfaces().done..] {
            match step {
                DecodeStep::ByteFallback => {
                    if let Some(byte) = byte_of(&surface) {
                        surface = Cow::Owned(vec![byte]);
                    }
                }
                DecodeStep::ByteLevel => surface = Cow::Owned(unspelt(surface.into_owned())),
                DecodeStep::Metaspace { mark, .. } => surface = Cow::Owned(spaced(&surface, *mark)),
                // What concerns the ends of the whole text says nothing of a token.
                DecodeStep::Fuse | DecodeStep::Strip { .. } | DecodeStep::Replace(..) => {}
            }
        }
        Some(surface)
    }

    /// How many bytes [`Tokenizer::decode_bytes`] gives at most, without making them.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decoded_len(&self, ids: &[TokenId], skip_special: bool) -> Result<u64, DecodeError> {
        self.known_len(ids)?;
        let (mut total, bytes, strings) = (0, self.vocab().arena(), &self.surfaces().strings);
        // A space may come between.
        self.for_told(ids, skip_special, |id| total += bytes.len_of(id).max(strings.len_of(id) + 1));
        Ok(total as u64)
    }

    /// The bytes of a sequence of tokens; with `skip_special` those of special tokens are left out.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special: bool) -> Result<Vec<u8>, DecodeError> {
        match self.decoder() {
            Decoder::Bytes | Decoder::ByteLevel => {
                let arena = self.vocab().arena();
                let mut out = Joined::with_room(self.known_len(ids)?);
                self.for_told(ids, skip_special, |id| out.push(arena, id));
                Ok(out.into_bytes())
            }
            Decoder::SentencePiece(decoder, kinds) => {
                Ok(self.decode_pieces(decoder, kinds, ids, skip_special, true)?.0)
            }
            Decoder::Spaced | Decoder::Steps(_) => self.decode_steps(ids, skip_special, &mut Loss::None),
        }
    }

    /// The text of a sequence of tokens as the vocabulary's decoder gives it; with `skip_special` special tokens are
    /// left out.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> Result<Decoded, DecodeError> {
        let (bytes, valid) = match self.decoder() {
            Decoder::SentencePiece(decoder, kinds) => {
                self.decode_pieces(decoder, kinds, ids, skip_special, false)?
            }
            Decoder::Steps(_) => {
                let mut loss = Loss::Allowed { met: false };
                let bytes = self.decode_steps(ids, skip_special, &mut loss)?;
                (bytes, loss != Loss::Allowed { met: true })
            }
            _ => (self.decode_bytes(ids, skip_special)?, true),
        };
        // Copied, as to say without a second look that these bytes are text would not be safe. It is the cheaper way still:
        // on Chinese text the standard library's check takes as long as decoding does.
        Ok(match simdutf8::basic::from_utf8(&bytes) {
            Ok(text) => Decoded { text: text.to_owned(), valid },
            Err(_) => Decoded { text: String::from_utf8_lossy(&bytes).into_owned(), valid: false },
        })
    }

    /// How many bytes the tokens have, all of which must be known.
    fn known_len(&self, ids: &[TokenId]) -> Result<usize, DecodeError> {
        let arena = self.vocab().arena();
        let (mut total, mut all_known) = (0, true);
        for &id in ids {
            let len = arena.len_of(id);
            total += len;
            all_known &= len != 0;
        }
        if all_known {
            return Ok(total);
        }
        let unknown = ids.iter().enumerate().find(|&(_, &id)| arena.len_of(id) == 0);
        unknown.map_or(Ok(total), |(index, &id)| Err(DecodeError::UnknownId { index, id }))
    }

    /// Gives those ids that are not left out.
    #[inline]
    fn for_told(&self, ids: &[TokenId], skip_special: bool, take: impl FnMut(TokenId)) {
        let ids = ids.iter().copied();
        if skip_special {
            ids.filter(|&id| !self.is_special(id)).for_each(take);
        } else {
            ids.for_each(take);
        }
    }

    fn decode_pieces(
        &self,
        decoder: &SentencePieceDecoder,
        kinds: &[PieceKind],
        ids: &[TokenId],
        skip_special: bool,
        raw: bool,
    ) -> Result<(Vec<u8>, bool), DecodeError> {
        let arena = self.vocab().arena();
        self.known_len(ids)?;
        let told = ids.iter().copied().filter(|&id| !(skip_special && self.is_special(id)));
        let pieces = told.map(|id| {
            let kind = kinds.get(id as usize).copied().unwrap_or_default();
            (std::str::from_utf8(arena.get(id)).unwrap_or_default(), kind)
        });
        Ok(decoder.decode(pieces, raw))
    }

    /// What the steps make of tokens.
    fn decode_steps(
        &self,
        ids: &[TokenId],
        skip_special: bool,
        loss: &mut Loss,
    ) -> Result<Vec<u8>, DecodeError> {
        let Surfaces { strings, done } = self.surfaces();
        self.known_len(ids)?;
        let mut len = 0;
        self.for_told(ids, skip_special, |id| len += strings.len_of(id));
        let steps = match self.decoder() {
            Decoder::Steps(steps) => &steps[*done..],
            _ => {
                let mut out = Joined::with_room(len + ids.len());
                self.for_told(ids, skip_special, |id| {
                    out.push(strings, id);
                    out.push_bytes(b" ");
                });
                let mut out = out.into_bytes();
                out.pop();
                return Ok(out);
            }
        };
        let (strings, steps) = match steps {
            // The usual ones: straight into one string.
            [DecodeStep::ByteFallback, DecodeStep::Fuse, rest @ ..] => {
                let (mut whole, mut run) = (Joined::with_room(len), Vec::new());
                self.for_told(ids, skip_special, |id| {
                    if let Some(byte) = byte_of(strings.get(id)) {
                        run.push(byte);
                    } else {
                        end_run(&mut run, loss, &mut whole);
                        whole.push(strings, id);
                    }
                });
                end_run(&mut run, loss, &mut whole);
                (vec![whole.into_bytes()], rest)
            }
            _ => {
                let mut each = Vec::with_capacity(ids.len());
                self.for_told(ids, skip_special, |id| each.push(strings.get(id).to_vec()));
                (each, steps)
            }
        };
        let mut strings = steps.iter().try_fold(strings, |strings, step| step.run(strings, loss))?;
        Ok(if strings.len() == 1 { strings.pop().unwrap_or_default() } else { strings.concat() })
    }
}

/// Writes the bytes of a run down and empties it. What it becomes is never longer than the names of its bytes.
fn end_run(run: &mut Vec<u8>, loss: &mut Loss, out: &mut Joined) {
    if run.is_empty() {
        return;
    }
    if loss.spares(run) {
        out.push_bytes(run);
    } else {
        run.iter().for_each(|_| out.push_bytes("\u{fffd}".as_bytes()));
    }
    run.clear();
}

/// The byte that `<0x41>` names.
pub(super) fn byte_of(string: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = string else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    // The reference parses the two as a number, and a number may have a plus sign.
    match (high, digit(high), digit(low)) {
        (_, Some(high), Some(low)) => Some((high * 16 + low) as u8),
        (b'+', None, Some(low)) => Some(low as u8),
        _ => None,
    }
}
