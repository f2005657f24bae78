//! A model hub of Hugging Face's protocol: from `hf://org/model@revision` to the files of its tokenizer.
//!
//! The revision is resolved to a commit first, and all files are those of that commit. The token goes to the endpoint
//! and to nobody else: redirects are followed here, one by one, and one that leads to another host is asked without it.
//! Nothing that a hub answers is trusted: sizes are bounded, names are checked, digests are compared where it gives any, and
//! it can lead to its own host or to public addresses only.

mod reference;
mod transfer;

pub use reference::{HubRef, HubRefError, SCHEME};

use super::UrlPolicy;
use bytes::Bytes;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use transfer::Wanted;

/// The hub that is asked where `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";

/// The branch of references that name no revision.
const MAIN: &str = "main";

/// The largest list of a model's files: some hundred thousand of them.
const MAX_LISTING_BYTES: usize = 32 << 20;

/// Files of one vocabulary at most.
const MAX_FILES: usize = 16;

/// Why the files of a model were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub that the environment names cannot be asked.
    #[error("{variable} {reason}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No such model, revision or file.
    #[error("the hub has no such {what}")]
    NotFound {
        /// The model or a file.
        what: String,
    },
    /// The hub wants to know who asks, or does not let them.
    #[error(
        "the hub refuses access to the {what} ({status}): it is private or gated, or does not exist; {}",
        if *.with_token { "the token in HF_TOKEN may not read it" } else { "set HF_TOKEN to a token that may read it" }
    )]
    Denied {
        /// The model or a file.
        what: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The hub was asked too often.
    #[error("the hub was asked too often{}", .retry_after.map_or_else(String::new, |s| format!("; it says to come back in {s} seconds")))]
    RateLimited {
        /// Seconds after which to come back, where it says so.
        retry_after: Option<u64>,
    },
    /// The model has no files that can be taken, or too many.
    #[error("{reason}")]
    NoFiles {
        /// Why.
        reason: String,
    },
    /// More bytes than are taken.
    #[error("with the {what} there are over {limit} bytes")]
    TooLarge {
        /// The file with which the limit is passed.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// What came is not what the hub says that it has.
    #[error("the {what} that came is not the one that the hub lists: its {check} differs")]
    Mismatch {
        /// The file.
        what: String,
        /// What differs: size, sha256 or git object id.
        check: &'static str,
    },
    /// The hub does not answer as one does.
    #[error("the hub's answer for the {what} cannot be used: {reason}")]
    Answer {
        /// The model or a file.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The connection failed, time and again.
    #[error("fetching the {what} failed: {reason}")]
    Transfer {
        /// The model or a file.
        what: String,
        /// How it failed last.
        reason: String,
    },
    /// It took too long.
    #[error("fetching was given up after {seconds} seconds")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
}

/// How long and how often is tried.
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// For everything together.
    pub total: Duration,
    /// For a connection, and between two pieces of an answer.
    pub silence: Duration,
    /// Tries of one file; a later one goes on where the one before broke off.
    pub tries: u32,
    /// Wait before the second try; doubled for each further one.
    pub pause: Duration,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            total: super::TOTAL_TIMEOUT,
            silence: super::TIMEOUT,
            tries: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// The files of a model's tokenizer.
#[derive(Debug)]
pub struct Fetched {
    /// Where they are from: the model at its commit.
    pub source: HubRef,
    /// Names and contents, in the order in which they were chosen.
    pub files: Vec<(String, Bytes)>,
}

/// How far fetching is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'f> {
    /// The file that is read now.
    pub file: &'f str,
    /// Bytes of all files so far.
    pub bytes: u64,
    /// Bytes of all files, where the hub says it.
    pub total: Option<u64>,
}

/// A hub that can be asked.
#[derive(Debug)]
pub struct Hub {
    endpoint: Url,
    /// Marked as sensitive, so that no log or message shows it.
    token: Option<HeaderValue>,
    client: reqwest::Client,
    /// The hub's own host, and public ones, to which it may redirect.
    policy: UrlPolicy,
    limits: HubLimits,
}

impl Hub {
    /// The hub at `HF_ENDPOINT`, with the token in `HF_TOKEN`; both may be unset.
    ///
    /// # Errors
    /// [`HubError::Setting`].
    pub fn from_env() -> Result<Self, HubError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self::new(&endpoint, variable("HF_TOKEN").as_deref(), HubLimits::default())
    }

    /// A hub at a URL; the token, if any, is sent to its host only.
    ///
    /// # Errors
    /// [`HubError::Setting`].
    pub fn new(endpoint: &str, token: Option<&str>, limits: HubLimits) -> Result<Self, HubError> {
        let setting = |variable, reason| HubError::Setting { variable, reason };
        let url = Url::parse(endpoint.trim()).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let mut endpoint = url.ok_or_else(|| setting("HF_ENDPOINT", "must be an http(s) URL"))?;
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let token = token.map(|token| HeaderValue::try_from(format!("Bearer {}", token.trim()))).transpose();
        let mut token = token.map_err(|_| setting("HF_TOKEN", "holds characters that no token may have"))?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        let policy = UrlPolicy::from_host(&endpoint);
        let client = super::builder(&endpoint)
            .dns_resolver(policy.resolver_behind_proxies())
            .connect_timeout(limits.silence)
            .read_timeout(limits.silence)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| setting("HF_ENDPOINT", "cannot be asked: no TLS roots on this machine"))?;
        Ok(Self { endpoint, token, client, policy, limits })
    }

    /// Fetches what `choose` picks from the names of the model's files, `limit` bytes at most together. `choose` is
    /// asked once, with the names in the model's own folder; `seen` is told of every piece that comes.
    ///
    /// # Errors
    /// See [`HubError`].
    pub async fn fetch<E: fmt::Display>(
        &self,
        model: &HubRef,
        limit: usize,
        choose: impl for<'n> FnOnce(&[&'n str]) -> Result<Vec<&'n str>, E>,
        seen: impl FnMut(Progress<'_>),
    ) -> Result<Fetched, HubError> {
        let fetched = tokio::time::timeout(self.limits.total, self.fetch_untimed(model, limit, choose, seen));
        let seconds = self.limits.total.as_secs();
        fetched.await.unwrap_or(Err(HubError::Timeout { seconds }))
    }

    async fn fetch_untimed<E: fmt::Display>(
        &self,
        model: &HubRef,
        limit: usize,
        choose: impl for<'n> FnOnce(&[&'n str]) -> Result<Vec<&'n str>, E>,
        mut seen: impl FnMut(Progress<'_>),
    ) -> Result<Fetched, HubError> {
        let listing = self.list(model).await?;
        let names: Vec<&str> = listing.files().map(|file| file.rfilename.as_str()).collect();
        let no_files = |reason| HubError::NoFiles { reason };
        let chosen = choose(&names).map_err(|error| no_files(error.to_string()))?;
        if chosen.len() > MAX_FILES {
            return Err(no_files(format!("its vocabulary has over {MAX_FILES} files")));
        }
        let chosen: Vec<&Sibling> =
            chosen.iter().filter_map(|name| listing.files().find(|file| file.rfilename == **name)).collect();
        let mut total = Some(0_u64);
        for file in &chosen {
            total = total.zip(file.bytes()).map(|(total, bytes)| total.saturating_add(bytes));
            // Also a single file of a list that does not know all sizes.
            if total.or(file.bytes()).is_some_and(|bytes| bytes > limit as u64) {
                return Err(HubError::TooLarge { what: file.what(), limit });
            }
        }
        let (mut files, mut before) = (Vec::with_capacity(chosen.len()), 0);
        for file in chosen {
            let name = file.rfilename.as_str();
            let wanted = Wanted {
                url: self.file_url(model, &listing.sha, name),
                what: file.what(),
                bytes: file.bytes(),
                digest: file.digest(),
                limit: limit - before,
                whole_limit: limit,
            };
            let told = |so_far: u64| seen(Progress { file: name, bytes: before as u64 + so_far, total });
            let bytes = self.read(&wanted, told).await?;
            before += bytes.len();
            files.push((name.to_owned(), bytes));
        }
        Ok(Fetched { source: model.at(&listing.sha), files })
    }

    /// The commit and the files of a revision.
    async fn list(&self, model: &HubRef) -> Result<Listing, HubError> {
        let revision = model.revision.as_deref().unwrap_or(MAIN);
        let mut url = self.url(&["api", "models", &model.org, &model.model, "revision", revision]);
        url.set_query(Some("blobs=true"));
        let what = "model or revision";
        let wanted = Wanted {
            url,
            what: what.to_owned(),
            bytes: None,
            digest: None,
            limit: MAX_LISTING_BYTES,
            whole_limit: MAX_LISTING_BYTES,
        };
        let answer = self.read(&wanted, |_| ()).await?;
        let wrong = |reason: String| HubError::Answer { what: what.to_owned(), reason };
        let listing: Listing = serde_json::from_slice(&answer).map_err(|error| {
            wrong(format!(
                "the list of files cannot be read (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        // It becomes part of URLs and of the record.
        if !is_hex(&listing.sha, 40) && !is_hex(&listing.sha, 64) {
            return Err(wrong("the list of files names no commit".to_owned()));
        }
        Ok(listing)
    }

    fn file_url(&self, model: &HubRef, commit: &str, file: &str) -> Url {
        self.url(&[&model.org, &model.model, "resolve", commit, file])
    }

    /// A URL below the endpoint; what stands in a part (the `/` of a branch, for one) is escaped.
    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }
}

/// A model at a commit.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Option<Vec<Sibling>>,
}

/// A file in it.
#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file, which git itself only points to.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// The files in the model's own folder whose names are plain.
    fn files(&self) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().flatten().filter(|file| is_plain(&file.rfilename))
    }
}

