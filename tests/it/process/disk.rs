//! Storage that refuses: no file may grow, or nothing may be written at all. The server goes on.

use super::{Server, finish, numbered, random_words, serve, vocabd, wait_for_no_litter};
use crate::data;
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// The program under a limit on the size of every file that it writes.
fn limited(kilobytes: u32) -> Command {
    let mut command = Command::new("sh");
    // The unit of `ulimit -f` is 512 bytes in POSIX and 1024 in bash.
    let script =
        "if [ -n \"$BASH_VERSION\" ]; then ulimit -f $0; else ulimit -f $(($0 * 2)); fi; exec \"$@\"";
    command.env_clear().args(["-c", script, &kilobytes.to_string()]).arg(vocabd().get_program());
    command
}

#[test]
fn a_full_disk_is_507_and_the_server_goes_on() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("words.txt"), random_words(3, 1_000_000)).unwrap();
    Server::start(data.path()).stop(); // The default vocabulary is in its place.
    let settings = [("corpus_root", root.path().to_str().unwrap())];
    let server = Server::run(serve(limited(100), data.path(), &settings));

    let file = data::local("vocabs/cl100k_base.tiktoken");
    for _ in 0..2 {
        let refused = server.ask("POST", "/vocabs?name=big", &file);
        assert_eq!(refused.expect(507)["code"], "storage_full");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        let unknown = server.post("/encode", &json!({"text": "a", "vocab": "big"}));
        assert_eq!(unknown.expect(404)["code"], "unknown_vocab");
    }
    let refused = server.ask("PUT", "/uploads/big", &vec![b'x'; 3_000_000]);
    assert_eq!(refused.expect(507)["code"], "storage_full");
    server.ask("GET", "/uploads/big", b"").expect(404);

    let job =
        json!({"name": "big", "corpus": {"files": ["words.txt"]}, "vocab_size": 20_000, "min_frequency": 1});
    let job = server.post("/train", &job).expect(202)["id"].as_str().unwrap().to_owned();
    let failed = server.ended(&job);
    assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("storage_failed")));

    // What fits is taken, and what was there is served.
    let (query, small) = numbered(1);
    server.ask("POST", &format!("/vocabs?name=small&{query}"), &small).expect(201);
    let body = json!({"version": 1}).to_string();
    server.ask("PUT", "/vocabs/small/aliases/live", body.as_bytes()).expect(201);
    assert_eq!(server.encode("small@live", "ab")["ids"], json!([97, 98]));
    assert!(server.encode("default", "still here")["count"].as_u64().unwrap() > 0);
    assert_eq!(server.get("/health")["status"], "ok");
    wait_for_no_litter(data.path());
    let names = |server: &Server| -> Vec<String> {
        let listed = server.get("/vocabs");
        let vocabs = listed["vocabs"].as_array().unwrap();
        vocabs.iter().map(|vocab| vocab["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&server), ["default", "small"]);
    server.stop();

    // With room again everything works.
    let server = Server::start(data.path());
    assert_eq!(names(&server), ["default", "small"]);
    server.ask("POST", "/vocabs?name=big", &file).expect(201);
    server.stop();
}

/// The counts of a job go to the disk, where they do not fit: it fails and says so, its files are gone, and a job that needs no
/// disk is run. So does one whose checkpoints do not fit.
#[test]
fn a_job_whose_counts_do_not_fit_on_the_disk_fails_alone() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("words.txt"), random_words(5, 3_000_000)).unwrap();
    Server::start(data.path()).stop();
    let root = root.path().to_str().unwrap();
    let settings = [("corpus_root", root), ("train_max_memory_bytes", "6291456")];
    let server = Server::run(serve(limited(200), data.path(), &settings));
    let job = |name: &str, size: u32| {
        let corpus = json!({"files": ["words.txt"], "records": "lines"});
        let job = server.post("/train", &json!({"name": name, "corpus": corpus, "vocab_size": size}));
        server.ended(job.expect(202)["id"].as_str().unwrap())
    };
    let failed = job("big", 1000);
    assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("storage_failed")));
    wait_for_no_litter(data.path());
    server.ask("GET", "/vocabs/big", b"").expect(404);
    let small = json!({"name": "small", "corpus": {"texts": ["low lower lowest"]}, "vocab_size": 262});
    let small = server.post("/train", &small).expect(202)["id"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&small)["state"], "succeeded");
    server.stop();

    let settings = [("corpus_root", root), ("train_checkpoint_seconds", "0")];
    let server = Server::run(serve(limited(40), data.path(), &settings));
    let job =
        json!({"name": "big", "corpus": {"files": ["words.txt"]}, "vocab_size": 600, "min_frequency": 1});
    let job = server.post("/train", &job).expect(202)["id"].as_str().unwrap().to_owned();
    let failed = server.ended(&job);
    assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("storage_failed")));
    wait_for_no_litter(data.path());
    server.stop();
}

/// A first start on such a disk: the default vocabulary is served from memory.
#[test]
fn a_server_that_cannot_keep_its_default_vocabulary_serves_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::run(serve(limited(100), data.path(), &[]));
    assert_eq!(server.get("/readyz")["status"], "ok");
    assert!(server.encode("default", "still here")["count"].as_u64().unwrap() > 0);
    assert!(server.log().contains("served from memory"), "{}", server.log());
    wait_for_no_litter(data.path());
    server.stop();
}

/// The command line keeps to it as well: an error, and no torn file.
#[test]
fn commands_say_that_the_disk_is_full() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| {
        let mut command = limited(100);
        command.arg("--data-dir").arg(data.path()).args(args);
        let (code, _, err) = finish(command);
        assert_eq!(code, Some(1), "{args:?}: {err}");
        assert!(err.starts_with("vocabd: ") && err.trim_end().lines().count() == 1, "{args:?}: {err}");
        err
    };
    let file = out.path().join("default.vocabd");
    std::fs::write(&file, "before").unwrap();
    let path = file.to_str().unwrap();
    let err = run(&["export", "default", "--format", "native", "-o", path]);
    assert!(err.contains(path) && err.contains("too large"), "{err}");
    assert_eq!(std::fs::read(&file).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);

    std::fs::write(&file, data::local("vocabs/cl100k_base.tiktoken")).unwrap();
    let err = run(&["import", "big", path]);
    assert!(err.contains("the storage is full"), "{err}");
    wait_for_no_litter(data.path());
}

/// A folder of the kernel is one that not even root can write.
#[cfg(target_os = "linux")]
#[test]
fn a_data_directory_that_is_read_only_is_served_from() {
    let server = Server::start(Path::new("/proc/self/task"));
    assert!(server.encode("default", "still here")["count"].as_u64().unwrap() > 0);
    let (query, file) = numbered(1);
    let refusals = [
        server.ask("POST", &format!("/vocabs?name=new&{query}"), &file),
        server.ask("PUT", "/uploads/new", b"abc"),
        server.ask("PUT", "/vocabs/default/aliases/live", br#"{"version": 1}"#),
        server.post("/train", &json!({"name": "new", "corpus": {"texts": ["a a"]}, "vocab_size": 300})),
    ];
    for refused in refusals {
        let problem = refused.expect(refused.status);
        assert!(matches!(refused.status, 503 | 507), "{problem}");
        assert!(problem["code"].as_str().unwrap().starts_with("storage_"), "{problem}");
    }
    assert_eq!(server.get("/readyz")["status"], "ok");
    server.stop();
}
