//! Fetching from a model hub: a stand-in for one on this machine answers as a script says, well and badly.

mod surfaces;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use sha1::Digest as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use vocabd::fetch::hub::{Fetched, Hub, HubError, HubLimits, Progress};
use vocabd::formats::naming;

/// The commit that the stand-in's revisions lead to.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the stand-in was asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// How many requests for this path there were before.
    pub(crate) nth: usize,
}

impl Ask {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn is_listing(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// First byte of the range that is asked for.
    fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// A server on a thread and a port of its own, which count as another host; it ends with this value.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Ask>>>,
    _end: oneshot::Sender<()>,
}

impl StandIn {
    pub(crate) fn new(answer: impl Fn(&Ask) -> Response + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Ask>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let handle = move |request: Request| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let path = request.uri().path_and_query().unwrap().to_string();
                let ask = {
                    let mut seen = seen.lock().unwrap();
                    let nth = seen.iter().filter(|ask| ask.path == path).count();
                    let ask = Ask { path, headers: request.headers().clone(), nth };
                    seen.push(ask.clone());
                    ask
                };
                answer(&ask)
            }
        };
        let (end, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let served = axum::serve(listener, Router::new().fallback(handle));
                tokio::select! {
                    _ = served => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, asked, _end: end }
    }

    /// A hub whose every revision has these files; large ones are listed as such.
    pub(crate) fn with(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let listing = listing(&files);
        let asked_for =
            |ask: &Ask, name: &str| ask.path.split('?').next().unwrap().ends_with(&format!("/{name}"));
        Self::new(move |ask| match files.iter().find(|(name, _)| asked_for(ask, name)) {
            _ if ask.is_listing() => json_answer(&listing),
            Some((_, content)) => whole(content),
            None => StatusCode::NOT_FOUND.into_response(),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Ask> {
        self.asked.lock().unwrap().clone()
    }

    fn hub(&self) -> Hub {
        self.hub_with(None)
    }

    fn hub_with(&self, token: Option<&str>) -> Hub {
        Hub::new(&self.url(), token, limits()).unwrap()
    }
}

fn limits() -> HubLimits {
    HubLimits {
        total: Duration::from_secs(60),
        silence: Duration::from_secs(10),
        tries: 3,
        pause: Duration::from_millis(1),
    }
}

fn json_answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn whole(content: &[u8]) -> Response {
    ([(header::ETAG, "\"t1\"")], content.to_vec()).into_response()
}

/// Announces `content` and breaks off after its first half.
fn half(content: &[u8], tag: &str) -> Response {
    let part: Result<Bytes, std::io::Error> = Ok(Bytes::copy_from_slice(&content[..content.len() / 2]));
    let body = Body::from_stream(Broken { part: Some(part), later: None });
    let length = content.len().to_string();
    ([(header::CONTENT_LENGTH, length.as_str()), (header::ETAG, tag)], body).into_response()
}

/// A piece of content, a moment to send it, and then the end of the connection.
struct Broken {
    part: Option<Result<Bytes, std::io::Error>>,
    later: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl futures_util::Stream for Broken {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if let Some(part) = self.part.take() {
            return std::task::Poll::Ready(Some(part));
        }
        let wait = || Box::pin(tokio::time::sleep(Duration::from_millis(30)));
        let later = self.later.get_or_insert_with(wait);
        std::future::Future::poll(later.as_mut(), context)
            .map(|()| Some(Err(std::io::Error::other("broken off"))))
    }
}

/// The rest of `content`, as a range.
fn rest(content: &[u8], start: usize) -> Response {
    let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
    let headers = [(header::CONTENT_RANGE, range.as_str()), (header::ETAG, "\"t1\"")];
    (StatusCode::PARTIAL_CONTENT, headers, content[start..].to_vec()).into_response()
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As git counts it.
fn blob_id(content: &[u8]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hex(hash.finalize())
}

/// The list of a model's files as the hub gives it: `.tiktoken` and `.model` files are large ones.
fn listing(files: &[(&'static str, Vec<u8>)]) -> Value {
    let siblings = files.iter().map(|(name, content)| {
        if name.ends_with(".tiktoken") || name.ends_with(".model") {
            let sha256 = hex(sha2::Sha256::digest(content));
            let lfs = json!({"sha256": sha256, "size": content.len(), "pointerSize": 134});
            return json!({"rfilename": name, "size": content.len(), "blobId": "0".repeat(40), "lfs": lfs});
        }
        json!({"rfilename": name, "size": content.len(), "blobId": blob_id(content)})
    });
    json!({"id": "org/model", "sha": COMMIT, "private": false, "siblings": siblings.collect::<Vec<_>>()})
}

/// A list that knows names only.
fn bare_listing(names: &[&str]) -> Value {
    let siblings: Vec<Value> = names.iter().map(|name| json!({"rfilename": name})).collect();
    json!({"sha": COMMIT, "siblings": siblings})
}

async fn fetch(hub: &Hub, limit: usize) -> Result<Fetched, HubError> {
    hub.fetch(&"hf://org/model".parse().unwrap(), limit, naming::choose, |_| ()).await
}

/// The one file that a stand-in gives for `content` when it answers requests for it as `file` says; the list knows its
/// size and digest.
async fn one(
    content: &'static [u8],
    file: impl Fn(&Ask) -> Response + Send + Sync + 'static,
) -> (Result<Fetched, HubError>, Vec<Ask>) {
    let listing = listing(&[("a.tiktoken", content.to_vec())]);
    of_listing(listing, file).await
}

async fn of_listing(
    listing: Value,
    file: impl Fn(&Ask) -> Response + Send + Sync + 'static,
) -> (Result<Fetched, HubError>, Vec<Ask>) {
    let hub = StandIn::new(move |ask| if ask.is_listing() { json_answer(&listing) } else { file(ask) });
    let fetched = fetch(&hub.hub(), 1000).await;
    (fetched, hub.asked().into_iter().filter(|ask| !ask.is_listing()).collect())
}

const CONTENT: &[u8] = b"0123456789 the content of a file";

#[track_caller]
fn gives(fetched: Result<Fetched, HubError>, content: &[u8]) {
    let files = fetched.unwrap().files;
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].1, content);
}

#[tokio::test]
async fn a_models_tokenizer_files_are_fetched_at_its_commit() {
    let hub = StandIn::with(vec![
        ("README.md", b"# model".to_vec()),
        ("model.safetensors", vec![0; 5000]),
        ("tokenizer.json", b"{\"model\": {}}".to_vec()),
        ("tokenizer.model", b"sentencepiece".to_vec()),
        ("tokenizer_config.json", b"{}".to_vec()),
        ("vocab.json", b"{}".to_vec()),
    ]);
    let seen = Mutex::new(Vec::new());
    let told = |p: Progress<'_>| seen.lock().unwrap().push((p.file.to_owned(), p.bytes, p.total));
    for (reference, revision) in [
        ("hf://org/model", "main"),
        ("hf://org/model@v1.0", "v1.0"),
        ("hf://org/model@refs/pr/1", "refs%2Fpr%2F1"),
    ] {
        let before = hub.asked().len();
        seen.lock().unwrap().clear();
        let fetched = hub.hub().fetch(&reference.parse().unwrap(), 1000, naming::choose, told).await.unwrap();
        assert_eq!(fetched.source.to_string(), format!("hf://org/model@{COMMIT}"));
        let files: Vec<(&str, &[u8])> = fetched.files.iter().map(|(n, c)| (n.as_str(), &c[..])).collect();
        assert_eq!(files, [("tokenizer.json", &b"{\"model\": {}}"[..]), ("tokenizer_config.json", b"{}")]);
        let paths: Vec<String> = hub.asked().split_off(before).into_iter().map(|ask| ask.path).collect();
        assert_eq!(
            paths,
            [
                format!("/api/models/org/model/revision/{revision}?blobs=true"),
                format!("/org/model/resolve/{COMMIT}/tokenizer.json"),
                format!("/org/model/resolve/{COMMIT}/tokenizer_config.json"),
            ]
        );
        let seen = seen.lock().unwrap();
        assert_eq!(seen.last(), Some(&("tokenizer_config.json".to_owned(), 15, Some(15))));
    }
    assert!(hub.asked().iter().all(|ask| ask.header("authorization").is_none()));
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let elsewhere = StandIn::new(|_| whole(CONTENT));
    let away = elsewhere.url();
    let listing = listing(&[("a.tiktoken", CONTENT.to_vec())]);
    let hub = StandIn::new(move |ask| match ask.path.as_str() {
        path if path.starts_with("/api/models/org/model/") => redirect("/api/moved?x=1"),
        _ if ask.is_listing() => json_answer(&listing),
        _ => redirect(&format!("{away}/signed/a?signature=abc")),
    });
    gives(fetch(&hub.hub_with(Some(" hf_secret\n")), 1000).await, CONTENT);
    let asked = hub.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|ask| ask.header("authorization") == Some("Bearer hf_secret")), "{asked:?}");
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/signed/a?signature=abc");
    for (name, value) in &asked[0].headers {
        assert!(!value.to_str().unwrap().contains("hf_secret"), "{name}");
    }
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_ended() {
    let (fetched, asked) = one(CONTENT, |ask| match ask.start() {
        None => half(CONTENT, "\"t1\""),
        Some(start) => rest(CONTENT, start),
    })
    .await;
    gives(fetched, CONTENT);
    assert_eq!(asked.len(), 2);
    let start = format!("bytes={}-", CONTENT.len() / 2);
    assert_eq!(asked[1].header("range"), Some(start.as_str()));
    assert_eq!(asked[1].header("if-range"), Some("\"t1\""));
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_from_the_start() {
    let (fetched, asked) =
        one(CONTENT, |ask| if ask.nth == 0 { half(CONTENT, "\"t1\"") } else { whole(CONTENT) }).await;
    gives(fetched, CONTENT);
    assert_eq!(asked.len(), 2);

    // Of another range, or of another content, nothing is kept.
    for wrong in [
        || rest(CONTENT, 1),
        || StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        || {
            let mut other = rest(CONTENT, CONTENT.len() / 2);
            other.headers_mut().insert(header::ETAG, "\"t2\"".parse().unwrap());
            other
        },
    ] {
        let (fetched, asked) = one(CONTENT, move |ask| match ask.nth {
            0 => half(CONTENT, "\"t1\""),
            1 => wrong(),
            _ => whole(CONTENT),
        })
        .await;
        gives(fetched, CONTENT);
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[2].header("range"), None);
    }
    // With neither a tag nor a digest nothing would show that the halves belong together.
    let (fetched, asked) = of_listing(bare_listing(&["a.tiktoken"]), |ask| {
        if ask.nth == 0 { half(CONTENT, "W/\"weak\"") } else { whole(CONTENT) }
    })
    .await;
    gives(fetched, CONTENT);
    assert_eq!(asked[1].header("range"), None);
}

#[tokio::test]
async fn tries_have_an_end() {
    let (fetched, asked) = one(CONTENT, |_| half(CONTENT, "\"t1\"")).await;
    assert!(matches!(fetched, Err(HubError::Transfer { what, .. }) if what == "file a.tiktoken"));
    assert_eq!(asked.len(), 3);
    let (fetched, asked) = one(CONTENT, |_| StatusCode::SERVICE_UNAVAILABLE.into_response()).await;
    assert!(matches!(fetched, Err(HubError::Transfer { reason, .. }) if reason.contains("503")));
    assert_eq!(asked.len(), 3);
    let (fetched, _) = one(CONTENT, |ask| match ask.nth {
        0 => StatusCode::BAD_GATEWAY.into_response(),
        _ => whole(CONTENT),
    })
    .await;
    gives(fetched, CONTENT);
}

#[tokio::test]
async fn other_content_than_is_listed_is_refused() {
    #[track_caller]
    fn check(fetched: Result<Fetched, HubError>, differs: &str) {
        let Err(HubError::Mismatch { what, check }) = fetched else { panic!("{fetched:?}") };
        assert_eq!((what.split(' ').next(), check), (Some("file"), differs));
    }
    const OTHER: &[u8] = b"0123456789 the content of a filE";
    check(one(CONTENT, |_| whole(OTHER)).await.0, "sha256");
    check(one(CONTENT, |_| whole(&OTHER[1..])).await.0, "size");
    let small = listing(&[("tokenizer.json", CONTENT.to_vec())]);
    gives(of_listing(small.clone(), |_| whole(CONTENT)).await.0, CONTENT);
    check(of_listing(small, |_| whole(OTHER)).await.0, "git object id");

    // Where the list tells nothing, the hub's own answer does; another host is not believed.
    let bare = bare_listing(&["a.tiktoken"]);
    let told = |content: &[u8], at: &StandIn| {
        let tag = format!("\"{}\"", hex(sha2::Sha256::digest(content)));
        let headers = [("x-linked-etag", tag), ("location", at.url())];
        (StatusCode::FOUND, headers, "").into_response()
    };
    let elsewhere = Arc::new(StandIn::new(|_| {
        ([("x-linked-etag", "\"".to_owned() + &"0".repeat(64) + "\"")], CONTENT).into_response()
    }));
    let at = Arc::clone(&elsewhere);
    gives(of_listing(bare.clone(), move |_| told(CONTENT, &at)).await.0, CONTENT);
    let at = Arc::clone(&elsewhere);
    check(of_listing(bare.clone(), move |_| told(OTHER, &at)).await.0, "sha256");
    gives(of_listing(bare.clone(), move |_| redirect(&elsewhere.url())).await.0, CONTENT);
    let own = |content: &'static [u8]| {
        ([("etag", format!("\"{}\"", blob_id(content))), ("x-repo-commit", COMMIT.to_owned())], CONTENT)
            .into_response()
    };
    gives(of_listing(bare.clone(), move |_| own(CONTENT)).await.0, CONTENT);
    check(of_listing(bare, move |_| own(OTHER)).await.0, "git object id");
}

#[tokio::test]
async fn sizes_are_bounded_before_and_while_reading() {
    #[track_caller]
    fn check(fetched: Result<Fetched, HubError>, file: &str, most: usize) {
        let Err(HubError::TooLarge { what, limit }) = fetched else { panic!("{fetched:?}") };
        assert_eq!((what, limit), (format!("file {file}"), most));
    }
    let files = vec![("tokenizer.json", vec![b'x'; 60]), ("tokenizer_config.json", vec![b'x'; 50])];
    let hub = StandIn::with(files);
    check(fetch(&hub.hub(), 100).await, "tokenizer_config.json", 100);
    assert_eq!(hub.asked().len(), 1, "nothing is read that is known to be too much");
    assert_eq!(fetch(&hub.hub(), 110).await.unwrap().files.len(), 2);

    // A list without sizes: the announced length, or what comes.
    let bare = bare_listing(&["tokenizer.json", "tokenizer_config.json"]);
    let long = |ask: &Ask| {
        if ask.path.ends_with("config.json") { whole(&[b'x'; 990]) } else { whole(&[b'x'; 20]) }
    };
    check(of_listing(bare.clone(), long).await.0, "tokenizer_config.json", 1000);
    let endless = |_: &Ask| {
        let piece = || Some((Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 64])), ()));
        Body::from_stream(futures_util::stream::unfold((), move |()| async move { piece() })).into_response()
    };
    check(of_listing(bare, endless).await.0, "tokenizer.json", 1000);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let refused = async |status: u16, token: Option<&str>| {
        let hub = StandIn::new(move |_| {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", "17")]).into_response()
        });
        let error = fetch(&hub.hub_with(token), 1000).await.unwrap_err();
        let message = error.to_string();
        assert!(!message.contains("hf_secret") && hub.asked().len() <= 3, "{message}");
        (error, message)
    };
    for status in [401, 403] {
        let (error, message) = refused(status, None).await;
        assert!(matches!(error, HubError::Denied { with_token: false, .. }), "{error:?}");
        assert!(message.contains("set HF_TOKEN") && message.contains(&status.to_string()), "{message}");
        let (error, message) = refused(status, Some("hf_secret")).await;
        assert!(matches!(error, HubError::Denied { with_token: true, .. }), "{error:?}");
        assert!(message.contains("HF_TOKEN may not read it"), "{message}");
    }
    let (error, message) = refused(404, None).await;
    assert!(matches!(error, HubError::NotFound { .. }) && message.contains("model or revision"), "{message}");
    let (error, message) = refused(429, None).await;
    assert!(matches!(error, HubError::RateLimited { retry_after: Some(17) }), "{error:?}");
    assert!(message.contains("17 seconds"), "{message}");
    let (error, _) = refused(418, None).await;
    assert!(matches!(error, HubError::Answer { .. }), "{error:?}");
    let (error, _) = refused(500, None).await;
    assert!(matches!(error, HubError::Transfer { .. }), "{error:?}");
    let (fetched, _) = one(CONTENT, |_| StatusCode::NOT_FOUND.into_response()).await;
    assert!(matches!(fetched, Err(HubError::NotFound { what }) if what == "file a.tiktoken"));
}

