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
mod layers;
pub mod listen;
mod media;
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
pub use openapi::yaml as openapi_yaml;
pub use problem::{Problem, ProblemBody};
pub use state::{App, AppError, AppState};

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every route, with its documentation.
fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(encode::encode))
        .routes(routes!(encode::encode_batch))
        .routes(routes!(stream::encode_stream))
        .routes(routes!(encode::count))
        .routes(routes!(decode::decode))
        .routes(routes!(decode::decode_batch))
        .routes(routes!(chunk::chunk))
        .routes(routes!(compare::compare))
        .routes(routes!(explain::explain))
        .routes(routes!(chat::chat_render))
        .routes(routes!(chat::chat_encode))
        .routes(routes!(compat::root::tokenize))
        .routes(routes!(compat::root::detokenize))
        .routes(routes!(compat::root::v1_tokenize))
        .routes(routes!(compat::root::v1_detokenize))
        .routes(routes!(compat::root::tokenizer_info))
        .routes(routes!(compat::root::apply_template))
        .routes(routes!(compat::root::count_tokens))
        .routes(routes!(compat::root::input_tokens))
        .routes(routes!(compat::root::token_counter))
        .routes(routes!(compat::root::chat_tokenize))
        .routes(routes!(compat::root::chat_input_tokens))
        .routes(routes!(compat::root::tokenize_text))
        .routes(routes!(compat::root::tokenization))
        .routes(routes!(compat::root::v3_tokenize))
        .routes(routes!(compat::root::api_tokenize))
        .routes(routes!(compat::root::api_detokenize))
        .routes(routes!(compat::root::v1beta_count_tokens_of))
        .routes(routes!(compat::root::models))
        .routes(routes!(compat::root::model, compat::root::v1_count_tokens_of))
        .merge(compat::routes())
        .routes(routes!(train::create, train::list))
        .routes(routes!(train::get))
        .routes(routes!(train::events))
        .routes(routes!(train::cancel))
        .routes(routes!(uploads::put, uploads::get, uploads::remove))
        .routes(routes!(vocabs::list, vocabs::import::create))
        .routes(routes!(vocabs::facts))
        .routes(routes!(vocabs::download))
        .routes(routes!(vocabs::browse::tokens))
        .routes(routes!(vocabs::browse::stats))
        .routes(routes!(vocabs::diff::diff))
        .routes(routes!(vocabs::remove_version))
        .routes(routes!(vocabs::put_alias, vocabs::remove_alias))
        .routes(routes!(vocabs::reload))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
        .routes(routes!(models::compare::compare))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::health))
        .routes(routes!(health::info))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::openapi))
        .routes(routes!(docs::docs))
        .routes(routes!(ui::index))
        .routes(routes!(ui::file))
}

/// Which listener a router is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The only one there is, or the one of operators: every route.
    All,
    /// The one of callers beside one of operators: no figures, and nothing that publishes or reloads.
    Public,
}

/// The router of a server: the routes, inside the outermost layer, inside what answers preflights of other origins.
pub fn router(app: AppState, side: Side) -> Router {
    let (router, _) = routes().split_for_parts();
    let outermost = layers::Outermost { app: app.clone(), side };
    let router = router.fallback(|| async { Problem::unknown_route() }).layer(outermost);
    let router = match cors::layer(&app.config) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(app)
}
