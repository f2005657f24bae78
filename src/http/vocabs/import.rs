//! `POST /vocabs`: a new version from the body (one file, or several as a form), or from where the request says.

use super::super::access::Caller;
use super::super::admission::Room;
use super::super::extract::{Payload, discard, query, read_body};
use super::super::problem::{Problem, ProblemBody};
use super::super::reply::{Json, name_version};
use super::super::state::AppState;
use super::{format, parts};
use crate::fetch;
use crate::fetch::UrlPolicy;
use crate::fetch::hub::{self, Hub, HubRef};
use crate::formats::{Files, Format, ImportOptions, import_files, naming};
use crate::jobs::VocabTriple;
use crate::registry::{AliasName, Provenance, VocabName};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::Notify;
use utoipa::{IntoParams, ToSchema};

/// An imported version.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ImportReply {
    /// The version that has the content now.
    vocab: VocabTriple,
    /// Whether it is new; `false` where the vocabulary had the same content already.
    created: bool,
}

/// How to take the files, or where they are.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ImportQuery {
    /// The vocabulary that gets the new version; required unless a JSON body says all.
    name: Option<String>,
    /// Where to fetch the files, in place of a body: `hf://ORG/MODEL`, `hf://ORG/MODEL@REVISION` or an http(s) URL.
    /// Refused unless the settings `allow_hub`, or `import_urls`, allow it.
    source: Option<String>,
    /// The name of a format, `native` or `tiktoken` for example; told by content and names where it is left out.
    format: Option<String>,
    /// The split pattern, for a file that does not hold it: a family name or a regex.
    split: Option<String>,
    /// `single`, `group3` or `run`: replaces the split's number rule.
    digits: Option<String>,
    /// `none`, `nfc`, `nfd`, `nfkc` or `nfkd`.
    normalizer: Option<String>,
    /// A special token as `NAME=ID`; may be repeated. Or all of them as one JSON object of names and ids.
    #[serde(default)]
    special: Vec<String>,
    /// An alias to move to the version.
    alias: Option<String>,
}

/// An import from elsewhere, with its options.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ImportRequest {
    /// The vocabulary that gets the new version.
    #[schema(example = "qwen")]
    name: String,
    /// Where the files are: `hf://ORG/MODEL`, `hf://ORG/MODEL@REVISION` or an http(s) URL.
    #[schema(example = "hf://Qwen/Qwen2.5-0.5B@main")]
    source: String,
    /// The name of a format; told by content and names where it is left out.
    format: Option<String>,
    /// The split pattern, for a file that does not hold it: a family name or a regex.
    split: Option<String>,
    /// `single`, `group3` or `run`: replaces the split's number rule.
    digits: Option<String>,
    /// `none`, `nfc`, `nfd`, `nfkc` or `nfkd`.
    normalizer: Option<String>,
    /// Names and ids of special tokens.
    #[serde(default)]
    special: BTreeMap<String, u32>,
    /// An alias to move to the version.
    alias: Option<String>,
}

/// The files of one vocabulary, one part each; the parts' file names tell which is which.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(in super::super) struct ImportForm {
    /// `tokenizer.json`, `tokenizer_config.json`, `merges.txt`, `vocab.json`, ...
    #[schema(content_media_type = "application/octet-stream")]
    file: Vec<String>,
}

impl ImportQuery {
    /// Reads a query. Its parser knows no repeated options, so those are taken out first.
    fn read(text: &str) -> Result<Self, Problem> {
        let is_special = |option: &&str| *option == "special" || option.starts_with("special=");
        let (special, others): (Vec<&str>, Vec<&str>) = text.split('&').partition(is_special);
        let special: Vec<(String, String)> = query(&special.join("&"))?;
        let special = special.into_iter().map(|(_, value)| value).collect();
        Ok(Self { special, ..query(&others.join("&"))? })
    }

    fn specials(&self) -> Result<BTreeMap<String, u32>, Problem> {
        let mut specials = BTreeMap::new();
        for text in &self.special {
            let invalid = |rule| Problem::invalid("/query/special", rule);
            let pairs: BTreeMap<String, u32> = if text.starts_with('{') {
                serde_json::from_str(text)
                    .map_err(|_| invalid("must be a JSON object of names and token ids, or NAME=ID"))?
            } else {
                let pair =
                    text.rsplit_once('=').and_then(|(name, id)| Some((name.to_owned(), id.parse().ok()?)));
                pair.into_iter().collect()
            };
            if pairs.is_empty() {
                return Err(invalid("must be NAME=ID, or a JSON object of names and token ids"));
            }
            for (name, id) in pairs {
                if specials.insert(name, id).is_some() {
                    return Err(invalid("gives a name twice"));
                }
            }
        }
        Ok(specials)
    }
}

