//! Names, aliases and refs, parsed once: what exists as one of these types is valid.

use crate::store::Segment;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VocabName(Segment);

/// A movable name for one version of a vocabulary. Never all digits and never `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AliasName(Segment);

/// What a request names: `name` (the same as `name@latest`), `name@3` or `name@alias`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VocabRef {
    /// The vocabulary.
    pub name: VocabName,
    /// Which of its versions.
    pub pick: Pick,
}

/// The part of a ref after the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pick {
    /// The highest version not deleted.
    Latest,
    /// That version.
    Version(u32),
    /// The version that the alias names when it is resolved.
    Alias(AliasName),
}

/// Why a text is no name, alias or ref. The messages state the rule and never repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a vocabulary name.
    #[error("a vocabulary name is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit")]
    Name,
    /// Not an alias.
    #[error("an alias is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit")]
    Alias,
    /// An alias that would read as something else.
    #[error("an alias may not be \"latest\" or consist of digits only")]
    ReservedAlias,
    /// A number after the `@` that no version has.
    #[error("a version is a whole number from 1 to 4294967295, without leading zeros")]
    Version,
}

impl VocabName {
    pub(crate) fn segment(&self) -> &Segment {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The ref that means version `version` of this vocabulary.
    pub fn at(&self, version: u32) -> VocabRef {
        VocabRef { name: self.clone(), pick: Pick::Version(version) }
    }

    /// The ref that means the latest version of this vocabulary.
    pub fn latest(&self) -> VocabRef {
        VocabRef { name: self.clone(), pick: Pick::Latest }
    }

    /// The ref that means what `alias` names.
    pub fn alias(&self, alias: &AliasName) -> VocabRef {
        VocabRef { name: self.clone(), pick: Pick::Alias(alias.clone()) }
    }
}

impl AliasName {
    pub(crate) fn segment(&self) -> &Segment {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A key's segment obeys the same rule as a name.
impl From<Segment> for VocabName {
    fn from(segment: Segment) -> Self {
        Self(segment)
    }
}

impl TryFrom<Segment> for AliasName {
    type Error = NameError;

    fn try_from(segment: Segment) -> Result<Self, NameError> {
        let text = segment.as_str();
        if text == LATEST || text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::ReservedAlias);
        }
        Ok(Self(segment))
    }
}

impl FromStr for VocabName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Segment::parse(text).map(Self).ok_or(NameError::Name)
    }
}

impl FromStr for AliasName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Segment::parse(text).ok_or(NameError::Alias)?.try_into()
    }
}

impl FromStr for VocabRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, pick) = match text.split_once('@') {
            None => (text, Pick::Latest),
            Some((name, LATEST)) => (name, Pick::Latest),
            Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                (name, Pick::Version(version_number(digits)?))
            }
            Some((name, alias)) => (name, Pick::Alias(alias.parse()?)),
        };
        Ok(Self { name: name.parse()?, pick })
    }
}

const LATEST: &str = "latest";

/// One version has one spelling: `name@03` would be another key for the same thing in somebody's cache.
fn version_number(digits: &str) -> Result<u32, NameError> {
    if digits.starts_with('0') {
        Err(NameError::Version)
    } else {
        digits.parse().map_err(|_| NameError::Version)
    }
}

impl fmt::Display for VocabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for VocabRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Pick::Latest => write!(f, "{}", self.name),
            Pick::Version(version) => write!(f, "{}@{version}", self.name),
            Pick::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

/// `TryFrom<String>` and `Into<String>`, which serde goes through.
macro_rules! as_string {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    )*};
}

as_string!(VocabName, AliasName, VocabRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_parse_and_print() {
        #[track_caller]
        fn check(text: &str, pick: Pick, printed: &str) {
            let parsed: VocabRef = text.parse().unwrap();
            assert_eq!((parsed.name.as_str(), &parsed.pick), ("zh-32k", &pick));
            assert_eq!(parsed.to_string(), printed);
        }
        check("zh-32k", Pick::Latest, "zh-32k");
        check("zh-32k@latest", Pick::Latest, "zh-32k");
        check("zh-32k@3", Pick::Version(3), "zh-32k@3");
        check("zh-32k@prod", Pick::Alias("prod".parse().unwrap()), "zh-32k@prod");
        check("zh-32k@2026-11", Pick::Alias("2026-11".parse().unwrap()), "zh-32k@2026-11");
    }

    #[test]
    fn bad_refs_name_the_rule() {
        #[track_caller]
        fn check(text: &str, expected: NameError) {
            assert_eq!(text.parse::<VocabRef>(), Err(expected), "{text:?}");
        }
        check("", NameError::Name);
        check("../x", NameError::Name);
        check("a/b", NameError::Name);
        check("@3", NameError::Name);
        check("ä", NameError::Name);
        check("a@", NameError::Alias);
        check("a@b@c", NameError::Alias);
        check("a@..", NameError::Alias);
        check("a@0", NameError::Version);
        check("a@03", NameError::Version);
        check("a@4294967296", NameError::Version);
        check("a@-1", NameError::Alias);
        check(&"a".repeat(65), NameError::Name);
        check(&format!("a@{}", "9".repeat(10_000)), NameError::Version);
    }

    #[test]
    fn an_alias_cannot_be_taken_for_a_version() {
        assert_eq!("7".parse::<AliasName>(), Err(NameError::ReservedAlias));
        assert_eq!("latest".parse::<AliasName>(), Err(NameError::ReservedAlias));
        assert!("v7".parse::<AliasName>().is_ok());
        assert!("Latest".parse::<AliasName>().is_ok());
    }

    #[test]
    fn serde_goes_through_the_text() {
        let parsed: VocabRef = serde_json::from_str("\"zh@prod\"").unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), "\"zh@prod\"");
        assert!(serde_json::from_str::<VocabRef>("\"zh@\"").is_err());
        assert!(serde_json::from_str::<AliasName>("\"1\"").is_err());
    }
}
