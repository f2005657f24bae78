//! Answers that count among the bytes in flight until they are sent or the client is gone: one that reads slowly keeps as much
//! from the others as the server keeps for it.

use super::admission::Room;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Answers below so many bytes are not worth counting: a request takes as much otherwise.
const SMALL: u64 = 4096;

/// The body of an answer, whose size, where it is known, takes the place of what its request had in `room`. Pieces of others
/// come as the client takes them.
pub(super) fn held(body: Body, room: Arc<Room>) -> Body {
    match body.size_hint().exact() {
        Some(size @ SMALL..) => {
            room.becomes(size);
            Body::new(Held { body, room })
        }
        _ => body,
    }
}

/// Bytes that keep their room as long as anybody has a part of them: what is on its way to a socket has left its body already.
fn piece(bytes: Bytes, room: Arc<Room>) -> Bytes {
    Bytes::from_owner(Piece { bytes, _room: room })
}

/// A piece of an answer that comes as the client takes it: made in the course of a request with `room`, it has its own.
pub(super) fn streamed(bytes: Vec<u8>, room: Option<&Room>) -> Bytes {
    match room {
        Some(room) if bytes.len() as u64 >= SMALL => {
            let own = room.apart();
            own.becomes(bytes.len() as u64);
            piece(bytes.into(), Arc::new(own))
        }
        _ => bytes.into(),
    }
}

struct Piece {
    bytes: Bytes,
    _room: Arc<Room>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Held {
    body: Body,
    room: Arc<Room>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        frame.map_ok(|frame| frame.map_data(|bytes| piece(bytes, Arc::clone(&this.room))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
