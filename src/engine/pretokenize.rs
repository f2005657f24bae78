//! Text to pretokens.
//!
//! Most vocabularies split by regexes and then look at bytes: those run on a [`Pattern`] alone. Others chain steps
//! that also change the text (a mark for each space, a space before the first word); each step does what the
//! pre-tokenizer of the same name in Hugging Face's tokenizers does.

use super::find::Find;
use super::tracked::Tracked;
use super::{Pattern, SplitError, byte_char};
use std::ops::{ControlFlow, Range};

/// Most steps in a sequence.
const MAX_STEPS: usize = 32;

/// How a text is cut into pretokens, and whether the model then looks at their bytes or at their characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pretokenizer {
    /// By a pattern; the model sees bytes.
    Pattern(Pattern),
    /// By steps; the model sees bytes if one of them is [`PreStep::ByteLevel`], else characters.
    Steps(Vec<PreStep>),
}

/// One step of a pre-tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreStep {
    /// Cuts at matches.
    Split {
        /// What is looked for.
        find: Find,
        /// What becomes of a match.
        behavior: Behavior,
        /// Whether the stretches between matches count as matches, and matches as stretches.
        invert: bool,
    },
    /// From here on the model sees bytes.
    ByteLevel {
        /// Whether a space is put before each piece that has none.
        prefix_space: bool,
        /// Whether pieces are cut as GPT-2 does.
        split: bool,
    },
    /// Cuts numbers off: digit by digit, or each run.
    Digits {
        /// Whether digit by digit.
        single: bool,
    },
    /// Cuts at punctuation.
    Punctuation(Behavior),
    /// Runs of word characters and runs of others; white space is left out.
    Words,
    /// What stands between white space.
    Spaces,
    /// A mark in the place of each space, and perhaps one before the text.
    Metaspace {
        /// The mark.
        mark: char,
        /// Where one is put before.
        prepend: Prepend,
        /// Whether pieces begin at marks.
        split: bool,
    },
}

/// What becomes of a match that cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    /// It is left out.
    Removed,
    /// It is a piece.
    Isolated,
    /// It ends the piece before it.
    MergedWithPrevious,
    /// It begins the piece behind it.
    MergedWithNext,
    /// Matches side by side are one piece.
    Contiguous,
}

/// Where a mark is put before a piece that does not begin with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepend {
    /// Before the one at the very beginning of the text.
    First,
    /// Nowhere.
    Never,
    /// Everywhere.
    Always,
}

/// A pretoken on its way to the model.
#[derive(Debug)]
pub(super) struct Pretoken<'t> {
    pub(super) text: Tracked<'t>,
    /// Whether each character stands for a byte, as in GPT-2's alphabet.
    pub(super) spelt: bool,
}

impl Pretokenizer {
    /// Steps in sequence. Those that are nothing but regexes before bytes become a [`Pattern`].
    ///
    /// # Errors
    /// There are more than 32 steps, or steps that cannot follow each other.
    pub fn new(steps: Vec<PreStep>) -> Result<Self, SplitError> {
        if steps.len() > MAX_STEPS {
            return Err(SplitError::Invalid(format!("more than {MAX_STEPS} steps in sequence")));
        }
        let byte_levels = steps.iter().filter(|step| matches!(step, PreStep::ByteLevel { .. })).count();
        if byte_levels > 1 {
            return Err(SplitError::Invalid("ByteLevel stands twice in a sequence".to_owned()));
        }
        let mut behind = steps.iter().skip_while(|step| !matches!(step, PreStep::ByteLevel { .. })).skip(1);
        if behind.any(|step| matches!(step, PreStep::Metaspace { .. })) {
            return Err(SplitError::Invalid("Metaspace stands behind ByteLevel".to_owned()));
        }
        if let Some(regexes) = regexes(&steps) {
            let regexes: Vec<&str> = regexes.iter().map(String::as_str).collect();
            return Pattern::from_regexes(&regexes).map(Self::Pattern);
        }
        Ok(Self::Steps(steps))
    }

    /// Whether the model sees bytes.
    pub fn is_byte_level(&self) -> bool {
        match self {
            Self::Pattern(_) => true,
            Self::Steps(steps) => steps.iter().any(|step| matches!(step, PreStep::ByteLevel { .. })),
        }
    }

