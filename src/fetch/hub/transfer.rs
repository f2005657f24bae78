//! One file from a hub: redirects, tries, going on where a transfer broke off, and the check of what came.

use super::{Digest, Hub, HubError};
use crate::fetch::{FetchError, MAX_REDIRECTS, innermost};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE,
    RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};

/// Digest of a large file, told by the hub itself where it redirects to the place that holds it.
const LINKED_ETAG: &str = "x-linked-etag";
/// Marks an answer of the hub itself about a file of a model: its `ETag` is a digest.
const REPO_COMMIT: &str = "x-repo-commit";
/// What is said of a redirect that may not be followed.
const LEADS_INSIDE: &str =
    "it redirects to a host that is neither the hub's own nor one with public addresses only";

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) url: Url,
    /// What errors call it.
    pub(super) what: String,
    /// Its size, where the hub lists it.
    pub(super) bytes: Option<u64>,
    /// Its digest, where the hub lists it.
    pub(super) digest: Option<Digest>,
    /// Bytes that are taken of it.
    pub(super) limit: usize,
    /// The limit as errors tell it: that of all files together.
    pub(super) whole_limit: usize,
}

/// What there is of a file between its tries.
#[derive(Debug, Default)]
struct Part {
    bytes: BytesMut,
    /// Names the content that `bytes` is the beginning of.
    tag: Option<HeaderValue>,
    digest: Option<Digest>,
}

