//! The job in hand: its engine, and the books of what its accumulator holds.

use std::path::Path;
use std::time::Instant;

use weft_common::failpoint;
use weft_common::id::{JobId, LeaseId, Step, WorkerId};
use weft_common::wire::{
    AppliedReport, Event, FormEpoch, HeldSlot, HeldSum, Holding, LeasedSlot, Membership,
    ReducedReport, Round, SlotDone, Update,
};

use super::failure::{Failure, internal};
use super::peers::Peers;
use super::suspect::Watched;
use super::{Done, Shared};
use crate::agent::order::{Answer, StateCopy};
use crate::agent::{Engine, EngineError, JobSetup, SnapshotMeta};
use crate::collective::{Cancel, RingListener};

/// A loaded job. `slots`, `staged` and `sum` say exactly what is in the engine.
pub(super) struct Loaded {
    setup: JobSetup,
    /// Ends before the engine, whose stream it may hold up: fields drop in order.
    peers: Option<Peers>,
    pub(super) engine: Box<dyn Engine>,
    /// The newest membership heard of.
    newest: Membership,
    /// The step that the state stands before.
    next_step: Step,
    /// Members of the last epoch.
    world: u32,
    slots: Vec<HeldSlot>,
    staged: Option<(LeaseId, HeldSlot)>,
    sum: Option<HeldSum>,
}

impl Loaded {
    pub(super) fn new(
        setup: JobSetup,
        engine: Box<dyn Engine>,
        newest: Membership,
        next_step: Step,
    ) -> Self {
        Self {
            setup,
            engine,
            newest,
            next_step,
            peers: None,
            world: 1,
            slots: Vec::new(),
            staged: None,
            sum: None,
        }
    }

    pub(super) fn job(&self) -> &JobId {
        &self.setup.job
    }

    pub(super) fn setup(&self) -> &JobSetup {
        &self.setup
    }

    pub(super) fn newest(&self) -> &Membership {
        &self.newest
    }

    pub(super) fn hear(&mut self, membership: &Membership) {
        let age = |membership: &Membership| (membership.term, membership.epoch);
        if age(membership) > age(&self.newest) {
            self.newest = membership.clone();
        }
    }

    /// Whether the state is the initial one.
    pub(super) fn is_new(&self) -> bool {
        self.next_step == Step(0)
    }

    pub(super) fn holding(&self, ring_port: u16, peer_port: u16) -> Holding {
        Holding {
            membership: self.newest.clone(),
            next_step: self.next_step,
            engine: self.engine.info(),
            ring_port,
            peer_port,
            slots: self.slots.clone(),
            sum: self.sum,
        }
    }

    pub(super) fn join(&mut self, epoch: FormEpoch, worker: WorkerId) -> Done {
        failpoint::hit("joined");
        self.hear(&epoch.membership);
        self.world = u32::try_from(epoch.members.len()).unwrap_or(u32::MAX);
        if !epoch.keep {
            self.drop_accumulator();
        }
        // The connections of the epoch before end first.
        self.leave_epoch();
        self.peers = Some(Peers::of(epoch, worker)?);
        Ok(None)
    }

    /// Hangs up on the peers.
    pub(super) fn leave_epoch(&mut self) {
        self.peers = None;
    }

    pub(super) fn compute(
        &mut self,
        round: Round,
        step_supervised: u64,
        slot: &LeasedSlot,
        abandon: &Cancel,
    ) -> Done {
        self.expect(&round)?;
        failpoint::hit("leased");
        let start = Instant::now();
        let computed = if slot.staged {
            self.compute_staged(step_supervised, slot, abandon)?
        } else {
            Some(self.compute_direct(step_supervised, slot)?)
        };
        let Some(held) = computed else {
            return Ok(None);
        };
        failpoint::hit("computed");
        Ok(Some(Answer::Done(Event::SlotDone(SlotDone {
            round,
            slot: held.slot,
            lease: slot.lease,
            outcome: held.outcome,
            elapsed: start.elapsed(),
        }))))
    }

    fn compute_direct(
        &mut self,
        step_supervised: u64,
        slot: &LeasedSlot,
    ) -> Result<HeldSlot, EngineError> {
        self.sum = None;
        let computed = self
            .engine
            .compute_slot(self.next_step, &slot.plan, step_supervised);
        let outcome = computed.inspect_err(|_| {
            // A part of the slot may be in it.
            self.engine.drop_accumulator();
            self.slots.clear();
        })?;
        let held = HeldSlot {
            slot: slot.plan.slot,
            outcome,
        };
        self.slots.push(held);
        Ok(held)
    }

    fn compute_staged(
        &mut self,
        step_supervised: u64,
        slot: &LeasedSlot,
        abandon: &Cancel,
    ) -> Result<Option<HeldSlot>, EngineError> {
        self.staged = None;
        let outcome =
            self.engine
                .compute_staged(self.next_step, &slot.plan, step_supervised, abandon)?;
        let held = outcome.map(|outcome| HeldSlot {
            slot: slot.plan.slot,
            outcome,
        });
        self.staged = held.map(|held| (slot.lease, held));
        Ok(held)
    }

