//! Outgoing HTTP: files by URL and from a model hub, bounded in size and time.

mod guard;
pub mod hub;

pub use guard::{UrlPolicy, download_to, download_within};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::time::Duration;

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an http(s) URL.
    #[error("only http and https URLs can be fetched")]
    Scheme,
    /// No URL may be fetched.
    #[error("fetching from URLs is off: the settings allow none")]
    Off,
    /// Not a URL, or one with parts that are not taken.
    #[error("is not a plain URL")]
    Url,
    /// The host is not one of those that may be asked.
    #[error("the host may not be asked")]
    Host,
    /// No connection, or one that broke; or an address that may not be asked.
    #[error("the server cannot be reached")]
    Unreachable,
    /// The server answered with another status than 200.
    #[error("the server answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// More bytes than are taken.
    #[error("the file has over {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Too little room where the file was to go.
    #[error("there is no room for the file")]
    NoRoom,
    /// It took too long.
    #[error("fetching was given up after {seconds} seconds")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// The connection failed, or was too slow.
    #[error("fetching failed: {0}")]
    Transfer(String),
}

/// Longest wait for a connection, and for the next bytes of an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for everything that one call fetches.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Fetches a file for whoever runs this program, from wherever they say; `seen` is told the bytes so far and, where the server says it, the total.
///
/// # Errors
/// See [`FetchError`].
pub async fn download(
    url: &str,
    limit: usize,
    seen: impl FnMut(u64, Option<u64>),
) -> Result<Bytes, FetchError> {
    let seconds = TOTAL_TIMEOUT.as_secs();
    let fetched = tokio::time::timeout(TOTAL_TIMEOUT, download_untimed(url, limit, seen)).await;
    fetched.unwrap_or(Err(FetchError::Timeout { seconds }))
}

async fn download_untimed(
    url: &str,
    limit: usize,
    seen: impl FnMut(u64, Option<u64>),
) -> Result<Bytes, FetchError> {
    let url = parsed(url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Scheme);
    }
    let client = builder(&url)
        .connect_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .build()
        .map_err(transfer)?;
    let response = client.get(url).send().await.map_err(transfer)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status { status: response.status().as_u16() });
    }
    read_whole(response, limit, seen).await
}

fn parsed(url: &str) -> Result<reqwest::Url, FetchError> {
    reqwest::Url::parse(url).map_err(|e| FetchError::Transfer(e.to_string()))
}

/// The body of an answer.
async fn read_whole(
    response: reqwest::Response,
    limit: usize,
    mut seen: impl FnMut(u64, Option<u64>),
) -> Result<Bytes, FetchError> {
    let total = response.content_length();
    if total.is_some_and(|n| n > limit as u64) {
        return Err(FetchError::TooLarge { limit });
    }
    let mut file = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(transfer)?;
        if file.len() + chunk.len() > limit {
            return Err(FetchError::TooLarge { limit });
        }
        file.extend_from_slice(&chunk);
        seen(file.len() as u64, total);
    }
    if total.is_some_and(|n| n != file.len() as u64) {
        return Err(FetchError::Transfer("the answer ended early".to_owned()));
    }
    Ok(file.freeze())
}

/// Asks a URL for nothing but its status, which must be 200.
///
/// The certificate of this machine's `own` server is not looked at: it is for the name under which others know the machine,
/// and a probe has no secret to give away.
///
/// # Errors
/// See [`FetchError`].
pub async fn probe(url: &str, own: bool) -> Result<(), FetchError> {
    let url = parsed(url)?;
    let builder = builder(&url).tls_danger_accept_invalid_certs(own).timeout(TIMEOUT);
    let response = builder.build().map_err(transfer)?.get(url).send().await.map_err(transfer)?;
    match response.status() {
        reqwest::StatusCode::OK => Ok(()),
        other => Err(FetchError::Status { status: other.as_u16() }),
    }
}

/// A client for a server that the settings name, at `url`. It follows no redirects.
///
/// # Errors
/// See [`FetchError`].
pub fn client(url: &str) -> Result<(reqwest::Client, reqwest::Url), FetchError> {
    let url = parsed(url)?;
    let builder = builder(&url).connect_timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    Ok((builder.build().map_err(transfer)?, url))
}

/// The last part of a URL's path, without the query: that may hold a key, and the source of a version is public.
pub fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// What every client has; `url` is where it will ask first.
fn builder(url: &reqwest::Url) -> reqwest::ClientBuilder {
    // The first call in a process counts; a provider that is set already serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().user_agent(concat!("vocabd/", env!("CARGO_PKG_VERSION")));
    // This machine is never reached through a proxy, whatever the environment says: `health` asks here.
    if is_loopback(url) { builder.no_proxy() } else { builder }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn transfer(error: reqwest::Error) -> FetchError {
    FetchError::Transfer(innermost(error))
}

/// The innermost cause says most: "connection refused" rather than "error sending request". Never the URL: it may hold
/// a key.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
