//! What the scanners share: the loop, and the rules that several families have.
//!
//! A scanner names the end of the piece that starts at a byte. It never looks back, and it looks ahead over a run
//! of one class at most a constant number of times, so a text takes linear time.

use std::ops::ControlFlow;

use super::Digits;
use super::class::{Classes, NEWLINE, NUMBER, SPACE, char_before};

/// The pieces of one family's regex, one at a time.
pub(super) trait Scan {
    /// The end of the piece that starts at byte `at`, which is a character border before the end of the text.
    fn piece_end(&self, text: &[u8], at: usize) -> usize;
}

/// Calls `piece` with each piece of `text`, in order.
#[inline(always)]
pub(super) fn drive<'t>(
    scan: &impl Scan,
    text: &'t str,
    piece: &mut impl FnMut(&'t str) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut at = 0;
    while at < text.len() {
        let end = scan.piece_end(text.as_bytes(), at);
        debug_assert!(end > at, "a piece is never empty");
        piece(&text[at..end])?;
        at = end;
    }
    ControlFlow::Continue(())
}

/// Which contractions a family knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// `'s`, but not `'S`.
    Sensitive,
    /// `(?i:'s)`: that is `'s`, `'S` and `'ſ` (U+017F folds to s).
    Insensitive,
}

/// The end of a contraction (`'s 't 're 've 'm 'll 'd`) at the apostrophe at byte `at`.
#[inline]
pub(super) fn contraction_end(text: &[u8], at: usize, case: Case) -> Option<usize> {
    let fold = match case {
        Case::Sensitive => 0,
        Case::Insensitive => 0x20,
    };
    match *text.get(at..)? {
        [b'\'', a, ..] if matches!(a | fold, b's' | b'd' | b'm' | b't') => Some(at + 2),
        [b'\'', a, b, ..] if matches!((a | fold, b | fold), (b'l', b'l') | (b'v', b'e') | (b'r', b'e')) => {
            Some(at + 3)
        }
        [b'\'', 0xc5, 0xbf, ..] if case == Case::Insensitive => Some(at + 3),
        _ => None,
    }
}

/// The end of a piece of numbers that starts at the number at `at`, `len` bytes long.
#[inline]
pub(super) fn number_end(classes: &Classes, text: &[u8], at: usize, len: usize, digits: Digits) -> usize {
    let first = at + len;
    match digits {
        Digits::Single => first,
        Digits::Run => classes.run(text, first, NUMBER),
        Digits::Group3 => {
            let mut end = first;
            for _ in 0..2 {
                match classes.at(text, end) {
                    (class, len) if class & NUMBER != 0 => end += len,
                    _ => break,
                }
            }
            end
        }
    }
}

/// `\s+(?!\S)|\s+`: a run of white space leaves its last character to what follows, if anything does.
#[inline]
pub(super) fn space_end(classes: &Classes, text: &[u8], at: usize) -> usize {
    let end = classes.run(text, at, SPACE);
    leave_last(text, at, end)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line end of a run, else as [`space_end`].
#[inline]
pub(super) fn line_or_space_end(classes: &Classes, text: &[u8], at: usize) -> usize {
    let end = classes.run(text, at, SPACE);
    match text[at..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(last) => at + last + 1,
        None => leave_last(text, at, end),
    }
}

/// The end of a run of other characters than those of `joining`, and of the line ends after it.
#[inline]
pub(super) fn punct_end(classes: &Classes, text: &[u8], at: usize, others: u8) -> usize {
    let end = classes.run_without(text, at, others);
    classes.run(text, end, NEWLINE)
}

/// The end of a run of white space, less its last character where the run has two and text follows.
#[inline]
fn leave_last(text: &[u8], at: usize, end: usize) -> usize {
    let last = char_before(text, end);
    if end == text.len() || last == at { end } else { last }
}
