//! The training thread: owns the engine and the collective, and does one order after another.

use std::any::Any;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use weft_common::id::{Step, WorkerId};
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::{
    AppliedReport, CheckpointFailed, CheckpointWritten, Event, FormEpoch, LeasedSlot, Membership,
    Prepared, ReducedReport, Round, SlotDone, TakeCheckpoint, Update, WorkerFailed,
};

use super::order::{Answer, Loading, Order};
use super::{Engine, EngineError, EngineFactory, ErrorKind, JobSetup, Snapshot, SnapshotMeta};
use crate::collective::{Cancel, Collective, Local, Ring, RingKey, RingListener, RingPlan};

/// Orders that may wait: the protocol has a commit, a checkpoint and two leases under way at most.
const ORDERS: usize = 64;

/// How long members may take to find each other.
const FORM_WITHIN: Duration = Duration::from_secs(20);

/// How long a connection may stand still inside an all-reduce. The control plane notices death long before.
const HOP_WITHIN: Duration = Duration::from_secs(30);

/// The training thread as others hold it. Dropping it ends the thread after the order in hand.
#[derive(Debug)]
pub(super) struct TrainingThread {
    orders: SyncSender<(Order, Cancel)>,
    /// Ends when the thread does.
    pub(super) handle: JoinHandle<()>,
}

impl TrainingThread {
    /// Starts the thread; its answers go to `answers`.
    pub(super) fn start(
        worker: WorkerId,
        factory: EngineFactory,
        listen_ip: IpAddr,
        answers: mpsc::Sender<Answer>,
    ) -> std::io::Result<Self> {
        let (orders, received) = sync_channel(ORDERS);
        let trainer = Training {
            worker,
            factory,
            listen_ip,
            answers,
            listener: None,
            job: None,
        };
        let handle = std::thread::Builder::new()
            .name("weft-train".to_owned())
            .spawn(move || trainer.run(&received))?;
        Ok(Self { orders, handle })
    }

    /// Queues an order of the job that `cancel` ends; false where the thread does not take it.
    pub(super) fn order(&self, order: Order, cancel: &Cancel) -> bool {
        self.orders.try_send((order, cancel.clone())).is_ok()
    }

    /// No more orders: the thread ends after the one in hand.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.handle
    }
}

struct Training {
    worker: WorkerId,
    factory: EngineFactory,
    listen_ip: IpAddr,
    answers: mpsc::Sender<Answer>,
    listener: Option<RingListener>,
    job: Option<Loaded>,
}

/// The job in hand.
struct Loaded {
    engine: Box<dyn Engine>,
    collective: Option<Box<dyn Collective>>,
    membership: Membership,
}

type Done = Result<Option<Event>, EngineError>;

impl Training {
    fn run(mut self, orders: &Receiver<(Order, Cancel)>) {
        while let Ok((order, cancel)) = orders.recv() {
            let membership = self.membership_of(&order);
            let done = catch_unwind(AssertUnwindSafe(|| self.perform(order, &cancel)));
            let done = done.unwrap_or_else(|panic| Err(panicked(&*panic)));
            let answer = match (done, membership) {
                (Ok(Some(event)), _) => Answer::Done(event),
                (Err(error), Some(membership)) if !cancel.is_cancelled() => {
                    Answer::Failed(WorkerFailed {
                        membership,
                        kind: error.kind,
                        message: error.message,
                    })
                }
                (Ok(None) | Err(_), _) => continue,
            };
            if self.answers.blocking_send(answer).is_err() {
                return;
            }
        }
    }

    fn membership_of(&self, order: &Order) -> Option<Membership> {
        match order {
            Order::Load(loading) => Some(loading.prepare.membership.clone()),
            Order::Join(epoch) => Some(epoch.membership.clone()),
            Order::Compute { round, .. } | Order::Reduce(round) | Order::Apply { round, .. } => {
                Some(round.membership.clone())
            }
            Order::Snapshot(take) => Some(take.membership.clone()),
            Order::DropAccumulator | Order::Unload => {
                self.job.as_ref().map(|job| job.membership.clone())
            }
        }
    }

    fn perform(&mut self, order: Order, cancel: &Cancel) -> Done {
        if let Order::Unload = order {
            self.job = None;
            return Ok(None);
        }
        if cancel.is_cancelled() {
            return Ok(None);
        }
        match order {
            Order::Load(loading) => self.load(&loading),
            Order::Join(epoch) => self.join(epoch, cancel),
            Order::Compute {
                round,
                step_supervised,
                slot,
            } => self.loaded()?.compute(round, step_supervised, &slot),
            Order::Reduce(round) => self.loaded()?.reduce(round, cancel),
            Order::Apply { round, update } => self.loaded()?.apply(round, update),
            Order::Snapshot(take) => {
                let answers = self.answers.clone();
                self.loaded()?.snapshot(take, answers)
            }
            Order::DropAccumulator => {
                self.loaded()?.engine.drop_accumulator();
                Ok(None)
            }
            Order::Unload => Ok(None),
        }
    }

