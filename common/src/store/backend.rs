//! The two kinds of store behind one interface.

use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use super::address::StoreUrl;
use super::error::{StoreFault, shortened};
use super::transport::{Transport, is_yes};

/// A kind of store.
#[derive(Debug, Clone)]
pub(super) enum Backend {
    /// A shared folder.
    Folder(Arc<LocalFileSystem>),
    /// A bucket.
    Bucket(Arc<AmazonS3>),
}

impl Backend {
    /// Opens what `url` names; no byte is exchanged yet. Gives the prefix of all its keys as well.
    /// `environment` are `AWS_…` variables.
    pub(super) fn open(
        url: &StoreUrl,
        environment: &[(String, String)],
    ) -> Result<(Self, Key), (StoreFault, String)> {
        match url {
            StoreUrl::Folder(path) => {
                std::fs::create_dir_all(path).map_err(|error| {
                    let fault = StoreFault::of_io(error.kind()).unwrap_or(StoreFault::Failing);
                    (fault, error.to_string())
                })?;
                let opened = LocalFileSystem::new_with_prefix(path).map_err(described)?;
                // What is in a store must survive a loss of power like everything else.
                Ok((
                    Self::Folder(Arc::new(opened.with_fsync(true))),
                    Key::default(),
                ))
            }
            StoreUrl::Bucket { bucket, prefix } => {
                let opened = open_bucket(bucket, environment)?;
                Ok((Self::Bucket(Arc::new(opened)), Key::from(prefix.as_str())))
            }
        }
    }

    /// What both can do.
    pub(super) fn objects(&self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::Bucket(bucket) => bucket.clone(),
        }
    }
}

fn open_bucket(
    bucket: &str,
    environment: &[(String, String)],
) -> Result<AmazonS3, (StoreFault, String)> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment {
        // Variables that the library does not know are other programs'.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_bucket_name(bucket);
    let set = |key: &AmazonS3ConfigKey| builder.get_config_value(key).unwrap_or_default();
    let endpoint = match set(&AmazonS3ConfigKey::S3Endpoint) {
        general if general.is_empty() => set(&AmazonS3ConfigKey::Endpoint),
        endpoint => endpoint,
    };
    let plain = set(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    if endpoint.starts_with("http://") && !is_yes(&plain) {
        let text = format!(
            "the endpoint {endpoint} is not encrypted; use https, or set AWS_ALLOW_HTTP=true where the network is trusted"
        );
        return Err((StoreFault::Settings, text));
    }
    // Attempts are made, and their time limited, in one place for both kinds of store.
    let once = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    builder
        .with_retry(once)
        .with_http_connector(Transport)
        .build()
        .map_err(|error| (StoreFault::Settings, shortened(&error.to_string())))
}

fn described(error: object_store::Error) -> (StoreFault, String) {
    (StoreFault::of(&error), shortened(&error.to_string()))
}
