//! The worker's state machine: what came in, what is to be done. No clock, no I/O.
//!
//! ```text
//! Standby ─► Preparing ─► Ready ─► Syncing ─► Member(epoch) ─┐
//!    ▲          └───────────┴─────────┴────────────┴─► job over
//!    └──────────────────────────────────────────────────────┘
//! ```
//!
//! A worker that is told to stop asks to be let go and works on until the coordinator answers: a member leaves at a
//! step boundary. Commands of another job, term or epoch than the present one are dropped: their sender is not, or no
//! longer, the one that this worker works for.

use tracing::warn;
use weft_common::id::{JobId, Step};
use weft_common::wire::{
    Command, Commit, DatasetRef, ErrorKind, Event, FormEpoch, Lease, Membership, Prepare, Reject,
    Round, TakeCheckpoint, WorkerFailed,
};

use super::exit::WorkerExit;
use super::order::{Answer, Loading, Order};

#[cfg(test)]
mod tests;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// The coordinator said something.
    Command(Command),
    /// The training thread answered.
    Answer(Answer),
    /// The job's dataset is on this host, or cannot be.
    Dataset {
        job: JobId,
        found: Result<std::path::PathBuf, String>,
    },
    /// The process was told to stop.
    StopRequested,
    /// A worker that asked to be let go has waited long enough.
    LeaveOverdue,
    /// The session ended.
    SessionLost(String),
    /// The training thread ended.
    ThreadLost,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Tell the coordinator.
    Send(Event),
    /// Bring the dataset to this host.
    Fetch { job: JobId, dataset: DatasetRef },
    /// Tell the training thread.
    Train(Order),
    /// End what the training thread waits for; orders of the job that are still queued are passed over.
    CancelJob,
    /// End the process.
    Exit(WorkerExit),
}

/// The worker's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    state: State,
    leaving: bool,
}

/// Where a worker stands with its job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No job.
    Standby,
    /// The dataset is on its way, or the engine is being made.
    Preparing(Box<Prepare>),
    /// Everything is loaded.
    Ready { job: Membership },
    /// Connecting to the peers.
    Syncing { membership: Membership, step: Step },
    /// Working on a step.
    Member { round: Round },
}

impl Machine {
    /// A worker whose session is open.
    pub(super) fn new() -> Self {
        Self {
            state: State::Standby,
            leaving: false,
        }
    }

