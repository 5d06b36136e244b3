//! Serves ranges of the prepared dataset to workers without a shared disk.

use std::path::PathBuf;
use std::pin::Pin;

use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_common::id::Digest;
use weft_common::wire::DatasetRef;
use weft_proto::v1;

/// Large enough that headers do not matter, small enough for any peer's window.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks read ahead of the peer.
const READ_AHEAD: usize = 2;

pub(super) type ChunkStream = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

/// Streams a range of one of the dataset's files.
pub(super) async fn fetch(
    dataset: Option<DatasetRef>,
    range: v1::FetchRange,
) -> Result<ChunkStream, Status> {
    let (path, length) = locate(dataset, &range)?;
    let refused = |error: std::io::Error| {
        Status::internal(format!("cannot read {}: {error}", path.display()))
    };
    let mut file = File::open(&path).await.map_err(refused)?;
    let start = std::io::SeekFrom::Start(range.offset);
    file.seek(start).await.map_err(refused)?;
    let (chunks, stream) = mpsc::channel(READ_AHEAD);
    tokio::spawn(read(file, range.offset, length, chunks));
    Ok(Box::pin(ReceiverStream::new(stream)))
}

/// The dataset that a range is of.
pub(super) fn digest(range: &v1::FetchRange) -> Result<Digest, Status> {
    Digest::try_from(&range.digest[..]).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The file's path, and how much of it to send. Only files that the dataset lists are served.
fn locate(dataset: Option<DatasetRef>, range: &v1::FetchRange) -> Result<(PathBuf, u64), Status> {
    let wanted = digest(range)?;
    let dataset = dataset
        .ok_or_else(|| Status::not_found(format!("no prepared dataset {wanted} is in use")))?;
    let file = dataset.files.iter().find(|file| file.name == range.file);
    let file = file.ok_or_else(|| {
        Status::not_found(format!("dataset {wanted} has no file {:?}", range.file))
    })?;
    let rest = file.bytes.checked_sub(range.offset).ok_or_else(|| {
        Status::out_of_range(format!(
            "offset {} is past the {} bytes of {:?}",
            range.offset, file.bytes, range.file
        ))
    })?;
    let length = match range.length {
        0 => rest,
        length => length.min(rest),
    };
    Ok((dataset.dir.join(&file.name), length))
}

async fn read(
    mut file: File,
    mut offset: u64,
    mut left: u64,
    chunks: mpsc::Sender<Result<v1::Chunk, Status>>,
) {
    while left > 0 {
        let bytes = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let mut data = vec![0; bytes];
        let chunk = match file.read_exact(&mut data).await {
            Ok(_) => Ok(v1::Chunk {
                offset,
                data: data.into(),
            }),
            Err(error) => Err(Status::internal(format!("reading failed: {error}"))),
        };
        let failed = chunk.is_err();
        if chunks.send(chunk).await.is_err() || failed {
            return;
        }
        offset += bytes as u64;
        left -= bytes as u64;
    }
}
