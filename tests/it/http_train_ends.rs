//! How jobs end: what a result tells, held against what the served vocabulary does; limits of memory and disk; cancels at
//! every stage; sources that go away.

use crate::data;
use crate::http_train_inputs::{digest, failed, left_behind, lines, trained};
use crate::support::{Faults, TestServer, parquet, varied_text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A number of a report, as it is rounded there.
fn ratio(bytes: u64, tokens: u64) -> Value {
    json!((bytes as f64 / tokens as f64 * 10_000.0).round() / 10_000.0)
}

/// Everything that the report says is counted again by encoding the text with what was published: no code of the trainer.
#[tokio::test]
async fn the_report_is_what_encoding_the_corpus_shows() {
    let server = TestServer::with(|config| config.max_batch_texts = 100_000).await;
    let text = String::from_utf8(data::local("corpora/train-dev-tiny.txt")).unwrap();
    // Each line is a record, so that records and texts are cut alike.
    let texts: Vec<&str> = text.split_inclusive('\n').collect();
    server.corpus("t.txt", &text);
    let request = |name: &str, merges: u32| json!({"name": name, "corpus": {"files": ["t.txt"], "records": "lines"}, "num_merges": merges});
    let job = trained(&server, request("r", 3000)).await;
    let report = &job["result"]["report"];
    let merges = job["result"]["merges"].as_u64().unwrap();
    assert_eq!(job["stop_reason"], "num_merges");
    assert_eq!(job["result"]["text_bytes"], text.len());
    let facts = server.get("/vocabs/r").await.ok(200);
    assert_eq!(&facts["training"]["report"], report, "it is kept with the version");

    let body = json!({"texts": texts, "vocab": "r"});
    let encoded = server.post_json("/encode/batch", body).await.ok(200);
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for id in encoded["ids"].as_array().unwrap().iter().flat_map(|ids| ids.as_array().unwrap()) {
        *seen.entry(id.as_u64().unwrap()).or_default() += 1;
    }
    let frequencies = facts["training"]["frequencies"].as_array().unwrap();
    assert_eq!(frequencies.len() as u64, 256 + merges);
    for (id, frequency) in (0..).zip(frequencies) {
        assert_eq!(frequency.as_u64(), Some(seen.get(&id).copied().unwrap_or(0)), "id {id}");
    }
    let unused: Vec<u64> = (256..256 + merges).filter(|id| !seen.contains_key(id)).collect();
    assert_eq!(report["unused_tokens"], unused.len());
    assert_eq!(report["unused"], json!(unused[..unused.len().min(200)]));
    assert!(!unused.is_empty(), "a text of this size has steps that are left behind");

    let ids: Vec<[u64; 1]> = (256..256 + merges).map(|id| [id]).collect();
    let body = json!({"ids": ids, "vocab": "r", "errors": "replace"});
    let decoded = server.post_json("/decode/batch", body).await.ok(200);
    let tokens =
        server.post_json("/decode/batch", json!({"ids": ids, "vocab": "r", "errors": "bytes"})).await;
    let tokens = tokens.ok(200)["bytes_b64"].clone();
    let length = |at: usize| {
        use base64::Engine as _;
        let b64 = tokens[at].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(b64).unwrap().len() as u64
    };
    let mut longest: Vec<(std::cmp::Reverse<u64>, usize)> =
        (0..merges as usize).map(|at| (std::cmp::Reverse(length(at)), at)).collect();
    longest.sort();
    let listed = report["longest"].as_array().unwrap();
    assert_eq!(listed.len(), 20);
    for (token, (bytes, at)) in listed.iter().zip(longest) {
        let id = 256 + at as u64;
        assert_eq!((&token["id"], &token["bytes"]), (&json!(id), &json!(bytes.0)));
        assert_eq!(token["frequency"], seen.get(&id).copied().unwrap_or(0));
        assert!(decoded["texts"][at].as_str().unwrap().starts_with(token["text"].as_str().unwrap()));
    }

    // The first n merges are those of a vocabulary of n merges, whose tokens are counted.
    let curve = report["curve"].as_array().unwrap();
    let points: Vec<u64> = curve.iter().map(|point| point["merges"].as_u64().unwrap()).collect();
    assert_eq!(points, [0, 1000, 2000, merges]);
    for point in curve {
        let merges = point["merges"].as_u64().unwrap() as u32;
        let tokens = match merges {
            0 => text.len() as u64,
            _ => {
                let name = format!("r{merges}");
                trained(&server, request(&name, merges)).await;
                let body = json!({"texts": texts, "vocab": name});
                server.post_json("/count", body).await.ok(200)["total"].as_u64().unwrap()
            }
        };
        assert_eq!(point["bytes_per_token"], ratio(text.len() as u64, tokens), "after {merges} merges");
    }
    let few = json!({"name": "few", "corpus": {"texts": ["ab ab"]}, "num_merges": 10});
    assert_eq!(trained(&server, few).await["stop_reason"], "nothing_frequent");
    let sized = json!({"name": "sized", "corpus": {"texts": ["ab ab"]}, "num_merges": 10, "vocab_size": 257});
    assert_eq!(trained(&server, sized).await["stop_reason"], "vocab_size");
}

/// Two columns would be a table of a few bytes that becomes gigabytes.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut content = b"PAR1".to_vec();
    content.resize(bytes, 0);
    zstd::encode_all(&content[..], 1).unwrap()
}

