//! What happens to a text before it is split, and the way back to the original offsets.
//!
//! Each step does what the normalizer of the same name in Hugging Face's tokenizers does, down to its offsets.

use super::find::{Find, replaced};
use super::tracked::{Change, Tracked};
use super::{Charsmap, SentencePieceNormalizer, SplitError, special};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use unicode_normalization::{IsNormalized, UnicodeNormalization as Current};
use unicode_normalization_alignments::{self as reference, UnicodeNormalization as Reference};

/// A normalizer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Normalizer {
    /// The text as it is.
    #[default]
    None,
    /// A Unicode normalization form. `Nfc` is what the Qwen model code does before it splits; decoding then returns
    /// the normalized text, by design.
    Unicode(Form, Tables),
    /// Every character in lower case, by itself.
    Lowercase,
    /// White space at the ends is left out.
    Strip {
        /// At the beginning.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// Some characters are put before every text that is not empty.
    Prepend(String),
    /// Matches become other characters.
    Replace(Find, String),
    /// Replacement rules of SentencePiece, applied as Hugging Face does it.
    Precompiled(Arc<Charsmap>),
    /// SentencePiece's own normalizer.
    SentencePiece(Arc<SentencePieceNormalizer>),
    /// One after the other.
    Sequence(Vec<Normalizer>),
}

/// A Unicode normalization form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

/// Whose tables say what composes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// The current Unicode version's.
    Current,
    /// Those of Hugging Face's tokenizers: Unicode 9. Characters that came later stay as they are.
    Reference,
}

/// The characters up to U+FFFF that no composition changes, moves or is made of together with what stands before them: a text
/// of them has NFC. Made at the first use (2 ms), because asking the libraries' tables for each character of a Chinese
/// text takes longer than encoding it.
struct Composed(Box<[u64; 1024]>);

impl Composed {
    fn new(is_composed: impl Fn(char) -> bool) -> Self {
        let mut bits = Box::new([0; 1024]);
        for c in ('\0'..='\u{ffff}').filter(|&c| is_composed(c)) {
            bits[c as usize / 64] |= 1 << (c as usize % 64);
        }
        Self(bits)
    }

    #[inline]
    fn has(&self, c: char) -> bool {
        self.0.get(c as usize / 64).is_some_and(|bits| bits >> (c as usize % 64) & 1 == 1)
    }
}

impl Tables {
    fn composed(self) -> &'static Composed {
        static CURRENT: LazyLock<Composed> = LazyLock::new(|| {
            Composed::new(|c| {
                unicode_normalization::is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
                    && unicode_normalization::char::canonical_combining_class(c) == 0
            })
        });
        static REFERENCE: LazyLock<Composed> = LazyLock::new(|| {
            Composed::new(|c| {
                reference::is_nfc_quick(std::iter::once(c)) == reference::IsNormalized::Yes
                    && reference::char::canonical_combining_class(c) == 0
            })
        });
        match self {
            Self::Current => &CURRENT,
            Self::Reference => &REFERENCE,
        }
    }
}

