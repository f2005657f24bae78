//! Llama 3, and cl100k as tiktoken spelt it first. The scanner is cl100k's.

use super::{Digits, Spelling, qwen2};

/// As published with Llama 3.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    digits: Digits::Group3,
    numbers: [r"\p{N}", r"\p{N}{1,3}", r"\p{N}+"],
    scanner: qwen2::PUBLISHED.scanner,
};
