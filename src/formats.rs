//! Files that hold tokenizers, in and out; one file per format.
//!
//! A file is refused, with the place at fault, rather than approximated: what an import accepts is the tokenizer
//! that the file describes, and what an export writes leads back to the same ids.

pub mod naming;
pub mod native;
pub mod tiktoken;

use crate::engine::{
    Digits, EncodeError, Family, Normalizer, Pattern, Special, SplitError, Tokenizer, TokenizerError,
};
use serde::{Deserialize, Serialize};

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The store's own, complete in one file.
    Native,
    /// `base64 rank` lines, as tiktoken publishes them; split and special tokens are not in the file.
    Tiktoken,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Native, Self::Tiktoken];

    /// The name used in requests, commands and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tiktoken => "tiktoken",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// The file name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Native => "vocabd",
            Self::Tiktoken => "tiktoken",
        }
    }

    /// The format of a file's content.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        if native::is_native(bytes) {
            Some(Self::Native)
        } else if tiktoken::looks_like(bytes) {
            Some(Self::Tiktoken)
        } else {
            None
        }
    }
}

/// What a file does not say of itself. For a file that says it (or that is recognised by its digest) each of these
/// that is given must be left out or is taken instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportOptions {
    /// Split pattern: a family name or a regex.
    pub split: Option<String>,
    /// `single`, `group3` or `run`: replaces the split's number rule.
    pub digits: Option<String>,
    /// `none`, `nfc`, `nfd`, `nfkc` or `nfkd`.
    pub normalizer: Option<String>,
    /// Names and ids of special tokens.
    pub special: std::collections::BTreeMap<String, u32>,
}

impl ImportOptions {
    fn pattern(&self, default: Option<Pattern>) -> Result<Option<Pattern>, FormatError> {
        let option = |option, source| FormatError::Option { option, reason: source };
        let pattern = match &self.split {
            Some(split) => {
                Some(Pattern::parse(split).map_err(|e: SplitError| option("split", e.to_string()))?)
            }
            None => default,
        };
        let Some(digits) = &self.digits else { return Ok(pattern) };
        let digits = Digits::from_name(digits)
            .ok_or_else(|| option("digits", "is not one of single, group3, run".to_owned()))?;
        pattern.map(|p| p.with_digits(digits).map_err(|e| option("digits", e.to_string()))).transpose()
    }

    fn normalizer(&self, default: Normalizer) -> Result<Normalizer, FormatError> {
        let Some(name) = &self.normalizer else { return Ok(default) };
        Normalizer::from_name(name).ok_or_else(|| FormatError::Option {
            option: "normalizer",
            reason: "is not one of none, nfc, nfd, nfkc, nfkd".to_owned(),
        })
    }

    fn specials(&self) -> Vec<Special> {
        let special = |(name, id): (&String, &u32)| Special { name: name.clone(), id: *id, special: true };
        self.special.iter().map(special).collect()
    }
}

/// The files of one vocabulary: one, or several that belong together (`tokenizer.json` with its
/// `tokenizer_config.json`; `vocab.json` with `merges.txt`). What a file is is told by its content, and by its name
/// where the content does not say it.
#[derive(Debug, Clone, Default)]
pub struct Files {
    files: Vec<(String, bytes::Bytes)>,
}

impl Files {
    /// One file.
    pub fn single(name: impl Into<String>, bytes: impl Into<bytes::Bytes>) -> Self {
        let mut files = Self::default();
        files.push(name, bytes);
        files
    }

    /// Adds a file by its name (a path's last part).
    pub fn push(&mut self, name: impl Into<String>, bytes: impl Into<bytes::Bytes>) {
        self.files.push((name.into(), bytes.into()));
    }

    /// Names and contents, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &bytes::Bytes)> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes))
    }
}

/// Why a file was refused, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No format known here.
    #[error("the file is none of the formats known here: native, tiktoken")]
    Unknown,
    /// A line of a text file is at fault.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from one.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A place in a JSON file is at fault.
    #[error("{pointer}: {reason}")]
    Json {
        /// JSON pointer into the file.
        pointer: String,
        /// What is wrong there, with the name of the thing.
        reason: String,
    },
    /// A binary file is cut off or not well-formed.
    #[error("at byte {offset}: {reason}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// An option is missing or cannot be used.
    #[error("{option} {reason}")]
    Option {
        /// Its name, as in requests and sidecars.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not make a tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer that was read fails its self-check.
    #[error("the tokenizer fails its self-check: {0}")]
    SelfCheck(String),
    /// The format cannot express this tokenizer.
    #[error("the {format} format cannot hold this vocabulary: {reason}")]
    Inexpressible {
        /// The format.
        format: &'static str,
        /// What it lacks.
        reason: String,
    },
}

