//! The main job from end to end: serve, train, watch, swap, reload, all under a client that never stops.

use super::{Client, Server, StopOnDrop, events, numbered, wait_for, wait_for_no_litter};
use crate::data;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::Scope;

/// Texts of several scripts, so that two versions differ on most of them.
const TEXTS: [&str; 5] = [
    "自然语言处理把文本切成词元，中文尤其如此。",
    "Hello, 世界! 😀👩‍👩‍👧‍👦🇩🇪",
    "the vocabulary server answers while it trains 1234567",
    "日本語のテキスト、한국어 텍스트。",
    "x = {\"a\": [1, 2]};\r\n\t\tÜnïcödé — ½ Ⅷ",
];

/// What a client saw that encoded without a pause.
#[derive(Default)]
struct Seen {
    requests: u64,
    failures: Vec<String>,
    /// Ids of each text by the version that the answer named.
    ids: BTreeMap<(u64, usize), Value>,
    digests: BTreeMap<u64, Value>,
}

/// What the readers and who waits for them share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Answers of versions 1 and 2.
    answers: [AtomicU64; 2],
}

impl Shared {
    /// Waits until so many requests were answered from a version.
    fn wait_for(&self, version: usize, answers: u64) {
        wait_for("answers", || (self.answers[version - 1].load(Relaxed) >= answers).then_some(()));
    }
}

/// Encodes with the alias until it is told to stop.
fn encode_all_the_time(address: SocketAddr, vocab: &str, shared: &Shared) -> Seen {
    let mut client = Client::new(address);
    let mut seen = Seen::default();
    while !shared.stop.load(Relaxed) {
        let which = (seen.requests % TEXTS.len() as u64) as usize;
        let body = json!({"text": TEXTS[which], "vocab": vocab}).to_string();
        seen.requests += 1;
        let answer = match client.try_ask("POST", "/encode", "", body.as_bytes()) {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => {
                seen.failures.push(format!("{} {}", answer.status, answer.text()));
                continue;
            }
            Err(error) => {
                seen.failures.push(error.to_string());
                continue;
            }
        };
        let reply: Value = serde_json::from_slice(&answer.body).unwrap();
        let version = reply["vocab"]["version"].as_u64().unwrap();
        shared.answers[version as usize - 1].fetch_add(1, Relaxed);
        let etag = format!("\"{}\"", reply["vocab"]["digest"].as_str().unwrap());
        if answer.header("etag") != Some(&etag) {
            seen.failures.push(format!("ETag {:?}, digest {etag}", answer.header("etag")));
        }
        let digest = seen.digests.entry(version).or_insert_with(|| reply["vocab"]["digest"].clone()).clone();
        let ids = seen.ids.entry((version, which)).or_insert_with(|| reply["ids"].clone());
        if *ids != reply["ids"] || digest != reply["vocab"]["digest"] {
            seen.failures.push(format!("version {version} gave two answers for text {which}"));
        }
    }
    seen
}

/// Follows a job by polling: its stages in the order they were seen, and its fractions.
fn poll(server: &Server, job: &str) -> (Vec<String>, Vec<f64>, Value) {
    let mut client = server.client();
    let (mut stages, mut fractions) = (Vec::new(), Vec::new());
    let done = wait_for("the end of the job", || {
        let job = client.ask("GET", &format!("/train/{job}"), b"").expect(200);
        let stage = job["progress"]["stage"].as_str().unwrap().to_owned();
        if stages.last() != Some(&stage) {
            stages.push(stage);
        }
        fractions.push(job["progress"]["fraction"].as_f64().unwrap());
        (!matches!(job["state"].as_str().unwrap(), "queued" | "running")).then_some(job)
    });
    (stages, fractions, done)
}

fn check_progress(stages: &[String], fractions: &[f64]) {
    const ORDER: [&str; 6] = ["waiting", "counting", "preparing", "merging", "publishing", "done"];
    let place = |stage: &String| ORDER.iter().position(|known| known == stage).unwrap();
    assert!(stages.iter().map(place).is_sorted(), "{stages:?}");
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(fractions.last(), Some(&1.0));
}

