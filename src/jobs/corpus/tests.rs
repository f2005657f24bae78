use super::*;
use crate::engine::{Counter, Pattern, TrainConfig};
use std::io::Write;

fn source(content: &[u8]) -> Source {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    Source { name: "f".into(), file }
}

fn config(split: &str) -> TrainConfig {
    TrainConfig::new(Pattern::parse(split).unwrap())
}

/// Nothing is unpacked here.
static NOWHERE: Unpacking = Unpacking {
    folder: std::path::PathBuf::new(),
    max_bytes: 0,
    max_ratio: 0,
    max_page_bytes: 0,
    min_free_bytes: 0,
};

fn reading<'c>(cuts: &'c SafeCuts<'c>) -> Reading<'c> {
    Reading {
        format: CorpusFormat::Text,
        field: "text".into(),
        records: Records::Whole,
        invalid_utf8: InvalidUtf8::Error,
        max_record_bytes: MAX_RECORD_BYTES,
        unpacking: &NOWHERE,
        cuts,
    }
}

fn records(content: &[u8], how: &Reading<'_>) -> Result<(Vec<String>, u64), String> {
    let mut all = Vec::new();
    let replaced = read(vec![source(content)], how, &Progress::new(), |batch| {
        all.extend(batch.records().into_iter().map(str::to_owned));
        Ok(batch.emptied())
    });
    replaced.map(|n| (all, n)).map_err(|e| e.to_string())
}

