//! A store in a bucket of S3, or of what speaks its language.
//!
//! Credentials, region and endpoint come from the usual `AWS_*` variables, or from the machine that this runs on.

use super::{Store, StoreError};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// Who waits for the storage is a client: better told to come back than kept.
const RETRY: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    },
    max_retries: 4,
    retry_timeout: Duration::from_secs(15),
};
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest vocabulary over a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

impl Store {
    /// The store at `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// The settings in the environment are no good, the bucket cannot be reached, or it takes no conditional puts.
    pub async fn open_s3(url: &str) -> Result<Self, StoreError> {
        let (bucket, prefix) = parts(url).ok_or_else(|| StoreError::Other("is no s3:// URL".into()))?;
        // The first call in a process counts; a provider that is set already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let builder = builder.with_retry(RETRY).with_client_options(allow_http(client));
        let objects =
            PrefixStore::new(builder.build()?, Path::parse(prefix).map_err(object_store::Error::from)?);
        let objects: Arc<dyn ObjectStore> = Arc::new(objects);
        has_conditions(objects.as_ref()).await?;
        Ok(Self::over(objects))
    }
}

/// The builder takes its client's options whole, those of the environment too, of which this is the one in use.
fn allow_http(client: ClientOptions) -> ClientOptions {
    let allowed = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    client.with_allow_http(allowed)
}

/// Bucket and prefix.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, prefix.trim_end_matches('/')))
}

/// That an object is created once: some servers pass the condition over in silence, and two replicas would then publish two
/// contents under one number. A bucket that cannot be written is served from all the same.
async fn has_conditions(objects: &dyn ObjectStore) -> Result<(), StoreError> {
    let key = Path::from(format!("check/{}", uuid::Uuid::new_v4().simple()));
    let create = || objects.put_opts(&key, PutPayload::from_static(b"x"), PutMode::Create.into());
    match create().await.map_err(StoreError::from) {
        Ok(_) => {}
        Err(StoreError::ReadOnly(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    let again = create().await;
    let _ = objects.delete(&key).await;
    match again {
        Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Ok(_) => Err(StoreError::Other("it takes no conditional puts (If-None-Match)".into())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn a_url_is_a_bucket_and_a_prefix() {
        assert_eq!(parts("s3://bucket"), Some(("bucket", "")));
        assert_eq!(parts("s3://bucket/"), Some(("bucket", "")));
        assert_eq!(parts("s3://bucket/a/b/"), Some(("bucket", "a/b")));
        for bad in ["s3://", "s3:///a", "https://bucket", "bucket", ""] {
            assert_eq!(parts(bad), None);
        }
    }

    #[tokio::test]
    async fn a_store_with_conditions_passes_and_keeps_nothing_of_the_check() {
        let memory = InMemory::new();
        has_conditions(&memory).await.unwrap();
        assert!(memory.list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());
    }
}
