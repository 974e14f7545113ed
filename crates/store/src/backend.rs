//! One client a bucket, made from the environment as `object_store` documents it.

use crate::StoreError;
use crate::address::{Address, Scheme};
use crate::connect::CreateOnly;
use crate::raw::Raw;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// A bucket and how to speak to it.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// `None` where nothing can be written.
    pub(crate) parts: Option<Arc<dyn MultipartStore>>,
    /// Where the end of a multipart upload can be made conditional.
    pub(crate) create_only: Option<CreateOnly>,
    /// For what the library has no call for, where there is a way.
    pub(crate) raw: Option<Raw>,
    /// Whether objects and uploads carry metadata, by which we know our own.
    pub(crate) marks: bool,
    /// Whether names can be listed.
    pub(crate) lists: bool,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A client's own text may hold its settings.
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

/// A request that takes longer is made again: a part of 8 MiB takes this at 100 KB/s.
const TIMEOUT: &str = "90 seconds";

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_secs(150),
    }
}

impl Backend {
    /// The client of an address's bucket.
    pub(crate) fn connect(address: &Address) -> Result<Self, StoreError> {
        // TLS is ring's here; whoever has chosen another for the process keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let setup = |error: object_store::Error| match StoreError::from(error) {
            StoreError::Failed(text) => StoreError::Setup(text),
            other => other,
        };
        match address.scheme {
            Scheme::S3 => Self::s3(address).map_err(setup),
            Scheme::Gs => Self::gs(address).map_err(setup),
            Scheme::Az => Self::az(address).map_err(setup),
            Scheme::Http => Self::http(address),
        }
    }

    fn s3(address: &Address) -> object_store::Result<Self> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&address.bucket)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
            .with_retry(retries());
        if !is_set("AWS_TIMEOUT") {
            builder =
                builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), TIMEOUT);
        }
        let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        if endpoints
            .iter()
            .find_map(variable)
            .is_some_and(|url| is_loopback(&url))
        {
            builder = builder.with_allow_http(true);
        }
        let create_only = CreateOnly::default();
        let store = Arc::new(builder.with_http_connector(create_only.clone()).build()?);
        let raw = Raw::new(&create_only, Arc::clone(&store) as _);
        Ok(Self {
            objects: Arc::clone(&store) as _,
            parts: Some(store),
            create_only: Some(create_only),
            raw,
            marks: true,
            lists: true,
        })
    }

    fn gs(address: &Address) -> object_store::Result<Self> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&address.bucket)
            .with_retry(retries());
        if !is_set("GOOGLE_TIMEOUT") {
            builder =
                builder.with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), TIMEOUT);
        }
        let store = Arc::new(builder.build()?);
        Ok(Self {
            objects: Arc::clone(&store) as _,
            parts: Some(store),
            create_only: None,
            raw: None,
            marks: true,
            lists: true,
        })
    }

    fn az(address: &Address) -> object_store::Result<Self> {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&address.bucket)
            .with_retry(retries());
        if !is_set("AZURE_TIMEOUT") {
            builder =
                builder.with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), TIMEOUT);
        }
        let store = Arc::new(builder.build()?);
        Ok(Self {
            objects: Arc::clone(&store) as _,
            parts: Some(store),
            create_only: None,
            raw: None,
            marks: false,
            lists: true,
        })
    }

    fn http(address: &Address) -> Result<Self, StoreError> {
        let plain = address.bucket.starts_with("http://");
        let allowed = is_loopback(&address.bucket)
            || variable(&"AWS_ALLOW_HTTP").is_some_and(|value| value == "true" || value == "1");
        if plain && !allowed {
            return Err(StoreError::Plain);
        }
        let options = ClientOptions::new()
            .with_allow_http(plain)
            .with_config(ClientConfigKey::Timeout, TIMEOUT);
        let store = HttpBuilder::new()
            .with_url(&address.bucket)
            .with_client_options(options)
            .with_retry(retries())
            .build()
            .map_err(StoreError::from)?;
        Ok(Self {
            objects: Arc::new(store),
            parts: None,
            create_only: None,
            raw: None,
            marks: false,
            lists: false,
        })
    }
}

fn variable(name: &&str) -> Option<String> {
    std::env::var(name).ok()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// Whether a URL leads to this machine, where nobody listens in.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for url in [
            "http://127.0.0.1:5000",
            "http://localhost/x",
            "http://[::1]:9",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "localhost",
            "http://localhost@h",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        let address = Address::parse(std::path::Path::new("http://example.org/a")).unwrap();
        if !is_set("AWS_ALLOW_HTTP") {
            assert_eq!(Backend::connect(&address).unwrap_err(), StoreError::Plain);
        }
    }
}