/// An import whose every option has been checked.
#[derive(Debug)]
struct Order {
    name: VocabName,
    aliases: Vec<AliasName>,
    format: Option<Format>,
    options: ImportOptions,
    /// Where the files are, if they are not in the body.
    source: Option<Source>,
    /// Pointer to what holds the options: the query or the body.
    at: &'static str,
}

/// Where files are fetched.
#[derive(Debug)]
enum Source {
    Hub(HubRef),
    Url(String),
}

impl Source {
    fn parse(text: &str, pointer: &str) -> Result<Self, Problem> {
        if text.starts_with(hub::SCHEME) {
            return text.parse().map(Self::Hub).map_err(|error| Problem::hub_ref(pointer, error));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Url(text.to_owned()));
        }
        Err(Problem::invalid(pointer, "must be hf://ORG/MODEL, hf://ORG/MODEL@REVISION or an http(s) URL"))
    }
}

impl Order {
    fn new(request: ImportRequest, source: Option<&str>, at: &'static str) -> Result<Self, Problem> {
        let field = |name: &str| format!("{at}/{name}");
        let name = VocabName::from_str(&request.name).map_err(|e| Problem::name(field("name"), &e))?;
        let alias = request.alias.as_deref().map(AliasName::from_str).transpose();
        let aliases = alias.map_err(|e| Problem::name(field("alias"), &e))?.into_iter().collect();
        let format = format(request.format.as_deref(), &field("format"))?;
        let source = source.map(|source| Source::parse(source, &field("source"))).transpose()?;
        let ImportRequest { split, digits, normalizer, special, .. } = request;
        let options = ImportOptions { split, digits, normalizer, special };
        Ok(Self { name, aliases, format, options, source, at })
    }

    fn of_query(text: &str) -> Result<Self, Problem> {
        let query = ImportQuery::read(text)?;
        let special = query.specials()?;
        let ImportQuery { name, source, format, split, digits, normalizer, alias, .. } = query;
        let name = name.ok_or_else(|| Problem::invalid("/query/name", "is required"))?;
        let unused = String::new();
        let request =
            ImportRequest { name, source: unused, format, split, digits, normalizer, special, alias };
        Self::new(request, source.as_deref(), "/query")
    }

    fn of_body(request: ImportRequest) -> Result<Self, Problem> {
        let source = request.source.clone();
        Self::new(request, Some(&source), "")
    }
}

