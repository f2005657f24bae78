//! kill -9 at any moment: what was acknowledged is there, nothing is torn, what was running runs again.

use super::{Random, Server, events, numbered, random_words, size, wait_for, wait_for_no_litter};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Lives of the server beyond those that are asked for, each with a job of its own, while no job was running at any kill.
const MORE_ROUNDS: u64 = 30;

/// Jobs that may be unfinished before a life sees to their end: a queue has its limit.
const MOST_UNFINISHED: usize = 3;

/// Lives in a row in which a job kept nothing more, before one sees to its end: after three it is given up.
const MOST_STUCK: u64 = 2;

/// What the server said it had kept.
#[derive(Default)]
struct Acknowledged {
    /// Digests by version.
    versions: BTreeMap<u64, String>,
    /// Versions that came by the import folder.
    by_hand: BTreeSet<u64>,
    /// Where the alias is, and where it may be: a change that was sent but not answered.
    alias: Option<u64>,
    alias_asked: Option<u64>,
    jobs: Vec<String>,
    /// Runs that were begun of each job when the server was killed before the job's end was recorded.
    unfinished: BTreeMap<String, u64>,
    /// How often a kill hit a job that ran.
    interrupted: usize,
    uploads: BTreeMap<String, u64>,
    sent: u32,
}

fn job_request(corpus: &Value) -> Value {
    json!({"name": "trained", "corpus": corpus, "vocab_size": 8000, "aliases": ["live"]})
}

/// The digest of a run that nobody interrupts, and how long that took.
fn undisturbed(root: &Path) -> (String, Duration) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[("corpus_root", root.to_str().unwrap())]);
    let job = server.post("/train", &job_request(&json!({"files": ["words.txt"]}))).expect(202)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let done = server.ended(&job);
    assert_eq!(events(&server, &job).last().unwrap().0, "end");
    let result = &done["result"];
    let took = Duration::from_secs_f64(result["seconds"].as_f64().unwrap());
    (result["vocab"]["digest"].as_str().unwrap().to_owned(), took)
}

/// Works on the server until it is gone.
fn work(server: &Server, kept: &Mutex<Acknowledged>, seed: u64, data: &Path) {
    std::thread::scope(|scope| {
        scope.spawn(|| put_by_hand(server, kept, data));
        scope.spawn(|| publish(server, kept));
        scope.spawn(|| move_alias(server, kept, seed));
        scope.spawn(|| upload(server, kept, seed));
    });
}

fn publish(server: &Server, kept: &Mutex<Acknowledged>) {
    let mut client = server.client();
    loop {
        let (query, file) = numbered(next(kept));
        let Ok(answer) = client.try_ask("POST", &format!("/vocabs?name=many&{query}"), "", &file) else {
            return;
        };
        let reply = answer.expect(201);
        let version = reply["vocab"]["version"].as_u64().unwrap();
        let digest = reply["vocab"]["digest"].as_str().unwrap().to_owned();
        let before = kept.lock().unwrap().versions.insert(version, digest);
        assert_eq!(before, None, "the number {version} was given twice");
    }
}

/// A file that lies in the import folder, with one sidecar after the other.
fn put_by_hand(server: &Server, kept: &Mutex<Acknowledged>, data: &Path) {
    let mut client = server.client();
    let sidecar = tempfile::tempdir().unwrap().keep().join("sidecar");
    let import = data.join("import");
    std::fs::create_dir_all(&import).unwrap();
    if !import.join("byhand.tiktoken").exists() {
        std::fs::write(&sidecar, numbered(0).1).unwrap();
        std::fs::rename(&sidecar, import.join("byhand.tiktoken")).unwrap();
    }
    loop {
        let number = 1000 + next(kept);
        std::fs::write(&sidecar, format!("split = \"cl100k\"\nspecial = {{ \"<token>\" = {number} }}\n"))
            .unwrap();
        std::fs::rename(&sidecar, import.join("byhand.toml")).unwrap();
        let Ok(answer) = client.try_ask("POST", "/reload", "", b"") else { break };
        let report = answer.expect(200);
        assert_eq!(report["failed"], json!([]), "{report}");
        for loaded in report["loaded"].as_array().unwrap() {
            if let Some(version) = loaded.as_str().unwrap().strip_prefix("byhand@") {
                kept.lock().unwrap().by_hand.insert(version.parse().unwrap());
            }
        }
    }
    std::fs::remove_dir_all(sidecar.parent().unwrap()).unwrap();
}