/// Reads a file into a tokenizer; `format` is detected from the content where it is not given.
///
/// # Errors
/// See [`FormatError`].
pub fn import(
    bytes: &[u8],
    format: Option<Format>,
    options: &ImportOptions,
) -> Result<Tokenizer, FormatError> {
    let tokenizer = match format.or_else(|| Format::detect(bytes)).ok_or(FormatError::Unknown)? {
        Format::Native => native::read_with(bytes, options)?,
        Format::Tiktoken => tiktoken::read(bytes, options)?,
    };
    self_check(&tokenizer)?;
    Ok(tokenizer)
}

/// The same for the files of one vocabulary.
///
/// # Errors
/// See [`FormatError`].
pub fn import_files(
    files: &Files,
    format: Option<Format>,
    options: &ImportOptions,
) -> Result<Tokenizer, FormatError> {
    let (_, bytes) = files.iter().next().ok_or(FormatError::Unknown)?;
    import(bytes, format, options)
}

/// Writes a tokenizer as a file that [`import`] reads back to the same ids.
///
/// # Errors
/// [`FormatError::Inexpressible`] names what the format lacks.
pub fn export(tokenizer: &Tokenizer, format: Format) -> Result<Vec<u8>, FormatError> {
    match format {
        Format::Native => Ok(native::write(tokenizer)),
        Format::Tiktoken => tiktoken::write(tokenizer),
    }
}

/// What a tiktoken file of this tokenizer does not say: with it as options an import gives the tokenizer back.
///
/// # Errors
/// [`FormatError::Inexpressible`] where options cannot say it.
pub fn sidecar(tokenizer: &Tokenizer) -> Result<ImportOptions, FormatError> {
    let inexpressible =
        |reason: &str| FormatError::Inexpressible { format: "tiktoken", reason: reason.to_owned() };
    let pattern = tokenizer.pattern();
    let (split, digits) = match (named(pattern), pattern.regexes()) {
        (Some((family, digits)), _) => (family.name().to_owned(), digits.map(|d| d.name().to_owned())),
        (None, []) => ("none".to_owned(), None),
        (None, [regex]) => (regex.clone(), None),
        (None, _) => return Err(inexpressible("its split is a sequence of patterns")),
    };
    let specials = tokenizer.specials().list();
    if specials.iter().any(|token| !token.special) {
        return Err(inexpressible("it has added tokens that are not special"));
    }
    Ok(ImportOptions {
        split: Some(split),
        digits,
        normalizer: Some(tokenizer.normalizer().name().to_owned()),
        special: specials.iter().map(|t| (t.name.clone(), t.id)).collect(),
    })
}

/// The family that a pattern is, perhaps with its number rule replaced.
fn named(pattern: &Pattern) -> Option<(Family, Option<Digits>)> {
    let plain = Family::ALL.into_iter().find(|&family| Pattern::of(family) == *pattern);
    plain.map(|family| (family, None)).or_else(|| {
        let variants = Family::ALL.into_iter().flat_map(|family| Digits::ALL.map(|digits| (family, digits)));
        let same = |&(family, digits): &(Family, Digits)| {
            Pattern::of(family).with_digits(digits).as_ref() == Ok(pattern)
        };
        variants.into_iter().find(same).map(|(family, digits)| (family, Some(digits)))
    })
}

/// Texts of the kinds that go wrong first: a vocabulary that does not give them back is not served.
const PROBES: [&str; 6] = [
    "The quick brown fox, 1234567 times; it's DON'T.\r\n\t  x = {\"a\": [1, 2]};\n",
    "自然语言处理把文本切成词元。日本語のテキスト、한국어 텍스트。",
    "Ünïcödé \u{e9} — “quotes” … ₿ ½ Ⅷ ʼn ſ İ",
    "😀👩‍👩‍👧‍👦🇩🇪 \u{1F468}\u{200d}\u{1F4BB}",
    "مرحبا नमस्ते ไทย שלום Привет",
    "\u{0}\u{1}\u{7f}\u{80}\u{a0}\u{feff}\u{fffd}\u{10ffff}    ",
];

/// Encodes and decodes texts of many scripts.
fn self_check(tokenizer: &Tokenizer) -> Result<(), FormatError> {
    let mut scratch = crate::engine::Scratch::default();
    for text in PROBES {
        let ids = tokenizer
            .encode(text, &crate::engine::EncodeOptions::default(), &mut scratch)
            .map_err(|e: EncodeError| FormatError::SelfCheck(e.to_string()))?
            .ids;
        let bytes = tokenizer.decode_bytes(&ids, false).map_err(|e| FormatError::SelfCheck(e.to_string()))?;
        if bytes != tokenizer.normalizer().apply(text).as_bytes() {
            return Err(FormatError::SelfCheck("a text is not given back by decoding its ids".to_owned()));
        }
    }
    Ok(())
}
