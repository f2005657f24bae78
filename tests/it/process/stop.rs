//! Orderly ends: what is open finishes, what is running is kept for the next start.

use super::{Server, http, random_words, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection whose request lacks the last part of its body, and that part.
fn half_a_request(server: &Server) -> (TcpStream, Vec<u8>) {
    let body = json!({"text": "the end of it comes later"}).to_string().into_bytes();
    let head = format!("POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let (sent, rest) = body.split_at(5);
    let stream = http::connect(server.address, &[head.as_bytes(), sent].concat());
    // So that the server has seen it before the signal comes.
    wait_for("the open request", || {
        let metrics = server.ask("GET", "/metrics", b"").text();
        metrics.contains("vocabd_http_requests_in_flight 2").then_some(())
    });
    (stream, rest.to_vec())
}

/// Nobody is let in, or told that nobody should be sent here.
fn turned_away(server: &Server) -> bool {
    match server.client().try_ask("GET", "/readyz", "", b"") {
        Ok(answer) => answer.status == 503,
        Err(error) => {
            let kind = error.kind();
            assert!(
                matches!(
                    kind,
                    ErrorKind::ConnectionRefused
                        | ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::BrokenPipe
                        | ErrorKind::UnexpectedEof
                ),
                "{error}"
            );
            true
        }
    }
}

#[test]
fn an_open_request_is_answered_before_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let data = tempfile::tempdir().unwrap();
        let mut server = Server::start(data.path());
        let (mut open, rest) = half_a_request(&server);
        let mut kept = server.client();
        kept.ask("GET", "/livez", b"").expect(200);

        server.signal(signal);
        wait_for("the refusal of new requests", || turned_away(&server).then_some(()));
        std::thread::sleep(Duration::from_millis(300));
        open.write_all(&rest).unwrap();
        let answer = http::read_answer(&mut BufReader::new(open)).unwrap();
        assert!(answer.expect(200)["count"].as_u64().unwrap() > 0);
        assert_eq!(answer.header("connection"), Some("close"));
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

/// A job that runs, and would for much longer than a test.
fn long_job(server: &Server, data: &Path) -> String {
    let text = String::from_utf8(random_words(2, 6_000_000)).unwrap();
    let request =
        json!({"name": "long", "corpus": {"texts": [text]}, "vocab_size": 200_000, "min_frequency": 1});
    let id = server.post("/train", &request).expect(202)["id"].as_str().unwrap().to_owned();
    wait_for("the start of the job", || (record(data, &id)["starts"] == 1).then_some(()));
    id
}

/// What the data directory has of a job.
fn record(data: &Path, job: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data.join(format!("jobs/{job}.json"))).unwrap()).unwrap()
}

#[test]
fn nothing_that_is_stuck_outlasts_the_time_to_end() {
    let data = tempfile::tempdir().unwrap();
    // Connections are taken there and nothing else.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let settings = [("drain_seconds", "1"), ("otlp_endpoint", &endpoint), ("otlp_sample_percent", "100")];
    let mut server = Server::start_with(data.path(), &settings);
    long_job(&server, data.path());
    let (_open, _) = half_a_request(&server);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let took = begun.elapsed();
    // Three seconds after the drain, as is promised, and some for a machine that does other things.
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(7), "{took:?}\n{log}");
}

#[test]
fn a_job_is_told_with_the_signal_and_not_after_the_drain() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(data.path(), &[("drain_seconds", "100")]);
    let job = long_job(&server, data.path());
    let (mut open, rest) = half_a_request(&server);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    // It stopped when it was told to, so that this start counts as none.
    wait_for("the end of the job's work", || (record(data.path(), &job)["starts"] == 0).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    open.write_all(&rest).unwrap();
    http::read_answer(&mut BufReader::new(open)).unwrap().expect(200);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(record(data.path(), &job)["state"], "running");
}

#[test]
fn a_second_signal_ends_at_once() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(data.path(), &[("drain_seconds", "100")]);
    let (_open, _) = half_a_request(&server);
    server.signal(Signal::TERM);
    wait_for("the first signal", || server.log().contains("shutting down").then_some(()));
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(50), "{log}");
}

#[test]
fn a_running_job_waits_for_the_next_start() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("words.txt"), random_words(1, 6_000_000)).unwrap();
    let settings =
        [("corpus_root", root.path().to_str().unwrap()), ("train_threads", "1"), ("drain_seconds", "100")];
    let mut server = Server::start_with(data.path(), &settings);
    // So many merges that a quick machine is not through with them before the signal comes.
    let request = |name: &str| json!({"name": name, "corpus": {"files": ["words.txt"]}, "vocab_size": 200_000, "min_frequency": 1});
    let ids: Vec<String> = ["running", "waiting"]
        .map(|name| server.post("/train", &request(name)).expect(202)["id"].as_str().unwrap().to_owned())
        .into();
    let follower = http::connect(
        server.address,
        format!("GET /train/{}/events HTTP/1.1\r\nHost: localhost\r\n\r\n", ids[0]).as_bytes(),
    );
    wait_for("merges", || {
        let job = server.get(&format!("/train/{}", ids[0]));
        assert!(matches!(job["state"].as_str().unwrap(), "queued" | "running"), "ended too soon: {job}");
        (job["progress"]["merges_done"].as_u64().unwrap() > 0).then_some(())
    });

    let begun = Instant::now();
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    // Who watches the job does not hold up the end: that would take the time that open requests have.
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    drop(follower);
    let record = |id: &str| record(data.path(), id);
    // Nor does the job: it stopped when it was told to, so that this start counts as none.
    assert_eq!((&record(&ids[0])["state"], &record(&ids[0])["starts"]), (&json!("running"), &json!(0)));
    assert_eq!(record(&ids[1])["state"], "queued");

    let server = Server::start_with(data.path(), &settings);
    wait_for("the second run", || {
        let job = server.get(&format!("/train/{}", ids[0]));
        assert_ne!(job["state"], "failed", "{job}");
        (job["state"] == "running").then_some(())
    });
    let jobs = server.get("/train");
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2);
    for id in ids.iter().rev() {
        // How soon is the machine's affair: a job goes behind whatever else wants the processor.
        server.ask("POST", &format!("/train/{id}/cancel"), b"").expect(202);
        assert_eq!(server.ended(id)["state"], "cancelled");
    }
    server.stop();
}
