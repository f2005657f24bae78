//! References to models on the hub. One that exists has been checked: it can be put into a URL as it is.

use std::fmt;
use std::str::FromStr;

/// What every reference begins with.
pub const SCHEME: &str = "hf://";

/// A model on the hub, perhaps at a revision: `hf://org/model`, `hf://org/model@revision`.
///
/// It can be put into a URL as it is: it holds letters, digits, `-`, `_`, `.`, and `/` where one belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRef {
    pub(super) org: String,
    pub(super) model: String,
    pub(super) revision: Option<String>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HubRefError {
    /// Not of the form.
    #[error("must be hf://ORG/MODEL or hf://ORG/MODEL@REVISION")]
    Form,
    /// The organisation or the model is no name of the hub's.
    #[error(
        "organisation and model must be 1 to 96 letters, digits, `-`, `_` and `.` each, without `--` or `..`, with \
         neither `-` nor `.` at an end, and the model not ending in .git"
    )]
    Name,
    /// The revision is no branch, tag or commit.
    #[error(
        "the revision must be a branch, tag or commit of 1 to 200 letters, digits, `-`, `_`, `.` and `/`, without `..`"
    )]
    Revision,
}

impl FromStr for HubRef {
    type Err = HubRefError;

    fn from_str(text: &str) -> Result<Self, HubRefError> {
        let rest = text.strip_prefix(SCHEME).ok_or(HubRefError::Form)?;
        let (id, revision) = match rest.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (rest, None),
        };
        let (org, model) = id.split_once('/').ok_or(HubRefError::Form)?;
        if model.contains('/') {
            return Err(HubRefError::Form);
        }
        if !is_name(org) || !is_name(model) || model.ends_with(".git") {
            return Err(HubRefError::Name);
        }
        if !revision.is_none_or(is_revision) {
            return Err(HubRefError::Revision);
        }
        Ok(Self { org: org.to_owned(), model: model.to_owned(), revision: revision.map(str::to_owned) })
    }
}

impl HubRef {
    /// The same model at a commit.
    pub(super) fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.org, self.model)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=96).contains(&name.len())
        && name.bytes().all(plain)
        && !name.contains("--")
        && !name.contains("..")
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

fn is_revision(revision: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.');
    (1..=200).contains(&revision.len())
        && revision.bytes().all(plain)
        && !revision.contains("..")
        && revision.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_of_the_hubs_own_charset() {
        for text in [
            "hf://org/model",
            "hf://Qwen/Qwen2.5-0.5B@main",
            "hf://a_b/c.d@refs/pr/1",
            "hf://deepseek-ai/DeepSeek-V3@9b4e9788e4a3a731f7567338ed15d3ec549ce03b",
        ] {
            assert_eq!(text.parse::<HubRef>().unwrap().to_string(), text);
        }
        #[track_caller]
        fn check(text: &str, error: HubRefError) {
            assert_eq!(text.parse::<HubRef>(), Err(error), "{text}");
        }
        for text in ["", "hf://", "hf:/a/b", "https://a/b", "hf://model", "hf://a/b/c", "hf:///a/b", "a/b"] {
            check(text, HubRefError::Form);
        }
        for id in [
            "/b", "a/", "../b", "a/..", "a/b..c", "a/b--c", "a/.b", "a/b.", "-a/b", "a/b-", "a/b.git",
            "a/b%2e", "ä/b", "a/b c", "a/b\n", "a/b?x", "a/b#x", "a:b/c",
        ] {
            check(&format!("{SCHEME}{id}"), HubRefError::Name);
        }
        check(&format!("{SCHEME}a/{}", "b".repeat(97)), HubRefError::Name);
        for revision in
            ["", "..", "a/../b", "/a", "a/", "a//b", ".a", "a/.b", "a b", "a%2fb", "a@b", "ä", "a?b", "a~1"]
        {
            check(&format!("{SCHEME}a/b@{revision}"), HubRefError::Revision);
        }
        check(&format!("{SCHEME}a/b@{}", "r".repeat(201)), HubRefError::Revision);
    }
}
