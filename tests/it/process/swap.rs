//! Answers while an alias moves: none fails, and each is whole that of the version that it names.

use super::load::{Sets, Times, clients};
use super::{Server, size};
use crate::support::tiktoken;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

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

/// Requests to one move of the alias.
const REQUESTS_PER_SWAP: u64 = 100;

/// With and without moves in turn, so that what else the machine does meets both alike.
const PHASES: u64 = 20;

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
    let swaps = size("SWAPS", 60);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[]);
    for words in VERSIONS {
        let file = tiktoken(words);
        server.ask("POST", "/vocabs?name=moving&format=tiktoken&split=cl100k", file.as_bytes()).expect(201);
    }
    let golden = golden(&server);
    let move_to = |client: &mut super::http::Client, version: u64| {
        let body = json!({"version": version}).to_string();
        let answer = client.ask("PUT", "/vocabs/moving/aliases/live", body.as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    };
    move_to(&mut server.client(), 1);

    let (asked, moved, versions) = (AtomicU64::new(0), AtomicU64::new(0), [const { AtomicU64::new(0) }; 5]);
    let (still, moving) = (Times::default(), Times::default());
    let begun = Instant::now();
    for phase in 0..2 * PHASES {
        let swapping = phase % 2 == 1;
        let goal = (swaps / PHASES).max(1);
        let (at, done) = (moved.load(SeqCst), AtomicBool::new(false));
        let asked_at = asked.load(SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ends_all = Sets(&done);
                let mut client = server.client();
                for swap in 1..=goal {
                    if swapping {
                        move_to(&mut client, (at + swap) % VERSIONS.len() as u64 + 1);
                        moved.fetch_add(1, SeqCst);
                    }
                    while !done.load(SeqCst) && asked.load(SeqCst) - asked_at < swap * REQUESTS_PER_SWAP {
                        std::thread::sleep(std::time::Duration::from_micros(200));
                    }
                }
            });
            clients(&server, CLIENTS, |_, mut client| {
                let _ends_all = Sets(&done);
                let mut taken = Vec::new();
                while !done.load(SeqCst) {
                    let nth = asked.fetch_add(1, SeqCst);
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
                if swapping { moving.extend(taken) } else { still.extend(taken) }
            });
        });
    }
    let per_version: Vec<u64> = versions[1..].iter().map(|count| count.load(SeqCst)).collect();
    println!(
        "{} requests, {} moves of the alias in {:?}: 0 failed, 0 mixed; by version {per_version:?}; \
         without moves {}; with moves {}",
        asked.load(SeqCst),
        moved.load(SeqCst),
        begun.elapsed(),
        still.summary(),
        moving.summary(),
    );
    assert!(moved.load(SeqCst) >= swaps / PHASES * PHASES);
    assert!(per_version.iter().all(|count| *count > 0), "{per_version:?}");
    server.get("/readyz");
    server.stop();
}
