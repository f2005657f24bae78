//! `/train` and `/uploads`: jobs from request to vocabulary, their progress, their ends good and bad, and restarts.

use crate::support::{Faults, PATIENCE, TestServer, and, json_body, request, varied_text, with_body};
use axum::body::Body;
use axum::http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use vocabd::engine::{Counter, Pattern, TrainConfig, train};

const TEXT: &str = "the cat sat on the mat, the cat sat; 世界世界 hello 世界 hello\n";

/// A job that takes long enough to be met while it runs; `server` needs the corpus `slow.txt`.
fn slow(name: &str) -> Value {
    json!({"name": name, "corpus": {"files": ["slow.txt"]}, "num_merges": 200_000, "min_frequency": 1})
}

async fn slow_server() -> TestServer {
    let server = TestServer::with(|config| config.max_queued_jobs = 2).await;
    server.corpus("slow.txt", varied_text(6_000_000));
    server
}

/// The tokens that the engine learns from the records, in order of id.
fn learned(records: &[&str], config: &TrainConfig) -> Vec<Vec<u8>> {
    let mut counter = Counter::new(config).unwrap();
    counter.add_batch(records, &mut ()).unwrap();
    train(&counter.finish().unwrap(), config, &mut ()).unwrap().tokens
}

/// The bytes of every id of a version, in order.
async fn tokens(server: &TestServer, vocab: &str) -> Vec<Vec<u8>> {
    let size = server.get(&format!("/vocabs/{vocab}")).await.ok(200)["vocab_size"].as_u64().unwrap();
    let wanted: Vec<[u64; 1]> = (0..size).map(|id| [id]).collect();
    let body = json!({"ids": wanted, "vocab": vocab, "errors": "bytes"});
    let reply = server.post_json("/decode/batch", body).await.ok(200);
    let decode = |b64: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(b64.as_str().unwrap()).unwrap()
    };
    reply["bytes_b64"].as_array().unwrap().iter().map(decode).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn a_vocabulary_is_trained_from_texts_files_and_uploads_alike() {
    let server = TestServer::new().await;
    let config = TrainConfig { num_merges: Some(40), ..TrainConfig::new(Pattern::parse("cl100k").unwrap()) };
    let expect = learned(&[TEXT], &config);
    server.corpus("a.txt", TEXT);
    server.corpus("a.gz", gzip(TEXT.as_bytes()));
    server.corpus("a.jsonl", json!({"body": TEXT}).to_string() + "\n\n");
    server.put("/uploads/plain", TEXT).await.ok(201);
    server.put("/uploads/packed", zstd::encode_all(TEXT.as_bytes(), 1).unwrap()).await.ok(201);
    for corpus in [
        json!({"texts": [TEXT]}),
        json!({"files": ["a.txt"]}),
        json!({"files": ["a.gz"]}),
        json!({"files": ["a.jsonl"], "format": "jsonl", "field": "body"}),
        json!({"upload": "plain"}),
        json!({"upload": "packed"}),
    ] {
        let id = server.train(json!({"name": "cat", "corpus": corpus, "num_merges": 40})).await;
        let job = server.wait_for_job(&id).await;
        assert_eq!(job["state"], "succeeded", "{corpus}: {job}");
        assert_eq!((&job["error"], &job["name"]), (&Value::Null, &json!("cat")));
        let result = &job["result"];
        // The same content each time: the first makes the version, the others find it.
        assert_eq!(result["vocab"]["version"], 1, "{corpus}");
        assert_eq!(result["vocab_size"], expect.len());
        assert_eq!((&result["text_bytes"], &result["replaced"]), (&json!(TEXT.len()), &json!(0)));
        assert_eq!(job["progress"]["fraction"], 1.0);
        assert_eq!(job["progress"]["stage"], "done");
        for time in ["created_at", "started_at", "finished_at"] {
            assert!(job[time].as_str().unwrap().ends_with('Z'), "{time}");
        }
    }
    assert_eq!(tokens(&server, "cat").await, expect);
    let facts = server.get("/vocabs/cat").await.ok(200);
    assert_eq!((&facts["format"], &facts["split"]), (&json!("trained"), &json!("cl100k")));
    assert_eq!(facts["training"]["tie_break"], "hf");
}