/// Starts a job and answers its id.
fn train(server: &Server, request: &Value) -> String {
    let answer = server.post("/train", request);
    let job = answer.expect(202);
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(format!("/train/{id}").as_str()));
    id
}

fn spawn_readers<'s>(
    scope: &'s Scope<'s, '_>,
    address: SocketAddr,
    shared: &'s Shared,
) -> Vec<std::thread::ScopedJoinHandle<'s, Seen>> {
    (0..2).map(|_| scope.spawn(move || encode_all_the_time(address, "zh@live", shared))).collect()
}

#[test]
fn the_default_vocabulary_answers_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    assert_eq!(server.get("/readyz")["status"], "ok");
    for text in TEXTS {
        let encoded = server.post("/encode", &json!({"text": text})).expect(200);
        assert_eq!(encoded["vocab"]["name"], "default");
        let count = encoded["count"].as_u64().unwrap();
        assert_eq!(count, encoded["ids"].as_array().unwrap().len() as u64);
        assert!(count < text.len() as u64, "{count} tokens for {} bytes", text.len());
        let decoded = server.post("/decode", &json!({"ids": encoded["ids"]})).expect(200);
        assert_eq!(decoded["text"], text);
        assert_eq!(decoded["valid_utf8"], true);
    }
    server.stop();
}

/// The demonstration: on the whole Chinese corpus where it is there, else on the small one of the tree.
#[test]
fn a_trained_vocabulary_goes_live_without_one_failed_request() {
    let small = data::local("corpora/train-dev-tiny.txt");
    let (large, vocab_size) = match data::shared("corpora/zh.txt") {
        Some(corpus) => (corpus, 32_000),
        None => (small.repeat(8), 1_500),
    };
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("small.txt"), &small).unwrap();
    let server = Server::start_with(data.path(), &[("corpus_root", root.path().to_str().unwrap())]);

    // A first version, from a file under the root; the same upload gives the same one.
    let settings = |corpus: Value, size: u32| json!({"name": "zh", "corpus": corpus, "vocab_size": size, "aliases": ["live"]});
    let first = server.ended(&train(&server, &settings(json!({"files": ["small.txt"]}), 600)));
    assert_eq!(first["result"]["created"], true, "{first}");
    server.ask("PUT", "/uploads/small", &small).expect(201);
    let again = server.ended(&train(&server, &settings(json!({"upload": "small"}), 600)));
    assert_eq!(again["result"]["created"], false, "{again}");
    assert_eq!(again["result"]["vocab"], first["result"]["vocab"]);

    let shared = Shared::default();
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&shared.stop);
        let readers = spawn_readers(scope, server.address, &shared);
        // Not before both versions were answered from: the test would prove nothing. The first one here.
        shared.wait_for(1, 10);

        let uploaded = server.ask("PUT", "/uploads/zh", &large).expect(201);
        assert_eq!(uploaded["bytes"], large.len());
        let job = train(&server, &settings(json!({"upload": "zh"}), vocab_size));
        let (followed, of) = (job.clone(), &server);
        let follower = scope.spawn(move || events(of, &followed));
        let (stages, fractions, done) = poll(&server, &job);
        check_progress(&stages, &fractions);
        assert_eq!(done["state"], "succeeded", "{done}");
        assert_eq!(done["stop_reason"], "vocab_size");
        let result = &done["result"];
        assert_eq!((&result["vocab"]["version"], &result["vocab_size"]), (&json!(2), &json!(vocab_size)));
        if vocab_size == 32_000 {
            let distinct = fractions.windows(2).filter(|pair| pair[0] < pair[1]).count();
            assert!(distinct > 10, "{fractions:?}");
        }
        let followed = follower.join().unwrap();
        let (last, before) = followed.split_last().unwrap();
        assert_eq!((last.0.as_str(), &last.1["result"]), ("end", result));
        assert!(
            before.iter().all(|(name, _)| ["progress", "merging"].contains(&name.as_str())),
            "{before:?}"
        );
        let states = followed.iter().filter(|(name, _)| name != "merging");
        let told: Vec<f64> = states.map(|(_, job)| job["progress"]["fraction"].as_f64().unwrap()).collect();
        assert!(told.is_sorted(), "{told:?}");

        swap_and_reload(&server, data.path());

        shared.wait_for(2, 100);
        drop(stopping);
        let mut requests = 0;
        let mut versions = Vec::new();
        for reader in readers {
            let seen = reader.join().unwrap();
            assert_eq!(seen.failures, Vec::<String>::new(), "of {} requests", seen.requests);
            requests += seen.requests;
            for ((version, which), ids) in seen.ids {
                let pinned = server.encode(&format!("zh@{version}"), TEXTS[which]);
                assert_eq!(pinned["ids"], ids, "version {version}, text {which}");
                assert_eq!(pinned["vocab"]["digest"], seen.digests[&version]);
                versions.push(version);
            }
        }
        assert!(versions.contains(&1) && versions.contains(&2), "{versions:?}");
        assert!(requests > 100, "{requests} requests");
    });

    let before = server.get("/vocabs");
    server.kill();
    let server = Server::start(data.path());
    assert_eq!(server.get("/vocabs"), before);
    wait_for_no_litter(data.path());
    server.stop();
}

