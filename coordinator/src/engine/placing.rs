//! Which job may have how many workers: looked at whenever that may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_common::id::{JobId, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire;

use super::Engine;
use super::action::{Action, Notice};
use super::event::Event;
use super::fleet::Keep;
use super::job::{Allotment, Job, JobEvent, JobState};
use super::placement::{Demand, Pool, place};
use super::terms::Needs;

impl Engine {
    /// Admits jobs, and tells each how many workers it may have.
    pub(super) fn place(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let jobs = &self.jobs;
        let keep = |worker, job: &JobId| match jobs.get(job).map(|job| &job.state) {
            None | Some(JobState::Ended(_)) => Keep::No,
            Some(JobState::Active(run)) if run.is_live(worker) => Keep::No,
            Some(JobState::Active(_) | JobState::Queued) => Keep::AsAgreed,
            Some(JobState::Preparing) => Keep::WhilePrepared,
        };
        self.fleet.look_at_kept(now, keep);
        let allotted = self.allot(now);
        let first = allotted.first().map(|(job, ..)| job.clone());
        for (job, allotment, granted) in allotted {
            let Some(known) = self.jobs.get(&job) else {
                continue;
            };
            let waits = matches!(known.state, JobState::Queued);
            if waits && (granted || Some(&job) == first.as_ref()) {
                self.tell_job(&job, JobEvent::Admitted, now, out);
            } else if waits && known.allotment == allotment {
                continue;
            }
            self.tell_job(&job, JobEvent::Allotted(allotment), now, out);
        }
    }

    /// What each open job may have, in order, and whether that is enough for it to run.
    fn allot(&self, now: Timestamp) -> Vec<(JobId, Allotment, bool)> {
        let jobs: Vec<&Job> = self.jobs.open().take(self.limits.placed_jobs).collect();
        let demands = self.demands(&jobs, now);
        let pool = Pool {
            size: self.fleet.attached().count(),
            kept: self.fleet.kept().map(|(worker, _)| worker).collect(),
        };
        let given = place(&demands, &pool);
        // Alone, or where there is enough for all, a job may have what it wants as soon as it comes.
        let short = demands
            .iter()
            .zip(&given)
            .any(|(demand, given)| *given < demand.wanted);
        let contended = short && jobs.len() > 1;
        let each = jobs.into_iter().zip(given);
        each.map(|(job, given)| {
            let workers = if contended {
                u32::try_from(given).unwrap_or(u32::MAX)
            } else {
                job.terms.workers
            };
            let allotment = Allotment { workers, contended };
            (job.terms.id.clone(), allotment, given > 0)
        })
        .collect()
    }

    fn demands(&self, jobs: &[&Job], now: Timestamp) -> Vec<Demand> {
        let mut has: BTreeMap<&JobId, BTreeSet<WorkerId>> = BTreeMap::new();
        for (worker, record) in self.fleet.attached() {
            if let Some(job) = &record.job {
                has.entry(job).or_default().insert(worker);
            }
        }
        let mut kept: BTreeMap<&JobId, BTreeSet<WorkerId>> = BTreeMap::new();
        for (worker, job) in self.fleet.kept() {
            kept.entry(job).or_default().insert(worker);
        }
        let mut suited: Vec<(&Needs, Arc<BTreeSet<WorkerId>>)> = Vec::new();
        let each = jobs.iter().map(|job| {
            let terms = &job.terms;
            let same = suited.iter().find(|(needs, _)| *needs == &terms.needs);
            let own = same.map(|(_, suited)| suited.clone()).unwrap_or_else(|| {
                let found = self.fleet.suited(&terms.needs, now);
                let found = Arc::new(found.map(|(worker, _)| worker).collect());
                suited.push((&terms.needs, Arc::clone(&found)));
                found
            });
            let of_it = |workers: &BTreeMap<&JobId, BTreeSet<WorkerId>>| {
                let workers = workers.get(&terms.id).into_iter().flatten();
                workers
                    .filter(|worker| own.contains(worker))
                    .copied()
                    .collect()
            };
            Demand {
                min: terms.min_workers as usize,
                wanted: terms.workers as usize,
                has: of_it(&has),
                kept: of_it(&kept),
                suited: own,
            }
        });
        each.collect()
    }
}

/// Whether an event may change how many workers jobs may have.
pub(super) fn shifts_workers(event: &Event) -> bool {
    match event {
        Event::Submitted(_)
        | Event::CancelRequested(_)
        | Event::ScaleRequested { .. }
        | Event::DrainRequested(_)
        | Event::Retired { .. }
        | Event::Registered { .. }
        | Event::Attached { .. }
        | Event::SessionLost { .. }
        | Event::ShutdownRequested { .. }
        | Event::DataPrepared { .. }
        | Event::DataFailed { .. }
        | Event::LedgerFailed { .. } => true,
        Event::Reported { event, .. } => {
            matches!(event, wire::Event::Leave { .. } | wire::Event::Failed(_))
        }
        Event::LedgerDurable { .. } | Event::LedgerFenced { .. } | Event::Tick => false,
    }
}

pub(super) fn ends_a_job(actions: &[Action]) -> bool {
    let ended = |action: &Action| match action {
        Action::Notify { notice, .. } => matches!(notice, Notice::Ended(_)),
        Action::AnswerHello(_)
        | Action::AnswerSubmit(_)
        | Action::PrepareData(_)
        | Action::Send { .. }
        | Action::AppendLedger { .. }
        | Action::RewindLedger { .. }
        | Action::Hangup(_)
        | Action::Stop => false,
    };
    actions.iter().any(ended)
}
