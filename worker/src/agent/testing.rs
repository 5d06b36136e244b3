//! An engine of four numbers for the agent's tests, and the words of a job to drive it with.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weft_common::id::{Digest, Epoch, LeaseId, SlotId, Step, Term, WorkerId};
use weft_common::plan::SlotPlan;
use weft_common::wire::{DatasetRef, FormEpoch, LeasedSlot, Member, Membership, Prepare, Round};

use super::{
    Applied, Engine, EngineError, EngineFactory, EngineInfo, ErrorKind, MemoryReport, Reduced,
    SlotOutcome, Snapshot, SnapshotFiles, SnapshotMeta, StateCopy, SumHealth,
};
use crate::collective::{Cancel, Collective};

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Far more than any of these tests takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of the adapter, after the one that counts steps.
const PARAMS: usize = 4;

/// Lets a test stop an engine in the middle of a micro-batch.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    entered: Sender<SlotId>,
    opened: Arc<Mutex<Receiver<()>>>,
}

/// The test's side of a [`Gate`].
#[derive(Debug)]
pub(super) struct Keeper {
    /// Micro-batches that have begun.
    pub(super) entered: Receiver<SlotId>,
    /// Lets one of them end; dropped, it lets all.
    pub(super) open: Sender<()>,
}

impl Gate {
    pub(super) fn new() -> (Self, Keeper) {
        let (entered, heard) = channel();
        let (open, opened) = channel();
        let opened = Arc::new(Mutex::new(opened));
        let keeper = Keeper {
            entered: heard,
            open,
        };
        (Self { entered, opened }, keeper)
    }

