//! Files that hold tokenizers, in and out; one file per format.
//!
//! A file is refused, with the place at fault, rather than approximated: what an import accepts is the tokenizer
//! that the file describes, and what an export writes leads back to the same ids.

pub mod gguf;
pub mod gpt2;
pub mod hf;
pub mod naming;
pub mod native;
pub mod sentencepiece;
pub mod tekken;
pub mod tiktoken;

use crate::engine::{
    Decoder, Digits, EncodeError, Family, Normalizer, Pattern, Special, SplitError, Tokenizer, TokenizerError,
};
use naming::{Name, Role};
use serde::{Deserialize, Serialize};

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The store's own, complete in one file.
    Native,
    /// `tokenizer.json` of Hugging Face's tokenizers.
    Hf,
    /// `base64 rank` lines, as tiktoken publishes them; split and special tokens are not in the file.
    Tiktoken,
    /// GPT-2's two files: tokens with ids (`vocab.json`, `encoder.json`) and merges (`merges.txt`, `vocab.bpe`).
    Gpt2,
    /// `tokenizer.model` of SentencePiece.
    Sentencepiece,
    /// Mistral's `tekken.json`.
    Tekken,
    /// The metadata of a GGUF file, as llama.cpp reads it.
    Gguf,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] =
        [Self::Native, Self::Hf, Self::Tiktoken, Self::Gpt2, Self::Sentencepiece, Self::Tekken, Self::Gguf];

    /// The name used in requests, commands and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Hf => "hf",
            Self::Tiktoken => "tiktoken",
            Self::Gpt2 => "gpt2",
            Self::Sentencepiece => "sentencepiece",
            Self::Tekken => "tekken",
            Self::Gguf => "gguf",
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
            Self::Hf => "json",
            Self::Tiktoken => "tiktoken",
            Self::Gpt2 => "bpe",
            Self::Sentencepiece => "model",
            Self::Tekken => "tekken.json",
            Self::Gguf => "gguf",
        }
    }

    /// The format of a file's content.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        if native::is_native(bytes) {
            Some(Self::Native)
        } else if gguf::looks_like(bytes) {
            Some(Self::Gguf)
        } else if tekken::looks_like(bytes) {
            Some(Self::Tekken)
        } else if hf::looks_like(bytes) {
            Some(Self::Hf)
        } else if tiktoken::looks_like(bytes) {
            Some(Self::Tiktoken)
        } else if sentencepiece::looks_like(bytes) {
            Some(Self::Sentencepiece)
        } else if gpt2::looks_like_merges(bytes) {
            Some(Self::Gpt2)
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
    /// `none`, `nfc`, `nfd`, `nfkc` or `nfkd`; with `-unicode9` behind by the tables of Hugging Face's tokenizers.
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
            reason: "is not one of none, nfc, nfd, nfkc, nfkd (with -unicode9 behind: by the tables of Hugging Face)".to_owned(),
        })
    }

    /// Refuses options where a file says all by itself.
    fn refuse(&self, reason: &str) -> Result<(), FormatError> {
        let given = [
            ("split", self.split.is_some()),
            ("digits", self.digits.is_some()),
            ("normalizer", self.normalizer.is_some()),
            ("special", !self.special.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(FormatError::Option { option, reason: reason.to_owned() }),
            None => Ok(()),
        }
    }

    fn specials(&self) -> Vec<Special> {
        let special = |(name, id): (&String, &u32)| Special::new(name.clone(), *id, true);
        self.special.iter().map(special).collect()
    }
}