#[tokio::test]
async fn every_option_reaches_the_trainer() {
    let server = TestServer::new().await;
    let pattern = Pattern::parse("qwen2").unwrap();
    let config = TrainConfig {
        vocab_size: Some(256 + 2 + 20),
        min_frequency: 1,
        max_token_bytes: Some(4),
        special_tokens: vec!["<s>".into(), "<e>".into()],
        tie_break: vocabd::engine::TieBreak::Bytes,
        normalizer: Some(vocabd::engine::Form::Nfc),
        ..TrainConfig::new(pattern)
    };
    let texts = ["e\u{301}t e\u{301}t 12 12<s>xyxyxy", "hello hello"];
    let id = server
        .train(json!({
            "name": "opt", "corpus": {"texts": texts}, "vocab_size": 278, "min_frequency": 1, "max_token_bytes": 4,
            "special_tokens": ["<s>", "<e>"], "tie_break": "bytes", "normalizer": "nfc", "split": "qwen2",
            "aliases": ["prod", "test"],
        }))
        .await;
    let job = server.wait_for_job(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(tokens(&server, "opt@prod").await, learned(&texts, &config));
    let facts = server.get("/vocabs/opt@test").await.ok(200);
    assert_eq!((&facts["normalizer"], &facts["split"]), (&json!("nfc"), &json!("qwen2")));
    assert_eq!((&facts["special_tokens"], &facts["aliases"]), (&json!(2), &json!(["prod", "test"])));
    assert_eq!(job["stop_reason"], facts["training"]["stop_reason"]);

    // `digits` replaces the number rule: without it 12 is one token of two digits, with it none is.
    for (digits, joined) in [("single", false), ("group3", true), ("run", true)] {
        let id = server
            .train(
                json!({"name": digits, "corpus": {"texts": ["12 12 12"]}, "num_merges": 5, "digits": digits}),
            )
            .await;
        assert_eq!(server.wait_for_job(&id).await["state"], "succeeded");
        assert_eq!(tokens(&server, digits).await.contains(&b"12".to_vec()), joined, "{digits}");
    }
}

/// One server-sent event.
#[derive(Debug)]
struct Event {
    name: String,
    id: u64,
    data: Value,
}

/// All events of a job until its stream ends.
async fn follow(server: &TestServer, id: &str) -> Vec<Event> {
    let response = server.stream(request(Method::GET, &format!("/train/{id}/events"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap() {
        if let Ok(data) = frame.unwrap().into_data() {
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
    let field = |block: &str, name: &str| {
        let lead = format!("{name}: ");
        block.lines().find_map(|line| line.strip_prefix(&lead)).map(str::to_owned)
    };
    let blocks = text.split("\n\n").filter(|block| block.lines().any(|line| line.starts_with("data: ")));
    blocks
        .map(|block| Event {
            name: field(block, "event").unwrap(),
            id: field(block, "id").unwrap().parse().unwrap(),
            data: serde_json::from_str(&field(block, "data").unwrap()).unwrap(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_moves_and_its_events_end_with_the_job() {
    let server = TestServer::new().await;
    server.corpus("mid.txt", varied_text(4_000_000));
    let id = server
        .train(json!({
            "name": "mid", "corpus": {"files": ["mid.txt"]}, "num_merges": 60_000, "min_frequency": 1, "aliases": ["prod"]
        }))
        .await;
    let follower = tokio::spawn({
        let (server, id) = (server.clone(), id.clone());
        async move { follow(&server, &id).await }
    });
    let (mut fractions, mut stages) = (Vec::new(), Vec::new());
    let end = Instant::now() + PATIENCE;
    loop {
        let job = server.job(&id).await;
        let progress = &job["progress"];
        let fraction = progress["fraction"].as_f64().unwrap();
        assert!(fractions.last().is_none_or(|last| *last <= fraction), "{fraction} after {fractions:?}");
        fractions.push(fraction);
        let stage = progress["stage"].as_str().unwrap().to_owned();
        if stages.last() != Some(&stage) {
            stages.push(stage);
        }
        if progress["stage"] == "merging" {
            assert_eq!(progress["merges_total"], 60_000);
            assert_eq!(progress["bytes_read"], progress["bytes_total"]);
            assert!(
                progress["last_merge"]["token"].is_string() && progress["eta_seconds"].is_number(),
                "{job}"
            );
        }
        if job["state"] == "succeeded" {
            assert_eq!(progress["merges_done"], job["result"]["merges"]);
            break;
        }
        assert!(Instant::now() < end && job["state"] != "failed", "{job}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    fractions.dedup();
    assert!(fractions.len() > 5 && fractions.last() == Some(&1.0), "{fractions:?}");
    assert!(stages.iter().any(|stage| stage == "merging"), "{stages:?}");

    let events = follower.await.unwrap();
    let (last, before) = events.split_last().unwrap();
    assert_eq!((last.name.as_str(), &last.data["state"]), ("end", &json!("succeeded")));
    assert_eq!(last.data["result"]["vocab"]["name"], "mid");
    assert!(events.iter().zip(1..).all(|(event, n)| event.id == n));
    let (merging, progress): (Vec<&Event>, Vec<&Event>) = before.iter().partition(|e| e.name == "merging");
    assert!(progress.len() >= 2 && progress.iter().all(|event| event.name == "progress"), "{events:?}");
    let jobs = progress.iter().map(|event| &event.data).chain([&last.data]);
    let told: Vec<f64> = jobs.map(|job| job["progress"]["fraction"].as_f64().unwrap()).collect();
    assert!(told.is_sorted(), "{told:?}");
    // No merge is told twice, and the points of the curve come one after the other, until where the result's ends.
    let ids =
        merging.iter().flat_map(|e| e.data["merges"].as_array().unwrap()).map(|m| m["id"].as_u64().unwrap());
    let ids: Vec<u64> = ids.collect();
    assert!(!ids.is_empty() && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let points = merging.iter().flat_map(|e| e.data["curve"].as_array().unwrap());
    let points: Vec<(u64, f64)> =
        points.map(|p| (p["merges"].as_u64().unwrap(), p["bytes_per_token"].as_f64().unwrap())).collect();
    assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{points:?}");
    assert_eq!(points[0], (0, 1.0));
    let end = last.data["result"]["report"]["curve"].as_array().unwrap().last().unwrap();
    assert_eq!(last.data["progress"]["bytes_per_token"], end["bytes_per_token"]);
    // Who comes late gets the end at once.
    let late = follow(&server, &id).await;
    assert_eq!((late.len(), late[0].name.as_str()), (1, "end"));
    assert_eq!(server.get("/vocabs/mid@prod").await.ok(200)["version"], 1);

    let listed = server.get("/train").await.ok(200);
    assert_eq!(listed["jobs"][0]["id"], id.as_str());
    let metrics = server.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("succeeded"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_wait_are_refused_and_are_cancelled() {
    let server = slow_server().await;
    let running = server.train(slow("a")).await;
    server.wait_until(&running, |job| job["state"] == "running").await;
    let (second, third) = (server.train(slow("b")).await, server.train(slow("c")).await);
    let answer = server.post_json("/train", slow("d")).await;
    assert_eq!(answer.problem(429, "queue_full", None)["limit"], 2);
    let states: Vec<(Value, Value)> = server.get("/train").await.ok(200)["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["name"].clone(), job["state"].clone()))
        .collect();
    let expect = [("c", "queued"), ("b", "queued"), ("a", "running")];
    assert_eq!(states, expect.map(|(name, state)| (json!(name), json!(state))), "newest first");
    assert_eq!(server.job(&second).await["progress"]["stage"], "waiting");

    // One that waits ends at once and makes room, one that runs within a second.
    let cancel = async |id: &str| server.post(&format!("/train/{id}/cancel"), "").await;
    let cancelled = cancel(&second).await.ok(202);
    assert_eq!((&cancelled["state"], &cancelled["started_at"]), (&json!("cancelled"), &Value::Null));
    let fourth = server.train(slow("d")).await;
    let from = Instant::now();
    cancel(&running).await.ok(202);
    let job = server.wait_for_job(&running).await;
    assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
    assert_eq!(
        (&job["state"], &job["result"], &job["error"]),
        (&json!("cancelled"), &Value::Null, &Value::Null)
    );
    assert_eq!(cancel(&running).await.ok(202)["state"], "cancelled", "again is no error");

    // The next one runs then.
    server.wait_until(&third, |job| job["state"] == "running").await;
    for id in [&third, &fourth] {
        cancel(id).await.ok(202);
        assert_eq!(server.wait_for_job(id).await["state"], "cancelled");
    }
    for name in ["a", "b", "c", "d"] {
        server.get(&format!("/vocabs/{name}")).await.problem(404, "unknown_vocab", None);
    }
    let done = server.train(json!({"name": "e", "corpus": {"texts": [TEXT]}, "num_merges": 3})).await;
    server.wait_for_job(&done).await;
    assert_eq!(cancel(&done).await.problem(409, "job_ended", None)["state"], "succeeded");
}

#[tokio::test]
async fn an_idempotency_key_makes_one_job() {
    let server = TestServer::new().await;
    let submit = async |merges: u32, key: &str| {
        let body = json!({"name": "i", "corpus": {"texts": [TEXT]}, "num_merges": merges});
        server.send(and(json_body(Method::POST, "/train", &body), "idempotency-key", key)).await
    };
    let first = submit(3, "k1").await.ok(202)["id"].clone();
    assert_eq!(submit(3, "k1").await.ok(202)["id"], first);
    server.wait_for_job(first.as_str().unwrap()).await;
    let again = submit(3, "k1").await.ok(202);
    assert_eq!((&again["id"], &again["state"]), (&first, &json!("succeeded")));
    submit(4, "k1").await.problem(422, "idempotency_key_reused", None);
    assert_ne!(submit(4, "k2").await.ok(202)["id"], first);
    for bad in ["", &"k".repeat(201)] {
        submit(5, bad).await.problem(422, "invalid_field", Some("/header/idempotency-key"));
    }
    assert_eq!(server.get("/train").await.ok(200)["jobs"].as_array().unwrap().len(), 2);
    // Many at once are one too.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let server = server.clone();
        calls.spawn(async move {
            let body = json!({"name": "i", "corpus": {"texts": [TEXT]}, "num_merges": 9});
            let request = and(json_body(Method::POST, "/train", &body), "idempotency-key", "k3");
            server.send(request).await.ok(202)["id"].clone()
        });
    }
    let ids = calls.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_job_that_fails_says_why_and_the_server_goes_on() {
    let server = TestServer::new().await;
    server.corpus("bad.txt", b"good text\xff and more");
    server.corpus("empty.txt", "");
    server.corpus("bad.jsonl", "{\"text\": \"a b a b\"}\nnot json\n");
    server.corpus("field.jsonl", "{\"other\": 1}\n");
    let mut cut = gzip(TEXT.repeat(100).as_bytes());
    cut.truncate(cut.len() / 2);
    server.corpus("cut.gz", cut);
    server.corpus("costly.txt", "a".repeat(200_000));
    let check = async |corpus: Value, more: Value, code: &str, detail: &str| {
        let mut body = json!({"name": "fails", "corpus": corpus, "num_merges": 10});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = server.train(body).await;
        let job = server.wait_for_job(&id).await;
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job}");
        assert!(job["error"]["detail"].as_str().unwrap().contains(detail), "{job}");
        assert_eq!((&job["result"], &job["stop_reason"]), (&Value::Null, &Value::Null));
    };
    check(json!({"files": ["bad.txt"]}), json!({}), "corpus_not_utf8", "byte 9").await;
    check(json!({"files": ["empty.txt"]}), json!({}), "corpus_empty", "").await;
    let jsonl = |file: &str| json!({"files": [file], "format": "jsonl"});
    check(jsonl("bad.jsonl"), json!({}), "corpus_bad_jsonl", "line 2").await;
    check(jsonl("field.jsonl"), json!({}), "corpus_bad_jsonl", "line 1").await;
    check(json!({"files": ["cut.gz"]}), json!({}), "corpus_bad_compression", "gzip").await;
    // Look-ahead makes this backtrack, and its steps are limited.
    let split = json!({"split": "(a|aa)+(?=b)|c"});
    check(json!({"files": ["costly.txt"]}), split, "split_too_costly", "").await;
    server.get("/vocabs/fails").await.problem(404, "unknown_vocab", None);
    server.goes_on().await;

    let corpus = json!({"files": ["bad.txt"], "invalid_utf8": "replace"});
    let id = server.train(json!({"name": "replaced", "corpus": corpus, "num_merges": 3})).await;
    assert_eq!(server.wait_for_job(&id).await["result"]["replaced"], 1);
}

#[tokio::test]
async fn a_panic_fails_its_job_only() {
    let faults = Arc::new(Faults::default());
    let server = TestServer::over(&faults).await;
    faults.panic();
    let body = json!({"name": "p", "corpus": {"texts": [TEXT]}, "num_merges": 3});
    for _ in 0..2 {
        let id = server.train(body.clone()).await;
        let job = server.wait_for_job(&id).await;
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("internal")), "{job}");
        assert!(!job.to_string().contains(crate::support::CANARY));
    }
    server.post("/vocabs?name=p", crate::registry::native("hello")).await.problem(500, "internal", None);
    faults.none();
    let id = server.train(body).await;
    assert_eq!(server.wait_for_job(&id).await["state"], "succeeded");
    server.goes_on().await;
}

#[tokio::test]
async fn uploads_are_kept_replaced_and_removed() {
    let server = TestServer::with(|config| config.max_upload_bytes = 1000).await;
    let facts = server.put("/uploads/a.b_c-1", TEXT).await.ok(201);
    assert_eq!((&facts["id"], &facts["bytes"]), (&json!("a.b_c-1"), &json!(TEXT.len())));
    assert_eq!(server.get("/uploads/a.b_c-1").await.ok(200), facts);
    assert_eq!(server.put("/uploads/a.b_c-1", "other").await.ok(201)["bytes"], 5);
    assert_eq!(server.put("/uploads/empty", "").await.ok(201)["bytes"], 0);

    // Over the limit: as announced, and as it comes; what was there stays.
    let announced = and(with_body(Method::PUT, "/uploads/a.b_c-1", ""), "content-length", "1001");
    assert_eq!(server.send(announced).await.problem(413, "body_too_large", None)["limit"], 1000);
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; 100])));
    let streamed = Body::from_stream(futures_util::stream::iter(chunks));
    server.put("/uploads/a.b_c-1", streamed).await.problem(413, "body_too_large", None);
    let cut = and(with_body(Method::PUT, "/uploads/a.b_c-1", "short"), "content-length", "10");
    server.send(cut).await.problem(400, "body_cut_off", None);
    assert_eq!(server.get("/uploads/a.b_c-1").await.ok(200)["bytes"], 5);

    for id in ["..", "%2e%2e", "..%2Fx", ".hidden", "a%20b", &"a".repeat(65)] {
        server.put(&format!("/uploads/{id}"), "x").await.problem(422, "invalid_field", Some("/path/id"));
    }
    server.delete("/uploads/a.b_c-1").await.ok(204);
    server.get("/uploads/a.b_c-1").await.problem(404, "not_found", None);
    server.delete("/uploads/a.b_c-1").await.problem(404, "not_found", None);
    let left: Vec<_> =
        std::fs::read_dir(server.data().join("uploads")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["empty"], "nothing is left of what was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_held_while_a_job_needs_it_and_expires_later() {
    let server = TestServer::new().await;
    server.put("/uploads/big", varied_text(6_000_000)).await.ok(201);
    server.put("/uploads/old", TEXT).await.ok(201);
    let body = json!({"name": "u", "corpus": {"upload": "big"}, "num_merges": 200_000, "min_frequency": 1});
    let id = server.train(body).await;
    let old = SystemTime::now() - Duration::from_secs(25 * 3600);
    for name in ["big", "old"] {
        let file =
            std::fs::File::options().append(true).open(server.data().join("uploads").join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    server.app.jobs.uploads().expire();
    server.get("/uploads/old").await.problem(404, "not_found", None);
    server.delete("/uploads/big").await.problem(409, "upload_in_use", None);
    server.put("/uploads/big", "x").await.problem(409, "upload_in_use", None);
    server.post(&format!("/train/{id}/cancel"), "").await.ok(202);
    assert_eq!(server.wait_for_job(&id).await["state"], "cancelled");
    server.delete("/uploads/big").await.ok(204);
    let body = json!({"name": "u", "corpus": {"upload": "big"}, "num_merges": 3});
    server.post_json("/train", body).await.problem(422, "invalid_field", Some("/corpus/upload"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vocabularies_and_jobs_survive_a_restart() {
    let server = slow_server().await;
    let done = server
        .train(json!({"name": "z", "corpus": {"texts": [TEXT]}, "num_merges": 3, "aliases": ["prod"]}))
        .await;
    let done = server.wait_for_job(&done).await;
    assert_eq!(done["state"], "succeeded");
    let failed = server
        .train(json!({"name": "z", "corpus": {"texts": ["a"]}, "num_merges": 3, "split": "(a|aa)+(?=b)|a"}))
        .await;
    let failed = server.wait_for_job(&failed).await;
    let running = server.train(slow("a")).await;
    server.wait_until(&running, |job| job["state"] == "running").await;
    let queued = server.train(json!({"name": "q", "corpus": {"texts": [TEXT]}, "num_merges": 4})).await;

    let check = async |again: TestServer| {
        for before in [&done, &failed] {
            let after = again.job(before["id"].as_str().unwrap()).await;
            for field in ["state", "created_at", "finished_at", "result", "stop_reason", "error", "name"] {
                assert_eq!(after[field], before[field], "{field}");
            }
        }
        assert_eq!(again.get("/vocabs/z@prod").await.ok(200)["digest"], done["result"]["vocab"]["digest"]);
        // What was running runs again, and what waited comes after it.
        again.wait_until(&running, |job| job["state"] == "running").await;
        again.post(&format!("/train/{running}/cancel"), "").await.ok(202);
        assert_eq!(again.wait_for_job(&running).await["state"], "cancelled");
        assert_eq!(again.wait_for_job(&queued).await["state"], "succeeded");
        again.goes_on().await;
        again.app.jobs.close().await;
    };
    // The copy has no corpora but those copied with it, and is what a crash at this moment would leave.
    check(server.crashed().await).await;
    server.app.jobs.close().await;
    check(server.again().await).await;
}

#[tokio::test]
async fn jobs_that_are_not_there_are_not_found() {
    let server = TestServer::new().await;
    for id in ["none", "..%2Fx", &"0".repeat(32)] {
        server.get(&format!("/train/{id}")).await.problem(404, "not_found", None);
        server.get(&format!("/train/{id}/events")).await.problem(404, "not_found", None);
        server.post(&format!("/train/{id}/cancel"), "").await.problem(404, "not_found", None);
    }
    assert_eq!(server.get("/train").await.ok(200)["jobs"], json!([]));
}