#[tokio::test]
async fn what_is_unpacked_to_the_disk_is_bounded() {
    let server = TestServer::with(|config| config.max_upload_bytes = 8 << 20).await;
    let packed = bomb(4 << 20);
    assert!(packed.len() < 20_000, "{}", packed.len());
    server.corpus("b.parquet.zst", &packed);
    let files = json!({"files": ["b.parquet.zst"], "format": "parquet"});
    failed(
        &server,
        json!({"name": "b", "corpus": files, "num_merges": 2}),
        "corpus_too_large",
        "the limit by max_decompress_ratio",
    )
    .await;
    let counts = json!({"counts": {"files": ["b.parquet.zst"]}});
    failed(
        &server,
        json!({"name": "b", "corpus": counts, "num_merges": 2}),
        "corpus_too_large",
        "b.parquet.zst has over 1",
    )
    .await;
    server.put("/uploads/b", packed).await.ok(201);
    let body = json!({"vocabs": ["default"], "upload": "b", "format": "parquet"});
    let problem = server.post_json("/compare", body).await.problem(422, "corpus_too_long", Some("/upload"));
    assert!(problem["detail"].as_str().unwrap().contains("max_decompress_ratio"), "{problem}");
    let uploads = std::fs::read_dir(server.app.config.data_dir.join("uploads")).unwrap();
    assert_eq!(uploads.count(), 1, "the upload alone");

    // Bytes that do not pack are held to the other limit.
    let noise: Vec<u8> =
        (0..9u64 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let content = [b"PAR1".as_slice(), &noise].concat();
    server.corpus("n.parquet.zst", zstd::encode_all(&content[..], 1).unwrap());
    let files = json!({"files": ["n.parquet.zst"], "format": "parquet"});
    failed(
        &server,
        json!({"name": "b", "corpus": files, "num_merges": 2}),
        "corpus_too_large",
        "max_upload_bytes",
    )
    .await;
    server.goes_on().await;
}

/// A line and a page that are a few thousand bytes as they are stored.
#[tokio::test]
async fn what_is_unpacked_to_memory_is_bounded() {
    use parquet::basic::{Compression, ZstdLevel};
    let server = TestServer::with(|config| config.train_max_memory_bytes = 20 << 20).await;
    let job = |corpus: Value| json!({"name": "b", "corpus": corpus, "num_merges": 2});
    let line = zstd::encode_all(&vec![b'a'; (5 << 20) + (1 << 20)][..], 1).unwrap();
    server.corpus("line.txt", line);
    let files = |records| json!({"files": ["line.txt"], "records": records});
    for records in ["lines", "paragraphs"] {
        failed(&server, job(files(records)), "corpus_record_too_long", "a record of over 5242880 bytes")
            .await;
    }

    let properties = parquet::file::properties::WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(ZstdLevel::default()));
    let bytes = parquet(&[Some(&vec![b'a'; 3 << 20])], properties.build());
    server.corpus("page.parquet", &bytes);
    let page = json!({"files": ["page.parquet"], "format": "parquet", "field": "body"});
    failed(&server, job(page), "corpus_too_large", "the limit by max_decompress_ratio").await;
    let ratio = TestServer::with(|config| {
        (config.train_max_memory_bytes, config.max_decompress_ratio) = (20 << 20, 1 << 20);
    });
    let ratio = ratio.await;
    ratio.corpus("page.parquet", &bytes);
    let page = json!({"files": ["page.parquet"], "format": "parquet", "field": "body"});
    failed(&ratio, job(page), "corpus_too_large", "a page that takes over 2621440 bytes of memory").await;
    server.put("/uploads/b", bytes).await.ok(201);
    let body = json!({"vocabs": ["default"], "upload": "b", "format": "parquet", "field": "body"});
    let problem = server.post_json("/compare", body).await.problem(422, "corpus_too_long", Some("/upload"));
    assert!(problem["detail"].as_str().unwrap().contains("max_decompress_ratio"), "{problem}");
    server.goes_on().await;
}

