//! The metadata of a GGUF file: keys with typed values, of which only those of the tokenizer are kept, as slices of the
//! file.
//!
//! Holds: every length is checked against the bytes that are there before anything is done with it; nothing is
//! allocated but a list of keys, of which each takes more room in the file; what is kept is well-formed, so that going
//! through it later cannot fail.
//!
//! The format is that of ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Strings have no terminator and need
//! not be UTF-8; an array in an array is refused, as llama.cpp does.

use crate::formats::FormatError;
use std::collections::HashSet;

/// What every file begins with.
pub(super) const MAGIC: &[u8] = b"GGUF";
/// Most keys. Published files have under 100.
const MAX_KEYS: u64 = 65_536;
/// The longest key in bytes, as the format has it.
const MAX_KEY_BYTES: u64 = 65_535;
/// The longest string that is kept, in bytes.
const MAX_STRING_BYTES: u64 = 1 << 20;
/// The longest array that is kept: there may be ten million merges.
const MAX_ELEMENTS: u64 = 10_000_000;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes end before the metadata do.
    Cut {
        /// Where something begins that is not all there.
        offset: usize,
        /// What it is.
        what: String,
    },
    /// The bytes that are there are no metadata.
    Bad {
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
}

impl From<Stop> for FormatError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cut { offset, what } => Self::Malformed { offset, reason: format!("{what} is cut off") },
            Stop::Bad { offset, reason } => Self::Malformed { offset, reason },
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Text,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Its size in bytes; `None` where that is not fixed.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

/// A value: of numbers and strings their bytes, of arrays those of all elements.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'b> {
    One(Kind, &'b [u8]),
    Many(Kind, usize, &'b [u8]),
}

/// A key with its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'b> {
    pub(super) key: &'b str,
    /// Where the value begins.
    pub(super) offset: usize,
    value: Value<'b>,
}

/// The metadata that say something of the tokenizer.
#[derive(Debug)]
pub(super) struct Metadata<'b> {
    entries: Vec<Entry<'b>>,
    /// Where they end, and the list of tensors begins.
    pub(super) end: usize,
}

impl<'b> Metadata<'b> {
    /// Reads the metadata of a file, or of the head of one.
    pub(super) fn read(bytes: &'b [u8]) -> Result<Self, Stop> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4, || "the magic number".to_owned())? != MAGIC {
            return Err(Stop::Bad { offset: 0, reason: "does not begin with GGUF".to_owned() });
        }
        let version = reader.u32(|| "the version".to_owned())?;
        match version {
            2 | 3 => {}
            1 => return Err(reader.bad(4, "version 1 of GGUF is not supported; its counts have 32 bits")),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err(reader.bad(4, "a big-endian GGUF file is not supported"));
            }
            _ => return Err(reader.bad(4, format!("version {version} of GGUF is not known (2 and 3 are)"))),
        }
        reader.u64(|| "the number of tensors".to_owned())?;
        let count = reader.u64(|| "the number of keys".to_owned())?;
        if count > MAX_KEYS {
            return Err(reader.bad(16, format!("there are {count} keys, over the limit of {MAX_KEYS}")));
        }
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        for index in 0..count {
            let offset = reader.at;
            let key = reader.key(index)?;
            if !seen.insert(key) {
                return Err(reader.bad(offset, format!("{} is given twice", shown(key))));
            }
            let known = |key: &&str| {
                *key == NAME || key.starts_with("tokenizer.ggml.") || key.starts_with(CHAT_TEMPLATE)
            };
            let kept = std::str::from_utf8(key).ok().filter(known);
            let what = || {
                kept.map_or_else(|| format!("the value of key {index}"), |key| format!("the value of {key}"))
            };
            let value = reader.value(kept.is_some(), &what)?;
            let (offset, value) = value;
            entries.extend(kept.map(|key| Entry { key, offset, value }));
        }
        Ok(Self { entries, end: reader.at })
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<&Entry<'b>> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key that must be there.
    pub(super) fn want(&self, key: &str) -> Result<&Entry<'b>, FormatError> {
        let reason = || format!("{key} is missing");
        self.get(key).ok_or_else(|| FormatError::Malformed { offset: self.end, reason: reason() })
    }

    /// All that are kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<'b>> {
        self.entries.iter()
    }
}

/// The name of the model.
pub(super) const NAME: &str = "general.name";
/// What the keys of chat templates begin with.
pub(super) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

impl<'b> Entry<'b> {
    /// An error at this value.
    pub(super) fn fail<T>(&self, reason: impl AsRef<str>) -> Result<T, FormatError> {
        Err(FormatError::Malformed {
            offset: self.offset,
            reason: format!("{} {}", self.key, reason.as_ref()),
        })
    }

