//! Where work on a text runs: short texts at once on the async thread, long ones on the blocking pool under a bound,
//! so that one long text delays nobody. Work whose client has gone is told to stop.

use super::problem::Problem;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::Semaphore;

/// The gate to the processor.
#[derive(Debug)]
pub struct Cpu {
    inline_bytes: usize,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    in_flight: AtomicU64,
}

/// Counts the bytes of a text for as long as it is worked on or waits for that.
struct InFlight<'c>(&'c AtomicU64, u64);

impl<'c> InFlight<'c> {
    fn new(total: &'c AtomicU64, bytes: usize) -> Self {
        total.fetch_add(bytes as u64, Relaxed);
        Self(total, bytes as u64)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

/// Counts a waiter for as long as it waits, also when its client goes away.
struct Waiter<'c>(&'c AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

thread_local! {
    /// Becomes true when nobody waits any more for the work that this thread does.
    static STOP: RefCell<Option<Arc<AtomicBool>>> = RefCell::default();
}

/// What becomes true when the client of the work that this thread does has gone; `None` for work that is done at once.
pub(super) fn stop_of_this_work() -> Option<Arc<AtomicBool>> {
    STOP.with_borrow(Option::clone)
}

/// Tells work to stop when it is dropped, as a request is when its client goes away.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Forgets it when the work is over, also where that panics: the thread does other work next.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        STOP.set(None);
    }
}

impl Cpu {
    /// Runs work on up to `inline_bytes` at once, longer work on `threads` threads with up to `max_waiting` waiting.
    pub fn new(inline_bytes: usize, threads: usize, max_waiting: usize) -> Self {
        let permits = Arc::new(Semaphore::new(threads.max(1)));
        Self {
            inline_bytes,
            permits,
            waiting: AtomicUsize::new(0),
            max_waiting,
            in_flight: AtomicU64::new(0),
        }
    }

    /// Bytes of the texts that are worked on now, or wait for that.
    pub fn bytes_in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Runs `work` over `bytes` bytes of input. Work that waits for its turn is dropped with its request.
    ///
    /// # Errors
    /// [`Problem::overloaded`] when too many wait already; [`Problem::internal`] when the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _in_flight = InFlight::new(&self.in_flight, bytes);
        if bytes <= self.inline_bytes { Ok(work()) } else { self.queue(work, self.max_waiting).await }
    }

    /// The same for a piece of a stream, which waits for its turn however many wait: streams are as many as connections, and
    /// each waits with one piece for each thread or so.
    ///
    /// # Errors
    /// [`Problem::internal`] when the work panicked.
    pub async fn run_in_turn<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _in_flight = InFlight::new(&self.in_flight, bytes);
        if bytes <= self.inline_bytes { Ok(work()) } else { self.queue(work, usize::MAX).await }
    }

    /// The same for work that takes longer than the size of its input says: never here.
    ///
    /// # Errors
    /// As [`Cpu::run`].
    pub async fn run_elsewhere<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _in_flight = InFlight::new(&self.in_flight, bytes);
        self.queue(work, self.max_waiting).await
    }

    async fn queue<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        max_waiting: usize,
    ) -> Result<T, Problem> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiter = Waiter(&self.waiting);
                if self.waiting.fetch_add(1, Relaxed) >= max_waiting {
                    return Err(Problem::overloaded());
                }
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                drop(waiter);
                permit.map_err(|_| Problem::overloaded())?
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let _waits = Waits(Arc::clone(&stop));
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            STOP.set(Some(stop));
            let _over = Over;
            work()
        });
        done.await.map_err(|error| {
            tracing::error!(panicked = error.is_panic(), "work on a text failed");
            Problem::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn short_work_runs_here_and_long_work_elsewhere() {
        let cpu = Cpu::new(10, 1, 1);
        let here = std::thread::current().id();
        assert_eq!(cpu.run(10, || std::thread::current().id()).await.unwrap(), here);
        assert_ne!(cpu.run(11, || std::thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test]
    async fn work_beyond_the_bound_is_refused_and_the_gate_opens_again() {
        let cpu = Arc::new(Cpu::new(0, 1, 1));
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let first = Arc::clone(&cpu);
        let busy = tokio::spawn(async move { first.run(1, move || hold.recv()).await });
        while cpu.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = Arc::clone(&cpu);
        let waits = tokio::spawn(async move { second.run(1, || 7).await });
        while cpu.waiting.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cpu.run(1, || 8).await.unwrap_err().code(), "overloaded");
        release.send(()).unwrap();
        busy.await.unwrap().unwrap().unwrap();
        assert_eq!(waits.await.unwrap().unwrap(), 7);
        assert_eq!(cpu.run(1, || 9).await.unwrap(), 9);
    }

    #[tokio::test]
    async fn work_is_told_when_its_client_has_gone() {
        let cpu = Arc::new(Cpu::new(0, 1, 0));
        let (begun, begins) = tokio::sync::oneshot::channel();
        let work = move || {
            let stop = stop_of_this_work().unwrap();
            assert!(!stop.load(Relaxed));
            begun.send(()).unwrap();
            while !stop.load(Relaxed) {
                std::thread::yield_now();
            }
        };
        let running = Arc::clone(&cpu);
        let client = tokio::spawn(async move { running.run(1, work).await });
        begins.await.unwrap();
        client.abort();
        while cpu.permits.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(stop_of_this_work().is_none());
        assert!(cpu.run(1, || !stop_of_this_work().unwrap().load(Relaxed)).await.unwrap());
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_answer_and_frees_its_place() {
        let cpu = Cpu::new(0, 1, 0);
        let failed: Result<(), Problem> = cpu.run(1, || panic!("on purpose")).await;
        assert_eq!(failed.unwrap_err().code(), "internal");
        while cpu.permits.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cpu.run(1, || 1).await.unwrap(), 1);
    }
}
