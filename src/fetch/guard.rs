//! Fetching what somebody else names: files by URL, without a way into this machine or its network.
//!
//! Every address is checked where the connection is made: hosts are resolved by the policy itself, which takes no name that has
//! an address that is not public, so that one that leads elsewhere the second time gains nothing; hosts that are addresses are
//! checked as the URL was parsed, and again at each redirect. No proxy is asked, which would resolve names by itself.

use super::{FetchError, read_whole};
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Response, Url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Which URLs may be fetched; by default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Those of hosts that have public addresses only.
    public: bool,
    /// Those of these hosts, wherever they are.
    hosts: Arc<[String]>,
}

/// Longest wait for a connection, and for the next bytes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for one file.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// How often whether there is room is asked while a file is written.
const ASK_ROOM_EVERY: u64 = 64 << 20;

/// The longest URL.
const MAX_URL_BYTES: usize = 4096;

impl UrlPolicy {
    /// As settings spell it: nothing, or hosts separated by commas, of which `*` is all that have public addresses only.
    pub fn parse(setting: &str) -> Self {
        let named = setting.split(',').map(|host| host.trim().to_lowercase()).filter(|host| !host.is_empty());
        let (public, hosts): (Vec<String>, Vec<String>) = named.partition(|host| host == "*");
        Self { public: !public.is_empty(), hosts: hosts.into() }
    }

    /// A host, wherever it is, and where it leads to if that is public.
    pub(super) fn from_host(url: &Url) -> Self {
        Self { public: true, hosts: [host(url)].into() }
    }

    /// Whether none may be fetched.
    pub fn is_off(&self) -> bool {
        !self.public && self.hosts.is_empty()
    }

    /// Checks what can be said of a URL without asking anybody.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn check(&self, url: &str) -> Result<(), FetchError> {
        self.parsed(url).map(drop)
    }

    fn parsed(&self, url: &str) -> Result<Url, FetchError> {
        if self.is_off() {
            return Err(FetchError::Off);
        }
        // Parsers disagree on these, and no file that is meant to be found needs them.
        let odd = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
        if url.len() > MAX_URL_BYTES || url.contains(odd) {
            return Err(FetchError::Url);
        }
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        self.allows(&url)?;
        Ok(url)
    }

    /// Whether a URL, the first or one of a redirect, may be asked.
    pub(super) fn allows(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url);
        }
        let host = host(url);
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
        let address = bare.parse::<IpAddr>().ok();
        if self.hosts.contains(&host) || (self.public && address.is_none_or(is_public)) {
            Ok(())
        } else {
            Err(FetchError::Host)
        }
    }

    /// Resolves names as the policy says.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver(self.clone()))
    }

    /// The same for a client that asks proxies where the environment names any: those may be anywhere, and what they resolve
    /// is theirs.
    pub(super) fn resolver_behind_proxies(&self) -> Arc<Resolver> {
        let names = ["http_proxy", "https_proxy", "all_proxy"];
        let set = names.iter().flat_map(|name| [std::env::var(name), std::env::var(name.to_uppercase())]);
        let urls = set.flatten().filter_map(|proxy| {
            let url = Url::parse(&proxy).ok().filter(Url::has_host);
            url.or_else(|| Url::parse(&format!("http://{proxy}")).ok())
        });
        let hosts = self.hosts.iter().cloned().chain(urls.map(|url| host(&url))).collect();
        Arc::new(Resolver(Self { hosts, ..*self }))
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_lowercase()
}

/// Fetches a file to `path`; `has_room` says whether so many more bytes may be written there. What was written of a file that
/// did not come whole is left to the caller.
///
/// # Errors
/// See [`FetchError`]. Whether an address was refused or did not answer is not told.
pub async fn download_to(
    url: &str,
    policy: &UrlPolicy,
    limit: u64,
    path: &Path,
    has_room: impl Fn(u64) -> bool,
) -> Result<(), FetchError> {
    let seconds = TOTAL_TIMEOUT.as_secs();
    let fetched = tokio::time::timeout(TOTAL_TIMEOUT, write_to(url, policy, limit, path, has_room)).await;
    fetched.unwrap_or(Err(FetchError::Timeout { seconds }))
}

/// Fetches a file into memory; `seen` is told as [`super::download`] tells it.
///
/// # Errors
/// As [`download_to`].
pub async fn download_within(
    url: &str,
    policy: &UrlPolicy,
    limit: usize,
    seen: impl FnMut(u64, Option<u64>),
) -> Result<Bytes, FetchError> {
    let seconds = super::TOTAL_TIMEOUT.as_secs();
    let whole = async { read_whole(open(url, policy).await?, limit, seen).await };
    tokio::time::timeout(super::TOTAL_TIMEOUT, whole).await.unwrap_or(Err(FetchError::Timeout { seconds }))
}

/// What a server answers with 200.
async fn open(url: &str, policy: &UrlPolicy) -> Result<Response, FetchError> {
    let url = policy.parsed(url)?;
    let again = policy.clone();
    let redirect = reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS || again.allows(attempt.url()).is_err() {
            attempt.error(FetchError::Host)
        } else {
            attempt.follow()
        }
    });
    let builder = super::builder(&url).no_proxy().dns_resolver(policy.resolver());
    let client = builder.connect_timeout(TIMEOUT).read_timeout(TIMEOUT).redirect(redirect).build();
    let response = client.map_err(unreachable)?.get(url).send().await.map_err(unreachable)?;
    match response.status() {
        reqwest::StatusCode::OK => Ok(response),
        status => Err(FetchError::Status { status: status.as_u16() }),
    }
}

fn unreachable(_: reqwest::Error) -> FetchError {
    FetchError::Unreachable
}

