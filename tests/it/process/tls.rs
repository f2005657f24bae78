//! A server with a certificate, and clients that know it or do not.

use super::start::refused;
use super::{Server, finish, serve, vocabd, wait_for};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A folder with a certificate for `localhost` and its key, and a client that knows no other.
struct Files(TempDir);

impl Files {
    fn new() -> (Self, Client) {
        let files = Self(tempfile::tempdir().unwrap());
        let client = files.renew();
        (files, client)
    }

    fn renew(&self) -> Client {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem();
        std::fs::write(self.0.path().join("cert.pem"), &pem).unwrap();
        std::fs::write(self.0.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        client(&pem)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn settings<'a>(cert: &'a str, key: &'a str) -> [(&'static str, &'a str); 2] {
        [("tls_cert", cert), ("tls_key", key)]
    }
}

fn client(trusted: &str) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = Certificate::from_pem(trusted.as_bytes()).unwrap();
    Client::builder().tls_certs_only([trusted]).no_proxy().build().unwrap()
}

fn url(port: u16, path: &str) -> String {
    format!("https://localhost:{port}{path}")
}

async fn encode(client: &Client, port: u16) -> reqwest::Result<(reqwest::Version, Value)> {
    let body = json!({"text": "the cat"}).to_string();
    let asked = client.post(url(port, "/encode")).header("content-type", "application/json").body(body);
    let answer = asked.send().await?;
    let version = answer.version();
    assert_eq!(answer.status(), 200);
    Ok((version, serde_json::from_slice(&answer.bytes().await?).unwrap()))
}

/// The address of the listener of operators, as the log has it.
fn operators(server: &Server) -> u16 {
    wait_for("the listener of operators", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("listening for operators"))?;
        let line: Value = serde_json::from_str(line).unwrap();
        Some(line["address"].as_str().unwrap().parse::<std::net::SocketAddr>().unwrap().port())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls_and_a_reload_drops_no_connection() {
    let (files, before) = Files::new();
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let mut settings = Files::settings(&cert, &key).to_vec();
    settings.push(("admin_listen", "127.0.0.1:0"));
    let server = Server::start_with(data.path(), &settings);
    let port = server.address.port();
    let admin = operators(&server);

    let (version, answer) = encode(&before, port).await.unwrap();
    assert_eq!((version, &answer["vocab"]["name"]), (reqwest::Version::HTTP_2, &json!("default")));
    let one =
        Client::builder().http1_only().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    assert_eq!(encode(&one, port).await.unwrap().0, reqwest::Version::HTTP_11);
    let expiry = "vocabd_certificate_expiry_timestamp_seconds{setting=\"tls_cert\"}";
    let metrics = before.get(url(admin, "/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(expiry), "{metrics}");
    assert_eq!(before.get(url(port, "/metrics")).send().await.unwrap().status(), 404);

    // A request that is under way, on a connection that is open, while the certificate changes.
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    let stream = async_stream(&mut pieces);
    let body = reqwest::Body::wrap_stream(stream);
    let asked = before.post(url(port, "/encode/stream")).header("content-type", "application/x-ndjson");
    let open = tokio::spawn(asked.body(body).send());
    sender.send(Ok("{\"text\": \"one\"}\n")).await.unwrap();

    let after = files.renew();
    server.signal(rustix::process::Signal::HUP);
    wait_for("the reload", || server.log().contains("\"reloaded\"").then_some(()));
    assert_eq!(encode(&after, port).await.unwrap().0, reqwest::Version::HTTP_2);
    assert!(encode(&client_of(&cert), port).await.is_ok());

    sender.send(Ok("{\"text\": \"two\"}\n")).await.unwrap();
    drop(sender);
    let answer = open.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap().lines().count(), 2);
    assert_eq!(encode(&before, port).await.unwrap().0, reqwest::Version::HTTP_2, "its connection goes on");

    // By request, and what is bad changes nothing and is told.
    std::fs::write(&cert, "no certificate").unwrap();
    let report = after.post(url(admin, "/reload")).send().await.unwrap().text().await.unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["failed"][0]["what"], "tls", "{report}");
    assert!(report["failed"][0]["problem"].as_str().unwrap().starts_with("tls_cert: the file has no CERT"));
    let health = after.get(url(port, "/health")).send().await.unwrap().text().await.unwrap();
    assert!(health.contains("degraded"), "{health}");
    assert!(encode(&after, port).await.is_ok());

    // The probe of the image.
    let health = |listen: String| {
        let mut health = vocabd();
        health.arg("health").env("VOCABD_LISTEN", listen);
        health.envs([("VOCABD_TLS_CERT", &cert), ("VOCABD_TLS_KEY", &key)]);
        finish(health)
    };
    assert_eq!(health(format!("127.0.0.1:{port}")), (Some(0), "ok\n".to_owned(), String::new()));
    server.stop();
}

fn client_of(cert: &str) -> Client {
    client(&std::fs::read_to_string(cert).unwrap())
}

/// What comes through a channel.
fn async_stream<T: Send + 'static>(
    pieces: &mut tokio::sync::mpsc::Receiver<T>,
) -> impl futures_util::Stream<Item = T> + Send + 'static {
    let (_, empty) = tokio::sync::mpsc::channel(1);
    let pieces = std::mem::replace(pieces, empty);
    futures_util::stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)))
}

#[test]
fn a_server_without_good_files_does_not_start() {
    let (files, _) = Files::new();
    let data = tempfile::tempdir().unwrap();
    let start = |cert: &str, key: &str| {
        let mut command = serve(vocabd(), &data.path().join("data"), &Files::settings(cert, key));
        command.env("VOCABD_LOG_LEVEL", "off");
        command
    };
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let nowhere = Path::new(&cert).with_file_name("nowhere").to_str().unwrap().to_owned();
    refused(start(&nowhere, &key), &["setting tls_cert", "cannot be read"]);
    refused(start(&key, &key), &["setting tls_cert", "has no CERTIFICATE"]);
    refused(start(&cert, &cert), &["setting tls_key", "has no PRIVATE KEY"]);
    refused(start(&cert, ""), &["tls_key", "as tls_cert is one"]);
    refused(start("", &key), &["tls_cert", "as tls_key is one"]);
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    refused(start(&cert, &key), &["tls_key is not the key of"]);
}
