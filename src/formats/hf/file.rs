//! The shape of a `tokenizer.json`, read in one pass with strings borrowed from the file.

use crate::formats::FormatError;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Most tokens, added ones not counted, and most merges that are read.
pub(super) const MAX_TOKENS: usize = 4_000_000;
pub(super) const MAX_MERGES: usize = 10_000_000;

/// A `tokenizer.json`.
#[derive(Debug, Deserialize)]
pub(super) struct File<'f> {
    #[serde(borrow, default)]
    pub(super) added_tokens: Vec<AddedToken<'f>>,
    #[serde(default)]
    pub(super) normalizer: Option<Value>,
    #[serde(default)]
    pub(super) pre_tokenizer: Option<Value>,
    #[serde(default)]
    pub(super) post_processor: Option<Value>,
    #[serde(default)]
    pub(super) decoder: Option<Value>,
    #[serde(borrow)]
    pub(super) model: ModelFile<'f>,
}

/// An added token. Flags that are left out are false.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken<'f> {
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) content: Cow<'f, str>,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// The model: all that one of the kinds may have.
#[derive(Debug, Deserialize)]
pub(super) struct ModelFile<'f> {
    #[serde(rename = "type", default)]
    pub(super) kind: Option<String>,
    #[serde(borrow)]
    pub(super) vocab: VocabFile<'f>,
    #[serde(borrow, default)]
    pub(super) merges: Option<Merges<'f>>,
    #[serde(default)]
    pub(super) dropout: Option<f64>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) unk_id: Option<u32>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
}

/// Tokens with ids, or, of Unigram, tokens in order with scores.
#[derive(Debug)]
pub(super) enum VocabFile<'f> {
    Ids(Vec<(Cow<'f, str>, u32)>),
    Scores(Vec<(Cow<'f, str>, f64)>),
}

/// Pairs that merge, as `"a b"` or as `["a", "b"]`.
#[derive(Debug, Default)]
pub(super) struct Merges<'f>(pub(super) Vec<Pair<'f>>);

/// A merge as it is written.
#[derive(Debug)]
pub(super) enum Pair<'f> {
    Joined(Cow<'f, str>),
    Apart(Cow<'f, str>, Cow<'f, str>),
}

/// Parses a file. What is wrong is told by its place: that takes a second, slower pass.
pub(in crate::formats) fn parse<'f, T: Deserialize<'f>>(bytes: &'f [u8]) -> Result<T, FormatError> {
    let fast = serde_json::from_slice(bytes);
    fast.map_err(|error| {
        let mut slow = serde_json::Deserializer::from_slice(bytes);
        let place = serde_path_to_error::deserialize::<_, T>(&mut slow);
        let pointer = place.err().map(|error| pointer(error.path())).unwrap_or_default();
        FormatError::Json { pointer, reason: shortened(&error.to_string()) }
    })
}

/// The reason, which may quote a string of the file, in a bearable length.
fn shortened(reason: &str) -> String {
    let mut short: String = reason.chars().take(200).collect();
    if short.len() < reason.len() {
        short.push_str("...");
    }
    short
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escaped(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// A key in a JSON pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for VocabFile<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = VocabFile<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids, or a list of tokens and scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = map.next_key_seed(Text)? {
                    if tokens.len() >= MAX_TOKENS {
                        return Err(A::Error::custom(format_args!("over {MAX_TOKENS} tokens")));
                    }
                    tokens.push((token, map.next_value()?));
                }
                Ok(VocabFile::Ids(tokens))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(Scored(token, score)) = list.next_element()? {
                    if tokens.len() >= MAX_TOKENS {
                        return Err(A::Error::custom(format_args!("over {MAX_TOKENS} tokens")));
                    }
                    tokens.push((token, score));
                }
                Ok(VocabFile::Scores(tokens))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
struct Scored<'f>(#[serde(borrow)] Cow<'f, str>, f64);

impl<'de: 'f, 'f> Deserialize<'de> for Merges<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Merges<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = list.next_element()? {
                    if pairs.len() >= MAX_MERGES {
                        return Err(A::Error::custom(format_args!("over {MAX_MERGES} merges")));
                    }
                    pairs.push(pair);
                }
                Ok(Merges(pairs))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de: 'f, 'f> Deserialize<'de> for Pair<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pair<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"a b\" or [\"a\", \"b\"]")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Pair::Joined(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Pair::Joined(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let short = || A::Error::custom("a merge has two parts");
                let left = list.next_element_seed(Text)?.ok_or_else(short)?;
                let right = list.next_element_seed(Text)?.ok_or_else(short)?;
                match list.next_element::<serde::de::IgnoredAny>()? {
                    Some(_) => Err(short()),
                    None => Ok(Pair::Apart(left, right)),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Pair<'_> {
    /// The two parts; `None` where there are not two.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Apart(left, right) => Some((left, right)),
            Self::Joined(text) => {
                let (left, right) = text.split_once(' ')?;
                (!right.contains(' ')).then_some((left, right))
            }
        }
    }
}
