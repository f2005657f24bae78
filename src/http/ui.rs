//! `/` and `/ui/{file}`: the page in the browser. Its files are in the program, it has no build step, and it asks no other
//! host for anything.

use super::coding;
use super::extract::Path;
use super::media::Coding;
use super::problem::{Problem, ProblemBody};
use crate::store::Digest;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Scripts and styles are files of this server and nothing else, whatever text is shown; no script may make markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The one table of the page's files: name, content type, content.
macro_rules! files {
    ($($kind:ident: $($name:literal)+;)+) => {
        const FILES: &[(&str, &str, &[u8])] = &[$($(($name, $kind, include_bytes!(concat!("ui/", $name))),)+)+];
    };
}
files! {
    HTML: "index.html";
    CSS: "base.css" "views.css";
    SVG: "icon.svg";
    SCRIPT:
        "app.js" "api.js" "dom.js" "state.js" "vocabs.js" "bytes.js" "source.js" "tokens.js" "detail.js" "playground.js" "chat.js"
        "copy.js" "explain.js" "replay.js" "charts.js" "corpus.js" "compare.js" "spans.js" "diff.js" "train.js" "trainform.js" "job.js"
        "result.js" "models.js" "choices.js" "ranking.js" "cards.js";
}

const INDEX: &str = "index.html";

/// A file as it is answered.
struct Served {
    kind: &'static str,
    plain: &'static [u8],
    /// Where that is smaller.
    gzip: Option<Bytes>,
    zstd: Option<Bytes>,
    /// Weak, as it is the same for every coding.
    etag: HeaderValue,
}

static SERVED: LazyLock<HashMap<&str, Served>> = LazyLock::new(|| {
    let served = FILES.iter().map(|(name, kind, plain)| {
        let digest = Digest::of(plain).to_string().replace("sha256:", "");
        let etag = HeaderValue::try_from(format!("W/\"{digest}\"")).expect("hex digits in quotes");
        let coded = |coding| coding::encode(coding, plain).map(Bytes::from);
        (*name, Served { kind, plain, gzip: coded(Coding::Gzip), zstd: coded(Coding::Zstd), etag })
    });
    served.collect()
});

/// The page: what a vocabulary makes of a text, comparisons, training.
#[utoipa::path(get, path = "/", operation_id = "page", tag = "operations", responses(
    (status = 200, description = "The page for people", content_type = "text/html", body = String)))]
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    answer(INDEX, &headers)
}

/// A file of the page.
#[utoipa::path(get, path = "/ui/{file}", operation_id = "page_file", tag = "operations",
    params(("file" = String, Path, description = "A script, a style or a picture of the page")), responses(
    (status = 200, description = "The file", content_type = "text/javascript", body = String),
    (status = 304, description = "It is what `If-None-Match` names"),
    (status = 404, description = "There is none", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    answer(&name, &headers)
}

fn answer(name: &str, asked: &HeaderMap) -> Result<Response, Problem> {
    let served = SERVED.get(name).ok_or_else(|| Problem::not_found("file of the page"))?;
    let mut response = if names(asked, &served.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let coding = Coding::accepted(asked);
        let coded = coding.and_then(|coding| match coding {
            Coding::Gzip => served.gzip.clone(),
            Coding::Zstd => served.zstd.clone(),
        });
        let named =
            coding.filter(|_| coded.is_some()).map(|coding| (header::CONTENT_ENCODING, coding.name()));
        let mut response = coded.unwrap_or(Bytes::from_static(served.plain)).into_response();
        response.headers_mut().extend(named);
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(served.kind));
    headers.insert(header::ETAG, served.etag.clone());
    // The names of the files stay when their content changes: they are kept, and asked for each time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    Ok(response)
}

/// Whether `If-None-Match` names the tag.
fn names(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|tag| tag.trim() == "*" || tag.trim() == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> &'static str {
        let (.., content) = FILES.iter().find(|(other, ..)| *other == name).unwrap();
        std::str::from_utf8(content).unwrap()
    }

    /// A file that is not in the table would be missed in the browser only.
    #[test]
    fn every_file_of_the_folder_is_in_the_table_and_short_enough_to_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/ui");
        let mut there: Vec<String> = (std::fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let mut table: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        table.sort_unstable();
        assert_eq!(there, table);
        for name in table {
            assert!(text(name).lines().count() <= 400, "{name}");
        }
    }

    #[test]
    fn what_the_files_import_is_there_and_nothing_is_asked_of_another_host() {
        for (name, ..) in FILES {
            for import in text(name).split(" from \"./").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(FILES.iter().any(|(other, ..)| *other == import), "{name} imports {import}");
            }
            let places = text(name).replace("http://www.w3.org/2000/svg", "");
            for elsewhere in ["http://", "https://", "@import", "innerHTML", "eval("] {
                assert!(!places.contains(elsewhere), "{name}: {elsewhere}");
            }
        }
        for file in text(INDEX).split("\"ui/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(FILES.iter().any(|(other, ..)| *other == file), "{file}");
        }
        for inline in ["<style", " style=", "<script>", " onclick"] {
            assert!(!text(INDEX).contains(inline), "{inline}");
        }
    }

    #[test]
    fn a_file_is_sent_once_and_small() {
        let check = |name: &'static str, value: &str| {
            let name = HeaderName::from_static(name);
            answer("app.js", &HeaderMap::from_iter([(name, value.parse().unwrap())])).unwrap()
        };
        let coded = |accepted: &str| {
            let answer = check("accept-encoding", accepted);
            answer.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(coded("gzip, deflate, br, zstd").as_deref(), Some("zstd"));
        assert_eq!(coded("gzip, deflate, br").as_deref(), Some("gzip"));
        assert_eq!(coded("br, gzip;q=0"), None);
        let etag = check("accept", "*/*").headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(check("if-none-match", &etag).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(check("if-none-match", &format!("\"x\", {etag}")).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(check("if-none-match", "\"x\"").status(), StatusCode::OK);
        assert!(answer("../ui.rs", &HeaderMap::new()).is_err());
    }
}
