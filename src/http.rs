//! The HTTP side: the route table and the layers, in order. A handler parses, calls one function of the domain and
//! answers; what is not about HTTP is not here.

mod access;
mod admission;
mod chat;
mod chunk;
mod coding;
mod compare;
mod compat;
mod corpus;
mod cors;
mod cpu;
mod decode;
mod docs;
mod encode;
mod explain;
mod extract;
mod health;
mod held;
mod layers;
pub mod listen;
mod media;
mod metered;
mod models;
mod openapi;
mod problem;
mod reply;
mod state;
mod stream;
mod train;
mod ui;
mod uploads;
mod vocabs;
mod wanted;

pub use admission::Admission;
pub use cpu::Cpu;
pub use openapi::{YAML as OPENAPI_YAML, of_code as openapi_of_code};
pub use problem::{Problem, ProblemBody};
pub use state::{App, AppError, AppState};

use axum::routing::on;
use axum::{Extension, Router};
use utoipa::OpenApi as _;
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The route table: `$put!` takes the handlers of one path, each of which says its own path and method.
macro_rules! table {
    ($put:ident) => {
        $put!(encode::encode);
        $put!(encode::encode_batch);
        $put!(stream::encode_stream);
        $put!(encode::count);
        $put!(decode::decode);
        $put!(decode::decode_batch);
        $put!(chunk::chunk);
        $put!(compare::compare);
        $put!(explain::explain);
        $put!(chat::chat_render);
        $put!(chat::chat_encode);
        $put!(compat::root::tokenize);
        $put!(compat::root::detokenize);
        $put!(compat::root::v1_tokenize);
        $put!(compat::root::v1_detokenize);
        $put!(compat::root::tokenizer_info);
        $put!(compat::root::apply_template);
        $put!(compat::root::count_tokens);
        $put!(compat::root::input_tokens);
        $put!(compat::root::token_counter);
        $put!(compat::root::chat_tokenize);
        $put!(compat::root::chat_input_tokens);
        $put!(compat::root::tokenize_text);
        $put!(compat::root::tokenization);
        $put!(compat::root::v3_tokenize);
        $put!(compat::root::api_tokenize);
        $put!(compat::root::api_detokenize);
        $put!(compat::root::v1beta_count_tokens_of);
        $put!(compat::root::models);
        $put!(compat::root::model, compat::root::v1_count_tokens_of);
        $put!(train::create, train::list);
        $put!(train::get);
        $put!(train::events);
        $put!(train::cancel);
        $put!(uploads::put, uploads::get, uploads::remove);
        $put!(vocabs::list, vocabs::import::create);
        $put!(vocabs::facts);
        $put!(vocabs::download);
        $put!(vocabs::browse::tokens);
        $put!(vocabs::browse::stats);
        $put!(vocabs::diff::diff);
        $put!(vocabs::remove_version);
        $put!(vocabs::put_alias, vocabs::remove_alias);
        $put!(vocabs::reload);
        $put!(models::list);
        $put!(models::get);
        $put!(models::compare::compare);
        $put!(health::livez);
        $put!(health::readyz);
        $put!(health::health);
        $put!(health::info);
        $put!(health::metrics);
        $put!(openapi::openapi);
        $put!(docs::docs);
        $put!(ui::index);
        $put!(ui::file);
    };
}

/// Every route with its documentation. Only the contract's test asks for it: the program has the committed file, and none of the
/// code that would make it, which is a tenth of a server.
fn documented() -> OpenApiRouter<AppState> {
    let mut router = OpenApiRouter::with_openapi(openapi::Document::openapi());
    macro_rules! put {
        ($($handler:path),+) => {
            router = router.routes(routes!($($handler),+))
        };
    }
    table!(put);
    router
}

/// Every route.
fn served() -> Router<AppState> {
    let mut router = Router::new();
    macro_rules! put {
        ($($($part:ident)::+),+) => {
            $(
                for method in routes!(@path [methods()] of $($part)::+) {
                    let handler = on(method.to_method_filter(), $($part)::+);
                    router = router.route(&routes!(@path [path()] of $($part)::+), handler);
                }
            )+
        };
    }
    table!(put);
    router.merge(compat::routes())
}

/// Which listener a router is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The only one there is, or the one of operators: every route.
    All,
    /// The one of callers beside one of operators: no figures, and nothing that publishes or reloads. Its requests carry it.
    Public,
}

/// The router of a server: the routes, inside the outermost layer, inside what answers preflights of other origins.
pub fn router(app: AppState, side: Side) -> Router {
    let outermost = layers::Outermost { app: app.clone(), side };
    let routes = served().fallback(|| async { Problem::unknown_route() });
    let routes = match side {
        Side::All => routes,
        Side::Public => routes.layer(Extension(side)),
    };
    let router = routes.layer(outermost);
    let router = match cors::layer(&app.config) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(app)
}
