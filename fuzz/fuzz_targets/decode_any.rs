//! Any ids: all at once, one by one and in chunks they give the same bytes; and a text comes back from its ids.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vocabd::engine::{DecodeStream, EncodeOptions, OnSpecial, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{ImportOptions, import};

static DEFAULT: LazyLock<Tokenizer> = LazyLock::new(|| {
    import(&vocabd::cli::open::embedded(), None, &ImportOptions::default()).expect("the embedded vocabulary")
});

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let skip = how & 1 != 0;
    // Of two bytes each, so that most are ids; every eighth of four.
    let ids: Vec<u32> = match how & 0xe {
        0 => data.chunks(4).map(|id| id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte))).collect(),
        _ => data.chunks(2).map(|id| id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte))).collect(),
    };
    let whole = DEFAULT.decode_bytes(&ids, skip);
    let mut stream = DecodeStream::new(&DEFAULT, skip);
    let mut pieces = String::new();
    let streamed = ids.iter().try_for_each(|id| stream.push(*id).map(|piece| pieces.push_str(&piece)));
    assert_eq!(whole.is_ok(), streamed.is_ok());
    if let Ok(whole) = whole {
        pieces.push_str(&stream.finish());
        assert_eq!(pieces, String::from_utf8_lossy(&whole));
    }
    let text = String::from_utf8_lossy(data);
    for others in [OnSpecial::Text, OnSpecial::Parse] {
        let options = EncodeOptions { special: SpecialPolicy { others, ..Default::default() }, ..Default::default() };
        let ids = DEFAULT.encode(&text, &options, &mut Scratch::default()).expect("a scanner never gives up").ids;
        assert_eq!(DEFAULT.decode_bytes(&ids, false).expect("its own ids"), text.as_bytes());
    }
});
