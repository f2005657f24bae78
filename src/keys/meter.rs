//! How often a key is used: a rate with bursts, and quotas of the day. Without locks, as every request passes here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

/// How often a key may be used and what may be kept for it; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests at once after a rest; as many as in a second if it is not told.
    pub burst: Option<u32>,
    /// Requests in a day of UTC.
    pub requests_per_day: Option<u32>,
    /// Bytes of their bodies, as they are sent.
    pub bytes_per_day: Option<u64>,
    /// Versions that it has published and nobody has deleted.
    pub kept_versions: Option<u32>,
    /// Bytes of those, as the store has them.
    pub kept_bytes: Option<u64>,
    /// Training jobs that wait or run.
    pub open_jobs: Option<u32>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {limit} = {value}, which is used up")]
pub struct Refused {
    /// Its name in the file of keys.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
    /// Whole seconds after which the next request is taken, at least 1.
    pub retry_after: u64,
}

/// What of the limits is used up.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limits: Limits,
    /// When the requests so far would be through if they came at the rate, in nanoseconds (the "virtual scheduling"
    /// form of a leaky bucket: one number in place of a level and a time).
    due: AtomicU64,
    /// The day in the upper half, its requests in the lower one.
    day: AtomicU64,
    /// The day in the upper quarter (which comes round after 179 years), its bytes in the rest.
    bytes: AtomicU64,
}

/// Bits of a number of bytes: no quota is beyond them.
const BYTES_BITS: u32 = 48;

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, due: AtomicU64::new(0), day: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Counts a request at the time `now` since any fixed moment.
    pub(super) fn spend(&self, now: Duration, since_1970: Duration) -> Result<(), Refused> {
        self.spend_rate(now)?;
        self.spend_quota(since_1970)
    }

    fn spend_rate(&self, now: Duration) -> Result<(), Refused> {
        let Some(rate) = self.limits.requests_per_second else { return Ok(()) };
        let interval = 1_000_000_000 / u64::from(rate.max(1));
        let ahead = interval * u64::from(self.limits.burst.unwrap_or(rate).max(1) - 1);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let next = |due: u64| (due <= now + ahead).then(|| due.max(now) + interval);
        match self.due.fetch_update(Relaxed, Relaxed, next) {
            Ok(_) => Ok(()),
            Err(due) => {
                let wait = Duration::from_nanos(due - now - ahead);
                let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Err(Refused { limit: "requests_per_second", value: rate.into(), retry_after })
            }
        }
    }

    fn spend_quota(&self, since_1970: Duration) -> Result<(), Refused> {
        let Some(quota) = self.limits.requests_per_day.map(u64::from) else { return Ok(()) };
        let today = since_1970.as_secs() / SECONDS_OF_DAY;
        let next = |day: u64| {
            let used = if day >> 32 == today { day & u64::from(u32::MAX) } else { 0 };
            (used < quota).then_some(today << 32 | (used + 1))
        };
        let spent = self.day.fetch_update(Relaxed, Relaxed, next);
        spent.map(drop).map_err(|_| used_up("requests_per_day", quota, since_1970))
    }

    /// Counts bytes of bodies.
    pub(super) fn spend_bytes(&self, bytes: u64, since_1970: Duration) -> Result<(), Refused> {
        let Some(quota) = self.limits.bytes_per_day else { return Ok(()) };
        let next = |before: u64| {
            let (today, used) = bytes_of_today(before, since_1970);
            let used = used.checked_add(bytes).filter(|used| *used <= quota)?;
            Some(today << BYTES_BITS | used)
        };
        let spent = self.bytes.fetch_update(Relaxed, Relaxed, next);
        spent.map(drop).map_err(|_| used_up("bytes_per_day", quota, since_1970))
    }

    /// Whether so many bytes more would be taken; they are not counted yet.
    pub(super) fn has_bytes(&self, bytes: u64, since_1970: Duration) -> Result<(), Refused> {
        let Some(quota) = self.limits.bytes_per_day else { return Ok(()) };
        let (_, used) = bytes_of_today(self.bytes.load(Relaxed), since_1970);
        // A key that has used up all of it has none for a body whose length is not told.
        let fits = used < quota && bytes <= quota - used;
        if fits { Ok(()) } else { Err(used_up("bytes_per_day", quota, since_1970)) }
    }
}

