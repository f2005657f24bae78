//! A storage of which one call fails, each in turn: the caller is told, everybody else is served on, and the same works a
//! moment later without a restart. `registry::faults` has the same for changes that last and for what readers see.

use crate::support::{Answer, EIO, ENOSPC, Faults, TestServer, tiktoken};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Asks for something on servers whose storage fails at call 0, 1, 2, ... until the answer is there before that.
async fn check(what: &str, ask: impl AsyncFn(&TestServer) -> Answer) {
    for (errno, reported) in [(EIO, false), (ENOSPC, false), (EIO, true)] {
        let mut refused = 0;
        for call in 0.. {
            let faults = Arc::new(Faults::default());
            let server = prepared(&faults).await;
            let context = format!("{what}: errno {errno}, reported {reported}, call {call}");
            faults.arm(call, errno, reported);
            let answer = ask(&server).await;
            let hit = faults.disarm();
            if answer.status >= 400 {
                refused += 1;
                assert!(hit, "{context}: refused without a fault: {answer:?}");
                let code = answer.json()["code"].as_str().unwrap().to_owned();
                let expected = match errno {
                    ENOSPC => (507, "storage_full"),
                    _ => (503, "storage_unavailable"),
                };
                assert_eq!((answer.status, code.as_str()), expected, "{context}: {answer:?}");
                assert_ne!(answer.header("retry-after"), "", "{context}");
            }
            server.goes_on().await;
            server.get("/readyz").await.ok(200);
            let again = ask(&server).await;
            assert!(again.status < 300 || answer.status < 300, "{context}: {again:?}");
            assert_eq!(server.post("/reload", "").await.ok(200)["failed"], json!([]), "{context}");
            assert_eq!(server.get("/health").await.ok(200)["status"], "ok", "{context}");
            // What a restart finds is whole.
            let restarted = TestServer::over(&faults).await;
            assert_eq!(restarted.get("/health").await.ok(200)["status"], "ok", "{context}");
            let vocabs = async |server: &TestServer| server.get("/vocabs").await.ok(200)["vocabs"].clone();
            assert_eq!(vocabs(&restarted).await, vocabs(&server).await, "{context}");
            if !hit {
                break;
            }
        }
        assert!(refused > 0, "{what}, errno {errno}: no call was refused");
    }
}

/// Three versions of `v`, an alias at the first.
async fn prepared(faults: &Arc<Faults>) -> TestServer {
    let server = TestServer::over(faults).await;
    for word in ["one", "two", "three"] {
        server.import("v", &[word]).await;
    }
    server.put_json("/vocabs/v/aliases/prod", json!({"version": 1})).await.ok(201);
    server
}

#[tokio::test]
async fn a_publication_is_refused_in_words_and_works_later() {
    check("publish", async |server| server.post("/vocabs?name=v&split=cl100k", tiktoken(&["four"])).await)
        .await;
}

#[tokio::test]
async fn a_move_of_an_alias_is_refused_in_words_and_works_later() {
    check("alias", async |server| server.put_json("/vocabs/v/aliases/prod", json!({"version": 2})).await)
        .await;
}

#[tokio::test]
async fn a_removal_is_refused_in_words_and_works_later() {
    check("version", async |server| server.delete("/vocabs/v/versions/2").await).await;
    check("alias", async |server| server.delete("/vocabs/v/aliases/prod").await).await;
}

/// A job whose storage fails at any one call from its submission to its end is refused, fails with a reason, or succeeds; it
/// leaves nothing but its record, and the next one is as if nothing had been.
#[tokio::test]
async fn a_job_fails_with_its_reason_and_leaves_no_litter() {
    let request = json!({"name": "t", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 262});
    for errno in [EIO, ENOSPC] {
        let (mut refused, mut failed) = (0, 0);
        for call in 0.. {
            let faults = Arc::new(Faults::default());
            let server = TestServer::over_with(&faults, |config| config.take_over_seconds = 1).await;
            let context = format!("errno {errno}, call {call}");
            faults.arm(call, errno, false);
            let answer = server.post_json("/train", request.clone()).await;
            let hit = if answer.status == 202 {
                let id = answer.json()["id"].as_str().unwrap().to_owned();
                let job = ended(&server, &id).await;
                if job["state"] == "failed" {
                    failed += 1;
                    assert_eq!(job["error"]["code"], "storage_failed", "{context}: {job}");
                } else {
                    assert_eq!(job["state"], "succeeded", "{context}: {job}");
                }
                faults.disarm()
            } else {
                refused += 1;
                assert!(matches!(answer.status, 503 | 507), "{context}: {answer:?}");
                faults.disarm()
            };
            server.goes_on().await;
            let next = server.train(request.clone()).await;
            assert_eq!(ended(&server, &next).await["state"], "succeeded", "{context}");
            let left = async || {
                let keys = faults.keys().await;
                keys.into_iter()
                    .filter(|key| key.starts_with("jobs/") && key.matches('.').count() > 1)
                    .collect()
            };
            for _ in 0..1000 {
                // The end is told before it is recorded, and a record that could not be written is tried again.
                if Vec::<String>::is_empty(&left().await) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(left().await, Vec::<String>::new(), "{context}");
            if !hit {
                break;
            }
        }
        assert!(refused > 0 && failed > 0, "errno {errno}: {refused} refused, {failed} failed");
    }
}

/// A cancel that comes while the vocabulary is written is too late or not; either way the job says what is there.
#[tokio::test]
async fn a_cancel_while_a_job_publishes_leaves_all_or_nothing() {
    let faults = Arc::new(Faults::default());
    let server = TestServer::over(&faults).await;
    faults.hold();
    let request = json!({"name": "t", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 262});
    let id = server.train(request).await;
    server.wait_until(&id, |job| job["progress"]["stage"] == "publishing").await;
    server.post(&format!("/train/{id}/cancel"), "").await.ok(202);
    faults.none();
    let job = ended(&server, &id).await;
    let served = server.get("/vocabs/t").await.status;
    match job["state"].as_str().unwrap() {
        "succeeded" => assert_eq!((served, &job["result"]["vocab"]["version"]), (200, &json!(1)), "{job}"),
        state => assert_eq!((state, served), ("cancelled", 404), "{job}"),
    }
    server.goes_on().await;
}

async fn ended(server: &TestServer, id: &str) -> serde_json::Value {
    loop {
        // A look at the other replicas may be what fails.
        let answer = server.get(&format!("/train/{id}")).await;
        let job = answer.json();
        if answer.status == 200
            && ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap())
        {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
