//! API keys: who may do what, and how often.
//!
//! A key is 32 random bytes, so that its SHA-256 is as good as a slow hash would be of a password: the file has hashes
//! only, and nobody finds the key to one. A presented key is hashed and compared with all of them in constant time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::reread::Reread;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

pub use file::{KeysError, NAME, entry, is_name};
pub use meter::{Limits, Refused};

use meter::Meter;

mod file;
mod meter;

/// What a new key starts with, so that scanners for leaked secrets can know one.
const PREFIX: &str = "vocabd_";
/// Nothing longer is looked at.
const MAX_KEY_BYTES: usize = 512;

/// What a key lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read vocabularies and use them.
    Encode,
    /// Uploads and training jobs, whose results become versions.
    Train,
    /// Import and delete versions, move aliases.
    Publish,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Encode, Self::Train, Self::Publish, Self::Admin];

    /// The word for it in files and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Train => "train",
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }

    /// The scope that a word stands for.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One key of the file.
#[derive(Debug)]
pub struct Key {
    name: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    meter: Arc<Meter>,
}

impl Key {
    /// Its name, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its holder may do what `scope` stands for.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// How much its holder may do.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.meter.limits
    }

    /// Counts a request of its holder.
    ///
    /// # Errors
    /// A limit of the key is reached.
    pub fn spend(&self) -> Result<(), Refused> {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        self.meter.spend(START.elapsed(), since_1970())
    }

    /// Whether bytes of bodies are limited.
    #[must_use]
    pub fn counts_bytes(&self) -> bool {
        self.meter.limits.bytes_per_day.is_some()
    }

    /// Counts bytes of a body of its holder.
    ///
    /// # Errors
    /// They would be over the limit of the key; they are not counted.
    pub fn spend_bytes(&self, bytes: u64) -> Result<(), Refused> {
        self.meter.spend_bytes(bytes, since_1970())
    }

    /// Looks whether a body that announces so many bytes has room in what is left, and counts none of them.
    ///
    /// # Errors
    /// As [`Key::spend_bytes`].
    pub fn has_bytes(&self, announced: u64) -> Result<(), Refused> {
        self.meter.has_bytes(announced, since_1970())
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The keys of a server: those of a file, which can be read again. Without a file nobody is asked for a key.
#[derive(Debug)]
pub struct Keys {
    file: Option<PathBuf>,
    list: Reread<Vec<Arc<Key>>, KeysError>,
}

impl Keys {
    /// Reads the keys of `file`.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open(file: Option<&Path>) -> Result<Self, KeysError> {
        let list = file.map_or_else(|| Ok(Vec::new()), |file| file::read(file, &[]))?;
        Ok(Self { file: file.map(Path::to_owned), list: Reread::new(list) })
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// [`KeysError::Content`].
    pub fn check(text: &str) -> Result<(), KeysError> {
        file::parse(text, &[]).map(drop).map_err(KeysError::Content)
    }

    /// Whether callers are asked for a key.
    #[must_use]
    pub fn are_asked(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again. What a key of the same name and limits has used up stays used up.
    ///
    /// # Errors
    /// As [`Keys::open`]; the keys stay as they were, and [`Keys::failure`] says so until a reload succeeds.
    pub fn reload(&self) -> Result<(), Arc<KeysError>> {
        let Some(file) = &self.file else { return Ok(()) };
        self.list.replace(file::read(file, &self.list.load()))
    }

    /// Why the last reload failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<KeysError>> {
        self.list.failure()
    }

    /// The key that `presented` is. Takes as long whether and wherever it is found.
    #[must_use]
    pub fn find(&self, presented: &[u8]) -> Option<Arc<Key>> {
        if presented.len() > MAX_KEY_BYTES {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let mut found = None;
        for key in self.list.load().iter() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(Arc::clone(key));
            }
        }
        found
    }
}

/// A new key and its hash in hexadecimal digits.
///
/// # Errors
/// The system has no random bytes.
pub fn generate() -> Result<(String, String), getrandom::Error> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = Sha256::digest(key.as_bytes());
    Ok((key, hash.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> (tempfile::NamedTempFile, Keys) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let keys = Keys::open(Some(file.path())).unwrap();
        (file, keys)
    }

    #[test]
    fn a_new_key_is_found_by_its_entry_and_nothing_else_is() {
        let (key, hash) = generate().unwrap();
        let (other, _) = generate().unwrap();
        assert!(key.len() == 50 && key.starts_with(PREFIX) && key != other, "{key} {other}");
        let (_file, keys) = keys(&entry("ci", &hash, &[Scope::Encode, Scope::Train], Limits::default()));
        let found = keys.find(key.as_bytes()).unwrap();
        assert_eq!(found.name(), "ci");
        assert_eq!(Scope::ALL.map(|scope| found.allows(scope)), [true, true, false, false]);
        let long = "x".repeat(MAX_KEY_BYTES + 1);
        for wrong in [other.as_str(), "", &hash, &key[1..], &format!("{key} "), &long] {
            assert!(keys.find(wrong.as_bytes()).is_none());
        }
        assert!(!format!("{keys:?}").contains(&key), "the key itself is nowhere");
    }

    #[test]
    fn admin_may_everything() {
        let (key, hash) = generate().unwrap();
        let (_file, keys) = keys(&entry("root", &hash, &[Scope::Admin], Limits::default()));
        let found = keys.find(key.as_bytes()).unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| found.allows(scope)));
    }

    #[test]
    fn a_reload_takes_what_is_good_and_keeps_what_was_used_up() {
        let limits = Limits { requests_per_day: Some(1), ..Limits::default() };
        let (key, hash) = generate().unwrap();
        let (new_key, new_hash) = generate().unwrap();
        let (file, keys) = keys(&entry("ci", &hash, &[Scope::Encode], limits));
        assert!(keys.find(key.as_bytes()).unwrap().spend().is_ok());

        std::fs::write(file.path(), "[[keys]]\n").unwrap();
        assert!(keys.reload().is_err() && keys.failure().is_some());
        assert!(keys.find(key.as_bytes()).is_some(), "the keys before stay");

        // The key is changed, its name and limits are not.
        std::fs::write(file.path(), entry("ci", &new_hash, &[Scope::Encode], limits)).unwrap();
        keys.reload().unwrap();
        assert!(keys.failure().is_none() && keys.find(key.as_bytes()).is_none());
        assert!(keys.find(new_key.as_bytes()).unwrap().spend().is_err());
    }

    #[test]
    fn without_a_file_nobody_is_asked() {
        let keys = Keys::open(None).unwrap();
        assert!(!keys.are_asked() && keys.reload().is_ok() && keys.find(b"").is_none());
    }
}