/// A text in NFC: only what is around characters that may change goes through the library. Each of those stretches ends before
/// a character that goes with nothing before it, and begins with one.
fn compose(text: &str, tables: Tables) -> String {
    let composed = tables.composed();
    let mut out = String::with_capacity(text.len());
    let (mut from, mut last, mut changing) = (0, 0, false);
    let mut pass = |stretch: &str, changing: bool| match (changing, tables) {
        (false, _) => out.push_str(stretch),
        (true, Tables::Current) => out.extend(Current::nfc(stretch.chars())),
        (true, Tables::Reference) => out.extend(Reference::nfc(stretch).map(|(c, _)| c)),
    };
    for (at, c) in text.char_indices() {
        let stays = composed.has(c);
        if stays && changing {
            pass(&text[from..at], true);
            (from, changing) = (at, false);
        } else if !stays && !changing {
            pass(&text[from..last], false);
            (from, changing) = (last, true);
        }
        last = at;
    }
    pass(&text[from..], changing);
    out
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Nfc, Self::Nfd, Self::Nfkc, Self::Nfkd];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nfc => "nfc",
            Self::Nfd => "nfd",
            Self::Nfkc => "nfkc",
            Self::Nfkd => "nfkd",
        }
    }

    /// Whether it is quick to see that a text has this form already.
    fn has(self, text: &str, tables: Tables) -> bool {
        if text.is_ascii() || self == Self::Nfc && text.chars().all(|c| tables.composed().has(c)) {
            return true;
        }
        let chars = text.chars();
        match tables {
            Tables::Current => {
                IsNormalized::Yes
                    == match self {
                        Self::Nfc => unicode_normalization::is_nfc_quick(chars),
                        Self::Nfd => unicode_normalization::is_nfd_quick(chars),
                        Self::Nfkc => unicode_normalization::is_nfkc_quick(chars),
                        Self::Nfkd => unicode_normalization::is_nfkd_quick(chars),
                    }
            }
            Tables::Reference => {
                reference::IsNormalized::Yes
                    == match self {
                        Self::Nfc => reference::is_nfc_quick(chars),
                        Self::Nfd => reference::is_nfd_quick(chars),
                        Self::Nfkc => reference::is_nfkc_quick(chars),
                        Self::Nfkd => reference::is_nfkd_quick(chars),
                    }
            }
        }
    }

    /// The characters that a text becomes, by the reference's tables.
    fn changes(self, text: &str) -> Vec<Change> {
        match self {
            Self::Nfc => Reference::nfc(text).collect(),
            Self::Nfd => Reference::nfd(text).collect(),
            Self::Nfkc => Reference::nfkc(text).collect(),
            Self::Nfkd => Reference::nfkd(text).collect(),
        }
    }

    /// The text in this form, by the current tables.
    fn current(self, text: &str) -> String {
        let chars = text.chars();
        match self {
            Self::Nfc => Current::nfc(chars).collect(),
            Self::Nfd => Current::nfd(chars).collect(),
            Self::Nfkc => Current::nfkc(chars).collect(),
            Self::Nfkd => Current::nfkd(chars).collect(),
        }
    }

    /// The text in this form; borrowed where nothing changes and that is quick to see.
    pub fn apply(self, tables: Tables, text: &str) -> Cow<'_, str> {
        let mut tracked = Tracked::new(text, 0, false);
        self.run(tables, &mut tracked);
        tracked.into_text()
    }

    pub(super) fn run(self, tables: Tables, text: &mut Tracked<'_>) {
        if self.has(text.text(), tables) {
            return;
        }
        if self == Self::Nfc && !text.is_tracked() {
            text.set(compose(text.text(), tables), None);
            return;
        }
        let changes = match tables {
            Tables::Reference => self.changes(text.text()),
            Tables::Current if !text.is_tracked() => {
                text.set(self.current(text.text()), None);
                return;
            }
            Tables::Current => self.current_changes(text.text()),
        };
        text.transform(changes, 0);
    }

    /// The same as [`Form::changes`] by the current tables: decomposed, marks put in order, and, where the form asks for
    /// it, composed (Unicode Standard Annex 15, section 1.3).
    fn current_changes(self, text: &str) -> Vec<Change> {
        use unicode_normalization::char::{
            canonical_combining_class as class, compose, decompose_canonical, decompose_compatible,
        };
        let mut changes: Vec<Change> = Vec::with_capacity(text.len());
        for c in text.chars() {
            let first = changes.len();
            let push = |part| {
                let change = isize::from(changes.len() > first);
                changes.push((part, change));
            };
            match self {
                Self::Nfc | Self::Nfd => decompose_canonical(c, push),
                Self::Nfkc | Self::Nfkd => decompose_compatible(c, push),
            }
        }
        for marks in changes.chunk_by_mut(|a, b| class(a.0) != 0 && class(b.0) != 0) {
            if class(marks[0].0) != 0 {
                marks.sort_by_key(|mark| class(mark.0));
            }
        }
        if matches!(self, Self::Nfd | Self::Nfkd) {
            return changes;
        }
        let mut composed: Vec<Change> = Vec::with_capacity(changes.len());
        let mut starter: Option<usize> = None;
        for (c, change) in changes {
            // A mark is blocked from the starter by one before it that has its class or a higher one.
            let blocked = || {
                starter.is_some_and(|at| composed.len() > at + 1)
                    && composed.last().is_some_and(|last| class(last.0) >= class(c))
            };
            if let Some(at) = starter.filter(|_| !blocked())
                && let Some(whole) = compose(composed[at].0, c)
            {
                composed[at] = (whole, composed[at].1 + change - 1);
                continue;
            }
            if class(c) == 0 {
                starter = Some(composed.len());
            }
            composed.push((c, change));
        }
        composed
    }
}

/// Behind the name of a form: by the tables of the reference.
const REFERENCE_SUFFIX: &str = "-unicode9";

impl Normalizer {
    /// The current tables' composition, as Qwen's own code has it.
    pub const NFC: Self = Self::Unicode(Form::Nfc, Tables::Current);

