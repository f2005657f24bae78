//! kill -9 in the middle of a job: the next life goes on from what was kept, and ends with the same bytes.

use super::{Random, Server, events, random_words, size, wait_for};
use crate::support::skewed_text;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Lives in a row that keep nothing more, before one is let go on until it does: after three a job is given up.
const MOST_IDLE: usize = 2;

/// Lives of one job that end by a kill: after a hundred a job is given up.
fn kills() -> u64 {
    size("KILLS", 4).min(90)
}

fn request() -> Value {
    json!({"name": "killed", "corpus": {"files": ["words.txt"], "records": "lines"}, "num_merges": 8000,
        "min_frequency": 1})
}

/// Everything at once that a run may have to take up again.
fn request_of_all() -> Value {
    let words = json!({"files": ["words.txt"], "records": "lines", "sample": 0.7, "weight": 2.5});
    let others = json!({"files": ["others.txt"], "records": "paragraphs"});
    json!({"name": "extended", "base": "default", "corpus": {"sources": [words, others]}, "num_merges": 4000,
        "hold_back": 0.1, "prune_count": 2})
}

/// A server whose jobs keep all they can.
fn start(data: &Path, root: &Path) -> Server {
    let settings = [
        ("corpus_root", root.to_str().unwrap()),
        ("train_checkpoint_seconds", "0"),
        ("train_max_memory_bytes", "16777216"),
        ("train_threads", "1"),
        ("min_free_bytes", "0"),
    ];
    Server::start_with(data, &settings)
}

/// Words in lines of some 5000 bytes.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = skewed_text(bytes).into_bytes();
    text.iter_mut().skip(4999).step_by(5000).for_each(|byte| *byte = b'\n');
    text
}

/// What a job keeps in its folder.
fn kept(data: &Path, job: &str) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("scratch").join(job));
    entries.into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where the next life would begin: positions in the corpus, and merges.
fn position(data: &Path, job: &str) -> Vec<(String, Vec<u8>)> {
    let tells = |name: &String| matches!(name.as_str(), "facts" | "merges") || name.ends_with("-position");
    let folder = data.join("scratch").join(job);
    let mut files: Vec<_> = kept(data, job).into_iter().filter(tells).collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|name| std::fs::read(folder.join(&name)).ok().map(|was| (name, was)))
        .collect()
}

/// Merges that are kept: 28 bytes each, and 8 of a digest.
fn merges_kept(data: &Path, job: &str) -> u64 {
    let bytes = std::fs::metadata(data.join("scratch").join(job).join("merges")).map_or(0, |meta| meta.len());
    bytes.saturating_sub(8) / 28
}

fn merges_done(view: &Value) -> u64 {
    view["progress"]["merges_done"].as_u64().unwrap()
}

/// What the storage has of a job.
fn record(data: &Path, job: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data.join(format!("jobs/{job}.json"))).unwrap()).unwrap()
}

#[test]
fn a_job_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    killed_again_and_again(&request());
}

#[test]
fn an_extension_of_samples_with_weights_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    killed_again_and_again(&request_of_all());
}

fn killed_again_and_again(request: &Value) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("words.txt"), text(3_000_000)).unwrap();
    std::fs::write(root.path().join("others.txt"), "one more\n\nand one more\n").unwrap();
    let submitted =
        |server: &Server| server.post("/train", request).expect(202)["id"].as_str().unwrap().to_owned();

    let calm = tempfile::tempdir().unwrap();
    let server = start(calm.path(), root.path());
    let done = server.ended(&submitted(&server));
    let (digest, report) = ("/result/vocab/digest", "/result/report");
    let expect = [digest, report].map(|at| done.pointer(at).cloned());
    let took = done["result"]["seconds"].as_f64().unwrap();
    assert!(expect[0].is_some(), "{done}");
    server.stop();

    // A machine that was busy just now and is no longer has the job done before the first kill: then it is tried again, sooner.
    let mut random = Random(0x5eed);
    for latest in [0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02] {
        let data = tempfile::tempdir().unwrap();
        let mut server = start(data.path(), root.path());
        let job = submitted(&server);
        let (mut interrupted, mut idle, mut at, mut merges) = (0, 0, Vec::new(), 0);
        for _ in 0..kills() {
            let share = random.below(1000) as f64 / 1000.0 * latest;
            std::thread::sleep(Duration::from_secs_f64(took * share));
            let seen = || server.get(&format!("/train/{job}"));
            if idle == MOST_IDLE {
                let further = || position(data.path(), &job) != at || seen()["state"] == "succeeded";
                wait_for("something more that is kept", || further().then_some(()));
            }
            let view = seen();
            interrupted += u32::from(view["state"] == "running");
            let done = merges_done(&view);
            assert!(view["state"] != "running" || done == 0 || done >= merges, "{merges} were kept: {view}");
            server.kill();
            let now = position(data.path(), &job);
            (idle, merges) = (if now == at { idle + 1 } else { 0 }, merges_kept(data.path(), &job));
            at = now;
            server = start(data.path(), root.path());
        }
        let done = server.ended(&job);
        assert_eq!(done["state"], "succeeded", "{done}");
        assert_eq!([digest, report].map(|at| done.pointer(at).cloned()), expect, "{done}");
        assert!(kept(data.path(), &job).is_empty(), "{:?}", kept(data.path(), &job));
        server.stop();
        if interrupted > 0 {
            return;
        }
    }
    panic!("no kill met the job while it ran");
}