    fn pass(&self, slot: SlotId, cancel: &Cancel) {
        let _ = self.entered.send(slot);
        let opened = self.opened.lock().unwrap();
        while !cancel.is_cancelled() {
            match opened.recv_timeout(Duration::from_millis(1)) {
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Makes fake engines; those with a gate wait there in every micro-batch.
pub(super) fn factory(gate: Option<Gate>) -> EngineFactory {
    Box::new(move |_| {
        Ok(Box::new(FakeEngine {
            gate: gate.clone(),
            state: vec![0; PARAMS + 1],
            accumulator: vec![0; PARAMS],
            staged: None,
            sum: None,
        }))
    })
}

struct FakeEngine {
    gate: Option<Gate>,
    /// The adapter, then the next step.
    state: Vec<i64>,
    accumulator: Vec<i64>,
    staged: Option<Vec<i64>>,
    sum: Option<Vec<i64>>,
}

fn bytes_of(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn gradient(step: Step, slot: SlotId) -> Vec<i64> {
    let value = |index: usize| (i64::from(slot.0) + 1) * (index as i64 + 1) + step.0 as i64;
    (0..PARAMS).map(value).collect()
}

fn add(sums: &mut [i64], terms: &[i64]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// What a micro-batch comes to.
pub(super) fn outcome(step: Step, plan: &SlotPlan) -> SlotOutcome {
    SlotOutcome {
        loss_sum: 0.5,
        supervised: plan.supervised_tokens,
        tokens: plan.tokens,
        digest: Digest::of(&bytes_of(&gradient(step, plan.slot))),
    }
}

/// The digest of the sum of these micro-batches.
pub(super) fn sum_of(step: u64, slots: &[u32]) -> Digest {
    let mut sum = vec![0; PARAMS];
    for slot in slots {
        add(&mut sum, &gradient(Step(step), SlotId(*slot)));
    }
    Digest::of(&bytes_of(&sum))
}

fn invalid(message: &str) -> EngineError {
    EngineError {
        kind: ErrorKind::Internal,
        message: message.to_owned(),
    }
}

impl FakeEngine {
    fn take(&mut self, bytes: &[u8]) -> Step {
        let values = bytes.chunks_exact(8);
        let values = values.map(|value| i64::from_le_bytes(value.try_into().unwrap()));
        self.state = values.collect();
        self.drop_accumulator();
        self.staged = None;
        Step(self.state[PARAMS] as u64)
    }

    fn applied(&mut self, step: Step) -> Applied {
        self.state[PARAMS] = step.next().0 as i64;
        self.drop_accumulator();
        self.staged = None;
        Applied {
            grad_norm: 1.0,
            learning_rate: 1.0,
            state_digest: self.info().state_digest,
        }
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            device: "fake".to_owned(),
            adapter_params: PARAMS as u64,
            base_params: 0,
            model_digest: Digest::of(b"fake"),
            state_digest: Digest::of(&bytes_of(&self.state)),
            scales_loss: false,
            memory: MemoryReport::default(),
        }
    }

    fn compute_slot(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        _: u64,
    ) -> Result<SlotOutcome, EngineError> {
        if slot.rows.is_empty() {
            add(&mut self.accumulator, &[99; PARAMS]);
            return Err(invalid("a slot without rows"));
        }
        if let Some(gate) = &self.gate {
            gate.pass(slot.slot, &Cancel::new());
        }
        self.sum = None;
        add(&mut self.accumulator, &gradient(step, slot.slot));
        Ok(outcome(step, slot))
    }

    fn compute_staged(
        &mut self,
        step: Step,
        slot: &SlotPlan,
        _: u64,
        cancel: &Cancel,
    ) -> Result<Option<SlotOutcome>, EngineError> {
        self.staged = None;
        if let Some(gate) = &self.gate {
            gate.pass(slot.slot, cancel);
        }
        if cancel.is_cancelled() {
            return Ok(None);
        }
        self.staged = Some(gradient(step, slot.slot));
        Ok(Some(outcome(step, slot)))
    }

    fn merge_staged(&mut self) -> Result<(), EngineError> {
        self.sum = None;
        let staged = self.staged.take();
        add(
            &mut self.accumulator,
            &staged.ok_or_else(|| invalid("nothing is staged"))?,
        );
        Ok(())
    }

    fn discard_staged(&mut self) {
        self.staged = None;
    }

    fn reduce(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Reduced, EngineError> {
        let mut sum = self.accumulator.clone();
        collective.all_reduce_sum(&mut sum, cancel)?;
        let digest = Digest::of(&bytes_of(&sum));
        let part = Digest::of(&bytes_of(&self.accumulator));
        self.sum = Some(sum);
        Ok(Reduced {
            digest,
            part,
            health: SumHealth::Finite,
        })
    }

    fn apply(&mut self, step: Step) -> Result<Applied, EngineError> {
        let sum = self.sum.take().ok_or_else(|| invalid("no sum"))?;
        add(&mut self.state, &sum);
        Ok(self.applied(step))
    }

    fn skip(&mut self, step: Step) -> Result<Applied, EngineError> {
        Ok(self.applied(step))
    }

    fn drop_accumulator(&mut self) {
        self.accumulator.fill(0);
        self.sum = None;
    }

    fn snapshot(&mut self, meta: &SnapshotMeta) -> Result<Box<dyn Snapshot>, EngineError> {
        let text = format!("{} {} {}", meta.membership, meta.next_step, meta.world);
        Ok(Box::new(FakeSnapshot(bytes_of(&self.state), text)))
    }

    fn restore(&mut self, dir: &Path) -> Result<Step, EngineError> {
        let damaged = |error| EngineError::new(ErrorKind::Checkpoint, error);
        fs::metadata(dir.join("MANIFEST.json")).map_err(damaged)?;
        let bytes = fs::read(dir.join("state")).map_err(damaged)?;
        Ok(self.take(&bytes))
    }

    fn adopt(&mut self, copy: &StateCopy) -> Result<Step, EngineError> {
        if copy.arrays().len() != size_of_val(&self.state[..]) {
            return Err(EngineError::new(
                ErrorKind::Checkpoint,
                std::io::Error::other("too short"),
            ));
        }
        Ok(self.take(copy.arrays()))
    }
}

struct FakeSnapshot(Vec<u8>, String);

impl Snapshot for FakeSnapshot {
    fn header(&self) -> Result<Vec<u8>, EngineError> {
        Ok(self.1.clone().into_bytes())
    }

    fn arrays(&self) -> Vec<&[u8]> {
        // Arrays may be empty, and of any length.
        let (head, tail) = self.0.split_at(5);
        vec![head, &[], tail]
    }

    fn write(self: Box<Self>, dir: &Path) -> Result<SnapshotFiles, EngineError> {
        let failed = |error| EngineError::new(ErrorKind::Storage, error);
        fs::create_dir_all(dir).map_err(failed)?;
        let files: [(&str, &[u8]); 3] = [
            ("empty", b""),
            ("state", &self.0),
            ("MANIFEST.json", self.1.as_bytes()),
        ];
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).map_err(failed)?;
        }
        Ok(SnapshotFiles {
            bytes: self.0.len() as u64,
        })
    }
}

pub(super) fn membership(term: u64, epoch: u64) -> Membership {
    Membership {
        job: "job-1".parse().unwrap(),
        term: Term(term),
        epoch: Epoch(epoch),
    }
}

pub(super) fn round(epoch: u64, step: u64) -> Round {
    membership(1, epoch).round(Step(step))
}

pub(super) fn prepare(membership: Membership) -> Prepare {
    Prepare {
        membership,
        recipe_json: r#"{"model": {"base_model": "/m"}, "datasets": [{"path": "/d.jsonl"}]}"#
            .into(),
        dataset: DatasetRef {
            digest: Digest::of(b"data"),
            dir: "/data".into(),
            files: Vec::new(),
        },
        total_steps: 9,
        resume: None,
        joins: false,
    }
}

/// A micro-batch that is granted under its own number.
pub(super) fn leased(slot: u32, staged: bool) -> LeasedSlot {
    LeasedSlot {
        lease: LeaseId(u64::from(slot)),
        plan: SlotPlan {
            slot: SlotId(slot),
            rows: vec![slot],
            tokens: 10,
            supervised_tokens: 8,
        },
        staged,
    }
}

/// An epoch of these members, workers by number.
pub(super) fn form(membership: Membership, members: &[(u128, u16)], step: u64) -> FormEpoch {
    let member = |(rank, (worker, port)): (u32, &(u128, u16))| Member {
        worker: WorkerId::from_number(*worker),
        rank: weft_common::id::Rank(rank),
        address: (LOOPBACK, *port).into(),
    };
    FormEpoch {
        membership,
        members: (0..).zip(members).map(member).collect(),
        step: Step(step),
        keep: true,
    }
}