    /// The normalizer of that name: `none`, `nfc`, `nfd`, `nfkc`, `nfkd`, and those with `-unicode9` behind for the
    /// tables of Hugging Face's tokenizers.
    pub fn from_name(name: &str) -> Option<Self> {
        let (name, tables) = match name.strip_suffix(REFERENCE_SUFFIX) {
            Some(name) => (name, Tables::Reference),
            None => (name, Tables::Current),
        };
        let form = Form::ALL.into_iter().find(|form| form.name() == name);
        let none = (name == "none" && tables == Tables::Current).then_some(Self::None);
        form.map(|form| Self::Unicode(form, tables)).or(none)
    }

    /// The name that [`Normalizer::from_name`] takes, where it has one.
    pub fn option_name(&self) -> Option<String> {
        match self {
            Self::None => Some("none".to_owned()),
            Self::Unicode(form, Tables::Current) => Some(form.name().to_owned()),
            Self::Unicode(form, Tables::Reference) => Some(format!("{}{REFERENCE_SUFFIX}", form.name())),
            _ => None,
        }
    }

    /// What it is, for people.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::None => "none".into(),
            Self::Unicode(form, _) => form.name().into(),
            Self::Lowercase => "lowercase".into(),
            Self::Strip { .. } => "strip".into(),
            Self::Prepend(_) => "prepend".into(),
            Self::Replace(..) => "replace".into(),
            Self::Precompiled(_) => "precompiled".into(),
            Self::SentencePiece(_) => "sentencepiece".into(),
            Self::Sequence(steps) => {
                let names: Vec<_> = steps.iter().map(Self::name).collect();
                names.join(", ").into()
            }
        }
    }

    /// Whether no text is changed.
    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Sequence(steps) => steps.iter().all(Self::is_none),
            _ => false,
        }
    }

    /// The normalized text; borrowed where nothing changes and that is quick to see.
    ///
    /// # Errors
    /// A regex that backtracks used up its steps, or the text grows out of proportion.
    pub fn apply<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, SplitError> {
        let mut tracked = Tracked::new(text, 0, false);
        self.run(&mut tracked)?;
        Ok(tracked.into_text())
    }

    /// Normalizes in place.
    pub(super) fn run(&self, text: &mut Tracked<'_>) -> Result<(), SplitError> {
        match self {
            Self::None => {}
            Self::Unicode(form, tables) => form.run(*tables, text),
            Self::Lowercase => {
                let changed = |c: char| c.to_lowercase().ne(std::iter::once(c));
                if text.text().chars().any(changed) {
                    let lower = |c: char| c.to_lowercase().enumerate().map(|(i, c)| (c, isize::from(i > 0)));
                    let changes: Vec<Change> = text.text().chars().flat_map(lower).collect();
                    text.transform(changes, 0);
                }
            }
            Self::Strip { left, right } => strip(text, *left, *right),
            Self::Prepend(prefix) => text.prepend(prefix)?,
            Self::Replace(find, content) => {
                if let (Some(byte), false) = (find.ascii(), text.is_tracked())
                    && let Some(changed) = replaced("", text.text(), byte, content, text.limit())
                {
                    text.set(changed, None);
                    return Ok(());
                }
                let matches = find.matches(text.text())?;
                text.replace(matches.into_iter(), content)?;
            }
            Self::Precompiled(charsmap) => {
                let mut changes: Vec<Change> = Vec::with_capacity(text.text().len());
                if charsmap.hf_changes(text.text(), |c, change| changes.push((c, change))) {
                    text.transform(changes, 0);
                }
            }
            Self::SentencePiece(normalizer) => {
                let mut origins = text.is_tracked().then(Vec::new);
                let normalized = normalizer.normalize(text.text(), origins.as_mut());
                let start = text.start() as u32;
                origins
                    .iter_mut()
                    .flatten()
                    .for_each(|origin| *origin = (origin.0 + start, origin.1 + start));
                text.set(normalized, origins);
            }
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.run(text))?,
        }
        Ok(())
    }

    /// How an added token that is looked for in the normalized text stands there.
    pub(super) fn name_in_text(&self, name: &str) -> Result<String, special::SpecialError> {
        // User-defined pieces of SentencePiece pass its normalizer.
        if let Self::SentencePiece(_) = self {
            return Ok(name.to_owned());
        }
        self.apply(name).map(Cow::into_owned).map_err(|_| special::SpecialError::TooLarge)
    }
}

