//! What the queue's coordinator asks of this crate.

use std::path::PathBuf;

use weft_coordinator::{Attend, Attendant, JobSpec, Preflight, StartFrom};

use super::{attendant, inspect};
use crate::exit::Failure;

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
    fn inspect(&self, job: JobSpec, from: StartFrom) -> Result<JobSpec, String> {
        inspect::inspect(job, from, &self.cache).map_err(|failure: Failure| failure.text())
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
