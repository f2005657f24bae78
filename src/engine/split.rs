//! Splitting a text into pretokens.
//!
//! A [`Pattern`] is one regex or a sequence of them; its text is the full truth about it. The published patterns
//! are known by their text and run as hand-written scanners, everything else runs on a regex engine. What must stay
//! true: the pieces joined are the text, none is empty, and a scanner yields the pieces of its regexes.

mod bounds;
mod chunk;
mod cl100k;
mod class;
mod deepseek;
mod free;
mod gpt2;
mod llama3;
mod o200k;
#[cfg(any(test, fuzzing))]
mod oracle;
mod planes;
mod qwen2;
mod regex;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bounds::Bounds;
use chunk::{ASCII_CLASSES, CHUNK, Chunk};
use class::{LETTER, MARK, NEWLINE, NUMBER, SPACE, char_before, classes, classes_with_han_kana};
use free::Stages;
#[cfg(any(test, fuzzing))]
pub use oracle::oracle_pieces;
pub use regex::Regex;
use scan::{Scan, drive};

/// A published split pattern that has a scanner of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// GPT-2, r50k, p50k.
    Gpt2,
    /// `cl100k_base`, as tiktoken has it now.
    Cl100k,
    /// `o200k_base`.
    O200k,
    /// Qwen, Qwen2, Qwen3.
    Qwen2,
    /// Llama 3; also the older spelling of cl100k.
    Llama3,
    /// DeepSeek V3 and later: three patterns in sequence.
    DeepSeek,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] =
        [Self::Gpt2, Self::Cl100k, Self::O200k, Self::Qwen2, Self::Llama3, Self::DeepSeek];

    /// The name that [`Pattern::parse`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Cl100k => "cl100k",
            Self::O200k => "o200k",
            Self::Qwen2 => "qwen2",
            Self::Llama3 => "llama3",
            Self::DeepSeek => "deepseek",
        }
    }

    /// The family of a name, other usual names of it included.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gpt2" | "r50k" | "r50k_base" | "p50k" | "p50k_base" => Self::Gpt2,
            "cl100k" | "cl100k_base" => Self::Cl100k,
            "o200k" | "o200k_base" => Self::O200k,
            "qwen2" | "qwen" => Self::Qwen2,
            "llama3" => Self::Llama3,
            "deepseek" => Self::DeepSeek,
            _ => return None,
        })
    }

    fn published(self) -> &'static Spelling {
        match self {
            Self::Gpt2 => &gpt2::PUBLISHED,
            Self::Cl100k => &cl100k::PUBLISHED,
            Self::O200k => &o200k::PUBLISHED,
            Self::Qwen2 => &qwen2::PUBLISHED,
            Self::Llama3 => &llama3::PUBLISHED,
            Self::DeepSeek => &deepseek::PUBLISHED,
        }
    }
}

/// How runs of digits are cut; replaces the number rule of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digits {
    /// One by one (`\p{N}`).
    Single,
    /// In groups of one to three (`\p{N}{1,3}`).
    Group3,
    /// Whole runs (`\p{N}+`).
    Run,
}

impl Digits {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Single, Self::Group3, Self::Run];

    /// Its name: `single`, `group3` or `run`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Group3 => "group3",
            Self::Run => "run",
        }
    }

    /// The rule of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|digits| digits.name() == name)
    }
}

/// Why a pattern was refused, or gave up on a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Neither a family name nor a regex that can run here.
    #[error("split pattern is not usable: {0}")]
    Invalid(String),
    /// A plain word that is no family name: as a regex it would match only itself, so it is a name misspelt.
    #[error(
        "split pattern is neither a family name (gpt2, cl100k, o200k, qwen2, llama3, deepseek) nor a regex"
    )]
    UnknownFamily,
    /// A pattern with look-around used up its steps on this text.
    #[error("split pattern needs more than {limit} steps on this text")]
    TooCostly {
        /// The limit on backtracking steps.
        limit: usize,
    },
    /// Normalizing, pre-tokenizing or decoding makes a text grow out of proportion.
    #[error("the text grows to over {limit} bytes on its way")]
    Grows {
        /// The limit for this text.
        limit: usize,
    },
    /// `digits` was given for a pattern that is a free regex.
    #[error("digits cannot be replaced in a free regex; write them in the pattern")]
    DigitsInRegex,
}

/// The regex of the byte-level pre-tokenizer of Hugging Face.
pub(super) const GPT2_REGEX: &str = gpt2::OLDER_REGEX;

/// Whether a text looks like the name of a family rather than like a regex.
fn is_word(spec: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (2..=32).contains(&spec.len()) && spec.bytes().all(plain)
}

