//! Answers while an alias moves: none fails, and each is whole that of the version that it names.

use super::load::{Sets, Times, clients};
use super::{Server, size};
use crate::support::tiktoken;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// The words that each version has as one token: each cuts the texts in another way.
const VERSIONS: [&[&str]; 4] = [
    &["the", "quick"],
    &["brown", "fox", "jumps"],
    &["quick", "jumps", "over"],
    &["lazy", "dog", "the", "over"],
];

const TEXTS: [&str; 3] = [
    "the quick brown fox jumps over the lazy dog",
    "over and over the lazy dog the quick fox jumps, and the brown one does not",
    "dog the over quick",
];

/// Every so many requests one is a batch of all texts.
const BATCH_EVERY: u64 = 8;

/// Requests to one move of the alias, or more where that would be more moves than a second has here.
const REQUESTS_PER_SWAP: u64 = 100;

/// Moves a second: no fewer than promised, at a load that clients of four fifths of the capacity make.
const SWAPS_PER_SECOND: f64 = 110.0;

/// From so many on it is the promise as a whole that is tried.
const PROMISED_SWAPS: u64 = 10_000;

/// What is done to aliases in turn, so that what else the machine does meets all alike.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing.
    Still,
    /// An alias moves that no request names: what the writing alone costs.
    Elsewhere,
    /// The alias moves that all requests name.
    Moving,
}

const PHASES: [Phase; 3] = [Phase::Still, Phase::Elsewhere, Phase::Moving];

/// In each what clients get out of the server without a pause, and each phase, in one order and then in the other: the machine's own
/// speed changes from minute to minute.
const ROUNDS: u64 = 50;

/// The share of what clients get out of the server without a pause that they ask for: beyond it the clock shows who
/// waits for a processor, and nothing else.
const LOAD: f64 = 0.8;

const CLIENTS: usize = 4;

/// The ids of every text by every version, as they are while nothing moves.
fn golden(server: &Server) -> Vec<Vec<Value>> {
    let of = |version: usize| {
        let encode = |text: &&str| server.encode(&format!("moving@{version}"), text)["ids"].clone();
        TEXTS.iter().map(encode).collect()
    };
    let golden: Vec<Vec<Value>> = (1..=VERSIONS.len()).map(of).collect();
    for (at, ids) in golden.iter().enumerate() {
        let same = golden[..at].iter().any(|other| (0..TEXTS.len()).any(|text| other[text] == ids[text]));
        assert!(!same, "two versions cut a text alike: a mixture would not be seen");
    }
    golden
}