/// Alias there and back, then vocabularies put into the folder by hand: all on the running server.
fn swap_and_reload(server: &Server, data: &std::path::Path) {
    let live = || server.encode("zh@live", TEXTS[0])["vocab"]["version"].as_u64().unwrap();
    assert_eq!(live(), 2);
    let digest =
        |version: u32| server.get(&format!("/vocabs/zh@{version}"))["digest"].as_str().unwrap().to_owned();
    let put = |version: u32, guard: &str| {
        let body = json!({"version": version}).to_string();
        let headers = format!("If-Match: \"{guard}\"\r\n");
        server.client().try_ask("PUT", "/vocabs/zh/aliases/live", &headers, body.as_bytes()).unwrap()
    };
    put(1, &digest(1)).expect(412);
    assert_eq!(live(), 2);
    let back = put(1, &digest(2)).expect(200);
    assert_eq!((&back["vocab"]["version"], &back["previous"]["version"]), (&json!(1), &json!(2)));
    assert_eq!(live(), 1);
    put(2, &digest(1)).expect(200);
    assert_eq!(live(), 2);

    let import = data.join("import");
    std::fs::create_dir(&import).unwrap();
    let (_, file) = numbered(0);
    std::fs::write(import.join("hand.tiktoken"), &file).unwrap();
    std::fs::write(
        import.join("hand.toml"),
        "split = \"cl100k\"\naliases = [\"prod\"]\n[special]\n\"<end>\" = 300\n",
    )
    .unwrap();
    let report = server.ask("POST", "/reload", b"").expect(200);
    assert_eq!((&report["loaded"], &report["failed"]), (&json!(["hand@1", "hand@prod"]), &json!([])));
    let parsed = json!({"text": "a<end>", "vocab": "hand@prod", "special": "parse"});
    assert_eq!(server.post("/encode", &parsed).expect(200)["ids"], json!([97, 300]));

    std::fs::write(import.join("other.tiktoken"), &file).unwrap();
    std::fs::write(import.join("other.toml"), "split = \"gpt2\"\n").unwrap();
    server.signal(Signal::HUP);
    wait_for("the vocabulary after SIGHUP", || {
        let answer = server.post("/encode", &json!({"text": "ab", "vocab": "other"}));
        (answer.status == 200).then_some(())
    });
    // A file that is none does no harm to what is served.
    std::fs::write(import.join("broken.tiktoken"), "not base64 at all\n").unwrap();
    let report = server.ask("POST", "/reload", b"").expect(200);
    assert_eq!(report["failed"][0]["what"], "import/broken.tiktoken");
    assert_eq!(server.get("/health")["status"], "degraded");
    assert_eq!(server.get("/readyz")["status"], "ok");
    assert_eq!(live(), 2);
    std::fs::remove_file(import.join("broken.tiktoken")).unwrap();
    server.ask("POST", "/reload", b"").expect(200);
    assert_eq!(server.get("/health")["status"], "ok");
}
