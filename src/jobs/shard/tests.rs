use super::*;
use crate::engine::WordCounts;
use crate::jobs::corpus::CorpusError;
use crate::jobs::disk;
use crate::jobs::whole::Whole;

fn config(split: &str) -> TrainConfig {
    TrainConfig::new(Pattern::parse(split).unwrap())
}

fn counts() -> WordCounts {
    let big = i64::MAX as u64 / 64;
    WordCounts::from_pairs([("a\tb\\n", 3), ("世界", big), ("x\r\n", 1), ("end", 7)]).unwrap()
}

fn read_back(bytes: &[u8], wanted: &TrainConfig) -> Result<WordCounts, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard");
    std::fs::write(&path, bytes).unwrap();
    let source = Source { name: "shard".to_owned(), file: std::fs::File::open(&path).unwrap() };
    let mut sums = crate::engine::WordSums::default();
    let take = |word: &[u8], count: u64| sums.add(word, count).map_err(|_| CorpusError::Stopped);
    let folder = dir.path().to_owned();
    let limits = Unpacking {
        folder,
        max_bytes: 1 << 20,
        max_ratio: 100,
        max_page_bytes: disk::MAX_PAGE_BYTES,
        min_free_bytes: 0,
    };
    let read = read(source, &Meta::of(wanted), (1000, &limits), &Progress::new(), take);
    read.map_err(|e| e.to_string())?;
    Ok(sums.take().unwrap())
}

fn written(format: ShardFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&Whole::Loaded(counts()), &config("cl100k"), format, &mut bytes).unwrap();
    bytes
}

const FORMATS: [ShardFormat; 3] = [ShardFormat::Parquet, ShardFormat::Ndjson, ShardFormat::Tsv];

#[test]
fn every_form_is_read_back_packed_or_not() {
    for format in FORMATS {
        let bytes = written(format);
        assert_eq!(read_back(&bytes, &config("cl100k")), Ok(counts()), "{format:?}");
        let packed = zstd::encode_all(&bytes[..], 1).unwrap();
        assert_eq!(read_back(&packed, &config("cl100k")), Ok(counts()), "{format:?} packed");
    }
}

#[test]
fn counts_by_another_split_are_refused() {
    for format in FORMATS {
        let error = read_back(&written(format), &config("qwen2")).unwrap_err();
        assert_eq!(
            error, "shard was counted with another split (or digits) than that of the job",
            "{format:?}"
        );
        let nfc = TrainConfig { normalizer: Some(Form::Nfc), ..config("cl100k") };
        let error = read_back(&written(format), &nfc).unwrap_err();
        assert_eq!(error, "shard was counted with another normalizer than that of the job", "{format:?}");
    }
}

#[test]
fn what_is_no_counts_is_told_by_its_place() {
    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(read_back(text.as_bytes(), &config("cl100k")).unwrap_err(), format!("shard, {expect}"));
    }
    check("a\t1\nb\n", "line 2: is not a pretoken, a tab and a count");
    check("a\t-1\n", "line 1: has a negative count");
    check("a\t1.5\n", "line 1: has a count that is not a whole number");
    check("a\t18446744073709551616\n", "line 1: has a count over 64 bits");
    check("\t1\n", "line 1: has an empty pretoken");
    check(&format!("{}\t1\n", "a".repeat(1000)), "line 1: is over 1000 bytes");
    check(
        "{\"t\":\"YQ==\",\"c\":1}\n{\"t\":\"YQ==\",\"c\":-1}",
        "line 2: is not an object with t (base64) and c (a whole number from 0)",
    );
    check("{\"t\":\"%\",\"c\":1}", "line 1: has a t that is not base64");
    check("{\"c\":1}", "line 1: needs t (base64) or pretoken (text), and c or count");
    let plain = "a\\n\t2\r\n\na\\n\t3\n";
    let expect = WordCounts::from_pairs([("a\\n", 5)]).unwrap();
    assert_eq!(read_back(plain.as_bytes(), &config("qwen2")), Ok(expect), "without our first line, as it is");
    let text = "{\"pretoken\":\"é\",\"count\":2}\n";
    assert_eq!(read_back(text.as_bytes(), &config("gpt2")), Ok(WordCounts::from_pairs([("é", 2)]).unwrap()));
}

/// A Parquet file with these columns.
fn parquet_file(schema: &str, columns: &[Column]) -> Vec<u8> {
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use ::parquet::file::writer::SerializedFileWriter;
    let schema = std::sync::Arc::new(::parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut open = group.next_column().unwrap().unwrap();
        match column {
            Column::Texts(texts) => {
                let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
                let texts: Vec<ByteArray> =
                    texts.iter().flatten().map(|text| ByteArray::from(text.as_bytes().to_vec())).collect();
                open.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
            }
            Column::Numbers(numbers) => {
                open.typed::<Int64Type>().write_batch(numbers, None, None).unwrap();
            }
            Column::Doubles(numbers) => {
                open.typed::<DoubleType>().write_batch(numbers, None, None).unwrap();
            }
        }
        open.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

enum Column {
    Texts(Vec<Option<&'static str>>),
    Numbers(Vec<i64>),
    Doubles(Vec<f64>),
}

#[test]
fn parquet_of_others_is_read_and_bad_ones_are_refused() {
    let schema = "message spark_schema { optional binary pretoken (UTF8); required int64 count; }";
    let texts = Column::Texts(vec![Some("a"), Some("b"), Some("a")]);
    let good = parquet_file(schema, &[texts, Column::Numbers(vec![1, 2, 3])]);
    let expect = WordCounts::from_pairs([("a", 4), ("b", 2)]).unwrap();
    assert_eq!(read_back(&good, &config("cl100k")), Ok(expect));

    let negative =
        parquet_file(schema, &[Column::Texts(vec![Some("a"), Some("b")]), Column::Numbers(vec![1, -2])]);
    assert_eq!(read_back(&negative, &config("cl100k")).unwrap_err(), "shard, row 2: has a negative count");
    let null = parquet_file(schema, &[Column::Texts(vec![Some("a"), None]), Column::Numbers(vec![1, 2])]);
    assert!(read_back(&null, &config("cl100k")).unwrap_err().ends_with("has no pretoken, or no count"));
    let doubles = "message m { optional binary pretoken; required double count; }";
    let doubles = parquet_file(doubles, &[Column::Texts(vec![Some("a")]), Column::Doubles(vec![1.0])]);
    assert_eq!(
        read_back(&doubles, &config("cl100k")).unwrap_err(),
        "shard has a column of another type than int64"
    );
    let other = "message m { optional binary word; required int64 count; }";
    let other = parquet_file(other, &[Column::Texts(vec![Some("a")]), Column::Numbers(vec![1])]);
    assert!(read_back(&other, &config("cl100k")).unwrap_err().contains("no column"));
    for cut in [5, good.len() / 2, good.len() - 1] {
        let error = read_back(&good[..cut], &config("cl100k")).unwrap_err();
        assert_eq!(error, "shard is not a valid Parquet file", "cut at {cut}");
    }
    for at in 4..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        // Whatever it says, it says something and does not fall over.
        let _ = read_back(&bad, &config("cl100k"));
    }
}