    /// A string.
    pub(super) fn text(&self) -> Result<&'b str, FormatError> {
        let Value::One(Kind::Text, bytes) = self.value else { return self.fail("must be a string") };
        std::str::from_utf8(bytes).or_else(|_| self.fail("is not UTF-8"))
    }

    pub(super) fn flag(&self) -> Result<bool, FormatError> {
        match self.value {
            Value::One(Kind::Bool, [byte]) => Ok(*byte != 0),
            _ => self.fail("must be a bool"),
        }
    }

    /// A number that is an id: of any integer type.
    pub(super) fn id(&self) -> Result<u32, FormatError> {
        let id = match self.value {
            Value::One(Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64, bytes) => Some(little(bytes)),
            // A negative number is one too large.
            Value::One(kind @ (Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64), bytes) => {
                let bits = kind.size().unwrap_or(8) * 8;
                Some(little(bytes)).filter(|value| value >> (bits - 1) == 0)
            }
            _ => return self.fail("must be an integer"),
        };
        match id.and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(id),
            None => self.fail("is no id of a token"),
        }
    }

    /// An array of strings: how many, and each of them.
    pub(super) fn texts(&self) -> Result<(usize, impl Iterator<Item = &'b [u8]> + use<'b>), FormatError> {
        let Value::Many(Kind::Text, len, bytes) = self.value else {
            return self.fail("must be an array of strings");
        };
        let mut rest = bytes;
        let next = move || {
            let (len, behind) = rest.split_first_chunk()?;
            let (text, behind) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = behind;
            Some(text)
        };
        Ok((len, std::iter::from_fn(next)))
    }

    /// An array of 32-bit integers.
    pub(super) fn ints(&self) -> Result<Vec<i32>, FormatError> {
        match self.value {
            Value::Many(Kind::I32, _, bytes) => Ok(chunks(bytes).map(i32::from_le_bytes).collect()),
            _ => self.fail("must be an array of int32"),
        }
    }

    /// An array of numbers that are scores: of floats, or of integers as llama.cpp takes them as well.
    pub(super) fn scores(&self) -> Result<Vec<f32>, FormatError> {
        match self.value {
            Value::Many(Kind::F32, _, bytes) => Ok(chunks(bytes).map(f32::from_le_bytes).collect()),
            Value::Many(Kind::I32, _, bytes) => {
                Ok(chunks(bytes).map(|b| i32::from_le_bytes(b) as f32).collect())
            }
            _ => self.fail("must be an array of float32 or int32"),
        }
    }

    /// An array of bytes.
    pub(super) fn bytes(&self) -> Result<&'b [u8], FormatError> {
        match self.value {
            Value::Many(Kind::U8 | Kind::I8, _, bytes) => Ok(bytes),
            _ => self.fail("must be an array of uint8 or int8"),
        }
    }
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A key in words. It comes from the file and may be anything.
fn shown(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(key) if key.len() <= 64 => format!("the key {key:?}"),
        _ => format!("a key of {} bytes", key.len()),
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn bad(&self, offset: usize, reason: impl Into<String>) -> Stop {
        Stop::Bad { offset, reason: reason.into() }
    }

    fn take(&mut self, len: u64, what: impl Fn() -> String) -> Result<&'b [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let taken = taken.ok_or_else(|| Stop::Cut { offset: self.at, what: what() })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn u32(&mut self, what: impl Fn() -> String) -> Result<u32, Stop> {
        self.take(4, what).map(|bytes| little(bytes) as u32)
    }

    fn u64(&mut self, what: impl Fn() -> String) -> Result<u64, Stop> {
        self.take(8, what).map(little)
    }

    fn key(&mut self, index: u64) -> Result<&'b [u8], Stop> {
        let what = || format!("key {index}");
        let offset = self.at;
        let len = self.u64(what)?;
        if len > MAX_KEY_BYTES {
            return Err(
                self.bad(offset, format!("key {index} has {len} bytes, over the limit of {MAX_KEY_BYTES}"))
            );
        }
        self.take(len, what)
    }

    fn kind(&mut self, what: &impl Fn() -> String) -> Result<Kind, Stop> {
        let offset = self.at;
        let number = self.u32(what)?;
        let kind = Kind::ALL.get(number as usize).copied();
        kind.ok_or_else(|| self.bad(offset, format!("{} is of the unknown type {number}", what())))
    }

    /// A value and where it begins; what is not `kept` may be longer, as it is only gone over.
    fn value(&mut self, kept: bool, what: &impl Fn() -> String) -> Result<(usize, Value<'b>), Stop> {
        let kind = self.kind(what)?;
        let offset = self.at;
        if kind != Kind::Array {
            return Ok((offset, Value::One(kind, self.element(kind, kept, what)?)));
        }
        let kind = self.kind(what)?;
        if kind == Kind::Array {
            return Err(self.bad(offset, format!("{} is an array of arrays, which is not supported", what())));
        }
        let len = self.u64(what)?;
        if kept && len > MAX_ELEMENTS {
            let reason = format!("{} has {len} elements, over the limit of {MAX_ELEMENTS}", what());
            return Err(self.bad(offset, reason));
        }
        let start = self.at;
        match kind.size() {
            Some(size) => {
                // What does not fit in 64 bits is not there either.
                self.take(len.saturating_mul(size as u64), what)?;
            }
            None => {
                // Each has its length before it; so that a count out of nowhere is seen at once.
                if len > (self.bytes.len() - self.at) as u64 / 8 {
                    return Err(Stop::Cut { offset: self.at, what: what() });
                }
                for _ in 0..len {
                    self.element(kind, kept, what)?;
                }
            }
        }
        // It was counted through, or is no longer than the bytes are.
        Ok((offset, Value::Many(kind, len as usize, &self.bytes[start..self.at])))
    }

    /// The bytes of a value that is no array.
    fn element(&mut self, kind: Kind, kept: bool, what: &impl Fn() -> String) -> Result<&'b [u8], Stop> {
        if let Some(size) = kind.size() {
            return self.take(size as u64, what);
        }
        let offset = self.at;
        let len = self.u64(what)?;
        if kept && len > MAX_STRING_BYTES {
            let reason =
                format!("{} has a string of {len} bytes, over the limit of {MAX_STRING_BYTES}", what());
            return Err(self.bad(offset, reason));
        }
        self.take(len, what)
    }
}