/// Names that mean the same wherever they stand.
fn is_plain(file: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%');
    (1..=255).contains(&file.len()) && !file.starts_with('.') && !file.contains(odd)
}

impl Sibling {
    /// What errors call it.
    fn what(&self) -> String {
        format!("file {}", self.rfilename)
    }

    fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    /// Of a large file `blobId` is that of the pointer to it.
    fn digest(&self) -> Option<Digest> {
        match &self.lfs {
            Some(lfs) => Digest::sha256(lfs.sha256.as_deref()?),
            None => Digest::git(self.blob_id.as_deref()?),
        }
    }
}

/// What the content of a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Digest {
    /// SHA-256, as for large files.
    Sha256(String),
    /// The id of a git object: SHA-1 over a head with the length, and the content.
    Git(String),
}

impl Digest {
    fn sha256(hex: &str) -> Option<Self> {
        is_hex(hex, 64).then(|| Self::Sha256(hex.to_ascii_lowercase()))
    }

    fn git(hex: &str) -> Option<Self> {
        is_hex(hex, 40).then(|| Self::Git(hex.to_ascii_lowercase()))
    }

    /// By its length, as in an `ETag` of the hub's.
    fn of_tag(tag: &str) -> Option<Self> {
        let bare = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        Self::sha256(bare).or_else(|| Self::git(bare))
    }