/// The files of one vocabulary.
///
/// One, or several that belong together (`tokenizer.json` with its `tokenizer_config.json`; `vocab.json` with
/// `merges.txt`). What a file is is told by its content, and by its name where the content does not say it.
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

    /// The format of the first file that has one.
    pub fn detect(&self) -> Option<Format> {
        let formats: Vec<Format> = self.main_files().filter_map(|bytes| Format::detect(bytes)).collect();
        // What is complete goes before what needs a second file.
        formats.iter().copied().min_by_key(|format| *format == Format::Gpt2)
    }

    /// The files that may hold the tokens.
    fn main_files(&self) -> impl Iterator<Item = &bytes::Bytes> {
        let is_main = |role: Role| role.is_vocabulary() || role == Role::Ids;
        self.files.iter().filter(move |(name, _)| is_main(Name::of(name).role)).map(|(_, bytes)| bytes)
    }

    /// The main file of a format.
    fn main(&self, format: Format) -> Option<&bytes::Bytes> {
        let of_format = self.main_files().find(|bytes| Format::detect(bytes) == Some(format));
        of_format.or_else(|| self.main_files().next())
    }

    fn find(&self, is: impl Fn(&[u8]) -> bool) -> Option<&bytes::Bytes> {
        self.main_files().find(|bytes| is(bytes))
    }

    fn companions(&self) -> hf::Companions<'_> {
        let of_role = |role| {
            let mut files = self.files.iter();
            files.find(|(name, _)| Name::of(name).role == role).map(|(_, bytes)| &bytes[..])
        };
        hf::Companions { config: of_role(Role::TokenizerConfig), template: of_role(Role::ChatTemplate) }
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
    #[error(
        "the file is none of the formats known here: native, hf, tiktoken, gpt2, sentencepiece, tekken, gguf"
    )]
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
    if format.or_else(|| Format::detect(bytes)) == Some(Format::Native) {
        // Needs no copy: with one there would for a moment be more of the file in memory than of the tokenizer.
        let tokenizer = read_native(bytes, options)?;
        self_check(&tokenizer)?;
        return Ok(tokenizer);
    }
    import_files(&Files::single("", bytes.to_vec()), format, options)
}

fn read_native(bytes: &[u8], options: &ImportOptions) -> Result<Tokenizer, FormatError> {
    options.refuse("cannot be given: a native file has its own")?;
    native::read(bytes)
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
    let format = format.or_else(|| files.detect()).ok_or(FormatError::Unknown)?;
    let main = files.main(format).ok_or(FormatError::Unknown)?;
    let complete = |name: &str| options.refuse(&format!("cannot be given: {name} has its own"));
    let companions = files.companions();
    let tokenizer = match format {
        Format::Native => read_native(main, options)?,
        Format::Hf => {
            complete("a tokenizer.json")?;
            hf::read(main, companions)?
        }
        Format::Sentencepiece => {
            complete("a SentencePiece model")?;
            sentencepiece::read(main, companions)?
        }
        Format::Tekken => {
            complete("a tekken file")?;
            tekken::read(main)?
        }
        Format::Gguf => gguf::read(main, options)?,
        Format::Tiktoken => tiktoken::read(main, options)?,
        Format::Gpt2 => {
            let missing = |what: &str| FormatError::Option {
                option: "files",
                reason: format!("must have {what} beside it: the format has two files"),
            };
            let vocab =
                files.find(gpt2::looks_like_vocab).ok_or_else(|| missing("vocab.json (or encoder.json)"))?;
            let merges =
                files.find(gpt2::looks_like_merges).ok_or_else(|| missing("merges.txt (or vocab.bpe)"))?;
            gpt2::read(vocab, merges, options)?
        }
    };
    let tokenizer = match format {
        // Their readers have taken what the companions say.
        Format::Hf | Format::Sentencepiece => tokenizer,
        _ => match hf::chat_templates(companions)? {
            chat if tokenizer.chat().is_empty() && format != Format::Native => tokenizer.with_chat(chat),
            _ => tokenizer,
        },
    };
    self_check(&tokenizer)?;
    Ok(tokenizer)
}

/// Writes a tokenizer as files that [`import_files`] reads back to the same ids, the main file first. Names are those
/// under which other programs look for them.
///
/// # Errors
/// [`FormatError::Inexpressible`] names what the format lacks.
pub fn export_files(tokenizer: &Tokenizer, format: Format) -> Result<Files, FormatError> {
    let mut files = Files::default();
    match format {
        Format::Native => files.push("tokenizer.vocabd", native::write(tokenizer)),
        Format::Tiktoken => {
            files.push("tokenizer.tiktoken", tiktoken::write(tokenizer)?);
            files.push(SIDECAR, sidecar_file(tokenizer)?);
            // Python's tiktoken cannot have every split that the file can be read with here.
            if let Ok(module) = tiktoken::python(tokenizer, "tokenizer.tiktoken") {
                files.push("tokenizer.py", module);
            }
        }
        Format::Hf => {
            files.push("tokenizer.json", hf::write(tokenizer)?);
            files.push("tokenizer_config.json", hf::write_config(tokenizer));
        }
        Format::Gpt2 => {
            let (vocab, merges) = gpt2::write(tokenizer)?;
            files.push("vocab.json", vocab);
            files.push("merges.txt", merges);
            files.push(SIDECAR, sidecar_file(tokenizer)?);
        }
        Format::Sentencepiece | Format::Tekken | Format::Gguf => {
            return Err(FormatError::Inexpressible {
                format: format.name(),
                reason: "it is only read; native holds all, hf most of it".to_owned(),
            });
        }
    }
    Ok(files)
}