#[test]
fn no_answer_fails_or_is_mixed_while_an_alias_moves_all_the_time() {
    let swaps = size("SWAPS", 100);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[]);
    for words in VERSIONS {
        let file = tiktoken(words);
        server.ask("POST", "/vocabs?name=moving&format=tiktoken&split=cl100k", file.as_bytes()).expect(201);
    }
    let golden = golden(&server);
    let move_to = |client: &mut super::http::Client, alias: &str, version: u64| {
        let body = json!({"version": version}).to_string();
        let answer = client.ask("PUT", &format!("/vocabs/moving/aliases/{alias}"), body.as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    };
    move_to(&mut server.client(), "live", 1);

    let versions = [const { AtomicU64::new(0) }; 5];
    // Of the versions that aliases move to.
    let turn = AtomicU64::new(1);
    // At least so many requests, at so many a second or as they come, while `alias` moves once for every hundred of them or more.
    let ask = |requests: u64, rate: Option<f64>, alias: Option<&str>| {
        let (times, next, moved) = (Times::default(), AtomicU64::new(0), AtomicU64::new(0));
        let over = AtomicBool::new(false);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ends_all = Sets(&over);
                let mut client = server.client();
                for swap in 1..=requests / REQUESTS_PER_SWAP {
                    if let Some(alias) = alias {
                        move_to(&mut client, alias, turn.fetch_add(1, SeqCst) % VERSIONS.len() as u64 + 1);
                        moved.fetch_add(1, SeqCst);
                    }
                    let due = Duration::from_secs_f64(swap as f64 / SWAPS_PER_SECOND);
                    let is_early = || next.load(SeqCst) < swap * REQUESTS_PER_SWAP || begun.elapsed() < due;
                    while is_early() && !over.load(SeqCst) {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            clients(&server, CLIENTS, |_, mut client| {
                let _ends_all = Sets(&over);
                let mut taken = Vec::new();
                while !over.load(SeqCst) {
                    let nth = next.fetch_add(1, SeqCst);
                    if let Some(rate) = rate {
                        let due = Duration::from_secs_f64(nth as f64 / rate);
                        std::thread::sleep(due.saturating_sub(begun.elapsed()));
                    }
                    let text = nth as usize % TEXTS.len();
                    let batch = nth % BATCH_EVERY == 0;
                    let (route, body) = match batch {
                        true => ("/encode/batch", json!({"vocab": "moving@live", "texts": TEXTS})),
                        false => ("/encode", json!({"vocab": "moving@live", "text": TEXTS[text]})),
                    };
                    let sent = Instant::now();
                    let answer = client.ask("POST", route, body.to_string().as_bytes());
                    if !batch {
                        taken.push(sent.elapsed().as_micros() as u32);
                    }
                    let reply = answer.expect(200);
                    let version = reply["vocab"]["version"].as_u64().unwrap();
                    let ids = &golden[version as usize - 1];
                    match batch {
                        true => assert_eq!(reply["ids"], json!(ids), "not those of version {version}"),
                        false => assert_eq!(reply["ids"], ids[text], "not those of version {version}"),
                    }
                    versions[version as usize].fetch_add(1, SeqCst);
                }
                times.extend(taken);
            });
        });
        (times, moved.load(SeqCst), next.load(SeqCst) as f64 / begun.elapsed().as_secs_f64())
    };
    let goal = (swaps / ROUNDS).max(1);
    let requests = goal * REQUESTS_PER_SWAP;
    // The first requests meet a server that has just started.
    ask(requests, None, None);
    let times = PHASES.map(|_| Times::default());
    let (mut moved, mut moving) = (0, Duration::ZERO);
    // What the 99th percentile is of that without moves, round by round.
    let mut shares = PHASES.map(|_| Vec::new());
    let mut capacities = Vec::new();
    // After each round: versions that nobody asks for any more are no longer there.
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        let mut order: Vec<usize> = (0..PHASES.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let (.., capacity) = ask(requests, None, None);
        capacities.push(capacity);
        let mut slow = PHASES.map(|_| 0.0);
        for at in order {
            let alias = match PHASES[at] {
                Phase::Still => None,
                Phase::Elsewhere => Some("aside"),
                Phase::Moving => Some("live"),
            };
            let begun = Instant::now();
            let (taken, moves, _) = ask(requests, Some(LOAD * capacity), alias);
            slow[at] = taken.per_mille(990).as_secs_f64();
            times[at].take(&taken);
            if PHASES[at] == Phase::Moving {
                moved += moves;
                moving += begun.elapsed();
            }
        }
        shares.iter_mut().zip(slow).for_each(|(shares, of)| shares.push(of / slow[0]));
        resident.push(server.resident_kb());
    }
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    let capacity = median(capacities);
    let [_, aside, live] = shares.map(|shares| 100.0 * (median(shares) - 1.0));
    let per_version: Vec<u64> = versions[1..].iter().map(|count| count.load(SeqCst)).collect();
    println!(
        "{} requests, {moved} moves of the alias, {:.0} a second, at {:.0} requests/s of {capacity:.0}: 0 failed, 0 mixed; by \
         version {per_version:?}; without moves {}; with moves of an alias that nobody names {}, with moves {}; p99 by the median of {ROUNDS} \
         rounds {aside:+.1} and {live:+.1} %; resident {} kB after a fifth of the rounds, {} kB after all",
        per_version.iter().sum::<u64>(),
        moved as f64 / moving.as_secs_f64(),
        LOAD * capacity,
        times[0].summary(),
        times[1].summary(),
        times[2].summary(),
        resident[resident.len() / 5],
        resident[resident.len() - 1],
    );
    assert!(moved >= goal * ROUNDS);
    if swaps >= PROMISED_SWAPS {
        let requests: u64 = per_version.iter().sum();
        let a_second = moved as f64 / moving.as_secs_f64();
        assert!(
            requests >= 1_000_000 && a_second >= 100.0,
            "{requests} requests, {a_second:.0} moves a second"
        );
        let growth = resident[resident.len() - 1] as f64 / resident[resident.len() / 5] as f64;
        assert!(growth <= 1.05, "{growth:.3} times the memory after four fifths more of it: {resident:?}");
        assert!(live <= 10.0, "the p99 is {live:+.1} % beside moves");
    }
    assert!(per_version.iter().all(|count| *count > 0), "{per_version:?}");
    server.get("/readyz");
    server.stop();
}
