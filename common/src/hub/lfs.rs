//! Large files: to the store behind the hub, whole or in parts, unless they are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use http::header::ETAG;
use serde_json::Value;

use super::client::{Call, HubClient, Payload};
use super::push::Events;
use super::wire::{Action, Batch, BatchAnswer, BatchObject, Completion, Object, Part, Reference};
use super::{HubError, LocalFile, PushEvent};

/// Objects of one batch.
const BATCH: usize = 100;
const LFS_JSON: &str = "application/vnd.git-lfs+json";

/// A large file, known by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LargeFile {
    pub(super) file: LocalFile,
    /// Its SHA-256 in hexadecimal.
    pub(super) oid: String,
}

/// Sends what the store does not have. Gives how many bytes that was.
pub(super) async fn send(
    client: &HubClient,
    repo: &str,
    files: &[LargeFile],
    events: Events<'_>,
) -> Result<u64, HubError> {
    let by_oid: BTreeMap<&str, &LargeFile> =
        files.iter().map(|file| (file.oid.as_str(), file)).collect();
    let unique: Vec<&LargeFile> = by_oid.values().copied().collect();
    let mut sent = 0;
    for files in unique.chunks(BATCH) {
        for object in batch(client, repo, files).await? {
            let file = by_oid.get(object.oid.as_str()).copied();
            let file = file.ok_or_else(|| unknown(&object.oid))?;
            sent += send_one(client, file, object, events).await?;
        }
    }
    Ok(sent)
}

/// Asks where files are to go.
async fn batch(
    client: &HubClient,
    repo: &str,
    files: &[&LargeFile],
) -> Result<Vec<BatchObject>, HubError> {
    let objects = files.iter().map(|file| Object {
        oid: &file.oid,
        size: file.file.size,
    });
    let request = Batch {
        operation: "upload",
        transfers: ["basic", "multipart"],
        objects: objects.collect(),
        hash_algo: "sha256",
        reference: Reference { name: "main" },
    };
    let address = format!("{repo}.git/info/lfs/objects/batch");
    let call = Call::post(
        "announce large files",
        client.endpoint().at(&address),
        &request,
    )?;
    let answer: BatchAnswer = client.ask(&lfs(call)).await?;
    Ok(answer.objects)
}

fn lfs(call: Call) -> Call {
    Call {
        content_type: LFS_JSON,
        ..call
    }
}

fn unknown(oid: &str) -> HubError {
    HubError::Answer {
        doing: "announce large files".to_owned(),
        detail: format!("it speaks of an object {oid}, which was not announced"),
    }
}

async fn send_one(
    client: &HubClient,
    file: &LargeFile,
    object: BatchObject,
    events: Events<'_>,
) -> Result<u64, HubError> {
    let LocalFile { name, size, .. } = &file.file;
    if let Some(error) = object.error {
        return Err(HubError::Refused {
            doing: format!("take {name}"),
            status: error.code,
            detail: format!(": {}", error.message),
            remedy: super::error::remedy(error.code),
        });
    }
    let actions = object.actions;
    let Some((upload, verify)) = actions.and_then(|all| Some((all.upload?, all.verify))) else {
        events(PushEvent::Present { name, bytes: *size });
        return Ok(0);
    };
    events(PushEvent::Sending { name, bytes: *size });
    match chunk_size(&upload, name)? {
        Some(bytes) => send_parts(client, file, &upload, bytes, events).await?,
        None => {
            put(client, file, upload.href, (0, *size)).await?;
            events(PushEvent::Sent { bytes: *size });
        }
    }
    if let Some(verify) = verify {
        let object = Object {
            oid: &file.oid,
            size: *size,
        };
        let call = Call::post(format!("verify {name}"), verify.href, &object)?;
        client.call(&lfs(call), &[]).await?;
    }
    Ok(*size)
}

/// Bytes of a part, where the file is to come in parts. Numbers may be written as text.
fn chunk_size(upload: &Action, name: &str) -> Result<Option<u64>, HubError> {
    let header = upload.header.as_ref();
    let Some(value) = header.and_then(|header| header.get("chunk_size")) else {
        return Ok(None);
    };
    let number = value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .filter(|bytes| *bytes > 0);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(bad_parts(name, format!("chunk_size is {value}"))),
    }
}

fn bad_parts(name: &str, detail: String) -> HubError {
    HubError::Answer {
        doing: format!("take {name} in parts"),
        detail,
    }
}

/// Sends a file in parts, some at a time, and puts them together.
async fn send_parts(
    client: &HubClient,
    file: &LargeFile,
    upload: &Action,
    part_bytes: u64,
    events: Events<'_>,
) -> Result<(), HubError> {
    let LocalFile { name, size, .. } = &file.file;
    let addresses = addresses(upload);
    let expected = size.div_ceil(part_bytes);
    if addresses.len() as u64 != expected {
        let detail = format!("{} parts are addressed, not {expected}", addresses.len());
        return Err(bad_parts(name, detail));
    }
    let parts =
        stream::iter(addresses.into_iter().enumerate()).map(|(index, address)| async move {
            let from = index as u64 * part_bytes;
            let bytes = part_bytes.min(size - from);
            let etag = put(client, file, address, (from, bytes)).await?;
            events(PushEvent::Sent { bytes });
            let part_number = index + 1;
            let etag =
                etag.ok_or_else(|| bad_parts(name, format!("part {part_number} has no ETag")))?;
            Ok::<_, HubError>(Part { part_number, etag })
        });
    let parts = parts
        .buffered(client.limits().parts_at_a_time.max(1))
        .try_collect()
        .await?;
    let completion = Completion {
        oid: &file.oid,
        parts,
    };
    let call = Call::post(format!("complete {name}"), upload.href.clone(), &completion)?;
    client.call(&lfs(call), &[]).await?;
    Ok(())
}

/// The parts' addresses, by number.
fn addresses(upload: &Action) -> Vec<String> {
    let header = upload.header.iter().flatten();
    let mut numbered: Vec<(u64, &str)> = header
        .filter_map(|(key, value): (&String, &Value)| Some((key.parse().ok()?, value.as_str()?)))
        .collect();
    numbered.sort_unstable();
    numbered
        .into_iter()
        .map(|(_, address)| address.to_owned())
        .collect()
}

/// Puts a stretch of a file; gives its ETag.
async fn put(
    client: &HubClient,
    file: &LargeFile,
    address: String,
    (from, bytes): (u64, u64),
) -> Result<Option<String>, HubError> {
    let payload = match bytes {
        0 => Payload::Bytes(Bytes::new()),
        _ => Payload::File {
            path: file.file.path.clone(),
            from,
            bytes,
        },
    };
    let call = Call {
        doing: format!("send {}", file.file.name),
        method: Method::PUT,
        address,
        // A signed address covers what headers there may be.
        content_type: "",
        payload,
    };
    let answer = client.call(&call, &[]).await?;
    let etag = answer.headers.get(ETAG);
    Ok(etag
        .and_then(|etag| etag.to_str().ok())
        .filter(|etag| !etag.is_empty())
        .map(str::to_owned))
}