#[tokio::test]
async fn merging_keeps_within_its_memory_or_says_what_to_raise() {
    let text = lines(1_500_000);
    let mut digests = Vec::new();
    for memory in [1 << 40, 6 << 20] {
        let server = TestServer::with(|config| config.train_max_memory_bytes = memory).await;
        server.corpus("t.txt", &text);
        server.corpus("u.txt", "more of it ".repeat(1000));
        let corpus = json!({"sources": [{"files": ["t.txt"], "records": "lines", "weight": 3.0},
            {"files": ["u.txt"], "records": "lines"}, {"texts": ["and one", "more"]}]});
        let request = json!({"name": "m", "corpus": corpus, "num_merges": 1500, "min_frequency": 4});
        let job = trained(&server, request).await;
        digests.push((digest(&job), job["result"]["report"].clone(), job["result"]["pretokens"].clone()));
        let base = json!({"name": "x", "base": "m", "num_merges": 300, "prune_count": 2,
            "corpus": {"files": ["t.txt"], "records": "lines"}, "hold_back": 0.1});
        let job = trained(&server, base).await;
        digests.push((digest(&job), job["result"]["report"].clone(), job["result"]["pretokens"].clone()));
    }
    assert!(digests[0] == digests[2] && digests[1] == digests[3], "{digests:?}");

    // One pretoken as long as the text, in which no pair is rare: it cannot be cut anywhere.
    let server = TestServer::with(|config| config.train_max_memory_bytes = 1 << 20).await;
    server.corpus("one.txt", varied_text(2_000_000).replace(' ', ""));
    let request =
        json!({"name": "one", "corpus": {"files": ["one.txt"]}, "split": "(?s:.+)", "num_merges": 500});
    failed(&server, request, "memory_exceeded", "max_memory, 1048576 bytes").await;
    server.get("/vocabs/one").await.problem(404, "unknown_vocab", None);
    server.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_leaves_free_what_the_setting_says() {
    let server = TestServer::with(|config| config.corpus_urls = "127.0.0.1".to_owned()).await;
    let corpus = json!({"urls": [format!("http://{}/x", stalled(1000, false).await)]});
    let request = json!({"name": "u", "corpus": corpus, "num_merges": 2});
    let id = server.train(request.clone()).await;
    server.wait_until(&id, |job| job["state"] == "running").await;
    server.app.jobs.close().await;
    // The job was accepted, and meanwhile the disk is full.
    let full = |config: &mut vocabd::config::Config| {
        (config.corpus_urls, config.min_free_bytes) = ("127.0.0.1".to_owned(), 1 << 60);
    };
    let again = server.again_with(full).await;
    let job = again.wait_for_job(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("storage_full")), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("the setting min_free_bytes"), "{job}");
    assert!(left_behind(&again).is_empty(), "{:?}", left_behind(&again));

    // Where the store is a bucket, what jobs fetch and count still goes to the disk.
    let bucket = std::sync::Arc::new(Faults::default());
    let server = TestServer::over_with(&bucket, full).await;
    server.post_json("/train", request).await.problem(507, "storage_full", None);
}

/// A server that answers with a head and so many bytes of a body that should have more, and then waits.
async fn stalled(bytes: usize, close: bool) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes + 1000);
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&vec![b'a'; bytes]).await;
                if !close {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
            });
        }
    });
    address
}