/// The reference strips both ends in one go, and then a character has the stretch of the stripped ones behind it only
/// if there is a byte offset equal to its number; as nothing asks for the end of that stretch, offsets do not show it.
fn strip(text: &mut Tracked<'_>, left: bool, right: bool) {
    let old = text.text();
    let count = |chars: &mut dyn Iterator<Item = char>| chars.take_while(|c| c.is_whitespace()).count();
    let leading = if left { count(&mut old.chars()) } else { 0 };
    let trailing = if right { count(&mut old.chars().rev()) } else { 0 };
    if leading == 0 && trailing == 0 {
        return;
    }
    let kept = old.chars().count().saturating_sub(trailing).saturating_sub(leading);
    let changes: Vec<Change> = old.chars().skip(leading).take(kept).map(|c| (c, 0)).collect();
    text.transform(changes, leading);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Span;
    use proptest::prelude::*;

    #[test]
    fn names_are_told_and_taken() {
        for name in ["none", "nfc", "nfd", "nfkc", "nfkd", "nfc-unicode9", "nfkd-unicode9"] {
            assert_eq!(Normalizer::from_name(name).unwrap().option_name().as_deref(), Some(name));
        }
        assert_eq!(Normalizer::from_name("nfc-unicode9").unwrap().name(), "nfc");
        assert_eq!(Normalizer::from_name("none-unicode9"), None);
        assert_eq!(Normalizer::from_name("lowercase"), None);
    }

    #[track_caller]
    fn check(normalizer: &Normalizer, text: &str, expect: &[(char, usize, usize)]) {
        let mut tracked = Tracked::new(text, 0, true);
        normalizer.run(&mut tracked).unwrap();
        let spans: Vec<_> = tracked
            .text()
            .char_indices()
            .map(|(i, c)| {
                let Span { start, end } = tracked.original(i..i + c.len_utf8());
                (c, start, end)
            })
            .collect();
        assert_eq!(spans, expect);
        assert_eq!(normalizer.apply(text).unwrap(), tracked.text());
    }

    #[test]
    fn composed_characters_stand_where_their_first_part_stood() {
        for tables in [Tables::Current, Tables::Reference] {
            let nfc = Normalizer::Unicode(Form::Nfc, tables);
            check(&nfc, "xe\u{301}y", &[('x', 0, 1), ('é', 1, 2), ('y', 4, 5)]);
            let nfd = Normalizer::Unicode(Form::Nfd, tables);
            check(&nfd, "éy", &[('e', 0, 2), ('\u{301}', 0, 2), ('y', 2, 3)]);
        }
    }

    #[test]
    fn the_steps_of_llama_put_a_mark_before_and_in_place_of_spaces() {
        let space = Normalizer::Replace(Find::literal(" ").unwrap(), "▁".to_owned());
        let llama = Normalizer::Sequence(vec![Normalizer::Prepend("▁".to_owned()), space]);
        check(&llama, "a b", &[('▁', 0, 1), ('a', 0, 1), ('▁', 1, 2), ('b', 2, 3)]);
        check(&llama, "", &[]);
    }

    #[test]
    fn ends_are_stripped_and_letters_lowered() {
        check(
            &Normalizer::Strip { left: true, right: true },
            "  a b ",
            &[('a', 2, 3), (' ', 3, 4), ('b', 4, 5)],
        );
        check(&Normalizer::Lowercase, "İA", &[('i', 0, 2), ('\u{307}', 0, 2), ('a', 2, 3)]);
    }

    proptest! {
        #[test]
        fn tracked_normalization_matches_naive(text in "[a-c\u{300}-\u{305}\u{323}\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}가각é½ﬁÅ\u{212b}\u{958}중]{0,24}") {
            for form in Form::ALL {
                for tables in [Tables::Current, Tables::Reference] {
                    let n = Normalizer::Unicode(form, tables);
                    let mut tracked = Tracked::new(&text, 0, true);
                    n.run(&mut tracked).unwrap();
                    let naive = form.current(&text);
                    prop_assert_eq!(tracked.text(), &naive);
                    prop_assert_eq!(n.apply(&text).unwrap(), naive);
                    // Whose tables they are does not show in a text of old characters, nor in its way back.
                    prop_assert_eq!(form.current_changes(&text), form.changes(&text));
                }
            }
        }
    }
}

#[cfg(test)]
mod composing {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn composing_around_what_changes_is_composing_the_whole(
            text in "(?s)(a|é|e|\u{301}|\u{323}|\u{e0}|\u{1100}|\u{1161}|\u{11a8}|\u{ac00}|か|\u{3099}|中|\u{f900}|\u{1d15e}|\u{10ffff}|.){0,24}"
        ) {
            let current: String = Current::nfc(text.chars()).collect();
            prop_assert_eq!(Form::Nfc.apply(Tables::Current, &text), current);
            let reference: String = Reference::nfc(text.as_str()).map(|(c, _)| c).collect();
            prop_assert_eq!(Form::Nfc.apply(Tables::Reference, &text), reference);
        }
    }
}
