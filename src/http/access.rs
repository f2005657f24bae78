//! Who may call what: the one table of routes and scopes, and the key of a request.

use super::Side;
use super::problem::Problem;
use super::state::{App, AppState};
use crate::jobs::Owner;
use crate::keys::{Key, Limits, Scope};
use crate::registry::Publisher;
use axum::body::HttpBody as _;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// A key, whatever its scopes.
    AnyKey,
    /// A key with this scope.
    Scoped(Scope),
}

use Access::{AnyKey, Open, Scoped};
const ENCODE: Access = Scoped(Scope::Encode);
const TRAIN: Access = Scoped(Scope::Train);
const PUBLISH: Access = Scoped(Scope::Publish);
const ADMIN: Access = Scoped(Scope::Admin);

/// Every route but those under [`COMPAT`]. A test compares it with the routes that there are.
const TABLE: &[(Method, &str, Access)] = &[
    (Method::GET, "/livez", Open),
    (Method::GET, "/readyz", Open),
    (Method::GET, "/openapi.yaml", Open),
    (Method::GET, "/docs", Open),
    (Method::GET, "/", Open),
    (Method::GET, "/ui/{file}", Open),
    (Method::GET, "/health", AnyKey),
    (Method::GET, "/info", AnyKey),
    (Method::GET, "/metrics", AnyKey),
    (Method::POST, "/encode", ENCODE),
    (Method::POST, "/encode/batch", ENCODE),
    (Method::POST, "/encode/stream", ENCODE),
    (Method::POST, "/count", ENCODE),
    (Method::POST, "/decode", ENCODE),
    (Method::POST, "/decode/batch", ENCODE),
    (Method::POST, "/chunk", ENCODE),
    (Method::POST, "/compare", ENCODE),
    (Method::POST, "/explain", ENCODE),
    (Method::POST, "/chat/render", ENCODE),
    (Method::POST, "/chat/encode", ENCODE),
    (Method::POST, "/tokenize", ENCODE),
    (Method::POST, "/detokenize", ENCODE),
    (Method::POST, "/v1/tokenize", ENCODE),
    (Method::POST, "/v1/detokenize", ENCODE),
    (Method::GET, "/tokenizer_info", ENCODE),
    (Method::POST, "/apply-template", ENCODE),
    (Method::POST, "/v1/messages/count_tokens", ENCODE),
    (Method::POST, "/v1/responses/input_tokens", ENCODE),
    (Method::POST, "/utils/token_counter", ENCODE),
    (Method::POST, "/chat_tokenize", ENCODE),
    (Method::POST, "/v1/chat/completions/input_tokens", ENCODE),
    (Method::POST, "/v1/models/{*model}", ENCODE),
    (Method::POST, "/v1beta/models/{call}", ENCODE),
    (Method::POST, "/v1/tokenize-text", ENCODE),
    (Method::POST, "/v3/tokenize", ENCODE),
    (Method::POST, "/api/tokenize", ENCODE),
    (Method::POST, "/api/detokenize", ENCODE),
    (Method::POST, "/ml/v1/text/tokenization", ENCODE),
    (Method::GET, "/v1/models", ENCODE),
    (Method::GET, "/v1/models/{*model}", ENCODE),
    (Method::GET, "/vocabs", ENCODE),
    (Method::GET, "/vocabs/{ref}", ENCODE),
    (Method::GET, "/vocabs/{ref}/export", ENCODE),
    (Method::GET, "/vocabs/{ref}/tokens", ENCODE),
    (Method::GET, "/vocabs/{ref}/stats", ENCODE),
    (Method::GET, "/vocabs/{a}/diff/{b}", ENCODE),
    (Method::GET, "/models", ENCODE),
    (Method::GET, "/models/{name}", ENCODE),
    (Method::POST, "/models/compare", ENCODE),
    (Method::POST, "/train", TRAIN),
    (Method::GET, "/train", TRAIN),
    (Method::GET, "/train/{id}", TRAIN),
    (Method::GET, "/train/{id}/events", TRAIN),
    (Method::POST, "/train/{id}/cancel", TRAIN),
    (Method::PUT, "/uploads/{id}", TRAIN),
    (Method::GET, "/uploads/{id}", TRAIN),
    (Method::DELETE, "/uploads/{id}", TRAIN),
    (Method::POST, "/vocabs", PUBLISH),
    (Method::DELETE, "/vocabs/{name}/versions/{version}", PUBLISH),
    (Method::PUT, "/vocabs/{name}/aliases/{alias}", PUBLISH),
    (Method::DELETE, "/vocabs/{name}/aliases/{alias}", PUBLISH),
    (Method::POST, "/reload", ADMIN),
];

