//! Any text in chunks of any size: what the head of `analysis::chunk` promises of them, or an error that is true.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vocabd::analysis::chunk::{Boundary, ChunkError, ChunkOptions, chunks};
use vocabd::engine::{OnSpecial, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{ImportOptions, import};

/// Bytes, so that tokens end inside characters; with names of special tokens.
static DEFAULT: LazyLock<Tokenizer> = LazyLock::new(|| {
    let file = vocabd::cli::open::embedded();
    let tokenizer = import(&file, None, &ImportOptions::default()).expect("the embedded vocabulary");
    tokenizer.prepare();
    tokenizer
});

/// Most chunks of a text: less than the longest inputs have.
const MAX_CHUNKS: usize = 1000;

fuzz_target!(|data: &[u8]| {
    let Some((&[size, overlap, how], text)) = data.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let size = usize::from(size % 64) + 1;
    let overlap = usize::from(overlap) % (size + 1);
    let boundary = [Boundary::Token, Boundary::Word, Boundary::Sentence, Boundary::Line][usize::from(how % 4)];
    let others = if how & 4 == 0 { OnSpecial::Text } else { OnSpecial::Parse };
    let add_special = how & 8 != 0;
    let matcher = DEFAULT.matcher(&SpecialPolicy { others, ..Default::default() }).expect("names that it has");
    let options = ChunkOptions { size, overlap, boundary, add_special, matcher: &matcher, max_chunks: MAX_CHUNKS };
    let mut scratch = Scratch::default();
    let mut count = |text: &str, add_special: bool| {
        let all = DEFAULT.count_matched(text, &matcher, add_special, None, &mut scratch);
        all.expect("a scanner never gives up").tokens
    };
    match chunks(&DEFAULT, &text, &options, &mut Scratch::default()) {
        Ok(all) => {
            assert!(overlap < size && all.len() <= MAX_CHUNKS);
            let (mut start, mut end) = (None, 0);
            for chunk in &all {
                let own = text.get(chunk.start..chunk.end).expect("between two characters");
                assert_eq!(chunk.count, count(own, add_special));
                assert!(chunk.count <= size);
                assert!(start.is_none_or(|start| start < chunk.start) && chunk.start <= end && end < chunk.end);
                assert!(overlap > 0 || chunk.start == end);
                assert!(count(&text[chunk.start..end], false) <= overlap);
                assert_eq!(chunk.char_start, text[..chunk.start].chars().count());
                assert_eq!(chunk.char_end, text[..chunk.end].chars().count());
                (start, end) = (Some(chunk.start), chunk.end);
            }
            assert_eq!(end, text.len());
        }
        Err(ChunkError::Overlap) => assert!(overlap >= size),
        Err(ChunkError::SizeTooSmall { offset }) => {
            let character = text[offset..].chars().next().expect("a character").to_string();
            assert!(count(&character, add_special) > size);
        }
        // Every chunk has a character of its own.
        Err(ChunkError::TooMany { limit }) => assert!(limit == MAX_CHUNKS && text.chars().count() > limit),
        Err(ChunkError::TooLong { .. }) => panic!("far more bytes may be encoded than such a text leads to"),
        Err(ChunkError::Encode(error)) => panic!("{error}"),
    }
});