/// A split pattern, ready to run. A clone shares everything with its original; two are equal when their regexes
/// have the same text.
#[derive(Clone)]
pub struct Pattern {
    inner: Arc<Inner>,
}

struct Inner {
    regexes: Vec<String>,
    engine: Engine,
}

enum Engine {
    Whole,
    Scanner { scanner: Scanner, spelling: &'static Spelling, digits: Digits },
    Stages(Stages),
}

impl Engine {
    fn scanner(spelling: &'static Spelling, digits: Digits) -> Self {
        Self::Scanner { scanner: (spelling.scanner)(digits), spelling, digits }
    }
}

impl Pattern {
    /// The published pattern of a family.
    pub fn of(family: Family) -> Self {
        let spelling = family.published();
        Self::spelt(spelling, spelling.digits)
    }

    /// No split: a text is one pretoken.
    pub fn whole() -> Self {
        Self { inner: Arc::new(Inner { regexes: Vec::new(), engine: Engine::Whole }) }
    }

    /// A family name (`cl100k`), `none`, or one regex.
    pub fn parse(spec: &str) -> Result<Self, SplitError> {
        match (Family::from_name(spec), spec) {
            (Some(family), _) => Ok(Self::of(family)),
            (None, "none" | "whole") => Ok(Self::whole()),
            (None, word) if is_word(word) => Err(SplitError::UnknownFamily),
            (None, regex) => Self::from_regexes(&[regex]),
        }
    }

    /// A sequence of regexes, each splitting the pieces of the one before; none at all is [`Pattern::whole`].
    ///
    /// A stretch between two matches is a piece of its own, and an empty match cuts one without being a piece
    /// ("isolated", in the words of Hugging Face). A regex without look-around, possessive quantifiers, atomic
    /// groups and back references takes linear time for each match; so does one whose only look-around is the
    /// usual ending `|\s+(?!\S)|\s+`. Others backtrack, under a limit of steps. All matches of a text together take
    /// longer than linear time only by a regex that looks far ahead at every place.
    pub fn from_regexes(stages: &[&str]) -> Result<Self, SplitError> {
        if stages.is_empty() {
            return Ok(Self::whole());
        }
        let engine = match Spelling::find(stages) {
            Some((spelling, digits)) => Engine::scanner(spelling, digits),
            None => Engine::Stages(Stages::compile(stages)?),
        };
        let regexes = stages.iter().map(ToString::to_string).collect();
        Ok(Self { inner: Arc::new(Inner { regexes, engine }) })
    }

    /// The regexes that say what this pattern does, in order; none means that a text is one piece.
    pub fn regexes(&self) -> &[String] {
        &self.inner.regexes
    }

