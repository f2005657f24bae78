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

/// A text in pieces of hardly fewer than `bytes` bytes; what is left at its end is left out where there are others.
fn pieces(text: &str, bytes: usize) -> Vec<&str> {
    let (mut rest, mut pieces) = (text, Vec::new());
    while rest.len() >= bytes {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(bytes));
        pieces.push(piece);
        rest = behind;
    }
    if pieces.is_empty() { vec![text] } else { pieces }
}

/// Puts the vocabularies into the import folder; their names.
fn import(data: &Path) -> Vec<&'static str> {
    let mut names = vec!["default"];
    for (name, files) in VOCABS {
        let read = |file: &str| {
            let found = data::restricted(file);
            found.unwrap_or_else(|| {
                panic!("{file} is missing: SHARED_DATA_DIR and VOCABD_RESTRICTED_DIR name folders")
            })
        };
        let folder = data.join("import").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in files {
            std::fs::write(folder.join(file), read(file)).unwrap();
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

/// Nanoseconds of a processor that counting a text took.
fn count(server: &Server, path: &str, text: &[u8]) -> f64 {
    let mut client = server.client();
    let mut once = || {
        let before = threads(server);
        let answer = client.try_ask("POST", path, "Content-Type: text/plain\r\n", text).unwrap();
        assert_eq!(answer.status == 200, std::str::from_utf8(text).is_ok(), "{}", answer.text());
        spent(server, &before)
    };
    std::iter::repeat_with(&mut once).flatten().next().unwrap() as f64
}

/// The median of what some rounds give, and of as many more if it is not what is wanted: each compares two times that were taken one
/// right after the other, so that what else the machine does is the same for both most of the time.
fn median(rounds: &[(f64, f64)], is_wanted: impl Fn(f64) -> bool, again: impl FnMut() -> (f64, f64)) -> f64 {
    let middle = |rounds: &[(f64, f64)]| {
        let mut ratios: Vec<f64> = rounds.iter().map(|(of, by)| of / by).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    let first = middle(rounds);
    if is_wanted(first) {
        return first;
    }
    let more: Vec<_> = std::iter::repeat_with(again).take(ROUNDS_AGAIN).collect();
    middle(&[rounds, &more].concat())
}

const ROUNDS: usize = 3;
const ROUNDS_AGAIN: usize = 8;

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
    let english = data::shared("corpora/en.txt").unwrap_or_else(|| data::local("corpora/train-dev-tiny.txt"));
    let english = String::from_utf8(english).unwrap();
    let english = pieces(&english, 1 << 20);

    let sizes: Vec<usize> =
        std::iter::successors(Some(least), |size| Some(size * 2)).take_while(|size| *size <= most).collect();
    let (mut worst_ratio, mut worst_speed) = ((0.0, String::new()), (f64::MAX, String::new()));
    let (mut doublings, mut failures) = (0, Vec::new());
    for vocab in &names {
        let usual_path = format!("/count?vocab={vocab}");
        // Never what was counted just before, where there is more than one piece.
        let turn = std::cell::Cell::new(0);
        let usual = || {
            let piece = english[turn.replace(turn.get() + 1) % english.len()];
            count(&server, &usual_path, piece.as_bytes()) / piece.len() as f64
        };
        // The first texts fill what is remembered of words; its tables were made before it was published.
        usual();
        usual();
        for (family, text) in FAMILIES {
            let special = if family == "almost special" { "&special=parse" } else { "" };
            let path = format!("{usual_path}{special}");
            let mut seed = 0x5eed;
            let mut time = |bytes: usize| {
                seed += 1;
                count(&server, &path, &text(bytes, seed))
            };
            // Of each round what English takes for a byte, and each size.
            let rounds: Vec<(f64, Vec<f64>)> =
                std::iter::repeat_with(|| (usual(), sizes.iter().map(|&bytes| time(bytes)).collect()))
                    .take(ROUNDS)
                    .collect();
            for (at, &bytes) in sizes.iter().enumerate().skip(1) {
                let pairs: Vec<_> = rounds.iter().map(|(_, times)| (times[at], times[at - 1])).collect();
                // Below a millisecond it is the request that is measured.
                if pairs.iter().all(|(took, _)| *took < 1e6) {
                    continue;
                }
                doublings += 1;
                let ratio = median(
                    &pairs,
                    |ratio| ratio <= most_ratio,
                    || {
                        let half = time(bytes / 2);
                        (time(bytes), half)
                    },
                );
                let what = format!("{vocab}, {family}, {bytes} bytes");
                if ratio > most_ratio {
                    failures.push(format!("{what}: {ratio:.2} times as long as half of it"));
                }
                if ratio > worst_ratio.0 {
                    worst_ratio = (ratio, what);
                }
            }
            let (last, bytes) = (sizes.len() - 1, sizes[sizes.len() - 1] as f64);
            let pairs: Vec<_> = rounds.iter().map(|(usual, times)| (*usual, times[last] / bytes)).collect();
            let speed = median(&pairs, |speed| speed >= least_speed, || (usual(), time(sizes[last]) / bytes));
            let what = format!("{vocab}, {family}");
            if speed < least_speed {
                failures.push(format!("{what}: {:.1} % of the usual speed", speed * 100.0));
            }
            if speed < worst_speed.0 {
                worst_speed = (speed, what);
            }
        }
    }
    println!(
        "{} vocabularies ({}), {} families, {} KiB doubled to {} KiB, {doublings} doublings of over a millisecond: at most {:.2} times as long ({}), at least {:.1} % of the usual speed ({})",
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
    let head = format!(
        "POST /encode?{options} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let request = [head.as_bytes(), text.as_bytes()].concat();
    let left_alone = || {
        let before = processor_time(&server);
        let client = super::http::connect(server.address, &request);
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
        took
    };
    // On a busy machine the server may hear late that the client has gone, but not each time.
    assert!((0..3).any(|_| left_alone() < whole * 2 / 3), "goes on to the end of {whole:?}");
    server.encode("default", "what comes next is encoded");
}
