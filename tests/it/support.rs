//! A whole server in the process: the router over a data directory of its own, and requests to it without sockets.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use vocabd::config::Config;
use vocabd::http::{App, AppState, Side, router};
use vocabd::store::Store;

/// Stands in texts of requests; no error answer may ever hold it.
pub(crate) const CANARY: &str = "cAnArY-7f3a";

/// How long anything is waited for before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server over a directory that goes with the last clone of it.
#[derive(Clone)]
pub(crate) struct TestServer {
    router: Router,
    pub(crate) app: AppState,
    dir: Arc<TempDir>,
}

impl TestServer {
    /// Settings as they come, but for the folders, and for jobs that a nearly full disk would refuse.
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()), None, change).await
    }

    /// A server over a storage that fails on demand.
    pub(crate) async fn over(faults: &Arc<Faults>) -> Self {
        Self::over_with(faults, |_| ()).await
    }

    /// The same with other settings.
    pub(crate) async fn over_with(faults: &Arc<Faults>, change: impl FnOnce(&mut Config)) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::clone(faults) as _;
        let store = Arc::new(Store::over(objects));
        Self::open(Arc::new(tempfile::tempdir().unwrap()), Some(store), change).await
    }

    /// Another server over the same directory, as after a restart.
    pub(crate) async fn again(&self) -> Self {
        self.again_with(|_| ()).await
    }

    /// The same with other settings.
    pub(crate) async fn again_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        Self::open(Arc::clone(&self.dir), None, change).await
    }

    /// A server over a copy of the directory as it is at this moment, as after a crash.
    pub(crate) async fn crashed(&self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(self.dir.path(), copy.path());
        Self::open(Arc::new(copy), None, |_| ()).await
    }

    async fn open(dir: Arc<TempDir>, store: Option<Arc<Store>>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            data_dir: dir.path().join("data"),
            corpus_root: dir.path().join("corpora"),
            min_free_bytes: 0,
            train_threads: 1,
            ..Config::default()
        };
        change(&mut config);
        std::fs::create_dir_all(&config.corpus_root).unwrap();
        let store = match store {
            Some(store) => store,
            None => Arc::new(Store::open_local(&config.data_dir).await.unwrap()),
        };
        let registry = vocabd::cli::open::registry_over(&config, store).await.unwrap();
        let app = App::open(config, registry, CancellationToken::new()).await.unwrap();
        Self { router: router(Arc::clone(&app), Side::All), app, dir }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Puts a file under the corpus root.
    pub(crate) fn corpus(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("corpora").join(name), content).unwrap();
    }

    /// Puts a file into the import folder.
    pub(crate) fn by_hand(&self, name: &str, content: impl AsRef<[u8]>) {
        let folder = self.data().join("import");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(with_body(Method::POST, path, body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(with_body(Method::PUT, path, body)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: Value) -> Answer {
        self.send(json_body(Method::POST, path, &body)).await
    }

    pub(crate) async fn put_json(&self, path: &str, body: Value) -> Answer {
        self.send(json_body(Method::PUT, path, &body)).await
    }

    /// The answer, whole.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// The answer with a body that is still coming.
    pub(crate) async fn stream(&self, request: Request<Body>) -> axum::http::Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Imports a tiktoken file of `words` as a version of `name`; its answer is 201.
    pub(crate) async fn import(&self, name: &str, words: &[&str]) -> Value {
        let path = format!("/vocabs?name={name}&split=cl100k");
        self.post(&path, tiktoken(words)).await.ok(201)
    }

    /// The ids of a text by a vocabulary.
    pub(crate) async fn ids(&self, vocab: &str, text: &str) -> Vec<u32> {
        let answer = self.post_json("/encode", serde_json::json!({"text": text, "vocab": vocab})).await;
        ids(&answer.ok(200)["ids"])
    }

    /// Submits a job; it is accepted.
    pub(crate) async fn train(&self, request: Value) -> String {
        let answer = self.post_json("/train", request).await;
        let job = answer.ok(202);
        let id = job["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("location"), format!("/train/{id}"));
        id
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/train/{id}")).await.ok(200)
    }

    /// The job once it has ended.
    pub(crate) async fn wait_for_job(&self, id: &str) -> Value {
        self.wait_until(id, |job| {
            ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap())
        })
        .await
    }

    /// The job once `reached` says so.
    pub(crate) async fn wait_until(&self, id: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let job = self.job(id).await;
            if reached(&job) {
                return job;
            }
            assert!(Instant::now() < end, "waited too long: {job}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// That the server goes on: it encodes with the default vocabulary and gives the text back.
    pub(crate) async fn goes_on(&self) {
        let text = "still here, 世界 😀";
        let ids = self.post_json("/encode", serde_json::json!({"text": text})).await.ok(200)["ids"].clone();
        let decoded = self.post_json("/decode", serde_json::json!({"ids": ids})).await.ok(200);
        assert_eq!(decoded["text"], text);
    }
}

pub(crate) fn ids(array: &Value) -> Vec<u32> {
    array.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// A request as a client on the same machine makes it.
pub(crate) fn request(method: Method, path: &str) -> Request<Body> {
    with_body(method, path, Body::empty())
}

pub(crate) fn with_body(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:8080")
        .body(body.into())
        .unwrap()
}

pub(crate) fn json_body(method: Method, path: &str, body: &Value) -> Request<Body> {
    let mut request = with_body(method, path, serde_json::to_vec(body).unwrap());
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    request
}

/// The same request with one more header.
pub(crate) fn and(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// A header as text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(!self.header("x-request-id").is_empty());
        if self.bytes.is_empty() {
            return Value::Null;
        }
        assert_eq!(self.header("content-type"), "application/json");
        self.json()
    }

    /// The body of an error, which must be a problem of this status, code and pointer and repeat nothing.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str, pointer: Option<&str>) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        let told = (self.status, problem["code"].as_str(), problem["pointer"].as_str());
        assert_eq!(told, (status, Some(code), pointer), "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for member in ["request_id", "title", "detail"] {
            assert_ne!(problem[member].as_str().unwrap(), "", "{member}");
        }
        assert!(!String::from_utf8_lossy(&self.bytes).contains(CANARY), "{problem}");
        if matches!(status, 429 | 503 | 507) {
            assert!(self.header("retry-after").parse::<u32>().is_ok(), "{self:?}");
        }
        problem
    }
}

/// A tiktoken file: the 256 bytes, then each prefix of each word that is not there yet.
pub(crate) fn tiktoken(words: &[&str]) -> String {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for word in words {
        for end in 2..=word.len() {
            let token = word.as_bytes()[..end].to_vec();
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    tokens.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token))).collect()
}

/// Text of about `bytes` bytes with so many different words that merging it takes a while; the same each time.
pub(crate) fn varied_text(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut word = state >> 20;
        for _ in 0..6 + (word & 3) {
            text.push(char::from(b'a' + (word % 26) as u8));
            word /= 26;
        }
        text.push(' ');
    }
    text
}

/// Text of about `bytes` bytes as languages have it: a few syllables in most words, and many words that come once.
pub(crate) fn skewed_text(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        for _ in 0..1 + below(4) {
            let syllable = below(200) * below(200) * below(200) / (200 * 200);
            text.push(char::from(b"bdfgklmnprstvz"[(syllable / 15 % 14) as usize]));
            text.push(char::from(b"aeiou"[(syllable % 5) as usize]));
            text.push_str(["", "n", "r"][(syllable / 5 % 3) as usize]);
        }
        text.push(' ');
    }
    text
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // A file that is renamed just now is found under its new name, or belongs to nothing yet.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}

pub(crate) const EIO: i64 = 5;
pub(crate) const ENOSPC: i64 = 28;

/// Memory whose calls fail on demand.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    inner: InMemory,
    mode: AtomicU8,
    /// The call that fails, counted down to 0 by each; none below that.
    countdown: AtomicI64,
    /// With that error of the system, and whether what it asked for takes place all the same.
    errno: AtomicI64,
    reported: AtomicBool,
    hit: AtomicBool,
}

