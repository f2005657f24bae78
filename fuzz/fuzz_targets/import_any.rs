//! Any bytes as a file of any format: a tokenizer that encodes and decodes, or an error; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vocabd::engine::{EncodeOptions, OffsetUnit, OnSpecial, Scratch, SpecialPolicy};
use vocabd::formats::{Files, Format, ImportOptions, export_files, import_files};

const TEXT: &str = "Hello, 世界! e\u{301} <s> 123\r\n\t  \u{1F468}\u{200d}\u{1F4BB}";

fuzz_target!(|data: &[u8]| {
    let Some((&choice, file)) = data.split_first() else { return };
    // Told by its content, or taken for one of the formats; in two halves, as GPT-2 has it.
    let format = Format::ALL.get(usize::from(choice) % (Format::ALL.len() + 1)).copied();
    let mut files = Files::default();
    let middle = if choice & 0x80 == 0 { file.len() } else { file.len() / 2 };
    files.push("first", file[..middle].to_vec());
    files.push("second", file[middle..].to_vec());
    let options = ImportOptions { split: (choice & 0x40 != 0).then(|| "gpt2".to_owned()), ..Default::default() };
    let Ok(tokenizer) = import_files(&files, format, &options) else { return };
    let special = SpecialPolicy { others: OnSpecial::Parse, ..Default::default() };
    let options =
        EncodeOptions { special, add_special: true, offsets: Some(OffsetUnit::Utf16), ..Default::default() };
    if let Ok(encoding) = tokenizer.encode(TEXT, &options, &mut Scratch::default()) {
        assert_eq!(encoding.ids.len(), encoding.spans.len());
        let _ = tokenizer.decode(&encoding.ids, false);
    }
    let native = export_files(&tokenizer, Format::Native).expect("the native format holds all");
    let again = import_files(&native, None, &ImportOptions::default()).expect("and gives it back");
    let options = EncodeOptions { offsets: None, ..options };
    let ids = |t: &vocabd::engine::Tokenizer| t.encode(TEXT, &options, &mut Scratch::default()).map(|e| e.ids);
    assert_eq!(ids(&again), ids(&tokenizer));
});
