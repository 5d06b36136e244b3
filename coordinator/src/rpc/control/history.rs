//! What happened to a job and what its steps came to, from the records, page by page, as they grow.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_common::id::JobId;
use weft_proto::v1;

use super::Answers;
use crate::records::{Page, Records, RecordsError};
use crate::rpc::blocking;

/// Rows that may wait for a slow reader.
const AHEAD: usize = 256;

/// What happened to a job.
pub(super) async fn events(
    records: Records,
    job: JobId,
    request: v1::JobEventsRequest,
) -> Result<Answers<v1::JobEvent>, Status> {
    let start = match request.last {
        0 => 0,
        last => {
            let (records, job) = (records.clone(), job.clone());
            read(move || records.events_before(&job, last)).await?
        }
    };
    let advanced = records.advanced();
    let pages = move |after| records.events(&job, after);
    let follow = Follow::of(request.follow, request.after.max(start));
    Ok(stream(pages, advanced, follow))
}

/// The figures of a job's steps.
pub(super) async fn steps(
    records: Records,
    job: JobId,
    request: v1::JobStepsRequest,
) -> Result<Answers<v1::StepFigures>, Status> {
    let start = match request.last {
        0 => 0,
        last => {
            let (records, job) = (records.clone(), job.clone());
            read(move || records.steps_before(&job, last)).await?
        }
    };
    let advanced = records.advanced();
    let beyond = request.after;
    let pages = move |after| records.steps(&job, after, beyond);
    Ok(stream(pages, advanced, Follow::of(request.follow, start)))
}

/// How far a reader is, and whether it stays for what is to come.
#[derive(Debug, Clone, Copy)]
struct Follow {
    stays: bool,
    after: u64,
}

impl Follow {
    const fn of(stays: bool, after: u64) -> Self {
        Self { stays, after }
    }
}

fn stream<T, F>(pages: F, advanced: watch::Receiver<u64>, follow: Follow) -> Answers<T>
where
    T: Send + 'static,
    F: Fn(u64) -> Result<Page<T>, RecordsError> + Clone + Send + 'static,
{
    let (rows, stream) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(status) = send(pages, advanced, follow, &rows).await {
            let _ = rows.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

/// Sends page after page, until the job is over, the reader has what it came for, or is gone.
async fn send<T, F>(
    pages: F,
    mut advanced: watch::Receiver<u64>,
    mut follow: Follow,
    rows: &mpsc::Sender<Result<T, Status>>,
) -> Result<(), Status>
where
    T: Send + 'static,
    F: Fn(u64) -> Result<Page<T>, RecordsError> + Clone + Send + 'static,
{
    loop {
        advanced.mark_unchanged();
        let (read_page, after) = (pages.clone(), follow.after);
        let page = read(move || read_page(after)).await?;
        for (number, row) in page.rows {
            follow.after = number;
            if rows.send(Ok(row)).await.is_err() {
                return Ok(());
            }
        }
        if page.is_full {
            continue;
        }
        if page.is_last || !follow.stays {
            return Ok(());
        }
        tokio::select! {
            more = advanced.changed() => if more.is_err() {
                return Err(crate::rpc::stopped());
            },
            () = rows.closed() => return Ok(()),
        }
    }
}

async fn read<T: Send + 'static>(
    query: impl FnOnce() -> Result<T, RecordsError> + Send + 'static,
) -> Result<T, Status> {
    let read = blocking(query).await?;
    read.map_err(|error| Status::unavailable(error.to_string()))
}
