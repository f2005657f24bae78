//! Patterns without a scanner: any regexes, in sequence.
//!
//! What a finite automaton can express runs on one, in time linear in what each match looks at. The rest backtracks
//! under a limit of steps, so a text ends in an error and never in a hang of one match or a deep stack.

use std::ops::{ControlFlow, Range};

use fancy_regex::RegexInput;
use regex_automata::{Input, meta};
use regex_syntax::ast::{self, Ast};

use super::class::{char_before, decode};
use super::{Scanner, Spelling, SplitError};

/// Longest regex in bytes; the published ones have under 300.
const MAX_REGEX_BYTES: usize = 4096;
/// Most regexes in a sequence.
const MAX_STAGES: usize = 16;
/// Memory for one automaton, in bytes.
const MAX_AUTOMATON_BYTES: usize = 10 << 20;
/// The same for each of the automata that a backtracking regex consists of, and their number.
const MAX_DELEGATE_BYTES: usize = 1 << 20;
const MAX_BACKTRACK_INSTRUCTIONS: usize = 16_384;
/// Steps back that one match may take. Most take a few; a match that needs more than `QUICK_STEPS` is paid from a
/// purse that grows with the text, so that all matches of a text together take linear time.
const MAX_STEPS: usize = 1_000_000;
const QUICK_STEPS: usize = 1_000;
const PATIENT_MATCHES: usize = 16;
const BYTES_PER_PATIENT_MATCH: usize = 4096;
/// Longest reason in an error, in bytes.
const MAX_REASON_BYTES: usize = 200;

/// Regexes, each splitting the pieces of the one before.
pub(super) struct Stages(Vec<Stage>);

impl Stages {
    pub(super) fn compile(regexes: &[&str]) -> Result<Self, SplitError> {
        if regexes.len() > MAX_STAGES {
            return Err(SplitError::Invalid(format!("more than {MAX_STAGES} regexes in sequence")));
        }
        regexes.iter().map(|regex| Stage::compile(regex)).collect::<Result<_, _>>().map(Self)
    }

    /// Calls `piece` with each piece of `text`, in order. The stages are walked as levels of a stack: a piece of one
    /// is the text of the next.
    pub(super) fn drive<'t>(
        &self,
        text: &'t str,
        piece: &mut impl FnMut(&'t str) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SplitError> {
        let mut purse = purse(text);
        let mut levels = vec![Level::new(text)];
        while let Some(depth) = levels.len().checked_sub(1) {
            let level = &mut levels[depth];
            match level.next_piece(&self.0[depth], &mut purse)? {
                None => {
                    levels.pop();
                }
                Some(part) if depth + 1 < self.0.len() => levels.push(Level::new(part)),
                Some(part) => {
                    if piece(part).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// How far one stage is in its text.
struct Level<'t> {
    text: &'t str,
    /// Where the next piece starts.
    at: usize,
    /// A match found behind an unmatched stretch, not yet yielded.
    found: Option<usize>,
    /// Where the next search starts: `at`, or one character later after an empty match.
    search: usize,
}

impl<'t> Level<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, found: None, search: 0 }
    }

    fn next_piece(&mut self, stage: &Stage, purse: &mut usize) -> Result<Option<&'t str>, SplitError> {
        if let Some(end) = self.found.take() {
            return Ok(Some(self.take_to(end)));
        }
        while self.at < self.text.len() {
            let (start, end) = match stage.find(self.text, self.search, purse)? {
                Some(found) => found,
                None => (self.text.len(), self.text.len()),
            };
            self.search = if start < end { end } else { next_char(self.text, end) };
            if start > self.at {
                self.found = (start < end).then_some(end);
                return Ok(Some(self.take_to(start)));
            }
            if start < end {
                return Ok(Some(self.take_to(end)));
            }
        }
        Ok(None)
    }

    fn take_to(&mut self, end: usize) -> &'t str {
        let piece = &self.text[self.at..end];
        self.at = end;
        piece
    }
}

/// One regex, compiled.
pub(super) enum Stage {
    /// One that has a scanner.
    Scanner(Scanner),
    /// As it is.
    Linear(meta::Regex),
    /// A regex that ends in `|\s+(?!\S)|\s+`: what stands before these, and `\s+`, as two patterns of one automaton.
    LinearThenSpace(meta::Regex),
    /// A regex with look-around or other things beyond automata.
    Backtrack(Box<Backtracking>),
}

/// The same regex under two limits of steps.
pub(super) struct Backtracking {
    quick: fancy_regex::Regex,
    patient: fancy_regex::Regex,
}

/// How often matches of a text may need many steps before they cost more than linear time.
fn purse(text: &str) -> usize {
    PATIENT_MATCHES + text.len() / BYTES_PER_PATIENT_MATCH
}

