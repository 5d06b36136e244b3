//! What others may look at without asking the driver.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;
use weft_common::id::{Digest, JobId};
use weft_common::wire::DatasetRef;

use crate::view::{JobView, WorkerView};

/// Jobs that are over and can still be looked at here. Those before them are in the records, where there are any.
const REMEMBERED: usize = 64;

/// Jobs, datasets and workers, as they are.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    jobs: Arc<RwLock<Jobs>>,
    datasets: Arc<RwLock<HashMap<Digest, Dataset>>>,
    workers: watch::Receiver<Arc<[WorkerView]>>,
}

#[derive(Debug, Default)]
struct Jobs {
    all: BTreeMap<JobId, watch::Receiver<JobView>>,
    /// Those that are over, oldest first.
    over: VecDeque<JobId>,
}

/// A prepared dataset, and the jobs that it is kept for.
#[derive(Debug)]
struct Dataset {
    found: DatasetRef,
    jobs: BTreeSet<JobId>,
}

impl Published {
    pub(super) fn new(workers: watch::Receiver<Arc<[WorkerView]>>) -> Self {
        Self {
            jobs: Arc::default(),
            datasets: Arc::default(),
            workers,
        }
    }

    /// A job, as it is and as it changes.
    pub(crate) fn job(&self, id: &JobId) -> Option<watch::Receiver<JobView>> {
        read(&self.jobs).all.get(id).cloned()
    }

    /// All jobs as they are, in the order of their ids.
    pub(crate) fn jobs(&self) -> Vec<JobView> {
        let jobs = read(&self.jobs);
        jobs.all
            .values()
            .map(|view| view.borrow().clone())
            .collect()
    }

    /// The job that is not over and uses an output folder.
    pub(crate) fn user_of(&self, output: &Path) -> Option<JobId> {
        let jobs = read(&self.jobs);
        let uses = |view: &watch::Receiver<JobView>| {
            let view = view.borrow();
            !view.phase.is_over() && view.output_dir == output
        };
        let user = jobs.all.iter().find(|(_, view)| uses(view));
        user.map(|(id, _)| id.clone())
    }

    /// A prepared dataset of a job that is remembered.
    pub(crate) fn dataset(&self, digest: &Digest) -> Option<DatasetRef> {
        let datasets = read(&self.datasets);
        datasets.get(digest).map(|dataset| dataset.found.clone())
    }

    /// Workers that can be talked to.
    pub(crate) fn workers(&self) -> Arc<[WorkerView]> {
        self.workers.borrow().clone()
    }

    /// A job that is not over.
    pub(super) fn opened(&self, id: JobId, view: watch::Receiver<JobView>) {
        let mut jobs = write(&self.jobs);
        jobs.over.retain(|over| *over != id);
        jobs.all.insert(id, view);
    }

    /// A job that is over: it is remembered for a while.
    pub(super) fn closed(&self, id: JobId) {
        let mut jobs = write(&self.jobs);
        jobs.over.push_back(id);
        if jobs.over.len() > REMEMBERED
            && let Some(oldest) = jobs.over.pop_front()
        {
            jobs.all.remove(&oldest);
            self.release(&oldest);
        }
    }

    /// A job that was never taken.
    pub(super) fn refused(&self, id: &JobId) {
        write(&self.jobs).all.remove(id);
    }

    /// A dataset that `job` uses.
    pub(super) fn prepared(&self, job: &JobId, dataset: &DatasetRef) {
        let mut datasets = write(&self.datasets);
        let entry = datasets.entry(dataset.digest);
        let entry = entry.or_insert_with(|| Dataset {
            found: dataset.clone(),
            jobs: BTreeSet::new(),
        });
        entry.jobs.insert(job.clone());
    }

    fn release(&self, job: &JobId) {
        write(&self.datasets).retain(|_, dataset| {
            dataset.jobs.remove(job);
            !dataset.jobs.is_empty()
        });
    }
}

/// Nobody panics while holding the lock; if somebody did, what is there is still whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::view::tests::view;

    fn dataset(name: &str) -> DatasetRef {
        DatasetRef {
            digest: Digest::of(name.as_bytes()),
            dir: PathBuf::from(name),
            files: Vec::new(),
        }
    }

    #[test]
    fn jobs_that_are_over_are_forgotten_with_their_datasets_unless_others_use_them() {
        let published = Published::new(watch::channel(Arc::from(Vec::new())).1);
        let ids: Vec<JobId> = (0..=REMEMBERED)
            .map(|number| format!("job-{number:03}").parse().unwrap())
            .collect();
        for id in &ids {
            published.opened(id.clone(), watch::channel(view(id.as_str())).1);
            published.prepared(id, &dataset(id.as_str()));
            published.prepared(id, &dataset("shared"));
        }
        for id in &ids {
            published.closed(id.clone());
        }

        assert!(published.job(&ids[0]).is_none());
        assert!(published.job(&ids[1]).is_some());
        assert_eq!(published.jobs().len(), REMEMBERED);
        let known = |name: &str| published.dataset(&dataset(name).digest).is_some();
        assert!(!known("job-000") && known("job-001") && known("shared"));
    }
}
