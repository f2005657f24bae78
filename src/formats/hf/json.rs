//! Walking a JSON value and knowing where one is, so that an error names the place.

use crate::formats::FormatError;
use serde_json::Value;

/// A value and its JSON pointer.
#[derive(Debug, Clone)]
pub(in crate::formats) struct At<'v> {
    pub(in crate::formats) value: &'v Value,
    pub(in crate::formats) pointer: String,
}

impl<'v> At<'v> {
    pub(in crate::formats) fn new(value: &'v Value, pointer: impl Into<String>) -> Self {
        Self { value, pointer: pointer.into() }
    }

    /// An error at this place.
    pub(in crate::formats) fn fail<T>(&self, reason: impl Into<String>) -> Result<T, FormatError> {
        Err(FormatError::Json { pointer: self.pointer.clone(), reason: reason.into() })
    }

    /// A member; `None` where it is missing or null.
    pub(in crate::formats) fn get(&self, name: &str) -> Option<At<'v>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { value, pointer: format!("{}/{name}", self.pointer) })
    }

    /// A member that must be there.
    pub(in crate::formats) fn want(&self, name: &str) -> Result<At<'v>, FormatError> {
        match self.get(name) {
            Some(at) => Ok(at),
            None => self.fail(format!("has no {name}")),
        }
    }

    /// The entries of a list.
    pub(in crate::formats) fn list(&self) -> Result<impl Iterator<Item = At<'v>> + use<'v>, FormatError> {
        let Value::Array(list) = self.value else { return self.fail("must be a list") };
        let pointer = self.pointer.clone();
        Ok(list.iter().enumerate().map(move |(i, value)| At { value, pointer: format!("{pointer}/{i}") }))
    }

    pub(in crate::formats) fn str(&self) -> Result<&'v str, FormatError> {
        match self.value.as_str() {
            Some(text) => Ok(text),
            None => self.fail("must be a string"),
        }
    }

    pub(in crate::formats) fn char(&self) -> Result<char, FormatError> {
        let text = self.str()?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => self.fail("must be one character"),
        }
    }

    pub(in crate::formats) fn bool(&self) -> Result<bool, FormatError> {
        match self.value.as_bool() {
            Some(flag) => Ok(flag),
            None => self.fail("must be true or false"),
        }
    }

    pub(in crate::formats) fn u32(&self) -> Result<u32, FormatError> {
        match self.value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => self.fail("must be a whole number below 4294967296"),
        }
    }

    /// A flag that may be left out.
    pub(in crate::formats) fn flag(&self, name: &str, default: bool) -> Result<bool, FormatError> {
        self.get(name).map_or(Ok(default), |at| at.bool())
    }

    /// The member `type`.
    pub(in crate::formats) fn kind(&self) -> Result<&'v str, FormatError> {
        self.want("type")?.str()
    }
}