async fn write_to(
    url: &str,
    policy: &UrlPolicy,
    limit: u64,
    path: &Path,
    has_room: impl Fn(u64) -> bool,
) -> Result<(), FetchError> {
    let response = open(url, policy).await?;
    let total = response.content_length();
    let too_large = FetchError::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) };
    if total.is_some_and(|n| n > limit) {
        return Err(too_large);
    }
    if !has_room(total.unwrap_or(0)) {
        return Err(FetchError::NoRoom);
    }
    let disk = |e: std::io::Error| FetchError::Transfer(format!("the file cannot be written: {}", e.kind()));
    let mut file = tokio::fs::File::create(path).await.map_err(disk)?;
    let mut chunks = response.bytes_stream();
    let (mut written, mut asked) = (0, 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        written += chunk.len() as u64;
        if written > limit {
            return Err(too_large);
        }
        if written - asked >= ASK_ROOM_EVERY {
            if !has_room(0) {
                return Err(FetchError::NoRoom);
            }
            asked = written;
        }
        file.write_all(&chunk).await.map_err(disk)?;
    }
    if total.is_some_and(|n| n != written) {
        return Err(FetchError::Transfer("the answer ended early".to_owned()));
    }
    file.sync_all().await.map_err(disk)
}

/// Resolves the hosts of a policy to what they have, and other names to public addresses; a name that has another one too
/// has none.
pub(super) struct Resolver(UrlPolicy);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let trusted = self.0.hosts.iter().any(|host| host == name.as_str());
        let may = trusted || self.0.public;
        Box::pin(async move {
            if !may {
                return Err(FetchError::Host.into());
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            let public = || addresses.iter().all(|address| is_public(address.ip()));
            if addresses.is_empty() || !(trusted || public()) {
                return Err(FetchError::Host.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the internet's, and not one of this machine, its network or a special purpose.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network, private, loopback, link-local, multicast and reserved.
        (0 | 10 | 127 | 224.., ..) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Shared by carriers, protocol assignments, documentation, benchmarks, 6to4 relays.
        (100, 64..=127, _) | (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        (192, 88, 99) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Only global unicast, and of that not what leads to an IPv4 address or is for documentation or tunnels.
    match segments {
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] | [0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn only_public_addresses_are_public() {
        let no = [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ];
        for address in no {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn urls_that_lead_inside_are_refused_however_they_are_spelt() {
        let public = UrlPolicy::parse("*");
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest",
            "http://user:pw@example.com/",
            "http://user@example.com/",
            "http://example.com\\@127.0.0.1/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://example.com/a b",
            "http://[fe80::1%25eth0]/",
            "",
            "example.com",
        ] {
            assert!(public.check(url).is_err(), "{url}");
        }
        assert!(public.check("https://example.com/a?b=c").is_ok());
        let hosts = UrlPolicy::parse("data.example, 127.0.0.1");
        assert!(
            hosts.check("http://data.example/x").is_ok() && hosts.check("http://127.0.0.1:9000/x").is_ok()
        );
        assert!(matches!(hosts.check("http://example.com/x"), Err(FetchError::Host)));
        assert!(matches!(UrlPolicy::parse(" ").check("http://example.com/x"), Err(FetchError::Off)));
        let both = UrlPolicy::parse("127.0.0.1,*");
        assert!(both.check("http://127.0.0.1:9000/x").is_ok() && both.check("http://example.com/x").is_ok());
        assert!(matches!(both.check("http://127.0.0.2/x"), Err(FetchError::Host)));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let fetched = download_to("http://localhost:1/x", &UrlPolicy::parse("*"), 10, &path, |_| true).await;
        assert!(matches!(fetched, Err(FetchError::Unreachable)), "{fetched:?}");
        assert!(!path.exists());
        let fetched = download_within("http://localhost:1/x", &UrlPolicy::parse("*"), 10, |_, _| ()).await;
        assert!(matches!(fetched, Err(FetchError::Unreachable)), "{fetched:?}");
    }

    /// A server that sends so many bytes, and in the head whether it will.
    async fn sends(bytes: usize, announced: bool) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What is not read when the connection is closed resets it.
            let _ = stream.read(&mut [0; 4096]).await;
            let length = if announced { format!("content-length: {bytes}\r\n") } else { String::new() };
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{length}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.write_all(&vec![0; bytes]).await;
        });
        format!("http://{address}/x")
    }

    #[tokio::test]
    async fn room_is_asked_for_before_a_file_and_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let (policy, limit) = (UrlPolicy::parse("127.0.0.1"), 1 << 30);
        let fetched = download_to(&sends(10, true).await, &policy, limit, &path, |more| more < 10).await;
        assert!(matches!(fetched, Err(FetchError::NoRoom)), "{fetched:?}");
        assert!(!path.exists());
        let asked = std::sync::Mutex::new(Vec::new());
        let room = |times: usize| {
            let asked = &asked;
            move |more| {
                asked.lock().unwrap().push(more);
                asked.lock().unwrap().len() <= times
            }
        };
        let bytes = 2 * ASK_ROOM_EVERY as usize + (1 << 20);
        let fetched = download_to(&sends(bytes, false).await, &policy, limit, &path, room(2)).await;
        assert!(matches!(fetched, Err(FetchError::NoRoom)), "{fetched:?}");
        let written = path.metadata().unwrap().len();
        assert!(written >= ASK_ROOM_EVERY && written < bytes as u64, "{written}");
        assert_eq!(*asked.lock().unwrap(), [0, 0, 0]);
        download_to(&sends(10, true).await, &policy, limit, &path, room(4)).await.unwrap();
        assert_eq!((path.metadata().unwrap().len(), &asked.lock().unwrap()[3..]), (10, &[10][..]));
    }
}
