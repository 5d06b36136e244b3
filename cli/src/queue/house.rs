//! What the queue's coordinator asks of this crate.

use std::path::PathBuf;

use weft_common::wire::ErrorKind;
use weft_coordinator::{Attend, Attendant, JobSpec, Preflight, StartFrom, Unfit};

use super::{attendant, inspect};
use crate::exit::{Exit, Failure};

/// Looks at jobs, and leaves their results.
#[derive(Debug)]
pub(super) struct House {
    cache: PathBuf,
}

impl House {
    /// One that keeps prepared datasets in `cache`.
    pub(super) fn new(cache: PathBuf) -> Self {
        Self { cache }
    }
}

impl Preflight for House {
    fn inspect(&self, job: JobSpec, from: StartFrom) -> Result<JobSpec, Unfit> {
        inspect::inspect(job, from, &self.cache).map_err(|failure| Unfit {
            kind: kind(failure.exit()),
            text: failure.text(),
        })
    }

    fn go_on(&self, job: JobSpec) -> Result<JobSpec, String> {
        inspect::go_on(job, &self.cache).map_err(|failure: Failure| failure.text())
    }
}

impl Attend for House {
    fn open(&self, job: &JobSpec) -> Result<Box<dyn Attendant>, String> {
        let opened = attendant::open(job, &self.cache);
        let attendant = opened.map_err(|failure: Failure| failure.text())?;
        Ok(Box::new(attendant))
    }
}

/// What a refusal is about, for a coordinator, which knows no exit codes.
fn kind(exit: Exit) -> ErrorKind {
    match exit {
        Exit::Recipe => ErrorKind::Recipe,
        Exit::Data => ErrorKind::Data,
        Exit::Model => ErrorKind::Model,
        Exit::Environment => ErrorKind::Storage,
        Exit::Internal
        | Exit::Job
        | Exit::Refused
        | Exit::Interrupted
        | Exit::Ledger
        | Exit::Unproven
        | Exit::Hung
        | Exit::Sick
        | Exit::Aborted => ErrorKind::Internal,
    }
}