/// A number that no vocabulary had yet.
fn next(kept: &Mutex<Acknowledged>) -> u32 {
    let mut kept = kept.lock().unwrap();
    kept.sent += 1;
    kept.sent
}

fn move_alias(server: &Server, kept: &Mutex<Acknowledged>, seed: u64) {
    let (mut client, mut random) = (server.client(), Random(seed | 1));
    loop {
        let version = {
            let mut kept = kept.lock().unwrap();
            let known: Vec<u64> = kept.versions.keys().copied().collect();
            if known.is_empty() {
                drop(kept);
                std::thread::sleep(Duration::from_millis(1));
                // The publisher may have found the server gone.
                if client.try_ask("GET", "/livez", "", b"").is_err() {
                    return;
                }
                continue;
            }
            let version = known[random.below(known.len() as u64) as usize];
            kept.alias_asked = Some(version);
            version
        };
        let body = json!({"version": version}).to_string();
        let Ok(answer) = client.try_ask("PUT", "/vocabs/many/aliases/live", "", body.as_bytes()) else {
            return;
        };
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        kept.lock().unwrap().alias = Some(version);
    }
}

fn upload(server: &Server, kept: &Mutex<Acknowledged>, seed: u64) {
    let (mut client, mut random) = (server.client(), Random(seed ^ 0x5bd1_e995));
    for number in 0.. {
        let bytes = vec![b'x'; random.below(3_000_000) as usize + 1];
        let id = format!("{seed:x}-{number}");
        let Ok(answer) = client.try_ask("PUT", &format!("/uploads/{id}"), "", &bytes) else { return };
        answer.expect(201);
        kept.lock().unwrap().uploads.insert(id, bytes.len() as u64);
    }
}

/// Everything acknowledged is there as it was.
fn check(server: &Server, kept: &mut Acknowledged) {
    let health = server.get("/health");
    assert_eq!(health["failed"], json!([]));
    let vocabs = server.get("/vocabs");
    // There may be one of which nothing was acknowledged yet.
    let named = |name: &str| vocabs["vocabs"].as_array().unwrap().iter().find(|vocab| vocab["name"] == name);
    let versions = |name: &str| -> BTreeMap<u64, String> {
        named(name).into_iter().flat_map(|vocab| vocab["versions"].as_array().unwrap()).map(version).collect()
    };
    let (many, found, by_hand) = (named("many"), versions("many"), versions("byhand"));
    let lost: Vec<u64> = kept.by_hand.iter().filter(|known| !by_hand.contains_key(known)).copied().collect();
    assert_eq!(lost, [] as [u64; 0], "lost of the import folder");
    kept.by_hand.extend(by_hand.keys());
    for (version, digest) in &kept.versions {
        assert_eq!(found.get(version), Some(digest), "version {version}");
    }
    // In each life of the server one at most is published and not acknowledged. It is whole as well.
    assert!(found.len() <= kept.versions.len() + 1, "{found:?}");
    kept.versions.extend(found);
    let at = many.and_then(|many| many["aliases"]["live"].as_u64());
    assert!(at == kept.alias || at == kept.alias_asked, "{at:?}: {:?}, {:?}", kept.alias, kept.alias_asked);
    (kept.alias, kept.alias_asked) = (at, at);
    for (id, bytes) in &kept.uploads {
        assert_eq!(server.get(&format!("/uploads/{id}"))["bytes"], *bytes);
    }
    let jobs: Vec<String> = server.get("/train")["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            assert!(matches!(job["state"].as_str().unwrap(), "queued" | "running" | "succeeded"), "{job}");
            job["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(kept.jobs.iter().all(|job| jobs.contains(job)), "{:?} in {jobs:?}", kept.jobs);
}

/// What the storage has of a job.
fn record(data: &Path, job: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data.join(format!("jobs/{job}.json"))).unwrap()).unwrap()
}

/// Which jobs the server left unfinished that was just killed. By their records: the next life may end a job before
/// anybody can ask for it.
fn look_at_jobs(data: &Path, kept: &mut Acknowledged) {
    for job in &kept.jobs {
        let record = record(data, job);
        let state = record["state"].as_str().unwrap();
        assert!(matches!(state, "queued" | "running" | "succeeded"), "{record}");
        if state != "succeeded" {
            kept.unfinished.insert(job.clone(), record["starts"].as_u64().unwrap());
            kept.interrupted += usize::from(state == "running");
        }
    }
}

