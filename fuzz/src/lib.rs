//! What targets share that ask a server.

use std::sync::Arc;

use axum::Router;
use tokio::runtime::{Builder, Runtime};
use vocabd::config::Config;
use vocabd::http::{App, Side, router};
use vocabd::store::Store;

/// A runtime, and the routes over a directory that is never cleaned: the process ends by a signal. `limits` says what is small.
pub fn server(limits: Config) -> (Runtime, Router) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let router = runtime.block_on(async {
        let data_dir = std::env::temp_dir().join(format!("vocabd-fuzz-{}", std::process::id()));
        let config = Config {
            data_dir,
            keep_versions: 2,
            min_free_bytes: 0,
            train_threads: 1,
            encode_threads: 1,
            ..limits
        };
        let registry =
            vocabd::cli::open::registry_over(&config, Arc::new(Store::memory())).await.expect("memory");
        let app = App::open(config, registry, Default::default()).await.expect("a server");
        router(app, Side::All)
    });
    (runtime, router)
}