    /// The family, where it is one unchanged: its published regexes, letter by letter.
    pub fn family(&self) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.published().regexes == self.regexes())
    }

    /// Whether it has a scanner: it is a family, a variant of its digits, or another spelling of one, and so its matches
    /// leave nothing between them.
    pub fn is_scanned(&self) -> bool {
        matches!(self.inner.engine, Engine::Scanner { .. })
    }

    /// The same with its number rule replaced. Only for patterns with a scanner: a family, a variant of its digits,
    /// or another spelling of one.
    pub fn with_digits(&self, digits: Digits) -> Result<Self, SplitError> {
        match self.inner.engine {
            Engine::Scanner { spelling, .. } => Ok(Self::spelt(spelling, digits)),
            Engine::Whole | Engine::Stages(_) => Err(SplitError::DigitsInRegex),
        }
    }

    /// The same pieces by regexes without possessive quantifiers, and with the end of the text as `\z`, for engines
    /// that lack the former and read `$` as the end of a line. A free regex stays as it is.
    #[must_use]
    pub fn plain(&self) -> Self {
        match self.inner.engine {
            Engine::Scanner { spelling: Spelling { plain: Some(plain), .. }, digits, .. } => {
                Self::spelt(plain, digits)
            }
            _ => self.clone(),
        }
    }

    /// Calls `piece` with each pretoken in order; joined they are the text. Stops early on `Break`.
    ///
    /// Fails only with [`SplitError::TooCostly`], and only for a regex that backtracks; some pieces may have been
    /// yielded by then.
    pub fn for_each<'t>(
        &self,
        text: &'t str,
        mut piece: impl FnMut(&'t str) -> ControlFlow<()>,
    ) -> Result<(), SplitError> {
        let _stopped = match &self.inner.engine {
            Engine::Scanner { scanner, .. } => scanner.drive(text, &mut piece),
            Engine::Whole if text.is_empty() => ControlFlow::Continue(()),
            Engine::Whole => piece(text),
            Engine::Stages(stages) => stages.drive(text, &mut piece)?,
        };
        Ok(())
    }

    /// The same in batches: `batch` is called with the byte at which its first pretoken starts, and the bytes at which each of
    /// them ends. The texts of a scanner are split by bitmaps, which is what makes this the quick way.
    ///
    /// Fails as [`Pattern::for_each`] does.
    pub(super) fn for_each_batch(
        &self,
        text: &str,
        ends: &mut Ends,
        mut batch: impl FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), SplitError> {
        let Ends { chunk, list } = ends;
        let mut at = 0;
        if let Engine::Scanner { scanner, .. } = &self.inner.engine {
            let chunk = chunk.get_or_insert_default();
            while at < text.len() {
                let len = match self.read_chunk(scanner, text, at, chunk) {
                    Some(end) => scanner.borders(&text[at..end], end == text.len(), at as u32, chunk, list),
                    None => scanner.borders_without_cut(text, at, list),
                };
                let ends = &list[1..len];
                if batch(at, ends).is_break() {
                    break;
                }
                at = ends.last().map_or(text.len(), |&end| end as usize);
            }
            return Ok(());
        }
        list.clear();
        let mut end = 0;
        let mut flow = ControlFlow::Continue(());
        self.for_each(text, |piece| {
            end += piece.len();
            list.push(end as u32);
            if list.len() == BATCH {
                flow = batch(at, list);
                at = end;
                list.clear();
            }
            flow
        })?;
        if !list.is_empty() && flow.is_continue() {
            let _last = batch(at, list);
        }
        Ok(())
    }

    /// Reads the chunk that starts at `at`, and gives where it ends; `None` where no safe cut is near.
    fn read_chunk(&self, scanner: &Scanner, text: &str, at: usize, chunk: &mut Chunk) -> Option<usize> {
        let limit = if text.len() - at > CHUNK { text.floor_char_boundary(at + CHUNK) } else { text.len() };
        scanner.read(&text.as_bytes()[at..limit], chunk);
        if limit == text.len() {
            return Some(limit);
        }
        // Of the places that `safe_cut` names the one that is nearly always near, and found quickest.
        let end = chunk.blank_near_end().or_else(|| self.safe_cut(&text[at..limit]))?;
        chunk.shorten(end);
        Some(at + end)
    }

    /// The greatest offset at which the text may be cut so that both parts, split apart, give the pieces of the
    /// whole, whatever text follows; `None` where no such place is known, as for every free regex.
    ///
    /// Two places are safe in all families, because no alternative goes on from the character before to the one
    /// after, and because to the character before the one after means the same as the end of the text:
    /// before white space that is no line end and follows something else than white space; and after a letter or
    /// number, before anything that is neither letter, number, mark nor apostrophe. (A line end may belong to
    /// punctuation before it, a mark to a letter, an apostrophe to a contraction.) The search starts at the end of
    /// the text, so it takes long only where there is no such place for long.
    pub fn safe_cut(&self, text: &str) -> Option<usize> {
        if !matches!(self.inner.engine, Engine::Scanner { .. }) {
            return None;
        }
        let (classes, text) = (classes(), text.as_bytes());
        let mut cut = char_before(text, text.len());
        let mut after = classes.at(text, cut).0;
        while cut > 0 {
            let start = char_before(text, cut);
            let before = classes.at(text, start).0;
            let at_space = after & SPACE != 0 && after & NEWLINE == 0 && before & SPACE == 0;
            let at_word_end = before & (LETTER | NUMBER) != 0
                && after & (LETTER | NUMBER | MARK) == 0
                && text[cut] != b'\'';
            if at_space || at_word_end {
                return Some(cut);
            }
            (cut, after) = (start, before);
        }
        None
    }

    fn spelt(spelling: &'static Spelling, digits: Digits) -> Self {
        let engine = Engine::scanner(spelling, digits);
        Self { inner: Arc::new(Inner { regexes: spelling.with_digits(digits), engine }) }
    }
}

impl Default for Pattern {
    /// cl100k.
    fn default() -> Self {
        Self::of(Family::Cl100k)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regexes() == other.regexes()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.inner.regexes).finish()
    }
}

/// Pretokens of a batch of a free regex.
const BATCH: usize = 256;

/// Memory that splitting in batches works in.
#[derive(Default)]
pub(super) struct Ends {
    chunk: Option<Box<Chunk>>,
    /// As many as a batch has are at its front.
    list: Vec<u32>,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

/// A scanner and its parameters.
#[derive(Clone, Copy)]
enum Scanner {
    Gpt2(gpt2::Gpt2),
    Cl100k(cl100k::Cl100k),
    O200k(o200k::O200k),
    DeepSeek(deepseek::DeepSeek),
}

impl Scanner {
    fn drive<'t>(
        &self,
        text: &'t str,
        piece: &mut impl FnMut(&'t str) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Gpt2(scan) => drive(scan, text, piece),
            Self::Cl100k(scan) => drive(scan, text, piece),
            Self::O200k(scan) => drive(scan, text, piece),
            Self::DeepSeek(scan) => scan.drive(text, piece),
        }
    }

