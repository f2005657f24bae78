//! Clients by the dozen, and what their answers tell.

use super::{Server, http::Client};
use serde_json::json;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long answers took, in microseconds.
#[derive(Default)]
pub(crate) struct Times(Mutex<Vec<u32>>);

impl Times {
    pub(crate) fn add(&self, took: Duration) {
        self.0.lock().unwrap().push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn extend(&self, taken: Vec<u32>) {
        self.0.lock().unwrap().extend(taken);
    }

    /// All those of another, which then has none.
    pub(crate) fn take(&self, other: &Times) {
        self.extend(std::mem::take(&mut *other.0.lock().unwrap()));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The time that so many of a thousand answers did not take.
    pub(crate) fn per_mille(&self, share: usize) -> Duration {
        let mut times = self.0.lock().unwrap();
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        let at = (times.len() * share / 1000).min(times.len() - 1);
        Duration::from_micros(times[at].into())
    }

    /// Median and 99th percentile.
    pub(crate) fn summary(&self) -> String {
        format!("p50 {:?}, p99 {:?} of {}", self.per_mille(500), self.per_mille(990), self.count())
    }
}

/// Sets a flag when it goes, also by a panic: threads that wait for it would hide what failed.
pub(crate) struct Sets<'f>(pub(crate) &'f AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs `work` on so many threads, each with a client of its own, until all have ended.
pub(crate) fn clients(server: &Server, count: usize, work: impl Fn(usize, Client) + Sync) {
    std::thread::scope(|scope| {
        for index in 0..count {
            let (client, work) = (server.client(), &work);
            scope.spawn(move || work(index, client));
        }
    });
}

/// How long the answers of four clients take that ask for little and pause between requests, for so long; all of them are 200.
pub(crate) fn steadily(server: &Server, headers: &str, time: Duration, times: &Times) {
    let begun = Instant::now();
    clients(server, 4, |_, mut client| {
        let body = json!({"text": "a request like all the others"}).to_string();
        while begun.elapsed() < time {
            let sent = Instant::now();
            client.try_ask("POST", "/encode", headers, body.as_bytes()).unwrap().expect(200);
            times.add(sent.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

/// A server that listens where it is told to.
pub(crate) fn serve_at(address: SocketAddr, data: &std::path::Path) -> Command {
    let mut command = super::vocabd();
    command.args(["serve", "--listen", &address.to_string(), "--data-dir"]).arg(data);
    command
}
