//! Clients that speak TLS, slowly or not at all.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Tls, TlsError};
use super::*;

/// The two files of a server, written anew by each call, and a client that trusts what was written last.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> (Self, TlsConnector) {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let client = files.renew();
        (files, client)
    }

    fn renew(&self) -> TlsConnector {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.write("cert.pem", &made.cert.pem());
        self.write("key.pem", &made.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn open(&self) -> Result<Arc<Tls>, TlsError> {
        Tls::open(&self.dir.path().join("cert.pem"), &self.dir.path().join("key.pem"))
    }
}

/// A server with a certificate, and a client of it.
async fn start(change: impl FnOnce(&mut ListenSettings)) -> (Running, Arc<Tls>, Files, TlsConnector) {
    let (files, client) = Files::new();
    let tls = files.open().unwrap();
    let mut settings = ListenSettings { tls: Some(Arc::clone(&tls)), ..settings() };
    change(&mut settings);
    (Running::start(settings).await, tls, files, client)
}

async fn connect(server: &Running, client: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from("localhost").unwrap(), server.connect().await).await
}

/// The same client with HTTP/2 alone.
fn http2(client: &TlsConnector) -> TlsConnector {
    let mut config = ClientConfig::clone(client.config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn get(client: &mut TlsStream<TcpStream>) -> String {
    client.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let byte = tokio::time::timeout(SOON, client.read_u8()).await.expect("an answer in time");
        answer.push(byte.expect("an open connection"));
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_are_served_and_idle_connections_closed() {
    let (server, _, _files, client) = start(|_| ()).await;
    let mut connection = connect(&server, &client).await.unwrap();
    for _ in 0..3 {
        assert!(get(&mut connection).await.starts_with("HTTP/1.1 200 OK"));
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn handshakes_that_stall_or_drip_are_closed() {
    let (server, ..) = start(|_| ()).await;
    let begun = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let (silent, stalled, dripping, alive) = tokio::join!(
        read_to_close(server.connect().await),
        read_to_close(server.connect_and_send(&begun).await),
        drip(server.connect().await, &begun, 0),
        read_to_close(server.connect_and_send(b"\0").await),
    );
    for (answer, after) in [silent, stalled, dripping] {
        assert_eq!(answer, "");
        assert!(after >= LIMIT / 2, "closed too early: {after:?}");
    }
    assert!(alive.1 < SOON);
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn a_head_behind_a_handshake_has_what_is_left_of_its_time() {
    let (server, _, _files, client) = start(|_| ()).await;
    let mut connection = connect(&server, &client).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, connection.read_to_end(&mut rest)).await.expect("closed in time");
    assert_eq!(rest, b"");
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn clients_that_do_not_read_are_closed_behind_tls_too() {
    let (server, _, _files, client) = start(|_| ()).await;
    let mut connection = connect(&server, &client).await.unwrap();
    connection.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.wait_for_connections(1).await;
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn clients_that_read_slowly_are_kept_behind_tls_too() {
    let (server, _, _files, client) = start(|_| ()).await;
    let mut connection = connect(&server, &client).await.unwrap();
    connection.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 1 << 18];
    let started = Instant::now();
    while started.elapsed() < LIMIT * 8 {
        connection.read_exact(&mut buffer).await.unwrap();
        tokio::time::sleep(LIMIT / 5).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1, "a client that reads was closed");
}

#[tokio::test]
async fn pings_keep_no_head_waiting_and_idle_time_ends_http2() {
    let idle_timeout = LIMIT * 6;
    // The server's own pings, which this client does not answer, come later.
    let (server, _, _files, client) =
        start(|settings| (settings.idle_timeout, settings.body_timeout) = (idle_timeout, SOON)).await;
    let mut connection = connect(&server, &http2(&client)).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let started = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        assert!(started.elapsed() < SOON, "an idle connection is kept");
        match tokio::time::timeout(DRIP, connection.read(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => break,
            Err(_) if connection.write_all(b"\0\0\x08\x06\0\0\0\0\x0012345678").await.is_err() => break,
            Err(_) => connection.flush().await.unwrap_or_default(),
        }
    }
    assert!(started.elapsed() >= idle_timeout / 2, "taken for half a head: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_plain_request_is_told_that_the_port_speaks_tls() {
    let (server, ..) = start(|_| ()).await;
    for request in [GET, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HT"] {
        let (answer, _) = read_to_close(server.connect_and_send(request).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("tls_required"), "{answer}");
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn handshakes_have_their_place_under_the_cap() {
    let (server, _, _files, client) = start(|settings| settings.max_connections = 1).await;
    let silent = server.connect().await;
    server.wait_for_connections(1).await;
    let mut served = connect(&server, &client).await.unwrap(); // once the silent one is closed
    get(&mut served).await;
    drop(silent);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_who_has_sent_nothing() {
    let day = Duration::from_secs(86_400);
    let (server, ..) = start(|settings| (settings.header_timeout, settings.drain) = (day, day)).await;
    let silent = server.connect().await;
    server.wait_for_connections(1).await;
    server.shutdown.cancel();
    tokio::time::timeout(SOON, server.ended).await.expect("the loop ends").unwrap().unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_reload_is_for_new_connections_and_a_bad_one_for_none() {
    let (server, tls, files, before) =
        start(|settings| settings.idle_timeout = Duration::from_secs(600)).await;
    let mut open = connect(&server, &before).await.unwrap();
    get(&mut open).await;

    files.write("key.pem", "no key");
    assert!(matches!(*tls.reload().unwrap_err(), TlsError::Content { setting: "tls_key", .. }));
    assert!(tls.failure().is_some());
    connect(&server, &before).await.expect("what was shown before");

    let after = files.renew();
    tls.reload().unwrap();
    assert!(tls.failure().is_none());
    get(&mut open).await;
    get(&mut connect(&server, &after).await.unwrap()).await;
    connect(&server, &before).await.expect_err("another certificate is shown");
}

#[tokio::test]
async fn files_that_do_not_do_are_told_by_their_setting() {
    let (files, _) = Files::new();
    let read = |name: &str| std::fs::read_to_string(files.dir.path().join(name)).unwrap();
    let (cert, key) = (read("cert.pem"), read("key.pem"));
    let check = |cert: &str, key: &str, expected: &str| {
        files.write("cert.pem", cert);
        files.write("key.pem", key);
        let told = files.open().map(drop).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("MII") && !told.contains("secret"), "{told}");
    };
    let (other, _) = Files::new();
    let other_key = std::fs::read_to_string(other.dir.path().join("key.pem")).unwrap();
    check("", &key, "tls_cert: the file has no CERTIFICATE");
    check(&key, &key, "tls_cert: the file has no CERTIFICATE");
    check(&cert[..cert.len() / 2], &key, "tls_cert: the file is not whole PEM");
    check(&cert.replacen("MII", "***", 1), &key, "tls_cert: the file is not whole PEM");
    check(&cert, "secret", "tls_key: the file has no PRIVATE KEY");
    check(&cert, &cert, "tls_key: the file has no PRIVATE KEY");
    check(&cert, &key[..key.len() / 2], "tls_key: the file is not whole PEM");
    check(&cert, &other_key, "tls_key is not the key of the first certificate");
    check(&cert, &" ".repeat((1 << 20) + 1), "tls_key: the file has over 1048576 bytes");
    std::fs::remove_file(files.dir.path().join("cert.pem")).unwrap();
    let told = files.open().map(drop).unwrap_err();
    assert!(matches!(told, TlsError::Read { setting: "tls_cert", .. }), "{told}");
}

/// A certificate that others made has its end where a library finds it.
#[tokio::test]
async fn the_end_of_a_certificate_is_known() {
    let (files, _) = Files::new();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    let key = rcgen::KeyPair::generate().unwrap();
    files.write("cert.pem", &params.self_signed(&key).unwrap().pem());
    files.write("key.pem", &key.serialize_pem());
    assert_eq!(files.open().unwrap().expires(), Some(1_927_843_200));
}