    /// What follows from an input.
    pub(super) fn step(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Command(command) => self.command(command),
            Input::Answer(answer) => self.answer(answer),
            Input::Dataset { job, found } => self.dataset(&job, found),
            Input::StopRequested => self.stop(),
            Input::LeaveOverdue => exit(WorkerExit::Left),
            Input::SessionLost(_) if self.leaving => exit(WorkerExit::Left),
            Input::SessionLost(message) => exit(WorkerExit::CoordinatorLost { message }),
            Input::ThreadLost => exit(WorkerExit::Broken {
                message: "the training thread ended".to_owned(),
            }),
        }
    }

    fn command(&mut self, command: Command) -> Vec<Action> {
        match command {
            Command::Prepare(prepare) => self.prepare(prepare),
            Command::FormEpoch(epoch) => self.form(epoch),
            Command::Lease(lease) => self.lease(lease),
            Command::Seal(round) => self.seal(round),
            Command::Commit(commit) => self.commit(commit),
            Command::TakeCheckpoint(take) => self.take_checkpoint(take),
            Command::Reject(reject) => self.rejected(reject),
            Command::EndJob(end) => self.end_job(&end.membership.job, &end.outcome),
            Command::Shutdown { reason } => {
                if self.leaving {
                    exit(WorkerExit::Left)
                } else {
                    exit(WorkerExit::Dismissed { reason })
                }
            }
        }
    }

    fn prepare(&mut self, prepare: Prepare) -> Vec<Action> {
        if self.state != State::Standby || self.leaving {
            return unexpected("prepare", &prepare.membership);
        }
        let action = Action::Fetch {
            job: prepare.membership.job.clone(),
            dataset: prepare.dataset.clone(),
        };
        self.state = State::Preparing(Box::new(prepare));
        vec![action]
    }

    fn dataset(&mut self, job: &JobId, found: Result<std::path::PathBuf, String>) -> Vec<Action> {
        let State::Preparing(prepare) = &self.state else {
            return Vec::new();
        };
        if &prepare.membership.job != job {
            return Vec::new();
        }
        match found {
            Ok(dataset_dir) => vec![Action::Train(Order::Load(Box::new(Loading {
                prepare: (**prepare).clone(),
                dataset_dir,
            })))],
            Err(message) => vec![Action::Send(Event::Failed(WorkerFailed {
                membership: prepare.membership.clone(),
                kind: ErrorKind::Data,
                message,
            }))],
        }
    }

    fn form(&mut self, epoch: FormEpoch) -> Vec<Action> {
        match &self.state {
            State::Ready { job } if job.job == epoch.membership.job => {
                self.state = State::Syncing {
                    membership: epoch.membership.clone(),
                    step: epoch.step,
                };
                vec![Action::Train(Order::Join(epoch))]
            }
            State::Standby
            | State::Preparing(_)
            | State::Ready { .. }
            | State::Syncing { .. }
            | State::Member { .. } => unexpected("form epoch", &epoch.membership),
        }
    }

    fn lease(&mut self, lease: Lease) -> Vec<Action> {
        if self.current() != Some(&lease.round) {
            return unexpected("lease", &lease.round.membership);
        }
        compute(lease)
    }

    fn seal(&mut self, round: Round) -> Vec<Action> {
        if self.current() != Some(&round) {
            return unexpected("seal", &round.membership);
        }
        vec![Action::Train(Order::Reduce(round))]
    }

    fn commit(&mut self, commit: Commit) -> Vec<Action> {
        if self.current() != Some(&commit.round) {
            return unexpected("commit", &commit.round.membership);
        }
        let mut actions = vec![Action::Train(Order::Apply {
            round: commit.round.clone(),
            update: commit.update,
        })];
        let round = commit.round.membership.round(commit.round.step.next());
        self.state = State::Member {
            round: round.clone(),
        };
        if let Some(next) = commit.next.filter(|next| next.round == round) {
            actions.extend(compute(next));
        }
        actions
    }

    fn take_checkpoint(&mut self, take: TakeCheckpoint) -> Vec<Action> {
        let asked = take.membership.round(take.checkpoint.next_step);
        if self.current() != Some(&asked) {
            return unexpected("take checkpoint", &take.membership);
        }
        vec![Action::Train(Order::Snapshot(take))]
    }

    /// A refused report of the round in hand means that this worker's accumulator holds what the coordinator does not
    /// count. It is dropped, and since the step then lacks this worker's slots, the job is told.
    fn rejected(&mut self, reject: Reject) -> Vec<Action> {
        if self.current() != Some(&reject.round) {
            return Vec::new();
        }
        let failed = WorkerFailed {
            kind: ErrorKind::Internal,
            message: format!("report of {} refused: {}", reject.round, reject.reason),
            membership: reject.round.membership,
        };
        vec![
            Action::Train(Order::DropAccumulator),
            Action::Send(Event::Failed(failed)),
        ]
    }

    fn end_job(&mut self, job: &JobId, outcome: &str) -> Vec<Action> {
        if self.job() != Some(job) {
            return self.gone_if_leaving(Vec::new());
        }
        tracing::info!(%job, outcome, "job over");
        self.state = State::Standby;
        self.gone_if_leaving(vec![Action::CancelJob, Action::Train(Order::Unload)])
    }

    fn gone_if_leaving(&self, mut actions: Vec<Action>) -> Vec<Action> {
        if self.leaving {
            actions.push(Action::Exit(WorkerExit::Left));
        }
        actions
    }

    /// Answers of a job that is over are dropped.
    fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let job = answer.membership().map(|membership| &membership.job);
        if job.is_none() || job != self.job() {
            return Vec::new();
        }
        match answer {
            Answer::Failed(failed) => vec![Action::Send(Event::Failed(failed))],
            Answer::Done(event) => {
                self.advance(&event);
                vec![Action::Send(event)]
            }
        }
    }

    fn advance(&mut self, event: &Event) {
        match (event, &self.state) {
            (Event::Prepared(prepared), State::Preparing(_)) => {
                self.state = State::Ready {
                    job: prepared.membership.clone(),
                };
            }
            (Event::EpochReady(ready), State::Syncing { membership, step })
                if ready == membership =>
            {
                self.state = State::Member {
                    round: membership.round(*step),
                };
            }
            (
                Event::Prepared(_)
                | Event::EpochReady(_)
                | Event::Heartbeat(_)
                | Event::SlotDone(_)
                | Event::Reduced(_)
                | Event::Applied(_)
                | Event::CheckpointWritten(_)
                | Event::CheckpointFailed(_)
                | Event::Failed(_)
                | Event::Leave { .. },
                _,
            ) => {}
        }
    }

    fn stop(&mut self) -> Vec<Action> {
        if self.leaving {
            return Vec::new();
        }
        self.leaving = true;
        vec![Action::Send(Event::Leave {
            reason: "the process was told to stop".to_owned(),
        })]
    }

    /// The round in hand, for a member.
    fn current(&self) -> Option<&Round> {
        match &self.state {
            State::Member { round } => Some(round),
            State::Standby | State::Preparing(_) | State::Ready { .. } | State::Syncing { .. } => {
                None
            }
        }
    }

    fn job(&self) -> Option<&JobId> {
        match &self.state {
            State::Standby => None,
            State::Preparing(prepare) => Some(&prepare.membership.job),
            State::Ready { job } => Some(&job.job),
            State::Syncing { membership, .. } => Some(&membership.job),
            State::Member { round } => Some(&round.membership.job),
        }
    }
}

fn exit(exit: WorkerExit) -> Vec<Action> {
    vec![Action::CancelJob, Action::Exit(exit)]
}

fn compute(lease: Lease) -> Vec<Action> {
    let (round, step_supervised) = (lease.round, lease.step_supervised);
    let order = |slot| {
        Action::Train(Order::Compute {
            round: round.clone(),
            step_supervised,
            slot,
        })
    };
    lease.slots.into_iter().map(order).collect()
}

fn unexpected(what: &str, membership: &Membership) -> Vec<Action> {
    warn!(%membership, what, "command does not fit this worker's state; dropped");
    Vec::new()
}