async fn cancelled_cleanly(server: &TestServer, id: &str, name: &str) -> bool {
    let from = std::time::Instant::now();
    server.post(&format!("/train/{id}/cancel"), "").await;
    let job = server.wait_for_job(id).await;
    assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
    let state = job["state"].as_str().unwrap();
    assert!(["cancelled", "succeeded"].contains(&state), "{job}");
    assert!(left_behind(server).is_empty(), "{:?}", left_behind(server));
    if state == "cancelled" {
        server.get(&format!("/vocabs/{name}")).await.problem(404, "unknown_vocab", None);
    }
    state == "cancelled"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_at_any_moment_leaves_nothing() {
    // While a URL is fetched.
    let server = TestServer::with(|config| config.corpus_urls = "127.0.0.1".to_owned()).await;
    let corpus = json!({"urls": [format!("http://{}/x", stalled(1000, false).await)]});
    let id = server.train(json!({"name": "u", "corpus": corpus, "num_merges": 2})).await;
    server.wait_until(&id, |job| job["state"] == "running").await;
    assert!(cancelled_cleanly(&server, &id, "u").await);
    let corpus = json!({"urls": [format!("http://{}/x", stalled(1000, true).await)]});
    failed(&server, json!({"name": "u", "corpus": corpus, "num_merges": 2}), "corpus_not_fetched", "url 0")
        .await;

    // From reading over spills, rounds and checkpoints to publishing: after more and more of the work.
    let server = TestServer::with(|config| {
        config.train_max_memory_bytes = 6 << 20;
        config.train_checkpoint_seconds = 0;
    })
    .await;
    server.corpus("t.txt", lines(1_500_000));
    let request = |name: &str| json!({"name": name, "corpus": {"files": ["t.txt"], "records": "lines"}, "num_merges": 800});
    let whole = std::time::Instant::now();
    trained(&server, request("whole")).await;
    let whole = whole.elapsed();
    let mut ended = 0;
    for part in 0..12u32 {
        let name = format!("part{part}");
        let id = server.train(request(&name)).await;
        tokio::time::sleep(whole * part / 12).await;
        ended += u32::from(cancelled_cleanly(&server, &id, &name).await);
    }
    assert!(ended >= 6, "{ended} of 12 were cancelled");
    server.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_go_away_are_told() {
    let server = TestServer::new().await;
    server.corpus("slow.txt", varied_text(3_000_000));
    server.corpus("gone.txt", "aa bb aa");
    let slow =
        json!({"name": "slow", "corpus": {"files": ["slow.txt"]}, "num_merges": 200_000, "min_frequency": 1});
    let slow = server.train(slow).await;
    let corpus = json!({"files": ["gone.txt"]});
    let id = server.train(json!({"name": "gone", "corpus": corpus, "num_merges": 1})).await;
    std::fs::remove_file(server.app.config.corpus_root.join("gone.txt")).unwrap();
    server.post(&format!("/train/{slow}/cancel"), "").await.ok(202);
    let job = server.wait_for_job(&id).await;
    assert_eq!(
        (&job["state"], &job["error"]["code"]),
        (&json!("failed"), &json!("invalid_request")),
        "{job}"
    );
    let detail = job["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("is not a file under the corpus root"), "{job}");
    assert!(left_behind(&server).is_empty());
}

#[tokio::test]
async fn weights_and_bases_that_cannot_be_are_refused() {
    let server = TestServer::new().await;
    server.post("/vocabs?name=uni", data::local("vocabs/spm-nfkc-bytes.model")).await.ok(201);
    let uni = json!({"name": "x", "base": "uni", "corpus": {"texts": ["a a"]}, "num_merges": 1});
    let problem = server.post_json("/train", uni).await.problem(422, "invalid_field", Some("/base"));
    assert!(problem["detail"].as_str().unwrap().contains("byte-level BPE"), "{problem}");
    let small = json!({"name": "x", "base": "default", "corpus": {"texts": ["a a"]}, "vocab_size": 300});
    let problem = server.post_json("/train", small).await.problem(422, "invalid_field", Some("/vocab_size"));
    assert!(problem["detail"].as_str().unwrap().contains("it must be over 32000"), "{problem}");
    for weight in ["NaN", "1e999", "-1", "0", "\"NaN\"", "null", "1000001"] {
        let body = format!(
            r#"{{"name": "x", "num_merges": 1, "corpus": {{"sources": [{{"texts": ["a a"], "weight": {weight}}}]}}}}"#
        );
        let request = crate::support::with_body(axum::http::Method::POST, "/train", body);
        let request = crate::support::and(request, "content-type", "application/json");
        let answer = server.send(request).await;
        match weight {
            // As if it were not there.
            "null" => drop(answer.ok(202)),
            _ => assert!([400, 422].contains(&answer.status), "{weight}: {}", answer.status),
        }
    }
}
