//! The file of keys: TOML, a table `[[keys]]` for each.
//!
//! Read by hand, and errors name entry, field and line but no value: somebody may have put a key where its hash belongs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use super::meter::{Limits, Meter};
use super::{Key, Scope};

/// Every request is compared with all keys.
const MAX_KEYS: usize = 1000;
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The greatest limits of a key.
const MAX_NUMBER: u64 = 1_000_000_000;
/// Of bytes.
const MAX_BYTES: u64 = 100_000_000_000_000;

/// Why there are no keys. Without the path, as callers of `/reload` are told it too.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the file of keys cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file is not what it must be: what is wrong and where.
    #[error("the file of keys is no good: {0}")]
    Content(String),
}

/// The entry of a key.
#[must_use]
pub fn entry(name: &str, sha256: &str, scopes: &[Scope], limits: Limits) -> String {
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    let mut entry =
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [{}]\n", scopes.join(", "));
    let numbers = [
        ("requests_per_second", limits.requests_per_second.map(u64::from)),
        ("burst", limits.burst.map(u64::from)),
        ("requests_per_day", limits.requests_per_day.map(u64::from)),
        ("bytes_per_day", limits.bytes_per_day),
        ("kept_versions", limits.kept_versions.map(u64::from)),
        ("kept_bytes", limits.kept_bytes),
        ("open_jobs", limits.open_jobs.map(u64::from)),
    ];
    for (field, value) in numbers {
        if let Some(value) = value {
            entry += &format!("{field} = {value}\n");
        }
    }
    entry
}

/// The keys of a file; each goes on with the meter of the one with its name and limits in `before`.
pub(super) fn read(file: &Path, before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, KeysError> {
    if std::fs::metadata(file)?.len() > MAX_FILE_BYTES {
        return Err(KeysError::Content(format!("it has over {MAX_FILE_BYTES} bytes")));
    }
    parse(&std::fs::read_to_string(file)?, before).map_err(KeysError::Content)
}

pub(super) fn parse(text: &str, before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, String> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line} is not valid TOML")
    })?;
    let entries = table.remove("keys");
    if !table.is_empty() {
        return Err("it has something else than [[keys]]".to_owned());
    }
    let entries = match entries {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        _ => return Err("it has no [[keys]]".to_owned()),
    };
    if entries.len() > MAX_KEYS {
        return Err(format!("it has over {MAX_KEYS} keys"));
    }
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |problem: String| format!("entry {} of [[keys]]: {problem}", index + 1);
        let Value::Table(entry) = entry else { return Err(at("is no table".to_owned())) };
        let key = key(entry, before).map_err(at)?;
        if !names.insert(key.name.clone()) {
            return Err(at("name is that of an entry before".to_owned()));
        }
        if !hashes.insert(key.hash) {
            return Err(at("sha256 is that of an entry before".to_owned()));
        }
        keys.push(Arc::new(key));
    }
    Ok(keys)
}

fn key(mut entry: Table, before: &[Arc<Key>]) -> Result<Key, String> {
    let name = match entry.remove("name") {
        Some(Value::String(name)) if is_name(&name) => name,
        _ => return Err(format!("name must be {NAME}")),
    };
    let hash = match entry.remove("sha256") {
        Some(Value::String(hash)) => from_hex(&hash),
        _ => None,
    };
    let hash = hash.ok_or("sha256 must be 64 hexadecimal digits, as `vocabd key` prints them")?;
    let scopes = match entry.remove("scopes") {
        Some(Value::Array(scopes)) => scopes.iter().map(|s| Scope::parse(s.as_str()?)).collect(),
        _ => None,
    };
    let scopes: Vec<Scope> =
        scopes.ok_or("scopes must be a list of \"encode\", \"train\", \"publish\" and \"admin\"")?;
    let mut number = |field: &str, most: u64| match entry.remove(field) {
        None => Ok(None),
        Some(Value::Integer(number)) if (1..=most).contains(&(number.max(0) as u64)) => {
            Ok(Some(number as u64))
        }
        Some(_) => Err(format!("{field} must be a whole number from 1 to {most}")),
    };
    let mut small = |field: &str| {
        number(field, MAX_NUMBER).map(|number| number.and_then(|number| u32::try_from(number).ok()))
    };
    let limits = Limits {
        requests_per_second: small("requests_per_second")?,
        burst: small("burst")?,
        requests_per_day: small("requests_per_day")?,
        kept_versions: small("kept_versions")?,
        open_jobs: small("open_jobs")?,
        bytes_per_day: number("bytes_per_day", MAX_BYTES)?,
        kept_bytes: number("kept_bytes", MAX_BYTES)?,
    };
    if limits.burst.is_some() && limits.requests_per_second.is_none() {
        return Err("burst belongs to requests_per_second, which is not there".to_owned());
    }
    if !entry.is_empty() {
        return Err(
            "has a field that is not name, sha256, scopes, requests_per_second, burst, requests_per_day, \
                    bytes_per_day, kept_versions, kept_bytes or open_jobs"
                .to_owned(),
        );
    }
    let same = before.iter().find(|key| key.name == name && key.meter.limits == limits);
    let meter = same.map_or_else(|| Arc::new(Meter::new(limits)), |key| Arc::clone(&key.meter));
    Ok(Key { name, hash, scopes, meter })
}

