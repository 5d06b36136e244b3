//! Forming: workers load the job, then connect to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use weft_common::id::{Epoch, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{
    self, Command, ErrorKind, FormEpoch, Membership, Prepare, Prepared, RejectReason,
};

use super::action::Notice;
use super::ballot::{Ballot, BallotVerdict};
use super::context::Context;
use super::ending;
use super::job::{JobEvent, JobState, RunData};
use super::loss::{AtLoss, Loss, Suspicion, member_lost};
use super::members::{MemberRecord, Members};
use super::outcome::{Compared, FailReason, JobOutcome, WorkerName};
use super::running::Running;
use super::terms::JobTerms;

/// A job that waits for its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Forming {
    data: Arc<RunData>,
    since: Timestamp,
    stage: Stage,
}

/// How far the members are.
#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// Workers load the job.
    Gathering {
        /// Those told to.
        asked: BTreeSet<WorkerId>,
        /// Those that have.
        ready: BTreeMap<WorkerId, Prepared>,
    },
    /// Members connect to each other.
    Connecting {
        /// The members to be.
        members: Members,
        /// Those that are connected.
        connected: BTreeSet<WorkerId>,
        /// Since when.
        since: Timestamp,
        /// A member's word that it cannot reach a peer.
        suspicion: Option<Suspicion>,
    },
}

/// Why a job waits. The log, the command line and the dashboard print the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// Workers are missing, or still load the job.
    Workers {
        /// Those ready.
        ready: u32,
        /// Those attached.
        attached: u32,
        /// Those that must be ready.
        needed: u32,
    },
    /// Members connect to each other.
    Connecting {
        /// Members.
        world: u32,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers {
                ready,
                attached,
                needed,
            } => write!(f, "{ready} of {needed} workers ready, {attached} attached"),
            Self::Connecting { world } => write!(f, "{world} workers connect to each other"),
        }
    }
}

impl Forming {
    /// Asks workers to load the job. A job whose steps are all committed already is over.
    pub(super) fn begin(terms: &JobTerms, data: Arc<RunData>, cx: &mut Context<'_>) -> JobState {
        cx.notify(Notice::Planned {
            dataset: data.dataset.clone(),
            total_steps: data.total_steps(),
            steps_per_epoch: data.planner.steps_per_epoch(),
            start: terms.start(),
        });
        if let Some(checkpoint) = finished(terms, &data) {
            let steps = data.total_steps();
            return ending::end(terms, JobOutcome::Succeeded { steps, checkpoint }, cx);
        }
        let forming = Self {
            data,
            since: cx.now,
            stage: Stage::Gathering {
                asked: BTreeSet::new(),
                ready: BTreeMap::new(),
            },
        };
        forming.gather(terms, cx)
    }

    pub(super) fn step(self, terms: &JobTerms, event: JobEvent, cx: &mut Context<'_>) -> JobState {
        match event {
            JobEvent::WorkerAttached(_) => self.gather(terms, cx),
            JobEvent::WorkerGone(loss) => self.worker_gone(terms, loss, cx),
            JobEvent::Reported(worker, report) => self.reported(terms, worker, report, cx),
            JobEvent::CancelRequested => ending::cancelled(terms, terms.resume.clone(), cx),
            JobEvent::Tick => self.tick(terms, cx),
            JobEvent::DataPrepared(_)
            | JobEvent::DataFailed(_)
            | JobEvent::LedgerDurable(_)
            | JobEvent::LedgerFailed(..) => JobState::Forming(self),
        }
    }

    /// Asks as many workers as the job wants, and says what it waits for.
    fn gather(mut self, terms: &JobTerms, cx: &mut Context<'_>) -> JobState {
        let Stage::Gathering { asked, ready } = &mut self.stage else {
            return JobState::Forming(self);
        };
        let free: Vec<WorkerId> = cx.fleet.attached().map(|(worker, _)| worker).collect();
        let attached = u32::try_from(free.len()).unwrap_or(u32::MAX);
        for worker in free {
            if asked.len() < terms.workers as usize && asked.insert(worker) {
                cx.send(worker, prepare(terms, &self.data, cx));
            }
        }
        cx.notify(Notice::Waiting(WaitReason::Workers {
            ready: u32::try_from(ready.len()).unwrap_or(u32::MAX),
            attached,
            needed: terms.workers,
        }));
        JobState::Forming(self)
    }

