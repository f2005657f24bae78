//! Ids back to bytes and text.
//!
//! Byte-level vocabularies: the bytes of the tokens, joined, are the truth; text is those bytes as UTF-8, ill-formed
//! parts replaced by U+FFFD as the Unicode standard recommends (one per maximal subpart). Others have steps that work
//! on the tokens' strings, each as the decoder of that name in Hugging Face's tokenizers; there it is a step that says
//! what becomes of bytes which are no text.

use super::alphabet::spelt_bytes;
use super::find::Find;
use super::tracked::growth_limit;
use super::{PieceKind, SentencePieceDecoder, SplitError, TokenId, Tokenizer};
use std::borrow::Cow;
use std::sync::Arc;

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
    arena: Vec<u8>,
    /// End of each id's string; it begins where the one before ends.
    ends: Vec<u32>,
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
        let mut surfaces = Self { arena: Vec::new(), ends: Vec::with_capacity(bound), done };
        for id in 0..bound {
            let mut string = string(id as TokenId).unwrap_or_default().into_bytes();
            for step in &steps[..done] {
                string = step.alone(string)?;
            }
            surfaces.arena.extend_from_slice(&string);
            if surfaces.arena.len() > MAX_SURFACE_BYTES {
                return Err(SplitError::Grows { limit: MAX_SURFACE_BYTES });
            }
            surfaces.ends.push(surfaces.arena.len() as u32);
        }
        Ok(surfaces)
    }

    fn get(&self, id: TokenId) -> &[u8] {
        let end = self.ends.get(id as usize).map_or(0, |&end| end as usize);
        let start =
            (id as usize).checked_sub(1).and_then(|id| self.ends.get(id)).map_or(0, |&end| end as usize);
        self.arena.get(start..end).unwrap_or_default()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * 4
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
        let mut surface = Cow::Borrowed(self.surfaces().get(id));
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
        let mut total = 0;
        for (index, &id) in ids.iter().enumerate() {
            let bytes = self.vocab().bytes(id).ok_or(DecodeError::UnknownId { index, id })?;
            if !(skip_special && self.is_special(id)) {
                // A space may come between.
                total += bytes.len().max(self.surfaces().get(id).len() + 1) as u64;
            }
        }
        Ok(total)
    }

    /// The bytes of a sequence of tokens; with `skip_special` those of special tokens are left out.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special: bool) -> Result<Vec<u8>, DecodeError> {
        match self.decoder() {
            Decoder::Bytes | Decoder::ByteLevel => {
                let mut out = Vec::with_capacity(ids.len() * 4);
                self.each(ids, skip_special, |_, bytes| out.extend_from_slice(bytes))?;
                Ok(out)
            }
            Decoder::SentencePiece(decoder, kinds) => {
                Ok(self.decode_pieces(decoder, kinds, ids, skip_special, true)?.0)
            }
            Decoder::Spaced | Decoder::Steps(_) => {
                Ok(self.decode_steps(ids, skip_special, &mut Loss::None)?.concat())
            }
        }
    }

    /// The text of a sequence of tokens as the vocabulary's decoder gives it; with `skip_special` special tokens are
    /// left out.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> Result<Decoded, DecodeError> {
        if let Decoder::SentencePiece(decoder, kinds) = self.decoder() {
            let (bytes, valid) = self.decode_pieces(decoder, kinds, ids, skip_special, false)?;
            return Ok(Decoded { text: String::from_utf8_lossy(&bytes).into_owned(), valid });
        }
        let mut loss = Loss::Allowed { met: false };
        let bytes = match self.decoder() {
            Decoder::Steps(_) => self.decode_steps(ids, skip_special, &mut loss)?.concat(),
            _ => self.decode_bytes(ids, skip_special)?,
        };
        let met = loss == Loss::Allowed { met: true };
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Decoded { text, valid: !met },
            Err(error) => {
                Decoded { text: String::from_utf8_lossy(error.as_bytes()).into_owned(), valid: false }
            }
        })
    }

    fn each(
        &self,
        ids: &[TokenId],
        skip_special: bool,
        mut take: impl FnMut(TokenId, &[u8]),
    ) -> Result<(), DecodeError> {
        for (index, &id) in ids.iter().enumerate() {
            let bytes = self.vocab().bytes(id).ok_or(DecodeError::UnknownId { index, id })?;
            if !(skip_special && self.is_special(id)) {
                take(id, bytes);
            }
        }
        Ok(())
    }

    fn decode_pieces(
        &self,
        decoder: &SentencePieceDecoder,
        kinds: &[PieceKind],
        ids: &[TokenId],
        skip_special: bool,
        raw: bool,
    ) -> Result<(Vec<u8>, bool), DecodeError> {
        let mut pieces = Vec::with_capacity(ids.len());
        for (index, &id) in ids.iter().enumerate() {
            let bytes = self.vocab().bytes(id).ok_or(DecodeError::UnknownId { index, id })?;
            if !(skip_special && self.is_special(id)) {
                let kind = kinds.get(id as usize).copied().unwrap_or_default();
                pieces.push((std::str::from_utf8(bytes).unwrap_or_default(), kind));
            }
        }
        Ok(decoder.decode(pieces, raw))
    }

    /// The strings that the steps leave.
    fn decode_steps(
        &self,
        ids: &[TokenId],
        skip_special: bool,
        loss: &mut Loss,
    ) -> Result<Vec<Vec<u8>>, DecodeError> {
        let Decoder::Steps(steps) = self.decoder() else {
            let mut strings = Vec::with_capacity(ids.len() * 2);
            self.each(ids, skip_special, |id, _| {
                if !strings.is_empty() {
                    strings.push(b" ".to_vec());
                }
                strings.push(self.surfaces().get(id).to_vec());
            })?;
            return Ok(strings);
        };
        let mut steps = &steps[self.surfaces().done..];
        let mut strings = Vec::new();
        if let [DecodeStep::ByteFallback, DecodeStep::Fuse, rest @ ..] = steps {
            // The usual ones: straight into one string.
            let (mut whole, mut run) = (Vec::with_capacity(ids.len() * 4), Vec::new());
            self.each(ids, skip_special, |id, _| {
                let surface = self.surfaces().get(id);
                match byte_of(surface) {
                    Some(byte) => run.push(byte),
                    None => {
                        end_run(&mut run, loss, &mut whole);
                        whole.extend_from_slice(surface);
                    }
                }
            })?;
            end_run(&mut run, loss, &mut whole);
            strings.push(whole);
            steps = rest;
        } else {
            strings.reserve(ids.len());
            self.each(ids, skip_special, |id, _| strings.push(self.surfaces().get(id).to_vec()))?;
        }
        for step in steps {
            strings = step.run(strings, loss)?;
        }
        Ok(strings)
    }
}