/// A signed address that has run out is asked for again.
#[tokio::test]
async fn a_refusal_elsewhere_is_not_the_hubs() {
    let elsewhere = StandIn::new(|ask| match ask.nth {
        0 => StatusCode::FORBIDDEN.into_response(),
        _ => whole(CONTENT),
    });
    let to = elsewhere.url();
    let (fetched, asked) = one(CONTENT, move |_| redirect(&to)).await;
    gives(fetched, CONTENT);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_not_offered() {
    let names = [
        "../tokenizer.json",
        "/etc/tokenizer.json",
        "original/tokenizer.model",
        "a\\tokenizer.json",
        "%2e%2e.tiktoken",
        ".hidden.tiktoken",
        "new\nline.tiktoken",
        "plain.tiktoken",
    ];
    let hub = StandIn::new(move |ask| match ask.is_listing() {
        true => json_answer(&bare_listing(&names)),
        false => whole(CONTENT),
    });
    fn refuse<'n>(names: &[&'n str]) -> Result<Vec<&'n str>, String> {
        Err(names.join(" "))
    }
    let fetched = hub.hub().fetch(&"hf://org/model".parse().unwrap(), 1000, refuse, |_| ()).await;
    assert!(
        matches!(&fetched, Err(HubError::NoFiles { reason }) if reason == "plain.tiktoken"),
        "{fetched:?}"
    );
    gives(fetch(&hub.hub(), 1000).await, CONTENT);
}

