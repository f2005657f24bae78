//! Answers for pages of other origins, where the setting `cors_origins` allows them.

use crate::config::Config;
use axum::http::{HeaderName, HeaderValue, Method, header};
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

/// How long a browser may go on without asking again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The layer; `None` where no origin is allowed.
pub(super) fn layer(config: &Config) -> Option<CorsLayer> {
    let origins: Vec<&str> = config.origins().collect();
    let origins = match origins[..] {
        [] => return None,
        _ if origins.contains(&"*") => AllowOrigin::any(),
        // What cannot stand in a header is no origin, as loading the settings has checked.
        _ => AllowOrigin::list(origins.into_iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let name = HeaderName::from_static;
    let sent = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        name("idempotency-key"),
        name("x-api-key"),
        name("x-request-id"),
    ];
    let read = [
        header::ETAG,
        header::LOCATION,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        name("vocab"),
        name("x-request-id"),
    ];
    // No credentials: a key is sent by the page itself, and there are no cookies.
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(AllowHeaders::list(sent))
            .expose_headers(ExposeHeaders::list(read))
            .max_age(REMEMBERED),
    )
}
