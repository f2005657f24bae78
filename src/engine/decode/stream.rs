//! Ids that come one by one, as text that comes piece by piece.

use super::{DecodeError, Decoder};
use crate::engine::{TokenId, Tokenizer};

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
        if self.pending.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Ok(text.to_owned());
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