fn version(facts: &Value) -> (u64, String) {
    (facts["version"].as_u64().unwrap(), facts["digest"].as_str().unwrap().to_owned())
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_or_torn() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let words = random_words(7, 1_000_000);
    std::fs::write(root.path().join("words.txt"), &words).unwrap();
    let (digest, took) = undisturbed(root.path());
    let settings = [("corpus_root", root.path().to_str().unwrap())];

    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let rounds = size("KILLS", 10);
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let kept = Mutex::new(Acknowledged::default());
    for round in 0..rounds + MORE_ROUNDS {
        if round >= rounds && kept.lock().unwrap().interrupted > 0 {
            break;
        }
        let server = Server::start_with(data.path(), &settings);
        // Jobs that begin again write their records: what stays is litter.
        wait_for_no_litter(data.path());
        check(&server, &mut kept.lock().unwrap());
        if round == 0 {
            server.ask("PUT", "/uploads/words", &words).expect(201);
            kept.lock().unwrap().uploads.insert("words".to_owned(), words.len() as u64);
        }
        let jobs = kept.lock().unwrap().jobs.clone();
        let unfinished: Vec<&String> =
            jobs.iter().filter(|job| record(data.path(), job)["state"] != "succeeded").collect();
        let is_stuck = |job: &&String| record(data.path(), job)["stuck"].as_u64().unwrap() >= MOST_STUCK;
        if unfinished.len() >= MOST_UNFINISHED || unfinished.iter().any(is_stuck) {
            unfinished.iter().for_each(|job| assert_eq!(server.ended(job)["state"], "succeeded"));
        }
        let starts_job = round % 3 == 0 || round >= rounds;
        if starts_job {
            let corpora = [json!({"files": ["words.txt"]}), json!({"upload": "words"})];
            let job = server.post("/train", &job_request(&corpora[(round / 3 % 2) as usize])).expect(202);
            kept.lock().unwrap().jobs.push(job["id"].as_str().unwrap().to_owned());
        }
        // Within the time that the job needs at least; else at any time.
        let longest = if starts_job { took } else { Duration::from_millis(600) };
        let pause = Duration::from_micros(random.below(longest.as_micros().max(1) as u64));
        let seed = random.below(u64::MAX);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| work(&server, &kept, seed, data.path()));
            // Not before anything at all was acknowledged: the test would prove nothing.
            if !starts_job {
                wait_for("a version", || (!kept.lock().unwrap().versions.is_empty()).then_some(()));
            }
            std::thread::sleep(pause);
            server.signal(rustix::process::Signal::KILL);
            working.join().unwrap();
        });
        server.kill();
        look_at_jobs(data.path(), &mut kept.lock().unwrap());
    }

    let server = Server::start_with(data.path(), &settings);
    let kept = &mut kept.lock().unwrap();
    check(&server, kept);
    assert!(!kept.versions.is_empty() && !kept.uploads.is_empty(), "nothing was acknowledged in all rounds");
    assert!(kept.interrupted > 0, "in all rounds every job had ended before the kill, or had not begun");
    for job in &kept.jobs {
        let done = server.ended(job);
        assert_eq!(done["state"], "succeeded", "{done}");
        assert_eq!(done["result"]["vocab"], json!({"name": "trained", "version": 1, "digest": digest}));
    }
    for (job, starts) in &kept.unfinished {
        let record = record(data.path(), job);
        assert!(
            record["starts"].as_u64().unwrap() > *starts,
            "not run again after {starts} starts: {record}"
        );
    }
    assert_eq!(server.get("/vocabs/trained@live")["digest"], digest);
    // Read from the disk and not from what is remembered: whole, each of them.
    for (version, digest) in &kept.versions {
        let encoded = server.encode(&format!("many@{version}"), "abc");
        assert_eq!((&encoded["ids"], &encoded["vocab"]["digest"]), (&json!([97, 98, 99]), &json!(digest)));
    }
    for version in &kept.by_hand {
        assert_eq!(server.encode(&format!("byhand@{version}"), "abc")["ids"], json!([97, 98, 99]));
    }
    let report = server.ask("POST", "/reload", b"").expect(200);
    assert_eq!((&report["loaded"], &report["failed"]), (&json!([]), &json!([])));
    wait_for_no_litter(data.path());
    println!(
        "{rounds} kills: {} versions, {} of the import folder, {} uploads, {} jobs survived; jobs were interrupted {} times",
        kept.versions.len(),
        kept.by_hand.len(),
        kept.uploads.len(),
        kept.jobs.len(),
        kept.interrupted
    );
    server.stop();
}