    /// Reads a text of up to [`CHUNK`] bytes.
    fn read(&self, text: &[u8], chunk: &mut Chunk) {
        match self {
            Self::DeepSeek(_) => chunk.read(text, &deepseek::ASCII_CLASSES, classes_with_han_kana()),
            _ => chunk.read(text, &ASCII_CLASSES, classes()),
        }
    }

    /// Puts where the pieces of a chunk start, which holds a text that begins at byte `base`, and where the last one ends at the front
    /// of `borders`; gives how many they are.
    fn borders(
        &self,
        text: &str,
        ends_text: bool,
        base: u32,
        chunk: &mut Chunk,
        borders: &mut Vec<u32>,
    ) -> usize {
        let bytes = text.as_bytes();
        let marked = match self {
            Self::Gpt2(scan) => scan.mark(chunk, bytes, ends_text),
            Self::Cl100k(scan) => scan.mark(chunk, bytes, ends_text),
            Self::O200k(scan) => scan.mark(chunk, bytes, ends_text),
            Self::DeepSeek(scan) => scan.mark(chunk, bytes, ends_text),
        };
        if marked {
            return chunk.borders(base, borders);
        }
        borders.clear();
        borders.push(base);
        self.add_ends(text, base, borders);
        borders.len()
    }

    /// Appends where the pieces of a text end, found piece by piece.
    fn add_ends(&self, text: &str, base: u32, ends: &mut Vec<u32>) {
        let mut end = base;
        let _all = self.drive(text, &mut |piece| {
            end += piece.len() as u32;
            ends.push(end);
            ControlFlow::Continue(())
        });
    }

    /// The same for as many pieces from byte `at` on as a chunk may have. For a place that has no safe cut near.
    fn borders_without_cut(&self, text: &str, at: usize, borders: &mut Vec<u32>) -> usize {
        let mut next = at;
        borders.clear();
        borders.push(at as u32);
        while next < text.len() && next < at + CHUNK {
            if let Self::DeepSeek(scan) = self {
                // A stretch is found whole, so it is cut whole.
                let stretch = scan.stretch(text, next);
                self.add_ends(&text[next..stretch], next as u32, borders);
                next = stretch;
            } else {
                next = self.piece_end(text.as_bytes(), next).unwrap_or(text.len());
                borders.push(next as u32);
            }
        }
        borders.len()
    }

    /// The end of the piece that starts at byte `at`, where this stands for a single regex.
    fn piece_end(&self, text: &[u8], at: usize) -> Option<usize> {
        match self {
            Self::Gpt2(scan) => Some(scan.piece_end(text, at)),
            Self::Cl100k(scan) => Some(scan.piece_end(text, at)),
            Self::O200k(scan) => Some(scan.piece_end(text, at)),
            Self::DeepSeek(_) => None,
        }
    }
}

/// Regexes that a scanner stands for, in one way of writing them.
struct Spelling {
    regexes: &'static [&'static str],
    /// The number rule that `regexes` have.
    digits: Digits,
    /// The number rules to put in its place: single, group3, run.
    numbers: [&'static str; 3],
    /// Another spelling of the same pieces, without possessive quantifiers where this one has them.
    plain: Option<&'static Spelling>,
    scanner: fn(Digits) -> Scanner,
}

impl Spelling {
    /// The spelling that these regexes are, and their number rule.
    fn find(stages: &[&str]) -> Option<(&'static Self, Digits)> {
        let spellings = Family::ALL.into_iter().map(Family::published);
        spellings.chain([&gpt2::OLDER, &cl100k::PLAIN, &o200k::TEKKEN]).find_map(|spelling| {
            let digits = Digits::ALL.into_iter().find(|&digits| spelling.with_digits(digits) == stages)?;
            Some((spelling, digits))
        })
    }

    /// The regexes with another number rule.
    fn with_digits(&self, digits: Digits) -> Vec<String> {
        let (old, new) = (self.number(self.digits), self.number(digits));
        let as_alternative = |rule: &str| format!("|{rule}|");
        let put = |regex: &&str| match *regex {
            regex if regex == old => new.to_owned(),
            regex => regex.replacen(&as_alternative(old), &as_alternative(new), 1),
        };
        self.regexes.iter().map(put).collect()
    }

    fn number(&self, digits: Digits) -> &'static str {
        match digits {
            Digits::Single => self.numbers[0],
            Digits::Group3 => self.numbers[1],
            Digits::Run => self.numbers[2],
        }
    }
}
