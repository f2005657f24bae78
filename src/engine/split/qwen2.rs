//! Qwen, Qwen2, Qwen3: the older cl100k with numbers one by one. The scanner is cl100k's.

use super::cl100k::{Cl100k, Trailing};
use super::{Digits, Scanner, Spelling};

/// As published with all of them.
pub(super) static PUBLISHED: Spelling = Spelling {
    regexes: &[
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    digits: Digits::Single,
    numbers: [r"\p{N}", r"\p{N}{1,3}", r"\p{N}+"],
    scanner: |digits| Scanner::Cl100k(Cl100k::new(digits, Trailing::AsElsewhere)),
};
