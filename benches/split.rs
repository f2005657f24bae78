//! Speed of the split alone: a scanner per family on real text, a free regex beside them.
//!
//! `VOCABD_CORPORA=DIR cargo bench --bench split` reads `en.txt`, `zh.txt` and `code.txt` there; without it a small
//! text made here stands in for them.

use std::hint::black_box;
use std::ops::ControlFlow;

use divan::counter::BytesCount;
use vocabd::engine::Pattern;

const PATTERNS: &[&str] = &[
    "gpt2",
    "cl100k",
    "o200k",
    "qwen2",
    "llama3",
    "deepseek",
    // GPT-2's with numbers in twos: no scanner, but linear.
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

fn main() {
    divan::main();
}

#[divan::bench(args = PATTERNS)]
fn english(bencher: divan::Bencher<'_, '_>, pattern: &str) {
    split(bencher, pattern, "en", "The quick brown fox doesn't jump over 13 lazy dogs, it says.\n");
}

#[divan::bench(args = PATTERNS)]
fn chinese(bencher: divan::Bencher<'_, '_>, pattern: &str) {
    split(bencher, pattern, "zh", "我们的词汇表把文本切成小块，例如这一句话，共有二十六个字。\n");
}

#[divan::bench(args = PATTERNS)]
fn code(bencher: divan::Bencher<'_, '_>, pattern: &str) {
    split(bencher, pattern, "code", "    for (int i = 0; i < 100; i++) { sum += values[i] * 2; }\n");
}

fn split(bencher: divan::Bencher<'_, '_>, pattern: &str, corpus: &str, stand_in: &str) {
    let pattern = Pattern::parse(pattern).expect("the patterns are written in this file");
    let text = match std::env::var("VOCABD_CORPORA") {
        Ok(dir) => std::fs::read_to_string(format!("{dir}/{corpus}.txt")).expect("the corpus is readable"),
        Err(_) => stand_in.repeat(20_000),
    };
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        let mut pieces = 0usize;
        let done = pattern.for_each(black_box(&text), |piece| {
            black_box(piece);
            pieces += 1;
            ControlFlow::Continue(())
        });
        done.map(|()| pieces)
    });
}
