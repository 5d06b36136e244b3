//! The jobs of one coordinator: those that are over, and those that are not, in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use weft_common::id::JobId;

use super::job::{Job, JobState};

/// Jobs that are over and still remembered here; the history is the driver's.
const REMEMBERED: usize = 64;

/// A job's place in the order in which jobs are served: the higher priority first, then the earlier submission.
type Place = (Reverse<i32>, u64, JobId);

/// All jobs that the engine knows. Thousands may wait, and every event asks for those that do not: nothing here walks over
/// the waiting ones but what is asked for them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Jobs {
    all: BTreeMap<JobId, Job>,
    /// Where each of those is that are not over.
    places: BTreeMap<JobId, Place>,
    /// Those that are not over.
    open: BTreeSet<Place>,
    /// Those of them that were admitted.
    admitted: BTreeSet<Place>,
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
        self.places.contains_key(id)
    }

    /// Whether every job is over.
    pub(super) fn all_over(&self) -> bool {
        self.open.is_empty()
    }

    /// How many jobs are not over.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The jobs that are not over, in the order in which they are served.
    pub(super) fn open(&self) -> impl Iterator<Item = &Job> {
        self.open.iter().filter_map(|(.., id)| self.all.get(id))
    }

    /// Those of them that were admitted: they have, or wait for, workers.
    pub(super) fn admitted(&self) -> impl Iterator<Item = &Job> {
        self.admitted.iter().filter_map(|(.., id)| self.all.get(id))
    }

    pub(super) fn submit(&mut self, job: Job) {
        let id = job.terms.id.clone();
        self.submitted += 1;
        let place = (Reverse(job.terms.priority), self.submitted, id.clone());
        self.places.insert(id.clone(), place.clone());
        self.open.insert(place);
        self.over.retain(|over| *over != id);
        self.all.insert(id, job);
    }

    /// Takes a job out, to be put back.
    pub(super) fn take(&mut self, id: &JobId) -> Option<Job> {
        self.all.remove(id)
    }

    pub(super) fn put_back(&mut self, job: Job) {
        let id = job.terms.id.clone();
        if let Some(place) = self.places.get(&id) {
            match &job.state {
                JobState::Queued => {}
                JobState::Preparing | JobState::Active(_) => {
                    if !self.admitted.contains(place) {
                        self.admitted.insert(place.clone());
                    }
                }
                JobState::Ended(_) => self.close(&id),
            }
        }
        self.all.insert(id, job);
    }

    fn close(&mut self, id: &JobId) {
        if let Some(place) = self.places.remove(id) {
            self.open.remove(&place);
            self.admitted.remove(&place);
        }
        self.over.push(id.clone());
        if self.over.len() > REMEMBERED {
            let oldest = self.over.remove(0);
            self.all.remove(&oldest);
        }
    }
}