/// What a name must be, in words.
pub const NAME: &str = "1 to 64 letters, digits, dots, dashes and underscores";

/// Whether a name is that.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let limits = Limits {
            requests_per_second: Some(5),
            burst: Some(9),
            requests_per_day: Some(1_000_000),
            bytes_per_day: Some(MAX_BYTES),
            kept_versions: Some(7),
            kept_bytes: Some(70_000_000),
            open_jobs: Some(2),
        };
        let (one, two) = ("0123456789abcdef".repeat(4), "FF".repeat(32));
        let text = format!(
            "# Ours.\n{}\n{}",
            entry("a", &one, &[Scope::Encode, Scope::Publish], limits),
            entry("b.c-d_1", &two, &[], Limits::default()),
        );
        let keys = parse(&text, &[]).unwrap();
        assert_eq!((keys[0].name(), keys[1].name()), ("a", "b.c-d_1"));
        assert_eq!((keys[0].hash[1], keys[1].hash), (0x23, [255; 32]));
        assert_eq!(keys[0].scopes, [Scope::Encode, Scope::Publish]);
        assert_eq!((keys[0].meter.limits, keys[1].meter.limits), (limits, Limits::default()));
    }

    #[test]
    fn what_is_wrong_is_named_and_never_repeated() {
        let hash = "0".repeat(64);
        let good = entry("a", &hash, &[Scope::Encode], Limits::default());
        let secret = "vocabd_secret";
        let cases = [
            ("", "no [[keys]]"),
            ("keys = []", "no [[keys]]"),
            (&format!("x = \"{secret}\"\n{good}"), "something else"),
            (&format!("\n\n{secret}"), "line 3"),
            (&good.replace(&hash, secret), "entry 1 of [[keys]]: sha256"),
            (&good.replace(&hash, &hash[1..]), "sha256"),
            (&good.replace("sha256", "sha"), "sha256"),
            (&good.replace("\"a\"", "\"a b\""), "name"),
            (&good.replace("[\"encode\"]", &format!("[\"{secret}\"]")), "scopes"),
            (&good.replace("[\"encode\"]", &format!("\"{secret}\"")), "scopes"),
            (&format!("{good}key = \"{secret}\""), "has a field"),
            (&format!("{good}burst = 1"), "burst"),
            (&format!("{good}requests_per_second = 0"), "requests_per_second"),
            (&format!("{good}requests_per_day = \"{secret}\""), "requests_per_day"),
            (
                &format!("{good}bytes_per_day = -1"),
                "bytes_per_day must be a whole number from 1 to 100000000000000",
            ),
            (&format!("{good}bytes_per_day = {}", MAX_BYTES + 1), "bytes_per_day"),
            (
                &format!("{good}kept_versions = 0"),
                "kept_versions must be a whole number from 1 to 1000000000",
            ),
            (&format!("{good}kept_bytes = \"{secret}\""), "kept_bytes"),
            (&format!("{good}open_jobs = 1.5"), "open_jobs"),
            (&format!("{good}{good}"), "entry 2 of [[keys]]: name"),
            (&format!("{good}{}", good.replace("\"a\"", "\"b\"")), "sha256 is that of"),
        ];
        for (text, expected) in cases {
            let problem = parse(text, &[]).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains("secret"), "{problem}");
        }
        let many: String = (0..=MAX_KEYS)
            .map(|n| entry(&n.to_string(), &format!("{n:064}"), &[], Limits::default()))
            .collect();
        assert!(parse(&many, &[]).unwrap_err().contains("over 1000"));
    }
}
