//! Brings a prepared dataset to this host, where it is not there already.

use std::path::{Path, PathBuf};

use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tonic::transport::Channel;
use weft_common::data::Prepared;
use weft_common::id::WorkerId;
use weft_common::wire::{DatasetFile, DatasetRef};
use weft_proto::v1;
use weft_proto::v1::workers_client::WorkersClient;

/// Finds the dataset in the coordinator's folder or the own cache, else downloads it into the cache.
///
/// A folder that is there already counts by its files' names and lengths; a download is verified byte by byte.
pub(super) async fn fetch(
    mut client: WorkersClient<Channel>,
    dataset: DatasetRef,
    cache_dir: PathBuf,
    worker: WorkerId,
) -> Result<PathBuf, String> {
    let cached = cache_dir.join(dataset.digest.to_string());
    for dir in [&dataset.dir, &cached] {
        if holds(dir, &dataset.files).await {
            return Ok(dir.clone());
        }
    }
    // A name of its own, since several workers may share the cache.
    let partial = cache_dir.join(format!("{}.{worker}", dataset.digest));
    let failed = |error: String| {
        format!(
            "cannot fetch the prepared dataset {} to {}: {error}",
            dataset.digest,
            cached.display()
        )
    };
    let downloaded = download(&mut client, &dataset, &partial).await;
    let verified = match downloaded {
        Ok(()) => verify(partial.clone()).await,
        Err(error) => Err(error),
    };
    let moved = match verified {
        Ok(()) => fs::rename(&partial, &cached).await.map_err(text),
        Err(error) => Err(error),
    };
    if let Err(error) = moved {
        // What is left of a failed download is of no use to anyone.
        let _ = fs::remove_dir_all(&partial).await;
        // Another worker that shares the cache may have been faster.
        if !holds(&cached, &dataset.files).await {
            return Err(failed(error));
        }
    }
    Ok(cached)
}

async fn holds(dir: &Path, files: &[DatasetFile]) -> bool {
    for file in files {
        match fs::metadata(dir.join(&file.name)).await {
            Ok(metadata) if metadata.len() == file.bytes => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

async fn download(
    client: &mut WorkersClient<Channel>,
    dataset: &DatasetRef,
    dir: &Path,
) -> Result<(), String> {
    fs::create_dir_all(dir).await.map_err(text)?;
    for file in &dataset.files {
        let range = v1::FetchRange {
            digest: dataset.digest.0.to_vec().into(),
            file: file.name.clone(),
            offset: 0,
            length: 0,
        };
        let chunks = client.fetch_prepared(range).await;
        let mut chunks = chunks
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        let mut written = File::create(dir.join(&file.name)).await.map_err(text)?;
        let mut bytes = 0;
        while let Some(chunk) = chunks
            .message()
            .await
            .map_err(|status| status.message().to_owned())?
        {
            written.write_all(&chunk.data).await.map_err(text)?;
            bytes += chunk.data.len() as u64;
        }
        written.sync_all().await.map_err(text)?;
        if bytes != file.bytes {
            return Err(format!("{} has {bytes} of {} bytes", file.name, file.bytes));
        }
    }
    Ok(())
}

/// Compares what arrived with the digests in its manifest.
async fn verify(dir: PathBuf) -> Result<(), String> {
    let verifying = tokio::task::spawn_blocking(move || Prepared::open(&dir)?.verify());
    let verified = verifying.await.map_err(|error| error.to_string())?;
    verified.map_err(|error| error.to_string())
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
