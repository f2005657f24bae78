//! How much is taken on at once: requests, and bytes of their bodies and answers. What is over is told to come back, before its
//! body is read.
//!
//! There are two thresholds. Up to three quarters of each limit everything is taken; above, only what answers at once, so that
//! training and imports are shed before encoding is; at the limit only what an operator needs: probes, figures, aliases.

use super::access::{Access, needed};
use super::problem::Problem;
use crate::keys::Scope;
use axum::http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What kind of work a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Small, and wanted most when there is too much of the rest: never shed and not counted.
    Control,
    /// Encoding and its like.
    Encode,
    /// What makes work for later or takes long.
    Bulk,
}

impl Load {
    /// Of a route of the table; `None` is none, whose answer costs nothing.
    pub(super) fn of(method: &Method, route: Option<&str>) -> Self {
        let Some(route) = route else { return Self::Control };
        match (method.as_str(), route) {
            ("POST", "/train" | "/vocabs" | "/compare" | "/models/compare") | ("PUT", "/uploads/{id}") => {
                Self::Bulk
            }
            _ if needed(method, route) == Access::Scoped(Scope::Encode) => Self::Encode,
            _ => Self::Control,
        }
    }

    /// For metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Encode => "encode",
            Self::Bulk => "bulk",
        }
    }
}

/// The longest body of a request that is never shed: what such a route reads is a few fields.
pub(super) const CONTROL_BODY_BYTES: usize = 64 << 10;

/// What is taken on now, and the most that is.
#[derive(Debug)]
pub struct Admission {
    max_requests: u64,
    max_bytes: u64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Admission {
    /// So many requests and bytes of bodies at once.
    pub fn new(max_requests: u64, max_bytes: u64) -> Arc<Self> {
        Arc::new(Self { max_requests, max_bytes, requests: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    /// Bytes in memory of request bodies, announced ones included, and of answers until they are sent.
    pub fn bytes_in_flight(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Takes on a request with so many bytes: its place among those at once, and its room. `None` for what is not counted.
    ///
    /// # Errors
    /// 503 above the threshold of its kind.
    pub(super) fn admit(
        self: &Arc<Self>,
        load: Load,
        bytes: u64,
    ) -> Result<Option<(Place, Arc<Room>)>, Problem> {
        if load == Load::Control {
            return Ok(None);
        }
        if !take(&self.requests, 1, threshold(load, self.max_requests)) {
            return Err(Problem::overloaded());
        }
        // From here on dropping them gives back what they have.
        let place = Place(Arc::clone(self));
        let room = Room { admission: Arc::clone(self), load, bytes: AtomicU64::new(0) };
        room.grow(bytes)?;
        Ok(Some((place, Arc::new(room))))
    }
}

fn threshold(load: Load, limit: u64) -> u64 {
    if load == Load::Bulk { limit - limit / 4 } else { limit }
}

/// Adds `more` unless that would go over `limit`.
fn take(counter: &AtomicU64, more: u64, limit: u64) -> bool {
    let next = |now: u64| now.checked_add(more).filter(|then| *then <= limit);
    counter.fetch_update(Relaxed, Relaxed, next).is_ok()
}

/// One of the requests at once, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Admission>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// What a request, or a part of it, has of the bytes, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    admission: Arc<Admission>,
    load: Load,
    bytes: AtomicU64,
}

impl Room {
    /// Takes room for more bytes than were announced.
    ///
    /// # Errors
    /// 503 above the threshold of its kind.
    pub(super) fn grow(&self, more: u64) -> Result<(), Problem> {
        if !take(&self.admission.bytes, more, threshold(self.load, self.admission.max_bytes)) {
            return Err(Problem::overloaded());
        }
        self.bytes.fetch_add(more, Relaxed);
        Ok(())
    }

    /// So many bytes in place of what it had. They are there, so they count over the limit as well: then others are shed.
    pub(super) fn becomes(&self, bytes: u64) {
        self.admission.bytes.fetch_add(bytes, Relaxed);
        self.admission.bytes.fetch_sub(self.bytes.swap(bytes, Relaxed), Relaxed);
    }

    /// Room of its own, for a part that comes and goes by itself; none yet.
    pub(super) fn apart(&self) -> Self {
        Self { admission: Arc::clone(&self.admission), load: self.load, bytes: AtomicU64::new(0) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(*self.bytes.get_mut(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_for_later_is_shed_first_and_what_an_operator_needs_never() {
        let admission = Admission::new(8, 100);
        let admit = |load, bytes| admission.admit(load, bytes);
        let held: Vec<_> = (0..6).map(|_| admit(Load::Bulk, 0).unwrap()).collect();
        assert_eq!(admit(Load::Bulk, 0).unwrap_err().code(), "overloaded");
        let more: Vec<_> = (0..2).map(|_| admit(Load::Encode, 0).unwrap()).collect();
        assert!(admit(Load::Encode, 0).is_err());
        assert!(admit(Load::Control, 1 << 40).unwrap().is_none());
        drop((held, more));

        let (place, one) = admit(Load::Encode, 70).unwrap().unwrap();
        assert!(admit(Load::Bulk, 6).is_err() && admit(Load::Encode, 31).is_err());
        drop(admit(Load::Bulk, 5).unwrap());
        drop(admit(Load::Encode, 30).unwrap());
        assert!(one.grow(30).is_ok() && one.grow(1).is_err());
        assert_eq!(admission.bytes_in_flight(), 100);
        let part = one.apart();
        assert!(part.grow(1).is_err());
        // What is made is counted, whatever the limit.
        part.becomes(500);
        assert_eq!(admission.bytes_in_flight(), 600);
        one.becomes(10);
        drop(place);
        assert_eq!((admission.bytes.load(Relaxed), admission.requests.load(Relaxed)), (510, 0));
        drop((one, part));
        assert_eq!(admission.bytes_in_flight(), 0);
    }

    #[test]
    fn sums_that_no_number_holds_are_too_much() {
        let admission = Admission::new(2, u64::MAX);
        let _held = admission.admit(Load::Encode, u64::MAX - 1).unwrap();
        assert!(admission.admit(Load::Encode, 2).is_err());
    }

    #[test]
    fn routes_have_their_kind() {
        let check = |method: Method, route, load| assert_eq!(Load::of(&method, Some(route)), load, "{route}");
        check(Method::POST, "/encode", Load::Encode);
        check(Method::POST, "/compat/tei/tokenize", Load::Encode);
        check(Method::GET, "/vocabs/{ref}/export", Load::Encode);
        check(Method::POST, "/train", Load::Bulk);
        check(Method::PUT, "/uploads/{id}", Load::Bulk);
        check(Method::POST, "/vocabs", Load::Bulk);
        check(Method::POST, "/compare", Load::Bulk);
        for probe in ["/livez", "/readyz", "/health", "/metrics", "/info", "/train", "/train/{id}"] {
            check(Method::GET, probe, Load::Control);
        }
        check(Method::PUT, "/vocabs/{name}/aliases/{alias}", Load::Control);
        check(Method::POST, "/train/{id}/cancel", Load::Control);
        check(Method::POST, "/reload", Load::Control);
        assert_eq!(Load::of(&Method::GET, None), Load::Control);
    }
}
