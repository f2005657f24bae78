//! Bodies: read whole, within their limits, or refused and read no further.

use crate::http::admission::Room;
use crate::http::listen::is_body_timeout;
use crate::http::metered;
use crate::http::problem::Problem;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError};
use simdutf8::compat::from_utf8;
use std::error::Error;
use std::sync::Arc;

/// A whole body, as text where it has been found to be.
#[derive(Debug)]
pub(in crate::http) enum Whole {
    Bytes(Bytes),
    Text(String),
}

impl Whole {
    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.into(),
        }
    }

    /// The body as text.
    ///
    /// # Errors
    /// 400 with the first byte that is none.
    pub(super) fn into_text(self) -> Result<String, Problem> {
        match self {
            Self::Bytes(bytes) => from_utf8(&bytes)
                .map(str::to_owned)
                .map_err(|error| Problem::invalid_utf8(error.valid_up_to())),
            Self::Text(text) => Ok(text),
        }
    }
}

/// What the pieces of a body become.
pub(super) trait Pieces {
    /// Room for so many bytes, before the first piece.
    fn reserve(&mut self, bytes: usize);
    /// Bytes of the pieces so far.
    fn len(&self) -> usize;
    /// Takes the next piece.
    ///
    /// # Errors
    /// Where the body cannot be what it should be.
    fn add(&mut self, piece: &[u8]) -> Result<(), Problem>;
    /// All of them together.
    ///
    /// # Errors
    /// Where the end is missing.
    fn finish(self) -> Result<Whole, Problem>;
}

impl Pieces for Vec<u8> {
    fn reserve(&mut self, bytes: usize) {
        self.reserve_exact(bytes);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.extend_from_slice(piece);
        Ok(())
    }

    fn finish(self) -> Result<Whole, Problem> {
        Ok(Whole::Bytes(self.into()))
    }
}

/// Pieces of a text, read as such while they come: nothing is kept of what is none.
#[derive(Debug, Default)]
pub(super) struct TextPieces {
    text: String,
    /// The bytes of a character that the last piece has not all of.
    cut: Vec<u8>,
}

impl Pieces for TextPieces {
    fn reserve(&mut self, bytes: usize) {
        self.text.reserve_exact(bytes);
    }

    fn len(&self) -> usize {
        self.text.len() + self.cut.len()
    }

    fn add(&mut self, mut piece: &[u8]) -> Result<(), Problem> {
        // The rest of the character that was cut, byte by byte.
        while let (false, Some((&byte, rest))) = (self.cut.is_empty(), piece.split_first()) {
            self.cut.push(byte);
            piece = rest;
            match from_utf8(&self.cut) {
                Ok(char) => {
                    self.text.push_str(char);
                    self.cut.clear();
                }
                Err(error) if error.error_len().is_some() => {
                    return Err(Problem::invalid_utf8(self.text.len()));
                }
                Err(_) => {}
            }
        }
        let (whole, cut) = piece.split_at(whole_characters(piece));
        let text =
            from_utf8(whole).map_err(|error| Problem::invalid_utf8(self.text.len() + error.valid_up_to()))?;
        self.text.push_str(text);
        self.cut.extend_from_slice(cut);
        Ok(())
    }

    fn finish(self) -> Result<Whole, Problem> {
        if self.cut.is_empty() {
            Ok(Whole::Text(self.text))
        } else {
            Err(Problem::invalid_utf8(self.text.len()))
        }
    }
}

/// Where the last character begins if its end is missing; all bytes otherwise.
fn whole_characters(bytes: &[u8]) -> usize {
    let is_continued = |byte: u8| byte.leading_ones() == 1;
    let len = bytes.len();
    match (1..=len.min(3)).find(|back| !is_continued(bytes[len - back])) {
        // The first byte of a character says by its leading ones how many it has.
        Some(back) if (back + 1..=4).contains(&(bytes[len - back].leading_ones() as usize)) => len - back,
        _ => len,
    }
}

