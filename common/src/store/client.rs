//! A store as the rest of weft uses it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

use super::address::StoreUrl;
use super::backend::Backend;
use super::error::{StoreError, StoreFault};
use super::limits::StoreLimits;
use super::retry::{Attempt, Failed, Operation, persist};
use crate::storage::FileEntry;

mod create;
mod transfer;

pub use create::{Created, Creation};

/// A store. Cheap to clone.
///
/// Every call blocks its thread until it is done or given up, with the I/O on a thread of the store's own: it may be used
/// from any thread, in asynchronous code through `spawn_blocking`.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: StoreUrl,
    prefix: Key,
    backend: Backend,
    limits: StoreLimits,
    creation: OnceLock<Creation>,
    /// Taken out when dropped.
    runtime: Option<Runtime>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name below the listed folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl Store {
    /// Opens a store with the credentials, endpoint and region that the environment names. A folder is created where it is
    /// not there yet; nothing is asked of a bucket.
    ///
    /// # Errors
    /// If the folder cannot be created, or the settings contradict each other.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Self::open_within(url, StoreLimits::default())
    }

    /// As [`open`](Self::open), with limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(url: &StoreUrl, limits: StoreLimits) -> Result<Self, StoreError> {
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("AWS_"))
            .collect();
        Self::open_with(url, limits, &environment)
    }

    /// As [`open_within`](Self::open_within), with `environment` instead of the process's own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        url: &StoreUrl,
        limits: StoreLimits,
        environment: &[(String, String)],
    ) -> Result<Self, StoreError> {
        let operation = Operation {
            doing: "open",
            at: url.to_string(),
            bytes: 0,
        };
        let failed =
            |(fault, detail): (StoreFault, String)| operation.failed(Failed::new(fault, detail));
        let (backend, prefix) = Backend::open(url, environment).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // A lost network share keeps a thread for as long as it is lost.
            .max_blocking_threads(8)
            .thread_name("weft-store")
            .enable_all()
            .build()
            .map_err(|error| operation.failed(Failed::new(StoreFault::Local, error)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                url: url.clone(),
                prefix,
                backend,
                limits,
                creation: OnceLock::new(),
                runtime: Some(runtime),
            }),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    /// The address of an object, for people.
    #[must_use]
    pub fn address(&self, name: &str) -> String {
        format!("{}/{name}", self.inner.url)
    }

    /// Writes an object, replacing one that is there. Others see the old or the new one, whole.
    ///
    /// # Errors
    /// If the store does not take it in time.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let payload = PutPayload::from(bytes.to_vec());
        let (objects, key) = self.object(name);
        self.run(
            self.operation("write", name, bytes.len() as u64),
            move || {
                let (objects, key, payload) = (objects.clone(), key.clone(), payload.clone());
                Box::pin(async move {
                    objects.put(&key, payload).await?;
                    Ok(())
                })
            },
        )
    }

    /// Reads an object whole; `None` where there is none. For small ones: files go through
    /// [`download`](Self::download).
    ///
    /// # Errors
    /// If the store does not give it in time.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (objects, key) = self.object(name);
        self.run(self.operation("read", name, 0), move || {
            let (objects, key) = (objects.clone(), key.clone());
            Box::pin(async move { read(&*objects, &key).await })
        })
    }

    /// Everything below the folder `name`, sorted; names are relative to it. A folder that is not there is empty.
    ///
    /// # Errors
    /// If the store does not answer in time.
    pub fn list(&self, name: &str) -> Result<Vec<Object>, StoreError> {
        let (objects, folder) = self.object(name);
        self.run(self.operation("list", name, 0), move || {
            let (objects, folder) = (objects.clone(), folder.clone());
            Box::pin(async move {
                let mut found: Vec<Object> = objects
                    .list(Some(&folder))
                    .try_filter_map(|meta| {
                        let below = meta.location.prefix_match(&folder).map(|parts| {
                            parts
                                .map(|part| part.as_ref().to_owned())
                                .collect::<Vec<_>>()
                                .join("/")
                        });
                        let object = below.map(|name| Object {
                            name,
                            size: meta.size,
                        });
                        std::future::ready(Ok(object))
                    })
                    .try_collect()
                    .await?;
                found.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(found)
            })
        })
    }

    /// The folders directly below the folder `name`, sorted.
    ///
    /// # Errors
    /// If the store does not answer in time.
    pub fn folders(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let (objects, folder) = self.object(name);
        self.run(self.operation("list", name, 0), move || {
            let (objects, folder) = (objects.clone(), folder.clone());
            Box::pin(async move {
                let listed = objects.list_with_delimiter(Some(&folder)).await?;
                let prefixes = listed.common_prefixes.iter();
                let mut names: Vec<String> = prefixes
                    .filter_map(|key| key.filename().map(str::to_owned))
                    .collect();
                names.sort_unstable();
                Ok(names)
            })
        })
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// If the store does not do it in time.
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        let (objects, key) = self.object(name);
        self.run(self.operation("remove", name, 0), move || {
            let (objects, key) = (objects.clone(), key.clone());
            Box::pin(async move {
                match objects.delete(&key).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            })
        })
    }

    /// Writes a file of this machine as an object. **Cost**: its bytes in memory, for a bucket at most one part's.
    ///
    /// # Errors
    /// If the file cannot be read, or the store does not take it in time.
    pub fn upload(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        transfer::upload(self, name, file)
    }

    /// Brings an object to `file`, which is complete, as large as `expected` says and of its SHA-256, or not there.
    ///
    /// # Errors
    /// If the store does not give it in time, gives something else every time, or the disk does not take it.
    pub fn download(
        &self,
        name: &str,
        expected: &FileEntry,
        file: &Path,
    ) -> Result<(), StoreError> {
        transfer::download(self, name, expected, file)
    }

    fn object(&self, name: &str) -> (Arc<dyn ObjectStore>, Key) {
        let mut key = self.inner.prefix.clone();
        for part in name.split('/').filter(|part| !part.is_empty()) {
            key = key.join(part);
        }
        (self.inner.backend.objects(), key)
    }

    fn operation(&self, doing: &'static str, name: &str, bytes: u64) -> Operation {
        Operation {
            doing,
            at: self.address(name),
            bytes,
        }
    }

    /// Runs attempts on the store's own thread, so that any thread may wait for them.
    fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        attempt: impl Fn() -> Attempt<T> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let limits = self.inner.limits;
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let ended = operation.clone();
        let runtime = self.inner.runtime.as_ref();
        runtime
            .expect("only dropping takes the runtime away")
            .spawn(async move {
                let _ = done.send(persist(&operation, &limits, attempt).await);
            });
        // Every attempt has a deadline and their sum has one, so that this wait has.
        result.recv().unwrap_or_else(|_| {
            Err(ended.failed(Failed::new(
                StoreFault::Local,
                "the thread of the store has ended",
            )))
        })
    }
}

async fn read(objects: &dyn ObjectStore, key: &Key) -> Result<Option<Vec<u8>>, Failed> {
    let found = match objects.get(key).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let announced = found.meta.size;
    let mut stream = found.into_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    if bytes.len() as u64 == announced {
        return Ok(Some(bytes));
    }
    let text = format_args!("{} bytes of {announced} came", bytes.len()).to_string();
    Err(Failed::new(StoreFault::Broken, text))
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Waiting for what still runs could take as long as a lost share, and is not allowed in asynchronous code.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
