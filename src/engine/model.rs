//! One pretoken to ids: byte pair encoding over bytes or over characters, or the unigram model.
//!
//! Over bytes there is no unknown text as long as each byte is a token. Over characters there is: what no token spells
//! becomes the tokens of its bytes, where the vocabulary has them, or the unknown token.

use super::encode::{Start, merge, merge_with_lengths};
use super::{Merge, MergeTable, Scratch, TokenId, Unigram, Vocab};
use std::ops::Range;

/// What a model is besides tokens and merges.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// Merges of bytes.
    Bytes {
        /// What becomes of bytes that are no token. Without it they are an error where the tokenizer is made.
        missing: Option<Missing>,
    },
    /// Merges of characters.
    Chars(Chars),
    /// No merges: the pieces whose scores have the highest sum. Its pieces have the ids of the tokens.
    Unigram(Box<Unigram>),
}

impl Model {
    /// Whether pretokens are bytes.
    pub fn is_byte_level(&self) -> bool {
        matches!(self, Self::Bytes { .. })
    }

    /// How characters merge, where they do.
    pub(super) fn chars(&self) -> Option<&Chars> {
        match self {
            Self::Chars(chars) => Some(chars),
            Self::Bytes { .. } | Self::Unigram(_) => None,
        }
    }

    /// Whether they are, and each byte is a token.
    pub fn is_all_bytes(&self) -> bool {
        matches!(self, Self::Bytes { missing: None })
    }
}

/// What becomes of bytes that are no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are left out, as in the reference.
    LeftOut,
    /// They become the unknown token.
    Unknown(Unknown),
}

/// The token for what is in no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Its id.
    pub id: TokenId,
    /// Whether a run of unknown characters is one token.
    pub fused: bool,
}

/// Merges of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chars {
    /// The tokens that stand for bytes of characters that are in no token.
    pub bytes: Option<ByteTokens>,
    /// The token for what is left.
    pub unknown: Option<Unknown>,
    /// Whose rules hold for characters that are no token.
    pub rules: Rules,
}

/// The token of each byte, where there is one.
pub type ByteTokens = Box<[Option<TokenId>; 256]>;

/// Whose rules hold for characters that are no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// Hugging Face's: they become bytes or unknown before anything is merged.
    HuggingFace,
    /// SentencePiece's: they merge like others, and become bytes or unknown if they are left. The characters that
    /// merge without being a token have ids of their own, from one more than the highest id of a token.
    SentencePiece {
        /// Those characters.
        joining: Vec<char>,
    },
}

impl Chars {
    /// Whether a part of a pretoken that no token reaches out of becomes the same by itself as inside of it: nothing is unknown,
    /// so that no unknown token runs over its border, and the tokens of bytes do not merge.
    pub(super) fn encodes_by_parts(&self, merges: &[Merge]) -> bool {
        let Some(bytes) = self.bytes.as_deref() else { return false };
        let is_byte = |id: TokenId| bytes.contains(&Some(id));
        bytes.iter().all(Option::is_some)
            && !merges.iter().any(|merge| is_byte(merge.left) || is_byte(merge.right) || is_byte(merge.id))
    }
}

/// A symbol for a character that is no token and merges with nothing.
pub(super) const NO_SYMBOL: TokenId = TokenId::MAX - 2;

/// A model with what it looks things up in.
pub(super) struct Running<'m> {
    pub(super) vocab: &'m Vocab,
    pub(super) table: &'m MergeTable,
    pub(super) byte_ids: &'m [Option<TokenId>; 256],
    pub(super) whole: bool,
    pub(super) joining: &'m hashbrown::HashMap<char, TokenId, foldhash::fast::FixedState>,
    /// Where the model merges characters, how.
    pub(super) chars: Option<&'m Chars>,
}