/// What the routes below it need: all of them encode, decode or count.
const COMPAT: (&str, Access) = ("/compat/", ENCODE);

/// What a caller of a route of the table needs; what is in no table is for those who may everything.
pub(super) fn needed(method: &Method, route: &str) -> Access {
    static ROUTES: LazyLock<HashMap<&str, Vec<(&Method, Access)>>> = LazyLock::new(|| {
        let mut routes: HashMap<&str, Vec<_>> = HashMap::new();
        for (method, route, access) in TABLE {
            routes.entry(route).or_default().push((method, *access));
        }
        routes
    });
    if route.starts_with(COMPAT.0) {
        return COMPAT.1;
    }
    let methods = ROUTES.get(route).map_or(&[][..], Vec::as_slice);
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    match methods {
        [] => ADMIN,
        methods => match methods.iter().find(|(known, _)| *known == method) {
            Some((_, access)) => *access,
            // It is answered with 405, to who may do something here.
            None => methods[0].1,
        },
    }
}

/// Whether a route is only where operators are, if they have a listener of their own.
pub(super) fn is_for_operators(method: &Method, route: &str) -> bool {
    route == "/metrics" || matches!(needed(method, route), PUBLISH | ADMIN)
}

/// The key of a request to `route`, where callers are asked for one and the route is not open.
///
/// # Errors
/// 401 without a known key, 403 without the scope, 429 at a limit of the key.
pub(super) fn admit(app: &App, request: &Request, route: Option<&str>) -> Result<Option<Arc<Key>>, Problem> {
    // Where nothing is, nothing is to be had: the list of routes is public.
    let Some(route) = route.filter(|_| app.keys.are_asked()) else { return Ok(None) };
    let access = needed(request.method(), route);
    if access == Open {
        return Ok(None);
    }
    let presented = presented(request.headers()).ok_or_else(Problem::no_key)?;
    let key = app.keys.find(presented).ok_or_else(Problem::unknown_key)?;
    // First what never changes: a key that may not do it learns that at its limit too.
    if let Scoped(scope) = access
        && !key.allows(scope)
    {
        return Err(Problem::missing_scope(scope));
    }
    let announced = request.body().size_hint().lower();
    let spent = if request.body().is_end_stream() { Ok(()) } else { key.has_bytes(announced) };
    spent.and_then(|()| key.spend()).map_err(|refused| Problem::key_limit(&refused))?;
    Ok(Some(key))
}

/// What a client sends as its key: `Authorization: Bearer KEY`, or else `x-api-key: KEY`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| Some(headers.get("x-api-key")?.as_bytes())).filter(|key| !key.is_empty())
}

/// Who calls, for handlers whose bodies ask for more than their route.
#[derive(Debug)]
pub(super) struct Caller {
    app: AppState,
    key: Option<Arc<Key>>,
    side: Side,
}

impl Caller {
    /// Whether it may publish beside what its route does: what [`is_for_operators`] says of routes, said of a field.
    ///
    /// # Errors
    /// 403 on the listener of callers where operators have one of their own, and where callers are asked for a key and this
    /// one's has not the scope.
    pub(super) fn may_publish(&self) -> Result<(), Problem> {
        if self.side == Side::Public {
            return Err(Problem::operators_only());
        }
        let allowed = self.key.as_ref().is_some_and(|key| key.allows(Scope::Publish));
        if allowed || !self.app.keys.are_asked() {
            Ok(())
        } else {
            Err(Problem::missing_scope(Scope::Publish))
        }
    }

