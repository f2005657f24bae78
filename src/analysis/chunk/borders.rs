//! Where words, sentences and lines of a text end, found as far as they are asked for and no further.

use super::Boundary;
use std::collections::VecDeque;
use unicode_segmentation::UnicodeSegmentation;

/// Borders of one kind.
pub(super) struct Borders<'t> {
    rest: Box<dyn Iterator<Item = usize> + 't>,
    /// Those that were found and may still be asked for.
    known: VecDeque<usize>,
}

impl<'t> Borders<'t> {
    /// The kinds to try for a boundary, the widest first; none for tokens.
    pub(super) fn of(text: &'t str, boundary: Boundary) -> Vec<Self> {
        let new = |rest| Self { rest, known: VecDeque::new() };
        let words = || new(Box::new(word_ends(text)));
        let sentences = || new(Box::new(sentence_ends(text)));
        match boundary {
            Boundary::Token => Vec::new(),
            Boundary::Word => vec![words()],
            Boundary::Sentence => vec![sentences(), words()],
            Boundary::Line => vec![new(Box::new(line_ends(text))), sentences(), words()],
        }
    }

    /// Those over `after` and up to `to`. What is up to `gone` is never asked for again.
    pub(super) fn between(&mut self, gone: usize, after: usize, to: usize) -> Vec<usize> {
        while self.known.front().is_some_and(|&border| border <= gone) {
            self.known.pop_front();
        }
        while self.known.back().is_none_or(|&last| last <= to) {
            let Some(border) = self.rest.next() else { break };
            if border > gone {
                self.known.push_back(border);
            }
        }
        let first = self.known.partition_point(|&border| border <= after);
        let end = self.known.partition_point(|&border| border <= to);
        if first < end { self.known.range(first..end).copied().collect() } else { Vec::new() }
    }
}

fn word_ends(text: &str) -> impl Iterator<Item = usize> {
    text.split_word_bound_indices().map(|(at, word)| at + word.len())
}

/// Whether a line ends behind `c`: what Unicode Standard Annex 29 calls a paragraph separator.
fn ends_line(c: char, next: Option<char>) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}') || c == '\r' && next != Some('\n')
}

fn line_ends(text: &str) -> impl Iterator<Item = usize> {
    stretches(text, usize::MAX).map(|(end, _)| end)
}

/// A sentence may end in the middle of a run of spaces or brackets only if no small letter follows it, and the library looks that
/// up anew at each of them. So it gets the text in stretches without a long run, and where it is cut for that no sentence
/// ends.
const LONGEST_RUN: usize = 64;

fn sentence_ends(text: &str) -> impl Iterator<Item = usize> {
    let mut start = 0;
    stretches(text, LONGEST_RUN).flat_map(move |(end, is_line)| {
        let (from, stretch) = (start, &text[start..end]);
        start = end;
        let ends =
            stretch.split_sentence_bound_indices().map(move |(at, sentence)| from + at + sentence.len());
        ends.filter(move |&at| at < end || is_line)
    })
}

/// Where stretches of a text end, and whether a line ends there, or the text: a line has several if it has runs of so many
/// characters without a letter.
fn stretches(text: &str, longest_run: usize) -> impl Iterator<Item = (usize, bool)> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let mut run = 0;
        loop {
            let (at, c) = chars.next()?;
            let (end, next) = (at + c.len_utf8(), chars.peek().map(|&(_, c)| c));
            let is_line = ends_line(c, next) || next.is_none();
            run = if c.is_alphabetic() { 0 } else { run + 1 };
            if is_line || (run >= longest_run && c != '\r') {
                return Some((end, is_line));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(boundary: Boundary, text: &str, expect: &[&str]) {
        let ends = Borders::of(text, boundary)[0].between(0, 0, text.len());
        let mut start = 0;
        let found: Vec<&str> = ends
            .iter()
            .map(|&end| {
                let piece = &text[start..end];
                start = end;
                piece
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn borders_are_those_that_a_reader_sees() {
        check(Boundary::Line, "a\r\nb\n\nc\rd", &["a\r\n", "b\n", "\n", "c\r", "d"]);
        check(
            Boundary::Sentence,
            "Mr. Ok. It is 3.5 km (or so). 好。再见！\nbye",
            &["Mr. ", "Ok. ", "It is 3.5 km (or so). ", "好。", "再见！\n", "bye"],
        );
        check(Boundary::Word, "can't stop 3.5", &["can't", " ", "stop", " ", "3.5"]);
    }

    #[test]
    fn only_what_is_asked_for_is_found_and_what_is_gone_is_forgotten() {
        let text = "a b c d e";
        let mut words = Borders::of(text, Boundary::Word).remove(0);
        assert_eq!(words.between(0, 0, 3), [1, 2, 3]);
        assert_eq!(words.between(2, 3, 5), [4, 5]);
        assert_eq!(words.known.front(), Some(&3));
        assert_eq!(words.between(8, 8, 9), [9]);
        assert_eq!(words.between(8, 9, 9), [0; 0]);
    }

    #[test]
    fn runs_without_letters_take_linear_time() {
        for run in [" ", ")", "\u{301}", "1", ".", ". ", "\u{200d}", "a.'"] {
            let text = format!("Ends here. {} x. Next", run.repeat(1 << 17));
            let begin = std::time::Instant::now();
            for boundary in [Boundary::Line, Boundary::Sentence, Boundary::Word] {
                let ends = Borders::of(&text, boundary)[0].between(0, 0, text.len());
                assert_eq!(ends.last(), Some(&text.len()));
            }
            assert!(begin.elapsed().as_secs() < 20, "{run:?} took {:?}", begin.elapsed());
        }
    }
}
