//! The bodies of an exchange: a request body that ends with an error when the client is too slow, and an answer
//! that tells the connection's watch whether the server or the client is the one to wait for.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::MINIMUM_RATE;
use super::pace::Exchange;

/// Bytes of an answer that are handed on at once. While the client has not taken most of them the next are not asked for,
/// so that an exchange lasts as long as its answer does.
const PIECE: usize = 64 << 10;

/// The error of a request body whose client paused for too long, or sent too slowly. Answer it with 408.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body came too slowly: {received} bytes in {waited:?} of waiting")]
pub struct BodyTimeout {
    /// Bytes of the body that came in time.
    pub received: u64,
    /// How long the server waited for them in all.
    pub waited: Duration,
}

/// Whether `error`, or one that it wraps, is a [`BodyTimeout`]: extractors hand on body errors in their own types.
pub fn is_body_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<BodyTimeout>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The body of a request, under `limit`: the longest pause between two pieces, and the grace of the minimum rate.
pub(super) fn request_body(incoming: Incoming, limit: Duration) -> Body {
    if incoming.is_end_stream() {
        return Body::empty(); // most GETs: nothing to wait for, and no allocation
    }
    Body::new(PacedBody {
        inner: incoming,
        limit,
        received: 0,
        waited: Duration::ZERO,
        pause: None,
        alarm: None,
    })
}

/// Only time spent waiting for the client counts: a handler may take its time between two reads.
struct PacedBody<B> {
    inner: B,
    limit: Duration,
    received: u64,
    /// In all pauses that are over.
    waited: Duration,
    /// When the pause that is going on began.
    pause: Option<Instant>,
    /// Made at the first pause and used again: a body that came along with its head needs none.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    /// How long the pause that begins now may be.
    fn longest_pause(&self) -> Duration {
        let earned = Duration::from_secs(self.received / MINIMUM_RATE)
            + Duration::from_millis(self.received % MINIMUM_RATE * 1000 / MINIMUM_RATE);
        self.limit.saturating_add(earned).saturating_sub(self.waited).min(self.limit)
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut body.inner).poll_frame(cx) {
            if let Some(since) = body.pause.take() {
                body.waited += since.elapsed();
            }
            if let Some(Ok(frame)) = &frame {
                let length = frame.data_ref().map_or(0, Bytes::len);
                body.received = body.received.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let alarm = match body.pause {
            Some(_) => body.alarm.as_mut(),
            None => {
                let now = Instant::now();
                body.pause = Some(now);
                let longest = body.longest_pause();
                match &mut body.alarm {
                    Some(alarm) => alarm.as_mut().reset(now + longest),
                    None => body.alarm = Some(Box::pin(tokio::time::sleep(longest))),
                }
                body.alarm.as_mut()
            }
        };
        match alarm.map(|alarm| alarm.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                let waited = body.waited + body.pause.map_or(Duration::ZERO, |since| since.elapsed());
                Poll::Ready(Some(Err(Box::new(BodyTimeout { received: body.received, waited }))))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, which keeps its exchange open until it is sent or given up.
pub(super) struct AnswerBody {
    inner: Body,
    /// What is left of its last piece.
    rest: Bytes,
    exchange: Exchange,
}

impl AnswerBody {
    pub(super) fn new(inner: Body, mut exchange: Exchange) -> Self {
        exchange.waits_for_client(true);
        Self { inner, rest: Bytes::new(), exchange }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = self.get_mut();
        // Pending: the handler has nothing to send yet. Ready: it is asked for more as soon as the client has room.
        if body.rest.is_empty() {
            let frame = Pin::new(&mut body.inner).poll_frame(cx);
            body.exchange.waits_for_client(frame.is_ready());
            match frame {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => body.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        } else {
            body.exchange.waits_for_client(true);
        }
        let piece = body.rest.split_to(PIECE.min(body.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}