    fn load(&mut self, loading: &Loading) -> Done {
        let prepare = &loading.prepare;
        let recipe = Recipe::parse(&prepare.recipe_json, Format::Json)
            .map_err(|errors| EngineError::new(ErrorKind::Recipe, errors))?;
        let setup = JobSetup {
            job: prepare.membership.job.clone(),
            recipe,
            dataset_dir: loading.dataset_dir.clone(),
            total_steps: prepare.total_steps,
        };
        let mut engine = (self.factory)(&setup)?;
        let next_step = match &prepare.resume {
            Some(checkpoint) => engine.restore(&checkpoint.dir)?,
            None => Step(0),
        };
        let listener = RingListener::bind(self.listen_ip)?;
        let event = Event::Prepared(Prepared {
            membership: prepare.membership.clone(),
            next_step,
            engine: engine.info(),
            ring_port: listener.address().port(),
        });
        self.listener = Some(listener);
        self.job = Some(Loaded {
            engine,
            collective: None,
            membership: prepare.membership.clone(),
        });
        Ok(Some(event))
    }

    fn join(&mut self, epoch: FormEpoch, cancel: &Cancel) -> Done {
        let collective = match &self.listener {
            Some(listener) if epoch.members.len() > 1 => {
                Box::new(Ring::form(listener, &self.ring_plan(&epoch)?, cancel)?)
                    as Box<dyn Collective>
            }
            Some(_) | None => Box::new(Local),
        };
        let job = self.loaded()?;
        job.collective = Some(collective);
        job.membership = epoch.membership.clone();
        Ok(Some(Event::EpochReady(epoch.membership)))
    }

    fn ring_plan(&self, epoch: &FormEpoch) -> Result<RingPlan, EngineError> {
        let member = epoch
            .members
            .iter()
            .find(|member| member.worker == self.worker);
        let member = member.ok_or_else(|| {
            internal(format!(
                "worker {} is no member of {}",
                self.worker, epoch.membership
            ))
        })?;
        Ok(RingPlan {
            key: RingKey {
                job: epoch.membership.job.clone(),
                epoch: epoch.membership.epoch,
            },
            members: epoch.members.iter().map(|member| member.address).collect(),
            rank: member.rank,
            form_within: FORM_WITHIN,
            hop_within: HOP_WITHIN,
        })
    }

    fn loaded(&mut self) -> Result<&mut Loaded, EngineError> {
        self.job
            .as_mut()
            .ok_or_else(|| internal("no job is loaded".to_owned()))
    }
}

impl Loaded {
    fn compute(&mut self, round: Round, step_supervised: u64, slot: &LeasedSlot) -> Done {
        let start = Instant::now();
        let outcome = self
            .engine
            .compute_slot(round.step, &slot.plan, step_supervised)?;
        Ok(Some(Event::SlotDone(SlotDone {
            round,
            slot: slot.plan.slot,
            lease: slot.lease,
            outcome,
            elapsed: start.elapsed(),
        })))
    }

    fn reduce(&mut self, round: Round, cancel: &Cancel) -> Done {
        let start = Instant::now();
        let collective = self
            .collective
            .as_mut()
            .ok_or_else(|| internal(format!("no peers in {round}")))?;
        let reduced = self.engine.reduce(&mut **collective, cancel)?;
        Ok(Some(Event::Reduced(ReducedReport {
            round,
            digest: reduced.digest,
            health: reduced.health,
            elapsed: start.elapsed(),
        })))
    }

    fn apply(&mut self, round: Round, update: Update) -> Done {
        let start = Instant::now();
        let applied = match update {
            Update::Apply => self.engine.apply(round.step)?,
            Update::Skip => self.engine.skip(round.step)?,
        };
        Ok(Some(Event::Applied(AppliedReport {
            round,
            grad_norm: applied.grad_norm,
            learning_rate: applied.learning_rate,
            state_digest: applied.state_digest,
            elapsed: start.elapsed(),
        })))
    }

    /// Training goes on as soon as the state is copied; a thread of its own writes it.
    fn snapshot(&mut self, take: TakeCheckpoint, answers: mpsc::Sender<Answer>) -> Done {
        let start = Instant::now();
        let meta = SnapshotMeta {
            membership: take.membership.clone(),
            next_step: take.checkpoint.next_step,
            world: take.world,
        };
        let snapshot = match self.engine.snapshot(&meta) {
            Ok(snapshot) => snapshot,
            Err(error) => return Ok(Some(Event::CheckpointFailed(unsaved(take, error)))),
        };
        std::thread::spawn(move || {
            // A worker that has ended waits for no answer.
            let _ = answers.blocking_send(Answer::Done(write(take, snapshot, start)));
        });
        Ok(None)
    }
}

fn write(take: TakeCheckpoint, snapshot: Box<dyn Snapshot>, start: Instant) -> Event {
    let dir = take.checkpoint.dir.clone();
    let written = catch_unwind(AssertUnwindSafe(|| snapshot.write(&dir)));
    match written.unwrap_or_else(|panic| Err(panicked(&*panic))) {
        Ok(files) => Event::CheckpointWritten(CheckpointWritten {
            membership: take.membership,
            checkpoint: take.checkpoint,
            bytes: files.bytes,
            elapsed: start.elapsed(),
        }),
        Err(error) => Event::CheckpointFailed(unsaved(take, error)),
    }
}

fn unsaved(take: TakeCheckpoint, error: EngineError) -> CheckpointFailed {
    CheckpointFailed {
        membership: take.membership,
        checkpoint: take.checkpoint,
        kind: error.kind,
        message: error.message,
    }
}

fn internal(message: String) -> EngineError {
    EngineError {
        kind: ErrorKind::Internal,
        message,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    internal(format!(
        "the engine panicked: {}",
        text.unwrap_or("no message")
    ))
}
