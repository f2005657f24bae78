//! The program as its users meet it: the binary in a process of its own, spoken to over TCP, by signals and by files.

mod backup;
mod crash;
mod demo;
mod disk;
mod greedy;
pub(crate) mod http;
mod keys;
mod linear;
mod load;
mod overload;
mod restarts;
mod resume;
mod secrets;
mod slow;
mod start;
mod stop;
mod swap;
mod tls;
mod traces;

use http::{Answer, Client};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything here may take before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How much of something a test does: `short`, unless `VOCABD_TEST_NAME` says more, as .ci/long does.
pub(crate) fn size(name: &str, short: u64) -> u64 {
    let set = std::env::var(format!("VOCABD_TEST_{name}")).ok();
    set.map_or(short, |set| set.parse().expect("a number"))
}

/// The program with nothing of the caller's environment: the one of this build, unless `VOCABD_TEST_BINARY` names another.
pub(crate) fn vocabd() -> Command {
    let other = std::env::var_os("VOCABD_TEST_BINARY");
    let mut command = Command::new(other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_vocabd").as_ref()));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Ends threads when dropped: a failed assertion must not leave them running under the scope that waits for them.
struct StopOnDrop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `data` on a free port.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with settings, as `VOCABD_*` variables.
    pub(crate) fn start_with(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::run(serve(vocabd(), data, settings))
    }

    /// Starts what `command` runs and waits until it listens.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut read = String::new();
        let address = loop {
            let start_of_line = read.len();
            if lines.read_line(&mut read).unwrap() == 0 {
                panic!("ended with {} before it listened:\n{read}", child.wait().unwrap());
            }
            let line: Value = serde_json::from_str(&read[start_of_line..]).unwrap_or_default();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        };
        let log = Arc::new(Mutex::new(read));
        let shared = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { child, address, log, log_reader: Some(log_reader) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// What of the process is in memory, in KiB.
    pub(crate) fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.client().ask(method, path, body)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, b"").expect(200)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, body.to_string().as_bytes())
    }

    pub(crate) fn encode(&self, vocab: &str, text: &str) -> Value {
        self.post("/encode", &json!({"text": text, "vocab": vocab})).expect(200)
    }

    /// Polls a job until it has ended.
    pub(crate) fn ended(&self, job: &str) -> Value {
        let mut client = self.client();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job = client.ask("GET", &format!("/train/{job}"), b"").expect(200);
            if !matches!(job["state"].as_str().unwrap(), "queued" | "running") {
                return job;
            }
            assert!(Instant::now() < deadline, "{job}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its log and how it ended.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        (status, self.log())
    }

    /// An orderly end, which must succeed.
    pub(crate) fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}:\n{log}");
        log
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a test tells what it saw there")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The message of a failed test is not complete without what the server had to say.
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log.lock().map(|log| log.clone()).unwrap_or_default());
        }
    }
}

/// Makes `command` a server on a free port.
pub(crate) fn serve(mut command: Command, data: &Path, settings: &[(&str, &str)]) -> Command {
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    command.envs(settings.iter().map(|(key, value)| (format!("VOCABD_{}", key.to_uppercase()), value)));
    command
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) fn finish(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs it until `done` answers something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A vocabulary of the 256 bytes and one special token, as a tiktoken file and the query that says the rest: each
/// number gives another one.
pub(crate) fn numbered(number: u32) -> (String, Vec<u8>) {
    use base64::Engine as _;
    let line = |byte: u8| {
        format!("{} {byte}\n", base64::engine::general_purpose::STANDARD.encode([byte])).into_bytes()
    };
    let query = format!("format=tiktoken&split=cl100k&special=%3Ctoken%3E%3D{}", 1000 + number);
    (query, (0..=255).flat_map(line).collect())
}

/// Waits until the store holds nothing that is half written: a running server may just be at it.
pub(crate) fn wait_for_no_litter(data: &Path) {
    wait_for("a store without litter", || litter(data).is_empty().then_some(()));
}

/// Staging files and parts of uploads in a data directory.
fn litter(data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // What a running server has removed meanwhile was no folder.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if name.contains('#') || name.starts_with('.') {
                found.push(name);
            }
        }
    }
    found
}

/// Numbers from a seed that the test prints: xorshift64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Text of words of random letters: so many distinct ones that training on it takes a while.
pub(crate) fn random_words(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = Vec::with_capacity(bytes);
    while text.len() < bytes {
        for _ in 0..random.below(8) + 3 {
            text.push(b'a' + random.below(26) as u8);
        }
        text.push(b' ');
    }
    text
}

/// Reads a stream of server-sent events to its end: name and data of each.
pub(crate) fn events(server: &Server, job: &str) -> Vec<(String, Value)> {
    // HTTP/1.0 has no chunks: the events come as they are, and the stream ends with the connection.
    let head = format!("GET /train/{job}/events HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut text = String::new();
    http::connect(server.address, head.as_bytes()).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("200") && head.to_lowercase().contains("text/event-stream"), "{head}");
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let blocks = body.split("\n\n").filter(|block| field(block, "event:").is_some());
    blocks
        .map(|block| {
            let data = field(block, "data:").unwrap();
            (field(block, "event:").unwrap(), serde_json::from_str(&data).unwrap())
        })
        .collect()
}
