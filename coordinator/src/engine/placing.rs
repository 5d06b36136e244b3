//! Which job may have how many workers: looked at whenever that may have changed.

use weft_common::id::JobId;
use weft_common::time::Timestamp;
use weft_common::wire;

use super::Engine;
use super::action::{Action, Notice};
use super::event::Event;
use super::fleet::WorkerRecord;
use super::job::{Allotment, Job, JobEvent, JobState};
use super::placement::{Demand, place};

impl Engine {
    /// Admits jobs, and tells each how many workers it may have.
    pub(super) fn place(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let allotted = self.allot(now);
        let first = allotted.first().map(|(job, ..)| job.clone());
        for (job, allotment, granted) in allotted {
            let Some(known) = self.jobs.get(&job) else {
                continue;
            };
            let waits = matches!(known.state, JobState::Queued);
            if waits && (granted || Some(&job) == first.as_ref()) {
                self.tell_job(&job, JobEvent::Admitted, now, out);
            }
            self.tell_job(&job, JobEvent::Allotted(allotment), now, out);
        }
    }

    /// What each open job may have, in order, and whether that is enough for it to run.
    fn allot(&self, now: Timestamp) -> Vec<(JobId, Allotment, bool)> {
        let jobs: Vec<&Job> = self.jobs.open().take(self.limits.placed_jobs).collect();
        let demands: Vec<Demand> = jobs.iter().map(|job| self.demand(job, now)).collect();
        let given = place(&demands);
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

    fn demand(&self, job: &Job, now: Timestamp) -> Demand {
        let terms = &job.terms;
        let own = |record: &WorkerRecord| record.job.as_ref() == Some(&terms.id);
        let suited: Vec<_> = self.fleet.suited(&terms.needs, now).collect();
        Demand {
            min: terms.min_workers as usize,
            wanted: terms.workers as usize,
            has: suited
                .iter()
                .filter(|(_, record)| own(record))
                .map(|(worker, _)| *worker)
                .collect(),
            suited: suited.iter().map(|(worker, _)| *worker).collect(),
        }
    }
}

/// Whether an event may change how many workers jobs may have.
pub(super) fn shifts_workers(event: &Event) -> bool {
    match event {
        Event::Submitted(_)
        | Event::CancelRequested(_)
        | Event::ScaleRequested { .. }
        | Event::DrainRequested(_)
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