    fn worker_gone(mut self, terms: &JobTerms, loss: Loss, cx: &mut Context<'_>) -> JobState {
        match &mut self.stage {
            Stage::Gathering { asked, ready } => {
                asked.remove(&loss.worker);
                ready.remove(&loss.worker);
                self.gather(terms, cx)
            }
            Stage::Connecting { members, .. } if members.get(loss.worker).is_some() => {
                let at = AtLoss {
                    members,
                    step: terms.start(),
                    slot: None,
                    checkpoint: terms.resume.clone(),
                };
                member_lost(terms, loss, at, cx)
            }
            Stage::Connecting { .. } => JobState::Forming(self),
        }
    }

    fn reported(
        self,
        terms: &JobTerms,
        worker: WorkerId,
        report: wire::Event,
        cx: &mut Context<'_>,
    ) -> JobState {
        match report {
            wire::Event::Prepared(prepared) => self.prepared(terms, worker, prepared, cx),
            wire::Event::EpochReady(membership) => self.connected(terms, worker, &membership, cx),
            wire::Event::Failed(failed) if failed.membership.job == terms.id => {
                self.worker_failed(terms, worker, failed, cx)
            }
            wire::Event::Leave { reason } => {
                cx.send(worker, Command::Shutdown { reason });
                JobState::Forming(self)
            }
            report @ (wire::Event::SlotDone(_)
            | wire::Event::Reduced(_)
            | wire::Event::Applied(_)) => {
                ending::refuse(worker, report, RejectReason::Phase, cx);
                JobState::Forming(self)
            }
            wire::Event::Heartbeat(_)
            | wire::Event::Failed(_)
            | wire::Event::CheckpointWritten(_)
            | wire::Event::CheckpointFailed(_) => JobState::Forming(self),
        }
    }

    fn worker_failed(
        mut self,
        terms: &JobTerms,
        worker: WorkerId,
        failed: wire::WorkerFailed,
        cx: &mut Context<'_>,
    ) -> JobState {
        let reason = FailReason::WorkerFailed {
            worker: Box::new(self.name(worker, cx)),
            kind: failed.kind,
            message: failed.message,
        };
        match &mut self.stage {
            Stage::Connecting { suspicion, .. } if failed.kind == ErrorKind::Collective => {
                suspicion.get_or_insert_with(|| Suspicion::new(reason, cx.now));
                JobState::Forming(self)
            }
            Stage::Gathering { .. } | Stage::Connecting { .. } => {
                ending::fail(terms, reason, terms.resume.clone(), cx)
            }
        }
    }

    fn prepared(
        mut self,
        terms: &JobTerms,
        worker: WorkerId,
        prepared: Prepared,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Stage::Gathering { asked, ready } = &mut self.stage else {
            return JobState::Forming(self);
        };
        if prepared.membership != ending::unformed(terms, cx) || !asked.contains(&worker) {
            return JobState::Forming(self);
        }
        if prepared.next_step != terms.start() {
            let reason = FailReason::WrongStep {
                found: prepared.next_step,
                wanted: terms.start(),
                worker: Box::new(self.name(worker, cx)),
            };
            return ending::fail(terms, reason, terms.resume.clone(), cx);
        }
        ready.insert(worker, prepared);
        if ready.len() >= terms.workers as usize {
            self.connect(terms, cx)
        } else {
            self.gather(terms, cx)
        }
    }

    /// Makes members of those that are ready, once they agree on what they loaded.
    fn connect(self, terms: &JobTerms, cx: &mut Context<'_>) -> JobState {
        let Stage::Gathering { ready, .. } = self.stage else {
            return JobState::Forming(self);
        };
        let membership = Membership {
            epoch: Epoch(0).next(),
            ..ending::unformed(terms, cx)
        };
        let list = ready.into_iter().filter_map(|(worker, prepared)| {
            let record = cx.fleet.get(worker)?;
            Some(MemberRecord {
                name: record.name(worker, None),
                engine: prepared.engine,
                address: SocketAddr::new(record.ip, prepared.ring_port),
            })
        });
        let members = Members::new(membership, list.collect());
        if let Some(reason) = disagreement(terms, &members) {
            return ending::fail(terms, reason, terms.resume.clone(), cx);
        }
        let command = Command::FormEpoch(FormEpoch {
            membership: members.membership().clone(),
            members: members.introductions(),
            step: terms.start(),
        });
        cx.send_all(&members.ids(), &command);
        cx.notify(Notice::Waiting(WaitReason::Connecting {
            world: members.world_u32(),
        }));
        let stage = Stage::Connecting {
            members,
            connected: BTreeSet::new(),
            since: cx.now,
            suspicion: None,
        };
        JobState::Forming(Self { stage, ..self })
    }

