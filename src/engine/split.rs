//! Splitting a text into pretokens.

use std::ops::ControlFlow;

/// A published split pattern that has a scanner of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// GPT-2, r50k, p50k.
    Gpt2,
    /// cl100k_base, as tiktoken has it now.
    Cl100k,
    /// o200k_base.
    O200k,
    /// Qwen, Qwen2, Qwen3.
    Qwen2,
    /// Llama 3; also the older spelling of cl100k.
    Llama3,
    /// DeepSeek V3 and later: three patterns in sequence.
    DeepSeek,
}

/// How runs of digits are cut; replaces the number rule of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digits {
    /// One by one (`\p{N}`).
    Single,
    /// In groups of one to three (`\p{N}{1,3}`).
    Group3,
    /// Whole runs (`\p{N}+`).
    Run,
}

/// Why a pattern was refused, or gave up on a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Neither a family name nor a regex that can run here.
    #[error("split pattern is not usable: {0}")]
    Invalid(String),
    /// A pattern with look-around used up its steps on this text.
    #[error("split pattern needs more than {limit} steps on this text")]
    TooCostly {
        /// The limit on backtracking steps.
        limit: usize,
    },
    /// `digits` was given for a pattern that is a free regex.
    #[error("digits cannot be replaced in a free regex; write them in the pattern")]
    DigitsInRegex,
}

/// A split pattern, ready to run.
#[derive(Debug, Clone)]
pub struct Pattern {
    regexes: Vec<String>,
    compiled: Vec<fancy_regex::Regex>,
}

impl Pattern {
    /// A family name (`cl100k`) or one regex.
    pub fn parse(spec: &str) -> Result<Self, SplitError> {
        let regex = match spec {
            "cl100k" => {
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
            }
            other => other,
        };
        Self::from_regexes(&[regex])
    }

    /// A sequence of regexes, each splitting the pieces of the one before.
    pub fn from_regexes(stages: &[&str]) -> Result<Self, SplitError> {
        let compiled = stages
            .iter()
            .map(|s| fancy_regex::Regex::new(s))
            .collect::<Result<_, _>>()
            .map_err(|e| SplitError::Invalid(e.to_string()))?;
        Ok(Self { regexes: stages.iter().map(|s| s.to_string()).collect(), compiled })
    }

    /// The regexes that say what this pattern does, in order; none means that a text is one piece.
    pub fn regexes(&self) -> &[String] {
        &self.regexes
    }

    /// The family, where it is one unchanged.
    pub fn family(&self) -> Option<Family> {
        None
    }

    /// The same with its number rule replaced.
    pub fn with_digits(&self, _digits: Digits) -> Result<Self, SplitError> {
        Err(SplitError::DigitsInRegex)
    }

    /// Calls `piece` with each pretoken in order; joined they are the text. Stops early on `Break`.
    pub fn for_each<'t>(
        &self,
        text: &'t str,
        mut piece: impl FnMut(&'t str) -> ControlFlow<()>,
    ) -> Result<(), SplitError> {
        let mut last = 0;
        for m in self.compiled[0].find_iter(text) {
            let m = m.map_err(|_| SplitError::TooCostly { limit: 0 })?;
            if m.start() > last && piece(&text[last..m.start()]).is_break() {
                return Ok(());
            }
            if piece(m.as_str()).is_break() {
                return Ok(());
            }
            last = m.end();
        }
        if last < text.len() {
            let _ = piece(&text[last..]);
        }
        Ok(())
    }

    /// The greatest offset at which the text may be cut so that both parts, split apart, give the pieces of the
    /// whole, whatever text follows; `None` where no such place is known.
    pub fn safe_cut(&self, _text: &str) -> Option<usize> {
        None
    }
}
