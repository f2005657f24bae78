//! TLS: certificate and key from files, which can be read again while connections stay.
//!
//! A handshake is a part of the first request's head: the same clock runs for both, and the connection has its place under
//! the cap from the accept on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::reread::Reread;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::pace::WatchedStream;

mod expiry;

/// What the two ends may agree on, the better one first.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// A certificate chain has some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What a client gets that speaks HTTP without TLS, as far as it can be told from its first byte.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: 119\r\n\
    connection: close\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"code\":\"tls_required\",\
    \"detail\":\"this port speaks HTTPS only\"}\n";

/// Why there is no certificate to show. Without paths, as callers of `/reload` are told it too, and without a line of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting}: the file cannot be read: {source}")]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it must be.
    #[error("{setting}: the file {problem}")]
    Content {
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The two files do not belong together.
    #[error("tls_key is not the key of the first certificate in tls_cert")]
    Mismatch,
    /// A kind of certificate or key that is not supported, or a broken one.
    #[error("tls_cert and tls_key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// A certificate and its key, for all connections of a server.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    shown: Reread<Shown, TlsError>,
}

/// What new connections are shown.
struct Shown {
    config: Arc<ServerConfig>,
    expires: Option<i64>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its private key (PKCS #8, PKCS #1 or SEC 1), both PEM.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let shown = Reread::new(read(cert, key)?);
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Ok(Arc::new(Self { cert, key, shown }))
    }

    /// Reads the files again. Connections from here on are shown what is there now; open ones go on.
    ///
    /// # Errors
    /// As [`Tls::open`]; what was shown before stays, and [`Tls::failure`] says so until a reload succeeds.
    pub fn reload(&self) -> Result<(), Arc<TlsError>> {
        self.shown.replace(read(&self.cert, &self.key))
    }

    /// Why the last reload failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<TlsError>> {
        self.shown.failure()
    }

    /// When the certificate that is shown now ends, in seconds since 1970; none for one whose dates cannot be read.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.shown.load().expires
    }

    /// The handshake. A client that sends a plain request is told so; one that has sent nothing when `shutdown` comes is not
    /// waited for.
    pub(super) async fn accept(
        &self,
        mut stream: WatchedStream,
        shutdown: &CancellationToken,
    ) -> io::Result<TlsStream<WatchedStream>> {
        let first = tokio::select! {
            biased;
            first = stream.peek() => first?,
            () = shutdown.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if first.is_ascii_uppercase() {
            refuse_plain(&mut stream).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request without TLS"));
        }
        let config = Arc::clone(&self.shown.load().config);
        let mut stream = TlsAcceptor::from(config).accept(stream).await?;
        let (watched, session) = stream.get_mut();
        watched.agreed(session.alpn_protocol() == Some(HTTP2));
        Ok(stream)
    }
}

/// Answers, and waits for the client to close, as the kernel would throw the answer away with what was not read.
async fn refuse_plain(stream: &mut WatchedStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

fn read(cert: &Path, key: &Path) -> Result<Shown, TlsError> {
    let chain = chain(&file("tls_cert", cert)?)?;
    let key = private_key(&file("tls_key", key)?)?;
    let expires = chain.first().and_then(|own| expiry::of(own));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = made.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch,
        other => TlsError::Unusable(other),
    })?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(Shown { config: Arc::new(config), expires })
}

fn file(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { setting, source };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
        return Err(TlsError::Content { setting, problem: "has over 1048576 bytes" });
    }
    std::fs::read(path).map_err(failed)
}

fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let setting = "tls_cert";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(TlsError::Content { setting, problem: "has no CERTIFICATE in PEM form" })
        }
        Ok(chain) => Ok(chain),
        Err(_) => Err(TlsError::Content { setting, problem: "is not whole PEM" }),
    }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => "has no PRIVATE KEY in PEM form that is not encrypted",
            _ => "is not whole PEM",
        };
        TlsError::Content { setting: "tls_key", problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_plain_request_has_the_length_that_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&"tls_required".into(), &400.into()));
    }
}
