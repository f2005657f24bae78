//! Texts that are meant to take for ever take as long as they are long, and not much longer than any other.
//!
//! Time is that of the server's processor, reading the body included, so that what else the machine does is left out.

use super::{Server, size};
use crate::data;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A kind of text: so many bytes of it, or hardly fewer. What is random in it is so by the seed, another one each time, as
/// what came before is remembered.
type Family = (&'static str, fn(usize, u64) -> Vec<u8>);

const FAMILIES: [Family; 14] = [
    ("one letter", |bytes, _| vec![b'a'; bytes]),
    ("spaces", |bytes, _| vec![b' '; bytes]),
    ("digits", |bytes, _| (0..bytes).map(|n| b'0' + (n * n % 10) as u8).collect()),
    ("combining marks", |bytes, _| format!("e{}", "\u{301}".repeat(bytes / 2 - 1)).into_bytes()),
    ("joined emoji", |bytes, _| "👨\u{200d}👩\u{200d}👧\u{200d}👦\u{200d}".repeat(bytes / 28).into_bytes()),
    ("han without a cut", |bytes, seed| chars(bytes / 3, seed, |n| 0x4e00 + n % 0x5000)),
    ("line ends", |bytes, _| b"\r\n".repeat(bytes / 2)),
    ("apostrophes", |bytes, _| vec![b'\''; bytes]),
    ("base64", |bytes, seed| {
        let letter =
            |n: u64| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(n % 64) as usize];
        let mut random = super::Random(seed);
        (0..bytes).map(|_| letter(random.below(64))).collect()
    }),
    ("letters without a space", |bytes, seed| {
        let mut random = super::Random(seed);
        (0..bytes).map(|_| b'a' + random.below(26) as u8).collect()
    }),
    ("scripts in turn", |bytes, _| "aяب中อ".repeat(bytes / 11).into_bytes()),
    ("almost special", |bytes, _| "<|endoftext<|im_start<s<bos><|fim_".repeat(bytes / 34).into_bytes()),
    ("jamo", |bytes, _| "\u{1100}\u{1161}\u{11a8}".repeat(bytes / 9).into_bytes()),
    ("no text", |bytes, _| b"\xff\xc0a\xed\xa0\x80".repeat(bytes / 6)),
];

fn chars(count: usize, seed: u64, code: impl Fn(u32) -> u32) -> Vec<u8> {
    let mut random = super::Random(seed);
    let each = (0..count).filter_map(|_| char::from_u32(code(random.below(1 << 30) as u32)));
    each.collect::<String>().into_bytes()
}

/// Vocabularies, one or more of a family, and their files.
#[rustfmt::skip]
const VOCABS: [(&str, &[&str]); 16] = [
    ("cl100k_base", &["cl100k_base.tiktoken"]),
    ("o200k_base", &["o200k_base.tiktoken"]),
    ("r50k_base", &["r50k_base.tiktoken"]),
    ("gpt2", &["gpt2.vocab.bpe", "gpt2.encoder.json"]),
    ("qwen", &["qwen.tiktoken"]),
    ("qwen2.5", &["qwen2.5.tokenizer.json"]),
    ("deepseek-v3", &["deepseek-v3.tokenizer.json"]),
    ("yi", &["yi.tokenizer.json"]),
    ("mistral-nemo", &["mistral-nemo.tokenizer.json"]),
    ("tekken", &["tekken_240718.json"]),
    ("mistral-v1", &["mistral-v1.tokenizer.model"]),
    ("mistral-v1-hf", &["mistral-v1-hf.tokenizer.json"]),
    ("llama3", &["llama3.tokenizer.json"]),
    ("llama3-tiktoken", &["llama3.tokenizer.model"]),
    ("llama2", &["llama2.tokenizer.json"]),
    ("gemma3", &["gemma3.tokenizer.json"]),
];

/// Puts what there is of the vocabularies into the import folder; their names.
fn import(data: &Path) -> Vec<&'static str> {
    let mut names = vec!["default"];
    for (name, files) in VOCABS {
        let read = |file: &&str| {
            let shared = std::env::var_os("SHARED_DATA_DIR").map(std::path::PathBuf::from);
            let there = shared.and_then(|root| std::fs::read(root.join("vocabs").join(file)).ok());
            there.or_else(|| data::restricted(file))
        };
        let Some(found) = files.iter().map(read).collect::<Option<Vec<_>>>() else { continue };
        let folder = data.join("import").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, bytes) in files.iter().zip(found) {
            std::fs::write(folder.join(file), bytes).unwrap();
        }
        names.push(name);
    }
    names
}

/// Nanoseconds that each of the server's threads was on a processor.
fn threads(server: &Server) -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let time = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.ok()?;
        let told = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name().into_string().ok()?, told.split(' ').next()?.parse().ok()?))
    };
    tasks.filter_map(time).collect()
}

/// What they did since; `None` if one has ended meanwhile, which takes its time with it.
fn spent(server: &Server, before: &BTreeMap<String, u64>) -> Option<u64> {
    let now = threads(server);
    before
        .keys()
        .all(|thread| now.contains_key(thread))
        .then(|| now.values().sum::<u64>() - before.values().sum::<u64>())
}