/// Import files as a new version. It is checked before it is visible.
///
/// The files are the body: one as it is, or several as a form. Or the server fetches them, if it is set up to: then
/// `source` in the query and an empty body, or a JSON body and no query.
#[utoipa::path(post, path = "/vocabs", operation_id = "import_vocab", tag = "vocabs", params(ImportQuery),
    request_body(description = "One file; several as a form; or JSON that says where they are", content(
        ("application/octet-stream"),
        (ImportForm = "multipart/form-data"),
        (ImportRequest = "application/json"))),
    responses(
        (status = 201, description = "A new version", body = ImportReply),
        (status = 200, description = "A version with this content was there", body = ImportReply),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Not stored, or not fetched", body = ProblemBody, content_type = "application/problem+json")))]
pub(in super::super) async fn create(
    State(app): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (order, files, source) = receive(&app, request).await?;
    let Order { name, aliases, format, options, at, .. } = order;
    let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // Reading a file takes longer than its size says: never on an async thread.
    let imported = app.cpu.run_elsewhere(size, move || {
        let tokenizer = import_files(&files, format, &options)?;
        Ok((tokenizer, naming::format_name(&files, format)))
    });
    let (tokenizer, format) = imported.await?.map_err(|error| Problem::format(&error, at))?;
    let publisher = caller.publisher();
    let from = Provenance { format: format.to_owned(), source, publisher, ..Provenance::default() };
    let published = app.registry.publish(&name, tokenizer, from, &aliases).await?;
    let status = if published.created { StatusCode::CREATED } else { StatusCode::OK };
    let reply = ImportReply { vocab: VocabTriple::from(&*published.facts), created: published.created };
    let mut response = Json(status, reply).into_response();
    name_version(response.headers_mut(), &published.facts);
    if let Ok(location) =
        HeaderValue::try_from(format!("/vocabs/{}@{}", published.facts.name, published.facts.version))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What is wanted, the files, and how records name where they are from.
async fn receive(app: &AppState, request: Request) -> Result<(Order, Files, String), Problem> {
    let fetching = Fetching::new(&request);
    let text = request.uri().query().unwrap_or_default();
    let named = text.split('&').any(|option| option == "name" || option.starts_with("name="));
    if !named && is(request.headers(), "application/json") {
        if !text.is_empty() {
            discard(request.into_body()).await;
            let detail =
                "must be empty where a JSON body has the options, or have a name where the body is a file";
            return Err(Problem::invalid("/query", detail));
        }
        let Payload(body) = Payload::<ImportRequest>::from_request(request, app).await?;
        let order = Order::of_body(body)?;
        return fetch(app, order, fetching).await;
    }
    let order = Order::of_query(text)?;
    let limit = app.config.max_vocab_bytes;
    if order.source.is_some() {
        let body = read_body(request, 0).await;
        if body.as_ref().map_or_else(|problem| problem.code() == "body_too_large", |body| !body.is_empty()) {
            return Err(Problem::invalid("", "the body must be empty where the query names a source"));
        }
        body?;
        return fetch(app, order, fetching).await;
    }
    let files = if is(request.headers(), "multipart/form-data") {
        parts::read(request, limit).await?
    } else {
        Files::single("", read_body(request, limit as u64).await?)
    };
    Ok((order, files, "request".to_owned()))
}

/// What is fetched for a request, which counts among the bytes in flight as a body does.
struct Fetching {
    room: Option<Arc<Room>>,
    bytes: u64,
    full: Arc<Notify>,
}

impl Fetching {
    fn new(request: &Request) -> Self {
        let room = request.extensions().get::<Arc<Room>>().cloned();
        Self { room, bytes: 0, full: Arc::default() }
    }

    /// So many bytes are there. An attempt that begins anew has no more room for what it had before.
    fn reaches(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        if self.room.as_ref().is_some_and(|room| room.grow(more).is_err()) {
            self.full.notify_one();
        }
    }

    /// What comes of fetching while there is room.
    ///
    /// # Errors
    /// 503 once there is none for more.
    async fn with_room<T>(full: &Notify, fetched: impl Future<Output = T>) -> Result<T, Problem> {
        let full = || full.notified();
        let fetched = tokio::select! {
            biased;
            () = full() => None,
            fetched = fetched => Some(fetched),
        };
        // The last piece may have been the one too many.
        match (fetched, full().now_or_never()) {
            (Some(fetched), None) => Ok(fetched),
            _ => Err(Problem::overloaded()),
        }
    }
}

/// Gets the files from the order's source.
async fn fetch(
    app: &AppState,
    order: Order,
    mut fetching: Fetching,
) -> Result<(Order, Files, String), Problem> {
    let pointer = format!("{}/source", order.at);
    let limit = app.config.max_vocab_bytes;
    let full = Arc::clone(&fetching.full);
    match &order.source {
        Some(Source::Hub(_)) if !app.config.allow_hub => {
            Err(Problem::fetch_not_allowed(&pointer, "allow_hub"))
        }
        Some(Source::Hub(model)) => {
            let failed = |error| Problem::hub(&pointer, &error);
            let hub = Hub::from_env().map_err(failed)?;
            let seen = move |progress: hub::Progress<'_>| fetching.reaches(progress.bytes);
            let fetched = hub.fetch(model, limit, naming::choose, seen);
            let fetched = Fetching::with_room(&full, fetched).await?.map_err(failed)?;
            let mut files = Files::default();
            fetched.files.into_iter().for_each(|(name, bytes)| files.push(name, bytes));
            Ok((order, files, fetched.source.to_string()))
        }
        Some(Source::Url(url)) => {
            let policy = UrlPolicy::parse(&app.config.import_urls);
            if policy.is_off() {
                return Err(Problem::fetch_not_allowed(&pointer, "import_urls"));
            }
            let seen = move |bytes, _| fetching.reaches(bytes);
            let fetched = fetch::download_within(url, &policy, limit, seen);
            let bytes = Fetching::with_room(&full, fetched).await?;
            let bytes = bytes.map_err(|error| Problem::fetch(&pointer, &error))?;
            let name = fetch::file_name(url).to_owned();
            Ok((order, Files::single(&name, bytes), name))
        }
        None => Err(Problem::invalid(pointer, "is required")),
    }
}

/// Whether the body is said to be of that type.
fn is(headers: &HeaderMap, kind: &str) -> bool {
    let told = headers.get(header::CONTENT_TYPE).and_then(|told| told.to_str().ok()).unwrap_or_default();
    told.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}
