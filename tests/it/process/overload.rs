//! Three times what the server can do: it does what it can, says no to the rest at once, and operators see all of it.

use super::http::Client;
use super::load::{Sets, Times};
use super::{Server, size};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Requests taken on at once: above, they are refused.
const IN_FLIGHT: &str = "4";

/// Threads that send: many more than requests are taken on.
const SENDERS: usize = 24;

/// A text that takes the server far longer than its few compressed bytes take the client.
fn heavy(server: &Server) -> Vec<u8> {
    for doublings in 0.. {
        let text = "a quick brown fox, jumping 12 times over; ".repeat(2000 << doublings);
        let body = zstd::encode_all(json!({"text": text}).to_string().as_bytes(), 3).unwrap();
        let begun = Instant::now();
        encode(&mut server.client(), &body).expect(200);
        if begun.elapsed() > Duration::from_millis(8) || text.len() > 500_000 {
            return body;
        }
    }
    unreachable!()
}

fn encode(client: &mut Client, body: &[u8]) -> super::http::Answer {
    let headers = "Content-Type: application/json\r\nContent-Encoding: zstd\r\n";
    client.try_ask("POST", "/count", headers, body).unwrap()
}

/// What so many senders get done in that time, each pausing so that together they send `rate` a second.
struct Run {
    done_per_second: f64,
    refused: Times,
    probes: Times,
}

fn run(server: &Server, body: &[u8], senders: usize, rate: Option<f64>, time: Duration) -> Run {
    let (done, nth, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (refused, probes) = (Times::default(), Times::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| {
                let _stops = Sets(&stop);
                let mut client = server.client();
                while begun.elapsed() < time {
                    if let Some(rate) = rate {
                        // The moment of this request, whatever became of those before.
                        let due = Duration::from_secs_f64(nth.fetch_add(1, SeqCst) as f64 / rate);
                        std::thread::sleep(due.saturating_sub(begun.elapsed()));
                    }
                    let sent = Instant::now();
                    let answer = encode(&mut client, body);
                    match answer.status {
                        200 => drop(done.fetch_add(1, SeqCst)),
                        503 => {
                            refused.add(sent.elapsed());
                            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                        }
                        _ => panic!("{}", answer.text()),
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut client = server.client();
            while !stop.load(SeqCst) {
                for probe in ["/livez", "/readyz", "/health", "/metrics"] {
                    let sent = Instant::now();
                    client.ask("GET", probe, b"").expect(200);
                    probes.add(sent.elapsed());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    });
    Run { done_per_second: done.load(SeqCst) as f64 / begun.elapsed().as_secs_f64(), refused, probes }
}

#[test]
fn three_times_the_load_leaves_what_is_done_and_shows_the_rest_the_door() {
    let seconds = size("OVERLOAD_SECONDS", 2);
    let data = tempfile::tempdir().unwrap();
    let settings = [("max_requests_in_flight", IN_FLIGHT), ("encode_threads", "1")];
    let server = Server::start_with(data.path(), &settings);
    let body = heavy(&server);
    let time = Duration::from_secs(seconds);
    // In turn, so that what else the machine does meets both alike.
    let (mut peak, mut flooded, mut rounds) = (0.0, 0.0, Vec::new());
    let (refused, probes) = (Times::default(), Times::default());
    for _ in 0..3 {
        let alone = run(&server, &body, 4, None, time);
        let crowd = run(&server, &body, SENDERS, Some(3.0 * alone.done_per_second), time);
        peak += alone.done_per_second / 3.0;
        flooded += crowd.done_per_second / 3.0;
        rounds.push(crowd.done_per_second / alone.done_per_second);
        assert_eq!(alone.refused.count(), 0);
        refused.take(&crowd.refused);
        probes.take(&crowd.probes);
    }
    println!(
        "peak {peak:.1} requests/s, at three times that {flooded:.1} ({:.0} %; {rounds:.2?}); refused {}; probes, all answered, {}",
        flooded / peak * 100.0,
        refused.summary(),
        probes.summary()
    );
    assert!(refused.count() as f64 > flooded, "it was no overload");
    // The short form runs beside other tests, on machines of any speed.
    let (share, limit) =
        if seconds > 2 { (0.9, refused.per_mille(990)) } else { (0.5, refused.per_mille(500)) };
    assert!(flooded >= share * peak, "{flooded} of {peak}");
    assert!(limit < Duration::from_millis(5), "{}", refused.summary());
    server.stop();
}
