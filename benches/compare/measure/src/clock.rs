//! Time spent inside an engine; what is done with its answers is not counted.

use crate::Failure;
use cpu_time::ProcessTime;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Clock {
    /// Processor time of all threads. Unlike the wall's it does not count the times when others had the core.
    pub cpu: Duration,
    pub wall: Duration,
}

impl Clock {
    /// Runs over all items and hands out the answers.
    pub fn time<T, A>(
        &mut self,
        items: &[T],
        mut work: impl FnMut(&T) -> Result<A, Failure>,
    ) -> Result<Vec<A>, Failure> {
        let mut done = Vec::with_capacity(items.len());
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        for item in items {
            done.push(work(item)?);
        }
        self.cpu += cpu.elapsed();
        self.wall += wall.elapsed();
        Ok(done)
    }
}