#[test]
fn the_next_life_counts_and_merges_only_what_was_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let text = text(2_000_000);
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), root.path());
    server.ask("PUT", "/uploads/words", &text).expect(201);
    // An upload: opening one changes its time, and it is the same one all the same.
    let mut request = request();
    request["corpus"] = json!({"upload": "words", "records": "lines"});
    let job = server.post("/train", &request).expect(202)["id"].as_str().unwrap().to_owned();
    wait_for("merges on the disk", || (merges_kept(data.path(), &job) >= 1000).then_some(()));
    server.kill();
    let kept = merges_kept(data.path(), &job);
    assert_eq!(record(data.path(), &job)["state"], "running", "it had ended before the kill");
    let server = start(data.path(), root.path());
    let events = events(&server, &job);
    // The curve begins with the merges that were there when merging began.
    let begun = events.iter().find_map(|(_, data)| data.pointer("/curve/0/merges")?.as_u64());
    assert_eq!(begun, Some(kept), "{events:?}");
    let (name, done) = events.last().unwrap();
    assert_eq!((name.as_str(), &done["state"]), ("end", &json!("succeeded")), "{done}");
    assert_eq!(done["progress"]["bytes_read"], 0, "the corpus was counted again: {done}");
    assert_eq!(done["result"]["merges"], 8000);
    server.stop();
}

#[test]
fn a_kill_costs_no_more_work_than_the_setting_says() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("words.txt"), random_words(11, 12_000_000)).unwrap();
    let request = json!({"name": "long", "corpus": {"files": ["words.txt"]}, "num_merges": 200_000,
        "min_frequency": 1});
    let setting = Duration::from_secs(1);
    let settings = [("corpus_root", root.path().to_str().unwrap()), ("train_checkpoint_seconds", "1")];
    let server = Server::start_with(data.path(), &settings);
    let job = server.post("/train", &request).expect(202)["id"].as_str().unwrap().to_owned();
    wait_for("merges on the disk", || (merges_kept(data.path(), &job) > 0).then_some(()));
    std::thread::sleep(setting / 2);
    server.kill();
    assert_eq!(record(data.path(), &job)["state"], "running", "it had ended before the kill");
    let merges = std::fs::metadata(data.path().join("scratch").join(&job).join("merges")).unwrap();
    // The rest is for a machine that has much to do.
    let age = merges.modified().unwrap().elapsed().unwrap();
    assert!(age < setting + Duration::from_secs(3), "{age:?}");
    let kept = merges_kept(data.path(), &job);
    let server = Server::start_with(data.path(), &settings);
    let view = wait_for("merging", || {
        let view = server.get(&format!("/train/{job}"));
        (view["state"] != "queued" && merges_done(&view) > 0).then_some(view)
    });
    assert!(merges_done(&view) >= kept, "{kept} were kept: {view}");
    assert_eq!(view["progress"]["bytes_read"], 0, "the corpus is counted again: {view}");
    server.ask("POST", &format!("/train/{job}/cancel"), b"").expect(202);
    server.ended(&job);
    server.stop();
}

/// As one does that takes all memory, at the same place each time.
#[test]
fn a_job_that_ends_the_process_and_gets_no_further_is_given_up_soon() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("words.txt"), random_words(13, 10_000_000)).unwrap();
    let request = json!({"name": "deadly", "corpus": {"files": ["words.txt"]}, "num_merges": 100_000});
    let settings = [("corpus_root", root.path().to_str().unwrap()), ("min_free_bytes", "0")];
    let mut server = Server::start_with(data.path(), &settings);
    let job = server.post("/train", &request).expect(202)["id"].as_str().unwrap().to_owned();
    for starts in 1..=3 {
        wait_for("a start", || (record(data.path(), &job)["starts"] == starts).then_some(()));
        server.kill();
        assert_eq!(record(data.path(), &job)["state"], "running");
        server = Server::start_with(data.path(), &settings);
    }
    let failed = server.get(&format!("/train/{job}"));
    assert_eq!(
        (&failed["state"], &failed["error"]["code"]),
        (&json!("failed"), &json!("crashed")),
        "{failed}"
    );
    let detail = "the process ended 3 times while the job ran, and each time at the same place";
    assert_eq!(failed["error"]["detail"], detail);
    server.stop();
}
