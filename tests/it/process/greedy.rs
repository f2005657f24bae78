//! A key that sends ten times what it may: it gets its share, and another key does not notice.

use super::load::{Sets, Times, steadily};
use super::{Server, finish, serve, size, vocabd};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Requests in a second that the greedy key may send, and how many times that it does.
const MAY: u32 = 100;
const TIMES: u32 = 10;

/// With and without it in turn, so that what else the machine does meets both alike.
const ROUNDS: u64 = 4;

fn key(file: &Path, args: &[&str]) -> String {
    let mut command = vocabd();
    command.arg("key").args(args).args(["--scopes", "encode", "--file"]).arg(file);
    let (code, out, err) = finish(command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    format!("x-api-key: {}\r\n", out.trim())
}

#[test]
fn a_key_that_sends_ten_times_its_rate_gets_its_rate_and_another_key_all_that_it_asks_for() {
    let time = Duration::from_millis(size("GREEDY_SECONDS", 1) * 1000 / 2);
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("keys.toml");
    let rate = MAY.to_string();
    let greedy = key(&file, &["greedy", "--requests-per-second", &rate, "--burst", "10"]);
    let modest = key(&file, &["modest"]);
    let settings = [("keys_file", file.to_str().unwrap())];
    let server = Server::run(serve(vocabd(), &data.path().join("data"), &settings));
    let (alone, beside) = (Times::default(), Times::default());
    let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut greedy_time = Duration::ZERO;
    for round in 0..2 * ROUNDS {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if round % 2 == 1 {
                scope.spawn(|| {
                    let body = json!({"text": "a request like all the others"}).to_string();
                    let mut client = server.client();
                    let begun = Instant::now();
                    for nth in 0.. {
                        let due = Duration::from_secs(1) * nth / (MAY * TIMES);
                        std::thread::sleep(due.saturating_sub(begun.elapsed()));
                        if stop.load(SeqCst) {
                            break;
                        }
                        let answer = client.try_ask("POST", "/encode", &greedy, body.as_bytes()).unwrap();
                        match answer.status {
                            200 => drop(taken.fetch_add(1, SeqCst)),
                            429 => {
                                assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                                refused.fetch_add(1, SeqCst);
                            }
                            _ => panic!("{}", answer.text()),
                        }
                    }
                });
            }
            let _stops = Sets(&stop);
            let begun = Instant::now();
            let times = if round % 2 == 1 { &beside } else { &alone };
            steadily(&server, &modest, time, times);
            if round % 2 == 1 {
                greedy_time += begun.elapsed();
            }
        });
    }
    let (taken, refused) = (taken.load(SeqCst), refused.load(SeqCst));
    println!(
        "one key at {TIMES} times its rate: {taken} requests taken, {refused} refused; the other, never refused: alone {}; beside it {}",
        alone.summary(),
        beside.summary()
    );
    // With what is let through at once at the beginning of each round.
    let may = ROUNDS * (10 + 1) + (f64::from(MAY) * greedy_time.as_secs_f64()) as u64;
    assert!((1..=may).contains(&taken) && refused > 0, "{taken} taken, {refused} refused; {may} at most");
    // What the clocks say is of worth on a machine that does nothing else, and for as long as .ci/long takes.
    if time > Duration::from_secs(2) {
        assert!(
            beside.per_mille(990) <= alone.per_mille(990) * 12 / 10,
            "alone {}; beside it {}",
            alone.summary(),
            beside.summary()
        );
    }
    server.stop();
}