    /// The pattern, if that is all.
    pub fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Pattern(pattern) => Some(pattern),
            Self::Steps(_) => None,
        }
    }

    /// The regexes or the names of the steps, for people.
    pub fn describe(&self) -> Vec<String> {
        match self {
            Self::Pattern(pattern) => pattern.regexes().to_vec(),
            Self::Steps(steps) => steps.iter().map(PreStep::describe).collect(),
        }
    }

    /// Whether pieces depend on where they stand in the original text.
    pub(super) fn needs_place(&self) -> bool {
        match self {
            Self::Pattern(_) => false,
            Self::Steps(steps) => {
                steps.iter().any(|step| matches!(step, PreStep::Metaspace { prepend: Prepend::First, .. }))
            }
        }
    }

    /// Calls `sink` with each pretoken in order, none of them empty.
    ///
    /// # Errors
    /// A regex that backtracks used up its steps.
    pub(super) fn for_each(
        &self,
        text: &Tracked<'_>,
        sink: &mut dyn FnMut(Pretoken<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SplitError> {
        match self {
            Self::Steps(steps) => run(steps, text, false, sink),
            Self::Pattern(pattern) => {
                let (whole, mut flow) = (text.text(), ControlFlow::Continue(()));
                let mut at = 0;
                pattern.for_each(whole, |piece| {
                    let range = at..at + piece.len();
                    at = range.end;
                    flow = sink(Pretoken { text: text.slice(range), spelt: false });
                    flow
                })?;
                Ok(flow)
            }
        }
    }
}

/// The regexes of steps that only split, before bytes; `None` where they do more.
fn regexes(steps: &[PreStep]) -> Option<Vec<String>> {
    let (PreStep::ByteLevel { prefix_space: false, split }, before) = steps.split_last()? else {
        return None;
    };
    let regex = |step: &PreStep| match step {
        PreStep::Split { find: Find::Regex(regex), behavior: Behavior::Isolated, invert: false } => {
            Some(regex.text().to_owned())
        }
        _ => None,
    };
    let mut regexes = before.iter().map(regex).collect::<Option<Vec<String>>>()?;
    if *split {
        regexes.push(super::split::GPT2_REGEX.to_owned());
    }
    Some(regexes)
}

/// Depth first, so that no list of all pieces is held; the depth is the number of steps.
fn run(
    steps: &[PreStep],
    text: &Tracked<'_>,
    spelt: bool,
    sink: &mut dyn FnMut(Pretoken<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, SplitError> {
    if text.text().is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    let Some((step, rest)) = steps.split_first() else {
        return Ok(sink(Pretoken { text: text.clone(), spelt }));
    };
    let mut changed = None;
    step.change(text, &mut changed)?;
    let text = changed.as_ref().unwrap_or(text);
    for piece in step.cut(text.text())? {
        let mut piece = text.slice(piece);
        let is_bytes = matches!(step, PreStep::ByteLevel { .. });
        // Later steps see the letters that stand for bytes; at the end the bytes themselves will do.
        let spell = is_bytes && !rest.is_empty();
        if spell {
            let spelling: Vec<_> = piece.text().chars().flat_map(spelling).collect();
            piece.transform(spelling, 0);
        }
        if run(rest, &piece, spelt || spell, sink)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The letters that stand for the bytes of a character.
fn spelling(c: char) -> impl Iterator<Item = super::tracked::Change> {
    let mut buffer = [0; 4];
    let len = c.encode_utf8(&mut buffer).len();
    (0..len).map(move |i| (byte_char(buffer[i]), isize::from(i > 0)))
}

impl PreStep {
    fn describe(&self) -> String {
        match self {
            Self::Split { find, behavior: Behavior::Isolated, invert: false } => match find {
                Find::Literal(text) => format!("Split({text:?})"),
                Find::Regex(regex) => regex.text().to_owned(),
            },
            Self::Split { find, behavior, invert } => {
                format!("Split({find:?}, {behavior:?}, invert: {invert})")
            }
            Self::ByteLevel { prefix_space, split } => {
                format!("ByteLevel(prefix space: {prefix_space}, split: {split})")
            }
            Self::Digits { single } => format!("Digits(single: {single})"),
            Self::Punctuation(behavior) => format!("Punctuation({behavior:?})"),
            Self::Words => "Whitespace".to_owned(),
            Self::Spaces => "WhitespaceSplit".to_owned(),
            Self::Metaspace { mark, prepend, split } => {
                format!("Metaspace({mark}, prepend: {prepend:?}, split: {split})")
            }
        }
    }

    /// What a step does to a text before it cuts it; `out` stays empty where that is nothing.
    fn change<'t>(&self, text: &Tracked<'t>, out: &mut Option<Tracked<'t>>) -> Result<(), SplitError> {
        match self {
            Self::ByteLevel { prefix_space: true, .. } if !text.text().starts_with(' ') => {
                out.insert(text.clone()).prepend(" ")?;
            }
            Self::Metaspace { mark, prepend, .. } => {
                let mut buffer = [0; 4];
                let mark_text: &str = mark.encode_utf8(&mut buffer);
                let text = out.insert(text.clone());
                let spaces: Vec<Range<usize>> =
                    memchr::memchr_iter(b' ', text.text().as_bytes()).map(|at| at..at + 1).collect();
                text.replace(spaces.into_iter(), mark_text)?;
                let wanted = match prepend {
                    Prepend::First => text.start() == 0,
                    Prepend::Never => false,
                    Prepend::Always => true,
                };
                if wanted && !text.text().starts_with(*mark) {
                    text.prepend(mark_text)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The pieces of a text that is not empty; some may be.
    fn cut(&self, text: &str) -> Result<Vec<Range<usize>>, SplitError> {
        let by = |is: &dyn Fn(char) -> bool, behavior| {
            let matches = text.char_indices().filter(|&(_, c)| is(c)).map(|(at, c)| at..at + c.len_utf8());
            pieces(marked(text, matches), behavior)
        };
        Ok(match self {
            Self::Split { find, behavior, invert } => {
                let mut stretches = marked(text, find.matches(text)?.into_iter());
                if *invert {
                    stretches.iter_mut().for_each(|stretch| stretch.1 = !stretch.1);
                }
                pieces(stretches, *behavior)
            }
            Self::ByteLevel { split: true, .. } => {
                let mut found = Vec::new();
                let mut at = 0;
                Pattern::of(super::Family::Gpt2).for_each(text, |piece| {
                    found.push(at..at + piece.len());
                    at += piece.len();
                    ControlFlow::Continue(())
                })?;
                found
            }
            Self::ByteLevel { split: false, .. } | Self::Metaspace { split: false, .. } => {
                std::iter::once(0..text.len()).collect()
            }
            Self::Digits { single: true } => by(&char::is_numeric, Behavior::Isolated),
            Self::Digits { single: false } => by(&char::is_numeric, Behavior::Contiguous),
            Self::Punctuation(behavior) => by(&is_punctuation, *behavior),
            Self::Spaces => by(&char::is_whitespace, Behavior::Removed),
            Self::Words => words(text),
            Self::Metaspace { mark, .. } => by(&|c| c == *mark, Behavior::MergedWithNext),
        })
    }
}

/// As the reference tells punctuation, by the tables it has (Unicode 8).
fn is_punctuation(c: char) -> bool {
    use unicode_categories::UnicodeCategories as _;
    c.is_ascii_punctuation() || c.is_punctuation()
}

/// Runs of `\w` and of neither `\w` nor `\s`.
fn words(text: &str) -> Vec<Range<usize>> {
    let class = |c: char| match (regex_syntax::try_is_word_character(c).unwrap_or(false), c.is_whitespace()) {
        (true, _) => Some(true),
        (false, false) => Some(false),
        (false, true) => None,
    };
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut before = None;
    for (at, c) in text.char_indices() {
        let this = class(c);
        match (this, found.last_mut()) {
            (Some(_), Some(last)) if this == before => last.end = at + c.len_utf8(),
            (Some(_), _) => found.push(at..at + c.len_utf8()),
            (None, _) => {}
        }
        before = this;
    }
    found
}

/// A stretch of text, and whether it is a match.
type Stretch = (Range<usize>, bool);

/// Matches and what stands between them.
fn marked(text: &str, matches: impl Iterator<Item = Range<usize>>) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut at = 0;
    for found in matches {
        if at != found.start {
            stretches.push((at..found.start, false));
        }
        at = found.end;
        stretches.push((found, true));
    }
    if at != text.len() {
        stretches.push((at..text.len(), false));
    }
    stretches
}

/// What remains of the stretches. Only a match whose neighbour is none is merged with that, as in the reference.
fn pieces(stretches: Vec<Stretch>, behavior: Behavior) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::with_capacity(stretches.len());
    let mut before = false;
    match behavior {
        Behavior::Isolated => pieces.extend(stretches.into_iter().map(|(range, _)| range)),
        Behavior::Removed => {
            pieces.extend(stretches.into_iter().filter(|(_, is_match)| !is_match).map(|(range, _)| range));
        }
        Behavior::Contiguous => {
            for (range, is_match) in stretches {
                match pieces.last_mut() {
                    Some(last) if is_match == before => last.end = range.end,
                    _ => pieces.push(range),
                }
                before = is_match;
            }
        }
        Behavior::MergedWithPrevious => {
            for (range, is_match) in stretches {
                match pieces.last_mut() {
                    Some(last) if is_match && !before => last.end = range.end,
                    _ => pieces.push(range),
                }
                before = is_match;
            }
        }
        Behavior::MergedWithNext => {
            for (range, is_match) in stretches.into_iter().rev() {
                match pieces.last_mut() {
                    Some(last) if is_match && !before => last.start = range.start,
                    _ => pieces.push(range),
                }
                before = is_match;
            }
            pieces.reverse();
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(steps: &[PreStep], text: &str) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        let text = Tracked::new(text, 0, true);
        let flow = run(steps, &text, false, &mut |piece| {
            let span = piece.text.original(0..piece.text.text().len());
            found.push((piece.text.text().to_owned(), span.start, span.end));
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        found
    }

    #[track_caller]
    fn check(steps: &[PreStep], text: &str, expect: &[(&str, usize, usize)]) {
        let expect: Vec<_> =
            expect.iter().map(|&(piece, start, end)| (piece.to_owned(), start, end)).collect();
        assert_eq!(cut(steps, text), expect);
    }

    fn dash(behavior: Behavior, invert: bool) -> [PreStep; 1] {
        [PreStep::Split { find: Find::literal("-").unwrap(), behavior, invert }]
    }

    #[test]
    fn matches_are_dealt_with_as_the_behavior_says() {
        let text = "the-final--countdown";
        let check = |behavior, expect: &[&str]| {
            let found: Vec<String> = cut(&dash(behavior, false), text).into_iter().map(|p| p.0).collect();
            assert_eq!(found, expect);
        };
        check(Behavior::Removed, &["the", "final", "countdown"]);
        check(Behavior::Isolated, &["the", "-", "final", "-", "-", "countdown"]);
        check(Behavior::MergedWithPrevious, &["the-", "final-", "-", "countdown"]);
        check(Behavior::MergedWithNext, &["the", "-final", "-", "-countdown"]);
        check(Behavior::Contiguous, &["the", "-", "final", "--", "countdown"]);
    }

    #[test]
    fn an_inverted_split_deals_with_what_stands_between() {
        check(&dash(Behavior::Removed, true), "a-b", &[("-", 1, 2)]);
    }

    #[test]
    fn marks_stand_for_spaces_and_before_the_first_word() {
        let metaspace = |prepend| [PreStep::Metaspace { mark: '▁', prepend, split: true }];
        check(&metaspace(Prepend::Always), "a b", &[("▁a", 0, 1), ("▁b", 1, 3)]);
        check(&metaspace(Prepend::Never), "a b", &[("a", 0, 1), ("▁b", 1, 3)]);
        check(&metaspace(Prepend::First), " a", &[("▁a", 0, 2)]);
    }

    #[test]
    fn steps_behind_byte_level_see_letters_that_stand_for_bytes() {
        let steps = [
            PreStep::Punctuation(Behavior::Contiguous),
            PreStep::ByteLevel { prefix_space: false, split: true },
            PreStep::Digits { single: false },
        ];
        check(&steps, "é 12!?", &[("Ã©", 0, 2), ("Ġ", 2, 3), ("12", 3, 5), ("!?", 5, 7)]);
    }

    #[test]
    fn words_and_spaces_are_told_apart() {
        check(
            &[PreStep::Words],
            "Hey, you_2 !?",
            &[("Hey", 0, 3), (",", 3, 4), ("you_2", 5, 10), ("!?", 11, 13)],
        );
        check(&[PreStep::Spaces], " a  b ", &[("a", 1, 2), ("b", 4, 5)]);
    }

    #[test]
    fn regexes_before_bytes_are_a_pattern() {
        let split = |regex| PreStep::Split {
            find: Find::regex(regex).unwrap(),
            behavior: Behavior::Isolated,
            invert: false,
        };
        let bytes = PreStep::ByteLevel { prefix_space: false, split: false };
        let made = Pretokenizer::new(vec![split("a+"), split("b+"), bytes.clone()]).unwrap();
        assert_eq!(made.pattern().unwrap().regexes(), ["a+", "b+"]);
        assert!(Pretokenizer::new(vec![bytes.clone(), bytes.clone()]).is_err());
        let spaced = PreStep::ByteLevel { prefix_space: true, split: true };
        let made = Pretokenizer::new(vec![spaced]).unwrap();
        assert!(made.pattern().is_none() && made.is_byte_level());
    }
}