impl Faults {
    /// Writes succeed.
    pub(crate) fn none(&self) {
        self.mode.store(0, SeqCst);
    }

    /// Writes say that the disk is full.
    pub(crate) fn full(&self) {
        self.mode.store(1, SeqCst);
    }

    /// Writes of vocabularies panic: what no storage should do.
    pub(crate) fn panic(&self) {
        self.mode.store(2, SeqCst);
    }

    /// Writes of vocabularies wait until something else is said.
    pub(crate) fn hold(&self) {
        self.mode.store(3, SeqCst);
    }

    /// The call after `calls` others fails, once: with EIO any call, with ENOSPC a write. If `reported` it is a write that took
    /// place all the same.
    pub(crate) fn arm(&self, calls: i64, errno: i64, reported: bool) {
        self.errno.store(errno, SeqCst);
        self.reported.store(reported, SeqCst);
        self.hit.store(false, SeqCst);
        self.countdown.store(calls + 1, SeqCst);
    }

    /// Nothing fails any more; whether a call did.
    pub(crate) fn disarm(&self) -> bool {
        self.countdown.store(0, SeqCst);
        self.hit.load(SeqCst)
    }

    /// All keys.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let listed = self.inner.list(None).map(|meta| meta.unwrap().location.to_string());
        let mut keys: Vec<String> = listed.collect().await;
        keys.sort();
        keys
    }

    fn strike(&self, is_write: bool) -> object_store::Result<()> {
        let (errno, reported) = (self.errno.load(SeqCst), self.reported.load(SeqCst));
        if !is_write && (errno != EIO || reported) || self.countdown.load(SeqCst) <= 0 {
            return Ok(());
        }
        if self.countdown.fetch_sub(1, SeqCst) != 1 {
            return Ok(());
        }
        self.hit.store(true, SeqCst);
        let source = Box::new(std::io::Error::from_raw_os_error(errno as i32));
        Err(object_store::Error::Generic { store: "faults", source })
    }

    async fn write(&self, at: &ObjectPath) -> object_store::Result<()> {
        while self.mode.load(SeqCst) == 3 && at.as_ref().starts_with("blobs") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match self.mode.load(SeqCst) {
            1 => {
                let source = Box::new(std::io::Error::from_raw_os_error(ENOSPC as i32));
                Err(object_store::Error::Generic { store: "faults", source })
            }
            2 if at.as_ref().starts_with("blobs") => panic!("on purpose, {CANARY}"),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faults")
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(
        &self,
        at: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.write(at).await?;
        let struck = self.strike(true);
        if struck.is_err() && self.reported.load(SeqCst) {
            self.inner.put_opts(at, payload, options).await?;
        } else if struck.is_ok() {
            return self.inner.put_opts(at, payload, options).await;
        }
        struck.map(|()| unreachable!())
    }

    async fn put_multipart_opts(
        &self,
        at: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.strike(false)?;
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        if let Err(error) = self.strike(true) {
            return futures_util::stream::once(async { Err(error) }).boxed();
        }
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        if let Err(error) = self.strike(false) {
            return futures_util::stream::once(async { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A Parquet file with a column `body` of these values, `None` for null.
pub(crate) fn parquet(
    values: &[Option<&[u8]>],
    properties: parquet::file::properties::WriterProperties,
) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    let schema =
        parquet::schema::parser::parse_message_type("message m { optional binary body (UTF8); }").unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(&mut bytes, schema.into(), properties.into())
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let there: Vec<ByteArray> = values.iter().flatten().map(|value| value.to_vec().into()).collect();
    let levels: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    column.typed::<ByteArrayType>().write_batch(&there, Some(&levels), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}
