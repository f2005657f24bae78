//! How often a key is used: a rate with bursts, and a quota of the day. Without locks, as every request passes here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

/// How often a key may be used; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests at once after a rest; as many as in a second if it is not told.
    pub burst: Option<u32>,
    /// Requests in a day of UTC.
    pub requests_per_day: Option<u32>,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its name in the file of keys.
    pub limit: &'static str,
    /// Its value.
    pub value: u32,
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
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, due: AtomicU64::new(0), day: AtomicU64::new(0) }
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
                Err(Refused { limit: "requests_per_second", value: rate, retry_after })
            }
        }
    }

    fn spend_quota(&self, since_1970: Duration) -> Result<(), Refused> {
        let Some(quota) = self.limits.requests_per_day else { return Ok(()) };
        let (today, second) = (since_1970.as_secs() / SECONDS_OF_DAY, since_1970.as_secs() % SECONDS_OF_DAY);
        let next = |day: u64| {
            let used = if day >> 32 == today { day & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(quota)).then_some(today << 32 | (used + 1))
        };
        let spent = self.day.fetch_update(Relaxed, Relaxed, next);
        let retry_after = SECONDS_OF_DAY - second;
        spent.map(drop).map_err(|_| Refused { limit: "requests_per_day", value: quota, retry_after })
    }
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
        let limits = Limits { requests_per_second: Some(10), burst: Some(3), requests_per_day: None };
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
        let limits = Limits { requests_per_second: Some(1), burst: Some(2), requests_per_day: None };
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
        let limits = Limits { requests_per_second: Some(1), burst: Some(100), requests_per_day: Some(150) };
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
    }
}
