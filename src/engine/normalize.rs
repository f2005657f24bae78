//! What happens to a text before it is split: Unicode normalization forms.

use std::borrow::Cow;
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
}