/// The whole body, refused as soon as it is known to be over `limit` bytes.
///
/// # Errors
/// 413, 408 when it comes too slowly, 400 when it is cut off, 415 when it is compressed.
pub(in crate::http) async fn read_body(request: Request<Body>, limit: u64) -> Result<Bytes, Problem> {
    check_encoding(request.headers())?;
    collect(request, limit, Vec::new()).await.map(Whole::into_bytes)
}

/// The same for a body of any coding, which becomes what its `pieces` do if it does not come in one.
pub(super) async fn collect(
    request: Request<Body>,
    limit: u64,
    mut pieces: impl Pieces,
) -> Result<Whole, Problem> {
    let announced = announced_length(request.headers());
    // What is not announced takes its room as it comes.
    let room = request.extensions().get::<Arc<Room>>().filter(|_| announced.is_none()).cloned();
    let mut body = request.into_body();
    if announced.is_some_and(|n| n > limit) {
        discard(body).await;
        return Err(Problem::body_too_large(limit));
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Err(body_error(&error, limit)),
            None => return pieces.finish(),
        };
        if piece.len() > most - pieces.len() {
            discard(body).await;
            return Err(Problem::body_too_large(limit));
        }
        if let Some(room) = &room {
            room.grow(piece.len() as u64)?;
        }
        if pieces.len() == 0 {
            if hyper::body::Body::is_end_stream(&body) {
                // Most bodies come in one piece.
                return Ok(Whole::Bytes(piece));
            }
            // It counts among the bytes in flight, and takes no memory before it is written to; what would be too small is copied.
            pieces.reserve(announced.map_or(0, |n| n.min(most as u64) as usize));
        }
        if let Err(problem) = pieces.add(&piece) {
            discard(body).await;
            return Err(problem);
        }
    }
}

/// The most of a refused body that is still read.
const DISCARD_BYTES: usize = 64 << 20;

/// Reads on for a moment, keeping nothing: a client that sends its whole body before it reads would otherwise see a
/// reset connection in place of the answer that says what was wrong.
pub(in crate::http) async fn discard(mut body: Body) {
    let mut left = DISCARD_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), read).await;
}

/// What an error of reading a body means.
pub(in crate::http) fn body_error(error: &(dyn Error + 'static), limit: u64) -> Problem {
    let too_long = |error: &(dyn Error + 'static)| error.is::<LengthLimitError>();
    if std::iter::successors(Some(error), |error| (*error).source()).any(too_long) {
        Problem::body_too_large(limit)
    } else if is_body_timeout(error) {
        Problem::body_timeout()
    } else if let Some(refused) = metered::refusal(error) {
        Problem::key_limit(refused)
    } else {
        Problem::body_cut_off()
    }
}

/// `Content-Length`, where there is one.
pub(in crate::http) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses compressed bodies.
///
/// # Errors
/// 415.
pub(in crate::http) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Problem::unsupported_media_type("Content-Encoding", "identity"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(pieces: &[&[u8]]) -> Result<String, Problem> {
        let mut text = TextPieces::default();
        pieces.iter().try_for_each(|piece| text.add(piece))?;
        text.finish()?.into_text()
    }

    /// Wherever it is cut, once or twice, a body is the text that it is as a whole, or is refused at the same byte.
    #[test]
    fn a_text_in_pieces_is_what_it_is_as_a_whole() {
        let bodies: [&[u8]; 9] = [
            "aé中👍z".as_bytes(),
            "👍👍".as_bytes(),
            b"abc",
            b"a\xffb",
            b"\xc3",
            b"ab\xe4\xb8",
            b"\xf0\x9f\x91a\xf0",
            b"\xed\xa0\x80",
            b"\xe4\xb8\xad\x80",
        ];
        for body in bodies {
            let whole = Whole::Bytes(Bytes::copy_from_slice(body))
                .into_text()
                .map_err(|problem| format!("{problem:?}"));
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let pieces = [&body[..first], &body[first..second], &body[second..]];
                    assert_eq!(
                        text_of(&pieces).map_err(|problem| format!("{problem:?}")),
                        whole,
                        "{pieces:x?}"
                    );
                }
            }
        }
    }
}
