//! Several servers over one store, as replicas over one bucket are: in memory here, `tests/cross/replicas.py` has it with
//! processes and a server of S3.

use crate::support::{Faults, TestServer, and, json_body, tiktoken, with_body};
use axum::http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

async fn replicas() -> [TestServer; 3] {
    let store = Arc::new(Faults::default());
    [TestServer::over(&store).await, TestServer::over(&store).await, TestServer::over(&store).await]
}

async fn publish(server: &TestServer, word: &str) -> Value {
    let answer = server.post("/vocabs?name=v&split=cl100k", tiktoken(&[word])).await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    answer.json()["vocab"].clone()
}

fn version(answer: &Value) -> u64 {
    answer["version"].as_u64().unwrap()
}

#[tokio::test]
async fn what_one_publishes_the_others_serve_after_a_reload() {
    let [a, b, c] = replicas().await;
    publish(&a, "aaaa").await;
    b.post_json("/encode", json!({"text": "aaaa", "vocab": "v"})).await.problem(404, "unknown_vocab", None);
    for server in [&b, &c] {
        let report = server.post("/reload", "").await.ok(200);
        assert_eq!((&report["loaded"], &report["failed"]), (&json!(["v@1"]), &json!([])), "{report}");
    }
    assert_eq!(b.ids("v", "aaaa").await, a.ids("v", "aaaa").await);

    // A change starts from what is true in the store, whatever its replica has seen of it.
    publish(&b, "bbbb").await;
    assert_eq!(version(&publish(&c, "cccc").await), 3);
    assert_eq!(version(&publish(&a, "bbbb").await), 2, "the same content is the same version");
    c.put_json("/vocabs/v/aliases/prod", json!({"version": 2})).await.ok(201);
    a.delete("/vocabs/v/versions/2").await.problem(409, "version_in_use", None);
    a.delete("/vocabs/v/aliases/prod").await.ok(204);
    b.delete("/vocabs/v/versions/2").await.ok(204);
    c.put_json("/vocabs/v/aliases/prod", json!({"version": 2})).await.problem(404, "unknown_version", None);
    assert_eq!(version(&publish(&c, "dddd").await), 4, "numbers are not used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publications_at_once_get_numbers_of_their_own() {
    let servers = replicas().await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..24 {
        let server = servers[n % 3].clone();
        calls.spawn(async move { version(&publish(&server, &format!("word{}", n / 2)).await) });
    }
    let numbers: BTreeSet<u64> = calls.join_all().await.into_iter().collect();
    // The same word on two replicas at the same moment may become two versions or one, and each number has one content.
    assert!((12..=24).contains(&numbers.len()), "{numbers:?}");
    let mut digests: Vec<BTreeMap<u64, String>> = Vec::new();
    for server in &servers {
        server.post("/reload", "").await.ok(200);
        let versions = server.get("/vocabs").await.ok(200)["vocabs"].clone();
        let v = versions.as_array().unwrap().iter().find(|vocab| vocab["name"] == "v").unwrap().clone();
        let versions = v["versions"].as_array().unwrap().iter();
        digests.push(versions.map(|v| (version(v), v["digest"].as_str().unwrap().to_owned())).collect());
    }
    assert!(digests.iter().all(|seen| *seen == digests[0]));
    assert_eq!(digests[0].keys().copied().collect::<BTreeSet<_>>(), numbers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_conditional_moves_on_all_replicas_one_wins() {
    let servers = replicas().await;
    let mut digests = Vec::new();
    for word in ["one", "two", "three"] {
        digests.push(publish(&servers[0], word).await["digest"].as_str().unwrap().to_owned());
    }
    servers[0].put_json("/vocabs/v/aliases/prod", json!({"version": 1})).await.ok(201);
    let mut at = digests[0].clone();
    for round in 0..20 {
        let mut calls = tokio::task::JoinSet::new();
        for (n, server) in servers.iter().cloned().enumerate() {
            let target = (round + n) % 3 + 1;
            let condition = format!("\"{at}\"");
            calls.spawn(async move {
                let asked = json_body(Method::PUT, "/vocabs/v/aliases/prod", &json!({"version": target}));
                (target, server.send(and(asked, "if-match", &condition)).await)
            });
        }
        let answers = calls.join_all().await;
        // A move to where it is already changes nothing, so that another may follow it.
        let won: Vec<_> = answers.iter().filter(|(_, answer)| answer.status == 200).collect();
        let moved: Vec<_> = won.iter().filter(|(target, _)| digests[target - 1] != at).collect();
        assert!(moved.len() == 1, "round {round}: {answers:?}");
        assert!(answers.iter().all(|(_, answer)| matches!(answer.status, 200 | 412)), "{answers:?}");
        at = digests[moved[0].0 - 1].clone();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_aliases_move_no_request_fails_and_each_answer_is_its_versions() {
    const TEXT: &str = "aaaabbbbccccdddd";
    let servers = replicas().await;
    let mut golden = BTreeMap::new();
    for word in ["aaaa", "bbbb", "cccc", "dddd"] {
        let number = version(&publish(&servers[0], word).await);
        golden.insert(number, servers[0].ids(&format!("v@{number}"), TEXT).await);
    }
    servers[0].put_json("/vocabs/v/aliases/prod", json!({"version": 1})).await.ok(201);
    for server in &servers {
        server.post("/reload", "").await.ok(200);
    }
    let golden = Arc::new(golden);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for server in servers.iter().cloned() {
        let (golden, stop, asked) = (Arc::clone(&golden), Arc::clone(&stop), Arc::clone(&asked));
        clients.spawn(async move {
            let mut seen = BTreeSet::new();
            while !stop.load(SeqCst) {
                let answer =
                    server.post_json("/encode", json!({"text": TEXT, "vocab": "v@prod"})).await.ok(200);
                let number = version(&answer["vocab"]);
                assert_eq!(crate::support::ids(&answer["ids"]), golden[&number], "version {number}");
                seen.insert(number);
                asked.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
            }
            seen.len()
        });
    }
    for n in 0..60_usize {
        let body = json!({"version": n % 4 + 1});
        servers[n % 3].put_json("/vocabs/v/aliases/prod", body).await.ok(200);
        let other = &servers[(n + 1) % 3];
        let reload = with_body(Method::POST, "/reload", "");
        assert_eq!(other.send(reload).await.ok(200)["failed"], json!([]));
        let answer = other.post_json("/encode", json!({"text": TEXT, "vocab": "v@prod"})).await.ok(200);
        assert_eq!(version(&answer["vocab"]), n as u64 % 4 + 1, "at once by a reload");
    }
    stop.store(true, SeqCst);
    let seen = clients.join_all().await;
    assert!(seen.iter().all(|versions| *versions >= 2), "{seen:?}");
    assert!(asked.load(SeqCst) > 100, "{asked:?}");
}