    fn connected(
        mut self,
        terms: &JobTerms,
        worker: WorkerId,
        of: &Membership,
        cx: &mut Context<'_>,
    ) -> JobState {
        let Stage::Connecting {
            members, connected, ..
        } = &mut self.stage
        else {
            return JobState::Forming(self);
        };
        if members.fence(worker, of).is_ok() {
            connected.insert(worker);
        }
        if connected.len() < members.world() {
            return JobState::Forming(self);
        }
        let members = members.clone();
        Running::begin(terms, self.data, members, cx)
    }

    fn tick(self, terms: &JobTerms, cx: &mut Context<'_>) -> JobState {
        match &self.stage {
            Stage::Gathering { ready, .. } => {
                let waited = cx.now.since(self.since);
                if waited < terms.form_within {
                    return JobState::Forming(self);
                }
                if ready.len() >= (terms.min_workers as usize).max(1) {
                    return self.connect(terms, cx);
                }
                let reason = FailReason::NotEnoughWorkers {
                    needed: terms.min_workers,
                    ready: u32::try_from(ready.len()).unwrap_or(u32::MAX),
                    attached: u32::try_from(cx.fleet.attached().count()).unwrap_or(u32::MAX),
                    waited,
                };
                ending::fail(terms, reason, terms.resume.clone(), cx)
            }
            Stage::Connecting {
                members,
                connected,
                since,
                suspicion,
            } => {
                if let Some(reason) = suspicion.as_ref().and_then(|s| s.ripe(cx)) {
                    return ending::fail(terms, reason, terms.resume.clone(), cx);
                }
                let waited = cx.now.since(*since);
                let mut names = members.list().iter().map(|member| &member.name);
                match names.find(|name| !connected.contains(&name.worker)) {
                    Some(silent) if waited >= cx.limits.connect_within => {
                        let reason = FailReason::NotConnected {
                            silent: Box::new(silent.clone()),
                            waited,
                        };
                        ending::fail(terms, reason, terms.resume.clone(), cx)
                    }
                    Some(_) | None => JobState::Forming(self),
                }
            }
        }
    }

    fn name(&self, worker: WorkerId, cx: &Context<'_>) -> WorkerName {
        let member = match &self.stage {
            Stage::Gathering { .. } => None,
            Stage::Connecting { members, .. } => members.get(worker),
        };
        match (member, cx.fleet.get(worker)) {
            (Some(member), _) => member.name.clone(),
            (None, Some(record)) => record.name(worker, None),
            (None, None) => WorkerName {
                worker,
                host: "unknown".to_owned(),
                device: "unknown".to_owned(),
                rank: None,
            },
        }
    }

    /// Steps of the whole job.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.data.total_steps()
    }
}

fn finished(terms: &JobTerms, data: &RunData) -> Option<wire::CheckpointRef> {
    let resume = terms.resume.clone()?;
    (resume.next_step.0 >= data.total_steps()).then_some(resume)
}

fn prepare(terms: &JobTerms, data: &RunData, cx: &Context<'_>) -> Command {
    Command::Prepare(Prepare {
        membership: ending::unformed(terms, cx),
        recipe_json: terms.recipe_json.clone(),
        dataset: data.dataset.clone(),
        total_steps: data.total_steps(),
        resume: terms.resume.clone(),
    })
}

/// Members must hold the same base and start from the same state, or their gradients mean nothing to each other.
fn disagreement(terms: &JobTerms, members: &Members) -> Option<FailReason> {
    [Compared::Model, Compared::Start]
        .into_iter()
        .find_map(|what| {
            let mut ballot = Ballot::default();
            for member in members.list() {
                let digest = match what {
                    Compared::Model => member.engine.model_digest,
                    Compared::Start | Compared::Sum | Compared::State => member.engine.state_digest,
                };
                ballot.cast(member.name.worker, digest).ok()?;
            }
            match ballot.verdict(members.world()) {
                BallotVerdict::Split(odd) => Some(FailReason::Disagreement {
                    what,
                    step: terms.start(),
                    odd: members.names(&odd),
                }),
                BallotVerdict::Open | BallotVerdict::Unanimous(_) => None,
            }
        })
}
