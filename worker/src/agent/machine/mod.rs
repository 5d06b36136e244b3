//! The worker's state machine: what came in, what is to be done. No clock, no I/O.
//!
//! ```text
//! session:  Connecting ◄─► Open ─► Settling ─► Connecting            (over and over, until told to end)
//! job:      None ─► Fetching ─► Loading ─► Loaded ─► None             (outlives sessions)
//! loaded:   no member ◄─► member of an epoch, before a step, with micro-batches under way
//! ```
//!
//! A worker keeps its weights, optimizer and accumulator through everything but its own death. When its session ends it
//! settles: the running micro-batch finishes, everything else is dropped, and the training thread says exactly what
//! is held; that opens the next session. A worker that is told to stop asks to be let go and works on until the
//! coordinator answers.
//!
//! Commands of another job, term or epoch than the present one are dropped: their sender is not, or no longer, the one
//! that this worker works for.

mod action;
mod epoch;
mod input;
mod job;
mod loaded;
mod session;
mod work;

pub use action::{Action, Connect, Copy, Scope};
pub use input::{ConnectFailure, Input};

use tracing::warn;
use weft_common::id::{Epoch, Term};
use weft_common::wire::{Command, Event, Membership};

use self::job::Job;
use self::session::Link;
use super::exit::WorkerExit;
use super::order::Answer;

#[cfg(test)]
mod tests;

/// The worker's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    link: Link,
    job: Job,
    leaving: bool,
    /// Number of the next session.
    sessions: u32,
    /// The highest term heard of.
    newest_term: Term,
    /// Whether there ever was a session.
    attached: bool,
}

impl Machine {
    /// A worker that just started, and its first action.
    #[must_use]
    pub fn start() -> (Self, Vec<Action>) {
        let machine = Self {
            link: Link::first(),
            job: Job::None,
            leaving: false,
            sessions: 0,
            newest_term: Term(0),
            attached: false,
        };
        let actions = machine.connect();
        (machine, actions)
    }

    /// What follows from an input.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Connected { term } => self.connected(term),
            Input::ConnectFailed(failure) => self.connect_failed(failure),
            Input::SessionLost(why) => self.session_lost(why),
            Input::CoordinatorOverdue { waited } => self.coordinator_overdue(waited),
            Input::Command(command) => self.command(command),
            Input::Answer(answer) => self.answer(answer),
            Input::Dataset { job, found } => self.dataset(&job, found),
            Input::Copied {
                membership,
                source,
                found,
            } => self.copied(&membership, source, found),
            Input::StopRequested => self.stop(),
            Input::LeaveOverdue => exit(WorkerExit::Left),
            Input::ThreadLost => exit(WorkerExit::Broken {
                message: "the training thread ended".to_owned(),
            }),
        }
    }

    fn command(&mut self, command: Command) -> Vec<Action> {
        match command {
            Command::Prepare(prepare) => self.prepare(prepare),
            Command::FormEpoch(epoch) => self.form(epoch),
            Command::FetchState(fetch) => self.fetch_state(fetch),
            Command::Restore(restore) => self.restore(restore),
            Command::Lease(lease) => self.lease(lease),
            Command::Settle(settle) => self.settle(&settle),
            Command::Seal(round) => self.seal(round),
            Command::Commit(commit) => self.commit(commit),
            Command::TakeCheckpoint(take) => self.take_checkpoint(take),
            Command::Reject(reject) => {
                warn!(round = %reject.round, reason = %reject.reason, "the coordinator refused a report");
                Vec::new()
            }
            Command::EndJob(end) => self.end_job(&end),
            Command::Shutdown { reason } => {
                if self.leaving {
                    exit(WorkerExit::Left)
                } else {
                    exit(WorkerExit::Dismissed { reason })
                }
            }
        }
    }

    fn answer(&mut self, answer: Answer) -> Vec<Action> {
        match answer {
            Answer::Settled(holding) => self.settled(holding),
            Answer::Failed(failed) => self.failed(failed),
            Answer::Done(event) => match event {
                Event::Prepared(holding) => self.prepared(holding),
                Event::SlotDone(done) => self.slot_done(done),
                Event::Reduced(reduced) => self.reduced(reduced),
                Event::Applied(applied) => self.applied(applied),
                Event::CheckpointWritten(written) => {
                    let checkpoint = written.checkpoint.clone();
                    self.saved(&checkpoint, Event::CheckpointWritten(written))
                }
                Event::CheckpointFailed(failed) => {
                    let checkpoint = failed.checkpoint.clone();
                    self.saved(&checkpoint, Event::CheckpointFailed(failed))
                }
                Event::Failed(failed) => self.failed(failed),
                Event::Heartbeat(_) | Event::SyncFailed(_) | Event::Leave { .. } => Vec::new(),
            },
        }
    }

    fn stop(&mut self) -> Vec<Action> {
        if self.leaving {
            return Vec::new();
        }
        self.leaving = true;
        if self.term().is_none() {
            // There is nobody to ask.
            return exit(WorkerExit::Left);
        }
        vec![Action::Send(Event::Leave {
            reason: "the process was told to stop".to_owned(),
        })]
    }

    /// An event for the coordinator; what happened while there is no session is told by what is held afterwards.
    fn send(&self, event: Event) -> Vec<Action> {
        match self.term() {
            Some(_) => vec![Action::Send(event)],
            None => Vec::new(),
        }
    }
}

fn exit(exit: WorkerExit) -> Vec<Action> {
    vec![Action::Cancel(Scope::Job), Action::Exit(exit)]
}

fn unexpected(what: &str, membership: &Membership) -> Vec<Action> {
    warn!(%membership, what, "command does not fit this worker's state; dropped");
    Vec::new()
}

/// What memberships of one job are ordered by.
fn age(membership: &Membership) -> (Term, Epoch) {
    (membership.term, membership.epoch)
}
