//! Where things lie in the store: the only place that spells a key.
//!
//! A key is made by a function from a [`Segment`], a number or a digest; nothing else can reach a path, so `..`, a
//! slash or a control character in a name is refused long before it could name a file.

use object_store::path::Path;
use std::fmt;

/// A name that may be a part of a key: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment(Box<str>);

impl Segment {
    /// The longest segment, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The segment spelled `text`, or `None` where it breaks the rule.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.as_bytes().split_first()?;
        let good = text.len() <= Self::MAX_LEN
            && first.is_ascii_alphanumeric()
            && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        good.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a vocabulary's canonical native bytes; written as `sha256:` + 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts([bytes])
    }

    /// The digest of `parts` joined.
    pub fn of_parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        parts.into_iter().for_each(|part| hash.update(part));
        Self(hash.finalize().into())
    }

    /// Reads what [`Digest`]'s `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?.as_bytes();
        let mut out = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(out))
    }

    fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(64);
        for byte in self.0 {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        hex
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a digest is \"sha256:\" and 64 hex digits"))
    }
}

/// The place of one object, or of a folder of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(super) Path);

/// What a key under `vocabs/` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VocabKey {
    /// The record of a version.
    Version(Segment, u32),
    /// The target of an alias.
    Alias(Segment, Segment),
}

impl Key {
    /// The canonical native bytes with that digest.
    pub fn blob(digest: &Digest) -> Self {
        Self(Path::from_iter(["blobs", "sha256", &digest.hex()]))
    }

    /// All blobs.
    pub fn blobs() -> Self {
        Self(Path::from_iter(["blobs", "sha256"]))
    }

    /// The record of one version; that it exists is what makes the version exist.
    pub fn version(name: &Segment, version: u32) -> Self {
        Self(Path::from_iter(["vocabs", name.as_str(), "versions", &format!("{version:010}.json")]))
    }

    /// The target of one alias.
    pub fn alias(name: &Segment, alias: &Segment) -> Self {
        Self(Path::from_iter(["vocabs", name.as_str(), "aliases", &format!("{alias}.json")]))
    }

    /// All versions and aliases of all vocabularies.
    pub fn vocabs() -> Self {
        Self(Path::from("vocabs"))
    }

    /// All versions and aliases of one vocabulary.
    pub fn vocab(name: &Segment) -> Self {
        Self(Path::from_iter(["vocabs", name.as_str()]))
    }

    /// The record of one job.
    pub fn job(id: &Segment) -> Self {
        Self(Path::from_iter(["jobs", &format!("{id}.json")]))
    }

    /// The request that a job was made from.
    pub fn job_request(id: &Segment) -> Self {
        Self(Path::from_iter(["jobs", &format!("{id}.request.json")]))
    }

    /// Who runs a job.
    pub fn job_claim(id: &Segment) -> Self {
        Self(Path::from_iter(["jobs", &format!("{id}.claim.json")]))
    }

    /// That whoever runs a job should cancel it.
    pub fn job_cancel(id: &Segment) -> Self {
        Self(Path::from_iter(["jobs", &format!("{id}.cancel.json")]))
    }

    /// All that is kept of jobs.
    pub fn jobs() -> Self {
        Self(Path::from("jobs"))
    }

    /// Reads a key under [`Key::vocabs`]; `None` for what no function here makes.
    pub fn as_vocab(&self) -> Option<VocabKey> {
        let parts: Vec<_> = self.0.parts().collect();
        let [root, name, folder, file] = parts.as_slice() else { return None };
        let (root, name, folder) = (root.as_ref(), Segment::parse(name.as_ref())?, folder.as_ref());
        let stem = file.as_ref().strip_suffix(".json")?;
        match (root, folder) {
            ("vocabs", "versions") if stem.len() == 10 && stem.bytes().all(|b| b.is_ascii_digit()) => {
                Some(VocabKey::Version(name, stem.parse().ok()?))
            }
            ("vocabs", "aliases") => Some(VocabKey::Alias(name, Segment::parse(stem)?)),
            _ => None,
        }
    }

    /// Reads a key under [`Key::blobs`].
    pub fn as_blob(&self) -> Option<Digest> {
        Digest::parse(&format!("sha256:{}", self.0.filename()?))
    }

    /// Reads a key under [`Key::jobs`] that is a request.
    pub fn as_job_request(&self) -> Option<Segment> {
        self.job_part(".request.json")
    }

    /// Reads a key under [`Key::jobs`] that is a claim.
    pub fn as_job_claim(&self) -> Option<Segment> {
        self.job_part(".claim.json")
    }

    /// Reads a key under [`Key::jobs`] that asks for a cancellation.
    pub fn as_job_cancel(&self) -> Option<Segment> {
        self.job_part(".cancel.json")
    }

    /// Reads a key under [`Key::jobs`] that is a record.
    pub fn as_job(&self) -> Option<Segment> {
        let other = [".request.json", ".claim.json", ".cancel.json"];
        if other.iter().any(|suffix| self.0.as_ref().ends_with(suffix)) {
            None
        } else {
            self.job_part(".json")
        }
    }

    fn job_part(&self, suffix: &str) -> Option<Segment> {
        Segment::parse(self.0.as_ref().strip_prefix("jobs/")?.strip_suffix(suffix)?)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_folder() {
        #[track_caller]
        fn check(text: &str, good: bool) {
            assert_eq!(Segment::parse(text).is_some(), good, "{text:?}");
        }
        check("a", true);
        check("zh-32k_v1.0", true);
        check("9", true);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        for bad in [
            "", ".", "..", ".a", "-a", "_a", "../x", "a/b", "a\\b", "a b", "a\0", "a%2e", "ä", "a\n", "a#1",
            "a@1",
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn keys_read_back() {
        let name = Segment::parse("zh.32k").unwrap();
        let alias = Segment::parse("prod").unwrap();
        assert_eq!(Key::version(&name, 7).to_string(), "vocabs/zh.32k/versions/0000000007.json");
        assert_eq!(Key::version(&name, u32::MAX).as_vocab(), Some(VocabKey::Version(name.clone(), u32::MAX)));
        assert_eq!(Key::alias(&name, &alias).as_vocab(), Some(VocabKey::Alias(name.clone(), alias)));
        let digest = Digest::of(b"x");
        assert_eq!(Key::blob(&digest).as_blob(), Some(digest));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&digest.to_string().to_uppercase()), None);
        assert_eq!(Key::job(&name).as_job(), Some(name.clone()));
        let parts = [Key::job_request(&name), Key::job_claim(&name), Key::job_cancel(&name)];
        assert_eq!(parts[0].as_job_request(), Some(name.clone()));
        assert_eq!(parts[1].as_job_claim(), Some(name.clone()));
        assert_eq!(parts[2].as_job_cancel(), Some(name));
        assert!(parts.iter().all(|part| part.as_job().is_none()));
    }
}
