//! What the writer is given.

use std::sync::mpsc::SyncSender;

use weft_common::id::JobId;
use weft_proto::v1;

use super::error::RecordsError;
use crate::happening::Happening;
use crate::view::JobView;

/// One thing to write, in its order.
#[derive(Debug)]
pub(super) enum Entry {
    /// Something happened, to a job or to all.
    Event {
        job: Option<JobId>,
        unix_ms: i64,
        happening: Happening,
    },
    /// A step was committed.
    Step {
        job: JobId,
        figures: Box<v1::StepFigures>,
    },
    /// Steps after so many no longer count.
    RolledBack { job: JobId, committed: u64 },
    /// A job was not taken after all.
    Withdrawn(JobId),
}

/// A job that is handed in, and who waits for it to be durable.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) view: Box<JobView>,
    pub(super) number: u64,
    pub(super) reply: SyncSender<Result<(), RecordsError>>,
}