    /// What differs, if the content is another.
    fn check(&self, content: &[u8]) -> Result<(), &'static str> {
        use sha2::Digest as _;
        let (is, must, what) = match self {
            Self::Sha256(must) => (hex(&sha2::Sha256::digest(content)), must, "sha256"),
            Self::Git(must) => {
                let mut hash = sha1::Sha1::new();
                hash.update(format!("blob {}\0", content.len()));
                hash.update(content);
                (hex(&hash.finalize()), must, "git object id")
            }
        };
        if is == *must { Ok(()) } else { Err(what) }
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_hold_the_parts_and_nothing_else() {
        let hub = Hub::new("https://mirror.example/hf/?x#y", None, HubLimits::default()).unwrap();
        let url = hub.url(&["api", "models", "a", "b", "revision", "refs/pr/1"]);
        assert_eq!(url.as_str(), "https://mirror.example/hf/api/models/a/b/revision/refs%2Fpr%2F1");
        let model = "hf://a/b".parse().unwrap();
        let url = hub.file_url(&model, "0f", "a b.tiktoken");
        assert_eq!(url.as_str(), "https://mirror.example/hf/a/b/resolve/0f/a%20b.tiktoken");
    }

    #[test]
    fn a_hub_that_cannot_be_asked_is_named_by_its_variable() {
        for endpoint in ["", "huggingface.co", "ftp://x", "file:///x", "http://"] {
            let error = Hub::new(endpoint, None, HubLimits::default()).unwrap_err();
            assert!(error.to_string().starts_with("HF_ENDPOINT "), "{error}");
        }
        let error = Hub::new(ENDPOINT, Some("hf_\u{7f}SECRET\n"), HubLimits::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("HF_TOKEN ") && !error.to_string().contains("SECRET"),
            "{error}"
        );
        let hub = Hub::new(ENDPOINT, Some("hf_SECRET"), HubLimits::default()).unwrap();
        assert!(!format!("{hub:?}").contains("SECRET"), "{hub:?}");
    }

    #[test]
    fn only_plain_names_in_the_models_own_folder_are_offered() {
        for name in ["tokenizer.json", "qwen.tiktoken", "a b.model", "x..y"] {
            assert!(is_plain(name), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "",
            ".gitattributes",
            "..",
            "../tokenizer.json",
            "original/tokenizer.model",
            "a\\b",
            "a%2fb",
            "a\nb",
            &long,
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }

    /// The ids are those that `git hash-object` and `sha256sum` print.
    #[test]
    fn digests_are_those_of_git_and_of_large_files() {
        let git = Digest::git("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!((git.check(b"hello\n"), git.check(b"hello")), (Ok(()), Err("git object id")));
        let large = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let large = Digest::of_tag(&format!("W/\"{large}\"")).unwrap();
        assert_eq!((large.check(b"hello\n"), large.check(b"")), (Ok(()), Err("sha256")));
        assert_eq!(Digest::of_tag("\"ce013625030ba8dba906f756967f9e9ca394464a\""), Some(git));
        assert_eq!(Digest::of_tag("\"5f3c\""), None);
    }
}
