//! A job is fetched, loaded and ended.

use std::path::PathBuf;

use weft_common::id::JobId;
use weft_common::wire::{EndJob, ErrorKind, Event, Holding, Prepare, WorkerFailed};

use super::loaded::Loaded;
use super::{Action, Machine, Scope, age, unexpected};
use crate::agent::exit::WorkerExit;
use crate::agent::order::{Loading, Order};

/// Where a worker stands with its job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    /// There is none.
    None,
    /// The dataset is on its way.
    Fetching {
        prepare: Box<Prepare>,
        /// Whether the session in hand asked for it.
        asked: bool,
        /// Number of the session after the one that it is fetched through.
        session: u32,
    },
    /// The engine is being made.
    Loading {
        prepare: Box<Prepare>,
        /// Whether the session in hand asked for it.
        asked: bool,
    },
    /// Everything is loaded.
    Loaded(Box<Loaded>),
}

impl Machine {
    pub(super) fn prepare(&mut self, prepare: Prepare) -> Vec<Action> {
        let membership = &prepare.membership;
        if self.leaving || self.term() != Some(membership.term) {
            return unexpected("prepare", membership);
        }
        if self.job_id() != Some(&membership.job) {
            let mut actions = self.unload();
            actions.extend(self.fetch(prepare));
            return actions;
        }
        match &mut self.job {
            Job::None => Vec::new(),
            Job::Fetching {
                prepare: known,
                asked,
                ..
            }
            | Job::Loading {
                prepare: known,
                asked,
            } => {
                known.membership = prepare.membership;
                *asked = true;
                Vec::new()
            }
            Job::Loaded(loaded) => {
                loaded.hear(membership);
                vec![Action::Train(Order::Describe(loaded.newest.clone()))]
            }
        }
    }

    fn fetch(&mut self, prepare: Prepare) -> Vec<Action> {
        let action = Action::Fetch {
            job: prepare.membership.job.clone(),
            dataset: prepare.dataset.clone(),
        };
        self.job = Job::Fetching {
            prepare: Box::new(prepare),
            asked: true,
            session: self.sessions,
        };
        vec![action]
    }

    /// A dataset that was to come through a session that has ended since is asked for again: by the coordinator, or
    /// here where it has done so already.
    pub(super) fn dataset(&mut self, job: &JobId, found: Result<PathBuf, String>) -> Vec<Action> {
        let Job::Fetching {
            prepare,
            asked,
            session,
        } = &self.job
        else {
            return Vec::new();
        };
        if &prepare.membership.job != job {
            return Vec::new();
        }
        let (prepare, asked) = (prepare.clone(), *asked);
        let same_session = *session == self.sessions;
        match found {
            Ok(dataset_dir) => {
                self.job = Job::Loading {
                    asked,
                    prepare: prepare.clone(),
                };
                vec![Action::Train(Order::Load(Box::new(Loading {
                    prepare: *prepare,
                    dataset_dir,
                })))]
            }
            Err(_) if asked && !same_session => self.fetch(*prepare),
            Err(_) if !asked => {
                self.job = Job::None;
                Vec::new()
            }
            Err(message) => {
                self.job = Job::None;
                self.send(Event::Failed(WorkerFailed {
                    membership: prepare.membership,
                    kind: ErrorKind::Data,
                    message,
                    suspect: None,
                }))
            }
        }
    }

    /// The training thread has loaded the job, gone back to a checkpoint or taken over a peer's state.
    pub(super) fn prepared(&mut self, holding: Holding) -> Vec<Action> {
        if self.job_id() != Some(&holding.membership.job) {
            return Vec::new();
        }
        let (membership, asked) = match &mut self.job {
            Job::None | Job::Fetching { .. } => return Vec::new(),
            Job::Loading { prepare, asked } => (prepare.membership.clone(), *asked),
            Job::Loaded(loaded) => {
                if loaded.moved() {
                    return Vec::new();
                }
                loaded.stands(&holding);
                return self.send(Event::Prepared(holding));
            }
        };
        self.job = Job::Loaded(Box::new(Loaded::new(membership.clone(), &holding)));
        if !asked {
            return Vec::new();
        }
        self.send(Event::Prepared(Holding {
            membership,
            ..holding
        }))
    }

    pub(super) fn failed(&mut self, failed: WorkerFailed) -> Vec<Action> {
        if self.job_id() != Some(&failed.membership.job) {
            return Vec::new();
        }
        match &mut self.job {
            Job::None | Job::Fetching { .. } => Vec::new(),
            Job::Loading { prepare, asked } => {
                let (membership, asked) = (prepare.membership.clone(), *asked);
                self.job = Job::None;
                if !asked {
                    return Vec::new();
                }
                self.send(Event::Failed(WorkerFailed {
                    membership,
                    ..failed
                }))
            }
            Job::Loaded(loaded) => {
                loaded.moved();
                let of_the_past = loaded
                    .member
                    .as_ref()
                    .is_some_and(|member| age(&failed.membership) < age(member));
                if failed.kind == ErrorKind::Collective && of_the_past {
                    return Vec::new();
                }
                self.send(Event::Failed(failed))
            }
        }
    }

    pub(super) fn end_job(&mut self, end: &EndJob) -> Vec<Action> {
        let job = &end.membership.job;
        let mut actions = Vec::new();
        if self.term() != Some(end.membership.term) {
            return unexpected("end job", &end.membership);
        }
        if self.job_id() == Some(job) {
            tracing::info!(%job, outcome = end.outcome, "job over");
            actions = self.unload();
        }
        if self.leaving {
            actions.push(Action::Exit(WorkerExit::Left));
        }
        actions
    }

    fn unload(&mut self) -> Vec<Action> {
        match std::mem::replace(&mut self.job, Job::None) {
            Job::None => Vec::new(),
            Job::Fetching { .. } | Job::Loading { .. } | Job::Loaded(_) => {
                vec![Action::Cancel(Scope::Job), Action::Train(Order::Unload)]
            }
        }
    }

    fn job_id(&self) -> Option<&JobId> {
        match &self.job {
            Job::None => None,
            Job::Fetching { prepare, .. } | Job::Loading { prepare, .. } => {
                Some(&prepare.membership.job)
            }
            Job::Loaded(loaded) => Some(&loaded.newest.job),
        }
    }
}