fn bytes_of_today(counted: u64, since_1970: Duration) -> (u64, u64) {
    let today = (since_1970.as_secs() / SECONDS_OF_DAY) & (u64::MAX >> BYTES_BITS);
    let used = if counted >> BYTES_BITS == today { counted & ((1 << BYTES_BITS) - 1) } else { 0 };
    (today, used)
}

fn used_up(limit: &'static str, value: u64, since_1970: Duration) -> Refused {
    Refused { limit, value, retry_after: SECONDS_OF_DAY - since_1970.as_secs() % SECONDS_OF_DAY }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(SECONDS_OF_DAY);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_allows_its_burst_and_then_its_pace() {
        let limits = Limits { requests_per_second: Some(10), burst: Some(3), ..Limits::default() };
        let meter = Meter::new(limits);
        let taken = |at: u64| meter.spend(ms(at), DAY).is_ok();
        assert_eq!([taken(1000), taken(1000), taken(1000), taken(1000)], [true, true, true, false]);
        assert_eq!(
            [taken(1099), taken(1100), taken(1101), taken(1199), taken(1200)],
            [false, true, false, false, true]
        );
        // After a rest the burst is there again, and no more than that.
        assert_eq!((0..5).filter(|_| taken(60_000)).count(), 3);
        assert_eq!((0..1000).filter(|n| taken(61_000 + n)).count(), 3 + 9);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let limits = Limits { requests_per_second: Some(1), burst: Some(2), ..Limits::default() };
        let meter = Meter::new(limits);
        let spend = |at: u64| meter.spend(ms(at), DAY).map_err(|refused| refused.retry_after);
        assert_eq!([spend(5000), spend(5000), spend(5000), spend(5600)], [Ok(()), Ok(()), Err(1), Err(1)]);
        assert_eq!(spend(6000), Ok(()));
        assert_eq!(spend(6000), Err(1));
    }

    #[test]
    fn a_quota_is_of_the_day() {
        let meter = Meter::new(Limits { requests_per_day: Some(2), ..Limits::default() });
        let spend = |at: Duration| meter.spend(Duration::ZERO, at).map_err(|refused| refused.retry_after);
        let late = DAY * 20_000 + DAY - ms(1500);
        assert_eq!([spend(late), spend(late), spend(late)], [Ok(()), Ok(()), Err(2)]);
        assert_eq!([spend(DAY * 20_001), spend(DAY * 20_001)], [Ok(()), Ok(())]);
        assert_eq!(spend(DAY * 20_001), Err(SECONDS_OF_DAY));
    }

    #[test]
    fn threads_together_get_no_more_than_the_limit() {
        let limits = Limits {
            requests_per_second: Some(1),
            burst: Some(100),
            requests_per_day: Some(150),
            bytes_per_day: Some(1000),
            ..Limits::default()
        };
        let meter = Meter::new(limits);
        let spent = |at: u64| {
            let count = || (0..100).filter(|_| meter.spend(ms(at), DAY).is_ok()).count();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
            })
        };
        assert_eq!(spent(1000), 100);
        assert_eq!(spent(1_000_000), 50);
        let bytes = || (0..100).filter(|_| meter.spend_bytes(7, DAY).is_ok()).count();
        let threads = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bytes)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(threads, 1000 / 7);
    }

    #[test]
    fn bytes_are_of_the_day_too_and_what_does_not_fit_is_not_counted() {
        let meter = Meter::new(Limits { bytes_per_day: Some(1000), ..Limits::default() });
        let day = DAY * 20_001;
        assert!(meter.has_bytes(1001, day).is_err() && meter.has_bytes(1000, day).is_ok());
        meter.spend_bytes(600, day).unwrap();
        let refused = meter.spend_bytes(401, day + ms(500)).unwrap_err();
        assert_eq!((refused.limit, refused.value, refused.retry_after), ("bytes_per_day", 1000, 86_400));
        assert!(meter.has_bytes(401, day).is_err() && meter.has_bytes(400, day).is_ok());
        meter.spend_bytes(400, day).unwrap();
        assert!(meter.has_bytes(0, day).is_err() && meter.spend_bytes(1, day).is_err());
        assert!(meter.spend_bytes(u64::MAX, day).is_err());
        meter.spend_bytes(1000, day + DAY).unwrap();
        let free = Meter::new(Limits::default());
        assert!(free.spend_bytes(u64::MAX, day).is_ok() && free.has_bytes(u64::MAX, day).is_ok());
    }
}
