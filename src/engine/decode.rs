//! Ids back to bytes and text.
//!
//! Bytes are the truth: the concatenation of the tokens' bytes. Text is those bytes as UTF-8, ill-formed parts
//! replaced by U+FFFD as the Unicode standard recommends (one per maximal subpart).

use super::{TokenId, Tokenizer};

/// An id that is not a token of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("id {id} at position {index} is not a token of this vocabulary")]
pub struct DecodeError {
    /// Position in the sequence.
    pub index: usize,
    /// The id.
    pub id: TokenId,
}

impl Tokenizer {
    /// How many bytes [`Tokenizer::decode_bytes`] gives, without making them.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decoded_len(&self, ids: &[TokenId], skip_special: bool) -> Result<u64, DecodeError> {
        let mut total = 0;
        for (index, &id) in ids.iter().enumerate() {
            let bytes = self.vocab().bytes(id).ok_or(DecodeError { index, id })?;
            if !(skip_special && self.is_special(id)) {
                total += bytes.len() as u64;
            }
        }
        Ok(total)
    }

    /// The bytes of a sequence of tokens; with `skip_special` those of special tokens are left out.
    ///
    /// # Errors
    /// [`DecodeError`] names the first unknown id.
    pub fn decode_bytes(&self, ids: &[TokenId], skip_special: bool) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::with_capacity(ids.len() * 4);
        for (index, &id) in ids.iter().enumerate() {
            let bytes = self.vocab().bytes(id).ok_or(DecodeError { index, id })?;
            if !(skip_special && self.is_special(id)) {
                out.extend_from_slice(bytes);
            }
        }
        Ok(out)
    }
}

/// Decodes ids one by one into text, holding back a character until all of its bytes have come.
///
/// The pieces joined are [`String::from_utf8_lossy`] of all bytes.
#[derive(Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
    pushed: usize,
}

impl<'t> DecodeStream<'t> {
    /// A stream that has seen nothing yet.
    pub fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, pending: Vec::new(), pushed: 0 }
    }

    /// Takes one id and gives the text that is now complete (often empty in the middle of a character).
    ///
    /// # Errors
    /// [`DecodeError`] with the position counted over the whole stream; the stream can go on without that id.
    pub fn push(&mut self, id: TokenId) -> Result<String, DecodeError> {
        let index = self.pushed;
        self.pushed += 1;
        let bytes = self.tokenizer.vocab().bytes(id).ok_or(DecodeError { index, id })?;
        if self.skip_special && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        self.pending.extend_from_slice(bytes);
        let complete = complete_prefix(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        Ok(text)
    }

    /// What was held back: a character that never became whole, replaced.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
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