    /// As whom it publishes, and what it may keep.
    pub(super) fn publisher(&self) -> Option<Publisher> {
        self.key.as_ref().map(|key| {
            let Limits { kept_versions, kept_bytes, .. } = key.limits();
            Publisher { name: key.name().to_owned(), kept_versions, kept_bytes }
        })
    }

    /// As whom it trains.
    pub(super) fn owner(&self) -> Option<Owner> {
        let open_jobs = self.key.as_ref().and_then(|key| key.limits().open_jobs);
        self.publisher().map(|publisher| Owner { publisher, open_jobs })
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let side = parts.extensions.get().copied().unwrap_or(Side::All);
        Ok(Self { app: Arc::clone(app), key: parts.extensions.get::<Arc<Key>>().cloned(), side })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Both ways: no route without a scope, and no line for a route that is gone.
    #[test]
    fn the_table_has_exactly_the_routes_that_there_are() {
        let (_, document) = super::super::documented().split_for_parts();
        let mut routes = BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let operations = serde_json::to_value(item).unwrap();
            let methods = operations.as_object().unwrap().keys();
            let known = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
            routes.extend(
                methods
                    .filter(|m| known.contains(&m.as_str()))
                    .map(|m| format!("{} {path}", m.to_uppercase())),
            );
        }
        assert!(routes.len() > 40, "{routes:?}");
        let table: BTreeSet<String> =
            TABLE.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        assert_eq!(table.len(), TABLE.len(), "a route has one line");
        assert_eq!(table, routes);
    }

    #[test]
    fn what_is_in_no_table_is_closed() {
        let check = |method: Method, route: &str, access| assert_eq!(needed(&method, route), access);
        check(Method::GET, "/new", ADMIN);
        check(Method::GET, "/vocabs/{new}", ADMIN);
        check(Method::POST, "/compat/tei/tokenize", ENCODE);
        check(Method::HEAD, "/livez", Open);
        check(Method::HEAD, "/vocabs", ENCODE);
        check(Method::POST, "/vocabs", PUBLISH);
        check(Method::PATCH, "/reload", ADMIN);
        check(Method::GET, "/encode", ENCODE);
    }

    #[test]
    fn operators_have_what_changes_things_and_the_figures() {
        let all = TABLE.iter().filter(|(method, route, _)| is_for_operators(method, route));
        let routes: Vec<String> = all.map(|(method, route, _)| format!("{method} {route}")).collect();
        assert_eq!(
            routes,
            [
                "GET /metrics",
                "POST /vocabs",
                "DELETE /vocabs/{name}/versions/{version}",
                "PUT /vocabs/{name}/aliases/{alias}",
                "DELETE /vocabs/{name}/aliases/{alias}",
                "POST /reload"
            ]
        );
    }

    #[test]
    fn a_key_is_a_bearer_token_or_a_header_of_its_own() {
        let check = |pairs: &[(&'static str, &str)], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(presented(&headers), expected.map(str::as_bytes), "{pairs:?}");
        };
        check(&[], None);
        check(&[("authorization", "Bearer abc")], Some("abc"));
        check(&[("authorization", "bEARER  abc ")], Some("abc"));
        check(&[("authorization", "Bearer ")], None);
        check(&[("authorization", "Bearer")], None);
        check(&[("authorization", "Basic abc")], None);
        check(&[("x-api-key", "abc")], Some("abc"));
        check(&[("x-api-key", "")], None);
        check(&[("authorization", "Basic xyz"), ("x-api-key", "abc")], Some("abc"));
        check(&[("authorization", "Bearer xyz"), ("x-api-key", "abc")], Some("xyz"));
    }
}