impl DecodeStep {
    /// What a step that looks at one string alone makes of it.
    fn alone(&self, string: Vec<u8>) -> Result<Vec<u8>, SplitError> {
        match self {
            Self::Strip { content, start, stop } => {
                let mut buffer = [0; 4];
                let mark: &[u8] = content.encode_utf8(&mut buffer).as_bytes();
                let mut rest = &string[..];
                for _ in 0..*start {
                    let Some(shorter) = rest.strip_prefix(mark) else { break };
                    rest = shorter;
                }
                for _ in 0..*stop {
                    let Some(shorter) = rest.strip_suffix(mark) else { break };
                    rest = shorter;
                }
                Ok(rest.to_vec())
            }
            Self::Replace(find, content) => {
                // Bytes that are no text stay: nothing that is looked for is in them.
                let Ok(text) = std::str::from_utf8(&string) else { return Ok(string) };
                let matches = find.matches(text)?;
                let limit = growth_limit(string.len());
                let mut out = Vec::with_capacity(string.len());
                let mut at = 0;
                for found in matches {
                    out.extend_from_slice(&string[at..found.start]);
                    out.extend_from_slice(content.as_bytes());
                    if out.len() > limit {
                        return Err(SplitError::Grows { limit });
                    }
                    at = found.end;
                }
                out.extend_from_slice(&string[at..]);
                Ok(out)
            }
            _ => Ok(string),
        }
    }

    fn run(&self, strings: Vec<Vec<u8>>, loss: &mut Loss) -> Result<Vec<Vec<u8>>, SplitError> {
        match self {
            Self::Strip { .. } | Self::Replace(..) => {
                strings.into_iter().map(|string| self.alone(string)).collect()
            }
            Self::Fuse => Ok(vec![strings.concat()]),
            Self::ByteLevel => {
                let bytes: Vec<u8> = strings.into_iter().flat_map(unspelt).collect();
                Ok(vec![if loss.spares(&bytes) {
                    bytes
                } else {
                    String::from_utf8_lossy(&bytes).into_owned().into_bytes()
                }])
            }
            Self::ByteFallback => {
                let (mut out, mut run) = (Vec::with_capacity(strings.len()), Vec::new());
                let mut end = |run: &mut Vec<u8>, out: &mut Vec<Vec<u8>>| {
                    if loss.spares(run) {
                        out.extend((!run.is_empty()).then(|| std::mem::take(run)));
                    } else {
                        // Bytes that are no text are a string each: what comes next looks at them one by one.
                        out.extend(run.drain(..).map(|_| "\u{fffd}".into()));
                    }
                };
                for string in strings {
                    match byte_of(&string) {
                        Some(byte) => run.push(byte),
                        None => {
                            end(&mut run, &mut out);
                            out.push(string);
                        }
                    }
                }
                end(&mut run, &mut out);
                Ok(out)
            }
            Self::Metaspace { mark, prepended } => {
                let string = |(i, string): (usize, Vec<u8>)| match i == 0 && *prepended {
                    true => without(&string, *mark),
                    false => spaced(&string, *mark),
                };
                Ok(strings.into_iter().enumerate().map(string).collect())
            }
        }
    }
}