impl Running<'_> {
    /// Ids of a part of a pretoken by merging alone, where no token is unknown.
    pub(super) fn merged(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        match self.chars {
            None => self.merged_bytes(bytes, scratch, out),
            Some(chars) => {
                let text = std::str::from_utf8(bytes);
                debug_assert!(text.is_ok(), "parts end between characters");
                self.merged_chars(text.unwrap_or_default(), chars, scratch, out);
            }
        }
    }

    /// A pretoken's ids over bytes, all of which are tokens.
    #[inline]
    pub(super) fn bytes(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        if let [byte] = bytes {
            out.extend(self.byte_ids[usize::from(*byte)]);
        } else if let Some(id) = self.whole_token(bytes) {
            out.push(id);
        } else {
            self.merged_bytes(bytes, scratch, out);
        }
    }

    /// The same by merging alone, as for a part of a pretoken.
    pub(super) fn merged_bytes(&self, bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        merge(self.table, bytes.iter().filter_map(|&b| self.byte_ids[usize::from(b)]), scratch, out);
    }

    /// The same where some bytes are no tokens: with `take` each token and how many bytes it stands for.
    pub(super) fn gappy_bytes(
        &self,
        bytes: &[u8],
        missing: Missing,
        scratch: &mut Scratch,
        mut take: impl FnMut(TokenId, usize),
    ) {
        if let Some(id) = self.whole_token(bytes) {
            return take(id, bytes.len());
        }
        let mut pending = Pending::default();
        scratch.start.clear();
        for &byte in bytes {
            match (self.byte_ids[usize::from(byte)], missing) {
                (Some(id), _) => {
                    pending.flush(&mut scratch.start);
                    scratch.start.push(Start { id, len: 1 });
                }
                (None, Missing::LeftOut) => {}
                (None, Missing::Unknown(unknown)) => pending.add(unknown, 1, &mut scratch.start),
            }
        }
        pending.flush(&mut scratch.start);
        merge_with_lengths(self.table, scratch);
        scratch.merged.iter().for_each(|symbol| take(symbol.id, symbol.len as usize));
    }

    pub(super) fn whole_token(&self, bytes: &[u8]) -> Option<TokenId> {
        if self.whole { self.vocab.id(bytes) } else { None }
    }

    /// A pretoken's tokens over characters, each with the bytes of the pretoken that it stands for.
    pub(super) fn chars(
        &self,
        text: &str,
        chars: &Chars,
        scratch: &mut Scratch,
        mut take: impl FnMut(TokenId, Range<usize>),
    ) {
        if let Some(id) = self.whole_token(text.as_bytes()) {
            return take(id, 0..text.len());
        }
        match chars.rules {
            Rules::HuggingFace => {
                self.start_as_reference(text, chars, &mut scratch.start);
                merge_with_lengths(self.table, scratch);
                let mut at = 0;
                for symbol in &scratch.merged {
                    take(symbol.id, at..at + symbol.len as usize);
                    at += symbol.len as usize;
                }
            }
            Rules::SentencePiece { .. } => {
                scratch.start.clear();
                scratch.start.extend(text.char_indices().map(|(at, c)| {
                    let bytes = &text.as_bytes()[at..at + c.len_utf8()];
                    let id = self.vocab.id(bytes).or_else(|| self.joining.get(&c).copied());
                    Start { id: id.unwrap_or(NO_SYMBOL), len: bytes.len() as u32 }
                }));
                merge_with_lengths(self.table, scratch);
                self.take_pieces(text, chars, &scratch.merged, take);
            }
        }
    }

    /// The ids of [`Running::chars`] by merging alone, for models that encode by parts ([`Chars::encodes_by_parts`]).
    pub(super) fn merged_chars(
        &self,
        text: &str,
        chars: &Chars,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
    ) {
        let before = out.len();
        let mut buffer = [0; 4];
        let symbols = text.chars().map(|c| {
            let id = self.vocab.id(c.encode_utf8(&mut buffer).as_bytes());
            id.or_else(|| self.joining.get(&c).copied()).unwrap_or(NO_SYMBOL)
        });
        merge(self.table, symbols, scratch, out);
        let is_left = |id: &TokenId| *id as usize >= self.vocab.id_bound();
        if !out[before..].iter().any(is_left) {
            return;
        }
        // Characters that are in no token become bytes.
        let merged = std::mem::replace(&mut scratch.ids, out.split_off(before));
        let mut rest = text;
        for &id in &scratch.ids {
            let len = match self.vocab.bytes(id).filter(|_| !is_left(&id)) {
                Some(token) => {
                    out.push(id);
                    token.len()
                }
                None => {
                    let len = rest.chars().next().map_or(0, char::len_utf8);
                    let bytes = rest.as_bytes()[..len].iter();
                    out.extend(bytes.filter_map(|&byte| chars.bytes.as_deref()?[usize::from(byte)]));
                    len
                }
            };
            rest = &rest[len..];
        }
        scratch.ids = merged;
    }

    /// The bytes of `text` that each of its tokens stands for, where they are those of [`Running::merged_chars`].
    pub(super) fn places(
        &self,
        ids: &[TokenId],
        text: &str,
        chars: &Chars,
        mut take: impl FnMut(TokenId, Range<usize>),
    ) {
        let mut at = 0;
        let mut ids = ids.iter().copied();
        while let Some(id) = ids.next() {
            let first = text.as_bytes().get(at).and_then(|&byte| chars.bytes.as_deref()?[usize::from(byte)]);
            if first != Some(id) {
                let end = at + self.vocab.bytes(id).map_or(0, <[u8]>::len);
                take(id, at..end);
                at = end;
                continue;
            }
            let len = text[at..].chars().next().map_or(0, char::len_utf8);
            let end = at + len;
            for (nth, id) in std::iter::once(id).chain(ids.by_ref().take(len - 1)).enumerate() {
                take(
                    id,
                    match chars.rules {
                        Rules::HuggingFace => at + nth..at + nth + 1,
                        Rules::SentencePiece { .. } if nth + 1 == len => at..end,
                        Rules::SentencePiece { .. } => at..at,
                    },
                );
            }
            at = end;
        }
    }

    /// Characters as Hugging Face's model begins with them. Its order is kept: bytes of a character come before an
    /// unknown one that stands right before them, which was not yet written down.
    fn start_as_reference(&self, text: &str, chars: &Chars, start: &mut Vec<Start>) {
        let mut pending = Pending::default();
        start.clear();
        for (at, c) in text.char_indices() {
            let bytes = &text.as_bytes()[at..at + c.len_utf8()];
            if let Some(id) = self.vocab.id(bytes) {
                pending.flush(start);
                start.push(Start { id, len: bytes.len() as u32 });
            } else if let Some(ids) = chars.bytes.as_deref()
                && bytes.iter().all(|&byte| ids[usize::from(byte)].is_some())
            {
                start
                    .extend(bytes.iter().filter_map(|&b| ids[usize::from(b)]).map(|id| Start { id, len: 1 }));
            } else if let Some(unknown) = chars.unknown {
                pending.add(unknown, bytes.len() as u32, start);
            }
        }
        pending.flush(start);
    }

    /// What SentencePiece makes of the merged symbols: the tokens among them; for other characters their bytes, of
    /// which the last one stands for the character and the others for nothing; or one unknown token for a run.
    fn take_pieces(
        &self,
        text: &str,
        chars: &Chars,
        merged: &[Start],
        mut take: impl FnMut(TokenId, Range<usize>),
    ) {
        let mut at = 0;
        let mut run: Option<Range<usize>> = None;
        let flush = |run: Option<Range<usize>>, take: &mut dyn FnMut(TokenId, Range<usize>)| {
            if let (Some(range), Some(unknown)) = (run, chars.unknown) {
                take(unknown.id, range);
            }
        };
        for symbol in merged {
            let range = at..at + symbol.len as usize;
            at = range.end;
            if (symbol.id as usize) < self.vocab.id_bound() {
                flush(run.take(), &mut take);
                take(symbol.id, range);
            } else if let Some(ids) = chars.bytes.as_deref() {
                let bytes = &text.as_bytes()[range.clone()];
                for (i, &byte) in bytes.iter().enumerate() {
                    let place = if i + 1 == bytes.len() { range.clone() } else { range.start..range.start };
                    if let Some(id) = ids[usize::from(byte)] {
                        take(id, place);
                    }
                }
            } else {
                let start = run.map_or(range.start, |run| run.start);
                run = Some(start..range.end);
            }
        }
        flush(run, &mut take);
    }
}

/// An unknown token that is not yet written down, as the next character may belong to it.
#[derive(Default)]
struct Pending(Option<Start>);

impl Pending {
    fn add(&mut self, unknown: Unknown, len: u32, out: &mut Vec<Start>) {
        match &mut self.0 {
            Some(start) if unknown.fused => start.len += len,
            start => {
                out.extend(start.take());
                *start = Some(Start { id: unknown.id, len });
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<Start>) {
        out.extend(self.0.take());
    }
}