/// The same of the whole process, with threads that have ended, in steps of some milliseconds.
fn processor_time(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The least time that counting took of so many texts, in nanoseconds.
fn count(server: &Server, path: &str, tries: usize, text: impl Fn(u64) -> Vec<u8>) -> u64 {
    let mut client = server.client();
    let mut seed = 0x5eed;
    let mut once = || {
        seed += 1;
        let text = text(seed);
        let before = threads(server);
        let answer = client.try_ask("POST", path, "Content-Type: text/plain\r\n", &text).unwrap();
        let is_text = std::str::from_utf8(&text).is_ok();
        assert_eq!(answer.status == 200, is_text, "{}", answer.text());
        spent(server, &before)
    };
    std::iter::repeat_with(&mut once).flatten().take(tries).min().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn hostile_texts_take_linear_time_with_every_vocabulary() {
    let most = size("LINEAR_KIB", 0) as usize * 1024;
    let long = most > 0;
    let (least, most) = if long { (64 << 10, most) } else { (64 << 10, 256 << 10) };
    // What is quadratic takes 4 times as long. The short form runs beside other tests.
    let (most_ratio, least_speed) = if long { (2.3, 0.1) } else { (3.5, 0.03) };
    let data = tempfile::tempdir().unwrap();
    let names = if long { import(data.path()) } else { vec!["default"] };
    let settings = [
        ("max_body_bytes", "33554432"),
        ("max_bytes_in_flight", "1073741824"),
        ("max_resident_bytes", "17179869184"),
    ];
    let server = Server::start_with(data.path(), &settings);
    let failed = server.get("/health")["failed"].clone();
    assert_eq!(failed, serde_json::json!([]));
    let normal = data::shared_or_local("corpora/en.txt").unwrap();
    let normal = &normal[..normal.len().min(1 << 20)];
    let end = (0..4).map(|back| normal.len() - back).find(|end| std::str::from_utf8(&normal[..*end]).is_ok());
    let normal = &normal[..end.unwrap()];

    let (mut worst_ratio, mut worst_speed) = ((0.0, String::new()), (f64::MAX, String::new()));
    let mut failures = Vec::new();
    for vocab in &names {
        let path = format!("/count?vocab={vocab}");
        // Its tables are made beside the first texts.
        count(&server, &path, 2, |_| normal.to_vec());
        std::thread::sleep(Duration::from_millis(if long { 2000 } else { 200 }));
        let usual = count(&server, &path, 3, |_| normal.to_vec()) as f64 / normal.len() as f64;
        for (family, text) in FAMILIES {
            let path =
                if family == "almost special" { format!("{path}&special=parse") } else { path.clone() };
            let (mut bytes, mut before, mut per_byte) = (least, None, 0.0);
            while bytes <= most {
                let tries = if bytes <= 1 << 20 { 5 } else { 2 };
                let took = count(&server, &path, tries, |seed| text(bytes, seed)) as f64;
                if let Some(before) = before {
                    let ratio: f64 = took / before;
                    let what = format!("{vocab}, {family}, {bytes} bytes");
                    // Below a millisecond it is the request that is measured.
                    if took > 1e6 && ratio > most_ratio {
                        failures.push(format!("{what}: {ratio:.2} times as long as half of it ({took} ns)"));
                    }
                    if took > 1e6 && ratio > worst_ratio.0 {
                        worst_ratio = (ratio, what);
                    }
                }
                (before, per_byte) = (Some(took), took / bytes as f64);
                bytes *= 2;
            }
            let speed = usual / per_byte;
            if speed < least_speed {
                failures.push(format!("{vocab}, {family}: {:.1} % of the usual speed", speed * 100.0));
            }
            if speed < worst_speed.0 {
                worst_speed = (speed, format!("{vocab}, {family}"));
            }
        }
    }
    println!(
        "{} vocabularies ({}), {} families, {} KiB doubled to {} KiB: at most {:.2} times as long ({}), at least {:.0} % of the usual speed ({})",
        names.len(),
        names.join(", "),
        FAMILIES.len(),
        least >> 10,
        most >> 10,
        worst_ratio.0,
        worst_ratio.1,
        worst_speed.0 * 100.0,
        worst_speed.1
    );
    assert_eq!(failures, [] as [String; 0], "{failures:#?}");
    server.stop();
}

/// A client that goes away takes the work with it.
#[cfg(target_os = "linux")]
#[test]
fn a_text_is_not_encoded_to_its_end_when_its_client_has_gone() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &[("encode_threads", "1")]);
    let text = String::from_utf8(super::random_words(3, 8 << 20)).unwrap();
    let options = "return=ids&return=offsets&return=tokens";
    let whole = {
        let before = processor_time(&server);
        let mut client = server.client();
        let path = format!("/encode?{options}");
        client.try_ask("POST", &path, "Content-Type: text/plain\r\n", text.as_bytes()).unwrap().expect(200);
        processor_time(&server) - before
    };
    let before = processor_time(&server);
    let head = format!(
        "POST /encode?{options} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let client = super::http::connect(server.address, &[head.as_bytes(), text.as_bytes()].concat());
    super::wait_for("a beginning", || (processor_time(&server) - before > whole / 5).then_some(()));
    drop(client);
    // It is at rest when nothing is done for a while.
    super::wait_for("the end of the work", || {
        let now = processor_time(&server);
        std::thread::sleep(Duration::from_millis(300));
        (processor_time(&server) - now < Duration::from_millis(30)).then_some(())
    });
    let took = processor_time(&server) - before;
    println!("whole {whole:?} of processor time, left alone {took:?}");
    assert!(took < whole * 2 / 3, "{took:?} of {whole:?}");
    server.encode("default", "what comes next is encoded");
}