/// Writes the bytes of a run down and empties it.
fn end_run(run: &mut Vec<u8>, loss: &mut Loss, out: &mut Vec<u8>) {
    if loss.spares(run) {
        out.extend_from_slice(run);
    } else {
        run.iter().for_each(|_| out.extend_from_slice("\u{fffd}".as_bytes()));
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

fn unspelt(string: Vec<u8>) -> Vec<u8> {
    std::str::from_utf8(&string).ok().and_then(spelt_bytes).unwrap_or(string)
}

fn spaced(string: &[u8], mark: char) -> Vec<u8> {
    replaced(string, mark, b" ")
}

fn without(string: &[u8], mark: char) -> Vec<u8> {
    replaced(string, mark, b"")
}

/// Bytes that are no text stay as they are.
fn replaced(string: &[u8], mark: char, content: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 4];
    let mark = mark.encode_utf8(&mut buffer).as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(string.len()), 0);
    for found in memchr::memmem::find_iter(string, mark) {
        out.extend_from_slice(&string[at..found]);
        out.extend_from_slice(content);
        at = found + mark.len();
    }
    out.extend_from_slice(&string[at..]);
    out
}

/// Decodes ids one by one into text, holding back a character until all of its bytes have come.
///
/// The pieces joined are what [`Tokenizer::decode`] gives for all ids.
#[derive(Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
    pushed: usize,
    /// For decoders with steps: the ids that the next piece may depend on, how many of them were told, and as what.
    window: Vec<TokenId>,
    told: usize,
    text: String,
}

impl<'t> DecodeStream<'t> {
    /// A stream that has seen nothing yet.
    pub fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        let (pending, window, text) = (Vec::new(), Vec::new(), String::new());
        Self { tokenizer, skip_special, pending, pushed: 0, window, told: 0, text }
    }

    /// Takes one id and gives the text that is now complete (often empty in the middle of a character).
    ///
    /// # Errors
    /// [`DecodeError`] with the position counted over the whole stream; the stream can go on without that id.
    pub fn push(&mut self, id: TokenId) -> Result<String, DecodeError> {
        let index = self.pushed;
        self.pushed += 1;
        let bytes = self.tokenizer.vocab().bytes(id).ok_or(DecodeError::UnknownId { index, id })?;
        if self.skip_special && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        if !matches!(self.tokenizer.decoder(), Decoder::Bytes | Decoder::ByteLevel) {
            return self.push_to_window(id);
        }
        self.pending.extend_from_slice(bytes);
        let complete = complete_prefix(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        Ok(text)
    }

    /// What an id adds is what the window with it has more than without it; the window keeps the ids of the last
    /// piece, as the first string of a text may be decoded in another way.
    fn push_to_window(&mut self, id: TokenId) -> Result<String, DecodeError> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, self.skip_special)?.text;
        if text.ends_with(char::REPLACEMENT_CHARACTER) || text.len() <= self.text.len() {
            return Ok(String::new());
        }
        let new = text.get(self.text.len()..).unwrap_or_default().to_owned();
        self.window.drain(..self.told);
        self.told = self.window.len();
        self.text = self.tokenizer.decode(&self.window, self.skip_special)?.text;
        Ok(new)
    }

    /// What was held back: a character that never became whole, replaced.
    pub fn finish(self) -> String {
        let decoded = self.tokenizer.decode(&self.window, self.skip_special);
        let rest = decoded.map(|decoded| decoded.text.get(self.text.len()..).unwrap_or_default().to_owned());
        rest.unwrap_or_default() + &String::from_utf8_lossy(&self.pending)
    }
}

/// Length of `bytes` without a last character that more bytes could still complete.
fn complete_prefix(bytes: &[u8]) -> usize {
    let mut from = 0;
    loop {
        match std::str::from_utf8(&bytes[from..]) {
            Ok(_) => return bytes.len(),
            Err(e) => match e.error_len() {
                None => return from + e.valid_up_to(),
                Some(bad) => from += e.valid_up_to() + bad,
            },
        }
    }
}
