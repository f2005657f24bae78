//! `/train` beyond plain text: a base to extend, counts made elsewhere, several sources, Parquet, URLs, samples; what comes
//! of memory that is short and of processes that end in the middle.

use crate::support::{TestServer, parquet, skewed_text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const TEXT: &str = "the cat sat on the mat, the cat sat; 世界世界 hello 世界 hello\n";

/// Text in lines, about so many bytes.
pub(crate) fn lines(bytes: usize) -> String {
    let text = skewed_text(bytes);
    let words: Vec<&str> = text.split(' ').collect();
    words.chunks(9).map(|line| line.join(" ") + "\n").collect()
}

pub(crate) async fn trained(server: &TestServer, request: Value) -> Value {
    let id = server.train(request).await;
    let job = server.wait_for_job(&id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job
}

pub(crate) async fn failed(server: &TestServer, request: Value, code: &str, detail: &str) {
    let id = server.train(request).await;
    let job = server.wait_for_job(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains(detail), "{job}");
    assert!(left_behind(server).is_empty(), "{:?}", left_behind(server));
}

/// Files in the folder that jobs work in.
pub(crate) fn left_behind(server: &TestServer) -> Vec<String> {
    let mut open = vec![server.app.config.data_dir.join("scratch")];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => open.push(entry.path()),
                false => files.push(entry.path().display().to_string()),
            }
        }
    }
    files
}

pub(crate) fn digest(job: &Value) -> String {
    job["result"]["vocab"]["digest"].as_str().unwrap().to_owned()
}

