//! Files to and from a store.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::Digest as _;

use super::Store;
use crate::id::Digest;
use crate::storage::FileEntry;
use crate::store::StoreFault;
use crate::store::backend::Backend;
use crate::store::error::StoreError;
use crate::store::retry::{Failed, Operation};

pub(super) fn upload(store: &Store, name: &str, path: &Path) -> Result<(), StoreError> {
    let operation = store.operation("write", name, 0);
    let local = |error| operation.failed(unusable(path, &error));
    let mut file = File::open(path).map_err(local)?;
    let size = file.metadata().map_err(local)?.len();
    let part_bytes = store.inner.limits.part_bytes;
    if let Backend::Bucket(bucket) = &store.inner.backend
        && size > part_bytes
    {
        return upload_parts(store, bucket, name, (&mut file, path));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes).map_err(local)?;
    store.put(name, &bytes)
}

/// Each part is tried again on its own, so that a large file does not start over when a connection breaks.
fn upload_parts(
    store: &Store,
    bucket: &Arc<AmazonS3>,
    name: &str,
    (file, path): (&mut File, &Path),
) -> Result<(), StoreError> {
    let key = store.object(name).1;
    let begin = (bucket.clone(), key.clone());
    let id = store.run(store.operation("write", name, 0), move || {
        let (bucket, key) = begin.clone();
        Box::pin(async move { Ok(bucket.create_multipart(&key).await?) })
    })?;
    let upload = PartUpload {
        store,
        bucket,
        key,
        name,
        id,
    };
    let sent = upload
        .send(file, path)
        .and_then(|parts| upload.complete(parts));
    if sent.is_err() {
        upload.abort();
    }
    sent
}

/// An upload in parts under way.
struct PartUpload<'a> {
    store: &'a Store,
    bucket: &'a Arc<AmazonS3>,
    key: Key,
    name: &'a str,
    id: String,
}

impl PartUpload<'_> {
    fn send(&self, file: &mut File, path: &Path) -> Result<Vec<PartId>, StoreError> {
        let part_bytes = self.store.inner.limits.part_bytes;
        let mut parts = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let count = file.take(part_bytes).read_to_end(&mut bytes);
            let operation = self.store.operation("write", self.name, bytes.len() as u64);
            count.map_err(|error| operation.failed(unusable(path, &error)))?;
            if bytes.is_empty() {
                return Ok(parts);
            }
            parts.push(self.part(operation, parts.len(), bytes)?);
        }
    }

    fn part(
        &self,
        operation: Operation,
        index: usize,
        bytes: Vec<u8>,
    ) -> Result<PartId, StoreError> {
        let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
        let payload = PutPayload::from(bytes);
        self.store.run(operation, move || {
            let (bucket, key, id, payload) =
                (bucket.clone(), key.clone(), id.clone(), payload.clone());
            Box::pin(async move { Ok(bucket.put_part(&key, &id, index, payload).await?) })
        })
    }

    fn complete(&self, parts: Vec<PartId>) -> Result<(), StoreError> {
        let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
        self.store
            .run(self.store.operation("write", self.name, 0), move || {
                let (bucket, key, id, parts) =
                    (bucket.clone(), key.clone(), id.clone(), parts.clone());
                Box::pin(async move {
                    bucket.complete_multipart(&key, &id, parts).await?;
                    Ok(())
                })
            })
    }

    /// Lets the store forget the parts. Where that fails too, the bucket's own rules for unfinished uploads remain.
    fn abort(&self) {
        let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
        let runtime = self.store.inner.runtime.as_ref();
        if let Some(runtime) = runtime {
            runtime.spawn(async move { bucket.abort_multipart(&key, &id).await });
        }
    }
}

pub(super) fn download(
    store: &Store,
    name: &str,
    expected: &FileEntry,
    path: &Path,
) -> Result<(), StoreError> {
    let operation = store.operation("read", name, expected.size);
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".incoming.")
        .tempfile_in(folder)
        .map_err(|error| operation.failed(unusable(folder, &error)))?;
    let target = Arc::new(Target {
        expected: expected.clone(),
        path: path.to_owned(),
        file: Mutex::new(
            temporary
                .reopen()
                .map_err(|error| operation.failed(unusable(path, &error)))?,
        ),
    });
    let (objects, key) = store.object(name);
    store.run(operation.clone(), move || {
        let (objects, key, target) = (objects.clone(), key.clone(), target.clone());
        Box::pin(async move { receive(&*objects, &key, &target).await })
    })?;
    let placed = temporary.persist(path).map_err(|error| error.error);
    placed.map_err(|error| operation.failed(unusable(path, &error)))?;
    Ok(())
}

/// Where an object goes.
struct Target {
    expected: FileEntry,
    path: PathBuf,
    file: Mutex<File>,
}

/// One attempt, from the start.
async fn receive(objects: &dyn ObjectStore, key: &Key, target: &Target) -> Result<(), Failed> {
    target.restart()?;
    let found = objects.get(key).await?;
    let mut stream = found.into_stream();
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        hash.update(&chunk);
        target.append(&chunk)?;
    }
    let FileEntry {
        size: announced,
        sha256,
        ..
    } = &target.expected;
    if size != *announced {
        let text = format!("{size} bytes came, the manifest says {announced}");
        return Err(Failed::new(StoreFault::Damaged, text));
    }
    if Digest(hash.finalize().into()) != *sha256 {
        return Err(Failed::new(
            StoreFault::Damaged,
            "its SHA-256 is not that of the manifest",
        ));
    }
    target.sync()
}

impl Target {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> std::io::Result<T>) -> Result<T, Failed> {
        // A thread that panicked while it held the file leaves nothing that the next attempt does not overwrite.
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut file).map_err(|error| unusable(&self.path, &error))
    }

    fn restart(&self) -> Result<(), Failed> {
        use std::io::Seek;
        self.with(|file| file.set_len(0).and_then(|()| file.rewind()))
    }

    fn append(&self, bytes: &[u8]) -> Result<(), Failed> {
        self.with(|file| file.write_all(bytes))
    }

    fn sync(&self) -> Result<(), Failed> {
        self.with(|file| file.sync_all())
    }
}

/// A file of this machine is the problem, not the store.
fn unusable(path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(
        StoreFault::Local,
        format_args!("{}: {error}", path.display()),
    )
}
