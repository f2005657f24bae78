//! Clients that take their time, by the thousand: those that do not hardly notice.

use super::load::{Sets, Times, steadily};
use super::{Server, serve, size, vocabd};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What a slow client does, by its number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Sends a head that never ends, a byte at a time.
    Head,
    /// Sends a body that never ends, a byte at a time.
    Body,
    /// Asks for much and reads next to nothing of it.
    Reader,
    /// Says nothing at all.
    Silent,
}

const KINDS: [Kind; 4] = [Kind::Head, Kind::Body, Kind::Reader, Kind::Silent];

struct Slow {
    kind: Kind,
    stream: Option<TcpStream>,
}

impl Slow {
    fn connect(&mut self, address: SocketAddr, large: &[u8]) {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let begin: &[u8] = match self.kind {
            Kind::Head => b"POST /encode HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            Kind::Body => b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
            Kind::Reader => large,
            Kind::Silent => b"",
        };
        if stream.write_all(begin).is_ok() && stream.set_nonblocking(true).is_ok() {
            self.stream = Some(stream);
        }
    }

    /// A byte more; whether the connection is still open.
    fn go_on(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let outcome = match self.kind {
            Kind::Head | Kind::Body => stream.write(b"x"),
            Kind::Reader | Kind::Silent => match stream.read(&mut [0; 1]) {
                Ok(0) => Err(ErrorKind::ConnectionReset.into()),
                outcome => outcome,
            },
        };
        let open = outcome.map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |_| true);
        if !open {
            self.stream = None;
        }
        open
    }
}

/// How often each of them does something: as seldom as tools that hold servers up do, which want to be cheap.
const EVERY: Duration = Duration::from_secs(5);

/// Those whose turn comes at once.
const TOGETHER: usize = 10;

/// Keeps so many slow connections open until it is told to stop. They come one after the other, as strangers do, and behind
/// everybody else where a processor is short: here it is the server that is looked at.
fn keep_open(address: SocketAddr, count: usize, open: &AtomicU64, opened: &AtomicU64, stop: &AtomicBool) {
    // Of this thread alone.
    let _ = rustix::process::nice(19);
    // An answer that is larger than what the kernel takes off the server's hands.
    let body = json!({"text": "a b c d ".repeat(20_000), "return": ["ids", "tokens", "offsets"]}).to_string();
    let head = "POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let large = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let mut slow: Vec<Slow> = (0..count).map(|n| Slow { kind: kind(n), stream: None }).collect();
    while !stop.load(SeqCst) {
        let round = Instant::now();
        for (nth, some) in slow.chunks_mut(TOGETHER).enumerate() {
            let due = EVERY.mul_f64((nth * TOGETHER) as f64 / count as f64);
            std::thread::sleep(due.saturating_sub(round.elapsed()));
            for one in some {
                if !one.go_on() {
                    one.connect(address, &large);
                    opened.fetch_add(1, SeqCst);
                }
            }
            if stop.load(SeqCst) {
                return;
            }
        }
        open.store(slow.iter().filter(|one| one.stream.is_some()).count() as u64, SeqCst);
    }
}

/// One in fifty reads slowly: each of those has an answer of megabytes made for it.
fn kind(number: usize) -> Kind {
    if number.is_multiple_of(50) { Kind::Reader } else { KINDS[[0, 1, 3][number % 3]] }
}

fn good(server: &Server, time: Duration) -> Times {
    let times = Times::default();
    steadily(server, "", time, &times);
    times
}

/// Seconds of processor time of a process so far.
fn worked(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[test]
fn slow_clients_by_the_thousand_cost_the_others_nothing() {
    let count = size("SLOW", 200) as usize;
    let long = count > 200;
    let data = tempfile::tempdir().unwrap();
    let settings = [("max_connections", "20000")];
    let server = Server::run(serve(vocabd(), data.path(), &settings));
    let time = Duration::from_secs(if long { 20 } else { 2 });
    let work = || [worked(server.id()), worked(std::process::id())];
    let shares = |before: [f64; 2], seconds: f64| {
        let [server, clients] = work();
        let share = |now: f64, before: f64| (now - before) / seconds * 100.0;
        format!(
            "{:.0} % of a processor, clients {:.0} %",
            share(server, before[0]),
            share(clients, before[1])
        )
    };
    let idle = (work(), Instant::now());
    let alone = good(&server, time);
    let alone_work = shares(idle.0, idle.1.elapsed().as_secs_f64());
    let before = server.resident_kb();
    let (open, opened, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (beside, during) = std::thread::scope(|scope| {
        scope.spawn(|| keep_open(server.address, count, &open, &opened, &stop));
        let _stops = Sets(&stop);
        super::wait_for("the slow ones", || (open.load(SeqCst) >= count as u64 * 9 / 10).then_some(()));
        let busy = (work(), Instant::now());
        let beside = good(&server, time);
        let busy = shares(busy.0, busy.1.elapsed().as_secs_f64());
        let during = (open.load(SeqCst), server.resident_kb(), busy);
        (beside, during)
    });
    println!(
        "{} slow connections open, {} opened: alone {} (server {alone_work}); beside them {} (server {}); resident {before} kB \
         before, {} kB beside them",
        during.0,
        opened.load(SeqCst),
        alone.summary(),
        beside.summary(),
        during.2,
        during.1
    );
    assert!(during.0 >= count as u64 * 9 / 10, "only {} slow connections were open", during.0);
    // The short form runs beside other tests: there only what is stuck is told from what is not.
    let (limit, at_least) = if long { (2, Duration::ZERO) } else { (10, Duration::from_millis(200)) };
    assert!(
        beside.per_mille(990) <= (alone.per_mille(990) * limit).max(at_least),
        "alone {}; beside them {}",
        alone.summary(),
        beside.summary()
    );
    server.stop();
}