#[track_caller]
fn check(content: &[u8], change: impl Fn(&mut Reading<'_>), expect: &[&str]) {
    let config = config("cl100k");
    let cuts = SafeCuts::new(&config).unwrap();
    let mut how = reading(&cuts);
    change(&mut how);
    assert_eq!(records(content, &how).unwrap().0, expect);
}

#[test]
fn files_are_parted_as_asked() {
    let text = b"a\nb\r\n\n\nc\n \n\r\nd";
    check(text, |_| {}, &["a\nb\r\n\n\nc\n \n\r\nd"]);
    check(text, |r| r.records = Records::Lines, &["a\n", "b\r\n", "\n", "\n", "c\n", " \n", "\r\n", "d"]);
    check(text, |r| r.records = Records::Paragraphs, &["a\nb", "c\n ", "d"]);
    check(b"", |r| r.records = Records::Lines, &[]);
    check(b"", |_| {}, &[]);
}

#[test]
fn jsonl_gives_the_field_of_each_line() {
    let jsonl = |r: &mut Reading<'_>| r.format = CorpusFormat::Jsonl;
    check(b"{\"text\":\"a\\n\\u00e9\"}\n\n{\"x\":1,\"text\":\"b\"}", jsonl, &["a\né", "b"]);
    check(b"{\"t\\u0065xt\":\"a\",\"y\":[{\"text\":\"b\"}, 1e9],\"text\":\"c\"}", jsonl, &["c"]);
    let config = config("cl100k");
    let cuts = SafeCuts::new(&config).unwrap();
    let mut how = reading(&cuts);
    how.format = CorpusFormat::Jsonl;
    for (content, expect) in [
        ("{\"text\":\"a\"}\n{\"text\":", "f, line 2: is not a JSON object"),
        ("[1]", "f, line 1: is not a JSON object"),
        ("{\"text\":5}", "f, line 1: the field named by corpus.field is not a string"),
        ("{\"text\":[\"a\"]}", "f, line 1: the field named by corpus.field is not a string"),
        ("{\"txt\":\"a\"}", "f, line 1: has no field of the name given by corpus.field"),
        ("{\"text\":\"a\"} 1", "f, line 1: is not a JSON object"),
        ("{\"text\":\"\\ud800\"}", "f, line 1: is not a JSON object"),
    ] {
        assert_eq!(records(content.as_bytes(), &how).unwrap_err(), expect);
    }
}

#[test]
fn compressed_content_is_told_by_its_first_bytes() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all("中文\n".as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all("中文\n".as_bytes(), 1).unwrap();
    check(&gz, |_| {}, &["中文\n"]);
    check(&[gz.clone(), gz.clone()].concat(), |_| {}, &["中文\n中文\n"]);
    check(&zst, |_| {}, &["中文\n"]);
    check(&[zst.clone(), zst.clone()].concat(), |_| {}, &["中文\n中文\n"]);
    let config = config("cl100k");
    let cuts = SafeCuts::new(&config).unwrap();
    let how = reading(&cuts);
    assert_eq!(records(&gz[..gz.len() - 3], &how).unwrap_err(), "f is not valid gzip data");
    assert_eq!(records(&zst[..zst.len() - 3], &how).unwrap_err(), "f is not valid zstd data");
}

#[test]
fn bytes_that_are_not_text_are_refused_or_replaced_and_counted() {
    let config = config("cl100k");
    let cuts = SafeCuts::new(&config).unwrap();
    let mut how = reading(&cuts);
    for content in [&b"ab\xffcd\xe4\xb8"[..], b"ab\xff"] {
        let error = records(content, &how).unwrap_err();
        assert_eq!(error, "f is not UTF-8 at byte 2 of its (uncompressed) content");
    }
    how.invalid_utf8 = InvalidUtf8::Replace;
    assert_eq!(records(b"ab\xffcd\xe4\xb8", &how).unwrap(), (vec!["ab\u{fffd}cd\u{fffd}".to_owned()], 2));
}

#[test]
fn a_large_file_is_cut_where_nothing_joins() {
    // Characters of three bytes lie across the borders of every read; names of special tokens across possible cuts.
    let line = "这是一段文字，some words 123\n<|end of text|>\n\n   x\n";
    let text = line.repeat(3 * BATCH_BYTES / line.len());
    let special = ["<|end of text|>".to_owned()];
    let mut config = config("cl100k");
    config.special_tokens = special.to_vec();
    let cuts = SafeCuts::new(&config).unwrap();
    let how = reading(&cuts);
    let (parts, _) = records(text.as_bytes(), &how).unwrap();
    assert!(parts.len() > 2, "{} parts", parts.len());
    assert_eq!(parts.concat(), text);
    assert_eq!(
        parts.iter().map(|p| p.matches(&special[0]).count()).sum::<usize>(),
        text.matches(&special[0]).count()
    );
    let counts = |records: &[&str]| {
        let mut counter = Counter::new(&config).unwrap();
        counter.add_batch(records, &mut ()).unwrap();
        let counts = counter.finish().unwrap();
        counts.iter().map(|(word, count)| (word.to_vec(), count)).collect::<Vec<_>>()
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    assert!(counts(&parts) == counts(&[&text]), "the parts have the pretokens of the whole");
}

#[test]
fn a_free_regex_keeps_a_file_whole() {
    let text = "ab cd\n".repeat(2 * BATCH_BYTES / 6);
    let config = config(r"\w+|\W+");
    let cuts = SafeCuts::new(&config).unwrap();
    assert_eq!(records(text.as_bytes(), &reading(&cuts)).unwrap().0.len(), 1);
}

#[test]
fn a_record_is_held_up_to_its_limit() {
    let cl100k = config("cl100k");
    let cuts = SafeCuts::new(&cl100k).unwrap();
    for records in [Records::Lines, Records::Paragraphs, Records::Whole] {
        let mut read_bytes = 0;
        let how = Reading { records, max_record_bytes: 2 << 20, ..reading(&cuts) };
        let progress = Progress::new();
        let result = read(vec![source(&vec![b'x'; 64 << 20])], &how, &progress, |batch| {
            read_bytes += batch.text.len();
            Ok(batch.emptied())
        });
        assert!(matches!(result, Err(CorpusError::RecordTooLong { limit: 2_097_152, .. })), "{result:?}");
        assert_eq!(read_bytes, 0);
        assert!(progress.view().bytes_read < 8 << 20, "{} bytes were read", progress.view().bytes_read);
    }
}

/// Lines of all lengths over several batches, some blank, some ended by CRLF, with ill-formed bytes among them.
#[test]
fn records_do_not_depend_on_where_batches_end() {
    let (mut content, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    while content.len() < 5 * BATCH_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let longest = if state.is_multiple_of(97) { BATCH_BYTES * 2 / 3 } else { 300 };
        let len = (state >> 32) as usize % longest;
        let letters = ["\u{4e2d}", "a", "\u{1f600}", " "].map(str::as_bytes);
        let letters =
            if state.is_multiple_of(11) { [letters[1], b"\xe4\xb8", b"\xff", b"b"] } else { letters };
        content.extend((0..len / 3).flat_map(|at| letters[(state >> (at % 60)) as usize & 3]));
        let ends: [&[u8]; 4] = [b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"];
        content.extend(ends[state as usize >> 5 & 3]);
    }
    let text = String::from_utf8_lossy(&content);
    let replaced = text.matches('\u{fffd}').count() as u64;
    assert!(replaced > 100);
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let mut paragraphs = vec![String::new()];
    for line in &lines {
        match line.trim_end_matches(['\r', '\n']) {
            "" => paragraphs.push(String::new()),
            _ => paragraphs.last_mut().unwrap().push_str(line),
        }
    }
    let paragraphs: Vec<String> =
        paragraphs.iter().map(|p| without_line_end(p).to_owned()).filter(|p| !p.is_empty()).collect();

    let cl100k = config("cl100k");
    let cuts = SafeCuts::new(&cl100k).unwrap();
    let how = |records| Reading { records, invalid_utf8: InvalidUtf8::Replace, ..reading(&cuts) };
    let (lines_read, n) = records(&content, &how(Records::Lines)).unwrap();
    assert!(lines_read == lines && n == replaced);
    let (paragraphs_read, n) = records(&content, &how(Records::Paragraphs)).unwrap();
    assert!(paragraphs_read == paragraphs && n == replaced);
    let (whole, n) = records(&content, &how(Records::Whole)).unwrap();
    assert!(whole.len() > 3 && whole.concat() == *text && n == replaced);
}