/// Runs the program's command that counts, as another machine would.
fn wordcount(dir: &Path, args: &[&str]) {
    let done = Command::new(env!("CARGO_BIN_EXE_vocabd"))
        .env_clear()
        .args(["--data-dir", "data", "wordcount"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn a_vocabulary_is_extended_and_keeps_its_ids() {
    let server = TestServer::new().await;
    let base =
        json!({"name": "base", "corpus": {"texts": [TEXT]}, "num_merges": 10, "special_tokens": ["<end>"]});
    trained(&server, base).await;
    let more = "世界人民 世界人民 世界地图 世界地图 the theory of theories<end>世界人民";
    let job = trained(
        &server,
        json!({"name": "more", "base": "base", "corpus": {"texts": [more]}, "num_merges": 8, "min_frequency": 1}),
    )
    .await;
    let facts = server.get("/vocabs/more").await.ok(200);
    assert_eq!(facts["training"]["base"], "base@1");
    assert_eq!(facts["vocab_size"], 256 + 1 + 10 + 8);
    assert_eq!(job["result"]["merges"], 8);
    for id in 0..267 {
        let of = async |vocab: &str| {
            let body = json!({"ids": [id], "vocab": vocab, "errors": "bytes"});
            server.post_json("/decode", body).await.ok(200)["bytes_b64"].clone()
        };
        assert_eq!(of("base").await, of("more").await, "id {id}");
    }
    let gain = &job["result"]["report"]["gain"];
    assert_eq!(gain["held_back"], false);
    let han = gain["scripts"].as_array().unwrap().iter().find(|s| s["script"] == "han").unwrap();
    let ratio = |name: &str| han[name].as_f64().unwrap();
    assert!(ratio("bytes_per_token_after") > ratio("bytes_per_token_before"), "{gain}");
    // The name of a special token of the base was not counted.
    let total: u64 =
        facts["training"]["frequencies"].as_array().unwrap().iter().map(|f| f.as_u64().unwrap()).sum();
    assert!(total > 0 && facts["training"]["report"]["longest"][0]["bytes"].as_u64().unwrap() >= 6);
    // The list of vocabularies is without the number for each token.
    let listed = server.get("/vocabs").await.ok(200).to_string();
    assert!(listed.contains("stop_reason") && !listed.contains("frequencies"));

    let han_only = trained(
        &server,
        json!({"name": "han", "base": "base@1", "scripts": ["Han"], "corpus": {"texts": [more]}, "vocab_size": 270,
            "min_frequency": 1}),
    )
    .await;
    assert_eq!(server.get("/vocabs/han").await.ok(200)["vocab_size"], 270);
    let scripts = han_only["result"]["report"]["gain"]["scripts"].as_array().unwrap().clone();
    let latin = scripts.iter().find(|s| s["script"] == "latin").unwrap();
    assert_eq!(latin["bytes_per_token_before"], latin["bytes_per_token_after"]);

    for (request, pointer) in [
        (json!({"base": "nobody", "num_merges": 1}), "/base"),
        (json!({"base": "base", "vocab_size": 267}), "/vocab_size"),
        (json!({"base": "base", "num_merges": 1, "scripts": ["Elvish"]}), "/scripts/0"),
        (json!({"num_merges": 1, "scripts": ["Han"]}), "/scripts"),
        (json!({"num_merges": 1, "words": true}), "/words"),
        (json!({"base": "base", "words": true}), "/words"),
        (json!({"num_merges": 1, "prune_count": 0}), "/prune_count"),
        (json!({"num_merges": 1, "hold_back": 0.9}), "/hold_back"),
    ] {
        let mut body = json!({"name": "x", "corpus": {"texts": [TEXT]}});
        body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        server.post_json("/train", body).await.problem(422, "invalid_field", Some(pointer));
    }
}

#[tokio::test]
async fn words_with_frequencies_become_tokens() {
    let server = TestServer::new().await;
    trained(
        &server,
        json!({"name": "base", "corpus": {"texts": [TEXT]}, "num_merges": 10, "split": "qwen2"}),
    )
    .await;
    server.put("/uploads/words", "我是一只猫\t20\n你是一只猫\t10\ntwo words\t5\n一只\t200\n").await.ok(201);
    let job = trained(
        &server,
        json!({"name": "w", "base": "base", "words": true, "corpus": {"counts": {"upload": "words"}}}),
    )
    .await;
    assert_eq!(job["stop_reason"], "nothing_frequent");
    assert_eq!(job["result"]["report"]["words_left_out"], json!({"cut_by_split": 1, "tokens_already": 0}));
    for word in ["我是一只猫", "你是一只猫", "一只"] {
        let reply = server.post_json("/encode", json!({"text": word, "vocab": "w"})).await.ok(200);
        assert_eq!(reply["count"], 1, "{word}");
    }
}

#[tokio::test]
async fn counts_made_elsewhere_give_what_the_text_gives() {
    let server = TestServer::new().await;
    let text = lines(200_000);
    server.corpus("whole.txt", &text);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let (first, second) = all.split_at(all.len() / 3);
    server.corpus("a.txt", first.concat());
    server.corpus("b.txt", second.concat());
    let root = server.app.config.corpus_root.clone();
    wordcount(&root, &["a.txt", "-o", "a.parquet", "--records", "lines"]);
    wordcount(&root, &["b.txt", "-o", "b.ndjson", "--records", "lines", "--max-memory", "1"]);
    wordcount(&root, &["b.txt", "-o", "b.tsv", "--records", "lines"]);
    wordcount(&root, &["a.txt", "b.txt", "-o", "q.parquet", "--split", "qwen2"]);
    let expect = digest(
        &trained(
            &server,
            json!({"name": "c", "corpus": {"files": ["whole.txt"], "records": "lines"}, "num_merges": 500}),
        )
        .await,
    );
    for files in [["a.parquet", "b.ndjson"], ["b.tsv", "a.parquet"]] {
        let counts = json!({"name": "c", "corpus": {"counts": {"files": files}}, "num_merges": 500});
        assert_eq!(digest(&trained(&server, counts).await), expect, "{files:?}");
    }
    failed(
        &server,
        json!({"name": "c", "corpus": {"counts": {"files": ["a.parquet", "q.parquet"]}}, "num_merges": 5}),
        "corpus_counts_mismatch",
        "split",
    )
    .await;
    // Three thousand million of one word: no 32 bits anywhere.
    server.corpus("big.tsv", "abab\t3000000000\nxy\t2999999999\nabab\t3000000000\n");
    let job = trained(
        &server,
        json!({"name": "big", "corpus": {"counts": {"files": ["big.tsv"]}}, "num_merges": 3}),
    )
    .await;
    assert_eq!(job["result"]["pretokens"], 8_999_999_999u64);
    assert_eq!(job["progress"]["last_merge"]["count"], 2_999_999_999u64);
    server.corpus("over.tsv", "abab\t9223372036854775807\nabab\t9223372036854775807\nabab\t9\n");
    let over = json!({"name": "over", "corpus": {"counts": {"files": ["over.tsv"]}}, "num_merges": 3});
    failed(&server, over, "training_failed", "too large").await;
    server.corpus("cut.parquet", &std::fs::read(root.join("a.parquet")).unwrap()[..500]);
    let cut = json!({"name": "cut", "corpus": {"counts": {"files": ["cut.parquet"]}}, "num_merges": 3});
    failed(&server, cut, "corpus_bad_parquet", "cut.parquet").await;

    let pruned = json!({"name": "p", "corpus": {"counts": {"files": ["a.parquet"]}}, "num_merges": 5, "prune_count": 3});
    let report = trained(&server, pruned).await["result"]["report"]["pruned"].clone();
    assert!(report["distinct_pretokens"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test]
async fn short_memory_and_checkpoints_change_nothing() {
    let text = lines(3_000_000);
    let request =
        json!({"name": "m", "corpus": {"files": ["t.txt"], "records": "lines"}, "num_merges": 2000});
    let mut digests = Vec::new();
    for (memory, seconds) in [(1 << 40, 86_400), (8 << 20, 86_400), (1 << 40, 0), (8 << 20, 0)] {
        let server = TestServer::with(|config| {
            config.train_max_memory_bytes = memory;
            config.train_checkpoint_seconds = seconds;
        })
        .await;
        server.corpus("t.txt", &text);
        digests.push(digest(&trained(&server, request.clone()).await));
        assert!(left_behind(&server).is_empty());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[tokio::test]
async fn sources_have_weights_and_samples_depend_on_records_alone() {
    let server = TestServer::new().await;
    server.corpus("a.txt", "aa bb\n".repeat(10));
    server.corpus("b.jsonl", "{\"text\": \"cc cc cc\"}\n");
    let request = |weights: [f64; 2]| {
        json!({"name": "w", "min_frequency": 1, "num_merges": 1, "corpus": {"sources": [
            {"files": ["a.txt"], "records": "lines", "weight": weights[0]},
            {"files": ["b.jsonl"], "format": "jsonl", "weight": weights[1]},
        ]}})
    };
    let best = async |weights| trained(&server, request(weights)).await["progress"]["last_merge"].clone();
    assert_eq!(best([1.0, 1.0]).await["token"], "aa");
    let heavy = best([1.0, 10.0]).await;
    assert_eq!((&heavy["token"], &heavy["count"]), (&json!("cc"), &json!(30)));
    assert_eq!(best([0.5, 1.0]).await["count"], 5);

    server.corpus("s.txt", lines(100_000));
    let sampled = |share: f64| json!({"name": "s", "num_merges": 50, "corpus": {"files": ["s.txt"], "records": "lines", "sample": share}});
    let (half, again) = (trained(&server, sampled(0.5)).await, trained(&server, sampled(0.5)).await);
    assert_eq!(digest(&half), digest(&again));
    let read = half["result"]["text_bytes"].as_u64().unwrap();
    assert!((20_000..80_000).contains(&read), "{read} of 100000 bytes");

    let check = async |corpus: Value, pointer: &str| {
        let body = json!({"name": "x", "num_merges": 1, "corpus": corpus});
        server.post_json("/train", body).await.problem(422, "invalid_field", Some(pointer));
    };
    check(json!({"files": ["s.txt"], "sample": 0.5}), "/corpus/records").await;
    check(json!({"texts": ["a"], "sample": 0.0}), "/corpus/sample").await;
    check(json!({"texts": ["a"], "weight": 2.0}), "/corpus/weight").await;
    check(json!({"sources": []}), "/corpus/sources").await;
    check(json!({"sources": [{"texts": ["a"]}], "format": "jsonl"}), "/corpus").await;
    check(json!({"sources": [{"texts": ["a"]}, {"texts": ["a"], "weight": 0}]}), "/corpus/sources/1/weight")
        .await;
    check(json!({"sources": [{"sources": []}]}), "/corpus/sources/0/sources").await;
    check(json!({"sources": [{"files": ["none"]}]}), "/corpus/sources/0/files/0").await;
    check(json!({"counts": {}}), "/corpus/counts").await;
    check(json!({"counts": {"upload": "none"}}), "/corpus/counts/upload").await;
    check(json!({"urls": ["http://example.com/x"]}), "/corpus/urls/0").await;
    check(json!({"urls": []}), "/corpus/urls").await;
}

#[tokio::test]
async fn parquet_columns_and_urls_are_corpora() {
    let bytes = parquet(&[Some(TEXT.as_bytes()), None, Some(b"hello hello")], Default::default());

    let server = TestServer::with(|config| config.corpus_urls = "127.0.0.1".to_owned()).await;
    server.corpus("t.parquet", &bytes);
    server.corpus("t.parquet.zst", zstd::encode_all(&bytes[..], 1).unwrap());
    let expect = json!({"name": "p", "num_merges": 20, "corpus": {"texts": [TEXT, "hello hello"]}});
    let expect = digest(&trained(&server, expect).await);
    for file in ["t.parquet", "t.parquet.zst"] {
        let corpus = json!({"files": [file], "format": "parquet", "field": "body"});
        let job = trained(&server, json!({"name": "p", "num_merges": 20, "corpus": corpus})).await;
        assert_eq!(digest(&job), expect, "{file}");
    }
    let none = json!({"files": ["t.parquet"], "format": "parquet"});
    failed(&server, json!({"name": "p", "num_merges": 2, "corpus": none}), "corpus_bad_parquet", "no column")
        .await;
    server.corpus("no.parquet", "text");
    let none = json!({"files": ["no.parquet"], "format": "parquet"});
    failed(
        &server,
        json!({"name": "p", "num_merges": 2, "corpus": none}),
        "corpus_bad_parquet",
        "not a valid",
    )
    .await;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let files =
        axum::Router::new().route("/t.parquet", axum::routing::get(move || async move { bytes })).route(
            "/inside",
            axum::routing::get(|| async { axum::response::Redirect::temporary("http://localhost:1/x") }),
        );
    tokio::spawn(async move { axum::serve(listener, files).await });
    let corpus =
        json!({"urls": [format!("http://{address}/t.parquet")], "format": "parquet", "field": "body"});
    let job = trained(&server, json!({"name": "p", "num_merges": 20, "corpus": corpus})).await;
    assert_eq!(digest(&job), expect);
    let gone = json!({"urls": [format!("http://{address}/none")]});
    failed(&server, json!({"name": "p", "num_merges": 2, "corpus": gone}), "corpus_not_fetched", "404").await;
    let inside = json!({"urls": [format!("http://{address}/inside")]});
    failed(&server, json!({"name": "p", "num_merges": 2, "corpus": inside}), "corpus_not_fetched", "reached")
        .await;
}

#[tokio::test]
async fn what_is_held_back_is_not_trained_on_but_measured() {
    let server = TestServer::new().await;
    trained(&server, json!({"name": "base", "corpus": {"texts": [TEXT]}, "num_merges": 10})).await;
    server.corpus("h.txt", lines(200_000));
    let request = |share: f64| {
        json!({"name": "h", "base": "base", "num_merges": 200, "hold_back": share,
            "corpus": {"files": ["h.txt"], "records": "lines"}})
    };
    let (all, most) = (trained(&server, request(0.0)).await, trained(&server, request(0.2)).await);
    let read = |job: &Value| job["result"]["text_bytes"].as_u64().unwrap();
    let gain = |job: &Value| job["result"]["report"]["gain"].clone();
    assert_eq!((&gain(&all)["held_back"], &gain(&most)["held_back"]), (&json!(false), &json!(true)));
    let scripts = gain(&most)["scripts"].as_array().unwrap().clone();
    let measured: u64 = scripts.iter().map(|script| script["bytes"].as_u64().unwrap()).sum();
    assert_eq!(read(&most) + measured, read(&all), "{most}");
    assert!((read(&all) / 10..read(&all) * 3 / 10).contains(&measured), "{measured} of {}", read(&all));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_fails_the_job_and_publishes_nothing() {
    let server = TestServer::new().await;
    std::fs::create_dir_all(&server.app.config.data_dir).unwrap();
    std::fs::write(server.app.config.data_dir.join("scratch"), "in the way").unwrap();
    let request = json!({"name": "no", "corpus": {"texts": [TEXT]}, "num_merges": 3});
    failed(&server, request, "storage_failed", "disk").await;
    server.get("/vocabs/no").await.problem(404, "unknown_vocab", None);
}