#[tokio::test]
async fn a_list_that_is_none_is_refused() {
    for list in [
        json!({"siblings": []}),
        json!({"sha": "../../x", "siblings": []}),
        json!({"sha": "abc", "siblings": []}),
        json!({"sha": COMMIT, "siblings": 5}),
        json!([]),
        json!("x"),
    ] {
        let (fetched, asked) = of_listing(list.clone(), |_| whole(CONTENT)).await;
        assert!(matches!(fetched, Err(HubError::Answer { .. })), "{list}: {fetched:?}");
        assert!(asked.is_empty());
    }
    for list in
        [json!({"sha": COMMIT}), json!({"sha": COMMIT, "siblings": null}), bare_listing(&["config.json"])]
    {
        let (fetched, _) = of_listing(list.clone(), |_| whole(CONTENT)).await;
        assert!(matches!(fetched, Err(HubError::NoFiles { .. })), "{list}: {fetched:?}");
    }
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_nowhere_odd() {
    let (fetched, asked) = one(CONTENT, |ask| match ask.path.strip_prefix("/hop/") {
        None => redirect("/hop/1"),
        Some("1") => redirect("2"),
        Some(_) => whole(CONTENT),
    })
    .await;
    gives(fetched, CONTENT);
    assert_eq!(asked.len(), 3);
    for to in ["/again", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "\u{7f}"] {
        let (fetched, asked) = one(CONTENT, move |_| {
            let to =
                axum::http::HeaderValue::from_bytes(to.as_bytes()).unwrap_or_else(|_| "".parse().unwrap());
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        })
        .await;
        assert!(matches!(&fetched, Err(HubError::Answer { .. })), "{to}: {fetched:?}");
        assert!(asked.len() <= 6);
    }
}

#[tokio::test]
async fn a_server_that_is_too_slow_is_given_up() {
    let slow = StandIn::new(|ask| match ask.is_listing() {
        true => json_answer(&bare_listing(&["a.tiktoken"])),
        false => {
            let drip = futures_util::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
            });
            Body::from_stream(drip).into_response()
        }
    });
    let started = Instant::now();
    let total = HubLimits { total: Duration::from_millis(400), ..limits() };
    let error = fetch(&Hub::new(&slow.url(), None, total).unwrap(), 1000).await.unwrap_err();
    assert!(matches!(error, HubError::Timeout { .. }), "{error:?}");
    let silence = HubLimits { silence: Duration::from_millis(10), tries: 2, ..limits() };
    let error = fetch(&Hub::new(&slow.url(), None, silence).unwrap(), 1000).await.unwrap_err();
    assert!(matches!(error, HubError::Transfer { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}
