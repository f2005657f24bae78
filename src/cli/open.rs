//! Opening what commands work on: the store and its registry.

use super::Failure;
use crate::config::Config;
use crate::registry::{Embedded, Registry, RegistrySettings, VocabRef};
use crate::store::Store;
use bytes::Bytes;
use std::sync::Arc;

/// The vocabulary that comes with the program (see config/vocabs/README.md).
const EMBEDDED: &[u8] = include_bytes!("../../config/vocabs/default.vocabd.zst");

/// Its name.
const EMBEDDED_NAME: &str = "default";

/// The registry over the bucket or the data directory of the settings.
pub(super) async fn registry(config: &Config) -> Result<Registry, Failure> {
    // Settings first: a bad one must not leave a directory behind.
    settings(config)?;
    let (store, what) = match config.bucket() {
        Some(url) => (Store::open_s3(url).await, format!("store {url}")),
        None => {
            let dir = &config.data_dir;
            (Store::open_local(dir).await, format!("data directory {}", dir.display()))
        }
    };
    registry_over(config, Arc::new(store.map_err(Failure::of(what))?)).await
}

/// The same for commands that only read: a data directory that is not there is not made for them.
pub(super) async fn registry_to_read(config: &Config) -> Result<Registry, Failure> {
    if config.bucket().is_some() || config.data_dir.is_dir() {
        registry(config).await
    } else {
        registry_over(config, Arc::new(Store::memory())).await
    }
}

/// The vocabulary that comes with the program, in the native format.
///
/// # Panics
/// Never: every test that starts a server unpacks it.
#[must_use]
pub fn embedded() -> Bytes {
    zstd::decode_all(EMBEDDED).expect("what is in the program is whole").into()
}

/// The registry over any store, with the default vocabulary of the settings and the one that comes with the program.
///
/// # Errors
/// The setting `default_vocab` is no ref, or the store cannot be read.
pub async fn registry_over(config: &Config, store: Arc<Store>) -> Result<Registry, Failure> {
    let embedded = Embedded { name: EMBEDDED_NAME.parse()?, native: embedded() };
    Ok(Registry::open(store, settings(config)?, Some(embedded)).await?)
}

fn settings(config: &Config) -> Result<RegistrySettings, Failure> {
    let default_vocab: VocabRef =
        config.default_vocab.parse().map_err(Failure::of("setting default_vocab"))?;
    Ok(RegistrySettings {
        default_vocab,
        max_resident_bytes: config.max_resident_bytes,
        keep_versions: config.keep_versions(),
    })
}
