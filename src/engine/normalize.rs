//! What happens to a text before it is split: Unicode normalization forms, and the way back to the original offsets.

use super::Span;
use std::borrow::Cow;
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// A Unicode normalization applied to every stretch of text between special tokens.
///
/// `Nfc` is what the Qwen model code does before it splits; decoding then returns the normalized text, by design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalizer {
    /// The text as it is.
    #[default]
    None,
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

impl Normalizer {
    /// The normalizer of that name: `none`, `nfc`, `nfd`, `nfkc`, `nfkd`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Nfc, Self::Nfd, Self::Nfkc, Self::Nfkd].into_iter().find(|n| n.name() == name)
    }

    /// The name that [`Normalizer::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nfc => "nfc",
            Self::Nfd => "nfd",
            Self::Nfkc => "nfkc",
            Self::Nfkd => "nfkd",
        }
    }

    /// The normalized text; borrowed where nothing changes and that is quick to see.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        let unchanged = match self {
            Self::None => true,
            Self::Nfc => text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes,
            Self::Nfkc => text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes,
            Self::Nfd | Self::Nfkd => text.is_ascii(),
        };
        if unchanged {
            return Cow::Borrowed(text);
        }
        Cow::Owned(match self {
            Self::None => text.to_owned(),
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
        })
    }

    /// The normalized text, and how its stretches lie in the original.
    pub fn apply_aligned(self, text: &str) -> (Cow<'_, str>, Alignment) {
        let normalized = self.apply(text);
        if matches!(normalized, Cow::Borrowed(_)) {
            return (normalized, Alignment { runs: Vec::new(), original_len: text.len() });
        }
        let mut out = String::with_capacity(normalized.len());
        let mut runs: Vec<Run> = Vec::new();
        let mut starts = text.char_indices().filter(|&(i, c)| i == 0 || self.starts_segment(c)).peekable();
        while let Some((start, _)) = starts.next() {
            let end = starts.peek().map_or(text.len(), |&(next, _)| next);
            let segment = self.apply(&text[start..end]);
            let unchanged = *segment == text[start..end];
            if !(unchanged && runs.last().is_some_and(|run| run.unchanged)) {
                runs.push(Run { normalized: out.len(), original: start, unchanged });
            }
            out.push_str(&segment);
        }
        debug_assert_eq!(out, *normalized, "segments are normalized independently of each other");
        (Cow::Owned(out), Alignment { runs, original_len: text.len() })
    }

    /// Whether normalization never looks across the place before `c`.
    fn starts_segment(self, c: char) -> bool {
        let one = std::iter::once(c);
        canonical_combining_class(c) == 0
            && match self {
                Self::None => true,
                Self::Nfc | Self::Nfd => is_nfc_quick(one) == IsNormalized::Yes,
                Self::Nfkc | Self::Nfkd => is_nfkc_quick(one) == IsNormalized::Yes,
            }
    }
}

/// A stretch of normalized text and where it came from; it reaches to the next run.
#[derive(Debug, Clone, Copy)]
struct Run {
    normalized: usize,
    original: usize,
    unchanged: bool,
}

/// Maps offsets in a normalized text back to the original one.
#[derive(Debug, Clone)]
pub struct Alignment {
    /// Ascending; empty where nothing was changed.
    runs: Vec<Run>,
    original_len: usize,
}

impl Alignment {
    /// The original bytes of a stretch of normalized bytes. A stretch that touches characters which normalization
    /// changed has the whole original sequence that they came from.
    pub fn original(&self, span: Span) -> Span {
        if self.runs.is_empty() {
            return span;
        }
        let start = self.run_at(span.start);
        let last = self.run_at(span.end.max(span.start + 1) - 1);
        let run = self.runs[start];
        let from = if run.unchanged { run.original + (span.start - run.normalized) } else { run.original };
        let run = self.runs[last];
        let to = match (run.unchanged, self.runs.get(last + 1)) {
            (true, _) => run.original + (span.end - run.normalized),
            (false, Some(next)) => next.original,
            (false, None) => self.original_len,
        };
        Span { start: from, end: to.max(from) }
    }

    fn run_at(&self, at: usize) -> usize {
        self.runs.partition_point(|run| run.normalized <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_and_taken() {
        for n in [Normalizer::None, Normalizer::Nfc, Normalizer::Nfd, Normalizer::Nfkc, Normalizer::Nfkd] {
            assert_eq!(Normalizer::from_name(n.name()), Some(n));
        }
        assert_eq!(Normalizer::from_name("lowercase"), None);
    }

    #[test]
    fn spans_of_composed_characters_lead_to_the_whole_sequence() {
        let text = "xe\u{301}y";
        let (normalized, alignment) = Normalizer::Nfc.apply_aligned(text);
        assert_eq!(normalized, "xéy");
        let map = |start, end| {
            let s = alignment.original(Span { start, end });
            (s.start, s.end)
        };
        assert_eq!(
            (map(0, 1), map(1, 3), map(1, 2), map(3, 4), map(0, 4)),
            ((0, 1), (1, 4), (1, 4), (4, 5), (0, 5))
        );
    }

    proptest! {
        #[test]
        fn aligned_normalization_matches_naive(text in "[a-c\u{300}-\u{305}\u{323}\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}가각é½ﬁÅ\u{212b}\u{958}중]{0,24}") {
            for n in [Normalizer::Nfc, Normalizer::Nfd, Normalizer::Nfkc, Normalizer::Nfkd] {
                let (aligned, alignment) = n.apply_aligned(&text);
                prop_assert_eq!(&*aligned, &*n.apply(&text));
                let whole = alignment.original(Span { start: 0, end: aligned.len() });
                prop_assert_eq!((whole.start, whole.end), (0, text.len()));
            }
        }
    }
}
