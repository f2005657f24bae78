//! Ends under load, again and again: what was accepted is answered, whole.

use super::http::Client;
use super::load::{Sets, serve_at};
use super::{Server, size};
use rustix::process::Signal;
use serde_json::json;
use std::io::ErrorKind;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;

/// When a server was told to end, and when the next one listened.
type Gap = (Instant, Option<Instant>);

#[derive(Debug, Default)]
struct Seen {
    gaps: RwLock<Vec<Gap>>,
    answered: AtomicU64,
    /// Of those, sent before a signal and answered after it.
    caught: AtomicU64,
    /// Neither answered nor begun: nobody listened any more.
    turned_away: AtomicU64,
}

impl Seen {
    /// Whether a server was told to end between two moments, or was at the first of them.
    fn gap(&self, opened: Instant, sent: Instant) -> bool {
        self.gaps.read().unwrap().iter().any(|(told, up)| {
            (opened <= *told && *told <= sent) || (opened >= *told && up.is_none_or(|up| opened <= up))
        })
    }
}

/// One request that is either answered whole or was not accepted.
fn exchange(client: &mut Client, nth: u64, long: &str, seen: &Seen) {
    let text = if nth.is_multiple_of(16) { long } else { "as short as most" };
    let headers = if nth.is_multiple_of(4) { "Connection: close\r\n" } else { "" };
    let body = json!({"text": text}).to_string();
    let begun = Instant::now();
    let outcome = client.try_ask("POST", "/encode", headers, body.as_bytes());
    let (opened, sent) = (client.opened.unwrap_or(begun), client.sent);
    match outcome {
        Ok(answer) => {
            // A server that ends may say so; it may not say anything half.
            assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
            seen.answered.fetch_add(1, SeqCst);
            let caught = sent
                .is_some_and(|sent| seen.gaps.read().unwrap().last().is_some_and(|(told, _)| sent < *told));
            seen.caught.fetch_add(caught.into(), SeqCst);
        }
        Err(error) => {
            let before_it_began = matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            );
            let sent = sent.unwrap_or_else(Instant::now);
            assert!(before_it_began && seen.gap(opened, sent), "accepted and not answered: {error:?}");
            seen.turned_away.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn restarts_under_load_break_no_accepted_request() {
    let restarts = size("RESTARTS", 3);
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let (address, long) = (server.address, "words without end ".repeat(20_000));
    let (seen, stop, nth) = (Seen::default(), AtomicBool::new(false), AtomicU64::new(0));
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let _stops_all = Sets(&stop);
                    let mut client = Client::new(address);
                    while !stop.load(SeqCst) {
                        exchange(&mut client, nth.fetch_add(1, SeqCst), &long, &seen);
                    }
                })
            })
            .collect();
        let _stops_all = Sets(&stop);
        for round in 0..restarts {
            let before = seen.answered.load(SeqCst);
            super::wait_for("answers", || {
                assert!(!running.iter().any(|client| client.is_finished()), "a client has given up");
                (seen.answered.load(SeqCst) > before + 20).then_some(())
            });
            std::thread::sleep(Duration::from_millis(round * 37 % 100));
            let told = Instant::now();
            seen.gaps.write().unwrap().push((told, None));
            server.signal(Signal::TERM);
            let (status, log) = server.wait();
            assert_eq!(status.code(), Some(0), "{log}");
            longest = longest.max(told.elapsed());
            server = Server::run(serve_at(address, data.path()));
            seen.gaps.write().unwrap().last_mut().unwrap().1 = Some(Instant::now());
        }
    });
    let [answered, caught, away] = [&seen.answered, &seen.caught, &seen.turned_away].map(|n| n.load(SeqCst));
    println!(
        "{restarts} restarts: {answered} requests answered, {caught} of them open when the signal came; 0 broken; {away} came when \
         nobody listened; the longest end took {longest:?}"
    );
    assert!(caught > 0, "no request was open at any signal");
    assert!(longest < Duration::from_secs(25), "{longest:?}");
    server.stop();
}
