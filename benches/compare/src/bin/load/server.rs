//! A vocabd server as a child process with a data directory of its own; both are gone when their values are.

use crate::{Args, Failure, stem};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// After this a server that does not become ready is given up.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A new directory under the system's directory for such things.
pub struct DataDir(PathBuf);

impl DataDir {
    pub fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vocabd-load-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that is ready.
pub struct Server {
    child: Child,
    pub port: u16,
    /// From exec (of taskset, which becomes the server) to the first 200 of /readyz.
    pub ready_ms: f64,
}

impl Server {
    pub fn start(args: &Args, data: &DataDir) -> Result<Self, Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &args.server_cores]).arg(&args.vocabd).arg("serve");
        if let Some(file) = &args.vocab {
            import(args, data)?;
            command.env("VOCABD_DEFAULT_VOCAB", stem(file));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        command.arg("--data-dir").arg(&data.0).args(["--listen", &format!("127.0.0.1:{port}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let mut server = Self { child: command.spawn()?, port, ready_ms: 0.0 };
        while !is_ready(port) {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("the server ended with {status} before it was ready").into());
            }
            if started.elapsed() > READY_LIMIT {
                return Err("the server did not become ready in time".into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        server.ready_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(server)
    }

    /// A field of the server's status that is given in kB, in MB (10^6 bytes).
    pub fn status_mb(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kb.unwrap_or(f64::NAN) * 1024.0 / 1e6
    }

    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts the vocabulary into the data directory, unless it is there.
fn import(args: &Args, data: &DataDir) -> Result<(), Failure> {
    let Some(file) = &args.vocab else { return Ok(()) };
    let mut command = Command::new(&args.vocabd);
    command.arg("import").arg(stem(file)).arg(file).arg("--data-dir").arg(&data.0);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("`vocabd import` ended with {status}").into()) }
}

fn is_ready(port: u16) -> bool {
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    });
    asked.unwrap_or(false)
}

/// Seconds of processor time that a process has used, in steps of 10 ms.
pub fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is a name in brackets that may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}
