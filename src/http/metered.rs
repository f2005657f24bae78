//! Request bodies of keys that have a quota of bytes: counted as they come, and ended where it is used up.

use crate::keys::{Key, Refused};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of a request of `key`.
pub(super) fn metered(body: Body, key: &Arc<Key>) -> Body {
    if !key.counts_bytes() || body.is_end_stream() {
        return body;
    }
    Body::new(Metered { body, key: Arc::clone(key) })
}

/// The limit that ended a body, if it was one.
pub(super) fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refused> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

struct Metered {
    body: Body,
    key: Arc<Key>,
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| {
            let frame = frame?.map_err(Into::into);
            Some(frame.and_then(|frame| {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.key.spend_bytes(bytes).map(|()| frame).map_err(Into::into)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