    pub(super) fn merge(&mut self, round: &Round, lease: LeaseId) -> Done {
        self.expect(round)?;
        match self.staged {
            Some((staged, held)) if staged == lease => {
                self.sum = None;
                self.engine.merge_staged()?;
                self.staged = None;
                self.slots.push(held);
                Ok(None)
            }
            Some(_) | None => Err(internal(format!("grant {lease} is not staged")).into()),
        }
    }

    pub(super) fn discard(&mut self, lease: LeaseId) {
        if self.staged.is_some_and(|(staged, _)| staged == lease) {
            self.discard_staged();
        }
    }

    pub(super) fn discard_staged(&mut self) {
        self.engine.discard_staged();
        self.staged = None;
    }

    /// Forgets all gradients of the step in hand.
    pub(super) fn drop_accumulator(&mut self) {
        self.engine.drop_accumulator();
        self.slots.clear();
        self.sum = None;
        self.discard_staged();
    }

    /// The accumulator stays, whatever becomes of this.
    pub(super) fn reduce(
        &mut self,
        round: Round,
        listener: &RingListener,
        cancel: &Cancel,
    ) -> Done {
        self.expect(&round)?;
        failpoint::hit("sealed");
        let start = Instant::now();
        self.sum = None;
        let peers = self.peers.as_mut();
        let peers = peers.filter(|peers| *peers.membership() == round.membership);
        let peers = peers.ok_or_else(|| internal(format!("no peers in {round}")))?;
        let gpu = self.engine.gpu_link();
        let (error, suspect) = match peers.connect(listener, gpu.as_ref(), cancel) {
            Ok(collective) => {
                let mut watched = Watched::new(collective);
                match self.engine.reduce(&mut watched, cancel) {
                    Ok(reduced) => {
                        let (digest, health) = (reduced.digest, reduced.health);
                        self.sum = Some(HeldSum { digest, health });
                        failpoint::hit("reduced");
                        return Ok(Some(Answer::Done(Event::Reduced(ReducedReport {
                            round,
                            digest,
                            part: reduced.part,
                            health,
                            elapsed: start.elapsed(),
                        }))));
                    }
                    Err(error) => (error, watched.suspect),
                }
            }
            Err(error) => {
                let suspect = error.suspect();
                (error.into(), suspect)
            }
        };
        peers.disconnect();
        let suspect = suspect.and_then(|rank| peers.member(rank));
        Err(Failure { error, suspect })
    }

    /// Whether a step can be applied: it is the one in hand, and its sum is there.
    pub(super) fn expect_sum(&self, round: &Round, update: Update) -> Result<(), EngineError> {
        self.expect(round)?;
        match (update, self.sum) {
            (Update::Apply, None) => Err(internal(format!(
                "{round} was to be applied, but its sum is not there"
            ))),
            (Update::Apply, Some(_)) | (Update::Skip, _) => Ok(()),
        }
    }

    /// # Errors
    /// The state is undefined afterwards.
    pub(super) fn apply(&mut self, round: Round, update: Update) -> Done {
        failpoint::hit("committed");
        let start = Instant::now();
        let applied = match update {
            Update::Apply => self.engine.apply(round.step)?,
            Update::Skip => self.engine.skip(round.step)?,
        };
        self.next_step = round.step.next();
        self.slots.clear();
        self.staged = None;
        self.sum = None;
        failpoint::hit("applied");
        Ok(Some(Answer::Done(Event::Applied(AppliedReport {
            round,
            grad_norm: applied.grad_norm,
            learning_rate: applied.learning_rate,
            state_digest: applied.state_digest,
            elapsed: start.elapsed(),
        }))))
    }

    /// Everything is as it was where this fails.
    pub(super) fn restore(&mut self, dir: &Path) -> Result<(), EngineError> {
        self.next_step = self.engine.restore(dir)?;
        self.hold_nothing();
        Ok(())
    }

    /// Takes over a peer's state. Everything is as it was where this fails.
    pub(super) fn adopt(&mut self, copy: &StateCopy) -> Result<(), EngineError> {
        self.next_step = self.engine.adopt(copy)?;
        self.hold_nothing();
        Ok(())
    }

    fn hold_nothing(&mut self) {
        self.slots.clear();
        self.staged = None;
        self.sum = None;
    }

    /// The state as it is now, for a peer.
    pub(super) fn share(&mut self) -> Shared {
        self.engine.snapshot(&SnapshotMeta {
            membership: self.newest.clone(),
            next_step: self.next_step,
            world: self.world,
        })
    }

    fn expect(&self, round: &Round) -> Result<(), EngineError> {
        if round.step == self.next_step {
            return Ok(());
        }
        Err(internal(format!(
            "{round} was asked for, but the state is before step {}",
            self.next_step
        )))
    }
}