impl Stage {
    /// All matches in order; an empty one directly behind another match is none.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, SplitError> {
        let mut purse = purse(text);
        let (mut found, mut from, mut last) = (Vec::new(), 0, None);
        while from <= text.len() {
            // A scanner matches everything but the end.
            if from == text.len() && matches!(self, Self::Scanner(_)) {
                break;
            }
            let Some((start, end)) = self.find(text, from, &mut purse)? else { break };
            if start == end && last == Some(end) {
                from = next_char(text, from);
            } else {
                found.push(start..end);
                (from, last) = (end, Some(end));
            }
        }
        Ok(found)
    }

    pub(super) fn compile(regex: &str) -> Result<Self, SplitError> {
        if regex.len() > MAX_REGEX_BYTES {
            return Err(SplitError::Invalid(format!(
                "{} bytes are more than {MAX_REGEX_BYTES}",
                regex.len()
            )));
        }
        if let Some((spelling, digits)) = Spelling::find(&[regex]) {
            return Ok(Self::Scanner((spelling.scanner)(digits)));
        }
        if let Some(body) = before_space_ending(regex)
            && let Ok(regex) = automaton(&[body, r"\s+"])
        {
            return Ok(Self::LinearThenSpace(regex));
        }
        if is_regular(regex) {
            return automaton(&[regex]).map(Self::Linear);
        }
        Ok(Self::Backtrack(Box::new(Backtracking::compile(regex)?)))
    }

    /// The leftmost match at or after byte `from`: its start and end.
    fn find(&self, text: &str, from: usize, purse: &mut usize) -> Result<Option<(usize, usize)>, SplitError> {
        match self {
            Self::Scanner(scanner) => Ok(scanner.piece_end(text.as_bytes(), from).map(|end| (from, end))),
            Self::Linear(regex) => {
                Ok(regex.search(&Input::new(text).range(from..)).map(|m| (m.start(), m.end())))
            }
            Self::LinearThenSpace(regex) => Ok(regex.search(&Input::new(text).range(from..)).map(|m| {
                let (start, end) = (m.start(), m.end());
                // The run is followed by something, and long enough to leave it a character.
                let last = char_before(text.as_bytes(), end);
                let leaves = m.pattern().as_usize() == 1 && end < text.len() && last > start;
                (start, if leaves { last } else { end })
            })),
            Self::Backtrack(regexes) => regexes.find(text, from, purse),
        }
    }
}

impl Backtracking {
    fn compile(regex: &str) -> Result<Self, SplitError> {
        let with_limit = |steps| {
            fancy_regex::RegexBuilder::new(regex)
                .backtrack_limit(steps)
                .delegate_size_limit(MAX_DELEGATE_BYTES)
                .max_prog_size(MAX_BACKTRACK_INSTRUCTIONS)
                .build()
                .map_err(|error| invalid(&error.to_string()))
        };
        Ok(Self { quick: with_limit(QUICK_STEPS)?, patient: with_limit(MAX_STEPS)? })
    }

    fn find(&self, text: &str, from: usize, purse: &mut usize) -> Result<Option<(usize, usize)>, SplitError> {
        // A search over a long stretch without a match may use up its steps though no single position is costly:
        // then the positions are tried one by one.
        if let Ok(found) = self.quick.find_input(RegexInput::new(text).from_pos(from)) {
            return Ok(found.map(|found| span(found, from)));
        }
        let mut at = from;
        while at <= text.len() {
            let here = || RegexInput::new(text).from_pos(at).anchored(true);
            let found = match self.quick.find_input(here()) {
                Ok(found) => found,
                Err(_) => {
                    let costly = SplitError::TooCostly { limit: MAX_STEPS };
                    *purse = purse.checked_sub(1).ok_or_else(|| costly.clone())?;
                    self.patient.find_input(here()).map_err(|_| costly)?
                }
            };
            if let Some(found) = found {
                return Ok(Some(span(found, at)));
            }
            at = next_char(text, at);
        }
        Ok(None)
    }
}

/// Start and end of a match; with `\K` in a look-around it may claim to start before the search or after its end.
fn span(found: fancy_regex::Match<'_>, from: usize) -> (usize, usize) {
    (found.start().max(from).min(found.end()), found.end())
}

/// Where the character after the one at `at` starts; beyond the end after the last.
fn next_char(text: &str, at: usize) -> usize {
    at + decode(text.as_bytes(), at).1.max(1)
}

fn automaton(regexes: &[&str]) -> Result<meta::Regex, SplitError> {
    meta::Regex::builder()
        .configure(meta::Config::new().nfa_size_limit(Some(MAX_AUTOMATON_BYTES)))
        .build_many(regexes)
        .map_err(|error| match error.size_limit() {
            Some(limit) => invalid(&format!("its automaton needs more than {limit} bytes")),
            None => invalid(&error.to_string()),
        })
}

/// What stands before the ending `|\s+(?!\S)|\s+` (or `|\s`), where the alternatives before it are regular.
///
/// Then the regex matches where `body|\s+` does. Where the match is by `\s+`, it is the whole run; the ending yields
/// the run without its last character if the run has two and something follows, else the run. Flags that could
/// reach over to the ending (`(?x)`, `(?-u)`, `(?U)`) are none of this.
fn before_space_ending(regex: &str) -> Option<&str> {
    let body =
        [r"|\s+(?!\S)|\s+", r"|\s+(?!\S)|\s"].into_iter().find_map(|ending| regex.strip_suffix(ending))?;
    let plain_groups = body.split("(?").skip(1).all(|rest| rest.starts_with(':') || rest.starts_with("i:"));
    (plain_groups && is_regular(body)).then_some(body)
}

/// Whether the regex is one for the automaton: it parses, and has no quantifier upon a quantifier, which here would
/// mean a repetition of repetitions, but to whoever wrote it a possessive quantifier.
pub(super) fn is_regular(regex: &str) -> bool {
    struct NoPossessive;
    impl ast::Visitor for NoPossessive {
        type Output = ();
        type Err = ();
        fn finish(self) -> Result<(), ()> {
            Ok(())
        }
        fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
            match ast {
                Ast::Repetition(outer) if matches!(*outer.ast, Ast::Repetition(_)) => Err(()),
                _ => Ok(()),
            }
        }
    }
    ast::parse::Parser::new().parse(regex).is_ok_and(|ast| ast::visit(&ast, NoPossessive).is_ok())
        && regex_syntax::parse(regex).is_ok()
}

/// The reason on one line, cut to its length.
fn invalid(reason: &str) -> SplitError {
    let mut line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    while line.len() > MAX_REASON_BYTES {
        line.pop();
    }
    SplitError::Invalid(line)
}