/// How a try ends that does not end well.
enum Fault {
    /// Another try may do better.
    Broken(String),
    /// None will.
    Final(HubError),
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl Hub {
    /// The whole content, checked; `seen` is told how many bytes there are so far.
    pub(super) async fn read(&self, wanted: &Wanted, mut seen: impl FnMut(u64)) -> Result<Bytes, HubError> {
        let mut part = Part { digest: wanted.digest.clone(), ..Part::default() };
        let mut pause = self.limits.pause;
        for left in (0..self.limits.tries.max(1)).rev() {
            match self.go_on(wanted, &mut part, &mut seen).await {
                Ok(()) => break,
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Broken(reason)) if left == 0 => {
                    return Err(HubError::Transfer { what: wanted.what.clone(), reason });
                }
                Err(Fault::Broken(_)) => {
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
        if let Some(digest) = &part.digest {
            digest.check(&part.bytes).map_err(|check| wanted.mismatch(check))?;
        }
        Ok(part.bytes.freeze())
    }

    /// One try: from where the last one broke off, if the server gives that, else from the start.
    async fn go_on(&self, wanted: &Wanted, part: &mut Part, seen: &mut impl FnMut(u64)) -> Result<(), Fault> {
        // Without either, nothing would show that the second half is that of another file.
        if part.tag.is_none() && part.digest.is_none() {
            part.bytes.clear();
        }
        let response = self.ask(wanted, part).await?;
        let headers = response.headers();
        let tag = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned();
        let total = match response.status() {
            StatusCode::OK => {
                part.bytes.clear();
                response.content_length()
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = headers.get(CONTENT_RANGE).and_then(|range| parse_range(range.to_str().ok()?));
                let other = tag.is_some() && part.tag.is_some() && tag != part.tag;
                match range {
                    Some((start, total)) if start == part.bytes.len() as u64 && !other => total,
                    _ => return Err(part.restart("the server answered with another range")),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(part.restart("the server has no such range")),
            status => return Err(self.refusal(&wanted.what, status, headers, self.is_at(response.url()))),
        };
        part.tag = tag;
        let total = total.or(wanted.bytes);
        if total.is_some_and(|total| total > wanted.limit as u64) {
            return Err(wanted.too_large().into());
        }
        if wanted.bytes.is_some() && wanted.bytes != total {
            return Err(wanted.mismatch("size").into());
        }
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Fault::Broken(innermost(error)))?;
            if part.bytes.len() + chunk.len() > wanted.limit {
                return Err(wanted.too_large().into());
            }
            part.bytes.extend_from_slice(&chunk);
            seen(part.bytes.len() as u64);
        }
        match total {
            Some(total) if total > part.bytes.len() as u64 => {
                Err(Fault::Broken("the answer ended early".to_owned()))
            }
            Some(total) if total < part.bytes.len() as u64 => Err(wanted.mismatch("size").into()),
            _ => Ok(()),
        }
    }

    /// Sends the request, and follows where it leads. Only the hub itself gets the token, and only it is believed on
    /// digests.
    async fn ask(&self, wanted: &Wanted, part: &mut Part) -> Result<Response, Fault> {
        let wrong = |reason: String| HubError::Answer { what: wanted.what.clone(), reason };
        let mut url = wanted.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = self.is_at(&url);
            // Of a compressed answer neither size nor digest would be that of the file.
            let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header(AUTHORIZATION, token);
            }
            if !part.bytes.is_empty() {
                request = request.header(RANGE, format!("bytes={}-", part.bytes.len()));
                if let Some(tag) = &part.tag {
                    request = request.header(IF_RANGE, tag);
                }
            }
            let response = request.send().await;
            let response = response.map_err(|error| match leads_inside(&error) {
                true => Fault::Final(wrong(LEADS_INSIDE.to_owned())),
                false => Fault::Broken(innermost(error)),
            })?;
            let status = response.status();
            if at_hub && part.digest.is_none() && (status.is_success() || status.is_redirection()) {
                part.digest = told_digest(response.headers());
            }
            if !status.is_redirection() {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let target = target.and_then(|to| url.join(to).ok());
            let allowed =
                |to: &Url| to.scheme() == "https" || (to.scheme() == "http" && url.scheme() == "http");
            url = target.filter(allowed).ok_or_else(|| {
                wrong("it redirects to what is no http(s) URL, or from https to http".to_owned())
            })?;
            self.policy.allows(&url).map_err(|_| wrong(LEADS_INSIDE.to_owned()))?;
        }
        Err(wrong(format!("it redirects over {MAX_REDIRECTS} times")).into())
    }

    /// Whether a URL is one of the hub itself: scheme, host and port.
    fn is_at(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// What a status other than success means.
    fn refusal(&self, what: &str, status: StatusCode, headers: &HeaderMap, at_hub: bool) -> Fault {
        let (what, number) = (what.to_owned(), status.as_u16());
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE if at_hub => HubError::NotFound { what }.into(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if at_hub => {
                HubError::Denied { what, status: number, with_token: self.token.is_some() }.into()
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok());
                HubError::RateLimited { retry_after: after.and_then(|after| after.trim().parse().ok()) }
                    .into()
            }
            // Also a signed address that has run out: the hub gives a fresh one at the next try.
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT || !at_hub => {
                Fault::Broken(format!("the server answered {number}"))
            }
            _ => HubError::Answer { what, reason: format!("its status is {number}") }.into(),
        }
    }
}

/// Whether a request failed because the name of its host was not resolved by the policy.
fn leads_inside(error: &reqwest::Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(FetchError::Host)))
}

impl Wanted {
    fn too_large(&self) -> HubError {
        HubError::TooLarge { what: self.what.clone(), limit: self.whole_limit }
    }

    fn mismatch(&self, check: &'static str) -> HubError {
        HubError::Mismatch { what: self.what.clone(), check }
    }
}

impl Part {
    /// What is there cannot be gone on with.
    fn restart(&mut self, reason: &str) -> Fault {
        self.bytes.clear();
        self.tag = None;
        Fault::Broken(reason.to_owned())
    }
}

/// The digest that an answer of the hub itself tells.
fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    let own = || headers.get(ETAG).filter(|_| headers.contains_key(REPO_COMMIT));
    Digest::of_tag(headers.get(LINKED_ETAG).or_else(own)?.to_str().ok()?)
}

/// `bytes START-END/TOTAL`: start and, where it is told, total.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes", "bytes */10", "lines 1-2/3", "bytes a-b/c", "bytes 5-9/x", "bytes -9/10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
