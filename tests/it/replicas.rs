//! Several servers over one store, as replicas over one bucket are: in memory here, `tests/cross/replicas.py` has it with
//! processes and a server of S3.

use crate::support::{Faults, TestServer, and, json_body, tiktoken, varied_text, with_body};
use axum::http::Method;
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

async fn replicas() -> [TestServer; 3] {
    let store = Arc::new(Faults::default());
    [replica(&store).await, replica(&store).await, replica(&store).await]
}

async fn replica(store: &Arc<Faults>) -> TestServer {
    TestServer::over_with(store, |config| config.take_over_seconds = 1).await
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
    for server in servers.clone() {
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

fn training(text: String, vocab_size: u32) -> Value {
    json!({"name": "t", "corpus": {"texts": [text]}, "vocab_size": vocab_size})
}

/// The job of one replica as another tells it, once it has ended.
async fn ended(server: &TestServer, id: &str) -> Value {
    server.wait_for_job(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_runs_once_and_every_replica_tells_of_it() {
    let servers = replicas().await;
    let mut ids = Vec::new();
    for n in 0..9_usize {
        let text = format!("low lower lowest {n} {n}{n} ").repeat(50);
        ids.push(servers[n % 3].train(training(text, 270)).await);
        // At once, also where it was not accepted.
        let told = servers[(n + 1) % 3].job(&ids[n]).await;
        assert_eq!(told["name"], "t");
    }
    let mut versions = BTreeSet::new();
    for id in &ids {
        let told: Vec<Value> =
            futures_util::future::join_all(servers.iter().map(|server| ended(server, id))).await;
        assert_eq!(told[0]["state"], "succeeded", "{told:?}");
        assert!(told.iter().all(|job| job["result"] == told[0]["result"]), "{told:?}");
        assert_eq!(told[0]["result"]["created"], true, "nobody has made it before: {told:?}");
        versions.insert(version(&told[0]["result"]["vocab"]));
    }
    assert_eq!(versions.len(), 9);
    for server in &servers {
        assert_eq!(server.get("/train").await.ok(200)["jobs"].as_array().unwrap().len(), 9);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repeat_with_its_key_on_another_replica_is_the_same_job() {
    let servers = replicas().await;
    let mut ids = BTreeSet::new();
    for server in &servers {
        let body = training("low lower lowest ".repeat(20), 265);
        let asked = and(json_body(Method::POST, "/train", &body), "idempotency-key", "once");
        ids.insert(server.send(asked).await.ok(202)["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_is_cancelled_through_any_replica() {
    let [a, b, c] = replicas().await;
    // Long enough to be met while it runs.
    let id = a.train(training(varied_text(3_000_000), 200_000)).await;
    let running = b.wait_until(&id, |job| job["state"] == "running").await;
    assert!(running["started_at"].is_string());
    c.post(&format!("/train/{id}/cancel"), "").await.ok(202);
    for server in [&a, &b, &c] {
        assert_eq!(ended(server, &id).await["state"], "cancelled");
    }
    let report = a.post("/reload", "").await.ok(200);
    assert_eq!(report["loaded"], json!([]), "it made nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_reads_an_upload_runs_where_the_upload_is() {
    let [a, b, _] = replicas().await;
    b.put("/uploads/corpus", "low lower lowest ".repeat(100)).await;
    let body = json!({"name": "t", "corpus": {"upload": "corpus"}, "vocab_size": 265});
    a.post_json("/train", body.clone()).await.problem(422, "invalid_field", Some("/corpus/upload"));
    let id = b.train(body).await;
    assert_eq!(ended(&a, &id).await["state"], "succeeded");
}

/// A replica that is gone left a record that says `running`, and a claim that nobody renews.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_of_a_replica_that_is_gone_is_taken_over() {
    let store = Arc::new(Faults::default());
    let objects: Arc<dyn object_store::ObjectStore> = Arc::clone(&store) as _;
    let put = async |name: &str, body: Value| {
        let at = object_store::path::Path::from(format!("jobs/{name}.json"));
        object_store::ObjectStoreExt::put(&objects, &at, body.to_string().into()).await.unwrap();
    };
    let id = "0198f000000070008000000000000001";
    let record = json!({
        "id": id, "name": "t", "state": "running", "created_at": "2026-11-30T00:00:00.000Z",
        "started_at": "2026-11-30T00:00:01.000Z", "finished_at": null, "result": null, "stop_reason": null,
        "error": null, "starts": 1,
    });
    let one = replica(&store).await;
    let made = one.train(training("low lower lowest ".repeat(20), 265)).await;
    let undisturbed = ended(&one, &made).await;
    put(&format!("{id}.request"), training("low lower lowest ".repeat(20), 265)).await;
    let progress = undisturbed["progress"].clone();
    put(&format!("{id}.claim"), json!({"holder": "gone", "beat": 7, "progress": progress})).await;
    put(id, record).await;

    let two = replica(&store).await;
    let told = two.job(id).await;
    assert_eq!((&told["state"], &told["progress"]), (&json!("running"), &progress), "{told}");
    let told = ended(&two, id).await;
    assert_eq!(
        (&told["state"], &told["result"]["vocab"]),
        (&json!("succeeded"), &undisturbed["result"]["vocab"])
    );
    assert_eq!(ended(&one, id).await["state"], "succeeded");
    let left: Vec<_> = objects.list(None).try_collect::<Vec<_>>().await.unwrap();
    let left: Vec<String> = left.into_iter().map(|meta| meta.location.to_string()).collect();
    assert!(!left.iter().any(|key| key.contains(".claim") || key.contains(".request")), "{left:?}");
}
