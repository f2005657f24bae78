//! kill -9 in the middle of a job: the next life goes on from what was kept, and ends with the same bytes.

use super::{Random, Server, size};
use crate::support::skewed_text;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

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
        let mut interrupted = 0;
        for _ in 0..kills() {
            let share = random.below(1000) as f64 / 1000.0 * latest;
            std::thread::sleep(Duration::from_secs_f64(took * share));
            let view = server.get(&format!("/train/{job}"));
            interrupted += u32::from(view["state"] == "running");
            server.kill();
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
    let merging = |server: &Server, least: u64| {
        super::wait_for("merging", || {
            let view = server.get(&format!("/train/{job}"));
            let merged = view["progress"]["merges_done"].as_u64().unwrap();
            let ended = view["state"] != "running" && view["state"] != "queued";
            (merged > least || ended).then_some(merged)
        })
    };
    assert!(merging(&server, 1000) > 0);
    server.kill();
    let whole = || std::fs::metadata(data.path().join("scratch").join(&job).join("whole"));
    let counted = whole().and_then(|meta| meta.modified()).ok();
    let server = start(data.path(), root.path());
    merging(&server, 0);
    // Where the job has ended meanwhile, its folder is gone.
    if let (Some(before), Ok(now)) = (counted, whole().and_then(|meta| meta.modified())) {
        assert_eq!(before, now, "the corpus was counted again");
    }
    let done = server.ended(&job);
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(done["result"]["merges"], 8000);
    server.stop();
}
