//! The jobs of one coordinator: those that are over, and those that are not, in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use weft_common::id::JobId;

use super::job::{Job, JobState};

/// Jobs that are over and still remembered here; the history is the driver's.
const REMEMBERED: usize = 64;

/// All jobs that the engine knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Jobs {
    all: BTreeMap<JobId, Job>,
    /// Those that are not over, in the order in which they are served.
    open: BTreeSet<(Reverse<i32>, u64, JobId)>,
    /// Those that are over, oldest first.
    over: Vec<JobId>,
    submitted: u64,
}

impl Jobs {
    pub(super) fn get(&self, id: &JobId) -> Option<&Job> {
        self.all.get(id)
    }

    /// Whether a job of this name is not over.
    pub(super) fn is_open(&self, id: &JobId) -> bool {
        self.get(id).is_some_and(Job::is_active)
    }

    /// Whether every job is over.
    pub(super) fn all_over(&self) -> bool {
        self.open.is_empty()
    }

    /// The jobs that are not over, in the order in which they are served.
    pub(super) fn open(&self) -> impl Iterator<Item = &Job> {
        self.open.iter().filter_map(|(.., id)| self.all.get(id))
    }

    /// Those of them that were admitted: they have, or wait for, workers.
    pub(super) fn admitted(&self) -> Vec<JobId> {
        let waits = |job: &&Job| matches!(job.state, JobState::Queued);
        let admitted = self.open().filter(|job| !waits(job));
        admitted.map(|job| job.terms.id.clone()).collect()
    }

    pub(super) fn submit(&mut self, job: Job) {
        let id = job.terms.id.clone();
        self.submitted += 1;
        self.open
            .insert((Reverse(job.terms.priority), self.submitted, id.clone()));
        self.over.retain(|over| *over != id);
        self.all.insert(id, job);
    }

    /// Takes a job out, to be put back.
    pub(super) fn take(&mut self, id: &JobId) -> Option<Job> {
        self.all.remove(id)
    }

    pub(super) fn put_back(&mut self, job: Job) {
        let id = job.terms.id.clone();
        if !job.is_active() && self.open.iter().any(|(.., open)| *open == id) {
            self.open.retain(|(.., open)| *open != id);
            self.over.push(id.clone());
            if self.over.len() > REMEMBERED {
                let oldest = self.over.remove(0);
                self.all.remove(&oldest);
            }
        }
        self.all.insert(id, job);
    }
}
