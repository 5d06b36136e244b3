//! What a transition may look at, and where its effects go.

use weft_common::id::{JobId, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{Command, Reject, RejectReason, Round};

use super::action::{Action, Notice};
use super::fleet::Fleet;
use super::lease::LeaseIds;
use super::terms::Limits;

/// What a transition may look at, and where its effects go.
pub struct Context<'a> {
    /// The moment of the event.
    pub now: Timestamp,
    /// This coordinator's incarnation.
    pub term: Term,
    /// Limits that all jobs share.
    pub limits: &'a Limits,
    /// The known workers.
    pub fleet: &'a mut Fleet,
    /// Gives lease ids.
    pub lease_ids: &'a mut LeaseIds,
    /// The job that is served.
    pub job: Option<JobId>,
    /// The effects so far.
    pub out: &'a mut Vec<Action>,
}

impl Context<'_> {
    /// Adds an effect.
    pub fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    /// Tells a worker.
    pub fn send(&mut self, to: WorkerId, command: Command) {
        self.act(Action::Send { to, command });
    }

    /// Tells several workers the same.
    pub fn send_all(&mut self, to: &[WorkerId], command: &Command) {
        for worker in to {
            self.send(*worker, command.clone());
        }
    }

    /// Tells people.
    pub fn notify(&mut self, notice: Notice) {
        let job = self.job.clone();
        self.act(Action::Notify { job, notice });
    }

    /// Ends a worker's session; its process is told why, where it still listens.
    pub fn dismiss(&mut self, worker: WorkerId, reason: &str) {
        let reason = reason.to_owned();
        self.send(worker, Command::Shutdown { reason });
        self.act(Action::Hangup(worker));
        self.fleet.remove(worker);
    }

    /// Refuses a worker's report.
    pub fn reject(&mut self, to: WorkerId, round: Round, reason: RejectReason) {
        self.send(to, Command::Reject(Reject { round, reason }));
    }
}