/// Whether each ordinary token of more than a byte is what one merge makes, as in tiktoken's files and in what is
/// trained here. Then its bytes lead to it, and taking whole pretokens as tokens is but a shortcut.
fn merges_reach_all(tokenizer: &Tokenizer) -> bool {
    tokenizer.model().is_all_bytes() && tokenizer.merges().len() + 256 == tokenizer.vocab().ordinary().count()
}

/// The name of a sidecar among the files of an export.
pub const SIDECAR: &str = "tokenizer.toml";

/// What the files of a format do not hold, as an import takes it.
fn sidecar_file(tokenizer: &Tokenizer) -> Result<String, FormatError> {
    Ok(toml::to_string(&sidecar(tokenizer)?).expect("strings and numbers have a TOML form"))
}

/// Writes a tokenizer as one file: the main file of [`export_files`].
///
/// # Errors
/// [`FormatError::Inexpressible`] names what the format lacks.
pub fn export(tokenizer: &Tokenizer, format: Format) -> Result<Vec<u8>, FormatError> {
    let files = export_files(tokenizer, format)?;
    let main = files.iter().next().map(|(_, bytes)| bytes.to_vec());
    Ok(main.unwrap_or_default())
}

/// What a tiktoken file of this tokenizer does not say: with it as options an import gives the tokenizer back.
///
/// # Errors
/// [`FormatError::Inexpressible`] where options cannot say it.
pub fn sidecar(tokenizer: &Tokenizer) -> Result<ImportOptions, FormatError> {
    let inexpressible =
        |reason: &str| FormatError::Inexpressible { format: "tiktoken", reason: reason.to_owned() };
    let Some(pattern) = tokenizer.pretokenizer().pattern() else {
        return Err(inexpressible("its pre-tokenizer is more than a split pattern"));
    };
    let (split, digits) = match (named(pattern), pattern.regexes()) {
        (Some((family, digits)), _) => (family.name().to_owned(), digits.map(|d| d.name().to_owned())),
        (None, []) => ("none".to_owned(), None),
        (None, [regex]) => (regex.clone(), None),
        (None, _) => return Err(inexpressible("its split is a sequence of patterns")),
    };
    let Some(normalizer) = tokenizer.normalizer().option_name() else {
        return Err(inexpressible("its normalizer is more than a Unicode form"));
    };
    let specials = tokenizer.specials().list();
    if specials.iter().any(|token| !token.special) {
        return Err(inexpressible("it has added tokens that are not special"));
    }
    Ok(ImportOptions {
        split: Some(split),
        digits,
        normalizer: Some(normalizer),
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

/// Encodes and decodes texts of many scripts. Where nothing can be lost on the way, a text must come back.
fn self_check(tokenizer: &Tokenizer) -> Result<(), FormatError> {
    let failed = |reason: String| FormatError::SelfCheck(reason);
    let keeps_all = tokenizer.pretokenizer().pattern().is_some()
        && tokenizer.model().is_all_bytes()
        && matches!(tokenizer.decoder(), Decoder::Bytes | Decoder::ByteLevel);
    let added: std::collections::HashSet<_> =
        tokenizer.specials().list().iter().map(|token| token.id).collect();
    let mut scratch = crate::engine::Scratch::default();
    for text in PROBES {
        let ids = tokenizer
            .encode(text, &crate::engine::EncodeOptions::default(), &mut scratch)
            .map_err(|e: EncodeError| failed(e.to_string()))?
            .ids;
        let bytes = tokenizer.decode_bytes(&ids, false).map_err(|e| failed(e.to_string()))?;
        let normalized = tokenizer.normalizer().apply(text).map_err(|e| failed(e.to_string()))?;
        // An added token may take white space with it, or be named by letters that stand for other bytes.
        if keeps_all && bytes != normalized.as_bytes() && !ids.iter().any(|id| added.contains(id)) {
            return Err(failed("a text is not given back by decoding its ids".to_owned()));
        }
    }
    Ok(())
}
